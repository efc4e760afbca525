//! The road of one request, as a few calls, each named after its module:
//! `features → rules → embedding → quality per class → class → ranked deployments → forward → record`.
//!
//! [`Router::decide`] returns the whole [`Decision`]; [`Router::answer`] decides, forwards and records. `choice.rs` holds
//! the choice of the class and the order of deployments.

use crate::chat::ChatRequest;
use crate::choice::{self, ClassSet};
use crate::classifier::model::{Assurance, Read};
use crate::classifier::{Estimate, RoutingModel};
use crate::config::{ClassConfig, Config};
use crate::decision::{Basis, Decision, Flip, Neighbor, Timing};
use crate::embedder::{self, EncoderSpec, Late};
use crate::error::{Error, Result};
use crate::experiment::{Experiments, Fixed, Grade, Judge, Scorer, Subject};
use crate::features::{self, Features};
use crate::forward::{self, Answer, Budget, Refusal};
use crate::limits::{self, Limits};
use crate::policy::strategy::Turns;
use crate::policy::{Policy, rank, rule};
use crate::providers::Fleet;
use crate::reader::Reader;
use crate::record::{Decisions, HealthBook, Learned, Prompt};
use crate::session::Sessions;
use crate::teaching::{Teaching, feedback};
use arc_swap::ArcSwap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Between two writes of what is learned of the deployments.
const KEPT_EVERY: Duration = Duration::from_secs(60);

/// Everything a request meets on its road. Shared by all requests behind one `Arc`.
pub struct Router {
    pub config: Config,
    /// The routing model that serves; a request keeps the one it began with.
    pub model: ArcSwap<RoutingModel>,
    pub reader: Reader,
    pub fleet: Fleet,
    pub decisions: Decisions,
    pub health: HealthBook,
    /// Where what was measured outlives a restart.
    pub learned: Learned,
    pub limits: Arc<Limits>,
    pub sessions: Sessions,
    pub experiments: Experiments,
    /// What hedging may spend.
    pub hedges: Budget,
    /// What changes the routing model while it serves.
    pub teaching: Teaching,
    /// Classes that each deployment serves.
    pub(crate) served: Vec<ClassSet>,
    /// Classes that cover each class.
    pub(crate) covering: Vec<ClassSet>,
    /// Whose turn it is in each class.
    pub(crate) turns: Vec<Turns>,
}

/// What a caller says beside the request's body.
#[derive(Clone, Debug, Default)]
pub struct Caller {
    /// `x-waypost-class`.
    pub class: Option<String>,
    /// `x-waypost-policy`.
    pub policy: Option<String>,
    /// `x-waypost-session`.
    pub session: Option<String>,
    /// `x-waypost-tier`.
    pub tier: Option<String>,
    /// `x-waypost-tags`.
    pub tags: Vec<String>,
    /// `x-waypost-priority`: 0 is the most urgent.
    pub priority: Option<u8>,
    /// The key that the request carries.
    pub key: Option<CallerKey>,
    /// The request's path.
    pub path: String,
    /// Headers that rules look at, by lower-case name.
    pub headers: Vec<(String, String)>,
    /// The time, for hours of rules and dated prices; absent: now.
    pub at: Option<jiff::Timestamp>,
}

impl Caller {
    /// The time that rules and prices go by.
    fn time(&self) -> jiff::Timestamp {
        self.at.unwrap_or_else(jiff::Timestamp::now)
    }
}

/// A caller's key; its `Debug` hides it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct CallerKey(pub String);

impl std::fmt::Debug for CallerKey {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.write_str("[key]")
    }
}

impl CallerKey {
    /// The key itself, to be compared or hashed.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

/// What a request asks for by its `model`, or by `x-waypost-class`; or what a rule says in its place.
#[derive(Clone, Debug)]
pub enum Target {
    Auto,
    Class(String),
    /// Place in the fleet.
    Deployment(usize),
}

/// What is wanted of one decision: by the request, the rules and the experiments together.
#[derive(Clone)]
pub struct Wish {
    pub target: Target,
    pub policy: Policy,
    /// The rule that matched.
    pub rule: Option<String>,
    /// A rule or an experiment named the target.
    ruled: bool,
    /// The deployment that an experiment puts first, where it can answer; the others stay behind it.
    pub prefer: Option<usize>,
    /// An experiment's routing model, in place of the one that serves.
    model: Option<Arc<RoutingModel>>,
}

impl Wish {
    /// A wish that no rule and no experiment had a part in.
    pub fn of(target: Target, policy: Policy) -> Self {
        Wish { target, policy, rule: None, ruled: false, prefer: None, model: None }
    }
}

/// One request, and the name of the decision about it.
struct Asked<'a> {
    id: &'a str,
    request: &'a ChatRequest,
    caller: &'a Caller,
}

/// When a request is decided about: the time for dated prices and the hours of rules, and the clock by which
/// conversations age.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    pub at: jiff::Timestamp,
    pub clock: Instant,
}

/// What is decided once the prompt was read.
pub(crate) struct Question<'a> {
    pub id: &'a str,
    pub request: &'a ChatRequest,
    pub features: &'a Features,
    pub wish: &'a Wish,
    /// What names the conversation, where it has one.
    pub session: Option<u64>,
    pub moment: Moment,
    /// The prompt's tokens are a provider's own count: no deployment counts others.
    pub counted: bool,
    /// Nothing is forwarded: nobody's turn is taken.
    pub dry: bool,
}

/// What reading the prompt gave.
pub enum Reading {
    Estimate(Arc<RoutingModel>, Arc<Read>),
    /// Why the default class, or the one named, answers unread.
    Unread(Basis, &'static str),
}

impl Router {
    /// Ties the parts together.
    ///
    /// # Errors
    /// [`Error::Config`] when the routing model was trained on another encoder, or knows a class that the
    /// configuration lacks.
    pub fn new(config: Config, model: RoutingModel, reader: Reader, fleet: Fleet) -> Result<Self> {
        fits(&config, reader.embedder.spec(), &model)?;
        model.grow_graph();
        Ok(Self::assemble(config, Arc::new(model), reader, fleet))
    }

    /// The same for a routing model that nobody asks, or that was found to fit.
    pub(crate) fn assemble(config: Config, model: Arc<RoutingModel>, reader: Reader, fleet: Fleet) -> Self {
        let bit = |name: &str| config.classes.iter().position(|class| class.name == name).map_or(0, |at| 1 << at);
        let set = |names: &[String]| names.iter().fold(0, |all: ClassSet, name| all | bit(name));
        let covers = |class: &ClassConfig, name: &String| class.covers.contains(name);
        let covering = |name: &String| {
            config.classes.iter().filter(|class| covers(class, name)).fold(0, |all, class| all | bit(&class.name))
        };
        let names = fleet.all().iter().map(|deployment| (&*deployment.name, &*deployment.model));
        Router {
            served: fleet.all().iter().map(|deployment| set(&deployment.config.classes)).collect(),
            covering: config.classes.iter().map(|class| covering(&class.name)).collect(),
            turns: config.classes.iter().map(|_| Turns::default()).collect(),
            decisions: Decisions::new(config.record.keep),
            health: HealthBook::new(config.record.clone(), names),
            learned: Learned::new(config.record.learned.clone()),
            limits: limits(&config, &fleet),
            sessions: Sessions::new(config.session),
            experiments: Experiments::none(&config),
            hedges: Budget::new(config.retry.hedge_share),
            teaching: Teaching::new(&config),
            model: ArcSwap::new(model),
            config,
            reader,
            fleet,
        }
    }

    /// Lets a routing model serve from now on; requests under way keep the one they began with.
    pub fn install(&self, model: RoutingModel) {
        model.grow_graph();
        self.model.store(Arc::new(model));
    }

    /// Decides about a request, forwards it, and records what comes of it when the body ends.
    ///
    /// # Errors
    /// A [`Refusal`]: the error, with the decision where one was made.
    pub async fn answer(
        self: &Arc<Self>,
        request: ChatRequest,
        caller: &Caller,
    ) -> std::result::Result<Answer, Refusal> {
        let decision = self.decide_for(&request, caller, false).await.map_err(Refusal::before_decision)?;
        let (decision, request) = (Arc::new(decision), Arc::new(request));
        self.decisions.add(decision.clone(), &embedder::window(&request, self.config.embedder.window_chars));
        let may = |deployment: &str| self.may_see(&decision.policy, deployment);
        self.experiments.copy(&decision.experiments, &request, &decision.id, &decision.class, may);
        forward::forward(self.clone(), request, decision, caller).await
    }

    /// Whether a copy of a request under this policy may go to a deployment: residency binds shadows and judge as well.
    pub(crate) fn may_see(&self, policy: &Policy, deployment: &str) -> bool {
        let index = self.fleet.index_of(deployment);
        index.is_some_and(|index| rank::barred(&self.fleet.all()[index].config, policy).is_none())
    }

    /// Decides about a request. Nothing is forwarded.
    ///
    /// # Errors
    /// [`Error::UnknownModel`], [`Error::BadRequest`] for a policy that cannot be read, [`Error::Ruled`] where a rule
    /// refuses it, [`Error::NothingFits`].
    pub async fn decide(&self, request: &ChatRequest, caller: &Caller) -> Result<Decision> {
        self.decide_for(request, caller, true).await
    }

    /// As [`Router::decide`]; `dry` where nothing is forwarded after it, so that it takes nobody's turn.
    async fn decide_for(&self, request: &ChatRequest, caller: &Caller, dry: bool) -> Result<Decision> {
        let start = Instant::now();
        let mut features = Features::read(request);
        let wish = self.wish(request, caller, &features)?;
        let features_us = micros(start);
        let id = format!("dec_{}", uuid::Uuid::now_v7().simple());
        let asked = Asked { id: &id, request, caller };
        let decision = self.with_experiments(&asked, &mut features, &wish, dry).await?;
        Ok(decision.timed(features_us))
    }

    /// The decision that is wanted, as the experiments change it.
    async fn with_experiments(
        &self,
        asked: &Asked<'_>,
        features: &mut Features,
        wish: &Wish,
        dry: bool,
    ) -> Result<Decision> {
        // Arms are drawn for the class without them: a first look, which takes nobody's turn where another follows.
        let twice = self.experiments.may_change() && !dry;
        let decision = self.weigh(asked, features, wish, dry || twice).await?;
        let arms = self.experiments.assign(&self.subject(&decision, asked, wish));
        let change = self.experiments.change(&arms);
        if change == crate::config::Change::default() {
            let decision = if twice { self.weigh(asked, features, wish, dry).await? } else { decision };
            return Ok(Decision { experiments: arms, ..decision });
        }
        let changed = self.changed(wish, &change)?;
        let can = |decision: &Decision, named: usize| {
            decision.deployments.iter().any(|score| score.index == named && score.out.is_none())
        };
        match self.weigh(asked, features, &changed, dry).await {
            Ok(decision) if changed.prefer.is_none_or(|named| can(&decision, named)) => {
                Ok(Decision { experiments: arms, ..decision })
            }
            // What an arm names cannot answer this: the request takes no part, and goes where it would have gone.
            Ok(_) | Err(Error::NothingFits { .. }) => self.weigh(asked, features, wish, dry).await,
            Err(error) => Err(error),
        }
    }

    /// One decision, for what is wanted of it.
    async fn weigh(&self, asked: &Asked<'_>, features: &mut Features, wish: &Wish, dry: bool) -> Result<Decision> {
        let Asked { id, request, caller } = *asked;
        let start = Instant::now();
        let mut timing = Timing::default();
        // The language is looked for while an encoder thread reads.
        let (reading, language) = tokio::join!(self.read(request, wish, &mut timing), async {
            matches!(wish.target, Target::Auto).then(|| features::language(request)).flatten()
        });
        let reading = reading?;
        features.language = features.language.take().or(language);
        let session = Some(self.session_key(request, caller));
        let moment = Moment { at: caller.time(), clock: Instant::now() };
        let question = Question { id, request, features, wish, session, moment, counted: false, dry };
        let mut decision = self.settle(&question, &reading)?;
        timing.policy_us = micros(moment.clock);
        timing.total_us = micros(start);
        decision.timing = timing;
        Ok(decision)
    }

    /// The decision, once the prompt was read.
    pub(crate) fn settle(&self, question: &Question<'_>, reading: &Reading) -> Result<Decision> {
        let Question { id, request, features, wish, moment, counted, dry, .. } = *question;
        let session = question.session.and_then(|key| self.sessions.get(key, moment.clock));
        let cached = session
            .map(|known| (known.deployment, self.sessions.cached_tokens(&known, features.tokens_in, moment.clock)));
        let asked = choice::Request {
            demand: rank::Demand {
                features,
                policy: &wish.policy,
                output_tokens: self.output_tokens(&wish.target, reading),
                at: moment.at,
                session: cached,
            },
            prompt: Prompt { tokens_in: features.tokens_in, ascii: features.ascii },
            now: self.health.now(),
            session,
            counted,
            dry,
        };
        let choice::Choice { class, deployments, ranked, deployment, fallbacks, other } =
            self.choose(wish, reading, &asked)?;

        let estimate = match reading {
            Reading::Estimate(model, read) => Some((model, &read.estimate)),
            Reading::Unread(..) => None,
        };
        Ok(Decision {
            id: id.into(),
            created_ms: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64),
            requested: request.model.clone(),
            reason: format!("{}; {}", class.reason, choice::why_deployment(&deployments[0], &ranked)),
            class: class.class,
            deployment,
            fallbacks,
            basis: class.basis,
            routing_model: estimate.map(|(model, _)| model.title()),
            confidence: estimate.map(|(_, estimate)| estimate.confidence),
            assurance: estimate.and_then(|(model, estimate)| {
                let sure =
                    |assurance: &Assurance| estimate.exit.is_none() && estimate.confidence >= assurance.confidence;
                model.manifest.assurance.filter(sure)
            }),
            exit: estimate.and_then(|(_, estimate)| estimate.exit),
            abstained: class.basis == Basis::Abstained,
            gate: estimate.map(|(model, _)| model.manifest.gate),
            neighbors: estimate.map_or(Vec::new(), |(model, estimate)| self.neighbors(model, estimate)),
            classes: class.classes,
            deployments,
            strategy: ranked.strategy,
            tie_breaker: ranked.tie_breaker,
            rule: wish.rule.clone(),
            session: ranked.session,
            explored: ranked.explored,
            experiments: Vec::new(),
            flip: Flip { class: class.flip, deployment: other },
            features: features.clone(),
            policy: wish.policy.clone(),
            timing: Timing::default(),
            outcome: None,
        })
    }

    /// The judge's word on an answer: live quality of its deployment, and a score for the experiments it was part of.
    /// Where the judge teaches, its word becomes a candidate as well, which is written beside: needs an async runtime.
    pub fn graded(self: &Arc<Self>, grade: &Grade) {
        self.scored(&grade.deployment, &grade.class, grade.score);
        if let Some(decision) = self.decisions.get(&grade.decision) {
            self.experiments.scored(&decision.experiments, &grade.decision, grade.score, Scorer::Judge);
        }
        let Some(accept) = self.experiments.judge.as_ref().and_then(Judge::teaches) else { return };
        let (router, id, score) = (self.clone(), grade.decision.clone(), grade.score);
        tokio::spawn(async move {
            if let Err(error) = feedback::judged(&router, id, score, accept).await {
                tracing::debug!(%error, "a grade became no candidate");
            }
        });
    }

    /// A caller's word on an answer, the first on its decision: as [`Router::graded`], for whoever answered.
    pub fn told(&self, id: &str, score: f64) {
        let Some(decision) = self.decisions.get(id) else { return };
        self.experiments.scored(&decision.experiments, id, score, Scorer::Feedback);
        let answered = decision.outcome.as_ref().and_then(|outcome| outcome.deployment.as_deref());
        if let Some(deployment) = answered.filter(|_| self.decisions.first_score(id)) {
            self.scored(deployment, &decision.class, score);
        }
    }

    fn scored(&self, deployment: &str, class: &str, score: f64) {
        if let Some(index) = self.fleet.index_of(deployment) {
            self.health.add_quality(index, self.health.now(), class, score);
        }
    }

    /// Writes what is learned of the deployments every minute, for ever.
    pub async fn keep_learned(self: Arc<Self>) {
        loop {
            tokio::time::sleep(KEPT_EVERY).await;
            self.write_down(|router| router.learned.save(&router.health)).await;
        }
    }

    /// Writes down all that should outlive the program: what was learned, and the logs of experiments.
    pub async fn close(self: &Arc<Self>) {
        self.write_down(|router| {
            router.learned.save(&router.health);
            router.experiments.flush();
        })
        .await;
    }

    async fn write_down(self: &Arc<Self>, write: impl FnOnce(&Router) + Send + 'static) {
        let router = self.clone();
        if let Err(error) = tokio::task::spawn_blocking(move || write(&router)).await {
            tracing::error!(%error, "writing down what was learned");
        }
    }

    /// What is wanted: by the request itself, and by the first rule that matches it.
    pub(crate) fn wish(&self, request: &ChatRequest, caller: &Caller, features: &Features) -> Result<Wish> {
        let rule = self.rule(request, caller, features);
        if let Some(refuse) = rule.and_then(|rule| rule.refuse.clone()) {
            return Err(Error::Ruled { message: refuse });
        }
        let (default, named) = (&self.config.policy, &self.config.policies);
        let ruled = Policy::for_request(default, named, rule.and_then(|rule| rule.policy.as_deref()))?;
        let policy = Policy::for_request(&ruled, named, caller.policy.as_deref())?.within(&ruled).within(default);
        let named = match rule {
            Some(rule::Rule { class: Some(class), .. }) => Some(Target::Class(class.clone())),
            Some(rule::Rule { deployment: Some(name), name: rule, .. }) => {
                // Where somebody must go is not where somebody may be: another would answer in its place.
                let reasons = format!("The rule `{rule}` names the deployment `{name}`, which cannot be called here.");
                let gone = Error::NothingFits { reasons, context: false };
                Some(Target::Deployment(self.fleet.index_of(name).ok_or(gone)?))
            }
            _ => None,
        };
        Ok(Wish {
            ruled: named.is_some(),
            // A rule may be about a model that nobody here has.
            target: named.map_or_else(|| self.target(request, caller), Ok)?,
            policy,
            rule: rule.map(|rule| rule.name.clone()),
            prefer: None,
            model: None,
        })
    }

    /// The first rule whose conditions all hold.
    fn rule(&self, request: &ChatRequest, caller: &Caller, features: &Features) -> Option<&rule::Rule> {
        let last_user = request.messages.iter().rev().find(|message| message.role == crate::chat::Role::User);
        let facts = rule::Facts {
            model: caller.class.as_deref().unwrap_or(&request.model),
            path: &caller.path,
            headers: &caller.headers,
            tier: caller.tier.as_deref(),
            key: caller.key.as_ref().map(CallerKey::reveal),
            tags: &caller.tags,
            features,
            text: last_user.map_or("", |message| &message.text),
            at: caller.time(),
        };
        // Several rules may ask for the language; it is looked for once.
        let language = std::cell::LazyCell::new(|| features::language(request));
        self.config.rules.iter().find(|rule| rule.holds(&facts, || language.clone()))
    }

    /// What is wanted, with what experiments change.
    fn changed(&self, wish: &Wish, change: &crate::config::Change) -> Result<Wish> {
        let mut wish = wish.clone();
        let before = wish.policy.clone();
        if let Some(policy) = &change.policy {
            wish.policy = Policy::for_request(&before, &self.config.policies, Some(policy))?.within(&before);
        }
        if let Some(strategy) = &change.strategy {
            let header = format!("strategy={strategy}");
            wish.policy = Policy::for_request(&wish.policy, &self.config.policies, Some(&header))?;
        }
        if let Some(class) = &change.class {
            wish.target = Target::Class(class.clone());
        }
        wish.prefer = change.deployment.as_ref().and_then(|name| self.fleet.index_of(name));
        wish.ruled |= change.class.is_some();
        wish.model = self.experiments.routing_model(change).cloned();
        Ok(wish)
    }

    /// Who asks, for the experiments.
    fn subject<'a>(&self, decision: &'a Decision, asked: &Asked<'a>, wish: &Wish) -> Subject<'a> {
        let Asked { request, caller, .. } = *asked;
        let named = request.session.as_deref();
        Subject {
            class: &decision.class,
            tags: &caller.tags,
            session: caller.session.as_deref().or(named),
            user: named,
            key: caller.key.as_ref().map(CallerKey::reveal),
            request: &decision.id,
            fixed: Fixed {
                policy: caller.policy.is_some(),
                class: matches!(wish.target, Target::Class(_)),
                deployment: matches!(wish.target, Target::Deployment(_)),
            },
        }
    }

    /// What names the conversation that a request belongs to.
    pub fn session_key(&self, request: &ChatRequest, caller: &Caller) -> u64 {
        let named = caller.session.as_deref().or(request.session.as_deref());
        self.sessions.key(named, request, caller.key.as_ref().map(CallerKey::reveal))
    }

    /// What the request asks for: a header beats the body.
    fn target(&self, request: &ChatRequest, caller: &Caller) -> Result<Target> {
        let name = caller.class.as_deref().unwrap_or(&request.model);
        if self.config.classes.iter().any(|class| class.name == name) {
            return Ok(Target::Class(name.into()));
        }
        if caller.class.is_some() {
            return Err(Error::bad(
                "x-waypost-class",
                "unknown_class",
                format!("Header x-waypost-class: no class is named `{name}`; expected one of {}.", self.class_names()),
            ));
        }
        if name == "auto" {
            return Ok(Target::Auto);
        }
        match self.fleet.index_of(name) {
            Some(index) => Ok(Target::Deployment(index)),
            None => Err(Error::UnknownModel { model: name.chars().take(100).collect(), classes: self.class_names() }),
        }
    }

    /// Embeds and classifies the prompt, or tells why not. A request that names its class or deployment is not read.
    async fn read(&self, request: &ChatRequest, wish: &Wish, timing: &mut Timing) -> Result<Reading> {
        let text = match self.text(request, wish) {
            Ok(text) => text,
            Err(unread) => return Ok(unread),
        };
        let model = wish.model.clone().unwrap_or_else(|| self.model.load_full());
        let reading = match self.reader.read(&model, &text).await? {
            Ok(reading) => reading,
            Err(Late::QueueFull) => return Ok(Reading::Unread(Basis::Late, "the embedder's queue is full")),
            Err(Late::Deadline) => return Ok(Reading::Unread(Basis::Late, "the embedding did not come in time")),
        };
        timing.read_before = reading.queued.is_none();
        if let Some(queued) = reading.queued {
            let Read { spent, classify, .. } = &*reading.read;
            timing.queue_us = queued.as_micros() as u64;
            timing.tokenize_us = spent.tokenize.as_micros() as u64;
            timing.encode_us = spent.encode.as_micros() as u64;
            timing.classify_us = classify.as_micros() as u64;
        }
        Ok(Reading::Estimate(model, reading.read))
    }

    /// The text to be read for a decision, or why none is.
    pub(crate) fn text(&self, request: &ChatRequest, wish: &Wish) -> std::result::Result<String, Reading> {
        let unread = |basis, why| Err(Reading::Unread(basis, why));
        match (&wish.target, wish.ruled) {
            (Target::Auto, _) => {}
            (Target::Class(_), true) => return unread(Basis::Ruled, "a rule or an experiment names the class"),
            (Target::Deployment(_), true) => {
                return unread(Basis::Ruled, "a rule or an experiment names the deployment");
            }
            (Target::Class(_), false) => return unread(Basis::ClassNamed, "the request names the class"),
            (Target::Deployment(_), false) => {
                return unread(Basis::DeploymentNamed, "the request names the deployment");
            }
        }
        let text = embedder::window(request, self.config.embedder.window_chars);
        if text.is_empty() { unread(Basis::NoText, "the conversation has no text to read") } else { Ok(text) }
    }

    /// Expected answer tokens of this prompt: the mean length of each label's answers, weighted by its probability.
    fn output_tokens(&self, target: &Target, reading: &Reading) -> f64 {
        let of = |class: &str| {
            let prior = self.class(class).map_or(0, |class| class.output_tokens);
            self.health.output_tokens(class, prior)
        };
        match (reading, target) {
            // Outcomes are no shares of one whole: they are weighed by their sum.
            (Reading::Estimate(model, read), _) => {
                let estimate = &read.estimate;
                let all = estimate.joined.iter().sum::<f64>().max(f64::MIN_POSITIVE);
                model.manifest.classes.iter().zip(&estimate.joined).map(|(class, share)| share / all * of(class)).sum()
            }
            (_, Target::Class(class)) => of(class),
            _ => of(&self.config.routing.default_class),
        }
    }

    fn neighbors(&self, model: &RoutingModel, estimate: &Estimate) -> Vec<Neighbor> {
        let shown = estimate.hits.iter().take(self.config.routing.neighbors_shown);
        shown
            .map(|hit| {
                let exemplar = &model.exemplars[hit.position];
                Neighbor {
                    id: exemplar.id.clone(),
                    text: exemplar.prompt.chars().take(160).collect(),
                    label: exemplar.class.clone(),
                    score: exemplar.score.clone(),
                    similarity: f64::from(hit.similarity),
                }
            })
            .collect()
    }

    /// Place of a class that exists; the first for one that does not.
    pub(crate) fn place_of(&self, class: &str) -> usize {
        self.config.classes.iter().position(|known| known.name == class).unwrap_or(0)
    }

    fn class(&self, name: &str) -> Option<&ClassConfig> {
        self.config.classes.iter().find(|class| class.name == name)
    }

    /// The class under which a named deployment's answers are counted.
    pub(crate) fn class_of(&self, deployment: usize) -> String {
        let own = &self.fleet.all()[deployment].config.classes;
        let default = &self.config.routing.default_class;
        if own.contains(default) { default.clone() } else { own.first().unwrap_or(default).clone() }
    }

    /// What a target is called.
    pub(crate) fn name_of(&self, target: &Target) -> String {
        match target {
            Target::Auto => "auto".into(),
            Target::Class(name) => name.clone(),
            Target::Deployment(index) => self.fleet.all()[*index].name.to_string(),
        }
    }

    /// The names of all classes, for messages.
    pub fn class_names(&self) -> String {
        self.config.classes.iter().map(|class| class.name.as_str()).collect::<Vec<_>>().join(", ")
    }
}

/// The limits of all deployments and their providers, as configured.
fn limits(config: &Config, fleet: &Fleet) -> Arc<Limits> {
    let deployment = |deployment: &crate::providers::Deployment| limits::DeploymentLimits {
        name: deployment.config.name.clone(),
        provider: deployment.config.provider.clone(),
        limits: deployment.config.limits,
    };
    let provider = |provider: &crate::config::ProviderConfig| limits::ProviderLimits {
        name: provider.name.clone(),
        limits: provider.limits,
    };
    let deployments: Vec<_> = fleet.all().iter().map(deployment).collect();
    let providers: Vec<_> = config.providers.iter().map(provider).collect();
    Limits::new(&deployments, &providers, config.queue)
}

/// Whether a routing model can serve here: trained on this encoder, used the same way, and with no class that the
/// configuration lacks.
///
/// # Errors
/// [`Error::Config`] naming the key that differs.
pub fn fits(config: &Config, spec: &EncoderSpec, model: &RoutingModel) -> Result<()> {
    let wrong = |key: &str, problem: String| Error::Config { file: config.file.clone(), key: key.into(), problem };
    let trained = &model.manifest;
    for (key, wanted, found) in [
        ("embedder.model", trained.encoder.clone(), spec.name.clone()),
        (
            "embedder.pooling",
            format!("{:?}", trained.pooling).to_lowercase(),
            format!("{:?}", spec.pooling).to_lowercase(),
        ),
        ("embedder.prefix", trained.prefix.clone(), spec.prefix.clone()),
        ("embedder.max_tokens", trained.max_tokens.to_string(), spec.max_tokens.to_string()),
        ("embedder.window_chars", trained.window_chars.to_string(), config.embedder.window_chars.to_string()),
    ] {
        if wanted != found {
            let problem = format!(
                "the routing model {} was trained with `{wanted}`, this is `{found}`; expected the same, or train one with this",
                model.title()
            );
            return Err(wrong(key, problem));
        }
    }
    if let Some(label) =
        model.manifest.classes.iter().find(|label| !config.classes.iter().any(|class| class.name == **label))
    {
        return Err(wrong(
            "class",
            format!("the routing model {} knows the class `{label}`; expected a [[class]] of that name", model.title()),
        ));
    }
    Ok(())
}

fn micros(since: Instant) -> u64 {
    since.elapsed().as_micros() as u64
}
