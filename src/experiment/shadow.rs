//! Shadows: others answer copies of requests, off the hot path, for comparison alone.

use super::budget::Budget;
use super::event::{Answered, Event, Line, now_ms};
use super::log::EventLog;
use super::pool::{Counts, Pool};
use crate::chat::ChatRequest;
use crate::config::ShadowRules;
use crate::decision::Usage;
use crate::money::Money;
use futures::future::BoxFuture;
use serde::Serialize;
use std::sync::Arc;

/// Who can have a deployment answer, beside all requests: without retries, fallbacks, sessions or a caller's budget.
pub trait Caller: Send + Sync + 'static {
    /// The place of a deployment of this name, which [`Caller::call`] takes; `None` where it cannot be called.
    fn index(&self, deployment: &str) -> Option<usize>;

    /// Has it answer, whole; in a bounded time. The error is told without prompts.
    fn call(&self, deployment: usize, request: Arc<ChatRequest>) -> BoxFuture<'static, Result<ShadowAnswer, String>>;
}

/// An answer that reaches no client.
#[derive(Clone, Debug, Default)]
pub struct ShadowAnswer {
    pub text: String,
    pub usage: Option<Usage>,
    /// Absent where the price is unknown.
    pub cost: Option<Money>,
    pub ms: f64,
    pub ttft_ms: Option<f64>,
    /// `finish_reason`.
    pub finish: Option<String>,
}

/// A copy of a request for every deployment of a shadow.
#[derive(Clone)]
pub struct Shadow {
    pub experiment: Arc<str>,
    pub request: Arc<ChatRequest>,
    pub decision: String,
    pub class: String,
    pub unit: u64,
}

/// A copy for one of them.
struct Copy {
    shadow: Shadow,
    arm: Arc<str>,
}

/// The shadows of one experiment.
pub struct Shadows {
    rules: ShadowRules,
    budget: Arc<Budget>,
    log: EventLog,
    pool: Pool<Copy>,
}

/// An answer kept for comparison, a line of `NAME.answers.jsonl`.
#[derive(Serialize)]
struct Kept<'a> {
    decision: &'a str,
    arm: &'a str,
    text: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    finish: Option<&'a str>,
}

/// Bytes of an answer that are kept.
const MOST_BYTES: usize = 32_768;

impl Shadows {
    /// Nobody answers before [`Shadows::run`].
    pub fn new(rules: &ShadowRules, log: EventLog) -> Self {
        let budget = Arc::new(Budget::new(rules.limits.max_dollars_per_day));
        Shadows { pool: Pool::new(rules.limits.queue), rules: rules.clone(), budget, log }
    }

    /// Counts what was spent before this start.
    pub fn spent(&self, event: &Event) {
        let ours = self.rules.deployments.contains(&event.arm);
        if let (true, Some(cost)) = (ours, event.answered.cost) {
            self.budget.spend(event.at_ms, Some(cost));
        }
    }

    /// Hands a copy over for each deployment that `may` see it; never waits.
    pub fn give(&self, shadow: &Shadow, may: impl Fn(&str) -> bool) {
        for deployment in self.rules.deployments.iter().filter(|deployment| may(deployment)) {
            self.pool.give(Copy { shadow: shadow.clone(), arm: deployment.as_str().into() });
        }
    }

    /// Starts answering.
    pub fn run(&self, caller: Arc<dyn Caller>) {
        let (budget, log, keep) = (self.budget.clone(), self.log.clone(), self.rules.keep);
        self.pool.run(self.rules.limits.max_concurrent, move |copy| {
            let (caller, budget, log) = (caller.clone(), budget.clone(), log.clone());
            Box::pin(async move { answer(&*caller, &budget, &log, keep, copy).await })
        });
    }

    /// Keeps the answer that was served, beside those of the shadows, where they are kept.
    pub fn keep_served(&self, experiment: &str, decision: &str, text: &str) {
        if self.rules.keep {
            keep_answer(&self.log, experiment, &Kept { decision, arm: "control", text, finish: None });
        }
    }

    /// Whether answers are kept, so that the one served is wanted as well.
    pub fn keeps(&self) -> bool {
        self.rules.keep
    }

    pub fn counts(&self) -> Counts {
        self.pool.counts()
    }
}

async fn answer(caller: &dyn Caller, budget: &Budget, log: &EventLog, keep: bool, copy: Copy) {
    let Some(deployment) = caller.index(&copy.arm).filter(|_| budget.is_left()) else { return };
    let shadow = copy.shadow;
    let result = caller.call(deployment, shadow.request).await;
    if let Err(problem) = &result {
        tracing::debug!(experiment = &*shadow.experiment, deployment = &*copy.arm, problem, "a shadow did not answer");
    }
    if let Ok(answer) = &result {
        if budget.spend(now_ms(), answer.cost) {
            tracing::warn!(
                experiment = &*shadow.experiment,
                deployment = &*copy.arm,
                "a shadow's price is unknown: it gets no more copies today"
            );
        }
        if keep {
            let kept = Kept {
                decision: &shadow.decision,
                arm: &copy.arm,
                text: &answer.text,
                finish: answer.finish.as_deref(),
            };
            keep_answer(log, &shadow.experiment, &kept);
        }
    }
    let answered = answered(shadow.class, &copy.arm, result.ok());
    log.write(&Line::Answered(Event {
        at_ms: now_ms(),
        experiment: shadow.experiment.to_string(),
        arm: copy.arm.to_string(),
        unit: shadow.unit,
        decision: shadow.decision,
        answered,
    }));
}

fn keep_answer(log: &EventLog, experiment: &str, kept: &Kept<'_>) {
    let text = super::judge::beginning(kept.text, MOST_BYTES);
    log.append(&format!("{experiment}.answers"), &Kept { text, ..*kept });
}

fn answered(class: String, deployment: &str, answer: Option<ShadowAnswer>) -> Answered {
    let failed = Some(answer.is_none());
    let answer = answer.unwrap_or_default();
    Answered {
        class,
        deployment: Some(deployment.into()),
        status: if failed == Some(true) { 502 } else { 200 },
        failed,
        cost: answer.cost,
        ttft_ms: answer.ttft_ms,
        ms: answer.ms,
        tokens_in: answer.usage.map(|usage| usage.prompt_tokens),
        tokens_out: answer.usage.map(|usage| usage.completion_tokens),
        score: None,
    }
}
