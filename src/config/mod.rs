//! Configuration in two stages: `raw.rs` (as written) and `resolved.rs` (checked, secrets read, names tied).
//! `default.toml` holds every default and documents every key.

mod credentials;
mod experiment;
mod presets;
mod price;
mod provider;
mod raw;
mod resolved;
mod rule;
mod secret;

pub use experiment::{
    ArmConfig, CanaryRules, Change, ExperimentConfig, ExperimentKind, ExperimentLogConfig, JudgeConfig, ShadowRules,
    SideLimits, UnitKind,
};
pub use presets::{PRESETS, Preset};
pub use provider::{
    AwsKeys, DialectKind, HttpProvider, LocalProvider, MaxTokens, ProviderConfig, ProviderKind, Quirks,
};
pub use raw::{DEFAULT, RawConfig, RawPolicy, layered};
pub use resolved::{
    AdminConfig, ClassConfig, Config, DeploymentConfig, EmbedderConfig, RecordConfig, RetryConfig, RoutingConfig,
    ServerConfig, SessionConfig, Skipped, TeachingConfig, cores, data_folder,
};
pub use secret::Secret;

use crate::error::{Error, Result};
use std::path::Path;

/// The file used when `--config` names none and it exists.
pub const CONFIG_FILE: &str = "waypost.toml";

/// Loads `file`, or `./waypost.toml` when it exists, or the defaults alone.
///
/// # Errors
/// [`Error::Config`] with file, key and what was expected; [`Error::Io`] when a named file cannot be read.
pub fn load(file: Option<&Path>) -> Result<Config> {
    let (name, raw) = read(file)?;
    Config::resolve(&name, raw)
}

/// The same where nothing will be sent: see [`Config::resolve_keyless`].
///
/// # Errors
/// As [`load`].
pub fn load_keyless(file: Option<&Path>) -> Result<Config> {
    let (name, raw) = read(file)?;
    Config::resolve_keyless(&name, raw)
}

fn read(file: Option<&Path>) -> Result<(String, RawConfig)> {
    let found = file.or_else(|| Path::new(CONFIG_FILE).exists().then(|| Path::new(CONFIG_FILE)));
    let (name, text) = match found {
        Some(path) => (path.display().to_string(), std::fs::read_to_string(path).map_err(Error::io(path))?),
        None => ("(defaults)".into(), String::new()),
    };
    let raw = layered(&name, &text)?;
    Ok((name, raw))
}
