//! A routing model: one trained version of head, exemplars, join and gate, kept as a folder of files
//! (`models/<name>/<version>/`) or inside the binary.

use super::exemplar::Exemplar;
use super::exit::{self, Rule, highest};
use super::head::{Head, HeadOutput, Teaching, tensors_from_bytes, tensors_to_bytes};
use super::index::{Hit, Index};
use super::join::{Join, Sources, Vote, confidence, nearest};
use super::packed::Packed;
use super::structure;
use crate::embedder::{Encoder, Pooling, Spent, VIEWS, Views};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use utoipa::ToSchema;

/// Files of a version, beside the manifest.
pub const FILES: [&str; 3] = ["head.safetensors", "exemplars.jsonl", "space.safetensors"];

/// `manifest.json`: what a version is, and its small numbers.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Manifest {
    pub name: String,
    /// Derived from the data, the recipe and the encoder: the same inputs give the same version.
    pub version: String,
    /// Whether labels or outcomes taught it.
    pub teaching: Teaching,
    /// Name of the encoder it was trained on; it works with no other.
    pub encoder: String,
    /// How the encoder was used at training: it must be used so to serve.
    pub pooling: Pooling,
    pub prefix: String,
    /// `embedder.window_chars` and `max_tokens` at training.
    pub window_chars: usize,
    pub max_tokens: usize,
    /// Labels, or names of outcomes, in the order of every vector of probabilities or scores.
    pub classes: Vec<String>,
    /// Mean dollars of an answer of each class in the outcomes it learned from; empty where none is known.
    pub cost: Vec<f64>,
    /// The class for prompts on which it abstains.
    pub default_class: String,
    pub vote: Vote,
    pub join: Join,
    /// Confidence below which it abstains.
    pub gate: f64,
    /// When early exits decide; their nets stand in the head. (The name in the file tells them from those of earlier
    /// versions, each of which decided by itself alone: a model with such has none.)
    #[serde(default, rename = "early_exits")]
    pub exits: Vec<Rule>,
    /// What can be said of decisions at least so confident; absent where no confidence is enough.
    pub assurance: Option<Assurance>,
    /// What it was trained with.
    pub seed: u64,
    pub exemplars: usize,
}

/// "Of decisions at least `confidence` sure, a share of `right` was right on calibration data": out-of-fold, with the
/// finite-sample correction of split-conformal prediction (an unseen one counts as wrong).
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize, ToSchema)]
pub struct Assurance {
    pub right: f64,
    pub confidence: f64,
    /// Share of the calibration prompts that were so confident.
    pub coverage: f64,
}

/// A loaded routing model. A clone is cheap: what is large is shared.
#[derive(Clone)]
pub struct RoutingModel {
    pub manifest: Arc<Manifest>,
    pub head: Arc<Head>,
    pub exemplars: Vec<Arc<Exemplar>>,
    /// What is known of each exemplar, a row each: its label as one-hot, or its scores.
    known: Vec<f32>,
    /// Out-of-fold estimate of each exemplar it was trained on, a row each.
    pub out_of_fold: Arc<Vec<f32>>,
    index: Index,
    packed: Arc<Option<Packed>>,
    /// Another one in each model and each change of it.
    generation: u64,
}

/// The last generation given out.
static GENERATION: AtomicU64 = AtomicU64::new(0);

/// What a routing model makes of a prompt. Probabilities stand in the order of `manifest.classes`.
#[derive(Clone, Debug)]
pub struct Estimate {
    /// By the hidden layer, the kernel, and the neighbors; none where an early exit decided.
    pub sources: Option<Sources>,
    /// Joined and calibrated.
    pub joined: Vec<f64>,
    /// Nearest exemplars, nearest first.
    pub hits: Vec<Hit>,
    pub confidence: f64,
    /// Whether the prompt is too far from every exemplar.
    pub abstained: bool,
    /// The early exit that decided.
    pub exit: Option<Rule>,
}

/// What reading a prompt gave, and what it took.
#[derive(Clone, Debug)]
pub struct Read {
    pub estimate: Estimate,
    pub spent: Spent,
    /// Head, index and join; nothing of an early exit, which is part of the encoding.
    pub classify: Duration,
}

/// A version's parts, as trained or read.
pub struct Parts {
    pub manifest: Manifest,
    pub head: Head,
    pub exemplars: Vec<Exemplar>,
    /// Each exemplar's place in the head's space, row after row.
    pub space: Vec<f32>,
    /// See [`RoutingModel::out_of_fold`].
    pub out_of_fold: Vec<f32>,
}

/// What is known of an exemplar in terms of `classes`: its label as one-hot, or its scores, NaN where one is unknown.
/// `None` when it says nothing about any of them.
pub fn known(exemplar: &Exemplar, classes: &[String], teaching: Teaching) -> Option<Vec<f32>> {
    let value = |class: &String| match teaching {
        Teaching::Labels => f32::from(u8::from(exemplar.class == *class)),
        Teaching::Outcomes => exemplar.score.get(class).map_or(f32::NAN, |score| *score as f32),
    };
    let known: Vec<f32> = classes.iter().map(value).collect();
    let says = match teaching {
        Teaching::Labels => known.contains(&1.0),
        Teaching::Outcomes => known.iter().any(|value| !value.is_nan()),
    };
    says.then_some(known)
}

impl Estimate {
    /// That of an early exit.
    fn early(rule: Rule, joined: Vec<f64>) -> Self {
        let confidence = highest(&joined);
        Estimate { sources: None, hits: Vec::new(), confidence, abstained: false, joined, exit: Some(rule) }
    }
}

impl RoutingModel {
    /// Puts a version together.
    ///
    /// # Errors
    /// [`Error::Model`] when the parts do not fit one another.
    pub fn assemble(parts: Parts) -> Result<Self> {
        let Parts { manifest, head, exemplars, space, out_of_fold } = parts;
        let classes = manifest.classes.len();
        let join = match &manifest.join {
            Join::Labels { bias, .. } => bias.len(),
            Join::Outcomes { mean, .. } => mean.len(),
        };
        let fits = classes > 0
            && head.classes() == classes
            && manifest.vote.mean.len() == classes
            && join == classes
            && (manifest.cost.is_empty() || manifest.cost.len() == classes)
            && manifest.classes.contains(&manifest.default_class)
            && head.exits.len() == manifest.exits.len()
            && head.exits.iter().zip(&manifest.exits).all(|(net, rule)| {
                let view_width = (head.center.len() - structure::WIDTH) / VIEWS.len();
                net.fits(rule.views, view_width, classes)
            })
            && space.len() == exemplars.len() * head.width()
            && out_of_fold.len() == exemplars.len() * classes;
        if !fits {
            return Err(Error::Model(format!(
                "routing model {}@{}: its files do not belong together",
                manifest.name, manifest.version
            )));
        }
        let known = exemplars
            .iter()
            .map(|exemplar| {
                known(exemplar, &manifest.classes, manifest.teaching).ok_or_else(|| unknown_class(exemplar, &manifest))
            })
            .collect::<Result<Vec<_>>>()?
            .concat();
        let index = Index::build(head.width(), space);
        Ok(RoutingModel {
            packed: Arc::new(Packed::of(&head)),
            generation: GENERATION.fetch_add(1, Ordering::Relaxed),
            manifest: Arc::new(manifest),
            head: Arc::new(head),
            exemplars: exemplars.into_iter().map(Arc::new).collect(),
            known,
            out_of_fold: Arc::new(out_of_fold),
            index,
        })
    }

    /// Starts what makes searches among many exemplars fast, on a thread of its own: see [`Index::grow_graph`].
    pub fn grow_graph(&self) {
        let title = self.title();
        self.index.grow_graph(move |placed, of| {
            if placed == of || placed % (of / 10).next_multiple_of(256) == 0 {
                tracing::info!(model = title, placed, of, "building the index; every exemplar is compared meanwhile");
            }
        });
    }

    /// The same model with one more exemplar among the neighbors.
    ///
    /// # Errors
    /// [`Error::Model`] when it says nothing about the model's classes.
    pub fn with(&self, exemplar: Exemplar, views: &Views, text: &str) -> Result<Self> {
        self.with_all([(&Arc::new(exemplar), super::inputs(views, text).as_slice())])
    }

    /// The same model with more exemplars, each with the head's inputs of its prompt: see [`super::inputs`].
    ///
    /// # Errors
    /// As [`RoutingModel::with`].
    pub fn with_all<'a>(&self, added: impl IntoIterator<Item = (&'a Arc<Exemplar>, &'a [f32])>) -> Result<Self> {
        let mut added = added.into_iter().peekable();
        let mut more = if added.peek().is_some() { self.changed() } else { self.clone() };
        for (exemplar, inputs) in added {
            let known = known(exemplar, &self.manifest.classes, self.manifest.teaching)
                .ok_or_else(|| unknown_class(exemplar, &self.manifest))?;
            more.index.add(&self.head_output(inputs).place);
            more.known.extend(known);
            more.exemplars.push(exemplar.clone());
        }
        Ok(more)
    }

    /// The same model without the exemplar of this id among the neighbors; `None` when there is none.
    pub fn without(&self, id: &str) -> Option<Self> {
        self.position(id)?;
        Some(self.without_all(|exemplar| exemplar.id == id))
    }

    /// The same model without those exemplars among the neighbors.
    pub fn without_all(&self, removed: impl Fn(&Exemplar) -> bool) -> Self {
        let gone = self.exemplars.iter().enumerate().filter(|(_, exemplar)| removed(exemplar)).map(|(at, _)| at);
        let mut gone = gone.filter(|at| !self.index.is_removed(*at)).peekable();
        let mut fewer = if gone.peek().is_some() { self.changed() } else { self.clone() };
        gone.for_each(|at| fewer.index.remove(at));
        fewer
    }

    fn changed(&self) -> Self {
        RoutingModel { generation: GENERATION.fetch_add(1, Ordering::Relaxed), ..self.clone() }
    }

    /// The same model with the plain arithmetic it was trained with, which is slower and the same to the bit on every
    /// machine: for measuring. What serves rounds some weights.
    #[must_use]
    pub fn exact(self) -> Self {
        RoutingModel { packed: Arc::new(None), ..self }
    }

    /// A number that no other model has, nor this one before exemplars were added or removed.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The exemplar of this id among the neighbors, if it is there.
    pub fn exemplar(&self, id: &str) -> Option<&Arc<Exemplar>> {
        self.position(id).map(|position| &self.exemplars[position])
    }

    /// The exemplars among the neighbors.
    pub fn active(&self) -> impl DoubleEndedIterator<Item = &Arc<Exemplar>> {
        self.exemplars.iter().enumerate().filter(|(at, _)| !self.index.is_removed(*at)).map(|(_, exemplar)| exemplar)
    }

    fn position(&self, id: &str) -> Option<usize> {
        (0..self.exemplars.len()).rev().find(|at| self.exemplars[*at].id == id && !self.index.is_removed(*at))
    }

    /// What is known of an exemplar of the model, in the order of the classes.
    pub fn known(&self, position: usize) -> &[f32] {
        let classes = self.manifest.classes.len();
        &self.known[position * classes..(position + 1) * classes]
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

    /// The files of the model inside the binary, ready to be written: `(name, bytes)`.
    pub fn builtin_files() -> Vec<(&'static str, Vec<u8>)> {
        builtin::FILES.iter().map(|(name, bytes)| (*name, bytes.to_vec())).collect()
    }

    /// The version of the model inside the binary.
    pub fn builtin_version() -> Option<String> {
        let (_, manifest) = builtin::FILES.iter().find(|(name, _)| *name == "manifest.json")?;
        let manifest: serde_json::Value = serde_json::from_slice(manifest).ok()?;
        Some(manifest.get("version")?.as_str()?.into())
    }

    /// Loads a version's folder, or the current version of a model's folder.
    ///
    /// # Errors
    /// [`Error::Io`] for a missing file, [`Error::Model`] for a damaged one.
    pub fn load(folder: &Path) -> Result<Self> {
        let current = folder.join("current");
        let folder = match std::fs::read_to_string(&current) {
            Ok(served) => folder.join(served.lines().next().unwrap_or_default().trim()),
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
        let mut head = Head::from_bytes(&read("head.safetensors")?, manifest.teaching)
            .map_err(|error| broken("head.safetensors", &error))?;
        if manifest.exits.is_empty() {
            head.exits.clear();
        }
        let exemplars =
            String::from_utf8(read("exemplars.jsonl")?).map_err(|error| broken("exemplars.jsonl", &error))?;
        let exemplars = exemplars
            .lines()
            .map(serde_json::from_str)
            .collect::<std::result::Result<_, _>>()
            .map_err(|error| broken("exemplars.jsonl", &error))?;
        let mut tensors = tensors_from_bytes(&read("space.safetensors")?)?;
        let mut take = |name: &str| {
            tensors.remove(name).ok_or_else(|| broken("space.safetensors", &format!("the tensor `{name}` is missing")))
        };
        let (space, out_of_fold) = (take("space")?, take("out_of_fold")?);
        Self::assemble(Parts { manifest, head, exemplars, space, out_of_fold })
    }

    /// `name@version`.
    pub fn title(&self) -> String {
        format!("{}@{}", self.manifest.name, self.manifest.version)
    }

    /// What the exit that reads so many views says of them. None do while exemplars are added or removed: they know
    /// nothing of these.
    fn leave(&self, views: usize, inputs: impl Fn() -> Vec<f32>, said: &mut Vec<f32>) -> Option<Estimate> {
        let at = self.manifest.exits.iter().position(|rule| rule.views == views && self.index.is_as_built())?;
        let (rule, net) = (self.manifest.exits[at], &self.head.exits[at]);
        let sums = match &*self.packed {
            Some(packed) => packed.exit_sums(at, net, &inputs()),
            None => net.sums(&inputs()),
        };
        rule.decide(net, sums, said).map(|joined| Estimate::early(rule, joined))
    }

    fn head_output(&self, inputs: &[f32]) -> HeadOutput {
        match &*self.packed {
            Some(packed) => packed.forward(&self.head, inputs),
            None => self.head.forward(inputs),
        }
    }

    /// Reads a text that has been cut to its window. With `early`, an early exit that is sure of it decides.
    ///
    /// # Errors
    /// As [`Encoder::embed`].
    pub fn read(&self, encoder: &Encoder, text: &str, early: bool) -> Result<Read> {
        let structure = structure::of(text);
        let (mut left, mut said) = (None, Vec::new());
        let (views, spent) = encoder.embed_until(text, &mut |views| {
            if early {
                left = self.leave(views.len(), || super::gather(views, &structure), &mut said);
            }
            left.is_some()
        })?;
        let classifying = Instant::now();
        let whole = || self.estimate_inputs(&super::gather(&views, &structure));
        let estimate = left.unwrap_or_else(whole);
        Ok(Read { estimate, spent, classify: classifying.elapsed() })
    }

    /// As [`RoutingModel::read`] with early exits, from the inputs of the whole road.
    pub fn read_inputs(&self, inputs: &[f32]) -> Estimate {
        let mut said = Vec::new();
        let mut exits = self.manifest.exits.iter().map(|rule| rule.views);
        let decided = exits.find_map(|views| self.leave(views, || exit::inputs(inputs, views), &mut said));
        decided.unwrap_or_else(|| self.estimate_inputs(inputs))
    }

    /// Estimates a prompt: `text` is the window its views were made from.
    pub fn estimate(&self, views: &Views, text: &str) -> Estimate {
        self.estimate_inputs(&super::inputs(views, text))
    }

    /// As [`RoutingModel::estimate`], from gathered inputs.
    pub fn estimate_inputs(&self, inputs: &[f32]) -> Estimate {
        let output = self.head_output(inputs);
        let hits = self.index.search(&output.place, self.manifest.vote.count);
        let neighbors = self.manifest.vote.estimate(&hits, |position| self.known(position));
        let sources = [output.deep, output.kernel, neighbors];
        let join = &self.manifest.join;
        let joined = join.estimate(&sources, nearest(&hits));
        let confidence = confidence(join, &joined, nearest(&hits));
        Estimate {
            sources: Some(sources),
            joined,
            hits,
            abstained: confidence < self.manifest.gate,
            confidence,
            exit: None,
        }
    }
}

impl Parts {
    /// Every file of the version, ready to be written: `(name, bytes)`.
    pub fn to_files(&self) -> Vec<(&'static str, Vec<u8>)> {
        let exemplars: String = self
            .exemplars
            .iter()
            .map(|exemplar| serde_json::to_string(exemplar).expect("an exemplar serialises") + "\n")
            .collect();
        let manifest = serde_json::to_string_pretty(&self.manifest).expect("a manifest serialises") + "\n";
        let rows = self.exemplars.len();
        let tensors = [
            ("space", vec![rows, self.head.width()], self.space.as_slice()),
            ("out_of_fold", vec![rows, self.manifest.classes.len()], self.out_of_fold.as_slice()),
        ];
        vec![
            ("manifest.json", manifest.into_bytes()),
            ("head.safetensors", self.head.to_bytes()),
            ("exemplars.jsonl", exemplars.into_bytes()),
            ("space.safetensors", tensors_to_bytes(tensors.into_iter(), std::iter::empty())),
        ]
    }
}

fn unknown_class(exemplar: &Exemplar, manifest: &Manifest) -> Error {
    let classes = manifest.classes.join(", ");
    Error::Model(match manifest.teaching {
        Teaching::Labels => format!(
            "exemplar `{}` has the class `{}`, which the model does not know; expected one of {classes}",
            exemplar.id, exemplar.class
        ),
        Teaching::Outcomes => format!("exemplar `{}` has no score of any of {classes}", exemplar.id),
    })
}

mod builtin {
    include!(concat!(env!("OUT_DIR"), "/builtin.rs"));
}
