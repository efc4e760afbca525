//! Tools as Converse's `toolConfig`.

use super::super::wire::{Request, Tool, ToolChoice};
use super::JSON_TOOL;
use super::content::{Block, CachePoint, cache_point};
use super::refusal::refused;
use super::request::Turn;
use crate::providers::Failure;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};

/// Tools, and whether they must be called.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ToolConfig {
    tools: Vec<Entry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<Value>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
enum Entry {
    ToolSpec(ToolSpec),
    CachePoint(CachePoint),
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ToolSpec {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    input_schema: Schema,
    #[serde(skip_serializing_if = "Option::is_none")]
    strict: Option<bool>,
}

/// A JSON schema, byte for byte.
#[derive(Debug, Serialize)]
struct Schema {
    json: Box<RawValue>,
}

/// Tools and choice; `None` where there is nothing to call.
///
/// # Errors
/// `Refused` for a tool that is no function.
pub fn config(request: &Request, turns: &[Turn], warnings: &mut Vec<String>) -> Result<Option<ToolConfig>, Failure> {
    let called = called(turns);
    let word = match &request.tool_choice {
        Some(ToolChoice::Word(word)) => word.as_str(),
        Some(ToolChoice::Named { .. }) => "named",
        Some(ToolChoice::Other(_)) => {
            warnings.push("tool_choice is not sent".into());
            "auto"
        }
        None => "",
    };
    // `none` has no word of its own; but tools that were called before must be defined.
    let offered = word != "none" && !request.tools.is_empty();
    let mut tools = Vec::new();
    if offered || !called.is_empty() {
        for tool in &request.tools {
            tools.extend(entries(tool)?);
        }
    }
    if tools.is_empty() {
        tools.extend(called.iter().map(|name| Entry::ToolSpec(ToolSpec::bare(name, None))));
    }
    let answers = wants_object(request) && !matches!(word, "required" | "named");
    if answers {
        let purpose = "Gives the answer: call it with the JSON object that was asked for.";
        tools.push(Entry::ToolSpec(ToolSpec::bare(JSON_TOOL, Some(purpose))));
    }
    let tool_choice = match (&request.tool_choice, word) {
        (Some(ToolChoice::Named { function }), _) => Some(json!({"tool": {"name": function.name}})),
        (_, "required") => Some(json!({"any": {}})),
        _ if answers && offered => Some(json!({"any": {}})),
        _ if answers => Some(json!({"tool": {"name": JSON_TOOL}})),
        (_, "auto") => Some(json!({"auto": {}})),
        (_, "none") if !tools.is_empty() => {
            warnings.push("tool_choice none is not sent: tools were called before".into());
            None
        }
        _ => None,
    };
    Ok((!tools.is_empty()).then_some(ToolConfig { tools, tool_choice }))
}

/// A JSON object is wanted, and no schema tells which.
fn wants_object(request: &Request) -> bool {
    request.response_format.as_ref().is_some_and(|format| match format.kind.as_str() {
        "json_object" => true,
        "json_schema" => format.json_schema.as_ref().is_none_or(|wanted| wanted.schema.is_none()),
        _ => false,
    })
}

/// Names of the tools that were called in the conversation, each once.
fn called(turns: &[Turn]) -> Vec<&str> {
    let mut names = Vec::new();
    for block in turns.iter().flat_map(|turn| &turn.content) {
        match block {
            Block::ToolUse(call) if !names.contains(&call.name.as_str()) => names.push(call.name.as_str()),
            _ => {}
        }
    }
    names
}

fn entries(tool: &Tool) -> Result<impl Iterator<Item = Entry>, Failure> {
    let function = tool.function.as_ref().filter(|_| tool.kind == "function");
    let function = function.ok_or_else(|| refused("Bedrock takes functions alone as tools.".into()))?;
    let bare = ToolSpec::bare(&function.name, function.description.as_deref());
    let spec = ToolSpec {
        input_schema: function.parameters.clone().map_or(bare.input_schema, |json| Schema { json }),
        strict: function.strict.filter(|strict| *strict),
        ..bare
    };
    Ok([Some(Entry::ToolSpec(spec)), cache_point(tool.cache_control.as_ref()).map(Entry::CachePoint)]
        .into_iter()
        .flatten())
}

impl ToolSpec {
    /// One that takes any object.
    fn bare(name: &str, description: Option<&str>) -> Self {
        let json = to_raw_value(&json!({"type": "object", "properties": {}})).expect("a JSON value serialises");
        let description = description.filter(|text| !text.is_empty()).map(String::from);
        ToolSpec { name: name.into(), description, input_schema: Schema { json }, strict: None }
    }
}

#[cfg(test)]
mod tests {
    use super::super::request::translate;
    use super::*;

    const TOOLS: &str = r#""tools":[{"type":"function","function":{"name":"f"}}]"#;
    const CALLED: &str = r#"{"role":"user","content":"x"},{"role":"assistant","tool_calls":[{"id":"1","type":"function","function":{"name":"g","arguments":"{}"}}]},{"role":"tool","tool_call_id":"1","content":"ok"}"#;

    /// Names of the tools, and the choice.
    fn config(messages: &str, more: &str) -> (Vec<String>, Value) {
        let body = format!(r#"{{"messages":[{messages}],{more}}}"#);
        let request = crate::chat::ChatRequest::parse(body.as_bytes()).unwrap().typed().unwrap();
        let body: Value = serde_json::from_slice(&translate(&request).unwrap().0).unwrap();
        let tools = body.pointer("/toolConfig/tools").and_then(Value::as_array).cloned().unwrap_or_default();
        let names = tools.iter().map(|tool| tool["toolSpec"]["name"].as_str().unwrap().to_string()).collect();
        (names, body.pointer("/toolConfig/toolChoice").cloned().unwrap_or_default())
    }

    #[test]
    fn choices_in_converses_words() {
        let user = r#"{"role":"user","content":"x"}"#;
        let choose = |choice: &str| config(user, &format!(r#"{TOOLS},"tool_choice":{choice}"#));
        assert_eq!(choose(r#""auto""#), (vec!["f".into()], json!({"auto": {}})));
        assert_eq!(choose(r#""required""#), (vec!["f".into()], json!({"any": {}})));
        let named = json!({"tool": {"name": "f"}});
        assert_eq!(choose(r#"{"type":"function","function":{"name":"f"}}"#), (vec!["f".into()], named));
        assert_eq!(choose(r#""none""#), (vec![], Value::Null));
    }

    #[test]
    fn tools_that_were_called_are_always_defined() {
        assert_eq!(config(CALLED, r#""n":1"#), (vec!["g".into()], Value::Null));
        assert_eq!(config(CALLED, &format!(r#"{TOOLS},"tool_choice":"none""#)), (vec!["f".into()], Value::Null));
    }

    #[test]
    fn an_object_is_answered_by_a_call_beside_the_clients_own() {
        let object = r#""response_format":{"type":"json_object"}"#;
        let user = r#"{"role":"user","content":"x"}"#;
        let both = vec!["f".to_string(), JSON_TOOL.to_string()];
        assert_eq!(config(user, &format!("{TOOLS},{object}")), (both, json!({"any": {}})));
        let must = format!(r#"{TOOLS},{object},"tool_choice":"required""#);
        assert_eq!(config(user, &must), (vec!["f".into()], json!({"any": {}})));
        let forced = json!({"tool": {"name": JSON_TOOL}});
        assert_eq!(config(CALLED, object), (vec!["g".into(), JSON_TOOL.into()], forced));
    }
}
