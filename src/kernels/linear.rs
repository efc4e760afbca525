//! A linear layer with packed weights.

use super::level::Level;
use super::pack::{Aligned, Bf16Pair, Halves};
use super::product::{After, Product};
use super::whole::{Places, Rounding, Scales, Whole};

/// How the weights of linear layers are kept; all arithmetic around them is in floats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// As they come.
    F32,
    /// Rounded to bfloat16: half the memory traffic. Inputs stay floats where the CPU does not multiply bfloat16 by itself.
    Bf16,
    /// Whole numbers: seven bits and sign of weights, seven bits of inputs (see `whole.rs`). Sums are exact, so the products
    /// of all levels agree to the bit. A few rows are multiplied with a copy in bfloat16: that is about as fast, and too
    /// few tokens to average rounding away.
    Int8,
}

impl Precision {
    /// Reads `f32`, `bf16` or `int8`.
    ///
    /// # Errors
    /// What was expected.
    pub fn parse(word: &str) -> Result<Self, String> {
        match word {
            "f32" => Ok(Precision::F32),
            "bf16" => Ok(Precision::Bf16),
            "int8" => Ok(Precision::Int8),
            _ => Err(format!("expected \"f32\", \"bf16\" or \"int8\", got \"{word}\"")),
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
    Bf16(Bf16),
    Int8 { whole: Whole, few: Bf16 },
}

/// Weights in bfloat16, as the level multiplies them.
enum Bf16 {
    Widened(Aligned<Bf16Pair>),
    Native(Aligned<Halves>),
}

impl Bf16 {
    fn pack(level: Level, weights: &[f32], depth: usize) -> Self {
        let panels = level.panels();
        if level.kernels().native_halves {
            Bf16::Native(panels.pack_halves(weights, depth))
        } else {
            Bf16::Widened(panels.pack_bf16(weights, depth))
        }
    }
}

/// Scratch of [`Linear::forward`]: inputs as whole numbers, or as bfloat16. Grows, never shrinks.
#[derive(Default)]
pub struct Rounded {
    halves: Vec<u16>,
    row: Vec<f32>,
    numbers: Vec<u8>,
    scales: Vec<f32>,
    zeros: Vec<i32>,
}

impl Linear {
    /// Widths are multiples of this: a vector of the widest level, twice.
    pub const WIDTH_UNIT: usize = 32;
    /// The most inputs: whole numbers must not sum to more than 32 bits hold.
    pub const MOST_INPUTS: usize = 4096;

    /// Most rows that [`Precision::Int8`] multiplies in bfloat16. Of 1,000 prompts only two fell below a cosine of .997 to f32 in
    /// whole numbers, of 5 and 7 tokens.
    pub const FEW_ROWS: usize = 7;

    /// Packs weights `[bias.len(), ranges.len()]` for a level. Of the inputs, `ranges` are the largest magnitudes to be
    /// expected, in any unit; [`Precision::Int8`] gives large ones more room, the others do not read them.
    ///
    /// # Panics
    /// When the widths are not multiples of [`Self::WIDTH_UNIT`], are zero or too large, when the weights are not as
    /// many, or when the CPU does not have the level.
    pub fn new(level: Level, precision: Precision, weights: &[f32], bias: &[f32], ranges: &[f32]) -> Self {
        let (inputs, outputs) = (ranges.len(), bias.len());
        assert!(Self::supports(inputs), "{inputs} inputs: want a multiple of 32 up to {}", Self::MOST_INPUTS);
        assert!(outputs > 0 && outputs.is_multiple_of(Self::WIDTH_UNIT), "{outputs} outputs: want a multiple of 32");
        assert_eq!(weights.len(), inputs * outputs, "weights of a layer of {inputs} inputs and {outputs} outputs");
        let panels = level.panels();
        let packed = match precision {
            Precision::F32 => Packed::F32(panels.pack_f32(weights, inputs)),
            Precision::Bf16 => Packed::Bf16(Bf16::pack(level, weights, inputs)),
            Precision::Int8 => Packed::Int8 {
                whole: Whole::new(panels, weights, ranges, Places::further(inputs)),
                few: Bf16::pack(level, weights, inputs),
            },
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
        let (depth, columns, bias, scales) = (self.inputs, self.outputs, &*self.bias, ());
        // SAFETY: the level was available when the weights were packed; rows, inputs and outputs were just checked;
        // weights and bias have been packed for these widths in panels of this level.
        unsafe {
            match &self.weights {
                Packed::F32(weights) => {
                    let product = Product { rows, depth, columns, inputs, weights, bias, scales, outputs, after };
                    (kernels.multiply_f32)(product);
                }
                Packed::Int8 { whole, .. } if rows > Self::FEW_ROWS => {
                    self.forward_whole(whole, inputs, outputs, after, rounded.grow(rows, whole.places.count()));
                }
                Packed::Bf16(Bf16::Widened(weights)) | Packed::Int8 { few: Bf16::Widened(weights), .. } => {
                    let product = Product { rows, depth, columns, inputs, weights, bias, scales, outputs, after };
                    (kernels.multiply_bf16)(product);
                }
                Packed::Bf16(Bf16::Native(weights)) | Packed::Int8 { few: Bf16::Native(weights), .. } => {
                    let halves = &mut rounded.halves;
                    halves.resize(halves.len().max(inputs.len()), 0);
                    (kernels.halve)(inputs, &mut halves[..inputs.len()]);
                    let inputs = &halves[..inputs.len()];
                    let product = Product { rows, depth, columns, inputs, weights, bias, scales, outputs, after };
                    (kernels.multiply_halves)(product);
                }
            }
        }
    }

    /// # Safety
    /// Inputs and outputs are rows of this layer's widths, as many as have been rounded.
    unsafe fn forward_whole(
        &self,
        whole: &Whole,
        inputs: &[f32],
        outputs: &mut [f32],
        after: After,
        Rows { row, numbers, scales, zeros }: Rows<'_>,
    ) {
        let kernels = self.level.kernels();
        let Whole { weights, columns: column_scales, column_sums, places } = whole;
        let (rows, depth, columns, bias) = (scales.len(), places.count(), self.outputs, &*self.bias);
        // SAFETY: the level was available when the weights were packed; the caller vouches for inputs and outputs, and
        // `Rounded::grow` made the others as long.
        unsafe {
            (kernels.round)(Rounding { inputs, places, row, outputs: numbers, scales, zeros });
            let scales = Scales { rows: scales, zeros, columns: column_scales, column_sums };
            let inputs = numbers;
            (kernels.multiply_bytes)(Product { rows, depth, columns, inputs, weights, bias, scales, outputs, after });
        }
    }
}

/// What [`Rounded`] has for some rows.
pub(super) struct Rows<'a> {
    pub row: &'a mut [f32],
    pub numbers: &'a mut [u8],
    pub scales: &'a mut [f32],
    pub zeros: &'a mut [i32],
}

impl Rounded {
    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        let words = self.row.capacity() + self.scales.capacity() + self.zeros.capacity();
        4 * words + 2 * self.halves.capacity() + self.numbers.capacity()
    }

    pub(super) fn grow(&mut self, rows: usize, places: usize) -> Rows<'_> {
        self.row.resize(self.row.len().max(places), 0.0);
        self.numbers.resize(self.numbers.len().max(rows * places), 0);
        self.scales.resize(self.scales.len().max(rows), 0.0);
        self.zeros.resize(self.zeros.len().max(rows), 0);
        Rows {
            row: &mut self.row[..places],
            numbers: &mut self.numbers[..rows * places],
            scales: &mut self.scales[..rows],
            zeros: &mut self.zeros[..rows],
        }
    }
}
