//! Exploration: which deployment that is not the best is tried all the same, because what is known of it is old.
//!
//! Bounded twice. By share: every decision earns `explore_share` of an exploration, an exploration spends a whole one,
//! and no more than a few are saved up. By cost: a deployment is tried the more rarely the more time a try is expected to
//! lose (one believed a second slower than usual about every ten seconds), and not at all where it would lose even at
//! the best that can be hoped of it, such as one that is too dear. Who tries is settled by one atomic exchange, so that a
//! hundred decisions at once do not all try the same deployment.

use super::decay::Now;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// Explorations that can be saved up: enough to believe a recovery (three answers) without a pause.
const SAVED_UP: i64 = 3 * ONE;

/// And overdrawn by follow-ups to a try that hinted at a recovery: they are likely to win, and few requests a second must
/// not wait for each of them until the next is earned. In the long run the share holds all the same.
const OVERDRAWN: i64 = -2 * ONE;

/// One exploration, as the budget counts.
const ONE: i64 = 1_000_000;

/// Seconds between two tries of a deployment: at least, at most, and after an answer that hints at a recovery.
const SOONEST_S: f64 = 2.0;
const LATEST_S: f64 = 300.0;
const SUSPECTED_S: f64 = 1.0;

/// Seconds to let pass for each second a try is expected to lose.
const PATIENCE: f64 = 10.0;

/// What may be hoped of a deployment grows as what is known of it ages: a time to first token of half after so long.
const HOPE_S: f64 = 150.0;

/// Explorations earned, in millionths of one.
pub struct Budget {
    saved: AtomicI64,
    earned: i64,
}

impl Budget {
    /// Full at the start, so that newcomers are soon known.
    pub fn new(share: f64) -> Self {
        let earned = (share * ONE as f64) as i64;
        Budget { saved: AtomicI64::new(if earned > 0 { SAVED_UP } else { OVERDRAWN }), earned }
    }

    /// Notes a decision.
    pub fn earn(&self) {
        let earn = |saved: i64| Some((saved + self.earned).min(SAVED_UP));
        let _always = self.saved.fetch_update(Ordering::Relaxed, Ordering::Relaxed, earn);
    }

    /// Whether an exploration can be spent: one that was earned, or a follow-up.
    pub fn allows(&self, follow_up: bool) -> bool {
        self.saved.load(Ordering::Relaxed) >= least(follow_up)
    }

    /// Spends an exploration, where one is left.
    pub fn spend(&self, follow_up: bool) -> bool {
        let spend = |saved: i64| (saved >= least(follow_up)).then(|| saved - ONE);
        self.saved.fetch_update(Ordering::Relaxed, Ordering::Relaxed, spend).is_ok()
    }
}

fn least(follow_up: bool) -> i64 {
    if follow_up { OVERDRAWN + ONE } else { ONE }
}

/// When a deployment is next due for a try, in microseconds since the book was opened.
#[derive(Default)]
pub struct Due(AtomicU64);

impl Due {
    /// Overdue by so many seconds; `None` while it is not due.
    pub fn overdue_s(&self, now: Now) -> Option<f64> {
        let due = self.0.load(Ordering::Relaxed);
        (micros(now.0) >= due).then(|| now.0 - due as f64 / 1e6)
    }

    /// Takes the try: only the first who asks gets it. It is due again `after_s` from now.
    pub fn claim(&self, now: Now, after_s: f64) -> bool {
        let due = self.0.load(Ordering::Relaxed);
        let next = micros(now.0 + after_s);
        let exchanged = self.0.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed);
        micros(now.0) >= due && exchanged.is_ok()
    }

    /// Something was learned: the next try is due `after_s` from now.
    pub fn learned(&self, now: Now, after_s: f64) {
        self.0.store(micros(now.0 + after_s), Ordering::Relaxed);
    }
}

/// Whether a deployment that is due deserves a try: where it would win at the best that can be hoped of it. Scores are
/// what the ranking compares, smaller is better.
pub fn is_worth_it(hopeful_score: f64, best_score: f64) -> bool {
    hopeful_score < best_score
}

/// Time to first token that may be hoped for, in milliseconds: what was usual or what is expected, the lesser of the
/// two, and less the longer nothing was heard.
pub fn hopeful_ms(expected_ms: f64, usual_ms: f64, stale_s: f64) -> f64 {
    expected_ms.min(usual_ms) * (-stale_s / HOPE_S).exp2()
}

/// Seconds until the next try, where one is expected to lose `lost_ms` against what may be hoped.
pub fn pause_s(lost_ms: f64, suspects_faster: bool) -> f64 {
    if suspects_faster { SUSPECTED_S } else { (PATIENCE * lost_ms / 1e3).clamp(SOONEST_S, LATEST_S) }
}

fn micros(seconds: f64) -> u64 {
    (seconds.max(0.0) * 1e6) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_at_once_one_tries_and_no_more_than_the_share_do() {
        let (due, budget) = (Due::default(), Budget::new(0.02));
        assert_eq!((0..100).filter(|_| due.claim(Now(5.0), 2.0)).count(), 1);
        assert_eq!((due.overdue_s(Now(6.9)), due.overdue_s(Now(8.0))), (None, Some(1.0)));
        let spent = (0..10_000).inspect(|_| budget.earn()).filter(|_| budget.spend(false)).count();
        assert!((198..=203).contains(&spent), "{spent}");
        assert_eq!((0..10).filter(|_| budget.spend(true)).count(), 2);
        assert!(!Budget::new(0.0).allows(true));
    }
}
