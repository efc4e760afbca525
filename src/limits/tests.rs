//! The limits as one thing: gates, passes and the queue together.

use super::*;
use proptest::prelude::*;
use std::time::Duration;

const S: Duration = Duration::from_secs(1);

/// Deployments `0..` of one provider, each with these limits.
fn book(gates: &[GateSettings], length: usize) -> Arc<Limits> {
    let listed: Vec<DeploymentLimits> = gates
        .iter()
        .enumerate()
        .map(|(index, limits)| DeploymentLimits { name: format!("d{index}"), provider: "p".into(), limits: *limits })
        .collect();
    Limits::new(&listed, &[], QueueSettings { length, age: S })
}

fn places(max_in_flight: u32) -> GateSettings {
    GateSettings { max_in_flight: Some(max_in_flight), ..GateSettings::default() }
}

fn ticket(tenant: &str, wait: Duration) -> Ticket {
    Ticket { priority: 1, tenant: tenant.into(), deadline: Instant::now() + wait }
}

fn header<'a>(name: &'a str, value: &'a str) -> impl Fn(&str) -> Option<String> + 'a {
    move |asked| (asked == name).then(|| value.into())
}

/// Nothing is in flight, nobody waits, and no place is kept for anybody.
fn is_empty(limits: &Limits) -> bool {
    let snapshot = limits.snapshot();
    let gates = snapshot.deployments.iter().chain(&snapshot.providers);
    let claimed = (0..limits.deployments.len()).any(|index| limits.queue.is_claimed(index));
    gates.map(|gate| gate.in_flight).sum::<u32>() == 0 && snapshot.waiting == 0 && !claimed
}

#[tokio::test(start_paused = true)]
async fn waiters_go_when_a_rate_refills_and_when_a_place_is_given_back() {
    let limits = book(&[GateSettings { rpm: Some(6), ..GateSettings::default() }, places(1)], 9);
    let start = Instant::now();
    limits.admit(0, 1).expect("the first goes").answered(None, None);
    assert_eq!(limits.held(0, 1, start).map(|held| held.why), Some(Why::Rate));
    let words = limits.explain(0, 1).expect("held");
    assert_eq!(words, "rate: at its 6 requests a minute, free in 10.0 s");
    let pass = limits.wait(&[0], 1, ticket("a", 30 * S)).await.expect("after the refill");
    assert!(start.elapsed() >= 10 * S && start.elapsed() < 10 * S + Duration::from_millis(3));
    drop(pass);
    let taken = limits.admit(1, 1).expect("free");
    let waiter = tokio::spawn({
        let limits = limits.clone();
        async move { limits.wait(&[0, 1], 1, ticket("a", 30 * S)).await.map(|pass| (pass.deployment(), Instant::now())) }
    });
    tokio::time::sleep(3 * S).await;
    assert_eq!(limits.admit(1, 1).map(|_| ()).map_err(|held| held.why), Err(Why::Queue), "others wait for it");
    drop(taken);
    let (deployment, at) = waiter.await.expect("no panic").expect("a place");
    assert!(deployment == 1 && at - start < 14 * S);
    assert!(is_empty(&limits));
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_at_its_deadline_or_at_once_when_in_vain() {
    let limits = book(&[places(1)], 1);
    let pass = limits.admit(0, 1).expect("free");
    let late = limits.wait(&[0], 1, ticket("a", S)).await.expect_err("nobody gives back");
    assert_eq!(late, Refused::Late);
    pass.learn(header("retry-after", "20"));
    let start = Instant::now();
    let Err(Refused::Full { retry_after }) = limits.wait(&[0], 1, ticket("a", 5 * S)).await else {
        panic!("20 s are more than 5");
    };
    assert!(retry_after > 19 * S && start.elapsed() < S);
    drop(pass);
    assert!(is_empty(&limits));
}

#[tokio::test(start_paused = true)]
async fn who_leaves_the_queue_lets_those_behind_go() {
    let limits = book(&[GateSettings { tpm: Some(6_000), ..GateSettings::default() }], 9);
    limits.admit(0, 600).expect("the burst").answered(Some(600), None);
    let start = Instant::now();
    let wait = |tokens| {
        let limits = limits.clone();
        tokio::spawn(async move { limits.wait(&[0], tokens, ticket("a", 30 * S)).await.map(|_| start.elapsed()) })
    };
    let large = wait(600);
    tokio::task::yield_now().await;
    let small = wait(50);
    tokio::time::sleep(3 * S).await;
    assert!(!small.is_finished(), "the large one goes first");
    large.abort();
    let waited = small.await.expect("no panic").expect("a place");
    assert!(waited < 4 * S, "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_holds_its_deployment_and_opens_no_breaker() {
    let limits = book(&[GateSettings::default(); 2], 1);
    for _ in 0..20 {
        let Ok(pass) = limits.admit(0, 1) else { break };
        pass.learn(header("retry-after-ms", "30000"));
        pass.failed(Failed::RateLimited);
    }
    let now = Instant::now();
    assert_eq!(limits.held(0, 1, now).map(|held| held.why), Some(Why::ToldByProvider));
    assert_eq!(limits.held(1, 1, now), None, "another can serve");
    assert!(limits.snapshot().deployments.iter().all(|view| view.breaker == "closed" && view.limit.is_none()));
    assert!(limits.explain(0, 1).is_some_and(|words| words.starts_with("told by provider: asked to wait, free in 30")));
}

#[tokio::test(start_paused = true)]
async fn credentials_close_a_provider_and_an_outage_only_its_deployment() {
    let limits = book(&[GateSettings::default(); 2], 1);
    (0..3).for_each(|_| limits.admit(0, 1).expect("closed").failed(Failed::Timeout));
    assert_eq!(limits.held(0, 1, Instant::now()).map(|held| held.why), Some(Why::Breaker));
    assert_eq!(limits.held(1, 1, Instant::now()), None);
    (0..3).for_each(|_| limits.admit(1, 1).expect("closed").failed(Failed::Credentials));
    assert!(limits.explain(1, 1).is_some_and(|words| words.contains("open") && words.ends_with("(all of p)")));
    tokio::time::sleep(2 * S).await;
    for _ in 0..2 {
        let mut probe = limits.admit(1, 1).expect("a probe");
        probe.began(S / 10); // the first byte is enough
        assert!(limits.deployments[1].gate.is_calm());
    }
    assert_eq!(limits.held(1, 1, Instant::now()), None);
    assert!(is_empty(&limits));
}

#[test]
fn tokens_that_were_not_used_are_given_back() {
    let limits = book(&[GateSettings { tpm: Some(1_000), ..GateSettings::default() }], 1);
    for _ in 0..5 {
        let pass = limits.admit(0, 900).expect("the answer before was short");
        assert!(limits.admit(0, 900).is_err());
        pass.answered(Some(0), None);
        limits.admit(0, 900).expect("free again").failed(Failed::Down);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]
    /// Whatever is admitted, answered, failed, dropped, waited for and abandoned: no place is lost, and none is
    /// given twice.
    #[test]
    fn nothing_leaks(steps in prop::collection::vec((0_u8..8, 0_usize..3, 0_usize..20), 1..120)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("a runtime").block_on(async move {
            let gates = [places(1), places(2), GateSettings { rpm: Some(60), ..places(3) }];
            let limits = book(&gates, 6);
            let (mut passes, mut waiters) = (Vec::new(), Vec::new());
            for (act, index, pick) in steps {
                match act {
                    0 | 1 => passes.extend(limits.admit(index, 10)),
                    2 | 3 => {
                        let (limits, wait) = (limits.clone(), S * pick as u32);
                        let candidates = [index, pick % 3];
                        let tenant = pick.to_string();
                        waiters.push(tokio::spawn(async move {
                            let pass = limits.wait(&candidates, 10, ticket(&tenant, wait)).await;
                            tokio::time::sleep(S).await;
                            drop(pass);
                        }));
                    }
                    4 if !waiters.is_empty() => waiters[pick % waiters.len()].abort(),
                    5 if !passes.is_empty() => passes.swap_remove(pick % passes.len()).failed(Failed::Overloaded),
                    6 if !passes.is_empty() => passes.swap_remove(pick % passes.len()).answered(Some(5), None),
                    _ => tokio::time::sleep(S / 4 * (1 + pick as u32)).await,
                }
                if pick % 4 == 0 {
                    tokio::task::yield_now().await;
                }
                for view in &limits.snapshot().deployments {
                    let most = [1, 2, 3][view.name[1..].parse::<usize>().expect("a number")];
                    assert!(view.in_flight <= most, "{view:?}");
                }
            }
            passes.clear();
            for waiter in waiters {
                let _cancelled = waiter.await;
            }
            assert!(is_empty(&limits), "{:?}", limits.snapshot());
        });
    }
}
