//! One attempt: a deployment is called, and waited for until the first real byte of its answer.

use crate::chat::ChatRequest;
use crate::decision::{Decision, Why};
use crate::limits::Pass;
use crate::policy::FailOn;
use crate::providers::sse::{self, Event, Said};
use crate::providers::{Body, Call, Failure, FailureKind};
use crate::record::{InFlight, Prompt};
use crate::router::Router;
use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bytes of a stream that may be held back until it is clear that it says something.
const MAX_HELD_BYTES: usize = 256 << 10;

/// An attempt about to be made.
pub struct Next {
    /// Place in the fleet.
    pub index: usize,
    pub pass: Pass,
    pub why: Why,
    pub waited: Duration,
    /// Nobody else is left: an answer that would fail for what it says is given all the same.
    pub last: bool,
}

/// An attempt under way or over.
pub struct At {
    pub index: usize,
    pub pass: Pass,
    pub in_flight: InFlight,
    pub began: Instant,
}

/// An answer of which the first real byte is here.
pub enum First {
    Whole { body: Bytes, event: Event, request_id: Option<String> },
    Events { before: Vec<(Bytes, Event)>, rest: BoxStream<'static, Result<Bytes, Failure>>, request_id: Option<String> },
}

/// An attempt that answers.
pub struct Begun {
    pub first: First,
    pub at: At,
    pub warnings: Vec<String>,
}

/// How an attempt went.
pub enum Tried {
    Answered(Box<Begun>),
    Failed(Box<Lost>),
}

/// An attempt that failed.
pub struct Lost {
    pub at: At,
    pub failure: Failure,
}

/// What all attempts at a request share.
pub struct Trying<'a> {
    pub router: &'a Arc<Router>,
    pub request: &'a Arc<ChatRequest>,
    pub decision: &'a Decision,
    pub deadline: Instant,
}

impl First {
    /// The provider's own request id.
    pub fn request_id(&self) -> Option<String> {
        match self {
            First::Whole { request_id, .. } | First::Events { request_id, .. } => request_id.clone(),
        }
    }
}

impl Tried {
    /// The attempt.
    pub fn at(&self) -> &At {
        match self {
            Tried::Answered(begun) => &begun.at,
            Tried::Failed(lost) => &lost.at,
        }
    }
}

impl Trying<'_> {
    /// Calls a deployment and waits for the first real byte, until the deadline.
    pub async fn ask(&self, next: Next) -> Tried {
        let (book, features) = (&self.router.health, &self.decision.features);
        let score = self.decision.score_of(next.index);
        // The first byte of an answer that comes whole is its last.
        let whole_ms = if self.request.stream { 0.0 } else { score.map_or(0.0, |score| score.generation_ms) };
        let prompt = Prompt { tokens_in: features.tokens_in, ascii: features.ascii };
        let mut at = At {
            index: next.index,
            pass: next.pass,
            in_flight: book.begin(next.index, book.now(), prompt, whole_ms),
            began: Instant::now(),
        };
        let first = tokio::time::timeout_at(self.deadline.into(), self.first_byte(&at, next.last)).await;
        let late = || Failure::new(FailureKind::Timeout, "the request's time was over");
        match first.unwrap_or_else(|_| Err(late())) {
            Ok((first, warnings)) => {
                at.in_flight.first_byte();
                Tried::Answered(Box::new(Begun { first, at, warnings }))
            }
            Err(failure) => {
                at.pass.learn(|name| header(&failure.limits, name));
                Tried::Failed(Box::new(Lost { at, failure }))
            }
        }
    }

    async fn first_byte(&self, at: &At, last: bool) -> Result<(First, Vec<String>), Failure> {
        let deployment = &self.router.fleet.all()[at.index];
        let call = Call { request: self.request.clone(), model: deployment.config.model.clone() };
        let reply = deployment.provider.send(call).await?;
        at.pass.learn(|name| header(&reply.limits, name));
        let request_id = reply.request_id;
        let first = match reply.body {
            Body::Whole(body) => {
                let event = sse::read_whole(&body).ok_or_else(|| {
                    Failure::new(FailureKind::Garbage, "answered something that is no chat completion")
                })?;
                self.check(sse::said_whole(&body).filter(|_| !last), true)?;
                First::Whole { body, event, request_id }
            }
            Body::Events(rest) => self.first_event(rest, request_id, last).await?,
        };
        Ok((first, reply.warnings))
    }

    /// Reads until an event with data that is no error; where an answer may fail for what it says, until it says something.
    async fn first_event(
        &self,
        mut rest: BoxStream<'static, Result<Bytes, Failure>>,
        request_id: Option<String>,
        is_last: bool,
    ) -> Result<First, Failure> {
        let (mut before, mut held) = (Vec::new(), 0);
        while let Some(bytes) = rest.next().await {
            let bytes = bytes?;
            let event = sse::read(&bytes);
            match &event {
                Event { has_data: false, .. } => continue,
                Event { error: true, .. } => return Err(Failure::new(FailureKind::Down, "streamed an error")),
                Event { garbage: true, .. } => {
                    return Err(Failure::new(FailureKind::Garbage, "streamed something that is no chat completion"));
                }
                Event { done: true, .. } if before.is_empty() => break,
                _ => {}
            }
            held += bytes.len();
            let (said, last) = (self.said(&bytes).filter(|_| !is_last), event.finished || event.done);
            before.push((bytes, event));
            self.check(said, last)?;
            if said.is_none_or(|said| said.anything || last) || held > MAX_HELD_BYTES {
                return Ok(First::Events { before, rest, request_id });
            }
        }
        Err(Failure::new(FailureKind::Garbage, "the stream ended before it began"))
    }

    /// What an event says, where that may make it a failure.
    fn said(&self, event: &[u8]) -> Option<Said> {
        (!self.decision.policy.fail_on.is_empty()).then(|| sse::said(event)).flatten()
    }

    /// Whether an answer fails for what it says, or at its end for what it does not say.
    fn check(&self, said: Option<Said>, last: bool) -> Result<(), Failure> {
        let Some(said) = said else { return Ok(()) };
        let fails = |on: FailOn| self.decision.policy.fail_on.contains(&on);
        if said.refuses && fails(FailOn::Refusal) {
            return Err(Failure { status: Some(200), ..Failure::new(FailureKind::Garbage, "refused to answer") });
        }
        if last && !said.anything && fails(FailOn::Empty) {
            return Err(Failure { status: Some(200), ..Failure::new(FailureKind::Garbage, "answered nothing") });
        }
        Ok(())
    }
}

/// A header by its lower-case name.
fn header(headers: &[(String, String)], name: &str) -> Option<String> {
    headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
}
