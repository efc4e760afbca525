//! Weights as the products read them: in panels of columns, depth running slowest within a panel.

use super::lanes::ROUNDER;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

/// Two columns' weights in four bytes. The first is the lower half, shifted up. The second is the whole, so that it can be used as it
/// is: its lower bits are those of the first, and its upper ones chosen so that the whole is as near as bfloat16 can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub(super) struct Bf16Pair(u32);

impl Bf16Pair {
    /// Both to half a unit in the eighth binary place. Finite numbers only, of which the largest become infinite; below
    /// the smallest normal number the second becomes that.
    pub fn round(first: f32, second: f32) -> Self {
        const HALF: u32 = 0x8000;
        const SMALLEST: u32 = 0x80_0000;
        let lower = (first.to_bits() + (HALF - 1) + (first.to_bits() >> 16 & 1)) >> 16;
        let magnitude = (second.abs().to_bits() + HALF).saturating_sub(lower).max(SMALLEST);
        Bf16Pair((second.to_bits() & 1 << 31) | magnitude & !0xffff | lower)
    }
}

/// Two steps' weights in two bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub(super) struct I8Pair([i8; 2]);

/// Types of which any bytes are a value.
///
/// # Safety
/// No padding, no invalid patterns, no larger alignment than 64.
pub(super) unsafe trait Plain: Copy {}
// SAFETY: integers and floats of up to four bytes.
unsafe impl Plain for f32 {}
// SAFETY: as above; it is a `u32`.
unsafe impl Plain for Bf16Pair {}
// SAFETY: as above.
unsafe impl Plain for I8Pair {}

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct CacheLine([u8; 64]);

/// Numbers that begin with a cache line, so that no vector straddles two.
pub(super) struct Aligned<T> {
    lines: Vec<CacheLine>,
    length: usize,
    numbers: PhantomData<T>,
}

impl<T: Plain> Aligned<T> {
    pub fn zeros(length: usize) -> Self {
        let lines = (length * size_of::<T>()).div_ceil(size_of::<CacheLine>());
        Aligned { lines: vec![CacheLine([0; 64]); lines], length, numbers: PhantomData }
    }

    /// `numbers`, then zeros up to `length`.
    pub fn filled_up(numbers: &[T], length: usize) -> Self {
        let mut aligned = Self::zeros(length);
        aligned[..numbers.len()].copy_from_slice(numbers);
        aligned
    }
}

impl<T: Plain> Deref for Aligned<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: the lines hold at least `length` numbers, any bytes are one, and a line is aligned enough.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.length) }
    }
}

impl<T: Plain> DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above, and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.length) }
    }
}

/// Weights as whole numbers: a product is that of `inputs · x` with `weights`, times `outputs`.
pub(super) struct Equalised {
    /// A factor an input.
    pub inputs: Aligned<f32>,
    pub weights: Aligned<I8Pair>,
    /// A factor an output.
    pub outputs: Aligned<f32>,
}

/// The square root of the root mean square of an input's weights. Weights divided and inputs multiplied by it give the
/// same product, but the weights are more alike and so lose less to rounding: cosine to f32 .99976 instead of .9995,
/// worst of 168 prompts .9992 instead of .9973. Half of what SmoothQuant does (Xiao et al., 2022,
/// <https://arxiv.org/abs/2211.10438>): the half that needs no calibration, as inputs have bits to spare.
fn equalisers(weights: &[f32], depth: usize) -> Aligned<f32> {
    let columns = weights.len() / depth;
    let mut squares = Aligned::zeros(depth);
    for row in weights.chunks_exact(depth) {
        squares.iter_mut().zip(row).for_each(|(sum, weight)| *sum += weight * weight);
    }
    for square in squares.iter_mut() {
        let mean: f32 = *square / columns as f32;
        *square = if mean > 1e-20 { mean.powf(0.25) } else { 1.0 };
    }
    squares
}

/// The panels of a level: `lanes · vectors` columns each.
#[derive(Clone, Copy)]
pub(super) struct Panels {
    pub lanes: usize,
    pub vectors: usize,
}

impl Panels {
    /// Columns of a panel.
    pub fn width(self) -> usize {
        self.lanes * self.vectors
    }

    /// Columns filled up to whole panels.
    pub fn padded(self, columns: usize) -> usize {
        columns.next_multiple_of(self.width())
    }

    /// Of a step of depth, the columns one after the other.
    pub fn pack_f32(self, weights: &[f32], depth: usize) -> Aligned<f32> {
        self.pack(weights, depth, |_, steps: [f32; 1]| steps[0])
    }

    /// Of a step of depth, lane by lane two vectors of columns.
    pub fn pack_bf16(self, weights: &[f32], depth: usize) -> Aligned<Bf16Pair> {
        let floats = self.pack_f32(weights, depth);
        let mut packed = Aligned::zeros(floats.len() / 2);
        for (pairs, floats) in packed.chunks_exact_mut(self.lanes).zip(floats.chunks_exact(2 * self.lanes)) {
            for (lane, pair) in pairs.iter_mut().enumerate() {
                *pair = Bf16Pair::round(floats[lane], floats[lane + self.lanes]);
            }
        }
        packed
    }

    /// Of two steps of depth, the columns one after the other: each has its pair together.
    /// Weights as whole numbers of up to 127 times the scale of their column.
    pub fn pack_i8(self, weights: &[f32], depth: usize) -> Equalised {
        let inputs = equalisers(weights, depth);
        let equalised: Vec<f32> =
            weights.iter().zip(inputs.iter().cycle()).map(|(weight, factor)| weight / factor).collect();
        let mut outputs = Aligned::zeros(self.padded(weights.len() / depth));
        for (scale, weights) in outputs.iter_mut().zip(equalised.chunks_exact(depth)) {
            *scale = weights.iter().fold(0.0_f32, |largest, weight| largest.max(weight.abs())) / 127.0;
        }
        let whole = |column: usize, steps: [f32; 2]| {
            // `as` saturates and makes 0 of the NaN of an all-zero column.
            I8Pair(steps.map(|weight| round_ties_even(weight / outputs[column]).clamp(-127.0, 127.0) as i8))
        };
        Equalised { weights: self.pack(&equalised, depth, whole), inputs, outputs }
    }

    /// Puts `[columns, depth]` into panels, `STEPS` steps of a column converted to one number.
    fn pack<T: Plain, const STEPS: usize>(
        self,
        weights: &[f32],
        depth: usize,
        convert: impl Fn(usize, [f32; STEPS]) -> T,
    ) -> Aligned<T> {
        let width = self.width();
        let mut packed = Aligned::zeros(self.padded(weights.len() / depth) * depth / STEPS);
        for (column, weights) in weights.chunks_exact(depth).enumerate() {
            let place = column / width * width * depth / STEPS + column % width;
            for (step, steps) in weights.as_chunks().0.iter().enumerate() {
                packed[place + step * width] = convert(column, *steps);
            }
        }
        packed
    }
}

/// To the nearest whole number, ties to even, for numbers up to ±4,194,303; the standard library's may be a call.
fn round_ties_even(x: f32) -> f32 {
    (x + ROUNDER) - ROUNDER
}
