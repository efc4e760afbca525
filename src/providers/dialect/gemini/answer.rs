//! What Gemini answers: a whole answer, or the part of one that a stream's frame is.

use super::super::Asked;
use super::super::wire::{Choice, Completion, unreadable};
use super::{broken, extra_content};
use crate::decision::Usage;
use crate::providers::{Failure, FailureKind, sse};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// `GenerateContentResponse`, as far as it is read.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Response {
    pub(super) candidates: Option<Vec<Candidate>>,
    pub(super) prompt_feedback: Option<Feedback>,
    pub(super) usage_metadata: Option<Value>,
    pub(super) model_version: Option<String>,
    pub(super) response_id: Option<String>,
    error: Option<Value>,
}

/// One answer.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Candidate {
    pub(super) index: Option<usize>,
    content: Option<Content>,
    pub(super) finish_reason: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Content {
    parts: Option<Vec<Part>>,
}

/// One part of it.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Part {
    pub(super) text: Option<String>,
    pub(super) thought: Option<bool>,
    pub(super) thought_signature: Option<String>,
    pub(super) function_call: Option<FunctionCall>,
}

/// A call.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct FunctionCall {
    id: Option<String>,
    pub(super) name: String,
    args: Option<Box<RawValue>>,
}

/// Why the prompt was not answered.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Feedback {
    pub(super) block_reason: Option<String>,
}

impl Response {
    /// Reads one.
    ///
    /// # Errors
    /// A [`Failure`] of kind `Garbage` for what is none, and what an error inside it means.
    pub(super) fn read(json: &[u8]) -> Result<Self, Failure> {
        let response: Response =
            serde_json::from_slice(json).map_err(|error| unreadable("no answer of Gemini's", &error))?;
        match &response.error {
            Some(error) => Err(broken(error)),
            None => Ok(response),
        }
    }

    /// Why the prompt was blocked, as a refusal in words.
    pub(super) fn blocked(&self) -> Option<String> {
        let reason = self.prompt_feedback.as_ref()?.block_reason.as_ref()?;
        Some(format!("The provider blocked the prompt: {reason}."))
    }
}

impl Candidate {
    pub(super) fn parts(&mut self) -> Vec<Part> {
        self.content.take().and_then(|content| content.parts).unwrap_or_default()
    }
}

impl FunctionCall {
    /// Its id, or one made from the answer's, where Gemini gives none: unlike any other in the conversation, and the same
    /// when the same answer is read again.
    pub(super) fn id(&self, answer: &str, choice: usize, number: usize) -> String {
        self.id.clone().filter(|id| !id.is_empty()).unwrap_or_else(|| format!("call_{answer}_{choice}_{number}"))
    }

    /// The arguments as JSON in a string. Whole answers come indented, which nobody wants inside a string.
    pub(super) fn arguments(&self) -> String {
        match self.args.as_ref().map(|args| args.get()) {
            None | Some("null") => "{}".into(),
            Some(args) if args.contains('\n') => {
                serde_json::from_str::<Value>(args).map_or_else(|_| args.to_string(), |args| args.to_string())
            }
            Some(args) => args.to_string(),
        }
    }
}

/// OpenAI's word for why an answer ended; `spoke`: it said or called something.
///
/// # Errors
/// A [`Failure`] for an answer that came to nothing because the model erred: another may do better.
pub(super) fn finish(reason: &str, calls: bool, spoke: bool) -> Result<&'static str, Failure> {
    Ok(match reason {
        "STOP" if calls => "tool_calls",
        "STOP" => "stop",
        "MAX_TOKENS" | "CONTINUATION" => "length",
        "SAFETY"
        | "RECITATION"
        | "LANGUAGE"
        | "BLOCKLIST"
        | "PROHIBITED_CONTENT"
        | "SPII"
        | "IMAGE_SAFETY"
        | "IMAGE_PROHIBITED_CONTENT"
        | "IMAGE_RECITATION"
        | "ESCALATION"
        | "MODEL_ARMOR"
        | "PUP_LIMITED_DISABLED" => "content_filter",
        // MALFORMED_FUNCTION_CALL, MISSING_THOUGHT_SIGNATURE and what may come.
        _ if calls => "tool_calls",
        _ if spoke => "stop",
        _ => {
            let reason: String = reason.chars().filter(char::is_ascii_graphic).take(40).collect();
            return Err(Failure::new(FailureKind::Garbage, format!("ended without an answer: {reason}")));
        }
    })
}

/// Tokens as Gemini counts them: what a tool of its own fetched is prompt, thoughts are paid for as answer.
pub(super) fn usage(counted: &Value) -> Usage {
    let count = |name: &str| sse::tokens(counted.get(name));
    let sound = |name: &str| {
        let kinds = counted.get(name).and_then(Value::as_array).into_iter().flatten();
        let sounds = kinds.filter(|kind| kind.get("modality").is_some_and(|modality| modality == "AUDIO"));
        sounds.map(|kind| sse::tokens(kind.get("tokenCount"))).fold(0, u64::saturating_add)
    };
    let prompt_tokens = count("promptTokenCount").saturating_add(count("toolUsePromptTokenCount"));
    let (said, thought) = (count("candidatesTokenCount"), count("thoughtsTokenCount"));
    // Some of Google's endpoints count the thoughts among the candidates; the total tells.
    let inclusive = said >= thought && count("totalTokenCount") == prompt_tokens.saturating_add(said);
    Usage {
        prompt_tokens,
        cached_tokens: count("cachedContentTokenCount"),
        audio_tokens: sound("promptTokensDetails"),
        completion_tokens: if inclusive { said } else { said.saturating_add(thought) },
        reasoning_tokens: thought,
        completion_audio_tokens: sound("candidatesTokensDetails"),
        ..Usage::default()
    }
}

/// A whole answer in OpenAI's words.
pub(super) fn whole(body: &[u8], asked: &Asked) -> Result<Bytes, Failure> {
    let mut response = Response::read(body)?;
    let blocked = response.blocked();
    let id = response.response_id.take().unwrap_or_else(|| format!("gemini-{}", asked.created));
    let candidates = response.candidates.take().unwrap_or_default();
    let mut choices = Vec::with_capacity(candidates.len());
    for (index, candidate) in candidates.into_iter().enumerate() {
        choices.push(choice(candidate, &id, index)?);
    }
    match blocked {
        Some(refusal) if choices.is_empty() => {
            choices.push(Choice { refusal: Some(refusal), finish: "content_filter", ..Choice::default() });
        }
        None if choices.is_empty() => return Err(Failure::new(FailureKind::Garbage, "an answer without candidates")),
        _ => {}
    }
    let usage = response.usage_metadata.as_ref().map(usage).unwrap_or_default();
    let model = response.model_version.unwrap_or_else(|| asked.model.clone());
    Ok(Completion { id, created: asked.created, model, choices, usage }.bytes())
}

fn choice(mut candidate: Candidate, id: &str, index: usize) -> Result<Choice, Failure> {
    let mut choice = Choice::default();
    for part in candidate.parts() {
        let signed = part.thought_signature.as_deref().map(extra);
        match (part.function_call, part.text) {
            (Some(call), _) => {
                let number = choice.tool_calls.len();
                choice.tool_calls.push((call.id(id, index, number), call.name.clone(), call.arguments()));
                choice.call_extra.push(signed.unwrap_or_default());
            }
            (None, text) => {
                let text = text.unwrap_or_default();
                let thought = part.thought == Some(true);
                let place = if thought { &mut choice.reasoning } else { &mut choice.content };
                if !text.is_empty() {
                    place.get_or_insert_default().push_str(&text);
                }
                choice.extra.extend(signed.unwrap_or_default());
            }
        }
    }
    let calls = !choice.tool_calls.is_empty();
    let reason = candidate.finish_reason.as_deref().unwrap_or("STOP");
    choice.finish = finish(reason, calls, choice.content.is_some())?;
    if choice.content.is_none() && !calls && choice.finish != "content_filter" {
        choice.content = Some(String::new());
    }
    Ok(choice)
}

fn extra(signature: &str) -> Map<String, Value> {
    Map::from_iter([("extra_content".to_string(), extra_content(signature))])
}
