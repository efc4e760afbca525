//! Any endpoint that speaks OpenAI's chat completions. Bytes pass through untouched in both directions.

use super::{Body, Call, Failure, FailureKind, Provider, Reply, sse};
use crate::config::HttpProvider;
use crate::error::{Error, Result as StartResult};
use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use futures::stream::{Stream, StreamExt};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use serde::Deserialize;
use std::time::Duration;

/// A whole answer larger than this is not one.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// Bytes of an upstream's error body that are read and passed on.
const MAX_ERROR_BYTES: usize = 64 << 10;

/// An OpenAI-compatible endpoint.
pub struct OpenAi {
    config: HttpProvider,
    client: reqwest::Client,
}

#[derive(Deserialize)]
struct ModelList {
    data: Vec<Model>,
}

#[derive(Deserialize)]
struct Model {
    id: String,
}

impl OpenAi {
    /// Prepares connections to the endpoint; nothing is sent yet.
    ///
    /// # Errors
    /// [`Error::Internal`] when the key cannot stand in a header or TLS cannot be set up.
    pub fn new(name: &str, config: HttpProvider) -> StartResult<Self> {
        let mut headers = HeaderMap::new();
        if let Some(key) = &config.key {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", key.reveal())).map_err(|_| {
                Error::Internal(format!("provider `{name}`: its key holds characters that no header may hold"))
            })?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let client = reqwest::Client::builder()
            .default_headers(headers)
            .connect_timeout(config.connect_timeout)
            .read_timeout(config.idle_timeout.max(config.first_byte_timeout))
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| Error::Internal(format!("provider `{name}`: {}", chain(&error))))?;
        Ok(OpenAi { config, client })
    }

    /// The models the endpoint offers.
    ///
    /// # Errors
    /// A [`Failure`] when it cannot be reached, refuses, or sends something else.
    pub async fn models(&self) -> Result<Vec<String>, Failure> {
        let limit = self.config.connect_timeout * 3;
        let list = async {
            let response =
                self.client.get(format!("{}/models", self.config.base_url)).send().await.map_err(unreachable)?;
            if !response.status().is_success() {
                return Err(rejected(response).await);
            }
            let body = read_bounded(response, MAX_ANSWER_BYTES).await?;
            let list: ModelList = serde_json::from_slice(&body)
                .map_err(|error| Failure::new(FailureKind::Garbage, format!("its model list: {error}")))?;
            Ok(list.data.into_iter().map(|model| model.id).collect())
        };
        tokio::time::timeout(limit, list)
            .await
            .unwrap_or_else(|_| Err(Failure::new(FailureKind::Timeout, "its model list did not come in time")))
    }

    /// A provider that repeats our key in its error body must not hand it to the client.
    fn without_key(&self, failure: Failure) -> Failure {
        let Some(key) = &self.config.key else { return failure };
        let hide = |body: Bytes| match String::from_utf8_lossy(&body) {
            text if text.contains(key.reveal()) => Bytes::from(text.replace(key.reveal(), "[key]")),
            _ => body.clone(),
        };
        Failure { body: failure.body.map(hide), ..failure }
    }

    async fn post(&self, call: &Call) -> Result<Reply, Failure> {
        let body = call.request.body_for(&call.model, self.config.stream_usage);
        let sent = self
            .client
            .post(format!("{}/chat/completions", self.config.base_url))
            .header(CONTENT_TYPE, "application/json")
            .body(body)
            .send();
        let response = tokio::time::timeout(self.config.first_byte_timeout, sent)
            .await
            .map_err(|_| late(self.config.first_byte_timeout))?
            .map_err(unreachable)?;
        if !response.status().is_success() {
            return Err(self.without_key(rejected(response).await));
        }
        let request_id = response.headers().get("x-request-id").and_then(|id| id.to_str().ok()).map(String::from);
        let content_type =
            response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default().to_string();
        let body = match (call.request.stream, content_type.starts_with("text/event-stream")) {
            (true, true) => Body::Events(sse::events(chunks(response, self.config.idle_timeout))),
            (true, false) => {
                return Err(Failure::new(
                    FailureKind::Garbage,
                    format!("a stream was asked for, `{content_type}` came"),
                ));
            }
            (false, _) => {
                let whole =
                    tokio::time::timeout(self.config.first_byte_timeout, read_bounded(response, MAX_ANSWER_BYTES));
                Body::Whole(whole.await.map_err(|_| late(self.config.first_byte_timeout))??)
            }
        };
        Ok(Reply { body, request_id })
    }
}

impl Provider for OpenAi {
    fn send(&self, call: Call) -> BoxFuture<'_, Result<Reply, Failure>> {
        Box::pin(async move { self.post(&call).await })
    }
}

/// The body's chunks, with a limit on the silence between two of them.
fn chunks(response: reqwest::Response, idle: Duration) -> impl Stream<Item = Result<Bytes, Failure>> + Send + 'static {
    futures::stream::unfold(Some(response.bytes_stream().boxed()), move |source| async move {
        let mut source = source?;
        match tokio::time::timeout(idle, source.next()).await {
            Ok(Some(Ok(chunk))) => Some((Ok(chunk), Some(source))),
            Ok(Some(Err(error))) => {
                Some((Err(Failure::new(FailureKind::Down, format!("the connection broke: {}", chain(&error)))), None))
            }
            Ok(None) => None,
            Err(_) => Some((Err(late(idle)), None)),
        }
    })
}

async fn read_bounded(response: reqwest::Response, limit: usize) -> Result<Bytes, Failure> {
    let mut body = BytesMut::new();
    let mut source = response.bytes_stream();
    while let Some(chunk) = source.next().await {
        body.extend_from_slice(
            &chunk
                .map_err(|error| Failure::new(FailureKind::Down, format!("the connection broke: {}", chain(&error))))?,
        );
        if body.len() > limit {
            return Err(Failure::new(FailureKind::Garbage, format!("an answer of more than {limit} bytes")));
        }
    }
    Ok(body.freeze())
}

/// An answer that is no success.
async fn rejected(response: reqwest::Response) -> Failure {
    let status = response.status().as_u16();
    let retry_after_s = response
        .headers()
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.trim().parse().ok());
    let kind = match status {
        401..=404 => FailureKind::Misconfigured,
        408 | 504 => FailureKind::Timeout,
        429 => FailureKind::Busy,
        400..=499 => FailureKind::Refused,
        300..=399 => FailureKind::Misconfigured,
        _ => FailureKind::Down,
    };
    let message = match kind {
        FailureKind::Misconfigured => format!("answered {status}: check its base_url, key and model name"),
        _ => format!("answered {status}"),
    };
    let body = read_bounded(response, MAX_ERROR_BYTES).await.ok();
    Failure { kind, message, status: Some(status), retry_after_s, body }
}

fn unreachable(error: reqwest::Error) -> Failure {
    let kind = if error.is_timeout() { FailureKind::Timeout } else { FailureKind::Down };
    Failure::new(kind, chain(&error))
}

fn late(limit: Duration) -> Failure {
    Failure::new(FailureKind::Timeout, format!("nothing came for {} ms", limit.as_millis()))
}

/// An error and what lies beneath it, without the address, which may hold credentials.
fn chain(error: &reqwest::Error) -> String {
    let mut text = String::new();
    let mut next: Option<&dyn std::error::Error> = std::error::Error::source(error);
    while let Some(cause) = next {
        text = if text.is_empty() { cause.to_string() } else { format!("{text}: {cause}") };
        next = cause.source();
    }
    if text.is_empty() { "the request failed".into() } else { text }
}
