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

    /// The answer as events: the role, the text, the end, the usage, `[DONE]`. Nothing goes out before the first
    /// text is there, so that what fails before can still be answered elsewhere. Usage is always told, as by an
    /// upstream that Waypost asked for it: a client that did not ask does not see it.
    pub fn events(self, pieces: Receiver<Piece>) -> impl Stream<Item = Result<Bytes, Failure>> + Send + 'static {
        futures::stream::unfold(Stage::Start(self, pieces), |stage| async move {
            match stage {
                Stage::Start(wording, mut pieces) => match next(&mut pieces).await {
                    Piece::Failed(message) => Some((Err(failed(message)), Stage::End)),
                    first => {
                        let event = wording.chunk(json!({"role": "assistant", "content": "", "refusal": null}), None);
                        Some((Ok(event), Stage::Text(wording, pieces, Some(first))))
                    }
                },
                Stage::Text(wording, mut pieces, held) => {
                    let piece = match held {
                        Some(piece) => piece,
                        None => next(&mut pieces).await,
                    };
                    match piece {
                        Piece::Text(text) => Some((
                            Ok(wording.chunk(json!({"content": text}), None)),
                            Stage::Text(wording, pieces, None),
                        )),
                        Piece::End { reason, tokens } => {
                            Some((Ok(wording.chunk(json!({}), Some(reason))), Stage::Usage(wording, tokens)))
                        }
                        Piece::Failed(message) => Some((Err(failed(message)), Stage::End)),
                    }
                }
                Stage::Usage(wording, tokens) => {
                    let usage = wording.envelope("chat.completion.chunk", Vec::new(), wording.usage(tokens));
                    Some((Ok(event(&usage)), Stage::Done))
                }
                Stage::Done => Some((Ok(Bytes::from_static(DONE)), Stage::End)),
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
    Start(Wording, Receiver<Piece>),
    Text(Wording, Receiver<Piece>, Option<Piece>),
    Usage(Wording, usize),
    Done,
    End,
}

/// The next piece that says something.
async fn next(pieces: &mut Receiver<Piece>) -> Piece {
    loop {
        match pieces.recv().await {
            Some(Piece::Text(text)) if text.is_empty() => {}
            Some(piece) => return piece,
            None => return Piece::Failed("generation ended without an end".into()),
        }
    }
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
