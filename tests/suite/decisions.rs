//! Decisions by the shipped routing model: classes, constraints, overrides, the flip, the gate.

use crate::harness::{ANSWER, Bench, ENCODER, Script, chat, send};
use axum::Router as Routes;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use waypost::chat::ChatRequest;
use waypost::classifier::RoutingModel;
use waypost::embedder::{Embedder, Encoder, Late};
use waypost::http::app;
use waypost::reader::Reader;
use waypost::record::Seen;
use waypost::router::Caller;

fn answer() -> Script {
    Script::Answer(ANSWER)
}

async fn explain(app: &Routes, body: String) -> Value {
    send(app, "POST", "/explain", &[], body).await.json()
}

/// One plain prompt a class. Not from the exemplars.
const PLAIN: [(&str, &str); 9] = [
    ("basic", "hi, how are you?"),
    ("general", "Explain how vaccines teach the immune system to recognise a virus."),
    ("code", "Write a Python function that parses an ISO 8601 date and returns the weekday."),
    (
        "reasoning",
        "A train leaves at 14:20 at 80 km/h and a second one at 15:05 at 110 km/h on the same track. When does the second catch up?",
    ),
    ("creative", "Write a short poem about a lighthouse keeper who is afraid of the dark."),
    (
        "summarization",
        "Summarize the following article in two sentences: The council voted on Tuesday to close the old bridge for repairs. Work will take nine months and cost four million euros. Shop owners fear losing customers, while cyclists welcome the new lane.",
    ),
    ("translation", "Translate into Spanish: 'The meeting has been moved to Thursday afternoon.'"),
    (
        "extraction",
        "Extract the names, dates and amounts as JSON from: 'On 3 May 2024 Laura Stein paid 450 euros to Peter Brandt.'",
    ),
    ("tools", "Set an alarm for half past six tomorrow morning."),
];

#[tokio::test]
async fn plain_prompts_find_their_class() {
    let app = app(Bench::new("").with("one", &["*"], (1.0, 1.0), answer()).router());
    for (class, prompt) in PLAIN {
        let decision = explain(&app, chat("auto", prompt, false)).await;
        assert_eq!(
            (decision["class"].as_str(), decision["basis"].as_str()),
            (Some(class), Some("classified")),
            "{prompt}"
        );
    }
}

#[tokio::test]
async fn an_explanation_holds_every_term() {
    let app = app(Bench::new("[routing]\nearly_exit = false")
        .with("one", &["*"], (1.0, 2.0), answer())
        .with("two", &["code"], (5.0, 5.0), answer())
        .router());
    let decision = explain(&app, chat("auto", PLAIN[2].1, false)).await;
    assert!(decision["exit"].is_null());
    assert_eq!(decision["neighbors"].as_array().unwrap().len(), 5);
    assert_eq!(decision["classes"].as_array().unwrap().len(), 10);
    let quality: f64 = decision["classes"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|class| !["general", "advanced"].contains(&class["class"].as_str().unwrap()))
        .map(|class| class["quality"].as_f64().unwrap())
        .sum();
    assert!((0.0..=1.0 + 1e-9).contains(&quality), "classes that cover nothing are shares of one whole: {quality}");
    let first = &decision["deployments"][0];
    let term = |name: &str| first[name].as_f64().unwrap();
    assert!(
        (term("score") - term("input_cost") - term("output_cost") - term("time_cost") - term("failure_cost")).abs()
            < 1e-12
    );
    assert_eq!(first["deployment"], "one");
    let similarities: Vec<f64> = decision["neighbors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|neighbor| neighbor["similarity"].as_f64().unwrap())
        .collect();
    assert!(similarities.windows(2).all(|pair| pair[0] >= pair[1]));
    assert!(decision["timing"]["total_us"].as_u64() >= decision["timing"]["encode_us"].as_u64());
    assert!(decision["outcome"].is_null());
}

#[tokio::test]
async fn what_is_plain_leaves_the_encoder_early_and_is_decided_alike() {
    let bench = |config| app(Bench::new(config).with("one", &["*"], (1.0, 2.0), answer()).router());
    let (early, whole) = (bench(""), bench("[routing]\nearly_exit = false"));
    let mut left = 0;
    for (class, prompt) in PLAIN {
        let (one, other) =
            (explain(&early, chat("auto", prompt, false)).await, explain(&whole, chat("auto", prompt, false)).await);
        assert_eq!((&one["class"], &other["class"]), (&class.into(), &class.into()), "{prompt}");
        assert!(other["exit"].is_null() && !other["neighbors"].as_array().unwrap().is_empty());
        if one["exit"].is_object() {
            left += 1;
            assert!(one["neighbors"].as_array().unwrap().is_empty() && one["classes"][0]["head"].is_null());
            assert!(one["confidence"].as_f64() >= one["exit"]["confidence"].as_f64());
        }
    }
    assert!(left > 0, "not one of the plainest prompts left early");
}

#[tokio::test]
async fn the_same_text_is_read_once() {
    let app = app(Bench::new("").with("one", &["*"], (1.0, 2.0), answer()).router());
    let ask = || explain(&app, chat("auto", "Why is the harbour shut on the ninth of May?", false));
    let (first, second) = tokio::join!(ask(), ask());
    let read = |decision: &serde_json::Value| !decision["timing"]["read_before"].as_bool().unwrap();
    assert_eq!(u8::from(read(&first)) + u8::from(read(&second)), 1, "{first} {second}");
    let third = ask().await;
    assert!(!read(&third) && third["timing"]["encode_us"] == 0);
    assert_eq!(
        (&third["class"], &third["confidence"], &third["neighbors"]),
        (&first["class"], &first["confidence"], &first["neighbors"])
    );
}

#[tokio::test]
async fn the_flip_really_flips() {
    let bench =
        || Bench::new("").with("one", &["*"], (1.0, 2.0), answer()).with("strong", &["advanced"], (5.0, 5.0), answer());
    let app = app(bench().router());
    for (_, prompt) in PLAIN {
        let before = explain(&app, chat("auto", prompt, false)).await;
        let change = &before["flip"]["class"];
        let policy = format!("{}={}", change["key"].as_str().unwrap(), change["to"]);
        let after =
            send(&app, "POST", "/explain", &[("x-waypost-policy", &policy)], chat("auto", prompt, false)).await.json();
        assert_eq!(after["class"], change["would_choose"], "{prompt}: {policy}");
        assert_ne!(after["class"], before["class"]);
    }
}

#[tokio::test]
async fn a_dearer_second_chooses_the_faster_deployment() {
    let router =
        Bench::new("").with("slow", &["*"], (1.0, 1.0), answer()).with("fast", &["*"], (20.0, 20.0), answer()).router();
    let seen =
        |ttft_ms| Seen { ttft_ms: Some(ttft_ms), total_ms: ttft_ms * 11.0, tokens: Some(100), ..Seen::default() };
    for _ in 0..200 {
        router.health.answered_named("slow", &seen(3_000.0));
        router.health.answered_named("fast", &seen(50.0));
    }
    let request = ChatRequest::from_prompt(PLAIN[2].1).unwrap();
    let decide = |policy: String| {
        let (router, request) = (&router, &request);
        async move { router.decide(request, &Caller { policy: Some(policy), ..Caller::default() }).await.unwrap() }
    };
    let cheap = decide("value_of_second=0".into()).await;
    assert_eq!(&*cheap.deployment, "slow");
    let flip = cheap.flip.deployment.unwrap();
    assert_eq!(flip.would_choose, "fast");
    assert_eq!(&*decide(format!("value_of_second={}", flip.to)).await.deployment, "fast");
    assert_eq!(&*decide(format!("value_of_second={}", flip.to * 0.5)).await.deployment, "slow");
}

#[tokio::test]
async fn ties_rotate_instead_of_falling_to_the_alphabet() {
    let app = app(Bench::new("")
        .with("a", &["*"], (1.0, 1.0), answer())
        .with("b", &["*"], (1.0, 1.0), answer())
        .with("c", &["*"], (1.0, 1.0), answer())
        .router());
    let mut chosen = Vec::new();
    for _ in 0..6 {
        chosen.push(
            send(
                &app,
                "POST",
                "/v1/chat/completions",
                &[("x-waypost-policy", "value_of_second=0")],
                chat("code", "x", false),
            )
            .await
            .header("x-waypost-deployment")
            .to_string(),
        );
    }
    chosen.sort();
    assert_eq!(chosen, ["a", "a", "b", "b", "c", "c"]);
}

#[tokio::test]
async fn constraints_take_deployments_out_and_say_why() {
    let app = app(Bench::new("").with("one", &["*"], (1.0, 1.0), answer()).router());
    let body = |extra: &str| {
        format!(r#"{{"messages":[{{"role":"user","content":[{{"type":"text","text":"what is this"}}]}}]{extra}}}"#)
    };
    let image = r#"{"messages":[{"role":"user","content":[{"type":"text","text":"what is this"},{"type":"image_url","image_url":{"url":"data:x"}}]}]}"#;
    for (body, why) in [
        (body(r#","tools":[{"type":"function","function":{"name":"f"}}]"#), "tools"),
        (body(r#","response_format":{"type":"json_object"}"#), "json_schema"),
        (image.to_string(), "vision"),
    ] {
        let answered = send(&app, "POST", "/explain", &[], body).await;
        let error = answered.json()["error"].clone();
        assert_eq!((answered.status.as_u16(), error["code"].as_str()), (400, Some("no_deployment_fits")), "{error}");
        assert!(error["message"].as_str().unwrap().contains(&format!("one: {why}")), "{error}");
    }
    let long = send(&app, "POST", "/explain", &[], chat("auto", &"word ".repeat(100_000), false)).await.json();
    assert_eq!(long["error"]["code"], "context_length_exceeded");
}

#[tokio::test]
async fn a_request_can_name_its_class_deployment_and_policy() {
    let app = app(Bench::new("")
        .with("one", &["*"], (1.0, 1.0), answer())
        .with("two", &["code"], (5.0, 5.0), answer())
        .router());
    for (model, header, class, deployment, basis) in [
        ("code", None, "code", "one", "class_named"),
        ("two", None, "code", "two", "deployment_named"),
        ("auto", Some(("x-waypost-class", "tools")), "tools", "one", "class_named"),
        ("two", Some(("x-waypost-class", "creative")), "creative", "one", "class_named"),
    ] {
        let headers: Vec<_> = header.into_iter().collect();
        let decision = send(&app, "POST", "/explain", &headers, chat(model, "hello", false)).await.json();
        let found = (decision["class"].as_str(), decision["deployment"].as_str(), decision["basis"].as_str());
        assert_eq!(found, (Some(class), Some(deployment), Some(basis)));
        assert!(decision["neighbors"].as_array().unwrap().is_empty());
    }
    let best =
        send(&app, "POST", "/explain", &[("x-waypost-policy", "best")], chat("auto", PLAIN[2].1, false)).await.json();
    assert_eq!(best["policy"]["quality_floor"], 0.9);
    for (name, value, code) in [
        ("x-waypost-class", "poetry", "unknown_class"),
        ("x-waypost-policy", "turbo", "invalid_policy"),
        ("x-waypost-policy", "quality_floor=2", "invalid_policy"),
        ("x-waypost-policy", "speed=2", "invalid_policy"),
    ] {
        assert_eq!(
            send(&app, "POST", "/explain", &[(name, value)], chat("auto", "hi", false)).await.json()["error"]["code"],
            code
        );
    }
}

#[tokio::test]
async fn far_from_everything_the_default_class_answers_and_says_so() {
    let router = Bench::new("").with("one", &["*"], (1.0, 1.0), answer()).router();
    let noise = "zxqv 9#kk ~~ blorp fnerg 77 qqqq ;; wubba // 1 1 1 gleep";
    let decision = router.decide(&ChatRequest::from_prompt(noise).unwrap(), &Caller::default()).await.unwrap();
    assert_eq!(decision.abstained, decision.confidence.unwrap() < decision.gate.unwrap());
    if decision.abstained {
        assert_eq!(decision.class, "general");
    }
    let empty = router
        .decide(&ChatRequest::parse(br#"{"messages":[{"role":"user","content":""}]}"#).unwrap(), &Caller::default())
        .await
        .unwrap();
    assert_eq!((empty.class.as_str(), empty.basis), ("general", waypost::decision::Basis::NoText));
}

#[tokio::test]
async fn system_prompts_tools_and_history_do_not_decide() {
    let app = app(Bench::new("").with("one", &["*"], (1.0, 1.0), answer()).router());
    let history = serde_json::json!({"messages": [
        {"role": "system", "content": "You are a translation assistant. You translate everything into French. ".repeat(50)},
        {"role": "user", "content": "Translate 'good morning' to French"}, {"role": "assistant", "content": "Bonjour"},
        {"role": "tool", "content": "{\"rows\": []}", "tool_call_id": "1"},
        {"role": "user", "content": PLAIN[2].1}]});
    assert_eq!(explain(&app, history.to_string()).await["class"], "code");
    let follow_up = serde_json::json!({"messages": [{"role": "user", "content": "Write quicksort in C"}, {"role": "assistant", "content": "..."}, {"role": "user", "content": "now make it faster"}]});
    assert_eq!(explain(&app, follow_up.to_string()).await["class"], "code");
}

#[tokio::test]
async fn recent_decisions_are_paged_newest_first() {
    let app = app(Bench::new("[record]\nkeep = 5").with("one", &["*"], (1.0, 1.0), answer()).router());
    let mut ids = Vec::new();
    for _ in 0..7 {
        ids.push(
            send(&app, "POST", "/v1/chat/completions", &[], chat("code", "x", false))
                .await
                .header("x-waypost-decision")
                .to_string(),
        );
    }
    ids.reverse();
    let page = |query: String| {
        let app = app.clone();
        async move { send(&app, "GET", &format!("/explain{query}"), &[], "").await.json() }
    };
    let first = page("?limit=3".into()).await;
    let listed = |page: &Value| {
        page["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|decision| decision["id"].as_str().unwrap().to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!((listed(&first), &first["has_more"]), (ids[..3].to_vec(), &true.into()));
    let second = page(format!("?limit=3&before={}", ids[2])).await;
    assert_eq!((listed(&second), &second["has_more"]), (ids[3..5].to_vec(), &false.into()));
}

#[tokio::test]
async fn a_reading_that_comes_too_late_serves_the_next_who_asks() {
    let encoder = Encoder::load(ENCODER.clone()).unwrap();
    let reader = Reader::new(Embedder::start(encoder, 1, 8, Duration::from_micros(200)).unwrap(), false, 16);
    let model = Arc::new(RoutingModel::builtin().unwrap());
    let text = "The harbour was shut on the ninth of May, and nobody knew why. ".repeat(30);
    assert_eq!(reader.read(&model, &text).await.unwrap().err(), Some(Late::Deadline));
    let asked = Instant::now();
    let found = loop {
        match reader.read(&model, &text).await.unwrap() {
            Ok(found) => break found,
            Err(_) => assert!(asked.elapsed() < Duration::from_secs(20), "late for ever"),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    assert!(found.queued.is_none() && !found.read.estimate.hits.is_empty());
}

#[tokio::test]
async fn what_would_come_too_late_is_not_begun() {
    let encoder = Encoder::load(ENCODER.clone()).unwrap();
    let embedder = Embedder::start(encoder, 1, 8, Duration::from_millis(400)).unwrap();
    let begun = Arc::new(AtomicBool::new(false));
    let flag = begun.clone();
    let long = embedder.run(|_, _| {
        std::thread::sleep(Duration::from_millis(300));
        Ok(())
    });
    let late = embedder.run(move |_, _| {
        flag.store(true, Ordering::SeqCst);
        Ok(())
    });
    let (_, late) = tokio::join!(long, late);
    assert_eq!(late.unwrap(), Err(Late::Deadline));
    assert_eq!(embedder.run(|_, _| Ok(())).await.unwrap(), Ok(()), "what comes after is served");
    assert!(!begun.load(Ordering::SeqCst));
}

/// The deadline is measured with it: in no text of a window are there more tokens.
#[test]
fn a_character_of_this_script_is_a_token() {
    let encoder = Encoder::load(ENCODER.clone()).unwrap();
    assert_eq!(encoder.embed(&"字".repeat(100)).unwrap().1.tokens, 102);
}
