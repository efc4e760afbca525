//! The configurations in `examples/`: each is loaded as it stands, with scripted providers in place of remote ones, and
//! must do what its comments promise.

use crate::asking::{attempts, decide, down, failed, general, order, request, took, with_key, with_policy};
use crate::harness::{ANSWER, Bench, Script, chat, default_config};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;
use waypost::chat::ChatRequest;
use waypost::decision::{Basis, Why};
use waypost::error::Error;
use waypost::record::Prompt;
use waypost::router::Caller;

fn text(name: &str) -> String {
    std::fs::read_to_string(format!("{}/examples/{name}.toml", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn example(name: &str) -> Bench {
    Bench::of(&text(name))
}

async fn until(holds: impl Fn() -> bool, what: &str) {
    for _ in 0..500 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what}");
}

#[test]
fn every_example_is_in_the_table_and_uses_its_own_providers_alone() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");
    let table = std::fs::read_to_string(format!("{folder}/README.md")).unwrap();
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    let configs: Vec<String> = files.filter_map(|file| file.strip_suffix(".toml").map(String::from)).collect();
    assert_eq!(configs.len(), 12);
    for name in configs {
        assert!(table.contains(&format!("[{name}.toml]({name}.toml)")), "{name} is not in the table");
        let bench = example(&name);
        assert_eq!(bench.config.deployments.len(), bench.deployments.len(), "{name} has others' deployments");
        assert!(bench.config.deployments.iter().all(|deployment| deployment.price_known), "{name}: a price is unknown");
    }
    assert!(default_config().deployments.iter().any(|deployment| deployment.name.starts_with("local/")));
}

#[tokio::test]
async fn cost_first_leaves_whoever_is_slow_or_fails() {
    let all = ["deepseek/flash", "groq/gpt-oss-120b", "openai/terra"];
    let bench = example("cost-first");
    let scripts = bench.providers.clone();
    let router = bench.router();
    let well = decide(&router, &general(), &Caller::default()).await;
    assert_eq!(order(&well), all, "by price");
    assert!(well.reason.contains("deepseek/flash answers (cheapest: expected $"), "{}", well.reason);

    *scripts[0].script.lock() = down();
    let tried = attempts(&router, general(), &Caller::default()).await;
    assert_eq!(tried, [("deepseek/flash".into(), Why::First), ("groq/gpt-oss-120b".into(), Why::Failover)]);

    failed(&router, "deepseek/flash", 20);
    let failing = decide(&router, &general(), &Caller::default()).await;
    assert_eq!(order(&failing), ["groq/gpt-oss-120b", "openai/terra", "deepseek/flash"]);
    assert!(failing.deployments.iter().all(|score| score.guarded == (*score.deployment == *"deepseek/flash")));

    let router = example("cost-first").router();
    took(&router, "deepseek/flash", 60_000.0);
    let slow = decide(&router, &general(), &Caller::default()).await;
    assert_eq!(order(&slow), ["groq/gpt-oss-120b", "openai/terra", "deepseek/flash"]);
    all.iter().for_each(|name| took(&router, name, 60_000.0));
    assert_eq!(order(&decide(&router, &general(), &Caller::default()).await), all, "all are slow: the cheapest again");
    took(&router, "deepseek/flash", 2_000.0);
    took(&router, "deepseek/flash", 2_000.0);
    assert_eq!(order(&decide(&router, &general(), &Caller::default()).await)[0], "deepseek/flash", "recovered");
}

#[tokio::test]
async fn capability_comes_first_and_then_the_price() {
    let router = example("capability-first").router();
    let ask = |body: String| {
        let router = router.clone();
        async move { decide(&router, &request(&body), &Caller::default()).await }
    };
    let greeting = ask(chat("auto", "hi, how are you?", false)).await;
    assert_eq!((greeting.class.as_str(), greeting.basis), ("basic", Basis::Classified));
    assert_eq!(order(&greeting)[..2], ["groq/gpt-oss-20b", "openai/luna"], "those of the class, by price");

    let code = "Write a Python function that parses an ISO 8601 date and returns the weekday.";
    let coding = ask(chat("auto", code, false)).await;
    assert_eq!(coding.class, "code");
    assert_eq!(
        order(&coding),
        ["openai/terra", "anthropic/sonnet", "anthropic/opus"],
        "the class, then what covers it"
    );
    let out = coding.deployments.iter().find(|score| *score.deployment == *"groq/gpt-oss-20b").unwrap();
    assert!(out.out.as_ref().unwrap().to_string().contains("serves neither the class"), "cheap, but not able");

    let strict = Caller { policy: Some("quality_floor=1.0".into()), ..Caller::default() };
    let strict = decide(&router, &request(&chat("auto", code, false)), &strict).await;
    assert_eq!((strict.class.as_str(), &*strict.deployment), ("advanced", "anthropic/opus"), "a higher floor");

    let picture = serde_json::json!({"model": "basic", "messages": [{"role": "user", "content": [
        {"type": "text", "text": "what is this?"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]}]});
    let seen = ask(picture.to_string()).await;
    assert_eq!(&*seen.deployment, "openai/luna", "the cheapest takes no images");
    assert!(!order(&seen).contains(&"groq/gpt-oss-20b"));

    let empty = Script::Answer(
        r#"{"id":"c","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":""},"finish_reason":"stop"}]}"#,
    );
    let bench = example("capability-first");
    *bench.providers[0].script.lock() = empty;
    let tried = attempts(&bench.router(), general(), &Caller::default()).await;
    assert_eq!(
        tried,
        [("groq/gpt-oss-20b".into(), Why::First), ("openai/luna".into(), Why::Failover)],
        "it said nothing"
    );
}

#[tokio::test]
async fn the_cheapest_region_within_the_guardrail_answers() {
    let router = example("cheapest-region").router();
    let ask = || async { order(&decide(&router, &general(), &Caller::default()).await).join(" ") };
    assert_eq!(ask().await, "luna-us luna-eu luna-apac", "by price");
    took(&router, "luna-us", 30_000.0);
    assert_eq!(ask().await, "luna-eu luna-apac luna-us", "the cheapest is too slow");
    took(&router, "luna-eu", 30_000.0);
    assert_eq!(ask().await, "luna-apac luna-us luna-eu");
    took(&router, "luna-apac", 15_000.0);
    assert_eq!(ask().await, "luna-us luna-eu luna-apac", "no wall: all are too slow, and the cheapest answers");
}

#[tokio::test]
async fn premium_users_get_the_fast_and_reliable() {
    let router = example("premium").router();
    let (premium, other) = (with_key("PREMIUM_KEY"), with_key("ANOTHER_KEY"));
    let first = decide(&router, &general(), &premium).await;
    assert_eq!(order(&first), ["groq/gpt-oss-120b", "openai/terra", "deepseek/flash"], "not measured: by priority");
    assert_eq!((first.rule.as_deref(), first.policy.priority, first.policy.hedge), (Some("premium"), Some(0), true));
    let cheap = decide(&router, &general(), &other).await;
    assert_eq!((&*cheap.deployment, &cheap.rule, cheap.policy.hedge), ("deepseek/flash", &None, false));

    for (name, ms) in [("deepseek/flash", 9_000.0), ("groq/gpt-oss-120b", 3_000.0), ("openai/terra", 2_000.0)] {
        took(&router, name, ms);
    }
    let fast = decide(&router, &general(), &premium).await;
    assert_eq!(order(&fast), ["openai/terra", "groq/gpt-oss-120b", "deepseek/flash"], "measured");
    assert!(fast.reason.contains("(fastest, then priority: "), "{}", fast.reason);
    failed(&router, "openai/terra", 5);
    let reliable = decide(&router, &general(), &premium).await;
    assert_eq!(order(&reliable), ["groq/gpt-oss-120b", "deepseek/flash", "openai/terra"], "it fails");
    assert_eq!(&*decide(&router, &general(), &other).await.deployment, "deepseek/flash");
}

#[tokio::test]
async fn batch_work_goes_to_the_cheapest_overnight() {
    let router = example("overnight").router();
    let at =
        |tag: &str, time: &str| Caller { tags: vec![tag.into()], at: Some(time.parse().unwrap()), ..Caller::default() };
    // (Berlin's time, the same in UTC, who is cheapest then)
    for (berlin, utc, first) in [
        ("22:30", "2026-01-14T21:30:00Z", "deepseek/flash"),
        ("01:29", "2026-01-15T00:29:00Z", "deepseek/flash"),
        ("01:31", "2026-01-15T00:31:00Z", "openai/luna"),
        ("05:59", "2026-01-15T04:59:00Z", "openai/luna"),
        ("22:30 in summer", "2026-07-14T20:30:00Z", "deepseek/flash"),
    ] {
        let decision = decide(&router, &general(), &at("batch", utc)).await;
        assert_eq!((&*decision.deployment, decision.rule.as_deref()), (first, Some("overnight")), "{berlin}");
        assert_eq!((decision.policy.priority, decision.policy.value_of_second), (Some(9), 0.0));
    }
    let night = decide(&router, &request(&chat("basic", "hi", false)), &at("batch", "2026-01-14T22:00:00Z")).await;
    assert_eq!(&*night.deployment, "own/qwen", "what is plain is cheapest on one's own machine");

    let auto = request(&chat("auto", "Explain how vaccines work.", false));
    let day = decide(&router, &auto, &at("batch", "2026-01-14T11:00:00Z")).await;
    assert_eq!((order(&day), day.rule.as_deref()), (vec!["own/qwen"], Some("batch-by-day")), "and nobody else");
    assert_eq!((day.basis, day.policy.priority), (Basis::Ruled, Some(9)));
    let others = decide(&router, &general(), &at("live", "2026-01-14T22:00:00Z")).await;
    assert_eq!((others.rule, others.policy.priority), (None, None), "work without the tag is as ever");

    let long = request(&chat("general", &"word ".repeat(50_000), false));
    let refused = router.decide(&long, &at("live", "2026-01-14T11:00:00Z")).await.unwrap_err();
    assert!(matches!(&refused, Error::Ruled { message } if message.contains("from 22:00 to 06:00")), "{refused}");
    assert_eq!(refused.status(), 403);
    assert!(router.decide(&long, &at("live", "2026-01-14T22:00:00Z")).await.is_ok());
}

/// A conversation in which a function may be called; with what it returned, where `answered`.
fn tool_request(answered: bool, system: &str) -> ChatRequest {
    let mut messages = vec![
        serde_json::json!({"role": "system", "content": system}),
        serde_json::json!({"role": "user", "content": "What is the weather in Oslo?"}),
    ];
    if answered {
        messages.push(serde_json::json!({"role": "assistant", "content": null, "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{\"city\":\"Oslo\"}"}}]}));
        messages.push(serde_json::json!({"role": "tool", "tool_call_id": "c1", "content": "4 degrees, rain"}));
    }
    let tools =
        serde_json::json!([{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]);
    request(&serde_json::json!({"model": "auto", "messages": messages, "tools": tools}).to_string())
}

#[tokio::test]
async fn tool_calls_go_to_the_good_and_what_follows_to_the_cheap() {
    let router = example("tool-calls").router();
    let call = tool_request(false, "Be brief.");
    let calling = decide(&router, &call, &Caller::default()).await;
    assert_eq!((&*calling.deployment, calling.class.as_str()), ("anthropic/sonnet", "tools"));
    assert_eq!((calling.rule.as_deref(), calling.basis), (Some("tool-call"), Basis::Ruled));
    assert_eq!(attempts(&router, call, &Caller::default()).await, [("anthropic/sonnet".into(), Why::First)]);

    let after = decide(&router, &tool_request(true, "Be brief."), &Caller::default()).await;
    assert_eq!((&*after.deployment, after.rule.as_deref()), ("openai/luna", Some("after-the-tool")));
    let session = after.session.as_ref().unwrap();
    assert_eq!((&*session.last, session.stays), ("anthropic/sonnet", false), "it is the same conversation, and free");
    let small = after.deployments.iter().find(|score| *score.deployment == *"own/small").unwrap();
    assert_eq!(small.out.as_ref().unwrap().to_string(), "tools: the request defines tools");

    // The provider counts 50,000 tokens for the prompt, which then lie in its cache.
    let counted = r#"{"id":"c","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":50000,"completion_tokens":100}}"#;
    let bench = example("tool-calls");
    *bench.providers[0].script.lock() = Script::Answer(counted);
    let (router, long) = (bench.router(), "rule ".repeat(40_000));
    attempts(&router, tool_request(false, &long), &Caller::default()).await;
    let stays = decide(&router, &tool_request(true, &long), &Caller::default()).await;
    let session = stays.session.as_ref().unwrap();
    assert_eq!((&*stays.deployment, session.stays), ("anthropic/sonnet", true), "its cache makes it the cheaper");
    assert!(session.cached_tokens >= 40_000 && session.saves > 0.0, "{session:?}");
    assert!(stays.reason.contains("it has the conversation so far in its cache"), "{}", stays.reason);
}

#[tokio::test]
async fn a_team_stays_in_its_region() {
    let bench = example("residency");
    let scripts = bench.providers.clone();
    let router = bench.router();
    let (team, other) = (with_key("EU_TEAM_KEY"), with_key("ANOTHER_KEY"));
    let stays = decide(&router, &general(), &team).await;
    assert_eq!((order(&stays), stays.rule.as_deref()), (vec!["mistral/large"], Some("eu-team")));
    let why = |name: &str| {
        let score = stays.deployments.iter().find(|score| *score.deployment == *name).unwrap();
        score.out.as_ref().unwrap().to_string()
    };
    assert_eq!(why("openai/luna"), "region: `us` is not among policy.allowed_regions");
    assert_eq!(why("azure-eu/luna"), "zero_retention: its provider may keep requests");
    let free = decide(&router, &general(), &other).await;
    assert_eq!(order(&free), ["openai/luna", "azure-eu/luna", "mistral/large"]);

    for header in ["allowed_regions=us|eu", "allowed_regions=", "zero_retention=false", "cheap"] {
        let decision = decide(&router, &general(), &with_policy(header, team.clone())).await;
        assert_eq!(order(&decision), ["mistral/large"], "{header} widened it");
    }
    let elsewhere = router.decide(&general(), &with_policy("allowed_regions=us", team.clone())).await.unwrap_err();
    assert!(matches!(elsewhere, Error::NothingFits { .. }), "{elsewhere}");
    let named = router.decide(&request(&chat("openai/luna", "hi", false)), &team).await;
    assert!(matches!(named, Err(Error::NothingFits { .. })), "by name it is no nearer");
    let narrowed = decide(&router, &general(), &with_policy("zero_retention=true", other)).await;
    assert_eq!(order(&narrowed), ["mistral/large"]);

    *scripts[2].script.lock() = down();
    let Err(refusal) = router.answer(general(), &team).await else { panic!("somebody answered") };
    assert_eq!(refusal.error.status(), 502);
    assert!(scripts[0].seen.lock().is_empty() && scripts[1].seen.lock().is_empty(), "it left the region");
}

#[tokio::test]
async fn two_policies_are_compared_by_conversation() {
    let folder = tempfile::tempdir().unwrap();
    let router = example("ab-test").router_with_experiments(folder.path());
    let mut arms: BTreeMap<String, usize> = BTreeMap::new();
    let mut first: HashMap<String, String> = HashMap::new();
    for turn in 0..800 {
        let session = format!("session-{}", turn % 400);
        let caller = Caller { session: Some(session.clone()), ..Caller::default() };
        let decision = decide(&router, &general(), &caller).await;
        let arm = decision.experiments[0].arm.clone();
        let expected = if arm == "fast" { "anthropic/haiku" } else { "openai/luna" };
        assert_eq!(&*decision.deployment, expected, "{arm}");
        assert_eq!(first.entry(session).or_insert_with(|| arm.clone()), &arm, "a conversation stays in its arm");
        *arms.entry(arm).or_default() += 1;
    }
    // 400 conversations twice; five standard deviations of a fair draw are 50 of them.
    assert!(arms["cheap"].abs_diff(400) < 100 && arms["cheap"] + arms["fast"] == 800, "{arms:?}");
    let own = Caller { session: Some("session-1".into()), policy: Some("quick".into()), ..Caller::default() };
    assert!(decide(&router, &general(), &own).await.experiments.is_empty(), "it has a policy of its own");
    assert!(decide(&router, &general(), &Caller::default()).await.experiments.is_empty(), "it has no session");
}

#[tokio::test]
async fn a_canary_that_fails_stops_by_itself_and_nobody_notices() {
    let folder = tempfile::tempdir().unwrap();
    let bench = example("canary");
    let scripts = bench.providers.clone();
    *scripts[1].script.lock() = down();
    let router = bench.router_with_experiments(folder.path());
    let mut asked = 0;
    while router.experiments.stopped().next().is_none() {
        asked += 1;
        assert!(asked < 2_000, "it never stopped");
        let answer = router.answer(general(), &Caller::default()).await;
        assert!(answer.is_ok(), "luna answers in its place");
    }
    let stop = router.experiments.stopped().next().unwrap();
    assert_eq!((stop.experiment.as_str(), stop.rule.as_str()), ("try-haiku", "max_error_rate"));
    let tried = scripts[1].seen.lock().len();
    assert!((1..50).contains(&tried) && asked > tried, "{tried} of {asked}");
    for _ in 0..100 {
        let decision = decide(&router, &general(), &Caller::default()).await;
        assert!(&*decision.deployment == "openai/luna" && decision.experiments.is_empty());
    }
}

#[tokio::test]
async fn a_canary_gets_its_share_and_only_what_it_can_take() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = example("canary");
    bench.deployments[1].config.vision = false;
    let router = bench.router_with_experiments(folder.path());
    let picture = serde_json::json!({"model": "general", "messages": [{"role": "user", "content": [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]}]});
    let picture = request(&picture.to_string());
    let mut canaries = 0;
    for _ in 0..1_000 {
        let decision = decide(&router, &general(), &Caller::default()).await;
        canaries += usize::from(&*decision.deployment == "anthropic/haiku");
        assert_eq!(&*decide(&router, &picture, &Caller::default()).await.deployment, "openai/luna");
    }
    // A tenth of 1,000; five standard deviations are 47.
    assert!((53..=147).contains(&canaries), "{canaries}");
}

#[tokio::test]
async fn a_shadow_hears_a_share_and_answers_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let bench = example("shadow");
    let scripts = bench.providers.clone();
    *scripts[1].script.lock() = Script::Answer(
        r#"{"id":"s","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"the shadow's"},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":9}}"#,
    );
    let router = bench.router_with_experiments(folder.path());
    for _ in 0..100 {
        let answer = router.answer(general(), &Caller::default()).await.unwrap_or_else(|_| panic!("no answer"));
        assert_eq!(answer.deployment, "openai/luna");
        // The shadow's queue is bounded: it is let to hear.
        tokio::task::yield_now().await;
    }
    assert_eq!(scripts[0].seen.lock().len(), 100);
    let kept = folder.path().join("listen-to-haiku.answers.jsonl");
    until(
        || std::fs::read_to_string(&kept).is_ok_and(|text| text.contains("the shadow's") && text.contains("\"hi\"")),
        "both answers are written down",
    )
    .await;
    let heard = scripts[1].seen.lock().len();
    // A fifth of 100; five standard deviations are 20.
    assert!((1..=40).contains(&heard), "{heard}");
}

#[tokio::test]
async fn a_judge_grades_a_share_and_the_scores_are_live_quality() {
    let folder = tempfile::tempdir().unwrap();
    let bench = example("judge");
    let scripts = bench.providers.clone();
    *scripts[2].script.lock() = Script::Answer(
        r#"{"id":"j","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"{\"reason\":\"right\",\"score\":0.9}"},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":9}}"#,
    );
    let router = bench.router_with_experiments(folder.path());
    let quality = |name: &str| {
        let index = router.fleet.index_of(name).unwrap();
        router.health.read(index, router.health.now(), Prompt::of(8)).quality
    };
    for _ in 0..100 {
        assert!(router.answer(general(), &Caller::default()).await.is_ok());
        tokio::task::yield_now().await;
    }
    until(|| quality("openai/luna").is_some_and(|quality| quality > 0.7), "luna is graded").await;
    let graded = scripts[2].seen.lock().len();
    // A fifth of 100; five standard deviations are 20.
    assert!((1..=40).contains(&graded), "{graded}");
    let read = String::from_utf8(scripts[2].seen.lock()[0].to_vec()).unwrap();
    assert!(read.contains("no longer than it needs to be") && read.contains("What is a fjord?"), "{read}");
    let decision = decide(&router, &general(), &Caller::default()).await;
    let shown = decision.deployments.iter().find(|score| *score.deployment == *"openai/luna").unwrap().quality;
    assert!(shown.is_some(), "a decision shows it");

    let before = scripts[2].seen.lock().len();
    for _ in 0..30 {
        let own = request(&chat("openai/sol", "What is a fjord?", false));
        assert!(router.answer(own, &Caller::default()).await.is_ok());
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(scripts[2].seen.lock().len(), before + 30, "it never grades its own");
    assert_eq!(quality("openai/sol"), None);
    assert!(ANSWER.contains("chat.completion"));
}
