//! A secret: read from the environment or a file, never written in a configuration, never printed.

use super::raw::RawConfig;
use crate::error::{Error, Result};
use sha2::{Digest, Sha256};
use std::fmt;

/// A credential. Its `Debug` hides it; [`Secret::reveal`] is called only where a request is signed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Reads `env:NAME` or `file:PATH`. `Ok(None)` when it points at nothing (an unset or empty variable, a missing file).
    ///
    /// # Errors
    /// [`Error::Config`] when `source` is neither form (a key pasted into the file), or the file is unreadable.
    pub fn read(file: &str, key: &str, source: &str) -> Result<Option<Self>> {
        let value = match source.split_once(':') {
            Some(("env", name)) if is_variable(name) => std::env::var(name).ok(),
            Some(("file", path)) => match std::fs::read_to_string(path) {
                Ok(text) => Some(text),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
                Err(error) => return Err(problem(file, key, format!("cannot read {path}: {error}"))),
            },
            // The value itself may be a key pasted by mistake: it is not repeated.
            _ => {
                return Err(problem(
                    file,
                    key,
                    "expected `env:NAME` or `file:PATH`; secrets are never written in the configuration".into(),
                ));
            }
        };
        Ok(value.map(|value| value.trim().to_string()).filter(|value| !value.is_empty()).map(Secret))
    }

    /// One that nobody knows.
    pub(super) fn unguessable() -> Self {
        Secret(uuid::Uuid::now_v7().to_string())
    }

    /// Whether this is the secret. Digests are compared, all of their bytes: the time tells nothing.
    pub fn matches(&self, given: &[u8]) -> bool {
        let (own, given) = (Sha256::digest(&self.0), Sha256::digest(given));
        own.iter().zip(&given).fold(0, |differences, (a, b)| differences | (a ^ b)) == 0
    }

    /// The secret itself, to be put into a request header.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[secret]")
    }
}

/// Whether this can be the name of a variable; a key pasted behind `env:` hardly ever can.
fn is_variable(name: &str) -> bool {
    !name.starts_with(|first: char| first.is_ascii_digit())
        && !name.is_empty()
        && name.chars().all(|character| character.is_ascii_alphanumeric() || character == '_')
}

fn problem(file: &str, key: &str, problem: String) -> Error {
    Error::Config { file: file.into(), key: key.into(), problem }
}

/// The configuration as TOML for people: sources of secrets are shown (`env:NAME`), secrets never are.
pub(super) fn to_toml(raw: &RawConfig) -> String {
    toml::to_string_pretty(raw).expect("a configuration serialises")
}
