//! `[[experiment]]`, `[experiment_log]` and `[judge]`, checked. What they mean stands in default.toml; what is done with
//! them in `crate::experiment`.

use super::provider::{ProviderConfig, ProviderKind};
use super::raw::{RawArm, RawExperiment, RawExperimentLog, RawJudge};
use super::resolved::{Check, Config, data_folder};
use crate::error::Result;
use crate::money::Money;
use crate::policy::Policy;
use serde::Serialize;
use std::path::PathBuf;

/// `[[experiment]]`.
#[derive(Clone, Debug)]
pub struct ExperimentConfig {
    pub name: String,
    pub by: UnitKind,
    /// Experiments of one layer share its units out among them: no unit is in two.
    pub layer: Option<String>,
    /// Classes it takes requests of; empty: all.
    pub classes: Vec<String>,
    /// Tags that a request must have, all of them.
    pub tags: Vec<String>,
    /// Share of the units that take part, 0..1.
    pub share: f64,
    /// The first is the control. Of shadows: the control alone.
    pub arms: Vec<ArmConfig>,
    pub kind: ExperimentKind,
}

/// What an experiment does with its arms.
#[derive(Clone, Debug)]
pub enum ExperimentKind {
    Split,
    Canary(CanaryRules),
    Shadow(ShadowRules),
}

/// What is hashed: requests of one unit stay in one arm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnitKind {
    Session,
    User,
    Key,
    Request,
}

/// One arm.
#[derive(Clone, Debug)]
pub struct ArmConfig {
    pub name: String,
    /// Share of the units that take part, 0..1.
    pub share: f64,
    pub change: Change,
}

/// What an arm does otherwise; nothing of a control.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Change {
    /// A policy as in `x-waypost-policy`.
    pub policy: Option<String>,
    pub deployment: Option<String>,
    pub class: Option<String>,
    pub strategy: Option<String>,
    /// Folder of a version.
    pub routing_model: Option<PathBuf>,
}

/// When a canary is stopped. At least one of the three is set.
#[derive(Clone, Debug)]
pub struct CanaryRules {
    /// Share of failed answers.
    pub max_error_rate: Option<f64>,
    /// Mean dollars a request, as a multiple of the control's.
    pub max_cost_ratio: Option<f64>,
    /// Typical (geometric mean) time to the whole answer, as a multiple of the control's.
    pub max_latency_ratio: Option<f64>,
    /// Requests of either arm before cost and latency are judged.
    pub min_requests: u64,
    /// Chance of a false alarm, over all rules and all looks.
    pub alpha: f64,
}

/// Who gets copies, and what they may cost.
#[derive(Clone, Debug)]
pub struct ShadowRules {
    pub deployments: Vec<String>,
    /// Whether answers are kept on the disk.
    pub keep: bool,
    pub limits: SideLimits,
}

/// Bounds of work beside the requests.
#[derive(Clone, Debug)]
pub struct SideLimits {
    pub max_dollars_per_day: Money,
    pub max_concurrent: usize,
    pub queue: usize,
}

/// `[experiment_log]`.
#[derive(Clone, Debug)]
pub struct ExperimentLogConfig {
    pub folder: PathBuf,
    /// Bytes of one file, and files of one experiment.
    pub max_bytes: u64,
    pub files: usize,
}

/// `[judge]`.
#[derive(Clone, Debug)]
pub struct JudgeConfig {
    pub deployment: String,
    /// None: the shipped one.
    pub rubric: Option<String>,
    /// Share of answers that are judged, 0..1.
    pub share: f64,
    /// Empty: all.
    pub classes: Vec<String>,
    pub limits: SideLimits,
    /// Whether scores become candidates, whose prompts are kept on the disk.
    pub teach: bool,
    /// Whether these are accepted at once.
    pub accept: bool,
}

impl Change {
    /// The keys it sets.
    pub fn keys(&self) -> impl Iterator<Item = &'static str> {
        let set = [
            ("policy", self.policy.is_some()),
            ("deployment", self.deployment.is_some()),
            ("class", self.class.is_some()),
            ("strategy", self.strategy.is_some()),
            ("routing_model", self.routing_model.is_some()),
        ];
        set.into_iter().filter(|(_, set)| *set).map(|(key, _)| key)
    }
}

impl ExperimentConfig {
    /// The keys that some arm sets.
    pub fn keys(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.arms.iter().flat_map(|arm| arm.change.keys())
    }

    /// Whether two experiments would meet on one request and pull at the same thing. A deployment decides alone.
    fn collides(&self, other: &Self) -> bool {
        let apart = self.layer.is_some() && self.layer == other.layer;
        let classes = self.classes.is_empty()
            || other.classes.is_empty()
            || self.classes.iter().any(|class| other.classes.contains(class));
        let pulls = |key: &str| other.keys().any(|other| other == key || key == "deployment" || other == "deployment");
        !apart && classes && self.keys().any(pulls)
    }
}

/// All `[[experiment]]`s that are not disabled.
pub(super) fn experiments(check: &Check, raw: &[RawExperiment], config: &Config) -> Result<Vec<ExperimentConfig>> {
    let mut all: Vec<ExperimentConfig> = Vec::new();
    for item in raw.iter().filter(|item| item.enabled != Some(false)) {
        let one = experiment(check, item, config)?;
        let key = format!("experiment `{}`", one.name);
        if let Some(other) =
            all.iter().find(|other| other.layer.is_some() && other.layer == one.layer && other.by != one.by)
        {
            return Err(
                check.wrong(format!("{key}: by"), format!("expected that of `{}`, which is in its layer", other.name))
            );
        }
        if let Some(other) = all.iter().find(|other| other.collides(&one)) {
            let problem =
                format!("it and `{}` would change the same of one request: put both into one `layer`", other.name);
            return Err(check.wrong(key, problem));
        }
        all.push(one);
    }
    let layers = all.iter().filter_map(|one| one.layer.as_ref());
    for layer in layers {
        let sum: f64 = all.iter().filter(|one| one.layer.as_ref() == Some(layer)).map(|one| one.share).sum();
        if sum > 1.0 + ROUNDING {
            return Err(
                check.wrong(format!("experiment: layer `{layer}`"), format!("expected shares of 1 in all, got {sum}"))
            );
        }
    }
    Ok(all)
}

/// Shares may miss their sum by so much.
const ROUNDING: f64 = 1e-9;

fn experiment(check: &Check, raw: &RawExperiment, config: &Config) -> Result<ExperimentConfig> {
    let name = check.need("experiment", "name", raw.name.clone())?;
    let table = format!("experiment `{name}`");
    // Its name names files.
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_".contains(letter);
    if name.is_empty() || name.len() > 64 || !name.chars().all(plain) || name == crate::experiment::judge::LOG {
        return Err(check.wrong(table, "expected a name of at most 64 letters, digits, `-` and `_`, and not `judge`"));
    }
    let arms = raw.arms.iter().flatten().map(|raw| arm(check, &table, raw, config)).collect::<Result<Vec<_>>>()?;
    let (arms, kind) = match raw.kind.as_deref() {
        Some("split") => (split(check, &table, arms)?, ExperimentKind::Split),
        Some("canary") => (canary(check, &table, arms)?, ExperimentKind::Canary(rules(check, &table, raw)?)),
        Some("shadow") => (vec![control(1.0)], ExperimentKind::Shadow(shadow(check, &table, raw, config)?)),
        other => {
            let problem = format!("expected \"split\", \"canary\" or \"shadow\", got {other:?}");
            return Err(check.wrong(format!("{table}: kind"), problem));
        }
    };
    Ok(ExperimentConfig {
        by: unit(check, &table, raw.by.as_deref())?,
        layer: raw.layer.clone(),
        classes: known_classes(check, &format!("{table}: class"), raw.class.as_deref(), config)?,
        tags: raw.tags.clone().unwrap_or_default(),
        share: share(check, &table, "share", raw.share.unwrap_or(1.0))?,
        arms,
        kind,
        name,
    })
}

fn unit(check: &Check, table: &str, by: Option<&str>) -> Result<UnitKind> {
    match by.unwrap_or("session") {
        "session" => Ok(UnitKind::Session),
        "user" => Ok(UnitKind::User),
        "key" => Ok(UnitKind::Key),
        "request" => Ok(UnitKind::Request),
        other => Err(check.wrong(
            format!("{table}: by"),
            format!("expected \"session\", \"user\", \"key\" or \"request\", got \"{other}\""),
        )),
    }
}

fn control(share: f64) -> ArmConfig {
    ArmConfig { name: "control".into(), share, change: Change::default() }
}

fn share(check: &Check, table: &str, key: &str, share: f64) -> Result<f64> {
    if share > 0.0 && share <= 1.0 {
        return Ok(share);
    }
    Err(check.wrong(format!("{table}: {key}"), format!("expected a number above 0 and at most 1, got {share}")))
}

fn arm(check: &Check, table: &str, raw: &RawArm, config: &Config) -> Result<ArmConfig> {
    let name = check.need(table, "arms.name", raw.name.clone())?;
    let key = format!("{table}: arm `{name}`");
    if let Some(policy) = &raw.policy {
        Policy::for_request(&config.policy, &config.policies, Some(policy))
            .map_err(|error| check.wrong(format!("{key}: policy"), error.to_string()))?;
    }
    if let Some(deployment) = &raw.deployment {
        known_deployment(check, &format!("{key}: deployment"), deployment, config)?;
    }
    known_classes(check, &format!("{key}: class"), raw.class.as_ref().map(std::slice::from_ref), config)?;
    Ok(ArmConfig {
        share: share(check, &key, "share", check.need(&key, "share", raw.share)?)?,
        change: Change {
            policy: raw.policy.clone(),
            deployment: raw.deployment.clone(),
            class: raw.class.clone(),
            strategy: raw.strategy.clone(),
            routing_model: raw.routing_model.clone().map(PathBuf::from),
        },
        name,
    })
}

fn split(check: &Check, table: &str, arms: Vec<ArmConfig>) -> Result<Vec<ArmConfig>> {
    let key = format!("{table}: arms");
    if arms.len() < 2 {
        return Err(check.wrong(key, format!("expected at least two, got {}", arms.len())));
    }
    let sum: f64 = arms.iter().map(|arm| arm.share).sum();
    if (sum - 1.0).abs() > ROUNDING {
        return Err(check.wrong(key, format!("expected shares of 1 in all, got {sum}")));
    }
    if arms.iter().enumerate().any(|(at, arm)| arms[..at].iter().any(|other| other.name == arm.name)) {
        return Err(check.wrong(key, "expected arms of different names"));
    }
    Ok(arms)
}

/// The one arm of a canary, behind the control.
fn canary(check: &Check, table: &str, arms: Vec<ArmConfig>) -> Result<Vec<ArmConfig>> {
    match <[ArmConfig; 1]>::try_from(arms) {
        Ok([arm]) if arm.share < 1.0 && arm.name != "control" && arm.change != Change::default() => {
            Ok(vec![control(1.0 - arm.share), arm])
        }
        _ => Err(check.wrong(
            format!("{table}: arms"),
            "expected the one arm that is tried, with a share below 1 and what it changes; the others get `control`",
        )),
    }
}

fn rules(check: &Check, table: &str, raw: &RawExperiment) -> Result<CanaryRules> {
    let maybe = |key, value: Option<f64>| value.map(|value| check.amount(table, key, Some(value))).transpose();
    let rules = CanaryRules {
        max_error_rate: raw.max_error_rate.map(|rate| share(check, table, "max_error_rate", rate)).transpose()?,
        max_cost_ratio: maybe("max_cost_ratio", raw.max_cost_ratio)?,
        max_latency_ratio: maybe("max_latency_ratio", raw.max_latency_ratio)?,
        min_requests: raw.min_requests.unwrap_or(100).max(LEAST_REQUESTS),
        alpha: raw.alpha.unwrap_or(0.05),
    };
    if rules.max_error_rate.is_none() && rules.max_cost_ratio.is_none() && rules.max_latency_ratio.is_none() {
        let problem = "expected at least one of max_error_rate, max_cost_ratio and max_latency_ratio";
        return Err(check.wrong(table, problem));
    }
    if rules.max_error_rate.is_some_and(|rate| rate >= 1.0) {
        return Err(check.wrong(format!("{table}: max_error_rate"), "expected a number below 1"));
    }
    if !(rules.alpha > 0.0 && rules.alpha < 0.5) {
        return Err(
            check.wrong(format!("{table}: alpha"), format!("expected a number between 0 and 0.5, got {}", rules.alpha))
        );
    }
    Ok(rules)
}

/// The tests of cost and latency rest on means being near normal, which a handful is not.
const LEAST_REQUESTS: u64 = 30;

fn shadow(check: &Check, table: &str, raw: &RawExperiment, config: &Config) -> Result<ShadowRules> {
    let deployments = check.need(table, "deployments", raw.deployments.clone())?;
    if deployments.is_empty() {
        return Err(check.wrong(format!("{table}: deployments"), "expected at least one"));
    }
    for name in &deployments {
        known_deployment(check, &format!("{table}: deployments"), name, config)?;
    }
    let limits = limits(check, table, raw.max_dollars_per_day, raw.max_concurrent, raw.queue)?;
    Ok(ShadowRules { deployments, keep: raw.keep.unwrap_or(false), limits })
}

fn limits(
    check: &Check,
    table: &str,
    dollars: Option<f64>,
    concurrent: Option<usize>,
    queue: Option<usize>,
) -> Result<SideLimits> {
    Ok(SideLimits {
        max_dollars_per_day: Money::from_dollars(check.amount(table, "max_dollars_per_day", dollars)?),
        max_concurrent: check.positive(table, "max_concurrent", concurrent.or(Some(2)))?,
        queue: check.positive(table, "queue", queue.or(Some(64)))?,
    })
}

/// The classes named; each must exist.
fn known_classes(check: &Check, key: &str, wanted: Option<&[String]>, config: &Config) -> Result<Vec<String>> {
    let known = |name: &String| config.classes.iter().any(|class| class.name == *name);
    let wanted = wanted.unwrap_or_default();
    match wanted.iter().find(|name| !known(name)) {
        Some(name) => Err(check.wrong(key, format!("no [[class]] is named `{name}`"))),
        None => Ok(wanted.to_vec()),
    }
}

/// A deployment must stand in the configuration, also where its provider is silent now; or may yet be discovered.
fn known_deployment(check: &Check, key: &str, name: &str, config: &Config) -> Result<()> {
    let configured = config.deployments.iter().any(|deployment| deployment.name == name);
    let discovers = |provider: &&ProviderConfig| matches!(&provider.kind, ProviderKind::Http(http) if http.discover);
    let providers = config.providers.iter().filter(discovers).map(|provider| &provider.name);
    let mut providers = providers.chain(config.skipped.iter().map(|skipped| &skipped.provider));
    let may_come =
        providers.any(|provider| name.strip_prefix(provider.as_str()).is_some_and(|rest| rest.starts_with('/')));
    if configured || may_come {
        return Ok(());
    }
    Err(check.wrong(key, format!("no [[deployment]] is named `{name}`")))
}

/// `[experiment_log]`.
pub(super) fn log(check: &Check, raw: &RawExperimentLog) -> Result<ExperimentLogConfig> {
    let table = "experiment_log";
    let named = raw.folder.clone().filter(|path| !path.is_empty()).map(PathBuf::from);
    Ok(ExperimentLogConfig {
        folder: named.unwrap_or_else(|| data_folder().join("experiments")),
        max_bytes: check.positive(table, "max_bytes", raw.max_bytes.map(|bytes| bytes as usize))? as u64,
        files: check.positive(table, "files", raw.files)?,
    })
}

/// `[judge]`, where a deployment is named.
pub(super) fn judge(check: &Check, raw: &RawJudge, config: &Config) -> Result<Option<JudgeConfig>> {
    let Some(deployment) = raw.deployment.clone().filter(|_| raw.enabled != Some(false)) else { return Ok(None) };
    known_deployment(check, "judge.deployment", &deployment, config)?;
    let rubric = match raw.rubric.as_deref().filter(|rubric| !rubric.trim().is_empty()) {
        None => None,
        Some(rubric) => Some(match rubric.strip_prefix("file:") {
            Some(path) => std::fs::read_to_string(path)
                .map_err(|error| check.wrong("judge.rubric", format!("{path}: {error}")))?,
            None => rubric.to_string(),
        }),
    };
    Ok(Some(JudgeConfig {
        deployment,
        rubric,
        share: share(check, "judge", "share", raw.share.unwrap_or(0.01))?,
        classes: known_classes(check, "judge.classes", raw.classes.as_deref(), config)?,
        limits: limits(check, "judge", raw.max_dollars_per_day, raw.max_concurrent, raw.queue)?,
        teach: raw.teach.unwrap_or(true),
        accept: raw.accept.unwrap_or(false),
    }))
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, ExperimentKind, layered};

    fn resolve(text: &str) -> Result<Config, String> {
        layered("f", text).and_then(|raw| Config::resolve("f", raw)).map_err(|error| error.to_string())
    }

    fn split(name: &str, rest: &str) -> String {
        format!(
            "[[experiment]]\nname = \"{name}\"\nkind = \"split\"\n{rest}\narms = [{{name=\"control\", share=0.5}}, \
             {{name=\"b\", share=0.5, policy=\"cheap\"}}]\n"
        )
    }

    #[test]
    fn a_canary_has_a_control_behind_its_one_arm() {
        let text = "[[experiment]]\nname=\"c\"\nkind=\"canary\"\nmax_error_rate=0.05\n\
                    arms=[{name=\"new\", share=0.05, deployment=\"local/smollm2-135m\"}]";
        let config = resolve(text).expect("resolves");
        let one = &config.experiments[0];
        assert_eq!((one.arms[0].name.as_str(), one.arms[0].share, one.arms[1].share), ("control", 0.95, 0.05));
        assert!(matches!(&one.kind, ExperimentKind::Canary(rules) if rules.min_requests == 100));
        assert!(resolve(&text.replace("max_error_rate=0.05\n", "")).expect_err("no rule").contains("max_error_rate"));
    }

    #[test]
    fn experiments_that_would_meet_on_the_same_need_a_layer() {
        let both = |rest: &str| split("a", rest) + &split("b", rest);
        assert!(resolve(&both("")).expect_err("they meet").contains("layer"));
        assert!(resolve(&both("layer=\"x\"\nshare=0.5")).is_ok());
        assert!(resolve(&both("layer=\"x\"\nshare=0.6")).expect_err("too much").contains("got 1.2"));
        assert!(resolve(&(split("a", "class=[\"code\"]") + &split("b", "class=[\"tools\"]"))).is_ok());
    }

    #[test]
    fn the_examples_of_the_documentation_are_good() {
        let from = crate::config::DEFAULT.find("# [[experiment]]").expect("documented");
        let block = |text: &str| {
            text.lines()
                .take_while(|line| line.starts_with('#'))
                .fold(String::new(), |all, line| all + &line[1..] + "\n")
        };
        let text = block(&crate::config::DEFAULT[from..]);
        let examples: Vec<&str> = text.split("[[experiment]]").skip(1).collect();
        assert_eq!(examples.len(), 3);
        for example in examples {
            assert_eq!(resolve(&format!("[[experiment]]{example}")).expect("good").experiments.len(), 1);
        }
        let judge = crate::config::DEFAULT.find("# [judge]").expect("documented");
        assert!(resolve(&block(&crate::config::DEFAULT[judge..])).expect("good").judge.is_some());
    }

    #[test]
    fn what_an_experiment_names_must_be_there() {
        for (text, told) in [
            (split("a", "").replace("cheap", "dear"), "no policy is named `dear`"),
            (split("a", "").replace("policy=\"cheap\"", "deployment=\"nobody\""), "nobody"),
            (split("a", "class=[\"cod\"]"), "cod"),
            (split("a/b", ""), "letters"),
            (split("a", "").replace("share=0.5}", "share=0.4}"), "0.9"),
            (
                "[[experiment]]\nname=\"s\"\nkind=\"shadow\"\ndeployments=[\"local/smollm2-135m\"]".into(),
                "max_dollars_per_day",
            ),
            ("[judge]\ndeployment=\"nobody\"\nmax_dollars_per_day=1".into(), "judge.deployment"),
        ] {
            let error = resolve(&text).expect_err(told);
            assert!(error.contains(told), "{error}");
        }
    }
}
