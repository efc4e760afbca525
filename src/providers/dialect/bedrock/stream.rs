//! Converse's stream in OpenAI's words.

use super::super::wire::{self, Chunks};
use super::super::{Asked, Frame, Reader};
use super::JSON_TOOL;
use super::answer::{self, garbage};
use super::refusal;
use crate::providers::Failure;
use bytes::Bytes;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// No answer has more blocks: what is kept of a stream stays bounded.
const MAX_BLOCKS: u64 = 1_024;

/// Reasoning that is kept to go back with the next turn, in bytes; longer is not, since its signature is for all of it.
const MAX_THOUGHT_BYTES: usize = 1 << 20;

/// Text that is held back while JSON is waited for, in bytes: more is an answer of its own.
const MAX_HELD_BYTES: usize = 64 << 10;

/// Reads one stream of Converse.
pub struct ConverseStream {
    chunks: Chunks,
    json: bool,
    begun: bool,
    stopped: bool,
    done: bool,
    calls: BTreeMap<u64, Call>,
    /// Where JSON is wanted: words that are not it, told only if it does not come (a refusal).
    held: String,
    /// JSON is on its way.
    speaking: bool,
    /// Calls that the client has seen.
    told: usize,
    thoughts: BTreeMap<u64, Thought>,
    thought_bytes: usize,
}

/// A call under way.
struct Call {
    /// Its number among the client's; `None` where its input is the answer.
    number: Option<usize>,
    /// Whether any of its input has come.
    fed: bool,
}

/// A block of reasoning, as far as it has come.
#[derive(Default)]
struct Thought {
    text: String,
    signature: Option<String>,
    redacted: Option<String>,
}

impl Reader for ConverseStream {
    fn frame(&mut self, frame: Frame<'_>) -> Result<Vec<Bytes>, Failure> {
        let name = frame.name.unwrap_or_default();
        let payload: Result<Value, _> = serde_json::from_slice(frame.data);
        if name.ends_with("Exception") {
            return Err(refusal::of_exception(name, &payload.unwrap_or_default()));
        }
        // A piece that cannot be read is a hole in the answer.
        let payload = payload.map_err(|_| garbage("streamed an event that is no JSON"))?;
        let mut said = Vec::new();
        match name {
            _ if self.done || !payload.is_object() => {}
            "messageStart" => self.begin(&mut said),
            "contentBlockStart" => self.start(&payload, &mut said)?,
            "contentBlockDelta" => self.more(&payload, &mut said)?,
            "contentBlockStop" => self.close(&payload, &mut said)?,
            "messageStop" => self.stop(&payload, &mut said)?,
            "metadata" if self.stopped => {
                self.done = true;
                said.extend([self.chunks.usage(&answer::usage(&payload["usage"])), wire::done()]);
            }
            _ => {}
        }
        Ok(said)
    }

    /// The answer is whole with `messageStop`; only its usage is missing where `metadata` does not follow.
    fn end(&mut self) -> Vec<Bytes> {
        let missing = self.stopped && !self.done;
        self.done |= missing;
        missing.then(wire::done).into_iter().collect()
    }
}

impl ConverseStream {
    pub fn new(asked: &Asked) -> Self {
        ConverseStream {
            chunks: Chunks { id: answer::new_id(), created: asked.created, model: asked.model.clone() },
            json: asked.json,
            begun: false,
            stopped: false,
            done: false,
            calls: BTreeMap::new(),
            held: String::new(),
            speaking: !asked.json,
            told: 0,
            thoughts: BTreeMap::new(),
            thought_bytes: 0,
        }
    }

    fn begin(&mut self, said: &mut Vec<Bytes>) {
        if !std::mem::replace(&mut self.begun, true) {
            said.push(self.chunks.role(0));
        }
    }

    /// A block begins: only a call's beginning says something.
    fn start(&mut self, payload: &Value, said: &mut Vec<Bytes>) -> Result<(), Failure> {
        let block = block(payload)?;
        let call = payload.pointer("/start/toolUse").filter(|call| call["type"] != "server_tool_use");
        let Some(call) = call else { return Ok(()) };
        self.begin(said);
        let text = |key: &str| call[key].as_str().unwrap_or_default();
        let number = (!self.json || text("name") != JSON_TOOL).then_some(self.told);
        if let Some(number) = number {
            self.told += 1;
            said.push(self.chunks.tool_begin(0, number, text("toolUseId"), text("name")));
        }
        self.calls.insert(block, Call { number, fed: false });
        Ok(())
    }

    fn more(&mut self, payload: &Value, said: &mut Vec<Bytes>) -> Result<(), Failure> {
        let block = block(payload)?;
        let delta = &payload["delta"];
        self.begin(said);
        if let Some(text) = delta["text"].as_str() {
            said.extend(self.speak(text));
        } else if let Some(thought) = delta.get("reasoningContent") {
            self.think(block, thought, said);
        } else if let (Some(input), Some(call)) = (delta["toolUse"]["input"].as_str(), self.calls.get_mut(&block)) {
            call.fed |= !input.is_empty();
            said.push(match call.number {
                Some(number) => self.chunks.tool_more(0, number, input),
                None => {
                    self.held.clear();
                    self.speaking = true;
                    self.chunks.delta(0, json!({"content": input}), None)
                }
            });
        }
        Ok(())
    }

    /// A piece of text; where JSON is wanted, from its first bracket on.
    fn speak(&mut self, text: &str) -> Option<Bytes> {
        if !self.speaking {
            self.held.push_str(text);
            self.speaking = self.held.trim_start().starts_with(['{', '[']) || self.held.len() > MAX_HELD_BYTES;
            return self.speaking.then(|| self.release()).flatten();
        }
        Some(self.chunks.delta(0, json!({"content": text}), None))
    }

    fn release(&mut self) -> Option<Bytes> {
        let held = std::mem::take(&mut self.held);
        (!held.is_empty()).then(|| self.chunks.delta(0, json!({"content": held}), None))
    }

    fn think(&mut self, block: u64, thought: &Value, said: &mut Vec<Bytes>) {
        let kept = self.thoughts.entry(block).or_default();
        let text = |key: &str| thought[key].as_str().unwrap_or_default();
        self.thought_bytes += text("text").len() + text("signature").len() + text("redactedContent").len();
        if self.thought_bytes <= MAX_THOUGHT_BYTES {
            kept.text.push_str(text("text"));
            append(&mut kept.signature, text("signature"));
            append(&mut kept.redacted, text("redactedContent"));
        }
        if !text("text").is_empty() {
            said.push(self.chunks.delta(0, json!({"reasoning_content": text("text")}), None));
        }
    }

    /// A call without arguments still is one of an empty object.
    fn close(&mut self, payload: &Value, said: &mut Vec<Bytes>) -> Result<(), Failure> {
        match self.calls.remove(&block(payload)?) {
            Some(Call { number: Some(number), fed: false }) => said.push(self.chunks.tool_more(0, number, "{}")),
            Some(Call { number: None, fed: false }) => {
                self.held.clear();
                said.push(self.chunks.delta(0, json!({"content": "{}"}), None));
            }
            _ => {}
        }
        Ok(())
    }

    fn stop(&mut self, payload: &Value, said: &mut Vec<Bytes>) -> Result<(), Failure> {
        let reason = payload["stopReason"].as_str().ok_or_else(|| garbage("streamed an end without a reason"))?;
        let finish = match answer::finish(reason)? {
            "tool_calls" if self.told == 0 => "stop",
            finish => finish,
        };
        self.begin(said);
        said.extend(self.release());
        let thoughts = std::mem::take(&mut self.thoughts);
        let kept = self.thought_bytes <= MAX_THOUGHT_BYTES;
        let state = answer::state(thoughts.into_values().filter(|_| kept).map(Thought::block).collect());
        if !state.is_empty() {
            said.push(self.chunks.delta(0, Value::Object(state), None));
        }
        if !std::mem::replace(&mut self.stopped, true) {
            said.push(self.chunks.delta(0, json!({}), Some(finish)));
        }
        Ok(())
    }
}

impl Thought {
    /// As a content block of a whole answer holds it.
    fn block(self) -> Value {
        match (self.redacted, self.signature) {
            (Some(redacted), _) => json!({"redactedContent": redacted}),
            (None, Some(signature)) => json!({"reasoningText": {"text": self.text, "signature": signature}}),
            (None, None) => json!({"reasoningText": {"text": self.text}}),
        }
    }
}

fn append(whole: &mut Option<String>, piece: &str) {
    if !piece.is_empty() {
        whole.get_or_insert_default().push_str(piece);
    }
}

/// The number of the block that an event is about.
fn block(payload: &Value) -> Result<u64, Failure> {
    payload["contentBlockIndex"]
        .as_u64()
        .filter(|block| *block < MAX_BLOCKS)
        .ok_or_else(|| garbage("streamed a block without a number"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::{FailureKind, sse};
    use proptest::prelude::*;

    fn reader(json: bool) -> ConverseStream {
        ConverseStream::new(&Asked { model: "m".into(), created: 7, json })
    }

    /// What the client reads of a recorded stream: `name data`, a frame a line.
    fn told(recorded: &str, json: bool) -> Vec<Value> {
        let mut reader = reader(json);
        let frames = recorded.lines().map(|line| line.split_once(' ').unwrap());
        let events =
            frames.flat_map(|(name, data)| reader.frame(Frame { name: Some(name), data: data.as_bytes() }).unwrap());
        events
            .map(|event| match sse::frame(&event).unwrap().1.as_str() {
                "[DONE]" => "[DONE]".into(),
                data => serde_json::from_str(data).unwrap(),
            })
            .collect()
    }

    #[test]
    fn a_piece_that_cannot_be_read_is_no_piece_left_out() {
        let said = |data: &'static [u8]| reader(false).frame(Frame { name: Some("contentBlockDelta"), data });
        assert!(said(br#"{"contentBlockIndex":0,"delta":{"text":"a"}}"#).is_ok());
        assert!(said(br#"{"contentBlockIndex":0,"delta":{"text":"a"#).is_err());
    }

    #[test]
    fn two_calls_at_once_with_thoughts_and_cached_tokens() {
        let events = told(include_str!("../../../../tests/dialects/bedrock/tools.stream.txt"), false);
        let deltas: Vec<&Value> = events.iter().filter_map(|event| event.pointer("/choices/0/delta")).collect();
        let call = |index: u64, more: Value| {
            let mut call = json!({"index": index});
            more.as_object().unwrap().iter().for_each(|(key, value)| call[key] = value.clone());
            json!({"tool_calls": [call]})
        };
        let begin =
            |id: &str, name: &str| json!({"id": id, "type": "function", "function": {"name": name, "arguments": ""}});
        let more = |arguments: &str| json!({"function": {"arguments": arguments}});
        let state = json!([{"reasoningText": {"text": "Two at once.", "signature": "c2lnbmVk"}}]);
        let expected = [
            json!({"role": "assistant", "content": ""}),
            json!({"reasoning_content": "Two "}),
            json!({"reasoning_content": "at once."}),
            json!({"content": "I look it up."}),
            call(0, begin("tooluse_1", "weather")),
            call(0, more("{\"city\":")),
            call(0, more("\"Paris\"}")),
            call(1, begin("tooluse_2", "time")),
            call(1, more("{}")),
            json!({"provider_state": {"bedrock": {"reasoning": state}}}),
            json!({}),
        ];
        assert_eq!(deltas, expected.iter().collect::<Vec<_>>());
        let [.., finish, usage, done] = events.as_slice() else { panic!("{events:?}") };
        assert_eq!(finish.pointer("/choices/0/finish_reason"), Some(&json!("tool_calls")));
        let tokens = &usage["usage"];
        assert_eq!((&tokens["prompt_tokens"], &tokens["completion_tokens"]), (&json!(125), &json!(40)));
        let details =
            json!({"cached_tokens": 100, "cache_write_tokens": 20, "cache_write_1h_tokens": 20, "audio_tokens": 0});
        assert_eq!((&tokens["prompt_tokens_details"], done), (&details, &json!("[DONE]")));
    }

    #[test]
    fn where_json_is_wanted_a_call_or_the_text_is_it_and_a_refusal_is_not_lost() {
        let content = |middle: &str| {
            let events = told(&format!("{middle}\nmessageStop {{\"stopReason\":\"tool_use\"}}"), true);
            assert_eq!(events.last().unwrap().pointer("/choices/0/finish_reason"), Some(&json!("stop")));
            let said = events.iter().filter_map(|event| event.pointer("/choices/0/delta/content")?.as_str());
            said.collect::<String>()
        };
        let text = |text: &str| json!({"contentBlockIndex": 0, "delta": {"text": text}});
        let call = r#"contentBlockStart {"start":{"toolUse":{"toolUseId":"t","name":"json_answer"}},"contentBlockIndex":1}
contentBlockDelta {"delta":{"toolUse":{"input":"{\"a\":1}"}},"contentBlockIndex":1}
contentBlockStop {"contentBlockIndex":1}"#;
        let spoken = format!("contentBlockDelta {}\n{call}", text("Here it is: "));
        assert_eq!(content(&spoken), r#"{"a":1}"#);
        let schema = format!("contentBlockDelta {}\ncontentBlockDelta {}", text(" {\"a\""), text(":1}"));
        assert_eq!(content(&schema), r#" {"a":1}"#);
        assert_eq!(content(&format!("contentBlockDelta {}", text("I cannot."))), "I cannot.");
    }

    #[test]
    fn a_stream_without_its_end_is_not_done() {
        let mut reader = reader(false);
        reader.frame(Frame { name: Some("messageStart"), data: b"{}" }).unwrap();
        assert!(reader.end().is_empty());
        reader.frame(Frame { name: Some("messageStop"), data: br#"{"stopReason":"end_turn"}"# }).unwrap();
        assert_eq!(reader.end(), [wire::done()]);
    }

    #[test]
    fn exceptions_are_failures() {
        let kind = |name, data: &str| {
            let frame = Frame { name: Some(name), data: data.as_bytes() };
            let failure = reader(false).frame(frame).unwrap_err();
            (failure.kind, failure.code)
        };
        assert_eq!(kind("throttlingException", "{}"), (FailureKind::Busy, Some("rate_limit_exceeded")));
        assert_eq!(kind("modelStreamErrorException", "not json"), (FailureKind::Down, None));
        let long = kind("validationException", r#"{"message":"Input is too long for requested model."}"#);
        assert_eq!(long, (FailureKind::TooLong, Some("context_length_exceeded")));
    }

    proptest! {
        /// Whatever the frames hold, they are read or refused.
        #[test]
        fn no_frame_panics(frames in prop::collection::vec((0usize..7, super::super::answer::tests::any_json(), 0u64..3), 0..20), json: bool) {
            let names = ["messageStart", "contentBlockStart", "contentBlockDelta", "contentBlockStop", "messageStop", "metadata", "other"];
            let mut reader = reader(json);
            let mut dones = 0;
            for (name, mut data, block) in frames {
                if let Value::Object(fields) = &mut data {
                    fields.insert("contentBlockIndex".into(), block.into());
                }
                let events = reader.frame(Frame { name: Some(names[name]), data: data.to_string().as_bytes() });
                dones += events.into_iter().flatten().filter(|event| *event == wire::done()).count();
            }
            prop_assert!(dones + reader.end().len() <= 1);
        }
    }
}
