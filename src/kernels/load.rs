//! What an encoder is, and how one is made of named tensors.

use super::attention::WIDEST_PANEL;
use super::level::Level;
use super::linear::{Linear, Precision};
use super::model::{Layer, Model, Norm, Part, Ranges, Words};
use super::product::After;

/// A tensor's shape, and its values, the last dimension running fastest.
pub type Tensor = (Vec<usize>, Vec<f32>);

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

impl Activation {
    pub(super) fn after(self) -> After {
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

/// Where tensors come from, and what is made of them.
pub(super) struct Source<'a> {
    pub tensor: &'a dyn Fn(&str) -> Option<Tensor>,
    pub level: Level,
    pub architecture: Architecture,
}

impl Source<'_> {
    /// # Errors
    /// A tensor that is missing, of another shape or not finite.
    pub fn model(&self, precision: Precision) -> Result<Model, LoadError> {
        let mut token_type = self.table("embeddings.token_type_embeddings.weight")?;
        token_type.truncate(self.architecture.width);
        Ok(Model {
            level: self.level,
            precision,
            architecture: self.architecture,
            words: Words::Exact(self.table("embeddings.word_embeddings.weight")?),
            positions: self.table("embeddings.position_embeddings.weight")?,
            token_type,
            norm: self.norm("embeddings.LayerNorm")?,
            layers: self.layers(precision, &Ranges::unknown(&self.architecture))?,
        })
    }

    /// # Errors
    /// As of [`Self::model`].
    pub fn layers(&self, precision: Precision, ranges: &Ranges) -> Result<Vec<Layer>, LoadError> {
        let layer = |(index, ranges)| self.layer(&format!("encoder.layer.{index}"), precision, ranges);
        ranges.0.iter().enumerate().map(layer).collect()
    }

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

    fn layer(&self, name: &str, precision: Precision, ranges: &[Vec<f32>; 4]) -> Result<Layer, LoadError> {
        let Architecture { width, inner, .. } = self.architecture;
        let below = |part: &str| format!("{name}.{part}");
        let projections = ["query", "key", "value"].map(|part| below(&format!("attention.self.{part}")));
        let linear = |part: Part, names: &[String], outputs: usize| {
            self.linear(precision, names, &ranges[part as usize], outputs)
        };
        Ok(Layer {
            projection: linear(Part::Projection, &projections, width)?,
            attended: linear(Part::Attended, &[below("attention.output.dense")], width)?,
            attended_norm: self.norm(&below("attention.output.LayerNorm"))?,
            inner: linear(Part::Inner, &[below("intermediate.dense")], inner)?,
            output: linear(Part::Output, &[below("output.dense")], width)?,
            output_norm: self.norm(&below("output.LayerNorm"))?,
        })
    }

    /// Layers of the same inputs as one, their outputs side by side.
    fn linear(
        &self,
        precision: Precision,
        names: &[String],
        ranges: &[f32],
        outputs: usize,
    ) -> Result<Linear, LoadError> {
        let (mut weights, mut bias) = (Vec::new(), Vec::new());
        for name in names {
            weights.extend(self.exact(&format!("{name}.weight"), &[outputs, ranges.len()])?);
            bias.extend(self.exact(&format!("{name}.bias"), &[outputs])?);
        }
        Ok(Linear::new(self.level, precision, &weights, &bias, ranges))
    }
}
