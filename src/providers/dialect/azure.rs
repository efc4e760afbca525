//! Azure OpenAI: OpenAI's own words, under another key and other addresses. Behind a base URL that ends in `/openai/v1`
//! requests go where OpenAI's would; behind any other, to the path of the deployment that the model's name is, with the
//! dated `api-version` that it asks for. Which of the two, `config/provider.rs` has settled.
//!
//! A stream begins with what the filters say of the prompt, without any choice. That is held back until the answer begins,
//! so that what fails in between can still be answered elsewhere.

use super::openai::OpenAi;
use super::{Asked, Dialect, Frame, Outgoing, Reader, Refusal, insert_secret};
use crate::chat::ChatRequest;
use crate::config::HttpProvider;
use crate::providers::{Failure, FailureKind};
use bytes::Bytes;
use reqwest::header::HeaderName;
use serde_json::Value;

/// Events held back at most; there is one.
const MAX_HELD: usize = 8;

/// Azure's dialect.
pub struct Azure {
    openai: OpenAi,
    /// Whether the base URL is of the endpoint without deployments in its path.
    undated: bool,
    api_version: Option<String>,
}

impl Azure {
    pub fn new(config: &HttpProvider) -> Self {
        Azure {
            openai: OpenAi { quirks: config.quirks.clone() },
            undated: config.base_url.ends_with("/openai/v1"),
            api_version: config.api_version.clone(),
        }
    }

    fn path(&self, deployment: &str) -> String {
        let version = self.api_version.as_deref().map(|version| format!("?api-version={}", encoded(version)));
        let version = version.unwrap_or_default();
        match self.undated {
            true => format!("/chat/completions{version}"),
            false => format!("/openai/deployments/{}/chat/completions{version}", encoded(deployment)),
        }
    }
}

impl Dialect for Azure {
    fn request(&self, request: &ChatRequest, model: &str) -> Result<Outgoing, Failure> {
        Ok(Outgoing { path: self.path(model), ..self.openai.request(request, model)? })
    }

    fn sign(&self, request: &mut reqwest::Request, config: &HttpProvider) -> Result<(), Failure> {
        match &config.key {
            Some(key) => insert_secret(request.headers_mut(), HeaderName::from_static("api-key"), key.reveal()),
            None => Ok(()),
        }
    }

    fn answer(&self, body: Bytes, asked: &Asked) -> Result<Bytes, Failure> {
        self.openai.answer(body, asked)
    }

    fn reader(&self, _: &Asked) -> Option<Box<dyn Reader>> {
        Some(Box::new(Held::default()))
    }

    fn refusal(&self, status: u16, body: &Value) -> Refusal {
        let word = |path| body.pointer(path).and_then(Value::as_str).unwrap_or_default();
        let says = |kind, code| Refusal { kind: Some(kind), code: Some(code), ..Refusal::default() };
        let filtered = word("/error/innererror/code") == "ResponsibleAIPolicyViolation";
        match (word("/error/code"), status) {
            ("content_filter", _) => says(FailureKind::Refused, "content_filter"),
            _ if filtered => says(FailureKind::Refused, "content_filter"),
            ("DeploymentNotFound", _) => says(FailureKind::Misconfigured, "model_not_found"),
            ("OperationNotSupported", _) => says(FailureKind::Misconfigured, "unsupported_model"),
            ("insufficient_quota", _) => says(FailureKind::Misconfigured, "insufficient_quota"),
            (_, 401) => says(FailureKind::Misconfigured, "invalid_api_key"),
            (_, 429) => says(FailureKind::Busy, "rate_limit_exceeded"),
            _ => self.openai.refusal(status, body),
        }
    }
}

/// A part of an address, with everything but the plainest letters as `%XX`.
fn encoded(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

/// Passes events on as they are, those before the first choice together with it.
#[derive(Default)]
struct Held {
    events: Vec<Bytes>,
    begun: bool,
}

impl Reader for Held {
    fn frame(&mut self, frame: Frame<'_>) -> Result<Vec<Bytes>, Failure> {
        self.events.push(event(frame));
        self.begun |= self.events.len() > MAX_HELD || !is_prelude(frame.data);
        Ok(if self.begun { std::mem::take(&mut self.events) } else { Vec::new() })
    }

    fn end(&mut self) -> Vec<Bytes> {
        std::mem::take(&mut self.events)
    }
}

/// Whether it says something of the prompt alone.
fn is_prelude(data: &[u8]) -> bool {
    let Ok(Value::Object(chunk)) = serde_json::from_slice(data) else { return false };
    let empty = chunk.get("choices").and_then(Value::as_array).is_some_and(Vec::is_empty);
    empty && chunk.get("usage").is_none_or(Value::is_null) && !chunk.contains_key("error")
}

/// The event as it came.
fn event(frame: Frame<'_>) -> Bytes {
    let name = frame.name.map(|name| format!("event: {name}\n")).unwrap_or_default();
    let lines = String::from_utf8_lossy(frame.data).replace('\n', "\ndata: ");
    Bytes::from(format!("{name}data: {lines}\n\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, ProviderKind, layered};
    use crate::providers::sse;

    fn provider(keys: &str) -> HttpProvider {
        let text = format!("[[provider]]\nname = \"x\"\nkind = \"azure\"\nkey = \"env:PATH\"\n{keys}");
        let config = Config::resolve("t", layered("t", &text).unwrap()).unwrap();
        match config.providers.into_iter().find(|provider| provider.name == "x").unwrap().kind {
            ProviderKind::Http(http) => http,
            ProviderKind::Local(_) => panic!("an endpoint"),
        }
    }

    /// The address a request goes to, whole.
    fn address(keys: &str, deployment: &str) -> String {
        let provider = provider(keys);
        let request = ChatRequest::from_prompt("hi").unwrap();
        format!("{}{}", provider.base_url, Azure::new(&provider).request(&request, deployment).unwrap().path)
    }

    #[test]
    fn both_endpoints_are_reached_by_resource_or_by_address() {
        let v1 = "https://acme.openai.azure.com/openai/v1/chat/completions";
        assert_eq!(address("account = \"acme\"", "gpt"), v1);
        assert_eq!(address("base_url = \"https://acme.openai.azure.com/\"", "gpt"), v1);
        let preview = "base_url = \"https://acme.openai.azure.com/openai/v1\"\napi_version = \"preview\"";
        assert_eq!(address(preview, "gpt"), format!("{v1}?api-version=preview"));
        let classic =
            "https://acme.openai.azure.com/openai/deployments/my%20gpt/chat/completions?api-version=2024-10-21";
        for base in ["account = \"acme\"", "base_url = \"https://acme.openai.azure.com/openai\""] {
            assert_eq!(address(&format!("{base}\napi_version = \"2024-10-21\""), "my gpt"), classic);
        }
    }

    #[test]
    fn the_key_is_in_azures_own_header() {
        let provider = provider("account = \"acme\"");
        let url = reqwest::Url::parse("http://127.0.0.1/").unwrap();
        let mut request = reqwest::Request::new(reqwest::Method::POST, url);
        Azure::new(&provider).sign(&mut request, &provider).unwrap();
        assert!(request.headers()["api-key"].is_sensitive() && !request.headers().contains_key("authorization"));
    }

    #[test]
    fn a_stream_begins_with_its_answer_and_keeps_its_bytes() {
        let recorded = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/dialects/azure/stream.txt"));
        let mut reader = Held::default();
        let said: Vec<Vec<Bytes>> = recorded
            .split_inclusive("\n\n")
            .map(|event| {
                reader.frame(Frame { name: None, data: &sse::frame(event.as_bytes()).unwrap().1.into_bytes() })
            })
            .collect::<Result<_, _>>()
            .unwrap();
        assert_eq!(said.iter().map(Vec::len).collect::<Vec<_>>(), [0, 2, 1, 1]);
        assert_eq!(said.concat().concat(), recorded.as_bytes());
        assert!(said.concat().iter().all(|event| !sse::read(event).error && !sse::read(event).only_usage));
        assert!(reader.end().is_empty());
    }

    #[test]
    fn errors_have_openais_codes() {
        let azure = Azure::new(&provider("account = \"acme\""));
        let filtered = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/dialects/azure/filtered.json"));
        let refusal = azure.refusal(400, &serde_json::from_str(filtered).unwrap());
        assert_eq!((refusal.kind, refusal.code), (Some(FailureKind::Refused), Some("content_filter")));
        let coded = |status, code: &str| azure.refusal(status, &serde_json::json!({"error": {"code": code}})).code;
        assert_eq!(coded(404, "DeploymentNotFound"), Some("model_not_found"));
        assert_eq!(coded(429, "429"), Some("rate_limit_exceeded"));
        assert_eq!(coded(400, "context_length_exceeded"), Some("context_length_exceeded"));
    }
}
