//! Cohere's dialect on recorded JSON.

use super::super::recorded::{any_json, asked, check_errors, deltas, json_of, sent, streamed, survives};
use super::*;
use proptest::prelude::*;
use serde_json::json;

macro_rules! recorded {
    ($name:literal) => {
        include_str!(concat!("../../../../tests/dialects/cohere/", $name))
    };
}

#[test]
fn a_conversation_with_an_image_and_tools() {
    let out = sent(&Cohere, recorded!("tools.request.json"), "command-a");
    assert_eq!(out.path, "/v2/chat");
    assert_eq!(json_of(&out.body), json_of(recorded!("tools.sent.json").as_bytes()));
    assert!(String::from_utf8_lossy(&out.body).contains(r#""minLength":1e0}"#), "the schema keeps its bytes");
    let names =
        ["temperature 1.5 becomes 1", "top_p 1 becomes 0.99", "presence_penalty -0.5 becomes 0", "user", "documents"];
    for (warning, name) in out.warnings.iter().zip(names) {
        assert!(warning.starts_with(name), "{warning}");
    }
    assert_eq!(out.warnings.len(), names.len(), "{:?}", out.warnings);
}

#[test]
fn json_is_held_to_a_schema_and_only_asked_for_in_words_beside_tools() {
    let request = |more: &str| {
        format!(
            r#"{{"messages":[{{"role":"user","content":"a"}}],{more}"response_format":{{"type":"json_schema",
            "json_schema":{{"name":"x","schema":{{"type":"object","title":"T"}}}}}}}}"#
        )
    };
    let plain = sent(&Cohere, &request(""), "m");
    let held = json!({"type": "json_object", "json_schema": {"type": "object", "title": "T"}});
    assert_eq!((&json_of(&plain.body)["response_format"], plain.warnings.len()), (&held, 0));
    let tools = r#""tool_choice":"none","tools":[{"type":"function","function":{"name":"f"}}],"#;
    let asked = sent(&Cohere, &request(tools), "m");
    let body = json_of(&asked.body);
    assert_eq!((body.get("response_format"), &body["tool_choice"]), (None, &json!("NONE")));
    assert_eq!(body["tools"][0]["function"]["parameters"], json!({"type": "object", "properties": {}}));
    assert_eq!(body["messages"][0]["role"], "system");
    assert!(asked.warnings[0].starts_with("response_format"), "{:?}", asked.warnings);
}

#[test]
fn an_answer_is_counted_as_it_is_billed() {
    let answer = json_of(&Cohere.answer(recorded!("answer.json").into(), &asked()).unwrap());
    let message = &answer["choices"][0]["message"];
    assert_eq!((&message["content"], &message["reasoning_content"]), (&json!("Paris."), &json!("Easy.")));
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    let usage = &answer["usage"];
    assert_eq!((&usage["prompt_tokens"], &usage["completion_tokens"]), (&json!(6772), &json!(248)));
    assert_eq!(usage["prompt_tokens_details"]["cached_tokens"], 512);
}

#[test]
fn calls_and_their_plan() {
    let answer = json_of(&Cohere.answer(recorded!("tools.answer.json").into(), &asked()).unwrap());
    let choice = &answer["choices"][0];
    assert_eq!(choice["finish_reason"], "tool_calls");
    assert_eq!(choice["message"]["content"], "I will look at both.");
    assert_eq!(choice["message"]["tool_calls"][1]["id"], "weather_2");
    assert_eq!(choice["message"]["tool_calls"][1]["function"]["arguments"], r#"{"city":"London"}"#);
}

#[test]
fn a_stream_of_a_plan_and_two_calls() {
    let chunks = streamed(&Cohere, recorded!("stream.txt")).unwrap();
    let begin = |number: usize, id: &str| json!({"tool_calls": [{"index": number, "id": id, "type": "function", "function": {"name": "weather", "arguments": ""}}]});
    let more = |number: usize, arguments: &str| json!({"tool_calls": [{"index": number, "function": {"arguments": arguments}}]});
    assert_eq!(
        deltas(&chunks),
        [
            json!({"role": "assistant", "content": ""}),
            json!({"content": "I will "}),
            json!({"content": "look."}),
            begin(0, "weather_1"),
            more(0, r#"{"city":"#),
            more(0, r#""Paris"}"#),
            begin(1, "weather_2"),
            more(1, r#"{"city":"London"}"#),
            json!({}),
        ]
    );
    let [.., finish, usage, done] = chunks.as_slice() else { panic!("{chunks:?}") };
    assert_eq!((&finish["choices"][0]["finish_reason"], &finish["id"]), (&json!("tool_calls"), &json!("a3")));
    assert_eq!((&usage["usage"]["prompt_tokens"], &usage["usage"]["total_tokens"]), (&json!(20), &json!(29)));
    assert_eq!(usage["usage"]["prompt_tokens_details"]["cached_tokens"], 16);
    assert_eq!(done, "[DONE]");
}

#[test]
fn a_stream_of_thoughts_and_text() {
    let chunks = streamed(&Cohere, recorded!("text.stream.txt")).unwrap();
    assert_eq!(
        deltas(&chunks),
        [
            json!({"role": "assistant", "content": ""}),
            json!({"reasoning_content": "Easy."}),
            json!({"content": "Par"}),
            json!({"content": "is"}),
            json!({}),
        ]
    );
    assert_eq!(chunks[chunks.len() - 3]["choices"][0]["finish_reason"], "length");
    assert_eq!(chunks[chunks.len() - 2]["usage"]["prompt_tokens"], 11, "nothing is billed: tokens count");
}

#[test]
fn a_stream_cut_short_has_no_done_and_an_answer_that_failed_is_a_failure() {
    let lines: Vec<&str> = recorded!("text.stream.txt").lines().collect();
    let cut = streamed(&Cohere, &lines[..8].join("\n")).unwrap();
    assert!(!cut.contains(&json!("[DONE]")), "{cut:?}");
    let end =
        |delta: &str| streamed(&Cohere, &format!(r#"{{"type":"message-end","delta":{delta}}}"#)).unwrap_err().kind;
    assert_eq!(end(r#"{"finish_reason":"ERROR"}"#), FailureKind::Down);
    assert_eq!(end(r#"{"finish_reason":"COMPLETE","error":"boom"}"#), FailureKind::Down);
    assert_eq!(end(r#"{"finish_reason":"TIMEOUT"}"#), FailureKind::Timeout);
    assert_eq!(streamed(&Cohere, "nonsense").unwrap_err().kind, FailureKind::Garbage);
}

#[test]
fn errors_mean_what_cohere_means_by_them() {
    check_errors(&Cohere, recorded!("errors.json"));
}

#[test]
fn what_it_cannot_do_is_said_beforehand() {
    let several = Needs { several_answers: true, ..Needs::default() };
    assert_eq!(Cohere.impossible(&several), Some("gives one answer at a time"));
    assert_eq!(Cohere.impossible(&Needs { image_urls: true, json: true, ..Needs::default() }), None);
}

const WORDS: &[&str] = &[
    "id",
    "type",
    "index",
    "delta",
    "message",
    "content",
    "text",
    "thinking",
    "tool_plan",
    "tool_calls",
    "function",
    "name",
    "arguments",
    "finish_reason",
    "COMPLETE",
    "usage",
    "billed_units",
    "tokens",
    "input_tokens",
    "error",
    "message-start",
    "content-start",
    "content-delta",
    "tool-plan-delta",
    "tool-call-start",
    "tool-call-delta",
    "tool-call-end",
    "message-end",
];

proptest! {
    #[test]
    fn no_json_makes_it_panic(values in prop::collection::vec(any_json(WORDS), 1..5)) {
        survives(&Cohere, &values);
    }
}
