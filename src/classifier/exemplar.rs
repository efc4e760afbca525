//! Exemplars: prompts whose right class is known. One JSON object a line.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// A prompt with its label.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Exemplar {
    /// Unique over all files.
    pub id: String,
    pub prompt: String,
    /// Its label.
    pub class: String,
    /// Where it comes from; one style of writing each.
    #[serde(default)]
    pub source: String,
    /// ISO 639-1 code of the language it is written in.
    #[serde(default)]
    pub lang: String,
}

/// Reads JSONL files, or all `*.jsonl` directly inside a folder, in the order of their names.
///
/// # Errors
/// [`Error::Io`] for an unreadable path; [`Error::Model`] naming file and line of a line that is no exemplar, or an id used twice.
pub fn read(paths: &[impl AsRef<Path>]) -> Result<Vec<Exemplar>> {
    let mut exemplars: Vec<Exemplar> = Vec::new();
    for path in paths {
        for file in files(path.as_ref())? {
            let text = std::fs::read_to_string(&file).map_err(Error::io(&file))?;
            for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
                let exemplar = serde_json::from_str(line).map_err(|error| {
                    Error::Model(format!(
                        "{}:{}: expected {{\"id\",\"prompt\",\"class\",…}}: {error}",
                        file.display(),
                        number + 1
                    ))
                })?;
                exemplars.push(exemplar);
            }
        }
    }
    let mut seen = std::collections::HashSet::new();
    match exemplars.iter().find(|exemplar| !seen.insert(exemplar.id.as_str())) {
        Some(twice) => Err(Error::Model(format!("the exemplar id `{}` is used twice", twice.id))),
        None => Ok(exemplars),
    }
}

fn files(path: &Path) -> Result<Vec<std::path::PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_path_buf()]);
    }
    let entries = std::fs::read_dir(path).map_err(Error::io(path))?;
    let mut files: Vec<_> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|file| file.extension().is_some_and(|kind| kind == "jsonl"))
        .collect();
    files.sort();
    Ok(files)
}
