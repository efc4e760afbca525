//! The file in which what was learned of deployments outlives a restart. A server that cannot write or read it serves as
//! well, and learns again: all that comes of it is one warning.

use super::{HealthBook, Saved};
use crate::error::{Error, Result};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// A file that is larger is not ours: a page of a deployment is some kilobytes.
const MOST_BYTES: u64 = 64 << 20;

/// The file, where one is kept.
pub struct Learned {
    file: Option<PathBuf>,
    /// The last write failed, and a warning said so.
    failing: AtomicBool,
}

impl Learned {
    /// Keeps what is learned in `file`, or nowhere.
    pub fn new(file: Option<PathBuf>) -> Self {
        Learned { file, failing: AtomicBool::new(false) }
    }

    /// Takes up what was learned before, if anything was. Blocks.
    pub fn load(&self, book: &HealthBook) {
        let Some(file) = self.file.as_ref().filter(|file| file.exists()) else { return };
        match read(file) {
            Ok(saved) => {
                let deployments = book.load(saved);
                tracing::debug!(deployments, "known from before");
            }
            Err(error) => tracing::warn!(%error, "what was learned of the deployments before this start is lost"),
        }
    }

    /// Writes what is known now. Blocks.
    pub fn save(&self, book: &HealthBook) {
        let Some(file) = &self.file else { return };
        match write(file, &book.save()) {
            Ok(()) => self.failing.store(false, Ordering::Relaxed),
            Err(error) if !self.failing.swap(true, Ordering::Relaxed) => {
                tracing::warn!(%error, "what is learned of the deployments will not outlive a restart");
            }
            Err(_) => {}
        }
    }
}

fn read(file: &Path) -> Result<Saved> {
    let mut bytes = Vec::new();
    File::open(file).and_then(|file| file.take(MOST_BYTES).read_to_end(&mut bytes)).map_err(Error::io(file))?;
    serde_json::from_slice(&bytes).map_err(|error| Error::io(file)(error.into()))
}

/// Beside it first, so that a full disk or a crash leaves what was there before.
fn write(file: &Path, saved: &Saved) -> Result<()> {
    let folder = file.parent().unwrap_or(Path::new("."));
    let bytes = serde_json::to_vec(saved).map_err(|error| Error::io(file)(error.into()))?;
    fs::create_dir_all(folder).map_err(Error::io(folder))?;
    let mut beside = tempfile::NamedTempFile::new_in(folder).map_err(Error::io(folder))?;
    beside.write_all(&bytes).map_err(Error::io(file))?;
    beside.persist(file).map_err(|error| Error::Io { path: file.into(), source: error.error })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::health::tests::config;
    use super::*;

    fn book() -> HealthBook {
        HealthBook::new(config(), [("a", "any")])
    }

    #[test]
    fn what_was_learned_is_there_after_a_restart_and_a_spoilt_file_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (file, before) = (folder.path().join("new/learned.json"), book());
        (0..20).for_each(|_| before.first_token(0, before.now(), 10, 50.0));
        Learned::new(Some(file.clone())).save(&before);
        let after = book();
        Learned::new(Some(file.clone())).load(&after);
        let (known, again) = (before.of("a"), after.of("a"));
        assert!((again.ttft_ms - known.ttft_ms).abs() < 1.0 && again.measured > 15.0, "{known:?} {again:?}");
        fs::write(&file, "{").unwrap();
        let unknown = book();
        Learned::new(Some(file)).load(&unknown);
        assert_eq!(unknown.of("a").measured, 0.0);
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_no_error() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let learned = Learned::new(Some(file.path().join("learned.json")));
        learned.save(&book());
        assert!(learned.failing.load(Ordering::Relaxed));
    }
}
