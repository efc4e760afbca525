//! Early exits: small classifiers on the encoder's lower layers. What one of them is sure of is decided there, and the
//! rest of the encoder need not run. An exit adds what it says to what those below it said: two that read different
//! layers are seldom wrong alike. Fitted in `training/exit.rs`, of labels alone; each with a confidence from which on it
//! was right about as often as the whole road is (`exit_loss` of the recipe).

use super::head::{add_standard, logits, softmax};
use super::structure;
use crate::embedder::VIEWS;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How many of [`VIEWS`] there are to read where an exit is: those of the embedding alone, and those down to a third, two
/// thirds and five sixths of the layers.
pub const READS: [usize; 4] = [1, 2, 5, 8];

/// When an exit decides.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize, ToSchema)]
pub struct Rule {
    /// How many views it reads, of those of `embedder/views.rs`: the encoder has run so far.
    pub views: usize,
    /// The sum of its logits and of those below is multiplied by this to be calibrated.
    pub sharpness: f64,
    /// The probability of its likeliest class from which on it decides.
    pub confidence: f64,
    /// Share of the calibration prompts that it decided.
    pub share: f64,
    /// Share of those on which the whole road named the same class.
    pub agreement: f64,
}

/// A classifier of one hidden layer, with the formulas of the head's.
#[derive(Clone, Debug, PartialEq)]
pub struct Net {
    /// Mean and inverse deviation of each input.
    pub center: Vec<f32>,
    pub scale: Vec<f32>,
    /// Shape: inputs, hidden.
    pub weights: Vec<f32>,
    /// Shape: hidden.
    pub bias: Vec<f32>,
    /// Shape: hidden, classes.
    pub output: Vec<f32>,
    /// Shape: classes.
    pub output_bias: Vec<f32>,
}

impl Rule {
    /// The probability of each class where the net is sure enough to decide, from its [`Net::sums`]; its logits are added
    /// to `said`, where those of the exits below are, or nothing.
    pub fn decide(&self, net: &Net, sums: Vec<f32>, said: &mut Vec<f32>) -> Option<Vec<f64>> {
        net.add_logits(sums, said);
        let shares = self.shares(said);
        (highest(&shares) >= self.confidence).then_some(shares)
    }

    /// Calibrated probabilities.
    pub fn shares(&self, logits: &[f32]) -> Vec<f64> {
        softmax(&logits.iter().map(|logit| self.sharpness * f64::from(*logit)).collect::<Vec<_>>())
    }
}

/// The largest of some shares.
pub fn highest(shares: &[f64]) -> f64 {
    shares.iter().copied().fold(0.0, f64::max)
}

/// What an exit reads of the head's inputs: the first views, and the structure.
pub fn inputs(all: &[f32], views: usize) -> Vec<f32> {
    let (embedded, structure) = all.split_at(all.len() - structure::WIDTH);
    [&embedded[..embedded.len() / VIEWS.len() * views], structure].concat()
}

impl Net {
    /// The hidden layer's sums, from what [`inputs`] gives.
    pub fn sums(&self, inputs: &[f32]) -> Vec<f32> {
        let mut sums = self.bias.clone();
        add_standard(&mut sums, inputs, &self.center, &self.scale, &self.weights);
        sums
    }

    /// Adds the logit of each class that comes of the sums to those that were said, if any.
    pub fn add_logits(&self, mut sums: Vec<f32>, said: &mut Vec<f32>) {
        said.resize(self.output_bias.len(), 0.0);
        let logits = logits(&mut sums, &self.output, &self.output_bias);
        said.iter_mut().zip(logits).for_each(|(said, logit)| *said += logit);
    }

    /// Its parts: name, shape, values.
    pub fn parts(&self) -> [(&'static str, Vec<usize>, &[f32]); 6] {
        let (inputs, hidden, classes) = (self.center.len(), self.bias.len(), self.output_bias.len());
        [
            ("center", vec![inputs], &self.center),
            ("scale", vec![inputs], &self.scale),
            ("weights", vec![inputs, hidden], &self.weights),
            ("bias", vec![hidden], &self.bias),
            ("output", vec![hidden, classes], &self.output),
            ("output_bias", vec![classes], &self.output_bias),
        ]
    }

    /// Whether its parts fit one another, and views of this width.
    pub fn fits(&self, views: usize, view_width: usize, classes: usize) -> bool {
        let (inputs, hidden) = (self.center.len(), self.bias.len());
        inputs == views * view_width + structure::WIDTH
            && hidden > 0
            && self.scale.len() == inputs
            && self.weights.len() == inputs * hidden
            && self.output.len() == hidden * classes
            && self.output_bias.len() == classes
    }
}
