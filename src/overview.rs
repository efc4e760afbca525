//! How every deployment does now: what was measured, what holds it, what is unusual; and what came of experiments beside
//! the traffic. For an operator who asks why nothing goes to one of them.

use crate::experiment::{Counts, Stop};
use crate::limits::GateView;
use crate::record::{Alarm, Health, Prompt};
use crate::router::Router;
use serde::Serialize;
use utoipa::ToSchema;

/// Everything at one moment.
#[derive(Debug, Serialize, ToSchema)]
pub struct Overview {
    pub deployments: Vec<DeploymentNow>,
    /// The gates that all deployments of a provider share.
    pub providers: Vec<GateView>,
    /// Deployments whose quality, latency or failures left for the worse what was usual of them.
    pub alarms: Vec<Alarm>,
    /// Requests that wait, since all that could answer them are at their limits.
    pub waiting: usize,
    pub experiments: ExperimentsNow,
}

/// One deployment.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeploymentNow {
    pub deployment: String,
    pub provider: String,
    pub model: String,
    /// The classes it serves.
    pub classes: Vec<String>,
    /// What ranking reads of it, for a short prompt.
    pub health: Health,
    /// What holds it, if anything does.
    pub limits: GateView,
}

/// What runs beside the traffic.
#[derive(Debug, Serialize, ToSchema)]
pub struct ExperimentsNow {
    pub shadows: Vec<ShadowNow>,
    /// Absent where nothing is graded.
    pub judge: Option<JudgeNow>,
    /// Canaries that were stopped.
    pub stopped: Vec<Stop>,
    /// Lines that the logs had no room for.
    pub lines_lost: u64,
}

/// A shadow, and its copies of requests.
#[derive(Debug, Serialize, ToSchema)]
pub struct ShadowNow {
    pub experiment: String,
    pub copies: Counts,
}

/// The judge.
#[derive(Debug, Serialize, ToSchema)]
pub struct JudgeNow {
    pub answers: Counts,
    /// Replies that were no grade.
    pub unread: u64,
}

impl Router {
    /// How everything does now.
    pub fn overview(&self) -> Overview {
        let (limits, now) = (self.limits.snapshot(), self.health.now());
        let deployment = |(index, limits): (usize, GateView)| {
            let config = &self.fleet.all()[index].config;
            DeploymentNow {
                deployment: config.name.clone(),
                provider: config.provider.clone(),
                model: config.model.clone(),
                classes: config.classes.clone(),
                health: self.health.read(index, now, Prompt::of(0)),
                limits,
            }
        };
        Overview {
            deployments: limits.deployments.into_iter().enumerate().map(deployment).collect(),
            providers: limits.providers,
            alarms: self.health.alarms(),
            waiting: limits.waiting,
            experiments: self.experiments_now(),
        }
    }

    fn experiments_now(&self) -> ExperimentsNow {
        let (shadows, lines_lost) = self.experiments.counts();
        let shadow = |(name, copies): (&str, Counts)| ShadowNow { experiment: name.into(), copies };
        let judge = self.experiments.judge.as_ref().map(|judge| judge.counts());
        ExperimentsNow {
            shadows: shadows.into_iter().map(shadow).collect(),
            judge: judge.map(|(answers, unread)| JudgeNow { answers, unread }),
            stopped: self.experiments.stopped().cloned().collect(),
            lines_lost,
        }
    }
}
