//! The choice of a class: the cheapest that meets the quality floor, or the one with the most dollars left.

use super::Policy;
use crate::decision::ClassScore;
use std::cmp::Ordering;

/// A class chosen among `scores`, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassChoice {
    /// Index into the scores.
    pub index: usize,
    /// Whether a class met the policy; otherwise the best quality at hand answers.
    pub met: bool,
}

/// One class as the choice sees it: its terms, and how many other classes it covers.
pub struct Candidate<'a> {
    pub score: &'a ClassScore,
    pub covers: usize,
}

/// Chooses among classes that some deployment can serve (`out` is none) and whose quality is known.
/// `None` when there is no such class.
///
/// Equal scores (classes served by the same deployments) go to the narrower class, then to the better quality:
/// a covering class has all the quality of what it covers, so it must not win a draw.
pub fn choose(candidates: &[Candidate<'_>], policy: &Policy) -> Option<ClassChoice> {
    let usable = || candidates.iter().enumerate().filter(|(_, candidate)| candidate.score.out.is_none());
    let best = usable().filter(|(_, candidate)| meets(candidate.score, policy)).max_by(|a, b| better(a.1, b.1));
    if let Some((index, _)) = best {
        return Some(ClassChoice { index, met: true });
    }
    let fallback =
        usable().max_by(|a, b| quality(a.1.score).total_cmp(&quality(b.1.score)).then_with(|| better(a.1, b.1)))?;
    Some(ClassChoice { index: fallback.0, met: false })
}

/// Whether a class meets the floor; in dollars (`worth`) every class does.
pub fn meets(score: &ClassScore, policy: &Policy) -> bool {
    policy.worth.is_some() || quality(score) >= policy.quality_floor
}

/// The dollars left of a good answer: `worth x quality - cost - value_of_second x latency`.
pub fn dollars(score: &ClassScore, policy: &Policy) -> f64 {
    let cost = score.expected_cost.map_or(0.0, |cost| cost.dollars());
    let seconds = score.expected_latency_ms.unwrap_or(0.0) / 1e3;
    policy.worth.unwrap_or(0.0) * quality(score) - cost - policy.value_of_second * seconds
}

fn better(a: &Candidate<'_>, b: &Candidate<'_>) -> Ordering {
    let score = |candidate: &Candidate<'_>| candidate.score.score.unwrap_or(f64::NEG_INFINITY);
    let order = score(a).total_cmp(&score(b)).then_with(|| b.covers.cmp(&a.covers));
    order.then_with(|| quality(a.score).total_cmp(&quality(b.score)))
}

fn quality(score: &ClassScore) -> f64 {
    score.quality.unwrap_or(0.0)
}
