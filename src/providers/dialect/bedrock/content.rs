//! What a message holds, as Converse's content blocks: text, images, sound, documents, cache points.

use super::super::wire::{Content, File, Part, data_url};
use super::refusal::refused;
use crate::providers::Failure;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

/// Bytes of a document's name at most.
const MAX_NAME_CHARS: usize = 200;

/// One block; its name on the wire is the variant's.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Block {
    Text(String),
    Image(Media),
    Audio(Media),
    Document(Document),
    ToolUse(ToolUse),
    ToolResult(ToolResult),
    ReasoningContent(Value),
    CachePoint(CachePoint),
}

/// Bytes of a format.
#[derive(Debug, Serialize)]
pub struct Media {
    format: &'static str,
    source: Source,
}

/// Base64.
#[derive(Debug, Serialize)]
pub struct Source {
    bytes: String,
}

/// A document, named for the model to speak of.
#[derive(Debug, Serialize)]
pub struct Document {
    format: &'static str,
    name: String,
    source: Source,
}

/// A call that the model made.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ToolUse {
    pub tool_use_id: String,
    pub name: String,
    pub input: Box<RawValue>,
}

/// What came of a call.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ToolResult {
    pub tool_use_id: String,
    pub content: Vec<Block>,
}

/// What stands before it is to be cached.
#[derive(Debug, Serialize)]
pub struct CachePoint {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<&'static str>,
}

/// The cache point that a `cache_control` beside the content asks for.
pub fn cache_point(control: Option<&Value>) -> Option<CachePoint> {
    let control = control.filter(|control| control.is_object())?;
    let ttl = match control["ttl"].as_str() {
        Some("1h") => Some("1h"),
        Some("5m") => Some("5m"),
        _ => None,
    };
    Some(CachePoint { kind: "default", ttl })
}

/// The blocks of a message's content, each with its cache point behind it. Blank text is left out: Converse refuses it.
///
/// # Errors
/// `Refused` for an image, sound or file that has no translation.
pub fn blocks(content: &Content, warnings: &mut Vec<String>) -> Result<Vec<Block>, Failure> {
    let parts = match content {
        Content::Text(text) => return Ok(text_block(text).into_iter().collect()),
        Content::Parts(parts) => parts,
    };
    let mut blocks = Vec::with_capacity(parts.len());
    for part in parts {
        let Some(block) = block(part, warnings)? else { continue };
        blocks.push(block);
        blocks.extend(cache_point(part.rest.get("cache_control")).map(Block::CachePoint));
    }
    Ok(blocks)
}

/// A text block; `None` for blank text.
pub fn text_block(text: &str) -> Option<Block> {
    (!text.trim().is_empty()).then(|| Block::Text(text.into()))
}

fn block(part: &Part, warnings: &mut Vec<String>) -> Result<Option<Block>, Failure> {
    match (part.kind.as_str(), part) {
        ("text", _) => Ok(text_block(part.text.as_deref().unwrap_or_default())),
        ("refusal", _) => Ok(text_block(part.refusal.as_deref().unwrap_or_default())),
        ("image_url", Part { image_url: Some(image), .. }) => image_block(&image.url).map(Some),
        ("input_audio", Part { input_audio: Some(audio), .. }) => {
            let format = audio_format(&audio.format)
                .ok_or_else(|| refused(format!("Bedrock does not take sound as `{}`.", audio.format)))?;
            Ok(Some(Block::Audio(Media { format, source: Source { bytes: audio.data.clone() } })))
        }
        ("file", Part { file: Some(file), .. }) => document(file).map(Some),
        (kind, _) => {
            warnings.push(format!("a part of type {kind} is left out"));
            Ok(None)
        }
    }
}

fn image_block(url: &str) -> Result<Block, Failure> {
    let (kind, data) = data_url(url)
        .ok_or_else(|| refused("Bedrock takes images by their bytes alone: give a base64 data URL.".into()))?;
    let format = match kind {
        "image/png" => "png",
        "image/jpeg" | "image/jpg" => "jpeg",
        "image/gif" => "gif",
        "image/webp" => "webp",
        other => return Err(refused(format!("Bedrock takes images as png, jpeg, gif or webp, not as `{other}`."))),
    };
    Ok(Block::Image(Media { format, source: Source { bytes: data.into() } }))
}

fn audio_format(format: &str) -> Option<&'static str> {
    ["wav", "mp3", "opus", "aac", "flac", "ogg", "m4a", "mp4", "webm", "pcm"].into_iter().find(|known| *known == format)
}

fn document(file: &File) -> Result<Block, Failure> {
    let data = file.file_data.as_deref().ok_or_else(|| refused("Bedrock takes files by their bytes alone.".into()))?;
    let name = file.filename.as_deref().unwrap_or("document");
    let (kind, bytes) = data_url(data).unwrap_or(("", data));
    let format = document_format(kind, name)
        .ok_or_else(|| refused(format!("Bedrock does not take documents of the type of `{name}` ({kind}).")))?;
    Ok(Block::Document(Document { format, name: neutral(name), source: Source { bytes: bytes.into() } }))
}

/// By media type, or else by the ending of the name.
fn document_format(kind: &str, name: &str) -> Option<&'static str> {
    let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending).to_ascii_lowercase();
    const FORMATS: [(&str, &str); 9] = [
        ("pdf", "application/pdf"),
        ("csv", "text/csv"),
        ("doc", "application/msword"),
        ("docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
        ("xls", "application/vnd.ms-excel"),
        ("xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
        ("html", "text/html"),
        ("txt", "text/plain"),
        ("md", "text/markdown"),
    ];
    let found =
        |test: &dyn Fn(&(&str, &str)) -> bool| FORMATS.iter().find(|format| test(format)).map(|(name, _)| *name);
    found(&|(_, media)| *media == kind).or_else(|| found(&|(format, _)| *format == ending))
}

/// A document's name in the characters that Bedrock allows: letters, digits, single spaces, hyphens, brackets.
fn neutral(name: &str) -> String {
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    let allowed = |character: char| character.is_ascii_alphanumeric() || "-()[]".contains(character);
    let spaced: String =
        stem.chars().take(MAX_NAME_CHARS).map(|character| if allowed(character) { character } else { ' ' }).collect();
    let name = spaced.split_whitespace().collect::<Vec<_>>().join(" ");
    if name.is_empty() { "document".into() } else { name }
}

/// Bedrock wants text beside a document, and no name twice.
pub fn complete_documents(turn: &mut Vec<Block>, names: &mut Vec<String>) {
    let mut added = None;
    for block in turn.iter_mut() {
        let Block::Document(document) = block else { continue };
        let twins = names.iter().filter(|name| **name == document.name).count();
        names.push(document.name.clone());
        if twins > 0 {
            document.name = format!("{} ({})", document.name, twins + 1);
        }
        added = Some(document.name.clone());
    }
    let has_text = turn.iter().any(|block| matches!(block, Block::Text(_)));
    if let (Some(name), false) = (added, has_text) {
        turn.push(Block::Text(name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_documents_name_is_made_harmless_and_told_apart() {
        assert_eq!(neutral("../Q3_report.final.pdf"), "Q3 report final");
        assert_eq!(neutral("ä.pdf"), "document");
        let file = || File {
            file_data: Some("data:application/pdf;base64,JVBE".into()),
            file_id: None,
            filename: Some("a.pdf".into()),
        };
        let mut turn = vec![document(&file()).unwrap(), document(&file()).unwrap()];
        complete_documents(&mut turn, &mut Vec::new());
        let expected = r#"[{"document":{"format":"pdf","name":"a","source":{"bytes":"JVBE"}}},{"document":{"format":"pdf","name":"a (2)","source":{"bytes":"JVBE"}}},{"text":"a (2)"}]"#;
        assert_eq!(serde_json::to_string(&turn).unwrap(), expected);
    }
}
