//! A pass: the right to send one request to one deployment. However it ends, also by being dropped, its place is given
//! back and offered to those who wait.

use super::breaker::Probe;
use super::gate::{Failed, State};
use super::{Limits, headers};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The right to send one request.
pub struct Pass {
    pub(super) limits: Arc<Limits>,
    pub(super) index: usize,
    /// Tokens reserved.
    pub(super) tokens: u64,
    pub(super) taken: Instant,
    /// Places among the probes of the deployment and of its provider.
    pub(super) probes: [Probe; 2],
    pub(super) began: bool,
    /// Tokens used, once known.
    pub(super) used: Option<u64>,
    pub(super) sent: bool,
}

impl Pass {
    /// The deployment it is for.
    pub fn deployment(&self) -> usize {
        self.index
    }

    /// What the upstream's headers tell, of an answer or a refusal; before [`Pass::failed`]. `header` looks one up by
    /// its lower-case name.
    pub fn learn(&self, header: impl Fn(&str) -> Option<String>) {
        let heard = headers::read(header, jiff::Timestamp::now());
        if heard != headers::Heard::default() {
            let now = Instant::now();
            let gate = self.limits.told_gate(self.index);
            gate.change(now, |state| state.learn(now, heard));
        }
    }

    /// The answer began, `ttft` after it was asked for.
    pub fn began(&mut self, ttft: Duration) {
        if !std::mem::replace(&mut self.began, true) {
            self.both(|state, now, probe| state.began(now, ttft, probe));
            self.limits.serve(); // a breaker may have closed
        }
    }

    /// The answer is complete; `tokens` (prompt and answer) where the provider counted them, `ttft` where it was not
    /// told before.
    pub fn answered(mut self, tokens: Option<u64>, ttft: Option<Duration>) {
        self.began(ttft.unwrap_or_else(|| self.taken.elapsed()));
        self.used = tokens;
    }

    /// The attempt failed, or its answer broke off.
    pub fn failed(mut self, failed: Failed) {
        let [deployment, provider] = std::mem::take(&mut self.probes);
        let now = Instant::now();
        let [own, shared] = self.limits.gates(self.index);
        let told = self.limits.told_gate(self.index).read(|state| state.rate.told_until(now, self.tokens).is_some());
        if self.began {
            own.change(now, |state| state.breaker.broke(now));
        } else {
            own.change(now, |state| state.failed(now, failed, deployment, told));
            shared.change(now, |state| state.failed_at_provider(now, failed, provider));
        }
        // Of what was not answered at all, no tokens count; of what broke off or came too late, all that was thought.
        let counts = self.began || failed == Failed::Timeout;
        self.used = (!counts).then_some(0);
        self.sent = failed != Failed::Unreachable;
    }

    /// Changes the deployment and its provider, which know the pass's probes from then on as settled.
    fn both(&mut self, change: impl Fn(&mut State, Instant, Probe)) {
        let now = Instant::now();
        for (gate, probe) in self.limits.gates(self.index).into_iter().zip(std::mem::take(&mut self.probes)) {
            gate.change(now, |state| change(state, now, probe));
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let (tokens, taken, used, sent) = (self.tokens, self.taken, self.used, self.sent);
        self.both(|state, now, probe| {
            state.breaker.gave_up(probe);
            state.over(now, taken, tokens, used, sent);
        });
        self.limits.serve();
    }
}

impl std::fmt::Debug for Pass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pass({}, {} tokens)", self.index, self.tokens)
    }
}
