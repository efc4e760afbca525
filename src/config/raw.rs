//! Stage one of the configuration: the TOML as written, every key optional, unknown keys refused.
//! The meaning of each key stands in `default.toml`. Stage two is `resolved.rs`.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A configuration file as written.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawConfig {
    pub server: RawServer,
    pub embedder: RawEmbedder,
    pub routing: RawRouting,
    pub policy: RawPolicy,
    pub policies: BTreeMap<String, RawPolicy>,
    pub record: RawRecord,
    pub admin: RawAdmin,
    pub teaching: RawTeaching,
    pub session: RawSession,
    pub queue: RawQueue,
    pub retry: RawRetry,
    pub experiment_log: RawExperimentLog,
    pub judge: RawJudge,
    pub experiment: Vec<RawExperiment>,
    pub class: Vec<RawClass>,
    pub provider: Vec<RawProvider>,
    pub deployment: Vec<RawDeployment>,
    pub rule: Vec<RawRule>,
}

/// Declares one table of the file: every key optional.
macro_rules! table {
    ($name:ident { $($field:ident : $kind:ty),* $(,)? }) => {
        #[doc = concat!("`", stringify!($name), "`: keys as documented in default.toml.")]
        #[derive(Clone, Debug, Default, Deserialize, Serialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct $name {
            $(#[serde(skip_serializing_if = "Option::is_none")] pub $field: Option<$kind>,)*
        }
    };
}

table!(RawServer {
    listen: String,
    max_body_bytes: usize,
    max_in_flight: usize,
    request_timeout_ms: u64,
    body_timeout_ms: u64,
    drain_ms: u64,
    log_prompts: bool
});
table!(RawEmbedder {
    model: String,
    pooling: String,
    prefix: String,
    revision: String,
    window_chars: usize,
    max_tokens: usize,
    precision: String,
    threads: usize,
    queue: usize,
    deadline_ms: u64,
});
table!(RawRouting {
    model: String,
    default_class: String,
    neighbors_shown: usize,
    early_exit: bool,
    strategy: Vec<String>,
    remembered: usize,
    shipped_providers: bool,
});
table!(RawPolicy {
    quality_floor: f64, worth: f64, value_of_second: f64, tie_share: f64, max_cost: f64, max_latency_ms: f64,
    strategy: Vec<String>, guard_latency_ms: f64, guard_failures: f64, guard_quality: f64, allowed_regions: Vec<String>, zero_retention: bool,
    max_attempts: usize, deadline_ms: f64, hedge: bool, fail_on: Vec<String>, continue_streams: bool, priority: u8,
});
table!(RawRecord {
    keep: usize,
    assumed_ttft_ms: f64,
    assumed_tokens_per_second: f64,
    half_life_s: f64,
    baseline_half_life_s: f64,
    explore_share: f64,
    keep_learned: bool
});
table!(RawAdmin { key: String });
table!(RawTeaching { folder: String, max_exemplars: usize, max_candidates: usize, recipe: String });
table!(RawExperimentLog { folder: String, max_bytes: u64, files: usize });
table!(RawJudge {
    enabled: bool,
    deployment: String,
    rubric: String,
    share: f64,
    classes: Vec<String>,
    max_dollars_per_day: f64,
    max_concurrent: usize,
    queue: usize,
    teach: bool,
    accept: bool,
});
table!(RawExperiment {
    name: String,
    enabled: bool,
    kind: String,
    by: String,
    layer: String,
    class: Vec<String>,
    tags: Vec<String>,
    share: f64,
    arms: Vec<RawArm>,
    max_error_rate: f64,
    max_cost_ratio: f64,
    max_latency_ratio: f64,
    min_requests: u64,
    alpha: f64,
    deployments: Vec<String>,
    keep: bool,
    max_dollars_per_day: f64,
    max_concurrent: usize,
    queue: usize,
});
table!(RawArm {
    name: String,
    share: f64,
    policy: String,
    deployment: String,
    class: String,
    strategy: String,
    routing_model: String,
});
table!(RawClass { name: String, enabled: bool, description: String, covers: Vec<String>, output_tokens: u64, strategy: Vec<String> });
table!(RawProvider {
    name: String,
    enabled: bool,
    kind: String,
    base_url: String,
    key: String,
    optional: bool,
    discover: bool,
    stream_usage: bool,
    max_tokens: String,
    drop: Vec<String>,
    api_version: String,
    region: String,
    account: String,
    access_key: String,
    secret_key: String,
    session_token: String,
    zero_retention: bool,
    rpm: u64,
    tpm: u64,
    max_in_flight: u32,
    connect_timeout_ms: u64,
    first_byte_timeout_ms: u64,
    idle_timeout_ms: u64,
    model: String,
    max_concurrent: usize,
    queue: usize,
    max_output_tokens: u64,
});
table!(RawDeployment {
    name: String, enabled: bool, provider: String, model: String, aliases: Vec<String>, classes: Vec<String>,
    catalog: String, context_tokens: u64, max_output_tokens: u64,
    vision: bool, tools: bool, json_schema: bool, region: String, standby: u8, priority: u32, weight: f64, rpm: u64, tpm: u64, max_in_flight: u32,
    input: f64, cached_input: f64, cache_write: f64, cache_write_1h: f64, audio_input: f64,
    output: f64, reasoning: f64, audio_output: f64, per_request: f64,
    tiers: Vec<RawRates>, batch: RawRates, period: Vec<RawRates>,
});
// Rates of long prompts (`above`), of batches, and of a time (`valid_from`, `valid_until`, `hours`).
table!(RawRates {
    above: u64, valid_from: String, valid_until: String, hours: Vec<String>,
    input: f64, cached_input: f64, cache_write: f64, cache_write_1h: f64, audio_input: f64,
    output: f64, reasoning: f64, audio_output: f64, tiers: Vec<RawRates>,
});

table!(RawSession { keep: usize, cached_s: f64, forget_s: f64 });
table!(RawQueue { length: usize, patience_ms: u64, age_ms: u64 });
table!(RawRetry { first_ms: u64, most_ms: u64, hedge_share: f64 });
table!(RawRule { name: String, when: RawWhen, class: String, deployment: String, policy: String, refuse: String });
table!(RawWhen {
    models: Vec<String>, path: String, headers: BTreeMap<String, String>, tiers: Vec<String>, keys: Vec<String>,
    tags: Vec<String>, keywords: Vec<String>, regex: String, languages: Vec<String>, min_tokens: u64, max_tokens: u64,
    has: Vec<String>, lacks: Vec<String>, between: String, days: Vec<String>, zone: String,
});

/// The shipped defaults.
pub const DEFAULT: &str = include_str!("default.toml");

/// The defaults with `text` (the contents of `file`) laid over them.
///
/// # Errors
/// [`Error::Config`] naming the file, line and key of a syntax error, an unknown key or a value of the wrong type.
pub fn layered(file: &str, text: &str) -> Result<RawConfig> {
    // Parsed alone first: a mistake is reported with the line it has in the operator's own file.
    let own = toml::from_str::<RawConfig>(text).map_err(|error| Error::Config {
        file: file.into(),
        key: error.span().map_or("?".into(), |span| format!("line {}", 1 + text[..span.start].matches('\n').count())),
        problem: error.message().replace('\n', " "),
    })?;
    refuse_twins(file, &own)?;
    let own_only = own.routing.shipped_providers == Some(false);
    let mut merged: toml::Table = toml::from_str(DEFAULT).expect("the shipped defaults parse");
    let own = toml::from_str(text).map_err(|error: toml::de::Error| Error::Config {
        file: file.into(),
        key: "?".into(),
        problem: error.message().replace('\n', " "),
    })?;
    if own_only {
        merged.remove("provider");
        merged.remove("deployment");
    }
    overlay(&mut merged, own);
    RawConfig::deserialize(merged).map_err(|error| Error::Config {
        file: file.into(),
        key: "(merged)".into(),
        problem: error.message().into(),
    })
}

/// Two entries of one name in one file: which of them is meant, nobody can tell.
fn refuse_twins(file: &str, own: &RawConfig) -> Result<()> {
    let lists = [
        ("class", own.class.iter().map(|item| &item.name).collect::<Vec<_>>()),
        ("provider", own.provider.iter().map(|item| &item.name).collect()),
        ("deployment", own.deployment.iter().map(|item| &item.name).collect()),
        ("rule", own.rule.iter().map(|item| &item.name).collect()),
        ("experiment", own.experiment.iter().map(|item| &item.name).collect()),
    ];
    for (table, names) in lists {
        let mut seen = std::collections::HashSet::new();
        if let Some(Some(name)) = names.into_iter().find(|name| name.is_some() && !seen.insert(*name)) {
            let problem = "stands twice in this file; expected one [[…]] of each name".into();
            return Err(Error::Config { file: file.into(), key: format!("{table} `{name}`"), problem });
        }
    }
    Ok(())
}

/// Lays `upper` over `lower`: tables key by key, arrays of tables by `name`, everything else replaced.
fn overlay(lower: &mut toml::Table, upper: toml::Table) {
    use toml::Value::{Array, Table};
    for (key, value) in upper {
        match (lower.get_mut(&key), value) {
            (Some(Table(below)), Table(above)) => overlay(below, above),
            (Some(Array(below)), Array(above)) if is_named(&above) => overlay_named(below, above),
            (_, value) => {
                lower.insert(key, value);
            }
        }
    }
}

fn is_named(array: &[toml::Value]) -> bool {
    !array.is_empty() && array.iter().all(|item| item.get("name").is_some())
}

fn overlay_named(lower: &mut Vec<toml::Value>, upper: Vec<toml::Value>) {
    for item in upper {
        let twin = lower.iter_mut().find(|below| below.get("name") == item.get("name"));
        match (twin, item) {
            (Some(toml::Value::Table(below)), toml::Value::Table(above)) => overlay(below, above),
            (_, item) => lower.push(item),
        }
    }
}
