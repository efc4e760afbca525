//! OpenAI's chat completions: bytes pass through untouched in both directions, but for what a provider's quirks demand.

use super::{Asked, Dialect, Outgoing, Refusal};
use crate::chat::ChatRequest;
use crate::config::Quirks;
use crate::providers::Failure;
use bytes::Bytes;
use serde_json::Value;

/// OpenAI's own dialect.
pub struct OpenAi {
    pub quirks: Quirks,
}

impl Dialect for OpenAi {
    fn request(&self, request: &ChatRequest, model: &str) -> Result<Outgoing, Failure> {
        let (body, dropped) = request.body_for(model, &self.quirks);
        let warnings = match dropped.as_slice() {
            [] => Vec::new(),
            names => vec![format!("not sent, as this provider does not take it: {}", names.join(", "))],
        };
        Ok(Outgoing { path: "/chat/completions".into(), body, headers: Vec::new(), warnings })
    }

    fn answer(&self, body: Bytes, _: &Asked) -> Result<Bytes, Failure> {
        Ok(body)
    }

    fn refusal(&self, status: u16, body: &Value) -> Refusal {
        let code = body.pointer("/error/code").and_then(Value::as_str).unwrap_or_default();
        let message = body.pointer("/error/message").and_then(Value::as_str).unwrap_or_default();
        let too_long = code == "context_length_exceeded" || status == 400 && super::speaks_of_context(message);
        if too_long { Refusal::too_long() } else { Refusal::default() }
    }
}
