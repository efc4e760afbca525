//! A chat request as Converse's body.

use super::super::wire::{Message, Request};
use super::content::{self, Block, ToolResult, ToolUse, text_block};
use super::parameters;
use super::refusal::refused;
use super::tools::{self, ToolConfig};
use crate::providers::Failure;
use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

/// Longest id of a tool call that Bedrock takes.
const MAX_CALL_ID_BYTES: usize = 64;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    messages: Vec<Turn>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    system: Vec<Block>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    inference_config: Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_config: Option<ToolConfig>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    output_config: Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_tier: Option<Value>,
    #[serde(flatten)]
    passed: Map<String, Value>,
}

/// One side's turn: Converse wants the two to alternate.
#[derive(Debug, Serialize)]
pub struct Turn {
    role: &'static str,
    pub content: Vec<Block>,
}

/// The body, and what was lost on the way.
///
/// # Errors
/// `Refused` for what has no translation.
pub fn translate(request: &Request) -> Result<(Bytes, Vec<String>), Failure> {
    let mut warnings = Vec::new();
    let (messages, system) = conversation(&request.messages, &mut warnings)?;
    let body = Body {
        tool_config: tools::config(request, &messages, &mut warnings)?,
        inference_config: parameters::inference(request, &mut warnings),
        output_config: parameters::output(request, &mut warnings),
        service_tier: parameters::service_tier(request, &mut warnings),
        passed: parameters::passed(request, &mut warnings),
        messages,
        system,
    };
    warnings.dedup();
    Ok((Bytes::from(serde_json::to_vec(&body).expect("blocks and raw JSON serialise")), warnings))
}

/// Turns and system prompt.
fn conversation(messages: &[Message], warnings: &mut Vec<String>) -> Result<(Vec<Turn>, Vec<Block>), Failure> {
    let (mut turns, mut system) = (Vec::<Turn>::new(), Vec::new());
    for message in messages {
        let (role, mut blocks) = match message.role.as_str() {
            "system" | "developer" => {
                system.extend(system_blocks(message, warnings)?);
                continue;
            }
            "assistant" => ("assistant", assistant_blocks(message, warnings)?),
            "tool" | "function" => ("user", result_blocks(message, warnings)?),
            _ => ("user", content_blocks(message, warnings)?),
        };
        if !blocks.is_empty() {
            blocks.extend(content::cache_point(message.rest.get("cache_control")).map(Block::CachePoint));
        }
        if message.name.is_some() && role == "user" && message.tool_call_id.is_none() {
            warnings.push("the name of a message is not sent".into());
        }
        match turns.last_mut() {
            Some(turn) if turn.role == role => turn.content.append(&mut blocks),
            _ if blocks.is_empty() => {}
            _ => turns.push(Turn { role, content: blocks }),
        }
    }
    begin_with_user(&mut turns, &mut system, warnings)?;
    let mut names = Vec::new();
    turns.iter_mut().for_each(|turn| content::complete_documents(&mut turn.content, &mut names));
    Ok((turns, system))
}

/// Bedrock's models want a user's turn first. A system prompt that stands alone is one.
fn begin_with_user(turns: &mut Vec<Turn>, system: &mut Vec<Block>, warnings: &mut Vec<String>) -> Result<(), Failure> {
    match turns.first() {
        Some(turn) if turn.role == "user" => {}
        Some(_) => {
            warnings.push("a user's turn was put before the assistant's first".into());
            turns.insert(0, Turn { role: "user", content: vec![Block::Text("Begin.".into())] });
        }
        None if system.is_empty() => return Err(refused("Bedrock takes no conversation without any text.".into())),
        None => turns.push(Turn { role: "user", content: std::mem::take(system) }),
    }
    Ok(())
}

fn content_blocks(message: &Message, warnings: &mut Vec<String>) -> Result<Vec<Block>, Failure> {
    message.content.as_ref().map_or(Ok(Vec::new()), |content| content::blocks(content, warnings))
}

/// Text and cache points alone.
fn system_blocks(message: &Message, warnings: &mut Vec<String>) -> Result<Vec<Block>, Failure> {
    let mut blocks = content_blocks(message, warnings)?;
    let count = blocks.len();
    blocks.retain(|block| matches!(block, Block::Text(_) | Block::CachePoint(_)));
    if blocks.len() < count {
        warnings.push("what is no text in a system prompt is left out".into());
    }
    if !blocks.is_empty() {
        blocks.extend(content::cache_point(message.rest.get("cache_control")).map(Block::CachePoint));
    }
    Ok(blocks)
}

/// What it thought, what it said, what it called, in this order: models that think want their thoughts back first.
fn assistant_blocks(message: &Message, warnings: &mut Vec<String>) -> Result<Vec<Block>, Failure> {
    let mut blocks = thoughts(message, warnings);
    let mut said = content_blocks(message, warnings)?;
    if said.is_empty() {
        said.extend(message.refusal.as_deref().and_then(text_block));
    }
    let count = said.len();
    said.retain(|block| matches!(block, Block::Text(_) | Block::CachePoint(_)));
    if said.len() < count {
        warnings.push("what is no text in an assistant's message is left out".into());
    }
    blocks.append(&mut said);
    for call in message.tool_calls.iter().flatten() {
        let Some(function) = &call.function else {
            warnings.push("a call of a tool that is no function is left out".into());
            continue;
        };
        let input = arguments(&function.arguments, warnings);
        blocks.push(Block::ToolUse(ToolUse { tool_use_id: call_id(&call.id), name: function.name.clone(), input }));
    }
    Ok(blocks)
}

/// The model's reasoning with its signature, as `answer.rs` handed it out: without a signature it cannot go back.
fn thoughts(message: &Message, warnings: &mut Vec<String>) -> Vec<Block> {
    let state = message.rest.get("provider_state");
    let own = state.and_then(|state| state.pointer("/bedrock/reasoning")).and_then(Value::as_array);
    let thoughts: Vec<Block> =
        own.into_iter().flatten().filter(|block| block.is_object()).cloned().map(Block::ReasoningContent).collect();
    let foreign = state.is_some_and(|state| state.get("bedrock").is_none());
    if thoughts.is_empty() && (foreign || message.rest.get("reasoning_content").is_some_and(|text| !text.is_null())) {
        warnings.push("reasoning that another provider signed, or nobody, is not sent back".into());
    }
    thoughts
}

/// A tool's result; the cache points within it move behind it.
fn result_blocks(message: &Message, warnings: &mut Vec<String>) -> Result<Vec<Block>, Failure> {
    let id = message.tool_call_id.as_deref().ok_or_else(|| refused("A tool's message lacks `tool_call_id`.".into()))?;
    let (points, mut content): (Vec<_>, Vec<_>) =
        content_blocks(message, warnings)?.into_iter().partition(|block| matches!(block, Block::CachePoint(_)));
    if content.is_empty() {
        content.push(Block::Text("(no output)".into()));
    }
    let mut blocks = vec![Block::ToolResult(ToolResult { tool_use_id: call_id(id), content })];
    blocks.extend(points);
    Ok(blocks)
}

/// A call's id in the letters and the length that Bedrock takes; the same for call and result.
fn call_id(id: &str) -> String {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.:-".contains(&byte);
    if (1..=MAX_CALL_ID_BYTES).contains(&id.len()) && id.bytes().all(allowed) {
        return id.into();
    }
    let digest = Sha256::digest(id.as_bytes());
    digest[..16].iter().fold("call_".to_string(), |name, byte| format!("{name}{byte:02x}"))
}

/// A call's arguments with their bytes. What is no JSON object (a call that broke off) is sent as one that quotes it.
fn arguments(text: &str, warnings: &mut Vec<String>) -> Box<RawValue> {
    let text = text.trim();
    let object = if text.is_empty() { "{}" } else { text };
    match RawValue::from_string(object.into()) {
        Ok(raw) if object.starts_with('{') => raw,
        _ => {
            warnings.push("arguments of a call that are no JSON object are quoted".into());
            serde_json::value::to_raw_value(&json!({"arguments": text})).expect("a string serialises")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(request: &str) -> (Value, Vec<String>) {
        let request = crate::chat::ChatRequest::parse(request.as_bytes()).unwrap().typed().unwrap();
        let (body, warnings) = translate(&request).unwrap();
        (serde_json::from_slice(&body).unwrap(), warnings)
    }

    macro_rules! recorded {
        ($name:literal) => {
            include_str!(concat!("../../../../tests/dialects/bedrock/", $name, ".json"))
        };
    }

    fn expected(recorded: &str) -> Value {
        serde_json::from_str(recorded).unwrap()
    }

    #[test]
    fn system_image_document_and_limits() {
        let (body, warnings) = sent(recorded!("image.request"));
        assert_eq!(body, expected(recorded!("image.converse")));
        assert_eq!(warnings, ["temperature 1.5 was limited to 1", "seed is not sent", "logit_bias is not sent"]);
    }

    #[test]
    fn parallel_calls_their_results_and_thoughts() {
        let (body, warnings) = sent(recorded!("tools.request"));
        assert_eq!(body, expected(recorded!("tools.converse")));
        assert_eq!(warnings, ["parallel_tool_calls is not sent"]);
    }

    #[test]
    fn a_schema_is_sent_byte_for_byte_and_an_object_without_one_is_a_forced_call() {
        let schema = r#"{"type":"object", "properties":{"z":{"type":"number"},"a":{"const":1.0}}}"#;
        let ask = |format: &str| {
            sent(&format!(r#"{{"messages":[{{"role":"user","content":"x"}}],"response_format":{format}}}"#)).0
        };
        let body = ask(&format!(r#"{{"type":"json_schema","json_schema":{{"name":"n","schema":{schema}}}}}"#));
        assert_eq!(
            body.pointer("/outputConfig/textFormat/structure/jsonSchema"),
            Some(&json!({"schema": schema, "name": "n"}))
        );
        assert_eq!(body.get("toolConfig"), None);
        let body = ask(r#"{"type":"json_object"}"#);
        assert_eq!(body.pointer("/toolConfig/toolChoice/tool/name"), Some(&json!("json_answer")));
    }

    #[test]
    fn turns_alternate_and_begin_with_the_user() {
        let roles = |messages: &str| {
            let (body, _) = sent(&format!(r#"{{"messages":{messages}}}"#));
            let turns = body["messages"].as_array().unwrap().clone();
            turns.iter().map(|turn| turn["role"].as_str().unwrap().to_string()).collect::<Vec<_>>()
        };
        let user = r#"{"role":"user","content":"x"}"#;
        let assistant = r#"{"role":"assistant","content":"y"}"#;
        assert_eq!(roles(&format!("[{user},{user},{assistant},{assistant},{user}]")), ["user", "assistant", "user"]);
        assert_eq!(roles(&format!("[{assistant},{user}]")), ["user", "assistant", "user"]);
        assert_eq!(roles(r#"[{"role":"system","content":"x"}]"#), ["user"]);
        let empty = crate::chat::ChatRequest::parse(br#"{"messages":[{"role":"user","content":" "}]}"#).unwrap();
        assert!(translate(&empty.typed().unwrap()).is_err());
    }

    #[test]
    fn ids_and_arguments_that_bedrock_refuses_are_mended() {
        assert_eq!(call_id("call_1:a.b-C"), "call_1:a.b-C");
        let mended = call_id("id with spaces");
        assert!(
            mended.len() <= MAX_CALL_ID_BYTES && mended == call_id("id with spaces") && mended != call_id("other id")
        );
        let mut warnings = Vec::new();
        assert_eq!(arguments("{\"a\": 1e2}", &mut warnings).get(), "{\"a\": 1e2}");
        assert_eq!((arguments("", &mut warnings).get(), warnings.len()), ("{}", 0));
        assert_eq!((arguments("{\"a\":", &mut warnings).get(), warnings.len()), (r#"{"arguments":"{\"a\":"}"#, 1));
    }
}
