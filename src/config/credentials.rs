//! What a provider's requests are signed with: its key, or AWS's credentials.

use super::presets::Preset;
use super::provider::{AwsKeys, DialectKind};
use super::raw::RawProvider;
use super::resolved::Check;
use super::secret::Secret;
use crate::error::Result;

/// Where AWS's own tools look for credentials, in the order of [`AwsKeys`].
const AWS_SOURCES: [&str; 3] = ["env:AWS_ACCESS_KEY_ID", "env:AWS_SECRET_ACCESS_KEY", "env:AWS_SESSION_TOKEN"];

/// Where they look for the region, the first that is set counts.
const REGION_VARIABLES: [&str; 2] = ["AWS_REGION", "AWS_DEFAULT_REGION"];

/// A key or AWS's credentials; neither where none is needed.
pub(super) type Credentials = (Option<Secret>, Option<AwsKeys>);

/// The credentials, or why they are missing. What the file names counts before what the environment holds, and a key
/// before AWS's credentials.
///
/// # Errors
/// [`crate::error::Error::Config`] for a source that is neither `env:NAME` nor `file:PATH`.
pub(super) fn find(
    check: &Check<'_>,
    table: &str,
    raw: &RawProvider,
    preset: &Preset,
) -> Result<std::result::Result<Credentials, Missing>> {
    let read = Sources { check, table };
    let own_aws = raw.access_key.is_some() || raw.secret_key.is_some();
    if let Some(source) = &raw.key {
        match read.secret("key", source)? {
            Some(key) => return Ok(Ok((Some(key), None))),
            None if !own_aws => return Ok(Err(Missing { key: "key", what: source.clone() })),
            None => {}
        }
    }
    if own_aws {
        return Ok(read.aws(raw)?.map(|keys| (None, Some(keys))));
    }
    // An address of the operator's own may need no key: the preset's is for its own.
    if raw.base_url.is_some() || preset.keys.is_empty() {
        return Ok(Ok((None, None)));
    }
    for name in preset.keys {
        if let Some(key) = read.secret("key", &format!("env:{name}"))? {
            return Ok(Ok((Some(key), None)));
        }
    }
    let named = preset.keys.join(" or ");
    if preset.dialect != DialectKind::Bedrock {
        return Ok(Err(Missing { key: "key", what: named }));
    }
    let keys = read.aws(raw)?.map(|keys| (None, Some(keys)));
    let either = |missing: Missing| Missing { what: format!("{named} or {}", missing.what), ..missing };
    Ok(keys.map_err(either))
}

/// The region that requests are signed for: the file's, or with Bedrock the environment's.
pub(super) fn region(raw: &RawProvider, preset: &Preset) -> Option<String> {
    let set = |name: &&str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
    let aws = preset.dialect == DialectKind::Bedrock;
    raw.region.clone().or_else(|| REGION_VARIABLES.iter().find_map(set).filter(|_| aws))
}

/// Credentials that are wanted and not there.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Missing {
    /// The key of the configuration that is about them.
    pub key: &'static str,
    /// The source that points at nothing.
    pub what: String,
}

/// Reads secrets of one provider.
struct Sources<'a> {
    check: &'a Check<'a>,
    table: &'a str,
}

impl Sources<'_> {
    fn secret(&self, key: &str, source: &str) -> Result<Option<Secret>> {
        Secret::read(self.check.file, &format!("{}.{key}", self.table), source)
    }

    /// AWS's credentials from where the file says, or where AWS's own tools look. The environment's session token
    /// belongs to its own access key: it is not joined to another.
    fn aws(&self, raw: &RawProvider) -> Result<std::result::Result<AwsKeys, Missing>> {
        let [access, secret, token] = AWS_SOURCES;
        let access = raw.access_key.as_deref().unwrap_or(access);
        let secret = raw.secret_key.as_deref().unwrap_or(secret);
        let token = raw.session_token.as_deref().or((access == AWS_SOURCES[0]).then_some(token));
        let session_token = match token {
            Some(source) => self.secret("session_token", source)?,
            None => None,
        };
        let missing = |key, source: &str| Missing { key, what: source.trim_start_matches("env:").into() };
        let Some(access_key) = self.secret("access_key", access)? else {
            return Ok(Err(missing("access_key", access)));
        };
        let Some(secret_key) = self.secret("secret_key", secret)? else {
            return Ok(Err(missing("secret_key", secret)));
        };
        Ok(Ok(AwsKeys { access_key, secret_key, session_token }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::presets::preset;
    use super::*;

    fn found(raw: RawProvider) -> std::result::Result<(bool, Option<AwsKeys>), Missing> {
        let found =
            find(&Check { file: "test", keyless: false }, "provider `b`", &raw, preset("bedrock").unwrap()).unwrap();
        found.map(|(key, aws)| (key.is_some(), aws))
    }

    #[test]
    fn aws_keys_come_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let source = |name: &str| {
            std::fs::write(folder.path().join(name), name).unwrap();
            Some(format!("file:{}", folder.path().join(name).display()))
        };
        let whole = || RawProvider { access_key: source("a"), secret_key: source("s"), ..RawProvider::default() };
        let (key, aws) = found(RawProvider { session_token: source("t"), ..whole() }).unwrap();
        let aws = aws.unwrap();
        assert!(!key && aws.access_key.reveal() == "a" && aws.secret_key.reveal() == "s");
        assert_eq!(aws.session_token.map(|token| token.reveal().to_string()).as_deref(), Some("t"));
        // An access key of the operator's own takes no session token from the environment.
        assert!(found(whole()).unwrap().1.unwrap().session_token.is_none());
        let half = RawProvider { secret_key: Some("file:/nowhere/at/all".into()), ..whole() };
        assert_eq!(found(half).unwrap_err().key, "secret_key");
        // A key beside them counts first.
        assert!(found(RawProvider { key: source("k"), ..whole() }).unwrap().0);
    }

    #[test]
    fn an_address_of_ones_own_is_not_sent_what_lies_around() {
        let own = RawProvider { base_url: Some("http://127.0.0.1:4010".into()), ..RawProvider::default() };
        let (key, aws) = found(own).unwrap();
        assert!(!key && aws.is_none());
    }
}
