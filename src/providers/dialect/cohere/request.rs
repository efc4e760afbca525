//! A request in Cohere's words.

use super::super::Outgoing;
use super::super::loss::Losses;
use super::super::object::Object;
use super::super::wire::{Content, Function, Message, Part, Request, ToolChoice};
use crate::chat::ChatRequest;
use crate::providers::Failure;
use serde_json::Value;

/// Stop sequences that Cohere takes.
const MAX_STOPS: usize = 5;

/// Parameters of Cohere's own, for callers who know whom they speak to.
const OWN: [&str; 5] = ["k", "safety_mode", "citation_options", "thinking", "priority"];

pub(super) fn outgoing(request: &ChatRequest, model: &str) -> Result<Outgoing, Failure> {
    let asked = Request::of(request)?;
    let mut losses = Losses::default();
    let mut body = Object::default().with("model", model);
    body.put_some("stream", request.stream.then_some(true));
    let mut messages: Vec<Object> = asked.messages.iter().filter_map(|message| one(message, &mut losses)).collect();
    let in_words = tools(&asked, &mut body, &mut losses);
    format(&asked, in_words, &mut messages, &mut body, &mut losses);
    body.put("messages", messages);
    sampling(&asked, &mut body, &mut losses);
    for name in OWN {
        body.put_some(name, asked.rest.get(name).filter(|value| !value.is_null()));
    }
    losses.unknown(&asked, &[OWN.as_slice(), &["top_k"]].concat());
    Ok(Outgoing { path: "/v2/chat".into(), body: body.bytes(), headers: Vec::new(), warnings: losses.clauses() })
}

fn one(message: &Message, losses: &mut Losses) -> Option<Object> {
    let said = |role: &str| Object::default().with("role", role);
    match message.role.as_str() {
        "system" | "developer" => Some(said("system").with("content", text(message, losses))),
        "assistant" => spoken(message, losses),
        "tool" | "function" => {
            let id = message.tool_call_id.as_deref().or(message.name.as_deref()).unwrap_or_default();
            Some(said("tool").with("tool_call_id", id).with("content", text(message, losses)))
        }
        _ => Some(match &message.content {
            Some(Content::Parts(parts)) => {
                said("user").with("content", parts.iter().filter_map(|part| shown(part, losses)).collect::<Vec<_>>())
            }
            _ => said("user").with("content", text(message, losses)),
        }),
    }
}

/// The content's text, where nothing else may stand.
fn text(message: &Message, losses: &mut Losses) -> String {
    if let Some(Content::Parts(parts)) = &message.content {
        for part in parts.iter().filter(|part| part.text.is_none()) {
            losses.lost(&format!("{} in a {} message", part.kind, message.role));
        }
    }
    message.content.as_ref().map(Content::text).unwrap_or_default()
}

fn shown(part: &Part, losses: &mut Losses) -> Option<Object> {
    if let Some(text) = &part.text {
        return Some(Object::default().with("type", "text").with("text", text));
    }
    let Some(image) = &part.image_url else {
        losses.lost(&format!("content of type {}", part.kind));
        return None;
    };
    let mut address = Object::default().with("url", &image.url);
    address.put_some("detail", image.detail.as_deref());
    Some(Object::default().with("type", "image_url").with("image_url", address))
}

/// What the model said, or, where it called tools, what it said it would do. Cohere refuses a message of neither.
fn spoken(message: &Message, losses: &mut Losses) -> Option<Object> {
    let words = match (text(message, losses), message.refusal.as_deref()) {
        (words, Some(refusal)) if words.is_empty() => refusal.to_string(),
        (words, _) => words,
    };
    let calls: Vec<Object> = message
        .tool_calls
        .iter()
        .flatten()
        .filter_map(|call| {
            let function = call.function.as_ref()?;
            let called = Object::default().with("name", &function.name).with("arguments", &function.arguments);
            Some(Object::default().with("id", &call.id).with("type", "function").with("function", called))
        })
        .collect();
    let mut said = Object::default().with("role", "assistant");
    let spoke = Some(&words).filter(|words| !words.is_empty());
    let foreign = message.tool_calls.iter().flatten().any(|call| call.rest.contains_key("extra_content"));
    losses.lost_if(foreign, "tool_calls[].extra_content");
    if calls.is_empty() {
        said.put("content", spoke?);
        return Some(said);
    }
    said.put_some("tool_plan", spoke);
    said.put("tool_calls", calls);
    Some(said)
}

/// Puts the tools, and how they may be chosen; whether there are any. One tool by name is all that Cohere is shown then,
/// and must be called.
fn tools(asked: &Request, body: &mut Object, losses: &mut Losses) -> bool {
    let (must, names) = match &asked.tool_choice {
        Some(ToolChoice::Named { function }) => (Some("REQUIRED"), Some(vec![function.name.as_str()])),
        Some(ToolChoice::Word(word)) => (word_for(word, losses), None),
        Some(other) => match other.allowed() {
            Some((must, names)) => (must.then_some("REQUIRED"), Some(names)),
            None => {
                losses.lost_if(!matches!(other, ToolChoice::Other(Value::Null)), "tool_choice");
                (None, None)
            }
        },
        None => (None, None),
    };
    let functions = asked.tools.iter().filter_map(|tool| tool.function.as_ref());
    let shown: Vec<&Function> = functions
        .filter(|function| names.as_ref().is_none_or(|names| names.contains(&function.name.as_str())))
        .collect();
    losses.lost_if(shown.len() < asked.tools.len() && shown.is_empty(), "tools");
    if shown.is_empty() {
        return false;
    }
    let strict = shown.iter().filter(|function| function.strict == Some(true)).count();
    body.put_some("strict_tools", (strict == shown.len()).then_some(true));
    losses.lost_if(strict > 0 && strict < shown.len(), "tools[].function.strict");
    losses.lost_if(asked.parallel_tool_calls == Some(false), "parallel_tool_calls");
    body.put("tools", shown.into_iter().map(declared).collect::<Vec<_>>());
    body.put_some("tool_choice", must);
    true
}

fn word_for(word: &str, losses: &mut Losses) -> Option<&'static str> {
    match word {
        "none" => Some("NONE"),
        "required" => Some("REQUIRED"),
        _ => {
            losses.lost_if(word != "auto", "tool_choice");
            None
        }
    }
}

/// Cohere demands a schema; a function without one takes nothing.
fn declared(function: &Function) -> Object {
    let mut said = Object::default().with("name", &function.name);
    said.put_some("description", function.description.as_deref());
    match &function.parameters {
        Some(schema) => said.put("parameters", schema),
        None => said.put("parameters", Object::default().with("type", "object").with("properties", Object::default())),
    }
    Object::default().with("type", "function").with("function", said)
}

/// Cohere refuses to be held to JSON while it has tools: then it is asked in words.
fn format(asked: &Request, tools: bool, messages: &mut Vec<Object>, body: &mut Object, losses: &mut Losses) {
    let Some(format) = asked.response_format.as_ref().filter(|format| format.is_json()) else { return };
    if tools {
        losses.say("response_format is only asked for in words, beside tools");
        messages.insert(0, Object::default().with("role", "system").with("content", format.in_words()));
        return;
    }
    let mut wanted = Object::default().with("type", "json_object");
    wanted.put_some("json_schema", format.schema());
    body.put("response_format", wanted);
}

fn sampling(asked: &Request, body: &mut Object, losses: &mut Losses) {
    body.put_some("max_tokens", asked.limit());
    body.put_some("temperature", asked.temperature.map(|value| losses.clamped("temperature", value, 0.0, 1.0)));
    body.put_some("p", asked.top_p.map(|value| losses.clamped("top_p", value, 0.01, 0.99)));
    body.put_some("k", asked.rest.get("top_k").filter(|value| value.is_u64()));
    body.put_some("seed", asked.seed.map(|value| losses.clamped("seed", value, 0, i64::MAX)));
    let mut penalty = |name, value: Option<f64>| value.map(|value| losses.clamped(name, value, 0.0, 1.0));
    body.put_some("presence_penalty", penalty("presence_penalty", asked.presence_penalty));
    body.put_some("frequency_penalty", penalty("frequency_penalty", asked.frequency_penalty));
    let stops = asked.stop.as_ref().map(|stop| losses.stops(stop.all(), MAX_STOPS));
    body.put_some("stop_sequences", stops.filter(|stops| !stops.is_empty()));
    losses.lost_if(asked.user.is_some(), "user");
    body.put_some("thinking", asked.reasoning_effort.as_deref().map(|effort| thinking(effort, losses)));
}

/// Cohere's models think or do not; degrees are told as a number of tokens.
fn thinking(effort: &str, losses: &mut Losses) -> Object {
    let budget = match effort {
        "none" => return Object::default().with("type", "disabled"),
        "minimal" | "low" => Some(1_024),
        "medium" => Some(8_192),
        _ => None,
    };
    if let Some(budget) = budget {
        losses.say(format!("reasoning_effort {effort} becomes at most {budget} tokens"));
    }
    let mut said = Object::default().with("type", "enabled");
    said.put_some("token_budget", budget);
    said
}
