//! Training a routing model: embeddings (`embeddings.rs`), also of prompts reworded (`reword.rs`) → head (`fit.rs`, `hidden.rs`, `kernel.rs`) → estimates of prompts unseen → join and
//! calibration (`stack.rs`) → gate → a version, measured (`report.rs`, `measure/`) and compared with the one before it
//! (`compare.rs`).
//!
//! Same data, recipe and seed give the same bytes. training/README.md has the result to expect.

pub mod compare;
pub mod embeddings;
mod exit;
pub mod fit;
pub mod hidden;
pub mod kernel;
pub mod measure;
pub mod parallel;
pub mod recipe;
pub mod report;
pub mod reword;
pub mod stack;
pub mod versions;

use crate::classifier::Exemplar;
use crate::classifier::exit::READS;
use crate::classifier::head::{Head, Teaching};
use crate::classifier::index::Index;
use crate::classifier::join::{Join, Sources, Vote, confidence, nearest};
use crate::classifier::model::{Assurance, Manifest, Parts, known};
use crate::embedder::EncoderSpec;
use crate::error::{Error, Result};
use crate::weights::{hash_file, hex};
use indicatif::{ProgressBar, ProgressStyle};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use recipe::Recipe;
use report::likeliest;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};

/// Sources from which on (and as many as there are folds) estimates are also made of sources never seen.
const SOURCES_TO_LEAVE_OUT: usize = 4;

/// Raised when the same data, recipe and seed give another model than before.
const METHOD: u32 = 8;

/// The share of decisions for whose being right a confidence is looked up.
const ASSURED: f64 = 0.95;

/// What is learned from: inputs and what is known of each prompt, in terms of the classes. Rows are the exemplars, and
/// behind them those that stand there once more, reworded.
pub struct Lesson<'a> {
    pub teaching: Teaching,
    inputs: &'a [Vec<f32>],
    known: Vec<Vec<f32>>,
    reworded: &'a [Reworded],
}

/// The head's inputs of an exemplar in other words around the same request.
#[derive(Clone, Debug)]
pub struct Reworded {
    /// Position of the exemplar.
    pub of: usize,
    pub inputs: Vec<f32>,
}

/// What a version is trained on.
pub struct Task<'a> {
    pub name: &'a str,
    pub exemplars: &'a [Exemplar],
    pub inputs: &'a [Vec<f32>],
    pub reworded: &'a [Reworded],
    pub recipe: &'a Recipe,
    pub seed: u64,
    pub encoder: &'a EncoderSpec,
    pub window_chars: usize,
}

/// Estimates of one prompt by a head and an index that never saw it.
#[derive(Clone, Debug)]
pub struct OutOfFold {
    pub known: Vec<f32>,
    pub sources: Sources,
    /// Similarity of the nearest exemplar.
    pub nearest: f64,
    /// A number for its source.
    pub source: usize,
}

/// Trains a version. `progress` is told each epoch.
///
/// # Errors
/// [`Error::Model`] when the data cannot teach anything: fewer than two classes, or fewer exemplars than folds.
pub fn train(task: &Task<'_>, progress: &ProgressBar) -> Result<Parts> {
    let (teaching, classes) = classes(task.exemplars);
    let folds = task.recipe.fitting(teaching).folds;
    if classes.len() < 2 || task.exemplars.len() < 2 * folds {
        return Err(Error::Model(format!(
            "cannot train on {} exemplars of {} classes: expected at least 2 classes and {} exemplars",
            task.exemplars.len(),
            classes.len(),
            2 * folds
        )));
    }
    let lesson = Lesson::of(task, teaching, &classes)?;
    lesson.check_known(&classes, 2 * folds)?;
    let all: Vec<usize> = (0..task.exemplars.len()).collect();
    let fitting = task.recipe.fitting(teaching);
    let rounds = if enough_sources(task, teaching) { folds + fitting.familiar_folds } else { folds } + 1;
    let rounds = if teaching == Teaching::Labels { rounds + READS.len() * (folds + 1) } else { rounds };
    progress.set_length((rounds * fitting.epochs_for(lesson.rows(), task.recipe.min_steps)) as u64);
    let crossed = Crossed::of(&lesson, task, None, None, progress)?;
    let near = match teaching {
        // They say most of prompts to come, which are of no source seen.
        Teaching::Labels if !crossed.strange.is_empty() => &crossed.strange,
        _ => &crossed.familiar,
    };
    let mean: Vec<f64> = lesson.means(&all).into_iter().map(f64::from).collect();
    let join = crossed.join(teaching, &mean, |_| true);
    let joined: Vec<Vec<f64>> = near.iter().map(|item| join.estimate(&item.sources, item.nearest)).collect();
    let sure: Vec<f64> =
        near.iter().zip(&joined).map(|(item, joined)| confidence(&join, joined, item.nearest)).collect();

    progress.set_message("final");
    let mut head = fit::fit(&lesson, &all, task.recipe, task.seed, progress)?;
    let exits = match teaching {
        Teaching::Labels => {
            let by = if crossed.strange.is_empty() { By::Unit } else { By::Source };
            exit::fit(&lesson, task, &Crossed::folds(task, teaching, by), &joined, progress)?
        }
        Teaching::Outcomes => Vec::new(),
    };
    let exits: (Vec<_>, Vec<_>) = exits.into_iter().unzip();
    head.exits = exits.1;
    let head = head.stored();
    let space = crate::classifier::head::stored(task.inputs.iter().flat_map(|x| head.forward(x).place).collect());
    let manifest = Manifest {
        name: task.name.into(),
        version: version(task, teaching)?,
        teaching,
        encoder: task.encoder.name.clone(),
        pooling: task.encoder.pooling,
        prefix: task.encoder.prefix.clone(),
        window_chars: task.window_chars,
        max_tokens: task.encoder.max_tokens,
        cost: costs(task.exemplars, &classes),
        default_class: default_class(teaching, &classes, &mean, task.recipe),
        vote: vote(&lesson, &all, task.recipe),
        join,
        gate: lowest(&sure, fitting.gate_share),
        exits: exits.0,
        assurance: (teaching == Teaching::Labels).then(|| assurance(near, &joined, &sure)).flatten(),
        seed: task.seed,
        exemplars: all.len(),
        classes,
    };
    let out_of_fold = crate::classifier::head::stored(joined.iter().flatten().map(|x| *x as f32).collect());
    Ok(Parts { manifest, head, exemplars: task.exemplars.to_vec(), space, out_of_fold })
}

/// What exemplars teach, and the classes they name: labels alone, or outcomes where any has scores.
pub fn classes(exemplars: &[Exemplar]) -> (Teaching, Vec<String>) {
    let scored: BTreeSet<&String> = exemplars.iter().flat_map(|exemplar| exemplar.score.keys()).collect();
    let labels: BTreeSet<&String> = exemplars.iter().map(|exemplar| &exemplar.class).collect();
    let (teaching, names) = if scored.is_empty() { (Teaching::Labels, labels) } else { (Teaching::Outcomes, scored) };
    (teaching, names.into_iter().cloned().collect())
}

/// What rows of one fold share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// Their group of near-duplicates.
    Unit,
    /// Their source: how a prompt of one never seen fares.
    Source,
}

/// Every row estimated by models that never saw it.
pub struct Crossed {
    /// By models that never saw its group.
    pub familiar: Vec<OutOfFold>,
    /// With enough sources: by models that never saw its source. Prompts to come are of none of them.
    pub strange: Vec<OutOfFold>,
}

impl Crossed {
    /// Estimates by folds; where it is `measured` how rows of one fold fare, in as many folds as the recipe has for all.
    /// `per_label` bounds the exemplars of each label that are learned from.
    ///
    /// # Errors
    /// As [`fit::fit`].
    pub fn of(
        lesson: &Lesson<'_>,
        task: &Task<'_>,
        measured: Option<By>,
        per_label: Option<usize>,
        progress: &ProgressBar,
    ) -> Result<Self> {
        let strange = enough_sources(task, lesson.teaching) || measured == Some(By::Source);
        let estimates = |folds: Vec<usize>| estimates(lesson, &folds, task, per_label, progress);
        let fitting = task.recipe.fitting(lesson.teaching);
        let few = strange && measured != Some(By::Unit);
        let familiar_folds = if few { fitting.familiar_folds } else { fitting.folds };
        Ok(Crossed {
            familiar: estimates(split(task.exemplars, Exemplar::unit, familiar_folds, task.seed))?,
            strange: if strange { estimates(Self::folds(task, lesson.teaching, By::Source))? } else { Vec::new() },
        })
    }

    /// The folds of a task.
    pub fn folds(task: &Task<'_>, teaching: Teaching, by: By) -> Vec<usize> {
        let folds = task.recipe.fitting(teaching).folds;
        match by {
            By::Unit => split(task.exemplars, Exemplar::unit, folds, task.seed),
            By::Source => split(task.exemplars, |exemplar| &exemplar.source, folds, task.seed),
        }
    }

    /// The join fitted on some of the rows. That of labels is fitted on both kinds of estimates together: on those of
    /// seen sources alone neighbors look better than they will be, on the others alone worse.
    pub fn join(&self, teaching: Teaching, mean: &[f64], some: impl Fn(usize) -> bool) -> Join {
        let pick = |items: &[OutOfFold]| -> Vec<OutOfFold> {
            items.iter().enumerate().filter(|(row, _)| some(*row)).map(|(_, item)| item.clone()).collect()
        };
        let (familiar, strange) = (pick(&self.familiar), pick(&self.strange));
        match teaching {
            Teaching::Labels => stack::labels(&[familiar, strange].concat(), mean.len()),
            Teaching::Outcomes => stack::outcomes(&familiar, &strange, mean),
        }
    }
}

fn enough_sources(task: &Task<'_>, teaching: Teaching) -> bool {
    let sources: BTreeSet<&str> = task.exemplars.iter().map(|exemplar| exemplar.source.as_str()).collect();
    sources.len() >= SOURCES_TO_LEAVE_OUT.max(task.recipe.fitting(teaching).folds)
}

/// Estimates of every row by a head and an index made of the other folds; in the order of the rows.
fn estimates(
    lesson: &Lesson<'_>,
    folds: &[usize],
    task: &Task<'_>,
    per_label: Option<usize>,
    progress: &ProgressBar,
) -> Result<Vec<OutOfFold>> {
    let count = folds.iter().max().map_or(0, |last| last + 1);
    progress.set_message(format!("{count} folds"));
    let one = |fold: &usize| -> Result<Vec<(usize, OutOfFold)>> {
        let (outside, mut inside): (Vec<usize>, Vec<usize>) = (0..folds.len()).partition(|row| folds[*row] == *fold);
        if let Some(most) = per_label {
            let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
            inside.retain(|row| {
                let seen = seen.entry(task.exemplars[*row].class.as_str()).or_default();
                *seen += 1;
                *seen <= most
            });
        }
        if outside.is_empty() || inside.is_empty() {
            return Ok(Vec::new());
        }
        let estimated = estimate_outside(lesson, &inside, &outside, task, progress)?;
        Ok(outside.into_iter().zip(estimated).collect())
    };
    let cores = crate::config::cores();
    let done = parallel::in_order(&(0..count).collect::<Vec<_>>(), cores, one)?;
    let mut all: Vec<(usize, OutOfFold)> = done.into_iter().collect::<Result<Vec<_>>>()?.concat();
    all.sort_by_key(|(row, _)| *row);
    Ok(all.into_iter().map(|(_, item)| item).collect())
}

/// Estimates for the rows `outside` by a head and an index made of `inside` alone.
///
/// # Errors
/// As [`fit::fit`].
pub fn estimate_outside(
    lesson: &Lesson<'_>,
    inside: &[usize],
    outside: &[usize],
    task: &Task<'_>,
    progress: &ProgressBar,
) -> Result<Vec<OutOfFold>> {
    let head: Head = fit::fit(lesson, inside, task.recipe, task.seed, progress)?;
    let space = inside.iter().flat_map(|row| head.forward(lesson.inputs(*row)).place).collect();
    let index = Index::build(head.width(), space);
    let vote = vote(lesson, inside, task.recipe);
    let sources: BTreeSet<&str> = task.exemplars.iter().map(|exemplar| exemplar.source.as_str()).collect();
    let sources: Vec<&str> = sources.into_iter().collect();
    let estimate = |row: &usize| {
        let output = head.forward(lesson.inputs(*row));
        let hits = index.search(&output.place, vote.count);
        let neighbors = vote.estimate(&hits, |position| lesson.known(inside[position]));
        OutOfFold {
            known: lesson.known(*row).to_vec(),
            sources: [output.deep, output.kernel, neighbors],
            nearest: nearest(&hits),
            source: sources.binary_search(&task.exemplars[*row].source.as_str()).unwrap_or_default(),
        }
    };
    Ok(outside.iter().map(estimate).collect())
}

impl<'a> Lesson<'a> {
    /// What a task's exemplars teach about classes.
    ///
    /// # Errors
    /// [`Error::Model`] naming an exemplar that says nothing about them.
    pub fn of(task: &Task<'a>, teaching: Teaching, classes: &[String]) -> Result<Self> {
        let row = |exemplar: &Exemplar| {
            known(exemplar, classes, teaching).ok_or_else(|| {
                Error::Model(format!("`{}` has no score, but others have: give it one, or leave it out", exemplar.id))
            })
        };
        let known = task.exemplars.iter().map(row).collect::<Result<_>>()?;
        Ok(Lesson { teaching, inputs: task.inputs, known, reworded: task.reworded })
    }

    /// Refuses outcomes of which a name is known on too few prompts: of many such means the best looks far better than it is.
    fn check_known(&self, classes: &[String], least: usize) -> Result<()> {
        for (at, class) in classes.iter().enumerate().filter(|_| self.teaching == Teaching::Outcomes) {
            let known = self.known.iter().filter(|row| !row[at].is_nan()).count();
            if known < least {
                return Err(Error::Model(format!(
                    "`{class}` has scores on {known} of {} prompts: expected at least {least}; leave it out, or map it onto another name (--map)",
                    self.known.len()
                )));
            }
        }
        Ok(())
    }

    /// The head's inputs of a row.
    pub fn inputs(&self, row: usize) -> &[f32] {
        match self.inputs.get(row) {
            Some(inputs) => inputs,
            None => &self.reworded[row - self.inputs.len()].inputs,
        }
    }

    /// What is known of a row, one value a class; NaN where it is not.
    pub fn known(&self, row: usize) -> &[f32] {
        &self.known[if row < self.known.len() { row } else { self.reworded[row - self.known.len()].of }]
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.inputs.len() + self.reworded.len()
    }

    /// Some exemplars, and behind them the same ones reworded.
    pub fn with_reworded(&self, rows: &[usize]) -> Vec<usize> {
        let chosen: BTreeSet<usize> = rows.iter().copied().collect();
        let behind = self.reworded.iter().enumerate().filter(|(_, reworded)| chosen.contains(&reworded.of));
        rows.iter().copied().chain(behind.map(|(at, _)| self.inputs.len() + at)).collect()
    }

    /// Mean of each class over some rows, of what is known.
    pub fn means(&self, rows: &[usize]) -> Vec<f32> {
        let classes = self.known.first().map_or(0, Vec::len);
        let mean = |class: usize| {
            let known = rows.iter().map(|row| self.known(*row)[class]).filter(|value| !value.is_nan());
            let (sum, count) = known.fold((0.0f64, 0usize), |(sum, count), value| (sum + f64::from(value), count + 1));
            if count == 0 { 0.0 } else { (sum / count as f64) as f32 }
        };
        (0..classes).map(mean).collect()
    }
}

/// A fold for each exemplar, at random by what `key` names: exemplars of one key share a fold.
pub fn split<'a>(
    exemplars: &'a [Exemplar],
    key: impl Fn(&'a Exemplar) -> &'a str,
    folds: usize,
    seed: u64,
) -> Vec<usize> {
    let mut keys: Vec<&str> = exemplars.iter().map(&key).collect::<BTreeSet<_>>().into_iter().collect();
    keys.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    let fold: BTreeMap<&str, usize> = keys.into_iter().enumerate().map(|(at, key)| (key, at % folds.max(1))).collect();
    exemplars.iter().map(|exemplar| fold[key(exemplar)]).collect()
}

/// The encoder's progress bar, and the trainer's.
pub fn progress_bar(length: u64, unit: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(&format!("{{msg:20!}} {{bar:30}} {{pos:>6}}/{{len:6}} {unit} {{eta:>4}}"));
    ProgressBar::new(length).with_style(style.expect("the template is valid"))
}

fn vote(lesson: &Lesson<'_>, rows: &[usize], recipe: &Recipe) -> Vote {
    let fitting = recipe.fitting(lesson.teaching);
    Vote {
        count: fitting.neighbors,
        temperature: fitting.temperature,
        shrink: fitting.shrink,
        mean: lesson.means(rows).into_iter().map(f64::from).collect(),
    }
}

/// The recipe's default class when labels know it, else the most common label; of outcomes the best single class.
fn default_class(teaching: Teaching, classes: &[String], mean: &[f64], recipe: &Recipe) -> String {
    if teaching == Teaching::Labels && classes.contains(&recipe.default_class) {
        return recipe.default_class.clone();
    }
    classes[likeliest(mean)].clone()
}

/// Mean dollars of each class; empty where one of them has no cost.
fn costs(exemplars: &[Exemplar], classes: &[String]) -> Vec<f64> {
    let mean = |class: &String| {
        let known: Vec<f64> = exemplars.iter().filter_map(|exemplar| exemplar.cost.get(class)).copied().collect();
        (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
    };
    classes.iter().map(mean).collect::<Option<_>>().unwrap_or_default()
}

/// The value below which a share of them lies.
fn lowest(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[((sorted.len() as f64 * share) as usize).min(sorted.len() - 1)]
}

/// The lowest confidence from which on the wanted share was right.
fn assurance(items: &[OutOfFold], joined: &[Vec<f64>], sure: &[f64]) -> Option<Assurance> {
    let mut order: Vec<usize> = (0..items.len()).collect();
    order.sort_by(|a, b| sure[*b].total_cmp(&sure[*a]));
    let (mut right, mut found) = (0, None);
    for (at, row) in order.iter().enumerate() {
        right += usize::from(items[*row].known[likeliest(&joined[*row])] == 1.0);
        if right as f64 / (at + 2) as f64 >= ASSURED {
            found = Some(Assurance {
                right: ASSURED,
                confidence: sure[*row],
                coverage: (at + 1) as f64 / order.len() as f64,
            });
        }
    }
    found
}

/// The version: a hash of everything that goes in, so that the same inputs have the same name.
fn version(task: &Task<'_>, teaching: Teaching) -> Result<String> {
    let mut hash = Sha256::new();
    hash.update(METHOD.to_le_bytes());
    // Of the recipe what takes part: the other kind of teaching may change without making another version of this one.
    let Recipe { min_steps, default_class, exit_hidden, exit_loss, exit_doubt, .. } = task.recipe;
    let exits = (teaching == Teaching::Labels).then_some((exit_hidden, exit_loss, exit_doubt));
    let recipe = (min_steps, default_class, exits, task.recipe.fitting(teaching));
    hash.update(serde_json::to_vec(&recipe).expect("a recipe serialises"));
    hash.update(task.seed.to_le_bytes());
    hash.update(format!("{:?}|{}|{:?}", task.encoder.pooling, task.encoder.prefix, crate::embedder::VIEWS));
    hash.update((task.window_chars as u64).to_le_bytes());
    hash.update((task.encoder.max_tokens as u64).to_le_bytes());
    hash.update(hash_file(&task.encoder.folder.join("model.safetensors"))?);
    for exemplar in task.exemplars {
        hash.update(serde_json::to_vec(exemplar).expect("an exemplar serialises"));
    }
    Ok(hex(&hash.finalize())[..12].to_string())
}
