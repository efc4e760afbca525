//! A request in Gemini's words.

use super::super::Outgoing;
use super::super::loss::Losses;
use super::super::object::Object;
use super::super::wire::{Request, ToolChoice};
use super::contents::{Contents, text};
use super::family::Family;
use crate::chat::ChatRequest;
use crate::providers::Failure;
use serde_json::Value;

/// Stop sequences that Gemini takes.
const MAX_STOPS: usize = 5;

/// Answers that Gemini gives at once.
const MAX_ANSWERS: u64 = 8;

pub(super) fn outgoing(request: &ChatRequest, model: &str) -> Result<Outgoing, Failure> {
    let asked = Request::of(request)?;
    let mut losses = Losses::default();
    let body = body(&asked, Family::of(model), &mut losses);
    losses.unknown(&asked, &["extra_body", "top_k"]);
    let method = if request.stream { "streamGenerateContent?alt=sse" } else { "generateContent" };
    // `tunedModels/…` names its collection itself.
    let path = if model.contains('/') { format!("/{model}:{method}") } else { format!("/models/{model}:{method}") };
    Ok(Outgoing { path, body: body.bytes(), headers: Vec::new(), warnings: losses.clauses() })
}

fn body(asked: &Request, family: Family, losses: &mut Losses) -> Object {
    let mut contents = Contents::of(&asked.messages, family, losses);
    let format = asked.response_format.as_ref().filter(|format| format.is_json());
    // The second generation refuses to be held to JSON while it has tools.
    let in_words = !asked.tools.is_empty() && !family.is_third();
    if let Some(format) = format.filter(|_| in_words) {
        losses.say("response_format is only asked for in words, beside tools");
        contents.system.push(text(&format.in_words()));
    }
    let mut generation = sampling(asked, losses);
    if let Some(format) = format.filter(|_| !in_words) {
        generation.put("responseMimeType", "application/json");
        generation.put_some("responseJsonSchema", format.schema());
    }
    let own = |name: &str| asked.rest.get("extra_body")?.get("google")?.get(name);
    let effort = asked.reasoning_effort.as_deref();
    match own("thinking_config") {
        Some(config) => generation.put("thinkingConfig", config),
        None => generation.put_some("thinkingConfig", effort.and_then(|effort| family.thinking(effort, losses))),
    }
    let mut body = Object::default().with("contents", &contents.turns);
    if !contents.system.is_empty() {
        body.put("systemInstruction", Object::default().with("parts", &contents.system));
    }
    tools(asked, &mut body, losses);
    if !generation.is_empty() {
        body.put("generationConfig", generation);
    }
    body.put_some("cachedContent", own("cached_content"));
    body.put_some("safetySettings", own("safety_settings").filter(|settings| settings.is_array()));
    body
}

fn sampling(asked: &Request, losses: &mut Losses) -> Object {
    let mut config = Object::default();
    config.put_some("maxOutputTokens", asked.limit());
    config.put_some("temperature", asked.temperature.map(|value| losses.clamped("temperature", value, 0.0, 2.0)));
    config.put_some("topP", asked.top_p.map(|value| losses.clamped("top_p", value, 0.0, 1.0)));
    config.put_some("topK", asked.rest.get("top_k").filter(|value| value.is_u64()));
    let seed = |value| losses.clamped("seed", value, i64::from(i32::MIN), i64::from(i32::MAX));
    config.put_some("seed", asked.seed.map(seed));
    // Many models refuse a penalty, and nobody misses one of nothing.
    config.put_some("presencePenalty", asked.presence_penalty.filter(|value| *value != 0.0));
    config.put_some("frequencyPenalty", asked.frequency_penalty.filter(|value| *value != 0.0));
    let answers = asked.n.filter(|answers| *answers > 1);
    config.put_some("candidateCount", answers.map(|answers| losses.clamped("n", answers, 1, MAX_ANSWERS)));
    let stops = asked.stop.as_ref().map(|stop| losses.stops(stop.all(), MAX_STOPS));
    config.put_some("stopSequences", stops.filter(|stops| !stops.is_empty()));
    losses.lost_if(asked.user.is_some(), "user");
    config
}

fn tools(asked: &Request, body: &mut Object, losses: &mut Losses) {
    let functions = asked.tools.iter().filter_map(|tool| tool.function.as_ref());
    let declared: Vec<Object> = functions
        .map(|function| {
            losses.lost_if(function.strict == Some(true), "tools[].function.strict");
            let mut declared = Object::default().with("name", &function.name);
            declared.put_some("description", function.description.as_deref());
            declared.put_some("parametersJsonSchema", function.parameters.as_deref());
            declared
        })
        .collect();
    if declared.is_empty() {
        return;
    }
    body.put("tools", [Object::default().with("functionDeclarations", declared)]);
    losses.lost_if(asked.parallel_tool_calls == Some(false), "parallel_tool_calls");
    if let Some(config) = asked.tool_choice.as_ref().and_then(|choice| calling(choice, losses)) {
        body.put("toolConfig", Object::default().with("functionCallingConfig", config));
    }
}

/// `functionCallingConfig`; none where the model is free.
fn calling(choice: &ToolChoice, losses: &mut Losses) -> Option<Object> {
    let mode = |mode: &str| Object::default().with("mode", mode);
    match choice {
        ToolChoice::Word(word) if word == "auto" => None,
        ToolChoice::Word(word) if word == "none" => Some(mode("NONE")),
        ToolChoice::Word(word) if word == "required" => Some(mode("ANY")),
        ToolChoice::Named { function } => Some(mode("ANY").with("allowedFunctionNames", [&function.name])),
        other => {
            let Some((must, names)) = other.allowed() else {
                losses.lost_if(!matches!(other, ToolChoice::Other(Value::Null)), "tool_choice");
                return None;
            };
            Some(mode(if must { "ANY" } else { "VALIDATED" }).with("allowedFunctionNames", names))
        }
    }
}
