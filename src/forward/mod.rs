//! Forwarding: attempts in the decision's order until one answers, then its bytes as they come.
//!
//! Nothing is committed to the client before the first real byte: until then a failure goes to the next deployment, and
//! where there is none left to the same one again, after a pause (`plan.rs`). After it, a break is an explicit error
//! event, never a clean end (`relay.rs`). What came of it is recorded when the body ends, however it ends
//! (`recorder.rs`). One attempt is in `attempt.rs`.

mod attempt;
mod plan;
mod recorder;
mod relay;
mod side;

pub use plan::Budget;
pub use side::SideCalls;

use crate::chat::ChatRequest;
use crate::decision::{Decision, End};
use crate::error::Error;
use crate::providers::{Failure, FailureKind};
use crate::router::{Caller, Router};
use attempt::{First, Lost, Tried, Trying};
use bytes::Bytes;
use futures::stream::{BoxStream, FuturesUnordered, StreamExt};
use plan::{Next, Plan};
use recorder::Recorder;
use relay::Relay;
use std::sync::Arc;
use std::time::Duration;

/// Text of an answer that is kept for a judge, a shadow or a continuation.
const MAX_TEXT_BYTES: usize = 256 << 10;

/// An answer that has begun.
pub struct Answer {
    pub decision: Arc<Decision>,
    /// The deployment that answers.
    pub deployment: String,
    pub body: AnswerBody,
    /// What was lost in translation.
    pub warnings: Vec<String>,
}

/// What goes to the client.
pub enum AnswerBody {
    Whole(Bytes),
    Events(BoxStream<'static, Bytes>),
}

/// Why there is no answer, with the decision where one was made.
pub struct Refusal {
    pub error: Error,
    pub decision: Option<Arc<Decision>>,
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
/// A [`Refusal`] when a provider refuses the request itself, or none answers within the policy's attempts and deadline.
pub async fn forward(
    router: Arc<Router>,
    request: Arc<ChatRequest>,
    decision: Arc<Decision>,
    caller: &Caller,
) -> Result<Answer, Refusal> {
    router.hedges.earn();
    let mut recorder = Recorder::open(router.clone(), &request, &decision, caller);
    let mut plan = Plan::new(&router, &decision, caller, recorder.start);
    let mut failures: Vec<Failure> = Vec::new();
    let error = loop {
        let next = match plan.next(failures.last()).await {
            Next::Try(next) => next,
            Next::GiveUp(busy) => break give_up(&recorder, failures, busy),
        };
        recorder.begin(&next);
        let trying = Trying { router: &router, request: &request, decision: &decision, deadline: plan.deadline };
        let first = match recorder.hedge(&next) {
            None => trying.ask(next).await,
            Some(patience) => hedged(&trying, next, patience, &mut plan, &mut recorder, &mut failures).await,
        };
        match first {
            Tried::Answered(begun) => {
                let left = plan.left();
                return Ok(answer(recorder, decision, request, left, *begun));
            }
            Tried::Failed(lost) => lose(*lost, &mut plan, &mut recorder, &mut failures),
        }
    };
    recorder.status = error.status();
    recorder.finish(if matches!(error, Error::Refused { .. }) { End::Refused } else { End::Failed });
    Err(Refusal { error, decision: Some(decision) })
}

/// Asks, and when nothing has come after `patience` asks the next deployment as well; whichever answers first counts.
async fn hedged(
    trying: &Trying<'_>,
    first: attempt::Next,
    patience: Duration,
    plan: &mut Plan<'_>,
    recorder: &mut Recorder,
    failures: &mut Vec<Failure>,
) -> Tried {
    let mut asked = FuturesUnordered::new();
    asked.push(trying.ask(first));
    let late = tokio::time::sleep(patience);
    tokio::pin!(late);
    let mut waiting = true;
    loop {
        tokio::select! {
            biased;
            tried = asked.next() => match tried.expect("one is asked until the last has answered") {
                Tried::Failed(lost) if !asked.is_empty() => lose(*lost, plan, recorder, failures),
                last => {
                    recorder.overtaken(last.at());
                    return last;
                }
            },
            () = &mut late, if waiting => {
                waiting = false;
                if let Some(second) = plan.hedge() {
                    recorder.begin(&second);
                    asked.push(trying.ask(second));
                }
            }
        }
    }
}

/// Learns from an attempt that failed.
fn lose(lost: Lost, plan: &mut Plan<'_>, recorder: &mut Recorder, failures: &mut Vec<Failure>) {
    plan.failed(lost.at.index, &lost.failure);
    recorder.failed(lost.at, &lost.failure);
    failures.push(lost.failure);
}

/// Hands the answer that has begun to the client.
fn answer(
    mut recorder: Recorder,
    decision: Arc<Decision>,
    request: Arc<ChatRequest>,
    left: Vec<usize>,
    begun: attempt::Begun,
) -> Answer {
    let attempt::Begun { first, at, warnings } = begun;
    let deployment = recorder.router.fleet.all()[at.index].config.name.clone();
    recorder.answering(at, first.request_id());
    let body = match first {
        First::Whole { body, event, .. } => {
            recorder.whole(&event, &body);
            AnswerBody::Whole(body)
        }
        First::Events { before, rest, .. } => {
            recorder.streamed = true;
            AnswerBody::Events(Relay::new(recorder, request, left, before, rest).stream())
        }
    };
    Answer { decision, deployment, body, warnings }
}

/// The error after the last attempt. A refusal speaks in the provider's words; else the last failure decides the status.
/// `busy` is how long nobody could be asked.
fn give_up(recorder: &Recorder, mut failures: Vec<Failure>, busy: Option<Duration>) -> Error {
    let told = recorder.told();
    let held = busy.map(|wait| wait.as_secs_f64().ceil().max(1.0) as u64);
    let Some(last) = failures.pop() else {
        return match held {
            Some(retry_after_s) => Error::Busy { what: "Every deployment that could answer".into(), retry_after_s },
            None => Error::Upstream {
                status: 504,
                message: "The request's time was over before a deployment could be asked.".into(),
                code: "upstream_timeout",
            },
        };
    };
    if matches!(last.kind, FailureKind::Refused | FailureKind::TooLong) {
        let status = last.status.unwrap_or(400);
        return Error::Refused { status, message: last.message, body: last.body, code: last.code };
    }
    let message = format!("No deployment answered. {told}.");
    match last.kind {
        FailureKind::Busy if failures.iter().all(|failure| failure.kind == FailureKind::Busy) => {
            let told_s = failures.iter().chain([&last]).filter_map(|failure| failure.retry_after_s).min();
            Error::Busy { what: told, retry_after_s: told_s.or(held).unwrap_or(1) }
        }
        FailureKind::Timeout => Error::Upstream { status: 504, message, code: "upstream_timeout" },
        _ => Error::Upstream { status: 502, message, code: "upstream_failed" },
    }
}
