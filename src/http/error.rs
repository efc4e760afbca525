//! Errors as the client reads them: the right status, OpenAI's error shape, the cause in the log alone.

use crate::error::Error;
use axum::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Json, Response};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

/// OpenAI's error body.
#[derive(Serialize, ToSchema)]
pub struct ErrorBody {
    error: ErrorDetail,
}

/// What went wrong: all four keys are always there.
#[derive(Serialize, ToSchema)]
pub struct ErrorDetail {
    message: String,
    /// `invalid_request_error`, `rate_limit_error`, `upstream_error` or `server_error`.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The JSON path or header at fault.
    param: Option<String>,
    /// A stable word for programs.
    code: Option<String>,
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status()).unwrap_or(StatusCode::BAD_GATEWAY);
        // What happened to a forwarded request is in the one line that its record writes.
        let recorded = matches!(self, Error::Refused { .. } | Error::Upstream { .. } | Error::Busy { .. });
        if status.is_server_error() && !recorded {
            tracing::error!(status = status.as_u16(), error = %self, "request failed");
        } else if !recorded {
            tracing::info!(status = status.as_u16(), error = %self, "request refused");
        }
        if let Error::Refused { body, message, code, .. } = &self {
            return refused(status, body.as_deref().unwrap_or_default(), message, *code);
        }
        let (param, code) = match &self {
            Error::BadRequest { param, code, .. } => (param.clone(), *code),
            Error::UnknownModel { .. } => (Some("model".into()), "model_not_found"),
            Error::UnknownDecision { .. } => (None, "decision_not_found"),
            Error::Unknown { .. } => (None, "not_found"),
            Error::Conflict { code, .. } => (None, *code),
            Error::Unauthorized { .. } => (None, "invalid_api_key"),
            Error::Forbidden { .. } => (None, "admin_is_local"),
            Error::Ruled { .. } => (None, "refused_by_rule"),
            Error::NothingFits { context: true, .. } => (Some("messages".into()), "context_length_exceeded"),
            Error::NothingFits { .. } => (None, "no_deployment_fits"),
            Error::TooLarge { .. } => (None, "request_too_large"),
            Error::SlowBody { .. } => (None, "request_timeout"),
            Error::Busy { .. } => (None, "rate_limit_exceeded"),
            Error::Overloaded { .. } => (None, "server_overloaded"),
            Error::Upstream { code, .. } => (None, *code),
            _ => (None, "internal_error"),
        };
        let message = match &self {
            // Internals stay in the log.
            Error::Config { .. } | Error::Weights(_) | Error::Model(_) | Error::Io { .. } | Error::Internal(_) => {
                "Something went wrong here; the server's log says what.".into()
            }
            said => said.to_string(),
        };
        let mut response = respond(status, &message, param, code);
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Error::Busy { retry_after_s, .. } | Error::Overloaded { retry_after_s, .. } = self {
            response.headers_mut().insert(RETRY_AFTER, retry_after_s.into());
        }
        response
    }
}

/// A response in OpenAI's error shape.
pub fn respond(status: StatusCode, message: &str, param: Option<String>, code: &str) -> Response {
    body(status, message.into(), param, Some(code.into()))
}

/// A provider's own words, brought into the shape that SDKs expect (llama.cpp's `code` is a number, others have no `param`).
fn refused(status: StatusCode, said: &[u8], otherwise: &str, code: Option<&str>) -> Response {
    let said: Value = serde_json::from_slice(said).unwrap_or(Value::Null);
    let error = said.get("error").unwrap_or(&said);
    let text = |key: &str| match error.get(key) {
        Some(Value::String(text)) => Some(text.clone()),
        Some(Value::Number(number)) => Some(number.to_string()),
        _ => None,
    };
    let message = text("message")
        .or_else(|| error.as_str().map(String::from))
        .unwrap_or_else(|| format!("The provider {otherwise}."));
    body(status, message, text("param"), code.map(String::from).or_else(|| text("code")))
}

fn body(status: StatusCode, message: String, param: Option<String>, code: Option<String>) -> Response {
    let kind = match status.as_u16() {
        429 => "rate_limit_error",
        502 | 504 => "upstream_error",
        500.. => "server_error",
        _ => "invalid_request_error",
    };
    (status, Json(ErrorBody { error: ErrorDetail { message, kind, param, code } })).into_response()
}

/// The last resort: a panic is answered, logged, and takes nobody else down.
pub fn panicked(panic: Box<dyn std::any::Any + Send>) -> Response {
    let what = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("unknown");
    Error::Internal(format!("a handler panicked: {what}")).into_response()
}
