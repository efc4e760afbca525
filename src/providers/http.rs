//! An endpoint on the network: sends what its dialect words, and hands back what its dialect reads.

use super::dialect::{self, Asked, Dialect, Frame, Framing, Outgoing, Reader};
use super::{Body, Call, Failure, FailureKind, Provider, Reply, frames, sse};
use crate::chat::Needs;
use crate::config::{HttpProvider, Secret};
use crate::error::{Error, Result as StartResult};
use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use futures::stream::{BoxStream, Stream, StreamExt};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use serde::Deserialize;
use std::time::Duration;
use tokio::time::{Instant, timeout, timeout_at};

/// A whole answer larger than this is not one.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// Bytes of an upstream's error body that are read and passed on.
const MAX_ERROR_BYTES: usize = 64 << 10;

/// An error's body that has not come after so long is done without: the status says enough.
const ERROR_BODY: Duration = Duration::from_secs(2);

/// Headers in which providers tell of their limits begin so; times are told by their clock.
const LIMIT_HEADERS: [&str; 5] = ["x-ratelimit", "anthropic-ratelimit", "ratelimit", "retry-after", "date"];

/// Headers in which providers name a request, the first that is there counts.
const REQUEST_IDS: [&str; 4] = ["x-request-id", "request-id", "x-amzn-requestid", "apim-request-id"];

/// An endpoint and its dialect.
pub struct Http {
    config: HttpProvider,
    dialect: Box<dyn Dialect>,
    client: reqwest::Client,
}

/// A provider's models: OpenAI's list is `data`, of ids; that of Google and Cohere is `models`, of names.
#[derive(Deserialize)]
struct ModelList {
    data: Option<Vec<Model>>,
    models: Option<Vec<Model>>,
}

#[derive(Deserialize)]
struct Model {
    id: Option<String>,
    name: Option<String>,
}

impl ModelList {
    /// The names; `None` where there is no list.
    fn names(self) -> Option<Vec<String>> {
        let name = |model: Model| model.id.or(model.name);
        let plain = |name: String| name.strip_prefix("models/").map(String::from).unwrap_or(name);
        Some(self.data.or(self.models)?.into_iter().filter_map(name).map(plain).collect())
    }
}

impl Http {
    /// Prepares connections to the endpoint; nothing is sent yet.
    ///
    /// # Errors
    /// [`Error::Internal`] when TLS cannot be set up.
    pub fn new(name: &str, config: HttpProvider) -> StartResult<Self> {
        let client = reqwest::Client::builder()
            .connect_timeout(config.connect_timeout)
            .read_timeout(config.idle_timeout.max(config.first_byte_timeout))
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| Error::Internal(format!("provider `{name}`: {}", chain(&error))))?;
        let dialect = dialect::of(&config);
        Ok(Http { config, dialect, client })
    }

    /// The models the endpoint offers.
    ///
    /// # Errors
    /// A [`Failure`] when it cannot be reached, refuses, or sends something else.
    pub async fn models(&self) -> Result<Vec<String>, Failure> {
        let limit = self.config.connect_timeout * 3;
        let list = async {
            let url = format!("{}{}", self.config.base_url, self.dialect.models());
            let mut request = self.client.get(url).build().map_err(unreachable)?;
            self.dialect.sign(&mut request, &self.config)?;
            let response = self.client.execute(request).await.map_err(unreachable)?;
            if !response.status().is_success() {
                return Err(self.rejected(response).await);
            }
            let body = read_bounded(response, MAX_ANSWER_BYTES).await?;
            let list: ModelList = serde_json::from_slice(&body)
                .map_err(|error| Failure::new(FailureKind::Garbage, format!("its model list: {error}")))?;
            list.names().ok_or_else(|| Failure::new(FailureKind::Garbage, "its model list: no list"))
        };
        timeout(limit, list)
            .await
            .unwrap_or_else(|_| Err(Failure::new(FailureKind::Timeout, "its model list did not come in time")))
    }

    /// A provider that repeats our key in its error body must not hand it to the client. AWS repeats what it signed,
    /// a session token among it.
    fn without_key(&self, failure: Failure) -> Failure {
        let aws = self.config.aws.iter().flat_map(|keys| {
            [Some(&keys.access_key), Some(&keys.secret_key), keys.session_token.as_ref()].into_iter().flatten()
        });
        let secrets: Vec<&str> = self.config.key.iter().chain(aws).map(Secret::reveal).collect();
        let hide = |body: Bytes| match String::from_utf8_lossy(&body) {
            text if secrets.iter().any(|secret| text.contains(secret)) => {
                Bytes::from(secrets.iter().fold(text.into_owned(), |text, secret| text.replace(secret, "[key]")))
            }
            _ => body.clone(),
        };
        Failure { body: failure.body.map(hide), ..failure }
    }

    async fn post(&self, call: &Call) -> Result<Reply, Failure> {
        // What this dialect cannot say never leaves; another may say it.
        let outgoing = self.dialect.request(&call.request, &call.model);
        let outgoing = outgoing.map_err(|failure| Failure { sent: false, ..failure })?;
        let Outgoing { path, body, headers, warnings } = outgoing;
        let url = format!("{}{path}", self.config.base_url);
        let mut request = self.client.post(url).body(body).build().map_err(unreachable)?;
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        request.headers_mut().extend(headers);
        self.dialect.sign(&mut request, &self.config)?;
        // One limit for all that comes before the first event with data, or for the whole answer.
        let first = Instant::now() + self.config.first_byte_timeout;
        let in_time = || late(self.config.first_byte_timeout);
        let response = timeout_at(first, self.client.execute(request)).await.map_err(|_| in_time())?;
        let response = response.map_err(unreachable)?;
        if !response.status().is_success() {
            return Err(self.without_key(self.rejected(response).await));
        }
        let (request_id, limits) = (request_id(response.headers()), limits(response.headers()));
        let asked = Asked::of(call);
        let body = match call.request.stream {
            true => Body::Events(self.events(response, &asked, first)?),
            false => {
                let whole = timeout_at(first, read_bounded(response, MAX_ANSWER_BYTES));
                Body::Whole(self.dialect.answer(whole.await.map_err(|_| in_time())??, &asked)?)
            }
        };
        Ok(Reply { body, request_id, limits, warnings })
    }

    /// The stream's events in OpenAI's words; the first with data must come until `first`.
    fn events(
        &self,
        response: reqwest::Response,
        asked: &Asked,
        first: Instant,
    ) -> Result<BoxStream<'static, Result<Bytes, Failure>>, Failure> {
        let framing = self.dialect.framing();
        let expected = match framing {
            Framing::ServerSentEvents => "text/event-stream",
            Framing::AwsEventStream => "application/vnd.amazon.eventstream",
        };
        let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if !kind.starts_with(expected) {
            return Err(Failure::new(FailureKind::Garbage, format!("a stream was asked for, `{kind}` came")));
        }
        let frames = match framing {
            Framing::ServerSentEvents => sse::events(chunks(response)),
            Framing::AwsEventStream => frames::events(chunks(response)),
        };
        let patience = Patience { first: self.config.first_byte_timeout, idle: self.config.idle_timeout };
        let frames = paced(frames, first, patience);
        Ok(match self.dialect.reader(asked) {
            None => frames,
            Some(reader) => translated(frames, reader),
        })
    }

    /// An answer that is no success.
    async fn rejected(&self, response: reqwest::Response) -> Failure {
        let status = response.status().as_u16();
        let limits = limits(response.headers());
        let header = |name: &str| response.headers().get(name)?.to_str().ok().map(String::from);
        let retry_after_s = crate::limits::retry_after(header).map(|after| after.as_secs_f64().ceil() as u64);
        let body = timeout(ERROR_BODY, read_bounded(response, MAX_ERROR_BYTES)).await.ok().and_then(Result::ok);
        let said = body.as_deref().and_then(|body| serde_json::from_slice(body).ok()).unwrap_or_default();
        let refusal = self.dialect.refusal(status, &said);
        let kind = refusal.kind.unwrap_or(match status {
            401..=404 => FailureKind::Misconfigured,
            408 | 504 => FailureKind::Timeout,
            429 | 529 => FailureKind::Busy,
            400..=499 => FailureKind::Refused,
            300..=399 => FailureKind::Misconfigured,
            _ => FailureKind::Down,
        });
        let message = match kind {
            FailureKind::Misconfigured => format!("answered {status}: check its base_url, key and model name"),
            _ => format!("answered {status}"),
        };
        let retry_after_s = retry_after_s.or(refusal.retry_after_s);
        let body = match refusal.message {
            Some(message) => Some(Bytes::from(serde_json::json!({"error": {"message": message}}).to_string())),
            None => body,
        };
        Failure { status: Some(status), retry_after_s, body, code: refusal.code, limits, ..Failure::new(kind, message) }
    }
}

impl Provider for Http {
    fn send(&self, call: Call) -> BoxFuture<'_, Result<Reply, Failure>> {
        Box::pin(async move { self.post(&call).await })
    }

    fn impossible(&self, needs: &Needs) -> Option<&'static str> {
        self.dialect.impossible(needs)
    }
}

/// What a dialect's reader makes of the frames, an event at a time. The first event says no more than that an answer
/// begins: it waits for the next, so that an error in its place is still one before the first byte. What an upstream says
/// of an error inside a stream may repeat credentials, and stays here.
fn translated(
    frames: BoxStream<'static, Result<Bytes, Failure>>,
    reader: Box<dyn Reader>,
) -> BoxStream<'static, Result<Bytes, Failure>> {
    struct Read {
        reader: Box<dyn Reader>,
        /// The first event, until there is another.
        first: Option<Vec<Bytes>>,
        failed: bool,
    }
    let said = frames.map(Some).chain(futures::stream::iter([None]));
    let read = said.scan(Read { reader, first: Some(Vec::new()), failed: false }, |read, frame| {
        if read.failed {
            return futures::future::ready(None);
        }
        let ended = frame.is_none();
        let events = match frame {
            Some(Ok(bytes)) => match sse::frame(&bytes) {
                Some((name, data)) => read.reader.frame(Frame { name: name.as_deref(), data: data.as_bytes() }),
                None => Ok(Vec::new()),
            },
            Some(Err(failure)) => Err(failure),
            None => Ok(read.reader.end()),
        };
        let mut events: Vec<_> = match events {
            Ok(events) => events.into_iter().map(Ok).collect(),
            Err(failure) => {
                read.failed = true;
                vec![Err(Failure { body: None, ..failure })]
            }
        };
        if let Some(mut first) = read.first.take() {
            first.extend(events.extract_if(.., |event| event.is_ok()).flatten());
            match first.len() {
                0 | 1 if !ended && !read.failed => read.first = Some(first),
                0 | 1 if read.failed => {}
                _ => {
                    events.splice(0..0, first.into_iter().map(Ok));
                }
            }
        }
        futures::future::ready(Some(futures::stream::iter(events)))
    });
    read.flatten().boxed()
}

/// The provider's own name for this request.
fn request_id(headers: &HeaderMap) -> Option<String> {
    REQUEST_IDS.iter().find_map(|name| headers.get(*name)?.to_str().ok()).map(String::from)
}

/// What the provider says of its limits.
fn limits(headers: &HeaderMap) -> Vec<(String, String)> {
    let told = headers.iter().filter(|(name, _)| LIMIT_HEADERS.iter().any(|start| name.as_str().starts_with(start)));
    told.filter_map(|(name, value)| Some((name.as_str().to_string(), value.to_str().ok()?.to_string()))).collect()
}

/// The body's chunks.
fn chunks(response: reqwest::Response) -> impl Stream<Item = Result<Bytes, Failure>> + Send + 'static {
    response.bytes_stream().map(|chunk| chunk.map_err(|error| broke(&error)))
}

/// How long a stream may be silent.
#[derive(Clone, Copy)]
struct Patience {
    /// Until the first event with data.
    first: Duration,
    /// Between two events after it.
    idle: Duration,
}

/// Complete events, with a limit on waiting for each: bytes that make no event are no sign of life. The first with data
/// must come until `first`; after it a comment counts as well, by which upstreams say that they still think.
fn paced(
    frames: BoxStream<'static, Result<Bytes, Failure>>,
    first: Instant,
    patience: Patience,
) -> BoxStream<'static, Result<Bytes, Failure>> {
    let waiting = Some((frames, Some(first)));
    futures::stream::unfold(waiting, move |waiting| async move {
        let (mut frames, first) = waiting?;
        let until = first.unwrap_or_else(|| Instant::now() + patience.idle);
        match timeout_at(until, frames.next()).await {
            Ok(Some(Ok(frame))) => {
                let first = first.filter(|_| sse::frame(&frame).is_none());
                Some((Ok(frame), Some((frames, first))))
            }
            Ok(Some(Err(failure))) => Some((Err(failure), None)),
            Ok(None) => None,
            Err(_) => Some((Err(late(if first.is_some() { patience.first } else { patience.idle })), None)),
        }
    })
    .boxed()
}

async fn read_bounded(response: reqwest::Response, limit: usize) -> Result<Bytes, Failure> {
    let mut body = BytesMut::new();
    let mut source = response.bytes_stream();
    while let Some(chunk) = source.next().await {
        body.extend_from_slice(&chunk.map_err(|error| broke(&error))?);
        if body.len() > limit {
            return Err(Failure::new(FailureKind::Garbage, format!("an answer of more than {limit} bytes")));
        }
    }
    Ok(body.freeze())
}

fn unreachable(error: reqwest::Error) -> Failure {
    let kind = if error.is_timeout() { FailureKind::Timeout } else { FailureKind::Down };
    Failure { sent: !error.is_connect(), ..Failure::new(kind, chain(&error)) }
}

fn broke(error: &reqwest::Error) -> Failure {
    let kind = if error.is_timeout() { FailureKind::Timeout } else { FailureKind::Down };
    Failure::new(kind, format!("the connection broke: {}", chain(error)))
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
