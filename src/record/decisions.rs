//! The most recent decisions, bounded. Beside each the text it was read from, which leaves memory only when a caller
//! gives feedback on the decision (`teaching/feedback.rs`).

use crate::decision::{Decision, Outcome};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;

/// The last `keep` decisions.
pub struct Decisions {
    keep: usize,
    /// Newest at the back. Held for a push, a short search from the back, or a page: microseconds.
    ring: Mutex<VecDeque<Kept>>,
}

struct Kept {
    decision: Arc<Decision>,
    /// The prompt's window: see [`crate::embedder::window`].
    prompt: Arc<str>,
}

impl Decisions {
    /// Room for `keep` decisions.
    pub fn new(keep: usize) -> Self {
        Decisions { keep, ring: Mutex::new(VecDeque::with_capacity(keep.min(4_096))) }
    }

    /// How many are kept.
    pub fn keep(&self) -> usize {
        self.keep
    }

    /// Remembers a decision, and the text it was read from.
    pub fn add(&self, decision: Arc<Decision>, prompt: &str) {
        let kept = Kept { decision, prompt: prompt.into() };
        let mut ring = self.ring.lock();
        if ring.len() == self.keep {
            ring.pop_front();
        }
        ring.push_back(kept);
    }

    /// Adds what came of a decision, when it is still kept.
    pub fn finish(&self, id: &str, outcome: Outcome) {
        let mut ring = self.ring.lock();
        if let Some(kept) = ring.iter_mut().rev().find(|kept| kept.decision.id == id) {
            Arc::make_mut(&mut kept.decision).outcome = Some(outcome);
        }
    }

    /// The decision of this id.
    pub fn get(&self, id: &str) -> Option<Arc<Decision>> {
        self.ring.lock().iter().rev().find(|kept| kept.decision.id == id).map(|kept| kept.decision.clone())
    }

    /// The text that the decision of this id was read from.
    pub fn prompt(&self, id: &str) -> Option<Arc<str>> {
        self.ring.lock().iter().rev().find(|kept| kept.decision.id == id).map(|kept| kept.prompt.clone())
    }

    /// At most `limit` decisions, newest first, older than the decision `before` when one is named.
    pub fn page(&self, limit: usize, before: Option<&str>) -> Vec<Arc<Decision>> {
        let ring = self.ring.lock();
        let newest_first = ring.iter().rev().map(|kept| &kept.decision);
        match before {
            None => newest_first.take(limit).cloned().collect(),
            Some(id) => newest_first.skip_while(|decision| decision.id != id).skip(1).take(limit).cloned().collect(),
        }
    }
}
