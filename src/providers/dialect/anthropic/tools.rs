//! Tool definitions, which of them is to be called, and the answer in JSON.

use super::messages::note;
use super::model::Abilities;
use super::{ANSWER_TOOL, schema};
use crate::providers::dialect::wire::{Function, Request, Tool, ToolChoice};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};
use std::borrow::Cow;

/// A tool in Anthropic's words.
#[derive(Debug, Serialize)]
pub struct Definition<'a> {
    pub name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<&'a str>,
    pub input_schema: Cow<'a, RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strict: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_control: Option<&'a Value>,
}

/// Everything about tools and the answer's form.
#[derive(Debug, Default)]
pub struct Tools<'a> {
    pub definitions: Vec<Definition<'a>>,
    pub choice: Option<Value>,
    /// Whether a tool must be called, which no model does while it thinks.
    pub forced: bool,
    /// `output_config.format`
    pub format: Option<Value>,
    /// What the model must be told of the answer's form.
    pub instruction: Option<&'static str>,
}

impl<'a> Tools<'a> {
    /// Reads them off the request; what is lost goes into `lost`.
    pub fn of(request: &'a Request, abilities: Abilities, lost: &mut Vec<String>) -> Self {
        let functions = request.tools.iter().filter_map(|tool| Some((tool, tool.function.as_ref()?)));
        let mut tools = Tools {
            definitions: functions.map(|(tool, function)| definition(tool, function, abilities, lost)).collect(),
            ..Tools::default()
        };
        tools.choose(request, abilities, lost);
        tools.shape(request, abilities, lost);
        if tools.definitions.is_empty() {
            tools.recall(request);
        }
        tools
    }

    fn choose(&mut self, request: &Request, abilities: Abilities, lost: &mut Vec<String>) {
        if self.definitions.is_empty() {
            return;
        }
        let mut choice = match &request.tool_choice {
            None => json!({"type": "auto"}),
            Some(ToolChoice::Word(word)) if word == "none" => json!({"type": "none"}),
            Some(ToolChoice::Word(word)) if word == "required" => json!({"type": "any"}),
            Some(ToolChoice::Word(_)) => json!({"type": "auto"}),
            Some(ToolChoice::Named { function }) => json!({"type": "tool", "name": function.name}),
            Some(ToolChoice::Other(_)) => {
                note(lost, "tool_choice: of its forms, `none`, `auto`, `required` and a function by name can be said");
                json!({"type": "auto"})
            }
        };
        self.forced = choice["type"] == "any" || choice["type"] == "tool";
        if self.forced && !abilities.forced_tools {
            note(lost, "tool_choice: this model cannot be made to call a tool; it was left to choose");
            (self.forced, choice) = (false, json!({"type": "auto"}));
        }
        let alone = request.parallel_tool_calls == Some(false) && choice["type"] != "none";
        if alone {
            choice["disable_parallel_tool_use"] = true.into();
        }
        self.choice = (request.tool_choice.is_some() || alone).then_some(choice);
    }

    /// The answer's form: the model's own structured output, a tool that it must answer through, or a request in words.
    fn shape(&mut self, request: &'a Request, abilities: Abilities, lost: &mut Vec<String>) {
        let Some(format) = &request.response_format else { return };
        let wanted = format.json_schema.as_ref().and_then(|wanted| wanted.schema.as_deref());
        match (format.kind.as_str(), wanted) {
            ("text", _) => {}
            ("json_schema", Some(wanted)) if abilities.structured => {
                let mut schema = serde_json::from_str(wanted.get()).unwrap_or(Value::Null);
                let changed = schema::fit(&mut schema);
                if !changed.is_empty() {
                    note(lost, format!("response_format: its schema was changed in {}", changed.join(", ")));
                }
                self.format = Some(json!({"type": "json_schema", "schema": schema}));
            }
            ("json_schema", Some(wanted)) => self.answer_through(wanted, request),
            _ => {
                note(lost, "response_format: JSON was asked for in words only");
                self.instruction = Some("Answer with one JSON object and nothing else: no explanation, no code fence.");
            }
        }
    }

    fn answer_through(&mut self, schema: &'a RawValue, request: &'a Request) {
        let told = request.response_format.as_ref().and_then(|format| format.json_schema.as_ref());
        let named = matches!(request.tool_choice, Some(ToolChoice::Named { .. })) && !self.definitions.is_empty();
        if named {
            return;
        }
        let others = !self.definitions.is_empty() && self.choice.as_ref().is_none_or(|choice| choice["type"] != "none");
        self.choice = Some(if others { json!({"type": "any"}) } else { json!({"type": "tool", "name": ANSWER_TOOL}) });
        self.forced = true;
        self.definitions.push(Definition {
            name: ANSWER_TOOL,
            description: told.and_then(|told| told.description.as_deref()).or(Some("Gives the answer.")),
            input_schema: Cow::Borrowed(schema),
            strict: None,
            cache_control: None,
        });
    }

    /// Calls in the conversation need tools of their names, also where none may be called any more.
    fn recall(&mut self, request: &'a Request) {
        let calls = request.messages.iter().flat_map(|message| message.tool_calls.iter().flatten());
        for name in calls.filter_map(|call| Some(call.function.as_ref()?.name.as_str())) {
            if !self.definitions.iter().any(|known| known.name == name) {
                let input_schema = Cow::Owned(raw(&json!({"type": "object"})));
                let tool = Definition { name, description: None, input_schema, strict: None, cache_control: None };
                self.definitions.push(tool);
            }
        }
        if !self.definitions.is_empty() {
            self.choice = Some(json!({"type": "none"}));
        }
    }
}

fn definition<'a>(
    tool: &'a Tool,
    function: &'a Function,
    abilities: Abilities,
    lost: &mut Vec<String>,
) -> Definition<'a> {
    let strict = function.strict == Some(true) && {
        let parsed = function.parameters.as_ref().and_then(|raw| serde_json::from_str(raw.get()).ok());
        let fits = abilities.structured && parsed.is_some_and(|mut schema| schema::fit(&mut schema).is_empty());
        if !fits {
            note(lost, format!("tools[].function.strict: not enforced for `{}`", function.name));
        }
        fits
    };
    Definition {
        name: &function.name,
        description: function.description.as_deref(),
        input_schema: input_schema(function.parameters.as_deref()),
        strict: strict.then_some(true),
        cache_control: tool.cache_control.as_ref(),
    }
}

/// The schema byte for byte; one that does not say that it is of an object is made to.
fn input_schema(parameters: Option<&RawValue>) -> Cow<'_, RawValue> {
    let Some(given) = parameters else { return Cow::Owned(raw(&json!({"type": "object"}))) };
    match serde_json::from_str(given.get()) {
        Ok(Value::Object(fields)) if fields.contains_key("type") => Cow::Borrowed(given),
        Ok(Value::Object(mut fields)) => {
            fields.insert("type".into(), "object".into());
            Cow::Owned(raw(&Value::Object(fields)))
        }
        _ => Cow::Owned(raw(&json!({"type": "object"}))),
    }
}

fn raw(value: &Value) -> Box<RawValue> {
    to_raw_value(value).expect("a JSON value serialises")
}
