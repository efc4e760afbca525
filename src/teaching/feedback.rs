//! Feedback: what a caller thinks of a decision becomes a candidate for an exemplar, which an operator accepts or
//! rejects. **The prompt of a decision with feedback is written to the disk**, in `feedback.jsonl`: whoever gives
//! feedback asks for that. So is that of one graded by the judge, where an operator has set one up with `teach`; nobody
//! else's prompt is.

use super::candidates::{By, Candidate, Status};
use super::check::{Terms, check};
use super::{blocking, exemplars};
use crate::classifier::head::Teaching as Kind;
use crate::error::{Error, Result};
use crate::router::Router;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Bytes of a comment.
pub const MAX_COMMENT_BYTES: usize = 2_000;

/// What a caller thinks of a decision, checked.
#[derive(Clone, Debug)]
pub struct Feedback {
    pub decision: String,
    pub verdict: Verdict,
    pub comment: Option<String>,
    pub by: By,
}

/// How good the answer of the chosen class was, 0..1; or which class would have been right.
#[derive(Clone, Debug)]
pub enum Verdict {
    Score(f64),
    Label(String),
}

/// Keeps feedback on a decision; a score also counts for the deployment that answered, once, and for experiments. Another word on the same decision takes the place of the one before, until that is
/// accepted or rejected.
///
/// # Errors
/// [`Error::UnknownDecision`], [`Error::BadRequest`] for an unknown label or a decision without text,
/// [`Error::Conflict`] for feedback that is decided about, [`Error::Io`].
pub async fn give(router: &Arc<Router>, feedback: Feedback) -> Result<Candidate> {
    let (decision, verdict) = (feedback.decision.clone(), feedback.verdict.clone());
    let candidate = keep(router, feedback, false).await?;
    if let Verdict::Score(score) = verdict {
        router.told(&decision, score);
    }
    Ok(candidate)
}

/// Keeps the judge's word on a decision, unless a caller has had one. With `accept` it is accepted at once, where the
/// routing model learns from scores: part of the next retraining.
///
/// # Errors
/// As [`give`].
pub async fn judged(router: &Arc<Router>, decision: String, score: f64, accept: bool) -> Result<Candidate> {
    let feedback = Feedback { decision, verdict: Verdict::Score(score), comment: None, by: By::Judge };
    keep(router, feedback, accept).await
}

async fn keep(router: &Arc<Router>, feedback: Feedback, accept: bool) -> Result<Candidate> {
    let kept = router.decisions.get(&feedback.decision).zip(router.decisions.prompt(&feedback.decision));
    let Some((decision, prompt)) = kept else {
        return Err(Error::UnknownDecision { id: feedback.decision, kept: router.decisions.keep() });
    };
    if prompt.is_empty() {
        return Err(Error::bad("decision", "no_text", "The request of this decision has no text to learn from."));
    }
    if let Verdict::Label(label) = &feedback.verdict {
        known_class(router, label)?;
    }
    let (mut candidate, again) = (Candidate::new(feedback, &decision, &prompt), router.clone());
    if accept && teaches(router, &candidate) {
        candidate.status = Status::Accepted;
    }
    blocking(move || again.teaching.candidates.lock().give(candidate, &again.teaching.folder)).await
}

/// Accepts or rejects a candidate. Accepted with a label it is an exemplar at once; without one it waits for the next
/// retraining. Rejected it is an exemplar no longer.
///
/// # Errors
/// [`Error::Unknown`], [`Error::BadRequest`] for a label that is none or is missing, and as [`exemplars::add`].
pub async fn judge(router: &Arc<Router>, id: String, status: Status, label: Option<String>) -> Result<Candidate> {
    let again = router.clone();
    let (wanted, said) = (id.clone(), label.clone());
    let mut candidate = blocking(move || again.teaching.candidates.lock().get(&wanted)).await?;
    candidate.status = status;
    if let Some(label) = label {
        known_class(router, &label)?;
        (candidate.class, candidate.score) = (label, BTreeMap::new());
    }
    let model = router.model.load_full();
    let terms = Terms::of(&model, &router.config);
    let exemplar = candidate.exemplar(&terms);
    if status == Status::Accepted && exemplar.is_none() {
        return Err(Error::bad(
            "label",
            "missing_label",
            "The routing model learns from labels, and this candidate has only a score: accept it with a `label`.",
        ));
    }
    // A label may be a class to come; outcomes of a class that the model has none of would stand alone.
    let accepted = exemplar.filter(|_| status == Status::Accepted);
    if let Some(exemplar) = accepted.as_ref().filter(|_| said.is_some() || terms.kind == Kind::Outcomes) {
        check(exemplar, 0, terms.names)?;
    }
    let at_once = accepted.filter(|_| said.is_some());
    if router.model.load().exemplar(&id).is_some() {
        exemplars::forget(router, id).await?;
    }
    if let Some(exemplar) = at_once {
        exemplars::add(router, vec![exemplar]).await?;
    }
    let again = router.clone();
    blocking(move || again.teaching.candidates.lock().keep(candidate, &again.teaching.folder)).await
}

/// Candidates, newest first, at most `limit`, older than the one of the id `after`.
///
/// # Errors
/// [`Error::Unknown`] for an `after` that is not among them.
pub async fn page(
    router: &Arc<Router>,
    status: Option<Status>,
    after: Option<String>,
    limit: usize,
) -> Result<(Vec<Candidate>, bool)> {
    let again = router.clone();
    blocking(move || again.teaching.candidates.lock().page(status, after.as_deref(), limit)).await
}

/// Whether the routing model that serves can learn from a candidate as it is.
fn teaches(router: &Router, candidate: &Candidate) -> bool {
    let model = router.model.load_full();
    let terms = Terms::of(&model, &router.config);
    candidate.exemplar(&terms).is_some_and(|exemplar| check(&exemplar, 0, terms.names).is_ok())
}

fn known_class(router: &Router, label: &str) -> Result<()> {
    if router.config.classes.iter().any(|class| class.name == label) {
        return Ok(());
    }
    let message = format!("`label`: no class has this name; expected one of {}.", router.class_names());
    Err(Error::bad("label", "unknown_class", message))
}
