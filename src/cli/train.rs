//! `waypost train`: a routing model from labelled prompts.

use super::{Global, default_threads, eval, print_json};
use crate::chat::ChatRequest;
use crate::classifier::{Exemplar, Inputs, exemplar};
use crate::embedder::{Encoder, EncoderSpec, window};
use crate::error::{Error, Result};
use crate::training::embeddings::EmbeddingCache;
use crate::training::recipe::Recipe;
use crate::training::report::{Report, report};
use crate::training::{self, Task, Trained, progress_bar};
use crate::weights::Cache;
use clap::Args;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

#[derive(Args)]
pub struct Train {
    /// Labelled prompts to learn from: JSONL files or folders of them, {"id","prompt","class","source"?,"lang"?} a line.
    #[arg(long, value_name = "FILE", num_args = 1.., default_value = "data/exemplars")]
    labels: Vec<PathBuf>,
    /// Labelled prompts to measure on; never trained on.
    #[arg(long, value_name = "FILE", num_args = 1.., default_value = "data/exemplars/heldout")]
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
    /// Write nothing: train, and fail unless the bytes equal the version that is there.
    #[arg(long)]
    check: bool,
    /// Write nothing: train once without each source, and measure on that source.
    #[arg(long)]
    leave_one_source_out: bool,
    /// Print the held-out report as JSON.
    #[arg(long)]
    json: bool,
}

/// Exemplars with what the head reads of them.
struct Data {
    exemplars: Vec<Exemplar>,
    inputs: Vec<Inputs>,
}

impl Train {
    pub fn run(self, global: &Global) -> Result<()> {
        let plain = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
        if self.name.is_empty() || self.name.starts_with('.') || !self.name.chars().all(plain) {
            return Err(Error::Model(format!("--name `{}`: expected letters, digits, - and _", self.name)));
        }
        let (config, cache, recipe) = (global.load()?, global.cache()?, Recipe::load(self.recipe.as_deref())?);
        let spec = crate::start::encoder_spec(&config.embedder, &cache)?;
        let encoder = Encoder::load(spec.clone())?;
        let gather = |paths: &[PathBuf]| gather(paths, &encoder, &spec, &cache, config.embedder.window_chars, &recipe);
        let data = gather(&self.labels)?;
        let task = Task {
            name: &self.name,
            exemplars: &data.exemplars,
            inputs: &data.inputs,
            recipe: &recipe,
            seed: self.seed,
            encoder: &spec,
            window_chars: config.embedder.window_chars,
        };
        if self.leave_one_source_out {
            return leave_one_source_out(&task);
        }
        let heldout = gather(&self.heldout)?;
        let progress = progress_bar(0, "epochs");
        let trained = training::train(&task, &progress)?;
        progress.finish_and_clear();
        let measured = measure(&trained, &heldout)?;
        if self.json {
            print_json(&measured);
        } else {
            eval::print(&trained.model.title(), &measured);
        }
        let files = files(&trained, &measured);
        let folder = self.out.join(&self.name).join(&trained.model.manifest.version);
        if self.check { compare(&folder, &files) } else { publish(&folder, &files) }
    }
}

fn gather(
    paths: &[PathBuf],
    encoder: &Encoder,
    spec: &EncoderSpec,
    cache: &Cache,
    window_chars: usize,
    recipe: &Recipe,
) -> Result<Data> {
    let exemplars = exemplar::read(paths)?;
    let texts = exemplars
        .iter()
        .map(|exemplar| Ok(window(&ChatRequest::from_prompt(&exemplar.prompt)?, window_chars)))
        .collect::<Result<Vec<_>>>()?;
    if let Some(empty) = texts.iter().position(String::is_empty) {
        return Err(Error::Model(format!("the exemplar `{}` has no text", exemplars[empty].id)));
    }
    let progress = progress_bar(0, "prompts");
    progress.set_message("embedding");
    let inputs =
        EmbeddingCache::open(cache, spec)?.inputs(encoder, &texts, recipe.buckets, default_threads(), &progress)?;
    progress.finish_and_clear();
    Ok(Data { exemplars, inputs })
}

fn measure(trained: &Trained, heldout: &Data) -> Result<Report> {
    let classes = &trained.model.manifest.classes;
    let label = |exemplar: &Exemplar| {
        let place = classes.iter().position(|class| *class == exemplar.class);
        place.ok_or_else(|| {
            Error::Model(format!(
                "the held-out exemplar `{}` has the label `{}`, which no training exemplar has",
                exemplar.id, exemplar.class
            ))
        })
    };
    let labels = heldout.exemplars.iter().map(label).collect::<Result<Vec<_>>>()?;
    let estimates: Vec<_> = heldout.inputs.iter().map(|inputs| trained.model.estimate_inputs(inputs)).collect();
    Ok(report(classes, &estimates, &labels))
}

/// Every file of the version: the model's own, the metrics, and the confusion table for people.
fn files(trained: &Trained, measured: &Report) -> Vec<(&'static str, Vec<u8>)> {
    let mut files = trained.model.to_files(&trained.space);
    let metrics = serde_json::to_string_pretty(measured).expect("a report serialises") + "\n";
    let confusion = format!(
        "# {} on {} held-out prompts\n\nAccuracy {:.1} %, macro recall {:.1} %, macro F1 {:.1} %, calibration error {:.3}, abstained {:.1} %. Rows are right, columns are said.\n\n{}",
        trained.model.title(),
        measured.prompts,
        100.0 * measured.accuracy,
        100.0 * measured.macro_recall,
        100.0 * measured.macro_f1,
        measured.calibration_error,
        100.0 * measured.abstained,
        measured.confusion_markdown()
    );
    files.push(("metrics.json", metrics.into_bytes()));
    files.push(("CONFUSION.md", confusion.into_bytes()));
    files
}

/// Writes the version beside its place, renames it there, then points `current` to it.
fn publish(folder: &Path, files: &[(&'static str, Vec<u8>)]) -> Result<()> {
    let model = folder.parent().expect("a version lies in its model's folder");
    std::fs::create_dir_all(model).map_err(Error::io(model))?;
    let part = tempfile::Builder::new().prefix(".part-").tempdir_in(model).map_err(Error::io(model))?;
    for (name, bytes) in files {
        std::fs::write(part.path().join(name), bytes).map_err(Error::io(part.path().join(name)))?;
    }
    if folder.exists() {
        std::fs::remove_dir_all(folder).map_err(Error::io(folder))?;
    }
    std::fs::rename(part.keep(), folder).map_err(Error::io(folder))?;
    let version = folder.file_name().expect("a version has a name").to_string_lossy().into_owned();
    let (current, next) = (model.join("current"), model.join(".current.part"));
    std::fs::write(&next, version + "\n").map_err(Error::io(&next))?;
    std::fs::rename(&next, &current).map_err(Error::io(&current))?;
    eprintln!("published {}", folder.display());
    Ok(())
}

fn compare(folder: &Path, files: &[(&'static str, Vec<u8>)]) -> Result<()> {
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

/// How well each style of exemplars is recognised by a model that never saw that style.
fn leave_one_source_out(task: &Task<'_>) -> Result<()> {
    let classes: Vec<String> =
        task.exemplars.iter().map(|exemplar| exemplar.class.clone()).collect::<BTreeSet<_>>().into_iter().collect();
    let sources: BTreeSet<&str> = task.exemplars.iter().map(|exemplar| exemplar.source.as_str()).collect();
    let samples = training::samples(task, &classes);
    let progress = progress_bar((sources.len() * task.recipe.epochs) as u64, "epochs");
    let mut total = 0.0;
    for source in &sources {
        progress.set_message(source.to_string());
        let (outside, inside): (Vec<_>, Vec<_>) =
            samples.iter().zip(task.exemplars).partition(|(_, exemplar)| exemplar.source == *source);
        let inside: Vec<_> = inside.into_iter().map(|(sample, _)| sample.clone()).collect();
        let outside: Vec<_> = outside.into_iter().map(|(sample, _)| sample).collect();
        let items = training::estimate_outside(&inside, &outside, classes.len(), task, &progress)?;
        let recall = training::report::macro_recall(&items, classes.len());
        total += recall / sources.len() as f64;
        progress.suspend(|| println!("without {source:16} macro recall on it {:5.1} %", 100.0 * recall));
    }
    progress.finish_and_clear();
    println!("mean {:.1} %", 100.0 * total);
    Ok(())
}
