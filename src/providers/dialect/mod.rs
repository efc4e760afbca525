//! Wire formats: what a request is called, and what an answer says, in each provider's words. A dialect is a pure
//! translator, OpenAI's chat completions in and out, tested on recorded JSON; `http.rs` does the sending. One file a
//! dialect, one set of wire types (`wire.rs`) for all.

mod anthropic;
mod azure;
mod bedrock;
mod cohere;
mod gemini;
mod loss;
mod object;
mod openai;
#[cfg(test)]
mod recorded;
pub mod wire;

use super::{Failure, FailureKind};
use crate::chat::{ChatRequest, Needs};
use crate::config::{DialectKind, HttpProvider};
use crate::providers::Call;
use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};

/// A provider's wire format.
pub trait Dialect: Send + Sync {
    /// Why such a request cannot be put into this dialect at all; `None` where it can. Asked of every candidate before
    /// the choice, so it reads nothing but what was read once.
    fn impossible(&self, _needs: &Needs) -> Option<&'static str> {
        None
    }

    /// The request for `model` in this dialect.
    ///
    /// # Errors
    /// A [`Failure`] of kind `Refused` for a request that has no translation.
    fn request(&self, request: &ChatRequest, model: &str) -> Result<Outgoing, Failure>;

    /// Puts the credentials into a request that is otherwise complete.
    ///
    /// # Errors
    /// A [`Failure`] of kind `Misconfigured` where the key cannot be used.
    fn sign(&self, request: &mut reqwest::Request, config: &HttpProvider) -> Result<(), Failure> {
        match &config.key {
            Some(key) => insert_secret(request.headers_mut(), AUTHORIZATION, &format!("Bearer {}", key.reveal())),
            None => Ok(()),
        }
    }

    /// A whole answer as OpenAI's chat completion.
    ///
    /// # Errors
    /// A [`Failure`] of kind `Garbage` for what is no answer in this dialect.
    fn answer(&self, body: Bytes, asked: &Asked) -> Result<Bytes, Failure>;

    /// A reader of one streamed answer; `None` where its events are OpenAI's own and pass through byte by byte.
    fn reader(&self, _asked: &Asked) -> Option<Box<dyn Reader>> {
        None
    }

    /// What an answer that is no success means: the kind, where the status alone tells it wrong, and OpenAI's code.
    fn refusal(&self, _status: u16, _body: &serde_json::Value) -> Refusal {
        Refusal::default()
    }

    /// Where the list of the provider's models is, behind its `base_url`.
    fn models(&self) -> &'static str {
        "/models"
    }

    /// How streamed frames are cut.
    fn framing(&self) -> Framing {
        Framing::ServerSentEvents
    }
}

/// A request in a dialect's words.
pub struct Outgoing {
    /// Put behind the provider's `base_url`.
    pub path: String,
    pub body: Bytes,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// What was lost in translation, a short clause each, for `x-waypost-warning`.
    pub warnings: Vec<String>,
}

/// What the answer's translation needs to know of the question.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The provider's name for the model.
    pub model: String,
    /// Seconds since the epoch, for `created`.
    pub created: u64,
    /// Whether the answer must be JSON.
    pub json: bool,
}

/// One frame of an upstream's stream.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// The event's name, where it has one.
    pub name: Option<&'a str>,
    pub data: &'a [u8],
}

/// Reads one streamed answer, frame by frame.
pub trait Reader: Send {
    /// What a frame says, as complete events in OpenAI's words, each ending in a blank line; none for one that says
    /// nothing to the client. After the last one comes `[DONE]` (`wire::done`).
    ///
    /// # Errors
    /// A [`Failure`] for an error frame (`Down`, `Busy`), and for what cannot be read (`Garbage`).
    fn frame(&mut self, frame: Frame<'_>) -> Result<Vec<Bytes>, Failure>;

    /// What remains to be said when the upstream ends its stream properly. A dialect whose streams have a last frame of
    /// their own says nothing here: a stream that lacks it is broken.
    fn end(&mut self) -> Vec<Bytes> {
        Vec::new()
    }
}

/// How streamed frames are cut out of the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    ServerSentEvents,
    /// AWS's binary event stream.
    AwsEventStream,
}

/// What an error answer means beyond its status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusal {
    /// In place of what the status says.
    pub kind: Option<FailureKind>,
    /// OpenAI's code for it, such as `context_length_exceeded`.
    pub code: Option<&'static str>,
    /// The provider's message, where it does not stand at `error.message` or `message`.
    pub message: Option<String>,
    /// When the provider wants to be asked again, in seconds, where the body says so and no header does.
    pub retry_after_s: Option<u64>,
}

impl Refusal {
    /// The prompt is longer than the model takes.
    pub fn too_long() -> Self {
        Refusal { kind: Some(FailureKind::TooLong), code: Some("context_length_exceeded"), ..Refusal::default() }
    }

    /// Of this kind, with OpenAI's code for it.
    pub fn of(kind: FailureKind, code: &'static str) -> Self {
        Refusal { kind: Some(kind), code: Some(code), ..Refusal::default() }
    }
}

impl Asked {
    /// What the answer to a call needs to know of it.
    pub fn of(call: &Call) -> Self {
        let created = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Asked {
            model: call.model.clone(),
            created: created.map_or(0, |since| since.as_secs()),
            json: call.request.json_schema,
        }
    }
}

/// The dialect that a provider speaks.
pub fn of(config: &HttpProvider) -> Box<dyn Dialect> {
    match config.dialect {
        DialectKind::OpenAi => Box::new(openai::OpenAi { quirks: config.quirks.clone() }),
        DialectKind::Anthropic => Box::new(anthropic::Anthropic::new(config)),
        DialectKind::Azure => Box::new(azure::Azure::new(config)),
        DialectKind::Gemini => Box::new(gemini::Gemini),
        DialectKind::Cohere => Box::new(cohere::Cohere),
        DialectKind::Bedrock => Box::new(bedrock::Bedrock),
    }
}

/// Whether an error's words say that the prompt is longer than the model takes, as providers without a code of their own
/// put it.
pub fn speaks_of_context(message: &str) -> bool {
    let message = message.to_lowercase();
    [
        "context length",
        "context window",
        "maximum context",
        // llama.cpp's server.
        "context size",
        "prompt is too long",
        "too many tokens",
        "input token count",
    ]
    .iter()
    .any(|words| message.contains(words))
}

/// A header whose value no log shows.
///
/// # Errors
/// `Misconfigured` where it holds what no header may hold.
pub fn insert_secret(headers: &mut HeaderMap, name: HeaderName, value: &str) -> Result<(), Failure> {
    let mut value = HeaderValue::from_str(value).map_err(|_| {
        Failure::new(FailureKind::Misconfigured, "its key holds characters that no header may hold".to_string())
    })?;
    value.set_sensitive(true);
    headers.insert(name, value);
    Ok(())
}
