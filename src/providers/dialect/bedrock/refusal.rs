//! What Bedrock's errors mean, as answers and as exceptions within a stream.

use super::super::{Refusal, speaks_of_context};
use crate::providers::{Failure, FailureKind};
use bytes::Bytes;
use serde_json::{Value, json};

/// A request that has no translation.
pub fn refused(message: String) -> Failure {
    let error = json!({"error": {"message": message, "type": "invalid_request_error", "param": null, "code": "invalid_request"}});
    let body = Some(Bytes::from(error.to_string()));
    Failure {
        status: Some(400),
        body,
        code: Some("invalid_request"),
        sent: false,
        ..Failure::new(FailureKind::Refused, message)
    }
}

/// What an answer that is no success means.
pub fn of_answer(status: u16, body: &Value) -> Refusal {
    let message = words(body);
    let (kind, code) = match status {
        400 if too_long(message) => return Refusal { message: said(body), ..Refusal::too_long() },
        400 if unknown_model(message) => (Some(FailureKind::Misconfigured), Some("model_not_found")),
        403 if message.contains("access to the model") => (None, Some("model_not_found")),
        401 | 403 => (None, Some("invalid_api_key")),
        404 => (None, Some("model_not_found")),
        // ModelErrorException: the model failed, not the request.
        424 => (Some(FailureKind::Down), None),
        429 => (None, Some("rate_limit_exceeded")),
        _ => (None, None),
    };
    Refusal { kind, code, message: said(body), ..Refusal::default() }
}

/// What an exception within a stream means.
pub fn of_exception(name: &str, payload: &Value) -> Failure {
    let message = words(payload);
    let (kind, code) = match name {
        "throttlingException" | "modelNotReadyException" => (FailureKind::Busy, Some("rate_limit_exceeded")),
        "validationException" if too_long(message) => (FailureKind::TooLong, Some("context_length_exceeded")),
        "validationException" => (FailureKind::Refused, None),
        "accessDeniedException" => (FailureKind::Misconfigured, Some("invalid_api_key")),
        "resourceNotFoundException" => (FailureKind::Misconfigured, Some("model_not_found")),
        "modelTimeoutException" => (FailureKind::Timeout, None),
        _ => (FailureKind::Down, None),
    };
    let body = Some(Bytes::from(json!({"error": {"message": message}}).to_string()));
    Failure { body, code, ..Failure::new(kind, format!("streamed {name}")) }
}

/// The error's words: `message`, or with AWS's gateway before the service `Message`.
fn words(body: &Value) -> &str {
    body["message"].as_str().or(body["Message"].as_str()).unwrap_or_default()
}

fn said(body: &Value) -> Option<String> {
    Some(words(body).to_string()).filter(|message| !message.is_empty())
}

fn too_long(message: &str) -> bool {
    speaks_of_context(message) || message.to_lowercase().contains("input is too long")
}

/// Bedrock says so with the status of a mistake in the request.
fn unknown_model(message: &str) -> bool {
    ["model identifier is invalid", "on-demand throughput isn", "model ID is invalid"]
        .iter()
        .any(|words| message.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_who_is_at_fault() {
        let read = |status, message: &str| {
            let refusal = of_answer(status, &json!({"message": message}));
            assert_eq!(refusal.message.as_deref(), Some(message));
            (refusal.kind, refusal.code)
        };
        let context = (Some(FailureKind::TooLong), Some("context_length_exceeded"));
        assert_eq!(read(400, "Input is too long for requested model."), context);
        assert_eq!(
            read(400, "The model returned the following errors: prompt is too long: 9 tokens > 8 maximum"),
            context
        );
        let unknown = (Some(FailureKind::Misconfigured), Some("model_not_found"));
        assert_eq!(read(400, "The provided model identifier is invalid."), unknown);
        assert_eq!(read(400, "Malformed input request"), (None, None));
        assert_eq!(read(424, "The model failed."), (Some(FailureKind::Down), None));
        // Throttling speaks of tokens too.
        assert_eq!(read(429, "Too many tokens, please wait before trying again."), (None, Some("rate_limit_exceeded")));
        let gateway = of_answer(403, &json!({"Message": "The security token included in the request is invalid."}));
        assert_eq!((gateway.code, gateway.message.is_some()), (Some("invalid_api_key"), true));
    }
}
