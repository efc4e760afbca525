//! What was added to the neighbors and removed from them since the last retraining, and how it is laid over a version.

use crate::classifier::model::known;
use crate::classifier::{Exemplar, RoutingModel};
use crate::error::Result;
use indexmap::{IndexMap, IndexSet};
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// An exemplar with the head's inputs of its prompt, which outlive the head.
#[derive(Clone)]
pub struct Added {
    pub exemplar: Arc<Exemplar>,
    pub inputs: Vec<f32>,
}

/// A line of the journal: `{"add": exemplar}` or `{"remove": id}`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Entry {
    Add(Arc<Exemplar>),
    Remove(String),
}

/// What differs from the version. Removals count before additions: an id may be removed and then used again.
#[derive(Default)]
pub struct Ledger {
    pub added: IndexMap<String, Added>,
    pub removed: IndexSet<String>,
    learning: Learning,
}

/// What was taught by the time the last retraining began: its version says what became of it.
#[derive(Default)]
struct Learning {
    added: Vec<Arc<Exemplar>>,
    removed: HashSet<String>,
}

impl Ledger {
    /// A retraining begins, on all that is taught by now.
    pub fn learn(&mut self) {
        self.learning = Learning {
            added: self.added.values().map(|added| added.exemplar.clone()).collect(),
            removed: self.removed.iter().cloned().collect(),
        };
    }

    pub fn add(&mut self, added: Added) {
        self.added.insert(added.exemplar.id.clone(), added);
    }

    /// What was only added is forgotten, unless it is being learned: the version to come will hold it.
    pub fn remove(&mut self, id: &str, learning: bool) {
        self.learning.removed.remove(id);
        if self.added.shift_remove(id).is_none() || learning {
            self.removed.insert(id.into());
        }
    }

    /// The version with all of this; what it knows no class of is left out with a word in the log.
    ///
    /// # Errors
    /// As [`RoutingModel::with_all`].
    pub fn over(&self, version: &RoutingModel) -> Result<RoutingModel> {
        let fewer = version.without_all(|exemplar| self.removed.contains(&exemplar.id));
        let inside: HashSet<&str> = fewer.active().map(|exemplar| exemplar.id.as_str()).collect();
        let manifest = &version.manifest;
        let (fit, misfit): (Vec<&Added>, Vec<&Added>) = self
            .added
            .values()
            .filter(|added| !inside.contains(added.exemplar.id.as_str()))
            .partition(|added| known(&added.exemplar, &manifest.classes, manifest.teaching).is_some());
        for added in misfit {
            tracing::warn!(
                exemplar = added.exemplar.id,
                routing_model = version.title(),
                "left out: it says nothing about this model's classes"
            );
        }
        fewer.with_all(fit.into_iter().map(|added| (&added.exemplar, added.inputs.as_slice())))
    }

    /// Forgets the additions that are part of a version by now, or that a later word on the same prompt replaced there;
    /// and the removals of what was taught anew with the retraining.
    pub fn fold_into(&mut self, version: &RoutingModel) {
        self.fold(version.exemplars.iter().map(|exemplar| &**exemplar));
    }

    fn fold<'a>(&mut self, version: impl Iterator<Item = &'a Exemplar>) {
        let inside: HashMap<&str, &Exemplar> = version.map(|exemplar| (exemplar.id.as_str(), exemplar)).collect();
        let says = |exemplar: &Exemplar| (exemplar.prompt.clone(), exemplar.class.clone(), exemplar.score.clone());
        let Ledger { added, removed, learning } = self;
        added.retain(|id, added| {
            let folded = inside.get(id.as_str()).is_some_and(|exemplar| says(exemplar) == says(&added.exemplar));
            // Its id was free again for this one: what had it before is in no version from here on.
            folded.then(|| removed.shift_remove(id));
            !folded && !learning.added.iter().any(|learned| Arc::ptr_eq(learned, &added.exemplar))
        });
        removed.retain(|id| !(learning.removed.contains(id) && inside.contains_key(id.as_str())));
        *learning = Learning::default();
    }

    /// The fewest entries that say the same.
    pub fn entries(&self) -> Vec<Entry> {
        let removed = self.removed.iter().cloned().map(Entry::Remove);
        removed.chain(self.added.values().map(|added| Entry::Add(added.exemplar.clone()))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_may_be_removed_and_used_again() {
        let added =
            |id: &str| Added { exemplar: Arc::new(Exemplar { id: id.into(), ..Exemplar::default() }), inputs: vec![] };
        let mut ledger = Ledger::default();
        ledger.remove("trained", false);
        ledger.add(added("trained"));
        ledger.add(added("new"));
        ledger.remove("new", false);
        let entries = ledger.entries();
        assert_eq!(entries, [Entry::Remove("trained".into()), Entry::Add(added("trained").exemplar)]);
        ledger.remove("trained", true);
        assert_eq!(ledger.entries(), [Entry::Remove("trained".into())]);
        ledger.add(added("learning"));
        ledger.remove("learning", true);
        assert_eq!(ledger.entries().len(), 2, "the version to come holds it");
        assert_eq!(serde_json::to_string(&entries[0]).expect("serialises"), r#"{"remove":"trained"}"#);
    }

    #[test]
    fn what_a_retraining_learned_is_taught_no_longer() {
        let exemplar = |id: &str, prompt: &str, class: &str| {
            let (id, prompt, class) = (id.into(), prompt.into(), class.into());
            Arc::new(Exemplar { id, prompt, class, ..Exemplar::default() })
        };
        let added = |exemplar: &Arc<Exemplar>| Added { exemplar: exemplar.clone(), inputs: vec![] };
        let (first, later) = (exemplar("q1", "quokka", "code"), exemplar("q2", "quokka", "tools"));
        let (anew, during) = (exemplar("w", "wombat", "tools"), exemplar("k", "okapi", "tools"));
        let mut ledger = Ledger::default();
        [&first, &later].into_iter().for_each(|exemplar| ledger.add(added(exemplar)));
        ledger.remove("w", false);
        ledger.remove("gone", false);
        ledger.learn();
        ledger.add(added(&during));
        // The version holds the last word on a prompt, and what was sent along although it had been removed.
        ledger.fold([&*later, &*anew].into_iter());
        assert_eq!(ledger.entries(), [Entry::Remove("gone".into()), Entry::Add(during)]);
    }
}
