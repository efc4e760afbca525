//! The choice of a deployment: by expected dollars, where waiting and failing have their price too.

use super::Policy;
use crate::catalog::Terms;
use crate::config::DeploymentConfig;
use crate::decision::DeploymentScore;
use crate::features::Features;
use crate::record::Health;

/// What is asked of a deployment.
pub struct Demand<'a> {
    pub features: &'a Features,
    pub policy: &'a Policy,
    /// Expected answer tokens of this prompt, before the caller's and the deployment's limits.
    pub output_tokens: f64,
}

/// The terms of one deployment's score. `in_class` is for the caller to set once the class is known.
pub fn score(deployment: &DeploymentConfig, health: &Health, demand: &Demand<'_>) -> DeploymentScore {
    let features = demand.features;
    let limit = features.max_tokens.unwrap_or(u64::MAX).min(deployment.max_output_tokens);
    let output_tokens = (demand.output_tokens.round().max(1.0) as u64).min(limit);
    let terms = Terms::now(deployment.region.as_deref());
    let answer_tokens = output_tokens.saturating_mul(features.choices);
    let expected = deployment.prices.expected(features.tokens_in, 0, answer_tokens, &terms);
    let (input_cost, output_cost) = (expected.input, expected.output);
    let generation_ms = health.ms_per_token * output_tokens as f64;
    let time_cost = demand.policy.value_of_second * (health.ttft_ms + generation_ms) / 1e3;
    let failures = health.failure_share.min(0.95);
    let failure_cost = ((input_cost + output_cost).dollars() + time_cost) * failures / (1.0 - failures);
    let mut score = DeploymentScore {
        deployment: deployment.name.clone(),
        provider: deployment.provider.clone(),
        model: deployment.model.clone(),
        in_class: false,
        input_cost,
        output_cost,
        output_tokens,
        price_known: deployment.price_known,
        ttft_ms: health.ttft_ms,
        generation_ms,
        measured: health.measured,
        time_cost,
        failure_cost,
        score: (input_cost + output_cost).dollars() + time_cost + failure_cost,
        in_flight: health.in_flight,
        out: None,
    };
    score.out = why_out(deployment, &score, demand);
    score
}

/// Why a deployment cannot answer this request, if it cannot. The first constraint broken is told.
fn why_out(deployment: &DeploymentConfig, score: &DeploymentScore, demand: &Demand<'_>) -> Option<String> {
    let (features, policy) = (demand.features, demand.policy);
    // Room for the answer is what the caller demands; without a demand, one token.
    let needed = features.tokens_in + features.max_tokens.map_or(1, |tokens| tokens.min(deployment.max_output_tokens));
    let cost = score.cost().dollars();
    let region = deployment.region.as_deref().unwrap_or("");
    let broken = [
        (
            needed > deployment.context_tokens,
            format!("context_length: needs about {needed} tokens, has {}", deployment.context_tokens),
        ),
        (features.images > 0 && !deployment.vision, "vision: the request has images".into()),
        (features.tools > 0 && !deployment.tools, "tools: the request defines tools".into()),
        (features.json_schema && !deployment.json_schema, "json_schema: the request wants structured output".into()),
        (
            !policy.regions.is_empty() && !policy.regions.iter().any(|wanted| wanted == region),
            format!("region: `{region}` is not among {}", policy.regions.join(", ")),
        ),
        (policy.max_cost.is_some_and(|limit| cost > limit), format!("max_cost: expected ${cost:.6}")),
        (
            policy.max_latency_ms.is_some_and(|limit| score.latency_ms() > limit),
            format!("max_latency_ms: expected {:.0} ms", score.latency_ms()),
        ),
    ];
    broken.into_iter().find(|(out, _)| *out).map(|(_, why)| why)
}

/// Sorts scores: those of the class first, by score; then those of covering classes; those that are out last.
/// Deployments within `tie_share` of the best count as equal, and `rest` (recent use, smaller first) decides among
/// them after the load. Returns what broke the tie, if there was one.
pub fn rank(scores: &mut [DeploymentScore], policy: &Policy, rest: impl Fn(&str) -> u64) -> Option<String> {
    scores.sort_by(|a, b| {
        let key = |score: &DeploymentScore| (score.out.is_some(), !score.in_class);
        key(a).cmp(&key(b)).then_with(|| a.score.total_cmp(&b.score))
    });
    let best = scores.first().filter(|best| best.out.is_none())?.clone();
    let limit = best.score + policy.tie_share * best.score.abs();
    let tied = scores
        .iter()
        .take_while(|score| score.out.is_none() && score.in_class == best.in_class && score.score <= limit)
        .count();
    if tied < 2 {
        return None;
    }
    let tie = &mut scores[..tied];
    // Cached: what `rest` reads changes while other requests are chosen.
    tie.sort_by_cached_key(|score| (score.in_flight, rest(&score.deployment)));
    let decided_by = if tie[0].in_flight < tie[1].in_flight { "least busy" } else { "least recently chosen" };
    Some(format!("{tied} deployments within {:.0} % of the best score: {decided_by}", policy.tie_share * 100.0))
}
