//! How a routing model is trained: the values of `recipe.toml`.

use crate::classifier::head::Teaching;
use crate::embedder::VIEWS;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// A training recipe; the meaning of each value stands in `recipe.toml`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    pub min_steps: usize,
    pub default_class: String,
    pub exit_hidden: usize,
    pub exit_loss: f64,
    pub exit_doubt: f64,
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
        let wrong = |key: String, problem: String| Error::Config { file: path.display().to_string(), key, problem };
        let recipe: Recipe = toml::from_str(&text).map_err(|error| wrong("recipe".into(), error.message().into()))?;
        let shares = [recipe.exit_loss, recipe.exit_doubt];
        if recipe.exit_hidden == 0 || !shares.iter().all(|share| (0.0..=1.0).contains(share)) {
            let key = "exit_hidden, exit_loss, exit_doubt";
            return Err(wrong(key.into(), "expected at least 1, and shares from 0 to 1".into()));
        }
        for (part, fitting) in [("labels", &recipe.labels), ("outcomes", &recipe.outcomes)] {
            if let Some((key, expected)) = fitting.wrong() {
                return Err(wrong(format!("{part}.{key}"), format!("expected {expected}")));
            }
        }
        Ok(recipe)
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
    /// The first value that nothing can be trained with, and what was expected.
    fn wrong(&self) -> Option<(&'static str, String)> {
        let counts = [
            ("folds", self.folds, 2..=100),
            ("familiar_folds", self.familiar_folds, 2..=100),
            ("hidden", self.hidden, 1..=4_096),
            ("components", self.components, 1..=1_024),
            ("landmarks", self.landmarks, 1..=20_000),
            ("epochs", self.epochs, 0..=10_000),
            ("batch", self.batch, 1..=65_536),
            ("neighbors", self.neighbors, 1..=10_000),
        ];
        let count = counts.into_iter().find(|(_, value, range)| !range.contains(value));
        if let Some((key, _, range)) = count {
            return Some((key, format!("a whole number from {} to {}", range.start(), range.end())));
        }
        let numbers = [
            ("components_share", f64::from(self.components_share), 0.0..=1.0),
            ("dropout", f64::from(self.dropout), 0.0..=0.95),
            ("smoothing", f64::from(self.smoothing), 0.0..=0.9),
            ("reworded", self.reworded, 0.0..=1.0),
            ("gate_share", self.gate_share, 0.0..=0.5),
            ("learning_rate", self.learning_rate, 1e-6..=1.0),
            ("weight_decay", self.weight_decay, 0.0..=10.0),
            ("sharpness", f64::from(self.sharpness), 0.01..=100.0),
            ("ridge", self.ridge, 1e-6..=1e6),
            ("temperature", self.temperature, 1e-3..=100.0),
            ("shrink", self.shrink, 0.0..=1e6),
        ];
        let number = numbers.into_iter().find(|(_, value, range)| !range.contains(value));
        if let Some((key, _, range)) = number {
            return Some((key, format!("a number from {} to {}", range.start(), range.end())));
        }
        let views = self.component_views.iter().all(|weight| weight.is_finite() && *weight >= 0.0);
        (self.component_views.len() != VIEWS.len()
            || !views
            || self.component_views.iter().all(|weight| *weight == 0.0))
        .then(|| ("component_views", format!("{} numbers of 0 and more, not all 0", VIEWS.len())))
    }

    /// Epochs over a number of samples, so that there are at least `min_steps` steps.
    pub fn epochs_for(&self, samples: usize, min_steps: usize) -> usize {
        self.epochs.max(min_steps.div_ceil(samples.div_ceil(self.batch).max(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recipe_that_nothing_can_be_trained_with_is_refused_by_its_key() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let shipped = include_str!("recipe.toml");
        for (from, to, key) in [
            ("hidden = 160 ", "hidden = 0 ", "labels.hidden"),
            ("dropout = 0.7", "dropout = 1.0", "outcomes.dropout"),
            ("temperature = 0.2\nshrink = 0.02", "temperature = nan\nshrink = 0.02", "outcomes.temperature"),
        ] {
            assert!(shipped.contains(from), "{from}");
            std::fs::write(file.path(), shipped.replace(from, to)).expect("written");
            let error = Recipe::load(Some(file.path())).expect_err(key).to_string();
            assert!(error.contains(key) && error.contains("expected"), "{error}");
        }
        std::fs::write(file.path(), shipped).expect("written");
        assert!(Recipe::load(Some(file.path())).is_ok());
    }
}
