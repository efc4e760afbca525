//! The conversation as Gemini's `contents`: turns of `user` and `model`, made of parts. Consecutive messages of a kind
//! become one turn, as Gemini wants all results of parallel calls in one.

use super::super::loss::Losses;
use super::super::object::{Object, object};
use super::super::wire::{Content, File, Message, Part, ToolCall, data_url};
use super::family::Family;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::collections::HashMap;

/// In place of a signature that another provider's answer cannot have: Google's own words for a history made elsewhere.
const NO_SIGNATURE: &str = "skip_thought_signature_validator";

/// A conversation.
#[derive(Default)]
pub(super) struct Contents {
    /// Parts of `systemInstruction`.
    pub(super) system: Vec<Object>,
    pub(super) turns: Vec<Turn>,
}

/// One turn.
#[derive(Serialize)]
pub(super) struct Turn {
    role: &'static str,
    parts: Vec<Object>,
    #[serde(skip)]
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    User,
    Results,
    Model,
}

impl Contents {
    pub(super) fn of(messages: &[Message], family: Family, losses: &mut Losses) -> Self {
        let mut contents = Contents::default();
        let mut names = HashMap::new();
        let asked_last = messages.iter().rposition(|message| message.role == "user");
        for (at, message) in messages.iter().enumerate() {
            match message.role.as_str() {
                "system" | "developer" => contents.system.extend(content(message, losses)),
                "assistant" => {
                    let calls = message.tool_calls.as_deref().unwrap_or_default();
                    names.extend(calls.iter().filter_map(|call| Some((call.id.as_str(), called(call)?))));
                    // Google checks the signatures of what was called since the user spoke last, and no others.
                    let checked = family.is_third() && Some(at) > asked_last;
                    contents.push(Kind::Model, spoken(message, checked, losses));
                }
                "tool" | "function" => contents.push(Kind::Results, result(message, &names, losses)),
                _ => contents.push(Kind::User, content(message, losses)),
            }
        }
        contents.with_a_turn()
    }

    fn push(&mut self, kind: Kind, parts: Vec<Object>) {
        match self.turns.last_mut() {
            Some(turn) if turn.kind == kind => turn.parts.extend(parts),
            _ if parts.is_empty() => {}
            _ => self.turns.push(Turn { role: if kind == Kind::Model { "model" } else { "user" }, parts, kind }),
        }
    }

    /// Gemini refuses a request without a turn: then the system prompt is what the user says.
    fn with_a_turn(mut self) -> Self {
        if self.turns.is_empty() {
            let parts = std::mem::take(&mut self.system);
            self.push(Kind::User, parts);
        }
        self
    }
}

/// A part of text.
pub(super) fn text(text: &str) -> Object {
    Object::default().with("text", text)
}

/// The content's parts; what is empty is left out, since Gemini refuses a part without data.
fn content(message: &Message, losses: &mut Losses) -> Vec<Object> {
    match &message.content {
        None => Vec::new(),
        Some(Content::Text(words)) if words.is_empty() => Vec::new(),
        Some(Content::Text(words)) => vec![text(words)],
        Some(Content::Parts(parts)) => parts.iter().filter_map(|part| one(part, losses)).collect(),
    }
}

fn one(part: &Part, losses: &mut Losses) -> Option<Object> {
    if let Some(words) = part.text.as_deref().or(part.refusal.as_deref()) {
        return (!words.is_empty()).then(|| text(words));
    }
    if let Some(image) = &part.image_url {
        let detail = image.detail.as_deref().unwrap_or("auto");
        losses.lost_if(detail != "auto", "image_url.detail");
        return Some(media(&image.url));
    }
    if let Some(sound) = &part.input_audio {
        return Some(inline(&format!("audio/{}", sound.format), &sound.data));
    }
    let found = part.file.as_ref().and_then(file);
    losses.lost_if(found.is_none(), &format!("content of type {}", part.kind));
    found
}

/// A file inside the request; some clients send its base64 without the head of a data URL.
fn file(file: &File) -> Option<Object> {
    let data = file.file_data.as_deref()?;
    let addressed = ["data:", "https://", "http://", "gs://"].iter().any(|scheme| data.starts_with(scheme));
    let name = file.filename.as_deref().unwrap_or_default();
    Some(if addressed { media(data) } else { inline(media_type(name).unwrap_or("application/pdf"), data) })
}

/// What a data URL holds, or what Google is to fetch itself.
fn media(url: &str) -> Object {
    if let Some((kind, data)) = data_url(url) {
        return inline(kind, data);
    }
    let mut data = Object::default().with("fileUri", url);
    data.put_some("mimeType", media_type(url));
    Object::default().with("fileData", data)
}

fn inline(kind: &str, data: &str) -> Object {
    Object::default().with("inlineData", Object::default().with("mimeType", kind).with("data", data))
}

/// The media type by the name's ending: Gemini asks for it beside an address.
fn media_type(name: &str) -> Option<&'static str> {
    let path = name.split(['?', '#']).next()?;
    let (_, ending) = path.rsplit_once('.')?;
    Some(match ending.to_ascii_lowercase().as_str() {
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "webp" => "image/webp",
        "gif" => "image/gif",
        "heic" => "image/heic",
        "pdf" => "application/pdf",
        "txt" | "md" => "text/plain",
        "html" => "text/html",
        "csv" => "text/csv",
        "wav" => "audio/wav",
        "mp3" => "audio/mp3",
        "mp4" => "video/mp4",
        _ => return None,
    })
}

/// What the model said and called. Where signatures are `checked`, calls made elsewhere need a word in their place.
fn spoken(message: &Message, checked: bool, losses: &mut Losses) -> Vec<Object> {
    let mut parts = content(message, losses);
    parts.extend(message.refusal.as_deref().filter(|words| !words.is_empty()).map(text));
    if let Some(signature) = signature(&message.rest) {
        let mut last = parts.pop().unwrap_or_else(|| text(""));
        last.put("thoughtSignature", signature);
        parts.push(last);
    }
    for (number, call) in message.tool_calls.iter().flatten().enumerate() {
        let unsigned = checked && number == 0 && signature(&call.rest).is_none();
        if unsigned {
            losses.say("tool_calls without extra_content.google.thought_signature: the model forgets its thoughts");
        }
        parts.extend(function_call(call, unsigned, losses));
    }
    parts
}

fn function_call(call: &ToolCall, unsigned: bool, losses: &mut Losses) -> Option<Object> {
    let function = call.function.as_ref()?;
    let mut said = Object::default();
    said.put_some("id", Some(&call.id).filter(|id| !id.is_empty()));
    said.put("name", &function.name);
    match object(&function.arguments) {
        Some(arguments) => said.put("args", arguments),
        None if function.arguments.trim().is_empty() => said.put("args", Object::default()),
        None => {
            losses.say("tool_calls[].function.arguments that are no JSON object are sent as text");
            said.put("args", Object::default().with("arguments", &function.arguments));
        }
    }
    let mut part = Object::default().with("functionCall", said);
    part.put_some("thoughtSignature", signature(&call.rest).or(unsigned.then_some(NO_SIGNATURE)));
    Some(part)
}

/// A tool's result. Gemini wants an object, and the name of the function beside the call's id.
fn result(message: &Message, names: &HashMap<&str, &str>, losses: &mut Losses) -> Vec<Object> {
    let id = message.tool_call_id.as_deref().unwrap_or_default();
    let name = names.get(id).copied().or(message.name.as_deref()).unwrap_or("function");
    let words = message.content.as_ref().map(Content::text).unwrap_or_default();
    let mut said = Object::default();
    said.put_some("id", Some(id).filter(|id| !id.is_empty()));
    said.put("name", name);
    match (object(&words), serde_json::from_str::<&RawValue>(&words)) {
        (Some(object), _) => said.put("response", object),
        (None, Ok(json)) => said.put("response", Object::default().with("result", json)),
        (None, Err(_)) => said.put("response", Object::default().with("result", &words)),
    }
    let mut parts = vec![Object::default().with("functionResponse", said)];
    if let Some(Content::Parts(shown)) = &message.content {
        parts.extend(shown.iter().filter(|part| part.text.is_none()).filter_map(|part| one(part, losses)));
    }
    parts
}

fn called(call: &ToolCall) -> Option<&str> {
    Some(call.function.as_ref()?.name.as_str())
}

fn signature(rest: &Map<String, Value>) -> Option<&str> {
    rest.get("extra_content")?.pointer("/google/thought_signature")?.as_str()
}
