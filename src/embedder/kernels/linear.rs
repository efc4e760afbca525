//! A linear layer with packed weights.

use super::level::Level;
use super::pack::{Aligned, Bf16Pair, Equalised};
use super::product::{After, Product};

/// How the weights of linear layers are kept; all arithmetic around them is in floats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// As they come.
    F32,
    /// Rounded to bfloat16 and multiplied as floats: half the memory traffic.
    Bf16,
    /// Whole numbers of up to 127 times a scale an output; inputs become whole numbers of thirteen bits times a scale a
    /// row. Their sums are exact, so all levels agree to the bit.
    Int8,
}

impl Precision {
    /// Reads `f32`, `bf16` or `int8`.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "f32" => Some(Precision::F32),
            "bf16" => Some(Precision::Bf16),
            "int8" => Some(Precision::Int8),
            _ => None,
        }
    }
}

/// `after(inputs · weightsᵀ + bias)`.
pub struct Linear {
    level: Level,
    inputs: usize,
    outputs: usize,
    weights: Packed,
    bias: Aligned<f32>,
}

enum Packed {
    F32(Aligned<f32>),
    Bf16(Aligned<Bf16Pair>),
    Int8(Equalised),
}

/// Scratch of [`Linear::forward`]: inputs as whole numbers. Grows, never shrinks.
#[derive(Default)]
pub struct Rounded {
    numbers: Vec<i16>,
    scales: Vec<f32>,
}

impl Linear {
    /// Widths are multiples of this: a vector of the widest level, twice.
    pub const WIDTH_UNIT: usize = 32;
    /// The most inputs: more products of 13 by 8 bits might leave 32 (see `rows::LARGEST_INPUT`).
    pub const MOST_INPUTS: usize = 4096;

    /// Packs weights `[bias.len(), inputs]` for a level.
    ///
    /// # Panics
    /// When the widths are not multiples of [`Self::WIDTH_UNIT`], are zero or too large, when the weights are not as
    /// many, or when the CPU does not have the level.
    pub fn new(level: Level, precision: Precision, weights: &[f32], bias: &[f32], inputs: usize) -> Self {
        let outputs = bias.len();
        assert!(Self::supports(inputs), "{inputs} inputs: want a multiple of 32 up to 4096");
        assert!(outputs > 0 && outputs.is_multiple_of(Self::WIDTH_UNIT), "{outputs} outputs: want a multiple of 32");
        assert_eq!(weights.len(), inputs * outputs, "weights of a layer of {inputs} inputs and {outputs} outputs");
        let panels = level.panels();
        let packed = match precision {
            Precision::F32 => Packed::F32(panels.pack_f32(weights, inputs)),
            Precision::Bf16 => Packed::Bf16(panels.pack_bf16(weights, inputs)),
            Precision::Int8 => Packed::Int8(panels.pack_i8(weights, inputs)),
        };
        Linear { level, inputs, outputs, weights: packed, bias: Aligned::filled_up(bias, panels.padded(outputs)) }
    }

    /// Whether a layer can have so many inputs.
    pub fn supports(inputs: usize) -> bool {
        inputs > 0 && inputs.is_multiple_of(Self::WIDTH_UNIT) && inputs <= Self::MOST_INPUTS
    }

    /// `[rows, inputs]` to `[rows, outputs]`; the number of rows is what the inputs hold.
    ///
    /// # Panics
    /// When the inputs are not whole rows, or the outputs not as many.
    pub fn forward(&self, inputs: &[f32], outputs: &mut [f32], after: After, rounded: &mut Rounded) {
        let rows = inputs.len() / self.inputs;
        assert_eq!(inputs.len(), rows * self.inputs, "inputs: want rows of {}", self.inputs);
        assert_eq!(outputs.len(), rows * self.outputs, "outputs: want {rows} rows of {}", self.outputs);
        let kernels = self.level.kernels();
        let (depth, columns, bias) = (self.inputs, self.outputs, &*self.bias);
        // SAFETY: the level was available when the weights were packed; rows, inputs and outputs were just checked;
        // weights, bias and scales have been packed for these widths in panels of this level.
        unsafe {
            match &self.weights {
                Packed::F32(weights) => {
                    let scales = None;
                    (kernels.multiply_f32)(Product {
                        rows,
                        depth,
                        columns,
                        inputs,
                        weights,
                        bias,
                        scales,
                        outputs,
                        after,
                    });
                }
                Packed::Bf16(weights) => {
                    let scales = None;
                    (kernels.multiply_bf16)(Product {
                        rows,
                        depth,
                        columns,
                        inputs,
                        weights,
                        bias,
                        scales,
                        outputs,
                        after,
                    });
                }
                Packed::Int8(Equalised { inputs: factors, weights, outputs: worth }) => {
                    let (numbers, scales) = rounded.of(inputs.len(), rows);
                    (kernels.round)(inputs, factors, numbers, scales);
                    let (inputs, scales) = (&*numbers, Some((&*scales, &**worth)));
                    (kernels.multiply_i8)(Product {
                        rows,
                        depth,
                        columns,
                        inputs,
                        weights,
                        bias,
                        scales,
                        outputs,
                        after,
                    });
                }
            }
        }
    }
}

impl Rounded {
    fn of(&mut self, numbers: usize, rows: usize) -> (&mut [i16], &mut [f32]) {
        self.numbers.resize(self.numbers.len().max(numbers), 0);
        self.scales.resize(self.scales.len().max(rows), 0.0);
        (&mut self.numbers[..numbers], &mut self.scales[..rows])
    }
}
