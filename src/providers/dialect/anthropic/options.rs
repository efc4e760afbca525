//! The parameters beside conversation and tools: thinking, sampling, limits, and those that have no translation.

use super::messages::note;
use super::model::{Abilities, Sampling};
use crate::providers::dialect::wire::Request;
use serde_json::{Map, Value, json};

/// The least that a budget for thinking may be, in tokens.
const LEAST_BUDGET: u64 = 1_024;

/// Parameters that lose nothing where they are not sent: usage is always told, the model's name is replaced, and
/// the others are for OpenAI's own bookkeeping.
const NO_LOSS: [&str; 5] = ["model", "stream_options", "store", "prompt_cache_key", "prompt_cache_retention"];

/// How the model is to think.
#[derive(Debug, Default, PartialEq)]
pub struct Thinking {
    /// `thinking`
    pub config: Option<Value>,
    /// `output_config.effort`
    pub effort: Option<&'static str>,
}

impl Thinking {
    /// From `reasoning_effort`, or the caller's own `thinking`. No model thinks while a tool is forced.
    pub fn of(request: &Request, abilities: Abilities, forced: bool, limit: u64, lost: &mut Vec<String>) -> Self {
        let wanted = request.reasoning_effort.as_deref();
        if let Some(config) = request.rest.get("thinking").filter(|config| config.is_object()) {
            let effort = wanted.filter(|_| abilities.adaptive).and_then(effort);
            return Thinking { config: Some(config.clone()), effort };
        }
        let off = abilities.thinks_unasked && !abilities.always_thinks;
        let off = Thinking { config: off.then(|| json!({"type": "disabled"})), effort: None };
        match wanted {
            _ if forced => {
                if wanted.is_some_and(|wanted| wanted != "none") || off.config.is_some() {
                    note(lost, "reasoning_effort: no thinking while a tool must be called");
                }
                off
            }
            None => Thinking::default(),
            Some("none") if abilities.always_thinks => {
                note(lost, "reasoning_effort: this model always thinks; low instead of none");
                Thinking { config: None, effort: Some("low") }
            }
            Some("none") => off,
            Some(word) => match effort(word) {
                Some(word) if abilities.adaptive => adaptive(word, abilities, lost),
                Some(word) => budget(word, limit, lost),
                None => {
                    note(lost, format!("reasoning_effort: `{word}` is unknown"));
                    Thinking::default()
                }
            },
        }
    }

    /// Whether the model was told to think; sampling is then as the provider has it.
    pub fn is_on(&self) -> bool {
        self.config.as_ref().is_some_and(|config| config["type"] != "disabled")
    }
}

fn effort(word: &str) -> Option<&'static str> {
    match word {
        "minimal" | "low" => Some("low"),
        "medium" => Some("medium"),
        "high" => Some("high"),
        "xhigh" => Some("xhigh"),
        "max" => Some("max"),
        _ => None,
    }
}

fn adaptive(word: &'static str, abilities: Abilities, lost: &mut Vec<String>) -> Thinking {
    let known = word != "xhigh" || abilities.xhigh;
    if !known {
        note(lost, "reasoning_effort: xhigh is unknown to this model; high instead");
    }
    // Without `display`, newer models send thoughts as empty text.
    let config = json!({"type": "adaptive", "display": "summarized"});
    Thinking { config: Some(config), effort: Some(if known { word } else { "high" }) }
}

/// A budget for older models, a guess by powers of four; it leaves a quarter of the limit for the answer.
fn budget(word: &str, limit: u64, lost: &mut Vec<String>) -> Thinking {
    let wanted = match word {
        "low" => LEAST_BUDGET,
        "medium" => 4_096,
        "high" => 16_384,
        _ => 32_768,
    };
    match wanted.min(limit / 4 * 3) {
        tokens if tokens >= LEAST_BUDGET => {
            Thinking { config: Some(json!({"type": "enabled", "budget_tokens": tokens})), effort: None }
        }
        _ => {
            note(lost, format!("reasoning_effort: no room to think within {limit} tokens"));
            Thinking::default()
        }
    }
}

/// `temperature`, `top_p` and `top_k` as far as the model takes them.
pub fn sampling(request: &Request, taken: Sampling, thinking: bool, lost: &mut Vec<String>) -> Map<String, Value> {
    let mut told = Map::new();
    let given = [("temperature", request.temperature), ("top_p", request.top_p), ("top_k", top_k(request))];
    for (name, value) in given.into_iter().filter_map(|(name, value)| Some((name, value?))) {
        let neutral = value == 1.0 && name != "top_k";
        match taken {
            _ if neutral => {}
            Sampling::Neither => note(lost, format!("{name}: this model does not take it")),
            _ if thinking => note(lost, format!("{name}: not while the model thinks")),
            Sampling::Either if name == "top_p" && told.contains_key("temperature") => {
                note(lost, "top_p: this model takes temperature or top_p, not both");
            }
            _ if name == "temperature" && value > 1.0 => {
                note(lost, "temperature: Anthropic's ends at 1");
                told.insert(name.into(), 1.into());
            }
            _ if name == "top_k" => _ = told.insert(name.into(), (value as u64).into()),
            _ => _ = told.insert(name.into(), value.into()),
        }
    }
    told
}

fn top_k(request: &Request) -> Option<f64> {
    request.rest.get("top_k").and_then(Value::as_f64)
}

/// The stop sequences; Anthropic refuses those of nothing but blanks.
pub fn stops<'a>(request: &'a Request, lost: &mut Vec<String>) -> Vec<&'a str> {
    let all = request.stop.iter().flat_map(|stop| stop.all()).map(String::as_str);
    let (kept, blank): (Vec<_>, Vec<_>) = all.partition(|stop| !stop.trim().is_empty());
    if !blank.is_empty() {
        note(lost, "stop: a sequence of nothing but blanks is not taken");
    }
    kept
}

/// The caller's own name for its user. Addresses are refused.
pub fn user<'a>(request: &'a Request, lost: &mut Vec<String>) -> Option<&'a str> {
    let safety = request.rest.get("safety_identifier").and_then(Value::as_str);
    let user = safety.or(request.user.as_deref())?;
    if user.contains('@') {
        note(lost, "user: Anthropic takes no addresses");
    }
    (!user.contains('@')).then_some(user)
}

/// `service_tier`, of which Anthropic knows two.
pub fn service_tier(request: &Request, lost: &mut Vec<String>) -> Option<&'static str> {
    match request.rest.get("service_tier").and_then(Value::as_str)? {
        "auto" | "priority" => Some("auto"),
        "default" | "standard_only" => Some("standard_only"),
        other => {
            note(lost, format!("service_tier: `{other}` is unknown to Anthropic"));
            None
        }
    }
}

/// Names the parameters that Anthropic has nothing like.
pub fn lost_names(request: &Request, lost: &mut Vec<String>) {
    let typed = [
        ("seed", request.seed.is_some()),
        ("presence_penalty", request.presence_penalty.is_some_and(|penalty| penalty != 0.0)),
        ("frequency_penalty", request.frequency_penalty.is_some_and(|penalty| penalty != 0.0)),
    ];
    let translated = ["thinking", "top_k", "cache_control", "safety_identifier", "service_tier"];
    let silent = |name: &str| NO_LOSS.contains(&name) || translated.contains(&name);
    let rest = request.rest.iter().filter(|(name, value)| !silent(name) && !is_nothing(value));
    let names = typed.into_iter().filter(|(_, given)| *given).map(|(name, _)| name);
    for name in names.chain(rest.map(|(name, _)| name.as_str())) {
        note(lost, format!("{name}: Anthropic has nothing like it"));
    }
}

/// A value that asks for nothing.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::Array(list) => list.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}
