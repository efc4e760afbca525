//! `waypost explain "text"`: one decision in the terminal.

use super::table::{right, table};
use super::{Global, block_on, print_json};
use crate::chat::ChatRequest;
use crate::decision::{Change, ClassScore, Decision, DeploymentScore};
use crate::embedder::VIEWS;
use crate::error::{Error, Result};
use crate::router::Caller;
use clap::Args;
use comfy_table::Table;
use std::io::Read;

#[derive(Args)]
pub struct Explain {
    /// The prompt; `-` reads it from standard input.
    text: String,
    /// The policy: a name, or keys (`quality_floor=0.8, value_of_second=0.001`), as in the header x-waypost-policy.
    #[arg(long)]
    policy: Option<String>,
    /// Print the decision as JSON.
    #[arg(long)]
    json: bool,
}

impl Explain {
    pub fn run(self, global: &Global) -> Result<()> {
        let mut text = self.text;
        if text == "-" {
            text.clear();
            std::io::stdin().read_to_string(&mut text).map_err(Error::io("(standard input)"))?;
        }
        let (config, cache) = (global.load()?, global.cache()?);
        let decision = block_on(async {
            let router = crate::start::router(config, cache, false).await?;
            router.decide(&ChatRequest::from_prompt(&text)?, &Caller { policy: self.policy, ..Caller::default() }).await
        })?;
        if self.json {
            print_json(&decision);
        } else {
            print(&decision);
        }
        Ok(())
    }
}

fn print(decision: &Decision) {
    println!("\n{}  →  {}\n{}\n", decision.class, decision.deployment, decision.reason);
    if let (Some(confidence), Some(gate), None) = (decision.confidence, decision.gate, decision.exit) {
        let state = if decision.abstained { "below: abstains" } else { "above: decides" };
        println!("confidence {confidence:.3}, gate {gate:.3} ({state})\n");
    }
    if let Some(exit) = decision.exit {
        println!(
            "decided early: confidence {:.3}, enough from {:.3} on\nread {} of {} views, asked no neighbors; {:.1} % of such decisions were those of the whole road\n",
            decision.confidence.unwrap_or(0.0),
            exit.confidence,
            exit.views,
            VIEWS.len(),
            100.0 * exit.agreement
        );
    }
    if !decision.classes.is_empty() {
        println!("{}\n", classes(&decision.classes));
    }
    if !decision.neighbors.is_empty() {
        let mut neighbors = table(&["similarity", "label", "nearest exemplars", "id"]);
        for neighbor in &decision.neighbors {
            let text: String =
                neighbor.text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(70).collect();
            neighbors.add_row([
                format!("{:.3}", neighbor.similarity),
                neighbor.label.clone(),
                text,
                neighbor.id.clone(),
            ]);
        }
        println!("{neighbors}\n");
    }
    println!("{}\n", deployments(&decision.deployments));
    println!("another class:       {}", flip(decision.flip.class.as_ref()));
    println!("another deployment:  {}", flip(decision.flip.deployment.as_ref()));
    let timing = &decision.timing;
    println!(
        "time: {} µs = features {} + queue {} + tokenize {} + encode {} + classify {} + policy {} + rest",
        timing.total_us,
        timing.features_us,
        timing.queue_us,
        timing.tokenize_us,
        timing.encode_us,
        timing.classify_us,
        timing.policy_us
    );
}

fn classes(scores: &[ClassScore]) -> Table {
    let mut table = table(&["class", "quality", "", "head", "neighbors", "cost $", "latency ms", "why not"]);
    for score in scores {
        let quality = score.quality.unwrap_or(0.0);
        table.add_row([
            score.class.clone(),
            format!("{quality:.3}"),
            "█".repeat((quality * 12.0).round() as usize),
            number(score.head, 3),
            number(score.neighbors, 3),
            number(score.expected_cost.map(|cost| cost.dollars()), 6),
            number(score.expected_latency_ms, 0),
            score.out.clone().unwrap_or_default(),
        ]);
    }
    right(&mut table, &[1, 3, 4, 5, 6]);
    table
}

fn deployments(scores: &[DeploymentScore]) -> Table {
    let mut table = table(&[
        "deployment",
        "score $",
        "input $",
        "output $",
        "time $",
        "failures $",
        "first token ms",
        "rest ms",
        "measured",
        "why not",
    ]);
    for score in scores {
        table.add_row([
            score.deployment.to_string(),
            format!("{:.6}", score.score),
            format!("{:.6}", score.input_cost.dollars()),
            format!("{:.6}", score.output_cost.dollars()),
            format!("{:.6}", score.time_cost),
            format!("{:.6}", score.failure_cost),
            format!("{:.0}", score.ttft_ms),
            format!("{:.0}", score.generation_ms),
            format!("{:.1}", score.measured),
            score
                .out
                .as_ref()
                .map(ToString::to_string)
                .or_else(|| score.held.as_ref().map(ToString::to_string))
                .unwrap_or_default(),
        ]);
    }
    right(&mut table, &[1, 2, 3, 4, 5, 6, 7, 8]);
    table
}

fn flip(change: Option<&Change>) -> String {
    change.map_or("no change of one key would choose it".into(), |change| {
        format!("`{}` with {} = {:.6} (now {})", change.would_choose, change.key, change.to, change.from)
    })
}

fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or("-".into(), |value| format!("{value:.digits$}"))
}
