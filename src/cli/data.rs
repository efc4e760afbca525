//! Exemplars from files, embedded: what training and measuring read.

use super::Global;
use crate::chat::ChatRequest;
use crate::classifier::Exemplar;
use crate::classifier::exemplar;
use crate::config::ClassConfig;
use crate::config::cores;
use crate::embedder::{Encoder, EncoderSpec, Precision, VIEWS, window};
use crate::error::{Error, Result};
use crate::teaching::as_scores;
use crate::training::embeddings::EmbeddingCache;
use crate::training::recipe::Recipe;
use crate::training::reword::reworded;
use crate::training::{Reworded, Task, classes, progress_bar};
use crate::weights::Cache;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Exemplars with what the head reads of them.
pub struct Data {
    pub exemplars: Vec<Exemplar>,
    pub inputs: Vec<Vec<f32>>,
}

/// An encoder with the cache of what it has embedded.
pub struct Reader {
    pub encoder: Encoder,
    pub spec: EncoderSpec,
    pub window_chars: usize,
    cache: Cache,
}

impl Reader {
    /// The encoder of the configuration.
    pub fn configured(global: &Global) -> Result<Self> {
        Self::open(&global.load()?.embedder, global)
    }

    /// The encoder of some settings.
    pub fn open(settings: &crate::config::EmbedderConfig, global: &Global) -> Result<Self> {
        let cache = global.cache()?;
        // Learned and measured exactly, whatever precision serves.
        let spec = EncoderSpec {
            precision: Precision::F32,
            reproducible: true,
            ..crate::start::encoder_spec(settings, &cache)?
        };
        Ok(Reader { encoder: Encoder::load(spec.clone())?, spec, window_chars: settings.window_chars, cache })
    }

    /// Embeds exemplars, each text once in a lifetime of the cache.
    pub fn embed(&self, exemplars: Vec<Exemplar>) -> Result<Data> {
        let prompts: Vec<&str> = exemplars.iter().map(|exemplar| exemplar.prompt.as_str()).collect();
        let inputs = self.inputs(&prompts)?;
        Ok(Data { exemplars, inputs })
    }

    /// A share of exemplars, embedded once more in other words around the request: see `training/reword.rs`.
    pub fn reword(&self, exemplars: &[Exemplar], recipe: &Recipe, seed: u64) -> Result<Vec<Reworded>> {
        let (teaching, _) = classes(exemplars);
        let texts = reworded(exemplars, recipe.fitting(teaching).reworded, seed);
        let prompts: Vec<&str> = texts.iter().map(|(_, text)| text.as_str()).collect();
        let inputs = self.inputs(&prompts)?;
        Ok(texts.iter().zip(inputs).map(|((of, _), inputs)| Reworded { of: *of, inputs }).collect())
    }

    /// What a version is trained on, with this encoder.
    pub fn task<'a>(
        &'a self,
        name: &'a str,
        data: &'a Data,
        reworded: &'a [Reworded],
        recipe: &'a Recipe,
        seed: u64,
    ) -> Task<'a> {
        Task {
            name,
            exemplars: &data.exemplars,
            inputs: &data.inputs,
            reworded,
            recipe,
            seed,
            encoder: &self.spec,
            window_chars: self.window_chars,
        }
    }

    /// The head's inputs of prompts.
    pub fn inputs(&self, prompts: &[&str]) -> Result<Vec<Vec<f32>>> {
        let text = |prompt: &&str| Ok(window(&ChatRequest::from_prompt(prompt)?, self.window_chars));
        let texts = prompts.iter().map(text).collect::<Result<Vec<String>>>()?;
        let progress = progress_bar(0, "prompts");
        progress.set_message("embedding");
        let inputs =
            EmbeddingCache::open(&self.cache, &self.spec)?.inputs(&self.encoder, &texts, cores(), &progress)?;
        progress.finish_and_clear();
        Ok(inputs)
    }
}

/// The encoder's own embedding among a prompt's inputs: the last view.
pub fn whole(inputs: &[f32], width: usize) -> Vec<f32> {
    inputs[(VIEWS.len() - 1) * width..VIEWS.len() * width].to_vec()
}

/// Labelled exemplars and exemplars with outcomes, made one kind of teaching: outcome names are mapped onto classes,
/// and beside outcomes a label counts as a score of 1 for its class and all that cover it, 0 for the others.
pub fn read(
    labels: &[PathBuf],
    outcomes: &[PathBuf],
    map: Option<&Path>,
    splits: &[String],
    classes: &[ClassConfig],
) -> Result<Vec<Exemplar>> {
    let mut all = exemplar::read(&[labels, outcomes].concat(), splits)?;
    if all.is_empty() {
        return Err(Error::Model("there is not one exemplar in these files (or in these splits)".into()));
    }
    if let Some(map) = map {
        let map = read_map(map)?;
        check_map(&map, &all, classes)?;
        all.iter_mut().for_each(|exemplar| apply(&map, exemplar));
    }
    let names: Vec<String> = all
        .iter()
        .flat_map(|exemplar| exemplar.score.keys().cloned())
        .collect::<std::collections::BTreeSet<_>>()
        .into_iter()
        .collect();
    for exemplar in all.iter_mut().filter(|exemplar| !names.is_empty() && exemplar.score.is_empty()) {
        exemplar.score = as_scores(&exemplar.class, &names, classes);
        if exemplar.score.is_empty() {
            return Err(Error::Model(format!(
                "the label `{}` of `{}` is none of the outcomes' names ({}), nor covered by one; --map maps names onto classes",
                exemplar.class,
                exemplar.id,
                names.join(", ")
            )));
        }
    }
    Ok(all)
}

/// A table from outcome names to classes: TOML (`"gpt-4" = "advanced"`) or a JSON object.
fn read_map(path: &Path) -> Result<BTreeMap<String, String>> {
    let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
    let json = path.extension().is_some_and(|kind| kind == "json");
    let map = if json {
        serde_json::from_str(&text).map_err(|error| error.to_string())
    } else {
        toml::from_str(&text).map_err(|error| error.message().to_string())
    };
    map.map_err(|problem| Error::Model(format!("{}: expected \"name\" = \"class\" lines: {problem}", path.display())))
}

/// Refuses a table with names that no outcome has, and says which names it leaves out and which classes are not configured.
fn check_map(map: &BTreeMap<String, String>, all: &[Exemplar], classes: &[ClassConfig]) -> Result<()> {
    let names: BTreeSet<&String> = all.iter().flat_map(|exemplar| exemplar.score.keys()).collect();
    if let Some(unknown) = map.keys().find(|name| !names.contains(name)) {
        let known = names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
        return Err(Error::Model(format!("--map: no outcome is of `{unknown}`; the files have outcomes of {known}")));
    }
    for name in names.into_iter().filter(|name| !map.contains_key(*name)) {
        eprintln!("--map leaves out `{name}`");
    }
    let configured = |class: &&String| !classes.iter().any(|known| known.name == **class);
    for class in map.values().collect::<BTreeSet<_>>().into_iter().filter(configured) {
        eprintln!("--map names `{class}`, which is no [[class]] of the configuration: a router needs one to serve it");
    }
    Ok(())
}

/// A class's score and cost are the means over the names mapped onto it; names that the table lacks are left out.
fn apply(map: &BTreeMap<String, String>, exemplar: &mut Exemplar) {
    let mean = |values: &BTreeMap<String, f64>| {
        let mut sums: BTreeMap<String, (f64, f64)> = BTreeMap::new();
        for (name, value) in values {
            if let Some(class) = map.get(name) {
                let sum = sums.entry(class.clone()).or_default();
                *sum = (sum.0 + value, sum.1 + 1.0);
            }
        }
        sums.into_iter().map(|(class, (sum, count))| (class, sum / count)).collect()
    };
    (exemplar.score, exemplar.cost) = (mean(&exemplar.score), mean(&exemplar.cost));
}
