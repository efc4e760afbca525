//! How a routing model is trained: the values of `recipe.toml`.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// A training recipe; the meaning of each value stands in `recipe.toml`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    pub width: usize,
    pub buckets: u32,
    pub epochs: usize,
    pub batch: usize,
    pub learning_rate: f64,
    pub weight_decay: f64,
    pub dense_dropout: f64,
    pub ngram_dropout: f64,
    pub view_dropout: f64,
    pub label_smoothing: f64,
    pub folds: usize,
    pub neighbors: usize,
    pub vote_temperature: f64,
    pub vote_shrink: f64,
    pub gate_share: f64,
    pub default_class: String,
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
}
