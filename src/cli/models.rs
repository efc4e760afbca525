//! `waypost models`: the weights of encoders and local models (`list`, `pull`, `verify`), and the versions of a
//! trained routing model (`versions`, `rollback`).

use super::{Global, print_json};
use crate::error::{Error, Result};
use crate::kernels::Level;
use crate::training::versions::Versions;
use crate::weights::{Kind, Manifest, State};
use clap::{Args, Subcommand};
use serde::Serialize;
use std::path::PathBuf;

#[derive(Args)]
pub struct Models {
    #[command(subcommand)]
    command: ModelsCommand,
}

#[derive(Subcommand)]
enum ModelsCommand {
    /// All models with a manifest, and whether their files are in the cache.
    List {
        /// Print as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Fetch a model's files: a name from the list, or `owner/name` of a BERT-family encoder on the hub. Without a name: those needed to serve.
    Pull { name: Option<String> },
    /// Hash the files in the cache; fails when one is missing or damaged. Without a name: all that are there.
    Verify {
        name: Option<String>,
        /// Print as JSON.
        #[arg(long)]
        json: bool,
    },
    /// The trained versions of a routing model, those that served first.
    Versions {
        /// The routing model's name.
        #[arg(default_value = "default")]
        name: String,
        /// Folder of routing models.
        #[arg(long, value_name = "DIR", default_value = "models")]
        out: PathBuf,
        /// Print as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Let the version before the current one serve again.
    Rollback {
        /// The routing model's name.
        name: String,
        /// Folder of routing models.
        #[arg(long, value_name = "DIR", default_value = "models")]
        out: PathBuf,
    },
}

#[derive(Serialize)]
struct Row {
    name: String,
    kind: Kind,
    licence: String,
    repository: String,
    package: Option<String>,
    folder: String,
    /// The vector instructions that an encoder runs with on this machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    instructions: Option<&'static str>,
    #[serde(flatten)]
    state: State,
}

impl Models {
    pub fn run(self, global: &Global) -> Result<()> {
        match self.command {
            ModelsCommand::List { json } => show(&rows(global, &Manifest::shipped())?, json),
            ModelsCommand::Pull { name } => pull(global, name),
            ModelsCommand::Verify { name, json } => verify(global, name, json),
            ModelsCommand::Versions { name, out, json } => versions(&Versions::at(out.join(name)), json),
            ModelsCommand::Rollback { name, out } => {
                println!("{name}: {} serves again", Versions::at(out.join(&name)).rollback()?);
                Ok(())
            }
        }
    }
}

fn rows(global: &Global, manifests: &[Manifest]) -> Result<Vec<Row>> {
    let cache = global.cache()?;
    let row = |manifest: &Manifest| {
        Ok(Row {
            state: cache.verify(manifest)?,
            folder: cache.folder(manifest).display().to_string(),
            instructions: (manifest.kind == Kind::Encoder).then(|| Level::detect().name()),
            name: manifest.name.clone(),
            kind: manifest.kind,
            licence: manifest.licence.clone(),
            repository: manifest.repository.clone(),
            package: manifest.package.clone(),
        })
    };
    manifests.iter().map(row).collect()
}

fn show(rows: &[Row], json: bool) -> Result<()> {
    if json {
        print_json(&rows);
        return Ok(());
    }
    let mut table = super::table::table(&["name", "kind", "state", "licence", "hub repository", "package"]);
    for row in rows {
        let state = match &row.state {
            State::Ready => "ready".into(),
            State::Missing { files } => format!("missing {}", files.join(", ")),
            State::Damaged { files } => format!("DAMAGED {}", files.join(", ")),
        };
        let kind = format!("{:?}", row.kind).to_lowercase();
        table.add_row([
            row.name.clone(),
            kind,
            state,
            row.licence.clone(),
            row.repository.clone(),
            row.package.clone().unwrap_or_else(|| "-".into()),
        ]);
    }
    println!("{table}\nencoders run with the CPU's {} instructions", Level::detect().name());
    Ok(())
}

fn versions(versions: &Versions, json: bool) -> Result<()> {
    let listed = versions.list()?;
    if json {
        print_json(&listed);
        return Ok(());
    }
    for one in listed {
        let served = match one.served {
            Some(0) => "serves".into(),
            Some(place) => format!("served {place} before"),
            None => "never served".into(),
        };
        println!("{} {served}", one.version);
    }
    Ok(())
}

fn pull(global: &Global, name: Option<String>) -> Result<()> {
    let config = global.load()?;
    let local = config.providers.iter().filter_map(|provider| match &provider.kind {
        crate::config::ProviderKind::Local(local) => Some(local.model.clone()),
        crate::config::ProviderKind::Http(_) => None,
    });
    let names =
        name.map_or_else(|| std::iter::once(config.embedder.model.clone()).chain(local).collect(), |name| vec![name]);
    let cache = global.cache()?;
    for name in names {
        let folder = cache.ensure(&Manifest::named(&name, config.embedder.revision.as_deref())?)?;
        println!("{name}: {}", folder.display());
    }
    Ok(())
}

fn verify(global: &Global, name: Option<String>, json: bool) -> Result<()> {
    let all = match &name {
        Some(name) => vec![Manifest::named(name, None)?],
        None => Manifest::shipped(),
    };
    let mut rows = rows(global, &all)?;
    if name.is_none() {
        rows.retain(|row| std::path::Path::new(&row.folder).exists());
    }
    show(&rows, json)?;
    let bad: Vec<&str> = rows.iter().filter(|row| row.state != State::Ready).map(|row| row.name.as_str()).collect();
    if bad.is_empty() {
        return Ok(());
    }
    Err(Error::Weights(format!(
        "not as they should be: {}. Delete a damaged file, then `waypost models pull NAME`.",
        bad.join(", ")
    )))
}
