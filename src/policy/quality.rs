//! Quality per class: a label on one class is an outcome for all that cover it, so
//! `quality(class) = P(label is the class or one it covers)`.

use super::Policy;
use super::class::{Candidate, ClassChoice, choose, dollars};
use crate::classifier::Estimate;
use crate::classifier::head::Teaching;
use crate::classifier::model::Manifest;
use crate::config::ClassConfig;
use crate::decision::ClassScore;
use crate::money::Money;

/// What an answer of a class is expected to take, at its best deployment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Expected {
    pub cost: Money,
    pub latency_ms: f64,
}

/// One score a class. Of labels, `quality(class) = P(label is the class or one it covers)`; outcomes say themselves how
/// well a class answers. `expected` gives what a class's answer takes, or why no deployment of it can answer.
pub fn score(
    classes: &[ClassConfig],
    model: &Manifest,
    estimate: &Estimate,
    expected: impl Fn(&str) -> Result<Expected, String>,
    policy: &Policy,
) -> Vec<ClassScore> {
    let labels = &model.classes;
    let covered = |class: &ClassConfig, shares: &[f64]| {
        let answers = |label: &String| *label == class.name || class.covers.contains(label);
        // A class that covers every label answers every prompt: exactly 1, whatever the rounding of the sum.
        if labels.iter().all(answers) {
            return Some(1.0);
        }
        let shares = shares.iter().zip(labels).filter(|(_, label)| answers(label));
        Some(shares.map(|(share, _)| share).sum::<f64>().min(1.0))
    };
    let of = |class: &ClassConfig, shares: &[f64]| match model.teaching {
        Teaching::Labels => covered(class, shares),
        Teaching::Outcomes => labels.iter().position(|label| *label == class.name).map(|at| shares[at]),
    };
    let score_class = |class: &ClassConfig| {
        let quality = of(class, &estimate.joined);
        let source = |at: usize| estimate.sources.as_ref().and_then(|sources| of(class, &sources[at]));
        let expected = expected(&class.name);
        let mut score = ClassScore {
            class: class.name.clone(),
            quality,
            head: source(0),
            kernel: source(1),
            neighbors: source(2),
            expected_cost: expected.as_ref().ok().map(|expected| expected.cost),
            expected_latency_ms: expected.as_ref().ok().map(|expected| expected.latency_ms),
            score: None,
            out: expected.err().or_else(|| quality.is_none().then(|| "the routing model has no outcomes of it".into())),
        };
        score.score = score.out.is_none().then(|| dollars(&score, policy));
        score
    };
    classes.iter().map(score_class).collect()
}

/// Scores and choice where no deployment can be missing; `expected` gives what a class's answer takes. Where every class
/// takes the same (`waypost decide`), the decision depends on the prompt, the routing model and the policy alone.
pub fn choose_without_deployments(
    classes: &[ClassConfig],
    model: &Manifest,
    estimate: &Estimate,
    expected: impl Fn(&str) -> Expected,
    policy: &Policy,
) -> (Vec<ClassScore>, ClassChoice) {
    let scores = score(classes, model, estimate, |class| Ok(expected(class)), policy);
    let candidates: Vec<_> =
        scores.iter().zip(classes).map(|(score, class)| Candidate { score, covers: class.covers.len() }).collect();
    let choice = choose(&candidates, policy).expect("a routing model has at least one class, which is not out");
    (scores, choice)
}
