//! Generation: a quantised Llama-family GGUF by candle. Q4_1 weights are requantised once to Q8_0, which candle
//! multiplies faster, and kept in the cache.

use super::stop::StopScanner;
use crate::error::{Error, Result};
use crate::weights::Manifest;
use candle_core::quantized::tokenizer::TokenizerFromGguf;
use candle_core::quantized::{GgmlDType, QTensor, gguf_file};
use candle_core::{Device, Tensor};
use candle_transformers::generation::{LogitsProcessor, Sampling};
use candle_transformers::models::quantized_llama::ModelWeights;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use tokenizers::Tokenizer;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;

/// Context offered. The model's own is 8,192; at this length a prompt is still read in seconds on two cores.
const CONTEXT_TOKENS: usize = 2_048;

/// Prompt tokens read in one go; between two, generation looks whether somebody still listens.
const PREFILL_TOKENS: usize = 256;

/// Below this temperature the likeliest token is taken: dividing by less overflows.
const COLD: f64 = 1e-3;

/// The mark that ends a turn.
const END_OF_TURN: &str = "<|im_end|>";

/// A loaded model. Weights are shared; every generation has its own cache of keys and values.
pub struct Engine {
    model: ModelWeights,
    tokenizer: Tokenizer,
    end: Vec<u32>,
}

/// How to generate.
#[derive(Clone, Debug)]
pub struct Settings {
    pub max_tokens: usize,
    /// 0: always the likeliest token.
    pub temperature: f64,
    pub top_p: f64,
    /// The same seed gives the same answer.
    pub seed: Option<u64>,
    pub stop: Vec<String>,
}

/// A piece of an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Piece {
    Text(String),
    /// The end: why, and how many tokens were generated.
    End {
        reason: FinishReason,
        tokens: usize,
    },
    /// Generation failed.
    Failed(String),
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    Stop,
    Length,
}

impl Engine {
    /// Loads the model in `folder`.
    ///
    /// # Errors
    /// [`Error::Weights`] when a file is damaged or cannot be rewritten.
    pub fn load(folder: &Path, manifest: &Manifest) -> Result<Self> {
        let original =
            manifest.file.iter().find(|file| file.name.ends_with(".gguf")).map(|file| folder.join(&file.name));
        let original =
            original.ok_or_else(|| Error::Weights(format!("models/{}.toml names no .gguf file", manifest.name)))?;
        let path = requantised(&original).map_err(|error| {
            let needs = "making its Q8_0 form (145 MB, once) needs a readable file and a cache folder with room that can be written";
            Error::Weights(format!("{}: {error}; {needs}.", original.display()))
        })?;
        let read = || -> candle_core::Result<(ModelWeights, Tokenizer)> {
            let mut file = BufReader::new(File::open(&path)?);
            let content = gguf_file::Content::read(&mut file)?;
            let tokenizer = <Tokenizer as TokenizerFromGguf>::from_gguf(&content)?;
            Ok((ModelWeights::from_gguf(content, &mut file, &Device::Cpu)?, tokenizer))
        };
        let (model, mut tokenizer) = read().map_err(|error| broken(&path, error))?;
        // candle falls back to GPT-2's pre-tokenizer, which adds a space that SmolLM does not have.
        tokenizer.with_pre_tokenizer(Some(Sequence::new(vec![
            Digits::new(true).into(),
            ByteLevel::new(false, true, true).into(),
        ])));
        let end = [END_OF_TURN, "<|endoftext|>"].iter().filter_map(|mark| tokenizer.token_to_id(mark)).collect();
        Ok(Engine { model, tokenizer, end })
    }

    /// The longest prompt and answer together, in tokens.
    pub fn context_tokens(&self) -> usize {
        CONTEXT_TOKENS
    }

    /// A text's tokens.
    ///
    /// # Errors
    /// [`Error::Internal`] when the tokenizer fails.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self
            .tokenizer
            .encode(text, false)
            .map_err(|error| Error::Internal(format!("tokenizing failed: {error}")))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Generates until the end, telling `listener` each piece; stops as soon as it says that nobody listens.
    pub fn generate(&self, prompt: &[u32], settings: &Settings, mut listener: impl FnMut(Piece) -> bool) {
        if let Err(error) = self.run(prompt, settings, &mut listener) {
            tracing::error!(%error, "the local model failed");
            listener(Piece::Failed("see the server's log".into()));
        }
    }

    fn run(&self, prompt: &[u32], settings: &Settings, listener: &mut impl FnMut(Piece) -> bool) -> Result<()> {
        let mut model = self.model.clone();
        let mut sampler = sampler(settings);
        let mut decoder = self.tokenizer.decode_stream(true);
        let mut scanner = StopScanner::new(settings.stop.clone());
        let mut logits = None;
        for (index, chunk) in prompt.chunks(PREFILL_TOKENS).enumerate() {
            logits = Some(step(&mut model, chunk, index * PREFILL_TOKENS)?);
            if !listener(Piece::Text(String::new())) {
                return Ok(());
            }
        }
        let mut logits = logits.ok_or_else(|| Error::Internal("an empty prompt".into()))?;
        let mut tokens = 0;
        let reason = loop {
            if tokens == settings.max_tokens {
                break FinishReason::Length;
            }
            let token = sampler.sample(&logits)?;
            tokens += 1;
            if self.end.contains(&token) {
                break FinishReason::Stop;
            }
            let text = decoder.step(token).map_err(|error| Error::Internal(format!("detokenizing failed: {error}")))?;
            let (text, stopped) = scanner.push(&text.unwrap_or_default());
            if !listener(Piece::Text(text)) {
                return Ok(());
            }
            if stopped {
                scanner = StopScanner::new(Vec::new());
                break FinishReason::Stop;
            }
            logits = step(&mut model, &[token], prompt.len() + tokens - 1)?;
        };
        listener(Piece::Text(scanner.finish()));
        listener(Piece::End { reason, tokens });
        Ok(())
    }
}

/// One pass: the logits after the last of `tokens`, which stand at `position`.
fn step(model: &mut ModelWeights, tokens: &[u32], position: usize) -> Result<Tensor> {
    let input = Tensor::new(tokens, &Device::Cpu)?.unsqueeze(0)?;
    Ok(model.forward(&input, position)?.squeeze(0)?)
}

fn sampler(settings: &Settings) -> LogitsProcessor {
    let sampling = match settings.temperature {
        temperature if temperature < COLD || settings.top_p <= 0.0 => Sampling::ArgMax,
        temperature if settings.top_p >= 1.0 => Sampling::All { temperature },
        temperature => Sampling::TopP { p: settings.top_p, temperature },
    };
    LogitsProcessor::from_sampling(settings.seed.unwrap_or_else(rand::random), sampling)
}

/// The Q8_0 file beside the original, made when it is not there.
fn requantised(original: &Path) -> candle_core::Result<PathBuf> {
    let target = original.with_extension("q8_0.gguf");
    if target.exists() {
        return Ok(target);
    }
    let mut file = BufReader::new(File::open(original)?);
    let content = gguf_file::Content::read(&mut file)?;
    let mut names: Vec<&String> = content.tensor_infos.keys().collect();
    names.sort();
    let mut tensors = Vec::new();
    for name in names {
        let tensor = content.tensor(&mut file, name, &Device::Cpu)?;
        let is_matrix = tensor.shape().dims().len() == 2;
        let tensor =
            if is_matrix { QTensor::quantize(&tensor.dequantize(&Device::Cpu)?, GgmlDType::Q8_0)? } else { tensor };
        tensors.push((name.clone(), tensor));
    }
    let metadata: Vec<(&str, &gguf_file::Value)> =
        content.metadata.iter().map(|(key, value)| (key.as_str(), value)).collect();
    let tensors: Vec<(&str, &QTensor)> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    // Written beside, then renamed: an interrupted start leaves nothing half-written, and two starts do not collide.
    let folder = original.parent().unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644));
    let mut part = builder.tempfile_in(folder)?;
    gguf_file::write(part.as_file_mut(), &metadata, &tensors)?;
    part.persist(&target).map_err(|error| error.error)?;
    Ok(target)
}

fn broken(path: &Path, error: impl std::fmt::Display) -> Error {
    Error::Weights(format!("{}: {error}. Delete it and start again to fetch it anew.", path.display()))
}
