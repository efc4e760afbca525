//! `waypost decide`: many decisions, JSON lines in and out. They depend on the prompt, the routing model and the
//! policy alone: no deployment is asked, every class costs the same.

use super::Global;
use super::bulk::Bulk;
use super::lines::{self, Output};
use crate::chat::ChatRequest;
use crate::classifier::RoutingModel;
use crate::config::cores;
use crate::config::{ClassConfig, Config};
use crate::embedder::window;
use crate::error::{Error, Result};
use crate::policy::Policy;
use crate::policy::quality::{Expected, choose_without_deployments};
use crate::training::parallel::in_order;
use clap::Args;
use indexmap::IndexMap;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::io::{BufRead, BufWriter, Write};
use std::path::PathBuf;
use std::time::Instant;

/// Lines read at once, so that memory is bounded for files of any number of lines.
const CHUNK: usize = 1_024;

#[derive(Args)]
pub struct Decide {
    /// Prompts, a JSON object a line: {"id"?, "prompt" | "messages"}; `-` reads standard input.
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
    /// Decisions, a JSON object a line: {"id", "class", "quality", "confidence", "abstained", "micros"}; `-` writes to standard output.
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// A routing model's folder; the one inside the binary when absent.
    #[arg(long, value_name = "DIR", default_value = "builtin")]
    model: String,
    /// Threads; one a core when absent.
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

/// One line of the input.
#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    id: Option<Value>,
    #[serde(default)]
    prompt: Option<String>,
    #[serde(default)]
    messages: Option<Box<RawValue>>,
}

/// A line's object; an array is none, though serde would take it for one.
fn parse(line: &[u8]) -> std::result::Result<Line, String> {
    match line.trim_ascii().first() {
        Some(b'{') => serde_json::from_slice(line).map_err(|error| error.to_string()),
        _ => Err("it is no JSON object".into()),
    }
}

/// What every line is decided by.
struct Judge {
    bulk: Bulk,
    classes: Vec<ClassConfig>,
    policy: Policy,
}

impl Decide {
    pub fn run(self, global: &Global) -> Result<()> {
        let config = global.load()?;
        let bulk = Bulk::open(global, &self.model)?;
        let judge = Judge { classes: classes(&bulk.model, &config), policy: config.policy, bulk };
        let threads = self.threads.unwrap_or_else(cores);
        let input = lines::input(&self.input)?;
        let (file, output) = Output::open(&self.output)?;
        let mut output = BufWriter::new(output);
        let progress = crate::training::progress_bar(0, "prompts");
        let (mut number, mut failed) = (0usize, 0usize);
        let mut lines = input.split(b'\n');
        loop {
            let chunk: Vec<(usize, Vec<u8>)> = lines
                .by_ref()
                .take(CHUNK)
                .map(|line| {
                    line.map(|line| {
                        number += 1;
                        (number, line)
                    })
                })
                .collect::<std::io::Result<_>>()
                .map_err(Error::io(&self.input))?;
            if chunk.is_empty() {
                break;
            }
            progress.set_length(number as u64);
            let results = in_order(&chunk, threads, |(number, line)| {
                progress.inc(1);
                judge.decide(*number, line)
            })?;
            for result in results.into_iter().flatten() {
                failed += usize::from(result.get("error").is_some());
                writeln!(output, "{result}").map_err(Error::io(&self.output))?;
            }
        }
        output.flush().map_err(Error::io(&self.output))?;
        file.finish()?;
        progress.finish_and_clear();
        match failed {
            0 => Ok(()),
            failed => Err(Error::Model(format!(
                "{failed} of {number} lines could not be decided; their output lines have an `error`"
            ))),
        }
    }
}

impl Judge {
    /// The output line of an input line; none for an empty one.
    fn decide(&self, number: usize, line: &[u8]) -> Option<Value> {
        if line.trim_ascii().is_empty() {
            return None;
        }
        let start = Instant::now();
        let parsed = parse(line);
        let id = parsed.as_ref().ok().and_then(|line| line.id.clone()).unwrap_or_else(|| number.into());
        let decided = parsed
            .map_err(|error| {
                Error::Model(format!("line {number}: expected {{\"id\"?, \"prompt\" | \"messages\"}}: {error}"))
            })
            .and_then(|line| self.judge(line));
        Some(match decided {
            Ok(decision) => {
                json!({"id": id, "class": decision.class, "quality": decision.quality, "confidence": decision.confidence, "abstained": decision.abstained, "micros": start.elapsed().as_micros() as u64})
            }
            Err(error) => json!({"id": id, "error": error.to_string()}),
        })
    }

    fn judge(&self, line: Line) -> Result<Judged> {
        let request = match (line.prompt, line.messages) {
            (Some(prompt), None) => ChatRequest::from_prompt(&prompt)?,
            (None, Some(messages)) => ChatRequest::parse(format!("{{\"messages\":{}}}", messages.get()).as_bytes())?,
            _ => return Err(Error::Model("expected either `prompt` or `messages`".into())),
        };
        let manifest = &self.bulk.model.manifest;
        let text = window(&request, manifest.window_chars);
        if text.is_empty() {
            return Ok(Judged {
                class: manifest.default_class.clone(),
                quality: IndexMap::new(),
                confidence: 0.0,
                abstained: true,
            });
        }
        let estimate = self.bulk.estimate(&text)?;
        let (scores, choice) =
            choose_without_deployments(&self.classes, manifest, &estimate, |_| Expected::default(), &self.policy);
        let class =
            if estimate.abstained { manifest.default_class.clone() } else { scores[choice.index].class.clone() };
        let quality = scores.iter().map(|score| (score.class.clone(), score.quality.unwrap_or(0.0))).collect();
        Ok(Judged { class, quality, confidence: estimate.confidence, abstained: estimate.abstained })
    }
}

struct Judged {
    class: String,
    quality: IndexMap<String, f64>,
    confidence: f64,
    abstained: bool,
}

/// The configuration's classes when they hold all of the model's labels; else the labels themselves, covering nothing.
pub fn classes(model: &RoutingModel, config: &Config) -> Vec<ClassConfig> {
    let labels = &model.manifest.classes;
    if labels.iter().all(|label| config.classes.iter().any(|class| class.name == *label)) {
        return config.classes.clone();
    }
    labels
        .iter()
        .map(|label| ClassConfig {
            strategy: Vec::new(),
            name: label.clone(),
            description: String::new(),
            covers: Vec::new(),
            output_tokens: 0,
        })
        .collect()
}
