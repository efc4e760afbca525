//! Teaching while it runs: exemplars are added and removed (`exemplars.rs`; `book.rs` does it, `ledger.rs` and
//! `journal.rs` keep it),
//! callers' feedback becomes candidates for exemplars (`feedback.rs`, `candidates.rs`), all of it goes into a new
//! version by a process of its own (`retrain.rs`, `job.rs`, `child.rs`), and versions change places (`shelf.rs`).
//!
//! Every change makes a new routing model beside the one that serves and swaps it in: requests under way keep the one
//! they began with. Next stop: [`crate::router::Router::model`].

mod book;
pub mod candidates;
mod check;
mod child;
pub mod exemplars;
pub mod feedback;
pub mod job;
mod journal;
mod ledger;
pub mod retrain;
pub mod shelf;

pub use check::as_scores;
pub use job::{Progress, Retraining};
pub use shelf::Shelf;

use crate::config::{Config, TeachingConfig};
use crate::error::{Error, Result};
use crate::router::Router;
use book::Book;
use candidates::Candidates;
use journal::{Folder, Journal};
use parking_lot::Mutex;
use std::path::PathBuf;
use std::sync::Arc;

/// What was taught since the routing model was trained, and what makes the next one. Untouched on the disk until
/// [`resume`] or the first change.
pub struct Teaching {
    config: TeachingConfig,
    folder: Folder,
    /// Serialises changes of the routing model. Held while one is written and swapped in: for a file's fsync, so on
    /// blocking threads alone.
    book: Mutex<Book>,
    /// As the book's lock, for feedback.
    candidates: Mutex<Candidates>,
    pub shelf: Shelf,
    pub retraining: Retraining,
    /// What retrains: this very program. A test has no such thing in itself and names another.
    pub program: Option<PathBuf>,
}

impl Teaching {
    pub fn new(config: &Config) -> Self {
        let settings = config.teaching.clone();
        let file = |name: &str| Journal::at(settings.folder.join(name));
        Teaching {
            book: Mutex::new(Book::new(file("journal.jsonl"))),
            candidates: Mutex::new(Candidates::new(settings.max_candidates, file("feedback.jsonl"))),
            folder: Folder::at(&settings.folder),
            shelf: Shelf::of(config),
            retraining: Retraining::default(),
            program: None,
            config: settings,
        }
    }
}

/// Takes up what was taught before this start. What cannot be read is left alone, with a word in the log: serving
/// does not depend on it.
pub async fn resume(router: &Arc<Router>) {
    if let Err(error) = exemplars::resume(router).await {
        tracing::error!(%error, "exemplars added or removed earlier do not count");
    }
    let again = router.clone();
    let resumed = blocking(move || again.teaching.candidates.lock().resume(&again.teaching.folder)).await;
    if let Err(error) = resumed {
        tracing::error!(%error, "earlier feedback is out of sight");
    }
}

/// Runs work that reads files or computes at length apart from the async threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Error::Internal(format!("work beside the async threads failed: {error}")))?
}
