//! `waypost embed`: embeddings of many texts, JSON lines in and out, each answered before the next is read. For
//! measuring the encoder (training/bench/compare.py) and for whoever wants its vectors.

use super::Global;
use super::lines::{self, Output};
use crate::embedder::{Encoder, Precision, clip};
use crate::error::{Error, Result};
use clap::Args;
use serde::Deserialize;
use serde_json::{Value, json};
use std::io::{BufRead, Write};
use std::path::PathBuf;

#[derive(Args)]
pub struct Embed {
    /// Texts, a JSON object a line: {"id"?, "prompt"}; `-` reads standard input.
    #[arg(long, value_name = "FILE", default_value = "-")]
    input: PathBuf,
    /// Embeddings, a JSON object a line: {"id", "tokens", "micros", "embedding"}; `-` writes to standard output.
    #[arg(long, value_name = "FILE", default_value = "-")]
    output: PathBuf,
    /// Of the encoder's weights: `f32`, `bf16` or `int8`; that of the configuration when absent.
    #[arg(long, value_name = "PRECISION", value_parser = Precision::parse)]
    precision: Option<Precision>,
    /// Run candle's own operations in place of the kernels.
    #[arg(long)]
    candle: bool,
}

#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    id: Value,
    prompt: String,
}

impl Embed {
    pub fn run(self, global: &Global) -> Result<()> {
        let mut settings = global.load()?.embedder;
        settings.precision = self.precision.unwrap_or(settings.precision);
        let window_chars = settings.window_chars;
        let spec = crate::start::encoder_spec(&settings, &global.cache()?)?;
        let encoder = if self.candle { Encoder::load_on_candle(spec)? } else { Encoder::load(spec)? };
        let input = lines::input(&self.input)?;
        let (file, mut output) = Output::open(&self.output)?;
        for (number, line) in (1..).zip(input.lines()) {
            let line = line.map_err(Error::io(&self.input))?;
            if line.trim().is_empty() {
                continue;
            }
            let Line { id, prompt } = serde_json::from_str(&line)
                .map_err(|error| Error::Model(format!("{} line {number}: {error}", self.input.display())))?;
            let (views, spent) = encoder.embed(&clip(&prompt, window_chars))?;
            let answer = json!({
                "id": id,
                "tokens": spent.tokens,
                "micros": (spent.tokenize + spent.encode).as_secs_f64() * 1e6,
                "embedding": views.whole().as_slice(),
            });
            // One write a line: who asks line by line is answered at once.
            output.write_all(format!("{answer}\n").as_bytes()).map_err(Error::io(&self.output))?;
            output.flush().map_err(Error::io(&self.output))?;
        }
        file.finish()
    }
}
