//! A BERT-family encoder: `tokens/`, the forward pass (`kernels/`, or `bert.rs` on candle's own operations where the
//! kernels do not support a model's shape), pooling into the views of `views.rs`.

use super::bert::Bert;
use super::tokens::{Tokenizer, Tokens};
use super::views::{Part, VIEWS};
use super::{Embedding, Views, sentences};
use crate::error::{Error, Result};
use crate::kernels::{Activation, Architecture, Level, LoadError, Model, Precision, Scratch};
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::bert::{Config, HiddenAct};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::ops::{ControlFlow, Range};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How token vectors become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Pooling {
    /// The mean over the tokens of the text.
    Mean,
    /// The first token's vector.
    Cls,
}

impl Pooling {
    /// Reads `mean` or `cls`.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "mean" => Some(Pooling::Mean),
            "cls" => Some(Pooling::Cls),
            _ => None,
        }
    }
}

/// An encoder's files and how it is used.
#[derive(Clone, Debug)]
pub struct EncoderSpec {
    /// Its name, recorded in every routing model trained on it.
    pub name: String,
    /// The folder with config.json, tokenizer.json and model.safetensors.
    pub folder: PathBuf,
    pub pooling: Pooling,
    /// Text put before every prompt.
    pub prefix: String,
    /// At most so many tokens enter the encoder.
    pub max_tokens: usize,
    /// Of the weights in the fast kernels.
    pub precision: Precision,
    /// Whether vectors must come out alike to the bit on every machine with AVX2, and on every one with NEON, as training wants it.
    pub reproducible: bool,
}

/// A loaded encoder. One forward pass at a time a thread; share it behind an `Arc`.
pub struct Encoder {
    spec: EncoderSpec,
    tokenizer: Tokenizer,
    engine: Engine,
}

/// What runs the forward pass.
enum Engine {
    Kernels(Box<Model>),
    Candle(Bert),
}

thread_local! {
    /// Buffers of the forward pass: each encoder thread keeps its own.
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Is shown a layer's number and its states; says whether the layers above are wanted.
type Visit<'a> = dyn FnMut(usize, &[f32]) -> Result<ControlFlow<()>> + 'a;

/// How long the two halves of an embedding took, and for how many tokens.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spent {
    pub tokens: usize,
    pub tokenize: Duration,
    pub encode: Duration,
}

impl Encoder {
    /// Loads an encoder.
    ///
    /// # Errors
    /// [`Error::Weights`] naming the file that is missing, damaged or of another architecture.
    pub fn load(spec: EncoderSpec) -> Result<Self> {
        Self::load_on(spec, Engine::load)
    }

    /// Loads an encoder to run on candle's own operations, in f32: what the kernels are measured against.
    ///
    /// # Errors
    /// As [`Encoder::load`].
    pub fn load_on_candle(spec: EncoderSpec) -> Result<Self> {
        Self::load_on(spec, |weights, config, _| Engine::on_candle(weights, config))
    }

    fn load_on(
        spec: EncoderSpec,
        engine: impl Fn(Vec<u8>, &Config, &EncoderSpec) -> std::result::Result<Engine, String>,
    ) -> Result<Self> {
        let broken = |file: &str, error: &dyn std::fmt::Display| {
            let path = spec.folder.join(file);
            Error::Weights(format!("{}: {error}. Try `waypost models pull {}`.", path.display(), spec.name))
        };
        let config =
            std::fs::read_to_string(spec.folder.join("config.json")).map_err(|error| broken("config.json", &error))?;
        let config: Config = serde_json::from_str(&config)
            .map_err(|error| broken("config.json", &format!("not a BERT configuration: {error}")))?;
        let tokenizer = Tokenizer::load(&spec.folder).map_err(|error| broken("tokenizer.json", &error))?;
        let weights = std::fs::read(spec.folder.join("model.safetensors"))
            .map_err(|error| broken("model.safetensors", &error))?;
        let engine = engine(weights, &config, &spec).map_err(|problem| broken("model.safetensors", &problem))?;
        let max_tokens = spec.max_tokens.clamp(8, config.max_position_embeddings);
        Ok(Encoder { spec: EncoderSpec { max_tokens, ..spec }, tokenizer, engine })
    }

    /// What it is and how it is used, as recorded in routing models.
    pub fn spec(&self) -> &EncoderSpec {
        &self.spec
    }

    /// Embeds a text that has been cut to its window.
    ///
    /// # Errors
    /// [`Error::Internal`] when the encoder yields no usable vector.
    pub fn embed(&self, text: &str) -> Result<(Views, Spent)> {
        let (views, spent) = self.embed_until(text, &mut |_| false)?;
        Ok((Views::new(views), spent))
    }

    /// As [`Encoder::embed`], but after each layer that gives views `leave` is shown all there are so far, in the order
    /// of [`VIEWS`]; the layers above do not run where it says so.
    ///
    /// # Errors
    /// As [`Encoder::embed`].
    pub fn embed_until(
        &self,
        text: &str,
        leave: &mut dyn FnMut(&[Embedding]) -> bool,
    ) -> Result<(Vec<Embedding>, Spent)> {
        let start = Instant::now();
        let prefixed = format!("{}{text}", self.spec.prefix);
        let mut tokens = self.tokenizer.encode(&prefixed)?;
        tokens.keep_ends(self.spec.max_tokens);
        let tokenize = start.elapsed();
        let views = self.views(&tokens, &prefixed, leave)?;
        Ok((views, Spent { tokens: tokens.ids.len(), tokenize, encode: start.elapsed() - tokenize }))
    }

    /// The views of the tokens of a text. A sentence whose tokens were cut away falls back to the whole.
    fn views(
        &self,
        tokens: &Tokens,
        text: &str,
        leave: &mut dyn FnMut(&[Embedding]) -> bool,
    ) -> Result<Vec<Embedding>> {
        let (first, last) = sentences::ends(text);
        let inside = |range: &Range<usize>, position: usize| {
            let (start, end) = tokens.offsets[position];
            end > start && start >= range.start && end <= range.end
        };
        let mut views: Vec<Embedding> = Vec::with_capacity(VIEWS.len());
        let depth = self.engine.depth();
        self.engine.forward(&tokens.ids, &mut |layer, state| {
            let (width, before) = (state.len() / tokens.ids.len(), views.len());
            for (_, part) in VIEWS[before..].iter().take_while(|(at, _)| at.layer(depth) == layer) {
                let pooled = match part {
                    Part::Whole if layer == depth && self.spec.pooling == Pooling::Cls => Some(state[..width].to_vec()),
                    Part::Whole => None,
                    Part::First => mean(state, width, |position| inside(&first, position)),
                    Part::Last => mean(state, width, |position| inside(&last, position)),
                };
                let pooled = pooled.or_else(|| mean(state, width, |_| true)).unwrap_or_default();
                views.push(Embedding::new(pooled)?);
            }
            let left = views.len() > before && layer < depth && leave(&views);
            Ok(if left { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        Ok(views)
    }
}

impl Engine {
    /// The kernels where they support the model, candle's operations otherwise; or what is wrong with the weights.
    fn load(weights: Vec<u8>, config: &Config, spec: &EncoderSpec) -> std::result::Result<Self, String> {
        let architecture = Architecture {
            width: config.hidden_size,
            heads: config.num_attention_heads,
            inner: config.intermediate_size,
            layers: config.num_hidden_layers,
            epsilon: config.layer_norm_eps as f32,
            activation: match config.hidden_act {
                HiddenAct::Gelu => Activation::Gelu,
                HiddenAct::GeluApproximate => Activation::GeluTanh,
                HiddenAct::Relu => Activation::Relu,
            },
        };
        let tensors =
            candle_core::safetensors::load_buffer(&weights, &Device::Cpu).map_err(|error| error.to_string())?;
        let tensor = |name: &str| {
            let tensor = tensors.get(name)?.to_dtype(DType::F32).ok()?;
            Some((tensor.dims().to_vec(), tensor.flatten_all().ok()?.to_vec1().ok()?))
        };
        let level = if spec.reproducible { Level::detect().min(Level::Avx2) } else { Level::detect() };
        match Model::load(level, spec.precision, architecture, tensor) {
            Ok(model) => Ok(Engine::Kernels(Box::new(model))),
            Err(LoadError::Unsupported(what)) => {
                tracing::info!(what, "the fast kernels do not support this encoder: candle runs it");
                Self::on_candle(weights, config)
            }
            Err(error) => Err(error.to_string()),
        }
    }

    fn on_candle(weights: Vec<u8>, config: &Config) -> std::result::Result<Self, String> {
        VarBuilder::from_buffered_safetensors(weights, DType::F32, &Device::Cpu)
            .and_then(|weights| Bert::load(weights, config))
            .map(Engine::Candle)
            .map_err(|error| error.to_string())
    }

    /// Number of layers after the embedding.
    fn depth(&self) -> usize {
        match self {
            Engine::Kernels(model) => model.architecture().layers,
            Engine::Candle(model) => model.depth(),
        }
    }

    /// Shows `visit` the states `[tokens, width]` after the embedding (0) and after every layer, until it breaks off.
    fn forward(&self, ids: &[u32], visit: &mut Visit<'_>) -> Result<()> {
        match self {
            Engine::Kernels(model) => {
                let mut seen = Ok(());
                let run = |scratch: &RefCell<Scratch>| {
                    model.forward(ids, &mut scratch.borrow_mut(), model.architecture().layers, |layer, state| {
                        visit(layer, state).unwrap_or_else(|error| {
                            seen = Err(error);
                            ControlFlow::Break(())
                        })
                    })
                };
                SCRATCH.with(run).map_err(|error| Error::Internal(format!("encoding failed: {error}")))?;
                seen
            }
            Engine::Candle(model) => {
                let states = model.forward(&Tensor::new(ids, &Device::Cpu)?, model.depth())?;
                for (layer, state) in states.iter().enumerate() {
                    if visit(layer, &state.flatten_all()?.to_vec1::<f32>()?)?.is_break() {
                        break;
                    }
                }
                Ok(())
            }
        }
    }
}

/// The mean of some of the rows of `state`; `None` when there is none.
fn mean(state: &[f32], width: usize, include: impl Fn(usize) -> bool) -> Option<Vec<f32>> {
    let mut sum: Option<Vec<f32>> = None;
    for (_, row) in state.chunks_exact(width).enumerate().filter(|(position, _)| include(*position)) {
        match &mut sum {
            None => sum = Some(row.to_vec()),
            Some(sum) => sum.iter_mut().zip(row).for_each(|(total, x)| *total += x),
        }
    }
    sum
}
