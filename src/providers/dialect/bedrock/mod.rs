//! Amazon Bedrock's Converse: `POST /model/{id}/converse`, streamed as `/converse-stream` in binary frames. One wire for
//! all models there; what a single model takes differently goes through `additionalModelRequestFields`.
//!
//! Source of names, limits and errors: the service model of `bedrock-runtime` (2023-09-30) in botocore 1.44.8.

mod answer;
mod content;
mod parameters;
mod refusal;
mod request;
mod sign;
mod stream;
mod tools;

use super::{Asked, Dialect, Framing, Outgoing, Reader, Refusal};
use crate::chat::{ChatRequest, Needs};
use crate::config::HttpProvider;
use crate::providers::Failure;
use bytes::Bytes;
use serde_json::Value;
use std::time::SystemTime;

/// The tool whose forced call is the answer, where a JSON object without a schema is wanted: Converse has no such mode.
const JSON_TOOL: &str = "json_answer";

/// Bedrock's Converse.
pub struct Bedrock;

impl Dialect for Bedrock {
    fn impossible(&self, needs: &Needs) -> Option<&'static str> {
        match needs {
            Needs { image_urls: true, .. } => Some("Bedrock takes images by their bytes alone, not by address"),
            Needs { several_answers: true, .. } => Some("Bedrock gives one answer a request"),
            Needs { logprobs: true, .. } => Some("Bedrock tells no probabilities of tokens"),
            Needs { spoken_answer: true, .. } => Some("Bedrock's Converse does not answer in sound"),
            Needs { uploaded_files: true, .. } => Some("Bedrock does not know files by id"),
            Needs { other_tools: true, .. } => Some("Bedrock takes functions alone as tools"),
            _ => None,
        }
    }

    fn request(&self, request: &ChatRequest, model: &str) -> Result<Outgoing, Failure> {
        let typed = request.typed().map_err(|error| refusal::refused(error.to_string()))?;
        let (body, warnings) = request::translate(&typed)?;
        let operation = if request.stream { "converse-stream" } else { "converse" };
        Ok(Outgoing { path: format!("/model/{}/{operation}", encoded(model)), body, headers: Vec::new(), warnings })
    }

    fn sign(&self, request: &mut reqwest::Request, config: &HttpProvider) -> Result<(), Failure> {
        match (&config.key, &config.aws) {
            (Some(key), _) => sign::bearer(request, key),
            (None, Some(keys)) => {
                let region = sign::region(config)?;
                sign::sign_at(request, keys, &region, SystemTime::now())
            }
            (None, None) => Ok(()),
        }
    }

    fn answer(&self, body: Bytes, asked: &Asked) -> Result<Bytes, Failure> {
        answer::translate(&body, asked)
    }

    fn reader(&self, asked: &Asked) -> Option<Box<dyn Reader>> {
        Some(Box::new(stream::ConverseStream::new(asked)))
    }

    fn refusal(&self, status: u16, body: &Value) -> Refusal {
        refusal::of_answer(status, body)
    }

    fn framing(&self) -> Framing {
        Framing::AwsEventStream
    }
}

/// A model's id as one segment of a path: an ARN holds slashes and colons.
fn encoded(model: &str) -> String {
    use std::fmt::Write;
    model.bytes().fold(String::with_capacity(model.len() + 16), |mut path, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => path.push(byte as char),
            byte => write!(path, "%{byte:02X}").expect("a string takes what is written to it"),
        }
        path
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_models_id_is_one_segment_of_the_path() {
        assert_eq!(encoded("us.amazon.nova-pro-v1:0"), "us.amazon.nova-pro-v1%3A0");
        let arn = "arn:aws:bedrock:us-east-1:123456789012:inference-profile/eu.x";
        assert_eq!(encoded(arn), "arn%3Aaws%3Abedrock%3Aus-east-1%3A123456789012%3Ainference-profile%2Feu.x");
    }

    #[test]
    fn what_converse_cannot_say_is_out_beforehand() {
        let out = |body: &str| Bedrock.impossible(&ChatRequest::parse(body.as_bytes()).unwrap().needs);
        let image = |url: &str| {
            format!(
                r#"{{"messages":[{{"role":"user","content":[{{"type":"image_url","image_url":{{"url":"{url}"}}}}]}}]}}"#
            )
        };
        assert!(out(&image("https://example.org/cat.png")).is_some_and(|why| why.contains("address")));
        assert_eq!(out(&image("data:image/png;base64,AAAA")), None);
        assert!(out(r#"{"n":2,"messages":[{"role":"user","content":"x"}]}"#).is_some());
    }
}
