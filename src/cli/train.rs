//! `waypost train`: a routing model from labels, outcomes, or both.

use super::data::{Data, Reader, read};
use super::eval::outcomes;
use super::{Global, eval, print_json};
use crate::classifier::RoutingModel;
use crate::classifier::exemplar::OUT_OF_SCOPE;
use crate::classifier::head::Teaching;
use crate::classifier::model::Parts;
use crate::error::{Error, Result};
use crate::training::compare::{Comparison, Judged, compare, value};
use crate::training::recipe::Recipe;
use crate::training::versions::Versions;
use crate::training::{self, Lesson, Task, progress_bar};
use clap::Args;
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

#[derive(Args)]
pub struct Train {
    /// Labelled prompts: JSONL files (`.gz` too) or folders of them, {"prompt","class","id"?,"source"?,"lang"?,"group"?} a line. `data/exemplars` when neither labels nor outcomes are named.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    labels: Vec<PathBuf>,
    /// Prompts with the score of each name's answer: {"prompt","score":{name: 0..1},"cost"?:{name: dollars},"task"?,"group"?} a line.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    outcomes: Vec<PathBuf>,
    /// A table from outcome names to classes, TOML or JSON: "gpt-4" = "advanced".
    #[arg(long, value_name = "FILE")]
    map: Option<PathBuf>,
    /// Of the files only the rows whose `split` is one of these.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    split: Vec<String>,
    /// Prompts to measure and compare on, never trained on. Without them a version is compared with the one before it
    /// on that one's exemplars, each judged by models that never saw it.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    heldout: Vec<PathBuf>,
    /// The routing model's name.
    #[arg(long, default_value = "default")]
    name: String,
    /// Folder of routing models; the version goes to DIR/NAME/VERSION.
    #[arg(long, value_name = "DIR", default_value = "models")]
    out: PathBuf,
    /// Same data, recipe and seed: same bytes.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// A recipe like training/recipe.toml.
    #[arg(long, value_name = "FILE")]
    recipe: Option<PathBuf>,
    /// Let the version serve (`current` points to it), unless it is worse than the one that does. A first version serves anyway.
    #[arg(long)]
    publish: bool,
    /// Publish even when it is worse.
    #[arg(long)]
    force: bool,
    /// Write nothing: train, and fail unless the bytes equal the version that is there.
    #[arg(long)]
    check: bool,
    /// Write nothing: train once without each source, and measure on that source.
    #[arg(long)]
    leave_one_source_out: bool,
    /// Print what was measured as JSON.
    #[arg(long)]
    json: bool,
    /// Run at the lowest priority and tell progress as JSON lines: how the server runs it.
    #[arg(long, hide = true)]
    job: bool,
}

/// What came of a training.
#[derive(Serialize)]
struct Outcome {
    name: String,
    version: String,
    folder: PathBuf,
    published: bool,
    /// Against the version that serves; absent for the first one.
    comparison: Option<Comparison>,
    /// On the held-out prompts, where any were named.
    heldout: Option<Value>,
}

impl Train {
    pub fn run(mut self, global: &Global) -> Result<()> {
        self.check_names()?;
        if self.job {
            crate::cli::job::end_with_parent();
            crate::cli::job::lowest_priority();
        }
        if self.labels.is_empty() && self.outcomes.is_empty() {
            self.labels = vec!["data/exemplars".into()];
            if self.heldout.is_empty() {
                self.heldout = vec!["data/exemplars/heldout".into()];
            }
        }
        let (config, recipe) = (global.load()?, Recipe::load(self.recipe.as_deref())?);
        let reader = Reader::configured(global)?;
        let gather = |labels: &[PathBuf], outcomes: &[PathBuf], splits: &[String]| {
            let rows = read(labels, outcomes, self.map.as_deref(), splits, &config.classes)?;
            reader.embed(rows.into_iter().filter(|exemplar| exemplar.class != OUT_OF_SCOPE).collect())
        };
        let data = gather(&self.labels, &self.outcomes, &self.split)?;
        let reworded = reader.reword(&data.exemplars, &recipe, self.seed)?;
        let task = reader.task(&self.name, &data, &reworded, &recipe, self.seed);
        if self.leave_one_source_out {
            return leave_one_source_out(&task, self.json);
        }
        let heldout = match self.heldout.as_slice() {
            [] => None,
            files => Some(gather(files, &[], &[])?),
        };
        if let Some(heldout) = &heldout {
            apart(&data, heldout)?;
        }
        let progress = if self.job { crate::cli::job::progress() } else { progress_bar(0, "epochs") };
        let parts = training::train(&task, &progress)?;
        progress.finish_and_clear();
        self.finish(parts, &data, heldout.as_ref(), &reader)
    }

    fn check_names(&self) -> Result<()> {
        let plain = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
        if self.name.is_empty() || self.name.starts_with('.') || !self.name.chars().all(plain) {
            return Err(Error::Model(format!("--name `{}`: expected letters, digits, - and _", self.name)));
        }
        Ok(())
    }

    /// Measures, compares, writes, publishes.
    fn finish(self, parts: Parts, data: &Data, heldout: Option<&Data>, reader: &Reader) -> Result<()> {
        let mut files = parts.to_files();
        let (title, version) = (format!("{}@{}", self.name, parts.manifest.version), parts.manifest.version.clone());
        let out_of_fold = parts.out_of_fold.clone();
        let model = RoutingModel::assemble(parts)?.exact();
        let measured =
            heldout.map(|heldout| measure(&model, data, heldout, &title, self.json || self.job)).transpose()?;
        if let Some((metrics, page)) = &measured {
            let metrics = serde_json::to_string_pretty(metrics).expect("a report serialises") + "\n";
            files.push(("metrics.json", metrics.into_bytes()));
            files.extend(page.as_ref().map(|page| ("CONFUSION.md", page.clone().into_bytes())));
        }
        let versions = Versions::at(self.out.join(&self.name));
        if self.check {
            return equal(&versions.path(&version), &files);
        }
        // Before anything is compared: what took long to learn is not lost to a current version that cannot be read.
        let folder = versions.write(&version, &files)?;
        let comparison = match versions.current() {
            Some(current) if current != version => {
                match RoutingModel::load(&versions.path(&current)).map(RoutingModel::exact) {
                    Ok(current) => judge(&current, &model, &out_of_fold, heldout, reader, self.seed)?,
                    Err(error) if self.force => {
                        eprintln!("not compared: the current version cannot be read ({error})");
                        None
                    }
                    Err(error) => {
                        return Err(Error::Model(format!(
                            "not compared: the current version cannot be read ({error}). The new one is kept in {}; --force publishes it all the same",
                            folder.display()
                        )));
                    }
                }
            }
            _ => None,
        };
        let worse = comparison.as_ref().is_some_and(|comparison| comparison.worse);
        let published = versions.current().is_none() || (self.publish && (!worse || self.force));
        if published {
            versions.publish(&version)?;
        }
        let result = Outcome {
            name: self.name,
            version,
            folder: folder.clone(),
            published,
            comparison,
            heldout: measured.map(|(metrics, _)| metrics),
        };
        match &result.comparison {
            _ if self.job => println!("{}", serde_json::json!({"result": result})),
            _ if self.json => print_json(&result),
            Some(comparison) => println!("{title}: {}", comparison.sentence()),
            None => {}
        }
        let refused = self.publish && !published;
        match (refused, published) {
            (true, _) => {
                let sentence = result.comparison.as_ref().map(Comparison::sentence).unwrap_or_default();
                Err(Error::Model(format!(
                    "not published: {title} is worse than the current version ({sentence}). It is kept in {}; --force publishes it all the same",
                    folder.display()
                )))
            }
            (_, true) => {
                eprintln!("published {}", folder.display());
                Ok(())
            }
            _ => {
                eprintln!("written {}; --publish lets it serve", folder.display());
                Ok(())
            }
        }
    }
}

/// Refuses held-out prompts that are trained on.
fn apart(data: &Data, heldout: &Data) -> Result<()> {
    let known: BTreeSet<&str> = data.exemplars.iter().map(|exemplar| exemplar.prompt.as_str()).collect();
    match heldout.exemplars.iter().find(|exemplar| known.contains(exemplar.prompt.as_str())) {
        Some(twice) => Err(Error::Model(format!("the held-out prompt `{}` is trained on as well", twice.id))),
        None => Ok(()),
    }
}

/// The held-out report as JSON, and the confusion table for people.
fn measure(
    model: &RoutingModel,
    data: &Data,
    heldout: &Data,
    title: &str,
    quiet: bool,
) -> Result<(Value, Option<String>)> {
    match model.manifest.teaching {
        Teaching::Labels => {
            let report = eval::labels(model, heldout)?;
            if !quiet {
                eval::print(title, &report);
            }
            let page = eval::confusion_page(title, &report);
            Ok((as_json(&report), Some(page)))
        }
        Teaching::Outcomes => {
            let measured = outcomes::measure(model, data, heldout, 1)?;
            if !quiet {
                outcomes::print(title, &measured.report);
            }
            Ok((as_json(&measured.report), None))
        }
    }
}

fn as_json(report: &impl Serialize) -> Value {
    serde_json::to_value(report).expect("a report serialises")
}

/// Judges both versions on held-out prompts; without any, on the exemplars of the current one, of each of which both
/// have an estimate made without having seen it.
fn judge(
    current: &RoutingModel,
    candidate: &RoutingModel,
    out_of_fold: &[f32],
    heldout: Option<&Data>,
    reader: &Reader,
    seed: u64,
) -> Result<Option<Comparison>> {
    let (old, new) = (&current.manifest.classes, &candidate.manifest.classes);
    let missing: Vec<String> = old.iter().filter(|class| !new.contains(class)).cloned().collect();
    if let Some(heldout) = heldout {
        let judge = |exemplar, inputs: &Vec<f32>| {
            let value =
                |model: &RoutingModel| value(exemplar, &model.manifest.classes, &model.estimate_inputs(inputs).joined);
            Some(Judged { exemplar, current: value(current)?, candidate: value(candidate)? })
        };
        let rows = heldout.exemplars.iter().zip(&heldout.inputs);
        let judged: Vec<Judged<'_>> = rows.filter_map(|(exemplar, inputs)| judge(exemplar, inputs)).collect();
        return Ok(compare(&judged, missing, seed));
    }
    let trained: HashMap<&str, usize> =
        candidate.exemplars.iter().enumerate().map(|(at, exemplar)| (exemplar.prompt.as_str(), at)).collect();
    let unseen: Vec<&str> = current
        .exemplars
        .iter()
        .map(|exemplar| exemplar.prompt.as_str())
        .filter(|prompt| !trained.contains_key(prompt))
        .collect();
    let mut fresh = reader.inputs(&unseen)?.into_iter();
    let row = |all: &[f32], at: usize, classes: usize| -> Vec<f64> {
        all[at * classes..(at + 1) * classes].iter().map(|x| f64::from(*x)).collect()
    };
    let mut judged = Vec::with_capacity(current.exemplars.len());
    for (at, exemplar) in current.exemplars.iter().enumerate() {
        let place = trained.get(exemplar.prompt.as_str());
        let said = match place {
            Some(place) => row(out_of_fold, *place, new.len()),
            None => candidate.estimate_inputs(&fresh.next().expect("one for each unseen prompt")).joined,
        };
        let before = value(exemplar, old, &row(&current.out_of_fold, at, old.len()));
        // The scores of a new name are in the candidate's exemplars alone.
        let newer = || place.and_then(|place| value(&candidate.exemplars[*place], new, &said));
        if let (Some(current), Some(candidate)) = (before, value(exemplar, new, &said).or_else(newer)) {
            judged.push(Judged { exemplar, current, candidate });
        }
    }
    Ok(compare(&judged, missing, seed))
}

fn equal(folder: &Path, files: &[(&'static str, Vec<u8>)]) -> Result<()> {
    for (name, bytes) in files {
        let path = folder.join(name);
        if std::fs::read(&path).map_err(Error::io(&path))? != *bytes {
            return Err(Error::Model(format!(
                "{} differs from what this data, recipe and seed give here",
                path.display()
            )));
        }
    }
    eprintln!("{} is reproduced byte for byte", folder.display());
    Ok(())
}

/// How well each source is recognised by a model that never saw it.
fn leave_one_source_out(task: &Task<'_>, json: bool) -> Result<()> {
    let (teaching, classes) = training::classes(task.exemplars);
    if teaching != Teaching::Labels {
        return Err(Error::Model("--leave-one-source-out takes labels; for outcomes: eval --folds --by source".into()));
    }
    let lesson = Lesson::of(task, teaching, &classes)?;
    let sources: BTreeSet<&str> = task.exemplars.iter().map(|exemplar| exemplar.source.as_str()).collect();
    if sources.len() < 2 {
        return Err(Error::Model("all exemplars are of one source: there is none to leave out".into()));
    }
    let progress = progress_bar(sources.len() as u64, "sources");
    let (mut total, mut recalls) = (0.0, serde_json::Map::new());
    for source in &sources {
        progress.set_message(source.to_string());
        let (outside, inside): (Vec<usize>, Vec<usize>) =
            (0..task.exemplars.len()).partition(|row| task.exemplars[*row].source == *source);
        let hidden = indicatif::ProgressBar::hidden();
        let items = training::estimate_outside(&lesson, &inside, &outside, task, &hidden)?;
        let recall = training::report::macro_recall(&items, classes.len());
        total += recall / sources.len() as f64;
        progress.inc(1);
        recalls.insert(source.to_string(), recall.into());
        if !json {
            progress.suspend(|| println!("without {source:16} macro recall on it {:5.1} %", 100.0 * recall));
        }
    }
    progress.finish_and_clear();
    if json {
        print_json(&serde_json::json!({"sources": recalls, "mean": total}));
    } else {
        println!("mean {:.1} %", 100.0 * total);
    }
    Ok(())
}
