//! A streamed answer. Blocks come one after another, each begun, continued and ended by events of its own; usage comes
//! with the first event and the last but one.

use super::ANSWER_TOOL;
use super::answer::{self, Counts};
use super::state::{MAX_STATE_BYTES, State};
use crate::providers::dialect::wire::{self, Chunks};
use crate::providers::dialect::{Asked, Frame, Reader};
use crate::providers::{Failure, FailureKind};
use bytes::Bytes;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Blocks open at once: one, by the protocol. More than these are no answer.
const MAX_OPEN: usize = 64;

/// Reads a stream.
#[derive(Default)]
pub struct Stream {
    chunks: Chunks,
    /// The name by which the model was asked for; `chunks` has the one it answers by.
    asked: String,
    begun: bool,
    counts: Counts,
    open: BTreeMap<u64, Block>,
    calls: usize,
    /// Whether the answer is given through the tool for answers.
    through_tool: bool,
    state: State,
    finish: Option<&'static str>,
}

/// A block that has begun.
enum Block {
    Text {
        bytes: usize,
    },
    /// The block as it will be handed in again.
    Thinking(Value),
    /// `call` is its number; none: the answer itself. `input` is what its beginning said, in place of which pieces may come.
    Tool {
        call: Option<usize>,
        input: Value,
        told: bool,
    },
    Other,
}

impl Stream {
    pub fn new(asked: &Asked) -> Self {
        let chunks = Chunks { id: String::new(), created: asked.created, model: asked.model.clone() };
        Stream { chunks, asked: asked.model.clone(), ..Stream::default() }
    }

    fn begin(&mut self, message: &Value) -> Vec<Bytes> {
        let word = |name| message.get(name).and_then(Value::as_str).filter(|word| !word.is_empty());
        self.chunks.id = word("id").unwrap_or_default().into();
        if let Some(model) = word("model") {
            self.chunks.model = model.into();
        }
        self.counts.merge(&message["usage"]);
        self.begun = true;
        vec![self.chunks.role(0)]
    }

    fn block(&mut self, index: u64, block: &Value) -> Result<Vec<Bytes>, Failure> {
        let word = |name| block.get(name).and_then(Value::as_str).unwrap_or_default();
        let (opened, said) = match word("type") {
            "text" => (Block::Text { bytes: word("text").len() }, self.text(word("text"))),
            "thinking" => (Block::Thinking(block.clone()), self.thought(word("thinking"))),
            "redacted_thinking" => (Block::Thinking(block.clone()), Vec::new()),
            "tool_use" => self.tool(word("id"), word("name"), &block["input"]),
            _ => (Block::Other, Vec::new()),
        };
        self.open.insert(index, opened);
        match self.open.len() {
            0..=MAX_OPEN => Ok(said),
            _ => Err(garbage("more blocks at once than an answer has")),
        }
    }

    fn tool(&mut self, id: &str, name: &str, input: &Value) -> (Block, Vec<Bytes>) {
        let answer = name == ANSWER_TOOL;
        let call = (!answer).then_some(self.calls);
        self.through_tool |= answer;
        let said = match call {
            None => Vec::new(),
            Some(call) => {
                self.calls += 1;
                self.state.call(id);
                vec![self.chunks.tool_begin(0, call, id, name)]
            }
        };
        (Block::Tool { call, input: input.clone(), told: false }, said)
    }

    fn delta(&mut self, index: u64, delta: &Value) -> Vec<Bytes> {
        let word = |name| delta.get(name).and_then(Value::as_str).unwrap_or_default();
        match (self.open.get_mut(&index), word("type")) {
            (Some(Block::Text { bytes }), "text_delta") => {
                *bytes += word("text").len();
                self.text(word("text"))
            }
            (Some(Block::Thinking(block)), "thinking_delta") => {
                append(block, "thinking", word("thinking"));
                self.thought(word("thinking"))
            }
            (Some(Block::Thinking(block)), "signature_delta") => {
                append(block, "signature", word("signature"));
                Vec::new()
            }
            (Some(Block::Tool { call, told, .. }), "input_json_delta") if !word("partial_json").is_empty() => {
                *told = true;
                let call = *call;
                self.arguments(call, word("partial_json"))
            }
            _ => Vec::new(),
        }
    }

    fn close(&mut self, index: u64) -> Vec<Bytes> {
        match self.open.remove(&index) {
            Some(Block::Text { bytes }) => self.state.text(bytes),
            Some(Block::Thinking(block)) => self.state.thinking(block),
            // A call without arguments, or one whose arguments all came at its beginning.
            Some(Block::Tool { call, input, told: false }) => {
                let input = if input.is_object() { input.to_string() } else { "{}".into() };
                return self.arguments(call, &input);
            }
            _ => {}
        }
        Vec::new()
    }

    fn finish(&mut self, delta: &Value, usage: &Value) -> Vec<Bytes> {
        self.counts.merge(usage);
        let reason = delta.get("stop_reason").and_then(Value::as_str);
        self.finish = Some(match answer::finish(reason) {
            "tool_calls" if self.through_tool && self.calls == 0 => "stop",
            finish => finish,
        });
        let refusal = answer::refusal_text(delta.get("stop_details"));
        refusal.map(|text| self.chunks.delta(0, json!({"refusal": text}), None)).into_iter().collect()
    }

    fn last(&mut self) -> Vec<Bytes> {
        let fields = self.state.fields(&self.asked);
        let state = (!fields.is_empty()).then(|| self.chunks.delta(0, Value::Object(fields), None));
        let finish = self.chunks.delta(0, json!({}), Some(self.finish.unwrap_or("stop")));
        let rest = [finish, self.chunks.usage(&self.counts.usage()), wire::done()];
        state.into_iter().chain(rest).collect()
    }

    fn text(&self, text: &str) -> Vec<Bytes> {
        self.piece("content", text)
    }

    fn thought(&self, text: &str) -> Vec<Bytes> {
        self.piece("reasoning_content", text)
    }

    fn arguments(&self, call: Option<usize>, text: &str) -> Vec<Bytes> {
        match call {
            Some(call) => vec![self.chunks.tool_more(0, call, text)],
            None => self.text(text),
        }
    }

    fn piece(&self, name: &str, text: &str) -> Vec<Bytes> {
        let said = (!text.is_empty()).then(|| self.chunks.delta(0, json!({ name: text }), None));
        said.into_iter().collect()
    }
}

impl Reader for Stream {
    fn frame(&mut self, frame: Frame<'_>) -> Result<Vec<Bytes>, Failure> {
        let event: Value =
            serde_json::from_slice(frame.data).map_err(|error| wire::unreadable("no event of Anthropic's", &error))?;
        let kind = event.get("type").and_then(Value::as_str).or(frame.name).unwrap_or_default();
        let index = event.get("index").and_then(Value::as_u64).unwrap_or(0);
        match kind {
            "message_start" => Ok(self.begin(&event["message"])),
            "error" => Err(failure(&event["error"])),
            "ping" => Ok(Vec::new()),
            _ if !self.begun => Err(garbage("a stream that does not begin with message_start")),
            "content_block_start" => self.block(index, &event["content_block"]),
            "content_block_delta" => Ok(self.delta(index, &event["delta"])),
            "content_block_stop" => Ok(self.close(index)),
            "message_delta" => Ok(self.finish(&event["delta"], &event["usage"])),
            "message_stop" => Ok(self.last()),
            // Events may be added, the provider says; those unknown are to be passed over.
            _ => Ok(Vec::new()),
        }
    }
}

/// Puts more text into a block; what grows past the limit of state will not be kept, so it need not grow on.
fn append(block: &mut Value, name: &str, more: &str) {
    match block.get_mut(name) {
        Some(Value::String(text)) if text.len() > MAX_STATE_BYTES => {}
        Some(Value::String(text)) => text.push_str(more),
        _ => block[name] = more.into(),
    }
}

fn failure(error: &Value) -> Failure {
    let word = |name| error.get(name).and_then(Value::as_str).unwrap_or_default();
    let meaning = answer::meaning(0, word("type"), word("message"));
    let kind = meaning.kind.unwrap_or(FailureKind::Down);
    let body = Bytes::from(json!({"error": error}).to_string());
    // The type only: a message may repeat the prompt.
    let message = format!("the stream told of an error: {}", word("type"));
    Failure { code: meaning.code, body: Some(body), ..Failure::new(kind, message) }
}

fn garbage(message: &str) -> Failure {
    Failure::new(FailureKind::Garbage, message)
}
