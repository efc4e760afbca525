//! Experiments: another policy, deployment, class, strategy or routing model on part of the traffic, and what came of it.
//!
//! A request meets them three times: [`Experiments::assign`] says which arms it is in (`assign.rs`), [`Experiments::copy`]
//! hands copies to shadows (`shadow.rs`), and [`Experiments::answered`] writes down what came of it (`event.rs`,
//! `log.rs`), which also watches canaries (`canary.rs`, `sequential.rs`). `judge.rs` grades samples of answers;
//! `pool.rs` and `budget.rs` keep shadows and judge within bounds. `report.rs` reads the logs again, for
//! `waypost experiment report`.
//!
//! Nothing here waits, and nothing here can make a request fail.

pub mod assign;
pub mod budget;
pub mod canary;
pub mod event;
pub mod judge;
pub mod log;
pub mod pool;
pub mod report;
pub mod sequential;
pub mod shadow;
pub mod statistics;

pub use assign::{Fixed, Subject};
pub use event::{Answered, Scorer, Stop};
pub use judge::{Answer, Grade, Judge};
pub use pool::Counts;
pub use shadow::{Caller, Shadow, ShadowAnswer};

use crate::chat::ChatRequest;
use crate::classifier::RoutingModel;
use crate::config::{Change, Config, ExperimentConfig, ExperimentKind, JudgeConfig};
use canary::Watch;
use event::{Event, Line, Scored, now_ms};
use log::EventLog;
use parking_lot::Mutex;
use serde::Serialize;
use shadow::Shadows;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::OnceLock;
use utoipa::ToSchema;

/// All experiments of a configuration, running.
pub struct Experiments {
    all: Vec<Running>,
    log: EventLog,
    models: HashMap<PathBuf, Arc<RoutingModel>>,
    pub judge: Option<Judge>,
}

/// One of them.
struct Running {
    config: ExperimentConfig,
    name: Arc<str>,
    /// Of a canary. Held while a few numbers are added.
    watch: Option<Mutex<Watch>>,
    /// Set once, for good: from then on everyone gets the control.
    stop: OnceLock<Stop>,
    shadows: Option<Shadows>,
}

/// That a request is in an arm of an experiment. Part of its decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Assigned {
    pub experiment: String,
    pub arm: String,
    /// Place of the experiment and the arm.
    #[serde(skip)]
    at: (usize, usize),
    #[serde(skip)]
    unit: u64,
}

impl Experiments {
    /// Takes up what the logs know: stops, what canaries have seen, what shadows spent today. Blocks. `known` says whether
    /// a deployment can be called, `load` loads the version of a routing model: an experiment that lacks either is left
    /// out, with a word in the log, since its other arms alone would measure nothing.
    pub fn start(
        config: &Config,
        known: impl Fn(&str) -> bool,
        load: impl Fn(&Path) -> crate::error::Result<RoutingModel>,
    ) -> Self {
        let log = EventLog::start(&config.experiment_log);
        let mut models = HashMap::new();
        let mut all = Vec::new();
        for one in &config.experiments {
            match missing(one, &known, &load, &mut models) {
                Some(problem) => tracing::warn!(experiment = one.name, problem, "an experiment is left out"),
                None => all.push(Running::resume(one, &config.experiment_log.folder, &log)),
            }
        }
        let judge = config.judge.as_ref().map(|judge| resume_judge(judge, &config.experiment_log.folder, &log));
        Experiments { all, log, models, judge }
    }

    /// None at all, for where there is no traffic.
    pub fn none(config: &Config) -> Self {
        Experiments { all: vec![], log: EventLog::start(&config.experiment_log), models: HashMap::new(), judge: None }
    }

    /// Lets shadows answer, and the judge grade; `tell` hears of every grade and must not block. Needs an async runtime.
    pub fn run(&self, caller: Arc<dyn Caller>, tell: impl Fn(Grade) + Send + Sync + 'static) {
        self.all.iter().filter_map(|one| one.shadows.as_ref()).for_each(|shadows| shadows.run(caller.clone()));
        if let Some(judge) = &self.judge {
            judge.run(caller, tell);
        }
    }

    /// The arms of a request. Its class must be the one it gets without any experiment.
    pub fn assign(&self, subject: &Subject<'_>) -> Vec<Assigned> {
        if self.all.is_empty() {
            return Vec::new();
        }
        let configs: Vec<&ExperimentConfig> = self.all.iter().map(|one| &one.config).collect();
        let arm = |(at, one): (usize, &Running)| {
            let config = &one.config;
            if one.stop.get().is_some() || !config.takes(subject) {
                return None;
            }
            let unit = config.unit(subject).filter(|unit| config.has(unit, &configs))?;
            let arm = config.arm(unit);
            Some(Assigned {
                experiment: config.name.clone(),
                arm: config.arms[arm].name.clone(),
                at: (at, arm),
                unit: assign::unit_hash(&config.name, unit),
            })
        };
        self.all.iter().enumerate().filter_map(arm).collect()
    }

    /// Whether an arm of any of them changes what is decided.
    pub fn may_change(&self) -> bool {
        let changes = |one: &Running| one.config.arms.iter().any(|arm| arm.change != Change::default());
        self.all.iter().any(|one| one.stop.get().is_none() && changes(one))
    }

    /// What the arms of a request change, all together. The configuration keeps two from pulling at the same.
    pub fn change(&self, assigned: &[Assigned]) -> Change {
        let mut all = Change::default();
        for one in assigned.iter().filter_map(|one| self.all.get(one.at.0)?.config.arms.get(one.at.1)) {
            let change = one.change.clone();
            all.policy = all.policy.or(change.policy);
            all.deployment = all.deployment.or(change.deployment);
            all.class = all.class.or(change.class);
            all.strategy = all.strategy.or(change.strategy);
            all.routing_model = all.routing_model.or(change.routing_model);
        }
        all
    }

    /// The routing model of a change, where it names one.
    pub fn routing_model(&self, change: &Change) -> Option<&Arc<RoutingModel>> {
        self.models.get(change.routing_model.as_ref()?)
    }

    /// Hands copies of a request to the shadows it is assigned to, of their deployments to those that `may` see it; never
    /// waits.
    pub fn copy(
        &self,
        assigned: &[Assigned],
        request: &Arc<ChatRequest>,
        decision: &str,
        class: &str,
        may: impl Fn(&str) -> bool,
    ) {
        for (one, shadows) in self.shadows(assigned) {
            let (experiment, unit) = (self.all[one.at.0].name.clone(), one.unit);
            let (decision, class) = (decision.into(), class.into());
            shadows.give(&Shadow { experiment, request: request.clone(), decision, class, unit }, &may);
        }
    }

    /// Whether the text of the answer is wanted: for a shadow that keeps it, or for the judge.
    pub fn wants_text(&self, assigned: &[Assigned], decision: &str, class: &str) -> bool {
        self.shadows(assigned).any(|(_, shadows)| shadows.keeps())
            || self.judge.as_ref().is_some_and(|judge| judge.wants(decision, class))
    }

    /// The text of a whole answer, where it is wanted; the judge hears of it where its deployment `may` see it.
    pub fn served(&self, assigned: &[Assigned], answer: Answer, may: impl Fn(&str) -> bool) {
        for (one, shadows) in self.shadows(assigned) {
            shadows.keep_served(&one.experiment, &answer.decision, &answer.text);
        }
        if let Some(judge) =
            self.judge.as_ref().filter(|judge| judge.wants(&answer.decision, &answer.class) && may(judge.deployment()))
        {
            judge.give(answer);
        }
    }

    /// Writes down what came of a request, and stops a canary that is worse than it may be. Never waits.
    pub fn answered(&self, assigned: &[Assigned], decision: &str, answered: &Answered) {
        for one in assigned {
            let Some(running) = self.all.get(one.at.0) else { continue };
            self.log.write(&Line::Answered(Event {
                at_ms: now_ms(),
                experiment: one.experiment.clone(),
                arm: one.arm.clone(),
                unit: one.unit,
                decision: decision.into(),
                answered: answered.clone(),
            }));
            if let Some(stop) = running.look(one, answered) {
                tracing::warn!(
                    experiment = stop.experiment,
                    arm = stop.arm,
                    rule = stop.rule,
                    why = stop.why,
                    "a canary is stopped: everyone gets the control"
                );
                self.log.stop(stop);
            }
        }
    }

    /// Writes down how good an answer was, told by the judge or a caller.
    pub fn scored(&self, assigned: &[Assigned], decision: &str, score: f64, by: Scorer) {
        for one in assigned {
            let (experiment, arm) = (one.experiment.clone(), one.arm.clone());
            self.log.write(&Line::Scored(Scored {
                at_ms: now_ms(),
                experiment,
                arm,
                decision: decision.into(),
                score,
                by,
            }));
        }
    }

    /// For every shadow its name and counts; and lines that the logs lost.
    pub fn counts(&self) -> (Vec<(&str, pool::Counts)>, u64) {
        let shadows = |one: &Running| one.shadows.as_ref().map(Shadows::counts);
        let all = self.all.iter().filter_map(|one| shadows(one).map(|counts| (&*one.name, counts))).collect();
        (all, self.log.lost())
    }

    /// The canaries that are stopped.
    pub fn stopped(&self) -> impl Iterator<Item = &Stop> {
        self.all.iter().filter_map(|one| one.stop.get())
    }

    /// Waits until all lines are written. Blocks.
    pub fn flush(&self) {
        self.log.flush();
    }

    fn shadows<'a>(&'a self, assigned: &'a [Assigned]) -> impl Iterator<Item = (&'a Assigned, &'a Shadows)> {
        assigned.iter().filter_map(|one| Some((one, self.all.get(one.at.0)?.shadows.as_ref()?)))
    }
}

/// The judge, with what it spent today.
fn resume_judge(config: &JudgeConfig, folder: &Path, log: &EventLog) -> Judge {
    let judge = Judge::new(config, log.clone());
    let each = |line| {
        if let Line::Answered(event) = line {
            judge.spent(&event);
        }
    };
    if let Err(error) = log::read(folder, judge::LOG, each) {
        tracing::warn!(%error, "what the judge spent before this start is unknown");
    }
    judge
}

/// What an experiment lacks, if anything. Loads its routing models.
fn missing(
    one: &ExperimentConfig,
    known: &impl Fn(&str) -> bool,
    load: &impl Fn(&Path) -> crate::error::Result<RoutingModel>,
    models: &mut HashMap<PathBuf, Arc<RoutingModel>>,
) -> Option<String> {
    let shadows: &[String] = if let ExperimentKind::Shadow(rules) = &one.kind { &rules.deployments } else { &[] };
    let arms = one.arms.iter().filter_map(|arm| arm.change.deployment.as_ref());
    if let Some(name) = arms.chain(shadows).find(|name| !known(name)) {
        return Some(format!("the deployment `{name}` cannot be called"));
    }
    for path in one.arms.iter().filter_map(|arm| arm.change.routing_model.as_ref()) {
        if !models.contains_key(path) {
            match load(path) {
                Ok(model) => models.insert(path.clone(), Arc::new(model)),
                Err(error) => return Some(format!("{}: {error}", path.display())),
            };
        }
    }
    None
}

impl Running {
    /// An experiment as its log left it.
    fn resume(config: &ExperimentConfig, folder: &Path, log: &EventLog) -> Self {
        let shadows = if let ExperimentKind::Shadow(rules) = &config.kind {
            Some(Shadows::new(rules, log.clone()))
        } else {
            None
        };
        let mut watch = if let ExperimentKind::Canary(rules) = &config.kind { Some(Watch::new(rules)) } else { None };
        let stop = OnceLock::new();
        if watch.is_some()
            && let Some(earlier) = log::stopped(folder, &config.name)
        {
            tracing::warn!(experiment = config.name, why = earlier.why, "a canary was stopped earlier, and stays so");
            stop.get_or_init(|| earlier);
        }
        if shadows.is_some() || (watch.is_some() && stop.get().is_none()) {
            let each = |line| {
                if let Line::Answered(event) = line {
                    shadows.iter().for_each(|shadows| shadows.spent(&event));
                    // What would be broken by now is found with the next answer.
                    watch
                        .as_mut()
                        .and_then(|watch| watch.add(event.arm != config.arms[0].name, event.unit, &event.answered));
                }
            };
            if let Err(error) = log::read(folder, &config.name, each) {
                tracing::warn!(experiment = config.name, %error, "what an experiment saw before this start is unknown");
            }
        }
        Running {
            name: config.name.as_str().into(),
            config: config.clone(),
            watch: watch.map(Mutex::new),
            stop,
            shadows,
        }
    }

    /// Shows an answer to a canary's watch. The stop, once: when this answer brought it.
    fn look(&self, assigned: &Assigned, answered: &Answered) -> Option<&Stop> {
        let watch = self.watch.as_ref()?;
        let broken = watch.lock().add(assigned.at.1 != 0, assigned.unit, answered)?;
        let stop = Stop {
            at_ms: now_ms(),
            experiment: self.config.name.clone(),
            arm: self.config.arms[1].name.clone(),
            rule: broken.rule.into(),
            why: broken.why,
        };
        self.stop.set(stop).ok()?;
        self.stop.get()
    }
}

#[cfg(test)]
mod tests;
