//! The smallest change of policy that would have chosen otherwise: what an operator turns to get another answer.

use super::Policy;
use super::class::{Candidate, choose, dollars, meets};
use crate::decision::{Change, ClassScore, DeploymentScore};

/// A step past a threshold, so that the changed policy lies on its other side.
const STEP: f64 = 1e-6;

/// How far past the crossing of two deployments, as a share of it. Latencies decay with time: within a few milliseconds
/// they move a crossing by a hundred-thousandth, and whoever is told a value still has to send it.
const CLEAR_STEP: f64 = 1e-3;

/// The nearest quality floor (or worth, when the policy is in dollars) at which another class than `chosen` wins.
pub fn class(candidates: &[Candidate<'_>], chosen: usize, policy: &Policy) -> Option<Change> {
    let (key, from) = match policy.worth {
        Some(worth) => ("worth", worth),
        None => ("quality_floor", policy.quality_floor),
    };
    let mut trials = trials(candidates, chosen, policy);
    trials.sort_by(|a, b| (a - from).abs().total_cmp(&(b - from).abs()));
    trials.into_iter().find_map(|to| {
        let changed = match policy.worth {
            Some(_) => Policy { worth: Some(to), ..policy.clone() },
            None => Policy { quality_floor: to, ..policy.clone() },
        };
        let winner = choose_under(candidates, &changed)?;
        (winner != chosen).then(|| Change {
            key: key.into(),
            from,
            to,
            would_choose: candidates[winner].score.class.clone(),
        })
    })
}

/// Values of the key around which the winner can change: just past each quality, or where two classes' dollars cross.
fn trials(candidates: &[Candidate<'_>], chosen: usize, policy: &Policy) -> Vec<f64> {
    let quality = |candidate: &Candidate<'_>| candidate.score.quality.unwrap_or(0.0);
    if policy.worth.is_none() {
        let around = |candidate: &Candidate<'_>| [quality(candidate), quality(candidate) + STEP];
        return candidates.iter().flat_map(around).filter(|floor| (0.0..=1.0).contains(floor)).collect();
    }
    let free = Policy { worth: Some(0.0), ..policy.clone() };
    let winner = &candidates[chosen];
    let crossing = |other: &Candidate<'_>| {
        let gain = quality(other) - quality(winner);
        let worth = (dollars(winner.score, &free) - dollars(other.score, &free)) / gain;
        [worth - STEP, worth + STEP]
    };
    candidates.iter().flat_map(crossing).filter(|worth| worth.is_finite() && *worth >= 0.0).collect()
}

/// The class that would win under another policy: scores are recomputed, then chosen as in the decision itself.
fn choose_under(candidates: &[Candidate<'_>], policy: &Policy) -> Option<usize> {
    let rescored: Vec<ClassScore> = candidates
        .iter()
        .map(|candidate| ClassScore { score: Some(dollars(candidate.score, policy)), ..candidate.score.clone() })
        .collect();
    let again: Vec<_> =
        rescored.iter().zip(candidates).map(|(score, old)| Candidate { score, covers: old.covers }).collect();
    let choice = choose(&again, policy)?;
    // A floor nobody meets is no policy to recommend.
    meets(again[choice.index].score, policy).then_some(choice.index)
}

/// The nearest value of a second at which another deployment of the same class beats the first by more than a tie.
/// Scores are linear in it (`strategy::Strategy::Balanced`): `cost / (1 - failures) + quality_cost + v x (seconds + seconds
/// lost on failures)`; the first loses where its score exceeds the other's by `tie_share`.
pub fn deployment(ranked: &[DeploymentScore], policy: &Policy) -> Option<Change> {
    let first = ranked.first().filter(|first| first.out.is_none())?;
    let line = |score: &DeploymentScore| {
        let cost = score.cost().dollars() / (1.0 - score.failure_share) + score.quality_cost;
        (cost, (score.latency_ms() + score.failure_ms) / 1e3)
    };
    let (cost, seconds) = line(first);
    let distance = |to: f64| (to - policy.value_of_second).abs();
    let crossing = |other: &DeploymentScore| {
        let (other_cost, other_seconds) = line(other);
        let clear = 1.0 + policy.tie_share;
        let at = (clear * other_cost - cost) / (seconds - clear * other_seconds);
        // A step past the crossing, away from the value of now.
        let to = at + (at - policy.value_of_second).signum() * (at.abs() * CLEAR_STEP).max(1e-15);
        let wins = cost + to * seconds > clear * (other_cost + to * other_seconds);
        (to.is_finite() && to >= 0.0 && wins).then_some(to)
    };
    let alike = |other: &&DeploymentScore| {
        other.out.is_none()
            && other.held.is_some() == first.held.is_some()
            && other.in_class == first.in_class
            && other.guarded == first.guarded
    };
    let others = ranked[1..].iter().filter(alike);
    let (to, other) = others
        .filter_map(|other| Some((crossing(other)?, other)))
        .min_by(|a, b| distance(a.0).total_cmp(&distance(b.0)))?;
    Some(Change {
        key: "value_of_second".into(),
        from: policy.value_of_second,
        to,
        would_choose: other.deployment.to_string(),
    })
}
