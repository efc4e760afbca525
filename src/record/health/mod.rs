//! What is measured of each deployment, which the next decision reads: latency (`level.rs`, `shift.rs`, `tail.rs`),
//! requests that wait too long (`waiting.rs`), failures, tokens counted (`tokens.rs`), lengths of answers (`length.rs`),
//! scores, and alarms when one of these drifts (`drift.rs`). `explore.rs` tells when a deployment is tried though it is
//! not the best; `saved.rs` keeps all of it over a restart.
//!
//! Pages are registered at the start and addressed by their index, in the order given. All that a ranking reads of one
//! is copied under its own short lock: nothing is hashed or allocated.

mod decay;
mod drift;
mod explore;
mod length;
mod level;
mod page;
mod saved;
mod shift;
#[cfg(test)]
mod simulation;
mod tail;
mod tokens;
mod waiting;

pub use decay::Now;
pub use drift::{Alarm, What};
pub use length::Length;
pub use saved::Saved;

use crate::config::RecordConfig;
use decay::Decayed;
use drift::Turn;
use explore::{Budget, is_worth_it};
use length::Lengths;
use page::Page;
use parking_lot::Mutex;
use serde::Serialize;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use utoipa::ToSchema;

/// Classes whose lengths are kept. Their names come from the configuration, or from a file that may be anyone's.
const MOST_CLASSES: usize = 1_024;

/// Deployments of which one decision looks whether they are worth a try, in turn: they may all be due and none worth it.
const MOST_LOOKED_AT: usize = 8;

/// No page.
const NOBODY: usize = usize::MAX;

/// Mean score assumed before any answer was scored, and its weight in scores.
const PRIOR_SCORE: f64 = 0.7;
const PRIOR_SCORES: f64 = 5.0;

/// What is known of a deployment now, for one prompt.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ToSchema)]
pub struct Health {
    /// Expected time to first token, for a prompt of this length: the mean, with its tail, and with what the requests
    /// that wait now tell.
    pub ttft_ms: f64,
    /// Nineteen of twenty first tokens come within this.
    pub ttft_p95_ms: f64,
    /// How much of `ttft_ms` is from requests that wait too long now.
    pub late_ms: f64,
    pub ms_per_token: f64,
    /// Share of attempts that fail now, 0..1.
    pub failure_share: f64,
    /// Mean time until an attempt that fails has failed.
    pub ms_lost_per_failure: f64,
    /// Answers measured, decayed: how sure all this is. 0: it is all assumed.
    pub measured: f64,
    pub in_flight: usize,
    /// Tokens the provider counts for one of our estimate (`Features::tokens_in`).
    pub tokens_ratio: f64,
    /// Length of its answers as a share of the class's mean.
    pub length_ratio: f64,
    /// Mean score of its answers, 0..1; none before the first.
    pub quality: Option<f64>,
    /// Seconds since anything was learned of it.
    pub stale_s: f64,
}

impl Health {
    /// Tokens the provider will count for a prompt of this estimate.
    pub fn expected_tokens_in(&self, estimate: u64) -> u64 {
        (estimate as f64 * self.tokens_ratio).round() as u64
    }
}

/// What of a prompt its latency and its tokens depend on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prompt {
    /// Our estimate, `Features::tokens_in`.
    pub tokens_in: u64,
    /// Whether its text is mostly ASCII.
    pub ascii: bool,
}

impl Prompt {
    /// A prompt of so many estimated tokens, mostly ASCII.
    pub fn of(tokens_in: u64) -> Self {
        Prompt { tokens_in, ascii: true }
    }
}

/// What was seen of one answer, by the attempt that gave it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen<'a> {
    /// Absent where the answer came whole: its first token is then taken to have come when it was expected.
    pub ttft_ms: Option<f64>,
    /// From the attempt's start to the answer's end.
    pub total_ms: f64,
    /// Answer tokens, where the provider counted them.
    pub tokens: Option<u64>,
    /// The class whose answer lengths this one belongs to; none for an answer that was cut, or whose class nobody chose.
    pub teaches: Option<&'a str>,
    /// Our estimate of the prompt's tokens.
    pub tokens_in: u64,
    /// What the provider counted for it, cached tokens included; none for prompts with images, whose estimate is a guess.
    pub counted_in: Option<u64>,
    /// Whether the prompt's text is mostly not ASCII.
    pub other_text: bool,
}

/// The book of all deployments.
pub struct HealthBook {
    config: RecordConfig,
    start: Instant,
    started_ms: u64,
    pages: Box<[Arc<Page>]>,
    /// Read by those who know a name alone; ranking goes by index.
    names: HashMap<String, usize>,
    /// By class. Locked to add or read a few numbers, a few times a decision.
    lengths: Mutex<HashMap<String, Lengths>>,
    /// Scores of all deployments: what is assumed of one that has few.
    scores: Mutex<Decayed>,
    budget: Budget,
    /// The page whose last answers hint at a recovery, or [`NOBODY`].
    hinted: AtomicUsize,
    /// Where the next look for a try begins.
    looked_at: AtomicUsize,
    turn: AtomicU64,
}

/// Counts a request as in flight until dropped, and as waiting until its first byte.
pub struct InFlight {
    page: Option<Arc<Page>>,
    ticket: Option<u64>,
}

impl InFlight {
    /// The first byte came: the request waits no more.
    pub fn first_byte(&mut self) {
        if let (Some(page), Some(ticket)) = (&self.page, self.ticket.take()) {
            page.measured.lock().waiting.end(ticket);
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.first_byte();
        if let Some(page) = &self.page {
            page.in_flight.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl HealthBook {
    /// Empty pages, one a deployment, of these names and models.
    pub fn new<'a>(config: RecordConfig, deployments: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let pages: Box<[_]> = deployments.into_iter().map(|(name, model)| Arc::new(Page::new(name, model))).collect();
        HealthBook {
            start: Instant::now(),
            started_ms: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64),
            names: pages.iter().enumerate().map(|(index, page)| (page.name.clone(), index)).collect(),
            pages,
            lengths: Mutex::default(),
            scores: Mutex::default(),
            budget: Budget::new(config.explore_share),
            hinted: AtomicUsize::new(NOBODY),
            turn: AtomicU64::new(1),
            looked_at: AtomicUsize::new(0),
            config,
        }
    }

    /// The time, for all that one decision reads or one event writes.
    pub fn now(&self) -> Now {
        Now(self.start.elapsed().as_secs_f64())
    }

    /// Pages there are.
    pub fn pages(&self) -> usize {
        self.pages.len()
    }

    /// The page of a deployment.
    pub fn index_of(&self, deployment: &str) -> Option<usize> {
        self.names.get(deployment).copied()
    }

    /// What is known of the deployment of page `index` now.
    ///
    /// # Panics
    /// Where there is no such page; so do the others that take an index.
    #[inline]
    pub fn read(&self, index: usize, now: Now, prompt: Prompt) -> Health {
        self.pages[index].read(now, prompt, &self.config)
    }

    /// What is known of a deployment now, for a short prompt; of one without a page what is assumed of all.
    pub fn of(&self, deployment: &str) -> Health {
        match self.index_of(deployment) {
            Some(index) => self.read(index, self.now(), Prompt::of(0)),
            None => Page::new(deployment, "").read(Now(0.0), Prompt::of(0), &self.config),
        }
    }

    /// When a deployment was last chosen, as a rising number; 0: never.
    pub fn last_chosen(&self, index: usize) -> u64 {
        self.pages[index].last_chosen.load(Ordering::Relaxed)
    }

    /// The same by name.
    pub fn last_chosen_named(&self, deployment: &str) -> u64 {
        self.index_of(deployment).map_or(0, |index| self.last_chosen(index))
    }

    /// A deployment other than the best to be tried for this request, if one is. `candidates` are pages that could
    /// answer it, `best` the score of the best of them, and `score` what the ranking makes of a health; smaller is
    /// better. To be called once a decision; one that returns a page has taken its turn.
    pub fn explore(
        &self,
        now: Now,
        prompt: Prompt,
        best: f64,
        candidates: impl IntoIterator<Item = usize>,
        score: impl Fn(usize, &Health) -> f64,
    ) -> Option<usize> {
        self.budget.earn();
        let (hinted, any) = (self.hinted.load(Ordering::Relaxed), self.budget.allows(false));
        if !any && (hinted == NOBODY || !self.budget.allows(true)) {
            return None;
        }
        let due: Vec<(usize, f64)> = candidates
            .into_iter()
            .filter(|index| any || *index == hinted)
            .filter_map(|index| Some((index, self.pages[index].due.overdue_s(now)?)))
            .collect();
        let from = self.looked_at.fetch_add(MOST_LOOKED_AT, Ordering::Relaxed) % due.len().max(1);
        let in_turn = due.iter().cycle().skip(from).take(due.len().min(MOST_LOOKED_AT));
        let hopeful = in_turn.filter_map(|&(index, overdue_s)| {
            let hopeful = self.pages[index].hopeful(now, prompt, &self.config);
            is_worth_it(score(index, &hopeful), best).then_some((index, overdue_s))
        });
        let (index, _) = hopeful.max_by(|a, b| a.1.total_cmp(&b.1))?;
        (self.pages[index].claim(now, prompt, &self.config) && self.budget.spend(index == hinted)).then_some(index)
    }

    /// Notes that a deployment is chosen and being called. `whole_ms`: what the answer is expected to take beyond its
    /// first token, where it comes whole; 0 for streams.
    pub fn begin(&self, index: usize, now: Now, prompt: Prompt, whole_ms: f64) -> InFlight {
        let page = &self.pages[index];
        page.last_chosen.store(self.turn.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        let in_flight = page.in_flight.fetch_add(1, Ordering::Relaxed);
        let ticket = page.measured.lock().wait(now, prompt, whole_ms, in_flight, &self.config);
        InFlight { page: Some(page.clone()), ticket }
    }

    /// The same by name; of one without a page nothing is noted.
    pub fn begin_named(&self, deployment: &str, tokens_in: u64, whole_ms: f64) -> InFlight {
        match self.index_of(deployment) {
            Some(index) => self.begin(index, self.now(), Prompt::of(tokens_in), whole_ms),
            None => InFlight { page: None, ticket: None },
        }
    }

    /// Notes a first token of a stream, when it came and not when the stream ends.
    pub fn first_token(&self, index: usize, now: Now, tokens_in: u64, ttft_ms: f64) {
        self.learn(index, now, |measured| measured.first_token(now, tokens_in, ttft_ms, &self.config));
    }

    /// Notes an attempt that failed after so many milliseconds.
    pub fn failed(&self, index: usize, now: Now, lost_ms: f64) {
        self.learn(index, now, |measured| measured.failed(now, lost_ms));
    }

    /// Notes an answer at its end; its first token was noted by [`Self::first_token`].
    pub fn answered(&self, index: usize, now: Now, seen: &Seen<'_>) {
        let teaches = seen.teaches.zip(seen.tokens.filter(|tokens| *tokens > 0));
        let class_mean = teaches.map(|(class, tokens)| self.lengthen(class, tokens, now));
        self.learn(index, now, |measured| measured.answered(now, seen, class_mean, &self.config));
    }

    /// Notes an answer with its first token, all at its end.
    pub fn answered_named(&self, deployment: &str, seen: &Seen<'_>) {
        let (Some(index), now) = (self.index_of(deployment), self.now()) else { return };
        if let Some(ttft_ms) = seen.ttft_ms {
            self.first_token(index, now, seen.tokens_in, ttft_ms);
        }
        self.answered(index, now, seen);
    }

    /// Notes a score (0..1) that a judge or a caller gave to an answer of a class.
    pub fn add_quality(&self, index: usize, now: Now, class: &str, score: f64) {
        if !score.is_finite() {
            return;
        }
        let score = score.clamp(0.0, 1.0);
        let all = {
            let mut scores = self.scores.lock();
            scores.cap(1_000.0);
            scores.add(score, 1.0);
            scores.mean(PRIOR_SCORE, PRIOR_SCORES)
        };
        self.learn(index, now, |measured| measured.scored(now, class, score, all));
    }

    /// Mean score of a deployment's answers of a class; `None` before its first score.
    pub fn quality_of(&self, index: usize, class: &str) -> Option<f64> {
        self.pages[index].measured.lock().quality_of(class)
    }

    /// Expected lengths of a class's answers; `prior` is their mean while few have been seen.
    pub fn lengths(&self, class: &str, prior: u64) -> Length {
        let (now, half_life_s) = (self.now(), self.config.baseline_half_life_s);
        match self.lengths.lock().get(class) {
            Some(lengths) => lengths.expected(prior as f64, now, half_life_s),
            None => Lengths::default().expected(prior as f64, now, half_life_s),
        }
    }

    /// Mean answer length of a class in tokens; `prior` while few answers have been seen.
    pub fn output_tokens(&self, class: &str, prior: u64) -> f64 {
        self.lengths(class, prior).mean
    }

    /// The drift alarms that stand.
    pub fn alarms(&self) -> Vec<Alarm> {
        let of_page = |page: &Arc<Page>| {
            let stand = page.measured.lock().alarms(&self.config);
            let deployment = page.name.clone();
            stand.into_iter().map(move |(what, since_s, from, to)| Alarm {
                deployment: deployment.clone(),
                what,
                since_ms: (self.started_ms as f64 + since_s * 1e3).max(0.0) as u64,
                from,
                to,
            })
        };
        self.pages.iter().flat_map(of_page).collect()
    }

    /// Adds a length to a class; the mean of the class after it.
    fn lengthen(&self, class: &str, tokens: u64, now: Now) -> f64 {
        let half_life_s = self.config.baseline_half_life_s;
        let mut lengths = self.lengths.lock();
        if lengths.len() >= MOST_CLASSES && !lengths.contains_key(class) {
            return tokens as f64;
        }
        let own = lengths.entry(class.into()).or_default();
        own.add(tokens, now, half_life_s);
        own.expected(tokens as f64, now, half_life_s).mean
    }

    /// Changes a page, and tells an alarm that began or ended with it: after the lock.
    fn learn(&self, index: usize, now: Now, change: impl FnOnce(&mut page::Measured) -> Option<Turn>) {
        let page = &self.pages[index];
        let mut turn = None;
        if page.learn(now, &self.config, |measured| turn = change(measured)) {
            self.hinted.store(index, Ordering::Relaxed);
        } else {
            let _other = self.hinted.compare_exchange(index, NOBODY, Ordering::Relaxed, Ordering::Relaxed);
        }
        let Some(Turn { what, began, from, to }) = turn else { return };
        let deployment = page.name.as_str();
        if began {
            tracing::warn!(deployment, ?what, from, to, "a deployment has drifted from what was usual of it");
        } else {
            tracing::info!(deployment, ?what, from, to, "a deployment is as usual again");
        }
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    const SEEN: Seen<'static> = Seen {
        ttft_ms: Some(100.0),
        total_ms: 600.0,
        tokens: Some(100),
        teaches: Some("code"),
        tokens_in: 400,
        counted_in: Some(600),
        other_text: false,
    };

    pub fn config() -> RecordConfig {
        RecordConfig {
            keep: 1,
            assumed_ttft_ms: 800.0,
            assumed_tokens_per_second: 50.0,
            half_life_s: 300.0,
            baseline_half_life_s: 86_400.0,
            explore_share: 0.02,
            learned: None,
        }
    }

    fn book() -> HealthBook {
        HealthBook::new(config(), [("a", "gpt-4o"), ("b", "claude-sonnet-4-5")])
    }

    #[test]
    fn measurements_replace_the_assumption_bit_by_bit() {
        let book = book();
        let unknown = book.of("a");
        assert_eq!((unknown.ttft_ms, unknown.ms_per_token, unknown.measured), (800.0, 20.0, 0.0));
        assert_eq!((book.of("b").expected_tokens_in(100), book.of("nobody").ttft_ms), (120, 800.0));
        book.answered_named("a", &SEEN);
        assert!((150.0..600.0).contains(&book.of("a").ttft_ms), "{}", book.of("a").ttft_ms);
        (0..50).for_each(|_| book.answered_named("a", &SEEN));
        let known = book.of("a");
        assert!(known.ttft_ms < 120.0 && known.ms_per_token < 5.5 && known.measured > 10.0, "{known:?}");
        assert!((known.tokens_ratio - 1.45).abs() < 0.03, "{}", known.tokens_ratio);
        assert!(book.output_tokens("code", 500) < 140.0);
        assert_eq!(book.output_tokens("other", 500), 500.0);
    }

    #[test]
    fn a_deployment_that_says_more_than_others_of_its_class_is_known_for_it() {
        let book = book();
        for _ in 0..200 {
            book.answered(0, Now(1.0), &SEEN);
            book.answered(1, Now(1.0), &Seen { tokens: Some(300), ..SEEN });
        }
        let ratios = [0, 1].map(|index| book.read(index, Now(1.0), Prompt::of(0)).length_ratio);
        assert!((0.45..0.65).contains(&ratios[0]) && (1.4..1.65).contains(&ratios[1]), "{ratios:?}");
    }

    #[test]
    fn failures_are_believed_soon_priced_by_the_time_they_lost_and_forgotten() {
        let book = book();
        let read = |now| book.read(0, Now(now), Prompt::of(0));
        (0..2_000).for_each(|_| book.answered(0, Now(1.0), &SEEN));
        assert_eq!(read(1.0).failure_share, 0.0);
        (0..3).for_each(|_| book.failed(0, Now(2.0), 30_000.0));
        assert!((0.08..0.2).contains(&read(2.0).failure_share), "{}", read(2.0).failure_share);
        (0..20).for_each(|_| book.failed(0, Now(3.0), 30_000.0));
        assert!(read(3.0).failure_share > 0.5 && read(3.0).ms_lost_per_failure > 25_000.0, "{:?}", read(3.0));
        assert!(read(120.0).failure_share < 0.02, "{}", read(120.0).failure_share);
    }

    #[test]
    fn load_and_turns_are_counted() {
        let book = book();
        let calls = [book.begin_named("a", 10, 0.0), book.begin_named("a", 10, 0.0)];
        assert_eq!(book.of("a").in_flight, 2);
        drop(calls);
        assert_eq!(book.of("a").in_flight, 0);
        assert!(book.last_chosen_named("a") > book.last_chosen_named("b"));
    }

    #[test]
    fn an_answer_that_comes_whole_is_not_late_while_it_is_being_written() {
        let book = book();
        let calls: Vec<_> = (0..8).map(|_| book.begin(0, Now(0.0), Prompt::of(10), 10_000.0)).collect();
        assert_eq!(book.read(0, Now(10.5), Prompt::of(10)).late_ms, 0.0);
        assert!(book.read(0, Now(12.0), Prompt::of(10)).late_ms > 1_000.0);
        drop(calls);
        assert_eq!(book.read(0, Now(12.0), Prompt::of(10)).late_ms, 0.0);
    }

    #[test]
    fn a_fall_of_quality_and_a_shift_of_latency_raise_one_alarm_each() {
        let book = book();
        for at in 0..60 {
            book.add_quality(1, Now(f64::from(at)), "code", if at < 40 { 0.9 } else { 0.4 });
            book.first_token(0, Now(f64::from(at)), 10, if at < 40 { 100.0 } else { 900.0 });
        }
        let alarms = book.alarms();
        let told: Vec<_> = alarms.iter().map(|alarm| (alarm.deployment.as_str(), alarm.what)).collect();
        assert_eq!(told, [("a", What::Ttft), ("b", What::Quality)]);
        assert!(alarms[0].to > 600.0 && alarms[0].from < 300.0, "{alarms:?}");
        assert!(alarms[1].from > 0.85 && alarms[1].to < 0.55, "{alarms:?}");
        assert!(book.quality_of(1, "code").is_some_and(|score| score < 0.85));
        assert_eq!(book.of("a").quality, None);
    }

    #[test]
    fn what_was_learned_survives_a_restart_and_nonsense_does_not_come_in() {
        let before = book();
        (0..50).for_each(|_| before.answered_named("a", &SEEN));
        before.add_quality(0, before.now(), "code", 0.9);
        let text = serde_json::to_string(&before.save()).unwrap();
        let after = book();
        assert_eq!(after.load(serde_json::from_str(&text).unwrap()), 2);
        assert!((after.of("a").ttft_ms - before.of("a").ttft_ms).abs() < 1.0);
        assert_eq!(after.of("a").quality, before.of("a").quality);
        assert!((after.output_tokens("code", 500) - before.output_tokens("code", 500)).abs() < 1.0);
        let spoilt = text.replacen("\"weight\":", "\"weight\":-1e9, \"was\":", 1);
        assert_eq!(book().load(serde_json::from_str(&spoilt).unwrap()), 1);
    }
}
