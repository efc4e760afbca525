//! A routing model on outcomes, beside what it has to beat: chance, the prompt's length, the best single model,
//! nearest neighbors, the task's name, and the oracle.

use super::Judged;
use crate::classifier::{Exemplar, RoutingModel};
use crate::cli::data::{Data, whole};
use crate::error::{Error, Result};
use crate::training::measure::baselines;
use crate::training::measure::bootstrap::RESAMPLES;
use crate::training::measure::candidate::Candidate;
use crate::training::measure::nearest::nearest;
use crate::training::measure::pair::Pair;
use crate::training::measure::plot::{cost_chart, share_chart};
use crate::training::measure::report::OutcomeReport;
use crate::training::measure::table::{Row, Table, TableError};
use std::collections::BTreeMap;

/// Quality estimates of one router, a row a prompt.
type Quality = Vec<Vec<f64>>;

/// What was measured, with what a chart needs.
pub struct Measured {
    pub report: OutcomeReport,
    table: Table,
    routers: Vec<Candidate>,
}

/// Measures a model; the baselines learn from what it was trained on.
pub fn measure(model: &RoutingModel, training: &Data, data: &Data, seed: u64) -> Result<Measured> {
    let tasks = Tasks::of(&[training, data]);
    let names = &model.manifest.classes;
    let table = table(names, data, &tasks)?;
    let training_table = self::table(names, training, &tasks)?;
    let ours = quality(model, data);
    let others = learned(&training_table, training, data, &tasks, &table)?;
    assemble(table, training_table.mean_costs(), ours, others, seed)
}

/// The folds of a cross-validation as one report: every row is judged by estimates, and by baselines, that were made
/// without it.
pub fn across(judged: &Judged, data: &Data, seed: u64) -> Result<Measured> {
    let (names, tasks) = (&judged.classes, Tasks::of(&[data]));
    let all = table(names, data, &tasks)?;
    let mut others: Vec<(&'static str, Quality)> = Vec::new();
    for fold in 0..=judged.folds.iter().copied().max().unwrap_or(0) {
        let (outside, inside): (Vec<usize>, Vec<usize>) =
            (0..data.exemplars.len()).partition(|row| judged.folds[*row] == fold);
        let (some, training) = (data.some(&outside), data.some(&inside));
        let (part, training_table) = (table(names, &some, &tasks)?, table(names, &training, &tasks)?);
        let fold = learned(&training_table, &training, &some, &tasks, &part)?;
        for (place, (name, rows)) in fold.into_iter().enumerate() {
            if others.len() == place {
                others.push((name, vec![Vec::new(); data.exemplars.len()]));
            }
            for (at, row) in outside.iter().zip(rows) {
                others[place].1[*at] = row;
            }
        }
    }
    let costs = all.mean_costs();
    let ours = judged.estimates.iter().map(|estimate| estimate.joined.clone()).collect();
    assemble(all, costs, ours, others, seed)
}

/// What the model believes. Where it abstains, what it believes of every prompt.
fn quality(model: &RoutingModel, data: &Data) -> Quality {
    let row = |inputs: &Vec<f32>| {
        let estimate = model.estimate_inputs(inputs);
        if estimate.abstained { model.manifest.vote.mean.clone() } else { estimate.joined }
    };
    data.inputs.iter().map(row).collect()
}

/// Baselines that learn from training rows, and the length of the prompt.
fn learned(
    training_table: &Table,
    training: &Data,
    data: &Data,
    tasks: &Tasks,
    table: &Table,
) -> Result<Vec<(&'static str, Quality)>> {
    let characters =
        |data: &Data| -> Vec<usize> { data.exemplars.iter().map(|exemplar| exemplar.prompt.chars().count()).collect() };
    let length = match Pair::of(training_table) {
        Some(pair) => baselines::length_order(&characters(data), pair.strong),
        None => baselines::length_line(training_table, &characters(training), &characters(data)),
    };
    let width = (data.inputs[0].len() - crate::classifier::structure::WIDTH) / crate::embedder::VIEWS.len();
    let embeddings = |data: &Data| -> Vec<Vec<f32>> { data.inputs.iter().map(|inputs| whole(inputs, width)).collect() };
    let mut near = nearest(training_table, &embeddings(training), &embeddings(data), &[10, 100]).into_iter();
    let mut next = || near.next().unwrap_or_default();
    let mut all = vec![
        ("length alone", length),
        ("best single", baselines::best_single(training_table, table.rows().len())),
        ("kNN 10", next()),
        ("kNN 100", next()),
    ];
    if tasks.0.len() > 1 {
        let of: Vec<Option<u32>> = data.exemplars.iter().map(|exemplar| tasks.position(exemplar)).collect();
        all.push(("task label given", baselines::task_label(training_table, &of)));
    }
    Ok(all)
}

fn assemble(
    table: Table,
    costs: Vec<f64>,
    ours: Quality,
    mut others: Vec<(&'static str, Quality)>,
    seed: u64,
) -> Result<Measured> {
    others.insert(0, ("random", baselines::random(table.rows().len(), table.names().len(), seed)));
    others.push(("oracle", baselines::oracle(&table)));
    let candidate = |name: &str, quality| Candidate::new(name, &table, quality, costs.clone()).map_err(unusable);
    let ours = candidate("waypost", ours)?;
    let others = others.into_iter().map(|(name, quality)| candidate(name, quality)).collect::<Result<Vec<_>>>()?;
    let report = OutcomeReport::new(&table, &ours, &others, RESAMPLES, seed);
    Ok(Measured { report, routers: std::iter::once(ours).chain(others).collect(), table })
}

/// Names of tasks, in order.
struct Tasks(Vec<String>);

impl Tasks {
    fn of(all: &[&Data]) -> Self {
        let names = all.iter().flat_map(|data| &data.exemplars).map(|exemplar| exemplar.source.clone());
        Tasks(names.filter(|name| !name.is_empty()).collect::<std::collections::BTreeSet<_>>().into_iter().collect())
    }

    fn position(&self, exemplar: &Exemplar) -> Option<u32> {
        self.0.binary_search(&exemplar.source).ok().map(|at| at as u32)
    }
}

fn table(names: &[String], data: &Data, tasks: &Tasks) -> Result<Table> {
    let mut groups: BTreeMap<&str, u32> = BTreeMap::new();
    let rows = data
        .exemplars
        .iter()
        .map(|exemplar| {
            let next = groups.len() as u32;
            Row {
                score: names.iter().map(|name| exemplar.score.get(name).copied()).collect(),
                cost: names.iter().map(|name| exemplar.cost.get(name).copied()).collect(),
                group: *groups.entry(exemplar.unit()).or_insert(next),
                task: tasks.position(exemplar),
            }
        })
        .collect();
    Table::new(names.to_vec(), rows).map_err(unusable)
}

fn unusable(error: TableError) -> Error {
    Error::Model(format!("these outcomes cannot be measured: {error}"))
}

impl Measured {
    /// Cost against quality; of two models without costs, the share of calls to the strong one against performance.
    pub fn chart(&self, title: &str) -> Result<String> {
        let routers: Vec<&Candidate> = self.routers.iter().collect();
        let drawn = if self.table.priced() {
            cost_chart(title, &self.table, &routers)
        } else {
            share_chart(title, &self.table, &routers)
        };
        drawn.map_err(|error| Error::Model(format!("the chart could not be drawn: {error}")))
    }
}

/// The report in the terminal.
pub fn print(title: &str, report: &OutcomeReport) {
    println!(
        "{title} on {} prompts: best single {} {:.4}, oracle {:.4}",
        report.prompts,
        report.best_single,
        report.models.iter().find(|model| model.name == report.best_single).map_or(0.0, |model| model.score),
        report.oracle
    );
    let mut table = super::super::table::table(&report.headers());
    report.rows().into_iter().for_each(|row| {
        table.add_row(row);
    });
    println!("{table}");
    println!("Intervals: 95 %, paired, {} resamples of groups.", report.resamples);
}
