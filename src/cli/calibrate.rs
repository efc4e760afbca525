//! `waypost calibrate`: the policy's quality floor for what an operator wants, on data that shows it.

use super::data::Data;
use super::{Global, print_json};
use crate::catalog::Terms;
use crate::classifier::RoutingModel;
use crate::classifier::head::Teaching;
use crate::config::{ClassConfig, Config};
use crate::error::{Error, Result};
use crate::money::Money;
use crate::policy::Policy;
use crate::policy::quality::{Expected, choose_without_deployments};
use clap::Args;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Floors tried, evenly between 0 and 1.
const STEPS: usize = 200;

#[derive(Args)]
#[command(group = clap::ArgGroup::new("wanted").required(true))]
pub struct Calibrate {
    /// A routing model's folder; the one inside the binary when absent.
    #[arg(long, value_name = "DIR", default_value = "builtin")]
    model: String,
    /// Labelled prompts: a decision is good when its class is the label or covers it.
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with = "outcomes")]
    labels: Vec<PathBuf>,
    /// Prompts with scores, and costs where known: a decision is as good as its class's score.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    outcomes: Vec<PathBuf>,
    /// A table from outcome names to classes, as for `train`.
    #[arg(long, value_name = "FILE")]
    map: Option<PathBuf>,
    /// Of the files only the rows whose `split` is one of these.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    split: Vec<String>,
    /// The cheapest floor at which decisions are this good, 0..1.
    #[arg(long, value_name = "SHARE", group = "wanted", value_parser = share)]
    quality: Option<f64>,
    /// The best floor that costs this share less than the best single class, 0..1.
    #[arg(long, value_name = "SHARE", group = "wanted", value_parser = share)]
    saving: Option<f64>,
    /// The best floor that sends at most this share of prompts to the dearest class, 0..1.
    #[arg(long, value_name = "SHARE", group = "wanted", value_parser = share)]
    strong_share: Option<f64>,
    /// Write the floor into this configuration file, made if it is not there; comments stay.
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// Print as JSON.
    #[arg(long)]
    json: bool,
}

/// Reads a share, 0..1.
fn share(text: &str) -> std::result::Result<f64, String> {
    text.parse().ok().filter(|share| (0.0..=1.0).contains(share)).ok_or_else(|| "expected a number from 0 to 1".into())
}

/// What a floor does on the data.
#[derive(Clone, Copy, Debug, Serialize)]
struct Point {
    quality_floor: f64,
    /// Share of good decisions, or mean score.
    quality: f64,
    /// Dollars less than the best single class, as a share; absent without costs.
    saving: Option<f64>,
    /// Share of prompts for the dearest class.
    strong_share: f64,
}

impl Calibrate {
    pub fn run(self, global: &Global) -> Result<()> {
        if self.labels.is_empty() == self.outcomes.is_empty() {
            return Err(Error::Model("expected --labels FILE or --outcomes FILE".into()));
        }
        let config = global.load()?;
        let (model, reader) = super::eval::open(global, &self.model)?;
        let rows = super::data::read(&self.labels, &self.outcomes, self.map.as_deref(), &self.split, &config.classes)?;
        let data = reader.embed(rows)?;
        let points = Trial::of(&model, &config, &data).points();
        if self.saving.is_some() && points.iter().all(|point| point.saving.is_none()) {
            return Err(Error::Model(
                "--saving needs costs, and neither these prompts nor the deployments have any".into(),
            ));
        }
        let chosen = self.choose(&points).ok_or_else(|| {
            Error::Model(format!(
                "no floor does that on this data: quality goes from {:.3} to {:.3}",
                points.iter().map(|point| point.quality).fold(f64::INFINITY, f64::min),
                points.iter().map(|point| point.quality).fold(0.0, f64::max)
            ))
        })?;
        if let Some(path) = &self.write {
            write(path, chosen.quality_floor)?;
            eprintln!("written into {}", path.display());
        }
        if self.json {
            print_json(&serde_json::json!({"chosen": chosen, "prompts": data.exemplars.len(), "points": points}));
            return Ok(());
        }
        let saving = chosen
            .saving
            .map_or(String::new(), |saving| format!(", {:.1} % less than the best single class", 100.0 * saving));
        println!("[policy]\nquality_floor = {:.3}", chosen.quality_floor);
        eprintln!(
            "on {} prompts: quality {:.3}, {:.1} % to the dearest class{saving}",
            data.exemplars.len(),
            chosen.quality,
            100.0 * chosen.strong_share
        );
        Ok(())
    }

    fn choose(&self, points: &[Point]) -> Option<Point> {
        let cheaper = |a: &Point, b: &Point| {
            let cost = |point: &Point| point.saving.map_or(point.strong_share, |saving| -saving);
            cost(a).total_cmp(&cost(b)).then(b.quality.total_cmp(&a.quality))
        };
        let better = |a: &Point, b: &Point| b.quality.total_cmp(&a.quality).then_with(|| cheaper(a, b));
        let some = points.iter().copied();
        match (self.quality, self.saving, self.strong_share) {
            (Some(wanted), ..) => some.filter(|point| point.quality >= wanted).min_by(cheaper),
            (_, Some(wanted), _) => {
                some.filter(|point| point.saving.is_some_and(|saving| saving >= wanted)).min_by(better)
            }
            (.., Some(wanted)) => some.filter(|point| point.strong_share <= wanted).min_by(better),
            _ => None,
        }
    }
}

/// Every prompt's estimate, with what its answers cost and are worth.
struct Trial<'a> {
    classes: Vec<ClassConfig>,
    model: &'a RoutingModel,
    policy: Policy,
    /// Expected dollars of each class.
    costs: Vec<f64>,
    data: &'a Data,
}

impl<'a> Trial<'a> {
    fn of(model: &'a RoutingModel, config: &Config, data: &'a Data) -> Self {
        let classes = super::decide::classes(model, config);
        let costs = classes.iter().map(|class| cost(class, model, config)).collect();
        Trial { classes, model, policy: config.policy.clone(), costs, data }
    }

    fn points(&self) -> Vec<Point> {
        let estimates: Vec<_> = self.data.inputs.iter().map(|inputs| self.model.estimate_inputs(inputs)).collect();
        let dearest = (0..self.costs.len()).max_by(|a, b| self.costs[*a].total_cmp(&self.costs[*b])).unwrap_or(0);
        let single = self.best_single();
        let place = |name: &str| self.classes.iter().position(|class| class.name == name);
        let default = place(&self.model.manifest.default_class);
        let expected = |class: &str| {
            let dollars = place(class).map_or(0.0, |at| self.costs[at]);
            Expected { cost: Money::from_dollars(dollars), latency_ms: 0.0 }
        };
        let point = |step: usize| {
            let policy = Policy { quality_floor: step as f64 / STEPS as f64, worth: None, ..self.policy.clone() };
            let (mut quality, mut cost, mut strong) = (0.0, 0.0, 0usize);
            for (row, estimate) in estimates.iter().enumerate() {
                let (_, choice) =
                    choose_without_deployments(&self.classes, &self.model.manifest, estimate, expected, &policy);
                let class = default.filter(|_| estimate.abstained).unwrap_or(choice.index);
                quality += self.value(row, class);
                cost += self.paid(row, class);
                strong += usize::from(class == dearest);
            }
            let count = estimates.len() as f64;
            Point {
                quality_floor: policy.quality_floor,
                quality: quality / count,
                saving: (single > 0.0).then(|| 1.0 - cost / single),
                strong_share: strong as f64 / count,
            }
        };
        (0..=STEPS).map(point).collect()
    }

    /// What a class's answer to a prompt is worth.
    fn value(&self, row: usize, class: usize) -> f64 {
        let (exemplar, class) = (&self.data.exemplars[row], &self.classes[class]);
        match exemplar.score.get(&class.name) {
            Some(score) => *score,
            None => f64::from(u8::from(exemplar.class == class.name || class.covers.contains(&exemplar.class))),
        }
    }

    fn paid(&self, row: usize, class: usize) -> f64 {
        let known = self.data.exemplars[row].cost.get(&self.classes[class].name);
        known.copied().unwrap_or(self.costs[class])
    }

    /// Dollars for all prompts by the class with the best mean.
    fn best_single(&self) -> f64 {
        let rows = 0..self.data.exemplars.len();
        let total = |class: usize| rows.clone().map(|row| self.value(row, class)).sum::<f64>();
        let best = (0..self.classes.len()).max_by(|a, b| total(*a).total_cmp(&total(*b)));
        best.map_or(0.0, |class| rows.clone().map(|row| self.paid(row, class)).sum())
    }
}

/// Dollars of an answer: as learned with the outcomes, else of the cheapest deployment that serves the class.
fn cost(class: &ClassConfig, model: &RoutingModel, config: &Config) -> f64 {
    let learned = model.manifest.classes.iter().position(|name| *name == class.name);
    if let (Teaching::Outcomes, Some(cost)) =
        (model.manifest.teaching, learned.and_then(|at| model.manifest.cost.get(at)))
    {
        return *cost;
    }
    let prices = config.deployments.iter().filter(|one| one.standby == 0 && one.classes.contains(&class.name));
    let dollars = prices
        .map(|one| one.prices.expected(0, 0, class.output_tokens, &Terms::now(one.region.as_deref())).output.dollars());
    dollars.min_by(f64::total_cmp).unwrap_or(0.0)
}

/// Sets `[policy] quality_floor`, leaving the rest of the file as it is.
fn write(path: &Path, floor: f64) -> Result<()> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(Error::io(path)(error)),
    };
    let wrong = |problem: String| Error::Config { file: path.display().to_string(), key: "policy".into(), problem };
    let mut document: toml_edit::DocumentMut =
        text.parse().map_err(|error: toml_edit::TomlError| wrong(error.message().into()))?;
    let policy = document.entry("policy").or_insert(toml_edit::table());
    let table = policy.as_table_like_mut().ok_or_else(|| wrong("expected a table".into()))?;
    let mut floor = toml_edit::Value::from((floor * 1e3).round() / 1e3);
    if let Some(before) = table.get("quality_floor").and_then(toml_edit::Item::as_value) {
        // The comment behind it stays.
        *floor.decor_mut() = before.decor().clone();
    }
    table.insert("quality_floor", toml_edit::Item::Value(floor));
    std::fs::write(path, document.to_string()).map_err(Error::io(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_floor_is_written_and_the_rest_of_the_file_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("waypost.toml");
        std::fs::write(&path, "# mine\n[policy]\nquality_floor = 0.1 # keep\nworth = 2\n").expect("written");
        write(&path, 0.654_321).expect("written");
        let text = std::fs::read_to_string(&path).expect("read");
        assert_eq!(text, "# mine\n[policy]\nquality_floor = 0.654 # keep\nworth = 2\n");
    }
}
