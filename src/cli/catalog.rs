//! `waypost catalog`: what models cost and can do; imported, updated, shown and compared; `price.rs` tells
//! what a request costs by it.

use super::price::Price;
use super::table::{right, table};
use super::{Global, block_on, lines};
use crate::catalog::import::{self, From};
use crate::catalog::{Catalog, Entry, Rates, Source, diff};
use crate::error::{Error, Result};
use crate::money::Money;
use clap::{Args, Subcommand};
use comfy_table::Table;
use jiff::Timestamp;
use serde_json::json;
use std::path::{Path, PathBuf};

#[derive(Args)]
pub struct CatalogCommand {
    #[command(subcommand)]
    command: What,
}

#[derive(Subcommand)]
enum What {
    /// Take over a catalogue: LiteLLM's table or package, that of models.dev, or a file of Waypost. It stands in place of the shipped one.
    Import(Import),
    /// Fetch the table that LiteLLM or models.dev publishes, and take it over.
    Update {
        /// Whose table.
        #[arg(long, value_enum, default_value = "litellm")]
        from: From,
        /// Where it is, when not at its usual address.
        #[arg(long, value_name = "URL")]
        url: Option<String>,
    },
    /// List providers, the models of one, or all that is known of one model.
    Show {
        /// A provider, or provider/model; all providers when absent.
        name: Option<String>,
        /// Print as JSON.
        #[arg(long)]
        json: bool,
    },
    /// What would change with a file: new and gone models, prices up and down.
    Diff {
        file: PathBuf,
        /// Whose table the file is, where it does not show.
        #[arg(long, value_enum)]
        from: Option<From>,
        /// Print as JSON.
        #[arg(long)]
        json: bool,
    },
    /// What a request costs.
    Price(Price),
}

#[derive(Args)]
struct Import {
    /// JSON files or packages (.whl). Of a provider in several, the first file's models stay.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Whose tables the files are, where it does not show.
    #[arg(long, value_enum)]
    from: Option<From>,
    /// Only these providers.
    #[arg(long, value_name = "PROVIDER,...", value_delimiter = ',')]
    only: Vec<String>,
    /// Leave out models that their providers have ended.
    #[arg(long)]
    current: bool,
    /// Leave out models that take shorter prompts.
    #[arg(long, value_name = "TOKENS", default_value_t = 0)]
    least_context: u64,
    /// Write it here instead of where it takes effect.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl CatalogCommand {
    pub fn run(self, global: &Global) -> Result<()> {
        match self.command {
            What::Import(import) => import.run(),
            What::Update { from, url } => update(global, from, url.as_deref().unwrap_or(from.address())),
            What::Show { name, json } => show(&*Catalog::current()?, name.as_deref(), json),
            What::Diff { file, from, json } => compare(&import::read(&file, from)?, json),
            What::Price(price) => price.run(),
        }
    }
}

impl Import {
    fn run(self) -> Result<()> {
        let today = Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date().to_string();
        let mut taken: Option<Catalog> = None;
        for file in &self.files {
            let read = import::read(file, self.from)?;
            let read = read.trimmed(&self.only, self.current.then_some(today.as_str()), self.least_context);
            taken = Some(taken.map_or_else(|| read.clone(), |before| before.with(read.clone())));
        }
        let catalog = taken.expect("clap wants at least one file");
        take_over(&catalog, self.output.as_deref())
    }
}

/// Writes a catalogue to where it takes effect, or to a named file, and says what it holds.
fn take_over(catalog: &Catalog, output: Option<&Path>) -> Result<()> {
    let file = output.map_or_else(Catalog::file, Path::to_path_buf);
    catalog.write(&file)?;
    let unknown = catalog.models.iter().filter(|entry| entry.prices.is_none()).count();
    println!(
        "{}: {} models of {} providers, {unknown} of unknown price",
        file.display(),
        catalog.models.len(),
        by_provider(catalog).len()
    );
    Ok(())
}

fn update(global: &Global, from: From, address: &str) -> Result<()> {
    if global.offline {
        return Err(Error::Catalog("--offline: nothing is fetched; `waypost catalog import FILE` takes a file".into()));
    }
    let bytes = block_on(crate::providers::download::download(address))?;
    let read = import::parse(&bytes, Some(from), "");
    let new = read.map_err(|problem| Error::Catalog(format!("{address}: {problem}")))?;
    let changes = diff::differences(&*Catalog::current()?, &new);
    take_over(&new, None)?;
    println!("{} models differ from before; `waypost catalog show` lists them all", changes.len());
    Ok(())
}

/// Providers with their models, in order.
fn by_provider(catalog: &Catalog) -> Vec<(&str, &[Entry])> {
    let groups = catalog.models.chunk_by(|a, b| a.provider == b.provider);
    groups.map(|models| (models[0].provider.as_str(), models)).collect()
}

fn show(catalog: &Catalog, name: Option<&str>, json: bool) -> Result<()> {
    let Some(name) = name else { return show_providers(catalog, json) };
    let provider = import::provider(name);
    let models: Vec<&Entry> = catalog.models.iter().filter(|entry| entry.provider == provider).collect();
    match (catalog.named(name), models.is_empty()) {
        (Some(entry), _) if json => lines::print_json(entry),
        (Some(entry), _) => lines::print(&one(entry)),
        (None, true) => Err(Error::Catalog(format!(
            "the catalogue has neither a provider nor a model `{name}`; `waypost catalog show` lists the providers"
        ))),
        (None, false) if json => lines::print_json(&models),
        (None, false) => lines::print(&listed(&models)),
    }
}

fn show_providers(catalog: &Catalog, json: bool) -> Result<()> {
    let providers = by_provider(catalog);
    if json {
        let count = |(provider, models): &(&str, &[Entry])| json!({"provider": provider, "models": models.len()});
        let providers = providers.iter().map(count).collect::<Vec<_>>();
        return lines::print_json(&json!({"sources": catalog.sources, "providers": providers}));
    }
    let mut table = table(&["provider", "models", "with a price", "cheapest input $", "dearest output $"]);
    for (provider, models) in providers {
        let rates: Vec<Rates> = models.iter().filter_map(|one| Some(one.prices.as_ref()?.standard.rates)).collect();
        table.add_row([
            provider.into(),
            models.len().to_string(),
            rates.len().to_string(),
            dollars(rates.iter().filter_map(|rates| rates.input).min()),
            dollars(rates.iter().filter_map(|rates| rates.output).max()),
        ]);
    }
    right(&mut table, &[1, 2, 3, 4]);
    lines::print(&table)?;
    for source in &catalog.sources {
        let Source { models, name, version, date, .. } = source;
        lines::print(&format!("{models} models from {name} {version}, read on {date}"))?;
    }
    Ok(())
}

fn listed(models: &[&Entry]) -> Table {
    let mut table = table(&["model", "context", "answer", "input $", "cached $", "output $", "can", "more"]);
    for entry in models {
        let rates = entry.prices.as_ref().map(|prices| prices.standard.rates).unwrap_or_default();
        table.add_row([
            entry.model.clone(),
            tokens(entry.context_tokens),
            tokens(entry.max_output_tokens),
            dollars(rates.input),
            dollars(rates.cached_input),
            dollars(rates.output),
            abilities(entry),
            exceptions(entry),
        ]);
    }
    right(&mut table, &[1, 2, 3, 4, 5]);
    table
}

/// All that is known of one model.
fn one(entry: &Entry) -> Table {
    let mut table = table(&[&entry.name(), ""]);
    table.add_row(["context tokens".into(), tokens(entry.context_tokens)]);
    table.add_row(["answer tokens".into(), tokens(entry.max_output_tokens)]);
    table.add_row(["can".into(), abilities(entry)]);
    if let Some(ends) = &entry.ends {
        table.add_row(["ends".into(), ends.clone()]);
    }
    let Some(prices) = &entry.prices else {
        table.add_row(["price", "not known"]);
        return table;
    };
    let mut rates = |title: &str, rates: &Rates| {
        let known =
            rates.kinds().into_iter().filter_map(|(kind, rate)| Some(format!("{kind} {}", dollars(Some(rate?)))));
        let known: Vec<String> = known.collect();
        if !known.is_empty() {
            table.add_row([title.to_string(), known.join(", ")]);
        }
    };
    let named =
        [("", &prices.standard), ("batch", &prices.batch), ("flex", &prices.flex), ("priority", &prices.priority)];
    for (name, table) in named {
        rates(&format!("{name} $ per million tokens"), &table.rates);
        for tier in &table.tiers {
            rates(&format!("{name} above {} prompt tokens", tier.above), &tier.rates);
        }
    }
    for (name, region) in &prices.regions {
        rates(&format!("in {name}, times {}", region.times as f64 / 1e6), &region.table.rates);
    }
    for period in &prices.periods {
        rates(&format!("at {}", serde_json::to_string(&period.when).unwrap_or_default()), &period.table.rates);
    }
    if prices.per_request > Money::ZERO {
        table.add_row(["$ per request".into(), prices.per_request.dollars().to_string()]);
    }
    table
}

fn abilities(entry: &Entry) -> String {
    let all = [
        (entry.vision, "images"),
        (entry.audio, "sound"),
        (entry.tools, "tools"),
        (entry.json_schema, "schema"),
        (entry.reasoning, "reasoning"),
    ];
    all.iter().filter(|(can, _)| *can).map(|(_, what)| *what).collect::<Vec<_>>().join(" ")
}

/// What of a price has more than one number.
fn exceptions(entry: &Entry) -> String {
    let Some(prices) = &entry.prices else { return "price not known".into() };
    let all = [
        (!prices.standard.tiers.is_empty(), "long prompts"),
        (prices.batch.rates != Rates::default(), "batch"),
        (!prices.regions.is_empty(), "regions"),
        (!prices.periods.is_empty(), "times"),
    ];
    all.iter().filter(|(has, _)| *has).map(|(_, what)| *what).collect::<Vec<_>>().join(", ")
}

fn compare(new: &Catalog, json: bool) -> Result<()> {
    let differences = diff::differences(&*Catalog::current()?, new);
    if json {
        return lines::print_json(&differences);
    }
    let mut table = table(&["model", "", "what", "from", "to", "%"]);
    let number = |value: Option<f64>| value.map_or("-".into(), |value| value.to_string());
    for one in &differences {
        let kind = format!("{:?}", one.kind).to_lowercase();
        if one.changes.is_empty() {
            table.add_row([one.model.clone(), kind.clone()]);
        }
        for change in &one.changes {
            let percent = change.percent.map_or(String::new(), |percent| format!("{percent:+.1}"));
            let (from, to) = (number(change.from), number(change.to));
            table.add_row([one.model.clone(), kind.clone(), change.key.into(), from, to, percent]);
        }
    }
    right(&mut table, &[3, 4, 5]);
    lines::print(&format!("{table}\n{} models differ", differences.len()))
}

/// Dollars per million tokens.
fn dollars(rate: Option<Money>) -> String {
    rate.map_or("-".into(), |rate| rate.dollars_per_mtok().to_string())
}

fn tokens(count: Option<u64>) -> String {
    count.map_or("-".into(), |count| count.to_string())
}
