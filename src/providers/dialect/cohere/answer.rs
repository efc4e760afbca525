//! What Cohere answers: a whole answer, and what is the same in a stream's.

use super::super::Asked;
use super::super::wire::{Choice, Completion, unreadable};
use crate::decision::Usage;
use crate::providers::{Failure, FailureKind, sse};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;

/// An answer, as far as it is read.
#[derive(Debug, Deserialize)]
struct Response {
    id: Option<String>,
    finish_reason: String,
    message: Message,
    usage: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Message {
    content: Option<Vec<Block>>,
    tool_plan: Option<String>,
    tool_calls: Option<Vec<Call>>,
}

/// One block of content: text, or what the model thought.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Block {
    pub(super) text: Option<String>,
    pub(super) thinking: Option<String>,
}

/// A call, or the piece of one.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Call {
    pub(super) id: Option<String>,
    pub(super) function: Called,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Called {
    pub(super) name: Option<String>,
    pub(super) arguments: Option<String>,
}

impl Call {
    /// Its id, or one made from the answer's.
    pub(super) fn id(&self, answer: &str, number: usize) -> String {
        self.id.clone().filter(|id| !id.is_empty()).unwrap_or_else(|| format!("call_{answer}_{number}"))
    }
}

/// A whole answer in OpenAI's words.
pub(super) fn whole(body: &[u8], asked: &Asked) -> Result<Bytes, Failure> {
    let response: Response =
        serde_json::from_slice(body).map_err(|error| unreadable("no answer of Cohere's", &error))?;
    let id = response.id.filter(|id| !id.is_empty()).unwrap_or_else(|| format!("cohere-{}", asked.created));
    let message = response.message;
    let mut choice = Choice { content: message.tool_plan.filter(|plan| !plan.is_empty()), ..Choice::default() };
    for block in message.content.into_iter().flatten() {
        if let Some(thought) = block.thinking.filter(|thought| !thought.is_empty()) {
            choice.reasoning.get_or_insert_default().push_str(&thought);
        }
        if let Some(text) = block.text.filter(|text| !text.is_empty()) {
            choice.content.get_or_insert_default().push_str(&text);
        }
    }
    for (number, call) in message.tool_calls.into_iter().flatten().enumerate() {
        let id = call.id(&id, number);
        let arguments = call.function.arguments.filter(|text| !text.is_empty()).unwrap_or_else(|| "{}".into());
        choice.tool_calls.push((id, call.function.name.unwrap_or_default(), arguments));
    }
    choice.finish = finish(&response.finish_reason, !choice.tool_calls.is_empty())?;
    if choice.tool_calls.is_empty() {
        choice.content.get_or_insert_default();
    }
    let usage = response.usage.as_ref().map(usage).unwrap_or_default();
    Ok(Completion { id, created: asked.created, model: asked.model.clone(), choices: vec![choice], usage }.bytes())
}

/// OpenAI's word for why an answer ended.
///
/// # Errors
/// A [`Failure`] for an answer that Cohere itself calls failed.
pub(super) fn finish(reason: &str, calls: bool) -> Result<&'static str, Failure> {
    match reason {
        "ERROR" => Err(Failure::new(FailureKind::Down, "ended its answer with an error")),
        "TIMEOUT" => Err(Failure::new(FailureKind::Timeout, "ended its answer for want of time")),
        "MAX_TOKENS" | "ERROR_LIMIT" => Ok("length"),
        "ERROR_TOXIC" => Ok("content_filter"),
        _ if calls => Ok("tool_calls"),
        _ => Ok("stop"),
    }
}

/// Tokens as Cohere bills them. Its other count (`tokens`) has those in it that it adds itself and does not charge; it
/// serves where nothing is billed, as on one's own machines.
pub(super) fn usage(counted: &Value) -> Usage {
    let units = counted.get("billed_units").filter(|units| units.get("input_tokens").is_some());
    let units = units.or_else(|| counted.get("tokens")).unwrap_or(&Value::Null);
    let prompt_tokens = sse::tokens(units.get("input_tokens"));
    Usage {
        prompt_tokens,
        cached_tokens: sse::tokens(counted.get("cached_tokens")).min(prompt_tokens),
        completion_tokens: sse::tokens(units.get("output_tokens")),
        ..Usage::default()
    }
}
