//! The most recent decisions, bounded. Beside each the text it was read from, which leaves memory only when a caller
//! gives feedback on the decision (`teaching/feedback.rs`).

use crate::decision::{Decision, Outcome};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;

/// Scores of deployments kept in all decisions together, some 350 bytes each: of a fleet of hundreds fewer decisions are
/// kept than `keep` says.
const MOST_SCORES: usize = 200_000;

/// The last `keep` decisions.
pub struct Decisions {
    keep: usize,
    /// Newest at the back. Held for a push, a short search from the back, or a page: microseconds.
    ring: Mutex<Ring>,
}

#[derive(Default)]
struct Ring {
    kept: VecDeque<Kept>,
    /// Scores in all of them.
    scores: usize,
}

struct Kept {
    decision: Arc<Decision>,
    /// What came of it, until somebody asks: while it is being answered others hold the decision, and it would be copied.
    outcome: Option<Outcome>,
    /// A caller has told how good the answer was.
    scored: bool,
    /// The prompt's window: see [`crate::embedder::window`].
    prompt: Arc<str>,
}

impl Decisions {
    /// Room for `keep` decisions.
    pub fn new(keep: usize) -> Self {
        Decisions { keep, ring: Mutex::default() }
    }

    /// How many are kept.
    pub fn keep(&self) -> usize {
        self.keep
    }

    /// Remembers a decision, and the text it was read from.
    pub fn add(&self, decision: Arc<Decision>, prompt: &str) {
        let mut ring = self.ring.lock();
        ring.scores += decision.deployments.len();
        ring.kept.push_back(Kept { decision, outcome: None, scored: false, prompt: prompt.into() });
        while ring.kept.len() > self.keep || (ring.scores > MOST_SCORES && ring.kept.len() > 1) {
            let oldest = ring.kept.pop_front().map_or(0, |kept| kept.decision.deployments.len());
            ring.scores -= oldest;
        }
    }

    /// Adds what came of a decision, when it is still kept.
    pub fn finish(&self, id: &str, outcome: Outcome) {
        self.ring.lock().find(id, |kept| kept.outcome = Some(outcome));
    }

    /// The decision of this id.
    pub fn get(&self, id: &str) -> Option<Arc<Decision>> {
        self.ring.lock().find(id, Kept::whole)
    }

    /// Whether nobody has scored this decision before; from now on somebody has.
    pub fn first_score(&self, id: &str) -> bool {
        self.ring.lock().find(id, |kept| !std::mem::replace(&mut kept.scored, true)).unwrap_or(false)
    }

    /// The text that the decision of this id was read from.
    pub fn prompt(&self, id: &str) -> Option<Arc<str>> {
        self.ring.lock().find(id, |kept| kept.prompt.clone())
    }

    /// At most `limit` decisions, newest first, older than the decision `before` when one is named.
    pub fn page(&self, limit: usize, before: Option<&str>) -> Vec<Arc<Decision>> {
        let mut ring = self.ring.lock();
        let newest_first = ring.kept.iter_mut().rev();
        match before {
            None => newest_first.take(limit).map(Kept::whole).collect(),
            Some(id) => {
                newest_first.skip_while(|kept| kept.decision.id != id).skip(1).take(limit).map(Kept::whole).collect()
            }
        }
    }
}

impl Ring {
    fn find<T>(&mut self, id: &str, read: impl FnOnce(&mut Kept) -> T) -> Option<T> {
        self.kept.iter_mut().rev().find(|kept| kept.decision.id == id).map(read)
    }
}

impl Kept {
    /// The decision with what came of it.
    fn whole(&mut self) -> Arc<Decision> {
        if let Some(outcome) = self.outcome.take() {
            Arc::make_mut(&mut self.decision).outcome = Some(outcome);
        }
        self.decision.clone()
    }
}
