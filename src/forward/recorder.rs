//! What came of a decision, written down once: attempts as they end, the outcome when the body ends. A recorder dropped
//! before that means that the client went away.

use super::MAX_TEXT_BYTES;
use super::attempt::{At, Next};
use crate::chat::ChatRequest;
use crate::config::DeploymentConfig;
use crate::decision::{Attempt, Basis, Decision, End, Outcome, Usage, Why};
use crate::experiment::{Answer, Answered};
use crate::limits::Failed;
use crate::money::Money;
use crate::providers::sse::{self, Event};
use crate::providers::{Failure, FailureKind};
use crate::record::Seen;
use crate::router::{Caller, Router};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A client that leaves after waiting so many times the expected time to first token was failed by the deployment.
const PATIENCE: f64 = 4.0;

/// What is noted of an attempt beside the one that answered first: it did not fail.
const OVERTAKEN: &str = "another answered first";

/// Writes down what came of a decision.
pub struct Recorder {
    pub router: Arc<Router>,
    pub decision: Arc<Decision>,
    request: Arc<ChatRequest>,
    session: u64,
    pub start: Instant,
    pub status: u16,
    attempts: Vec<Attempt>,
    /// Attempts under way; one but for a hedge.
    open: Vec<Open>,
    /// The attempt that answers.
    answering: Option<At>,
    /// Place of the deployment that answered, or began to.
    answered: Option<usize>,
    pub usage: Option<Usage>,
    ttft_ms: Option<f64>,
    pub streamed: bool,
    /// The answer reached its limit, so its length teaches nothing.
    pub cut: bool,
    /// The class was chosen for this prompt, so the length of the answer is one of this class.
    teaches: bool,
    /// The answer's text, where somebody wants it.
    pub text: Option<String>,
    /// More was said than is kept of it.
    text_full: bool,
    request_id: Option<String>,
    written: bool,
}

/// An attempt under way.
struct Open {
    index: usize,
    why: Why,
    waited: Duration,
    began: Instant,
}

impl Recorder {
    /// A recorder for a decision; its time runs from now.
    pub fn open(router: Arc<Router>, request: &Arc<ChatRequest>, decision: &Arc<Decision>, caller: &Caller) -> Self {
        let wanted = router.experiments.wants_text(&decision.experiments, &decision.id, &decision.class);
        Recorder {
            session: router.session_key(request, caller),
            decision: decision.clone(),
            request: request.clone(),
            start: Instant::now(),
            status: 200,
            attempts: Vec::new(),
            open: Vec::new(),
            answering: None,
            answered: None,
            usage: None,
            ttft_ms: None,
            streamed: false,
            cut: false,
            teaches: matches!(decision.basis, Basis::Classified | Basis::ClassNamed | Basis::Ruled),
            text: (wanted || decision.policy.continue_streams).then(String::new),
            text_full: false,
            request_id: None,
            written: false,
            router,
        }
    }

    /// An attempt begins.
    pub fn begin(&mut self, next: &Next) {
        self.open.push(Open { index: next.index, why: next.why, waited: next.waited, began: Instant::now() });
    }

    /// How long the first attempt may take before another is asked too; `None` where none may.
    pub fn hedge(&self, next: &Next) -> Option<Duration> {
        let wanted = self.decision.policy.hedge && next.why == Why::First;
        let prompt =
            crate::record::Prompt { tokens_in: self.decision.features.tokens_in, ascii: self.decision.features.ascii };
        let health = || self.router.health.read(next.index, self.router.health.now(), prompt);
        // The first byte of an answer that comes whole is its last.
        let score = self.decision.score_of(next.index).filter(|_| !self.request.stream);
        let whole_ms = score.map_or(0.0, |score| score.generation_ms);
        wanted.then(|| Duration::from_secs_f64((health().ttft_p95_ms + whole_ms) / 1e3))
    }

    /// An attempt failed.
    pub fn failed(&mut self, at: At, failure: &Failure) {
        let lost_ms = millis(at.began);
        if !failure.is_the_requests() {
            self.router.health.failed(at.index, self.router.health.now(), lost_ms);
        }
        at.pass.failed(failed(failure));
        self.close(at.index, failure.status, Some(failure.message.clone()));
    }

    /// The attempts beside the one that decided are given up.
    pub fn overtaken(&mut self, by: &At) {
        let others: Vec<usize> = self.open.iter().map(|open| open.index).filter(|index| *index != by.index).collect();
        for index in others {
            self.waited_for(index);
            self.close(index, None, Some(OVERTAKEN.into()));
        }
    }

    /// An attempt answers.
    pub fn answering(&mut self, mut at: At, request_id: Option<String>) {
        let ttft_ms = millis(at.began);
        self.answered = Some(at.index);
        // Of an answer that another goes on with, the first byte was the first one's.
        self.ttft_ms = self.ttft_ms.or_else(|| Some(millis(self.start)));
        self.request_id = request_id;
        if self.request.stream {
            self.router.health.first_token(
                at.index,
                self.router.health.now(),
                self.decision.features.tokens_in,
                ttft_ms,
            );
        }
        at.pass.began(at.began.elapsed());
        self.close(at.index, Some(200), None);
        self.answering = Some(at);
    }

    /// A whole answer is here.
    pub fn whole(&mut self, event: &Event, body: &[u8]) {
        (self.usage, self.cut) = (event.usage, event.cut);
        if let Some(text) = &mut self.text {
            *text = sse::text_whole(body);
        }
        self.finish(End::Complete);
    }

    /// An event of a streamed answer goes to the client. False where it says more than the text that is kept.
    pub fn event(&mut self, event: &Event, bytes: &[u8]) -> bool {
        self.cut |= event.cut;
        if event.usage.is_some() {
            self.usage = event.usage;
        }
        let Some(text) = &mut self.text else { return true };
        let (said, more) = sse::text(bytes);
        // Text with a hole is none to go on with: once it is full, nothing more is kept.
        let fits = !self.text_full && text.len() + said.len() <= MAX_TEXT_BYTES;
        self.text_full = !fits;
        if fits {
            text.push_str(&said);
        }
        fits && !more
    }

    /// The answer broke off.
    pub fn broke(&mut self, why: &str) {
        let Some(at) = self.answering.take() else { return };
        self.router.health.failed(at.index, self.router.health.now(), millis(at.began));
        at.pass.failed(Failed::Down);
        if let Some(attempt) = self.attempts.last_mut() {
            attempt.error = Some(why.into());
            attempt.duration_ms = millis(at.began);
        }
    }

    /// The deployment that answers; none before one does.
    pub fn deployment(&self) -> Option<&DeploymentConfig> {
        self.answered.map(|index| &self.router.fleet.all()[index].config)
    }

    /// Every attempt and how it went, in words.
    pub fn told(&self) -> String {
        let told = |attempt: &Attempt| format!("{}: {}", attempt.deployment, attempt.error.as_deref().unwrap_or("?"));
        self.attempts.iter().map(told).collect::<Vec<_>>().join("; ")
    }

    /// Writes down the end, once.
    pub fn finish(&mut self, end: End) {
        if std::mem::replace(&mut self.written, true) {
            return;
        }
        if let Some(at) = self.answering.take() {
            match end {
                End::Complete => self.learn(at),
                _ => at.pass.answered(None, None),
            }
        }
        let outcome = Outcome {
            end,
            status: self.status,
            deployment: self.deployment().map(|deployment| deployment.name.clone()),
            attempts: std::mem::take(&mut self.attempts),
            usage: self.usage,
            cost: self.cost(),
            ttft_ms: self.ttft_ms,
            duration_ms: millis(self.start),
            upstream_request_id: self.request_id.take(),
        };
        self.tell(&outcome);
        self.experiment(&outcome);
        self.router.decisions.finish(&self.decision.id, outcome);
    }

    /// What a complete answer teaches about its deployment, its class and its conversation.
    fn learn(&self, at: At) {
        let (decision, book) = (&self.decision, &self.router.health);
        let tokens = self.usage.map(|usage| usage.completion_tokens).filter(|tokens| *tokens > 0);
        let counted = self.usage.map(|usage| usage.prompt_tokens).filter(|tokens| *tokens > 0);
        let attempt = self.attempts.last().map_or(0.0, |attempt| attempt.duration_ms);
        let seen = Seen {
            ttft_ms: self.streamed.then_some(attempt),
            total_ms: millis(at.began),
            tokens,
            teaches: (self.teaches && !self.cut).then_some(decision.class.as_str()),
            tokens_in: decision.features.tokens_in,
            counted_in: counted.filter(|_| decision.features.images == 0),
            other_text: !decision.features.ascii,
        };
        book.answered(at.index, book.now(), &seen);
        let prompt = counted.unwrap_or(decision.features.tokens_in);
        self.router.sessions.remember(self.session, at.index, prompt, Instant::now());
        at.pass.answered(self.usage.map(|usage| usage.total()), None);
    }

    /// The one line of the log.
    fn tell(&self, outcome: &Outcome) {
        tracing::info!(
            decision = %self.decision.id,
            class = %self.decision.class,
            deployment = outcome.deployment.as_deref().unwrap_or("-"),
            attempts = outcome.attempts.len(),
            status = self.status,
            end = ?outcome.end,
            tokens_out = self.usage.map(|usage| usage.completion_tokens),
            dollars = outcome.cost.map(Money::dollars),
            ms = outcome.duration_ms.round(),
            error = outcome.attempts.last().and_then(|attempt| attempt.error.as_deref()),
            "answered"
        );
    }

    /// What experiments and the judge want to know.
    fn experiment(&mut self, outcome: &Outcome) {
        let (experiments, decision) = (&self.router.experiments, &self.decision);
        let failed = match outcome.end {
            End::Cancelled | End::Refused => None,
            End::Complete => {
                let lost = |attempt: &Attempt| attempt.error.as_deref() == Some(OVERTAKEN);
                Some(outcome.attempts.iter().any(|attempt| attempt.error.is_some() && !lost(attempt)))
            }
            End::Broken | End::Failed => Some(true),
        };
        let answered = Answered {
            class: decision.class.clone(),
            deployment: outcome.deployment.clone(),
            status: outcome.status,
            failed,
            cost: outcome.cost,
            ttft_ms: outcome.ttft_ms,
            ms: outcome.duration_ms,
            tokens_in: outcome.usage.map(|usage| usage.prompt_tokens),
            tokens_out: outcome.usage.map(|usage| usage.completion_tokens),
            score: None,
        };
        if !decision.experiments.is_empty() {
            experiments.answered(&decision.experiments, &decision.id, &answered);
        }
        if let (End::Complete, Some(text), Some(deployment)) = (outcome.end, self.text.take(), &outcome.deployment) {
            let answer = Answer {
                request: self.request.clone(),
                decision: decision.id.clone(),
                class: decision.class.clone(),
                deployment: deployment.clone(),
                text,
            };
            let may = |deployment: &str| self.router.may_see(&decision.policy, deployment);
            experiments.served(&decision.experiments, answer, may);
        }
    }

    /// Dollars, where both the price and the tokens are known.
    fn cost(&self) -> Option<Money> {
        self.deployment()?.cost(&self.usage?)
    }

    /// Writes down how an attempt under way went.
    fn close(&mut self, index: usize, status: Option<u16>, error: Option<String>) {
        let Some(at) = self.open.iter().position(|open| open.index == index) else { return };
        let open = self.open.remove(at);
        // Of a request the log has one line; whoever wants its attempts as they fail asks for more.
        if let Some(error) = &error {
            let (decision, deployment) = (&self.decision.id, &*self.router.fleet.all()[index].name);
            tracing::debug!(decision, deployment, why = ?open.why, status, error, ms = millis(open.began).round(), "attempt failed");
        }
        self.attempts.push(Attempt {
            deployment: self.router.fleet.all()[index].config.name.clone(),
            why: open.why,
            status,
            error,
            waited_ms: open.waited.as_secs_f64() * 1e3,
            duration_ms: millis(open.began),
        });
    }

    /// Nobody waits for an attempt any more. A deployment that let it wait far longer than expected has failed it.
    fn waited_for(&self, index: usize) {
        let Some(open) = self.open.iter().find(|open| open.index == index) else { return };
        let (waited_ms, expected) = (millis(open.began), self.decision.score_of(index));
        if expected.is_some_and(|score| waited_ms > PATIENCE * score.ttft_ms) {
            self.router.health.failed(index, self.router.health.now(), waited_ms);
        }
    }

    /// The client left before the first byte.
    fn abandoned(&mut self) {
        while let Some(open) = self.open.first() {
            let index = open.index;
            self.waited_for(index);
            self.close(index, None, Some("the client left before the first byte".into()));
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        if !self.written {
            self.abandoned();
            self.status = 499;
            self.finish(End::Cancelled);
        }
    }
}

/// A failure as the limits see it.
fn failed(failure: &Failure) -> Failed {
    match (failure.kind, failure.status) {
        _ if failure.is_the_requests() => Failed::Request,
        (FailureKind::Busy, Some(503 | 529)) | (FailureKind::Down, Some(503)) => Failed::Overloaded,
        (FailureKind::Busy, _) => Failed::RateLimited,
        (FailureKind::Timeout, _) => Failed::Timeout,
        (FailureKind::Down, None) if !failure.sent => Failed::Unreachable,
        (FailureKind::Misconfigured, Some(401 | 403)) => Failed::Credentials,
        _ => Failed::Down,
    }
}

fn millis(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}
