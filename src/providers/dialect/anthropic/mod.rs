//! Anthropic's Messages. The base URL ends in the version (`https://api.anthropic.com/v1`); requests go to `/messages`
//! behind it. Models of different age take different parameters: `model.rs` knows which.
//!
//! Thinking comes back signed, and must be handed in again, in its place, while a turn of tool calls goes on. It is put
//! into the message as `provider_state.anthropic` (`state.rs`), which a client returns by sending the message as it got it.
//! `cache_control` on a message, a part, a tool or the whole request is passed on.

mod answer;
mod messages;
mod model;
mod options;
mod request;
mod schema;
mod state;
mod stream;
mod tools;

use super::{Asked, Dialect, Outgoing, Reader, Refusal, insert_secret};
use crate::chat::{ChatRequest, Needs};
use crate::config::HttpProvider;
use crate::providers::{Failure, FailureKind};
use bytes::Bytes;
use reqwest::header::{HeaderName, HeaderValue};
use serde_json::Value;

/// The version of the API that this dialect was written for.
const VERSION: &str = "2023-06-01";

/// The tool through which a model without structured output of its own answers in JSON.
const ANSWER_TOOL: &str = "answer_in_json";

/// Anthropic's dialect.
pub struct Anthropic {
    version: String,
}

impl Anthropic {
    pub fn new(config: &HttpProvider) -> Self {
        Anthropic { version: config.api_version.clone().unwrap_or_else(|| VERSION.into()) }
    }
}

impl Dialect for Anthropic {
    fn impossible(&self, needs: &Needs) -> Option<&'static str> {
        [
            (needs.several_answers, "Anthropic gives one answer (`n`)"),
            (needs.logprobs, "Anthropic tells no probabilities (`logprobs`)"),
            (needs.audio, "Anthropic takes no sound (`input_audio`)"),
            (needs.spoken_answer, "Anthropic does not speak (`modalities`)"),
            (needs.other_tools, "of tools, only functions can be put to Anthropic (`tools`)"),
            (needs.uploaded_files, "a file uploaded elsewhere is unknown to Anthropic (`file_id`)"),
        ]
        .into_iter()
        .find_map(|(asked, reason)| asked.then_some(reason))
    }

    fn request(&self, request: &ChatRequest, model: &str) -> Result<Outgoing, Failure> {
        let typed = request.typed().map_err(|error| Failure::new(FailureKind::Refused, error.to_string()))?;
        let (body, warnings) = request::body(&typed, model)?;
        Ok(Outgoing { path: "/messages".into(), body, headers: Vec::new(), warnings })
    }

    fn sign(&self, request: &mut reqwest::Request, config: &HttpProvider) -> Result<(), Failure> {
        let version = HeaderValue::from_str(&self.version).map_err(|_| {
            Failure::new(FailureKind::Misconfigured, "its api_version holds characters that no header may hold")
        })?;
        request.headers_mut().insert(HeaderName::from_static("anthropic-version"), version);
        match &config.key {
            Some(key) => insert_secret(request.headers_mut(), HeaderName::from_static("x-api-key"), key.reveal()),
            None => Ok(()),
        }
    }

    fn answer(&self, body: Bytes, asked: &Asked) -> Result<Bytes, Failure> {
        answer::completion(&body, asked).map(|completion| completion.bytes())
    }

    fn reader(&self, asked: &Asked) -> Option<Box<dyn Reader>> {
        Some(Box::new(stream::Stream::new(asked)))
    }

    fn refusal(&self, status: u16, body: &Value) -> Refusal {
        answer::refusal(status, body)
    }
}

#[cfg(test)]
mod tests;
