//! Cohere's chat, second version (`/v2/chat`). What a model says it will do before it calls tools (`tool_plan`) is an
//! answer's content here, and the content beside calls in a history is a `tool_plan` there. Counted is what Cohere bills
//! (`billed_units`): tokens that it adds itself are not paid for. Source: Cohere's API reference and OpenAPI document.

mod answer;
mod request;
mod stream;
#[cfg(test)]
mod tests;

use super::{Asked, Dialect, Outgoing, Reader, Refusal, speaks_of_context};
use crate::chat::{ChatRequest, Needs};
use crate::providers::{Failure, FailureKind};
use bytes::Bytes;
use serde_json::Value;

/// Cohere's dialect.
pub struct Cohere;

impl Dialect for Cohere {
    fn impossible(&self, needs: &Needs) -> Option<&'static str> {
        [
            (needs.several_answers, "gives one answer at a time"),
            (needs.logprobs, "gives no probabilities of tokens that OpenAI's clients could read"),
            (needs.audio, "does not listen"),
            (needs.spoken_answer, "does not speak"),
            (needs.files || needs.uploaded_files, "takes no files"),
            (needs.other_tools, "takes no tools but functions"),
        ]
        .into_iter()
        .find_map(|(needed, reason)| needed.then_some(reason))
    }

    fn request(&self, request: &ChatRequest, model: &str) -> Result<Outgoing, Failure> {
        request::outgoing(request, model)
    }

    fn answer(&self, body: Bytes, asked: &Asked) -> Result<Bytes, Failure> {
        answer::whole(&body, asked)
    }

    fn reader(&self, asked: &Asked) -> Option<Box<dyn Reader>> {
        Some(Box::new(stream::Stream::new(asked)))
    }

    fn refusal(&self, status: u16, body: &Value) -> Refusal {
        let message = body.get("message").and_then(Value::as_str).unwrap_or_default();
        match status {
            400 | 422 if speaks_of_context(message) => Refusal::too_long(),
            // 498 is Cohere's own: the key is one of those it has blocked.
            401 | 498 => Refusal::of(FailureKind::Misconfigured, "invalid_api_key"),
            404 => Refusal::of(FailureKind::Misconfigured, "model_not_found"),
            429 => Refusal::of(FailureKind::Busy, "rate_limit_exceeded"),
            // The request was cancelled on the way, by whomever.
            499 => Refusal { kind: Some(FailureKind::Down), ..Refusal::default() },
            _ => Refusal::default(),
        }
    }

    fn models(&self) -> &'static str {
        "/v1/models?endpoint=chat&page_size=1000"
    }
}
