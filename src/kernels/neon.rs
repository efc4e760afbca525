//! Vectors of 128 bits: NEON, which every 64-bit ARM has. Without or with the dot product of bytes (`dotprod.rs`).

use super::lanes::{Lanes, each};
use std::arch::aarch64::*;
use std::arch::asm;

/// `DOT`: the CPU has SDOT.
#[derive(Clone, Copy)]
pub(super) struct Neon<const DOT: bool>(float32x4_t);

type Widening = Neon<false>;

/// Evaluates intrinsics that touch no memory.
macro_rules! compute {
    ($value:expr) => {
        // SAFETY: a vector was handed in, so the CPU has NEON, and SDOT where `DOT` says so (see `lanes.rs`).
        unsafe { $value }
    };
}

impl<const DOT: bool> Lanes for Neon<DOT> {
    const WIDTH: usize = 4;
    type Integers = int32x4_t;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: the caller vouches for the CPU.
        Neon(unsafe { vdupq_n_f32(value) })
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller vouches for CPU and pointer.
        Neon(unsafe { vld1q_f32(from) })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller vouches for the pointer, the vector for the CPU.
        unsafe { vst1q_f32(to, self.0) }
    }

    #[inline(always)]
    unsafe fn store_bytes(self, to: *mut u8) {
        // SAFETY: the caller vouches for the pointer, the vector for the CPU.
        unsafe {
            let halves = vreinterpretq_u8_s32(vcvtnq_s32_f32(self.0));
            let pairs = vuzp1q_u8(halves, halves);
            let bytes = vreinterpretq_u32_u8(vuzp1q_u8(pairs, pairs));
            to.cast::<u32>().write_unaligned(vgetq_lane_u32(bytes, 0));
        }
    }

    /// Four blocks of four by four, each in two rounds of exchanges: of neighbours, of pairs.
    #[inline(always)]
    unsafe fn transpose(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
        // SAFETY: the caller vouches for CPU and pointers.
        unsafe {
            each!(block in 4 => {
                let (first, column) = (block / 2 * 4, block % 2 * 4);
                let row = |row: usize| vld1q_f32(from.add((first + row) * from_stride + column));
                let rows = [row(0), row(1), row(2), row(3)];
                each!(half in 2 => {
                    let pair = |row: usize| {
                        let (upper, lower) = (rows[row], rows[row + 1]);
                        vreinterpretq_f64_f32(if half == 0 { vtrn1q_f32(upper, lower) } else { vtrn2q_f32(upper, lower) })
                    };
                    let (upper, lower) = (pair(0), pair(2));
                    let to = to.add((column + half) * to_stride + first);
                    vst1q_f32(to, vreinterpretq_f32_f64(vtrn1q_f64(upper, lower)));
                    vst1q_f32(to.add(2 * to_stride), vreinterpretq_f32_f64(vtrn2q_f64(upper, lower)));
                });
            });
        }
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Neon(compute!(vaddq_f32(self.0, other.0)))
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        Neon(compute!(vsubq_f32(self.0, other.0)))
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        Neon(compute!(vmulq_f32(self.0, other.0)))
    }

    #[inline(always)]
    fn div(self, other: Self) -> Self {
        Neon(compute!(vdivq_f32(self.0, other.0)))
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, addend: Self) -> Self {
        Neon(compute!(vfmaq_f32(addend.0, self.0, factor.0)))
    }

    /// Not FMAX: of a number and NaN that makes NaN, whichever is which.
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        Neon(compute!(vbslq_f32(vcgtq_f32(self.0, other.0), self.0, other.0)))
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        Neon(compute!(vbslq_f32(vcltq_f32(self.0, other.0), self.0, other.0)))
    }

    #[inline(always)]
    fn low_bits_as_exponent(self) -> Self {
        Neon(compute!(vreinterpretq_f32_u32(vshlq_n_u32(vreinterpretq_u32_f32(self.0), 23))))
    }

    #[inline(always)]
    fn low_half(self) -> Self {
        Neon(compute!(vreinterpretq_f32_u32(vshlq_n_u32(vreinterpretq_u32_f32(self.0), 16))))
    }

    #[inline(always)]
    fn high_half(self) -> Self {
        let mask = compute!(vdupq_n_u32(0xffff_0000));
        Neon(compute!(vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(self.0), mask))))
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        compute!(vaddvq_f32(self.0))
    }

    #[inline(always)]
    fn largest(self) -> f32 {
        compute!(vmaxvq_f32(self.0))
    }

    #[inline(always)]
    unsafe fn splat_integer(value: i32) -> int32x4_t {
        // SAFETY: the caller vouches for the CPU.
        unsafe { vdupq_n_s32(value) }
    }

    #[inline(always)]
    unsafe fn load_integers(from: *const i32) -> int32x4_t {
        // SAFETY: the caller vouches for CPU and pointer.
        unsafe { vld1q_s32(from) }
    }

    /// Up to 127, an unsigned byte is a signed one. Without SDOT pairs first, in 16 bits: 2 · 127 · 127 still fits.
    #[inline(always)]
    fn dot_bytes(sums: int32x4_t, unsigned: int32x4_t, signed: int32x4_t) -> int32x4_t {
        compute!({
            if DOT {
                let mut sums = sums;
                // `vdotq_s32` is not stable (https://github.com/rust-lang/rust/issues/117224).
                asm!(
                    "sdot {sums:v}.4s, {unsigned:v}.16b, {signed:v}.16b",
                    sums = inlateout(vreg) sums,
                    unsigned = in(vreg) unsigned,
                    signed = in(vreg) signed,
                    options(pure, nomem, nostack, preserves_flags),
                );
                sums
            } else {
                let (unsigned, signed) = (vreinterpretq_s8_s32(unsigned), vreinterpretq_s8_s32(signed));
                let low = vmull_s8(vget_low_s8(unsigned), vget_low_s8(signed));
                vpadalq_s16(sums, vpaddq_s16(low, vmull_high_s8(unsigned, signed)))
            }
        })
    }

    #[inline(always)]
    fn sub_product(sums: int32x4_t, factor: int32x4_t, other: int32x4_t) -> int32x4_t {
        compute!(vmlsq_s32(sums, factor, other))
    }

    #[inline(always)]
    fn to_floats(integers: int32x4_t) -> Self {
        Neon(compute!(vcvtq_f32_s32(integers)))
    }

    #[inline(always)]
    fn prefetch(address: *const u8) {
        // `_prefetch` is not stable (https://github.com/rust-lang/rust/issues/117217).
        compute!(asm!("prfm pldl1keep, [{}]", in(reg) address.addr(), options(nomem, nostack, preserves_flags)));
    }
}

// Six rows by four vectors: sums, weights and an input fill 29 of 32 registers.
super::table::kernels!(Widening, 4, ["neon"], native_halves: false);
