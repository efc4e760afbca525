//! What comes out of a simulation, as one value that the table, the JSON and the chart read.

use super::Simulation;
use super::road::Road;
use super::sum::{Dollars, Sum};
use crate::error::{Error, Result};
use serde::Serialize;
use std::collections::BTreeMap;

/// What a file of requests would have taken.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Lines of the file that are not empty.
    pub lines: u64,
    /// Lines that could not be read, and what was wrong with the first of them.
    pub failed: u64,
    pub mistakes: Vec<String>,
    /// Requests that no deployment answered, by reason: refused by a rule, or nothing fits. They count nowhere else.
    pub refused: BTreeMap<String, u64>,
    /// Requests that named a `model` which is nothing here, and were taken for `auto`.
    pub unknown_model: u64,
    /// What the requests cost when they were recorded, where the file says so, and how many say so.
    pub recorded: Option<Dollars>,
    pub recorded_requests: u64,
    /// As routed: the first policy.
    pub routed: Line,
    /// Share of the routed answers by a deployment that serves the right class, or one that covers it, whatever class was
    /// chosen; comparable to the quality of one deployment alone.
    pub able: Option<f64>,
    pub classes: Vec<Share>,
    pub deployments: Vec<Share>,
    /// The other policies.
    pub policies: Vec<Line>,
    /// Everything on one deployment: the best, the cheapest, and those asked for.
    pub baselines: Vec<Line>,
}

/// All requests, one way.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// A policy, or a deployment.
    pub name: String,
    /// What it is: `routed`, `policy`, `best single`, `cheapest single`, `baseline`; several joined by a comma.
    pub role: String,
    #[serde(flatten)]
    pub sum: Sum,
    /// Requests that it could not answer, of which the sum knows nothing.
    pub unanswered: u64,
    /// What routing saves against it, in dollars and as a share of it; absent for what is routed itself, and for one that
    /// does not answer all of the requests.
    pub saved: Option<Saved>,
}

/// A difference in money.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Saved {
    pub dollars: Dollars,
    pub share: f64,
}

/// A part of the requests: a class, or a deployment.
#[derive(Clone, Debug, Serialize)]
pub struct Share {
    pub name: String,
    #[serde(flatten)]
    pub sum: Sum,
    pub share_of_requests: f64,
    pub share_of_dollars: f64,
}

/// The report of a simulation.
///
/// # Errors
/// [`Error::Model`] for a baseline that is no deployment.
pub fn report(simulation: &Simulation, baselines: &[String]) -> Result<Report> {
    let (first, others) = simulation.roads.split_first().expect("there is a road for each policy, and at least one");
    let line = |road: &Road, role: &str| Line {
        name: road.name.clone(),
        role: role.into(),
        sum: road.total.clone(),
        unanswered: 0,
        saved: None,
    };
    let routed = line(first, "routed");
    let mut policies: Vec<Line> = others.iter().map(|road| line(road, "policy")).collect();
    let mut singles = singles(simulation, first, baselines)?;
    for line in policies.iter_mut().chain(&mut singles) {
        line.saved = (line.unanswered == 0).then(|| saved(routed.sum.dollars, line.sum.dollars));
    }
    Ok(Report {
        lines: simulation.lines,
        failed: simulation.failed,
        mistakes: simulation.mistakes.clone(),
        refused: first.refused.clone(),
        unknown_model: simulation.renamed,
        recorded: (simulation.recorded_requests > 0).then_some(simulation.recorded),
        recorded_requests: simulation.recorded_requests,
        able: first.able.quality.get(),
        classes: shares(&first.classes, &routed.sum),
        deployments: shares(&first.deployments, &routed.sum),
        routed,
        policies,
        baselines: singles,
    })
}

/// The best deployment alone, the cheapest, and those asked for; one that is several of these stands once. Of those that
/// answer the most requests the best is the one of the highest quality, or, where the file tells of none, the one that
/// serves the most classes; of equals the cheaper.
fn singles(simulation: &Simulation, road: &Road, baselines: &[String]) -> Result<Vec<Line>> {
    let fleet = &road.router.fleet;
    let all = simulation.singles.sums.iter().zip(&simulation.singles.unanswered).enumerate();
    let serving: Vec<_> = all.filter(|(at, _)| !fleet.all()[*at].config.classes.is_empty()).collect();
    let fewest = serving.iter().map(|(_, (_, unanswered))| **unanswered).min().unwrap_or(0);
    let able = || serving.iter().filter(|(_, (_, unanswered))| **unanswered == fewest);
    let breadth = |at: usize| fleet.all()[at].config.classes.len() as f64;
    let quality = |at: usize, sum: &Sum| sum.quality.get().unwrap_or_else(|| breadth(at));
    let best = able().max_by(|(a, (one, _)), (b, (other, _))| {
        quality(*a, one).total_cmp(&quality(*b, other)).then_with(|| other.dollars.cmp(&one.dollars))
    });
    let cheapest = able().min_by_key(|(_, (sum, _))| sum.dollars);
    let mut roles: Vec<(usize, String)> = Vec::new();
    let mut add = |at: usize, role: &str| match roles.iter_mut().find(|(known, _)| *known == at) {
        Some((_, known)) => *known = format!("{known}, {role}"),
        None => roles.push((at, role.into())),
    };
    best.into_iter().for_each(|(at, _)| add(*at, "best single"));
    cheapest.into_iter().for_each(|(at, _)| add(*at, "cheapest single"));
    for name in baselines {
        let names = || fleet.all().iter().map(|deployment| deployment.config.name.as_str()).collect::<Vec<_>>();
        let at = fleet.index_of(name).ok_or_else(|| {
            Error::Model(format!("--baseline: no deployment is named `{name}`; expected one of {}", names().join(", ")))
        })?;
        add(at, "baseline");
    }
    let line = |(at, role): (usize, String)| Line {
        name: fleet.all()[at].config.name.clone(),
        role,
        sum: simulation.singles.sums[at].clone(),
        unanswered: simulation.singles.unanswered[at],
        saved: None,
    };
    Ok(roles.into_iter().map(line).collect())
}

fn saved(routed: Dollars, other: Dollars) -> Saved {
    let dollars = other.less(routed);
    let share = if other == Dollars::default() { 0.0 } else { dollars.to_f64() / other.to_f64() };
    Saved { dollars, share }
}

/// Parts of a whole, the dearest first.
fn shares(parts: &indexmap::IndexMap<String, Sum>, whole: &Sum) -> Vec<Share> {
    let share = |part: f64, whole: f64| if whole > 0.0 { part / whole } else { 0.0 };
    let part = |(name, sum): (&String, &Sum)| Share {
        name: name.clone(),
        share_of_requests: share(sum.requests as f64, whole.requests as f64),
        share_of_dollars: share(sum.dollars.to_f64(), whole.dollars.to_f64()),
        sum: sum.clone(),
    };
    let mut shares: Vec<Share> = parts.iter().map(part).collect();
    shares.sort_by(|a, b| b.sum.dollars.cmp(&a.sum.dollars).then_with(|| b.sum.requests.cmp(&a.sum.requests)));
    shares
}
