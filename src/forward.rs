//! Forwarding: attempts in the decision's order until one answers, then its bytes as they come.
//!
//! Nothing is committed to the client before the first real byte: until then a failure goes to the next deployment.
//! After it, a break is an explicit error event, never a clean end. What came of it is recorded when the body ends,
//! however it ends: `Recorder` is dropped with the body.

use crate::catalog::{Prices, Terms};
use crate::chat::ChatRequest;
use crate::decision::{Attempt, Basis, Decision, End, Outcome, Usage};
use crate::error::Error;
use crate::money::Money;
use crate::providers::sse::{self, DONE, Event};
use crate::providers::{Body, Call, Deployment, Failure, FailureKind};
use crate::record::{InFlight, Seen};
use crate::router::Router;
use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt};
use std::sync::Arc;
use std::time::Instant;

/// A client that leaves after waiting so many times the expected time to first token was failed by the deployment.
const PATIENCE: f64 = 4.0;

/// An answer that has begun.
pub struct Answer {
    pub decision: Decision,
    /// The deployment that answers.
    pub deployment: String,
    pub body: AnswerBody,
}

/// What goes to the client.
pub enum AnswerBody {
    Whole(Bytes),
    Events(BoxStream<'static, Bytes>),
}

/// Why there is no answer, with the decision where one was made.
pub struct Refusal {
    pub error: Error,
    pub decision: Option<Box<Decision>>,
}

impl Refusal {
    /// An error before anything was decided.
    pub fn before_decision(error: Error) -> Self {
        Refusal { error, decision: None }
    }
}

/// Tries the decision's deployments in order.
///
/// # Errors
/// A [`Refusal`] when a provider refuses the request itself, or none answers in `policy.max_attempts` attempts.
pub async fn forward(router: Arc<Router>, request: ChatRequest, decision: Decision) -> Result<Answer, Refusal> {
    let request = Arc::new(request);
    let mut recorder = Recorder::open(router.clone(), &decision);
    let deadline = recorder.start + router.config.server.request_timeout;
    let mut failures: Vec<Failure> = Vec::new();
    let candidates: Vec<String> = decision.candidates().take(decision.policy.max_attempts).map(String::from).collect();
    for name in &candidates {
        let Some(deployment) = router.fleet.named(name) else { continue };
        // The first byte of an answer that comes whole is its last.
        let score = decision.deployments.iter().find(|score| score.deployment == *name && !request.stream);
        let whole_ms = score.map_or(0.0, |score| score.generation_ms);
        let in_flight = router.health.begin_named(name, decision.features.tokens_in, whole_ms);
        recorder.begin(name);
        let attempt = tokio::time::timeout_at(deadline.into(), first_byte(deployment, &request)).await;
        let attempt =
            attempt.unwrap_or_else(|_| Err(Failure::new(FailureKind::Timeout, "the request's time was over")));
        recorder.attempted(attempt.as_ref().err());
        match attempt {
            Ok(first) => return Ok(answer(recorder, decision, deployment, first, in_flight, request.include_usage)),
            Err(failure) => {
                let last = !failure.is_retryable() || Instant::now() >= deadline;
                failures.push(failure);
                if last {
                    break;
                }
            }
        }
    }
    let error = give_up(&recorder.attempts, failures);
    recorder.status = error.status();
    recorder.finish(if matches!(error, Error::Refused { .. }) { End::Refused } else { End::Failed });
    Err(Refusal { error, decision: Some(Box::new(decision)) })
}

/// An answer of which the first real byte is here.
enum First {
    Whole { body: Bytes, event: Event, request_id: Option<String> },
    Events { first: Bytes, event: Event, rest: BoxStream<'static, Result<Bytes, Failure>>, request_id: Option<String> },
}

/// Calls a deployment and waits for the first real byte: a whole completion, or an event with data that is no error.
async fn first_byte(deployment: &Deployment, request: &Arc<ChatRequest>) -> Result<First, Failure> {
    let call = Call { request: request.clone(), model: deployment.config.model.clone() };
    let reply = deployment.provider.send(call).await?;
    let request_id = reply.request_id;
    let mut rest = match reply.body {
        Body::Whole(body) => {
            let event = sse::read_whole(&body)
                .ok_or_else(|| Failure::new(FailureKind::Garbage, "answered something that is no chat completion"))?;
            return Ok(First::Whole { body, event, request_id });
        }
        Body::Events(events) => events,
    };
    while let Some(first) = rest.next().await {
        let first = first?;
        let event = sse::read(&first);
        match &event {
            Event { has_data: false, .. } => {}
            Event { error: true, .. } => return Err(Failure::new(FailureKind::Down, "streamed an error")),
            Event { garbage: true, .. } => {
                return Err(Failure::new(FailureKind::Garbage, "streamed something that is no chat completion"));
            }
            Event { done: true, .. } => break,
            _ => return Ok(First::Events { first, event, rest, request_id }),
        }
    }
    Err(Failure::new(FailureKind::Garbage, "the stream ended before it began"))
}

fn answer(
    mut recorder: Recorder,
    decision: Decision,
    deployment: &Deployment,
    first: First,
    mut in_flight: InFlight,
    include_usage: bool,
) -> Answer {
    in_flight.first_byte();
    recorder.answering(deployment);
    let body = match first {
        First::Whole { body, event, request_id } => {
            (recorder.usage, recorder.cut, recorder.request_id) = (event.usage, event.cut, request_id);
            recorder.finish(End::Complete);
            AnswerBody::Whole(body)
        }
        First::Events { first, event, rest, request_id } => {
            (recorder.streamed, recorder.request_id) = (true, request_id);
            let relay = Relay {
                recorder,
                rest,
                waiting: Some((first, event)),
                finished: false,
                include_usage,
                ended: false,
                _in_flight: in_flight,
            };
            AnswerBody::Events(relay.stream())
        }
    };
    Answer { decision, deployment: deployment.config.name.clone(), body }
}

/// Passes events on as they come, and watches how the stream ends.
struct Relay {
    recorder: Recorder,
    rest: BoxStream<'static, Result<Bytes, Failure>>,
    /// The first event, already read.
    waiting: Option<(Bytes, Event)>,
    /// A choice has finished: an upstream that then ends without `[DONE]` is complete all the same.
    finished: bool,
    include_usage: bool,
    ended: bool,
    _in_flight: InFlight,
}

impl Relay {
    fn stream(self) -> BoxStream<'static, Bytes> {
        futures::stream::unfold(self, |mut relay| async move {
            loop {
                if relay.ended {
                    return None;
                }
                if let Some(bytes) = relay.next().await {
                    return Some((bytes, relay));
                }
            }
        })
        .boxed()
    }

    /// What goes to the client next; `None` for an event that only Waypost asked for, and after the end.
    async fn next(&mut self) -> Option<Bytes> {
        let (bytes, event) = match self.waiting.take() {
            Some(waiting) => waiting,
            None => match self.rest.next().await {
                Some(Ok(bytes)) => {
                    let event = sse::read(&bytes);
                    (bytes, event)
                }
                Some(Err(failure)) => return Some(self.broken(&failure.message)),
                None if self.finished => return Some(self.complete(Bytes::from_static(DONE))),
                None => return Some(self.broken("the stream ended without an end")),
            },
        };
        self.finished |= event.finished;
        self.recorder.cut |= event.cut;
        if event.usage.is_some() {
            self.recorder.usage = event.usage;
        }
        match event {
            Event { error: true, .. } => Some(self.broken("the provider streamed an error")),
            Event { garbage: true, .. } => Some(self.broken("streamed something that is no chat completion")),
            Event { done: true, .. } => Some(self.complete(bytes)),
            Event { only_usage: true, .. } if !self.include_usage => None,
            _ => Some(bytes),
        }
    }

    fn complete(&mut self, last: Bytes) -> Bytes {
        self.ended = true;
        self.recorder.finish(End::Complete);
        last
    }

    fn broken(&mut self, why: &str) -> Bytes {
        self.ended = true;
        let deployment = self.recorder.deployment.clone().unwrap_or_default();
        self.recorder.broke(why);
        self.recorder.finish(End::Broken);
        sse::error_event(&format!("The answer of {deployment} broke off: {why}. What came before is incomplete."))
    }
}

/// Writes down what came of a decision, once; a recorder dropped before that means that the client went away.
struct Recorder {
    router: Arc<Router>,
    decision: String,
    class: String,
    start: Instant,
    status: u16,
    attempts: Vec<Attempt>,
    /// The attempt under way, or the one that answers.
    begun: (String, Instant),
    waiting: bool,
    deployment: Option<String>,
    /// What the deployment that answers costs, where it is known, and its region.
    prices: Option<(Arc<Prices>, Option<String>)>,
    usage: Option<Usage>,
    ttft_ms: Option<f64>,
    streamed: bool,
    /// The answer reached its limit, so its length teaches nothing.
    cut: bool,
    /// The class was chosen for this prompt, so the length of the answer is one of this class.
    teaches: bool,
    request_id: Option<String>,
    /// Estimated tokens and images of the prompt.
    tokens_in: u64,
    images: usize,
    written: bool,
}

impl Recorder {
    fn open(router: Arc<Router>, decision: &Decision) -> Self {
        Recorder {
            router,
            decision: decision.id.clone(),
            class: decision.class.clone(),
            start: Instant::now(),
            status: 200,
            attempts: Vec::new(),
            begun: (String::new(), Instant::now()),
            waiting: false,
            deployment: None,
            prices: None,
            usage: None,
            ttft_ms: None,
            streamed: false,
            cut: false,
            teaches: matches!(decision.basis, Basis::Classified | Basis::ClassNamed),
            request_id: None,
            tokens_in: decision.features.tokens_in,
            images: decision.features.images,
            written: false,
        }
    }

    fn begin(&mut self, deployment: &str) {
        (self.begun, self.waiting) = ((deployment.into(), Instant::now()), true);
    }

    /// Writes down how the attempt under way went.
    fn attempted(&mut self, failure: Option<&Failure>) {
        self.waiting = false;
        // A request that is itself at fault says nothing about the deployment.
        if failure.is_some_and(Failure::is_retryable) {
            self.router.health.failed_named(&self.begun.0, millis(self.begun.1));
        }
        self.attempts.push(Attempt {
            deployment: self.begun.0.clone(),
            status: failure.map_or(Some(200), |failure| failure.status),
            error: failure.map(|failure| failure.message.clone()),
            duration_ms: millis(self.begun.1),
        });
    }

    /// The client left before the first byte. A deployment that let it wait far longer than expected has failed it.
    fn abandoned(&mut self) {
        let waited_ms = millis(self.begun.1);
        if waited_ms > PATIENCE * self.router.health.of(&self.begun.0).ttft_ms {
            self.router.health.failed_named(&self.begun.0, waited_ms);
        }
        let error = Some("the client left before the first byte".into());
        self.attempts.push(Attempt { deployment: self.begun.0.clone(), status: None, error, duration_ms: waited_ms });
    }

    fn answering(&mut self, deployment: &Deployment) {
        self.deployment = Some(deployment.config.name.clone());
        let config = &deployment.config;
        self.prices = config.price_known.then(|| (config.prices.clone(), config.region.clone()));
        self.ttft_ms = Some(millis(self.start));
    }

    fn broke(&mut self, why: &str) {
        if let Some(attempt) = self.attempts.last_mut() {
            attempt.error = Some(why.into());
            self.router.health.failed_named(&attempt.deployment, millis(self.begun.1));
        }
    }

    /// Dollars, where both the price and the tokens are known.
    fn cost(&self) -> Option<Money> {
        let (prices, region) = self.prices.as_ref()?;
        Some(prices.cost(&self.usage?, &Terms::now(region.as_deref())).total())
    }

    fn finish(&mut self, end: End) {
        if std::mem::replace(&mut self.written, true) {
            return;
        }
        let duration_ms = millis(self.start);
        if let (End::Complete, Some(deployment), Some(attempt)) = (end, &self.deployment, self.attempts.last()) {
            let seen = Seen {
                ttft_ms: self.streamed.then_some(attempt.duration_ms),
                total_ms: millis(self.begun.1),
                tokens: self.usage.map(|usage| usage.completion_tokens),
                teaches: (self.teaches && !self.cut).then_some(self.class.as_str()),
                tokens_in: self.tokens_in,
                counted_in: self.usage.filter(|_| self.images == 0).map(|usage| usage.prompt_tokens),
                other_text: false,
            };
            self.router.health.answered_named(deployment, &seen);
        }
        let cost = self.cost();
        tracing::info!(
            decision = %self.decision,
            class = %self.class,
            deployment = self.deployment.as_deref().unwrap_or("-"),
            attempts = self.attempts.len(),
            status = self.status,
            end = ?end,
            tokens_out = self.usage.map(|usage| usage.completion_tokens),
            dollars = cost.map(Money::dollars),
            ms = duration_ms.round(),
            error = self.attempts.last().and_then(|attempt| attempt.error.as_deref()),
            "answered"
        );
        let outcome = Outcome {
            end,
            status: self.status,
            deployment: self.deployment.clone(),
            attempts: std::mem::take(&mut self.attempts),
            usage: self.usage,
            cost,
            ttft_ms: self.ttft_ms,
            duration_ms,
            upstream_request_id: self.request_id.clone(),
        };
        self.router.decisions.finish(&self.decision, outcome);
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        if !self.written {
            if self.waiting {
                self.abandoned();
            }
            self.status = 499;
            self.finish(End::Cancelled);
        }
    }
}

/// The error after the last attempt. A refusal speaks in the provider's words; else the last failure decides the status.
fn give_up(attempts: &[Attempt], mut failures: Vec<Failure>) -> Error {
    let Some(last) = failures.pop() else { return Error::Internal("a decision without a deployment".into()) };
    if last.kind == FailureKind::Refused {
        return Error::Refused { status: last.status.unwrap_or(400), message: last.message, body: last.body };
    }
    let told: Vec<String> = attempts
        .iter()
        .map(|attempt| format!("{}: {}", attempt.deployment, attempt.error.as_deref().unwrap_or("?")))
        .collect();
    let message = format!("No deployment answered. {}.", told.join("; "));
    match last.kind {
        FailureKind::Busy if failures.iter().all(|failure| failure.kind == FailureKind::Busy) => {
            let retry_after_s =
                failures.iter().chain([&last]).filter_map(|failure| failure.retry_after_s).min().unwrap_or(1);
            Error::Busy { what: told.join("; "), retry_after_s }
        }
        FailureKind::Timeout => Error::Upstream { status: 504, message, code: "upstream_timeout" },
        _ => Error::Upstream { status: 502, message, code: "upstream_failed" },
    }
}

fn millis(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}
