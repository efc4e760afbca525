//! `[[provider]]`, checked: what it is, how it is reached, what its endpoint takes differently.

use super::credentials;
use super::presets::{Preset, preset};
use super::raw::RawProvider;
use super::resolved::Check;
use super::secret::Secret;
use crate::error::Result;
use crate::limits::GateSettings;
use std::time::Duration;

/// `[[provider]]`.
#[derive(Clone, Debug)]
pub struct ProviderConfig {
    pub name: String,
    pub kind: ProviderKind,
    /// What all its deployments share.
    pub limits: GateSettings,
}

/// What a provider is.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "there are a few of them, made once")]
pub enum ProviderKind {
    /// An endpoint on the network.
    Http(HttpProvider),
    /// The model in this process.
    Local(LocalProvider),
}

/// The wire format that an endpoint speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DialectKind {
    OpenAi,
    Azure,
    Anthropic,
    Gemini,
    Bedrock,
    Cohere,
}

/// How to reach a provider over HTTP.
#[derive(Clone, Debug)]
pub struct HttpProvider {
    pub dialect: DialectKind,
    /// Without a trailing slash.
    pub base_url: String,
    pub key: Option<Secret>,
    pub optional: bool,
    pub discover: bool,
    pub quirks: Quirks,
    /// Azure's `api-version`, Anthropic's `anthropic-version`; the dialect's own where absent.
    pub api_version: Option<String>,
    /// Where requests are signed for (Bedrock).
    pub region: Option<String>,
    /// AWS's credentials, where requests are signed in place of carrying a key.
    pub aws: Option<AwsKeys>,
    pub connect_timeout: Duration,
    pub first_byte_timeout: Duration,
    pub idle_timeout: Duration,
}

/// AWS's credentials.
#[derive(Clone, Debug)]
pub struct AwsKeys {
    pub access_key: Secret,
    pub secret_key: Secret,
    pub session_token: Option<Secret>,
}

/// What an OpenAI-compatible endpoint takes differently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quirks {
    /// The name that it wants the answer's limit to have; `None`: as the client wrote it.
    pub max_tokens: Option<MaxTokens>,
    /// Whether it may be asked for usage in streams (`stream_options`).
    pub stream_usage: bool,
    /// Parameters that it refuses, left out.
    pub drop: Vec<String>,
}

/// The two names of the answer's limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaxTokens {
    /// `max_tokens`
    Older,
    /// `max_completion_tokens`
    Newer,
}

impl Default for Quirks {
    fn default() -> Self {
        Quirks { max_tokens: None, stream_usage: true, drop: Vec::new() }
    }
}

/// The model in this process.
#[derive(Clone, Debug)]
pub struct LocalProvider {
    pub model: String,
    pub max_concurrent: usize,
    pub queue: usize,
    pub max_output_tokens: u64,
}

/// The provider, or the reason why an optional one is left out.
///
/// # Errors
/// [`crate::error::Error::Config`] with the key and what was expected.
pub(super) fn resolve(
    check: &Check<'_>,
    name: &str,
    raw: &RawProvider,
) -> Result<std::result::Result<ProviderKind, String>> {
    let table = format!("provider `{name}`");
    match check.need(&table, "kind", raw.kind.clone())?.as_str() {
        "local" => Ok(Ok(ProviderKind::Local(LocalProvider {
            model: check.need(&table, "model", raw.model.clone())?,
            max_concurrent: check.positive(&table, "max_concurrent", raw.max_concurrent)?,
            queue: check.need(&table, "queue", raw.queue)?,
            max_output_tokens: check.positive(
                &table,
                "max_output_tokens",
                raw.max_output_tokens.map(|tokens| tokens as usize),
            )? as u64,
        }))),
        kind => http(check, &table, kind, raw),
    }
}

fn http(
    check: &Check<'_>,
    table: &str,
    kind: &str,
    raw: &RawProvider,
) -> Result<std::result::Result<ProviderKind, String>> {
    let preset = preset(kind).ok_or_else(|| {
        let known = super::presets::PRESETS.iter().map(|preset| preset.name).collect::<Vec<_>>().join(", ");
        check.wrong(format!("{table}.kind"), format!("expected \"local\" or one of {known}, got \"{kind}\""))
    })?;
    let optional = raw.optional.unwrap_or(false);
    let (key, aws) = match credentials::find(check, table, raw, preset)? {
        Ok(found) => found,
        Err(_) if check.keyless => (None, None),
        Err(missing) if optional => return Ok(Err(format!("{} is not set", missing.what))),
        Err(missing) => {
            let problem = format!("{} is not set; set it, or say `optional = true`", missing.what);
            return Err(check.wrong(format!("{table}.{}", missing.key), problem));
        }
    };
    let region = credentials::region(raw, preset);
    if optional && region.is_none() && raw.base_url.is_none() && preset.base_url.contains("{region}") {
        return Ok(Err("its region is not set".into()));
    }
    let base_url = base_url(check, table, preset, raw, &region)?;
    let max_tokens = match raw.max_tokens.as_deref() {
        None => preset.max_tokens,
        Some("max_tokens") => Some(MaxTokens::Older),
        Some("max_completion_tokens") => Some(MaxTokens::Newer),
        Some(other) => {
            let problem = format!("expected \"max_tokens\" or \"max_completion_tokens\", got \"{other}\"");
            return Err(check.wrong(format!("{table}.max_tokens"), problem));
        }
    };
    let millis = |value: Option<u64>, default| Duration::from_millis(value.unwrap_or(default));
    Ok(Ok(ProviderKind::Http(HttpProvider {
        dialect: preset.dialect,
        base_url,
        key,
        optional,
        discover: raw.discover.unwrap_or(false),
        quirks: Quirks {
            max_tokens,
            stream_usage: raw.stream_usage.unwrap_or(preset.stream_usage),
            drop: raw.drop.clone().unwrap_or_else(|| preset.quirks().drop),
        },
        api_version: raw.api_version.clone(),
        region,
        aws,
        connect_timeout: millis(raw.connect_timeout_ms, 5_000),
        first_byte_timeout: millis(raw.first_byte_timeout_ms, 300_000),
        idle_timeout: millis(raw.idle_timeout_ms, 120_000),
    })))
}

/// The address, its own or the preset's with `{region}` and `{account}` filled in; without a trailing slash.
fn base_url(
    check: &Check<'_>,
    table: &str,
    preset: &Preset,
    raw: &RawProvider,
    region: &Option<String>,
) -> Result<String> {
    let key = format!("{table}.base_url");
    let mut url = match &raw.base_url {
        Some(url) => url.clone(),
        None if preset.base_url.is_empty() => {
            return Err(check.wrong(key, format!("is missing; \"{}\" has none of its own", preset.name)));
        }
        None => preset.base_url.into(),
    };
    for (place, name, value) in [("{region}", "region", region), ("{account}", "account", &raw.account)] {
        if url.contains(place) {
            let value = value.clone().or_else(|| check.keyless.then(|| name.to_string()));
            url = url.replace(place, &check.need(table, name, value)?);
        }
    }
    if !url.starts_with("http://") && !url.starts_with("https://") {
        return Err(check.wrong(key, format!("expected http://… or https://…, got `{url}`")));
    }
    let url = url.trim_end_matches('/');
    Ok(match preset.dialect {
        DialectKind::Azure => azure(url, raw.api_version.as_deref()),
        _ => url.into(),
    })
}

/// Azure has two endpoints: one by dated version, with deployments in its paths, and one that ends in `/openai/v1`.
fn azure(url: &str, api_version: Option<&str>) -> String {
    let root = url.strip_suffix("/openai/v1").or_else(|| url.strip_suffix("/openai")).unwrap_or(url);
    let dated = api_version.is_some_and(|version| version.starts_with(|first: char| first.is_ascii_digit()));
    if dated { root.into() } else { format!("{root}/openai/v1") }
}
