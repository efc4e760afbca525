//! Traffic on a virtual clock, seeded: that it leaves a deployment that becomes slow or hangs, comes back to one that
//! recovers, is not moved by noise, and tries what is not the best as rarely as promised.

use super::tests::config;
use super::{HealthBook, InFlight, Now, Prompt, Seen};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::cmp::Ordering;

/// Deployments within this share of the best count as equal, as in `[policy] tie_share`.
const TIE: f64 = 0.05;

const PROMPT: Prompt = Prompt { tokens_in: 200, ascii: true };

/// One request, as it was sent.
struct Sent {
    at_s: f64,
    to: usize,
    explored: bool,
}

/// A request that waits for its first token.
struct Waits {
    until_s: f64,
    to: usize,
    ttft_ms: f64,
    in_flight: InFlight,
}

/// Sends `per_s` requests a second for `seconds`; `ttft_ms(deployment, second, random number of 0..1)` is the world.
fn run(deployments: usize, per_s: f64, seconds: f64, ttft_ms: impl Fn(usize, f64, f64) -> f64) -> Vec<Sent> {
    let names: Vec<String> = (0..deployments).map(|at| format!("deployment-{at}")).collect();
    let book = HealthBook::new(config(), names.iter().map(|name| (name.as_str(), "any")));
    let mut random = ChaCha8Rng::seed_from_u64(5);
    let (mut waiting, mut sent): (Vec<Waits>, Vec<Sent>) = Default::default();
    let mut at_s = 0.0;
    while at_s < seconds {
        at_s += -(1.0 - random.random::<f64>()).ln() / per_s;
        answer(&book, &mut waiting, at_s);
        let (to, explored) = choose(&book, Now(at_s));
        let ttft_ms = ttft_ms(to, at_s, random.random());
        let in_flight = book.begin(to, Now(at_s), PROMPT, 0.0);
        waiting.push(Waits { until_s: at_s + ttft_ms / 1e3, to, ttft_ms, in_flight });
        sent.push(Sent { at_s, to, explored });
    }
    sent
}

/// Tells the book of the first tokens that came until now, in their order.
fn answer(book: &HealthBook, waiting: &mut Vec<Waits>, at_s: f64) {
    waiting.sort_by(|a, b| a.until_s.total_cmp(&b.until_s));
    let come = waiting.iter().take_while(|waits| waits.until_s <= at_s).count();
    for mut waits in waiting.drain(..come) {
        let now = Now(waits.until_s);
        waits.in_flight.first_byte();
        book.first_token(waits.to, now, PROMPT.tokens_in, waits.ttft_ms);
        book.answered(waits.to, now, &Seen { tokens_in: PROMPT.tokens_in, ..Seen::default() });
    }
}

/// The fastest, the least busy of those about as fast; or one that is tried.
fn choose(book: &HealthBook, now: Now) -> (usize, bool) {
    let read: Vec<_> = (0..book.pages()).map(|index| book.read(index, now, PROMPT)).collect();
    let fastest = read.iter().map(|health| health.ttft_ms).fold(f64::INFINITY, f64::min);
    let tied = (0..read.len()).filter(|index| read[*index].ttft_ms <= fastest * (1.0 + TIE));
    let order = |a: &usize, b: &usize| -> Ordering {
        let busy = |index: usize| (read[index].in_flight, book.last_chosen(index));
        busy(*a).cmp(&busy(*b))
    };
    let best = tied.min_by(order).expect("the fastest is among them");
    let others = (0..read.len()).filter(|index| *index != best);
    match book.explore(now, PROMPT, fastest, others, |_, health| health.ttft_ms) {
        Some(index) => (index, true),
        None => (best, false),
    }
}

/// The share of the requests sent in a span of time that went to a deployment.
fn share(sent: &[Sent], to: usize, from_s: f64, until_s: f64) -> f64 {
    let span: Vec<_> = sent.iter().filter(|sent| (from_s..until_s).contains(&sent.at_s)).collect();
    span.iter().filter(|sent| sent.to == to).count() as f64 / span.len() as f64
}

fn explored(sent: &[Sent]) -> f64 {
    sent.iter().filter(|sent| sent.explored).count() as f64 / sent.len() as f64
}

/// A time to first token with the noise of a network: between 0.8 and 1.25 of the usual.
fn noisy(usual_ms: f64, random: f64) -> f64 {
    usual_ms * 1.25f64.powf(2.0 * random - 1.0)
}

/// The last second in which a deployment had more than `most` of the traffic.
fn last_second_with(sent: &[Sent], to: usize, most: f64, from_s: u32, until_s: u32) -> Option<u32> {
    (from_s..until_s).rev().find(|second| share(sent, to, f64::from(*second), f64::from(second + 1)) > most)
}

#[test]
fn traffic_leaves_within_two_seconds_of_a_shift_and_is_back_within_thirty_of_recovery() {
    let world = |to: usize, at_s: f64, random: f64| match to {
        0 if (60.0..180.0).contains(&at_s) => noisy(1_000.0, random),
        0 => noisy(50.0, random),
        _ => noisy(200.0, random),
    };
    let sent = run(3, 20.0, 300.0, world);
    assert!(share(&sent, 0, 30.0, 60.0) > 0.95, "before: {}", share(&sent, 0, 30.0, 60.0));
    assert!(share(&sent, 0, 62.0, 180.0) < 0.03, "during: {}", share(&sent, 0, 62.0, 180.0));
    assert_eq!(last_second_with(&sent, 0, 0.15, 62, 180), None);
    assert!(share(&sent, 0, 210.0, 300.0) > 0.95, "after: {}", share(&sent, 0, 210.0, 300.0));
    assert!(explored(&sent) <= 0.021, "explored: {}", explored(&sent));
}

#[test]
fn a_deployment_that_hangs_loses_its_traffic_before_its_first_timeout() {
    let world = |to: usize, at_s: f64, random: f64| if to == 0 && at_s > 60.0 { 1e6 } else { noisy(200.0, random) };
    let sent = run(2, 20.0, 120.0, world);
    let lost = sent.iter().filter(|sent| sent.to == 0 && sent.at_s > 60.0);
    let (tried, hung): (Vec<&Sent>, Vec<&Sent>) = lost.partition(|sent| sent.explored);
    assert!(!hung.is_empty() && hung.len() <= 12 && hung.iter().all(|sent| sent.at_s < 62.0), "{}", hung.len());
    assert!(tried.len() <= 6, "{}", tried.len());
}

#[test]
fn outliers_do_not_move_traffic_and_what_is_never_better_is_tried_rarely() {
    let world = |to: usize, _: f64, random: f64| match (to, random > 0.99) {
        (0, true) => 2_000.0,
        (0, false) => noisy(200.0, random),
        _ => noisy(280.0, random),
    };
    let sent = run(2, 20.0, 600.0, world);
    let moved = sent.iter().filter(|sent| sent.at_s > 60.0 && sent.to == 1 && !sent.explored).count();
    assert!(moved <= sent.len() / 500, "{moved} of {}", sent.len());
    assert!(explored(&sent) <= 0.02, "{}", explored(&sent));
}
