//! Joins three estimates of a prompt (hidden layer, kernel, neighbors) into one that is calibrated.

use super::head::softmax;
use super::index::Hit;
use serde::{Deserialize, Serialize};

/// A probability below this is not believed: it keeps logarithms finite.
const FLOOR: f64 = 1e-4;

/// How far below the best single class one is put that does not lead it by enough.
const BELOW: f64 = 1e-6;

/// Number of estimates joined.
pub const SOURCES: usize = 3;

/// Estimates of one prompt by the hidden layer, the kernel and the neighbors, one value a class each.
pub type Sources = [Vec<f64>; SOURCES];

/// How the neighbors vote.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Vote {
    /// Neighbors asked.
    pub count: usize,
    /// A neighbor weighs `exp((similarity - 1) / temperature)`.
    pub temperature: f64,
    /// Weight of the mean, toward which few or far neighbors shrink.
    pub shrink: f64,
    /// Mean of each class over the exemplars: its share, or its score.
    pub mean: Vec<f64>,
}

impl Vote {
    /// The neighbors' estimate: weighted means of what is known of them, shrunk toward the mean. `known` gives an
    /// exemplar's label as one-hot, or its scores; NaN where one is unknown.
    pub fn estimate<'a>(&self, hits: &[Hit], known: impl Fn(usize) -> &'a [f32]) -> Vec<f64> {
        let mut sums: Vec<(f64, f64)> = self.mean.iter().map(|mean| (mean * self.shrink, self.shrink)).collect();
        for hit in hits {
            let weight = ((f64::from(hit.similarity) - 1.0) / self.temperature).exp();
            for (sum, value) in sums.iter_mut().zip(known(hit.position)).filter(|(_, value)| !value.is_nan()) {
                *sum = (sum.0 + weight * f64::from(*value), sum.1 + weight);
            }
        }
        sums.iter()
            .zip(&self.mean)
            .map(|((sum, weight), mean)| if *weight > 0.0 { sum / weight } else { *mean })
            .collect()
    }
}

/// The stacker, fitted in `training/stack.rs` on estimates of prompts that none of the three had seen.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(tag = "teaching", rename_all = "lowercase")]
pub enum Join {
    /// `softmax(sum of weight x ln estimate + bias)`.
    Labels { weights: [f64; SOURCES], bias: Vec<f64> },
    /// The mean of each class plus what the estimates say beyond it.
    Outcomes {
        mean: Vec<f64>,
        /// For prompts like those learned from.
        near: Deviation,
        /// For prompts of a source never seen: fitted with whole sources left out.
        far: Deviation,
        /// For those, a class that leads the best single one by less than this is estimated below it.
        #[serde(default)]
        margin: f64,
        /// Similarity of the nearest exemplar that is typical of a prompt of a source never seen, and of one like
        /// those learned from. Between the two the deviations are mixed.
        familiar: [f64; 2],
    },
}

/// What is believed of the estimates' deviation from the mean, apart for the level that all classes share (how hard
/// the prompt is) and for the contrasts between classes (which of them answers it best).
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Deviation {
    pub level: [f64; SOURCES],
    pub contrast: [f64; SOURCES],
}

impl Join {
    /// The joined, calibrated estimate. `nearest` is the similarity of the nearest exemplar.
    pub fn estimate(&self, sources: &Sources, nearest: f64) -> Vec<f64> {
        match self {
            Join::Labels { weights, bias } => {
                let logit = |class: usize| {
                    let said =
                        sources.iter().zip(weights).map(|(source, weight)| weight * source[class].max(FLOOR).ln());
                    said.sum::<f64>() + bias[class]
                };
                softmax(&(0..bias.len()).map(logit).collect::<Vec<_>>())
            }
            Join::Outcomes { mean, near, far, margin, familiar: [strange, usual] } => {
                let trust = ((nearest - strange) / (usual - strange).max(1e-6)).clamp(0.0, 1.0);
                let (near, mut far) = (near.estimate(sources, mean), far.estimate(sources, mean));
                hold(&mut far, mean, *margin);
                near.iter().zip(&far).map(|(near, far)| trust * near + (1.0 - trust) * far).collect()
            }
        }
    }
}

/// Takes from every class a lead over the best single one that is smaller than the margin: of many estimates the best
/// looks better than it is. What lies below the best single class keeps its order.
fn hold(estimates: &mut [f64], mean: &[f64], margin: f64) {
    let single = (0..mean.len()).rev().max_by(|a, b| mean[*a].total_cmp(&mean[*b]));
    let Some((single, bar)) = single.map(|single| (single, estimates[single])) else { return };
    for (class, estimate) in estimates.iter_mut().enumerate() {
        if class != single && *estimate < bar + margin {
            *estimate = estimate.min(bar - BELOW);
        }
    }
}

impl Deviation {
    /// The mean of each class and what is believed beyond it, between 0 and 1.
    fn estimate(&self, sources: &Sources, mean: &[f64]) -> Vec<f64> {
        let mut sum = mean.to_vec();
        for (index, source) in sources.iter().enumerate() {
            let (level, contrasts) = level_and_contrasts(source, mean);
            for (sum, contrast) in sum.iter_mut().zip(contrasts) {
                *sum += self.level[index] * level + self.contrast[index] * contrast;
            }
        }
        sum.iter_mut().for_each(|estimate| *estimate = estimate.clamp(BELOW, 1.0));
        sum
    }
}

/// An estimate's deviation from the mean, taken apart: the mean over the classes, and what each has beyond that.
pub fn level_and_contrasts(estimate: &[f64], mean: &[f64]) -> (f64, Vec<f64>) {
    let deviations: Vec<f64> = estimate.iter().zip(mean).map(|(estimate, mean)| estimate - mean).collect();
    let level = deviations.iter().sum::<f64>() / deviations.len().max(1) as f64;
    (level, deviations.into_iter().map(|deviation| deviation - level).collect())
}

/// Confidence in an estimate. Of labels: the largest probability times the similarity of the nearest exemplar, which
/// separates in-scope from out-of-scope prompts best (CLINC150, see training/README.md). Of outcomes: the similarity.
pub fn confidence(join: &Join, joined: &[f64], nearest: f64) -> f64 {
    match join {
        Join::Labels { .. } => joined.iter().copied().fold(0.0, f64::max) * nearest.max(0.0),
        Join::Outcomes { .. } => nearest.max(0.0),
    }
}

/// Similarity of the nearest exemplar; 0 where there is none.
pub fn nearest(hits: &[Hit]) -> f64 {
    hits.first().map_or(0.0, |hit| f64::from(hit.similarity))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_strange_prompts_small_leads_over_the_best_single_class_are_taken_and_large_ones_kept() {
        let mean = vec![0.5, 0.6, 0.55];
        let believed = Deviation { level: [1.0, 0.0, 0.0], contrast: [1.0, 0.0, 0.0] };
        let join = |margin| Join::Outcomes {
            mean: mean.clone(),
            near: believed.clone(),
            far: believed.clone(),
            margin,
            familiar: [0.9, 1.0],
        };
        // The first class leads the best single one, the second, by 0.1; the third lies 0.2 below it.
        let sources: Sources = [vec![0.7, 0.6, 0.4], vec![0.0; 3], vec![0.0; 3]];
        let free = join(0.05).estimate(&sources, 0.5);
        assert!((free[0] - 0.7).abs() < 1e-9, "{free:?}");
        let held = join(0.2).estimate(&sources, 0.5);
        assert!(held[0] < held[1] && held[2] < held[0], "{held:?}");
        assert!((held[1] - 0.6).abs() < 1e-9 && (held[2] - 0.4).abs() < 1e-9, "{held:?}");
        let familiar = join(0.2).estimate(&sources, 1.0);
        assert!((familiar[0] - 0.7).abs() < 1e-9, "{familiar:?}");
    }
}
