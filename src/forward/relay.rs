//! A streamed answer on its way to the client: events as they come, and a watch on how the stream ends.

use super::attempt::{First, Next, Tried, Trying};
use super::recorder::Recorder;
use crate::chat::ChatRequest;
use crate::decision::{End, Why};
use crate::providers::Failure;
use crate::providers::sse::{self, DONE, Event};
use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Passes events on as they come.
pub struct Relay {
    recorder: Recorder,
    request: Arc<ChatRequest>,
    rest: BoxStream<'static, Result<Bytes, Failure>>,
    /// Events already read.
    before: VecDeque<(Bytes, Event)>,
    /// Deployments that may go on where the stream breaks; none where the policy does not allow it.
    left: Vec<usize>,
    /// A choice has finished.
    finished: bool,
    /// The choices that came, and those that have finished: an upstream that ends without `[DONE]` when all have is
    /// complete all the same.
    choices: [u128; 2],
    /// Only text was said: another deployment can go on with it.
    only_text: bool,
    ended: bool,
}

impl Relay {
    /// A relay of an answer whose beginning is here.
    pub fn new(
        recorder: Recorder,
        request: Arc<ChatRequest>,
        left: Vec<usize>,
        before: Vec<(Bytes, Event)>,
        rest: BoxStream<'static, Result<Bytes, Failure>>,
    ) -> Self {
        let left = if recorder.decision.policy.continue_streams { left } else { Vec::new() };
        let before = before.into();
        Relay { recorder, request, rest, before, left, finished: false, choices: [0, 0], only_text: true, ended: false }
    }

    /// The events for the client.
    pub fn stream(self) -> BoxStream<'static, Bytes> {
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
        let (bytes, event) = match self.before.pop_front() {
            Some(read) => read,
            None => match self.rest.next().await {
                Some(Ok(bytes)) => {
                    let event = sse::read(&bytes);
                    (bytes, event)
                }
                Some(Err(failure)) => return self.broken(&failure.message).await,
                None if self.finished && self.choices[0] & !self.choices[1] == 0 => {
                    return Some(self.complete(Bytes::from_static(DONE)));
                }
                None => return self.broken("the stream ended without an end").await,
            },
        };
        match event {
            Event { error: true, .. } => return self.broken("the provider streamed an error").await,
            Event { garbage: true, .. } => return self.broken("streamed something that is no chat completion").await,
            Event { done: true, .. } => return Some(self.complete(bytes)),
            _ => {}
        }
        self.finished |= event.finished;
        self.choices[0] |= event.choices;
        self.choices[1] |= event.finishing;
        self.only_text &= self.recorder.event(&event, &bytes);
        let unasked = event.only_usage && !self.request.include_usage;
        (!unasked).then_some(bytes)
    }

    fn complete(&mut self, last: Bytes) -> Bytes {
        self.ended = true;
        self.recorder.finish(End::Complete);
        last
    }

    /// The stream broke: another deployment goes on where the operator allows it; else the client is told.
    async fn broken(&mut self, why: &str) -> Option<Bytes> {
        let deployment = self.recorder.deployment().map_or(String::new(), |deployment| deployment.name.clone());
        self.recorder.broke(why);
        if self.goes_on().await {
            return None;
        }
        self.ended = true;
        self.recorder.finish(End::Broken);
        Some(sse::error_event(&format!("The answer of {deployment} broke off: {why}. What came before is incomplete.")))
    }

    /// Has another deployment go on with what was said so far.
    async fn goes_on(&mut self) -> bool {
        let text = self.recorder.text.clone().unwrap_or_default();
        if !self.only_text || self.finished || text.is_empty() {
            return false;
        }
        let Some(request) = self.request.continued(&text).map(Arc::new) else { return false };
        let (router, decision) = (self.recorder.router.clone(), self.recorder.decision.clone());
        while !self.left.is_empty() {
            let index = self.left.remove(0);
            let Ok(pass) = router.limits.admit(index, decision.features.tokens_in) else { continue };
            let next = Next { index, pass, why: Why::Continuation, waited: Duration::ZERO, last: true };
            self.recorder.begin(&next);
            let deadline = Instant::now() + router.config.server.request_timeout;
            let trying = Trying { router: &router, request: &request, decision: &decision, deadline };
            match trying.ask(next).await {
                Tried::Failed(lost) => self.recorder.failed(lost.at, &lost.failure),
                Tried::Answered(begun) => {
                    let request_id = begun.first.request_id();
                    let First::Events { before, rest, .. } = begun.first else { continue };
                    self.recorder.answering(begun.at, request_id);
                    (self.before, self.rest) = (before.into(), rest);
                    return true;
                }
            }
        }
        false
    }
}
