//! Fits the join of the three estimates on prompts that none of them had seen. It calibrates at the same time.
//!
//! Labels: multinomial logistic regression on the logarithms of the estimates, by gradient descent on the likelihood.
//! Outcomes: least squares with weights of at least zero on level and contrasts of each estimate, pulled toward zero,
//! which is toward the mean: of many noisy estimates the best looks better than it is.

use super::OutOfFold;
use super::report::likeliest;
use crate::classifier::join::{Deviation, Join, SOURCES, level_and_contrasts};
use std::collections::BTreeMap;

const STEPS: usize = 300;
const RATE: f64 = 0.03;

/// Prompts times classes looked at to fit the join of labels.
const ENOUGH: usize = 200_000;

/// Pull of the weights toward an even join and of the biases toward zero, per prompt.
const RIDGE: f64 = 1e-3;

/// Pull of the deviations' weights toward zero, as a share of the features' mean square.
const SHRINK: f64 = 1e-2;

/// Where a prompt begins to count as familiar, as a share of the prompts of unseen sources whose nearest exemplar is
/// farther; and where it does so wholly, as a share of those of seen ones. Measured in training/README.md.
const STRANGE: f64 = 0.8;
const USUAL: f64 = 0.1;

/// Standard errors by which choices on sources never seen must lead. With one, several recipes lost on a task
/// never seen (training/README.md).
const DOUBT: f64 = 2.0;

/// Margins that are tried on sources never seen, in score; of equals the first is taken. With the last no choice
/// differs from the best single class.
const MARGINS: [f64; 7] = [0.0, 0.01, 0.02, 0.04, 0.08, 0.16, 2.0];

/// The join that makes the out-of-fold labels likeliest.
pub fn labels(items: &[OutOfFold], classes: usize) -> Join {
    let even = 1.0 / SOURCES as f64;
    let (mut weights, mut bias) = ([even; SOURCES], vec![0.0; classes]);
    let some: Vec<&OutOfFold> = items.iter().step_by((items.len() * classes).div_ceil(ENOUGH).max(1)).collect();
    let mut pace = Adam::new(SOURCES + classes);
    for _ in 0..STEPS {
        let join = Join::Labels { weights, bias: bias.clone() };
        let (mut weight_slope, mut bias_slope) = ([0.0; SOURCES], vec![0.0; classes]);
        for item in &some {
            for (class, share) in join.estimate(&item.sources, 1.0).iter().enumerate() {
                let error = (share - f64::from(item.known[class])) / some.len() as f64;
                for (slope, source) in weight_slope.iter_mut().zip(&item.sources) {
                    *slope += error * source[class].max(1e-4).ln();
                }
                bias_slope[class] += error;
            }
        }
        let slopes = weight_slope
            .iter()
            .zip(&weights)
            .map(|(slope, weight)| slope + RIDGE * (weight - even))
            .chain(bias_slope.iter().zip(&bias).map(|(slope, bias)| slope + RIDGE * bias));
        let moves = pace.step(slopes, RATE);
        weights.iter_mut().chain(bias.iter_mut()).zip(moves).for_each(|(value, change)| *value -= change);
    }
    Join::Labels { weights, bias }
}

/// The join of outcomes: `near` from out-of-fold estimates, `far` from estimates with whole sources left out.
pub fn outcomes(near: &[OutOfFold], far: &[OutOfFold], mean: &[f64]) -> Join {
    let fitted = deviation(near, mean);
    if far.is_empty() {
        let far = fitted.clone();
        return Join::Outcomes { mean: mean.to_vec(), near: fitted, far, margin: 0.0, familiar: [0.0, 0.0] };
    }
    let similarity = |items: &[OutOfFold], share: f64| {
        let mut all: Vec<f64> = items.iter().map(|item| item.nearest).collect();
        all.sort_by(f64::total_cmp);
        all[((all.len() as f64 * share) as usize).min(all.len() - 1)]
    };
    let far_fitted = deviation(far, mean);
    let margin = margin(far, mean, &far_fitted);
    let strange = similarity(far, STRANGE);
    let usual = similarity(near, USUAL).max(strange);
    Join::Outcomes { mean: mean.to_vec(), near: fitted, far: far_fitted, margin, familiar: [strange, usual] }
}

/// The margin by which a class must lead on prompts of sources never seen: the one whose choices are worth most beyond
/// the best single class, less twice the standard error of the sources' means: a lead that hangs on one source is none.
fn margin(items: &[OutOfFold], mean: &[f64], fitted: &Deviation) -> f64 {
    let lead = |margin: f64| -> f64 {
        let (near, far) = (Deviation::default(), fitted.clone());
        // More alike than anything is: every prompt counts as strange.
        let leads =
            leads(items, mean, &Join::Outcomes { mean: mean.to_vec(), near, far, margin, familiar: [2.0, 3.0] });
        let (count, sum) = (leads.len() as f64, leads.iter().sum::<f64>());
        let spread: f64 = leads.iter().map(|lead| (lead - sum / count).powi(2)).sum();
        sum - DOUBT * (spread * count / (count - 1.0).max(1.0)).sqrt()
    };
    MARGINS[likeliest(&MARGINS.map(lead))]
}

/// What a join's choices score more than the best single class, summed for each source.
fn leads(items: &[OutOfFold], mean: &[f64], join: &Join) -> Vec<f64> {
    let single = likeliest(mean);
    let mut sources: BTreeMap<usize, f64> = BTreeMap::new();
    for item in items {
        let chosen = likeliest(&join.estimate(&item.sources, item.nearest));
        *sources.entry(item.source).or_default() += value(item, chosen) - value(item, single);
    }
    sources.into_values().collect()
}

/// The score that choosing a class gave; an unknown one counts as nothing.
fn value(item: &OutOfFold, class: usize) -> f64 {
    let score = item.known[class];
    if score.is_nan() { 0.0 } else { f64::from(score) }
}

/// Weights of at least zero that bring the estimates' levels and contrasts nearest to the scores.
fn deviation(items: &[OutOfFold], mean: &[f64]) -> Deviation {
    const TERMS: usize = 2 * SOURCES;
    let (mut gram, mut right) = ([[0.0; TERMS]; TERMS], [0.0; TERMS]);
    for item in items {
        let parts: Vec<(f64, Vec<f64>)> = item.sources.iter().map(|source| level_and_contrasts(source, mean)).collect();
        for (class, score) in item.known.iter().enumerate().filter(|(_, score)| !score.is_nan()) {
            let mut terms = [0.0; TERMS];
            for (index, (level, contrasts)) in parts.iter().enumerate() {
                (terms[index], terms[SOURCES + index]) = (*level, contrasts[class]);
            }
            for (a, row) in gram.iter_mut().enumerate() {
                row.iter_mut().zip(&terms).for_each(|(sum, term)| *sum += terms[a] * term);
                right[a] += terms[a] * (f64::from(*score) - mean[class]);
            }
        }
    }
    let weights = non_negative(gram, right);
    let half = |start: usize| std::array::from_fn(|index| weights[start + index]);
    Deviation { level: half(0), contrast: half(SOURCES) }
}

/// Least squares with weights of at least zero, by coordinate descent on the normal equations.
fn non_negative<const N: usize>(mut gram: [[f64; N]; N], right: [f64; N]) -> [f64; N] {
    for (at, row) in gram.iter_mut().enumerate() {
        row[at] = row[at] * (1.0 + SHRINK) + 1e-12;
    }
    let mut weights = [0.0; N];
    for _ in 0..1_000 {
        for at in 0..N {
            let others: f64 = (0..N).filter(|other| *other != at).map(|other| gram[at][other] * weights[other]).sum();
            weights[at] = ((right[at] - others) / gram[at][at]).max(0.0);
        }
    }
    weights
}

/// Adam (Kingma and Ba, 2014) on a handful of numbers.
struct Adam {
    mean: Vec<f64>,
    square: Vec<f64>,
    steps: i32,
}

impl Adam {
    fn new(count: usize) -> Self {
        Adam { mean: vec![0.0; count], square: vec![0.0; count], steps: 0 }
    }

    fn step(&mut self, slopes: impl Iterator<Item = f64>, rate: f64) -> Vec<f64> {
        self.steps += 1;
        let (first, second) = (1.0 - 0.9f64.powi(self.steps), 1.0 - 0.999f64.powi(self.steps));
        let moments = self.mean.iter_mut().zip(self.square.iter_mut());
        slopes
            .zip(moments)
            .map(|(slope, (mean, square))| {
                *mean = 0.9 * *mean + 0.1 * slope;
                *square = 0.999 * *square + 0.001 * slope * slope;
                rate * (*mean / first) / ((*square / second).sqrt() + 1e-8)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(known: [f32; 2], said: [f64; 2]) -> OutOfFold {
        OutOfFold {
            known: known.to_vec(),
            sources: [said.to_vec(), said.to_vec(), vec![0.5, 0.5]],
            nearest: 0.8,
            source: 0,
        }
    }

    #[test]
    fn estimates_that_say_nothing_get_no_weight() {
        // The first two sources are right, the third is always the mean.
        let items: Vec<OutOfFold> = (0..40)
            .map(|at| if at % 2 == 0 { item([1.0, 0.0], [0.9, 0.1]) } else { item([0.0, 1.0], [0.1, 0.9]) })
            .collect();
        let Join::Outcomes { near, .. } = outcomes(&items, &[], &[0.5, 0.5]) else { panic!("outcomes") };
        assert!(near.contrast[0] + near.contrast[1] > 1.0 && near.contrast[2] == 0.0, "{near:?}");
        let join = outcomes(&items, &[], &[0.5, 0.5]);
        assert!((join.estimate(&items[0].sources, 0.8)[0] - 1.0).abs() < 0.05);
    }

    #[test]
    fn where_choices_on_unseen_sources_lose_the_best_single_class_answers() {
        // Out-of-fold the estimates are right, on unseen sources they are wrong.
        let right: Vec<OutOfFold> = (0..40).map(|_| item([1.0, 0.0], [0.9, 0.4])).collect();
        let wrong: Vec<OutOfFold> = (0..40).map(|_| item([0.0, 1.0], [0.9, 0.4])).collect();
        let Join::Outcomes { far, margin, .. } = outcomes(&right, &wrong, &[0.4, 0.5]) else { panic!("outcomes") };
        let near = Deviation::default();
        let join = Join::Outcomes { mean: vec![0.4, 0.5], near, far, margin, familiar: [0.9, 1.0] };
        assert_eq!(likeliest(&join.estimate(&wrong[0].sources, 0.5)), 1);
    }
}
