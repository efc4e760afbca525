//! OpenAI's chat completions as types, for dialects that say them in other words: the request as it comes in, and
//! builders of the answers that go out. What passes through untouched is never typed.

use crate::chat::ChatRequest;
use crate::decision::Usage;
use crate::providers::{Failure, FailureKind};
use bytes::Bytes;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

/// A request, typed as far as any dialect translates it. What is in `rest` no dialect knows.
#[derive(Debug, Deserialize)]
pub struct Request {
    pub messages: Vec<Message>,
    #[serde(default, deserialize_with = "none_as_empty")]
    pub tools: Vec<Tool>,
    pub tool_choice: Option<ToolChoice>,
    pub parallel_tool_calls: Option<bool>,
    pub response_format: Option<ResponseFormat>,
    #[serde(default)]
    pub stop: Option<Stop>,
    pub max_tokens: Option<u64>,
    pub max_completion_tokens: Option<u64>,
    pub temperature: Option<f64>,
    pub top_p: Option<f64>,
    pub seed: Option<i64>,
    pub presence_penalty: Option<f64>,
    pub frequency_penalty: Option<f64>,
    pub n: Option<u64>,
    pub reasoning_effort: Option<String>,
    pub user: Option<String>,
    #[serde(default)]
    pub stream: Option<bool>,
    /// Everything else, by name.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// One message.
#[derive(Debug, Deserialize)]
pub struct Message {
    pub role: String,
    pub content: Option<Content>,
    pub name: Option<String>,
    #[serde(default)]
    pub tool_calls: Option<Vec<ToolCall>>,
    pub tool_call_id: Option<String>,
    pub refusal: Option<String>,
    /// Everything else: a provider's own state among it (thought signatures, cache marks).
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// A message's content.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Content {
    Text(String),
    Parts(Vec<Part>),
}

/// One part of a message's content. Which of the fields is there, `kind` tells.
#[derive(Debug, Deserialize)]
pub struct Part {
    #[serde(rename = "type")]
    pub kind: String,
    pub text: Option<String>,
    pub image_url: Option<ImageUrl>,
    pub input_audio: Option<InputAudio>,
    pub file: Option<File>,
    pub refusal: Option<String>,
    /// Everything else, such as `cache_control`.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// An image, by address or as a data URL.
#[derive(Debug, Deserialize)]
pub struct ImageUrl {
    pub url: String,
    pub detail: Option<String>,
}

/// Sound: base64 and its format (`wav`, `mp3`).
#[derive(Debug, Deserialize)]
pub struct InputAudio {
    pub data: String,
    pub format: String,
}

/// A file: a data URL, or the id of one uploaded before.
#[derive(Debug, Deserialize)]
pub struct File {
    pub file_data: Option<String>,
    pub file_id: Option<String>,
    pub filename: Option<String>,
}

/// A call that the model made.
#[derive(Debug, Deserialize)]
pub struct ToolCall {
    pub id: String,
    pub function: Option<CalledFunction>,
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// The function called, its arguments as JSON in a string.
#[derive(Debug, Deserialize)]
pub struct CalledFunction {
    pub name: String,
    pub arguments: String,
}

/// A tool that the model may call; only functions have a translation.
#[derive(Debug, Deserialize)]
pub struct Tool {
    #[serde(rename = "type")]
    pub kind: String,
    pub function: Option<Function>,
    /// A mark of Anthropic's, that what stands up to here shall be kept in its cache.
    pub cache_control: Option<Value>,
}

/// A function's definition.
#[derive(Debug, Deserialize)]
pub struct Function {
    pub name: String,
    pub description: Option<String>,
    /// A JSON schema, byte for byte.
    pub parameters: Option<Box<RawValue>>,
    pub strict: Option<bool>,
}

/// `"none"`, `"auto"`, `"required"`, or one function by name.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum ToolChoice {
    Word(String),
    Named { function: NamedFunction },
    Other(Value),
}

/// A function by name.
#[derive(Debug, Deserialize)]
pub struct NamedFunction {
    pub name: String,
}

impl ToolChoice {
    /// Of the form `allowed_tools`: whether one of them must be called, and their names.
    pub fn allowed(&self) -> Option<(bool, Vec<&str>)> {
        let ToolChoice::Other(value) = self else { return None };
        let allowed = value.get("allowed_tools")?;
        let tools = allowed.get("tools")?.as_array()?;
        let names = tools.iter().filter_map(|tool| tool.pointer("/function/name")?.as_str()).collect();
        Some((allowed.get("mode").and_then(Value::as_str) == Some("required"), names))
    }
}

/// `text`, `json_object` or `json_schema`.
#[derive(Debug, Deserialize)]
pub struct ResponseFormat {
    #[serde(rename = "type")]
    pub kind: String,
    pub json_schema: Option<JsonSchema>,
}

/// The schema that an answer must follow.
#[derive(Debug, Deserialize)]
pub struct JsonSchema {
    pub name: Option<String>,
    pub description: Option<String>,
    pub schema: Option<Box<RawValue>>,
    pub strict: Option<bool>,
}

/// One stop sequence or several.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Stop {
    One(String),
    Many(Vec<String>),
}

impl Stop {
    /// All of them.
    pub fn all(&self) -> &[String] {
        match self {
            Stop::One(one) => std::slice::from_ref(one),
            Stop::Many(many) => many,
        }
    }
}

impl Request {
    /// The request typed.
    ///
    /// # Errors
    /// A [`Failure`] of kind `Refused` for what is not as OpenAI's specification has it.
    pub fn of(request: &ChatRequest) -> Result<Self, Failure> {
        request.typed().map_err(|error| {
            let message = error.to_string();
            let body = json_bytes(&json!({"error": {"message": message}}));
            Failure { status: Some(400), body: Some(body), ..Failure::new(FailureKind::Refused, message) }
        })
    }

    /// The caller's limit on the answer, by its newer or its older name.
    pub fn limit(&self) -> Option<u64> {
        self.max_completion_tokens.or(self.max_tokens)
    }
}

impl ResponseFormat {
    /// Whether the answer must be JSON.
    pub fn is_json(&self) -> bool {
        matches!(self.kind.as_str(), "json_object" | "json_schema")
    }

    /// The schema that it must follow, byte for byte.
    pub fn schema(&self) -> Option<&RawValue> {
        self.json_schema.as_ref()?.schema.as_deref()
    }

    /// The format in words, for a provider that cannot be held to it where there are tools.
    pub fn in_words(&self) -> String {
        match self.schema() {
            Some(schema) => format!(
                "Unless you call a tool, answer with JSON alone, without a code fence, that follows this JSON schema: {schema}"
            ),
            None => "Unless you call a tool, answer with a JSON object alone, without a code fence.".into(),
        }
    }
}

impl Content {
    /// The text of all its parts, joined by a newline.
    pub fn text(&self) -> String {
        match self {
            Content::Text(text) => text.clone(),
            Content::Parts(parts) => {
                parts.iter().filter_map(|part| part.text.as_deref()).collect::<Vec<_>>().join("\n")
            }
        }
    }
}

/// Takes a data URL apart: media type and base64 data; `None` for any other address.
pub fn data_url(url: &str) -> Option<(&str, &str)> {
    let (head, data) = url.strip_prefix("data:")?.split_once(',')?;
    Some((head.strip_suffix(";base64")?.split(';').next()?, data))
}

/// A whole answer in OpenAI's words.
#[derive(Clone, Debug, Default)]
pub struct Completion {
    pub id: String,
    pub created: u64,
    pub model: String,
    pub choices: Vec<Choice>,
    pub usage: Usage,
}

/// One choice of it.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// `None` where it says nothing but tool calls.
    pub content: Option<String>,
    pub refusal: Option<String>,
    /// What a reasoning model thought, in the field that most providers use.
    pub reasoning: Option<String>,
    /// (id, name, arguments as JSON in a string)
    pub tool_calls: Vec<(String, String, String)>,
    /// `stop`, `length`, `tool_calls` or `content_filter`.
    pub finish: &'static str,
    /// Provider-bound state, put into the message as it is.
    pub extra: Map<String, Value>,
    /// Provider-bound state of each tool call, put into it as it is; none where there are fewer than calls.
    pub call_extra: Vec<Map<String, Value>>,
}

impl Completion {
    /// The bytes of the answer.
    pub fn bytes(&self) -> Bytes {
        let choices: Vec<Value> = self.choices.iter().enumerate().map(|(index, choice)| choice.json(index)).collect();
        let mut answer = json!({
            "id": self.id, "object": "chat.completion", "created": self.created, "model": self.model,
            "choices": choices,
        });
        // What nobody counted is not nothing.
        if self.usage != Usage::default() {
            answer["usage"] = usage(&self.usage);
        }
        json_bytes(&answer)
    }
}

impl Choice {
    fn json(&self, index: usize) -> Value {
        let mut message = json!({"role": "assistant", "content": self.content, "refusal": self.refusal});
        if let Some(reasoning) = &self.reasoning {
            message["reasoning_content"] = reasoning.as_str().into();
        }
        if !self.tool_calls.is_empty() {
            let call = |(id, name, arguments): &(String, String, String)| json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}});
            message["tool_calls"] = self.tool_calls.iter().map(call).collect();
        }
        for (number, extra) in self.call_extra.iter().enumerate().take(self.tool_calls.len()) {
            for (name, value) in extra {
                message["tool_calls"][number][name] = value.clone();
            }
        }
        for (name, value) in &self.extra {
            message[name] = value.clone();
        }
        json!({"index": index, "message": message, "logprobs": null, "finish_reason": self.finish})
    }
}

/// What stays the same in every chunk of a streamed answer.
#[derive(Clone, Debug, Default)]
pub struct Chunks {
    pub id: String,
    pub created: u64,
    pub model: String,
}

impl Chunks {
    /// An event of one choice's `delta`, for instance `{"content": "…"}`; `finish` in the last one.
    pub fn delta(&self, index: usize, delta: Value, finish: Option<&str>) -> Bytes {
        self.event(json!([{"index": index, "delta": delta, "logprobs": null, "finish_reason": finish}]), None)
    }

    /// The event that begins an answer.
    pub fn role(&self, index: usize) -> Bytes {
        self.delta(index, json!({"role": "assistant", "content": ""}), None)
    }

    /// The event that begins tool call number `call`.
    pub fn tool_begin(&self, index: usize, call: usize, id: &str, name: &str) -> Bytes {
        let call = json!({"index": call, "id": id, "type": "function", "function": {"name": name, "arguments": ""}});
        self.delta(index, json!({"tool_calls": [call]}), None)
    }

    /// More of the arguments of tool call number `call`.
    pub fn tool_more(&self, index: usize, call: usize, arguments: &str) -> Bytes {
        self.delta(index, json!({"tool_calls": [{"index": call, "function": {"arguments": arguments}}]}), None)
    }

    /// The event that carries nothing but usage.
    pub fn usage(&self, tokens: &Usage) -> Bytes {
        self.event(json!([]), Some(usage(tokens)))
    }

    fn event(&self, choices: Value, usage: Option<Value>) -> Bytes {
        let mut chunk = json!({
            "id": self.id, "object": "chat.completion.chunk", "created": self.created, "model": self.model,
            "choices": choices,
        });
        if let Some(usage) = usage {
            chunk["usage"] = usage;
        }
        event(&chunk)
    }
}

/// The event that ends a stream.
pub fn done() -> Bytes {
    Bytes::from_static(crate::providers::sse::DONE)
}

/// A failure to read what should be in a dialect: where, and not what stands there.
pub fn unreadable(what: &str, error: &serde_json::Error) -> Failure {
    let message = format!("{what}: it cannot be read at line {}, column {}", error.line(), error.column());
    Failure::new(FailureKind::Garbage, message)
}

/// Usage in OpenAI's words. `prompt_tokens` counts what was read from a cache or written to one, too.
pub fn usage(tokens: &Usage) -> Value {
    json!({
        "prompt_tokens": tokens.prompt_tokens,
        "completion_tokens": tokens.completion_tokens,
        "total_tokens": tokens.prompt_tokens + tokens.completion_tokens,
        "prompt_tokens_details": {
            "cached_tokens": tokens.cached_tokens,
            "cache_write_tokens": tokens.cache_write_tokens,
            "cache_write_1h_tokens": tokens.cache_write_1h_tokens,
            "audio_tokens": tokens.audio_tokens,
        },
        "completion_tokens_details": {
            "reasoning_tokens": tokens.reasoning_tokens,
            "audio_tokens": tokens.completion_audio_tokens,
        },
    })
}

/// `null` where a list may stand is an empty one.
fn none_as_empty<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

fn event(value: &Value) -> Bytes {
    Bytes::from(format!("data: {value}\n\n"))
}

fn json_bytes(value: &Value) -> Bytes {
    Bytes::from(value.to_string())
}
