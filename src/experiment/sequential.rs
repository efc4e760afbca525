//! Tests that may be looked at after every request: likelihood ratios mixed over alternatives (Robbins 1970; Johari et
//! al. 2015). Under the null hypothesis such a ratio is a supermartingale that starts at 1, so by Ville's inequality the
//! chance that it *ever* passes 1 / alpha is at most alpha.

/// Alternatives that a share's ratio is mixed over: enough that the best of them is near whatever is true.
const ALTERNATIVES: i32 = 12;

/// Whether a share of failures is above a bound. Exact for any number of answers, where each fails with at most that
/// chance whatever came before.
#[derive(Clone, Debug)]
pub struct ShareTest {
    /// For each alternative: logarithm of the likelihood ratio of one failure, of one success, and of all so far.
    alternatives: Vec<[f64; 3]>,
    pub failures: u64,
    pub count: u64,
}

impl ShareTest {
    /// Against the hypothesis that at most `bound` (above 0, below 1) of all answers fail.
    pub fn new(bound: f64) -> Self {
        // Shares between the bound and 1, evenly in their odds' logarithm up to odds of about 1,000.
        let odds = bound / (1.0 - bound);
        let step = (1_000.0f64.max(odds * 10.0) / odds).ln() / f64::from(ALTERNATIVES);
        let alternative = |at: i32| {
            let odds = odds * (step * f64::from(at)).exp();
            let share = odds / (1.0 + odds);
            [(share / bound).ln(), ((1.0 - share) / (1.0 - bound)).ln(), 0.0]
        };
        ShareTest { alternatives: (1..=ALTERNATIVES).map(alternative).collect(), failures: 0, count: 0 }
    }

    /// Adds an answer.
    pub fn add(&mut self, failed: bool) {
        self.count += 1;
        self.failures += u64::from(failed);
        for [failure, success, sum] in &mut self.alternatives {
            *sum += if failed { *failure } else { *success };
        }
    }

    /// Logarithm of the mixed likelihood ratio.
    pub fn log_ratio(&self) -> f64 {
        let most = self.alternatives.iter().map(|one| one[2]).fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = self.alternatives.iter().map(|one| (one[2] - most).exp()).sum();
        most + (sum / f64::from(ALTERNATIVES)).ln()
    }
}

/// Logarithm of the ratio for a difference above 0: an estimate near normal with this variance, against alternatives
/// of half a normal distribution above 0 with the deviation `scale`. `None` where there is no variance.
pub fn log_ratio_above(difference: f64, variance: f64, scale: f64) -> Option<f64> {
    if !(variance > 0.0 && scale > 0.0 && difference.is_finite()) {
        return None;
    }
    let spread = scale * scale;
    let wide = variance + spread;
    let place = scale * difference / (variance * wide).sqrt();
    // The integral of the mixture; of both sides it would be without the last term.
    Some(0.5 * (variance / wide).ln() + 0.5 * place * place + (2.0 * normal(place)).max(f64::MIN_POSITIVE).ln())
}

/// The normal distribution function, to 1e-7 (Abramowitz and Stegun 1964, 7.1.26).
pub fn normal(z: f64) -> f64 {
    let x = z.abs() / std::f64::consts::SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * x);
    let terms = [1.061_405_429, -1.453_152_027, 1.421_413_741, -0.284_496_736, 0.254_829_592];
    let tail = terms.iter().fold(0.0, |sum, term| (sum + term) * t) * (-x * x).exp();
    if z > 0.0 { 1.0 - tail / 2.0 } else { tail / 2.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    /// Share of 1,000 runs in which the test ever speaks up, looked at after each of 2,000 answers.
    fn alarms(bound: f64, truth: f64) -> f64 {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let run = |_: &u32| {
            let mut test = ShareTest::new(bound);
            (0..2_000).any(|_| {
                test.add(random.random::<f64>() < truth);
                test.log_ratio() > (1.0f64 / 0.05).ln()
            })
        };
        (0..1_000).filter(run).count() as f64 / 1_000.0
    }

    #[test]
    fn a_share_at_its_bound_is_seldom_accused_and_one_above_always() {
        // 0.064: the alarm's 5 % and two deviations of 1,000 runs.
        for bound in [0.01, 0.05, 0.5] {
            assert!(alarms(bound, bound) <= 0.064, "{bound}: {}", alarms(bound, bound));
        }
        assert!(alarms(0.05, 0.03) < 0.01);
        assert!(alarms(0.05, 0.10) > 0.99);
    }

    #[test]
    fn one_that_fails_always_is_stopped_within_five() {
        let mut test = ShareTest::new(0.05);
        (0..5).for_each(|_| test.add(true));
        assert!(test.log_ratio() > (3.0f64 / 0.05).ln(), "{}", test.log_ratio());
    }

    #[test]
    fn the_distribution_is_the_normal_one() {
        for (z, share) in [(0.0, 0.5), (1.959_964, 0.975), (-1.959_964, 0.025), (3.0, 0.998_650_1)] {
            assert!((normal(z) - share).abs() < 2e-7, "{z}");
        }
        // Nothing seen says nothing: a difference far below its own error leaves the ratio near 1.
        assert!(log_ratio_above(0.0, 1e6, 1.0).expect("a variance").abs() < 1e-3);
        assert_eq!(log_ratio_above(1.0, 0.0, 1.0), None);
    }
}
