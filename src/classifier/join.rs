//! Joins three estimates of a prompt (hidden layer, kernel, neighbors) into one that is calibrated.

use super::head::softmax;
use super::index::Hit;
use serde::{Deserialize, Serialize};

/// A probability below this is not believed: it keeps logarithms finite.
const FLOOR: f64 = 1e-4;

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
            Join::Outcomes { mean, near, far, familiar: [strange, usual] } => {
                let trust = ((nearest - strange) / (usual - strange).max(1e-6)).clamp(0.0, 1.0);
                let (near, far) = (near.of(sources, mean), far.of(sources, mean));
                let mixed = near.iter().zip(&far).map(|(near, far)| trust * near + (1.0 - trust) * far);
                mean.iter().zip(mixed).map(|(mean, deviation)| (mean + deviation).clamp(0.0, 1.0)).collect()
            }
        }
    }
}

impl Deviation {
    fn of(&self, sources: &Sources, mean: &[f64]) -> Vec<f64> {
        let mut sum = vec![0.0; mean.len()];
        for (index, source) in sources.iter().enumerate() {
            let (level, contrasts) = level_and_contrasts(source, mean);
            for (sum, contrast) in sum.iter_mut().zip(contrasts) {
                *sum += self.level[index] * level + self.contrast[index] * contrast;
            }
        }
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
