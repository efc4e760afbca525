//! What must come back in the next turn: signed thinking, in its place among text and tool calls. It travels in the
//! message as `provider_state: {"anthropic": {"model": …, "blocks": […]}}`, where thinking stands as it came, and text and
//! tool calls, which the message has anyway, as marks of where they stood: `{"type": "text", "bytes": 12}`,
//! `{"type": "tool_use", "id": "…"}`. Thinking is bound to its model: another one gets the message without it.

use crate::providers::dialect::wire::Message;
use serde_json::{Map, Value, json};

/// Larger state than this is not kept: the answer is worth more than its continuation.
pub const MAX_STATE_BYTES: usize = 4 << 20;

/// Gathers an answer's state.
#[derive(Debug, Default)]
pub struct State {
    blocks: Vec<Value>,
    thinking_bytes: usize,
}

impl State {
    /// A block of thinking as it came, or as it was put together from a stream.
    pub fn thinking(&mut self, block: Value) {
        let length = |name| block.get(name).and_then(Value::as_str).map_or(0, str::len);
        self.thinking_bytes += length("thinking") + length("signature") + length("data");
        if self.thinking_bytes <= MAX_STATE_BYTES {
            self.blocks.push(block);
        }
    }

    pub fn text(&mut self, bytes: usize) {
        self.blocks.push(json!({"type": "text", "bytes": bytes}));
    }

    pub fn call(&mut self, id: &str) {
        self.blocks.push(json!({"type": "tool_use", "id": id}));
    }

    /// The message's extra fields; none where nothing was thought.
    pub fn fields(&self, model: &str) -> Map<String, Value> {
        let mut fields = Map::new();
        if (1..=MAX_STATE_BYTES).contains(&self.thinking_bytes) {
            fields.insert("provider_state".into(), json!({"anthropic": {"model": model, "blocks": self.blocks}}));
        }
        fields
    }
}

/// The blocks of an assistant's turn, its thinking in its place again. `text` and `calls` are what the message says, as
/// blocks; `calls` by id.
pub fn restored(message: &Message, model: &str, text: Vec<Value>, calls: Vec<(String, Value)>) -> Restored {
    let state = message.rest.get("provider_state").and_then(|state| state.get("anthropic"));
    let Some(state) = state else { return Restored { blocks: plain(text, calls), foreign: false } };
    if state.get("model").and_then(Value::as_str) != Some(model) {
        return Restored { blocks: plain(text, calls), foreign: true };
    }
    let marks = state.get("blocks").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    Restored { blocks: woven(marks, text, calls), foreign: false }
}

/// An assistant's turn, and whether there was thinking of another model that it went without.
pub struct Restored {
    pub blocks: Vec<Value>,
    pub foreign: bool,
}

fn plain(text: Vec<Value>, calls: Vec<(String, Value)>) -> Vec<Value> {
    text.into_iter().chain(calls.into_iter().map(|(_, call)| call)).collect()
}

/// Text of one block is cut where its marks say; what the marks do not know comes last, in the message's order.
fn woven(marks: &[Value], text: Vec<Value>, mut calls: Vec<(String, Value)>) -> Vec<Value> {
    let mut text = std::collections::VecDeque::from(text);
    let mut blocks = Vec::new();
    for mark in marks {
        match mark.get("type").and_then(Value::as_str) {
            Some("thinking" | "redacted_thinking") => blocks.push(mark.clone()),
            Some("text") => {
                let bytes = mark.get("bytes").and_then(Value::as_u64).unwrap_or(u64::MAX);
                blocks.extend(text.pop_front().map(|block| cut(block, bytes, &mut text)));
            }
            Some("tool_use") => {
                let id = mark.get("id").and_then(Value::as_str).unwrap_or_default();
                let at = calls.iter().position(|(call, _)| call == id);
                blocks.extend(at.map(|at| calls.remove(at).1));
            }
            _ => {}
        }
    }
    blocks.extend(plain(text.into(), calls));
    blocks
}

/// The block's first bytes; the rest of it goes back to the front.
fn cut(block: Value, bytes: u64, rest: &mut std::collections::VecDeque<Value>) -> Value {
    let text = block.get("text").and_then(Value::as_str).unwrap_or_default();
    match usize::try_from(bytes).ok().and_then(|bytes| text.split_at_checked(bytes)) {
        Some((first, more)) if !first.is_empty() && !more.is_empty() => {
            rest.push_front(json!({"type": "text", "text": more}));
            json!({"type": "text", "text": first})
        }
        _ => block,
    }
}
