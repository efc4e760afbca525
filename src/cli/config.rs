//! `waypost config show|check`.

use super::Global;
use crate::classifier::RoutingModel;
use crate::error::{Error, Result};
use clap::{Args, Subcommand};

#[derive(Args)]
pub struct ConfigCommand {
    #[command(subcommand)]
    command: What,
}

#[derive(Subcommand)]
enum What {
    /// Print the whole configuration: the defaults with the file laid over them. Secrets show only where they come from.
    Show {
        /// Print the shipped defaults instead, with the documentation of every key.
        #[arg(long)]
        default: bool,
    },
    /// Check the configuration without starting: names the file, the key and what was expected.
    Check,
}

impl ConfigCommand {
    pub fn run(self, global: &Global) -> Result<()> {
        match self.command {
            What::Show { default: true } => print!("{}", crate::config::DEFAULT),
            What::Show { default: false } => print!("{}", global.load()?.show()),
            What::Check => check(global)?,
        }
        Ok(())
    }
}

fn check(global: &Global) -> Result<()> {
    let config = global.load()?;
    let model = RoutingModel::open(&config.routing.model)?;
    if let Some(label) =
        model.manifest.classes.iter().find(|label| !config.classes.iter().any(|class| class.name == **label))
    {
        return Err(Error::Config {
            file: config.file,
            key: "class".into(),
            problem: format!(
                "the routing model {} knows the class `{label}`; expected a [[class]] of that name",
                model.title()
            ),
        });
    }
    println!(
        "{}: good. {} providers, {} deployments, {} classes, routing model {}.",
        config.file,
        config.providers.len(),
        config.deployments.len(),
        config.classes.len(),
        model.title()
    );
    for unknown in config.deployments.iter().filter(|deployment| !deployment.price_known) {
        println!(
            "  WARNING: the price of {} is not known: no costs are recorded, and it counts as the dearest of its classes. Set `input` and `output`, or `catalog`.",
            unknown.name
        );
    }
    for skipped in &config.skipped {
        println!("  left out: provider {} ({})", skipped.provider, skipped.reason);
    }
    Ok(())
}
