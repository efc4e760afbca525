//! Encoder threads behind a bounded queue: the model never runs on an async thread, and a full queue or a late
//! answer is a value the router decides on, not a wait without end. What would come too late is not begun, so that under
//! too much load the threads work for those whom the answer still reaches.

use super::{Encoder, EncoderSpec};
use crate::error::{Error, Result};
use parking_lot::Mutex;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// A handle to the encoder threads. Cheap to clone; the threads end with the last handle.
#[derive(Clone)]
pub struct Embedder {
    queue: SyncSender<Job>,
    deadline: Duration,
    /// Microseconds that work took of late.
    usual: Arc<AtomicU64>,
    spec: Arc<EncoderSpec>,
}

/// Share of a decision's deadline after which an answer is not waited for.
const PATIENCE: f64 = 0.8;

/// By so much encoder threads stand back behind those that answer (`nice`).
#[cfg(target_os = "linux")]
const NICE: i32 = 4;

/// How much of [`Embedder::usual`] is the last one's, as one in so many.
const MEMORY: u64 = 8;

/// Why there is no answer in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Late {
    /// The queue was full.
    QueueFull,
    /// The deadline passed.
    Deadline,
}

/// Work to be done with the encoder. It answers whoever asked by itself.
type Job = Box<dyn FnOnce(&Encoder) + Send>;

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
        Ok(Embedder { queue: sender, deadline, usual: Arc::default(), spec })
    }

    /// One without an encoder, for where prompts are read elsewhere or not at all.
    pub fn idle(spec: EncoderSpec) -> Self {
        let (queue, _nobody) = sync_channel(0);
        Embedder { queue, deadline: Duration::ZERO, usual: Arc::default(), spec: Arc::new(spec) }
    }

    /// What encoder this is, and how it is used.
    pub fn spec(&self) -> &EncoderSpec {
        &self.spec
    }

    /// How long a decision may take.
    pub fn deadline(&self) -> Duration {
        self.deadline
    }

    /// How long anyone waits for an answer: what remains of the deadline is for the rest of the decision, and for being
    /// told late on a machine that is busy.
    pub fn patience(&self) -> Duration {
        self.deadline.mul_f64(PATIENCE)
    }

    /// Does some work on an encoder thread, or tells that it cannot be done in time. `work` is told how long it waited.
    ///
    /// # Errors
    /// What `work` returns; [`Error::Internal`] when it panics.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Encoder, Duration) -> Result<T> + Send + 'static,
    ) -> Result<std::result::Result<T, Late>> {
        let (reply, answer) = oneshot::channel();
        let (asked, patience, usual) = (Instant::now(), self.patience(), self.usual.clone());
        let job = move |encoder: &Encoder| {
            // Nobody waits any more: the client left, or patience ended.
            if reply.is_closed() {
                return;
            }
            // Where nothing waits longer than the work takes, it is done however short the deadline: it may be remembered.
            let (waited, needed) = (asked.elapsed(), Duration::from_micros(usual.load(Ordering::Relaxed)));
            if waited > needed && waited + needed > patience {
                let _ = reply.send(Ok(Err(Late::Deadline)));
                return;
            }
            // A panic inside a tokenizer or a kernel costs this one prompt, not the thread.
            let caught = catch_unwind(AssertUnwindSafe(|| work(encoder, waited)));
            let took = (asked.elapsed() - waited).as_micros() as u64;
            let _ = usual.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |usual| {
                Some(usual - usual / MEMORY + took / MEMORY)
            });
            let done = caught.unwrap_or_else(|_| Err(Error::Internal("the encoder panicked on a prompt".into())));
            // The asker may have left while we worked; there is nobody to tell.
            let _ = reply.send(done.map(Ok));
        };
        match self.queue.try_send(Box::new(job)) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => return Ok(Err(Late::QueueFull)),
            Err(TrySendError::Disconnected(_)) => return Err(Error::Internal("the encoder threads are gone".into())),
        }
        match tokio::time::timeout(self.patience(), answer).await {
            Ok(Ok(done)) => done,
            Ok(Err(_)) => Err(Error::Internal("an encoder thread died".into())),
            Err(_) => Ok(Err(Late::Deadline)),
        }
    }
}

fn work(encoder: &Encoder, jobs: &Mutex<Receiver<Job>>) {
    // Whoever waits is told in time, also where encoding takes every core. Elsewhere this would be of the whole process.
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        tracing::debug!(%error, "encoder threads run at the usual priority");
    }
    loop {
        let job = jobs.lock().recv();
        let Ok(job) = job else { return };
        job(encoder);
    }
}
