//! A BERT-family encoder: one text at a time, every layer's output shown on the way. Devlin et al., 2018,
//! <https://arxiv.org/abs/1810.04805>; post-layer normalisation, absolute positions.

use super::attention::Attention;
use super::level::Level;
use super::linear::{Linear, Precision, Rounded};
use super::load::{Architecture, LoadError, Source, Tensor};
use super::pack::{halve, widen};
use super::product::{After, TILE_ROWS};
use std::ops::ControlFlow;

/// Most rows that go through both layers of the feed-forward network before the next: their inner activations stay in the
/// second cache.
const CHUNK_ROWS: usize = 48;

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
    pub(super) level: Level,
    pub(super) precision: Precision,
    pub(super) architecture: Architecture,
    pub(super) words: Words,
    pub(super) positions: Vec<f32>,
    /// Of the first token type, which all tokens have.
    pub(super) token_type: Vec<f32>,
    pub(super) norm: Norm,
    pub(super) layers: Vec<Layer>,
}

/// A row a token of the vocabulary: most of what an encoder takes in memory.
pub(super) enum Words {
    Exact(Vec<f32>),
    /// As bfloat16, where the weights are rounded more than that.
    Halved(Vec<u16>),
}

impl Words {
    pub fn halved(self) -> Self {
        let Words::Exact(words) = self else { return self };
        let mut halves = vec![0; words.len()];
        halve(&words, &mut halves);
        Words::Halved(halves)
    }

    fn len(&self) -> usize {
        match self {
            Words::Exact(words) => words.len(),
            Words::Halved(halves) => halves.len(),
        }
    }

    /// Puts a token's row into `row`.
    fn read(&self, id: u32, row: &mut [f32]) {
        let start = id as usize * row.len();
        match self {
            Words::Exact(words) => row.copy_from_slice(&words[start..][..row.len()]),
            Words::Halved(halves) => row.iter_mut().zip(&halves[start..]).for_each(|(x, half)| *x = widen(*half)),
        }
    }
}

pub(super) struct Norm {
    pub gain: Vec<f32>,
    pub shift: Vec<f32>,
    pub epsilon: f32,
}

pub(super) struct Layer {
    /// Query, key and value side by side.
    pub projection: Linear,
    pub attended: Linear,
    pub attended_norm: Norm,
    pub inner: Linear,
    pub output: Linear,
    pub output_norm: Norm,
}

/// The linear layers of a layer.
#[derive(Clone, Copy)]
pub(super) enum Part {
    Projection,
    Attended,
    Inner,
    Output,
}

/// Largest magnitudes of the inputs: of every layer, of each [`Part`].
pub(super) struct Ranges(pub Vec<[Vec<f32>; 4]>);

impl Ranges {
    pub fn unknown(architecture: &Architecture) -> Self {
        let Architecture { width, inner, layers, .. } = *architecture;
        Ranges(vec![[width, width, width, inner].map(|inputs| vec![0.0; inputs]); layers])
    }
}

/// Buffers of a forward pass; a thread keeps its own. They grow to the longest text and stay.
#[derive(Default)]
pub struct Scratch {
    word: Vec<f32>,
    state: Vec<f32>,
    projected: Vec<f32>,
    attended: Vec<f32>,
    inner: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
    scores: Vec<f32>,
    halves: Vec<u32>,
    rounded: Rounded,
}

impl Model {
    /// Loads an encoder whose tensors `tensor` yields by their names in the file; it is asked twice for some.
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
        tensor: impl Fn(&str) -> Option<Tensor>,
    ) -> Result<Self, LoadError> {
        architecture.check()?;
        let source = Source { tensor: &tensor, level, architecture };
        let model = match precision {
            Precision::F32 => return source.model(precision),
            Precision::Bf16 => source.model(precision)?,
            Precision::Int8 => {
                let exact = source.model(Precision::F32)?;
                Model { precision, layers: source.layers(precision, &exact.ranges())?, ..exact }
            }
        };
        Ok(Model { words: model.words.halved(), ..model })
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
        self.embed(ids, &mut scratch.word, &mut scratch.state[..state]);
        let mut flow = visit(0, &scratch.state[..state]);
        for (index, layer) in self.layers.iter().enumerate().take(deepest) {
            if flow.is_break() {
                break;
            }
            self.layer(layer, ids.len(), scratch, &mut |_, _| {});
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

    fn embed(&self, ids: &[u32], word: &mut [f32], state: &mut [f32]) {
        let width = self.architecture.width;
        let word = &mut word[..width];
        let positions = self.positions.chunks_exact(width);
        for ((id, position), state) in ids.iter().zip(positions).zip(state.chunks_exact_mut(width)) {
            self.words.read(*id, word);
            // SAFETY: the level is available, all rows are `width` long, a multiple of 32.
            unsafe { (self.level.kernels().add)([&*word, position, &self.token_type], state) };
        }
        self.normalise(&self.norm, state);
    }

    /// The inputs' ranges on texts of words drawn at random: which inputs are large hangs on the model more than on the text.
    fn ranges(&self) -> Ranges {
        const TEXTS: usize = 8;
        const TOKENS: usize = 64;
        let mut ranges = Ranges::unknown(&self.architecture);
        let mut scratch = Scratch::default();
        let (vocabulary, tokens) = (self.vocabulary(), TOKENS.min(self.positions()));
        for text in 0..TEXTS {
            // A step of the golden section goes round the vocabulary as evenly as can be.
            let id =
                |place: usize| ((text * tokens + place) as f64 * 0.618_033_988_749_895).fract() * vocabulary as f64;
            let ids: Vec<u32> = (0..tokens).map(|place| id(place) as u32).collect();
            scratch.grow(tokens, &self.architecture);
            self.embed(&ids, &mut scratch.word, &mut scratch.state[..tokens * self.architecture.width]);
            for (layer, ranges) in self.layers.iter().zip(&mut ranges.0) {
                self.layer(layer, tokens, &mut scratch, &mut |part, inputs| {
                    let ranges = &mut ranges[part as usize];
                    for row in inputs.chunks_exact(ranges.len()) {
                        ranges.iter_mut().zip(row).for_each(|(range, input)| *range = range.max(input.abs()));
                    }
                });
            }
        }
        ranges
    }

    /// Shows `observe` the inputs of every linear layer.
    fn layer(&self, layer: &Layer, tokens: usize, scratch: &mut Scratch, observe: &mut impl FnMut(Part, &[f32])) {
        self.attend(layer, tokens, scratch, observe);
        self.feed_forward(layer, tokens, scratch, observe);
    }

    /// The state, attended to and normalised.
    fn attend(&self, layer: &Layer, tokens: usize, scratch: &mut Scratch, observe: &mut impl FnMut(Part, &[f32])) {
        let (width, heads) = (self.architecture.width, self.architecture.heads);
        let state = &mut scratch.state[..tokens * width];
        let projected = &mut scratch.projected[..tokens * 3 * width];
        let attended = &mut scratch.attended[..tokens * width];
        observe(Part::Projection, state);
        layer.projection.forward(state, projected, After::Store, &mut scratch.rounded);
        let attention = Attention {
            tokens,
            heads,
            projected,
            outputs: attended,
            keys: &mut scratch.keys,
            values: &mut scratch.values,
            scores: &mut scratch.scores,
            halves: &mut scratch.halves,
        };
        let kernels = self.level.kernels();
        let halves = kernels.native_halves && self.precision != Precision::F32;
        // SAFETY: the level is available; `Scratch::grow` made the slices as long as `Attention` says for at least these
        // tokens, of which there is one; `Architecture::check` saw to the width of the heads.
        unsafe { (if halves { kernels.attend_halves } else { kernels.attend })(attention) };
        observe(Part::Attended, attended);
        layer.attended.forward(attended, state, After::Add, &mut scratch.rounded);
        self.normalise(&layer.attended_norm, state);
    }

    fn feed_forward(
        &self,
        layer: &Layer,
        tokens: usize,
        scratch: &mut Scratch,
        observe: &mut impl FnMut(Part, &[f32]),
    ) {
        let Architecture { width, inner, activation, .. } = self.architecture;
        let rows = tokens.div_ceil(tokens.div_ceil(CHUNK_ROWS));
        for state in scratch.state[..tokens * width].chunks_mut(rows * width) {
            let inner = &mut scratch.inner[..state.len() / width * inner];
            observe(Part::Inner, state);
            layer.inner.forward(state, inner, activation.after(), &mut scratch.rounded);
            observe(Part::Output, inner);
            layer.output.forward(inner, state, After::Add, &mut scratch.rounded);
            self.normalise(&layer.output_norm, state);
        }
    }

    fn normalise(&self, norm: &Norm, rows: &mut [f32]) {
        // SAFETY: the level is available; gain and shift are `width` long, a multiple of 32, and rows are whole.
        unsafe { (self.level.kernels().normalise)(rows, &norm.gain, &norm.shift, norm.epsilon) };
    }
}

impl Scratch {
    /// What the buffers take.
    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        let Scratch { word, state, projected, attended, inner, keys, values, scores, halves, rounded } = self;
        let floats = [word, state, projected, attended, inner, keys, values, scores].map(Vec::capacity);
        4 * (floats.iter().sum::<usize>() + halves.capacity()) + rounded.bytes()
    }

    fn grow(&mut self, tokens: usize, architecture: &Architecture) {
        let Architecture { width, heads, inner, .. } = *architecture;
        let padded = Attention::padded(tokens);
        let grow = |buffer: &mut Vec<f32>, length: usize| buffer.resize(buffer.len().max(length), 0.0);
        grow(&mut self.word, width);
        grow(&mut self.state, tokens * width);
        grow(&mut self.projected, tokens * 3 * width);
        grow(&mut self.attended, tokens * width);
        grow(&mut self.inner, tokens.min(CHUNK_ROWS) * inner);
        grow(&mut self.keys, padded * width / heads);
        grow(&mut self.values, padded * width / heads);
        grow(&mut self.scores, padded * TILE_ROWS);
        self.halves.resize(self.halves.len().max(Attention::halves(tokens, width)), 0);
    }
}
