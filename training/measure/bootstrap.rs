//! How sure a measure is: the paired percentile bootstrap over groups (Efron and Tibshirani 1993, chapter 13).
//!
//! Each resample draws as many groups as there are, with replacement. A measure sees it as weights: how many times
//! each row counts. So an order is computed once, and every router is measured on the same resamples.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// Resamples by default: the ends of a 95 % interval are then the 25th value from either side.
pub const RESAMPLES: usize = 1000;

/// A measure as a function of how many times each row counts; None where it is undefined.
pub type Measure<'a> = Box<dyn Fn(&[u32]) -> Option<f64> + 'a>;

/// A measure on the whole table and on every resample.
#[derive(Clone, Debug, PartialEq)]
pub struct Resampled {
    pub value: Option<f64>,
    pub draws: Vec<Option<f64>>,
}

/// A value and its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
pub struct Interval {
    pub value: f64,
    pub low: f64,
    pub high: f64,
}

/// Measures every resample of rows whose group is `groups[row]`. Results in the order of the measures.
pub fn bootstrap(groups: &[u32], resamples: usize, seed: u64, measures: &[Measure]) -> Vec<Resampled> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let (groups, count) = numbered(groups);
    let once = vec![1; groups.len()];
    let whole = |measure: &Measure| Resampled { value: measure(&once), draws: Vec::with_capacity(resamples) };
    let mut results: Vec<Resampled> = measures.iter().map(whole).collect();
    for _ in 0..resamples {
        let weights = draw(&groups, count, &mut random);
        for (result, measure) in results.iter_mut().zip(measures) {
            result.draws.push(measure(&weights));
        }
    }
    results
}

impl Resampled {
    /// This minus that, resample by resample. Resamples on which either is undefined are left out; None when that is
    /// all of them, or when either is undefined on the whole table.
    pub fn minus(&self, that: &Resampled) -> Option<Interval> {
        let difference = |(a, b): (&Option<f64>, &Option<f64>)| Some((*a)? - (*b)?);
        let mut draws: Vec<f64> = self.draws.iter().zip(&that.draws).filter_map(difference).collect();
        draws.sort_by(f64::total_cmp);
        let value = difference((&self.value, &that.value))?;
        Some(Interval { value, low: quantile(&draws, 0.025)?, high: quantile(&draws, 0.975)? })
    }
}

/// Groups numbered 0.. in order of appearance, and how many there are.
fn numbered(groups: &[u32]) -> (Vec<usize>, usize) {
    let mut numbers = HashMap::new();
    let number = |group: &u32| {
        let next = numbers.len();
        *numbers.entry(*group).or_insert(next)
    };
    let groups = groups.iter().map(number).collect();
    (groups, numbers.len())
}

fn draw(groups: &[usize], count: usize, random: &mut ChaCha8Rng) -> Vec<u32> {
    let mut times = vec![0; count];
    for _ in 0..count {
        times[random.random_range(0..count)] += 1;
    }
    groups.iter().map(|group| times[*group]).collect()
}

/// Quantile of sorted values by linear interpolation; None of no values.
pub fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let place = share * sorted.len().checked_sub(1)? as f64;
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    Some(below + (above - below) * place.fract())
}
