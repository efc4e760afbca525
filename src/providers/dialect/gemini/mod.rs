//! Google's Gemini API, `generateContent` and `streamGenerateContent`. Thought signatures, which Gemini wants back in the
//! next turn, are kept where Google's own OpenAI-compatible endpoint keeps them: `extra_content.google.thought_signature`
//! of a tool call, or of the message where a text carries one. Source: Google's API reference and its discovery document.

mod answer;
mod contents;
mod family;
mod request;
mod stream;
#[cfg(test)]
mod tests;

use super::{Asked, Dialect, Outgoing, Reader, Refusal, insert_secret, speaks_of_context};
use crate::chat::{ChatRequest, Needs};
use crate::config::HttpProvider;
use crate::providers::{Failure, FailureKind};
use bytes::Bytes;
use reqwest::header::HeaderName;
use serde_json::{Value, json};

/// Google's dialect.
pub struct Gemini;

impl Dialect for Gemini {
    fn impossible(&self, needs: &Needs) -> Option<&'static str> {
        [
            (needs.logprobs, "gives no probabilities of tokens"),
            (needs.spoken_answer, "does not speak in this protocol"),
            (needs.uploaded_files, "does not know files uploaded elsewhere"),
            (needs.other_tools, "takes no tools but functions"),
        ]
        .into_iter()
        .find_map(|(needed, reason)| needed.then_some(reason))
    }

    fn request(&self, request: &ChatRequest, model: &str) -> Result<Outgoing, Failure> {
        request::outgoing(request, model)
    }

    fn sign(&self, request: &mut reqwest::Request, config: &HttpProvider) -> Result<(), Failure> {
        let name = HeaderName::from_static("x-goog-api-key");
        config.key.as_ref().map_or(Ok(()), |key| insert_secret(request.headers_mut(), name, key.reveal()))
    }

    fn answer(&self, body: Bytes, asked: &Asked) -> Result<Bytes, Failure> {
        answer::whole(&body, asked)
    }

    fn reader(&self, asked: &Asked) -> Option<Box<dyn Reader>> {
        Some(Box::new(stream::Stream::new(asked)))
    }

    fn refusal(&self, status: u16, body: &Value) -> Refusal {
        refusal(status, body)
    }

    fn models(&self) -> &'static str {
        "/models?pageSize=1000"
    }
}

/// What an error means: Google's status in words says more than the HTTP status, and its details say when to come back.
fn refusal(status: u16, body: &Value) -> Refusal {
    // Some of Google's endpoints wrap the error in a list.
    let listed = body.get(0);
    let error = listed.unwrap_or(body).get("error").unwrap_or(&Value::Null);
    let text = |name: &str| error.get(name).and_then(Value::as_str).unwrap_or_default();
    let message = text("message");
    let told = listed.map(|_| message.to_string()).filter(|message| !message.is_empty());
    let refusal = match (text("status"), status) {
        ("INVALID_ARGUMENT", _) | ("", 400) if speaks_of_context(message) => Refusal::too_long(),
        _ if is_about_the_key(error, message) => Refusal::of(FailureKind::Misconfigured, "invalid_api_key"),
        // The place or the account is at fault, not the request: another provider may take it.
        ("FAILED_PRECONDITION", _) => Refusal { kind: Some(FailureKind::Misconfigured), ..Refusal::default() },
        ("NOT_FOUND", _) | (_, 404) => Refusal::of(FailureKind::Misconfigured, "model_not_found"),
        ("RESOURCE_EXHAUSTED", _) | (_, 429) => {
            Refusal { retry_after_s: retry_delay(error), ..Refusal::of(FailureKind::Busy, "rate_limit_exceeded") }
        }
        ("UNAVAILABLE", _) if message.contains("overloaded") => {
            Refusal { kind: Some(FailureKind::Busy), ..Refusal::default() }
        }
        ("DEADLINE_EXCEEDED", _) => Refusal { kind: Some(FailureKind::Timeout), ..Refusal::default() },
        _ => Refusal::default(),
    };
    Refusal { message: told, ..refusal }
}

/// A wrong key is a 400 here, which elsewhere means a wrong request.
fn is_about_the_key(error: &Value, message: &str) -> bool {
    details(error).any(|detail| detail.get("reason").is_some_and(|reason| reason == "API_KEY_INVALID"))
        || message.starts_with("API key not valid")
        || message.starts_with("API key expired")
}

/// Seconds until Google wants to be asked again, rounded up: it says "34.07s".
fn retry_delay(error: &Value) -> Option<u64> {
    let delay = details(error).find_map(|detail| detail.get("retryDelay")?.as_str())?;
    let seconds: f64 = delay.strip_suffix('s')?.parse().ok()?;
    (seconds >= 0.0).then_some(seconds.ceil() as u64)
}

fn details(error: &Value) -> impl Iterator<Item = &Value> {
    error.get("details").and_then(Value::as_array).into_iter().flatten()
}

/// An error inside a stream.
fn broken(error: &Value) -> Failure {
    let status = error.get("code").and_then(Value::as_u64).and_then(|code| u16::try_from(code).ok()).unwrap_or(500);
    let refusal = refusal(status, &json!({"error": error}));
    let kind = refusal.kind.unwrap_or(if status < 500 { FailureKind::Refused } else { FailureKind::Down });
    let message = format!("its stream ended with an error {status}");
    Failure { code: refusal.code, retry_after_s: refusal.retry_after_s, ..Failure::new(kind, message) }
}

/// Where thought signatures are kept.
fn extra_content(signature: &str) -> Value {
    json!({"google": {"thought_signature": signature}})
}
