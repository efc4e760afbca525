//! Vectors for every CPU: plain loops over the lanes, which the compiler turns into what the target has (two NEON or SSE2
//! registers for eight).

use super::lanes::{Lanes, ROUNDER};
use std::array::from_fn;

#[derive(Clone, Copy)]
#[repr(align(32))]
pub(super) struct Portable<const WIDTH: usize>([f32; WIDTH]);

type Eight = Portable<8>;

/// Without the instruction, `f32::mul_add` would be a call into the C library.
const FUSED: bool = cfg!(any(target_arch = "aarch64", target_feature = "fma"));

impl<const WIDTH: usize> Portable<WIDTH> {
    #[inline(always)]
    fn with(self, other: Self, operation: impl Fn(f32, f32) -> f32) -> Self {
        Portable(from_fn(|lane| operation(self.0[lane], other.0[lane])))
    }

    /// All lanes as one, in halves: as the other levels do it.
    #[inline(always)]
    fn fold(self, operation: impl Fn(f32, f32) -> f32) -> f32 {
        let (mut lanes, mut half) = (self.0, WIDTH / 2);
        while half > 0 {
            for lane in 0..half {
                lanes[lane] = operation(lanes[lane], lanes[lane + half]);
            }
            half /= 2;
        }
        lanes[0]
    }
}

impl<const WIDTH: usize> Lanes for Portable<WIDTH> {
    const WIDTH: usize = WIDTH;
    type Integers = [i32; WIDTH];

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Portable([value; WIDTH])
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's pointer is good for a vector.
        Portable(unsafe { from.cast::<[f32; WIDTH]>().read() })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller's pointer is good for a vector.
        unsafe { to.cast::<[f32; WIDTH]>().write(self.0) }
    }

    #[inline(always)]
    unsafe fn store_bytes(self, to: *mut u8) {
        let rounded = self.0.map(|x| ((x + ROUNDER).to_bits().wrapping_sub(ROUNDER.to_bits())) as u8);
        // SAFETY: the caller's pointer is good for as many bytes.
        unsafe { to.cast::<[u8; WIDTH]>().write(rounded) }
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
    fn low_bits_as_exponent(self) -> Self {
        Portable(self.0.map(|x| f32::from_bits(x.to_bits() << 23)))
    }

    #[inline(always)]
    fn low_half(self) -> Self {
        Portable(self.0.map(|x| f32::from_bits(x.to_bits() << 16)))
    }

    #[inline(always)]
    fn high_half(self) -> Self {
        Portable(self.0.map(|x| f32::from_bits(x.to_bits() & !0xffff)))
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
    unsafe fn splat_integer(value: i32) -> [i32; WIDTH] {
        [value; WIDTH]
    }

    #[inline(always)]
    unsafe fn load_integers(from: *const i32) -> [i32; WIDTH] {
        // SAFETY: the caller's pointer is good for a vector.
        unsafe { from.cast::<[i32; WIDTH]>().read_unaligned() }
    }

    #[inline(always)]
    fn dot_bytes(sums: [i32; WIDTH], unsigned: [i32; WIDTH], signed: [i32; WIDTH]) -> [i32; WIDTH] {
        let product = |lane: usize, byte: u32| {
            (unsigned[lane] >> (8 * byte) & 0xff) * i32::from((signed[lane] >> (8 * byte)) as i8)
        };
        from_fn(|lane| sums[lane] + product(lane, 0) + product(lane, 1) + product(lane, 2) + product(lane, 3))
    }

    #[inline(always)]
    fn sub_product(sums: [i32; WIDTH], factor: [i32; WIDTH], other: [i32; WIDTH]) -> [i32; WIDTH] {
        from_fn(|lane| sums[lane].wrapping_sub(factor[lane].wrapping_mul(other[lane])))
    }

    #[inline(always)]
    fn to_floats(integers: [i32; WIDTH]) -> Self {
        Portable(integers.map(|integer| integer as f32))
    }

    #[inline(always)]
    fn prefetch(address: *const u8) {
        let _ = address;
    }
}

super::table::kernels!(Eight, 2, [], native_halves: false);
