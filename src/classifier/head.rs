//! The head: all that is learned of a prompt's inputs. A hidden layer with an output per class, the principal components
//! of the inputs, and a kernel estimate in the space of these (which knows less of the task, needs few exemplars, and errs
//! less far from what was seen). Hidden layer and components together are a prompt's place in the space the index lives
//! in: the one knows the task, the other keeps apart what the task does not ask about.

use super::exit::{self, Net};
use crate::error::{Error, Result};
use half::f16;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What the head's outputs mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Teaching {
    /// Probabilities of labels, one of which is right: they sum to 1.
    Labels,
    /// Expected scores, each class for itself.
    Outcomes,
}

/// A trained head. Plain arrays: one prompt is a million multiplications, less than a tensor library's overhead.
#[derive(Clone, Debug, PartialEq)]
pub struct Head {
    pub teaching: Teaching,
    /// Mean and inverse deviation of each input.
    pub center: Vec<f32>,
    pub scale: Vec<f32>,
    /// Shape: inputs, hidden + components. The columns of the hidden layer and of the principal components stand side
    /// by side, so that one pass over the inputs serves both.
    pub weights: Vec<f32>,
    /// Shape: hidden.
    pub bias: Vec<f32>,
    /// Shape: hidden, classes.
    pub output: Vec<f32>,
    /// Shape: classes.
    pub output_bias: Vec<f32>,
    pub kernel: Kernel,
    /// Share of the components in a similarity of two places; the hidden layer has the rest.
    pub components_share: f32,
    /// Early exits, in the order of [`exit::READS`] as far as they are worth having.
    pub exits: Vec<Net>,
}

/// The kernel estimate: a class's mean plus a weighted sum of how near the landmarks are.
#[derive(Clone, Debug, PartialEq)]
pub struct Kernel {
    /// Shape: landmarks, components; of unit length.
    pub landmarks: Vec<f32>,
    /// Shape: landmarks, classes.
    pub duals: Vec<f32>,
    /// Shape: classes.
    pub means: Vec<f32>,
    /// A landmark weighs `exp(sharpness x (cosine - 1))`.
    pub sharpness: f32,
}

/// What the head makes of a prompt.
#[derive(Clone, Debug)]
pub struct HeadOutput {
    /// Its place in the learned space, of unit length.
    pub place: Vec<f32>,
    /// The hidden layer's estimate, one a class.
    pub deep: Vec<f64>,
    /// The kernel estimate, one a class.
    pub kernel: Vec<f64>,
}

/// What a kernel estimate of labels is multiplied by to become a logit. It lies near 0 and 1, as labels do; what it is
/// worth beside other estimates is the join's to say.
const LABEL_LOGIT: f64 = 10.0;

impl Kernel {
    /// The estimate at a place among the components, of unit length.
    pub fn estimate(&self, components: &[f32]) -> Vec<f64> {
        let cosine = |landmark: &[f32]| landmark.iter().zip(components).map(|(a, b)| a * b).sum::<f32>();
        self.weigh(self.landmarks.chunks_exact(components.len()).map(cosine))
    }

    /// The estimate where the landmarks are so near.
    pub fn weigh(&self, cosines: impl Iterator<Item = f32>) -> Vec<f64> {
        let mut sums: Vec<f64> = self.means.iter().map(|mean| f64::from(*mean)).collect();
        for (cosine, duals) in cosines.zip(self.duals.chunks_exact(self.means.len())) {
            let near = ((cosine - 1.0) * self.sharpness).exp();
            sums.iter_mut().zip(duals).for_each(|(sum, dual)| *sum += f64::from(near * dual));
        }
        sums
    }
}

impl Head {
    /// Width of the hidden layer.
    pub fn hidden(&self) -> usize {
        self.bias.len()
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.output_bias.len()
    }

    /// Width of the learned space: hidden layer and components.
    pub fn width(&self) -> usize {
        self.weights.len() / self.center.len()
    }

    /// Runs one prompt through. The same formulas are trained in `training/fit.rs`.
    pub fn forward(&self, inputs: &[f32]) -> HeadOutput {
        let mut sums = [self.bias.as_slice(), &vec![0.0; self.width() - self.hidden()]].concat();
        add_standard(&mut sums, inputs, &self.center, &self.scale, &self.weights);
        self.finish(sums, |components| self.kernel.estimate(components))
    }

    /// What comes of the sums of hidden layer and components.
    pub fn finish(&self, mut sums: Vec<f32>, kernel: impl FnOnce(&[f32]) -> Vec<f64>) -> HeadOutput {
        let mut components = sums.split_off(self.hidden());
        let logits = logits(&mut sums, &self.output, &self.output_bias);
        to_length(&mut components, 1.0);
        let kernel = kernel(&components);
        to_length(&mut sums, (1.0 - self.components_share).sqrt());
        to_length(&mut components, self.components_share.sqrt());
        sums.extend(components);
        let logits: Vec<f64> = logits.into_iter().map(f64::from).collect();
        let (deep, kernel) = match self.teaching {
            Teaching::Labels => {
                (softmax(&logits), softmax(&kernel.iter().map(|x| LABEL_LOGIT * x).collect::<Vec<_>>()))
            }
            Teaching::Outcomes => (
                logits.iter().map(|x| 1.0 / (1.0 + (-x).exp())).collect(),
                kernel.into_iter().map(|x| x.clamp(0.0, 1.0)).collect(),
            ),
        };
        HeadOutput { place: sums, deep, kernel }
    }

    /// The head as it reads back from its file.
    #[must_use]
    pub fn stored(self) -> Self {
        let teaching = self.teaching;
        Self::from_bytes(&self.to_bytes(), teaching).expect("what was written is read")
    }

    /// The head as a safetensors file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let (inputs, classes, kernel) = (self.center.len(), self.classes(), &self.kernel);
        let landmarks = kernel.duals.len() / classes;
        let (share, sharpness) = ([self.components_share], [kernel.sharpness]);
        let parts: [(&str, Vec<usize>, &[f32]); 10] = [
            ("center", vec![inputs], &self.center),
            ("scale", vec![inputs], &self.scale),
            ("weights", vec![inputs, self.width()], &self.weights),
            ("bias", vec![self.hidden()], &self.bias),
            ("output", vec![self.hidden(), classes], &self.output),
            ("output_bias", vec![classes], &self.output_bias),
            ("components_share", vec![1], &share),
            ("landmarks", vec![landmarks, self.width() - self.hidden()], &kernel.landmarks),
            ("kernel_means", vec![classes], &kernel.means),
            ("kernel_sharpness", vec![1], &sharpness),
        ];
        // Duals are large and of both signs: only in full do their sums come out right.
        let duals = ("duals", vec![landmarks, classes], kernel.duals.as_slice());
        let exit = |(at, net): (usize, &'_ Net)| {
            net.parts().map(|(name, shape, part)| (exit_part(at, name), shape, part.to_vec()))
        };
        let exits: Vec<_> = self.exits.iter().enumerate().flat_map(exit).collect();
        let exits = exits.iter().map(|(name, shape, part)| (name.as_str(), shape.clone(), part.as_slice()));
        tensors_to_bytes(parts.into_iter().chain(exits), [duals].into_iter())
    }

    /// Reads a head.
    ///
    /// # Errors
    /// [`Error::Model`] naming the tensor that is missing or whose shape does not fit the others.
    pub fn from_bytes(bytes: &[u8], teaching: Teaching) -> Result<Self> {
        let mut tensors = tensors_from_bytes(bytes)?;
        let mut take = |name: &str| {
            tensors
                .remove(name)
                .ok_or_else(|| Error::Model(format!("head.safetensors: the tensor `{name}` is missing")))
        };
        let mut exits = Vec::new();
        for at in 0..exit::READS.len() {
            let Ok(center) = take(&exit_part(at, "center")) else { break };
            let mut part = |name: &str| take(&exit_part(at, name));
            exits.push(Net {
                center,
                scale: part("scale")?,
                weights: part("weights")?,
                bias: part("bias")?,
                output: part("output")?,
                output_bias: part("output_bias")?,
            });
        }
        let first = |values: Vec<f32>| values.first().copied().unwrap_or(0.0);
        let head = Head {
            teaching,
            center: take("center")?,
            scale: take("scale")?,
            weights: take("weights")?,
            bias: take("bias")?,
            output: take("output")?,
            output_bias: take("output_bias")?,
            components_share: first(take("components_share")?),
            kernel: Kernel {
                landmarks: take("landmarks")?,
                duals: take("duals")?,
                means: take("kernel_means")?,
                sharpness: first(take("kernel_sharpness")?),
            },
            exits,
        };
        let (inputs, hidden, classes) = (head.center.len(), head.bias.len(), head.output_bias.len());
        let fits = inputs > 0
            && hidden > 0
            && classes > 0
            && head.scale.len() == inputs
            && head.weights.len().is_multiple_of(inputs)
            && head.width() > hidden
            && (0.0..=1.0).contains(&head.components_share)
            && head.output.len() == hidden * classes
            && head.kernel.means.len() == classes
            && head.kernel.duals.len().is_multiple_of(classes)
            && head.kernel.landmarks.len() == head.kernel.duals.len() / classes * (head.width() - hidden);
        fits.then_some(head)
            .ok_or_else(|| Error::Model("head.safetensors: the tensors' shapes do not fit one another".into()))
    }
}

/// A tensor's name in the file.
fn exit_part(at: usize, name: &str) -> String {
    format!("exit{at}_{name}")
}

/// Scales a vector to a length; one of zeros stays.
pub fn to_length(vector: &mut [f32], length: f32) {
    let norm = vector.iter().map(|x| x * x).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
    vector.iter_mut().for_each(|x| *x *= length / norm);
}

/// Probabilities of logits.
pub fn softmax(logits: &[f64]) -> Vec<f64> {
    let highest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let exps: Vec<f64> = logits.iter().map(|x| (x - highest).exp()).collect();
    let sum: f64 = exps.iter().sum();
    exps.into_iter().map(|x| x / sum).collect()
}

/// Named tensors as a safetensors file: most in 16-bit floats (half the size, and no decision is known to hang on the
/// rest), some in full.
pub fn tensors_to_bytes<'a>(
    parts: impl Iterator<Item = (&'a str, Vec<usize>, &'a [f32])>,
    full: impl Iterator<Item = (&'a str, Vec<usize>, &'a [f32])>,
) -> Vec<u8> {
    let half = |x: &f32| f16::from_f32(*x).to_le_bytes();
    let half =
        parts.map(|(name, shape, data)| (name, Dtype::F16, shape, data.iter().flat_map(half).collect::<Vec<u8>>()));
    let full = full.map(|(name, shape, data)| {
        (name, Dtype::F32, shape, data.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>())
    });
    let bytes: Vec<_> = half.chain(full).collect();
    let views = bytes.iter().map(|(name, kind, shape, data)| {
        (*name, TensorView::new(*kind, shape.clone(), data).expect("shape and data agree"))
    });
    safetensors::serialize(views, None).expect("tensors serialise")
}

/// The tensors of a safetensors file.
///
/// # Errors
/// [`Error::Model`] when it is no safetensors file, or holds another type.
pub fn tensors_from_bytes(bytes: &[u8]) -> Result<BTreeMap<String, Vec<f32>>> {
    let file =
        SafeTensors::deserialize(bytes).map_err(|error| Error::Model(format!("not a safetensors file: {error}")))?;
    file.tensors()
        .into_iter()
        .map(|(name, view)| {
            let bytes = view.data();
            let values = match view.dtype() {
                Dtype::F16 => bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
                Dtype::F32 => bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
                other => return Err(Error::Model(format!("tensor `{name}`: expected F16 or F32, got {other:?}"))),
            };
            Ok((name, values))
        })
        .collect()
}

/// Values as they read back from a file.
pub fn stored(values: Vec<f32>) -> Vec<f32> {
    values.into_iter().map(|x| f16::from_f32(x).to_f32()).collect()
}

/// Adds centred and scaled inputs times their rows of weights to sums.
pub fn add_standard(sums: &mut [f32], inputs: &[f32], center: &[f32], scale: &[f32], weights: &[f32]) {
    let rows = weights.chunks_exact(sums.len());
    for ((x, row), (center, scale)) in inputs.iter().zip(rows).zip(center.iter().zip(scale)) {
        add_scaled(sums, row, (x - center) * scale);
    }
}

/// One logit a class of a hidden layer's sums, which become the place they stand for, of unit length.
pub fn logits(sums: &mut [f32], output: &[f32], bias: &[f32]) -> Vec<f32> {
    sums.iter_mut().for_each(|x| *x = x.max(0.0));
    to_length(sums, 1.0);
    let mut logits = bias.to_vec();
    for (x, row) in sums.iter().zip(output.chunks_exact(bias.len())) {
        add_scaled(&mut logits, row, *x);
    }
    logits
}

/// Adds a row times a factor to a sum.
pub fn add_scaled(sum: &mut [f32], row: &[f32], factor: f32) {
    sum.iter_mut().zip(row).for_each(|(total, x)| *total += factor * x);
}
