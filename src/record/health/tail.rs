//! How far latencies lie from what was expected of them: a fading histogram of measured / expected.
//!
//! Ratios, so that one histogram serves all lengths of prompt and stays right through a shift; a fixed histogram, so that
//! it fades (a sketch such as P-square cannot), all quantiles are there, and its size is known.

use serde::{Deserialize, Serialize};

const BUCKETS: usize = 24;

/// Where the first bucket begins, as a logarithm to base two: a sixteenth of what was expected.
const FIRST: f64 = -4.0;

/// Buckets to a doubling: 24 of them reach from 1/16 to 64, each a third wider than the one before.
const PER_DOUBLING: f64 = 2.4;

/// Quantiles assumed before any answer, as ratios: a guess from latencies of public endpoints, which are skewed.
const PRIOR_P95: f64 = 2.5;
const PRIOR_P999: f64 = 8.0;

/// Weight of these, in answers.
const PRIOR_ANSWERS: f64 = 20.0;

/// The histogram, and the two quantiles of it that decisions read.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tail {
    buckets: [f32; BUCKETS],
    p95: f32,
    p999: f32,
}

impl Default for Tail {
    fn default() -> Self {
        Tail { buckets: [0.0; BUCKETS], p95: PRIOR_P95 as f32, p999: PRIOR_P999 as f32 }
    }
}

impl Tail {
    /// Lets all fade by a factor.
    pub fn fade(&mut self, factor: f64) {
        self.buckets.iter_mut().for_each(|bucket| *bucket *= factor as f32);
    }

    /// Adds a ratio.
    pub fn add(&mut self, ratio: f64, weight: f64) {
        let at = ((ratio.max(f64::MIN_POSITIVE).log2() - FIRST) * PER_DOUBLING).clamp(0.0, (BUCKETS - 1) as f64);
        self.buckets[at as usize] += weight as f32;
        self.p95 = self.shrunk(0.95, PRIOR_P95);
        self.p999 = self.shrunk(0.999, PRIOR_P999);
    }

    /// Nineteen of twenty answers came within so many times the expected.
    pub fn p95(&self) -> f64 {
        self.p95.into()
    }

    /// All but one in a thousand did.
    pub fn p999(&self) -> f64 {
        self.p999.into()
    }

    /// Whether these are numbers a histogram can have.
    pub fn is_sound(&self) -> bool {
        self.buckets.iter().chain([&self.p95, &self.p999]).all(|number| number.is_finite() && *number >= 0.0)
    }

    fn shrunk(&self, share: f64, prior: f64) -> f32 {
        let total: f64 = self.buckets.iter().copied().map(f64::from).sum();
        ((self.quantile(share, total) * total + prior * PRIOR_ANSWERS) / (total + PRIOR_ANSWERS)) as f32
    }

    /// Within a bucket the logarithm is interpolated.
    fn quantile(&self, share: f64, total: f64) -> f64 {
        let mut left = share * total;
        let mut at = (BUCKETS - 1) as f64;
        for (bucket, weight) in self.buckets.iter().copied().map(f64::from).enumerate() {
            if left <= weight && weight > 0.0 {
                at = bucket as f64 + left / weight;
                break;
            }
            left -= weight;
        }
        (FIRST + at / PER_DOUBLING).exp2()
    }
}
