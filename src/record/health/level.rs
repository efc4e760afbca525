//! The level of one latency (time to first token, or time per token) by length of the prompt.
//!
//! Two time scales: means that fade over `half_life_s` and have the tail in them, and a detector of shifts
//! (`shift.rs`) that moves all means to the new level after three answers that agree. So a mean of thousands of answers
//! neither holds a deployment up that just became slow, nor jumps at one outlier.

use super::decay::Decayed;
use super::shift::Shift;
use super::tail::Tail;
use serde::{Deserialize, Serialize};

/// Bands of prompt length. The first token waits for the whole prompt to be read, so its time grows with the prompt.
pub const BANDS: usize = 4;

/// The longest prompt of each band but the last, in tokens.
const LONGEST: [u64; BANDS - 1] = [1_000, 8_000, 32_000];

/// What a band's answers tell of one so many bands away: a guess, outweighed by the first answers in the band itself.
const NEAR: [f64; BANDS] = [1.0, 0.5, 0.25, 0.125];

/// Weight of the assumption, in answers.
const PRIOR_ANSWERS: f64 = 1.0;

/// Weight of what all bands together tell of one, in answers.
const PRIOR_BAND: f64 = 3.0;

/// One answer moves its band's mean up by no more than this share; more takes answers that agree.
const MOST_MOVED: f64 = 0.2;

/// Weight of what was known before a shift, once it is moved to the new level, in answers.
const KEPT_AT_SHIFT: f64 = 16.0;

/// Standard deviation of a latency's logarithm: the least believed (three of it are a factor of 1.5), and what is
/// assumed before any answer (a 95th percentile at twice the median).
const LEAST_SPREAD: f64 = 0.135;
const PRIOR_SPREAD: f64 = 0.4;

/// Weight of the assumed spread, in answers.
const PRIOR_SPREADS: f64 = 5.0;

/// No latency is believed to be less, in milliseconds: logarithms need something.
const LEAST_MS: f64 = 1e-3;

/// An answer that counts for less than this is too small to tell of a shift.
const TELLING: f64 = 0.25;

/// The band of a prompt of so many tokens.
pub fn band(tokens_in: u64) -> usize {
    LONGEST.iter().take_while(|longest| tokens_in > **longest).count()
}

/// What is assumed of a deployment nobody has called: milliseconds in the first band, and how they grow with the band.
#[derive(Clone, Copy, Debug)]
pub struct Assumed {
    pub ms: f64,
    pub growth: [f64; BANDS],
}

/// What was measured of one latency.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Level {
    /// Milliseconds.
    bands: [Decayed; BANDS],
    /// Squares of the logarithm of measured / expected.
    spread: Decayed,
    shift: Shift,
    /// Of measured / expected.
    pub tail: Tail,
}

impl Level {
    /// Lets all fade by a factor.
    pub fn fade(&mut self, factor: f64) {
        self.bands.iter_mut().for_each(|band| band.fade(factor));
        self.spread.fade(factor);
        self.tail.fade(factor);
    }

    /// The mean in a band, where all has faded by `faded` since it was last written. A band with few answers leans on
    /// all bands, the nearer the more, and they on the assumption.
    #[inline]
    pub fn expected(&self, band: usize, assumed: &Assumed, faded: f64) -> f64 {
        let (mut sum, mut weight) = (assumed.ms * PRIOR_ANSWERS, PRIOR_ANSWERS);
        for (other, seen) in self.bands.iter().enumerate() {
            let near = NEAR[band.abs_diff(other)] * faded;
            sum += near * seen.sum / assumed.growth[other];
            weight += near * seen.weight;
        }
        let own = self.bands[band];
        let leaning = PRIOR_BAND * assumed.growth[band] * sum / weight;
        ((own.sum * faded + leaning) / (own.weight * faded + PRIOR_BAND)).max(LEAST_MS)
    }

    /// Answers measured, over all bands.
    pub fn measured(&self, faded: f64) -> f64 {
        self.bands.iter().map(|band| band.weight).sum::<f64>() * faded
    }

    /// Adds a measurement that counts `weight` times, at most 1. Whether it made a shift.
    pub fn add(&mut self, band: usize, ms: f64, weight: f64, assumed: &Assumed) -> bool {
        let expected = self.expected(band, assumed, 1.0);
        let ratio = ms.max(LEAST_MS) / expected;
        let most = 1.0 + MOST_MOVED * (self.bands[band].weight + PRIOR_BAND) / weight;
        self.bands[band].add(expected * ratio.min(most), weight);
        self.tail.add(ratio, weight);
        if weight < TELLING {
            return false;
        }
        let spread = self.spread.mean(PRIOR_SPREAD * PRIOR_SPREAD, PRIOR_SPREADS).sqrt().max(LEAST_SPREAD);
        let (far, deviation) = (ratio.ln(), ratio.ln() / spread);
        let usual = far.clamp(-3.0 * spread, 3.0 * spread);
        self.spread.add(usual * usual, weight);
        let shifted = self.shift.add(far, deviation);
        if let Some(moved) = shifted {
            self.move_to(moved.exp());
        }
        shifted.is_some()
    }

    /// Whether the last answers came faster than expected, but too few of them to believe it.
    pub fn suspects_faster(&self) -> bool {
        self.shift.suspects_lower()
    }

    fn move_to(&mut self, ratio: f64) {
        let kept = (KEPT_AT_SHIFT / self.measured(1.0)).min(1.0);
        for band in &mut self.bands {
            band.fade(kept);
            band.sum *= ratio;
        }
    }

    /// Whether these are numbers a level can have.
    pub fn is_sound(&self) -> bool {
        self.bands.iter().chain([&self.spread]).all(Decayed::is_sound) && self.shift.is_sound() && self.tail.is_sound()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASSUMED: Assumed = Assumed { ms: 800.0, growth: [1.0, 1.3, 2.0, 4.0] };

    fn learn(level: &mut Level, answers: usize, band: usize, ms: f64) {
        for _ in 0..answers {
            level.add(band, ms, 1.0, &ASSUMED);
        }
    }

    #[test]
    fn a_band_without_answers_leans_on_its_neighbours_and_its_own_answers_outweigh_them() {
        let mut level = Level::default();
        assert_eq!(level.expected(0, &ASSUMED, 1.0), 800.0);
        assert_eq!(level.expected(3, &ASSUMED, 1.0), 3_200.0);
        learn(&mut level, 100, 0, 100.0);
        assert!((90.0..110.0).contains(&level.expected(0, &ASSUMED, 1.0)), "{}", level.expected(0, &ASSUMED, 1.0));
        assert!(level.expected(2, &ASSUMED, 1.0) < 300.0, "{}", level.expected(2, &ASSUMED, 1.0));
        learn(&mut level, 20, 3, 5_000.0);
        assert!(level.expected(3, &ASSUMED, 1.0) > 4_000.0);
        assert!(level.expected(3, &ASSUMED, 1e-9) < 3_200.1, "what faded leaves the assumption");
    }

    #[test]
    fn outliers_stay_in_the_mean_and_do_not_move_it_by_leaps() {
        let mut level = Level::default();
        let mut before = None::<f64>;
        for answer in 0..10_000 {
            level.add(0, if answer % 100 == 99 { 2_000.0 } else { 200.0 }, 1.0, &ASSUMED);
            let now = level.expected(0, &ASSUMED, 1.0);
            assert!(before.is_none_or(|before| answer < 20 || (now / before - 1.0).abs() < 0.21), "{answer}: {now}");
            before = Some(now);
        }
        let mean = level.expected(0, &ASSUMED, 1.0);
        assert!((210.0..225.0).contains(&mean), "{mean}");
        assert!(level.tail.p999() > 8.0 && level.tail.p95() < 1.5, "{} {}", level.tail.p999(), level.tail.p95());
    }

    #[test]
    fn a_shift_is_believed_after_three_answers_whatever_was_known_before() {
        let mut level = Level::default();
        learn(&mut level, 10_000, 0, 50.0);
        assert_eq!([1_000.0; 3].map(|ms| level.add(0, ms, 1.0, &ASSUMED)), [false, false, true]);
        let slow = level.expected(0, &ASSUMED, 1.0);
        assert!((800.0..1_100.0).contains(&slow), "{slow}");
        assert_eq!([50.0; 3].map(|ms| level.add(0, ms, 1.0, &ASSUMED)), [false, false, true]);
        assert!(level.expected(0, &ASSUMED, 1.0) < 150.0, "{}", level.expected(0, &ASSUMED, 1.0));
    }
}
