//! The two choices of a decision: the class that answers, and the order of its deployments. What is compared stands in
//! `policy/`; here it is applied to what the router knows of the fleet.

use crate::decision::{Basis, Change, ClassScore, DeploymentScore, Out, SessionNote};
use crate::error::{Error, Result};
use crate::policy::strategy::Strategy;
use crate::policy::{Policy, class, flip, quality, rank};
use crate::record::{Now, Prompt};
use crate::router::{Reading, Router, Target, Wish};
use crate::session::Session;
use std::sync::Arc;
use tokio::time::Instant;

/// Which classes a deployment serves, one bit a class.
pub type ClassSet = u128;

/// Deployments at a limit of which a decision says more than a word.
const MOST_EXPLAINED: usize = 4;

/// A class chosen, and how.
pub struct ClassChoice {
    pub class: String,
    pub basis: Basis,
    pub reason: String,
    pub classes: Vec<ClassScore>,
    pub flip: Option<Change>,
}

/// What of a request the ranking of deployments looks at beside its class.
pub struct Request<'a> {
    pub demand: rank::Demand<'a>,
    pub prompt: Prompt,
    pub now: Now,
    pub session: Option<Session>,
    /// The prompt's tokens are a provider's own count.
    pub counted: bool,
    /// Nothing will be forwarded: no turn is taken, and none is spent on learning.
    pub dry: bool,
}

/// The deployments in order, and what there is to say of it.
pub struct Ranked {
    pub strategy: Vec<Strategy>,
    pub tie_breaker: Option<String>,
    pub session: Option<SessionNote>,
    pub explored: bool,
}

/// The two choices of one decision.
pub struct Choice {
    pub class: ClassChoice,
    /// Every deployment with its terms, in order; those that are out at the end.
    pub deployments: Vec<DeploymentScore>,
    pub ranked: Ranked,
    /// The first of them, and those after it that can answer as well.
    pub deployment: Arc<str>,
    pub fallbacks: Vec<Arc<str>>,
    /// The smallest change of policy that would choose another deployment.
    pub other: Option<Change>,
}

impl Router {
    /// The class that answers a request, and its deployments in order: all that is decided once the prompt is read.
    ///
    /// # Errors
    /// [`Error::NothingFits`] where no class or no deployment can answer.
    pub fn choose(&self, wish: &Wish, reading: &Reading, request: &Request<'_>) -> Result<Choice> {
        let mut deployments = self.score(request);
        let class = self.choose_class(wish, reading, &deployments)?;
        let ranked = self.rank(wish, &class.class, &mut deployments, request);
        let mut candidates =
            deployments.iter().filter(|score| score.out.is_none()).map(|score| score.deployment.clone());
        let Some(deployment) = candidates.next() else {
            return Err(self.nothing_fits(wish, &class.class, &deployments));
        };
        let fallbacks = candidates.collect();
        // The value of a second decides only where dollars do, and the best goes first.
        let in_dollars =
            ranked.strategy.first() == Some(&Strategy::Balanced) && !ranked.explored && wish.prefer.is_none();
        let other = in_dollars.then(|| flip::deployment(&deployments, &wish.policy)).flatten();
        Ok(Choice { class, deployments, ranked, deployment, fallbacks, other })
    }

    /// The terms of every deployment for a request; `in_class` is set once the class is known.
    pub fn score(&self, request: &Request<'_>) -> Vec<DeploymentScore> {
        let score = |(index, deployment)| {
            let mut health = self.health.read(index, request.now, request.prompt);
            if request.counted {
                health.tokens_ratio = 1.0;
            }
            rank::score(index, deployment, &health, &request.demand)
        };
        let mut scores: Vec<DeploymentScore> = self.fleet.all().iter().enumerate().map(score).collect();
        if let Some(worth) = request.demand.policy.worth {
            rank::price_quality(&mut scores, worth);
        }
        scores
    }

    /// The class that answers.
    ///
    /// # Errors
    /// [`Error::NothingFits`] where no class can.
    pub fn choose_class(&self, wish: &Wish, reading: &Reading, deployments: &[DeploymentScore]) -> Result<ClassChoice> {
        let (target, policy) = (&wish.target, &wish.policy);
        let (model, estimate) = match reading {
            Reading::Unread(basis, why) => {
                let class = match target {
                    Target::Auto => self.config.routing.default_class.clone(),
                    Target::Class(class) => class.clone(),
                    Target::Deployment(index) => self.class_of(*index),
                };
                let reason = if matches!(target, Target::Auto) {
                    format!("{why}: the default class `{class}` answers")
                } else {
                    format!("{why} `{}`", self.name_of(target))
                };
                return Ok(ClassChoice { class, basis: *basis, reason, classes: Vec::new(), flip: None });
            }
            Reading::Estimate(model, read) => (model, &read.estimate),
        };
        let best = self.best(deployments);
        let mut classes = quality::score(
            &self.config.classes,
            &model.manifest,
            estimate,
            |class| self.expected(self.place_of(class), &best, deployments),
            policy,
        );
        let choice = {
            let candidates: Vec<_> = classes
                .iter()
                .zip(&self.config.classes)
                .map(|(score, config)| class::Candidate { score, covers: config.covers.len() })
                .collect();
            class::choose(&candidates, policy).map(|choice| (flip::class(&candidates, choice.index, policy), choice))
        };
        let Some((flip, choice)) = choice else {
            return Err(self.nothing_fits(wish, &self.config.routing.default_class, deployments));
        };
        let chosen = classes[choice.index].clone();
        let answering = if estimate.abstained { &self.config.routing.default_class } else { &chosen.class };
        let below =
            |score: &&mut ClassScore| score.out.is_none() && !class::meets(score, policy) && score.class != *answering;
        for score in classes.iter_mut().filter(below) {
            score.out = Some(format!(
                "quality {:.3} is below the floor {}",
                score.quality.unwrap_or(0.0),
                policy.quality_floor
            ));
        }
        let usable_default = classes
            .iter()
            .any(|score| score.class == self.config.routing.default_class && score.expected_cost.is_some());
        if estimate.abstained && usable_default {
            sort_classes(&mut classes, &self.config.routing.default_class);
            let reason = format!(
                "confidence {:.2} is below the gate {:.2}: the default class `{}` answers",
                estimate.confidence, model.manifest.gate, self.config.routing.default_class
            );
            return Ok(ClassChoice {
                class: self.config.routing.default_class.clone(),
                basis: Basis::Abstained,
                reason,
                classes,
                flip: None,
            });
        }
        sort_classes(&mut classes, &chosen.class);
        let reason = why_class(&chosen, choice.met, policy);
        Ok(ClassChoice { class: chosen.class, basis: Basis::Classified, reason, classes, flip })
    }

    /// The best deployment of each class that can answer. Of many deployments most serve the same classes as others: one
    /// walk finds the best of each set of classes.
    fn best<'a>(&self, deployments: &'a [DeploymentScore]) -> Vec<Option<&'a DeploymentScore>> {
        let mut of_sets: Vec<(ClassSet, &DeploymentScore)> = Vec::new();
        for score in deployments.iter().filter(|score| score.out.is_none()) {
            let served = self.served[score.index];
            match of_sets.iter_mut().find(|(set, _)| *set == served) {
                Some((_, best)) if best.score <= score.score => {}
                Some((_, best)) => *best = score,
                None => of_sets.push((served, score)),
            }
        }
        let of_class = |class: usize| {
            let serving = of_sets.iter().filter(|(set, _)| set & (1 << class) != 0);
            serving.map(|(_, best)| *best).min_by(|a, b| a.score.total_cmp(&b.score))
        };
        (0..self.config.classes.len()).map(of_class).collect()
    }

    /// What an answer of a class is expected to take at its best deployment, or why none of them can answer.
    fn expected(
        &self,
        class: usize,
        best: &[Option<&DeploymentScore>],
        deployments: &[DeploymentScore],
    ) -> std::result::Result<quality::Expected, String> {
        if let Some(best) = best[class] {
            return Ok(quality::Expected { cost: best.cost(), latency_ms: best.latency_ms() });
        }
        let mut own = deployments.iter().filter(|score| self.served[score.index] & (1 << class) != 0);
        Err(match own.find_map(|score| score.out.as_ref()) {
            Some(out) => format!("none of its deployments fits ({out})"),
            None => "no deployment serves it".into(),
        })
    }

    /// Puts deployments in order for a class: its own first, then those of classes that cover it; the others are out.
    pub fn rank(&self, wish: &Wish, class: &str, scores: &mut [DeploymentScore], request: &Request<'_>) -> Ranked {
        let policy = &wish.policy;
        let at = self.config.classes.iter().position(|known| known.name == class);
        let (own, covering) = at.map_or((0, 0), |at| (1 << at, self.covering[at]));
        let named = if let Target::Deployment(index) = wish.target { Some(index) } else { None };
        let now = Instant::now();
        for score in scores.iter_mut() {
            let served = self.served[score.index];
            let preferred = wish.prefer == Some(score.index);
            score.in_class = named.map_or(served & own != 0, |named| named == score.index) || preferred;
            if score.out.is_none() {
                score.out = match named {
                    Some(named) => (named != score.index).then_some(Out::Named),
                    None => (served & (own | covering) == 0 && !preferred).then_some(Out::NotServed),
                };
            }
            if score.out.is_none() {
                let held = self.limits.held(score.index, score.tokens(), now);
                score.held = held.map(|held| held.why.name().into());
            }
        }
        let of_class = at.map(|at| &self.config.classes[at].strategy).filter(|strategy| !strategy.is_empty());
        let strategy = if policy.strategy.is_empty() {
            of_class.unwrap_or(&self.config.routing.strategy)
        } else {
            &policy.strategy
        };
        if strategy.contains(&Strategy::LeastBusy) {
            scores.iter_mut().for_each(|score| score.capacity = self.limits.room(score.index));
        }
        if let (Some(index), [Strategy::Fixed]) = (wish.prefer, strategy.as_slice()) {
            let others = scores.iter_mut().filter(|score| score.index != index && score.out.is_none());
            others.for_each(|score| score.out = Some(Out::NotFixed));
        }
        let order = rank::Order {
            strategies: strategy,
            tie_share: policy.tie_share,
            turns: &self.turns[at.unwrap_or(0)],
            dry: request.dry,
            last_chosen: &|index| self.health.last_chosen(index),
        };
        let mut tie_breaker = rank::rank(scores, &order);
        self.explain_holds(scores);
        let preferred = wish.prefer.is_some_and(|index| prefer(index, scores));
        if preferred {
            tie_breaker = Some("an experiment names it".into());
        }
        let settled = preferred || named.is_some();
        let explored = !request.dry && !settled && self.explore(strategy, scores, request);
        let session = request.session.and_then(|session| note(&session, strategy, scores, explored || settled));
        Ranked { strategy: strategy.clone(), tie_breaker, session, explored }
    }

    /// The error when every deployment is out, with each one's reason. Where only the context is too small, the client
    /// reads the code it knows from OpenAI.
    pub fn nothing_fits(&self, wish: &Wish, class: &str, deployments: &[DeploymentScore]) -> Error {
        let at = self.place_of(class);
        let asked = |score: &&DeploymentScore| match wish.target {
            Target::Deployment(index) => index == score.index,
            _ => self.served[score.index] & (1 << at | self.covering[at]) != 0,
        };
        // What keeps one out that was not asked for concerns nobody.
        let serving: Vec<&DeploymentScore> = deployments.iter().filter(asked).collect();
        if serving.is_empty() {
            return Error::NothingFits {
                reasons: format!(
                    "No deployment serves the class `{class}`: set a provider's key, or add a [[deployment]]."
                ),
                context: false,
            };
        }
        let context = serving.iter().all(|score| matches!(score.out, Some(Out::ContextLength { .. })));
        let told = |score: &&DeploymentScore| score.out.as_ref().map(|out| format!("{}: {out}.", score.deployment));
        let reasons: Vec<String> = serving.iter().take(8).filter_map(told).collect();
        Error::NothingFits { reasons: reasons.join(" "), context }
    }

    /// Says with numbers why the first of those at a limit are held: the others, should there be so many, have one word.
    fn explain_holds(&self, scores: &mut [DeploymentScore]) {
        for score in scores.iter_mut().filter(|score| score.held.is_some()).take(MOST_EXPLAINED) {
            let words = self.limits.explain(score.index, score.tokens());
            score.held = words.map(Into::into).or(score.held.take());
        }
    }

    /// Lets another deployment than the best go first, where it is time to learn how it does.
    fn explore(&self, strategies: &[Strategy], scores: &mut [DeploymentScore], request: &Request<'_>) -> bool {
        let measured = [Strategy::Balanced, Strategy::Fastest, Strategy::Cheapest];
        let Some(strategy) = strategies.iter().find(|strategy| measured.contains(strategy)) else { return false };
        let Some((best, others)) = scores.split_first() else { return false };
        // What an earlier strategy prefers is no matter of learning: the second by priority waits until the first fails.
        let earlier = strategies.iter().take_while(|earlier| *earlier != strategy);
        let like = |score: &DeploymentScore| {
            let equal = |earlier: &Strategy| earlier.key(score) <= earlier.key(best);
            score.out.is_none() && score.held.is_none() && score.in_class == best.in_class && earlier.clone().all(equal)
        };
        // Beyond a guard is worse than any number within it.
        let key = |score: &DeploymentScore| strategy.key(score) + if score.guarded { f64::MAX / 4.0 } else { 0.0 };
        let candidates = others.iter().filter(|score| like(score)).map(|score| score.index);
        let hopeful = |index: usize, health: &crate::record::Health| {
            key(&rank::score(index, &self.fleet.all()[index], health, &request.demand))
        };
        if best.out.is_some() {
            return false;
        }
        let Some(index) = self.health.explore(request.now, request.prompt, key(best), candidates, hopeful) else {
            return false;
        };
        let at = scores.iter().position(|score| score.index == index).unwrap_or(0);
        scores[..=at].rotate_right(1);
        true
    }
}

/// Puts the deployment that an experiment names first, where it can be asked now.
fn prefer(index: usize, scores: &mut [DeploymentScore]) -> bool {
    let can = |score: &DeploymentScore| score.index == index && score.out.is_none() && score.held.is_none();
    let Some(at) = scores.iter().position(can) else { return false };
    scores[..=at].rotate_right(1);
    true
}

/// What the conversation so far has to do with the order. Where the strategy counts money, the cached prefix is part of
/// it already; where it takes turns, the deployment that has the prefix is put first if that is the cheaper choice.
fn note(
    session: &Session,
    strategy: &[Strategy],
    scores: &mut [DeploymentScore],
    settled: bool,
) -> Option<SessionNote> {
    let at = scores.iter().position(|score| score.index == session.deployment)?;
    let other = scores.iter().find(|score| score.index != session.deployment && score.out.is_none());
    let saves = other.map_or(0.0, |other| other.cost().dollars() - scores[at].cost().dollars());
    let takes_turns =
        |strategy: &Strategy| matches!(strategy, Strategy::RoundRobin | Strategy::Weighted | Strategy::LeastBusy);
    let group = |score: &DeploymentScore| (score.out.is_some(), score.held.is_some(), score.in_class, score.guarded);
    // What is asked before whose turn it is must be answered alike.
    let turn = strategy.iter().position(takes_turns);
    let alike = |earlier: &Strategy| earlier.key(&scores[at]) <= earlier.key(&scores[0]);
    let equals = turn.is_some_and(|turn| strategy[..turn].iter().all(alike));
    let may_stay = scores[at].out.is_none() && group(&scores[at]) == group(&scores[0]) && !settled;
    if may_stay && saves > 0.0 && scores[at].cached_tokens > 0 && equals {
        scores[..=at].rotate_right(1);
    }
    let (last, cached_tokens) = scores
        .iter()
        .find(|score| score.index == session.deployment)
        .map(|score| (score.deployment.clone(), score.cached_tokens))?;
    Some(SessionNote { last, cached_tokens, stays: scores[0].index == session.deployment, saves })
}

/// The chosen first, then those that were considered, then the others; each by quality.
fn sort_classes(classes: &mut [ClassScore], chosen: &str) {
    classes.sort_by(|a, b| {
        let key = |score: &ClassScore| (score.class != chosen, score.out.is_some());
        key(a).cmp(&key(b)).then_with(|| b.quality.unwrap_or(0.0).total_cmp(&a.quality.unwrap_or(0.0)))
    });
}

fn why_class(chosen: &ClassScore, met: bool, policy: &Policy) -> String {
    let quality = chosen.quality.unwrap_or(0.0);
    match (policy.worth, met) {
        (Some(worth), _) => {
            format!("`{}` leaves the most: worth ${worth} x quality {quality:.2} - cost - time", chosen.class)
        }
        (None, true) => {
            format!("`{}` is the cheapest class with quality {quality:.2} >= {}", chosen.class, policy.quality_floor)
        }
        (None, false) => format!(
            "no class reaches the floor {}: `{}` has the best quality, {quality:.2}",
            policy.quality_floor, chosen.class
        ),
    }
}

pub fn why_deployment(first: &DeploymentScore, ranked: &Ranked) -> String {
    let terms = format!("expected ${:.6} and {:.0} ms", first.cost().dollars(), first.latency_ms());
    let strategy = ranked.strategy.iter().map(|strategy| strategy.name()).collect::<Vec<_>>().join(", then ");
    let stays = ranked.session.as_ref().is_some_and(|session| session.stays && session.cached_tokens > 0);
    let also = [
        ranked.explored.then(|| "tried for what can be learned of it".to_string()),
        stays.then(|| "it has the conversation so far in its cache".to_string()),
        ranked.tie_breaker.clone().filter(|_| !ranked.explored),
    ];
    let also: String = also.into_iter().flatten().map(|note| format!("; {note}")).collect();
    format!("{} answers ({strategy}: {terms}{also})", first.deployment)
}
