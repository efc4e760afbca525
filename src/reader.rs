//! Reading a prompt: text → what the routing model makes of it, on an encoder thread. The same text is read once: while
//! it is being read others wait for the same answer, and it is remembered after.

use crate::classifier::RoutingModel;
use crate::classifier::model::Read;
use crate::embedder::{Embedder, Late};
use crate::error::{Error, Result};
use quick_cache::sync::Cache;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::Duration;

/// A generation of a routing model, and the hash of a text.
type Key = (u64, [u8; 32]);

/// Reads prompts.
pub struct Reader {
    pub embedder: Embedder,
    early_exit: bool,
    /// Least recently used ones go; no prompt is kept in it, only its hash.
    known: Arc<Cache<Key, Arc<Read>>>,
}

/// A prompt that was read.
pub struct Reading {
    pub read: Arc<Read>,
    /// Waiting for an encoder thread; none where it was not read for this request.
    pub queued: Option<Duration>,
}

/// Why reading came to nothing.
enum Stopped {
    Late(Late),
    Failed(Error),
}

impl Reader {
    /// Remembers what was made of so many texts.
    pub fn new(embedder: Embedder, early_exit: bool, remembered: usize) -> Self {
        Reader { embedder, early_exit, known: Arc::new(Cache::new(remembered)) }
    }

    /// What a routing model makes of a text that has been cut to its window, or that it cannot be told in time.
    ///
    /// # Errors
    /// As [`RoutingModel::read`].
    pub async fn read(&self, model: &Arc<RoutingModel>, text: &str) -> Result<std::result::Result<Reading, Late>> {
        let key = (model.generation(), Sha256::digest(text).into());
        let mut queued = None;
        let reading = self.known.get_or_insert_async(&key, async {
            let (model, text, early) = (model.clone(), text.to_string(), self.early_exit);
            let known = self.known.clone();
            let work = self.embedder.run(move |encoder, queued| {
                let read = Arc::new(model.read(encoder, &text, early)?);
                // Remembered here, so that one that comes too late serves the next who asks.
                known.insert(key, read.clone());
                Ok((read, queued))
            });
            let (read, waited) = work.await.map_err(Stopped::Failed)?.map_err(Stopped::Late)?;
            queued = Some(waited);
            Ok(read)
        });
        // Who waits for another's reading has a deadline of his own.
        match tokio::time::timeout(self.embedder.patience(), reading).await {
            Ok(Ok(read)) => Ok(Ok(Reading { read, queued })),
            Ok(Err(Stopped::Late(late))) => Ok(Err(late)),
            Ok(Err(Stopped::Failed(error))) => Err(error),
            Err(_) => Ok(Err(Late::Deadline)),
        }
    }
}
