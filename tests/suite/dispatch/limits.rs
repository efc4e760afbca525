//! Limits, needs and prices: who cannot be asked, or not now.

use super::{add, bench};
use crate::asking::{attempts, decide, general, order, request, with_policy};
use crate::harness::{Bench, chat, send};
use waypost::decision::Why;
use waypost::error::Error;
use waypost::http::app;
use waypost::limits::GateSettings;
use waypost::router::Caller;

#[tokio::test]
async fn who_is_at_a_limit_comes_after_the_free_and_the_numbers_are_told() {
    let bench = add(bench(""), "a", 1.0, |config| {
        config.limits = GateSettings { rpm: Some(1), ..GateSettings::default() };
    });
    let bench = add(bench, "b", 50.0, |config| {
        config.limits = GateSettings { max_in_flight: Some(1), ..GateSettings::default() };
    });
    let providers = bench.providers.clone();
    let router = add(bench, "c", 90.0, |_| ()).router();
    assert_eq!(order(&decide(&router, &general(), &Caller::default()).await), ["a", "b", "c"]);
    assert_eq!(attempts(&router, general(), &Caller::default()).await, [("a".into(), Why::First)]);
    let _pass = router.limits.admit(1, 1).unwrap();
    let told = send(&app(router.clone()), "POST", "/explain", &[], chat("general", "hi", false)).await.json();
    let names: Vec<&str> =
        told["deployments"].as_array().unwrap().iter().map(|one| one["deployment"].as_str().unwrap()).collect();
    assert_eq!(names, ["c", "a", "b"], "held ones by price, behind the free");
    let held = |at: usize| told["deployments"][at]["held"].as_str().unwrap_or_default().to_string();
    assert_eq!(held(0), "");
    assert!(held(1).starts_with("rate: ") && held(1).contains("free in "), "{}", held(1));
    assert!(held(2).starts_with("concurrency: ") && held(2).contains('1'), "{}", held(2));
    assert_eq!(attempts(&router, general(), &Caller::default()).await, [("c".into(), Why::First)]);
    assert_eq!(providers[0].seen.lock().len(), 1, "it is not asked what it would refuse");
}

#[tokio::test]
async fn who_is_beyond_a_guard_comes_last_but_before_the_held() {
    let bench = add(add(bench("[routing]\nstrategy = [\"cheapest\"]"), "a", 1.0, |_| ()), "b", 2.0, |_| ());
    let bench = add(bench, "c", 3.0, |config| {
        config.limits = GateSettings { max_in_flight: Some(1), ..GateSettings::default() };
    });
    let router = bench.router();
    crate::asking::took(&router, "a", 60_000.0);
    let _pass = router.limits.admit(2, 1).unwrap();
    let guarded = with_policy("guard_latency_ms=20000", Caller::default());
    assert_eq!(order(&decide(&router, &general(), &guarded).await), ["b", "a", "c"]);
    assert_eq!(order(&decide(&router, &general(), &Caller::default()).await), ["a", "b", "c"]);
}

#[tokio::test]
async fn what_cannot_be_done_takes_a_deployment_out() {
    let bench = add(bench(""), "blind", 1.0, |config| config.vision = false);
    let bench = add(bench, "toolless", 1.0, |config| config.tools = false);
    let bench = add(bench, "shapeless", 1.0, |config| config.json_schema = false);
    let mut bench = add(bench, "short", 1.0, |config| config.context_tokens = 100);
    for one in &mut bench.deployments {
        let config = &mut one.config;
        config.vision |= config.name != "blind";
        config.tools |= config.name != "toolless";
        config.json_schema |= config.name != "shapeless";
    }
    let router = bench.router();
    let image = serde_json::json!([{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]);
    let tools = serde_json::json!([{"type": "function", "function": {"name": "f", "parameters": {}}}]);
    let ask = |content: serde_json::Value, more: serde_json::Value| {
        let mut body = serde_json::json!({"model": "general", "messages": [{"role": "user", "content": content}]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        request(&body.to_string())
    };
    let none = serde_json::json!({});
    for (name, why, asked) in [
        ("blind", "vision: ", ask(image.clone(), none.clone())),
        ("toolless", "tools: ", ask("hi".into(), serde_json::json!({"tools": tools}))),
        (
            "shapeless",
            "json_schema: ",
            ask("hi".into(), serde_json::json!({"response_format": {"type": "json_object"}})),
        ),
        ("short", "context_length: ", ask("hi ".repeat(300).into(), none)),
    ] {
        let decision = decide(&router, &asked, &Caller::default()).await;
        assert!(!order(&decision).contains(&name), "{name}");
        let score = decision.deployments.iter().find(|score| *score.deployment == *name).unwrap();
        assert!(score.out.as_ref().unwrap().to_string().starts_with(why), "{name}: {:?}", score.out);
        assert!(decision.deployments.last().unwrap().out.is_some());
    }
    let everything = ask(
        image,
        serde_json::json!({"tools": tools, "max_tokens": 4000,
        "response_format": {"type": "json_object"}}),
    );
    let refused = router.decide(&everything, &Caller::default()).await.unwrap_err();
    let Error::NothingFits { reasons, .. } = &refused else { panic!("{refused}") };
    assert!(
        ["blind: vision", "toolless: tools", "shapeless: json", "short: context"]
            .iter()
            .all(|why| reasons.contains(why)),
        "{reasons}"
    );
}

#[tokio::test]
async fn an_unknown_price_counts_as_the_dearest_and_is_never_zero() {
    let deployment = |name: &str, rest: &str| {
        format!(
            "[[deployment]]\nname = \"{name}\"\nprovider = \"own\"\nmodel = \"{name}-model\"\nclasses = [\"general\"]\n\
            context_tokens = 10000\nmax_output_tokens = 1000\n{rest}\n"
        )
    };
    let text = format!(
        "[routing]\nshipped_providers = false\nstrategy = [\"cheapest\"]\n[policy]\ntie_share = 0.0\n[[provider]]\nname = \"own\"\nkind = \"openai\"\n\
         base_url = \"http://127.0.0.1:9\"\n{}{}{}",
        deployment("unknown", ""),
        deployment("cheap", "input = 1.0\noutput = 1.0"),
        deployment("dear", "input = 5.0\noutput = 20.0"),
    );
    let router = Bench::of(&text).router();
    let decision = decide(&router, &general(), &Caller::default()).await;
    assert_eq!(&*decision.deployment, "cheap");
    let score = |name: &str| decision.deployments.iter().find(|score| *score.deployment == *name).unwrap();
    assert!(!score("unknown").price_known && score("dear").price_known);
    assert_eq!(score("unknown").cost(), score("dear").cost());
    let named = request(&chat("unknown", "hi", false));
    let answer = router.answer(named, &Caller::default()).await.unwrap_or_else(|_| panic!("no answer"));
    let outcome = router.decisions.get(&answer.decision.id).unwrap().outcome.clone().unwrap();
    assert!(outcome.usage.is_some() && outcome.cost.is_none(), "what it cost is not known");
}
