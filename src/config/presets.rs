//! Providers that are known by name: `kind = "groq"` is all that a configuration must say. One line each: base URL, the
//! variable that holds the key, and what its endpoint takes differently from OpenAI's. Sources: each provider's own API
//! reference.

use super::provider::{DialectKind, MaxTokens, Quirks};

/// A provider known by name.
#[derive(Clone, Copy, Debug)]
pub struct Preset {
    pub name: &'static str,
    pub dialect: DialectKind,
    /// `{region}` and `{account}` stand for the keys of that name; empty: the configuration must tell.
    pub base_url: &'static str,
    /// Variables that may hold the key, the first that is set counts; none where a key is not needed.
    pub keys: &'static [&'static str],
    pub max_tokens: Option<MaxTokens>,
    /// Whether it takes `stream_options`.
    pub stream_usage: bool,
    /// Parameters that it refuses.
    pub drop: &'static [&'static str],
}

impl Preset {
    const fn speaking(
        dialect: DialectKind,
        name: &'static str,
        base_url: &'static str,
        keys: &'static [&'static str],
    ) -> Self {
        Preset { name, dialect, base_url, keys, max_tokens: None, stream_usage: true, drop: &[] }
    }

    const fn openai(name: &'static str, base_url: &'static str, keys: &'static [&'static str]) -> Self {
        Self::speaking(DialectKind::OpenAi, name, base_url, keys)
    }

    const fn older(self) -> Self {
        Preset { max_tokens: Some(MaxTokens::Older), ..self }
    }

    /// What this provider takes differently.
    pub fn quirks(&self) -> Quirks {
        Quirks {
            max_tokens: self.max_tokens,
            stream_usage: self.stream_usage,
            drop: self.drop.iter().map(ToString::to_string).collect(),
        }
    }
}

/// All of them.
pub const PRESETS: &[Preset] = &[
    Preset::openai("openai", "https://api.openai.com/v1", &["OPENAI_API_KEY"]),
    Preset::speaking(DialectKind::Anthropic, "anthropic", "https://api.anthropic.com/v1", &["ANTHROPIC_API_KEY"]),
    Preset::speaking(
        DialectKind::Azure,
        "azure",
        "https://{account}.openai.azure.com/openai/v1",
        &["AZURE_OPENAI_API_KEY", "AZURE_API_KEY"],
    ),
    Preset::openai("groq", "https://api.groq.com/openai/v1", &["GROQ_API_KEY"]).older(),
];

/// The provider of this name.
pub fn preset(name: &str) -> Option<&'static Preset> {
    PRESETS.iter().find(|preset| preset.name == name)
}
