//! Retraining: everything known by now goes to a process of its own (`child.rs`), which trains a version, compares it
//! with the one that serves, and publishes it unless it is worse. What is published is loaded beside the one that
//! serves and takes its place. One retraining at a time.

use super::check::{Terms, check};
use super::child::{CONFIG, EXEMPLARS, Ended, Order};
use super::job::Job;
use super::{Teaching, blocking};
use crate::classifier::head::Teaching as Kind;
use crate::classifier::{Exemplar, RoutingModel};
use crate::error::{Error, Result};
use crate::router::Router;
use crate::weights::hex;
use futures::FutureExt;
use indexmap::IndexMap;
use sha2::{Digest, Sha256};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use tempfile::TempDir;
use tokio::sync::oneshot;

/// Exemplars that one retraining takes.
const MAX_EXEMPLARS: usize = 200_000;

/// How folders begin that a retraining reads from. One that is left from a process that was killed goes with the next.
const ORDER: &str = "retraining-";

/// What is asked of a retraining.
#[derive(Debug, Default)]
pub struct Wish {
    /// Learned from beside all that is known already.
    pub exemplars: Vec<Exemplar>,
    /// Serve the new version even when it is worse.
    pub force: bool,
    pub seed: Option<u64>,
}

/// Starts a retraining and returns its name; [`super::Retraining::job`] tells how it stands.
///
/// # Errors
/// [`Error::BadRequest`] for exemplars that cannot teach, [`Error::Conflict`] while another one runs.
pub async fn start(router: &Arc<Router>, mut wish: Wish) -> Result<String> {
    let model = router.model.load_full();
    let terms = Terms::of(&model, &router.config);
    let configured: Vec<String> = router.config.classes.iter().map(|class| class.name.clone()).collect();
    for (at, exemplar) in wish.exemplars.iter_mut().enumerate() {
        terms.suit(exemplar);
        check(exemplar, at, if terms.kind == Kind::Outcomes { terms.names } else { &configured })?;
    }
    let job = format!("job_{}", uuid::Uuid::now_v7().simple());
    let cancelled = router.teaching.retraining.begin(&job)?;
    let (router, name) = (router.clone(), job.clone());
    tokio::spawn(async move {
        let ended = AssertUnwindSafe(run(&router, wish, cancelled, &name)).catch_unwind().await;
        let ended = ended.unwrap_or_else(|_| Err(Error::Internal("the retraining panicked".into())));
        let ended = ended.unwrap_or_else(|error| Job::Failed { job: name, reason: error.to_string() });
        match &ended {
            Job::Done { version, .. } => tracing::info!(version, "retrained: the new version serves"),
            Job::Refused { reason, .. } | Job::Failed { reason, .. } => {
                tracing::warn!(reason, "retraining came to nothing: the version before it serves on");
            }
            _ => tracing::info!("retraining cancelled"),
        }
        router.teaching.retraining.end(ended);
    });
    Ok(job)
}

async fn run(router: &Arc<Router>, wish: Wish, cancelled: oneshot::Receiver<()>, job: &str) -> Result<Job> {
    let (force, seed, again) = (wish.force, wish.seed, router.clone());
    let (folder, before) = blocking(move || again.teaching.prepare(&again, wish)).await?;
    let outcomes = router.model.load().manifest.teaching == Kind::Outcomes;
    let order = Order { folder: folder.path(), outcomes, force, seed };
    let teaching = &router.teaching;
    let ended = teaching.train(&router.config, &order, cancelled, |told| teaching.retraining.tell(told)).await;
    let done = match ended {
        Ok(Ended::Published(report)) => {
            let (again, version) = (router.clone(), report.version.clone());
            let served = blocking(move || {
                let model = again.teaching.shelf.load(&version, &again.config, again.reader.embedder.spec())?;
                again.teaching.book.lock().serve(&again, model, true, || Ok(()))
            });
            served.await.map(|()| Job::Done { job: job.into(), version: report.version, comparison: report.comparison })
        }
        Ok(Ended::Refused(report, reason)) => Ok(Job::Refused {
            job: job.into(),
            version: report.version,
            reason,
            losses: report.comparison.iter().flat_map(|comparison| comparison.losses.clone()).collect(),
            comparison: report.comparison,
        }),
        Ok(Ended::Failed(reason)) => Ok(Job::Failed { job: job.into(), reason }),
        Ok(Ended::Cancelled) => Ok(Job::Cancelled { job: job.into() }),
        Err(error) => Err(error),
    };
    if !matches!(done, Ok(Job::Done { .. })) {
        let again = router.clone();
        blocking(move || again.teaching.shelf.restore(before.as_deref())).await?;
    }
    done
}

impl Teaching {
    /// Writes what the child reads, and publishes the version that serves where none is. Returns the folder, and what
    /// was published before.
    fn prepare(&self, router: &Router, wish: Wish) -> Result<(TempDir, Option<String>)> {
        self.folder.claim()?;
        let model = self.book.lock().learn(router);
        let lesson = self.lesson(&Terms::of(&model, &router.config), &model, wish.exemplars)?;
        self.folder.sweep(ORDER)?;
        let folder = tempfile::Builder::new()
            .prefix(ORDER)
            .tempdir_in(self.folder.path())
            .map_err(Error::io(self.folder.path()))?;
        let write = |name: &str, text: String| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).map_err(Error::io(&path))
        };
        let line = |exemplar: &Exemplar| serde_json::to_string(exemplar).expect("an exemplar serialises") + "\n";
        write(EXEMPLARS, lesson.iter().map(line).collect())?;
        write(CONFIG, router.config.show().into())?;
        let before = self.shelf.versions.current();
        self.shelf.publish_serving(&model)?;
        Ok((folder, before))
    }

    /// What the model that serves knows, accepted feedback, and what was sent along. Of one prompt the last word counts.
    fn lesson(&self, terms: &Terms<'_>, model: &RoutingModel, sent: Vec<Exemplar>) -> Result<Vec<Exemplar>> {
        let accepted: Vec<Exemplar> =
            self.candidates.lock().accepted().filter_map(|candidate| candidate.exemplar(terms)).collect();
        let known = model.active().map(|exemplar| Exemplar::clone(exemplar));
        let mut lesson: IndexMap<String, Exemplar> = IndexMap::new();
        for mut exemplar in known.chain(accepted).chain(sent) {
            if exemplar.id.is_empty() {
                // The same data has the same ids, and so the same version.
                exemplar.id = format!("ex_{}", &hex(&Sha256::digest(&exemplar.prompt))[..16]);
            }
            lesson.insert(exemplar.prompt.clone(), exemplar);
        }
        if lesson.len() > MAX_EXEMPLARS {
            return Err(Error::Model(format!(
                "{} exemplars are more than the {MAX_EXEMPLARS} that one retraining takes",
                lesson.len()
            )));
        }
        Ok(lesson.into_values().collect())
    }
}
