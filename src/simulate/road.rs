//! One way of routing the whole file: the router's own road under one policy, with what it sums up.

use super::case::Case;
use super::sum::{Sum, Taken};
use crate::catalog::{Service, Terms};
use crate::classifier::RoutingModel;
use crate::classifier::model::Read;
use crate::decision::{Decision, DeploymentScore, Out};
use crate::error::Result;
use crate::policy::strategy::Strategy;
use crate::providers::Deployment;
use crate::router::{Caller, Moment, Question, Reading, Router, Target, Wish};
use crate::session::Sessions;
use indexmap::IndexMap;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Equal requests that take turns are decided about one by one up to so many; each such decision then stands for a share.
const MOST_TURNS: u64 = 1_000;

/// Reasons kept of requests without an answer.
const MOST_REASONS: usize = 20;

/// One way of routing.
pub struct Road {
    /// The policy as it was given, empty for the configured one.
    pub name: String,
    pub router: Router,
    /// Whether a line's class is taken in place of reading it.
    by_class: bool,
    pub total: Sum,
    pub classes: IndexMap<String, Sum>,
    pub deployments: IndexMap<String, Sum>,
    /// Requests that were answered by a deployment which serves the right class, or one that covers it.
    pub able: Sum,
    /// Requests without an answer, by reason.
    pub refused: BTreeMap<String, u64>,
}

/// What everything on one deployment would take.
pub struct Singles {
    /// By place in the fleet.
    pub sums: Vec<Sum>,
    /// Requests that each could not answer at all, by place in the fleet.
    pub unanswered: Vec<u64>,
    /// Conversations, when one deployment answers them from end to end.
    sessions: Sessions,
}

impl Singles {
    /// None yet.
    pub fn new(router: &Router) -> Self {
        let count = router.fleet.all().len();
        Singles {
            sums: vec![Sum::default(); count],
            unanswered: vec![0; count],
            sessions: Sessions::new(router.config.session),
        }
    }
}

/// A moment on the line of time that all lines of a file share.
#[derive(Clone, Copy)]
pub struct Clock {
    /// 1970.
    origin: std::time::Instant,
    /// Of lines that name no time.
    pub now: jiff::Timestamp,
}

impl Clock {
    /// For a file whose lines without a time are of `now`.
    pub fn new(now: jiff::Timestamp) -> Self {
        Clock { origin: std::time::Instant::now(), now }
    }

    /// When a request is made.
    pub fn of(&self, case: &Case) -> Moment {
        let at = case.at.unwrap_or(self.now);
        let since = u64::try_from(at.as_millisecond()).unwrap_or(0);
        Moment { at, clock: self.origin + std::time::Duration::from_millis(since) }
    }
}

impl Road {
    /// A road that nothing went yet.
    pub fn new(name: &str, router: Router, by_class: bool) -> Self {
        let (total, able) = (Sum::default(), Sum::default());
        let (classes, deployments, refused) = (IndexMap::new(), IndexMap::new(), BTreeMap::new());
        Road { name: name.into(), router, by_class, total, classes, deployments, able, refused }
    }

    /// What is wanted for a request: by itself, by this road's policy, by the rules, by its class where that counts.
    fn wish(&self, case: &Case, moment: Moment) -> Result<Wish> {
        let policy = [self.name.as_str(), case.caller.policy.as_deref().unwrap_or("")];
        let policy = policy.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ");
        let caller = Caller {
            policy: Some(policy).filter(|policy| !policy.is_empty()),
            at: Some(moment.at),
            ..case.caller.clone()
        };
        let mut wish = self.router.wish(&case.request, &caller, &case.features)?;
        if let (Target::Auto, Some(class), true) = (&wish.target, &case.class, self.by_class || !case.has_text) {
            wish.target = Target::Class(class.clone());
        }
        Ok(wish)
    }

    /// The text that must be read before this request can be decided.
    pub fn text(&self, case: &Case, moment: Moment) -> Option<String> {
        self.router.text(&case.request, &self.wish(case, moment).ok()?).ok()
    }

    /// Decides about a request and counts what it takes; with `singles`, what it would take at each deployment too. One
    /// that gets no answer is counted as such.
    pub fn take(
        &mut self,
        case: &Case,
        moment: Moment,
        read: Option<(&Arc<RoutingModel>, &Arc<Read>)>,
        singles: Option<&mut Singles>,
    ) {
        let decision = match self.decide(case, moment, read) {
            Ok(decision) => decision,
            Err(error) => return self.refuse(&error.to_string(), case.count),
        };
        if let Some(singles) = singles {
            self.count_singles(case, moment, &decision, singles);
        }
        let parts = if takes_turns(&decision) { case.count.min(MOST_TURNS) } else { 1 };
        let (each, more) = (case.count / parts, case.count % parts);
        self.count(case, moment, &decision, each + u64::from(more > 0));
        for part in 1..parts {
            let count = each + u64::from(part < more);
            match self.decide(case, moment, read) {
                Ok(decision) => self.count(case, moment, &decision, count),
                Err(error) => self.refuse(&error.to_string(), count),
            }
        }
    }

    fn decide(&self, case: &Case, moment: Moment, read: Option<(&Arc<RoutingModel>, &Arc<Read>)>) -> Result<Decision> {
        let wish = self.wish(case, moment)?;
        let reading = match (self.router.text(&case.request, &wish), read) {
            (Err(unread), _) => unread,
            (Ok(_), Some((model, read))) => Reading::Estimate(model.clone(), read.clone()),
            (Ok(_), None) => Reading::Unread(crate::decision::Basis::NoText, "the prompt was not read"),
        };
        let session = case.may_go_on().then(|| self.router.session_key(&case.request, &case.caller));
        let question = Question {
            id: "",
            request: &case.request,
            features: &case.features,
            wish: &wish,
            session,
            moment,
            counted: case.counted,
            dry: false,
        };
        let decision = self.router.settle(&question, &reading)?;
        let chosen = decision.deployments[0].index;
        if let Some(session) = session {
            self.router.sessions.remember(session, chosen, case.features.tokens_in, moment.clock);
        }
        // It is answered at once: what is left of the call is whose turn it was.
        let prompt = crate::record::Prompt { tokens_in: case.features.tokens_in, ascii: case.features.ascii };
        drop(self.router.health.begin(chosen, self.router.health.now(), prompt, 0.0));
        Ok(decision)
    }

    fn count(&mut self, case: &Case, moment: Moment, decision: &Decision, count: u64) {
        let first = &decision.deployments[0];
        let deployment = &self.router.fleet.all()[first.index];
        let taken = taken(case, moment, first, first.cached_tokens, deployment);
        let class = &decision.class;
        let quality = score(case, deployment, Some(class)).or_else(|| self.is_right(case, std::slice::from_ref(class)));
        let taken = Taken { quality, ..taken };
        let able = score(case, deployment, Some(class)).or_else(|| self.is_right(case, &deployment.config.classes));
        self.total.add(&taken, count);
        self.able.add(&Taken { quality: able, ..taken }, count);
        self.classes.entry(class.clone()).or_default().add(&taken, count);
        self.deployments.entry(deployment.config.name.clone()).or_default().add(&taken, count);
    }

    /// What the request would take at each deployment, were it the only one. A conversation that has begun is then
    /// always in its provider's cache.
    fn count_singles(&self, case: &Case, moment: Moment, decision: &Decision, singles: &mut Singles) {
        let tokens = case.features.tokens_in;
        let key = case.may_go_on().then(|| self.router.session_key(&case.request, &case.caller));
        let cached = key.and_then(|key| {
            let known = singles.sessions.get(key, moment.clock)?;
            Some(singles.sessions.cached_tokens(&known, tokens, moment.clock))
        });
        if let Some(key) = key {
            singles.sessions.remember(key, 0, tokens, moment.clock);
        }
        for score in &decision.deployments {
            let deployment = &self.router.fleet.all()[score.index];
            if score.out.as_ref().is_some_and(cannot) {
                singles.unanswered[score.index] += case.count;
                continue;
            }
            let taken = taken(case, moment, score, cached.unwrap_or(0), deployment);
            let classes = &deployment.config.classes;
            let quality = self::score(case, deployment, classes.first()).or_else(|| self.is_right(case, classes));
            singles.sums[score.index].add(&Taken { quality, ..taken }, case.count);
        }
    }

    /// 1 where one of the classes is the right one or covers it, else 0; `None` where the right one is not known.
    fn is_right(&self, case: &Case, classes: &[String]) -> Option<f64> {
        let label = case.label.as_ref()?;
        let answers = |class: &String| {
            let covers =
                self.router.config.classes.iter().find(|known| known.name == *class).map(|known| &known.covers);
            class == label || covers.is_some_and(|covers| covers.contains(label))
        };
        Some(f64::from(u8::from(classes.iter().any(answers))))
    }

    fn refuse(&mut self, reason: &str, count: u64) {
        let known = self.refused.len() < MOST_REASONS || self.refused.contains_key(reason);
        let reason = if known { reason } else { "other reasons" };
        *self.refused.entry(reason.into()).or_default() += count;
    }
}

/// Whether the next of equal requests may go elsewhere.
fn takes_turns(decision: &Decision) -> bool {
    let turns = [Strategy::RoundRobin, Strategy::Weighted, Strategy::LeastBusy];
    decision.tie_breaker.is_some() || decision.strategy.iter().any(|strategy| turns.contains(strategy))
}

/// Whether a deployment could not answer however it were chosen.
fn cannot(out: &Out) -> bool {
    !matches!(out, Out::NotServed | Out::Named | Out::NotFixed | Out::MaxCost(_) | Out::MaxLatency(_))
}

/// How well a deployment answered a request, as the file tells: by its own name, its model's, or its class's.
fn score(case: &Case, deployment: &Deployment, class: Option<&String>) -> Option<f64> {
    let config = &deployment.config;
    let names = [Some(&config.name), Some(&config.model)].into_iter().chain(config.aliases.iter().map(Some));
    names.chain([class]).flatten().find_map(|name| case.score.get(name)).copied()
}

/// What a request takes at a deployment: the counts that the file has, else those that the decision expects.
fn taken(case: &Case, moment: Moment, score: &DeploymentScore, cached: u64, deployment: &Deployment) -> Taken {
    let answers = case.features.choices.max(1);
    let tokens_out = case.tokens_out.unwrap_or(score.output_tokens.saturating_mul(answers));
    let terms = Terms { at: moment.at, service: Service::Standard, region: deployment.config.region.as_deref() };
    let cached_tokens = cached.min(score.input_tokens);
    let cost = deployment.config.prices.expected(score.input_tokens, cached_tokens, tokens_out, &terms);
    // Several answers are written at once.
    let ms_per_token = score.generation_ms / score.output_tokens.max(1) as f64;
    Taken {
        tokens_in: score.input_tokens,
        cached_tokens,
        tokens_out,
        cost: cost.total(),
        price_known: deployment.config.price_known,
        quality: None,
        latency_ms: score.ttft_ms + ms_per_token * (tokens_out / answers) as f64,
    }
}
