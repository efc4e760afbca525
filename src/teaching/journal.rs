//! A file of JSON lines that is appended to, each write on the disk before it counts; and the folder such files lie in,
//! which one process writes at a time.

use crate::error::{Error, Result};
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// The folder of what is taught while running.
pub struct Folder {
    path: PathBuf,
    /// The lock file, from the first write on. Held while it is opened: once.
    claimed: Mutex<Claim>,
}

#[derive(Default)]
enum Claim {
    #[default]
    Open,
    Ours {
        _lock: File,
    },
    /// Another process's. Also when that has gone: what it wrote is not in this one's memory.
    Taken,
}

impl Folder {
    /// A folder that need not exist: it is made by the first write.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Folder { path: path.into(), claimed: Mutex::default() }
    }

    /// Makes the folder, and keeps other processes from writing there as long as this one lives.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be written, [`Error::Conflict`] when another process teaches there.
    pub fn claim(&self) -> Result<()> {
        let mut claimed = self.claimed.lock();
        if let Claim::Open = *claimed {
            std::fs::create_dir_all(&self.path).map_err(Error::io(&self.path))?;
            let path = self.path.join("lock");
            let lock = File::create(&path).map_err(Error::io(&path))?;
            *claimed = match lock.try_lock() {
                Ok(()) => Claim::Ours { _lock: lock },
                Err(TryLockError::WouldBlock) => Claim::Taken,
                Err(TryLockError::Error(error)) => return Err(Error::io(&path)(error)),
            };
        }
        match *claimed {
            Claim::Taken => Err(Error::Conflict {
                message: "Another Waypost taught in this folder when this one began: give it a folder of its own in [teaching], or start it again.".into(),
                code: "folder_in_use",
            }),
            _ => Ok(()),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the folders inside whose names begin so.
    ///
    /// # Errors
    /// [`Error::Io`] naming what cannot be read or removed.
    pub fn sweep(&self, prefix: &str) -> Result<()> {
        for entry in std::fs::read_dir(&self.path).map_err(Error::io(&self.path))? {
            let path = entry.map_err(Error::io(&self.path))?.path();
            let named = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix));
            if named && path.is_dir() {
                std::fs::remove_dir_all(&path).map_err(Error::io(&path))?;
            }
        }
        Ok(())
    }

    /// Claims the folder if it is there, before what it holds is read. One that cannot be claimed is read all the same.
    pub fn claim_if_there(&self) {
        if self.path.is_dir()
            && let Err(error) = self.claim()
        {
            tracing::info!(folder = %self.path.display(), %error, "nothing can be taught here");
        }
    }
}

/// A file of JSON lines.
pub struct Journal {
    path: PathBuf,
    /// Lines in the file, as far as this process knows.
    lines: usize,
}

impl Journal {
    /// A journal that need not exist.
    pub fn at(path: PathBuf) -> Self {
        Journal { path, lines: 0 }
    }

    /// How many lines the file has: when to rewrite it.
    pub fn lines(&self) -> usize {
        self.lines
    }

    /// Every entry that can be read; a line that cannot (torn by a crash, of another version) is passed over with a
    /// word in the log.
    ///
    /// # Errors
    /// [`Error::Io`] when the file is there and cannot be read.
    pub fn read<T: DeserializeOwned>(&mut self) -> Result<Vec<T>> {
        let text = match std::fs::read(&self.path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Error::io(&self.path)(error)),
        };
        let mut entries = Vec::new();
        for (at, line) in text.lines().enumerate() {
            self.lines = at + 1;
            match serde_json::from_str(line) {
                Ok(entry) => entries.push(entry),
                // serde_json's messages may repeat what stands there, which may be a prompt.
                Err(_) => tracing::warn!(file = %self.path.display(), line = at + 1, "passed over: cannot be read"),
            }
        }
        Ok(entries)
    }

    /// Appends entries: all of them are on the disk when it returns, or none.
    ///
    /// # Errors
    /// [`Error::Io`] when they cannot be written.
    pub fn append<T: Serialize>(&mut self, entries: &[T]) -> Result<()> {
        let mut file = private().read(true).append(true).open(&self.path).map_err(Error::io(&self.path))?;
        let before = file.metadata().map_err(Error::io(&self.path))?.len();
        let written =
            end_line(&mut file, before).and_then(|()| file.write_all(&lines(entries))).and_then(|()| file.sync_data());
        if let Err(error) = written {
            // A disk that is full still lets a file become shorter.
            if let Err(error) = file.set_len(before) {
                tracing::error!(file = %self.path.display(), %error, "half-written lines stay: they are passed over when read");
            }
            return Err(Error::io(&self.path)(error));
        }
        self.lines += entries.len();
        Ok(())
    }

    /// Replaces the whole file.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be written; the file is then as it was.
    pub fn rewrite<T: Serialize>(&mut self, entries: &[T]) -> Result<()> {
        let part = self.path.with_extension("part");
        let mut file = private().write(true).truncate(true).open(&part).map_err(Error::io(&part))?;
        file.write_all(&lines(entries)).and_then(|()| file.sync_all()).map_err(Error::io(&part))?;
        std::fs::rename(&part, &self.path).map_err(Error::io(&self.path))?;
        self.lines = entries.len();
        Ok(())
    }
}

/// For the owner's eyes: there are prompts in these files.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Ends a line that a crash left without its end.
fn end_line(file: &mut File, length: u64) -> std::io::Result<()> {
    let mut last = [b'\n'];
    if length > 0 {
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
    }
    if last == [b'\n'] { Ok(()) } else { file.write_all(b"\n") }
}

fn lines<T: Serialize>(entries: &[T]) -> Vec<u8> {
    let line = |entry: &T| serde_json::to_string(entry).expect("an entry serialises") + "\n";
    entries.iter().map(line).collect::<String>().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_line_costs_itself_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal.jsonl");
        let mut journal = Journal::at(path.clone());
        journal.append(&[1, 2]).expect("written");
        std::fs::write(&path, "1\n2\n{\"torn").expect("written");
        journal.append(&[3]).expect("written");
        assert_eq!(Journal::at(path.clone()).read::<u32>().expect("read"), [1, 2, 3]);
        journal.rewrite(&[4]).expect("rewritten");
        assert_eq!((journal.read::<u32>().expect("read"), journal.lines()), (vec![4], 1));
        assert!(Journal::at(folder.path().join("none/journal")).append(&[1]).is_err());
    }

    #[test]
    fn one_process_teaches_in_a_folder() {
        let folder = tempfile::tempdir().expect("a folder");
        let (one, two) = (Folder::at(folder.path().join("new")), Folder::at(folder.path().join("new")));
        one.claim().expect("claimed");
        one.claim().expect("still");
        assert_eq!(two.claim().expect_err("taken").status(), 409);
        drop(one);
        assert!(two.claim().is_err(), "what the other wrote is unknown here");
        Folder::at(folder.path().join("new")).claim().expect("free again");
    }
}
