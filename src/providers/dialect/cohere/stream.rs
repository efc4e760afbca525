//! A streamed answer: `message-start`, pieces of text, of the plan and of tool calls, `message-end` with the counts.

use super::super::wire::{self, Chunks};
use super::super::{Asked, Frame, Reader};
use super::answer::{self, Block, Call};
use crate::providers::{Failure, FailureKind};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

/// Tool calls that an answer may have: memory stays bounded whatever the upstream sends.
const MAX_CALLS: usize = 1_024;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Event {
    #[serde(rename = "type")]
    kind: String,
    id: Option<String>,
    index: Option<u64>,
    delta: Option<Delta>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Delta {
    message: Option<Said>,
    finish_reason: Option<String>,
    usage: Option<Value>,
    error: Option<String>,
}

/// A message's delta. Its fields are read by the kind of the event, since a start has lists where a piece has one.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Said {
    content: Option<Value>,
    tool_plan: Option<String>,
    tool_calls: Option<Value>,
}

/// Reads one streamed answer.
pub(super) struct Stream {
    chunks: Chunks,
    begun: bool,
    /// Cohere's index of each tool call, in the order they began.
    calls: Vec<u64>,
}

impl Stream {
    pub(super) fn new(asked: &Asked) -> Self {
        let id = format!("cohere-{}", asked.created);
        Stream {
            chunks: Chunks { id, created: asked.created, model: asked.model.clone() },
            begun: false,
            calls: Vec::new(),
        }
    }

    /// The role, before anything else.
    fn begin(&mut self) -> Vec<Bytes> {
        let first = !std::mem::replace(&mut self.begun, true);
        first.then(|| self.chunks.role(0)).into_iter().collect()
    }

    fn content(&self, block: Block) -> Vec<Bytes> {
        let piece = |name: &str, text: Option<String>| {
            let text = text.filter(|text| !text.is_empty())?;
            Some(self.chunks.delta(0, json!({ name: text }), None))
        };
        [piece("reasoning_content", block.thinking), piece("content", block.text)].into_iter().flatten().collect()
    }

    fn call_begins(&mut self, index: u64, call: &Call) -> Result<Vec<Bytes>, Failure> {
        if self.calls.len() >= MAX_CALLS {
            return Err(Failure::new(FailureKind::Garbage, format!("more than {MAX_CALLS} tool calls")));
        }
        let number = self.calls.len();
        self.calls.push(index);
        let name = call.function.name.as_deref().unwrap_or_default();
        let mut events = vec![self.chunks.tool_begin(0, number, &call.id(&self.chunks.id, number), name)];
        events.extend(self.more(number, call));
        Ok(events)
    }

    fn call_goes_on(&self, index: u64, call: &Call) -> Result<Vec<Bytes>, Failure> {
        let number = self.calls.iter().rposition(|begun| *begun == index);
        let number =
            number.ok_or_else(|| Failure::new(FailureKind::Garbage, "more of a tool call that never began"))?;
        Ok(self.more(number, call).into_iter().collect())
    }

    fn more(&self, number: usize, call: &Call) -> Option<Bytes> {
        let arguments = call.function.arguments.as_deref().filter(|text| !text.is_empty())?;
        Some(self.chunks.tool_more(0, number, arguments))
    }

    fn last(&self, delta: Delta) -> Result<Vec<Bytes>, Failure> {
        if delta.error.is_some() {
            return Err(Failure::new(FailureKind::Down, "its stream ended with an error"));
        }
        let reason = delta.finish_reason.unwrap_or_default();
        let finish = answer::finish(&reason, !self.calls.is_empty())?;
        let mut events = vec![self.chunks.delta(0, json!({}), Some(finish))];
        events.extend(delta.usage.as_ref().map(|usage| self.chunks.usage(&answer::usage(usage))));
        events.push(wire::done());
        Ok(events)
    }
}

impl Reader for Stream {
    fn frame(&mut self, frame: Frame<'_>) -> Result<Vec<Bytes>, Failure> {
        if frame.data == b"[DONE]" {
            return Ok(Vec::new());
        }
        let event: Event = read(frame.data)?;
        if let Some(id) = event.id.filter(|id| !self.begun && !id.is_empty()) {
            self.chunks.id = id;
        }
        let delta = event.delta.unwrap_or_default();
        let index = event.index.unwrap_or(0);
        let kind = event.kind.as_str();
        if kind == "message-end" {
            let mut events = self.begin();
            events.extend(self.last(delta)?);
            return Ok(events);
        }
        let said = delta.message.unwrap_or_default();
        let mut events = match kind {
            "message-start" | "content-start" | "content-delta" | "tool-plan-delta" | "tool-call-start" => self.begin(),
            _ => Vec::new(),
        };
        events.extend(match kind {
            "content-start" | "content-delta" => self.content(part(said.content)?),
            "tool-plan-delta" => self.content(Block { text: said.tool_plan, thinking: None }),
            "tool-call-start" => self.call_begins(index, &part(said.tool_calls)?)?,
            "tool-call-delta" => self.call_goes_on(index, &part(said.tool_calls)?)?,
            // Citations, ends of blocks, and what Cohere may yet think of.
            _ => Vec::new(),
        });
        Ok(events)
    }
}

fn read<T: serde::de::DeserializeOwned>(json: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(json).map_err(|error| wire::unreadable("no event of Cohere's", &error))
}

/// One piece of a message, as the kind of event has it.
fn part<T: serde::de::DeserializeOwned + Default>(value: Option<Value>) -> Result<T, Failure> {
    value.map_or_else(
        || Ok(T::default()),
        |value| serde_json::from_value(value).map_err(|error| wire::unreadable("no event of Cohere's", &error)),
    )
}
