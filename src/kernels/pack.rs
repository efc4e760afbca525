//! Weights as the products read them: in panels of columns, depth running slowest within a panel.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

/// Two columns' weights in four bytes. The first is the lower half, shifted up. The second is the whole, used as it is: its
/// lower bits are those of the first, and its upper ones chosen so that the whole is as near as bfloat16 can be.
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

    #[cfg(test)]
    pub fn widen(self) -> [f32; 2] {
        [f32::from_bits(self.0 << 16), f32::from_bits(self.0)]
    }
}

/// Two steps' weights in four bytes, each rounded to bfloat16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub(super) struct Halves(pub [u16; 2]);

/// To the nearest bfloat16, ties to even; the largest numbers become infinite, and of NaN comes anything.
#[inline(always)]
fn half(x: f32) -> u16 {
    (x.to_bits().wrapping_add(0x7fff + (x.to_bits() >> 16 & 1)) >> 16) as u16
}

/// The number of a bfloat16.
#[inline(always)]
pub(super) fn widen(half: u16) -> f32 {
    f32::from_bits(u32::from(half) << 16)
}

/// Numbers as bfloat16.
#[inline(always)]
pub(super) fn halve(inputs: &[f32], outputs: &mut [u16]) {
    outputs.iter_mut().zip(inputs).for_each(|(output, input)| *output = half(*input));
}

/// Four steps' weights in four bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub(super) struct Bytes(pub [i8; 4]);

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
unsafe impl Plain for Halves {}
// SAFETY: as above.
unsafe impl Plain for Bytes {}
// SAFETY: as above.
unsafe impl Plain for i32 {}

/// Bytes of a cache line, as good as everywhere.
pub(super) const CACHE_LINE: usize = 64;

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct CacheLine([u8; CACHE_LINE]);

/// Numbers that begin with a cache line, so that no vector straddles two.
pub(super) struct Aligned<T> {
    lines: Vec<CacheLine>,
    length: usize,
    numbers: PhantomData<T>,
}

impl<T: Plain> Aligned<T> {
    pub fn zeros(length: usize) -> Self {
        let lines = (length * size_of::<T>()).div_ceil(CACHE_LINE);
        Aligned { lines: vec![CacheLine([0; CACHE_LINE]); lines], length, numbers: PhantomData }
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
        self.pack(weights, depth, |[weight]: [f32; 1]| weight)
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

    /// Of two steps of depth, the columns one after the other: each has its two halves together.
    pub fn pack_halves(self, weights: &[f32], depth: usize) -> Aligned<Halves> {
        self.pack(weights, depth, |steps: [f32; 2]| Halves(steps.map(half)))
    }

    /// Of four steps of depth, the columns one after the other: each has its four bytes together.
    pub fn pack_bytes(self, weights: &[i8], depth: usize) -> Aligned<Bytes> {
        self.pack(weights, depth, Bytes)
    }

    /// Puts `[columns, depth]` into panels, `STEPS` steps of a column converted to one number.
    fn pack<W: Copy, T: Plain, const STEPS: usize>(
        self,
        weights: &[W],
        depth: usize,
        convert: impl Fn([W; STEPS]) -> T,
    ) -> Aligned<T> {
        let width = self.width();
        let mut packed = Aligned::zeros(self.padded(weights.len() / depth) * depth / STEPS);
        for (column, weights) in weights.chunks_exact(depth).enumerate() {
            let place = column / width * width * depth / STEPS + column % width;
            for (step, steps) in weights.as_chunks().0.iter().enumerate() {
                packed[place + step * width] = convert(*steps);
            }
        }
        packed
    }
}
