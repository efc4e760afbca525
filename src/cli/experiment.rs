//! `waypost experiment report`.

use super::{Global, print_json};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::experiment::judge;
use crate::experiment::log;
use crate::experiment::report::{Arm, Report, report, rows};
use crate::training::measure::bootstrap::Interval;
use crate::training::measure::forest::forest;
use clap::{Args, Subcommand};
use std::path::PathBuf;

#[derive(Args)]
pub struct Experiment {
    #[command(subcommand)]
    command: What,
}

#[derive(Subcommand)]
enum What {
    /// What came of experiments: each arm, its difference to the control with a 95 % interval, and a sentence.
    Report(Options),
}

#[derive(Args)]
struct Options {
    /// Which; every one that has a log when absent.
    name: Option<String>,
    /// Print as JSON.
    #[arg(long)]
    json: bool,
    /// Draw the differences as an SVG image.
    #[arg(long, value_name = "FILE", requires = "name")]
    plot: Option<PathBuf>,
}

impl Experiment {
    pub fn run(self, global: &Global) -> Result<()> {
        let What::Report(options) = self.command;
        let config = global.load()?;
        let reports = reports(&config, options.name)?;
        if let (Some(path), Some(first)) = (&options.plot, reports.first()) {
            plot(path, first)?;
        }
        if options.json {
            print_json(&reports);
        } else {
            reports.iter().for_each(print);
        }
        Ok(())
    }
}

fn reports(config: &Config, name: Option<String>) -> Result<Vec<Report>> {
    let folder = &config.experiment_log.folder;
    let logged = || log::names(folder).into_iter().filter(|name| name != judge::LOG);
    let names = name.map_or_else(|| logged().collect(), |name| vec![name]);
    if names.is_empty() {
        let id = folder.display().to_string();
        return Err(Error::Unknown { kind: "log of an experiment in", id });
    }
    let one = |name: &String| report(folder, name, config.experiments.iter().find(|one| one.name == *name));
    names.iter().map(one).collect()
}

fn plot(path: &PathBuf, report: &Report) -> Result<()> {
    let title = format!("{}: difference to the control", report.experiment);
    let svg = forest(&title, "percent or points, with 95 % intervals", &rows(report))
        .map_err(|error| Error::Internal(format!("the chart could not be drawn: {error}")))?;
    std::fs::write(path, svg).map_err(Error::io(path))
}

fn print(report: &Report) {
    println!("{}  ({} to {})", report.experiment, time(report.from_ms), time(report.until_ms));
    let mut table =
        super::table::table(&["arm", "requests", "units", "errors %", "$ per 1,000", "p50 ms", "p95 ms", "score"]);
    for arm in &report.arms {
        table.add_row(values(arm));
        if let Some(found) = &arm.differences {
            let (points, percent) = (|value: f64| 100.0 * value, |value: f64| 100.0 * (value - 1.0));
            table.add_row([
                "  to the control".into(),
                String::new(),
                String::new(),
                cell(found.errors, points, 2),
                cell(found.cost_ratio, percent, 1) + " %",
                cell(found.latency_p50_ratio, percent, 1) + " %",
                cell(found.latency_p95_ratio, percent, 1) + " %",
                cell(found.score, |value| value, 3),
            ]);
        }
    }
    println!("{table}");
    report.warnings.iter().for_each(|warning| println!("Warning: {warning}"));
    println!("{}", report.verdict);
    println!(
        "Intervals: 95 %, requests of one unit counted together, for one look at a time planned beforehand; a canary's own \
         test may be looked at always.\n"
    );
}

fn values(arm: &Arm) -> [String; 8] {
    [
        arm.arm.clone(),
        arm.requests.to_string(),
        arm.units.to_string(),
        cell(arm.errors, |value| 100.0 * value, 2),
        cell(arm.cost, |value| 1e3 * value, 4),
        cell(arm.latency_p50_ms, |value| value, 0),
        cell(arm.latency_p95_ms, |value| value, 0),
        cell(arm.score, |value| value, 3),
    ]
}

/// `value [low, high]`.
fn cell(interval: Option<Interval>, shown: impl Fn(f64) -> f64, digits: usize) -> String {
    let Some(Interval { value, low, high }) = interval else { return "-".into() };
    let (value, low, high) = (shown(value), shown(low), shown(high));
    format!("{value:.digits$} [{low:.digits$}, {high:.digits$}]")
}

/// A time of day, UTC.
fn time(ms: u64) -> String {
    let at = jiff::Timestamp::from_millisecond(i64::try_from(ms).unwrap_or(i64::MAX)).unwrap_or(jiff::Timestamp::MAX);
    at.strftime("%Y-%m-%d %H:%M").to_string()
}
