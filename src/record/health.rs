//! What was measured of each deployment: time to first token and time per token apart, failures, load, answer
//! lengths per class. All decay with time; few samples lean on the assumption in `[record]`.

use crate::config::RecordConfig;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

/// Weight of the assumption, in answers.
const PRIOR_ANSWERS: f64 = 1.0;

/// Weight of the configured answer length of a class, in answers.
const PRIOR_LENGTHS: f64 = 5.0;

/// Attempts a failure share is shrunk by: one failure of a newcomer does not condemn it.
const PRIOR_ATTEMPTS: f64 = 3.0;

/// What is known of a deployment now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Health {
    pub ttft_ms: f64,
    pub ms_per_token: f64,
    /// Share of recent attempts that failed, 0..1.
    pub failure_share: f64,
    /// Answers measured, decayed.
    pub measured: f64,
    pub in_flight: usize,
}

/// The book of all deployments.
pub struct HealthBook {
    config: RecordConfig,
    start: Instant,
    /// Locked to copy or add a few numbers, never across an await.
    pages: Mutex<HashMap<String, Page>>,
    lengths: Mutex<HashMap<String, Decayed>>,
    turn: AtomicU64,
}

#[derive(Default)]
struct Page {
    ttft_ms: Decayed,
    ms_per_token: Decayed,
    attempts: Decayed,
    failures: Decayed,
    in_flight: Arc<AtomicUsize>,
    last_chosen: u64,
}

/// A sum and its weight that halve with every half-life.
#[derive(Clone, Copy, Default)]
struct Decayed {
    sum: f64,
    weight: f64,
    at_s: f64,
}

impl Decayed {
    fn now(self, now_s: f64, half_life_s: f64) -> Self {
        let factor = 0.5f64.powf((now_s - self.at_s).max(0.0) / half_life_s);
        Decayed { sum: self.sum * factor, weight: self.weight * factor, at_s: now_s }
    }

    fn add(&mut self, value: f64, now_s: f64, half_life_s: f64) {
        *self = self.now(now_s, half_life_s);
        self.sum += value;
        self.weight += 1.0;
    }

    /// The mean, shrunk toward `prior` as if that had been seen `weight` times.
    fn mean(self, prior: f64, weight: f64) -> f64 {
        (self.sum + prior * weight) / (self.weight + weight)
    }
}

/// What was seen of one answer, by the attempt that gave it.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// Absent where the answer came whole: its first token is then taken to have come when it was expected.
    pub ttft_ms: Option<f64>,
    /// From the attempt's start to the answer's end.
    pub total_ms: f64,
    /// Answer tokens, where the provider counted them.
    pub tokens: Option<u64>,
    /// The class whose answer lengths this one belongs to; none for an answer that was cut, or whose class nobody chose.
    pub teaches: Option<&'a str>,
}

/// Counts a request as in flight until dropped.
pub struct InFlight(Arc<AtomicUsize>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl HealthBook {
    /// An empty book.
    pub fn new(config: RecordConfig) -> Self {
        HealthBook {
            config,
            start: Instant::now(),
            pages: Mutex::default(),
            lengths: Mutex::default(),
            turn: AtomicU64::new(1),
        }
    }

    /// What is known of a deployment now.
    pub fn of(&self, deployment: &str) -> Health {
        let (now, half_life) = (self.now_s(), self.config.half_life_s);
        let pages = self.pages.lock();
        let assumed_ms = 1e3 / self.config.assumed_tokens_per_second;
        let Some(page) = pages.get(deployment) else {
            return Health {
                ttft_ms: self.config.assumed_ttft_ms,
                ms_per_token: assumed_ms,
                failure_share: 0.0,
                measured: 0.0,
                in_flight: 0,
            };
        };
        let ttft = page.ttft_ms.now(now, half_life);
        let speed = page.ms_per_token.now(now, half_life);
        Health {
            ttft_ms: ttft.mean(self.config.assumed_ttft_ms, PRIOR_ANSWERS),
            ms_per_token: speed.mean(assumed_ms, PRIOR_ANSWERS),
            failure_share: page.failures.now(now, half_life).sum
                / (page.attempts.now(now, half_life).weight + PRIOR_ATTEMPTS),
            measured: ttft.weight.max(speed.weight),
            in_flight: page.in_flight.load(Ordering::Relaxed),
        }
    }

    /// When a deployment was last chosen, as a rising number; 0: never.
    pub fn last_chosen(&self, deployment: &str) -> u64 {
        self.pages.lock().get(deployment).map_or(0, |page| page.last_chosen)
    }

    /// Notes that a deployment is chosen and being called.
    pub fn begin(&self, deployment: &str) -> InFlight {
        let mut pages = self.pages.lock();
        let page = pages.entry(deployment.into()).or_default();
        page.last_chosen = self.turn.fetch_add(1, Ordering::Relaxed);
        page.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(page.in_flight.clone())
    }

    /// Notes an attempt that failed.
    pub fn failed(&self, deployment: &str) {
        self.attempted(deployment, 1.0);
    }

    /// Notes an answer.
    pub fn answered(&self, deployment: &str, seen: &Seen<'_>) {
        let known_ttft_ms = self.of(deployment).ttft_ms;
        let (now, half_life) = (self.now_s(), self.config.half_life_s);
        self.attempted(deployment, 0.0);
        let mut pages = self.pages.lock();
        let page = pages.entry(deployment.into()).or_default();
        if let Some(ttft_ms) = seen.ttft_ms {
            page.ttft_ms.add(ttft_ms, now, half_life);
        }
        let Some(tokens) = seen.tokens.filter(|tokens| *tokens > 0) else { return };
        let generation_ms = (seen.total_ms - seen.ttft_ms.unwrap_or(known_ttft_ms)).max(0.0);
        page.ms_per_token.add(generation_ms / tokens as f64, now, half_life);
        drop(pages);
        if let Some(class) = seen.teaches {
            self.lengths.lock().entry(class.into()).or_default().add(tokens as f64, now, half_life);
        }
    }

    /// Mean answer length of a class in tokens; `prior` while few answers have been seen.
    pub fn output_tokens(&self, class: &str, prior: u64) -> f64 {
        let seen = self.lengths.lock().get(class).copied().unwrap_or_default();
        seen.now(self.now_s(), self.config.half_life_s).mean(prior as f64, PRIOR_LENGTHS)
    }

    fn attempted(&self, deployment: &str, failure: f64) {
        let (now, half_life) = (self.now_s(), self.config.half_life_s);
        let mut pages = self.pages.lock();
        let page = pages.entry(deployment.into()).or_default();
        page.attempts.add(1.0, now, half_life);
        page.failures.add(failure, now, half_life);
    }

    fn now_s(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEEN: Seen<'static> =
        Seen { ttft_ms: Some(100.0), total_ms: 600.0, tokens: Some(100), teaches: Some("code") };

    fn book() -> HealthBook {
        HealthBook::new(RecordConfig {
            keep: 1,
            assumed_ttft_ms: 800.0,
            assumed_tokens_per_second: 50.0,
            half_life_s: 300.0,
        })
    }

    #[test]
    fn measurements_replace_the_assumption_bit_by_bit() {
        let book = book();
        assert_eq!((book.of("a").ttft_ms, book.of("a").ms_per_token, book.of("a").measured), (800.0, 20.0, 0.0));
        book.answered("a", &SEEN);
        assert!((book.of("a").ttft_ms - 450.0).abs() < 1.0);
        (0..50).for_each(|_| book.answered("a", &SEEN));
        assert!(book.of("a").ttft_ms < 120.0 && book.of("a").ms_per_token < 5.5);
        assert!(book.output_tokens("code", 500) < 140.0);
        assert_eq!(book.output_tokens("other", 500), 500.0);
    }

    #[test]
    fn failures_and_load_are_counted() {
        let book = book();
        let calls = [book.begin("a"), book.begin("a")];
        assert_eq!(book.of("a").in_flight, 2);
        drop(calls);
        assert_eq!(book.of("a").in_flight, 0);
        (0..10).for_each(|_| book.failed("a"));
        assert!(book.of("a").failure_share > 0.7);
        assert_eq!(book.of("b").failure_share, 0.0);
        assert!(book.last_chosen("a") > book.last_chosen("b"));
    }
}
