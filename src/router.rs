//! The road of one request, as a few calls, each named after its module:
//! `features → embedding → quality per class → class → ranked deployments → forward → record`.
//!
//! [`Router::decide`] returns the whole [`Decision`]; [`Router::answer`] decides, forwards and records.

use crate::chat::ChatRequest;
use crate::classifier::model::{Assurance, Read};
use crate::classifier::{Estimate, RoutingModel};
use crate::config::{ClassConfig, Config};
use crate::decision::{Basis, ClassScore, Decision, DeploymentScore, Flip, Neighbor, Timing};
use crate::embedder::{self, EncoderSpec, Late};
use crate::error::{Error, Result};
use crate::features::{self, Features};
use crate::forward::{self, Answer, Refusal};
use crate::policy::{Policy, class, flip, quality, rank};
use crate::providers::Fleet;
use crate::reader::Reader;
use crate::record::{Decisions, HealthBook};
use crate::teaching::Teaching;
use arc_swap::ArcSwap;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Everything a request meets on its road. Shared by all requests behind one `Arc`.
pub struct Router {
    pub config: Config,
    /// The routing model that serves; a request keeps the one it began with.
    pub model: ArcSwap<RoutingModel>,
    pub reader: Reader,
    pub fleet: Fleet,
    pub decisions: Decisions,
    pub health: HealthBook,
    /// What changes the routing model while it serves.
    pub teaching: Teaching,
}

/// What a caller says beside the request's body.
#[derive(Clone, Debug, Default)]
pub struct Caller {
    /// `x-waypost-class`.
    pub class: Option<String>,
    /// `x-waypost-policy`.
    pub policy: Option<String>,
}

/// What a request asks for by its `model`, or by `x-waypost-class`.
enum Target {
    Auto,
    Class(String),
    Deployment(String),
}

/// What reading the prompt gave.
enum Reading {
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
        let names = fleet.all().iter().map(|deployment| (&*deployment.config.name, &*deployment.config.model));
        let health = HealthBook::new(config.record.clone(), names);
        let decisions = Decisions::new(config.record.keep);
        let teaching = Teaching::new(&config);
        model.grow_graph();
        Ok(Router { config, model: ArcSwap::from_pointee(model), reader, fleet, decisions, health, teaching })
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
        let decision = self.decide(&request, caller).await.map_err(Refusal::before_decision)?;
        self.decisions.add(decision.clone(), &embedder::window(&request, self.config.embedder.window_chars));
        forward::forward(self.clone(), request, decision).await
    }

    /// Decides about a request. Nothing is forwarded.
    ///
    /// # Errors
    /// [`Error::UnknownModel`], [`Error::BadRequest`] for a policy that cannot be read, [`Error::NothingFits`].
    pub async fn decide(&self, request: &ChatRequest, caller: &Caller) -> Result<Decision> {
        let start = Instant::now();
        let mut timing = Timing::default();
        let target = self.target(request, caller)?;
        let policy = Policy::for_request(&self.config.policy, &self.config.policies, caller.policy.as_deref())?;

        let mut features = Features::read(request);
        timing.features_us = micros(start);

        // The language is looked for while an encoder thread reads.
        let (reading, language) = tokio::join!(self.read(request, &target, &mut timing), async {
            matches!(target, Target::Auto).then(|| features::language(request)).flatten()
        });
        let reading = reading?;
        features.language = language;

        let choosing = Instant::now();
        let demand =
            rank::Demand { features: &features, policy: &policy, output_tokens: self.output_tokens(&target, &reading) };
        let mut deployments: Vec<DeploymentScore> = self
            .fleet
            .all()
            .iter()
            .map(|deployment| rank::score(&deployment.config, &self.health.of(&deployment.config.name), &demand))
            .collect();
        let choice = self.choose_class(&target, &reading, &deployments, &policy)?;
        let tie_breaker = self.rank(&target, &choice.class, &mut deployments, &policy);
        let candidates: Vec<String> =
            deployments.iter().filter(|score| score.out.is_none()).map(|score| score.deployment.clone()).collect();
        let Some((deployment, fallbacks)) = candidates.split_first() else {
            return Err(nothing_fits(&choice.class, &deployments));
        };
        let flip = Flip { class: choice.flip, deployment: flip::deployment(&deployments, &policy) };
        timing.policy_us = micros(choosing);
        timing.total_us = micros(start);

        let estimate = match &reading {
            Reading::Estimate(model, read) => Some((model, &read.estimate)),
            Reading::Unread(..) => None,
        };
        Ok(Decision {
            id: format!("dec_{}", uuid::Uuid::now_v7().simple()),
            created_ms: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64),
            requested: request.model.clone(),
            reason: format!("{}; {}", choice.reason, why_deployment(&deployments[0], tie_breaker.as_deref())),
            class: choice.class,
            deployment: deployment.clone(),
            fallbacks: fallbacks.to_vec(),
            basis: choice.basis,
            routing_model: estimate.map(|(model, _)| model.title()),
            confidence: estimate.map(|(_, estimate)| estimate.confidence),
            assurance: estimate.and_then(|(model, estimate)| {
                let sure =
                    |assurance: &Assurance| estimate.exit.is_none() && estimate.confidence >= assurance.confidence;
                model.manifest.assurance.filter(sure)
            }),
            exit: estimate.and_then(|(_, estimate)| estimate.exit),
            abstained: choice.basis == Basis::Abstained,
            gate: estimate.map(|(model, _)| model.manifest.gate),
            neighbors: estimate.map_or(Vec::new(), |(model, estimate)| self.neighbors(model, estimate)),
            classes: choice.classes,
            deployments,
            tie_breaker,
            flip,
            features,
            policy,
            timing,
            outcome: None,
        })
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
        match self.fleet.named(name) {
            Some(deployment) => Ok(Target::Deployment(deployment.config.name.clone())),
            None => Err(Error::UnknownModel { model: name.chars().take(100).collect(), classes: self.class_names() }),
        }
    }

    /// Embeds and classifies the prompt, or tells why not. A request that names its class or deployment is not read.
    async fn read(&self, request: &ChatRequest, target: &Target, timing: &mut Timing) -> Result<Reading> {
        match target {
            Target::Class(_) => return Ok(Reading::Unread(Basis::ClassNamed, "the request names the class")),
            Target::Deployment(_) => {
                return Ok(Reading::Unread(Basis::DeploymentNamed, "the request names the deployment"));
            }
            Target::Auto => {}
        }
        let text = embedder::window(request, self.config.embedder.window_chars);
        if text.is_empty() {
            return Ok(Reading::Unread(Basis::NoText, "the conversation has no text to read"));
        }
        let model = self.model.load_full();
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

    fn choose_class(
        &self,
        target: &Target,
        reading: &Reading,
        deployments: &[DeploymentScore],
        policy: &Policy,
    ) -> Result<ClassChoice> {
        let (model, estimate) = match reading {
            Reading::Unread(basis, why) => {
                let class = match target {
                    Target::Auto => self.config.routing.default_class.clone(),
                    Target::Class(class) => class.clone(),
                    Target::Deployment(deployment) => self.class_of(deployment),
                };
                let reason = if matches!(target, Target::Auto) {
                    format!("{why}: the default class `{class}` answers")
                } else {
                    format!("{why} `{}`", target.name())
                };
                return Ok(ClassChoice { class, basis: *basis, reason, classes: Vec::new(), flip: None });
            }
            Reading::Estimate(model, read) => (model, &read.estimate),
        };
        let mut classes = quality::score(
            &self.config.classes,
            &model.manifest,
            estimate,
            |class| self.expected(class, deployments),
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
            return Err(nothing_fits(&self.config.routing.default_class, deployments));
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

    /// What an answer of a class is expected to take at its best deployment, or why none of them can answer.
    fn expected(&self, class: &str, deployments: &[DeploymentScore]) -> std::result::Result<quality::Expected, String> {
        let serves = |score: &&DeploymentScore| {
            self.fleet
                .named(&score.deployment)
                .is_some_and(|found| found.config.classes.iter().any(|served| served == class))
        };
        let own: Vec<&DeploymentScore> = deployments.iter().filter(serves).collect();
        match own.iter().filter(|score| score.out.is_none()).min_by(|a, b| a.score.total_cmp(&b.score)) {
            Some(best) => Ok(quality::Expected { cost: best.cost(), latency_ms: best.latency_ms() }),
            None if own.is_empty() => Err("no deployment serves it".into()),
            None => Err(format!("none of its deployments fits ({})", own[0].out.as_deref().unwrap_or("unknown"))),
        }
    }

    /// Ranks deployments for a class: its own first, then those of classes that cover it; the others are out.
    fn rank(
        &self,
        target: &Target,
        class: &str,
        deployments: &mut [DeploymentScore],
        policy: &Policy,
    ) -> Option<String> {
        let classes: HashMap<&str, &[String]> = self
            .fleet
            .all()
            .iter()
            .map(|deployment| (deployment.config.name.as_str(), deployment.config.classes.as_slice()))
            .collect();
        let covering: Vec<&str> = self
            .config
            .classes
            .iter()
            .filter(|other| other.covers.iter().any(|covered| covered == class))
            .map(|other| other.name.as_str())
            .collect();
        for score in deployments.iter_mut() {
            let served = classes.get(score.deployment.as_str()).copied().unwrap_or_default();
            let named = matches!(target, Target::Deployment(name) if *name == score.deployment);
            score.in_class = named || served.iter().any(|served| served == class);
            let covers = served.iter().any(|served| covering.contains(&served.as_str()));
            if score.out.is_none() && matches!(target, Target::Deployment(_)) && !named {
                score.out = Some("the request names another deployment".into());
            } else if score.out.is_none() && !score.in_class && !covers {
                score.out = Some(format!("serves neither `{class}` nor a class that covers it"));
            }
        }
        rank::rank(deployments, policy, |deployment| self.health.last_chosen_named(deployment))
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

    fn class(&self, name: &str) -> Option<&ClassConfig> {
        self.config.classes.iter().find(|class| class.name == name)
    }

    /// The class under which a named deployment's answers are counted.
    fn class_of(&self, deployment: &str) -> String {
        let own = self.fleet.named(deployment).map(|deployment| deployment.config.classes.clone()).unwrap_or_default();
        let default = &self.config.routing.default_class;
        if own.contains(default) { default.clone() } else { own.into_iter().next().unwrap_or_else(|| default.clone()) }
    }

    /// The names of all classes, for messages.
    pub fn class_names(&self) -> String {
        self.config.classes.iter().map(|class| class.name.as_str()).collect::<Vec<_>>().join(", ")
    }
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

/// A class chosen, and how.
struct ClassChoice {
    class: String,
    basis: Basis,
    reason: String,
    classes: Vec<ClassScore>,
    flip: Option<crate::decision::Change>,
}

impl Target {
    fn name(&self) -> &str {
        match self {
            Target::Auto => "auto",
            Target::Class(name) | Target::Deployment(name) => name,
        }
    }
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

fn why_deployment(first: &DeploymentScore, tie_breaker: Option<&str>) -> String {
    let terms = format!("expected ${:.6} and {:.0} ms", first.cost().dollars(), first.latency_ms());
    match tie_breaker {
        Some(tie) => format!("{} answers ({terms}; {tie})", first.deployment),
        None => format!("{} answers ({terms})", first.deployment),
    }
}

/// The error when every deployment is out, with each one's reason. Where only the context is too small, the client
/// reads the code it knows from OpenAI.
fn nothing_fits(class: &str, deployments: &[DeploymentScore]) -> Error {
    let serving: Vec<&DeploymentScore> = deployments
        .iter()
        .filter(|score| score.in_class || score.out.as_deref().is_some_and(|out| !out.starts_with("serves neither")))
        .collect();
    if serving.is_empty() {
        return Error::NothingFits {
            reasons: format!(
                "No deployment serves the class `{class}`: set a provider's key, or add a [[deployment]]."
            ),
            context: false,
        };
    }
    let out = |score: &&DeploymentScore| score.out.clone().unwrap_or_default();
    let context = serving.iter().all(|score| out(score).starts_with("context_length"));
    let reasons: Vec<String> =
        serving.iter().take(8).map(|score| format!("{}: {}.", score.deployment, out(score))).collect();
    Error::NothingFits { reasons: reasons.join(" "), context }
}

fn micros(since: Instant) -> u64 {
    since.elapsed().as_micros() as u64
}
