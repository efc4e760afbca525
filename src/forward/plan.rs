//! Who is asked next, and when: the decision's deployments in order, past those that are at a limit while another can
//! serve; then those again whose failure may be over soon, after a pause; within one number of attempts, one deadline and
//! one sum of money.

use super::attempt::Next as Attempt;
use crate::decision::{Decision, DeploymentScore, Why};
use crate::limits::{Pass, Refused, Ticket};
use crate::money::Money;
use crate::providers::{Failure, FailureKind};
use crate::router::{Caller, Router};
use parking_lot::Mutex;
use rand::RngExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Priority of a request that says none: the middle one of high, normal and low.
const NORMAL: u8 = 1;

/// Hedges that may be made at once after a quiet time.
const MOST_SAVED: f64 = 5.0;

/// Who is asked, in what order, and within which bounds.
pub struct Plan<'a> {
    router: &'a Arc<Router>,
    decision: &'a Decision,
    ticket: Ticket,
    /// Not asked yet, in order.
    fresh: Vec<usize>,
    /// Asked, and worth asking again.
    again: Vec<usize>,
    made: usize,
    pauses: u32,
    /// What failed attempts may have cost.
    spent: Money,
    /// The request itself is at fault: nobody else is asked.
    refused: bool,
    pub deadline: Instant,
}

/// What to do next.
pub enum Next {
    Try(Attempt),
    /// Nobody is left; how long nobody could be asked, where that is why.
    GiveUp(Option<Duration>),
}

impl<'a> Plan<'a> {
    /// A plan for a decision; its time runs from `start`.
    pub fn new(router: &'a Arc<Router>, decision: &'a Decision, caller: &Caller, start: Instant) -> Self {
        let limit = router.config.server.request_timeout;
        let own = decision.policy.deadline_ms.map(|ms| Duration::try_from_secs_f64(ms / 1e3).unwrap_or(limit));
        let deadline = start + own.map_or(limit, |own| own.min(limit));
        let priority = decision.policy.priority.or(caller.priority).unwrap_or(NORMAL);
        let tenant = caller
            .key
            .as_ref()
            .map(|key| key.reveal().to_string())
            .or_else(|| decision.features.session.clone())
            .unwrap_or_default();
        let patience = (start + router.config.patience).min(deadline);
        Plan {
            router,
            decision,
            ticket: Ticket { priority, tenant, deadline: patience.into() },
            fresh: decision.deployments.iter().filter(|score| score.out.is_none()).map(|score| score.index).collect(),
            again: Vec::new(),
            made: 0,
            pauses: 0,
            spent: Money::ZERO,
            refused: false,
            deadline,
        }
    }

    /// The next attempt, after whatever must be waited for.
    pub async fn next(&mut self, last: Option<&Failure>) -> Next {
        if self.refused || self.made >= self.decision.policy.max_attempts || Instant::now() >= self.deadline {
            return Next::GiveUp(None);
        }
        self.leave_out_the_dear();
        let began = Instant::now();
        if let Some(pass) = self.take_fresh() {
            return Next::Try(self.attempt(pass, began));
        }
        let mut candidates = self.fresh.clone();
        if self.pause(last).await {
            candidates.extend(&self.again);
        }
        if candidates.is_empty() {
            return Next::GiveUp(None);
        }
        let ticket = Ticket { deadline: self.ticket.deadline.max(tokio::time::Instant::now()), ..self.ticket.clone() };
        match self.router.limits.wait(&candidates, self.tokens(candidates[0]), ticket).await {
            Ok(pass) => Next::Try(self.attempt(pass, began)),
            Err(Refused::Full { retry_after }) => Next::GiveUp(Some(retry_after)),
            Err(Refused::Late) => Next::GiveUp(Some(Duration::from_secs(1))),
        }
    }

    /// Another deployment that can be asked at once, beside the one that is being asked; within the hedges' budget.
    pub fn hedge(&mut self) -> Option<Attempt> {
        // Paid for first: whoever may not be asked as well stays for when the one that is being asked fails.
        if self.made >= self.decision.policy.max_attempts || !self.router.hedges.spend() {
            return None;
        }
        let Some(pass) = self.take_fresh() else {
            self.router.hedges.refund();
            return None;
        };
        Some(Attempt { why: Why::Hedge, ..self.attempt(pass, Instant::now()) })
    }

    /// Learns from a failed attempt whether its deployment may be asked again.
    pub fn failed(&mut self, index: usize, failure: &Failure) {
        // What was refused before it was sent, one dialect had no words for: the next may have.
        self.refused |= failure.kind == FailureKind::Refused && failure.sent;
        // What may have been answered without our hearing it is not safe to ask for again, and may have cost.
        let unheard = failure.sent && failure.status.is_none();
        let answered = failure.status == Some(200);
        if unheard || answered {
            self.spent += self.decision.score_of(index).map_or(Money::ZERO, DeploymentScore::cost);
        }
        if matches!(failure.kind, FailureKind::Busy | FailureKind::Down) && !unheard && !self.again.contains(&index) {
            self.again.push(index);
        } else if unheard {
            self.again.retain(|again| *again != index);
        }
    }

    /// The deployments that were not asked, for whoever goes on with a broken answer.
    pub fn left(self) -> Vec<usize> {
        self.fresh
    }

    /// The first that was not asked yet and can be asked now.
    fn take_fresh(&mut self) -> Option<Pass> {
        self.fresh.iter().find_map(|index| self.router.limits.admit(*index, self.tokens(*index)).ok())
    }

    fn attempt(&mut self, pass: Pass, began: Instant) -> Attempt {
        let index = pass.deployment();
        let tried_before = !self.fresh.contains(&index);
        self.fresh.retain(|fresh| *fresh != index);
        let why = why(tried_before, self.made);
        self.made += 1;
        let last = self.fresh.is_empty() || self.made >= self.decision.policy.max_attempts;
        Attempt { index, pass, why, waited: began.elapsed(), last }
    }

    /// Waits before the same deployment is asked again: a random part of a time that doubles ("full jitter"). False where
    /// nobody can be asked again, or not in time.
    async fn pause(&mut self, last: Option<&Failure>) -> bool {
        let retry = self.router.config.retry;
        let most = (retry.first * 2u32.saturating_pow(self.pauses)).min(retry.most);
        let pause = Duration::from_secs_f64(rand::rng().random_range(0.0..=most.as_secs_f64()));
        let told = last.and_then(|last| last.retry_after_s).map_or(Duration::ZERO, Duration::from_secs);
        self.pauses += 1;
        let patience = self.router.config.patience;
        // Whoever is told to come back later than that tells it the client, who knows how long to wait.
        if self.again.is_empty() || told > patience || Instant::now() + pause.max(told) >= self.deadline {
            return false;
        }
        tokio::time::sleep(pause).await;
        // Beyond that, the limits know how long what was told holds: patience begins anew.
        self.ticket.deadline = (Instant::now() + patience).min(self.deadline).into();
        true
    }

    /// Takes out those that would exceed the policy's sum together with what was lost on failures.
    fn leave_out_the_dear(&mut self) {
        let (Some(most), true) = (self.decision.policy.max_cost, self.spent > Money::ZERO) else { return };
        let within = |plan: &Self, index: &usize| {
            plan.decision.score_of(*index).is_some_and(|score| (plan.spent + score.cost()).dollars() <= most)
        };
        self.fresh = self.fresh.iter().copied().filter(|index| within(self, index)).collect();
        self.again = self.again.iter().copied().filter(|index| within(self, index)).collect();
    }

    /// Tokens that an answer is expected to take of the limits.
    fn tokens(&self, index: usize) -> u64 {
        self.decision.score_of(index).map_or(0, DeploymentScore::tokens)
    }
}

/// Why an attempt after `failures` others is made.
fn why(tried_before: bool, failures: usize) -> Why {
    match (tried_before, failures) {
        (true, _) => Why::Retry,
        (false, 0) => Why::First,
        _ => Why::Failover,
    }
}

/// A share of requests that may be asked twice: every request adds its share, every hedge takes one away.
#[derive(Debug)]
pub struct Budget {
    share: f64,
    /// Locked to add or take a number.
    saved: Mutex<f64>,
}

impl Budget {
    /// A budget of this share of requests.
    pub fn new(share: f64) -> Self {
        Budget { share, saved: Mutex::new(0.0) }
    }

    /// A request came.
    pub fn earn(&self) {
        let mut saved = self.saved.lock();
        *saved = (*saved + self.share).min(MOST_SAVED);
    }

    /// Whether one more may be asked twice.
    pub fn spend(&self) -> bool {
        let mut saved = self.saved.lock();
        let enough = *saved >= 1.0;
        *saved -= if enough { 1.0 } else { 0.0 };
        enough
    }

    /// Nobody was asked twice after all.
    pub fn refund(&self) {
        let mut saved = self.saved.lock();
        *saved = (*saved + 1.0).min(MOST_SAVED);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_their_share_of_requests_are_asked_twice() {
        let budget = Budget::new(0.05);
        let spent = (0..1_000).filter(|_| {
            budget.earn();
            budget.spend()
        });
        assert!((48..=50).contains(&spent.count()));
        (0..10_000).for_each(|_| budget.earn());
        assert_eq!((0..100).filter(|_| budget.spend()).count(), 5, "what a quiet time saves up is bounded");
        budget.refund();
        assert!(budget.spend() && !budget.spend());
    }
}
