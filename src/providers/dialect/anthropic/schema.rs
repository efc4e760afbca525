//! JSON schemas as Anthropic's structured output takes them: no other properties than those named, no limits on numbers,
//! lengths and counts. A limit that cannot be enforced is told to the model in the description.

use serde_json::{Map, Value};

/// Keywords that are refused.
const REFUSED: [&str; 13] = [
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "uniqueItems",
    "minProperties",
    "maxProperties",
    "default",
];

/// Formats of strings that are taken.
const FORMATS: [&str; 10] =
    ["date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"];

/// Makes a schema one that is taken; the names of the keywords that went, each once. Empty: it is as it was.
pub fn fit(schema: &mut Value) -> Vec<&'static str> {
    let mut changed = Vec::new();
    walk(schema, &mut changed);
    changed
}

fn walk(schema: &mut Value, changed: &mut Vec<&'static str>) {
    let Value::Object(fields) = schema else { return };
    let mut told = Vec::new();
    for name in REFUSED {
        if name == "minItems" && fields.get(name).and_then(Value::as_u64).is_some_and(|count| count <= 1) {
            continue;
        }
        if let Some(value) = fields.shift_remove(name) {
            told.push(format!("{name}: {value}"));
            mark(changed, name);
        }
    }
    if fields.get("format").and_then(Value::as_str).is_some_and(|format| !FORMATS.contains(&format)) {
        told.extend(fields.shift_remove("format").map(|value| format!("format: {value}")));
        mark(changed, "format");
    }
    if !told.is_empty() {
        let words = fields.get("description").and_then(Value::as_str).unwrap_or_default();
        let words = format!("{words} ({})", told.join(", "));
        fields.insert("description".into(), words.trim_start().into());
    }
    close(fields, changed);
    if let Some(choices) = fields.shift_remove("oneOf") {
        fields.insert("anyOf".into(), choices);
        mark(changed, "oneOf");
    }
    children(fields, changed);
}

/// An object takes the properties named and no others.
fn close(fields: &mut Map<String, Value>, changed: &mut Vec<&'static str>) {
    let object = fields.get("type").is_some_and(|kind| kind == "object") || fields.contains_key("properties");
    if object && fields.get("additionalProperties") != Some(&Value::Bool(false)) {
        fields.insert("additionalProperties".into(), false.into());
        mark(changed, "additionalProperties");
    }
}

fn children(fields: &mut Map<String, Value>, changed: &mut Vec<&'static str>) {
    for (name, value) in fields {
        match (name.as_str(), value) {
            ("properties" | "$defs" | "definitions", Value::Object(named)) => {
                named.values_mut().for_each(|schema| walk(schema, changed));
            }
            ("anyOf" | "allOf" | "prefixItems", Value::Array(list)) => {
                list.iter_mut().for_each(|schema| walk(schema, changed));
            }
            ("items", schema) => walk(schema, changed),
            _ => {}
        }
    }
}

fn mark(changed: &mut Vec<&'static str>, name: &'static str) {
    if !changed.contains(&name) {
        changed.push(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn limits_move_into_words_and_objects_are_closed() {
        let mut schema = json!({"type": "object", "properties": {
            "age": {"type": "integer", "minimum": 0, "description": "In years."},
            "tags": {"type": "array", "minItems": 1, "items": {"oneOf": [{"type": "string", "format": "regex"}]}}}});
        assert_eq!(fit(&mut schema), ["additionalProperties", "minimum", "oneOf", "format"]);
        let expected = json!({"type": "object", "properties": {
            "age": {"type": "integer", "description": "In years. (minimum: 0)"},
            "tags": {"type": "array", "minItems": 1,
                "items": {"anyOf": [{"type": "string", "description": "(format: \"regex\")"}]}}},
            "additionalProperties": false});
        assert_eq!(schema, expected);
        assert!(fit(&mut schema).is_empty());
    }
}
