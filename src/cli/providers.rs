//! `waypost providers`: those that are known by name, and what their endpoints take differently.

use super::{Global, print_json};
use crate::config::{DialectKind, MaxTokens, PRESETS, Preset};
use crate::error::Result;
use clap::Args;
use serde::Serialize;

#[derive(Args)]
pub struct Providers {
    /// Print as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Row {
    /// What `kind` of a `[[provider]]` takes.
    kind: &'static str,
    dialect: &'static str,
    base_url: &'static str,
    /// Variables that may hold its key.
    keys: &'static [&'static str],
    /// The name that it wants the answer's limit to have; none: as the client wrote it.
    max_tokens: Option<&'static str>,
    /// Whether it takes `stream_options`.
    stream_usage: bool,
    drop: &'static [&'static str],
}

impl Providers {
    pub fn run(self, _: &Global) -> Result<()> {
        let rows: Vec<Row> = PRESETS.iter().map(row).collect();
        match self.json {
            true => print_json(&rows),
            false => println!("{}", table(&rows)),
        }
        Ok(())
    }
}

fn row(preset: &Preset) -> Row {
    Row {
        kind: preset.name,
        dialect: match preset.dialect {
            DialectKind::OpenAi => "openai",
            DialectKind::Azure => "azure",
            DialectKind::Anthropic => "anthropic",
            DialectKind::Gemini => "gemini",
            DialectKind::Bedrock => "bedrock",
            DialectKind::Cohere => "cohere",
        },
        base_url: preset.base_url,
        keys: preset.keys,
        max_tokens: preset.max_tokens.map(|name| match name {
            MaxTokens::Older => "max_tokens",
            MaxTokens::Newer => "max_completion_tokens",
        }),
        stream_usage: preset.stream_usage,
        drop: preset.drop,
    }
}

fn table(rows: &[Row]) -> comfy_table::Table {
    let mut table = super::table::table(&["kind", "dialect", "base_url", "key", "differs in"]);
    for row in rows {
        let usage = (!row.stream_usage).then_some("no stream_options");
        let drop = (!row.drop.is_empty()).then(|| format!("without {}", row.drop.join(", ")));
        let differs = row.max_tokens.into_iter().chain(usage).map(String::from).chain(drop);
        table.add_row([
            row.kind.to_string(),
            row.dialect.into(),
            row.base_url.into(),
            row.keys.join(" or "),
            differs.collect::<Vec<_>>().join("; "),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_is_listed_with_what_it_takes_differently() {
        let rows: Vec<Row> = PRESETS.iter().map(row).collect();
        let told = table(&rows).to_string();
        assert!(PRESETS.iter().all(|preset| told.contains(preset.name)));
        let mistral = serde_json::to_value(rows.iter().find(|row| row.kind == "mistral")).unwrap();
        assert_eq!((&mistral["max_tokens"], &mistral["stream_usage"]), (&"max_tokens".into(), &false.into()));
    }
}
