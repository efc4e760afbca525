//! A routing model on labelled prompts.

use super::Judged;
use crate::classifier::exemplar::OUT_OF_SCOPE;
use crate::classifier::model::Estimate;
use crate::classifier::{Exemplar, RoutingModel};
use crate::cli::data::Data;
use crate::error::{Error, Result};
use crate::training::report::{Report, early_exit, likeliest, recall, report};
use std::collections::BTreeMap;

/// Measures a model on prompts whose label it knows, or that are out of scope.
pub fn measure(model: &RoutingModel, data: &Data) -> Result<Report> {
    measure_estimates(model, data, &estimates(model, data))
}

/// As [`measure`], from estimates made before.
pub fn measure_estimates(model: &RoutingModel, data: &Data, estimates: &[Estimate]) -> Result<Report> {
    let labels = positions(&data.exemplars, &model.manifest.classes)?;
    let exits: Vec<usize> = model.manifest.exits.iter().map(|exit| exit.views).collect();
    let early = || data.inputs.iter().map(|inputs| model.read_inputs(inputs)).collect::<Vec<_>>();
    let mut report = report(&model.manifest.classes, estimates, &labels);
    if !exits.is_empty() {
        report.early_exit = early_exit(&exits, &early(), estimates, &labels, model.manifest.seed);
    }
    Ok(report)
}

/// What a model makes of every prompt.
pub fn estimates(model: &RoutingModel, data: &Data) -> Vec<Estimate> {
    data.inputs.iter().map(|inputs| model.estimate_inputs(inputs)).collect()
}

/// The folds of a cross-validation as one report.
pub fn across(judged: &Judged, data: &Data) -> Result<Report> {
    let labels = positions(&data.exemplars, &judged.classes)?;
    Ok(report(&judged.classes, &judged.estimates, &labels))
}

/// The position of each label among the classes; none for a prompt of no class.
fn positions(exemplars: &[Exemplar], classes: &[String]) -> Result<Vec<Option<usize>>> {
    let label = |exemplar: &Exemplar| {
        let place = classes.iter().position(|class| *class == exemplar.class);
        if place.is_none() && exemplar.class != OUT_OF_SCOPE {
            return Err(Error::Model(format!(
                "`{}` has the label `{}`, which the model does not know; it knows {}, and `{OUT_OF_SCOPE}` for none of them",
                exemplar.id,
                exemplar.class,
                classes.join(", ")
            )));
        }
        Ok(place)
    };
    exemplars.iter().map(label).collect()
}

/// The report in the terminal.
pub fn print(title: &str, report: &Report) {
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    println!("{title} on {} prompts", report.prompts);
    let [deep, kernel, neighbors] = report.sources_accuracy.map(percent);
    println!("accuracy {}  (hidden layer {deep}, kernel {kernel}, neighbors {neighbors})", percent(report.accuracy));
    println!(
        "macro recall {}, macro F1 {}, calibration error {:.3}, abstained {}",
        percent(report.macro_recall),
        percent(report.macro_f1),
        report.calibration_error,
        percent(report.abstained)
    );
    if let Some(outside) = &report.out_of_scope {
        println!(
            "out of scope: {} prompts, AUROC {:.3}, accepted where 95 % in scope are {}, abstained {}",
            outside.prompts,
            outside.auroc,
            percent(outside.fpr95),
            percent(outside.abstained)
        );
    }
    if let Some(early) = &report.early_exit {
        let decided: Vec<String> = early.decided.iter().map(|share| percent(*share)).collect();
        println!(
            "early exits decide {}; {} of these as the whole road does; accuracy with them {} ({:+.1} [{:+.1}, {:+.1}])",
            decided.join(", "),
            percent(early.agreement),
            percent(early.accuracy),
            100.0 * early.difference.value,
            100.0 * early.difference.low,
            100.0 * early.difference.high
        );
    }
    let points: Vec<String> = report
        .coverage
        .iter()
        .map(|point| {
            format!("{} of {} (confidence ≥ {:.2})", percent(point.accuracy), percent(point.coverage), point.confidence)
        })
        .collect();
    println!("accuracy against coverage: {}\n", points.join(", "));
    println!("{}", report.confusion_markdown());
    let worst = (0..report.classes.len())
        .min_by(|a, b| recall(&report.confusion, *a).total_cmp(&recall(&report.confusion, *b)));
    if let Some(worst) = worst {
        println!("weakest: {}\n", report.classes[worst]);
    }
}

/// `CONFUSION.md` of a version.
pub fn confusion_page(title: &str, report: &Report) -> String {
    format!(
        "# {title} on {} held-out prompts\n\nAccuracy {:.1} %, macro recall {:.1} %, macro F1 {:.1} %, calibration error {:.3}, abstained {:.1} %. Rows are right, columns are said.\n\n{}",
        report.prompts,
        100.0 * report.accuracy,
        100.0 * report.macro_recall,
        100.0 * report.macro_f1,
        report.calibration_error,
        100.0 * report.abstained,
        report.confusion_markdown()
    )
}

/// Accuracy by source and language, and the mistakes where wanted.
pub fn print_sources(model: &RoutingModel, data: &Data, estimates: &[Estimate], mistakes: bool) -> Result<()> {
    let classes = &model.manifest.classes;
    let labels = positions(&data.exemplars, classes)?;
    let mut shares: BTreeMap<(&str, &str), (usize, usize)> = BTreeMap::new();
    for ((exemplar, estimate), label) in data.exemplars.iter().zip(estimates).zip(&labels) {
        let Some(label) = label else { continue };
        let said = likeliest(&estimate.joined);
        for key in [("source", exemplar.source.as_str()), ("lang", exemplar.lang.as_str())] {
            let (all, right) = shares.entry(key).or_default();
            (*all, *right) = (*all + 1, *right + usize::from(said == *label));
        }
        if mistakes && said != *label {
            let text: String =
                exemplar.prompt.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(140).collect();
            println!("{:14} said {:14} {:.2}  {text}", exemplar.class, classes[said], estimate.confidence);
        }
    }
    for ((kind, name), (all, right)) in shares.into_iter().filter(|((_, name), _)| !name.is_empty()) {
        println!("{kind:7} {name:16} {:5.1} % of {all}", 100.0 * right as f64 / all as f64);
    }
    Ok(())
}
