//! `waypost eval`: a routing model on labelled prompts.

use super::bulk::{Bulk, in_order};
use super::{Global, default_threads, print_json};
use crate::chat::ChatRequest;
use crate::classifier::{Exemplar, exemplar};
use crate::embedder::window;
use crate::error::{Error, Result};
use crate::training::report::{Report, likeliest, recall, report};
use clap::Args;
use std::collections::BTreeMap;
use std::path::PathBuf;

#[derive(Args)]
pub struct Eval {
    /// A routing model's folder; the one inside the binary when absent.
    #[arg(long, value_name = "DIR", default_value = "builtin")]
    model: String,
    /// Labelled prompts: JSONL files or folders of them.
    #[arg(long, value_name = "FILE", num_args = 1.., default_value = "data/exemplars/heldout")]
    labels: Vec<PathBuf>,
    /// Print the mistakes, one a line.
    #[arg(long)]
    mistakes: bool,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

impl Eval {
    pub fn run(self, global: &Global) -> Result<()> {
        let exemplars = exemplar::read(&self.labels)?;
        if exemplars.is_empty() {
            return Err(Error::Model("there is not one labelled prompt in what --labels names".into()));
        }
        let bulk = Bulk::open(global, &self.model)?;
        let progress = crate::training::progress_bar(exemplars.len() as u64, "prompts");
        let estimates = in_order(&exemplars, default_threads(), |exemplar| {
            progress.inc(1);
            let text = window(&ChatRequest::from_prompt(&exemplar.prompt)?, bulk.model.manifest.window_chars);
            bulk.estimate(&text)
        })?;
        progress.finish_and_clear();
        let estimates = estimates.into_iter().collect::<Result<Vec<_>>>()?;
        let classes = &bulk.model.manifest.classes;
        let labels = labels(&exemplars, classes)?;
        let measured = report(classes, &estimates, &labels);
        if self.json {
            print_json(&measured);
            return Ok(());
        }
        print(&bulk.model.title(), &measured);
        let mut sources: BTreeMap<(&str, &str), (usize, usize)> = BTreeMap::new();
        for ((exemplar, estimate), label) in exemplars.iter().zip(&estimates).zip(&labels) {
            let right = likeliest(&estimate.joined) == *label;
            for key in [("source", exemplar.source.as_str()), ("lang", exemplar.lang.as_str())] {
                let (all, rightly) = sources.entry(key).or_default();
                (*all, *rightly) = (*all + 1, *rightly + usize::from(right));
            }
            if self.mistakes && !right {
                let text: String =
                    exemplar.prompt.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(140).collect();
                println!(
                    "{:14} said {:14} {:.2}  {}",
                    exemplar.class,
                    classes[likeliest(&estimate.joined)],
                    estimate.confidence,
                    text
                );
            }
        }
        for ((kind, name), (all, right)) in sources {
            println!("{kind:7} {name:16} {:5.1} % of {all}", 100.0 * right as f64 / all as f64);
        }
        Ok(())
    }
}

fn labels(exemplars: &[Exemplar], classes: &[String]) -> Result<Vec<usize>> {
    let label = |exemplar: &Exemplar| {
        let place = classes.iter().position(|class| *class == exemplar.class);
        place.ok_or_else(|| {
            Error::Model(format!(
                "`{}` has the label `{}`, which the model does not know; it knows {}",
                exemplar.id,
                exemplar.class,
                classes.join(", ")
            ))
        })
    };
    exemplars.iter().map(label).collect()
}

/// The report in the terminal.
pub fn print(title: &str, report: &Report) {
    println!("{title} on {} prompts", report.prompts);
    println!(
        "accuracy {:.1} %  (head {:.1} %, neighbors {:.1} %)",
        100.0 * report.accuracy,
        100.0 * report.head_accuracy,
        100.0 * report.neighbors_accuracy
    );
    println!(
        "macro recall {:.1} %, macro F1 {:.1} %, calibration error {:.3}, abstained {:.1} %\n",
        100.0 * report.macro_recall,
        100.0 * report.macro_f1,
        report.calibration_error,
        100.0 * report.abstained
    );
    let worst = (0..report.classes.len())
        .min_by(|a, b| recall(&report.confusion, *a).total_cmp(&recall(&report.confusion, *b)));
    println!("{}", report.confusion_markdown());
    if let Some(worst) = worst {
        println!("weakest: {}\n", report.classes[worst]);
    }
}
