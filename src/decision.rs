//! The whole value that comes out of routing one request: class, deployment, fallbacks, and every reason.
//! Headers, log, `/explain` and tests read this one value and nothing else.

use crate::classifier::exit::Rule;
use crate::classifier::model::Assurance;
use crate::experiment::Assigned;
use crate::features::Features;
use crate::money::Money;
use crate::policy::Policy;
use crate::policy::strategy::Strategy;
use serde::{Serialize, Serializer};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use utoipa::ToSchema;

/// Everything Waypost decided about one request, and why.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Decision {
    /// Names this decision in `x-waypost-decision` and `GET /explain/{id}`.
    pub id: String,
    /// Milliseconds since the Unix epoch; ids sort by it.
    pub created_ms: u64,
    /// The request's `model` as the client sent it.
    pub requested: String,
    /// The chosen class.
    pub class: String,
    /// The deployment tried first. `outcome.deployment` is the one that answered.
    #[schema(value_type = String)]
    pub deployment: Arc<str>,
    /// The deployments tried next, in order, should it fail before its first byte.
    #[schema(value_type = Vec<String>)]
    pub fallbacks: Vec<Arc<str>>,
    /// How the class came about.
    pub basis: Basis,
    /// The decision in one sentence.
    pub reason: String,
    /// Name and version of the routing model; absent where it was not asked.
    pub routing_model: Option<String>,
    /// Facts read off the request.
    pub features: Features,
    /// What the caller wanted.
    pub policy: Policy,
    /// Largest class probability times similarity of the nearest exemplar (of an early exit the probability alone), 0..1; absent where the prompt was not classified.
    pub confidence: Option<f64>,
    /// What can be said of decisions at least so confident; absent where this one is less so, and of early exits.
    pub assurance: Option<Assurance>,
    /// The early exit of the encoder that was sure enough to decide; no neighbors were asked then. Absent where the whole road was gone.
    pub exit: Option<Rule>,
    /// Whether the prompt was too far from every exemplar, so that the default class answers.
    pub abstained: bool,
    /// The confidence below which the router abstains.
    pub gate: Option<f64>,
    /// The nearest exemplars, nearest first.
    pub neighbors: Vec<Neighbor>,
    /// Every class with its terms, the best first.
    pub classes: Vec<ClassScore>,
    /// Every deployment with its terms, the best first, those that are out at the end.
    pub deployments: Vec<DeploymentScore>,
    /// The strategies by which the deployments of the class were ordered.
    pub strategy: Vec<Strategy>,
    /// What decided between deployments that the strategy left equal; absent where there was no tie.
    pub tie_breaker: Option<String>,
    /// The `[[rule]]` that matched; absent where none did.
    pub rule: Option<String>,
    /// What the conversation so far has to do with it; absent where it has none.
    pub session: Option<SessionNote>,
    /// Whether the first deployment is tried for what can be learned of it, though another is expected to do better.
    pub explored: bool,
    /// The arms of experiments that this request is in.
    pub experiments: Vec<Assigned>,
    /// The smallest change of policy that would have chosen otherwise.
    pub flip: Flip,
    /// Where the time went.
    pub timing: Timing,
    /// What came of it; absent while the answer is under way, and for `/explain` requests, which forward nothing.
    pub outcome: Option<Outcome>,
}

/// A conversation that went on before.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct SessionNote {
    /// The deployment that answered last.
    #[schema(value_type = String)]
    pub last: Arc<str>,
    /// Prompt tokens expected in its cache.
    pub cached_tokens: u64,
    /// Whether it answers again.
    pub stays: bool,
    /// Dollars that staying saves against the deployment that would have been first without the cache; negative where it costs more.
    pub saves: f64,
}

/// How a class came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// The prompt was classified and the policy chose.
    Classified,
    /// The prompt is far from every exemplar: the default class.
    Abstained,
    /// The prompt has no text to read: the default class.
    NoText,
    /// The embedding was late or its queue full: the default class.
    Late,
    /// A `[[rule]]` named the class or the deployment.
    Ruled,
    /// The request named the class.
    ClassNamed,
    /// The request named the deployment.
    DeploymentNamed,
}

/// An exemplar near the prompt.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Neighbor {
    /// The exemplar's id.
    pub id: String,
    /// The beginning of its prompt.
    pub text: String,
    /// Its class; empty where it has scores instead.
    pub label: String,
    /// How well each class answered it, 0..1, where it has outcomes.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub score: BTreeMap<String, f64>,
    /// Cosine similarity in the learned space, -1..1.
    pub similarity: f64,
}

/// One class and the terms of its score.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ClassScore {
    pub class: String,
    /// Calibrated probability that this class answers the prompt well, 0..1: its own label or one it covers. Absent where the prompt was not classified.
    pub quality: Option<f64>,
    /// The head's estimate of the same, before joining.
    pub head: Option<f64>,
    /// The kernel estimate of the same, before joining.
    pub kernel: Option<f64>,
    /// The neighbors' estimate of the same, before joining.
    pub neighbors: Option<f64>,
    /// Dollars expected for the answer at its best deployment.
    #[schema(value_type = Option<f64>)]
    pub expected_cost: Option<Money>,
    /// Milliseconds expected for the whole answer at its best deployment.
    pub expected_latency_ms: Option<f64>,
    /// `worth x quality - expected_cost - value_of_second x expected_latency`, in dollars (worth is 0 under a quality floor).
    pub score: Option<f64>,
    /// Why it was not considered; absent where it was.
    pub out: Option<String>,
}

/// One deployment and the terms of its score. Money is in dollars.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct DeploymentScore {
    /// Its place in the fleet.
    #[serde(skip)]
    pub index: usize,
    #[schema(value_type = String)]
    pub deployment: Arc<str>,
    #[schema(value_type = String)]
    pub provider: Arc<str>,
    /// The provider's name for the model.
    #[schema(value_type = String)]
    pub model: Arc<str>,
    /// Whether it serves the chosen class (otherwise only a class that covers it).
    pub in_class: bool,
    /// Prompt tokens times their price, those in the provider's cache at theirs, and what the request itself costs.
    #[schema(value_type = f64)]
    pub input_cost: Money,
    /// Expected answer tokens times their price.
    #[schema(value_type = f64)]
    pub output_cost: Money,
    /// Whether its price is known; where not, it counts as the dearest known of its classes.
    pub price_known: bool,
    /// Prompt tokens as this model is expected to count them.
    pub input_tokens: u64,
    /// Of these, expected in the provider's cache, since it answered this conversation last.
    pub cached_tokens: u64,
    /// Expected answer tokens.
    pub output_tokens: u64,
    /// Expected milliseconds to the first token.
    pub ttft_ms: f64,
    /// Expected milliseconds from the first token to the last.
    pub generation_ms: f64,
    /// Answers its latency was measured on, decayed with time; 0: assumed, see `[record]`.
    pub measured: f64,
    /// Mean score, 0..1, of its recent answers, by judge and feedback; absent while none was scored.
    pub quality: Option<f64>,
    /// Share of recent attempts that failed, 0..0.95.
    pub failure_share: f64,
    /// Milliseconds expected to be lost on failures before an answer.
    pub failure_ms: f64,
    /// `value_of_second` times the expected latency.
    pub time_cost: f64,
    /// What its recent failures add: `(cost + value_of_second x time lost on a failure) x f / (1 - f)` for a failure share `f`.
    pub failure_cost: f64,
    /// `worth` times how much less well its recent answers scored than the mean of the deployments that were scored; below 0 where they scored better, 0 without `worth`.
    pub quality_cost: f64,
    /// The sum of the terms in dollars; the smallest wins under the strategy `balanced`.
    pub score: f64,
    /// Requests it is answering now.
    pub in_flight: usize,
    /// Requests it can answer at once, as far as that is known; 1 otherwise.
    pub capacity: f64,
    /// Its `priority` in the configuration.
    pub priority: u32,
    /// Its `weight` in the configuration.
    pub weight: f64,
    /// Why it comes after those that can be asked at once: a limit, an open circuit breaker; absent where nothing holds it.
    #[schema(value_type = Option<String>)]
    pub held: Option<Cow<'static, str>>,
    /// Whether it is beyond the policy's `guard_latency_ms` or `guard_failures`, and so comes after those that are not.
    pub guarded: bool,
    /// Why it was not considered; absent where it was.
    #[schema(value_type = Option<String>)]
    pub out: Option<Out>,
}

/// Why a deployment cannot answer a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Out {
    ContextLength {
        needed: u64,
        has: u64,
    },
    Vision,
    Tools,
    JsonSchema,
    /// What its provider's dialect cannot say.
    Dialect(&'static str),
    /// Its region.
    Region(Arc<str>),
    Retention,
    /// Expected dollars.
    MaxCost(f64),
    /// Expected milliseconds.
    MaxLatency(f64),
    /// It serves neither the class nor one that covers it.
    NotServed,
    /// The request, a rule or an experiment names another.
    Named,
    /// The strategy is `fixed`, and another comes first.
    NotFixed,
}

impl fmt::Display for Out {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Out::ContextLength { needed, has } => write!(to, "context_length: needs about {needed} tokens, has {has}"),
            Out::Vision => to.write_str("vision: the request has images"),
            Out::Tools => to.write_str("tools: the request defines tools"),
            Out::JsonSchema => to.write_str("json_schema: the request wants structured output"),
            Out::Dialect(what) => write!(to, "dialect: {what}"),
            Out::Region(region) => write!(to, "region: `{region}` is not among policy.allowed_regions"),
            Out::Retention => to.write_str("zero_retention: its provider may keep requests"),
            Out::MaxCost(dollars) => write!(to, "max_cost: expected ${dollars:.6}"),
            Out::MaxLatency(ms) => write!(to, "max_latency_ms: expected {ms:.0} ms"),
            Out::NotServed => to.write_str("serves neither the class nor one that covers it"),
            Out::Named => to.write_str("another deployment is named"),
            Out::NotFixed => to.write_str("strategy: fixed is the first alone"),
        }
    }
}

impl Serialize for Out {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl DeploymentScore {
    /// Expected dollars for the answer.
    pub fn cost(&self) -> Money {
        self.input_cost + self.output_cost
    }

    /// Tokens that an answer is expected to take of the limits.
    pub fn tokens(&self) -> u64 {
        self.input_tokens + self.output_tokens
    }

    /// Expected milliseconds for the whole answer.
    pub fn latency_ms(&self) -> f64 {
        self.ttft_ms + self.generation_ms
    }
}

/// The smallest changes of policy that would have chosen otherwise; absent where none would.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct Flip {
    /// For another class.
    pub class: Option<Change>,
    /// For another deployment of the same class.
    pub deployment: Option<Change>,
}

/// One key of the policy changed.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Change {
    /// The key, as in `[policy]`.
    pub key: String,
    /// Its value now.
    pub from: f64,
    /// The nearest value that chooses otherwise.
    pub to: f64,
    /// What would then be chosen.
    pub would_choose: String,
}

/// Microseconds spent in each stage of the decision.
#[derive(Clone, Copy, Debug, Default, Serialize, ToSchema)]
pub struct Timing {
    /// Reading the request's facts, and rules.
    pub features_us: u64,
    /// Waiting for an encoder thread.
    pub queue_us: u64,
    pub tokenize_us: u64,
    /// Through the encoder, early exits included.
    pub encode_us: u64,
    /// Head, neighbors and stacker; 0 where an exit decided.
    pub classify_us: u64,
    /// Class, ranking and flip.
    pub policy_us: u64,
    /// Whether the same text had been read before, or was being read for another request: then only waiting for that counts, in the total.
    pub read_before: bool,
    pub total_us: u64,
}

/// What came of a forwarded request.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Outcome {
    /// How it ended.
    pub end: End,
    /// The status the client got.
    pub status: u16,
    /// The deployment that answered.
    pub deployment: Option<String>,
    /// Every attempt in order.
    pub attempts: Vec<Attempt>,
    /// Tokens as the provider counted them.
    pub usage: Option<Usage>,
    /// Dollars, from the usage; absent where the price or the usage is not known.
    #[schema(value_type = Option<f64>)]
    pub cost: Option<Money>,
    /// Milliseconds from the request to the first byte of the answer.
    pub ttft_ms: Option<f64>,
    /// Milliseconds from the request to the end of the answer.
    pub duration_ms: f64,
    /// The provider's own request id.
    pub upstream_request_id: Option<String>,
}

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// The whole answer was delivered.
    Complete,
    /// The upstream broke after its first byte; the client was told.
    Broken,
    /// The client went away.
    Cancelled,
    /// No deployment answered.
    Failed,
    /// The provider refused the request; the client got its words.
    Refused,
}

/// One try at one deployment.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Attempt {
    pub deployment: String,
    /// Why it was made.
    pub why: Why,
    /// The upstream's status, when it answered.
    pub status: Option<u16>,
    /// What went wrong; absent where nothing did.
    pub error: Option<String>,
    /// Milliseconds waited before it, for a retry or for a limit.
    pub waited_ms: f64,
    pub duration_ms: f64,
}

/// Why an attempt was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// The decision's first choice.
    First,
    /// What came before it failed.
    Failover,
    /// The same deployment again.
    Retry,
    /// The one before it takes longer than usual; whichever answers first counts.
    Hedge,
    /// To go on with an answer that broke off.
    Continuation,
}

/// Tokens of one answer, as the provider counted them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Usage {
    /// All tokens of the prompt: those read from a cache and those written to one among them.
    pub prompt_tokens: u64,
    /// Of these, read from the provider's cache.
    pub cached_tokens: u64,
    /// Of the prompt, written to the provider's cache, however long it is kept.
    pub cache_write_tokens: u64,
    /// Of those written, kept for an hour or more.
    pub cache_write_1h_tokens: u64,
    /// Of the prompt, sound.
    pub audio_tokens: u64,
    /// All tokens of the answer: reasoning and sound among them.
    pub completion_tokens: u64,
    /// Of these, reasoning.
    pub reasoning_tokens: u64,
    /// Of the answer, sound.
    pub completion_audio_tokens: u64,
}

impl Usage {
    /// Tokens of prompt and answer together.
    pub fn total(&self) -> u64 {
        self.prompt_tokens.saturating_add(self.completion_tokens)
    }
}

impl Decision {
    /// With the time that features and rules took before the choice.
    #[must_use]
    pub(crate) fn timed(mut self, features_us: u64) -> Self {
        self.timing.features_us += features_us;
        self.timing.total_us += features_us;
        self
    }

    /// The terms of the deployment at this place in the fleet.
    pub(crate) fn score_of(&self, index: usize) -> Option<&DeploymentScore> {
        self.deployments.iter().find(|score| score.index == index)
    }

    /// The deployments to try, in order.
    pub fn candidates(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&*self.deployment).chain(self.fallbacks.iter().map(|name| &**name))
    }
}
