//! The head: views, structure and hashed n-grams into one small hidden layer of unit length, and from there into
//! one logit a class. The hidden layer is the space the index lives in: the encoder knows topics, this knows tasks.

use super::Inputs;
use crate::error::{Error, Result};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use std::collections::BTreeMap;

/// A trained head. Plain arrays: one prompt is a few thousand multiplications, less than a tensor library's overhead.
#[derive(Clone, Debug, PartialEq)]
pub struct Head {
    /// Mean and inverse deviation of each dense input.
    pub center: Vec<f32>,
    pub scale: Vec<f32>,
    /// Shape: dense inputs, width.
    pub dense: Vec<f32>,
    /// Shape: buckets, width.
    pub ngrams: Vec<f32>,
    /// Shape: width.
    pub bias: Vec<f32>,
    /// Shape: width, classes.
    pub output: Vec<f32>,
    /// Shape: classes.
    pub output_bias: Vec<f32>,
}

/// What the head makes of a prompt.
#[derive(Clone, Debug)]
pub struct HeadOutput {
    /// Its place in the learned space, of unit length.
    pub hidden: Vec<f32>,
    /// Probabilities, one a class.
    pub probabilities: Vec<f64>,
}

impl Head {
    /// Width of the learned space.
    pub fn width(&self) -> usize {
        self.bias.len()
    }

    /// Number of n-gram buckets.
    pub fn buckets(&self) -> u32 {
        (self.ngrams.len() / self.width()) as u32
    }

    /// Runs one prompt through. The same formula is trained in `training/fit.rs`.
    pub fn forward(&self, inputs: &Inputs) -> HeadOutput {
        let mut hidden = self.bias.clone();
        for ((x, row), (center, scale)) in
            inputs.dense.iter().zip(self.dense.chunks_exact(self.width())).zip(self.center.iter().zip(&self.scale))
        {
            add_scaled(&mut hidden, row, (x - center) * scale);
        }
        let share = ngram_share(inputs.ngrams.len());
        for bucket in &inputs.ngrams {
            let start = *bucket as usize * self.width();
            add_scaled(&mut hidden, &self.ngrams[start..start + self.width()], share);
        }
        hidden.iter_mut().for_each(|x| *x = x.max(0.0));
        let norm = hidden.iter().map(|x| x * x).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
        hidden.iter_mut().for_each(|x| *x /= norm);
        let mut logits = self.output_bias.clone();
        for (x, row) in hidden.iter().zip(self.output.chunks_exact(self.output_bias.len())) {
            add_scaled(&mut logits, row, *x);
        }
        HeadOutput { hidden, probabilities: softmax(&logits.iter().map(|x| f64::from(*x)).collect::<Vec<_>>()) }
    }

    /// The head as a safetensors file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let (inputs, width, classes) = (self.center.len(), self.width(), self.output_bias.len());
        let parts: [(&str, Vec<usize>, &Vec<f32>); 7] = [
            ("center", vec![inputs], &self.center),
            ("scale", vec![inputs], &self.scale),
            ("dense", vec![inputs, width], &self.dense),
            ("ngrams", vec![self.ngrams.len() / width, width], &self.ngrams),
            ("bias", vec![width], &self.bias),
            ("output", vec![width, classes], &self.output),
            ("output_bias", vec![classes], &self.output_bias),
        ];
        tensors_to_bytes(parts.into_iter().map(|(name, shape, data)| (name, shape, data.as_slice())))
    }

    /// Reads a head.
    ///
    /// # Errors
    /// [`Error::Model`] naming the tensor that is missing or whose shape does not fit the others.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let mut tensors = tensors_from_bytes(bytes)?;
        let mut take = |name: &str| {
            tensors
                .remove(name)
                .ok_or_else(|| Error::Model(format!("head.safetensors: the tensor `{name}` is missing")))
        };
        let head = Head {
            center: take("center")?,
            scale: take("scale")?,
            dense: take("dense")?,
            ngrams: take("ngrams")?,
            bias: take("bias")?,
            output: take("output")?,
            output_bias: take("output_bias")?,
        };
        let (inputs, width, classes) = (head.center.len(), head.bias.len(), head.output_bias.len());
        let fits = width > 0
            && classes > 0
            && head.scale.len() == inputs
            && head.dense.len() == inputs * width
            && !head.ngrams.is_empty()
            && head.ngrams.len().is_multiple_of(width)
            && head.output.len() == width * classes;
        fits.then_some(head)
            .ok_or_else(|| Error::Model("head.safetensors: the tensors' shapes do not fit one another".into()))
    }
}

/// Weight of one n-gram among `count`, so that long and short texts come out equally strong.
pub fn ngram_share(count: usize) -> f32 {
    1.0 / (count.max(1) as f32).sqrt()
}

/// Probabilities of logits.
pub fn softmax(logits: &[f64]) -> Vec<f64> {
    let highest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let exps: Vec<f64> = logits.iter().map(|x| (x - highest).exp()).collect();
    let sum: f64 = exps.iter().sum();
    exps.into_iter().map(|x| x / sum).collect()
}

/// Named f32 tensors as a safetensors file.
pub fn tensors_to_bytes<'a>(parts: impl Iterator<Item = (&'a str, Vec<usize>, &'a [f32])>) -> Vec<u8> {
    let bytes: Vec<_> = parts
        .map(|(name, shape, data)| (name, shape, data.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>()))
        .collect();
    let views = bytes.iter().map(|(name, shape, data)| {
        (*name, TensorView::new(Dtype::F32, shape.clone(), data).expect("shape and data agree"))
    });
    safetensors::serialize(views, None).expect("tensors serialise")
}

/// The f32 tensors of a safetensors file.
///
/// # Errors
/// [`Error::Model`] when it is no safetensors file, or holds another type.
pub fn tensors_from_bytes(bytes: &[u8]) -> Result<BTreeMap<String, Vec<f32>>> {
    let file =
        SafeTensors::deserialize(bytes).map_err(|error| Error::Model(format!("not a safetensors file: {error}")))?;
    file.tensors()
        .into_iter()
        .map(|(name, view)| match view.dtype() {
            Dtype::F32 => {
                Ok((name, view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()))
            }
            other => Err(Error::Model(format!("tensor `{name}`: expected F32, got {other:?}"))),
        })
        .collect()
}

fn add_scaled(sum: &mut [f32], row: &[f32], factor: f32) {
    sum.iter_mut().zip(row).for_each(|(total, x)| *total += factor * x);
}
