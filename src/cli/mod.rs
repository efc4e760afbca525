//! The command line: one file a command. Results go to standard output, everything else to standard error.
//! Exit codes: 0 done, 1 failed (the message says why), 2 the command line itself is wrong.

mod bulk;
mod calibrate;
mod catalog;
mod config;
mod data;
mod decide;
mod embed;
mod eval;
mod experiment;
mod explain;
mod job;
mod lines;
mod models;
mod price;
mod providers;
mod serve;
mod simulate;
mod table;
mod train;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::kernels::{INSTRUCTIONS, Level};
use crate::weights::Cache;
use clap::{Args, Parser, Subcommand};
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

/// An LLM router: reads each prompt locally, picks the class of model able to answer it well, then the cheapest
/// deployment that does, and explains every decision.
///
/// Without a command it serves on 127.0.0.1:8080, with no key needed: a tiny local model answers until a provider's
/// key (OPENAI_API_KEY, ANTHROPIC_API_KEY, GROQ_API_KEY, ...) is in the environment.
#[derive(Parser)]
#[command(version, max_term_width = 110)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Option<Command>,
}

/// What every command takes.
#[derive(Args, Clone)]
struct Global {
    /// Configuration file; ./waypost.toml when it exists. `waypost config show` prints every key.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Never touch the network for weights: say what is missing instead.
    #[arg(long, global = true)]
    offline: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Answer on an address (the default command).
    Serve(serve::Serve),
    /// Show how one prompt would be routed, and why. Nothing is forwarded.
    Explain(explain::Explain),
    /// Decide about many prompts: JSON lines in, JSON lines out, in the same order.
    Decide(decide::Decide),
    /// Embed many texts: JSON lines in, JSON lines out, in the same order.
    Embed(embed::Embed),
    /// Train a routing model on labelled prompts.
    Train(train::Train),
    /// Measure a routing model on labelled prompts.
    Eval(eval::Eval),
    /// Choose the quality floor for a wanted quality, saving, or share of calls to the dearest class.
    Calibrate(calibrate::Calibrate),
    /// Weights of encoders and local models: list, pull, verify; versions of a routing model: versions, rollback.
    Models(models::Models),
    /// What models cost and can do: import, update, show, diff; price tells what a request costs.
    Catalog(catalog::CatalogCommand),
    /// List the providers that are known by name: base URL, key, what their endpoints take differently.
    Providers(providers::Providers),
    /// What a file of requests would cost, routed and on single models. Nothing is sent.
    Simulate(simulate::Simulate),
    /// What came of experiments.
    Experiment(experiment::Experiment),
    /// Show or check the configuration.
    Config(config::ConfigCommand),
}

impl Global {
    fn load(&self) -> Result<Config> {
        crate::config::load(self.config.as_deref())
    }

    fn cache(&self) -> Result<Cache> {
        Cache::open(self.offline)
    }
}

/// Runs the program.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    end_where_nobody_reads();
    start_log();
    if let Err(problem) = Level::most() {
        eprintln!("waypost: {}: {problem}", INSTRUCTIONS);
        return ExitCode::FAILURE;
    }
    let global = &cli.global;
    let done = match cli.command.unwrap_or(Command::Serve(serve::Serve::default())) {
        Command::Serve(command) => command.run(global),
        Command::Explain(command) => command.run(global),
        Command::Decide(command) => command.run(global),
        Command::Embed(command) => command.run(global),
        Command::Train(command) => command.run(global),
        Command::Eval(command) => command.run(global),
        Command::Calibrate(command) => command.run(global),
        Command::Models(command) => command.run(global),
        Command::Catalog(command) => command.run(global),
        Command::Providers(command) => command.run(global),
        Command::Simulate(command) => command.run(global),
        Command::Experiment(command) => command.run(global),
        Command::Config(command) => command.run(global),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("waypost: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Ends the program where what it prints reaches nobody: quietly where the reader has gone (`waypost providers | head`),
/// else with what is wrong, such as a full disk. The standard library's only sign of it is a panic.
fn end_where_nobody_reads() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let said = panic.payload().downcast_ref::<String>();
        match said.and_then(|said| said.strip_prefix("failed printing to stdout: ")) {
            Some(cause) if cause.starts_with("Broken pipe") => std::process::exit(0),
            Some(cause) => {
                eprintln!("waypost: (standard output): {cause}");
                std::process::exit(1)
            }
            None => usual(panic),
        }
    }));
}

/// The log goes to standard error; `WAYPOST_LOG` filters it (`debug`, `waypost=trace`).
fn start_log() {
    let filter =
        tracing_subscriber::EnvFilter::try_from_env("WAYPOST_LOG").unwrap_or_else(|_| "warn,waypost=info".into());
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(colours)
        .with_writer(std::io::stderr)
        .init();
}

/// Runs async work of a command.
fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(|error| Error::Internal(format!("cannot start the async runtime: {error}")))?.block_on(work)
}

/// Prints a value as JSON for machines.
fn print_json(value: &impl serde::Serialize) {
    println!("{}", serde_json::to_string_pretty(value).expect("results serialise"));
}
