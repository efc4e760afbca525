//! A BERT-family encoder: one text at a time, every layer's output shown on the way. Devlin et al., 2018,
//! <https://arxiv.org/abs/1810.04805>; post-layer normalisation, absolute positions.

use super::attention::{Attention, WIDEST_PANEL};
use super::level::Level;
use super::linear::{Linear, Precision, Rounded};
use super::product::{After, TILE_ROWS};
use std::ops::ControlFlow;

/// Rows that go through both layers of the feed-forward network before the next: their inner activations stay in the
/// second cache.
const CHUNK_ROWS: usize = 48;

/// What stands between the two layers of the feed-forward network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// GELU by the error function (`gelu` in config.json).
    Gelu,
    /// GELU approximated with tanh (`gelu_new`, `gelu_approximate`, `gelu_pytorch_tanh`).
    GeluTanh,
    Relu,
}

/// What config.json says of an encoder.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Architecture {
    /// Numbers of a token's state (`hidden_size`).
    pub width: usize,
    /// Attention heads (`num_attention_heads`).
    pub heads: usize,
    /// Width between the two layers of the feed-forward network (`intermediate_size`).
    pub inner: usize,
    /// Layers (`num_hidden_layers`).
    pub layers: usize,
    /// Added to variances (`layer_norm_eps`).
    pub epsilon: f32,
    /// `hidden_act`.
    pub activation: Activation,
}

/// Why an encoder cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("the kernels do not support {0}")]
    Unsupported(String),
    #[error("there is no tensor {0}")]
    Missing(String),
    #[error("tensor {name} is {received:?}, but expected {expected}")]
    Shape { name: String, received: Vec<usize>, expected: String },
    #[error("tensor {0} holds numbers that are not finite")]
    NotFinite(String),
}

/// Why a text cannot be encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InputError {
    #[error("no tokens")]
    Empty,
    #[error("{tokens} tokens, but at most {positions} positions")]
    TooLong { tokens: usize, positions: usize },
    #[error("token {id} is not among the {vocabulary} of the vocabulary")]
    UnknownToken { id: u32, vocabulary: usize },
}

/// A loaded encoder.
pub struct Model {
    level: Level,
    architecture: Architecture,
    words: Vec<f32>,
    positions: Vec<f32>,
    /// Of the first token type, which all tokens have.
    token_type: Vec<f32>,
    norm: Norm,
    layers: Vec<Layer>,
}

struct Norm {
    gain: Vec<f32>,
    shift: Vec<f32>,
    epsilon: f32,
}

struct Layer {
    /// Query, key and value side by side.
    projection: Linear,
    attended: Linear,
    attended_norm: Norm,
    inner: Linear,
    output: Linear,
    output_norm: Norm,
}

/// Buffers of a forward pass; a thread keeps its own. They grow to the longest text and stay.
#[derive(Default)]
pub struct Scratch {
    state: Vec<f32>,
    projected: Vec<f32>,
    attended: Vec<f32>,
    inner: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
    scores: Vec<f32>,
    rounded: Rounded,
}

impl Model {
    /// Loads an encoder whose tensors `tensor` yields by their names in the file, as shape and values.
    ///
    /// # Errors
    /// [`LoadError`]: a shape the kernels do not support, or a tensor that is missing, of another shape or not finite.
    ///
    /// # Panics
    /// When the CPU does not have the level.
    pub fn load(
        level: Level,
        precision: Precision,
        architecture: Architecture,
        tensor: impl Fn(&str) -> Option<(Vec<usize>, Vec<f32>)>,
    ) -> Result<Self, LoadError> {
        architecture.check()?;
        let source = Source { tensor: &tensor, level, precision, architecture };
        let width = architecture.width;
        let mut token_type = source.table("embeddings.token_type_embeddings.weight")?;
        token_type.truncate(width);
        Ok(Model {
            level,
            architecture,
            words: source.table("embeddings.word_embeddings.weight")?,
            positions: source.table("embeddings.position_embeddings.weight")?,
            token_type,
            norm: source.norm("embeddings.LayerNorm")?,
            layers: (0..architecture.layers)
                .map(|index| source.layer(&format!("encoder.layer.{index}")))
                .collect::<Result<_, _>>()?,
        })
    }

    /// What it was loaded as.
    pub fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// Tokens it knows: ids are smaller.
    pub fn vocabulary(&self) -> usize {
        self.words.len() / self.architecture.width
    }

    /// Most tokens of a text.
    pub fn positions(&self) -> usize {
        self.positions.len() / self.architecture.width
    }

    /// Encodes a text and shows `visit` its states `[tokens, width]` after the embedding (0) and after every layer up to
    /// `deepest` (1 and on), until it breaks. Allocates only where the scratch has not yet seen a text as long.
    ///
    /// # Errors
    /// [`InputError`]: no tokens, too many, or one that is not in the vocabulary.
    pub fn forward(
        &self,
        ids: &[u32],
        scratch: &mut Scratch,
        deepest: usize,
        mut visit: impl FnMut(usize, &[f32]) -> ControlFlow<()>,
    ) -> Result<(), InputError> {
        self.check(ids)?;
        scratch.grow(ids.len(), &self.architecture);
        let state = ids.len() * self.architecture.width;
        self.embed(ids, &mut scratch.state[..state]);
        let mut flow = visit(0, &scratch.state[..state]);
        for (index, layer) in self.layers.iter().enumerate().take(deepest) {
            if flow.is_break() {
                break;
            }
            self.attend(layer, ids.len(), scratch);
            self.feed_forward(layer, ids.len(), scratch);
            flow = visit(index + 1, &scratch.state[..state]);
        }
        Ok(())
    }

    fn check(&self, ids: &[u32]) -> Result<(), InputError> {
        let (tokens, positions, vocabulary) = (ids.len(), self.positions(), self.vocabulary());
        if tokens == 0 {
            return Err(InputError::Empty);
        }
        if tokens > positions {
            return Err(InputError::TooLong { tokens, positions });
        }
        match ids.iter().find(|id| **id as usize >= vocabulary) {
            Some(id) => Err(InputError::UnknownToken { id: *id, vocabulary }),
            None => Ok(()),
        }
    }

    fn embed(&self, ids: &[u32], state: &mut [f32]) {
        let width = self.architecture.width;
        let positions = self.positions.chunks_exact(width);
        for ((id, position), state) in ids.iter().zip(positions).zip(state.chunks_exact_mut(width)) {
            let word = &self.words[*id as usize * width..][..width];
            // SAFETY: the level is available, all rows are `width` long, a multiple of 32.
            unsafe { (self.level.kernels().add)([word, position, &self.token_type], state) };
        }
        self.normalise(&self.norm, state);
    }

    /// The state, attended to and normalised.
    fn attend(&self, layer: &Layer, tokens: usize, scratch: &mut Scratch) {
        let (width, heads) = (self.architecture.width, self.architecture.heads);
        let state = &mut scratch.state[..tokens * width];
        let projected = &mut scratch.projected[..tokens * 3 * width];
        let attended = &mut scratch.attended[..tokens * width];
        layer.projection.forward(state, projected, After::Store, &mut scratch.rounded);
        let attention = Attention {
            tokens,
            heads,
            projected,
            outputs: attended,
            keys: &mut scratch.keys,
            values: &mut scratch.values,
            scores: &mut scratch.scores,
        };
        // SAFETY: the level is available; `Scratch::grow` made the slices as long as `Attention` says for at least these
        // tokens, of which there is one; `Architecture::check` saw to the width of the heads.
        unsafe { (self.level.kernels().attend)(attention) };
        layer.attended.forward(attended, state, After::Add, &mut scratch.rounded);
        self.normalise(&layer.attended_norm, state);
    }

    fn feed_forward(&self, layer: &Layer, tokens: usize, scratch: &mut Scratch) {
        let Architecture { width, inner, activation, .. } = self.architecture;
        for state in scratch.state[..tokens * width].chunks_mut(CHUNK_ROWS * width) {
            let inner = &mut scratch.inner[..state.len() / width * inner];
            layer.inner.forward(state, inner, activation.after(), &mut scratch.rounded);
            layer.output.forward(inner, state, After::Add, &mut scratch.rounded);
            self.normalise(&layer.output_norm, state);
        }
    }

    fn normalise(&self, norm: &Norm, rows: &mut [f32]) {
        // SAFETY: the level is available; gain and shift are `width` long, a multiple of 32, and rows are whole.
        unsafe { (self.level.kernels().normalise)(rows, &norm.gain, &norm.shift, norm.epsilon) };
    }
}

impl Activation {
    fn after(self) -> After {
        match self {
            Activation::Gelu => After::Gelu,
            Activation::GeluTanh => After::GeluTanh,
            Activation::Relu => After::Relu,
        }
    }
}

impl Architecture {
    /// Whether the kernels can do it.
    ///
    /// # Errors
    /// [`LoadError::Unsupported`] naming what they cannot.
    pub fn check(&self) -> Result<(), LoadError> {
        let Architecture { width, heads, inner, epsilon, .. } = *self;
        let unsupported = |what: String| Err(LoadError::Unsupported(what));
        if !Linear::supports(width) || !Linear::supports(inner) {
            return unsupported(format!(
                "widths {width} and {inner}: want multiples of 32 up to {}",
                Linear::MOST_INPUTS
            ));
        }
        if heads == 0 || !width.is_multiple_of(heads * WIDEST_PANEL) {
            return unsupported(format!(
                "{heads} heads over a width of {width}: want heads of a multiple of {WIDEST_PANEL}"
            ));
        }
        if !(epsilon.is_finite() && epsilon >= 0.0) {
            return unsupported(format!("an epsilon of {epsilon}"));
        }
        Ok(())
    }
}

impl Scratch {
    fn grow(&mut self, tokens: usize, architecture: &Architecture) {
        let Architecture { width, heads, inner, .. } = *architecture;
        let padded = Attention::padded(tokens);
        let grow = |buffer: &mut Vec<f32>, length: usize| buffer.resize(buffer.len().max(length), 0.0);
        grow(&mut self.state, tokens * width);
        grow(&mut self.projected, tokens * 3 * width);
        grow(&mut self.attended, tokens * width);
        grow(&mut self.inner, tokens.min(CHUNK_ROWS) * inner);
        grow(&mut self.keys, padded * width / heads);
        grow(&mut self.values, padded * width / heads);
        grow(&mut self.scores, padded * TILE_ROWS);
    }
}

/// Where tensors come from, and what is made of them.
struct Source<'a> {
    tensor: &'a dyn Fn(&str) -> Option<(Vec<usize>, Vec<f32>)>,
    level: Level,
    precision: Precision,
    architecture: Architecture,
}

impl Source<'_> {
    /// A tensor of rows of some width; its name may stand below `bert.`, as some files have it.
    fn table(&self, name: &str) -> Result<Vec<f32>, LoadError> {
        let width = self.architecture.width;
        let (shape, values) = self.find(name)?;
        if shape.len() != 2 || shape[1] != width || shape[0] == 0 {
            let expected = format!("[some, {width}]");
            return Err(LoadError::Shape { name: name.to_owned(), received: shape, expected });
        }
        Ok(values)
    }

    fn exact(&self, name: &str, expected: &[usize]) -> Result<Vec<f32>, LoadError> {
        let (shape, values) = self.find(name)?;
        if shape != expected {
            let expected = format!("{expected:?}");
            return Err(LoadError::Shape { name: name.to_owned(), received: shape, expected });
        }
        Ok(values)
    }

    fn find(&self, name: &str) -> Result<(Vec<usize>, Vec<f32>), LoadError> {
        let (shape, values) = (self.tensor)(name)
            .or_else(|| (self.tensor)(&format!("bert.{name}")))
            .ok_or_else(|| LoadError::Missing(name.to_owned()))?;
        if shape.iter().product::<usize>() != values.len() {
            let expected = format!("of {} values", values.len());
            return Err(LoadError::Shape { name: name.to_owned(), received: shape, expected });
        }
        if !values.iter().all(|value| value.is_finite()) {
            return Err(LoadError::NotFinite(name.to_owned()));
        }
        Ok((shape, values))
    }

    fn norm(&self, name: &str) -> Result<Norm, LoadError> {
        let width = self.architecture.width;
        Ok(Norm {
            gain: self.exact(&format!("{name}.weight"), &[width])?,
            shift: self.exact(&format!("{name}.bias"), &[width])?,
            epsilon: self.architecture.epsilon,
        })
    }

    /// Layers of the same inputs as one, their outputs side by side.
    fn linear(&self, names: &[String], inputs: usize, outputs: usize) -> Result<Linear, LoadError> {
        let (mut weights, mut bias) = (Vec::new(), Vec::new());
        for name in names {
            weights.extend(self.exact(&format!("{name}.weight"), &[outputs, inputs])?);
            bias.extend(self.exact(&format!("{name}.bias"), &[outputs])?);
        }
        Ok(Linear::new(self.level, self.precision, &weights, &bias, inputs))
    }

    fn layer(&self, name: &str) -> Result<Layer, LoadError> {
        let Architecture { width, inner, .. } = self.architecture;
        let below = |part: &str| format!("{name}.{part}");
        let projections = ["query", "key", "value"].map(|part| below(&format!("attention.self.{part}")));
        Ok(Layer {
            projection: self.linear(&projections, width, width)?,
            attended: self.linear(&[below("attention.output.dense")], width, width)?,
            attended_norm: self.norm(&below("attention.output.LayerNorm"))?,
            inner: self.linear(&[below("intermediate.dense")], width, inner)?,
            output: self.linear(&[below("output.dense")], inner, width)?,
            output_norm: self.norm(&below("output.LayerNorm"))?,
        })
    }
}
