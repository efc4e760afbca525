//! How a routing model is trained: the values of `recipe.toml`.

use crate::classifier::head::Teaching;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// A training recipe; the meaning of each value stands in `recipe.toml`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    pub min_steps: usize,
    pub default_class: String,
    pub labels: Fitting,
    pub outcomes: Fitting,
}

/// The part that differs between labels and outcomes.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Fitting {
    pub folds: usize,
    pub familiar_folds: usize,
    pub hidden: usize,
    pub components: usize,
    pub components_share: f32,
    pub epochs: usize,
    pub batch: usize,
    pub learning_rate: f64,
    pub weight_decay: f64,
    pub component_views: Vec<f32>,
    pub landmarks: usize,
    pub sharpness: f32,
    pub ridge: f64,
    pub reworded: f64,
    pub dropout: f32,
    pub smoothing: f32,
    pub neighbors: usize,
    pub temperature: f64,
    pub shrink: f64,
    pub gate_share: f64,
}

impl Recipe {
    /// The shipped recipe, or the one in `file`.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Config`] when the file cannot be read or does not fit.
    pub fn load(file: Option<&Path>) -> Result<Self> {
        let Some(path) = file else { return Ok(Self::shipped()) };
        let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
        toml::from_str(&text).map_err(|error| Error::Config {
            file: path.display().to_string(),
            key: "recipe".into(),
            problem: error.message().into(),
        })
    }

    /// The shipped recipe.
    pub fn shipped() -> Self {
        toml::from_str(include_str!("recipe.toml")).expect("the shipped recipe parses")
    }

    /// The part for a kind of teaching.
    pub fn fitting(&self, teaching: Teaching) -> &Fitting {
        match teaching {
            Teaching::Labels => &self.labels,
            Teaching::Outcomes => &self.outcomes,
        }
    }
}

impl Fitting {
    /// Epochs over a number of samples, so that there are at least `min_steps` steps.
    pub fn epochs_for(&self, samples: usize, min_steps: usize) -> usize {
        self.epochs.max(min_steps.div_ceil(samples.div_ceil(self.batch).max(1)))
    }
}
