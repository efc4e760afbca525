//! What comes back: whole answers, usage, and errors.

use super::ANSWER_TOOL;
use super::state::State;
use crate::decision::Usage;
use crate::providers::dialect::wire::{Choice, Completion, unreadable};
use crate::providers::dialect::{Asked, Refusal, speaks_of_context};
use crate::providers::{Failure, FailureKind, sse};
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    id: String,
    #[serde(default)]
    model: String,
    content: Vec<Value>,
    #[serde(default)]
    stop_reason: Option<String>,
    #[serde(default)]
    stop_details: Option<Value>,
    #[serde(default)]
    usage: Value,
}

/// A whole answer in OpenAI's words.
///
/// # Errors
/// `Garbage` where it is none.
pub fn completion(body: &[u8], asked: &Asked) -> Result<Completion, Failure> {
    let answer: Answer =
        serde_json::from_slice(body).map_err(|error| unreadable("no answer of Anthropic's", &error))?;
    let mut counts = Counts::default();
    counts.merge(&answer.usage);
    let mut choice = choice(&answer.content, &asked.model);
    let spoken = choice.content.is_some() && choice.tool_calls.is_empty();
    choice.finish = match finish(answer.stop_reason.as_deref()) {
        "tool_calls" if spoken => "stop",
        finish => finish,
    };
    choice.refusal = refusal_text(answer.stop_details.as_ref());
    Ok(Completion {
        id: answer.id,
        created: asked.created,
        model: if answer.model.is_empty() { asked.model.clone() } else { answer.model },
        choices: vec![choice],
        usage: counts.usage(),
    })
}

fn choice(content: &[Value], model: &str) -> Choice {
    let (mut choice, mut state) = (Choice::default(), State::default());
    for block in content {
        let word = |name| block.get(name).and_then(Value::as_str).unwrap_or_default();
        match word("type") {
            "text" => {
                choice.content.get_or_insert_default().push_str(word("text"));
                state.text(word("text").len());
            }
            "thinking" => {
                if !word("thinking").is_empty() {
                    choice.reasoning.get_or_insert_default().push_str(word("thinking"));
                }
                state.thinking(block.clone());
            }
            "redacted_thinking" => state.thinking(block.clone()),
            "tool_use" => {
                let input = block.get("input").map_or("{}".into(), Value::to_string);
                if word("name") == ANSWER_TOOL {
                    choice.content.get_or_insert_default().push_str(&input);
                } else {
                    state.call(word("id"));
                    choice.tool_calls.push((word("id").into(), word("name").into(), input));
                }
            }
            _ => {}
        }
    }
    choice.extra = state.fields(model);
    choice
}

/// OpenAI's word for why an answer ended.
pub fn finish(reason: Option<&str>) -> &'static str {
    match reason {
        Some("max_tokens" | "model_context_window_exceeded") => "length",
        Some("tool_use") => "tool_calls",
        Some("refusal") => "content_filter",
        _ => "stop",
    }
}

/// Why the model would not answer, where it says so.
pub fn refusal_text(details: Option<&Value>) -> Option<String> {
    details?.get("explanation")?.as_str().map(String::from)
}

/// Tokens as they are told: once in a whole answer, bit by bit in a stream, where each telling is of all so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    input: u64,
    read: u64,
    written: u64,
    written_1h: u64,
    output: u64,
    thinking: u64,
}

impl Counts {
    /// Takes in one telling.
    pub fn merge(&mut self, usage: &Value) {
        let count = |path| sse::tokens(usage.pointer(path));
        let parts =
            count("/cache_creation/ephemeral_5m_input_tokens") + count("/cache_creation/ephemeral_1h_input_tokens");
        self.input = self.input.max(count("/input_tokens"));
        self.read = self.read.max(count("/cache_read_input_tokens"));
        self.written = self.written.max(count("/cache_creation_input_tokens")).max(parts);
        self.written_1h = self.written_1h.max(count("/cache_creation/ephemeral_1h_input_tokens"));
        self.output = self.output.max(count("/output_tokens"));
        self.thinking = self.thinking.max(count("/output_tokens_details/thinking_tokens"));
    }

    /// In OpenAI's reckoning, where the prompt's tokens are all of them: `input_tokens` counts only those that neither
    /// came from the cache nor went into it.
    pub fn usage(&self) -> Usage {
        Usage {
            prompt_tokens: self.input + self.read + self.written,
            cached_tokens: self.read,
            cache_write_tokens: self.written,
            cache_write_1h_tokens: self.written_1h,
            completion_tokens: self.output,
            reasoning_tokens: self.thinking,
            ..Usage::default()
        }
    }
}

/// What an error answer means.
pub fn refusal(status: u16, body: &Value) -> Refusal {
    let word = |path| body.pointer(path).and_then(Value::as_str).unwrap_or_default();
    meaning(status, word("/error/type"), word("/error/message"))
}

/// An error's meaning by its type; `status` 0 for one inside a stream.
pub fn meaning(status: u16, kind: &str, message: &str) -> Refusal {
    let says = |kind, code| Refusal { kind: Some(kind), code: Some(code), ..Refusal::default() };
    let message = message.to_lowercase();
    match kind {
        "invalid_request_error" if speaks_of_context(&message) || message.contains("exceed context limit") => {
            Refusal::too_long()
        }
        "request_too_large" => Refusal::too_long(),
        // An account without money answers as if the request were wrong.
        "invalid_request_error" if message.contains("credit balance") => {
            says(FailureKind::Misconfigured, "insufficient_quota")
        }
        "billing_error" => says(FailureKind::Misconfigured, "insufficient_quota"),
        "authentication_error" => says(FailureKind::Misconfigured, "invalid_api_key"),
        "permission_error" => says(FailureKind::Misconfigured, "permission_denied"),
        "not_found_error" => says(FailureKind::Misconfigured, "model_not_found"),
        "rate_limit_error" => says(FailureKind::Busy, "rate_limit_exceeded"),
        "overloaded_error" => says(FailureKind::Busy, "server_overloaded"),
        "timeout_error" => says(FailureKind::Timeout, "timeout"),
        "invalid_request_error" if status == 0 => says(FailureKind::Refused, "invalid_request"),
        // Other servers that speak this dialect have types of their own.
        _ if status == 400 && speaks_of_context(&message) => Refusal::too_long(),
        _ => Refusal::default(),
    }
}
