//! What an answer of each deployment is expected to take, which of them cannot answer at all, and the order of the rest.

use super::Policy;
use super::strategy::{self, Strategy, Turns};
use crate::catalog::{Service, Terms};
use crate::config::DeploymentConfig;
use crate::decision::{DeploymentScore, Out};
use crate::features::Features;
use crate::providers::Deployment;
use crate::record::Health;

/// What is asked of a deployment.
pub struct Demand<'a> {
    pub features: &'a Features,
    pub policy: &'a Policy,
    /// Expected answer tokens of this prompt, before the caller's and the deployment's limits.
    pub output_tokens: f64,
    /// Now, for dated prices.
    pub at: jiff::Timestamp,
    /// The deployment that answered this conversation last, and how much of the prompt it is expected to have cached.
    pub session: Option<(usize, u64)>,
}

/// A share of failures beyond which expectations would be infinite.
const MOST_FAILURES: f64 = 0.95;

/// The terms of one deployment's score. `in_class` and `held` are for the caller to set.
#[inline(always)]
pub fn score(index: usize, deployment: &Deployment, health: &Health, demand: &Demand<'_>) -> DeploymentScore {
    let (config, features, policy) = (&deployment.config, demand.features, demand.policy);
    let limit = features.max_tokens.unwrap_or(u64::MAX).min(config.max_output_tokens);
    let output_tokens = ((demand.output_tokens * health.length_ratio).round().max(1.0) as u64).min(limit);
    let input_tokens = health.expected_tokens_in(features.tokens_in);
    let cached_tokens = demand.session.filter(|(last, _)| *last == index).map_or(0, |(_, tokens)| tokens);
    let terms = Terms { at: demand.at, service: Service::Standard, region: config.region.as_deref() };
    let answer_tokens = output_tokens.saturating_mul(features.choices);
    let cost = config.prices.expected(input_tokens, cached_tokens.min(input_tokens), answer_tokens, &terms);
    let generation_ms = health.ms_per_token * output_tokens as f64;
    let latency_ms = health.ttft_ms + generation_ms;
    let time_cost = policy.value_of_second * latency_ms / 1e3;
    let failures = health.failure_share.min(MOST_FAILURES);
    let odds = failures / (1.0 - failures);
    // A failure costs the time lost on it, and the money where the provider counts what it began.
    let failure_cost = (cost.total().dollars() + policy.value_of_second * health.ms_lost_per_failure / 1e3) * odds;
    let guarded = policy.guard_latency_ms.is_some_and(|limit| latency_ms > limit)
        || policy.guard_failures.is_some_and(|limit| failures > limit)
        || policy.guard_quality.zip(health.quality).is_some_and(|(limit, quality)| quality < limit);
    let out = why_out(deployment, demand, input_tokens, cost.total().dollars(), latency_ms);
    // Written where it stays: it is large, and there may be hundreds.
    DeploymentScore {
        index,
        deployment: deployment.name.clone(),
        provider: deployment.provider_name.clone(),
        model: deployment.model.clone(),
        in_class: false,
        input_cost: cost.input,
        output_cost: cost.output,
        price_known: config.price_known,
        input_tokens,
        cached_tokens,
        output_tokens,
        ttft_ms: health.ttft_ms,
        generation_ms,
        measured: health.measured,
        quality: health.quality,
        failure_share: failures,
        failure_ms: health.ms_lost_per_failure * odds,
        time_cost,
        failure_cost,
        quality_cost: 0.0,
        score: cost.total().dollars() + time_cost + failure_cost,
        in_flight: health.in_flight,
        capacity: 1.0,
        priority: config.priority,
        weight: config.weight,
        held: None,
        guarded,
        out,
    }
}

/// What live quality is worth, in dollars: `worth` times how much less well a deployment's recent answers scored than the
/// mean of those that were scored. One without scores counts as that mean.
pub fn price_quality(scores: &mut [DeploymentScore], worth: f64) {
    let known = || scores.iter().filter_map(|score| score.quality);
    let count = known().count();
    if count == 0 {
        return;
    }
    let mean = known().sum::<f64>() / count as f64;
    for score in scores {
        score.quality_cost = score.quality.map_or(0.0, |quality| worth * (mean - quality));
        score.score += score.quality_cost;
    }
}

/// Why a deployment may not see a request at all, if it may not: where it stands, or what is kept there. Holds for copies
/// of a request as well.
pub fn barred(config: &DeploymentConfig, policy: &Policy) -> Option<Out> {
    let allowed = |region: &str| policy.allowed_regions.iter().any(|allowed| allowed == region);
    if !policy.allowed_regions.is_empty() && !config.region.as_deref().is_some_and(allowed) {
        Some(Out::Region(config.region.as_deref().unwrap_or("").into()))
    } else {
        (policy.zero_retention && !config.zero_retention).then_some(Out::Retention)
    }
}

/// Why a deployment cannot answer this request, if it cannot. The first constraint broken is told.
fn why_out(
    deployment: &Deployment,
    demand: &Demand<'_>,
    input_tokens: u64,
    dollars: f64,
    latency_ms: f64,
) -> Option<Out> {
    let (config, features, policy) = (&deployment.config, demand.features, demand.policy);
    // Room for the answer is what the caller demands; without a demand, one token.
    let room = features.max_tokens.map_or(1, |tokens| tokens.min(config.max_output_tokens));
    let needed = input_tokens.saturating_add(room);
    if needed > config.context_tokens {
        Some(Out::ContextLength { needed, has: config.context_tokens })
    } else if features.images > 0 && !config.vision {
        Some(Out::Vision)
    } else if features.tools > 0 && !config.tools {
        Some(Out::Tools)
    } else if features.json_schema && !config.json_schema {
        Some(Out::JsonSchema)
    } else if let Some(what) = deployment.provider.impossible(&features.needs) {
        Some(Out::Dialect(what))
    } else if let Some(out) = barred(config, policy) {
        Some(out)
    } else if policy.max_cost.is_some_and(|limit| dollars > limit) {
        Some(Out::MaxCost(dollars))
    } else if policy.max_latency_ms.is_some_and(|limit| latency_ms > limit) {
        Some(Out::MaxLatency(latency_ms))
    } else {
        None
    }
}

/// How deployments are put in order.
pub struct Order<'a> {
    pub strategies: &'a [Strategy],
    pub tie_share: f64,
    pub turns: &'a Turns,
    /// Nobody's turn is taken.
    pub dry: bool,
    /// When a deployment was last chosen, as a rising number.
    pub last_chosen: &'a dyn Fn(usize) -> u64,
}

/// Puts scores in order: what can go now before what is held at a limit, the class before those that cover it, what is
/// within the policy's guards before what is not, and each such group by the strategies; what is out comes last.
/// Returns what broke the tie for the first place, if there was one.
pub fn rank(scores: &mut [DeploymentScore], order: &Order<'_>) -> Option<String> {
    let group = |score: &DeploymentScore| (score.out.is_some(), score.held.is_some(), !score.in_class, score.guarded);
    if order.strategies == [Strategy::Fixed] {
        leave_the_first(scores);
    }
    if !scores.is_sorted_by_key(group) {
        let mut places: Vec<_> = scores.iter().map(group).enumerate().map(|(at, group)| (group, at)).collect();
        places.sort_unstable();
        strategy::permute(scores, places.into_iter().map(|(_, at)| at).collect());
    }
    let (mut tie_breaker, mut from) = (None, 0);
    while from < scores.len() && scores[from].out.is_none() {
        let own = group(&scores[from]);
        let to = from + scores[from..].iter().take_while(|score| group(score) == own).count();
        let told = strategy::order(
            &mut scores[from..to],
            order.strategies,
            order.tie_share,
            order.turns,
            // Who comes after the first group has no turn.
            order.dry || from > 0,
            order.last_chosen,
        );
        tie_breaker = tie_breaker.or(told.filter(|_| from == 0));
        from = to;
    }
    tie_breaker
}

/// Takes out all but the first in the configuration, of the class itself where one of its own can answer. That the first
/// is at a limit or beyond a guard moves nothing: it is waited for.
fn leave_the_first(scores: &mut [DeploymentScore]) {
    let can = scores.iter().filter(|score| score.out.is_none());
    let Some(first) = can.min_by_key(|score| (!score.in_class, score.index)).map(|score| score.index) else { return };
    let others = scores.iter_mut().filter(|score| score.out.is_none() && score.index != first);
    others.for_each(|score| score.out = Some(Out::NotFixed));
}
