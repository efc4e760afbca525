//! Forwarding, streaming, failing and recording, through the application.

use crate::harness::{ANSWER, Bench, Script, chat, decision_of, send};
use axum::http::StatusCode;
use waypost::http::app;
use waypost::providers::{Failure, FailureKind};

const CHUNK: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"},\"finish_reason\":null}]}\n\n";
const LAST: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
const USAGE: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":2}}\n\n";
const DONE: &str = "data: [DONE]\n\n";

fn down() -> Script {
    Script::Fail(Failure { status: Some(500), ..Failure::new(FailureKind::Down, "answered 500") })
}

#[tokio::test]
async fn an_answer_passes_untouched_and_is_recorded_with_its_cost() {
    let app = app(Bench::new("").with("one", &["*"], (1.0, 10.0), Script::Answer(ANSWER)).router());
    let answered = send(
        &app,
        "POST",
        "/v1/chat/completions",
        &[],
        chat("auto", "write a python function that reverses a list", false),
    )
    .await;
    assert_eq!((answered.status, answered.text.as_str()), (StatusCode::OK, ANSWER));
    assert_eq!((answered.header("x-waypost-class"), answered.header("x-waypost-deployment")), ("code", "one"));
    assert!(!answered.header("x-request-id").is_empty());
    let decision = decision_of(&app, &answered).await;
    assert_eq!((&decision["basis"], &decision["outcome"]["end"]), (&"classified".into(), &"complete".into()));
    // 600 fresh tokens at $1, 400 cached at $0.1, 100 written at $10, per million.
    assert!((decision["outcome"]["cost"].as_f64().unwrap() - (600.0 + 40.0 + 1_000.0) / 1e6).abs() < 1e-12);
    assert_eq!(decision["outcome"]["upstream_request_id"], "upstream-1");
}

#[tokio::test]
async fn an_unknown_price_is_said_and_no_cost_recorded() {
    let mut bench = Bench::new("").with("one", &["*"], (1.0, 10.0), Script::Answer(ANSWER));
    bench.deployments[0].config.price_known = false;
    let app = app(bench.router());
    let answered = send(&app, "POST", "/v1/chat/completions", &[], chat("one", "hello", false)).await;
    let decision = decision_of(&app, &answered).await;
    assert_eq!(decision["deployments"][0]["price_known"], false);
    assert!(decision["deployments"][0]["input_cost"].as_f64() > Some(0.0));
    assert_eq!(
        (&decision["outcome"]["end"], &decision["outcome"]["cost"]),
        (&"complete".into(), &serde_json::Value::Null)
    );
    assert_eq!(decision["outcome"]["usage"]["completion_tokens"], 100);
}

#[tokio::test]
async fn a_failure_before_the_first_byte_goes_to_the_next_deployment() {
    let bench = Bench::new("").with("cheap", &["*"], (1.0, 1.0), down()).with(
        "dear",
        &["*"],
        (9.0, 9.0),
        Script::Answer(ANSWER),
    );
    let app = app(bench.router());
    let answered = send(&app, "POST", "/v1/chat/completions", &[], chat("auto", "hello there", false)).await;
    assert_eq!((answered.status, answered.header("x-waypost-deployment")), (StatusCode::OK, "dear"));
    let attempts = decision_of(&app, &answered).await["outcome"]["attempts"].clone();
    assert_eq!((&attempts[0]["deployment"], &attempts[0]["status"]), (&"cheap".into(), &500.into()));
    assert_eq!((&attempts[1]["deployment"], &attempts[1]["error"]), (&"dear".into(), &serde_json::Value::Null));
}

#[tokio::test]
async fn a_refused_request_is_not_tried_elsewhere_and_keeps_the_providers_words() {
    let body = br#"{"error":{"message":"bad tool","type":"x","code":400}}"#;
    let refusal = Failure {
        status: Some(400),
        body: Some(body.as_slice().into()),
        ..Failure::new(FailureKind::Refused, "answered 400")
    };
    let bench = Bench::new("").with("cheap", &["*"], (1.0, 1.0), Script::Fail(refusal)).with(
        "dear",
        &["*"],
        (9.0, 9.0),
        Script::Answer(ANSWER),
    );
    let dear = bench.providers[1].clone();
    let answered = send(&app(bench.router()), "POST", "/v1/chat/completions", &[], chat("auto", "hello", false)).await;
    assert_eq!(answered.status, StatusCode::BAD_REQUEST);
    let expected = serde_json::json!({"error": {"message": "bad tool", "type": "invalid_request_error", "param": null, "code": "400"}});
    assert_eq!(answered.json(), expected);
    assert!(dear.seen.lock().is_empty());
}

#[tokio::test]
async fn when_nobody_answers_the_status_says_why() {
    let busy = Script::Fail(Failure {
        status: Some(429),
        retry_after_s: Some(7),
        ..Failure::new(FailureKind::Busy, "answered 429")
    });
    let late = Script::Fail(Failure::new(FailureKind::Timeout, "nothing came for 5 ms"));
    for (script, status, code) in
        [(down(), 502, "upstream_failed"), (busy, 429, "rate_limit_exceeded"), (late, 504, "upstream_timeout")]
    {
        let app = app(Bench::new("").with("only", &["*"], (1.0, 1.0), script).router());
        let answered = send(&app, "POST", "/v1/chat/completions", &[], chat("auto", "hello", false)).await;
        assert_eq!((answered.status.as_u16(), answered.json()["error"]["code"].as_str()), (status, Some(code)));
        assert_eq!(answered.header("retry-after"), if status == 429 { "7" } else { "" });
        let outcome = decision_of(&app, &answered).await["outcome"].clone();
        assert_eq!((&outcome["end"], &outcome["status"]), (&"failed".into(), &status.into()));
    }
}

#[tokio::test]
async fn a_stream_passes_and_usage_asked_for_by_waypost_alone_is_kept_back() {
    let script = Script::Events(vec![": wait\n\n", CHUNK, LAST, USAGE, DONE]);
    let bench = Bench::new("").with("one", &["*"], (1.0, 1.0), script);
    let one = bench.providers[0].clone();
    let app = app(bench.router());
    let answered = send(&app, "POST", "/v1/chat/completions", &[], chat("auto", "hello", true)).await;
    assert_eq!(answered.header("content-type"), "text/event-stream");
    assert_eq!(answered.text, format!("{CHUNK}{LAST}{DONE}"));
    assert!(String::from_utf8_lossy(&one.seen.lock()[0]).contains(r#""stream_options":{"include_usage":true}"#));
    assert_eq!(decision_of(&app, &answered).await["outcome"]["usage"]["completion_tokens"], 2);
    let asked =
        r#"{"messages":[{"role":"user","content":"hi"}],"stream":true,"stream_options":{"include_usage":true}}"#;
    assert!(send(&app, "POST", "/v1/chat/completions", &[], asked).await.text.contains(USAGE));
}

#[tokio::test]
async fn a_break_after_the_first_byte_is_an_error_event_never_a_clean_end() {
    let error = "data: {\"error\":{\"message\":\"boom\"}}\n\n";
    for (events, end) in [
        (vec![CHUNK], "broken"),
        (vec![CHUNK, error], "broken"),
        (vec![CHUNK, "data: nonsense\n\n"], "broken"),
        (vec![CHUNK, LAST], "complete"),
    ] {
        let app = app(Bench::new("").with("one", &["*"], (1.0, 1.0), Script::Events(events)).router());
        let answered = send(&app, "POST", "/v1/chat/completions", &[], chat("auto", "hello", true)).await;
        assert_eq!(answered.status, StatusCode::OK);
        assert_eq!(answered.text.ends_with(DONE), end == "complete", "{}", answered.text);
        assert_eq!(answered.text.contains("stream_broken"), end == "broken", "{}", answered.text);
        assert_eq!(decision_of(&app, &answered).await["outcome"]["end"], end);
    }
}

#[tokio::test]
async fn a_stream_that_fails_before_its_first_byte_falls_back() {
    for events in [vec![], vec![DONE], vec!["data: {\"error\":{\"message\":\"boom\"}}\n\n"], vec!["data: <html>\n\n"]] {
        let bench = Bench::new("").with("cheap", &["*"], (1.0, 1.0), Script::Events(events)).with(
            "dear",
            &["*"],
            (9.0, 9.0),
            Script::Events(vec![CHUNK, LAST, DONE]),
        );
        let answered =
            send(&app(bench.router()), "POST", "/v1/chat/completions", &[], chat("auto", "hello", true)).await;
        assert_eq!((answered.header("x-waypost-deployment"), answered.text.ends_with(DONE)), ("dear", true));
    }
}

#[tokio::test]
async fn a_dropped_body_is_recorded_as_cancelled() {
    use tower::ServiceExt;
    let app = app(Bench::new("").with("one", &["*"], (1.0, 1.0), Script::Events(vec![CHUNK, LAST, DONE])).router());
    let request = axum::http::Request::post("/v1/chat/completions")
        .body(axum::body::Body::from(chat("auto", "hello", true)))
        .unwrap();
    let response = app.clone().oneshot(request).await.unwrap();
    let id = response.headers()["x-waypost-decision"].to_str().unwrap().to_string();
    drop(response);
    let outcome = send(&app, "GET", &format!("/explain/{id}"), &[], "").await.json()["outcome"].clone();
    assert_eq!((&outcome["end"], &outcome["status"]), (&"cancelled".into(), &499.into()));
}

#[tokio::test]
async fn mistakes_are_answered_in_openais_error_shape() {
    let app = app(Bench::new("[server]\nmax_body_bytes = 2000")
        .with("one", &["*"], (1.0, 1.0), Script::Answer(ANSWER))
        .router());
    let large = chat("auto", &"x".repeat(3_000), false);
    let unknown = chat("gpt-none", "hi", false);
    for (method, path, body, status, code) in [
        ("POST", "/v1/chat/completions", "{", 400, "invalid_json"),
        ("POST", "/v1/chat/completions", r#"{"messages":[]}"#, 400, "empty_array"),
        ("POST", "/v1/chat/completions", unknown.as_str(), 404, "model_not_found"),
        ("POST", "/v1/chat/completions", large.as_str(), 413, "request_too_large"),
        ("POST", "/explain", "[]", 400, "invalid_json"),
        ("GET", "/explain/dec_0", "", 404, "decision_not_found"),
        ("GET", "/explain?limit=0", "", 400, "invalid_value"),
        ("GET", "/explain?limit=x", "", 400, "invalid_value"),
        ("GET", "/v1/models/none", "", 404, "model_not_found"),
        ("GET", "/nowhere", "", 404, "not_found"),
        ("DELETE", "/explain", "", 405, "method_not_allowed"),
    ] {
        let answered = send(&app, method, path, &[], body.to_string()).await;
        let error = answered.json()["error"].clone();
        let keys: Vec<_> = error.as_object().unwrap().keys().cloned().collect();
        assert_eq!((answered.status.as_u16(), error["code"].as_str()), (status, Some(code)), "{method} {path}");
        assert_eq!(keys, ["message", "type", "param", "code"]);
    }
}

#[tokio::test]
async fn at_its_limit_the_server_refuses_and_says_when_to_come_back() {
    use tower::ServiceExt;
    let app = app(Bench::new("[server]\nmax_in_flight = 1")
        .with("one", &["*"], (1.0, 1.0), Script::Events(vec![CHUNK, LAST, DONE]))
        .router());
    let request = || {
        axum::http::Request::post("/v1/chat/completions")
            .body(axum::body::Body::from(chat("auto", "hello", true)))
            .unwrap()
    };
    let held = app.clone().oneshot(request()).await.unwrap();
    let refused = app.clone().oneshot(request()).await.unwrap();
    assert_eq!(
        (refused.status(), refused.headers()["retry-after"].to_str().unwrap()),
        (StatusCode::SERVICE_UNAVAILABLE, "1")
    );
    drop(held);
    assert_eq!(app.clone().oneshot(request()).await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn the_openapi_document_names_every_path_and_the_decision() {
    let app = app(Bench::new("").with("one", &["*"], (1.0, 1.0), Script::Answer(ANSWER)).router());
    let document = send(&app, "GET", "/openapi.json", &[], "").await.json();
    let paths: Vec<_> = document["paths"].as_object().unwrap().keys().cloned().collect();
    for path in [
        "/v1/chat/completions",
        "/v1/models",
        "/v1/models/{id}",
        "/explain",
        "/explain/{id}",
        "/v1/feedback",
        "/admin/exemplars",
        "/admin/exemplars/{id}",
        "/admin/exemplars/export",
        "/admin/exemplars/candidates",
        "/admin/exemplars/candidates/{id}",
        "/admin/retrain",
        "/admin/models",
        "/admin/models/{version}/activate",
        "/admin/models/rollback",
        "/healthz",
        "/readyz",
        "/openapi.json",
    ] {
        assert!(paths.iter().any(|found| found == path), "{path} is missing");
    }
    assert!(document["components"]["schemas"]["Decision"]["properties"]["flip"].is_object());
}
