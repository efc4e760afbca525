//! Converse's answer in OpenAI's words.

use super::super::Asked;
use super::super::wire::{Choice, Completion};
use super::JSON_TOOL;
use crate::decision::Usage;
use crate::providers::{Failure, FailureKind, sse};
use bytes::Bytes;
use serde_json::{Map, Value, json};

/// The whole answer.
///
/// # Errors
/// `Garbage` for what is no answer of Converse, and where the model's own output could not be read by Bedrock.
pub fn translate(body: &[u8], asked: &Asked) -> Result<Bytes, Failure> {
    let answer: Value = serde_json::from_slice(body).map_err(|_| garbage("answered something that is no JSON"))?;
    let blocks = answer.pointer("/output/message/content").and_then(Value::as_array);
    let (Some(blocks), Some(stop)) = (blocks, answer["stopReason"].as_str()) else {
        return Err(garbage("answered something that is no answer of Converse"));
    };
    let mut said = Said::default();
    blocks.iter().for_each(|block| said.hear(block, asked.json));
    let completion = Completion {
        id: new_id(),
        created: asked.created,
        model: asked.model.clone(),
        choices: vec![said.choice(finish(stop)?)],
        usage: usage(&answer["usage"]),
    };
    Ok(completion.bytes())
}

/// What the blocks of one message say.
#[derive(Default)]
struct Said {
    text: String,
    thought: String,
    /// Blocks of reasoning, as they must come back with the next turn.
    state: Vec<Value>,
    calls: Vec<(String, String, String)>,
    /// The answer that was asked for as a forced call.
    json: Option<String>,
}

impl Said {
    fn hear(&mut self, block: &Value, json: bool) {
        if let Some(text) = block["text"].as_str() {
            self.text.push_str(text);
        } else if let Some(parts) = block.pointer("/citationsContent/content").and_then(Value::as_array) {
            parts.iter().filter_map(|part| part["text"].as_str()).for_each(|text| self.text.push_str(text));
        } else if let Some(thought) = block.get("reasoningContent") {
            self.thought.push_str(thought.pointer("/reasoningText/text").and_then(Value::as_str).unwrap_or_default());
            self.state.push(thought.clone());
        } else if let Some(call) = block.get("toolUse").filter(|call| call["type"] != "server_tool_use") {
            let text = |key: &str| call[key].as_str().unwrap_or_default().to_string();
            let input = call.get("input").map_or("{}".into(), Value::to_string);
            match text("name") {
                name if json && name == JSON_TOOL => self.json = Some(input),
                name => self.calls.push((text("toolUseId"), name, input)),
            }
        }
    }

    fn choice(self, finish: &'static str) -> Choice {
        let silent = self.text.is_empty() && !self.calls.is_empty();
        let finish = if finish == "tool_calls" && self.calls.is_empty() { "stop" } else { finish };
        Choice {
            content: self.json.or((!silent).then_some(self.text)),
            reasoning: Some(self.thought).filter(|thought| !thought.is_empty()),
            tool_calls: self.calls,
            finish,
            extra: state(self.state),
            ..Choice::default()
        }
    }
}

/// Reasoning that is signed or encrypted, for the client to send back with the next turn. What is neither, no model
/// wants back.
pub fn state(mut thoughts: Vec<Value>) -> Map<String, Value> {
    thoughts.retain(|thought| {
        let signature = thought.pointer("/reasoningText/signature").and_then(Value::as_str);
        signature.is_some_and(|signature| !signature.is_empty()) || thought.get("redactedContent").is_some()
    });
    match json!({"provider_state": {"bedrock": {"reasoning": thoughts}}}) {
        Value::Object(state) if !thoughts.is_empty() => state,
        _ => Map::new(),
    }
}

/// Why the answer ended.
///
/// # Errors
/// `Garbage` where Bedrock could not read what the model wrote.
pub fn finish(stop: &str) -> Result<&'static str, Failure> {
    match stop {
        "tool_use" => Ok("tool_calls"),
        "max_tokens" | "model_context_window_exceeded" => Ok("length"),
        "guardrail_intervened" | "content_filtered" => Ok("content_filter"),
        "malformed_model_output" | "malformed_tool_use" => Err(garbage("the model's output was malformed")),
        _ => Ok("stop"),
    }
}

/// Tokens. Converse counts what was read from a cache and written to one apart from `inputTokens`.
pub fn usage(usage: &Value) -> Usage {
    let count = |key: &str| sse::tokens(usage.get(key));
    let (cached_tokens, cache_write_tokens) = (count("cacheReadInputTokens"), count("cacheWriteInputTokens"));
    let writes = usage["cacheDetails"].as_array().into_iter().flatten();
    let hours = writes.filter(|write| write["ttl"] == "1h").map(|write| sse::tokens(write.get("inputTokens")));
    Usage {
        prompt_tokens: count("inputTokens").saturating_add(cached_tokens).saturating_add(cache_write_tokens),
        cached_tokens,
        cache_write_tokens,
        cache_write_1h_tokens: hours.fold(0, u64::saturating_add),
        completion_tokens: count("outputTokens"),
        ..Usage::default()
    }
}

/// An id for the answer: Converse names none within it.
pub fn new_id() -> String {
    format!("chatcmpl-{}", uuid::Uuid::now_v7().simple())
}

pub fn garbage(what: &str) -> Failure {
    Failure::new(FailureKind::Garbage, what)
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(body: &str, json: bool) -> Value {
        let asked = Asked { model: "m".into(), created: 7, json };
        serde_json::from_slice(&translate(body.as_bytes(), &asked).unwrap()).unwrap()
    }

    #[test]
    fn an_answer_with_thoughts_calls_and_cached_tokens() {
        let mut answer = read(include_str!("../../../../tests/dialects/bedrock/tools.answer.json"), false);
        assert!(answer["id"].take().as_str().is_some_and(|id| id.starts_with("chatcmpl-")));
        let expected: Value =
            serde_json::from_str(include_str!("../../../../tests/dialects/bedrock/tools.completion.json")).unwrap();
        assert_eq!(answer, expected);
    }

    #[test]
    fn a_forced_call_is_the_answer() {
        let body = r#"{"output":{"message":{"role":"assistant","content":[{"toolUse":{"toolUseId":"t","name":"json_answer","input":{"a":1}}}]}},"stopReason":"tool_use","usage":{}}"#;
        let choice = &read(body, true)["choices"][0];
        assert_eq!(choice["message"]["content"], r#"{"a":1}"#);
        assert_eq!((choice["message"].get("tool_calls"), &choice["finish_reason"]), (None, &json!("stop")));
        assert_eq!(read(body, false)["choices"][0]["finish_reason"], "tool_calls");
    }

    #[test]
    fn ends_are_told_apart() {
        let ends = ["end_turn", "stop_sequence", "model_context_window_exceeded", "guardrail_intervened"];
        assert_eq!(ends.map(|stop| finish(stop).unwrap()), ["stop", "stop", "length", "content_filter"]);
        assert!(finish("malformed_tool_use").is_err());
    }

    pub fn any_json() -> impl Strategy<Value = Value> {
        let key = prop::sample::select(vec![
            "output",
            "message",
            "content",
            "toolUse",
            "input",
            "name",
            "text",
            "stopReason",
            "usage",
            "inputTokens",
            "reasoningContent",
            "reasoningText",
            "contentBlockIndex",
            "delta",
            "start",
            "signature",
            "cacheDetails",
        ]);
        let leaf =
            prop_oneof![Just(Value::Null), any::<i64>().prop_map(Value::from), "[a-z]{0,4}".prop_map(Value::from)];
        leaf.prop_recursive(5, 40, 4, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((key.clone(), inner), 0..5)
                    .prop_map(|pairs| pairs.into_iter().map(|(key, value)| (key.to_string(), value)).collect()),
            ]
        })
    }

    proptest! {
        /// Whatever JSON comes, it is read or refused.
        #[test]
        fn no_answer_panics(content in any_json(), usage in any_json(), json: bool) {
            let asked = Asked { model: "m".into(), created: 7, json };
            let body = json!({"output": {"message": {"content": [content]}}, "stopReason": "end_turn", "usage": usage});
            prop_assert!(translate(body.to_string().as_bytes(), &asked).is_ok());
            prop_assert!(translate(usage.to_string().as_bytes(), &asked).is_err());
        }
    }
}
