//! Gemini's dialect on recorded JSON.

use super::super::recorded::{any_json, asked, check_errors, deltas, json_of, sent, streamed, survives};
use super::*;
use proptest::prelude::*;

macro_rules! recorded {
    ($name:literal) => {
        include_str!(concat!("../../../../tests/dialects/gemini/", $name))
    };
}

#[test]
fn a_conversation_with_media_tools_and_signatures() {
    let out = sent(&Gemini, recorded!("tools.request.json"), "gemini-3-pro-preview");
    assert_eq!(out.path, "/models/gemini-3-pro-preview:generateContent");
    assert_eq!(json_of(&out.body), json_of(recorded!("tools.sent.json").as_bytes()));
    let text = String::from_utf8_lossy(&out.body);
    assert!(text.contains(r#""minLength":1e0}"#), "the schema keeps its bytes: {text}");
    assert!(text.contains(r#""days": 1.50}"#), "arguments keep their bytes: {text}");
    for (warning, name) in out.warnings.iter().zip(["image_url.detail", "parallel_tool_calls", "logit_bias"]) {
        assert!(warning.starts_with(name), "{warning}");
    }
    assert_eq!(out.warnings.len(), 3, "{:?}", out.warnings);
}

#[test]
fn calls_made_elsewhere_get_googles_word_for_a_missing_signature_in_the_current_turn_alone() {
    let request = r#"{"stream":true,"messages":[{"role":"user","content":"a"},
        {"role":"assistant","tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":""}}]},
        {"role":"tool","tool_call_id":"1","content":"[1]"},{"role":"assistant","content":"b"},{"role":"user","content":"c"},
        {"role":"assistant","tool_calls":[{"id":"2","type":"function","function":{"name":"f","arguments":"x"}},
                                          {"id":"3","type":"function","function":{"name":"g","arguments":"{}"}}]},
        {"role":"tool","tool_call_id":"3","content":""}]}"#;
    let out = sent(&Gemini, request, "gemini-3-flash");
    assert_eq!(out.path, "/models/gemini-3-flash:streamGenerateContent?alt=sse");
    let body = json_of(&out.body);
    assert_eq!(body["contents"][1]["parts"][0].get("thoughtSignature"), None);
    assert_eq!(body["contents"][1]["parts"][0]["functionCall"]["args"], json!({}));
    assert_eq!(body["contents"][2]["parts"][0]["functionResponse"]["response"], json!({"result": [1]}));
    assert_eq!(body["contents"][5]["parts"][0]["thoughtSignature"], "skip_thought_signature_validator");
    assert_eq!(body["contents"][5]["parts"][1].get("thoughtSignature"), None);
    assert_eq!(body["contents"][6]["parts"][0]["functionResponse"]["name"], "g");
    assert_eq!(out.warnings.len(), 2, "{:?}", out.warnings);
    assert!(!String::from_utf8_lossy(&sent(&Gemini, request, "gemini-2.5-pro").body).contains("skip_thought"));
}

#[test]
fn json_is_held_to_a_schema_and_only_asked_for_in_words_beside_an_older_models_tools() {
    let request = |tools: &str| {
        format!(
            r#"{{"n":2,"messages":[{{"role":"system","content":"s"}}],"tools":{tools},
            "response_format":{{"type":"json_schema","json_schema":{{"name":"x","schema":{{"type":"object","title":"T"}}}}}}}}"#
        )
    };
    let tools = r#"[{"type":"function","function":{"name":"f"}}]"#;
    let plain = json_of(&sent(&Gemini, &request("null"), "gemini-2.5-flash").body);
    let held = json!({"candidateCount": 2, "responseMimeType": "application/json",
                      "responseJsonSchema": {"type": "object", "title": "T"}});
    assert_eq!(plain["generationConfig"], held);
    assert_eq!(plain["contents"], json!([{"role": "user", "parts": [{"text": "s"}]}]));
    let third = json_of(&sent(&Gemini, &request(tools), "gemini-3-pro").body);
    assert_eq!(third["generationConfig"], held);
    let asked = sent(&Gemini, &request(tools), "gemini-2.5-flash");
    let body = json_of(&asked.body);
    assert_eq!(body["generationConfig"], json!({"candidateCount": 2}));
    assert!(body.to_string().contains(r#"follows this JSON schema: {\"type\":\"object\",\"title\":\"T\"}"#), "{body}");
    assert!(asked.warnings[0].starts_with("response_format"), "{:?}", asked.warnings);
}

#[test]
fn an_answer_with_thoughts_and_calls() {
    let answer = json_of(&Gemini.answer(recorded!("answer.json").into(), &asked()).unwrap());
    let choice = &answer["choices"][0];
    assert_eq!(choice["finish_reason"], "tool_calls");
    assert_eq!(choice["message"]["content"], "Let me look.");
    assert_eq!(choice["message"]["reasoning_content"], "Two cities to ask about.");
    assert_eq!(
        choice["message"]["tool_calls"],
        json!([
            {"id": "fc_1", "type": "function", "function": {"name": "weather", "arguments": "{\"city\":\"Paris\"}"},
             "extra_content": {"google": {"thought_signature": "c2lnbmF0dXJl"}}},
            {"id": "call_r1_0_1", "type": "function", "function": {"name": "weather", "arguments": "{\"city\": \"London\"}"}},
        ])
    );
    let usage = &answer["usage"];
    assert_eq!(usage["prompt_tokens"], 105);
    assert_eq!(usage["completion_tokens"], 50);
    assert_eq!(usage["total_tokens"], 155);
    assert_eq!(usage["prompt_tokens_details"]["cached_tokens"], 40);
    assert_eq!(usage["prompt_tokens_details"]["audio_tokens"], 10);
    assert_eq!(usage["completion_tokens_details"]["reasoning_tokens"], 30);
}

#[test]
fn thoughts_counted_among_the_candidates_are_not_counted_twice() {
    let counted = |total: u64| {
        answer::usage(
            &json!({"promptTokenCount": 10, "candidatesTokenCount": 50, "thoughtsTokenCount": 30, "totalTokenCount": total}),
        )
    };
    assert_eq!(counted(90).completion_tokens, 80);
    assert_eq!(counted(60).completion_tokens, 50);
}

#[test]
fn a_blocked_prompt_is_filtered_and_an_answer_that_came_to_nothing_fails() {
    let answer = json_of(&Gemini.answer(recorded!("blocked.json").into(), &asked()).unwrap());
    assert_eq!(answer["choices"][0]["finish_reason"], "content_filter");
    assert_eq!(answer["choices"][0]["message"]["content"], Value::Null);
    assert_eq!(answer["choices"][0]["message"]["refusal"], "The provider blocked the prompt: PROHIBITED_CONTENT.");
    assert_eq!(answer["usage"]["prompt_tokens"], 9);
    let streamed = streamed(&Gemini, &json_of(recorded!("blocked.json").as_bytes()).to_string()).unwrap();
    assert_eq!(streamed[2]["choices"][0]["finish_reason"], "content_filter");
    assert_eq!(streamed.last(), Some(&json!("[DONE]")));
    for nothing in
        [r#"{"candidates":[{"finishReason":"MALFORMED_FUNCTION_CALL","index":0}]}"#, "{}", "[", "{\"candidates\":[]}"]
    {
        assert_eq!(Gemini.answer(nothing.into(), &asked()).unwrap_err().kind, FailureKind::Garbage, "{nothing}");
    }
}

#[test]
fn a_stream_of_thoughts_text_and_two_calls() {
    let chunks = streamed(&Gemini, recorded!("stream.txt")).unwrap();
    let call = |number: usize, id: &str| json!({"index": number, "id": id, "type": "function", "function": {"name": "weather", "arguments": ""}});
    let mut first = call(0, "call_r3_0_0");
    first["extra_content"] = json!({"google": {"thought_signature": "c2lnbmF0dXJl"}});
    let more = |number: usize, arguments: &str| json!({"tool_calls": [{"index": number, "function": {"arguments": arguments}}]});
    assert_eq!(
        deltas(&chunks),
        [
            json!({"role": "assistant", "content": ""}),
            json!({"reasoning_content": "Two cities."}),
            json!({"content": "Let me "}),
            json!({"content": "look."}),
            json!({"tool_calls": [first]}),
            more(0, r#"{"city":"Paris"}"#),
            json!({"tool_calls": [call(1, "call_r3_0_1")]}),
            more(1, r#"{"city":"London"}"#),
            json!({}),
        ]
    );
    let [.., finish, usage, done] = chunks.as_slice() else { panic!("{chunks:?}") };
    assert_eq!(finish["choices"][0]["finish_reason"], "tool_calls");
    assert_eq!((&finish["id"], &finish["model"]), (&json!("r3"), &json!("gemini-3-pro-preview")));
    assert_eq!(usage["choices"], json!([]));
    assert_eq!(usage["usage"]["completion_tokens"], 25);
    assert_eq!(usage["usage"]["prompt_tokens_details"]["cached_tokens"], 32);
    assert_eq!(done, "[DONE]");
}

#[test]
fn a_stream_cut_short_has_no_done_and_an_error_in_it_is_one() {
    let lines: Vec<&str> = recorded!("stream.txt").lines().collect();
    let cut = streamed(&Gemini, &lines[..4].join("\n")).unwrap();
    assert!(!cut.contains(&json!("[DONE]")), "{cut:?}");
    let error = r#"{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","message":"q","details":[{"retryDelay":"2s"}]}}"#;
    let failure = streamed(&Gemini, &format!("{}\n{error}", lines[0])).unwrap_err();
    assert_eq!((failure.kind, failure.retry_after_s), (FailureKind::Busy, Some(2)));
}

#[test]
fn a_signature_on_text_comes_back_with_the_message() {
    let answered =
        r#"{"candidates":[{"content":{"parts":[{"text":"Hi","thoughtSignature":"eA=="}]},"finishReason":"STOP"}]}"#;
    let answer = json_of(&Gemini.answer(answered.into(), &asked()).unwrap());
    let history = json!({"messages": [{"role": "user", "content": "a"}, answer["choices"][0]["message"], {"role": "user", "content": "b"}]});
    let out = sent(&Gemini, &history.to_string(), "gemini-3-pro");
    assert_eq!(json_of(&out.body)["contents"][1]["parts"], json!([{"text": "Hi", "thoughtSignature": "eA=="}]));
    assert_eq!(out.warnings, [""; 0]);
}

#[test]
fn errors_mean_what_google_means_by_them() {
    check_errors(&Gemini, recorded!("errors.json"));
}

#[test]
fn what_it_cannot_do_is_said_beforehand() {
    let probabilities = Needs { logprobs: true, ..Needs::default() };
    assert_eq!(Gemini.impossible(&probabilities), Some("gives no probabilities of tokens"));
    let media =
        Needs { audio: true, files: true, image_urls: true, json: true, several_answers: true, ..Needs::default() };
    assert_eq!(Gemini.impossible(&media), None);
}

const WORDS: &[&str] = &[
    "candidates",
    "content",
    "parts",
    "text",
    "thought",
    "thoughtSignature",
    "functionCall",
    "name",
    "args",
    "id",
    "finishReason",
    "STOP",
    "index",
    "usageMetadata",
    "promptTokenCount",
    "promptTokensDetails",
    "tokenCount",
    "AUDIO",
    "modality",
    "promptFeedback",
    "blockReason",
    "error",
    "details",
    "retryDelay",
    "1e300s",
    "status",
    "message",
    "code",
];

proptest! {
    #[test]
    fn no_json_makes_it_panic(values in prop::collection::vec(any_json(WORDS), 1..5)) {
        survives(&Gemini, &values);
    }
}
