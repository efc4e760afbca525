//! The logs of experiments: `NAME.jsonl` in `[experiment_log] folder`, older parts `NAME.1.jsonl`, `NAME.2.jsonl` …,
//! bounded in size and number. One thread writes; those who serve hand it lines over a bounded channel and never wait.
//! What cannot be written is counted, and told once.

use super::event::{Line, Stop};
use crate::config::ExperimentLogConfig;
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

/// Lines waiting to be written.
const WAITING: usize = 8_192;

/// A line longer than this is none of ours.
const MAX_LINE_BYTES: usize = 65_536;

/// What the thread is asked to write.
enum Work {
    /// One JSON line of a file whose name begins so.
    Line {
        file: String,
        text: String,
    },
    Stop(Stop),
    /// Tells when all that came before is written.
    Flush(SyncSender<()>),
}

/// The way to the logs.
#[derive(Clone)]
pub struct EventLog {
    to: SyncSender<Work>,
    lost: Arc<AtomicU64>,
}

impl EventLog {
    /// Starts the thread, which ends with the last clone. Nothing is touched on the disk before the first line.
    pub fn start(config: &ExperimentLogConfig) -> Self {
        let (to, from) = sync_channel(WAITING);
        let lost = Arc::new(AtomicU64::new(0));
        let writer = Writer { config: config.clone(), open: HashMap::new(), lost: lost.clone() };
        let started = std::thread::Builder::new().name("experiment-log".into()).spawn(move || writer.run(&from));
        if let Err(error) = started {
            tracing::error!(%error, "experiments are not logged: no thread could be started");
        }
        EventLog { to, lost }
    }

    /// Hands a line over. Never waits: with the channel full the line is lost, and counted.
    pub fn write(&self, line: &Line) {
        self.append(line.experiment(), line);
    }

    /// A line of another file beside the log; its name without the ending.
    pub fn append(&self, file: &str, line: &impl serde::Serialize) {
        let text = serde_json::to_string(line).expect("a line serialises") + "\n";
        self.send(Work::Line { file: file.into(), text });
    }

    /// Writes a stop down so that it outlives this process.
    pub fn stop(&self, stop: &Stop) {
        self.send(Work::Stop(stop.clone()));
        self.write(&Line::Stopped(stop.clone()));
    }

    /// Waits until all that was handed over is written; for tests, and before the process ends.
    pub fn flush(&self) {
        let (done, wait) = sync_channel(1);
        if self.to.send(Work::Flush(done)).is_ok() {
            let _ = wait.recv();
        }
    }

    /// Lines lost so far.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    fn send(&self, work: Work) {
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = self.to.try_send(work) {
            lose(&self.lost, "the log's thread cannot keep up");
        }
    }
}

fn lose(lost: &AtomicU64, why: &str) {
    if lost.fetch_add(1, Ordering::Relaxed) == 0 {
        tracing::warn!(why, "lines of an experiment's log are lost; from here on they are only counted");
    }
}

/// What the thread owns.
struct Writer {
    config: ExperimentLogConfig,
    open: HashMap<String, (File, u64)>,
    lost: Arc<AtomicU64>,
}

impl Writer {
    fn run(mut self, from: &Receiver<Work>) {
        while let Ok(work) = from.recv() {
            let done = match work {
                Work::Line { file, text } => self.line(&file, &text),
                Work::Stop(stop) => write_stop(&self.config.folder, &stop),
                Work::Flush(done) => {
                    let _ = done.send(());
                    Ok(())
                }
            };
            if let Err(error) = done {
                lose(&self.lost, &format!("{}: {error}", self.config.folder.display()));
            }
        }
    }

    fn line(&mut self, name: &str, text: &str) -> std::io::Result<()> {
        if !self.open.contains_key(name) {
            std::fs::create_dir_all(&self.config.folder)?;
            self.open.insert(name.into(), open(&part(&self.config.folder, name, 0))?);
        }
        let Some((_, length)) = self.open.get(name) else { return Ok(()) };
        if *length > 0 && length + text.len() as u64 > self.config.max_bytes {
            self.rotate(name)?;
        }
        let Some((file, length)) = self.open.get_mut(name) else { return Ok(()) };
        let written = file.write_all(text.as_bytes());
        match written {
            Ok(()) => *length += text.len() as u64,
            // A half-written line goes again: a disk that is full still lets a file become shorter.
            Err(_) => drop(file.set_len(*length)),
        }
        written
    }

    /// `NAME` becomes `NAME.1`, that `NAME.2`, and so on; the oldest goes.
    fn rotate(&mut self, name: &str) -> std::io::Result<()> {
        self.open.remove(name);
        let folder = &self.config.folder;
        for at in (1..self.config.files).rev() {
            match std::fs::rename(part(folder, name, at - 1), part(folder, name, at)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        if self.config.files == 1 {
            std::fs::remove_file(part(folder, name, 0))?;
        }
        self.open.insert(name.into(), open(&part(folder, name, 0))?);
        Ok(())
    }
}

fn part(folder: &Path, name: &str, at: usize) -> PathBuf {
    folder.join(if at == 0 { format!("{name}.jsonl") } else { format!("{name}.{at}.jsonl") })
}

/// For the owner's eyes. A line that a crash left without its end is ended.
fn open(path: &Path) -> std::io::Result<(File, u64)> {
    let mut options = OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    let mut length = file.metadata()?.len();
    if length > 0 && std::fs::read(path)?.last() != Some(&b'\n') {
        file.write_all(b"\n")?;
        length += 1;
    }
    Ok((file, length))
}

fn stop_file(folder: &Path, experiment: &str) -> PathBuf {
    folder.join(format!("{experiment}.stop.json"))
}

fn write_stop(folder: &Path, stop: &Stop) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let (path, part) = (stop_file(folder, &stop.experiment), folder.join(format!("{}.stop.part", stop.experiment)));
    let mut file = File::create(&part)?;
    file.write_all(serde_json::to_string_pretty(stop).expect("a stop serialises").as_bytes())?;
    file.sync_all()?;
    std::fs::rename(part, path)
}

/// The stop of an experiment, if it was stopped. A file that cannot be read is a stop all the same. Blocks.
pub fn stopped(folder: &Path, experiment: &str) -> Option<Stop> {
    let path = stop_file(folder, experiment);
    let unreadable = |why: String| Stop {
        at_ms: 0,
        experiment: experiment.into(),
        arm: "?".into(),
        rule: "?".into(),
        why: format!("{} is there and cannot be read: {why}", path.display()),
    };
    match std::fs::read(&path) {
        Ok(text) => Some(serde_json::from_slice(&text).unwrap_or_else(|error| unreadable(error.to_string()))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => Some(unreadable(error.to_string())),
    }
}

/// The names of the experiments that have a log here. Blocks.
pub fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let files = entries.filter_map(|entry| entry.file_name().into_string().ok());
    // A name has no dot: what has one is an older part, or lies beside.
    let mut names: Vec<String> = files
        .filter_map(|file| file.strip_suffix(".jsonl").map(String::from))
        .filter(|name| !name.contains('.'))
        .collect();
    names.sort();
    names
}

/// Every line of an experiment that is still there, the oldest first; what cannot be read is passed over. Blocks.
pub fn read(folder: &Path, experiment: &str, each: impl FnMut(Line)) -> std::io::Result<()> {
    let mut each = each;
    let mut oldest = 0;
    while part(folder, experiment, oldest + 1).exists() {
        oldest += 1;
    }
    for at in (0..=oldest).rev() {
        let file = match File::open(part(folder, experiment, at)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            file => file?,
        };
        for line in BufReader::new(file).split(b'\n') {
            let line = line?;
            if line.len() <= MAX_LINE_BYTES
                && let Ok(line) = serde_json::from_slice(&line)
            {
                each(line);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::event::{Scored, Scorer};

    fn line(score: f64) -> Line {
        let (experiment, arm, decision) = ("e".into(), "a".into(), "d".into());
        Line::Scored(Scored { at_ms: 1, experiment, arm, decision, score, by: Scorer::Judge })
    }

    fn scores(folder: &Path) -> Vec<f64> {
        let mut scores = vec![];
        let each = |line| {
            if let Line::Scored(scored) = line {
                scores.push(scored.score);
            }
        };
        read(folder, "e", each).expect("read");
        scores
    }

    #[test]
    fn a_log_is_bounded_and_keeps_the_newest() {
        let folder = tempfile::tempdir().expect("a folder");
        let log = EventLog::start(&ExperimentLogConfig { folder: folder.path().into(), max_bytes: 1_000, files: 3 });
        (0..200).for_each(|at| log.write(&line(f64::from(at))));
        log.flush();
        let scores = scores(folder.path());
        assert!(scores.len() > 10 && scores.len() < 60, "{}", scores.len());
        assert!(scores.windows(2).all(|pair| pair[1] == pair[0] + 1.0) && scores.last() == Some(&199.0));
        assert_eq!((std::fs::read_dir(folder.path()).expect("read").count(), log.lost()), (3, 0));
        assert_eq!(names(folder.path()), ["e"]);
    }

    #[test]
    fn a_torn_line_costs_itself_alone_and_a_stop_outlives_the_process() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("e.jsonl"), "{\"torn").expect("written");
        let log = EventLog::start(&ExperimentLogConfig { folder: folder.path().into(), max_bytes: 1_000, files: 2 });
        log.write(&line(0.5));
        assert_eq!(stopped(folder.path(), "e"), None);
        let (experiment, arm, rule, why) = ("e".into(), "a".into(), "r".into(), "w".into());
        let stop = Stop { at_ms: 7, experiment, arm, rule, why };
        log.stop(&stop);
        log.flush();
        assert_eq!((scores(folder.path()), stopped(folder.path(), "e")), (vec![0.5], Some(stop)));
        std::fs::write(folder.path().join("e.stop.json"), "").expect("written");
        assert_eq!(stopped(folder.path(), "e").expect("a stop").rule, "?");
    }

    #[test]
    fn a_disk_that_takes_nothing_breaks_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("file");
        std::fs::write(&file, "").expect("written");
        let log = EventLog::start(&ExperimentLogConfig { folder: file, max_bytes: 1_000, files: 2 });
        (0..3).for_each(|_| log.write(&line(0.5)));
        log.flush();
        assert_eq!(log.lost(), 3);
    }
}
