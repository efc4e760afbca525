//! What tests of dialects share: recorded requests put in, and what came out of recorded answers, told plainly.

use super::{Asked, Dialect, Frame, Outgoing};
use crate::chat::ChatRequest;
use crate::providers::Failure;
use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};

/// Who asked.
pub fn asked() -> Asked {
    Asked { model: "m".into(), created: 1_700_000_000, json: false }
}

/// A request in the dialect's words.
pub fn sent(dialect: &dyn Dialect, request: &str, model: &str) -> Outgoing {
    let request = ChatRequest::parse(request.as_bytes()).expect("the test's request is one");
    dialect.request(&request, model).expect("the test's request has a translation")
}

/// JSON in bytes.
pub fn json_of(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).expect("JSON comes out")
}

/// The chunks that a stream of one frame a line gives, `"[DONE]"` among them.
pub fn streamed(dialect: &dyn Dialect, lines: &str) -> Result<Vec<Value>, Failure> {
    let mut reader = dialect.reader(&asked()).expect("the dialect translates streams");
    let mut events: Vec<Bytes> = Vec::new();
    for line in lines.lines() {
        events.extend(reader.frame(Frame { name: None, data: line.as_bytes() })?);
    }
    events.extend(reader.end());
    Ok(events.iter().map(|event| chunk(event)).collect())
}

fn chunk(event: &[u8]) -> Value {
    let text = std::str::from_utf8(event).expect("events are text");
    let data = text.strip_prefix("data: ").and_then(|text| text.strip_suffix("\n\n")).expect("a whole event");
    if data == "[DONE]" { json!("[DONE]") } else { json_of(data.as_bytes()) }
}

/// The deltas of a stream's chunks, with the reason in the last.
pub fn deltas(chunks: &[Value]) -> Vec<Value> {
    chunks.iter().filter_map(|chunk| chunk.pointer("/choices/0/delta")).cloned().collect()
}

/// A table of errors: status, body, and what they mean.
pub fn check_errors(dialect: &dyn Dialect, table: &str) {
    for row in json_of(table.as_bytes()).as_array().expect("a table") {
        let status = row["status"].as_u64().and_then(|status| u16::try_from(status).ok()).expect("a status");
        let refusal = dialect.refusal(status, &row["body"]);
        let found = json!({
            "kind": refusal.kind.map(|kind| format!("{kind:?}")), "code": refusal.code,
            "message": refusal.message, "retry_after_s": refusal.retry_after_s,
        });
        for name in ["kind", "code", "message", "retry_after_s"] {
            assert_eq!(found[name], row[name], "{name} of {row}");
        }
    }
}

/// Any JSON, with a dialect's own words as keys now and then.
pub fn any_json(words: &'static [&'static str]) -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-zA-Z{}\": ]{0,8}".prop_map(Value::from),
        prop::sample::select(words).prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 48, 4, move |inner| {
        let key = prop_oneof![3 => prop::sample::select(words).prop_map(String::from), 1 => "[a-z]{1,4}"];
        prop_oneof![
            1 => prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            3 => prop::collection::vec((key, inner), 0..5)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// Whatever JSON comes, nothing panics: not the answer, not the stream, not the error.
pub fn survives(dialect: &dyn Dialect, values: &[Value]) {
    let mut reader = dialect.reader(&asked()).expect("the dialect translates streams");
    for value in values {
        let text = value.to_string();
        let _ = dialect.answer(Bytes::from(text.clone()), &asked());
        let _ = reader.frame(Frame { name: None, data: text.as_bytes() });
        let _ = dialect.refusal(400, value);
    }
    let _ = reader.end();
}
