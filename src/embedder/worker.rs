//! Encoder threads behind a bounded queue: the model never runs on an async thread, and a full queue or a late
//! answer is a value the router decides on, not a wait without end.

use super::encoder::Spent;
use super::{Encoder, EncoderSpec, Views};
use crate::error::{Error, Result};
use parking_lot::Mutex;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// A handle to the encoder threads. Cheap to clone; the threads end with the last handle.
#[derive(Clone)]
pub struct Embedder {
    queue: SyncSender<Job>,
    deadline: Duration,
    spec: Arc<EncoderSpec>,
}

/// An embedding and what it cost.
#[derive(Clone, Debug)]
pub struct Embedded {
    pub views: Views,
    /// Waiting for a thread.
    pub queued: Duration,
    pub spent: Spent,
}

/// Why there is no embedding in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Late {
    /// The queue was full.
    QueueFull,
    /// The deadline passed.
    Deadline,
}

struct Job {
    text: String,
    asked: Instant,
    reply: oneshot::Sender<Result<Embedded>>,
}

impl Embedder {
    /// Starts `threads` threads on one shared encoder.
    ///
    /// # Errors
    /// [`Error::Internal`] when the system refuses a thread.
    pub fn start(encoder: Encoder, threads: usize, queue: usize, deadline: Duration) -> Result<Self> {
        let (sender, receiver) = sync_channel(queue);
        let spec = Arc::new(encoder.spec().clone());
        let encoder = Arc::new(encoder);
        // The lock only hands out jobs: it is held while waiting for one, never while encoding.
        let receiver = Arc::new(Mutex::new(receiver));
        for index in 0..threads {
            let (encoder, receiver) = (encoder.clone(), receiver.clone());
            std::thread::Builder::new()
                .name(format!("embedder-{index}"))
                .spawn(move || work(&encoder, &receiver))
                .map_err(|error| Error::Internal(format!("cannot start an encoder thread: {error}")))?;
        }
        Ok(Embedder { queue: sender, deadline, spec })
    }

    /// What encoder this is, and how it is used.
    pub fn spec(&self) -> &EncoderSpec {
        &self.spec
    }

    /// Embeds a text, or tells that it cannot be done in time.
    ///
    /// # Errors
    /// [`Error::Internal`] when the encoder fails.
    pub async fn embed(&self, text: String) -> Result<std::result::Result<Embedded, Late>> {
        let (reply, answer) = oneshot::channel();
        match self.queue.try_send(Job { text, asked: Instant::now(), reply }) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => return Ok(Err(Late::QueueFull)),
            Err(TrySendError::Disconnected(_)) => return Err(Error::Internal("the encoder threads are gone".into())),
        }
        match tokio::time::timeout(self.deadline, answer).await {
            Ok(Ok(embedded)) => embedded.map(Ok),
            Ok(Err(_)) => Err(Error::Internal("an encoder thread died".into())),
            Err(_) => Ok(Err(Late::Deadline)),
        }
    }
}

fn work(encoder: &Encoder, jobs: &Mutex<Receiver<Job>>) {
    loop {
        let job = jobs.lock().recv();
        let Ok(job) = job else { return };
        // Nobody waits any more: the client left, or the deadline passed.
        if job.reply.is_closed() {
            continue;
        }
        let queued = job.asked.elapsed();
        // A panic inside a tokenizer or a kernel costs this one prompt, not the thread.
        let caught = catch_unwind(AssertUnwindSafe(|| encoder.embed(&job.text)));
        let embedded = caught.unwrap_or_else(|_| Err(Error::Internal("the encoder panicked on a prompt".into())));
        let embedded = embedded.map(|(views, spent)| Embedded { views, queued, spent });
        // The asker may have left while we worked; there is nobody to tell.
        let _ = job.reply.send(embedded);
    }
}
