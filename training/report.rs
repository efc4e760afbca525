//! How good a routing model is on labelled prompts that it was not trained on.

use super::measure::bootstrap::{Interval, Measure, RESAMPLES, bootstrap};
use crate::classifier::model::Estimate;
use serde::{Deserialize, Serialize};

/// Bins of the reliability diagram, of equal width.
const BINS: usize = 10;

/// Shares of prompts answered, at which accuracy is told.
const COVERAGES: [f64; 7] = [1.0, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5];

/// Measured on labelled prompts. Rates lie in 0..1.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Report {
    /// Prompts in scope.
    pub prompts: usize,
    /// Share whose likeliest label is the right one.
    pub accuracy: f64,
    /// Mean over the classes.
    pub macro_recall: f64,
    pub macro_f1: f64,
    /// Expected calibration error of the likeliest label.
    pub calibration_error: f64,
    pub reliability: Vec<Bin>,
    /// Share on which the router abstains.
    pub abstained: f64,
    /// Accuracy of the hidden layer, the kernel and the neighbors, each alone.
    pub sources_accuracy: [f64; 3],
    /// Of a model that has early exits.
    pub early_exit: Option<EarlyExit>,
    /// Accuracy when only the most confident share is answered.
    pub coverage: Vec<Coverage>,
    /// Where prompts of no class are among them.
    pub out_of_scope: Option<OutOfScope>,
    pub classes: Vec<String>,
    /// `confusion[right][said]`.
    pub confusion: Vec<Vec<usize>>,
}

/// What early exits change, of the same prompts.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct EarlyExit {
    /// Share of the prompts that each exit decides.
    pub decided: Vec<f64>,
    /// Share of those on which the whole road names the same class.
    pub agreement: f64,
    /// Accuracy where exits decide what they are sure of.
    pub accuracy: f64,
    /// Accuracy with exits less that without, with a paired confidence interval of 95 %.
    pub difference: Interval,
}

/// Prompts whose likeliest label had about the same probability.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Bin {
    pub prompts: usize,
    pub mean_probability: f64,
    pub accuracy: f64,
}

/// A point of accuracy against coverage.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
pub struct Coverage {
    pub coverage: f64,
    /// The least confidence among those answered.
    pub confidence: f64,
    pub accuracy: f64,
}

/// How well confidence tells prompts of no class from the others.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
pub struct OutOfScope {
    pub prompts: usize,
    /// Probability that a prompt in scope is more confident than one out of scope; ties count half.
    pub auroc: f64,
    /// Share out of scope that is accepted where 95 % in scope are.
    pub fpr95: f64,
    /// Share on which the router abstains.
    pub abstained: f64,
}

/// Compares estimates with the right labels: positions in `classes`, none for a prompt of no class.
pub fn report(classes: &[String], estimates: &[Estimate], labels: &[Option<usize>]) -> Report {
    let inside: Vec<(&Estimate, usize)> =
        estimates.iter().zip(labels).filter_map(|(estimate, label)| Some((estimate, (*label)?))).collect();
    let outside: Vec<&Estimate> =
        estimates.iter().zip(labels).filter(|(_, label)| label.is_none()).map(|(estimate, _)| estimate).collect();
    let share = |count: usize, of: usize| count as f64 / of.max(1) as f64;
    let accuracy = |said: &dyn Fn(&Estimate) -> &[f64]| {
        share(inside.iter().filter(|(estimate, label)| likeliest(said(estimate)) == *label).count(), inside.len())
    };
    let mut confusion = vec![vec![0; classes.len()]; classes.len()];
    inside.iter().for_each(|(estimate, label)| confusion[*label][likeliest(&estimate.joined)] += 1);
    let present: Vec<usize> = (0..classes.len()).filter(|class| confusion[*class].iter().sum::<usize>() > 0).collect();
    let mean = |value: &dyn Fn(usize) -> f64| {
        present.iter().map(|class| value(*class)).sum::<f64>() / present.len().max(1) as f64
    };
    let abstained = |some: &mut dyn Iterator<Item = &Estimate>| some.filter(|estimate| estimate.abstained).count();
    let reliability = reliability(&inside);
    Report {
        prompts: inside.len(),
        accuracy: accuracy(&|estimate| &estimate.joined),
        macro_recall: mean(&|class| recall(&confusion, class)),
        macro_f1: mean(&|class| f1(&confusion, class)),
        calibration_error: calibration_error(&reliability),
        reliability,
        abstained: share(abstained(&mut inside.iter().map(|(estimate, _)| *estimate)), inside.len()),
        sources_accuracy: std::array::from_fn(|source| {
            accuracy(&|estimate| estimate.sources.as_ref().map_or(&estimate.joined, |sources| &sources[source]))
        }),
        early_exit: None,
        coverage: coverage(&inside),
        out_of_scope: (!outside.is_empty()).then(|| OutOfScope {
            abstained: share(abstained(&mut outside.iter().copied()), outside.len()),
            ..out_of_scope(&inside, &outside)
        }),
        classes: classes.to_vec(),
        confusion,
    }
}

/// What early exits change: the same prompts read with them, `early`, and the whole road, `whole`. `exits` are the
/// views each exit reads.
pub fn early_exit(
    exits: &[usize],
    early: &[Estimate],
    whole: &[Estimate],
    labels: &[Option<usize>],
    seed: u64,
) -> Option<EarlyExit> {
    let labelled: Vec<(&Estimate, &Estimate, usize)> =
        early.iter().zip(whole).zip(labels).filter_map(|((a, b), label)| Some((a, b, (*label)?))).collect();
    let share = |count: usize, of: usize| count as f64 / of.max(1) as f64;
    let by = |views: usize| labelled.iter().filter(|(a, ..)| a.exit.is_some_and(|exit| exit.views == views)).count();
    let left: Vec<_> = labelled.iter().filter(|(a, ..)| a.exit.is_some()).collect();
    let agreed = left.iter().filter(|(a, b, _)| likeliest(&a.joined) == likeliest(&b.joined)).count();
    let accuracy = |right: Vec<f64>| -> Measure<'_> {
        Box::new(move |times: &[u32]| {
            let sum: f64 = right.iter().zip(times).map(|(right, times)| right * f64::from(*times)).sum();
            Some(sum / right.len() as f64)
        })
    };
    let right = |estimate: &Estimate, label: usize| f64::from(u8::from(likeliest(&estimate.joined) == label));
    let measures = [
        accuracy(labelled.iter().map(|(a, _, label)| right(a, *label)).collect()),
        accuracy(labelled.iter().map(|(_, b, label)| right(b, *label)).collect()),
    ];
    let rows: Vec<u32> = (0..labelled.len() as u32).collect();
    let resampled = bootstrap(&rows, RESAMPLES, seed, &measures);
    Some(EarlyExit {
        decided: exits.iter().map(|views| share(by(*views), labelled.len())).collect(),
        agreement: share(agreed, left.len()),
        accuracy: resampled[0].value?,
        difference: resampled[0].minus(&resampled[1])?,
    })
}

/// Position of the largest share; the first of equals.
pub fn likeliest<T: PartialOrd>(shares: &[T]) -> usize {
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

fn reliability(inside: &[(&Estimate, usize)]) -> Vec<Bin> {
    let mut bins = vec![Bin::default(); BINS];
    for (estimate, label) in inside {
        let said = likeliest(&estimate.joined);
        let bin = &mut bins[((estimate.joined[said] * BINS as f64) as usize).min(BINS - 1)];
        bin.prompts += 1;
        bin.mean_probability += estimate.joined[said];
        bin.accuracy += f64::from(u8::from(said == *label));
    }
    for bin in bins.iter_mut().filter(|bin| bin.prompts > 0) {
        bin.mean_probability /= bin.prompts as f64;
        bin.accuracy /= bin.prompts as f64;
    }
    bins
}

fn calibration_error(bins: &[Bin]) -> f64 {
    let all: usize = bins.iter().map(|bin| bin.prompts).sum();
    bins.iter().map(|bin| bin.prompts as f64 * (bin.mean_probability - bin.accuracy).abs()).sum::<f64>()
        / all.max(1) as f64
}

fn coverage(inside: &[(&Estimate, usize)]) -> Vec<Coverage> {
    let mut order: Vec<(f64, bool)> =
        inside.iter().map(|(estimate, label)| (estimate.confidence, likeliest(&estimate.joined) == *label)).collect();
    order.sort_by(|a, b| b.0.total_cmp(&a.0));
    let point = |coverage: &f64| {
        let answered = ((order.len() as f64 * coverage).round() as usize).max(1).min(order.len());
        let right = order[..answered].iter().filter(|(_, right)| *right).count();
        Coverage {
            coverage: *coverage,
            confidence: order.get(answered.saturating_sub(1)).map_or(0.0, |(confidence, _)| *confidence),
            accuracy: right as f64 / answered.max(1) as f64,
        }
    };
    COVERAGES.iter().map(point).collect()
}

fn out_of_scope(inside: &[(&Estimate, usize)], outside: &[&Estimate]) -> OutOfScope {
    let mut inner: Vec<f64> = inside.iter().map(|(estimate, _)| estimate.confidence).collect();
    inner.sort_by(f64::total_cmp);
    let beaten = |estimate: &&Estimate| {
        let (below, upto) = (
            inner.partition_point(|confidence| *confidence < estimate.confidence),
            inner.partition_point(|confidence| *confidence <= estimate.confidence),
        );
        inner.len() as f64 - (below + upto) as f64 / 2.0
    };
    let pairs = (inner.len() * outside.len()).max(1) as f64;
    let least = inner.get(inner.len() / 20).copied().unwrap_or(0.0);
    let accepted = outside.iter().filter(|estimate| estimate.confidence >= least).count();
    OutOfScope {
        prompts: outside.len(),
        auroc: outside.iter().map(beaten).sum::<f64>() / pairs,
        fpr95: accepted as f64 / outside.len() as f64,
        abstained: 0.0,
    }
}

impl Report {
    /// The confusion table as markdown: rows are right, columns are said. Of more than twenty classes only the
    /// twenty that are recognised worst, by their recall.
    pub fn confusion_markdown(&self) -> String {
        if self.classes.len() > 20 {
            return self.worst_markdown();
        }
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

    fn worst_markdown(&self) -> String {
        let mut order: Vec<usize> = (0..self.classes.len()).collect();
        order.sort_by(|a, b| recall(&self.confusion, *a).total_cmp(&recall(&self.confusion, *b)));
        let line = |class: &usize| {
            format!("| {} | {:.1} % |\n", self.classes[*class], 100.0 * recall(&self.confusion, *class))
        };
        format!("| class | recall |\n|---|---|\n{}", order.iter().take(20).map(line).collect::<String>())
    }
}

/// Macro recall of an even join of estimates of prompts unseen.
pub fn macro_recall(items: &[super::OutOfFold], classes: usize) -> f64 {
    let mut confusion = vec![vec![0; classes]; classes];
    for item in items {
        let joined: Vec<f64> =
            (0..classes).map(|class| item.sources.iter().map(|source| source[class]).product()).collect();
        let label = item.known.iter().position(|known| *known == 1.0).unwrap_or(0);
        confusion[label][likeliest(&joined)] += 1;
    }
    let present: Vec<usize> = (0..classes).filter(|class| confusion[*class].iter().sum::<usize>() > 0).collect();
    present.iter().map(|class| recall(&confusion, *class)).sum::<f64>() / present.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn estimate(joined: [f64; 2], confidence: f64) -> Estimate {
        Estimate {
            sources: Some([joined.to_vec(), joined.to_vec(), joined.to_vec()]),
            joined: joined.to_vec(),
            hits: Vec::new(),
            abstained: confidence < 0.3,
            confidence,
            exit: None,
        }
    }

    #[test]
    fn a_small_table_by_hand() {
        let classes = ["a".to_string(), "b".to_string()];
        let estimates = [
            estimate([0.9, 0.1], 0.9),
            estimate([0.8, 0.2], 0.8),
            estimate([0.3, 0.7], 0.7),
            estimate([0.6, 0.4], 0.4),
            estimate([0.5, 0.5], 0.75),
            estimate([0.5, 0.5], 0.1),
        ];
        let labels = [Some(0), Some(0), Some(1), Some(1), None, None];
        let report = report(&classes, &estimates, &labels);
        assert_eq!((report.prompts, report.accuracy, report.macro_recall), (4, 0.75, 0.75));
        assert_eq!(report.confusion, [[2, 0], [1, 1]]);
        // |.9 - 1| + |.8 - 1| + |.7 - 1| + |.6 - 0|, a quarter each.
        assert!((report.calibration_error - 0.3).abs() < 1e-9);
        assert_eq!(report.coverage.last().map(|point| point.accuracy), Some(1.0));
        let outside = report.out_of_scope.expect("two are out of scope");
        // Of 8 pairs, .75 beats .7 and .4: 6 are in order.
        assert_eq!((outside.auroc, outside.fpr95, outside.abstained), (0.75, 0.5, 0.5));
    }
}
