//! The conversation: system prompts into one field, turns that alternate, parts as blocks.

use super::state;
use crate::providers::dialect::wire::{self, Content, Message, Part};
use crate::providers::{Failure, FailureKind};
use serde::Serialize;
use serde_json::{Value, json};

/// The conversation in Anthropic's words.
#[derive(Debug, Default)]
pub struct Conversation {
    pub system: Vec<Value>,
    pub turns: Vec<Turn>,
}

/// One turn; two of one role never follow one another.
#[derive(Debug, Serialize)]
pub struct Turn {
    pub role: &'static str,
    pub content: Vec<Value>,
}

impl Conversation {
    /// Translates the messages; what is lost goes into `lost`.
    ///
    /// # Errors
    /// `Refused` for a part that Anthropic does not take, and a tool's result that names no call.
    pub fn of(messages: &[Message], model: &str, lost: &mut Vec<String>) -> Result<Self, Failure> {
        let mut all = Conversation::default();
        for message in messages {
            let blocks = |lost: &mut Vec<String>| blocks(message.content.as_ref(), lost);
            let (role, mut content) = match message.role.as_str() {
                "system" | "developer" => {
                    if !all.turns.is_empty() {
                        note(lost, "a system message after the first turn was moved to the system prompt");
                    }
                    ("system", blocks(lost)?)
                }
                "assistant" => ("assistant", assistant(message, model, blocks(lost)?, lost)),
                "tool" | "function" => ("user", vec![result(message, blocks(lost)?)?]),
                _ => ("user", blocks(lost)?),
            };
            if message.name.is_some() && message.role != "tool" && message.role != "function" {
                note(lost, "messages[].name: Anthropic knows no names of speakers");
            }
            if let (Some(mark), Some(last)) = (message.rest.get("cache_control"), content.last_mut()) {
                last["cache_control"] = mark.clone();
            }
            all.push(role, content);
        }
        all.finished(lost)
    }

    fn push(&mut self, role: &'static str, content: Vec<Value>) {
        match self.turns.last_mut() {
            _ if content.is_empty() => {}
            _ if role == "system" => self.system.extend(content),
            Some(last) if last.role == role => last.content.extend(content),
            _ => self.turns.push(Turn { role, content }),
        }
    }

    /// A user begins, and the last word of an assistant ends in no blank: otherwise the request is refused.
    fn finished(mut self, lost: &mut Vec<String>) -> Result<Self, Failure> {
        if self.turns.is_empty() {
            let Some(only) = self.system.pop() else {
                return Err(refused("messages: all of them are empty"));
            };
            note(lost, "the system prompt was sent as the user's, there being no other message");
            self.turns.push(Turn { role: "user", content: vec![only] });
        }
        if self.turns[0].role == "assistant" {
            note(lost, "a user's turn was put before the assistant's, which may not come first");
            self.turns.insert(0, Turn { role: "user", content: vec![json!({"type": "text", "text": "…"})] });
        }
        let last =
            self.turns.last_mut().filter(|turn| turn.role == "assistant").and_then(|turn| turn.content.last_mut());
        if let Some(text) = last.as_ref().and_then(|block| block.get("text")).and_then(Value::as_str) {
            let text = text.trim_end().to_string();
            last.expect("its text was just read")["text"] = text.into();
        }
        Ok(self)
    }
}

/// Adds a clause once.
pub fn note(lost: &mut Vec<String>, clause: impl Into<String>) {
    let clause = clause.into();
    if !lost.contains(&clause) {
        lost.push(clause);
    }
}

/// The id of a call as Anthropic takes it; those that others make may hold dots and colons.
pub fn call_id(id: &str) -> String {
    id.chars().map(|letter| if letter.is_ascii_alphanumeric() || letter == '-' { letter } else { '_' }).collect()
}

fn refused(message: impl Into<String>) -> Failure {
    Failure::new(FailureKind::Refused, message)
}

fn assistant(message: &Message, model: &str, text: Vec<Value>, lost: &mut Vec<String>) -> Vec<Value> {
    let calls = message.tool_calls.iter().flatten().filter_map(|call| {
        let function = call.function.as_ref()?;
        let id = call_id(&call.id);
        let input = arguments(&function.arguments);
        Some((id.clone(), json!({"type": "tool_use", "id": id, "name": function.name, "input": input})))
    });
    let text = match (&message.refusal, text.is_empty()) {
        (Some(refusal), true) if !refusal.is_empty() => vec![json!({"type": "text", "text": refusal})],
        _ => text,
    };
    let restored = state::restored(message, model, text, calls.collect());
    if restored.foreign {
        note(lost, "thinking of another model was left out of the conversation");
    }
    restored.blocks
}

/// A call's input, which must be an object: what is none is handed over under a name.
fn arguments(text: &str) -> Value {
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) => Value::Object(object),
        Ok(other) => json!({"arguments": other}),
        Err(_) if text.trim().is_empty() => json!({}),
        Err(_) => json!({"arguments": text}),
    }
}

fn result(message: &Message, content: Vec<Value>) -> Result<Value, Failure> {
    let id = message.tool_call_id.as_deref().ok_or_else(|| refused("a tool's message has no `tool_call_id`"))?;
    let mut block = json!({"type": "tool_result", "tool_use_id": call_id(id)});
    if !content.is_empty() {
        block["content"] = content.into();
    }
    Ok(block)
}

/// A content's blocks; empty text, which is refused, is left out.
fn blocks(content: Option<&Content>, lost: &mut Vec<String>) -> Result<Vec<Value>, Failure> {
    let text = |text: &str| (!text.is_empty()).then(|| json!({"type": "text", "text": text}));
    match content {
        None => Ok(Vec::new()),
        Some(Content::Text(words)) => Ok(text(words).into_iter().collect()),
        Some(Content::Parts(parts)) => {
            let mut blocks = Vec::with_capacity(parts.len());
            for part in parts {
                let block = match part.kind.as_str() {
                    "text" => text(part.text.as_deref().unwrap_or_default()),
                    "refusal" => text(part.refusal.as_deref().unwrap_or_default()),
                    "image_url" => Some(image(part, lost)?),
                    "file" => Some(document(part)?),
                    kind => return Err(refused(format!("Anthropic takes no part of type `{kind}`"))),
                };
                blocks.extend(block.map(|block| marked(block, part)));
            }
            Ok(blocks)
        }
    }
}

fn marked(mut block: Value, part: &Part) -> Value {
    if let Some(mark) = part.rest.get("cache_control") {
        block["cache_control"] = mark.clone();
    }
    block
}

fn image(part: &Part, lost: &mut Vec<String>) -> Result<Value, Failure> {
    let image = part.image_url.as_ref().ok_or_else(|| refused("a part of type `image_url` has no `image_url`"))?;
    if image.detail.as_deref().is_some_and(|detail| detail != "auto") {
        note(lost, "image_url.detail: Anthropic reads images in one way");
    }
    let source = match wire::data_url(&image.url) {
        Some((kind, data)) => json!({"type": "base64", "media_type": kind, "data": data}),
        None => json!({"type": "url", "url": image.url}),
    };
    Ok(json!({"type": "image", "source": source}))
}

fn document(part: &Part) -> Result<Value, Failure> {
    let file = part.file.as_ref();
    let data = file.and_then(|file| file.file_data.as_deref());
    let data = data.ok_or_else(|| refused("a part of type `file` has no `file.file_data`"))?;
    let (kind, data) = wire::data_url(data).unwrap_or(("application/pdf", data));
    let source = |kind| json!({"type": "base64", "media_type": kind, "data": data});
    let name = file.and_then(|file| file.filename.as_deref());
    match kind {
        "application/pdf" => {
            let mut block = json!({"type": "document", "source": source(kind)});
            if let Some(name) = name {
                block["title"] = name.into();
            }
            Ok(block)
        }
        kind if kind.starts_with("image/") => Ok(json!({"type": "image", "source": source(kind)})),
        kind => Err(refused(format!("Anthropic takes no file of type `{kind}`: PDF and images only"))),
    }
}
