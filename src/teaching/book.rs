//! Changes of the routing model, one at a time: written to the journal first, swapped in second. What cannot be written
//! does not happen.

use super::check::{free, limit};
use super::journal::{Folder, Journal};
use super::ledger::{Added, Entry, Ledger};
use crate::classifier::{Exemplar, RoutingModel};
use crate::error::{Error, Result};
use crate::router::Router;
use std::sync::Arc;

/// Lines of the journal, and exemplars of the routing model, that may be there for nothing: what was added and removed
/// again. Past that both are made anew.
const MAX_WASTE: usize = 1_000;

/// What was taught, in memory and on the disk.
pub struct Book {
    pub ledger: Ledger,
    journal: Journal,
    /// The version that serves, without what was taught since; the model that serves, before the first change.
    version: Option<Arc<RoutingModel>>,
}

impl Book {
    pub fn new(journal: Journal) -> Self {
        Book { ledger: Ledger::default(), journal, version: None }
    }

    /// Adds exemplars, all or none, and returns their ids.
    ///
    /// # Errors
    /// See [`super::exemplars::add`].
    pub fn add(&mut self, router: &Router, added: Vec<Added>) -> Result<Vec<String>> {
        let (teaching, model) = (&router.teaching, router.model.load_full());
        let exemplars: Vec<Arc<Exemplar>> = added.iter().map(|added| added.exemplar.clone()).collect();
        free(&model, &exemplars)?;
        limit("added", self.ledger.added.len() + added.len(), teaching.config.max_exemplars)?;
        let more = model.with_all(added.iter().map(|added| (&added.exemplar, added.inputs.as_slice())))?;
        self.write(router, &exemplars.iter().cloned().map(Entry::Add).collect::<Vec<_>>())?;
        added.into_iter().for_each(|added| self.ledger.add(added));
        router.install(more);
        Ok(exemplars.iter().map(|exemplar| exemplar.id.clone()).collect())
    }

    /// Removes an exemplar.
    ///
    /// # Errors
    /// See [`super::exemplars::remove`].
    pub fn remove(&mut self, router: &Router, id: &str) -> Result<()> {
        let (teaching, model) = (&router.teaching, router.model.load_full());
        let fewer = model.without(id).ok_or_else(|| Error::Unknown { kind: "exemplar", id: id.into() })?;
        limit("removed", self.ledger.removed.len() + 1, teaching.config.max_exemplars)?;
        self.write(router, &[Entry::Remove(id.into())])?;
        self.ledger.remove(id, teaching.retraining.refuse_while_running().is_err());
        router.install(fewer);
        self.tidy(router)
    }

    /// What is to be learned from now: the model that serves. What is taught from here on is not part of it.
    pub fn learn(&mut self, router: &Router) -> Arc<RoutingModel> {
        self.ledger.learn();
        router.model.load_full()
    }

    /// Makes a version serve, with what was taught laid over it. `publish` is done first, on the disk. With `learned`
    /// the version was trained on what was taught until then, which is taught no longer.
    ///
    /// # Errors
    /// Those of `publish`: nothing changes then.
    pub fn serve(
        &mut self,
        router: &Router,
        version: RoutingModel,
        learned: bool,
        publish: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        publish()?;
        if learned {
            self.ledger.fold_into(&version);
        }
        router.install(self.ledger.over(&version)?);
        self.version = Some(Arc::new(version));
        if learned {
            self.compact(&router.teaching.folder);
        }
        Ok(())
    }

    /// Reads the journal. Returns what it adds, which is still to be embedded, and how many it removes. What is part of
    /// the version by now is left out, and of the journal too.
    ///
    /// # Errors
    /// [`Error::Io`] when it is there and cannot be read.
    pub fn read(&mut self, router: &Router) -> Result<(Vec<Arc<Exemplar>>, usize)> {
        router.teaching.folder.claim_if_there();
        for entry in self.journal.read::<Entry>()? {
            match entry {
                Entry::Add(exemplar) => self.ledger.add(Added { exemplar, inputs: Vec::new() }),
                Entry::Remove(id) => self.ledger.remove(&id, false),
            }
        }
        self.ledger.fold_into(&router.model.load());
        if self.journal.lines() > self.ledger.entries().len() {
            self.compact(&router.teaching.folder);
        }
        let added = std::mem::take(&mut self.ledger.added);
        Ok((added.into_values().map(|added| added.exemplar).collect(), self.ledger.removed.len()))
    }

    /// Takes up what [`Book::read`] gave, embedded.
    ///
    /// # Errors
    /// As [`Ledger::over`].
    pub fn resume(&mut self, router: &Router, added: Vec<Added>) -> Result<()> {
        let version = router.model.load_full();
        added.into_iter().for_each(|added| self.ledger.add(added));
        router.install(self.ledger.over(&version)?);
        self.version = Some(version);
        Ok(())
    }

    fn write(&mut self, router: &Router, entries: &[Entry]) -> Result<()> {
        self.version.get_or_insert_with(|| router.model.load_full());
        router.teaching.folder.claim()?;
        self.journal.append(entries)
    }

    /// Makes anew what has grown by adding and removing the same things.
    fn tidy(&mut self, router: &Router) -> Result<()> {
        if self.journal.lines() > self.ledger.added.len() + self.ledger.removed.len() + MAX_WASTE {
            self.compact(&router.teaching.folder);
        }
        let Some(version) = &self.version else { return Ok(()) };
        if router.model.load().exemplars.len() > version.exemplars.len() + self.ledger.added.len() + MAX_WASTE {
            router.install(self.ledger.over(version)?);
        }
        Ok(())
    }

    /// Writes the journal anew with the fewest lines. One that stays as it was says the same.
    fn compact(&mut self, folder: &Folder) {
        if let Err(error) = folder.claim().and_then(|()| self.journal.rewrite(&self.ledger.entries())) {
            tracing::warn!(%error, "the journal of exemplars stays as long as it is");
        }
    }
}
