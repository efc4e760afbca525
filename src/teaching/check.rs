//! What an exemplar must be, before it may teach: said for the person who sent it.

use crate::classifier::head::Teaching as Kind;
use crate::classifier::{Exemplar, RoutingModel};
use crate::config::{ClassConfig, Config};
use crate::error::{Error, Result};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

/// Bytes of an exemplar's prompt, of which some 2,000 characters are read; and of its id and other words.
const MAX_PROMPT_BYTES: usize = 16_384;
const MAX_WORD_BYTES: usize = 256;

/// In whose terms exemplars teach: the routing model's, and the configuration's.
#[derive(Clone, Copy)]
pub struct Terms<'a> {
    pub kind: Kind,
    /// The routing model's classes.
    pub names: &'a [String],
    pub classes: &'a [ClassConfig],
}

impl<'a> Terms<'a> {
    pub fn of(model: &'a RoutingModel, config: &'a Config) -> Self {
        Terms { kind: model.manifest.teaching, names: &model.manifest.classes, classes: &config.classes }
    }

    /// Says in these terms what an exemplar knows: where outcomes teach, a label is a score for every name; where labels
    /// teach, scores say nothing.
    pub fn suit(&self, exemplar: &mut Exemplar) {
        match self.kind {
            Kind::Labels => {
                exemplar.score.clear();
                exemplar.cost.clear();
            }
            Kind::Outcomes if exemplar.score.is_empty() && !exemplar.class.is_empty() => {
                exemplar.score = as_scores(&exemplar.class, self.names, self.classes);
            }
            Kind::Outcomes => {}
        }
    }
}

/// A label as scores: 1 for its class and all that cover it, 0 for the others; empty where none does.
pub fn as_scores(label: &str, names: &[String], classes: &[ClassConfig]) -> BTreeMap<String, f64> {
    let covers = |name: &String| {
        classes.iter().any(|class| class.name == *name && class.covers.iter().any(|covered| covered == label))
    };
    let score = |name: &String| (name.clone(), f64::from(u8::from(name == label || covers(name))));
    let scores: BTreeMap<String, f64> = names.iter().map(score).collect();
    if scores.values().any(|score| *score > 0.0) { scores } else { BTreeMap::new() }
}

/// Checks one of a list of exemplars; `classes` may be named.
///
/// # Errors
/// [`Error::BadRequest`] naming the place in the list and what was expected.
pub fn check(exemplar: &Exemplar, at: usize, classes: &[String]) -> Result<()> {
    let wrong = |field: &str, code, message: String| {
        Err(Error::bad(format!("exemplars[{at}].{field}"), code, format!("Exemplar {at}: {message}.")))
    };
    if exemplar.prompt.trim().is_empty() {
        return wrong("prompt", "empty_prompt", "the prompt is empty".into());
    }
    if exemplar.prompt.len() > MAX_PROMPT_BYTES {
        return wrong("prompt", "prompt_too_long", format!("a prompt may have {MAX_PROMPT_BYTES} bytes"));
    }
    let words = [
        ("id", &exemplar.id),
        ("class", &exemplar.class),
        ("source", &exemplar.source),
        ("lang", &exemplar.lang),
        ("group", &exemplar.group),
    ];
    if let Some((field, _)) = words.into_iter().find(|(_, word)| word.len() > MAX_WORD_BYTES) {
        return wrong(field, "too_long", format!("`{field}` may have {MAX_WORD_BYTES} bytes"));
    }
    let unknown = |name: &&String| !classes.contains(name);
    if let Some(name) = exemplar.score.keys().chain(exemplar.cost.keys()).find(unknown) {
        return wrong(
            "score",
            "unknown_class",
            format!("`{name}` is no class; expected some of {}", classes.join(", ")),
        );
    }
    if exemplar.score.is_empty() && !classes.contains(&exemplar.class) {
        let found = if exemplar.class.is_empty() {
            "it names no class".into()
        } else {
            format!("`{}` is no class", exemplar.class)
        };
        return wrong("class", "unknown_class", format!("{found}; expected one of {}", classes.join(", ")));
    }
    exemplar.check().or_else(|problem| wrong("score", "invalid_value", problem))
}

/// Refuses to go past a bound on what is kept.
///
/// # Errors
/// [`Error::Conflict`] naming the bound.
pub fn limit(done: &str, count: usize, most: usize) -> Result<()> {
    if count <= most {
        return Ok(());
    }
    Err(Error::Conflict {
        message: format!(
            "At most {most} exemplars can be {done} between two retrainings ([teaching] max_exemplars): POST /admin/retrain."
        ),
        code: "too_many_exemplars",
    })
}

/// Refuses ids that are in use, or twice among these.
///
/// # Errors
/// [`Error::Conflict`] naming the first of them.
pub fn free(model: &RoutingModel, exemplars: &[Arc<Exemplar>]) -> Result<()> {
    let mut used: HashSet<&str> = model.active().map(|exemplar| exemplar.id.as_str()).collect();
    match exemplars.iter().find(|exemplar| !used.insert(&exemplar.id)) {
        Some(taken) => Err(Error::Conflict {
            message: format!("The exemplar id `{}` is in use.", taken.id),
            code: "exemplar_exists",
        }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_a_score_for_every_name() {
        let class = |name: &str, covers: &[&str]| ClassConfig {
            strategy: Vec::new(),
            name: name.into(),
            description: String::new(),
            covers: covers.iter().map(|name| name.to_string()).collect(),
            output_tokens: 1,
        };
        let classes = [class("basic", &[]), class("advanced", &["basic", "code"]), class("code", &[])];
        let names = ["basic".to_string(), "advanced".to_string()];
        let scores = |label: &str| as_scores(label, &names, &classes).into_iter().collect::<Vec<_>>();
        assert_eq!(scores("basic"), [("advanced".to_string(), 1.0), ("basic".to_string(), 1.0)]);
        assert_eq!(scores("code"), [("advanced".to_string(), 1.0), ("basic".to_string(), 0.0)]);
        assert!(scores("other").is_empty());
    }
}
