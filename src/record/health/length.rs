//! Lengths of answers: of each class, as a fading histogram with its mean.

use super::decay::{Decayed, Now};
use serde::{Deserialize, Serialize};

/// Two buckets to a doubling, up to 65,536 tokens.
const BUCKETS: usize = 33;
const PER_DOUBLING: f64 = 2.0;

/// Weight of the configured answer length of a class, in answers.
const PRIOR_LENGTHS: f64 = 5.0;

/// Quantiles as shares of the mean where few answers were seen: those of exponentially distributed lengths.
const PRIOR_P50: f64 = std::f64::consts::LN_2;
const PRIOR_P90: f64 = std::f64::consts::LN_10;

/// Expected lengths of a class's answers, in tokens.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Length {
    pub mean: f64,
    pub p50: f64,
    pub p90: f64,
    /// Answers measured, decayed.
    pub measured: f64,
}

/// What was measured of one class.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Lengths {
    pub at_s: f64,
    tokens: Decayed,
    buckets: Vec<f32>,
}

impl Lengths {
    /// Adds an answer's length.
    pub fn add(&mut self, tokens: u64, now: Now, half_life_s: f64) {
        let factor = now.fade(self.at_s, half_life_s);
        self.at_s = now.0;
        self.tokens.fade(factor);
        self.tokens.add(tokens as f64, 1.0);
        self.buckets.resize(BUCKETS, 0.0);
        self.buckets.iter_mut().for_each(|bucket| *bucket *= factor as f32);
        let at = ((tokens.max(1) as f64).log2() * PER_DOUBLING).clamp(0.0, (BUCKETS - 1) as f64);
        self.buckets[at as usize] += 1.0;
    }

    /// Expected lengths; `prior` is the mean while few answers have been seen.
    pub fn expected(&self, prior: f64, now: Now, half_life_s: f64) -> Length {
        let mut tokens = self.tokens;
        tokens.fade(now.fade(self.at_s, half_life_s));
        let quantile = |share: f64, of_mean: f64| {
            Decayed { sum: self.quantile(share) * tokens.weight, weight: tokens.weight }
                .mean(prior * of_mean, PRIOR_LENGTHS)
        };
        Length {
            mean: tokens.mean(prior, PRIOR_LENGTHS),
            p50: quantile(0.5, PRIOR_P50),
            p90: quantile(0.9, PRIOR_P90),
            measured: tokens.weight,
        }
    }

    /// Whether these are numbers lengths can have.
    pub fn is_sound(&self) -> bool {
        let sound = |bucket: &f32| bucket.is_finite() && *bucket >= 0.0;
        self.tokens.is_sound() && self.buckets.len() <= BUCKETS && self.buckets.iter().all(sound)
    }

    fn quantile(&self, share: f64) -> f64 {
        let mut left = share * self.buckets.iter().copied().map(f64::from).sum::<f64>();
        for (bucket, weight) in self.buckets.iter().copied().map(f64::from).enumerate() {
            if left <= weight && weight > 0.0 {
                return ((bucket as f64 + left / weight) / PER_DOUBLING).exp2();
            }
            left -= weight;
        }
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_begin_with_the_prior_and_come_to_what_was_seen() {
        let mut lengths = Lengths::default();
        let none = lengths.expected(400.0, Now(0.0), 60.0);
        assert!((none.mean, none.measured) == (400.0, 0.0) && none.p50 < 400.0 && none.p90 > 900.0);
        for answer in 0..1_000 {
            lengths.add(if answer % 5 == 0 { 2_000 } else { 100 }, Now(1.0), 60.0);
        }
        let seen = lengths.expected(400.0, Now(1.0), 60.0);
        assert!((seen.mean - 480.0).abs() < 5.0 && (80.0..130.0).contains(&seen.p50), "{seen:?}");
        assert!((1_400.0..2_900.0).contains(&seen.p90), "{seen:?}");
        assert!((lengths.expected(400.0, Now(6_000.0), 60.0).mean - 400.0).abs() < 1e-6, "all of it faded");
    }
}
