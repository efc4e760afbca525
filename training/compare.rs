//! Whether a new version may follow the current one: both are judged on prompts that neither of them had seen, paired,
//! with a bootstrap over groups of near-duplicates.

use super::measure::bootstrap::{Interval, Measure, RESAMPLES, bootstrap};
use super::report::likeliest;
use crate::classifier::Exemplar;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A class that lost more than so many standard errors is worse beyond doubt, however many classes there are.
const FAR_WORSE: f64 = 4.0;

/// A prompt judged by both versions: the value of each one's choice, 0..1.
pub struct Judged<'a> {
    pub exemplar: &'a Exemplar,
    pub current: f64,
    pub candidate: f64,
}

/// The verdict.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Comparison {
    pub prompts: usize,
    /// Share of right labels, or mean score of the choices.
    pub current: f64,
    pub candidate: f64,
    /// Candidate minus current, with its 95 % interval.
    pub difference: Interval,
    /// The candidate is worse beyond doubt: the whole interval lies below 0, one class is far worse, or one is missing.
    pub worse: bool,
    /// Classes of the current version that the candidate does not know.
    #[serde(default)]
    pub missing: Vec<String>,
    /// What became worse, the most first.
    pub losses: Vec<Loss>,
}

/// A class of which fewer are right than before.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Loss {
    pub class: String,
    pub prompts: usize,
    pub current: f64,
    pub candidate: f64,
}

/// What the choice of the likeliest class is worth on an exemplar: 1 for its label, or the class's score. `None` where its
/// score is not known.
pub fn value(exemplar: &Exemplar, classes: &[String], joined: &[f64]) -> Option<f64> {
    let chosen = &classes[likeliest(joined)];
    match exemplar.score.is_empty() {
        true => Some(f64::from(u8::from(exemplar.class == *chosen))),
        false => exemplar.score.get(chosen).copied(),
    }
}

/// Compares two versions; `missing` are classes that only the current one knows. `None` when there is nothing to compare
/// on.
pub fn compare(judged: &[Judged<'_>], missing: Vec<String>, seed: u64) -> Option<Comparison> {
    let mut units: BTreeMap<&str, u32> = BTreeMap::new();
    let groups: Vec<u32> = judged
        .iter()
        .map(|row| {
            let next = units.len() as u32;
            *units.entry(row.exemplar.unit()).or_insert(next)
        })
        .collect();
    let mean = |value: fn(&Judged<'_>) -> f64| -> Measure<'_> {
        Box::new(move |weights: &[u32]| {
            let all: u32 = weights.iter().sum();
            let sum: f64 = judged.iter().zip(weights).map(|(row, weight)| value(row) * f64::from(*weight)).sum();
            (all > 0).then(|| sum / f64::from(all))
        })
    };
    if judged.is_empty() {
        return None;
    }
    let resampled = bootstrap(&groups, RESAMPLES, seed, &[mean(|row| row.candidate), mean(|row| row.current)]);
    let difference = resampled[0].minus(&resampled[1])?;
    let count = judged.len() as f64;
    Some(Comparison {
        prompts: judged.len(),
        current: judged.iter().map(|row| row.current).sum::<f64>() / count,
        candidate: judged.iter().map(|row| row.candidate).sum::<f64>() / count,
        worse: difference.high < 0.0 || !missing.is_empty() || any_far_worse(judged),
        difference,
        missing,
        losses: losses(judged),
    })
}

/// What a prompt's loss is counted under: its label, or where outcomes have no one right class, its source.
fn kind<'a>(row: &Judged<'a>) -> &'a str {
    if row.exemplar.class.is_empty() { &row.exemplar.source } else { &row.exemplar.class }
}

/// Whether one class lost more than chance among many classes explains.
fn any_far_worse(judged: &[Judged<'_>]) -> bool {
    let mut classes: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for row in judged {
        classes.entry(kind(row)).or_default().push(row.candidate - row.current);
    }
    classes.values().any(|differences| {
        let count = differences.len() as f64;
        let mean = differences.iter().sum::<f64>() / count;
        let spread = differences.iter().map(|difference| (difference - mean).powi(2)).sum::<f64>();
        // One more prompt that speaks against it: a handful of prompts proves nothing.
        let error = ((spread + 1.0) / count / count).sqrt();
        mean < -FAR_WORSE * error
    })
}

fn losses(judged: &[Judged<'_>]) -> Vec<Loss> {
    let mut classes: BTreeMap<&str, (usize, f64, f64)> = BTreeMap::new();
    for row in judged {
        let sums = classes.entry(kind(row)).or_default();
        *sums = (sums.0 + 1, sums.1 + row.current, sums.2 + row.candidate);
    }
    let mut losses: Vec<Loss> = classes
        .into_iter()
        .filter(|(_, (_, current, candidate))| candidate < current)
        .map(|(class, (prompts, current, candidate))| Loss {
            class: class.into(),
            prompts,
            current: current / prompts as f64,
            candidate: candidate / prompts as f64,
        })
        .collect();
    losses.sort_by(|a, b| (a.candidate - a.current).total_cmp(&(b.candidate - b.current)));
    losses
}

impl Comparison {
    /// The verdict in one line, with the classes that became worse.
    pub fn sentence(&self) -> String {
        let losses: Vec<String> = self
            .losses
            .iter()
            .take(5)
            .map(|loss| format!("{} {:.1} → {:.1} %", loss.class, 100.0 * loss.current, 100.0 * loss.candidate))
            .collect();
        let mut losses = if losses.is_empty() { String::new() } else { format!("; worse: {}", losses.join(", ")) };
        if !self.missing.is_empty() {
            losses += &format!("; it does not know {}", self.missing.join(", "));
        }
        format!(
            "{:.1} % against {:.1} % of the current version on {} prompts neither had seen, difference {:+.1} [{:+.1}, {:+.1}]{losses}",
            100.0 * self.candidate,
            100.0 * self.current,
            self.prompts,
            100.0 * self.difference.value,
            100.0 * self.difference.low,
            100.0 * self.difference.high
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worse_version_is_told_with_the_class_that_suffers() {
        let exemplars: Vec<Exemplar> = (0..200)
            .map(|at| Exemplar {
                id: at.to_string(),
                class: if at % 2 == 0 { "even" } else { "odd" }.into(),
                ..Exemplar::default()
            })
            .collect();
        let judged = |worse: bool| {
            let row = |exemplar| Judged { exemplar, current: 1.0, candidate: 1.0 };
            let mut rows: Vec<Judged<'_>> = exemplars.iter().map(row).collect();
            rows.iter_mut().step_by(10).for_each(|row| {
                (row.current, row.candidate) = if worse { (1.0, 0.0) } else { (0.0, 1.0) };
            });
            compare(&rows, Vec::new(), 1).expect("there are rows")
        };
        let worse = judged(true);
        assert!(worse.worse && worse.losses.len() == 1 && worse.losses[0].class == "even", "{worse:?}");
        assert!(worse.sentence().contains("even 100.0 → 80.0 %"));
        let mut rare: Vec<Judged<'_>> =
            exemplars.iter().map(|exemplar| Judged { exemplar, current: 0.5, candidate: 0.6 }).collect();
        let small = Exemplar { class: "small".into(), ..Exemplar::default() };
        rare.extend((0..30).map(|at| Judged {
            exemplar: &small,
            current: f64::from(u8::from(at % 3 > 0)),
            candidate: 0.0,
        }));
        let rare = compare(&rare, Vec::new(), 1).expect("there are rows");
        assert!(rare.worse && rare.difference.high > 0.0, "one class lost all: {rare:?}");
        let missing = compare(&[Judged { exemplar: &small, current: 1.0, candidate: 1.0 }], vec!["gone".into()], 1);
        let missing = missing.expect("there is a row");
        assert!(missing.worse && missing.sentence().ends_with("it does not know gone"));
        let better = judged(false);
        assert!(!better.worse && better.losses.is_empty() && better.difference.low > 0.0);
    }
}
