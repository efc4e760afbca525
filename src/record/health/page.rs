//! All that is known of one deployment. `mod.rs` keeps the pages, says the time and hands out what is read.

use super::decay::{Decayed, Now};
use super::drift::{Turn, Watch, What};
use super::explore::{self, Due};
use super::level::{Assumed, BANDS, Level, band};
use super::tokens::{self, Tokens};
use super::waiting::Waiting;
use super::{Health, Prompt, Seen};
use crate::config::RecordConfig;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// How the time to first token grows with the band of prompt lengths while a deployment has no answers there: a guess
/// for endpoints that read some ten thousand tokens a second.
const TTFT_GROWTH: [f64; BANDS] = [1.0, 1.3, 2.0, 4.0];

/// Attempts a failure share is shrunk by: one failure of a newcomer does not condemn it.
const PRIOR_ATTEMPTS: f64 = 3.0;

/// The last so many attempts say whether a deployment fails now, half as much after so many seconds; they are shrunk
/// toward the share over `half_life_s` as if that were so many attempts.
const RECENT_ATTEMPTS: f64 = 20.0;
const RECENT_HALF_LIFE_S: f64 = 10.0;
const PRIOR_RECENT: f64 = 5.0;

/// Answers whose lengths count before a deployment's own verbosity is believed, and the bounds of it.
const PRIOR_VERBOSITY: f64 = 10.0;
const VERBOSITIES: (f64, f64) = (0.125, 8.0);

/// Scores that the mean of all deployments counts for.
const PRIOR_SCORES: f64 = 5.0;

/// Classes whose quality is kept apart; past that only the deployment's own.
const MOST_CLASSES: usize = 256;

/// Tokens of an answer whose speed counts fully: that of a short one is mostly noise.
const TELLING_TOKENS: f64 = 32.0;

/// What is hoped of a newcomer's time to first token, as a share of what is assumed.
const HOPED_OF_NEWCOMER: f64 = 0.25;

/// Least standard deviations the alarms believe: scores, logarithms of milliseconds, failures as 0 or 1.
const SPREAD_QUALITY: f64 = 0.08;
const SPREAD_TTFT: f64 = 0.2;
const SPREAD_FAILURES: f64 = 0.25;

/// A deployment's page. Counters beside the lock are read by all and written by one instruction.
pub struct Page {
    pub name: String,
    /// Tokens counted for one estimated, as assumed of its family.
    pub family: f64,
    pub in_flight: AtomicUsize,
    pub last_chosen: AtomicU64,
    pub due: Due,
    /// Locked to read or add a few numbers, never across an await.
    pub measured: Mutex<Measured>,
}

/// What was measured; all of it faded to the moment `at_s`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Measured {
    pub at_s: f64,
    /// When the last answer or failure came.
    heard_s: f64,
    /// Cached when something is learned, as ranking reads them: they do not fade while nothing is.
    ratios: Ratios,
    #[serde(skip)]
    pub waiting: Waiting,
    ttft: Level,
    per_token: Level,
    /// Sums are failures, weights attempts.
    attempts: Decayed,
    recent: Decayed,
    lost_ms: Decayed,
    tokens: Tokens,
    verbosity: Decayed,
    quality: Decayed,
    by_class: Vec<(String, Decayed)>,
    /// Logarithms of milliseconds, by band.
    usual_ttft: [Decayed; BANDS],
    watches: [Watch; 3],
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Ratios {
    known: bool,
    tokens: [f64; 2],
    length: f64,
    quality: Option<f64>,
}

impl Page {
    /// An empty page of the deployment `name`, whose model is `model`.
    pub fn new(name: &str, model: &str) -> Self {
        Page {
            name: name.into(),
            family: tokens::prior(model),
            in_flight: AtomicUsize::new(0),
            last_chosen: AtomicU64::new(0),
            due: Due::default(),
            measured: Mutex::default(),
        }
    }

    /// What ranking reads.
    #[inline]
    pub fn read(&self, now: Now, prompt: Prompt, config: &RecordConfig) -> Health {
        self.health(&self.measured.lock(), now, prompt, config)
    }

    #[inline]
    fn health(&self, measured: &Measured, now: Now, prompt: Prompt, config: &RecordConfig) -> Health {
        let band = band(prompt.tokens_in);
        let faded = now.fade(measured.at_s, config.half_life_s);
        let expected = measured.ttft.expected(band, &ttft(config), faded);
        let late_ms = measured.waiting.late_ms(now, measured.patience_ms(expected));
        let ratios = measured.ratios;
        Health {
            ttft_ms: expected + late_ms,
            ttft_p95_ms: expected * measured.ttft.tail.p95() + late_ms,
            late_ms,
            ms_per_token: measured.per_token.expected(band, &per_token(config), faded),
            failure_share: measured.failure_share(now, faded),
            ms_lost_per_failure: measured.lost_ms.mean(expected, 1.0),
            measured: measured.ttft.measured(faded).max(measured.per_token.measured(faded)),
            in_flight: self.in_flight.load(Ordering::Relaxed),
            tokens_ratio: if ratios.known { ratios.tokens[usize::from(prompt.ascii)] } else { self.family },
            length_ratio: if ratios.known { ratios.length } else { 1.0 },
            quality: ratios.quality,
            stale_s: (now.0 - measured.heard_s).max(0.0),
        }
    }

    /// The same at the best that can be hoped of it.
    pub fn hopeful(&self, now: Now, prompt: Prompt, config: &RecordConfig) -> Health {
        let measured = self.measured.lock();
        let mut health = self.health(&measured, now, prompt, config);
        let usual_ms = measured.usual_ms(band(prompt.tokens_in), config);
        health.ttft_ms = explore::hopeful_ms(health.ttft_ms - health.late_ms, usual_ms, health.stale_s);
        (health.late_ms, health.failure_share) = (0.0, 0.0);
        health
    }

    /// Changes what was measured, and sets when the next try is due. Whether the last answers hint at a recovery.
    pub fn learn(&self, now: Now, config: &RecordConfig, change: impl FnOnce(&mut Measured)) -> bool {
        let mut measured = self.measured.lock();
        measured.settle(now, config);
        change(&mut measured);
        measured.keep_ratios(self.family);
        if measured.heard_s == now.0 {
            self.due.learned(now, measured.pause_s(now, config));
        }
        measured.ttft.suspects_faster()
    }

    /// Takes the try that is due, where nobody else has. The next is not before this one's answer can have come.
    pub fn claim(&self, now: Now, prompt: Prompt, config: &RecordConfig) -> bool {
        let pause_s = self.measured.lock().pause_s(now, config);
        self.due.claim(now, pause_s.max(2.0 * self.read(now, prompt, config).ttft_ms / 1e3))
    }
}

impl Measured {
    /// Lets everything fade to now.
    pub fn settle(&mut self, now: Now, config: &RecordConfig) {
        let fade = |half_life_s| now.fade(self.at_s, half_life_s);
        let (recent, faded, baseline) =
            (fade(RECENT_HALF_LIFE_S), fade(config.half_life_s), fade(config.baseline_half_life_s));
        self.at_s = self.at_s.max(now.0);
        self.recent.fade(recent);
        [&mut self.ttft, &mut self.per_token].into_iter().for_each(|level| level.fade(faded));
        [&mut self.attempts, &mut self.lost_ms].into_iter().for_each(|sum| sum.fade(faded));
        self.tokens.fade(baseline);
        [&mut self.verbosity, &mut self.quality].into_iter().for_each(|sum| sum.fade(baseline));
        self.by_class.iter_mut().for_each(|(_, sum)| sum.fade(baseline));
        self.usual_ttft.iter_mut().for_each(|sum| sum.fade(baseline));
        self.watches.iter_mut().for_each(|watch| watch.fade(baseline));
    }

    /// A request begins to wait; `whole_ms` is what its answer takes beyond the first token, where it comes whole.
    pub fn wait(
        &mut self,
        now: Now,
        prompt: Prompt,
        whole_ms: f64,
        in_flight: usize,
        config: &RecordConfig,
    ) -> Option<u64> {
        let faded = now.fade(self.at_s, config.half_life_s);
        let expected = self.ttft.expected(band(prompt.tokens_in), &ttft(config), faded);
        self.waiting.begin(now.0 + (expected + whole_ms) / 1e3, in_flight)
    }

    /// A first token came.
    pub fn first_token(&mut self, now: Now, tokens_in: u64, ms: f64, config: &RecordConfig) -> Option<Turn> {
        self.heard_s = now.0;
        let band = band(tokens_in);
        let usual = self.usual_ms(band, config);
        self.waiting.came(now, ms, self.ttft.expected(band, &ttft(config), 1.0));
        self.ttft.add(band, ms, 1.0, &ttft(config));
        self.usual_ttft[band].add(ms.max(1e-3).ln(), 1.0);
        let began = self.watch(What::Ttft).add((ms.max(1e-3) / usual).ln(), SPREAD_TTFT, now.0)?;
        Some(Turn { what: What::Ttft, began, from: usual, to: usual * self.watch(What::Ttft).level().exp() })
    }

    /// An answer ended well. `class_mean` is the mean length of its class, where its length teaches.
    pub fn answered(
        &mut self,
        now: Now,
        seen: &Seen<'_>,
        class_mean: Option<f64>,
        config: &RecordConfig,
    ) -> Option<Turn> {
        let turn = self.attempted(now, 0.0);
        if let Some(counted) = seen.counted_in {
            self.tokens.add(seen.tokens_in, counted, !seen.other_text);
        }
        let Some(tokens) = seen.tokens.filter(|tokens| *tokens > 0) else { return turn };
        let tokens = tokens as f64;
        let band = band(seen.tokens_in);
        let first_ms = seen.ttft_ms.unwrap_or_else(|| self.ttft.expected(band, &ttft(config), 1.0));
        if seen.ttft_ms.is_none() {
            let whole_ms = tokens * self.per_token.expected(band, &per_token(config), 1.0);
            self.waiting.came(now, seen.total_ms, first_ms + whole_ms);
        }
        let weight = (tokens / TELLING_TOKENS).min(1.0);
        self.per_token.add(band, (seen.total_ms - first_ms).max(0.0) / tokens, weight, &per_token(config));
        if let Some(mean) = class_mean {
            self.verbosity.add((tokens / mean.max(1.0)).clamp(VERBOSITIES.0, VERBOSITIES.1), 1.0);
        }
        turn
    }

    /// An attempt failed after so many milliseconds.
    pub fn failed(&mut self, now: Now, lost_ms: f64) -> Option<Turn> {
        self.lost_ms.add(lost_ms.max(0.0), 1.0);
        self.attempted(now, 1.0)
    }

    /// An answer was scored; `all` is the mean over all deployments.
    pub fn scored(&mut self, now: Now, class: &str, score: f64, all: f64) -> Option<Turn> {
        self.quality.add(score, 1.0);
        self.ratios.quality = Some(self.quality.mean(all, PRIOR_SCORES));
        let at = self.by_class.iter().position(|(name, _)| name == class).unwrap_or(self.by_class.len());
        if at == self.by_class.len() && at < MOST_CLASSES {
            self.by_class.push((class.into(), Decayed::default()));
        }
        if let Some((_, scores)) = self.by_class.get_mut(at) {
            scores.add(score, 1.0);
        }
        // More is worse: what lacks to the best score.
        let watch = self.watch(What::Quality);
        let began = watch.add(1.0 - score, SPREAD_QUALITY, now.0)?;
        Some(Turn { what: What::Quality, began, from: 1.0 - watch.usual(), to: 1.0 - watch.level() })
    }

    /// Mean score of a class's answers, shrunk to that of all of the deployment's; `None` before the first score.
    pub fn quality_of(&self, class: &str) -> Option<f64> {
        let own = self.by_class.iter().find(|(name, _)| name == class).map(|(_, scores)| *scores).unwrap_or_default();
        Some(own.mean(self.ratios.quality?, PRIOR_SCORES))
    }

    /// The alarms that stand: about what, since when in seconds of the book's clock, from, to.
    pub fn alarms(&self, config: &RecordConfig) -> Vec<(What, f64, f64, f64)> {
        let told = |what: What| {
            let (since_s, from, to) = self.watches[what as usize].stands()?;
            let usual_ms = self.usual_ms(0, config);
            Some(match what {
                What::Quality => (what, since_s, 1.0 - from, 1.0 - to),
                What::Ttft => (what, since_s, usual_ms * from.exp(), usual_ms * to.exp()),
                What::Failures => (what, since_s, from, to),
            })
        };
        [What::Quality, What::Ttft, What::Failures].into_iter().filter_map(told).collect()
    }

    /// Moves all times in it by so many seconds.
    pub fn shift_clock(&mut self, by_s: f64) {
        self.at_s += by_s;
        self.heard_s += by_s;
        self.watches.iter_mut().for_each(|watch| watch.shift_clock(by_s));
    }

    /// Whether these are numbers a page can have; what was read from a file may be anything.
    pub fn is_sound(&self) -> bool {
        let ratios = self.ratios;
        let sums = [self.attempts, self.recent, self.lost_ms, self.verbosity, self.quality];
        let by_class = self.by_class.iter().map(|(_, scores)| scores);
        let numbers = [self.at_s, self.heard_s, ratios.tokens[0], ratios.tokens[1], ratios.length];
        sums.iter().chain(by_class).chain(&self.usual_ttft).all(Decayed::is_sound)
            && numbers.iter().all(|number| number.is_finite())
            && self.by_class.len() <= MOST_CLASSES
            && (self.ttft.is_sound() && self.per_token.is_sound() && self.tokens.is_sound())
            && self.watches.iter().all(Watch::is_sound)
    }

    fn attempted(&mut self, now: Now, failure: f64) -> Option<Turn> {
        self.heard_s = now.0;
        self.attempts.add(failure, 1.0);
        self.recent.cap(RECENT_ATTEMPTS);
        self.recent.add(failure, 1.0);
        let watch = self.watch(What::Failures);
        let began = watch.add(failure, SPREAD_FAILURES, now.0)?;
        Some(Turn { what: What::Failures, began, from: watch.usual(), to: watch.level() })
    }

    #[inline]
    fn failure_share(&self, now: Now, faded: f64) -> f64 {
        let usual = self.attempts.sum * faded / (self.attempts.weight * faded + PRIOR_ATTEMPTS);
        let mut recent = self.recent;
        // Without failures there is nothing to fade toward: the common case is spared the logarithm.
        if recent.sum > 0.0 {
            recent.fade(now.fade(self.at_s, RECENT_HALF_LIFE_S));
        }
        recent.mean(usual, PRIOR_RECENT)
    }

    fn keep_ratios(&mut self, family: f64) {
        self.ratios.known = true;
        self.ratios.tokens = [self.tokens.ratio(false, family), self.tokens.ratio(true, family)];
        self.ratios.length = self.verbosity.mean(1.0, PRIOR_VERBOSITY);
    }

    /// Seconds to the next try: by what it is expected to lose against the deployment as it usually is.
    fn pause_s(&self, now: Now, config: &RecordConfig) -> f64 {
        let faded = now.fade(self.at_s, config.half_life_s);
        let expected = self.ttft.expected(0, &ttft(config), faded);
        let failing_ms = self.failure_share(now, faded) * self.lost_ms.mean(expected, 1.0);
        explore::pause_s(expected - self.usual_ms(0, config) + failing_ms, self.ttft.suspects_faster())
    }

    /// How late a single request may be before it means anything.
    fn patience_ms(&self, expected_ms: f64) -> f64 {
        expected_ms * self.ttft.tail.p999()
    }

    /// Time to first token that was usual of late, or is hoped of a newcomer.
    fn usual_ms(&self, band: usize, config: &RecordConfig) -> f64 {
        let ttft = ttft(config);
        let hoped = (ttft.ms * ttft.growth[band] * HOPED_OF_NEWCOMER).max(1e-3);
        self.usual_ttft[band].mean(hoped.ln(), 1.0).exp()
    }

    fn watch(&mut self, what: What) -> &mut Watch {
        &mut self.watches[what as usize]
    }
}

fn ttft(config: &RecordConfig) -> Assumed {
    Assumed { ms: config.assumed_ttft_ms, growth: TTFT_GROWTH }
}

fn per_token(config: &RecordConfig) -> Assumed {
    Assumed { ms: 1e3 / config.assumed_tokens_per_second, growth: [1.0; BANDS] }
}
