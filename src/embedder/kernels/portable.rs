//! Vectors for every CPU: plain loops over eight lanes, which the compiler turns into what the target has (two NEON or
//! SSE2 registers).

use super::lanes::{Lanes, ROUNDER};
use std::array::from_fn;

#[derive(Clone, Copy)]
#[repr(align(32))]
pub(super) struct Portable([f32; 8]);

/// Without the instruction, `f32::mul_add` would be a call into the C library.
const FUSED: bool = cfg!(any(target_arch = "aarch64", target_feature = "fma"));

impl Portable {
    #[inline(always)]
    fn with(self, other: Self, operation: impl Fn(f32, f32) -> f32) -> Self {
        Portable(from_fn(|lane| operation(self.0[lane], other.0[lane])))
    }

    /// All lanes as one, halving: as the other levels do it.
    #[inline(always)]
    fn fold(self, operation: impl Fn(f32, f32) -> f32) -> f32 {
        let four: [f32; 4] = from_fn(|lane| operation(self.0[lane], self.0[lane + 4]));
        operation(operation(four[0], four[2]), operation(four[1], four[3]))
    }
}

impl Lanes for Portable {
    const WIDTH: usize = 8;
    type Sums = [i32; 8];
    type Pairs = [i16; 16];

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Portable([value; 8])
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's pointer is good for eight floats.
        Portable(unsafe { from.cast::<[f32; 8]>().read() })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller's pointer is good for eight floats.
        unsafe { to.cast::<[f32; 8]>().write(self.0) }
    }

    #[inline(always)]
    unsafe fn store_i16(self, to: *mut i16) {
        let rounded = self.0.map(|x| ((x + ROUNDER).to_bits().wrapping_sub(ROUNDER.to_bits())) as i16);
        // SAFETY: the caller's pointer is good for eight numbers.
        unsafe { to.cast::<[i16; 8]>().write(rounded) }
    }

    #[inline(always)]
    unsafe fn transpose(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
        for row in 0..8 {
            for column in 0..8 {
                // SAFETY: the caller's pointers are good for eight rows of eight.
                unsafe { *to.add(column * to_stride + row) = *from.add(row * from_stride + column) };
            }
        }
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.with(other, |a, b| a + b)
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self.with(other, |a, b| a - b)
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        self.with(other, |a, b| a * b)
    }

    #[inline(always)]
    fn div(self, other: Self) -> Self {
        self.with(other, |a, b| a / b)
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, addend: Self) -> Self {
        Portable(from_fn(|lane| {
            let (a, b, c) = (self.0[lane], factor.0[lane], addend.0[lane]);
            if FUSED { a.mul_add(b, c) } else { a * b + c }
        }))
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        self.with(other, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        self.with(other, |a, b| if a < b { a } else { b })
    }

    #[inline(always)]
    fn abs(self) -> Self {
        Portable(self.0.map(f32::abs))
    }

    #[inline(always)]
    fn low_bits_as_exponent(self) -> Self {
        Portable(self.0.map(|x| f32::from_bits(x.to_bits() << 23)))
    }

    #[inline(always)]
    fn low_half(self) -> Self {
        Portable(self.0.map(|x| f32::from_bits(x.to_bits() << 16)))
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        self.fold(|a, b| a + b)
    }

    #[inline(always)]
    fn largest(self) -> f32 {
        self.fold(|a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    unsafe fn zeros() -> [i32; 8] {
        [0; 8]
    }

    #[inline(always)]
    unsafe fn load_i8(from: *const i8) -> [i16; 16] {
        // SAFETY: the caller's pointer is good for sixteen bytes.
        unsafe { from.cast::<[i8; 16]>().read() }.map(i16::from)
    }

    #[inline(always)]
    unsafe fn splat_pair(from: *const i16) -> [i16; 16] {
        // SAFETY: the caller's pointer is good for two numbers.
        let pair = unsafe { from.cast::<[i16; 2]>().read() };
        from_fn(|place| pair[place % 2])
    }

    #[inline(always)]
    fn dot_pairs(sums: [i32; 8], left: [i16; 16], right: [i16; 16]) -> [i32; 8] {
        let product = |place: usize| i32::from(left[place]).wrapping_mul(i32::from(right[place]));
        from_fn(|lane| sums[lane].wrapping_add(product(2 * lane)).wrapping_add(product(2 * lane + 1)))
    }

    #[inline(always)]
    fn to_floats(sums: [i32; 8]) -> Self {
        Portable(sums.map(|sum| sum as f32))
    }
}

super::table::kernels!(Portable, 2, []);
