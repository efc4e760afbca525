//! The request's body, put together from its parts.

use super::messages::Conversation;
use super::model::Abilities;
use super::options::{self, Thinking};
use super::tools::Tools;
use crate::providers::Failure;
use crate::providers::dialect::wire::Request;
use bytes::Bytes;
use indexmap::IndexMap;
use serde::Serialize;
use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};

/// The body's fields in their order; tool definitions keep the bytes of their schemas.
#[derive(Default, Serialize)]
#[serde(transparent)]
struct Body(IndexMap<String, Box<RawValue>>);

impl Body {
    fn put(&mut self, name: &str, value: &(impl Serialize + ?Sized)) {
        self.0.insert(name.into(), to_raw_value(value).expect("strings, numbers and JSON serialise"));
    }

    fn put_some(&mut self, name: &str, value: Option<&(impl Serialize + ?Sized)>) {
        if let Some(value) = value {
            self.put(name, value);
        }
    }

    fn put_list<T: Serialize>(&mut self, name: &str, list: &[T]) {
        self.put_some(name, (!list.is_empty()).then_some(list));
    }
}

/// The body for `model`, and what was lost in translation, a clause each.
///
/// # Errors
/// `Refused` for what cannot be said to Anthropic.
pub fn body(request: &Request, model: &str) -> Result<(Bytes, Vec<String>), Failure> {
    let abilities = Abilities::of(model);
    let mut lost = Vec::new();
    let mut conversation = Conversation::of(&request.messages, model, &mut lost)?;
    let tools = Tools::of(request, abilities, &mut lost);
    let limit = request.limit().unwrap_or(abilities.default_max_tokens);
    let thinking = Thinking::of(request, abilities, tools.forced, limit, &mut lost);
    let sampling = options::sampling(request, abilities.sampling, thinking.is_on(), &mut lost);
    conversation.system.extend(tools.instruction.map(|text| json!({"type": "text", "text": text})));
    let mut output = serde_json::Map::new();
    output.extend(tools.format.map(|format| ("format".to_string(), format)));
    output.extend(thinking.effort.map(|effort| ("effort".to_string(), effort.into())));

    let mut body = Body::default();
    body.put("model", model);
    body.put("max_tokens", &limit);
    body.put_list("system", &conversation.system);
    body.put_list("messages", &conversation.turns);
    body.put_list("tools", &tools.definitions);
    body.put_some("tool_choice", tools.choice.as_ref());
    body.put_some("thinking", thinking.config.as_ref());
    body.put_some("output_config", (!output.is_empty()).then_some(&output));
    for (name, value) in &sampling {
        body.put(name, value);
    }
    body.put_list("stop_sequences", &options::stops(request, &mut lost));
    body.put_some("metadata", options::user(request, &mut lost).map(|user| json!({"user_id": user})).as_ref());
    body.put_some("service_tier", options::service_tier(request, &mut lost));
    body.put_some("cache_control", request.rest.get("cache_control"));
    body.put_some("stream", request.stream.filter(|stream| *stream).as_ref());
    options::lost_names(request, &mut lost);
    Ok((Bytes::from(serde_json::to_vec(&body).expect("raw JSON serialises")), lost))
}
