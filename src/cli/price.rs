//! `waypost catalog price`: what a request costs by the catalogue, one or many.

use super::lines::{self, Output};
use crate::catalog::{Catalog, Cost, Service, Terms};
use crate::error::{Error, Result};
use clap::Args;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};

#[derive(Args)]
pub struct Price {
    /// provider/model, with --usage.
    #[arg(requires = "usage", required_unless_present = "input")]
    model: Option<String>,
    /// Token counts as in a response: {"prompt_tokens", "completion_tokens", "prompt_tokens_details", ...}.
    #[arg(long, value_name = "JSON")]
    usage: Option<String>,
    /// Many at once: {"id"?, "model", "usage", "at"?, "service"?, "region"?} a line; `-` reads standard input. Results go to standard output, a line each.
    #[arg(long, value_name = "FILE", conflicts_with = "model")]
    input: Option<PathBuf>,
    /// The moment of the request; now when absent.
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,
    /// Print as JSON.
    #[arg(long)]
    json: bool,
}

/// A request to be priced.
#[derive(Deserialize)]
struct Question {
    #[serde(default)]
    id: Option<Value>,
    model: String,
    usage: Value,
    #[serde(default)]
    at: Option<Timestamp>,
    #[serde(default)]
    service: Service,
    #[serde(default)]
    region: Option<String>,
}

impl Price {
    pub fn run(self) -> Result<()> {
        let catalog = Catalog::current()?;
        let at = self.at.unwrap_or_else(Timestamp::now);
        match (self.input, self.model, self.usage) {
            (Some(input), _, _) => answer_all(&catalog, &input, at),
            (None, Some(model), Some(usage)) => {
                let usage = serde_json::from_str(&usage)
                    .map_err(|error| Error::Catalog(format!("--usage is no JSON: {error}")))?;
                let service = Service::Standard;
                let question = Question { id: None, model, usage, at: None, service, region: None };
                let answer = answer(&catalog, &question, at).map_err(Error::Catalog)?;
                match self.json {
                    true => lines::print_json(&answer),
                    false => {
                        lines::print(&format!("{}: ${}", answer["entry"].as_str().unwrap_or("?"), answer["dollars"]))
                    }
                }
            }
            _ => Err(Error::Catalog("expected provider/model with --usage, or --input".into())),
        }
    }
}

/// Answers a file of questions, in order; a line that cannot be answered has an `error`.
fn answer_all(catalog: &Catalog, input: &Path, at: Timestamp) -> Result<()> {
    let (file, mut output) = Output::open(Path::new("-"))?;
    let mut failed = 0;
    for line in lines::input(input)?.lines() {
        let line = line.map_err(Error::io(input))?;
        if line.trim().is_empty() {
            continue;
        }
        let question = serde_json::from_str::<Question>(&line).map_err(|error| (None, error.to_string()));
        let answer = question.and_then(|asked| answer(catalog, &asked, at).map_err(|error| (asked.id, error)));
        failed += usize::from(answer.is_err());
        let line = answer.unwrap_or_else(|(id, error)| json!({"id": id, "error": error}));
        writeln!(output, "{line}").map_err(Error::io(input))?;
    }
    output.flush().map_err(Error::io(input))?;
    file.finish()?;
    match failed {
        0 => Ok(()),
        failed => Err(Error::Catalog(format!("{failed} lines have no price; their output lines have an `error`"))),
    }
}

fn answer(catalog: &Catalog, question: &Question, now: Timestamp) -> std::result::Result<Value, String> {
    let name = &question.model;
    let entry = catalog.named(name).ok_or_else(|| format!("the catalogue has no `{name}`"))?;
    let prices = entry.prices.as_ref().ok_or_else(|| format!("the price of `{name}` is not known"))?;
    let usage = crate::providers::sse::usage(&question.usage).ok_or("`usage` is no JSON object")?;
    let terms = Terms { at: question.at.unwrap_or(now), service: question.service, region: question.region.as_deref() };
    let cost: Cost = prices.cost(&usage, &terms);
    Ok(json!({
        "id": question.id,
        "entry": entry.name(),
        "dollars": cost.total(),
        "input": cost.input,
        "output": cost.output,
        "picodollars": cost.total().picodollars(),
        "per_request": prices.per_request,
        "rates": prices.rates(usage.prompt_tokens, &terms),
    }))
}
