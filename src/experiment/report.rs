//! What came of an experiment, from its log: every arm, its difference to the control with a 95 % interval, and a sentence.

use super::event::{Event, Line, Scorer, Stop};
use super::log;
use super::statistics::{Of, Pair, Spot, Sum, means, misfit, quantiles, share, share_difference};
use crate::config::{ExperimentConfig, ExperimentKind};
use crate::error::{Error, Result};
use crate::training::measure::bootstrap::{Interval, RESAMPLES};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// Units of an arm below which nothing is concluded.
const FEW_UNITS: usize = 30;

/// Chance below which the sizes of arms are no accident.
const MISFIT: f64 = 1e-3;

/// The same log gives the same numbers.
const SEED: u64 = 1;

/// What came of an experiment.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub experiment: String,
    /// Milliseconds since the Unix epoch, of the first and the last answer.
    pub from_ms: u64,
    pub until_ms: u64,
    /// The control first.
    pub arms: Vec<Arm>,
    /// Of a canary that was stopped.
    pub stop: Option<Stop>,
    /// What makes the numbers doubtful.
    pub warnings: Vec<String>,
    /// A sentence for each arm but the control.
    pub verdict: String,
}

/// One arm.
#[derive(Clone, Debug, Serialize)]
pub struct Arm {
    pub arm: String,
    pub requests: usize,
    pub units: usize,
    /// Share of failed answers.
    pub errors: Option<Interval>,
    /// Dollars a request; `priced` requests have a known cost.
    pub cost: Option<Interval>,
    pub priced: usize,
    /// Milliseconds to the whole answer.
    pub latency_p50_ms: Option<Interval>,
    pub latency_p95_ms: Option<Interval>,
    /// 0..1; `scored` answers have one.
    pub score: Option<Interval>,
    pub scored: usize,
    /// To the control; absent of the control itself.
    pub differences: Option<Differences>,
}

/// An arm against the control: 95 % intervals.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Differences {
    /// The arm's minus the control's.
    pub errors: Option<Interval>,
    pub cost: Option<Interval>,
    pub score: Option<Interval>,
    /// The arm's over the control's.
    pub cost_ratio: Option<Interval>,
    pub latency_p50_ratio: Option<Interval>,
    pub latency_p95_ratio: Option<Interval>,
}

/// Reads a log and reports on it. `config` is the experiment's, where it still stands there. Blocks.
///
/// # Errors
/// [`Error::Unknown`] where nothing was logged; [`Error::Io`].
pub fn report(folder: &Path, name: &str, config: Option<&ExperimentConfig>) -> Result<Report> {
    let (mut events, mut scores, mut stop) = (Vec::new(), Scores::default(), None);
    let each = |line| match line {
        Line::Answered(event) => events.push(event),
        Line::Scored(scored) => scores.add(scored.arm, scored.decision, scored.by, scored.score),
        Line::Stopped(last) => stop = Some(last),
    };
    log::read(folder, name, each).map_err(Error::io(folder))?;
    if events.is_empty() {
        return Err(Error::Unknown { kind: "log of an experiment", id: name.into() });
    }
    for event in &mut events {
        event.answered.score = scores.of(&event.arm, &event.decision).or(event.answered.score);
    }
    Ok(of(name, &events, log::stopped(folder, name).or(stop), config))
}

/// The last word on an answer, a caller's before the judge's.
#[derive(Default)]
struct Scores(HashMap<(String, String), (Scorer, f64)>);

impl Scores {
    fn add(&mut self, arm: String, decision: String, by: Scorer, score: f64) {
        let known = self.0.entry((decision, arm)).or_insert((by, score));
        if by >= known.0 {
            *known = (by, score);
        }
    }

    fn of(&self, arm: &str, decision: &str) -> Option<f64> {
        self.0.get(&(decision.to_string(), arm.to_string())).map(|(_, score)| *score)
    }
}

fn of(name: &str, events: &[Event], stop: Option<Stop>, config: Option<&ExperimentConfig>) -> Report {
    let names = arms(events, config);
    let mut units: HashMap<u64, usize> = HashMap::new();
    for event in events {
        let next = units.len();
        units.entry(event.unit).or_insert(next);
    }
    let arm =
        |arm: &String| Sample { events: events.iter().filter(|event| event.arm == *arm).collect(), units: &units };
    let control = names.first().map_or(Sample { events: vec![], units: &units }, arm);
    let all: Vec<Arm> =
        names.iter().enumerate().map(|(at, name)| measure(name, &arm(name), (at > 0).then_some(&control))).collect();
    let at = || events.iter().map(|event| event.at_ms);
    Report {
        experiment: name.into(),
        from_ms: at().min().unwrap_or(0),
        until_ms: at().max().unwrap_or(0),
        warnings: warnings(&all, config),
        verdict: verdict(&all, stop.as_ref()),
        arms: all,
        stop,
    }
}

/// The arms in the order of the configuration, then those that only the log knows; a control first in any case.
fn arms(events: &[Event], config: Option<&ExperimentConfig>) -> Vec<String> {
    let mut names: Vec<String> = config.iter().flat_map(|one| &one.arms).map(|arm| arm.name.clone()).collect();
    let mut seen: Vec<&String> = events.iter().map(|event| &event.arm).collect();
    seen.sort_by_key(|name| (*name != "control", *name));
    seen.dedup();
    names.retain(|name| seen.contains(&name));
    let more: Vec<String> = seen.into_iter().filter(|name| !names.contains(name)).cloned().collect();
    names.extend(more);
    names
}

/// The answers of one arm.
struct Sample<'a> {
    events: Vec<&'a Event>,
    units: &'a HashMap<u64, usize>,
}

impl Sample<'_> {
    /// How many values each unit has, and their sum.
    fn sums(&self, value: impl Fn(&Event) -> Option<f64>) -> Vec<Sum> {
        let mut sums = vec![Sum::default(); self.units.len()];
        for event in &self.events {
            if let Some(value) = value(event) {
                let sum = &mut sums[self.units[&event.unit]];
                *sum = Sum { count: sum.count + 1.0, sum: sum.sum + value };
            }
        }
        sums
    }

    fn spots(&self, arm: usize) -> impl Iterator<Item = Spot> {
        let answered = self.events.iter().filter(|event| event.answered.failed == Some(false));
        answered.map(move |event| Spot { unit: self.units[&event.unit], arm, value: event.answered.ms })
    }
}

fn failed(event: &Event) -> Option<f64> {
    event.answered.failed.map(|failed| f64::from(u8::from(failed)))
}

fn cost(event: &Event) -> Option<f64> {
    event.answered.cost.map(crate::money::Money::dollars)
}

fn score(event: &Event) -> Option<f64> {
    event.answered.score
}

fn measure(name: &str, sample: &Sample<'_>, control: Option<&Sample<'_>>) -> Arm {
    let pairs = |value: fn(&Event) -> Option<f64>| -> Vec<Pair> {
        let before = control.map_or_else(|| vec![Sum::default(); sample.units.len()], |control| control.sums(value));
        before.into_iter().zip(sample.sums(value)).map(|(control, arm)| [control, arm]).collect()
    };
    let (costs, scores) = (pairs(cost), pairs(score));
    let mean = |pairs: &[Pair], of| means(pairs, of, RESAMPLES, SEED);
    let spots: Vec<Spot> = control.into_iter().flat_map(|control| control.spots(0)).chain(sample.spots(1)).collect();
    let latency = |share| quantiles(&spots, sample.units.len(), share, RESAMPLES, SEED);
    let ((p50, p50_ratio), (p95, p95_ratio)) = (latency(0.5), latency(0.95));
    let errors = share(&sample.sums(failed));
    let differences = control.map(|control| Differences {
        errors: share(&control.sums(failed)).zip(errors).map(|(before, after)| share_difference(&before, &after)),
        cost: mean(&costs, Of::Difference),
        cost_ratio: mean(&costs, Of::Ratio),
        score: mean(&scores, Of::Difference),
        latency_p50_ratio: p50_ratio,
        latency_p95_ratio: p95_ratio,
    });
    let known = |value: fn(&Event) -> Option<f64>| sample.events.iter().filter(|event| value(event).is_some()).count();
    Arm {
        arm: name.into(),
        requests: sample.events.len(),
        units: sample.sums(|_| Some(0.0)).iter().filter(|sum| sum.count > 0.0).count(),
        errors,
        cost: mean(&costs, Of::Mean),
        priced: known(cost),
        latency_p50_ms: p50,
        latency_p95_ms: p95,
        score: mean(&scores, Of::Mean).map(|score| Interval { high: score.high.min(1.0), ..score }),
        scored: known(score),
        differences,
    }
}

fn warnings(arms: &[Arm], config: Option<&ExperimentConfig>) -> Vec<String> {
    let mut warnings = Vec::new();
    let unpriced: usize = arms.iter().map(|arm| arm.requests - arm.priced).sum();
    if unpriced > 0 {
        warnings.push(format!("{unpriced} answers have no known cost: they count for errors and latency alone."));
    }
    let shares = |config: &ExperimentConfig| -> Option<Vec<f64>> {
        let share = |arm: &Arm| config.arms.iter().find(|known| known.name == arm.arm).map(|known| known.share);
        arms.iter().map(share).collect()
    };
    let random = config.filter(|config| !matches!(config.kind, ExperimentKind::Shadow(_)));
    if let Some(shares) = random.and_then(shares) {
        let seen: Vec<f64> = arms.iter().map(|arm| arm.units as f64).collect();
        let (chance, total) = (misfit(&seen, &shares), shares.iter().sum::<f64>());
        if chance < MISFIT && (total - 1.0).abs() < 1e-6 {
            warnings.push(format!(
                "The arms' sizes do not fit their shares (chance {chance:.0e}): shares were changed while it ran, or answers \
                 of one arm are missing. Do not trust the differences before you know which."
            ));
        }
    }
    warnings
}

/// A sentence for each arm, and one for a stop.
fn verdict(arms: &[Arm], stop: Option<&Stop>) -> String {
    let stopped = stop.map(|stop| format!("Stopped by {}: {}.", stop.rule, stop.why));
    let Some((control, others)) = arms.split_first().filter(|(_, others)| !others.is_empty()) else {
        return stopped.unwrap_or_else(|| "Only one arm has answers so far.".into());
    };
    let sentence = |arm: &Arm| {
        let few = arm.units.min(control.units);
        if few < FEW_UNITS {
            return format!("`{}`: too few units ({few}) to say anything.", arm.arm);
        }
        let differences = arm.differences.clone().unwrap_or_default();
        let (told, open) = differences.words();
        let mut text = match told.is_empty() {
            true => format!("`{}` does not differ measurably from `{}`", arm.arm, control.arm),
            false => format!("`{}` against `{}`: {}", arm.arm, control.arm, told.join(", ")),
        };
        if !told.is_empty() && !open.is_empty() {
            text += &format!("; no measurable difference in {}", open.join(", "));
        }
        text + "."
    };
    stopped.into_iter().chain(others.iter().map(sentence)).collect::<Vec<_>>().join(" ")
}

impl Differences {
    /// Each difference that its interval keeps away from nothing, in words; and the names of the others.
    fn words(&self) -> (Vec<String>, Vec<&'static str>) {
        let (mut told, mut open) = (Vec::new(), Vec::new());
        for (name, interval, nothing, less, more) in [
            ("errors", self.errors, 0.0, "fewer errors", "more errors"),
            ("cost", self.cost_ratio, 1.0, "cheaper", "dearer"),
            ("median latency", self.latency_p50_ratio, 1.0, "median latency lower", "median latency higher"),
            ("p95 latency", self.latency_p95_ratio, 1.0, "p95 latency lower", "p95 latency higher"),
            ("score", self.score, 0.0, "worse scores", "better scores"),
        ] {
            let Some(interval) = interval else { continue };
            if interval.low <= nothing && interval.high >= nothing {
                open.push(name);
                continue;
            }
            let word = if interval.value < nothing { less } else { more };
            told.push(format!("{word} by {}", by(&interval, nothing)));
        }
        (told, open)
    }
}

/// How much above or below nothing: of ratios in percent, of shares and scores in points.
fn by(interval: &Interval, nothing: f64) -> String {
    let unit = if nothing > 0.0 { "%" } else { "points" };
    let size = |value: f64| 100.0 * (value - nothing).abs();
    let (a, b) = (size(interval.low), size(interval.high));
    format!("{:.1} {unit} ({:.1} to {:.1})", size(interval.value), a.min(b), a.max(b))
}

/// What a chart shows of a report: for each measure a row an arm, as difference to the control in percent or points.
pub fn rows(report: &Report) -> Vec<(String, Interval)> {
    let percent = |interval: Interval, nothing: f64| {
        let of = |value: f64| 100.0 * (value - nothing);
        Interval { value: of(interval.value), low: of(interval.low), high: of(interval.high) }
    };
    let mut all: BTreeMap<usize, Vec<(String, Interval)>> = BTreeMap::new();
    for arm in &report.arms {
        let Some(found) = &arm.differences else { continue };
        let measures = [
            ("errors (points)", found.errors, 0.0),
            ("cost (%)", found.cost_ratio, 1.0),
            ("latency p50 (%)", found.latency_p50_ratio, 1.0),
            ("latency p95 (%)", found.latency_p95_ratio, 1.0),
            ("score (points)", found.score, 0.0),
        ];
        for (at, (name, interval, nothing)) in measures.into_iter().enumerate() {
            let row = interval.map(|interval| (format!("{}: {name}", arm.arm), percent(interval, nothing)));
            all.entry(at).or_default().extend(row);
        }
    }
    all.into_values().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::event::{Answered, Scored};
    use crate::money::Money;

    /// Sessions of three requests; the arm costs half as much, takes as long, and its scores are better by 0.2.
    fn events(sessions: u64) -> Vec<Line> {
        let event = |at: u64| {
            let (session, arm) = (at / 3, if (at / 3).is_multiple_of(2) { "control" } else { "mini" });
            let wobble = 1.0 + (session * 7 % 11) as f64 / 11.0;
            let half = if arm == "mini" { 0.5 } else { 1.0 };
            let answered = Answered {
                class: "code".into(),
                status: 200,
                failed: Some(at.is_multiple_of(50)),
                cost: Some(Money::from_dollars(0.001 * wobble * half)),
                ms: 1_000.0 * wobble,
                score: Some((0.3 + 0.2 * (2.0 - 2.0 * half) + 0.1 * wobble).min(1.0)),
                ..Answered::default()
            };
            let (experiment, arm, decision) = ("e".into(), arm.into(), format!("dec_{at}"));
            Line::Answered(Event { at_ms: at, experiment, arm, unit: session, decision, answered })
        };
        (0..3 * sessions).map(event).collect()
    }

    fn written(lines: &[Line]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        let text = |line: &Line| serde_json::to_string(line).expect("serialises") + "\n";
        std::fs::write(folder.path().join("e.jsonl"), lines.iter().map(text).collect::<String>()).expect("written");
        folder
    }

    #[test]
    fn a_report_says_what_differs_and_what_does_not() {
        let folder = written(&events(400));
        let report = super::report(folder.path(), "e", None).expect("reports");
        let [control, mini] = &report.arms[..] else { panic!("two arms: {:?}", report.arms) };
        assert_eq!((control.arm.as_str(), control.requests, control.units, mini.units), ("control", 600, 200, 200));
        let found = mini.differences.as_ref().expect("differences");
        let ratio = found.cost_ratio.expect("costs");
        assert!((ratio.value - 0.5).abs() < 0.01 && ratio.low > 0.45 && ratio.high < 0.55, "{ratio:?}");
        assert!(
            report.verdict.contains("cheaper by") && report.verdict.contains("better scores by 20.1 points"),
            "{}",
            report.verdict
        );
        assert!(report.verdict.contains("no measurable difference in errors, median latency"), "{}", report.verdict);
        assert_eq!(rows(&report).len(), 5);
        assert_eq!(report.verdict, super::report(folder.path(), "e", None).expect("again").verdict);
    }

    #[test]
    fn few_units_say_nothing_and_an_arm_without_answers_is_none() {
        let report = super::report(written(&events(20)).path(), "e", None).expect("reports");
        assert!(report.verdict.contains("too few units (10)"), "{}", report.verdict);
        let one = super::report(written(&events(1)).path(), "e", None).expect("reports");
        assert_eq!((one.arms.len(), one.verdict.as_str()), (1, "Only one arm has answers so far."));
        assert_eq!(super::report(written(&[]).path(), "e", None).expect_err("nothing").status(), 404);
    }

    #[test]
    fn a_callers_word_beats_the_judges_whenever_it_comes() {
        let mut lines = events(2);
        for (score, by) in [(0.9, Scorer::Feedback), (0.1, Scorer::Judge)] {
            let (experiment, arm, decision) = ("e".into(), "mini".into(), "dec_3".into());
            lines.push(Line::Scored(Scored { at_ms: 9, experiment, arm, decision, score, by }));
        }
        let mut scores = Scores::default();
        for line in &lines {
            if let Line::Scored(scored) = line {
                scores.add(scored.arm.clone(), scored.decision.clone(), scored.by, scored.score);
            }
        }
        assert_eq!((scores.of("mini", "dec_3"), scores.of("control", "dec_3")), (Some(0.9), None));
    }

    #[test]
    fn sizes_that_do_not_fit_are_told() {
        let text = "[[experiment]]\nname=\"e\"\nkind=\"split\"\narms=[{name=\"control\", share=0.7}, {name=\"mini\", share=0.3, policy=\"cheap\"}]";
        let config =
            crate::config::Config::resolve("f", crate::config::layered("f", text).expect("reads")).expect("resolves");
        let report = super::report(written(&events(400)).path(), "e", config.experiments.first()).expect("reports");
        assert!(report.warnings[0].contains("do not fit"), "{:?}", report.warnings);
    }
}
