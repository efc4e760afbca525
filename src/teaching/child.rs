//! `waypost train --job` as a child process: training at the lowest priority beside serving, in memory of its own, and
//! ended at any moment by a kill.

use super::{Progress, Teaching};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::training::compare::Comparison;
use serde::Deserialize;
use serde_json::Value;
use std::collections::VecDeque;
use std::path::Path;
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::oneshot;

/// Lines of the child's standard error that are kept, the last ones, and characters of each.
const LAST_LINES: usize = 20;
const LINE_CHARS: usize = 500;

/// Where the child finds what to train on, and what it may do.
pub struct Order<'a> {
    /// A folder with `exemplars.jsonl`, into which the configuration goes too.
    pub folder: &'a Path,
    pub outcomes: bool,
    pub force: bool,
    pub seed: Option<u64>,
}

/// How the child ended.
pub enum Ended {
    Published(Report),
    /// Trained, and not published: worse than the version that serves.
    Refused(Report, String),
    Failed(String),
    Cancelled,
}

/// The last line of a job.
#[derive(Deserialize)]
pub struct Report {
    pub version: String,
    pub comparison: Option<Comparison>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Result { result: Report },
    Progress(Progress),
}

impl Teaching {
    /// Runs a training. `tell` is told how far it is.
    ///
    /// # Errors
    /// [`Error::Io`] when the program cannot be started.
    pub(super) async fn train(
        &self,
        config: &Config,
        order: &Order<'_>,
        cancel: oneshot::Receiver<()>,
        tell: impl FnMut(Progress),
    ) -> Result<Ended> {
        let mut child = self.spawn(config, order)?;
        // Held open as long as this process lives: the child ends with it.
        let _alive = child.stdin.take();
        let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(Error::Internal("the training has no standard output".into()));
        };
        let (report, last, status) = tokio::select! {
            ended = async { tokio::join!(read(stdout, tell), last_lines(stderr), child.wait()) } => ended,
            _ = cancel => {
                // Also when whoever could cancel is gone.
                if let Err(error) = child.kill().await {
                    tracing::warn!(%error, "the training could not be killed");
                }
                return Ok(Ended::Cancelled);
            }
        };
        let status = status.map_err(Error::io("waypost train"))?;
        let said = last.lines().last().unwrap_or_default().trim_start_matches("waypost: ").to_string();
        Ok(match report {
            Some(report) if status.success() => Ended::Published(report),
            Some(report) => Ended::Refused(report, said),
            None if last.is_empty() => Ended::Failed(format!("the training ended without a word ({status})")),
            None => Ended::Failed(last),
        })
    }

    fn spawn(&self, config: &Config, order: &Order<'_>) -> Result<Child> {
        let program = match &self.program {
            Some(program) => program.clone(),
            None => std::env::current_exe().map_err(Error::io("the running program"))?,
        };
        // What this process was started with, whatever its file says by now. The encoder is in the cache: it serves.
        let mut command = Command::new(&program);
        command.arg("--config").arg(order.folder.join(CONFIG)).args(["--offline", "train", "--job", "--publish"]);
        command.arg(if order.outcomes { "--outcomes" } else { "--labels" }).arg(order.folder.join(EXEMPLARS));
        command.arg("--name").arg(&self.shelf.name).arg("--out").arg(&self.shelf.models);
        command.args(["--seed".into(), order.seed.unwrap_or(1).to_string()]);
        if order.force {
            command.arg("--force");
        }
        if let Some(recipe) = &config.teaching.recipe {
            command.arg("--recipe").arg(recipe);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command.spawn().map_err(Error::io(program))
    }
}

/// Files of an order's folder.
pub const CONFIG: &str = "waypost.toml";
pub const EXEMPLARS: &str = "exemplars.jsonl";

/// Reads progress until the end, and the report that stands there.
async fn read(stdout: impl AsyncRead + Unpin, mut tell: impl FnMut(Progress)) -> Option<Report> {
    let (mut lines, mut report) = (BufReader::new(stdout).lines(), None);
    while let Ok(Some(line)) = lines.next_line().await {
        match serde_json::from_str::<Value>(&line).and_then(serde_json::from_value) {
            Ok(Line::Result { result }) => report = Some(result),
            Ok(Line::Progress(progress)) => tell(progress),
            Err(_) => {}
        }
    }
    report
}

async fn last_lines(stderr: impl AsyncRead + Unpin) -> String {
    let (mut lines, mut last) = (BufReader::new(stderr).lines(), VecDeque::new());
    while let Ok(Some(line)) = lines.next_line().await {
        if last.len() == LAST_LINES {
            last.pop_front();
        }
        last.push_back(line.chars().take(LINE_CHARS).collect::<String>());
    }
    Vec::from(last).join("\n")
}
