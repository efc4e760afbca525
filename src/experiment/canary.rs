//! When a canary stops: three tests that may be looked at after every request (`sequential.rs`), each at its part of
//! alpha.
//!
//! - **Errors**: the share of failures is above the bound. Exact.
//! - **Cost**: the mean is above the ratio times the control's mean. Of dollars themselves, since their sum is what is
//!   paid and a few dear answers are part of it.
//! - **Latency**: the same of the logarithms, so of geometric means: "typically slower". One answer that hung must not
//!   stop a canary, and logarithms of times are near normal.
//!
//! Cost and latency use the estimates' variances, which count a unit's requests as one draw (they are not independent),
//! and rest on means being near normal: hence the least number of requests.

use super::event::Answered;
use super::sequential::{ShareTest, log_ratio_above};
use crate::config::CanaryRules;
use std::collections::HashMap;

/// Units of either arm before cost and latency are judged: a variance between fewer says little.
const LEAST_UNITS: usize = 20;

/// Units remembered in an arm; requests of later ones count as units of their own.
const MOST_UNITS: usize = 100_000;

/// Differences that the tests look for first, as a share of the control's mean; of latency in logarithms. A quarter more
/// is what matters; what is larger is found sooner all the same.
const SCALE: f64 = 0.25;

/// What is watched of one canary.
pub struct Watch {
    rules: CanaryRules,
    /// Logarithm of the ratio at which one test speaks up.
    bar: f64,
    errors: Option<ShareTest>,
    /// Control, canary.
    cost: [Clusters; 2],
    latency: [Clusters; 2],
    /// Dollars that the cost's alternatives are spread over: fixed at the first look, before it could follow the data.
    cost_scale: Option<f64>,
}

/// A rule that was broken.
#[derive(Clone, Debug, PartialEq)]
pub struct Broken {
    pub rule: &'static str,
    pub why: String,
}

impl Watch {
    /// Nothing seen yet.
    pub fn new(rules: &CanaryRules) -> Self {
        let active = [rules.max_error_rate, rules.max_cost_ratio, rules.max_latency_ratio];
        let tests = active.iter().flatten().count().max(1);
        Watch {
            bar: (tests as f64 / rules.alpha).ln(),
            errors: rules.max_error_rate.map(ShareTest::new),
            cost: Default::default(),
            latency: Default::default(),
            cost_scale: None,
            rules: rules.clone(),
        }
    }

    /// Adds an answer of the control or the canary, and says which rule is broken now.
    pub fn add(&mut self, canary: bool, unit: u64, answered: &Answered) -> Option<Broken> {
        let arm = usize::from(canary);
        if let (true, Some(errors), Some(failed)) = (canary, &mut self.errors, answered.failed) {
            errors.add(failed);
        }
        if let Some(cost) = answered.cost {
            self.cost[arm].add(unit, cost.dollars());
        }
        // How long a failure took says nothing of how long answers take.
        if answered.failed == Some(false) && answered.ms > 0.0 {
            self.latency[arm].add(unit, answered.ms.ln());
        }
        self.errors_broken().or_else(|| self.cost_broken()).or_else(|| self.latency_broken())
    }

    fn errors_broken(&self) -> Option<Broken> {
        let test = self.errors.as_ref().filter(|test| test.log_ratio() > self.bar)?;
        let bound = self.rules.max_error_rate?;
        let why = format!("{} of {} answers failed, above the share of {bound}", test.failures, test.count);
        Some(Broken { rule: "max_error_rate", why })
    }

    fn cost_broken(&mut self) -> Option<Broken> {
        let ratio = self.rules.max_cost_ratio?;
        let [control, canary] = self.enough(&self.cost)?;
        let scale = *self.cost_scale.get_or_insert(SCALE * ratio * control.mean);
        let variance = canary.variance + ratio * ratio * control.variance;
        let log_ratio = log_ratio_above(canary.mean - ratio * control.mean, variance, scale)?;
        let why = format!("${:.6} a request against ${:.6}, above {ratio} times", canary.mean, control.mean);
        (log_ratio > self.bar).then_some(Broken { rule: "max_cost_ratio", why })
    }

    fn latency_broken(&self) -> Option<Broken> {
        let ratio = self.rules.max_latency_ratio?;
        let [control, canary] = self.enough(&self.latency)?;
        let variance = canary.variance + control.variance;
        let log_ratio = log_ratio_above(canary.mean - control.mean - ratio.ln(), variance, SCALE)?;
        let why =
            format!("typically {:.0} ms against {:.0} ms, above {ratio} times", canary.mean.exp(), control.mean.exp());
        (log_ratio > self.bar).then_some(Broken { rule: "max_latency_ratio", why })
    }

    /// The estimates of both arms, once there are enough of both.
    fn enough(&self, arms: &[Clusters; 2]) -> Option<[Estimate; 2]> {
        let few = |arm: &Clusters| arm.count < self.rules.min_requests || arm.units < LEAST_UNITS;
        let [control, canary] = arms;
        if few(control) || few(canary) { None } else { Some([control.estimate(), canary.estimate()]) }
    }
}

/// A mean and the variance of that mean.
#[derive(Clone, Copy, Debug)]
struct Estimate {
    mean: f64,
    variance: f64,
}

/// Values in clusters, as the sums that the variance of their mean needs: with `n` values summing to `s` in each cluster
/// and the mean `m` over all, it is the sum of `(s - n m)²` over the square of how many values there are.
#[derive(Debug, Default)]
struct Clusters {
    known: HashMap<u64, (f64, f64)>,
    units: usize,
    count: u64,
    /// The first value: sums of differences to it lose no digits.
    origin: f64,
    sum: f64,
    squares: f64,
    products: f64,
    sizes: f64,
}

impl Clusters {
    fn add(&mut self, unit: u64, value: f64) {
        if self.count == 0 {
            self.origin = value;
        }
        let value = value - self.origin;
        self.count += 1;
        self.sum += value;
        let room = self.known.len() < MOST_UNITS;
        let (size, sum) = match self.known.get_mut(&unit) {
            Some((size, sum)) => {
                let before = (*size, *sum);
                (*size, *sum) = (*size + 1.0, *sum + value);
                before
            }
            None => {
                self.units += 1;
                if room {
                    self.known.insert(unit, (1.0, value));
                }
                (0.0, 0.0)
            }
        };
        let (more, total) = (size + 1.0, sum + value);
        self.squares += total * total - sum * sum;
        self.products += more * total - size * sum;
        self.sizes += more * more - size * size;
    }

    fn estimate(&self) -> Estimate {
        let (count, units) = (self.count as f64, self.units as f64);
        let mean = self.sum / count;
        let spread = (self.squares - 2.0 * mean * self.products + mean * mean * self.sizes).max(0.0);
        Estimate { mean: mean + self.origin, variance: spread / (count * count) * units / (units - 1.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::money::Money;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    const RULES: CanaryRules = CanaryRules {
        max_error_rate: Some(0.05),
        max_cost_ratio: Some(1.25),
        max_latency_ratio: Some(1.25),
        min_requests: 100,
        alpha: 0.05,
    };

    fn gauss(random: &mut ChaCha8Rng) -> f64 {
        let (a, b): (f64, f64) = (1.0 - random.random::<f64>(), random.random());
        (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos()
    }

    /// What is true of the canary, as multiples of the control's.
    struct Truth {
        failing: f64,
        cost: f64,
        latency: f64,
        /// Share of requests that the canary gets.
        share: f64,
    }

    /// Requests until the rule was broken, of at most so many, looked at after every one. Sessions of four requests with a
    /// level of their own; costs with a heavy tail (lognormal, deviation of the logarithm 1.2 within and 0.5 between).
    fn run(seed: u64, rules: &CanaryRules, truth: &Truth, most: u64) -> Option<(u64, Broken)> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut watch = Watch::new(rules);
        let (mut unit, mut canary, mut level) = (0, false, 0.0);
        for at in 0..most {
            if at % 4 == 0 {
                (unit, canary, level) = (at, random.random::<f64>() < truth.share, 0.5 * gauss(&mut random));
            }
            let (cost, latency) = if canary { (truth.cost, truth.latency) } else { (1.0, 1.0) };
            let dollars = 0.001 * cost * (level + 1.2 * gauss(&mut random)).exp();
            let answered = Answered {
                failed: Some(canary && random.random::<f64>() < truth.failing),
                cost: Some(Money::from_dollars(dollars)),
                ms: 900.0 * latency * (level + 0.6 * gauss(&mut random)).exp(),
                ..Answered::default()
            };
            if let Some(broken) = watch.add(canary, unit, &answered) {
                return Some((at, broken));
            }
        }
        None
    }

    #[test]
    fn false_alarms_are_no_more_than_alpha_with_a_look_after_every_request() {
        let limit = |rules: &CanaryRules| Truth {
            failing: rules.max_error_rate.unwrap_or(0.0),
            cost: rules.max_cost_ratio.unwrap_or(1.0),
            latency: rules.max_latency_ratio.unwrap_or(1.0),
            share: 0.2,
        };
        let only = CanaryRules { max_error_rate: None, max_cost_ratio: None, max_latency_ratio: None, ..RULES };
        // Exactly at every bound, the worst case; each rule alone has the whole of alpha.
        for rules in [
            RULES,
            CanaryRules { max_error_rate: Some(0.05), ..only.clone() },
            CanaryRules { max_cost_ratio: Some(1.25), ..only.clone() },
            CanaryRules { max_latency_ratio: Some(1.25), ..only },
        ] {
            let truth = limit(&rules);
            let alarms = (0..400).filter(|seed| run(*seed, &rules, &truth, 4_000).is_some()).count();
            println!("{rules:?}: {alarms} of 400");
            // 20 are expected at most of 400, with a deviation of 4.4.
            assert!(alarms <= 28, "{rules:?}: {alarms} of 400");
        }
    }

    #[test]
    fn what_is_worse_is_stopped_for_what_it_is() {
        let good = Truth { failing: 0.0, cost: 1.0, latency: 1.0, share: 0.2 };
        assert_eq!(run(1, &RULES, &good, 20_000), None);
        for (truth, rule, within) in [
            (Truth { failing: 0.5, ..good }, "max_error_rate", 150),
            (Truth { cost: 3.0, ..good }, "max_cost_ratio", 4_000),
            (Truth { latency: 2.0, ..good }, "max_latency_ratio", 1_500),
        ] {
            let stops: Vec<_> = (0..20).map(|seed| run(seed, &RULES, &truth, 20_000).expect("stopped")).collect();
            let mut at: Vec<u64> = stops.iter().map(|stop| stop.0).collect();
            at.sort_unstable();
            println!("{rule}: {at:?}");
            assert!(at[10] <= within, "{rule}: half of them only after {}", at[10]);
            assert!(stops.iter().all(|stop| stop.1.rule == rule), "{stops:?}");
        }
    }

    #[test]
    fn the_variance_of_clusters_is_that_of_their_sums() {
        let mut clusters = Clusters::default();
        let values = [(1, 5.0), (2, 7.0), (1, 6.0), (3, 1.0), (2, 9.0), (1, 4.0)];
        values.iter().for_each(|(unit, value)| clusters.add(*unit, *value));
        let mean = 32.0 / 6.0;
        let sums: f64 =
            [(3.0, 15.0), (2.0, 16.0), (1.0, 1.0)].iter().map(|(n, s): &(f64, f64)| (s - n * mean).powi(2)).sum();
        let estimate = clusters.estimate();
        assert!((estimate.mean - mean).abs() < 1e-12);
        assert!((estimate.variance - sums / 36.0 * 1.5).abs() < 1e-12, "{estimate:?}");
    }
}
