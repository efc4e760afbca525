//! Words the local model's pieces as OpenAI's chat completion, whole or as events.

use super::engine::{FinishReason, Piece};
use super::{Failure, FailureKind};
use crate::providers::sse::DONE;
use bytes::Bytes;
use futures::stream::Stream;
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc::Receiver;

/// What all chunks of one answer have in common.
pub struct Wording {
    id: String,
    created: u64,
    model: String,
    prompt_tokens: usize,
    include_usage: bool,
}

impl Wording {
    /// The wording of one answer by `model`.
    pub fn new(model: &str, prompt_tokens: usize, include_usage: bool) -> Self {
        let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Wording {
            id: format!("chatcmpl-{}", uuid::Uuid::now_v7().simple()),
            created,
            model: model.into(),
            prompt_tokens,
            include_usage,
        }
    }

    /// The answer as one JSON object.
    pub async fn whole(&self, mut pieces: Receiver<Piece>) -> Result<Bytes, Failure> {
        let mut content = String::new();
        while let Some(piece) = pieces.recv().await {
            match piece {
                Piece::Text(text) => content.push_str(&text),
                Piece::Failed(message) => return Err(failed(message)),
                Piece::End { reason, tokens } => {
                    let message = json!({"role": "assistant", "content": content, "refusal": null, "annotations": []});
                    let choice =
                        json!({"index": 0, "message": message, "logprobs": null, "finish_reason": word(reason)});
                    let completion = self.envelope("chat.completion", vec![choice], self.usage(tokens));
                    return Ok(Bytes::from(completion.to_string()));
                }
            }
        }
        Err(failed("generation ended without an end".into()))
    }

    /// The answer as events: the role, the text, the end, the usage if asked for, `[DONE]`.
    pub fn events(self, pieces: Receiver<Piece>) -> impl Stream<Item = Result<Bytes, Failure>> + Send + 'static {
        futures::stream::unfold(Stage::Role(self, pieces), |stage| async move {
            match stage {
                Stage::Role(wording, pieces) => {
                    let event = wording.chunk(json!({"role": "assistant", "content": "", "refusal": null}), None);
                    Some((Ok(event), Stage::Text(wording, pieces)))
                }
                Stage::Text(wording, mut pieces) => loop {
                    match pieces.recv().await {
                        Some(Piece::Text(text)) if text.is_empty() => {}
                        Some(Piece::Text(text)) => {
                            return Some((
                                Ok(wording.chunk(json!({"content": text}), None)),
                                Stage::Text(wording, pieces),
                            ));
                        }
                        Some(Piece::End { reason, tokens }) => {
                            return Some((Ok(wording.chunk(json!({}), Some(reason))), Stage::Usage(wording, tokens)));
                        }
                        Some(Piece::Failed(message)) => return Some((Err(failed(message)), Stage::End)),
                        None => return Some((Err(failed("generation ended without an end".into())), Stage::End)),
                    }
                },
                Stage::Usage(wording, tokens) if wording.include_usage => {
                    let event = event(&wording.envelope("chat.completion.chunk", Vec::new(), wording.usage(tokens)));
                    Some((Ok(event), Stage::Done))
                }
                Stage::Usage(..) | Stage::Done => Some((Ok(Bytes::from_static(DONE)), Stage::End)),
                Stage::End => None,
            }
        })
    }

    fn chunk(&self, delta: Value, reason: Option<FinishReason>) -> Bytes {
        let choice = json!({"index": 0, "delta": delta, "logprobs": null, "finish_reason": reason.map(word)});
        event(&self.envelope("chat.completion.chunk", vec![choice], Value::Null))
    }

    fn envelope(&self, object: &str, choices: Vec<Value>, usage: Value) -> Value {
        let mut envelope = json!({"id": self.id, "object": object, "created": self.created, "model": self.model, "system_fingerprint": null, "choices": choices});
        if !usage.is_null() || (self.include_usage && object.ends_with("chunk")) {
            envelope["usage"] = usage;
        }
        envelope
    }

    fn usage(&self, completion_tokens: usize) -> Value {
        json!({"prompt_tokens": self.prompt_tokens, "completion_tokens": completion_tokens, "total_tokens": self.prompt_tokens + completion_tokens})
    }
}

enum Stage {
    Role(Wording, Receiver<Piece>),
    Text(Wording, Receiver<Piece>),
    Usage(Wording, usize),
    Done,
    End,
}

fn event(value: &Value) -> Bytes {
    Bytes::from(format!("data: {value}\n\n"))
}

fn word(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop => "stop",
        FinishReason::Length => "length",
    }
}

fn failed(message: String) -> Failure {
    Failure::new(FailureKind::Down, format!("the local model failed: {message}"))
}
