//! Each strategy alone and in lists, and which of them counts.

use super::{add, bench};
use crate::asking::{attempts, decide, failed, general, order, request, took, with_policy};
use crate::harness::{ANSWER, Bench, Script, chat};
use std::collections::BTreeMap;
use std::sync::Arc;
use waypost::decision::Why;
use waypost::limits::GateSettings;
use waypost::policy::rank::{Order, rank};
use waypost::policy::strategy::{Strategy, Turns};
use waypost::record::Prompt;
use waypost::router::{Caller, Router};

/// `a` is dear and fast, `b` cheap and slow, `c` between; by priority it is c, a, b.
fn three(text: &str) -> Bench {
    let bench = add(bench(text), "a", 10.0, |config| config.priority = 2);
    let bench = add(bench, "b", 1.0, |config| config.priority = 3);
    add(bench, "c", 3.0, |config| config.priority = 1)
}

fn measured(bench: Bench) -> Arc<Router> {
    let router = bench.router();
    for (name, ms) in [("a", 2_000.0), ("b", 9_000.0), ("c", 4_000.0)] {
        took(&router, name, ms);
    }
    router
}

async fn under(router: &Router, policy: &str) -> String {
    order(&decide(router, &general(), &with_policy(policy, Caller::default())).await).join(" ")
}

#[tokio::test]
async fn each_strategy_asks_its_own_question() {
    let router = measured(three(""));
    for (policy, expected) in [
        ("strategy=cheapest", "b c a"),
        ("strategy=fastest", "a c b"),
        ("strategy=balanced, value_of_second=0", "b c a"),
        ("strategy=balanced, value_of_second=0.01", "a c b"),
        ("strategy=priority", "c a b"),
        ("strategy=fixed", "a"),
    ] {
        assert_eq!(under(&router, policy).await, expected, "{policy}");
    }
    let prompt = Prompt::of(8);
    let _in_flight = [0, 0, 1].map(|index| router.health.begin(index, router.health.now(), prompt, 0.0));
    assert_eq!(under(&router, "strategy=least_busy").await, "c b a");
}

#[tokio::test]
async fn failures_count_in_money_and_in_time() {
    let router = measured(three(""));
    failed(&router, "b", 100);
    assert_eq!(under(&router, "strategy=cheapest").await, "c a b", "tried again and again, it is the dearest");
    let router = measured(three(""));
    let index = router.fleet.index_of("a").unwrap();
    (0..100).for_each(|_| router.health.failed(index, router.health.now(), 60_000.0));
    assert_eq!(under(&router, "strategy=fastest").await, "c b a", "the time lost on failures counts");
}

#[tokio::test]
async fn what_one_strategy_leaves_equal_the_next_decides() {
    let bench = [("a", 4.0, 1), ("b", 3.0, 1), ("c", 2.0, 0), ("d", 1.0, 0), ("e", 2.5, 1)]
        .into_iter()
        .fold(bench(""), |bench, (name, dollars, priority)| {
            add(bench, name, dollars, |config| config.priority = priority)
        });
    let router = bench.router();
    assert_eq!(under(&router, "strategy=priority|cheapest").await, "d c e b a", "also among those in reserve");
    for (name, ms) in [("c", 2_000.0), ("d", 9_000.0), ("e", 1_000.0)] {
        took(&router, name, ms);
    }
    let within = under(&router, "strategy=cheapest|fastest, tie_share=1.0").await;
    assert!(within.starts_with("c d "), "d is cheapest; c is within its double, and faster: {within}");
    assert!(under(&router, "strategy=cheapest|fastest, tie_share=0.5").await.starts_with("d e c "));
    let told = decide(&router, &general(), &with_policy("strategy=priority|cheapest", Caller::default())).await;
    assert_eq!(told.strategy, [Strategy::Priority, Strategy::Cheapest]);
    assert_eq!(told.tie_breaker.as_deref(), Some("cheapest"));
    assert!(told.reason.contains("d answers (priority, then cheapest: "), "{}", told.reason);
    for wrong in ["strategy=round_robin|cheapest", "strategy=priority|fixed", "strategy=best"] {
        let refused = router.decide(&general(), &with_policy(wrong, Caller::default())).await;
        assert_eq!(refused.unwrap_err().status(), 400, "{wrong}");
    }
}

#[tokio::test]
async fn a_policy_goes_before_the_class_and_the_class_before_the_rest() {
    let text = "[routing]\nstrategy = [\"priority\"]\n[[class]]\nname = \"general\"\nstrategy = [\"fastest\"]\n\
        [policies.thrifty]\nstrategy = [\"cheapest\"]";
    let mut bench = three(text);
    bench.deployments.iter_mut().for_each(|one| one.config.classes.push("code".into()));
    let router = measured(bench);
    let code = request(&chat("code", "hi", false));
    let first = decide(&router, &code, &Caller::default()).await;
    assert_eq!((&*first.deployment, first.strategy), ("c", vec![Strategy::Priority]), "as [routing] has it");
    let of_class = decide(&router, &general(), &Caller::default()).await;
    assert_eq!((&*of_class.deployment, of_class.strategy), ("a", vec![Strategy::Fastest]));
    let of_policy = decide(&router, &general(), &with_policy("thrifty", Caller::default())).await;
    assert_eq!((&*of_policy.deployment, of_policy.strategy), ("b", vec![Strategy::Cheapest]));
}

#[tokio::test]
async fn equals_are_asked_by_turns_and_a_look_takes_none() {
    for strategy in ["cheapest", "round_robin"] {
        let bench = add(add(bench(""), "a", 1.0, |_| ()), "b", 1.0, |_| ());
        // Without usage there is nothing to learn of what an answer costs.
        let silent = r#"{"id":"c","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}]}"#;
        bench.providers.iter().for_each(|provider| *provider.script.lock() = Script::Answer(silent));
        let router = bench.router();
        let caller = with_policy(&format!("strategy={strategy}"), Caller::default());
        let mut answered = Vec::new();
        for _ in 0..6 {
            for _ in 0..3 {
                let next = decide(&router, &general(), &caller).await;
                assert_eq!(next.tie_breaker.is_some(), strategy != "round_robin");
            }
            let asked = attempts(&router, request(&chat("general", &answered.len().to_string(), false)), &caller).await;
            assert_eq!(asked[0].1, Why::First);
            answered.push(asked[0].0.clone());
        }
        assert!(answered.windows(2).all(|pair| pair[0] != pair[1]), "{strategy}: {answered:?}");
    }
}

/// Three deployments of the class and two that cover it, which must not take turns of their own.
fn in_turn(text: &str) -> Bench {
    let bench = ["a", "b", "c"].into_iter().fold(bench(text), |bench, name| add(bench, name, 1.0, |_| ()));
    let covering = |bench: Bench, name| bench.with(name, &["advanced"], (1.0, 1.0), Script::Answer(ANSWER));
    ["d", "e"].into_iter().fold(bench, covering)
}

async fn ask_at_once(router: Arc<Router>, requests: usize) {
    let ask = |index: usize| {
        let router = router.clone();
        tokio::spawn(async move {
            // Another conversation each time.
            let caller = Caller { session: Some(index.to_string()), ..Caller::default() };
            assert!(router.answer(general(), &caller).await.is_ok());
        })
    };
    futures::future::join_all((0..requests).map(ask)).await.into_iter().for_each(|joined| joined.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn turns_are_even_under_concurrency() {
    let bench = in_turn("[routing]\nstrategy = [\"round_robin\"]");
    let providers = bench.providers.clone();
    ask_at_once(bench.router(), 300).await;
    let asked: Vec<usize> = providers.iter().map(|provider| provider.seen.lock().len()).collect();
    assert_eq!(asked, [100, 100, 100, 0, 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_experiment_takes_no_turn_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let text = "[routing]\nstrategy = [\"round_robin\"]\n[[experiment]]\nname = \"t\"\nkind = \"split\"\nby = \"session\"\n\
        arms = [{ name = \"control\", share = 0.5 }, { name = \"other\", share = 0.5, policy = \"max_attempts=2\" }]";
    let bench = in_turn(text);
    let providers = bench.providers.clone();
    ask_at_once(bench.router_with_experiments(folder.path()), 300).await;
    let asked: Vec<usize> = providers.iter().map(|provider| provider.seen.lock().len()).collect();
    assert_eq!(asked, [100, 100, 100, 0, 0]);
}

#[tokio::test]
async fn whoever_comes_back_gets_its_turn_and_not_all_it_missed() {
    let bench = in_turn("[routing]\nstrategy = [\"round_robin\"]");
    let providers = bench.providers.clone();
    let mut bench = bench;
    bench.deployments[0].config.limits = GateSettings { max_in_flight: Some(1), ..GateSettings::default() };
    let router = bench.router();
    let pass = router.limits.admit(0, 1).unwrap();
    for turn in 0..20 {
        attempts(&router, request(&chat("general", &format!("first {turn}"), false)), &Caller::default()).await;
    }
    drop(pass);
    for turn in 0..30 {
        attempts(&router, request(&chat("general", &format!("then {turn}"), false)), &Caller::default()).await;
    }
    let asked: Vec<usize> = providers.iter().map(|provider| provider.seen.lock().len()).collect();
    assert_eq!(asked, [10, 20, 20, 0, 0]);
}

#[tokio::test]
async fn chance_is_in_proportion_to_weight() {
    let weights = [1.0, 2.0, 7.0];
    let named = ["a", "b", "c"].into_iter().zip(weights);
    let bench = named.fold(bench(""), |bench, (name, weight)| add(bench, name, 1.0, |config| config.weight = weight));
    let decision = decide(&bench.router(), &general(), &with_policy("strategy=weighted", Caller::default())).await;
    assert_eq!((decision.strategy, decision.fallbacks.len()), (vec![Strategy::Weighted], 2));
    let turns = Turns::default();
    let order =
        Order { strategies: &[Strategy::Weighted], tie_share: 0.0, turns: &turns, dry: false, last_chosen: &|_| 0 };
    let mut first: BTreeMap<usize, f64> = BTreeMap::new();
    for _ in 0..10_000 {
        let mut scores = decision.deployments.clone();
        rank(&mut scores, &order);
        *first.entry(scores[0].index).or_default() += 1.0;
    }
    for (index, weight) in weights.into_iter().enumerate() {
        let share = weight / 10.0;
        // Five standard deviations of 10,000 draws.
        let tolerance = 5.0 * (share * (1.0 - share) / 10_000.0_f64).sqrt();
        assert!((first[&index] / 10_000.0 - share).abs() < tolerance, "{first:?}");
    }
}

#[tokio::test]
async fn fixed_is_the_first_that_can_and_no_other() {
    let mut bench = three("[routing]\nstrategy = [\"fixed\"]\n[queue]\npatience_ms = 60");
    bench.deployments[0].config.limits = GateSettings { max_in_flight: Some(1), ..GateSettings::default() };
    bench.deployments.iter_mut().for_each(|one| one.config.vision = one.config.name != "a");
    let providers = bench.providers.clone();
    let router = bench.router();
    let picture = serde_json::json!({"model": "general", "messages": [{"role": "user", "content": [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]}]});
    let able = decide(&router, &request(&picture.to_string()), &Caller::default()).await;
    assert!(!order(&able).contains(&"a") && able.fallbacks.is_empty());
    let pass = router.limits.admit(0, 1).unwrap();
    let held = decide(&router, &general(), &Caller::default()).await;
    assert_eq!(order(&held), ["a"], "at its limit it is waited for");
    assert!(held.deployments[0].held.is_some());
    let Err(refusal) = router.answer(general(), &Caller::default()).await else { panic!("somebody answered") };
    assert_eq!(refusal.error.status(), 429);
    drop(pass);
    assert_eq!(attempts(&router, general(), &Caller::default()).await, [("a".into(), Why::First)]);
    *providers[0].script.lock() = crate::asking::down();
    let Err(refusal) = router.answer(general(), &Caller::default()).await else { panic!("somebody answered") };
    assert_eq!(refusal.error.status(), 502);
    assert!(providers[1].seen.lock().is_empty() && providers[2].seen.lock().is_empty());
}

#[tokio::test]
async fn room_counts_wherever_least_busy_stands_in_the_list() {
    let room = |most: u32| GateSettings { max_in_flight: Some(most), ..GateSettings::default() };
    let bench = add(bench(""), "small", 1.0, |config| config.limits = room(4));
    let router = add(bench, "large", 1.0, |config| config.limits = room(40)).router();
    // Two of 40 is less busy than one of 4.
    let _in_flight = [0, 1, 1].map(|index| router.health.begin(index, router.health.now(), Prompt::of(8), 0.0));
    for policy in ["strategy=least_busy", "strategy=priority|least_busy"] {
        assert_eq!(under(&router, policy).await, "large small", "{policy}");
    }
}
