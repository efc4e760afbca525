//! Training a routing model: embeddings (`embeddings.rs`) → head (`fit.rs`) → out-of-fold estimates → join and
//! calibration (`stack.rs`) → gate → a version, measured on held-out exemplars (`report.rs`).
//!
//! Same data, recipe and seed give the same bytes. training/README.md has the result to expect.

pub mod embeddings;
pub mod fit;
pub mod recipe;
pub mod report;
pub mod stack;

use crate::classifier::head::Head;
use crate::classifier::index::Index;
use crate::classifier::join::{Vote, confidence};
use crate::classifier::model::{Manifest, RoutingModel};
use crate::classifier::{Exemplar, Inputs};
use crate::embedder::EncoderSpec;
use crate::error::{Error, Result};
use crate::weights::{hash_file, hex};
use indicatif::{ProgressBar, ProgressStyle};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use recipe::Recipe;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;

/// A labelled prompt as the head reads it.
#[derive(Clone)]
pub struct Sample {
    pub inputs: Inputs,
    /// Position of its label in the classes.
    pub label: usize,
}

/// A trained version, and each exemplar's place in its space.
pub struct Trained {
    pub model: RoutingModel,
    pub space: Vec<f32>,
}

/// What a version is trained on.
pub struct Task<'a> {
    pub name: &'a str,
    pub exemplars: &'a [Exemplar],
    pub inputs: &'a [Inputs],
    pub recipe: &'a Recipe,
    pub seed: u64,
    pub encoder: &'a EncoderSpec,
    pub window_chars: usize,
}

/// Out-of-fold estimates of one prompt: made by a head and an index that never saw it.
pub struct OutOfFold {
    pub label: usize,
    pub head: Vec<f64>,
    pub neighbors: Vec<f64>,
    pub nearest: f64,
}

/// Trains a version. `progress` is told each step.
///
/// # Errors
/// [`Error::Model`] when the data cannot teach anything: fewer than two classes, or fewer exemplars than folds.
pub fn train(task: &Task<'_>, progress: &ProgressBar) -> Result<Trained> {
    let classes: Vec<String> =
        task.exemplars.iter().map(|exemplar| exemplar.class.clone()).collect::<BTreeSet<_>>().into_iter().collect();
    if classes.len() < 2 || task.exemplars.len() < 2 * task.recipe.folds {
        return Err(Error::Model(format!(
            "cannot train on {} exemplars of {} classes: expected at least 2 classes and {} exemplars",
            task.exemplars.len(),
            classes.len(),
            2 * task.recipe.folds
        )));
    }
    let samples = samples(task, &classes);
    let folds = folds(samples.len(), task.recipe.folds, task.seed);
    progress.set_length(((task.recipe.folds + 1) * task.recipe.epochs) as u64);

    let mut out_of_fold = Vec::new();
    for fold in 0..task.recipe.folds {
        progress.set_message(format!("fold {} of {}", fold + 1, task.recipe.folds));
        let (inside, outside): (Vec<_>, Vec<_>) = samples.iter().zip(&folds).partition(|(_, at)| **at != fold);
        let inside: Vec<Sample> = inside.into_iter().map(|(sample, _)| sample.clone()).collect();
        let outside: Vec<&Sample> = outside.into_iter().map(|(sample, _)| sample).collect();
        out_of_fold.extend(estimate_outside(&inside, &outside, classes.len(), task, progress)?);
    }
    let join = stack::fit(&out_of_fold, classes.len());
    let mut confidences: Vec<f64> = out_of_fold.iter().map(|item| stack::confidence_of(&join, item)).collect();
    confidences.sort_by(f64::total_cmp);
    let gate = confidences[(confidences.len() as f64 * task.recipe.gate_share) as usize];

    progress.set_message("final");
    let head = fit::fit(&samples, classes.len(), task.recipe, task.seed, progress)?;
    let space: Vec<f32> = samples.iter().flat_map(|sample| head.forward(&sample.inputs).hidden).collect();
    let manifest = Manifest {
        name: task.name.into(),
        version: version(task)?,
        encoder: task.encoder.name.clone(),
        pooling: task.encoder.pooling,
        prefix: task.encoder.prefix.clone(),
        window_chars: task.window_chars,
        max_tokens: task.encoder.max_tokens,
        default_class: if classes.contains(&task.recipe.default_class) {
            task.recipe.default_class.clone()
        } else {
            most_common(&samples, &classes)
        },
        vote: vote(&samples, classes.len(), task.recipe),
        join,
        gate,
        seed: task.seed,
        exemplars: samples.len(),
        classes,
    };
    let model = RoutingModel::assemble(manifest, head, task.exemplars.to_vec(), space.clone())?;
    Ok(Trained { model, space })
}

/// Estimates for `outside` by a head and an index made of `inside` alone.
pub fn estimate_outside(
    inside: &[Sample],
    outside: &[&Sample],
    classes: usize,
    task: &Task<'_>,
    progress: &ProgressBar,
) -> Result<Vec<OutOfFold>> {
    let head: Head = fit::fit(inside, classes, task.recipe, task.seed, progress)?;
    let space = inside.iter().flat_map(|sample| head.forward(&sample.inputs).hidden).collect();
    let index = Index::build(head.width(), space);
    let vote = vote(inside, classes, task.recipe);
    let estimate = |sample: &&Sample| {
        let output = head.forward(&sample.inputs);
        let hits = index.search(&output.hidden, vote.count);
        OutOfFold {
            label: sample.label,
            neighbors: vote.estimate(&hits, |position| inside[position].label),
            nearest: confidence(&[1.0], &hits),
            head: output.probabilities,
        }
    };
    Ok(outside.iter().map(estimate).collect())
}

/// The samples of a task, labels as positions in `classes`.
pub fn samples(task: &Task<'_>, classes: &[String]) -> Vec<Sample> {
    let label = |exemplar: &Exemplar| {
        classes.iter().position(|class| *class == exemplar.class).expect("classes hold every label")
    };
    task.exemplars
        .iter()
        .zip(task.inputs)
        .map(|(exemplar, inputs)| Sample { inputs: inputs.clone(), label: label(exemplar) })
        .collect()
}

/// The encoder's progress bar, and the trainer's.
pub fn progress_bar(length: u64, unit: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(&format!("{{msg:20!}} {{bar:30}} {{pos:>6}}/{{len:6}} {unit} {{eta:>4}}"));
    ProgressBar::new(length).with_style(style.expect("the template is valid"))
}

fn vote(samples: &[Sample], classes: usize, recipe: &Recipe) -> Vote {
    let mut mean = vec![0.0; classes];
    samples.iter().for_each(|sample| mean[sample.label] += 1.0 / samples.len() as f64);
    Vote { count: recipe.neighbors, temperature: recipe.vote_temperature, shrink: recipe.vote_shrink, mean }
}

fn most_common(samples: &[Sample], classes: &[String]) -> String {
    let count = |label: usize| samples.iter().filter(|sample| sample.label == label).count();
    let most = (0..classes.len()).max_by_key(|label| count(*label)).expect("at least two classes");
    classes[most].clone()
}

/// A fold for each sample, at random.
fn folds(count: usize, folds: usize, seed: u64) -> Vec<usize> {
    let mut assigned: Vec<usize> = (0..count).map(|index| index % folds).collect();
    assigned.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    assigned
}

/// The version: a hash of everything that goes in, so that the same inputs have the same name.
fn version(task: &Task<'_>) -> Result<String> {
    let mut hash = Sha256::new();
    hash.update(serde_json::to_vec(task.recipe).expect("a recipe serialises"));
    hash.update(task.seed.to_le_bytes());
    hash.update(format!("{:?}|{}", task.encoder.pooling, task.encoder.prefix));
    hash.update((task.window_chars as u64).to_le_bytes());
    hash.update((task.encoder.max_tokens as u64).to_le_bytes());
    hash.update(hash_file(&task.encoder.folder.join("model.safetensors"))?);
    for exemplar in task.exemplars {
        hash.update(serde_json::to_vec(exemplar).expect("an exemplar serialises"));
    }
    Ok(hex(&hash.finalize())[..12].to_string())
}
