//! What a request asks for beside the conversation: limits, randomness, the answer's schema, the tier; and what is lost.
//! Tested with the whole request, in `request.rs`.

use super::super::wire::{Request, ResponseFormat};
use serde_json::{Map, Value, json};

/// Parameters of Converse's own that a client may send as they are.
const PASSED: [&str; 7] = [
    "additionalModelRequestFields",
    "additionalModelResponseFieldPaths",
    "guardrailConfig",
    "performanceConfig",
    "projectIdentifier",
    "promptVariables",
    "requestMetadata",
];

/// Parameters that are read elsewhere, or lose nothing.
const READ: [&str; 6] = ["model", "stream_options", "service_tier", "logprobs", "modalities", "prompt_cache_key"];

/// Limits and randomness.
pub fn inference(request: &Request, warnings: &mut Vec<String>) -> Map<String, Value> {
    let mut config = Map::new();
    if let Some(tokens) = request.limit() {
        config.insert("maxTokens".into(), tokens.into());
    }
    for (name, key, value) in [("temperature", "temperature", request.temperature), ("top_p", "topP", request.top_p)] {
        let Some(value) = value else { continue };
        let clamped = value.clamp(0.0, 1.0);
        if clamped != value {
            warnings.push(format!("{name} {value} was limited to {clamped}"));
        }
        config.insert(key.into(), clamped.into());
    }
    let stops: Vec<&String> =
        request.stop.iter().flat_map(|stop| stop.all()).filter(|sequence| !sequence.is_empty()).collect();
    if !stops.is_empty() {
        config.insert("stopSequences".into(), json!(stops));
    }
    config
}

/// The schema that the answer must follow, and how hard the model shall think.
pub fn output(request: &Request, warnings: &mut Vec<String>) -> Map<String, Value> {
    let mut config = Map::new();
    if let Some(ResponseFormat { json_schema: Some(wanted), .. }) = &request.response_format
        && let Some(schema) = &wanted.schema
    {
        let mut definition = json!({"schema": schema.get()});
        for (key, value) in [("name", &wanted.name), ("description", &wanted.description)] {
            if let Some(value) = value {
                definition[key] = value.as_str().into();
            }
        }
        config.insert("textFormat".into(), json!({"type": "json_schema", "structure": {"jsonSchema": definition}}));
    }
    match request.reasoning_effort.as_deref() {
        None => {}
        Some(effort @ ("low" | "medium" | "high" | "xhigh" | "max")) => {
            config.insert("effort".into(), effort.into());
        }
        Some("minimal") => {
            config.insert("effort".into(), "low".into());
            warnings.push("reasoning_effort minimal was sent as low".into());
        }
        Some(other) => warnings.push(format!("reasoning_effort {other} is not sent")),
    }
    config
}

pub fn service_tier(request: &Request, warnings: &mut Vec<String>) -> Option<Value> {
    match request.rest.get("service_tier")?.as_str()? {
        "auto" => None,
        tier @ ("default" | "flex" | "priority" | "reserved") => Some(json!({"type": tier})),
        other => {
            warnings.push(format!("service_tier {other} is not sent"));
            None
        }
    }
}

/// What goes through as it is; a warning for what is lost.
pub fn passed(request: &Request, warnings: &mut Vec<String>) -> Map<String, Value> {
    let mut lose = |name: &str, given: bool| given.then(|| warnings.push(format!("{name} is not sent")));
    lose("seed", request.seed.is_some());
    lose("presence_penalty", request.presence_penalty.is_some_and(|penalty| penalty != 0.0));
    lose("frequency_penalty", request.frequency_penalty.is_some_and(|penalty| penalty != 0.0));
    lose("user", request.user.is_some());
    lose("parallel_tool_calls", request.parallel_tool_calls == Some(false));
    let mut through = Map::new();
    for (name, value) in request.rest.iter().filter(|(_, value)| !value.is_null()) {
        match name.as_str() {
            known if PASSED.contains(&known) => {
                through.insert(name.clone(), value.clone());
            }
            known if READ.contains(&known) => {}
            lost => {
                lose(lost, true);
            }
        }
    }
    through
}
