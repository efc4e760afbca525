//! The choice of a class as a pure function: invariants by property tests.

use proptest::prelude::*;
use waypost::decision::ClassScore;
use waypost::money::Money;
use waypost::policy::Policy;
use waypost::policy::class::{Candidate, choose, dollars, meets};
use waypost::policy::flip;

fn policy(floor: f64, worth: Option<f64>) -> Policy {
    Policy { quality_floor: floor, worth, ..crate::harness::default_config().policy }
}

fn scores(terms: &[(f64, f64, f64)], policy: &Policy) -> Vec<ClassScore> {
    let score = |(index, (quality, cost, latency)): (usize, &(f64, f64, f64))| {
        let mut score = ClassScore {
            class: format!("class-{index}"),
            quality: Some(*quality),
            head: None,
            kernel: None,
            neighbors: None,
            expected_cost: Some(Money::from_dollars(*cost)),
            expected_latency_ms: Some(*latency),
            score: None,
            out: None,
        };
        score.score = Some(dollars(&score, policy));
        score
    };
    terms.iter().enumerate().map(score).collect()
}

fn candidates(scores: &[ClassScore]) -> Vec<Candidate<'_>> {
    scores.iter().map(|score| Candidate { score, covers: 0 }).collect()
}

proptest! {
    /// The chosen class meets the floor whenever any does, and no class that meets it has more dollars left.
    #[test]
    fn the_cheapest_that_meets_the_floor_wins(terms in prop::collection::vec((0.0f64..1.0, 0.0f64..0.1, 0.0f64..1e4), 1..9), floor in 0.0f64..1.0) {
        let policy = policy(floor, None);
        let scores = scores(&terms, &policy);
        let choice = choose(&candidates(&scores), &policy).unwrap();
        let meeting: Vec<&ClassScore> = scores.iter().filter(|score| meets(score, &policy)).collect();
        prop_assert_eq!(choice.met, !meeting.is_empty());
        let chosen = &scores[choice.index];
        prop_assert!(meeting.iter().all(|other| other.score <= chosen.score) || !choice.met);
        prop_assert!(choice.met || scores.iter().all(|other| other.quality <= chosen.quality));
    }

    /// A recommended change of policy really chooses the class it names, under a floor as in dollars.
    #[test]
    fn a_flip_is_kept(terms in prop::collection::vec((0.0f64..1.0, 0.0f64..0.1, 0.0f64..1e4), 2..9), floor in 0.0f64..1.0, worth in prop::option::of(0.0f64..1.0)) {
        let policy = policy(floor, worth);
        let scores_now = scores(&terms, &policy);
        let choice = choose(&candidates(&scores_now), &policy).unwrap();
        if let Some(change) = flip::class(&candidates(&scores_now), choice.index, &policy) {
            let changed = match worth {
                Some(_) => Policy { worth: Some(change.to), ..policy.clone() },
                None => Policy { quality_floor: change.to, ..policy.clone() },
            };
            let scores_then = scores(&terms, &changed);
            let then = choose(&candidates(&scores_then), &changed).unwrap();
            prop_assert_eq!(&scores_then[then.index].class, &change.would_choose);
            prop_assert_ne!(then.index, choice.index);
        }
    }
}

#[test]
fn a_covering_class_does_not_win_a_draw() {
    let policy = policy(0.5, None);
    let scores = scores(&[(1.0, 0.0, 0.0), (0.9, 0.0, 0.0)], &policy);
    let candidates = [Candidate { score: &scores[0], covers: 9 }, Candidate { score: &scores[1], covers: 0 }];
    assert_eq!(choose(&candidates, &policy).unwrap().index, 1);
}
