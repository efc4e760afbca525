//! How good a routing model is on labelled prompts that it was not trained on.

use crate::classifier::model::Estimate;
use serde::{Deserialize, Serialize};

/// Measured on labelled prompts. Rates lie in 0..1.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Report {
    pub prompts: usize,
    /// Share whose likeliest label is the right one.
    pub accuracy: f64,
    /// Mean over the classes.
    pub macro_recall: f64,
    pub macro_f1: f64,
    /// Expected calibration error of the likeliest label, ten bins of equal width.
    pub calibration_error: f64,
    /// Share on which the router abstains.
    pub abstained: f64,
    /// Accuracy of the head alone and of the neighbors alone.
    pub head_accuracy: f64,
    pub neighbors_accuracy: f64,
    pub classes: Vec<String>,
    /// `confusion[right][said]`.
    pub confusion: Vec<Vec<usize>>,
}

/// Compares estimates with the right labels (positions in `classes`).
pub fn report(classes: &[String], estimates: &[Estimate], labels: &[usize]) -> Report {
    let count = labels.len().max(1) as f64;
    let accuracy = |shares: &dyn Fn(&Estimate) -> usize| {
        estimates.iter().zip(labels).filter(|(estimate, label)| shares(estimate) == **label).count() as f64 / count
    };
    let mut confusion = vec![vec![0; classes.len()]; classes.len()];
    for (estimate, label) in estimates.iter().zip(labels) {
        confusion[*label][likeliest(&estimate.joined)] += 1;
    }
    let present: Vec<usize> = (0..classes.len()).filter(|class| labels.contains(class)).collect();
    let mean = |value: &dyn Fn(usize) -> f64| {
        present.iter().map(|class| value(*class)).sum::<f64>() / present.len().max(1) as f64
    };
    Report {
        prompts: labels.len(),
        accuracy: accuracy(&|estimate| likeliest(&estimate.joined)),
        macro_recall: mean(&|class| recall(&confusion, class)),
        macro_f1: mean(&|class| f1(&confusion, class)),
        calibration_error: calibration_error(estimates, labels),
        abstained: estimates.iter().filter(|estimate| estimate.abstained).count() as f64 / count,
        head_accuracy: accuracy(&|estimate| likeliest(&estimate.head)),
        neighbors_accuracy: accuracy(&|estimate| likeliest(&estimate.neighbors)),
        classes: classes.to_vec(),
        confusion,
    }
}

/// Position of the largest share; the first of equals.
pub fn likeliest(shares: &[f64]) -> usize {
    (0..shares.len()).fold(0, |best, at| if shares[at] > shares[best] { at } else { best })
}

/// Share of a class's prompts that were recognised.
pub fn recall(confusion: &[Vec<usize>], class: usize) -> f64 {
    let all: usize = confusion[class].iter().sum();
    confusion[class][class] as f64 / all.max(1) as f64
}

fn f1(confusion: &[Vec<usize>], class: usize) -> f64 {
    let said: usize = confusion.iter().map(|row| row[class]).sum();
    let (recall, precision) = (recall(confusion, class), confusion[class][class] as f64 / said.max(1) as f64);
    if recall + precision == 0.0 { 0.0 } else { 2.0 * recall * precision / (recall + precision) }
}

fn calibration_error(estimates: &[Estimate], labels: &[usize]) -> f64 {
    let mut bins = [(0usize, 0.0f64, 0usize); 10];
    for (estimate, label) in estimates.iter().zip(labels) {
        let said = likeliest(&estimate.joined);
        let bin = &mut bins[((estimate.joined[said] * 10.0) as usize).min(9)];
        *bin = (bin.0 + 1, bin.1 + estimate.joined[said], bin.2 + usize::from(said == *label));
    }
    let gap = |(_, sure, right): &(usize, f64, usize)| (sure - *right as f64).abs();
    bins.iter().map(gap).sum::<f64>() / labels.len().max(1) as f64
}

impl Report {
    /// The confusion table as markdown: rows are right, columns are said.
    pub fn confusion_markdown(&self) -> String {
        let short = |class: &String| class.chars().take(6).collect::<String>();
        let header: Vec<String> = self.classes.iter().map(short).collect();
        let mut text =
            format!("| right \\ said | {} | recall |\n|---|{}---|\n", header.join(" | "), "---|".repeat(header.len()));
        for (class, row) in self.confusion.iter().enumerate() {
            let counts: Vec<String> =
                row.iter().map(|count| if *count == 0 { String::new() } else { count.to_string() }).collect();
            text += &format!(
                "| {} | {} | {:.1} % |\n",
                self.classes[class],
                counts.join(" | "),
                100.0 * recall(&self.confusion, class)
            );
        }
        text
    }
}

/// Macro recall of an even join of out-of-fold estimates.
pub fn macro_recall(items: &[super::OutOfFold], classes: usize) -> f64 {
    let mut confusion = vec![vec![0; classes]; classes];
    for item in items {
        let joined: Vec<f64> =
            item.head.iter().zip(&item.neighbors).map(|(head, neighbors)| head * neighbors).collect();
        confusion[item.label][likeliest(&joined)] += 1;
    }
    (0..classes).map(|class| recall(&confusion, class)).sum::<f64>() / classes as f64
}
