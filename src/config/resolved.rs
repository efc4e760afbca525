//! Stage two of the configuration: values checked, secrets read, names tied together. What is in [`Config`] is valid.

use super::experiment::{ExperimentConfig, ExperimentLogConfig, JudgeConfig};
use super::provider::ProviderConfig;
use super::raw::{RawConfig, RawDeployment, RawPolicy, RawTeaching};
use super::secret::{Secret, to_toml};
use crate::catalog::{Catalog, Entry, Prices, Terms};
use crate::decision::Usage;
use crate::error::{Error, Result};
use crate::kernels::Precision;
use crate::limits::{GateSettings, QueueSettings};
use crate::money::Money;
use crate::policy::Policy;
use crate::policy::rule::Rule;
use crate::policy::strategy::{self, Strategy};
use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// A checked configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file it came from, for messages.
    pub file: String,
    pub server: ServerConfig,
    pub embedder: EmbedderConfig,
    pub routing: RoutingConfig,
    /// The default policy.
    pub policy: Policy,
    /// Named policies, complete.
    pub policies: BTreeMap<String, Policy>,
    pub record: RecordConfig,
    pub admin: AdminConfig,
    pub teaching: TeachingConfig,
    pub experiment_log: ExperimentLogConfig,
    pub experiments: Vec<ExperimentConfig>,
    /// None: no deployment judges.
    pub judge: Option<JudgeConfig>,
    pub classes: Vec<ClassConfig>,
    pub providers: Vec<ProviderConfig>,
    pub deployments: Vec<DeploymentConfig>,
    pub rules: Vec<Rule>,
    pub session: SessionConfig,
    pub queue: QueueSettings,
    /// How long a request may wait in the queue.
    pub patience: Duration,
    pub retry: RetryConfig,
    /// Deployments with `enabled = false`: discovery does not bring them back.
    pub disabled: Vec<String>,
    /// Optional providers that are left out, and why.
    pub skipped: Vec<Skipped>,
    shown: String,
}

/// `[server]`.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    pub listen: String,
    pub max_body_bytes: usize,
    pub max_in_flight: usize,
    pub request_timeout: Duration,
    /// How long a request's body may take to come in.
    pub body_timeout: Duration,
    /// How long running answers may take to end after the signal to stop.
    pub drain: Duration,
    pub log_prompts: bool,
}

/// `[embedder]`.
#[derive(Clone, Debug)]
pub struct EmbedderConfig {
    pub model: String,
    pub pooling: Option<String>,
    pub prefix: Option<String>,
    pub revision: Option<String>,
    pub window_chars: usize,
    pub max_tokens: usize,
    pub precision: Precision,
    pub threads: usize,
    pub queue: usize,
    /// None: as long as this machine needs, see `start.rs`.
    pub deadline: Option<Duration>,
}

/// `[routing]`.
#[derive(Clone, Debug)]
pub struct RoutingConfig {
    pub model: String,
    pub default_class: String,
    pub neighbors_shown: usize,
    pub early_exit: bool,
    /// How deployments are ordered, where neither the policy nor the class says.
    pub strategy: Vec<Strategy>,
    /// Texts whose estimate is remembered.
    pub remembered: usize,
}

/// `[record]`.
#[derive(Clone, Debug)]
pub struct RecordConfig {
    pub keep: usize,
    pub assumed_ttft_ms: f64,
    pub assumed_tokens_per_second: f64,
    pub half_life_s: f64,
    pub baseline_half_life_s: f64,
    /// At most this share of requests tries a deployment that is not the best, 0..1.
    pub explore_share: f64,
    /// The file that keeps what was learned over a restart, if one does.
    pub learned: Option<PathBuf>,
}

/// `[admin]`.
#[derive(Clone, Debug)]
pub struct AdminConfig {
    /// Without one, only programs on this machine are answered.
    pub key: Option<Secret>,
}

/// `[teaching]`.
#[derive(Clone, Debug)]
pub struct TeachingConfig {
    pub folder: PathBuf,
    pub max_exemplars: usize,
    pub max_candidates: usize,
    /// The shipped one when absent.
    pub recipe: Option<PathBuf>,
}

/// `[[class]]`, with `covers` resolved to the names of all other classes whose prompts it answers.
#[derive(Clone, Debug)]
pub struct ClassConfig {
    pub name: String,
    pub description: String,
    pub covers: Vec<String>,
    pub output_tokens: u64,
    /// How its deployments are ordered; empty: as `[routing]` has it.
    pub strategy: Vec<Strategy>,
}

/// `[[deployment]]`.
#[derive(Clone, Debug)]
pub struct DeploymentConfig {
    pub name: String,
    pub provider: String,
    pub model: String,
    pub aliases: Vec<String>,
    /// Names of existing classes.
    pub classes: Vec<String>,
    /// What it costs; where that is not known, what is assumed of it.
    pub prices: Arc<Prices>,
    /// Whether the configuration or the catalogue knows the price. Where not, no cost is recorded, and for ranking it
    /// counts as the dearest known one of its classes.
    pub price_known: bool,
    pub context_tokens: u64,
    pub max_output_tokens: u64,
    pub vision: bool,
    pub tools: bool,
    pub json_schema: bool,
    pub region: Option<String>,
    /// 0 serves always; a larger number serves only classes that no smaller one serves.
    pub standby: u8,
    /// For the strategy `priority`: the smallest first.
    pub priority: u32,
    /// For the strategy `weighted`.
    pub weight: f64,
    pub limits: GateSettings,
    /// Whether its provider keeps nothing of a request.
    pub zero_retention: bool,
}

impl DeploymentConfig {
    /// What an answer costs that was counted so, now; `None` where the price is not known.
    pub fn cost(&self, usage: &Usage) -> Option<Money> {
        self.price_known.then(|| self.prices.cost(usage, &Terms::now(self.region.as_deref())).total())
    }
}

/// `[session]`.
#[derive(Clone, Copy, Debug)]
pub struct SessionConfig {
    /// Conversations remembered.
    pub keep: usize,
    /// How long a provider is taken to keep a prompt in its cache.
    pub cached: Duration,
    /// A conversation silent for so long is a new one.
    pub forget: Duration,
}

/// `[retry]`.
#[derive(Clone, Copy, Debug)]
pub struct RetryConfig {
    /// Longest pause before the first repetition; it doubles with each.
    pub first: Duration,
    pub most: Duration,
    /// Requests of 100 that may be asked of a second deployment too, as a share.
    pub hedge_share: f64,
}

/// An optional provider that is left out.
#[derive(Clone, Debug)]
pub struct Skipped {
    pub provider: String,
    pub reason: String,
}

impl Config {
    /// Checks a raw configuration that has the defaults beneath it.
    ///
    /// # Errors
    /// [`Error::Config`] with the file, the key and what was expected.
    pub fn resolve(file: &str, raw: RawConfig) -> Result<Self> {
        Self::checked(file, Check { file, keyless: false }, raw)
    }

    /// The same where nothing will be sent: a provider's key that is not set is no obstacle, and no provider is left out
    /// for it.
    ///
    /// # Errors
    /// As [`Config::resolve`].
    pub fn resolve_keyless(file: &str, raw: RawConfig) -> Result<Self> {
        Self::checked(file, Check { file, keyless: true }, raw)
    }

    fn checked(file: &str, check: Check<'_>, raw: RawConfig) -> Result<Self> {
        let shown = to_toml(&raw);
        let classes = check.classes(&raw)?;
        let (providers, skipped) = check.providers(&raw)?;
        let deployments = check.deployments(&raw, &classes, &providers)?;
        let default_class = check.need("routing", "default_class", raw.routing.default_class.clone())?;
        let policy = check.policy("policy", &raw.policy, &RawPolicy::default())?;
        let policies: BTreeMap<String, Policy> = raw
            .policies
            .iter()
            .map(|(name, own)| Ok((name.clone(), check.policy(&format!("policies.{name}"), own, &raw.policy)?)))
            .collect::<Result<_>>()?;
        let rules = check.rules(&raw, &classes, &policy, &policies)?;
        if !classes.iter().any(|class| class.name == default_class) {
            let names: Vec<_> = classes.iter().map(|class| class.name.as_str()).collect();
            return Err(check.wrong(
                "routing.default_class",
                format!("no [[class]] is named `{default_class}`; expected one of {}", names.join(", ")),
            ));
        }
        let mut config = Config {
            server: ServerConfig {
                listen: check.need("server", "listen", raw.server.listen)?,
                max_body_bytes: check.positive("server", "max_body_bytes", raw.server.max_body_bytes)?,
                max_in_flight: check.positive("server", "max_in_flight", raw.server.max_in_flight)?,
                body_timeout: check.millis("server", "body_timeout_ms", raw.server.body_timeout_ms)?,
                request_timeout: check.millis("server", "request_timeout_ms", raw.server.request_timeout_ms)?,
                drain: check.millis("server", "drain_ms", raw.server.drain_ms)?,
                log_prompts: check.need("server", "log_prompts", raw.server.log_prompts)?,
            },
            embedder: EmbedderConfig {
                model: check.need("embedder", "model", raw.embedder.model)?,
                pooling: raw.embedder.pooling,
                prefix: raw.embedder.prefix,
                revision: raw.embedder.revision,
                window_chars: check.positive("embedder", "window_chars", raw.embedder.window_chars)?,
                max_tokens: check.positive("embedder", "max_tokens", raw.embedder.max_tokens)?,
                precision: check.precision(raw.embedder.precision)?,
                threads: check.threads(raw.embedder.threads.or_else(|| Some(cores())))?,
                queue: check.positive("embedder", "queue", raw.embedder.queue)?,
                deadline: raw
                    .embedder
                    .deadline_ms
                    .map(|ms| check.millis("embedder", "deadline_ms", Some(ms)))
                    .transpose()?,
            },
            routing: RoutingConfig {
                model: check.need("routing", "model", raw.routing.model)?,
                default_class,
                neighbors_shown: check.need("routing", "neighbors_shown", raw.routing.neighbors_shown)?,
                early_exit: check.need("routing", "early_exit", raw.routing.early_exit)?,
                strategy: check.strategy("routing", &raw.routing.strategy)?,
                remembered: check.need("routing", "remembered", raw.routing.remembered)?,
            },
            policy,
            policies,
            record: RecordConfig {
                keep: check.positive("record", "keep", raw.record.keep)?,
                assumed_ttft_ms: check.amount("record", "assumed_ttft_ms", raw.record.assumed_ttft_ms)?,
                assumed_tokens_per_second: check
                    .amount("record", "assumed_tokens_per_second", raw.record.assumed_tokens_per_second)?
                    .max(0.1),
                half_life_s: check.amount("record", "half_life_s", raw.record.half_life_s)?.max(0.1),
                baseline_half_life_s: check
                    .amount("record", "baseline_half_life_s", raw.record.baseline_half_life_s)?
                    .max(0.1),
                explore_share: check.share("record", "explore_share", raw.record.explore_share)?,
                learned: check
                    .need("record", "keep_learned", raw.record.keep_learned)?
                    .then(|| data_folder().join("learned.json")),
            },
            session: SessionConfig {
                keep: check.positive("session", "keep", raw.session.keep)?,
                cached: check.seconds("session", "cached_s", raw.session.cached_s)?,
                forget: check.seconds("session", "forget_s", raw.session.forget_s)?,
            },
            queue: QueueSettings {
                length: check.need("queue", "length", raw.queue.length)?,
                age: check.millis("queue", "age_ms", raw.queue.age_ms)?,
            },
            patience: check.millis("queue", "patience_ms", raw.queue.patience_ms)?,
            retry: RetryConfig {
                first: check.millis("retry", "first_ms", raw.retry.first_ms)?,
                most: check.millis("retry", "most_ms", raw.retry.most_ms)?,
                hedge_share: check.amount("retry", "hedge_share", raw.retry.hedge_share)?.min(1.0),
            },
            rules,
            admin: AdminConfig { key: check.admin_key(raw.admin.key.as_deref())? },
            teaching: check.teaching(&raw.teaching)?,
            experiment_log: super::experiment::log(&check, &raw.experiment_log)?,
            // Below: they name policies, classes and deployments.
            experiments: Vec::new(),
            judge: None,
            disabled: raw
                .deployment
                .iter()
                .filter(|item| item.enabled == Some(false))
                .filter_map(|item| item.name.clone())
                .collect(),
            file: file.into(),
            classes,
            providers,
            deployments,
            skipped,
            shown,
        };
        config.experiments = super::experiment::experiments(&check, &raw.experiment, &config)?;
        config.judge = super::experiment::judge(&check, &raw.judge, &config)?;
        Ok(config)
    }

    /// The whole configuration as TOML, secrets shown only by where they come from.
    pub fn show(&self) -> &str {
        &self.shown
    }
}

/// Checks that name the file and the key.
pub(super) struct Check<'a> {
    pub(super) file: &'a str,
    /// Nothing will be sent: keys may be missing.
    pub(super) keyless: bool,
}

impl Check<'_> {
    pub(super) fn wrong(&self, key: impl Into<String>, problem: impl Into<String>) -> Error {
        Error::Config { file: self.file.into(), key: key.into(), problem: problem.into() }
    }

    pub(super) fn need<T>(&self, table: &str, key: &str, value: Option<T>) -> Result<T> {
        value.ok_or_else(|| self.wrong(format!("{table}.{key}"), "is missing"))
    }

    pub(super) fn positive(&self, table: &str, key: &str, value: Option<usize>) -> Result<usize> {
        match self.need(table, key, value)? {
            0 => Err(self.wrong(format!("{table}.{key}"), "expected at least 1, got 0")),
            value => Ok(value),
        }
    }

    fn threads(&self, threads: Option<usize>) -> Result<usize> {
        match self.positive("embedder", "threads", threads)? {
            threads if threads <= MOST_THREADS => Ok(threads),
            threads => Err(self.wrong("embedder.threads", format!("expected at most {MOST_THREADS}, got {threads}"))),
        }
    }

    fn precision(&self, word: Option<String>) -> Result<Precision> {
        let word = self.need("embedder", "precision", word)?;
        Precision::parse(&word).map_err(|problem| self.wrong("embedder.precision", problem))
    }

    fn millis(&self, table: &str, key: &str, value: Option<u64>) -> Result<Duration> {
        self.positive(table, key, value.map(|ms| ms as usize)).map(|ms| Duration::from_millis(ms as u64))
    }

    /// Limits, each at least 1: nothing at all may be asked of a deployment by `enabled = false`.
    fn limits(&self, table: &str, limits: GateSettings) -> Result<GateSettings> {
        let GateSettings { rpm, tpm, max_in_flight } = limits;
        let all = [("rpm", rpm), ("tpm", tpm), ("max_in_flight", max_in_flight.map(u64::from))];
        match all.into_iter().find(|(_, limit)| *limit == Some(0)) {
            Some((key, _)) => Err(self.wrong(format!("{table}.{key}"), "expected at least 1, got 0")),
            None => Ok(limits),
        }
    }

    fn seconds(&self, table: &str, key: &str, value: Option<f64>) -> Result<Duration> {
        Ok(Duration::from_secs_f64(self.amount(table, key, value)?.min(1e9)))
    }

    fn strategy(&self, table: &str, names: &Option<Vec<String>>) -> Result<Vec<Strategy>> {
        let wrong = |problem| self.wrong(format!("{table}.strategy"), problem);
        let parse = |name: &String| Strategy::parse(name).map_err(wrong);
        let strategies = names.iter().flatten().map(parse).collect::<Result<Vec<_>>>()?;
        strategy::check(&strategies).map_err(wrong)?;
        Ok(strategies)
    }

    fn rules(
        &self,
        raw: &RawConfig,
        classes: &[ClassConfig],
        policy: &Policy,
        policies: &BTreeMap<String, Policy>,
    ) -> Result<Vec<Rule>> {
        let classes: Vec<String> = classes.iter().map(|class| class.name.clone()).collect();
        let known = |name: &str| raw.deployment.iter().any(|deployment| deployment.name.as_deref() == Some(name));
        let readable = |header: &str| match Policy::for_request(policy, policies, Some(header)) {
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        };
        let names = super::rule::Names { classes: &classes, deployments: &known, policy: &readable };
        raw.rule.iter().map(|rule| super::rule::resolve(self, rule, &names)).collect()
    }

    /// A number of dollars, milliseconds or tokens per second: finite and not negative.
    pub(super) fn amount(&self, table: &str, key: &str, value: Option<f64>) -> Result<f64> {
        let value = self.need(table, key, value)?;
        if value.is_finite() && value >= 0.0 {
            return Ok(value);
        }
        Err(self.wrong(format!("{table}.{key}"), format!("expected a number of at least 0, got {value}")))
    }

    fn share(&self, table: &str, key: &str, value: Option<f64>) -> Result<f64> {
        match self.amount(table, key, value)? {
            value if value <= 1.0 => Ok(value),
            value => Err(self.wrong(format!("{table}.{key}"), format!("expected a share from 0 to 1, got {value}"))),
        }
    }

    /// A key that is named must be there: without one, /admin would be open to this whole machine.
    fn admin_key(&self, source: Option<&str>) -> Result<Option<Secret>> {
        let Some(source) = source else { return Ok(None) };
        let found = Secret::read(self.file, "admin.key", source)?;
        if self.keyless {
            return Ok(found);
        }
        found
            .map(Some)
            .ok_or_else(|| self.wrong("admin.key", format!("{source} is not set; set it, or leave the key out")))
    }

    fn teaching(&self, raw: &RawTeaching) -> Result<TeachingConfig> {
        let named = |path: &Option<String>| path.clone().filter(|path| !path.is_empty()).map(PathBuf::from);
        Ok(TeachingConfig {
            folder: named(&raw.folder).unwrap_or_else(|| data_folder().join("teaching")),
            max_exemplars: self.positive("teaching", "max_exemplars", raw.max_exemplars)?,
            max_candidates: self.positive("teaching", "max_candidates", raw.max_candidates)?,
            recipe: named(&raw.recipe),
        })
    }

    fn policy(&self, table: &str, raw: &RawPolicy, below: &RawPolicy) -> Result<Policy> {
        Policy::from_raw(raw, below).map_err(|(key, problem)| self.wrong(format!("{table}.{key}"), problem))
    }

    fn classes(&self, raw: &RawConfig) -> Result<Vec<ClassConfig>> {
        let enabled: Vec<_> = raw.class.iter().filter(|class| class.enabled != Some(false)).collect();
        if enabled.len() > MOST_CLASSES {
            return Err(self.wrong("class", format!("expected at most {MOST_CLASSES} classes, got {}", enabled.len())));
        }
        let mut names = Vec::new();
        for class in &enabled {
            let name = self.need("class", "name", class.name.clone())?;
            if name == "auto" || names.contains(&name) {
                return Err(self.wrong(format!("class `{name}`"), "expected a name that is neither `auto` nor taken"));
            }
            names.push(name);
        }
        let resolve = |(class, name): (&&super::raw::RawClass, &String)| {
            let key = format!("class `{name}`");
            Ok(ClassConfig {
                covers: self
                    .class_names(&format!("{key}: covers"), class.covers.as_deref().unwrap_or(&[]), &names)?
                    .into_iter()
                    .filter(|covered| covered != name)
                    .collect(),
                description: class.description.clone().unwrap_or_default(),
                output_tokens: self.need(&key, "output_tokens", class.output_tokens)?,
                strategy: self.strategy(&key, &class.strategy)?,
                name: name.clone(),
            })
        };
        enabled.iter().zip(&names).map(resolve).collect()
    }

    /// `["*"]` as all classes; every other name must exist.
    fn class_names(&self, key: &str, wanted: &[String], known: &[String]) -> Result<Vec<String>> {
        if wanted.iter().any(|name| name == "*") {
            return Ok(known.to_vec());
        }
        match wanted.iter().find(|name| !known.contains(name)) {
            Some(name) => Err(self.wrong(
                key,
                format!("no [[class]] is named `{name}`; expected some of {}, or \"*\"", known.join(", ")),
            )),
            None => Ok(wanted.to_vec()),
        }
    }

    fn providers(&self, raw: &RawConfig) -> Result<(Vec<ProviderConfig>, Vec<Skipped>)> {
        let (mut used, mut skipped) = (Vec::new(), Vec::new());
        for provider in &raw.provider {
            let name = self.need("provider", "name", provider.name.clone())?;
            if provider.enabled == Some(false) {
                skipped.push(Skipped { provider: name, reason: "enabled = false".into() });
                continue;
            }
            match super::provider::resolve(self, &name, provider)? {
                Ok(kind) => {
                    let limits =
                        GateSettings { rpm: provider.rpm, tpm: provider.tpm, max_in_flight: provider.max_in_flight };
                    self.limits(&format!("provider `{name}`"), limits)?;
                    used.push(ProviderConfig { name, kind, limits });
                }
                Err(reason) => skipped.push(Skipped { provider: name, reason }),
            }
        }
        Ok((used, skipped))
    }

    fn deployments(
        &self,
        raw: &RawConfig,
        classes: &[ClassConfig],
        providers: &[ProviderConfig],
    ) -> Result<Vec<DeploymentConfig>> {
        let known: Vec<String> = classes.iter().map(|class| class.name.clone()).collect();
        let mut taken: HashSet<String> = known.iter().cloned().chain(["auto".to_string()]).collect();
        let mut deployments = Vec::new();
        let catalog = Catalog::current()?;
        for item in raw.deployment.iter().filter(|item| item.enabled != Some(false)) {
            let left_out = raw.provider.iter().any(|provider| provider.name == item.provider)
                && !providers.iter().any(|provider| Some(&provider.name) == item.provider.as_ref());
            let mut deployment = match self.deployment(item, &known, &catalog) {
                // Nobody calls it: what a catalogue of the operator's own lacks of it stops nothing.
                Err(_) if left_out => continue,
                resolved => resolved?,
            };
            let key = format!("deployment `{}`", deployment.name);
            match raw.provider.iter().find(|provider| provider.name.as_ref() == Some(&deployment.provider)) {
                Some(provider) => deployment.zero_retention = provider.zero_retention.unwrap_or(false),
                None => {
                    let problem = format!("no [[provider]] is named `{}`", deployment.provider);
                    return Err(self.wrong(format!("{key}: provider"), problem));
                }
            }
            if let Some(name) =
                std::iter::once(&deployment.name).chain(&deployment.aliases).find(|name| !taken.insert((*name).clone()))
            {
                return Err(
                    self.wrong(&key, format!("the name `{name}` is taken by `auto`, a class or another deployment"))
                );
            }
            if providers.iter().any(|provider| provider.name == deployment.provider) {
                deployments.push(deployment);
            }
        }
        super::price::assume_unknown(&mut deployments);
        Ok(deployments)
    }

    fn deployment(&self, raw: &RawDeployment, known: &[String], catalog: &Catalog) -> Result<DeploymentConfig> {
        let name = self.need("deployment", "name", raw.name.clone())?;
        let table = format!("deployment `{name}`");
        let provider = self.need(&table, "provider", raw.provider.clone())?;
        let model = self.need(&table, "model", raw.model.clone())?;
        let entry = self.entry(&table, raw, catalog.find(&provider, &model), catalog)?;
        let limit = |key, own: Option<u64>, listed: Option<u64>| {
            let unknown = || self.wrong(format!("{table}.{key}"), "is missing, and the catalogue does not know it");
            own.or(listed).ok_or_else(unknown)
        };
        let can = |own: Option<bool>, listed: fn(&Entry) -> bool| own.unwrap_or_else(|| entry.is_some_and(listed));
        let prices =
            super::price::prices(raw, entry).map_err(|(key, problem)| self.wrong(format!("{table}.{key}"), problem))?;
        if raw.region.as_deref() == Some("") {
            return Err(self.wrong(format!("{table}.region"), "expected a name, got none; leave the key out"));
        }
        Ok(DeploymentConfig {
            aliases: raw.aliases.clone().unwrap_or_default(),
            classes: self.class_names(
                &format!("{table}: classes"),
                &self.need(&table, "classes", raw.classes.clone())?,
                known,
            )?,
            price_known: prices.is_some(),
            prices: Arc::new(prices.unwrap_or_default()),
            context_tokens: limit("context_tokens", raw.context_tokens, entry.and_then(|entry| entry.context_tokens))?,
            max_output_tokens: limit(
                "max_output_tokens",
                raw.max_output_tokens,
                entry.and_then(|entry| entry.max_output_tokens.or(entry.context_tokens)),
            )?,
            vision: can(raw.vision, |entry| entry.vision),
            tools: can(raw.tools, |entry| entry.tools),
            json_schema: can(raw.json_schema, |entry| entry.json_schema),
            region: raw.region.clone(),
            standby: raw.standby.unwrap_or(0),
            priority: raw.priority.unwrap_or(0),
            weight: self.amount(&table, "weight", Some(raw.weight.unwrap_or(1.0)))?,
            limits: self
                .limits(&table, GateSettings { rpm: raw.rpm, tpm: raw.tpm, max_in_flight: raw.max_in_flight })?,
            zero_retention: false,
            provider,
            model,
            name,
        })
    }

    /// The catalogue's entry of a deployment: the one that `catalog` names, which must be there, or the one found.
    fn entry<'a>(
        &self,
        table: &str,
        raw: &RawDeployment,
        found: Option<&'a Entry>,
        catalog: &'a Catalog,
    ) -> Result<Option<&'a Entry>> {
        let Some(named) = &raw.catalog else { return Ok(found) };
        let unknown = || {
            let expected = "expected `provider/model` as `waypost catalog show` lists it";
            self.wrong(format!("{table}.catalog"), format!("the catalogue has no `{named}`; {expected}"))
        };
        catalog.named(named).map(Some).ok_or_else(unknown)
    }
}

/// Where Waypost keeps what it is taught and what is imported: `WAYPOST_DATA`, else the platform's data directory, else
/// a folder in the one that it was started in.
pub fn data_folder() -> PathBuf {
    let named = std::env::var_os("WAYPOST_DATA").filter(|path| !path.is_empty()).map(PathBuf::from);
    let platform = || directories::ProjectDirs::from("", "", "waypost").map(|dirs| dirs.data_dir().to_path_buf());
    named.or_else(platform).unwrap_or_else(|| "waypost-data".into())
}

/// Classes are kept as a set of bits.
const MOST_CLASSES: usize = 128;

/// More encoder threads than any machine has cores for.
const MOST_THREADS: usize = 1_024;

/// Cores that this process may use: the threads of whatever is not told how many.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
