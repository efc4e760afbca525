//! Invariants of the order, for any fleet under any strategies.

use proptest::prelude::*;
use std::collections::HashSet;
use waypost::decision::{DeploymentScore, Out};
use waypost::money::Money;
use waypost::policy::rank::{Order, rank};
use waypost::policy::strategy::{STRATEGIES, Strategy, Turns, check};

/// Out, held, of the class, guarded; dollars and seconds; requests in flight, priority, weight.
type Terms = ((bool, bool, bool, bool), (f64, f64, f64), (usize, u32, f64));

fn score(index: usize, terms: &Terms) -> DeploymentScore {
    let ((out, held, in_class, guarded), (dollars, seconds, failure_share), (in_flight, priority, weight)) = *terms;
    DeploymentScore {
        index,
        deployment: index.to_string().into(),
        provider: "p".into(),
        model: "m".into(),
        in_class,
        input_cost: Money::from_dollars(dollars),
        output_cost: Money::ZERO,
        price_known: true,
        input_tokens: 10,
        cached_tokens: 0,
        output_tokens: 10,
        ttft_ms: seconds * 1e3,
        generation_ms: 0.0,
        measured: 0.0,
        quality: None,
        failure_share,
        failure_ms: 0.0,
        time_cost: 0.0,
        failure_cost: 0.0,
        quality_cost: 0.0,
        score: dollars,
        in_flight,
        capacity: 1.0,
        priority,
        weight,
        held: held.then(|| "rate".into()),
        guarded,
        out: out.then_some(Out::Vision),
    }
}

fn fleet() -> impl Strategy_<Value = Vec<DeploymentScore>> {
    let terms = (
        (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>()),
        // Few different values: ties are what goes wrong.
        (prop::sample::select(vec![0.0, 0.001, 0.00101, 0.5]), 0.1f64..3.0, prop::sample::select(vec![0.0, 0.5, 0.95])),
        (0usize..3, 0u32..3, prop::sample::select(vec![0.0, 1.0, 3.0])),
    );
    prop::collection::vec(terms, 1..=40)
        .prop_map(|all| all.iter().enumerate().map(|(index, terms)| score(index, terms)).collect())
}

fn strategies() -> impl Strategy_<Value = Vec<Strategy>> {
    let one = prop::sample::select(STRATEGIES.map(|(_, strategy)| strategy).to_vec());
    prop::collection::vec(one, 1..4).prop_filter("a list that a configuration may have", |list| check(list).is_ok())
}

use proptest::strategy::Strategy as Strategy_;

proptest! {
    #[test]
    fn nobody_is_lost_and_who_can_answer_now_goes_first(fleet in fleet(), strategies in strategies(), tie_share in 0.0f64..0.5, dry: bool) {
        let turns = Turns::default();
        let mut scores = fleet.clone();
        let order = Order { strategies: &strategies, tie_share, turns: &turns, dry, last_chosen: &|index| index as u64 % 3 };
        rank(&mut scores, &order);
        let seen: HashSet<usize> = scores.iter().map(|score| score.index).collect();
        prop_assert_eq!((scores.len(), seen.len()), (fleet.len(), fleet.len()), "each once");
        let group = |score: &DeploymentScore| (score.out.is_some(), score.held.is_some(), !score.in_class, score.guarded);
        prop_assert!(scores.windows(2).all(|pair| group(&pair[0]) <= group(&pair[1])), "out, held, class, guard");
        let could = fleet.iter().any(|score| score.out.is_none());
        prop_assert_eq!(scores[0].out.is_none(), could, "somebody answers where somebody can");
        let left = scores.iter().filter(|score| score.out.is_none()).count();
        let can = fleet.iter().filter(|score| score.out.is_none()).count();
        prop_assert_eq!(left, if strategies == [Strategy::Fixed] { can.min(1) } else { can }, "fixed alone takes others out");
        let first = strategies[0];
        if could && first.leaves_ties() {
            let same: Vec<f64> = scores.iter().filter(|score| group(score) == group(&scores[0])).map(|score| first.key(score)).collect();
            let best = same.iter().copied().fold(f64::INFINITY, f64::min);
            prop_assert!(same[0] <= best * (1.0 + tie_share) + f64::EPSILON, "the first is the best, or as good");
        }
    }
}
