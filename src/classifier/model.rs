//! A routing model: one trained version of head, exemplars, join and gate, kept as a folder of files
//! (`models/<name>/<version>/`) or inside the binary.

use super::Inputs;
use super::exemplar::Exemplar;
use super::head::{Head, tensors_from_bytes, tensors_to_bytes};
use super::index::{Hit, Index};
use super::join::{Join, Vote, confidence};
use crate::embedder::{Pooling, Views};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Files of a version, beside the manifest.
pub const FILES: [&str; 3] = ["head.safetensors", "exemplars.jsonl", "space.safetensors"];

/// `manifest.json`: what a version is, and its small numbers.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Manifest {
    pub name: String,
    /// Derived from the data, the recipe and the encoder: the same inputs give the same version.
    pub version: String,
    /// Name of the encoder it was trained on; it works with no other.
    pub encoder: String,
    /// How the encoder was used at training: it must be used so to serve.
    pub pooling: Pooling,
    pub prefix: String,
    /// `embedder.window_chars` and `max_tokens` at training.
    pub window_chars: usize,
    pub max_tokens: usize,
    /// Labels, in the order of every vector of probabilities.
    pub classes: Vec<String>,
    /// The label for prompts on which it abstains.
    pub default_class: String,
    pub vote: Vote,
    pub join: Join,
    /// Confidence below which it abstains.
    pub gate: f64,
    /// What it was trained with.
    pub seed: u64,
    pub exemplars: usize,
}

/// A loaded routing model.
pub struct RoutingModel {
    pub manifest: Manifest,
    pub head: Head,
    pub exemplars: Vec<Exemplar>,
    /// Position in `manifest.classes` of each exemplar's label.
    labels: Vec<usize>,
    index: Index,
}

/// What a routing model makes of a prompt. Probabilities stand in the order of `manifest.classes`.
#[derive(Clone, Debug)]
pub struct Estimate {
    pub head: Vec<f64>,
    pub neighbors: Vec<f64>,
    /// Joined and calibrated.
    pub joined: Vec<f64>,
    /// Nearest exemplars, nearest first.
    pub hits: Vec<Hit>,
    pub confidence: f64,
    /// Whether the prompt is too far from every exemplar.
    pub abstained: bool,
}

impl RoutingModel {
    /// Puts a version together. `space` holds each exemplar's place in the head's space, row after row.
    ///
    /// # Errors
    /// [`Error::Model`] when the parts do not fit one another.
    pub fn assemble(manifest: Manifest, head: Head, exemplars: Vec<Exemplar>, space: Vec<f32>) -> Result<Self> {
        let classes = manifest.classes.len();
        let fits = classes > 0
            && head.output_bias.len() == classes
            && manifest.vote.mean.len() == classes
            && manifest.join.bias.len() == classes
            && space.len() == exemplars.len() * head.width();
        if !fits {
            return Err(Error::Model(format!(
                "routing model {}@{}: its files do not belong together",
                manifest.name, manifest.version
            )));
        }
        let labels = exemplars
            .iter()
            .map(|exemplar| {
                let place = manifest.classes.iter().position(|class| *class == exemplar.class);
                place.ok_or_else(|| {
                    Error::Model(format!("exemplar `{}` has the unknown class `{}`", exemplar.id, exemplar.class))
                })
            })
            .collect::<Result<_>>()?;
        let index = Index::build(head.width(), space);
        Ok(RoutingModel { manifest, head, exemplars, labels, index })
    }

    /// The model inside the binary.
    ///
    /// # Errors
    /// [`Error::Model`] when it is damaged, which a test excludes.
    pub fn builtin() -> Result<Self> {
        let files = builtin::FILES;
        Self::from_files("builtin", |name| {
            let file = files.iter().find(|(file, _)| *file == name);
            file.map(|(_, bytes)| bytes.to_vec())
                .ok_or_else(|| Error::Model(format!("the builtin model has no {name}")))
        })
    }

    /// Loads a version's folder, or the current version of a model's folder.
    ///
    /// # Errors
    /// [`Error::Io`] for a missing file, [`Error::Model`] for a damaged one.
    pub fn load(folder: &Path) -> Result<Self> {
        let current = folder.join("current");
        let folder = match std::fs::read_to_string(&current) {
            Ok(version) => folder.join(version.trim()),
            Err(_) => folder.to_path_buf(),
        };
        Self::from_files(&folder.display().to_string(), |name| {
            std::fs::read(folder.join(name)).map_err(Error::io(folder.join(name)))
        })
    }

    /// `builtin`, or a folder: what `routing.model` and `--model` take.
    ///
    /// # Errors
    /// As [`RoutingModel::load`].
    pub fn open(name: &str) -> Result<Self> {
        match name {
            "builtin" => Self::builtin(),
            folder => Self::load(Path::new(folder)),
        }
    }

    fn from_files(origin: &str, read: impl Fn(&str) -> Result<Vec<u8>>) -> Result<Self> {
        let broken = |file: &str, error: &dyn std::fmt::Display| Error::Model(format!("{origin}/{file}: {error}"));
        let manifest: Manifest =
            serde_json::from_slice(&read("manifest.json")?).map_err(|error| broken("manifest.json", &error))?;
        let head = Head::from_bytes(&read("head.safetensors")?).map_err(|error| broken("head.safetensors", &error))?;
        let exemplars =
            String::from_utf8(read("exemplars.jsonl")?).map_err(|error| broken("exemplars.jsonl", &error))?;
        let exemplars = exemplars
            .lines()
            .map(serde_json::from_str)
            .collect::<std::result::Result<_, _>>()
            .map_err(|error| broken("exemplars.jsonl", &error))?;
        let space = tensors_from_bytes(&read("space.safetensors")?)?
            .remove("space")
            .ok_or_else(|| broken("space.safetensors", &"the tensor `space` is missing"))?;
        Self::assemble(manifest, head, exemplars, space)
    }

    /// Every file of the version, ready to be written: `(name, bytes)`.
    pub fn to_files(&self, space: &[f32]) -> Vec<(&'static str, Vec<u8>)> {
        let exemplars: String = self
            .exemplars
            .iter()
            .map(|exemplar| serde_json::to_string(exemplar).expect("an exemplar serialises") + "\n")
            .collect();
        let manifest = serde_json::to_string_pretty(&self.manifest).expect("a manifest serialises") + "\n";
        let space = tensors_to_bytes(std::iter::once(("space", vec![self.exemplars.len(), self.head.width()], space)));
        vec![
            ("manifest.json", manifest.into_bytes()),
            ("head.safetensors", self.head.to_bytes()),
            ("exemplars.jsonl", exemplars.into_bytes()),
            ("space.safetensors", space),
        ]
    }

    /// `name@version`.
    pub fn title(&self) -> String {
        format!("{}@{}", self.manifest.name, self.manifest.version)
    }

    /// Reads a prompt: `text` is the window its views were made from.
    pub fn estimate(&self, views: &Views, text: &str) -> Estimate {
        self.estimate_inputs(&Inputs::gather(views, text, self.head.buckets()))
    }

    /// As [`RoutingModel::estimate`], from gathered inputs.
    pub fn estimate_inputs(&self, inputs: &Inputs) -> Estimate {
        let output = self.head.forward(inputs);
        let hits = self.index.search(&output.hidden, self.manifest.vote.count);
        let neighbors = self.manifest.vote.estimate(&hits, |position| self.labels[position]);
        let joined = self.manifest.join.estimate(&output.probabilities, &neighbors);
        let confidence = confidence(&joined, &hits);
        Estimate {
            head: output.probabilities,
            neighbors,
            joined,
            hits,
            abstained: confidence < self.manifest.gate,
            confidence,
        }
    }
}

mod builtin {
    include!(concat!(env!("OUT_DIR"), "/builtin.rs"));
}
