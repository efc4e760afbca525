//! Candidates: feedback kept, in memory and in `feedback.jsonl`, until an operator makes exemplars of it.

use super::check::Terms;
use super::feedback::{Feedback, Verdict};
use super::journal::{Folder, Journal};
use crate::classifier::Exemplar;
use crate::decision::Decision;
use crate::error::{Error, Result};
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};
use utoipa::ToSchema;

/// Feedback that may become an exemplar.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct Candidate {
    pub id: String,
    /// The decision it is about.
    pub decision: String,
    /// The text that the decision was read from.
    pub prompt: String,
    /// The right class, where a label was given.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub class: String,
    /// How good the chosen class was, where a score was given.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub score: BTreeMap<String, f64>,
    /// The class that was chosen.
    pub said: String,
    /// The deployment that answered.
    pub deployment: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    pub created_ms: u64,
    pub status: Status,
    /// Who said so.
    #[serde(default, skip_serializing_if = "By::is_caller")]
    pub by: By,
}

/// Who gave feedback.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum By {
    #[default]
    Caller,
    /// The deployment of `[judge]`.
    Judge,
}

impl By {
    fn is_caller(&self) -> bool {
        *self == By::Caller
    }
}

/// What became of a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Pending,
    /// Part of the next retraining.
    Accepted,
    Rejected,
}

/// Candidates by id, the oldest first, and their file: the last line of an id counts.
pub struct Candidates {
    most: usize,
    all: IndexMap<String, Candidate>,
    journal: Journal,
}

impl Candidate {
    pub(super) fn new(feedback: Feedback, decision: &Decision, prompt: &str) -> Self {
        let said = decision.class.clone();
        let (class, score) = match feedback.verdict {
            Verdict::Label(label) => (label, BTreeMap::new()),
            Verdict::Score(score) => (String::new(), BTreeMap::from([(said.clone(), score)])),
        };
        let answered = decision.outcome.as_ref().and_then(|outcome| outcome.deployment.clone());
        Candidate {
            id: format!("fb_{}", uuid::Uuid::now_v7().simple()),
            decision: feedback.decision,
            prompt: prompt.into(),
            class,
            score,
            said,
            deployment: answered.unwrap_or_else(|| decision.deployment.to_string()),
            comment: feedback.comment,
            created_ms: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64),
            status: Status::Pending,
            by: feedback.by,
        }
    }

    /// What it teaches, where it says something in these terms.
    pub(super) fn exemplar(&self, terms: &Terms<'_>) -> Option<Exemplar> {
        let mut exemplar = Exemplar {
            id: self.id.clone(),
            prompt: self.prompt.clone(),
            class: self.class.clone(),
            score: self.score.clone(),
            source: if self.by == By::Judge { "judge".into() } else { "feedback".into() },
            ..Exemplar::default()
        };
        terms.suit(&mut exemplar);
        (!exemplar.class.is_empty() || !exemplar.score.is_empty()).then_some(exemplar)
    }
}

impl Candidates {
    pub(super) fn new(most: usize, journal: Journal) -> Self {
        Candidates { most, all: IndexMap::new(), journal }
    }

    /// Reads what was kept before this start.
    pub(super) fn resume(&mut self, folder: &Folder) -> Result<()> {
        for candidate in self.journal.read::<Candidate>()? {
            self.insert(candidate);
        }
        self.shorten(folder);
        Ok(())
    }

    /// The accepted ones, the oldest first.
    pub(super) fn accepted(&self) -> impl Iterator<Item = &Candidate> {
        self.all.values().filter(|candidate| candidate.status == Status::Accepted)
    }

    pub(super) fn get(&self, id: &str) -> Result<Candidate> {
        self.all.get(id).cloned().ok_or_else(|| unknown(id))
    }

    /// At most `limit`, newest first, older than the one of the id `after`; and whether there are more.
    pub(super) fn page(
        &self,
        status: Option<Status>,
        after: Option<&str>,
        limit: usize,
    ) -> Result<(Vec<Candidate>, bool)> {
        let start = match after {
            None => self.all.len(),
            Some(id) => self.all.get_index_of(id).ok_or_else(|| unknown(id))?,
        };
        let wanted = |candidate: &&Candidate| status.is_none_or(|status| candidate.status == status);
        let mut page: Vec<Candidate> =
            self.all.values().take(start).rev().filter(wanted).take(limit + 1).cloned().collect();
        let more = page.len() > limit;
        page.truncate(limit);
        Ok((page, more))
    }

    pub(super) fn give(&mut self, mut candidate: Candidate, folder: &Folder) -> Result<Candidate> {
        if let Some(before) = self.all.values().rev().find(|before| before.decision == candidate.decision) {
            if candidate.by == By::Judge && before.by == By::Caller {
                let message = "A caller has given feedback on this decision: the judge's does not count.".into();
                return Err(Error::Conflict { message, code: "feedback_given" });
            }
            // What a judge's word became by itself, a caller's may undo.
            let outspoken = before.by == By::Judge && candidate.by == By::Caller && before.status == Status::Accepted;
            if before.status != Status::Pending && !outspoken {
                let message = "Feedback on this decision has been accepted or rejected already.".into();
                return Err(Error::Conflict { message, code: "feedback_decided" });
            }
            candidate.id = before.id.clone();
        }
        self.keep(candidate, folder)
    }

    pub(super) fn keep(&mut self, candidate: Candidate, folder: &Folder) -> Result<Candidate> {
        folder.claim()?;
        self.journal.append(std::slice::from_ref(&candidate))?;
        self.insert(candidate.clone());
        self.shorten(folder);
        Ok(candidate)
    }

    /// Rejects what was accepted, if it is among them.
    pub(super) fn withdraw(&mut self, id: &str, folder: &Folder) -> Result<()> {
        match self.all.get(id).filter(|candidate| candidate.status == Status::Accepted).cloned() {
            Some(candidate) => self.keep(Candidate { status: Status::Rejected, ..candidate }, folder).map(drop),
            None => Ok(()),
        }
    }

    /// Past the bound the oldest goes, a rejected one first.
    fn insert(&mut self, candidate: Candidate) {
        self.all.insert(candidate.id.clone(), candidate);
        if self.all.len() > self.most {
            let rejected = self.all.values().position(|candidate| candidate.status == Status::Rejected);
            self.all.shift_remove_index(rejected.unwrap_or(0));
        }
    }

    /// Keeps the file from growing past twice what it must hold.
    fn shorten(&mut self, folder: &Folder) {
        if self.journal.lines() <= 2 * self.all.len() {
            return;
        }
        let all: Vec<&Candidate> = self.all.values().collect();
        if let Err(error) = folder.claim().and_then(|()| self.journal.rewrite(&all)) {
            tracing::warn!(%error, "the file of feedback stays as long as it is");
        }
    }
}

fn unknown(id: &str) -> Error {
    Error::Unknown { kind: "candidate", id: id.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(by: By, status: Status) -> Candidate {
        let line = r#"{"id": "fb_1", "decision": "dec_1", "prompt": "p", "said": "code", "deployment": "d", "created_ms": 1, "status": "pending"}"#;
        let read: Candidate = serde_json::from_str(line).expect("a line of before there was a judge");
        Candidate {
            id: format!("fb_{}", uuid::Uuid::now_v7().simple()),
            score: BTreeMap::from([("code".into(), 0.5)]),
            by,
            status,
            ..read
        }
    }

    #[test]
    fn a_callers_word_stands_and_the_judges_gives_way() {
        let path = tempfile::tempdir().expect("a folder");
        let folder = Folder::at(path.path());
        let mut all = Candidates::new(10, Journal::at(path.path().join("feedback.jsonl")));
        let judged = all.give(candidate(By::Judge, Status::Accepted), &folder).expect("kept");
        assert_eq!(all.accepted().count(), 1);
        let told = all.give(candidate(By::Caller, Status::Pending), &folder).expect("in its place");
        assert_eq!((told.id == judged.id, all.accepted().count()), (true, 0));
        assert!(all.give(candidate(By::Judge, Status::Accepted), &folder).is_err());
        assert_eq!(all.get(&judged.id).expect("kept").by, By::Caller);
        let line = |by| serde_json::to_string(&candidate(by, Status::Pending)).expect("serialises");
        assert!(line(By::Judge).contains(r#""by":"judge""#) && !line(By::Caller).contains("\"by\""));
    }
}
