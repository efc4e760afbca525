//! `waypost eval`: a routing model on prompts it was not trained on (`labels.rs`, `outcomes.rs`), or a recipe by
//! cross-validation, and whether its decisions survive a change of wording (`stability.rs`).

pub mod labels;
pub mod outcomes;
mod stability;

use super::data::{Data, Reader, read};
use super::{Global, print_json};
use crate::classifier::head::Teaching;
use crate::classifier::join::{Join, confidence};
use crate::classifier::{Estimate, Exemplar, RoutingModel};
use crate::error::{Error, Result};
use crate::training::recipe::Recipe;
use crate::training::{By, Crossed, Lesson, Task, classes, progress_bar};
use clap::{Args, ValueEnum};
use indicatif::ProgressBar;
use std::collections::BTreeSet;
use std::path::PathBuf;

pub use labels::{confusion_page, measure as labels, print};

#[derive(Args)]
pub struct Eval {
    /// A routing model's folder; the one inside the binary when absent.
    #[arg(long, value_name = "DIR", default_value = "builtin", conflicts_with = "folds")]
    model: String,
    /// Labelled prompts: JSONL files (`.gz` too) or folders of them; rows with the class `oos` belong to none. `data/exemplars/heldout` when nothing is named.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    labels: Vec<PathBuf>,
    /// Prompts with the score of each name's answer, and its cost where known.
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with = "labels")]
    outcomes: Vec<PathBuf>,
    /// A table from outcome names to classes, as for `train`.
    #[arg(long, value_name = "FILE")]
    map: Option<PathBuf>,
    /// Of the files only the rows whose `split` is one of these.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    split: Vec<String>,
    /// Measure the recipe instead of a model: train on all folds but one, measure on that one, for each.
    #[arg(long, value_name = "N", value_parser = at_least::<2>)]
    folds: Option<usize>,
    /// What rows of one fold share.
    #[arg(long, value_enum, default_value_t = Shared::Group, requires = "folds")]
    by: Shared,
    /// With --folds: train on so many prompts of each label only.
    #[arg(long, value_name = "N", requires = "folds", value_parser = at_least::<1>)]
    per_label: Option<usize>,
    /// A recipe like training/recipe.toml.
    #[arg(long, value_name = "FILE", requires = "folds")]
    recipe: Option<PathBuf>,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Share of decisions that flip when the wording changes: typos, case, politeness, white space, wrapping.
    #[arg(long)]
    stability: bool,
    /// Prompts looked at for --stability; they are embedded once for each change of wording.
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = at_least::<1>)]
    limit: usize,
    /// Draw cost against quality into an SVG file (outcomes).
    #[arg(long, value_name = "FILE", conflicts_with = "labels")]
    plot: Option<PathBuf>,
    /// Print the mistakes, one a line (labels).
    #[arg(long)]
    mistakes: bool,
    /// Print what was measured as JSON.
    #[arg(long)]
    json: bool,
}

/// Reads a number that has a least value.
fn at_least<const LEAST: usize>(text: &str) -> std::result::Result<usize, String> {
    text.parse()
        .ok()
        .filter(|number| *number >= LEAST)
        .ok_or_else(|| format!("expected a whole number from {LEAST} on"))
}

/// What rows of one fold share.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Shared {
    /// Near-duplicates stay together.
    Group,
    /// A whole source (task) is left out: how it fares on one never seen.
    Source,
}

impl Eval {
    pub fn run(mut self, global: &Global) -> Result<()> {
        if self.labels.is_empty() && self.outcomes.is_empty() {
            self.labels = vec!["data/exemplars/heldout".into()];
        }
        let config = global.load()?;
        let rows = read(&self.labels, &self.outcomes, self.map.as_deref(), &self.split, &config.classes)?;
        if let Some(folds) = self.folds {
            let data = Reader::configured(global)?.embed(rows)?;
            return self.cross_validate(global, data, folds);
        }
        let (model, reader) = open(global, &self.model)?;
        if self.stability {
            let report = stability::measure(&model, &reader, rows, self.limit, self.seed)?;
            return stability::show(&model.title(), &report, self.json);
        }
        let data = reader.embed(rows)?;
        match self.outcomes.is_empty() {
            true => self.show_labels(&model, &data),
            false => {
                let own: Vec<_> = model.exemplars.iter().map(|exemplar| (**exemplar).clone()).collect();
                let training = reader.embed(own)?;
                let measured = outcomes::measure(&model, &training, &data, self.seed)?;
                self.show_outcomes(&model.title(), &measured)
            }
        }
    }

    fn show_labels(&self, model: &RoutingModel, data: &Data) -> Result<()> {
        if model.manifest.teaching == Teaching::Outcomes {
            return Err(Error::Model(format!("{} learned from outcomes: measure it with --outcomes", model.title())));
        }
        let estimates = labels::estimates(model, data);
        let report = labels::measure_estimates(model, data, &estimates)?;
        if self.json {
            print_json(&report);
            return Ok(());
        }
        print(&model.title(), &report);
        labels::print_sources(model, data, &estimates, self.mistakes)
    }

    fn show_outcomes(&self, title: &str, measured: &outcomes::Measured) -> Result<()> {
        if let Some(path) = &self.plot {
            std::fs::write(path, measured.chart(title)?).map_err(Error::io(path))?;
            eprintln!("drawn into {}", path.display());
        }
        if self.json {
            print_json(&measured.report);
        } else {
            outcomes::print(title, &measured.report);
        }
        Ok(())
    }

    /// Every row judged by a model that was trained without its fold.
    fn cross_validate(&self, global: &Global, data: Data, folds: usize) -> Result<()> {
        let reader = Reader::configured(global)?;
        let mut recipe = Recipe::load(self.recipe.as_deref())?;
        (recipe.labels.folds, recipe.outcomes.folds) = (folds, folds);
        let by = match self.by {
            Shared::Group => By::Unit,
            Shared::Source => By::Source,
        };
        let units: BTreeSet<&str> = match by {
            By::Unit => data.exemplars.iter().map(Exemplar::unit).collect(),
            By::Source => data.exemplars.iter().map(|exemplar| exemplar.source.as_str()).collect(),
        };
        if units.len() < folds {
            let problem = format!("--folds {folds}: these prompts can be parted into {} folds at most", units.len());
            return Err(Error::Model(problem));
        }
        let reworded = reader.reword(&data.exemplars, &recipe, self.seed)?;
        let task = reader.task("folds", &data, &reworded, &recipe, self.seed);
        let progress = progress_bar(0, "epochs");
        let judged = Judged::of(&task, by, self.per_label, &progress)?;
        progress.finish_and_clear();
        let title = format!("{folds}-fold cross-validation");
        if judged.teaching == Teaching::Labels {
            let report = labels::across(&judged, &data)?;
            if self.json {
                print_json(&report);
            } else {
                print(&title, &report);
            }
            return Ok(());
        }
        self.show_outcomes(&title, &outcomes::across(&judged, &data, self.seed)?)
    }
}

/// Every row's estimate by models, and a join, that were made without its fold.
pub struct Judged {
    pub teaching: Teaching,
    pub classes: Vec<String>,
    pub folds: Vec<usize>,
    pub estimates: Vec<Estimate>,
}

impl Judged {
    fn of(task: &Task<'_>, by: By, per_label: Option<usize>, progress: &ProgressBar) -> Result<Self> {
        let (teaching, classes) = classes(task.exemplars);
        let lesson = Lesson::of(task, teaching, &classes)?;
        let crossed = Crossed::of(&lesson, task, Some(by), per_label, progress)?;
        let folds = Crossed::folds(task, teaching, by);
        let items = if by == By::Source { &crossed.strange } else { &crossed.familiar };
        let mut estimates = Vec::with_capacity(items.len());
        let joins: Vec<Join> = (0..task.recipe.fitting(teaching).folds)
            .map(|fold| {
                let outside: Vec<usize> = (0..folds.len()).filter(|row| folds[*row] != fold).collect();
                let mean: Vec<f64> = lesson.means(&outside).into_iter().map(f64::from).collect();
                crossed.join(teaching, &mean, |row| folds[row] != fold)
            })
            .collect();
        for (item, fold) in items.iter().zip(&folds) {
            let joined = joins[*fold].estimate(&item.sources, item.nearest);
            estimates.push(Estimate {
                sources: Some(item.sources.clone()),
                confidence: confidence(&joins[*fold], &joined, item.nearest),
                joined,
                hits: Vec::new(),
                abstained: false,
                exit: None,
            });
        }
        Ok(Judged { teaching, classes, folds, estimates })
    }
}

impl Data {
    /// Some of the rows.
    pub fn some(&self, rows: &[usize]) -> Data {
        Data {
            exemplars: rows.iter().map(|row| self.exemplars[*row].clone()).collect(),
            inputs: rows.iter().map(|row| self.inputs[*row].clone()).collect(),
        }
    }
}

/// A routing model by its folder, with a reader of the encoder it was trained on.
pub fn open(global: &Global, model: &str) -> Result<(RoutingModel, Reader)> {
    let model = RoutingModel::open(model)?.exact();
    let settings = super::bulk::settings(global, &model)?;
    Ok((model, Reader::open(&settings, global)?))
}
