//! Conversations: the cached prefix has its price, and nothing else holds one.

use super::{add, bench};
use crate::asking::{attempts, decide, order, request, with_key};
use crate::harness::{Bench, Script};
use std::sync::Arc;
use std::time::Duration;
use waypost::chat::ChatRequest;
use waypost::decision::{Decision, DeploymentScore};
use waypost::money::Money;
use waypost::router::{Caller, Router};

/// 39,984 bytes and four tokens a message: 10,000 tokens as estimated; the provider counts the same.
const OPENING_BYTES: usize = 39_984;
const COUNTED: &str = r#"{"id":"c","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":10000,"completion_tokens":400}}"#;

/// The turn of a conversation after so many others.
fn turn(before: usize, opening_bytes: usize) -> ChatRequest {
    let mut messages = vec![serde_json::json!({"role": "user", "content": "a".repeat(opening_bytes)})];
    for _ in 0..before {
        messages.push(serde_json::json!({"role": "assistant", "content": "hi"}));
        messages.push(serde_json::json!({"role": "user", "content": "more"}));
    }
    request(&serde_json::json!({"model": "general", "messages": messages}).to_string())
}

/// `a` at one dollar per million tokens (cached: ten cents), `b` at `dollars`; `a` goes first by its place alone.
fn two(text: &str, dollars: f64) -> Bench {
    let bench = add(add(bench(text), "a", 1.0, |_| ()), "b", dollars, |_| ());
    bench.providers.iter().for_each(|provider| *provider.script.lock() = Script::Answer(COUNTED));
    bench
}

/// `a` answers the first turn.
async fn begun(bench: Bench, caller: &Caller) -> Arc<Router> {
    let router = bench.router();
    let by_name = request(&turn_for("a"));
    attempts(&router, by_name, caller).await;
    router
}

fn turn_for(model: &str) -> String {
    let content = "a".repeat(OPENING_BYTES);
    serde_json::json!({"model": model, "messages": [{"role": "user", "content": content}]}).to_string()
}

fn score<'a>(decision: &'a Decision, name: &str) -> &'a DeploymentScore {
    decision.deployments.iter().find(|score| *score.deployment == *name).unwrap()
}

const CHEAPEST: &str = "[routing]\nstrategy = [\"cheapest\"]\n";

#[tokio::test]
async fn a_cached_prefix_is_worth_its_price_to_the_dollar() {
    let router = begun(two(CHEAPEST, 0.5), &Caller::default()).await;
    let stays = decide(&router, &turn(1, OPENING_BYTES), &Caller::default()).await;
    let (a, b) = (score(&stays, "a"), score(&stays, "b"));
    assert_eq!((a.cached_tokens, b.cached_tokens), (10_000, 0));
    // Picodollars a token: a dollar per million is 1,000,000.
    let fresh = a.input_tokens as i64 - 10_000;
    assert!((1..100).contains(&fresh), "{fresh}");
    assert_eq!(a.input_cost, Money::from_picodollars(10_000 * 100_000 + fresh * 1_000_000));
    assert_eq!(b.input_cost, Money::from_picodollars(b.input_tokens as i64 * 500_000));
    let session = stays.session.as_ref().unwrap();
    assert_eq!((&*stays.deployment, session.stays, &*session.last), ("a", true, "a"), "though b has half the price");
    assert!((session.saves - (b.cost().dollars() - a.cost().dollars())).abs() < 1e-12 && session.saves > 0.003);
    let other = decide(&router, &turn(1, OPENING_BYTES - 400), &Caller::default()).await;
    assert_eq!((&*other.deployment, other.session), ("b", None), "another conversation");
}

#[tokio::test]
async fn a_conversation_leaves_for_what_the_cache_does_not_save() {
    let router = begun(two(CHEAPEST, 0.05), &Caller::default()).await;
    let leaves = decide(&router, &turn(1, OPENING_BYTES), &Caller::default()).await;
    let session = leaves.session.as_ref().unwrap();
    assert_eq!((&*leaves.deployment, session.stays, session.cached_tokens), ("b", false, 10_000));
    assert!(session.saves < 0.0, "staying would cost more: {session:?}");
}

#[tokio::test]
async fn a_conversation_is_forgotten_and_its_cache_before_it() {
    let text = format!("{CHEAPEST}[session]\ncached_s = 0.2\nforget_s = 0.6");
    let router = begun(two(&text, 0.5), &Caller::default()).await;
    tokio::time::sleep(Duration::from_millis(250)).await;
    let cold = decide(&router, &turn(1, OPENING_BYTES), &Caller::default()).await;
    assert_eq!((&*cold.deployment, score(&cold, "a").cached_tokens), ("b", 0), "no cache lasts for ever");
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(decide(&router, &turn(1, OPENING_BYTES), &Caller::default()).await.session, None);
}

#[tokio::test]
async fn callers_with_different_keys_share_no_conversation() {
    let (one, other) = (with_key("ONE"), with_key("OTHER"));
    let router = begun(two(CHEAPEST, 0.5), &one).await;
    assert_eq!(&*decide(&router, &turn(1, OPENING_BYTES), &one).await.deployment, "a");
    let apart = decide(&router, &turn(1, OPENING_BYTES), &other).await;
    assert_eq!((&*apart.deployment, apart.session), ("b", None));
    let named = |caller: &Caller| Caller { session: Some("s".into()), ..caller.clone() };
    let router = begun(two(CHEAPEST, 0.5), &named(&one)).await;
    assert!(decide(&router, &turn(1, OPENING_BYTES), &named(&one)).await.session.is_some());
    assert_eq!(decide(&router, &turn(1, OPENING_BYTES), &named(&other)).await.session, None, "the same name");
}

#[tokio::test]
async fn where_turns_are_taken_a_conversation_stays_only_if_that_saves() {
    let text = "[routing]\nstrategy = [\"round_robin\"]\n";
    let router = begun(two(text, 1.0), &Caller::default()).await;
    for _ in 0..3 {
        let stays = decide(&router, &turn(1, OPENING_BYTES), &Caller::default()).await;
        assert_eq!(order(&stays), ["a", "b"], "ten thousand tokens are cached");
    }
    let listed = "[routing]\nstrategy = [\"priority\", \"round_robin\"]\n";
    let router = begun(two(listed, 1.0), &Caller::default()).await;
    for _ in 0..3 {
        let stays = attempts(&router, turn(1, OPENING_BYTES), &Caller::default()).await;
        assert_eq!(stays[0].0, "a", "of equal priority");
    }
    let mut preferred = two(listed, 1.0);
    preferred.deployments[0].config.priority = 1;
    let router = begun(preferred, &Caller::default()).await;
    let goes = decide(&router, &turn(1, OPENING_BYTES), &Caller::default()).await;
    assert_eq!(order(&goes), ["b", "a"], "no cache goes before a priority");
    let router = two(text, 1.0).router();
    let mut answered = Vec::new();
    for before in 0..4 {
        // Short: nothing is cached.
        answered.push(attempts(&router, turn(before, 100), &Caller::default()).await[0].0.clone());
    }
    assert!(answered.windows(2).all(|pair| pair[0] != pair[1]), "{answered:?}");
}
