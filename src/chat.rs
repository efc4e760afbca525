//! One chat request, parsed once. Only what Waypost reads is typed; everything else keeps its bytes and is
//! forwarded as it came, so a provider's new parameter needs no release here. Next stop: `features.rs`.

use crate::config::{MaxTokens, Quirks};
use crate::error::{Error, Result};
use bytes::Bytes;
use indexmap::IndexMap;
use serde::Deserialize;
use serde_json::value::RawValue;

/// A chat-completions request: typed where Waypost reads it, raw elsewhere.
#[derive(Debug)]
pub struct ChatRequest {
    fields: IndexMap<String, Box<RawValue>>,
    /// `auto`, a class, a deployment or an alias. Absent means `auto`.
    pub model: String,
    /// The conversation, never empty.
    pub messages: Vec<Message>,
    /// Whether the answer is wanted as server-sent events.
    pub stream: bool,
    /// Whether the client asked for the usage chunk at the end of a stream.
    pub include_usage: bool,
    /// `max_completion_tokens`, or the older `max_tokens`.
    pub max_tokens: Option<u64>,
    /// Number of tool definitions given.
    pub tools: usize,
    /// Size of the tool definitions' and the response schema's JSON, in bytes: they are part of the prompt that is paid for.
    pub definition_bytes: usize,
    /// Answers wanted (`n`), at least 1.
    pub choices: u64,
    /// Whether the answer must follow a JSON schema or be a JSON object.
    pub json_schema: bool,
    /// What ties requests of one conversation together: `prompt_cache_key`, or `user`.
    pub session: Option<String>,
    /// What it asks for that not every dialect can say.
    pub needs: Needs,
}

/// What a request asks for that not every provider's dialect can say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// More than one answer (`n`).
    pub several_answers: bool,
    /// Probabilities of tokens.
    pub logprobs: bool,
    /// Sound as input.
    pub audio: bool,
    /// Sound as output (`modalities`).
    pub spoken_answer: bool,
    /// A file inside the request.
    pub files: bool,
    /// A file by the id of an upload, which one provider alone knows.
    pub uploaded_files: bool,
    /// An image by address: the provider must fetch it.
    pub image_urls: bool,
    /// A tool that is no function.
    pub other_tools: bool,
    /// A JSON schema, or a JSON object, as answer.
    pub json: bool,
}

/// No model's name is longer. Names and sessions are kept with every decision, so they are bounded.
const MAX_NAME_BYTES: usize = 256;

/// How a model is asked to go on with an answer that broke off.
const GO_ON: &str = "Your answer broke off there. Go on from exactly where it stopped: begin with the next character, and repeat nothing.";

/// One message of the conversation.
#[derive(Debug)]
pub struct Message {
    pub role: Role,
    /// The text of the content; text parts are joined by a newline.
    pub text: String,
    /// Number of image parts.
    pub images: usize,
    /// What its parts ask for.
    pub needs: Needs,
    /// Size of the tool calls' JSON, in bytes.
    pub call_bytes: usize,
}

/// Who speaks. `developer` is a system prompt, `function` a tool result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    #[serde(alias = "developer")]
    System,
    User,
    Assistant,
    #[serde(alias = "function")]
    Tool,
}

#[derive(Deserialize)]
struct RawMessage<'a> {
    role: Role,
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
    #[serde(borrow, default)]
    tool_calls: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Part<'a> {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    text: Option<String>,
    #[serde(borrow, default)]
    image_url: Option<&'a RawValue>,
    #[serde(borrow, default)]
    file: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Tool {
    #[serde(rename = "type", default)]
    kind: Option<String>,
}

#[derive(Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: Option<bool>,
}

#[derive(Deserialize)]
struct ResponseFormat {
    #[serde(rename = "type")]
    kind: String,
}

impl ChatRequest {
    /// Reads a request body.
    ///
    /// # Errors
    /// [`Error::BadRequest`] naming the field at fault: not UTF-8, not JSON, not an object, a field of the wrong
    /// type, no messages.
    pub fn parse(body: &[u8]) -> Result<Self> {
        let text = std::str::from_utf8(body).map_err(|error| Error::BadRequest {
            message: format!("The body is not UTF-8: byte {} is invalid.", error.valid_up_to()),
            param: None,
            code: "invalid_utf8",
        })?;
        let fields: IndexMap<String, Box<RawValue>> =
            serde_json::from_str(text).map_err(|error| Error::BadRequest {
                message: format!("The body is not a JSON object: {error}."),
                param: None,
                code: "invalid_json",
            })?;
        let messages = parse_messages(fields.get("messages").map(|raw| raw.get()))?;
        let read = Reader(&fields);
        let tools = read.field::<Vec<&RawValue>>("tools", "an array")?.unwrap_or_default();
        let needs = Needs {
            several_answers: read.field::<u64>("n", "a positive integer")?.unwrap_or(1) > 1,
            logprobs: read.field::<bool>("logprobs", "a boolean")?.unwrap_or(false),
            spoken_answer: read
                .field::<Vec<&RawValue>>("modalities", "an array")?
                .is_some_and(|modes| modes.iter().any(|mode| mode.get() == "\"audio\"")),
            other_tools: tools
                .iter()
                .any(|tool| object::<Tool>(tool).and_then(|tool| tool.kind).is_some_and(|kind| kind != "function")),
            json: read
                .object::<ResponseFormat>("response_format", "an object with a `type`")?
                .is_some_and(|format| format.kind != "text"),
            ..messages.iter().fold(Needs::default(), |all, message: &Message| all.and(message.needs))
        };
        let request = ChatRequest {
            model: read.field::<String>("model", "a string")?.unwrap_or_else(|| "auto".into()),
            stream: read.field("stream", "a boolean")?.unwrap_or(false),
            include_usage: read
                .object::<StreamOptions>("stream_options", "an object")?
                .and_then(|options| options.include_usage)
                .unwrap_or(false),
            max_tokens: match read.field("max_completion_tokens", "a positive integer")? {
                Some(tokens) => Some(tokens),
                None => read.field("max_tokens", "a positive integer")?,
            },
            tools: tools.len(),
            definition_bytes: ["tools", "functions", "response_format"]
                .iter()
                .filter_map(|name| fields.get(*name))
                .map(|raw| raw.get().len())
                .sum(),
            choices: read.field::<u64>("n", "a positive integer")?.unwrap_or(1).max(1),
            json_schema: needs.json,
            needs,
            session: match read.field("prompt_cache_key", "a string")? {
                Some(key) => Some(key),
                None => read.field::<String>("user", "a string")?,
            }
            .map(|session: String| session.chars().take(MAX_NAME_BYTES / 4).collect()),
            messages,
            fields,
        };
        if request.model.len() > MAX_NAME_BYTES {
            return Err(Error::bad(
                "model",
                "invalid_value",
                format!("`model` is longer than {MAX_NAME_BYTES} bytes."),
            ));
        }
        if request.max_tokens == Some(0) {
            let newer = request.field::<u64>("max_completion_tokens", "a positive integer")?.is_some();
            let name = if newer { "max_completion_tokens" } else { "max_tokens" };
            return Err(Error::bad(name, "invalid_value", format!("`{name}` must be at least 1.")));
        }
        Ok(request)
    }

    /// A request of one user message, as `waypost decide` and `waypost explain` make it.
    pub fn from_prompt(prompt: &str) -> Result<Self> {
        Self::parse(serde_json::json!({"messages": [{"role": "user", "content": prompt}]}).to_string().as_bytes())
    }

    /// The body for a deployment: the client's bytes with `model` replaced and the provider's quirks heeded, and the
    /// names of the parameters that were left out for them. Usage is asked for in a stream where the client did not
    /// (its own answer is stripped of it again).
    pub fn body_for(&self, model: &str, quirks: &Quirks) -> (Bytes, Vec<String>) {
        let mut fields: IndexMap<&str, &RawValue> = IndexMap::with_capacity(self.fields.len() + 2);
        let mut dropped = Vec::new();
        let lighter = self.messages_without(&quirks.drop, &mut dropped);
        for (name, value) in &self.fields {
            let name = match (name.as_str(), quirks.max_tokens) {
                ("max_tokens", Some(MaxTokens::Newer)) if !self.fields.contains_key("max_completion_tokens") => {
                    "max_completion_tokens"
                }
                ("max_completion_tokens", Some(MaxTokens::Older)) => "max_tokens",
                ("max_tokens", Some(MaxTokens::Older)) if self.fields.contains_key("max_completion_tokens") => continue,
                (name, _) => name,
            };
            let value = match &lighter {
                Some(lighter) if name == "messages" => lighter,
                _ => value,
            };
            if quirks.drop.iter().any(|unknown| unknown == name) {
                dropped.push(name.to_string());
            } else {
                fields.insert(name, value);
            }
        }
        let model = raw(&model);
        fields.insert("model", &model);
        let usage = self.stream && quirks.stream_usage && !self.include_usage;
        let options = usage.then(|| raw(&self.stream_options_with_usage()));
        if let Some(options) = &options {
            fields.insert("stream_options", options);
        }
        (Bytes::from(serde_json::to_vec(&fields).expect("raw JSON serialises")), dropped)
    }

    /// The messages without what one provider alone reads (`provider_state`) and without the fields named `messages[].…`
    /// in `drop`, every other field with its bytes; `None` where they hold none of these.
    fn messages_without(&self, drop: &[String], dropped: &mut Vec<String>) -> Option<Box<RawValue>> {
        let given = self.fields.get("messages")?.get();
        let fields = drop.iter().filter_map(|name| name.strip_prefix("messages[].")).chain(["provider_state"]);
        let stands = |field: &&str| given.contains(&format!("\"{}\"", field.rsplit('.').next().unwrap_or(field)));
        let fields: Vec<&str> = fields.filter(stands).collect();
        if fields.is_empty() {
            return None;
        }
        let mut messages: Vec<Fields<'_>> = serde_json::from_str(given).ok()?;
        for field in fields {
            let gone = messages.iter_mut().filter_map(|message| take_out(message, field).then_some(())).count();
            if gone > 0 {
                dropped.push(format!("messages[].{field}"));
            }
        }
        Some(raw(&messages))
    }

    /// This request with an answer that broke off, for another model to go on with it.
    pub fn continued(&self, said: &str) -> Option<ChatRequest> {
        let messages = self.fields.get("messages")?.get().trim_end().strip_suffix(']')?;
        let said = serde_json::json!({"role": "assistant", "content": said});
        let wish = serde_json::json!({"role": "user", "content": GO_ON});
        let mut fields = self.fields.clone();
        fields.insert("messages".into(), RawValue::from_string(format!("{messages},{said},{wish}]")).ok()?);
        Self::parse(&serde_json::to_vec(&fields).ok()?).ok()
    }

    /// The request typed, for dialects that say it in other words.
    ///
    /// # Errors
    /// [`Error::BadRequest`] for what is not as OpenAI's specification has it.
    pub fn typed<T: serde::de::DeserializeOwned>(&self) -> Result<T> {
        let body = serde_json::to_vec(&self.fields).expect("raw JSON serialises");
        serde_json::from_slice(&body).map_err(|error| Error::BadRequest {
            message: format!("The request cannot be translated for this provider: {error}."),
            param: None,
            code: "invalid_request",
        })
    }

    /// A field of the request that only one provider reads, typed by that provider.
    ///
    /// # Errors
    /// [`Error::BadRequest`] when it is there and of another type.
    pub fn field<'a, T: Deserialize<'a>>(&'a self, name: &str, expected: &str) -> Result<Option<T>> {
        Reader(&self.fields).field(name, expected)
    }

    fn stream_options_with_usage(&self) -> serde_json::Value {
        let mut options = self
            .fields
            .get("stream_options")
            .and_then(|raw| serde_json::from_str::<serde_json::Value>(raw.get()).ok())
            .filter(|options| options.is_object())
            .unwrap_or_else(|| serde_json::json!({}));
        options["include_usage"] = true.into();
        options
    }
}

struct Reader<'a>(&'a IndexMap<String, Box<RawValue>>);

impl<'a> Reader<'a> {
    /// The field, or `None` when it is absent or null.
    fn field<T: Deserialize<'a>>(&self, name: &str, expected: &str) -> Result<Option<T>> {
        let Some(raw) = self.0.get(name) else { return Ok(None) };
        serde_json::from_str(raw.get())
            .map_err(|_| Error::bad(name, "invalid_type", format!("`{name}` must be {expected}.")))
    }

    /// As [`Reader::field`], for an object: serde alone would take an array for a struct.
    fn object<T: Deserialize<'a>>(&self, name: &str, expected: &str) -> Result<Option<T>> {
        match self.0.get(name).map(|raw| raw.get()) {
            Some(raw) if raw != "null" && !raw.starts_with('{') => {
                Err(Error::bad(name, "invalid_type", format!("`{name}` must be {expected}.")))
            }
            _ => self.field(name, expected),
        }
    }
}

/// An object of a list; `None` for anything else, an array among it.
fn object<'a, T: Deserialize<'a>>(raw: &'a RawValue) -> Option<T> {
    raw.get().starts_with('{').then(|| serde_json::from_str(raw.get()).ok()).flatten()
}

/// The fields of a message, or of a call in one, with their bytes.
type Fields<'a> = IndexMap<&'a str, Box<RawValue>>;

/// Takes a field out of a message, one named `tool_calls[].…` out of each of its calls; whether it was there.
fn take_out(message: &mut Fields<'_>, field: &str) -> bool {
    let Some(inner) = field.strip_prefix("tool_calls[].") else { return message.shift_remove(field).is_some() };
    let Some(held) = message.get_mut("tool_calls") else { return false };
    let Ok(mut calls) = serde_json::from_str::<Vec<Fields<'_>>>(held.get()) else { return false };
    let gone = calls.iter_mut().filter_map(|call| call.shift_remove(inner)).count();
    let lighter = raw(&calls);
    drop(calls);
    if gone > 0 {
        *held = lighter;
    }
    gone > 0
}

fn raw(value: &impl serde::Serialize) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).expect("strings and JSON values serialise")
}

fn parse_messages(raw: Option<&str>) -> Result<Vec<Message>> {
    let raw = raw.ok_or_else(|| Error::bad("messages", "missing_required_parameter", "`messages` is missing."))?;
    let items: Vec<&RawValue> = serde_json::from_str(raw)
        .map_err(|_| Error::bad("messages", "invalid_type", "`messages` must be an array of message objects."))?;
    if items.is_empty() {
        return Err(Error::bad("messages", "empty_array", "`messages` is empty: give at least one message."));
    }
    items.iter().enumerate().map(|(index, item)| parse_message(index, item)).collect()
}

fn parse_message(index: usize, item: &RawValue) -> Result<Message> {
    let at = format!("messages[{index}]");
    let message: RawMessage = object(item).ok_or_else(|| {
        let expected = "an object with a `role` of system, developer, user, assistant, tool or function";
        Error::bad(&at, "invalid_type", format!("`{at}` must be {expected}."))
    })?;
    let (text, images, needs) = match message.content {
        None => (String::new(), 0, Needs::default()),
        Some(content) => parse_content(content.get()).ok_or_else(|| {
            let at = format!("{at}.content");
            Error::bad(
                &at,
                "invalid_type",
                format!("`{at}` must be a string, null, or an array of parts with a `type`."),
            )
        })?,
    };
    let call_bytes = message.tool_calls.map_or(0, |calls| calls.get().len());
    Ok(Message { role: message.role, text, images, needs, call_bytes })
}

/// The text and the number of images of a message's content, and what its parts ask for; `None` when it is neither
/// string, null nor parts.
fn parse_content(raw: &str) -> Option<(String, usize, Needs)> {
    match raw.as_bytes().first()? {
        b'"' => Some((serde_json::from_str(raw).ok()?, 0, Needs::default())),
        b'n' => Some((String::new(), 0, Needs::default())),
        b'[' => {
            let parts: Vec<&RawValue> = serde_json::from_str(raw).ok()?;
            let parts: Vec<Part> = parts.into_iter().map(object).collect::<Option<_>>()?;
            let images = parts.iter().filter(|part| part.kind.contains("image")).count();
            let needs = parts.iter().fold(Needs::default(), |all, part| all.and(part.needs()));
            let texts: Vec<String> = parts.into_iter().filter_map(|part| part.text).collect();
            Some((texts.join("\n"), images, needs))
        }
        _ => None,
    }
}

impl Part<'_> {
    fn needs(&self) -> Needs {
        let has = |raw: Option<&RawValue>, word: &str| raw.is_some_and(|raw| raw.get().contains(word));
        Needs {
            audio: self.kind == "input_audio",
            files: self.kind == "file",
            uploaded_files: has(self.file, "\"file_id\""),
            image_urls: self.image_url.is_some_and(|image| {
                // The address stands at the beginning, and may be megabytes long.
                let head = image.get().get(..64).unwrap_or(image.get());
                !head.contains("\"data:")
            }),
            ..Needs::default()
        }
    }
}

impl Needs {
    /// What either asks for.
    fn and(self, other: Needs) -> Needs {
        Needs {
            several_answers: self.several_answers || other.several_answers,
            logprobs: self.logprobs || other.logprobs,
            audio: self.audio || other.audio,
            spoken_answer: self.spoken_answer || other.spoken_answer,
            files: self.files || other.files,
            uploaded_files: self.uploaded_files || other.uploaded_files,
            image_urls: self.image_urls || other.image_urls,
            other_tools: self.other_tools || other.other_tools,
            json: self.json || other.json,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_fields_keep_their_bytes_and_order() {
        let body = br#"{"zeta": 1.50, "model":"auto","messages":[{"role":"user","content":"hi","extra":{"a": 1e3}}],"alpha":[ 1,2 ]}"#;
        let sent = ChatRequest::parse(body).unwrap().body_for("m", &Quirks::default()).0;
        let expected = br#"{"zeta":1.50,"model":"m","messages":[{"role":"user","content":"hi","extra":{"a": 1e3}}],"alpha":[ 1,2 ]}"#;
        assert_eq!(sent, &expected[..]);
    }

    #[test]
    fn one_providers_state_goes_to_no_other_and_named_fields_of_messages_are_dropped() {
        let body =
            br#"{"messages":[{"role":"assistant","provider_state":{"x":1},"name":"a","content":"hi","n": 1e3}]}"#;
        let request = ChatRequest::parse(body).unwrap();
        let (sent, dropped) = request.body_for("m", &Quirks::default());
        assert_eq!(sent, &br#"{"messages":[{"role":"assistant","name":"a","content":"hi","n":1e3}],"model":"m"}"#[..]);
        assert_eq!(dropped, ["messages[].provider_state"]);
        let quirks = Quirks { drop: vec!["messages[].name".into()], ..Quirks::default() };
        assert_eq!(request.body_for("m", &quirks).1, ["messages[].name", "messages[].provider_state"]);
    }

    #[test]
    fn named_fields_of_tool_calls_are_dropped_and_the_rest_keeps_its_bytes() {
        let body = br#"{"messages":[{"role":"user","content":"a"},{"role":"assistant","tool_calls":[
            {"id":"1","extra_content":{"google":{"thought_signature":"s"}},"n": 1e3},{"id":"2"}]}],"model":"m"}"#;
        let request = ChatRequest::parse(body).unwrap();
        let name = "messages[].tool_calls[].extra_content";
        let (sent, dropped) = request.body_for("m", &Quirks { drop: vec![name.into()], ..Quirks::default() });
        let expected = br#"{"messages":[{"role":"user","content":"a"},{"role":"assistant","tool_calls":[{"id":"1","n":1e3},{"id":"2"}]}],"model":"m"}"#;
        assert_eq!((&sent[..], dropped), (&expected[..], vec![name.to_string()]));
        let (sent, dropped) = request.body_for("m", &Quirks::default());
        assert!(sent.windows(13).any(|bytes| bytes == b"extra_content") && dropped.is_empty());
    }

    #[test]
    fn usage_is_asked_for_only_where_the_client_did_not() {
        let ask = |body: &str| {
            String::from_utf8(ChatRequest::parse(body.as_bytes()).unwrap().body_for("m", &Quirks::default()).0.to_vec())
                .unwrap()
        };
        let plain = r#"{"messages":[{"role":"user","content":"hi"}],"stream":true}"#;
        assert!(ask(plain).contains(r#""stream_options":{"include_usage":true}"#));
        let other = r#"{"messages":[{"role":"user","content":"hi"}],"stream":true,"stream_options":{"x":1}}"#;
        assert!(ask(other).contains(r#"{"x":1,"include_usage":true}"#));
        assert!(!ask(r#"{"messages":[{"role":"user","content":"hi"}]}"#).contains("stream_options"));
    }

    #[test]
    fn content_is_a_string_null_or_parts() {
        let body = r#"{"messages":[{"role":"assistant","content":null},{"role":"user","content":[
            {"type":"text","text":"what is"},{"type":"image_url","image_url":{"url":"data:"}},{"type":"text","text":"this?"}]}]}"#;
        let request = ChatRequest::parse(body.as_bytes()).unwrap();
        assert_eq!(request.messages[0].text, "");
        assert_eq!((request.messages[1].text.as_str(), request.messages[1].images), ("what is\nthis?", 1));
    }

    #[test]
    fn mistakes_name_the_field() {
        let param = |body: &[u8]| match ChatRequest::parse(body) {
            Err(Error::BadRequest { param, code, .. }) => (param.unwrap_or_default(), code),
            other => panic!("{other:?}"),
        };
        assert_eq!(param(b"{"), (String::new(), "invalid_json"));
        assert_eq!(param(b"[]"), (String::new(), "invalid_json"));
        assert_eq!(param(b"{\"messages\":\"\xff\"}"), (String::new(), "invalid_utf8"));
        assert_eq!(param(b"{}"), ("messages".into(), "missing_required_parameter"));
        assert_eq!(param(br#"{"messages":[]}"#), ("messages".into(), "empty_array"));
        assert_eq!(param(br#"{"messages":{}}"#), ("messages".into(), "invalid_type"));
        let long = format!(r#"{{"model":"{}","messages":[{{"role":"user","content":"x"}}]}}"#, "m".repeat(300));
        assert_eq!(param(long.as_bytes()), ("model".into(), "invalid_value"));
        assert_eq!(param(br#"{"messages":[["user","hi"]]}"#), ("messages[0]".into(), "invalid_type"));
        assert_eq!(param(br#"{"messages":[{"content":"x"}]}"#), ("messages[0]".into(), "invalid_type"));
        assert_eq!(
            param(br#"{"messages":[{"role":"user","content":5}]}"#),
            ("messages[0].content".into(), "invalid_type")
        );
        assert_eq!(
            param(br#"{"messages":[{"role":"user","content":"x"}],"stream":"yes"}"#),
            ("stream".into(), "invalid_type")
        );
        assert_eq!(
            param(br#"{"messages":[{"role":"user","content":"x"}],"max_tokens":0}"#),
            ("max_tokens".into(), "invalid_value")
        );
    }
}
