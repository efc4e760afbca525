//! Requests put to a router directly, what is read off its decisions, and what it is made to believe of deployments.

use crate::harness::{Script, chat, secret};
use std::sync::Arc;
use waypost::chat::ChatRequest;
use waypost::decision::{Decision, Why};
use waypost::providers::{Failure, FailureKind};
use waypost::record::Seen;
use waypost::router::{Caller, CallerKey, Router};

pub fn request(body: &str) -> ChatRequest {
    ChatRequest::parse(body.as_bytes()).unwrap()
}

/// A request that names its class, so that nothing need be read.
pub fn general() -> ChatRequest {
    request(&chat("general", "What is a fjord?", false))
}

pub fn with_key(variable: &str) -> Caller {
    Caller { key: Some(CallerKey(secret(variable))), ..Caller::default() }
}

pub fn with_policy(policy: &str, caller: Caller) -> Caller {
    Caller { policy: Some(policy.into()), ..caller }
}

pub async fn decide(router: &Router, request: &ChatRequest, caller: &Caller) -> Decision {
    router.decide(request, caller).await.unwrap()
}

/// Who is asked, in order.
pub fn order(decision: &Decision) -> Vec<&str> {
    std::iter::once(&decision.deployment).chain(&decision.fallbacks).map(|name| &**name).collect()
}

/// A deployment gave thirty answers of 400 tokens, each in so many milliseconds.
pub fn took(router: &Router, name: &str, total_ms: f64) {
    let index = router.fleet.index_of(name).unwrap();
    let ttft_ms = total_ms / 10.0;
    let seen = Seen { ttft_ms: Some(ttft_ms), total_ms, tokens: Some(400), tokens_in: 8, ..Seen::default() };
    for _ in 0..30 {
        router.health.first_token(index, router.health.now(), 8, ttft_ms);
        router.health.answered(index, router.health.now(), &seen);
    }
}

/// A deployment failed so often in a row.
pub fn failed(router: &Router, name: &str, times: usize) {
    let index = router.fleet.index_of(name).unwrap();
    (0..times).for_each(|_| router.health.failed(index, router.health.now(), 100.0));
}

pub fn down() -> Script {
    Script::Fail(Failure { status: Some(500), ..Failure::new(FailureKind::Down, "answered 500") })
}

/// What came of a request: the deployments asked, in order, and why.
pub async fn attempts(router: &Arc<Router>, request: ChatRequest, caller: &Caller) -> Vec<(String, Why)> {
    let answer = router.answer(request, caller).await.unwrap_or_else(|refusal| panic!("{}", refusal.error));
    let decision = router.decisions.get(&answer.decision.id).unwrap();
    let outcome = decision.outcome.as_ref().unwrap();
    outcome.attempts.iter().map(|attempt| (attempt.deployment.clone(), attempt.why)).collect()
}
