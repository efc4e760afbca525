//! Exemplars added and removed while serving: checked, embedded, written to the journal, swapped in. A change counts
//! before its request is answered.

use super::blocking;
use super::check::{Terms, check, free};
use super::ledger::Added;
use crate::chat::ChatRequest;
use crate::classifier::{self, Exemplar};
use crate::embedder::{self, Encoder};
use crate::error::{Error, Result};
use crate::router::Router;
use futures::stream::{StreamExt, TryStreamExt};
use serde::Serialize;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Exemplars in one request.
pub const MAX_AT_ONCE: usize = 10_000;

/// How often an embedding is asked for while requests keep the encoder busy, and how long is waited in between.
const TRIES: usize = 50;
const BETWEEN: Duration = Duration::from_millis(100);

/// Which exemplars to list.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    pub source: Option<String>,
    pub class: Option<String>,
    /// Only those added since the last retraining.
    pub added: bool,
    /// Only those older than the one of this id.
    pub after: Option<String>,
    pub limit: usize,
}

/// An exemplar among the neighbors.
#[derive(Serialize)]
pub struct Listed {
    #[serde(flatten)]
    pub exemplar: Arc<Exemplar>,
    /// Added since the last retraining: a neighbor, but not yet learned from.
    pub added: bool,
}

/// Adds exemplars to the neighbors and returns their ids, made where they are left out. All are added, or none.
///
/// # Errors
/// [`Error::BadRequest`] naming what is wrong with which; [`Error::Conflict`] for an id in use or past
/// `teaching.max_exemplars`; [`Error::Busy`] when the encoder has no time; [`Error::Io`].
pub async fn add(router: &Arc<Router>, mut exemplars: Vec<Exemplar>) -> Result<Vec<String>> {
    let model = router.model.load_full();
    let terms = Terms::of(&model, &router.config);
    for (at, exemplar) in exemplars.iter_mut().enumerate() {
        if exemplar.id.is_empty() {
            exemplar.id = format!("ex_{}", uuid::Uuid::now_v7().simple());
        }
        terms.suit(exemplar);
        check(exemplar, at, &model.manifest.classes)?;
    }
    let (exemplars, again) = (exemplars.into_iter().map(Arc::new).collect::<Vec<_>>(), router.clone());
    let exemplars = blocking(move || free(&again.model.load(), &exemplars).map(|()| exemplars)).await?;
    let added = embed(router, exemplars).await?;
    let again = router.clone();
    blocking(move || again.teaching.book.lock().add(&again, added)).await
}

/// Removes an exemplar from the neighbors, one the version was trained on as well. Accepted feedback that it came from is
/// rejected: the next retraining would bring it back.
///
/// # Errors
/// [`Error::Unknown`], [`Error::Conflict`] past `teaching.max_exemplars` removals, [`Error::Io`].
pub async fn remove(router: &Arc<Router>, id: String) -> Result<()> {
    forget(router, id.clone()).await?;
    let again = router.clone();
    blocking(move || again.teaching.candidates.lock().withdraw(&id, &again.teaching.folder)).await
}

/// As [`remove`], without a word on the feedback it came from.
pub(super) async fn forget(router: &Arc<Router>, id: String) -> Result<()> {
    let again = router.clone();
    blocking(move || again.teaching.book.lock().remove(&again, &id)).await
}

/// The exemplars among the neighbors that pass the filter, newest first, and whether there are more.
///
/// # Errors
/// [`Error::Unknown`] for an `after` that is not among them.
pub async fn page(router: &Arc<Router>, filter: Filter) -> Result<(Vec<Listed>, bool)> {
    let router = router.clone();
    blocking(move || {
        let (model, book) = (router.model.load_full(), router.teaching.book.lock());
        if let Some(id) = filter.after.as_deref().filter(|id| model.exemplar(id).is_none()) {
            return Err(Error::Unknown { kind: "exemplar", id: id.into() });
        }
        let wanted = |listed: &Listed| {
            filter.source.as_ref().is_none_or(|source| *source == listed.exemplar.source)
                && filter.class.as_ref().is_none_or(|class| *class == listed.exemplar.class)
                && (listed.added || !filter.added)
        };
        let older =
            model.active().rev().skip_while(|exemplar| filter.after.as_ref().is_some_and(|id| exemplar.id != *id));
        let listed = older
            .skip(usize::from(filter.after.is_some()))
            .map(|exemplar| Listed { added: book.ledger.added.contains_key(&exemplar.id), exemplar: exemplar.clone() });
        let mut page: Vec<Listed> = listed.filter(wanted).take(filter.limit + 1).collect();
        let more = page.len() > filter.limit;
        page.truncate(filter.limit);
        Ok((page, more))
    })
    .await
}

/// The exemplars among the neighbors, or accepted feedback, as JSON lines.
///
/// # Errors
/// [`Error::Internal`].
pub async fn export(router: &Arc<Router>, candidates: bool) -> Result<String> {
    let router = router.clone();
    blocking(move || {
        let model = router.model.load_full();
        let line = |exemplar: &Exemplar| serde_json::to_string(exemplar).expect("an exemplar serialises") + "\n";
        if !candidates {
            return Ok(model.active().map(|exemplar| line(exemplar)).collect());
        }
        let terms = Terms::of(&model, &router.config);
        let accepted = router.teaching.candidates.lock();
        Ok(accepted
            .accepted()
            .filter_map(|candidate| candidate.exemplar(&terms))
            .map(|exemplar| line(&exemplar))
            .collect())
    })
    .await
}

/// Lays what the journal holds over the model that serves.
pub(super) async fn resume(router: &Arc<Router>) -> Result<()> {
    let (start, again) = (Instant::now(), router.clone());
    let (exemplars, removed) = blocking(move || again.teaching.book.lock().read(&again)).await?;
    let count = (exemplars.len(), removed);
    let added = embed(router, exemplars).await?;
    let again = router.clone();
    blocking(move || again.teaching.book.lock().resume(&again, added)).await?;
    if count != (0, 0) {
        tracing::info!(
            added = count.0,
            removed = count.1,
            milliseconds = start.elapsed().as_millis() as u64,
            "exemplars taken up"
        );
    }
    Ok(())
}

/// Embeds exemplars. Requests come first: where they keep the encoder busy, it is asked again a little later.
async fn embed(router: &Arc<Router>, exemplars: Vec<Arc<Exemplar>>) -> Result<Vec<Added>> {
    let embedded = exemplars.into_iter().map(|exemplar| async move {
        let text = embedder::window(&ChatRequest::from_prompt(&exemplar.prompt)?, router.config.embedder.window_chars);
        for _ in 0..TRIES {
            let read = text.clone();
            let work = move |encoder: &Encoder, _| Ok(classifier::inputs(&encoder.embed(&read)?.0, &read));
            if let Ok(inputs) = router.reader.embedder.run(work).await? {
                return Ok(Added { inputs, exemplar });
            }
            tokio::time::sleep(BETWEEN).await;
        }
        Err(Error::Busy { what: "The encoder".into(), retry_after_s: 5 })
    });
    futures::stream::iter(embedded).buffered(router.config.embedder.threads).try_collect().await
}
