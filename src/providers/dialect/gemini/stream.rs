//! A streamed answer: each frame is a `GenerateContentResponse` that says more. Function calls come whole, counts with
//! every frame, and the last frame is the one that says why each candidate ended.

use super::super::wire::{self, Chunks};
use super::super::{Asked, Frame, Reader};
use super::answer::{self, Candidate, Part, Response};
use super::extra_content;
use crate::decision::Usage;
use crate::providers::{Failure, FailureKind};
use bytes::Bytes;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Candidates that an answer may have; Gemini gives eight at most.
const MAX_CANDIDATES: usize = 128;

/// Reads one streamed answer.
pub(super) struct Stream {
    chunks: Chunks,
    candidates: BTreeMap<usize, State>,
    usage: Option<Usage>,
    named: bool,
}

/// How far one candidate is.
#[derive(Default)]
struct State {
    calls: usize,
    spoke: bool,
    finished: bool,
}

impl Stream {
    pub(super) fn new(asked: &Asked) -> Self {
        let id = format!("gemini-{}", asked.created);
        Stream {
            chunks: Chunks { id, created: asked.created, model: asked.model.clone() },
            candidates: BTreeMap::new(),
            usage: None,
            named: false,
        }
    }

    /// The first frame names answer and model; all chunks must bear the same names.
    fn name(&mut self, response: &mut Response) {
        if !self.named {
            self.named = true;
            self.chunks.id = response.response_id.take().unwrap_or(std::mem::take(&mut self.chunks.id));
            self.chunks.model = response.model_version.take().unwrap_or(std::mem::take(&mut self.chunks.model));
        }
    }

    fn candidate(&mut self, index: usize, mut candidate: Candidate) -> Result<Vec<Bytes>, Failure> {
        let mut events = Vec::new();
        let state = self.candidates.entry(index).or_insert_with(|| {
            events.push(self.chunks.role(index));
            State::default()
        });
        for part in candidate.parts() {
            events.extend(said(&self.chunks, index, state, part));
        }
        // Older models repeat the reason in every frame.
        if let Some(reason) = candidate.finish_reason.filter(|_| !state.finished) {
            let finish = answer::finish(&reason, state.calls > 0, state.spoke)?;
            state.finished = true;
            events.push(self.chunks.delta(index, json!({}), Some(finish)));
        }
        Ok(events)
    }

    fn blocked(&mut self, refusal: &str) -> Vec<Bytes> {
        self.candidates.insert(0, State { finished: true, ..State::default() });
        vec![
            self.chunks.role(0),
            self.chunks.delta(0, json!({"refusal": refusal}), None),
            self.chunks.delta(0, json!({}), Some("content_filter")),
        ]
    }
}

impl Reader for Stream {
    fn frame(&mut self, frame: Frame<'_>) -> Result<Vec<Bytes>, Failure> {
        let mut response = Response::read(frame.data)?;
        self.name(&mut response);
        if let Some(counted) = &response.usage_metadata {
            self.usage = Some(answer::usage(counted));
        }
        if let Some(refusal) = response.blocked().filter(|_| self.candidates.is_empty()) {
            return Ok(self.blocked(&refusal));
        }
        let mut events = Vec::new();
        for (number, candidate) in response.candidates.into_iter().flatten().enumerate() {
            let index = candidate.index.unwrap_or(number);
            if index >= MAX_CANDIDATES {
                return Err(Failure::new(FailureKind::Garbage, format!("a candidate numbered {index}")));
            }
            events.extend(self.candidate(index, candidate)?);
        }
        Ok(events)
    }

    fn end(&mut self) -> Vec<Bytes> {
        // Where a candidate did not come to its end, neither did the stream.
        match !self.candidates.is_empty() && self.candidates.values().all(|state| state.finished) {
            true => self.usage.iter().map(|usage| self.chunks.usage(usage)).chain([wire::done()]).collect(),
            false => Vec::new(),
        }
    }
}

/// What one part says.
fn said(chunks: &Chunks, index: usize, state: &mut State, part: Part) -> Vec<Bytes> {
    let extra = part.thought_signature.as_deref().map(extra_content);
    if let Some(call) = part.function_call {
        let number = state.calls;
        state.calls += 1;
        let id = call.id(&chunks.id, index, number);
        let begin = match extra {
            Some(extra) => chunks.delta(index, signed_call(number, &id, &call.name, extra), None),
            None => chunks.tool_begin(index, number, &id, &call.name),
        };
        return vec![begin, chunks.tool_more(index, number, &call.arguments())];
    }
    let text = part.text.filter(|text| !text.is_empty());
    let thought = part.thought == Some(true);
    state.spoke |= text.is_some() && !thought;
    let mut delta = json!({});
    if let Some(text) = text {
        delta[if thought { "reasoning_content" } else { "content" }] = text.into();
    }
    if let Some(extra) = extra {
        delta["extra_content"] = extra;
    }
    match delta.as_object().is_some_and(|delta| delta.is_empty()) {
        true => Vec::new(),
        false => vec![chunks.delta(index, delta, None)],
    }
}

fn signed_call(number: usize, id: &str, name: &str, extra: Value) -> Value {
    let function = json!({"name": name, "arguments": ""});
    json!({"tool_calls": [{"index": number, "id": id, "type": "function", "function": function, "extra_content": extra}]})
}
