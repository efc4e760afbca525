//! `waypost simulate`: what a file of requests would have cost, routed and on single deployments. Nothing is sent.

use super::Global;
use super::lines::{self, print_json};
use super::table::{right, table};
use crate::config::{Config, cores};
use crate::error::{Error, Result};
use crate::simulate::{Dollars, Line, Mean, Report, Saved, Settings, Share, Simulation, Sum, thousands};
use crate::training::measure::plot::{Spot, spots_chart};
use clap::{Args, ValueEnum};
use comfy_table::Table;
use jiff::Timestamp;
use std::io::BufRead;
use std::path::PathBuf;
use std::sync::Arc;

/// Lines read at once, so that memory is bounded for files of any number of lines.
const CHUNK: usize = 1_024;

#[derive(Args)]
pub struct Simulate {
    /// Requests, a JSON object a line; `-` reads standard input. A line is {"prompt"} or a whole chat request, a line of a
    /// batch file, or a decision as GET /explain gives it; beside it may stand: tokens_in, tokens_out (exact counts), count
    /// (it stands for so many equal ones), class or label (the right class), score ({model: 0..1}), session, at (a moment),
    /// headers, tags, tier, path.
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
    /// How the class comes about: as the routing model reads the prompt, or as the line's own `class` says where it has
    /// one. Lines without a prompt always go by their class.
    #[arg(long, value_enum, default_value = "model")]
    by: By,
    /// A policy: a name, or keys (`quality_floor=0.8`), as in the header x-waypost-policy. Given several times, each is
    /// simulated; the first is compared with all others. The configured policy when absent.
    #[arg(long, value_name = "POLICY")]
    policy: Vec<String>,
    /// Also tell what everything on this deployment would cost.
    #[arg(long, value_name = "DEPLOYMENT")]
    baseline: Vec<String>,
    /// Only the deployments of these providers; all configured ones when absent.
    #[arg(long, value_name = "NAME")]
    provider: Vec<String>,
    /// Only providers whose key is set, as the server would start here. Without it no key is needed.
    #[arg(long)]
    keyed: bool,
    /// Take every request for `model: "auto"`, whatever it names.
    #[arg(long)]
    auto: bool,
    /// A routing model's folder, in place of the configured one.
    #[arg(long, value_name = "DIR")]
    model: Option<String>,
    /// The moment of lines that name none, for dated prices and the hours of rules; now when absent.
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,
    /// Threads; one a core when absent.
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Draw quality against mean cost.
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
    /// Print as JSON.
    #[arg(long)]
    json: bool,
}

/// How the class of a request comes about.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum By {
    Model,
    Class,
}

impl Simulate {
    pub fn run(self, global: &Global) -> Result<()> {
        let config = self.config(global)?;
        let spec = crate::start::encoder_unfetched(&config.embedder)?;
        let mut simulation = Simulation::new(Settings {
            model: Arc::new(crate::start::routing_model(&config, &spec)?),
            spec,
            policies: if self.policy.is_empty() { vec![String::new()] } else { self.policy.clone() },
            by_class: self.by == By::Class,
            auto: self.auto,
            now: self.at.unwrap_or_else(Timestamp::now),
            threads: self.threads.unwrap_or_else(cores),
            config: config.clone(),
        })?;
        // A baseline that is nothing here is told before a long file was read.
        simulation.report(&self.baseline)?;
        self.read(&mut simulation, global, &config)?;
        let report = simulation.report(&self.baseline)?;
        if let Some(path) = &self.plot {
            std::fs::write(path, chart(&report)?).map_err(Error::io(path))?;
            eprintln!("drawn into {}", path.display());
        }
        match self.json {
            true => print_json(&report)?,
            false => print(&report)?,
        }
        match report.failed {
            0 => Ok(()),
            failed => Err(Error::Model(format!(
                "{failed} of {} lines could not be read and count nowhere: {}",
                report.lines,
                report.mistakes.join("; ")
            ))),
        }
    }

    /// The configuration with what the command line says over it.
    fn config(&self, global: &Global) -> Result<Config> {
        let file = global.config.as_deref();
        let mut config = if self.keyed { crate::config::load(file)? } else { crate::config::load_keyless(file)? };
        if let Some(model) = &self.model {
            config.routing.model.clone_from(model);
        }
        if let Some(name) = self.provider.iter().find(|name| !config.providers.iter().any(|known| known.name == **name))
        {
            let known: Vec<_> = config.providers.iter().map(|provider| provider.name.as_str()).collect();
            return Err(Error::Model(format!(
                "--provider: none is named `{name}`; expected some of {}",
                known.join(", ")
            )));
        }
        if !self.provider.is_empty() {
            config.providers.retain(|provider| self.provider.contains(&provider.name));
            config.deployments.retain(|deployment| self.provider.contains(&deployment.provider));
        }
        Ok(config)
    }

    /// Puts all lines of the input through the simulation.
    fn read(&self, simulation: &mut Simulation, global: &Global, config: &Config) -> Result<()> {
        let input = lines::input(&self.input)?;
        let encoder = || crate::start::encoder(&config.embedder, &global.cache()?);
        let progress = crate::training::progress_bar(0, "requests");
        let mut lines = input.split(b'\n').enumerate();
        let mut read = 0;
        loop {
            let chunk: Vec<(usize, Vec<u8>)> = lines
                .by_ref()
                .take(CHUNK)
                .map(|(at, line)| Ok((at + 1, line?)))
                .collect::<std::io::Result<_>>()
                .map_err(Error::io(&self.input))?;
            if chunk.is_empty() {
                break;
            }
            read += chunk.len() as u64;
            progress.set_length(read);
            simulation.run(&chunk, &encoder, &|| progress.inc(1))?;
        }
        progress.finish_and_clear();
        Ok(())
    }
}

/// Quality against mean cost: the policies as a curve, single deployments as crosses. What has no quality is left out.
fn chart(report: &Report) -> Result<String> {
    let spot = |line: &Line| {
        let quality = line.sum.quality.get()?;
        let cost = line.sum.dollars.to_f64() / line.sum.requests.max(1) as f64;
        Some(Spot { name: line.name.clone(), cost, quality })
    };
    let routed: Vec<Spot> = std::iter::once(&report.routed).chain(&report.policies).filter_map(spot).collect();
    let singles: Vec<Spot> = report.baselines.iter().filter_map(spot).collect();
    if routed.is_empty() {
        return Err(Error::Model("--plot: the file tells no quality; give lines a `label` or a `score`".into()));
    }
    let title = format!("{} requests, simulated", thousands(report.routed.sum.requests.into()));
    spots_chart(&title, &routed, &singles).map_err(|error| Error::Internal(format!("cannot draw: {error}")))
}

/// What [`columns`] tells of a sum.
const COLUMNS: [&str; 8] =
    ["requests", "tokens in", "cached", "tokens out", "cost", "per 1,000", "quality", "latency ms"];

fn print(report: &Report) -> Result<()> {
    let mut all = table(&[&[""], &COLUMNS[..], &["routing saves"]].concat());
    for line in std::iter::once(&report.routed).chain(&report.policies).chain(&report.baselines) {
        let saved = line.saved.map(saves);
        let missing = (line.unanswered > 0).then(|| format!("leaves {}", thousands(line.unanswered.into())));
        let saved = saved.or(missing).unwrap_or_default();
        all.add_row([vec![called(line)], columns(&line.sum), vec![saved]].concat());
    }
    right(&mut all, &[1, 2, 3, 4, 5, 6, 7, 8, 9]);
    lines::print(&format!("\n{all}\n"))?;
    for (header, parts) in [("class", &report.classes), ("deployment", &report.deployments)] {
        lines::print(&format!("{}\n", shares(header, parts)))?;
    }
    notes(report).iter().try_for_each(lines::print)
}

/// What stands below the tables: what a reader must know to believe them.
fn notes(report: &Report) -> Vec<String> {
    let count = |number: u64| thousands(number.into());
    let mut notes = Vec::new();
    if let Some(able) = report.able.filter(|able| report.routed.sum.quality.get() != Some(*able)) {
        let percent = 100.0 * able;
        notes.push(format!(
            "{percent:.1} % were answered by a deployment that serves the right class, or one that covers it, whatever class was chosen."
        ));
    }
    if let Some(recorded) = report.recorded {
        notes.push(format!(
            "{} of the requests cost {recorded} when they were recorded.",
            count(report.recorded_requests)
        ));
    }
    if report.routed.sum.assumed_price > 0 {
        notes.push(format!(
            "WARNING: {} requests went to deployments whose price nobody knows; counted at the dearest of their classes.",
            count(report.routed.sum.assumed_price)
        ));
    }
    if report.unknown_model > 0 {
        let number = count(report.unknown_model);
        notes.push(format!("{number} requests name a model that is nothing here; taken for `auto`."));
    }
    notes.extend(
        report.refused.iter().map(|(reason, number)| format!("{} requests got no answer: {reason}", count(*number))),
    );
    notes
}

/// A share of what is cheaper than routing says nothing.
fn saves(saved: Saved) -> String {
    match saved.share {
        share if share < 0.0 => saved.dollars.to_string(),
        share => format!("{} ({:.1} %)", saved.dollars, 100.0 * share),
    }
}

fn called(line: &Line) -> String {
    match (line.role.as_str(), line.name.as_str()) {
        ("routed" | "policy", "") => "routed".into(),
        ("routed" | "policy", policy) => format!("routed: {policy}"),
        (role, name) => format!("all on {name} ({role})"),
    }
}

/// requests, tokens in, cached, tokens out, cost, per 1,000, quality, latency ms
fn columns(sum: &Sum) -> Vec<String> {
    let count = |number: u64| thousands(number.into());
    let percent = |mean: Mean| mean.get().map_or("-".into(), |mean| format!("{:.1} %", 100.0 * mean));
    vec![
        count(sum.requests),
        count(sum.tokens_in),
        count(sum.cached_tokens),
        count(sum.tokens_out),
        sum.dollars.to_string(),
        Dollars::per_thousand(sum.dollars, sum.requests).to_string(),
        percent(sum.quality),
        sum.latency_ms.get().map_or("-".into(), |mean| format!("{mean:.0}")),
    ]
}

fn shares(header: &str, parts: &[Share]) -> Table {
    let mut table = table(&[&[header], &COLUMNS[..], &["of requests", "of cost"]].concat());
    for part in parts {
        let share = |share: f64| format!("{:.1} %", 100.0 * share);
        let of = vec![share(part.share_of_requests), share(part.share_of_dollars)];
        table.add_row([vec![part.name.clone()], columns(&part.sum), of].concat());
    }
    right(&mut table, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    table
}
