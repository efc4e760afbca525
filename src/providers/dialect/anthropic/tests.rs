//! The dialect on recorded requests, answers and streams.

use super::*;
use crate::providers::dialect::Frame;
use crate::providers::sse;
use proptest::prelude::*;
use serde_json::json;

macro_rules! recorded {
    ($file:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/dialects/anthropic/", $file))
    };
}

const DIALECT: Anthropic = Anthropic { version: String::new() };

fn asked() -> Asked {
    Asked { model: "claude-opus-5-5".into(), created: 5, json: false }
}

fn outgoing(request: &str, model: &str) -> Outgoing {
    DIALECT.request(&ChatRequest::parse(request.as_bytes()).unwrap(), model).unwrap()
}

/// What is sent, and the warnings.
fn sent(request: Value, model: &str) -> (Value, Vec<String>) {
    let outgoing = outgoing(&request.to_string(), model);
    (serde_json::from_slice(&outgoing.body).unwrap(), outgoing.warnings)
}

fn ask(more: Value) -> Value {
    let mut request = json!({"messages": [{"role": "user", "content": "hi"}]});
    request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    request
}

/// The chunks that a stream's text becomes, `[DONE]` as a string.
fn chunks(stream: &str) -> Result<Vec<Value>, Failure> {
    let mut reader = DIALECT.reader(&asked()).unwrap();
    let mut said = Vec::new();
    for event in stream.split("\n\n").filter(|event| !event.trim().is_empty()) {
        let (name, data) = sse::frame(event.as_bytes()).unwrap();
        said.extend(reader.frame(Frame { name: name.as_deref(), data: data.as_bytes() })?);
    }
    said.extend(reader.end());
    let data = said.iter().map(|event| sse::frame(event).unwrap().1);
    Ok(data.map(|data| serde_json::from_str(&data).unwrap_or(Value::String(data))).collect())
}

#[test]
fn a_conversation_with_tools_images_and_marks_is_translated() {
    let outgoing = outgoing(recorded!("conversation.json"), "claude-opus-4-5");
    let expected: Value = serde_json::from_str(recorded!("conversation.sent.json")).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&outgoing.body).unwrap(), expected);
    let schema = r#""input_schema":{"type":"object", "properties":{"city":{"type":"string"}}}"#;
    assert!(std::str::from_utf8(&outgoing.body).unwrap().contains(schema), "a schema keeps its bytes");
    let lost: Vec<&str> = outgoing.warnings.iter().map(|clause| clause.split(':').next().unwrap()).collect();
    assert_eq!(lost, ["image_url.detail", "temperature", "top_p", "stop", "seed"]);
}

#[test]
fn plain_words_need_nothing_and_lose_nothing() {
    let (body, lost) =
        sent(ask(json!({"temperature": 1, "stream_options": {"include_usage": true}})), "claude-opus-5-5");
    let words = json!([{"role": "user", "content": [{"type": "text", "text": "hi"}]}]);
    assert_eq!(body, json!({"model": "claude-opus-5-5", "max_tokens": 32_000, "messages": words}));
    assert!(lost.is_empty(), "{lost:?}");
}

#[test]
fn effort_becomes_thinking_as_each_generation_takes_it() {
    let effort = |word: &str, model| {
        let (body, lost) = sent(ask(json!({"reasoning_effort": word, "temperature": 0.5})), model);
        (
            body["thinking"].clone(),
            body["output_config"]["effort"].clone(),
            body.get("temperature").is_some(),
            lost.len(),
        )
    };
    let adaptive = json!({"type": "adaptive", "display": "summarized"});
    assert_eq!(effort("xhigh", "claude-opus-5"), (adaptive.clone(), json!("xhigh"), false, 1));
    assert_eq!(effort("xhigh", "claude-opus-4-6"), (adaptive, json!("high"), false, 2));
    let budget = json!({"type": "enabled", "budget_tokens": 4096});
    assert_eq!(effort("medium", "claude-sonnet-4-5"), (budget, Value::Null, false, 1));
    assert_eq!(effort("none", "claude-sonnet-4-5"), (Value::Null, Value::Null, true, 0));
    assert_eq!(effort("none", "claude-sonnet-5"), (json!({"type": "disabled"}), Value::Null, false, 1));
    assert_eq!(effort("none", "claude-fable-5"), (Value::Null, json!("low"), false, 2));
}

#[test]
fn a_forced_tool_stops_thinking_and_is_left_free_where_it_cannot_be_forced() {
    let request = ask(json!({"tool_choice": "required", "reasoning_effort": "high",
        "tools": [{"type": "function", "function": {"name": "f"}}]}));
    let (body, lost) = sent(request.clone(), "claude-opus-5");
    assert_eq!((&body["tool_choice"], &body["thinking"]), (&json!({"type": "any"}), &json!({"type": "disabled"})));
    assert!(lost[0].starts_with("reasoning_effort"));
    let (body, lost) = sent(request, "claude-opus-5-5");
    assert_eq!((&body["tool_choice"], &body["thinking"]["type"]), (&json!({"type": "auto"}), &json!("adaptive")));
    assert!(lost[0].starts_with("tool_choice"));
}

#[test]
fn structured_output_is_the_models_own_or_a_forced_tool() {
    let schema = json!({"type": "object", "properties": {"n": {"type": "integer", "maximum": 9}}});
    let format = json!({"type": "json_schema", "json_schema": {"name": "x", "schema": schema}});
    let (body, lost) = sent(ask(json!({"response_format": format})), "claude-haiku-5-5");
    let kept = &body["output_config"]["format"]["schema"];
    assert_eq!(
        (&kept["additionalProperties"], &kept["properties"]["n"]["description"]),
        (&json!(false), &json!("(maximum: 9)"))
    );
    assert_eq!(lost, ["response_format: its schema was changed in additionalProperties, maximum"]);

    let (body, lost) = sent(ask(json!({"response_format": format})), "claude-3-5-haiku");
    assert_eq!(body["tool_choice"], json!({"type": "tool", "name": ANSWER_TOOL}));
    assert_eq!((&body["tools"][0]["input_schema"], lost.len()), (&schema, 0));
    let answer = json!({"content": [{"type": "tool_use", "id": "t", "name": ANSWER_TOOL, "input": {"n": 3}}], "stop_reason": "tool_use"});
    let answer = DIALECT.answer(answer.to_string().into(), &asked()).unwrap();
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    assert_eq!(answer["choices"][0]["message"]["content"], r#"{"n":3}"#);
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");

    let (body, lost) = sent(ask(json!({"response_format": {"type": "json_object"}})), "claude-haiku-5-5");
    assert!(body["system"][0]["text"].as_str().unwrap().contains("JSON") && lost[0].starts_with("response_format"));
}

#[test]
fn an_answer_is_told_whole_and_its_thinking_returns_in_its_place() {
    let answer = DIALECT.answer(recorded!("answer.json").into(), &asked()).unwrap();
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    let choice = &answer["choices"][0];
    assert_eq!(choice["finish_reason"], "tool_calls");
    assert_eq!(
        (&choice["message"]["content"], &choice["message"]["reasoning_content"]),
        (&json!("I will look."), &json!("Both at once."))
    );
    assert_eq!(
        choice["message"]["tool_calls"][1]["function"],
        json!({"name": "weather", "arguments": r#"{"city":"Rome"}"#})
    );
    let usage = json!({"prompt_tokens": 5520, "completion_tokens": 90, "total_tokens": 5610,
        "prompt_tokens_details": {"cached_tokens": 4000, "cache_write_tokens": 1500, "cache_write_1h_tokens": 1000, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 30, "audio_tokens": 0}});
    assert_eq!(answer["usage"], usage);

    let result = json!({"role": "tool", "tool_call_id": "toolu_1", "content": "-4"});
    let next = json!({"messages": [{"role": "user", "content": "hi"}, choice["message"], result]});
    let recorded: Value = serde_json::from_str(recorded!("answer.json")).unwrap();
    assert_eq!(sent(next.clone(), "claude-opus-5-5").0["messages"][1]["content"], recorded["content"]);
    let (elsewhere, lost) = sent(next, "claude-sonnet-5-5");
    assert_eq!(elsewhere["messages"][1]["content"].as_array().unwrap().len(), 3);
    assert_eq!(lost, ["thinking of another model was left out of the conversation"]);
}

#[test]
fn a_stream_with_two_calls_is_told_as_it_comes() {
    let said = chunks(recorded!("stream.txt")).unwrap();
    let deltas: Vec<&Value> = said.iter().filter_map(|chunk| chunk.pointer("/choices/0/delta")).collect();
    let call = |index: u64, id: &str, name: &str| json!({"tool_calls": [{"index": index, "id": id, "type": "function", "function": {"name": name, "arguments": ""}}]});
    let more = |index: u64, text: &str| json!({"tool_calls": [{"index": index, "function": {"arguments": text}}]});
    let state = json!({"provider_state": {"anthropic": {"model": "claude-opus-5-5", "blocks": [
        {"type": "thinking", "thinking": "Both at once.", "signature": "c2ln"}, {"type": "text", "bytes": 12},
        {"type": "tool_use", "id": "toolu_1"}, {"type": "tool_use", "id": "toolu_2"}]}}});
    let expected = [
        json!({"role": "assistant", "content": ""}),
        json!({"reasoning_content": "Both "}),
        json!({"reasoning_content": "at once."}),
        json!({"content": "I will look."}),
        call(0, "toolu_1", "weather"),
        more(0, "{\"city\":"),
        more(0, " \"Oslo\"}"),
        call(1, "toolu_2", "now"),
        more(1, "{}"),
        state,
        json!({}),
    ];
    assert_eq!(deltas, expected.iter().collect::<Vec<_>>());
    let [.., finish, usage, done] = said.as_slice() else { panic!("{said:?}") };
    assert_eq!(finish["choices"][0]["finish_reason"], "tool_calls");
    assert_eq!(
        (&usage["choices"], &usage["usage"]["prompt_tokens"], &usage["usage"]["completion_tokens"]),
        (&json!([]), &json!(4020), &json!(90))
    );
    assert_eq!((done, said[0]["id"].as_str()), (&json!("[DONE]"), Some("msg_02")));
}

#[test]
fn a_stream_that_breaks_off_or_fails_is_not_done() {
    let (cut, _) = recorded!("stream.txt").split_once("event: message_stop").unwrap();
    assert!(!chunks(cut).unwrap().contains(&json!("[DONE]")));
    let error = r#"event: error
data: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
    let failure = chunks(&format!("{cut}{error}")).unwrap_err();
    assert_eq!((failure.kind, failure.code), (FailureKind::Busy, Some("server_overloaded")));
    assert_eq!(chunks("data: <html>").unwrap_err().kind, FailureKind::Garbage);
}

#[test]
fn errors_are_known_by_their_type() {
    let meaning = |status, kind: &str, message: &str| {
        let refusal = DIALECT.refusal(status, &json!({"type": "error", "error": {"type": kind, "message": message}}));
        (refusal.kind, refusal.code)
    };
    let long = "prompt is too long: 208656 tokens > 200000 maximum";
    assert_eq!(
        meaning(400, "invalid_request_error", long),
        (Some(FailureKind::TooLong), Some("context_length_exceeded"))
    );
    assert_eq!(meaning(400, "invalid_request_error", "max_tokens: required"), (None, None));
    let poor = "Your credit balance is too low to access the Anthropic API.";
    assert_eq!(
        meaning(400, "invalid_request_error", poor),
        (Some(FailureKind::Misconfigured), Some("insufficient_quota"))
    );
    assert_eq!(meaning(529, "overloaded_error", "Overloaded"), (Some(FailureKind::Busy), Some("server_overloaded")));
    assert_eq!(
        meaning(404, "not_found_error", "model: x"),
        (Some(FailureKind::Misconfigured), Some("model_not_found"))
    );
}

#[test]
fn what_cannot_be_said_is_known_beforehand() {
    let needs = |body: Value| DIALECT.impossible(&ChatRequest::parse(body.to_string().as_bytes()).unwrap().needs);
    assert_eq!(needs(ask(json!({"n": 1}))), None);
    assert!(needs(ask(json!({"n": 2}))).unwrap().contains("`n`"));
    assert!(needs(ask(json!({"logprobs": true}))).unwrap().contains("`logprobs`"));
}

#[test]
fn the_key_and_the_version_travel_in_their_headers() {
    let url = reqwest::Url::parse("http://127.0.0.1/").unwrap();
    let mut request = reqwest::Request::new(reqwest::Method::POST, url);
    let text = "[[provider]]\nname = \"x\"\nkind = \"anthropic\"\nkey = \"env:PATH\"\n";
    let config = crate::config::Config::resolve("t", crate::config::layered("t", text).unwrap()).unwrap();
    let provider = config.providers.into_iter().find(|provider| provider.name == "x").unwrap();
    let crate::config::ProviderKind::Http(http) = provider.kind else { panic!("an endpoint") };
    Anthropic::new(&http).sign(&mut request, &http).unwrap();
    assert_eq!(request.headers()["anthropic-version"], VERSION);
    assert!(request.headers()["x-api-key"].is_sensitive() && !request.headers().contains_key("authorization"));
}

fn any_json() -> impl Strategy<Value = Value> {
    let word = prop::sample::select(vec![
        "type",
        "text",
        "thinking",
        "tool_use",
        "content",
        "content_block",
        "delta",
        "index",
        "message",
        "usage",
        "error",
        "input_json_delta",
        "partial_json",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_start",
        "message_delta",
        "message_stop",
        "text_delta",
        "thinking_delta",
        "id",
        "name",
        "input",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        word.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((word.clone(), inner), 0..6).prop_map(|fields| Value::Object(
                fields.into_iter().map(|(name, value)| (name.to_string(), value)).collect()
            )),
        ]
    })
}

proptest! {
    /// Whatever comes, nothing panics; and what is taken for an answer is one for the client.
    #[test]
    fn nothing_that_comes_can_panic(frames in prop::collection::vec(any_json(), 1..12)) {
        let mut reader = DIALECT.reader(&asked()).unwrap();
        for frame in &frames {
            let text = frame.to_string();
            if let Ok(answer) = DIALECT.answer(Bytes::from(text.clone()), &asked()) {
                prop_assert!(sse::read_whole(&answer).is_some());
            }
            let _ = DIALECT.refusal(400, frame);
            for event in reader.frame(Frame { name: None, data: text.as_bytes() }).unwrap_or_default() {
                prop_assert!(!sse::read(&event).garbage);
            }
        }
    }
}
