//! Vectors of 512 bits: AVX-512 with VNNI (Ice Lake and later), with and without BF16 (Cooper Lake, Zen 4, and later).

use super::avx2::Avx2;
use super::lanes::Lanes;
use std::arch::x86_64::*;

/// A vector; whether the CPU multiplies bfloat16 by itself is part of its type.
#[derive(Clone, Copy)]
pub(super) struct Avx512<const BF16: bool>(__m512);

/// Evaluates intrinsics that touch no memory.
macro_rules! compute {
    ($value:expr) => {
        // SAFETY: a vector was handed in, so the CPU has AVX-512 F, BW and VNNI, and BF16 if it says so (`lanes.rs`).
        unsafe { $value }
    };
}

impl<const BF16: bool> Lanes for Avx512<BF16> {
    const WIDTH: usize = 16;
    type Integers = __m512i;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: the caller vouches for the CPU.
        Avx512(unsafe { _mm512_set1_ps(value) })
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller vouches for CPU and pointer.
        Avx512(unsafe { _mm512_loadu_ps(from) })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller vouches for the pointer, the vector for the CPU.
        unsafe { _mm512_storeu_ps(to, self.0) }
    }

    #[inline(always)]
    unsafe fn store_bytes(self, to: *mut u8) {
        // SAFETY: the caller vouches for the pointer, the vector for the CPU.
        unsafe { _mm_storeu_si128(to.cast(), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(self.0))) }
    }

    #[inline(always)]
    unsafe fn transpose(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
        // SAFETY: AVX-512 comes with AVX2; the caller vouches for the rest.
        unsafe { Avx2::transpose(from, from_stride, to, to_stride) }
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Avx512(compute!(_mm512_add_ps(self.0, other.0)))
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        Avx512(compute!(_mm512_sub_ps(self.0, other.0)))
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        Avx512(compute!(_mm512_mul_ps(self.0, other.0)))
    }

    #[inline(always)]
    fn div(self, other: Self) -> Self {
        Avx512(compute!(_mm512_div_ps(self.0, other.0)))
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, addend: Self) -> Self {
        Avx512(compute!(_mm512_fmadd_ps(self.0, factor.0, addend.0)))
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        Avx512(compute!(_mm512_max_ps(self.0, other.0)))
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        Avx512(compute!(_mm512_min_ps(self.0, other.0)))
    }

    #[inline(always)]
    fn low_bits_as_exponent(self) -> Self {
        Avx512(compute!(_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(self.0), 23))))
    }

    #[inline(always)]
    fn low_half(self) -> Self {
        Avx512(compute!(_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(self.0), 16))))
    }

    #[inline(always)]
    fn high_half(self) -> Self {
        let mask = compute!(_mm512_set1_epi32(-0x1_0000));
        Avx512(compute!(_mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(self.0), mask))))
    }

    #[inline(always)]
    fn dot_halves(self, left: Self, right: Self) -> Self {
        if BF16 {
            let halves = |vector: Self| compute!(std::mem::transmute::<__m512, __m512bh>(vector.0));
            return Avx512(compute!(_mm512_dpbf16_ps(self.0, halves(left), halves(right))));
        }
        self.dot_widened(left, right)
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        compute!(_mm512_reduce_add_ps(self.0))
    }

    #[inline(always)]
    fn largest(self) -> f32 {
        compute!(_mm512_reduce_max_ps(self.0))
    }

    #[inline(always)]
    unsafe fn splat_integer(value: i32) -> __m512i {
        // SAFETY: the caller vouches for the CPU.
        unsafe { _mm512_set1_epi32(value) }
    }

    #[inline(always)]
    unsafe fn load_integers(from: *const i32) -> __m512i {
        // SAFETY: the caller vouches for CPU and pointer.
        unsafe { _mm512_loadu_si512(from.cast()) }
    }

    #[inline(always)]
    fn dot_bytes(sums: __m512i, unsigned: __m512i, signed: __m512i) -> __m512i {
        compute!(_mm512_dpbusd_epi32(sums, unsigned, signed))
    }

    #[inline(always)]
    fn sub_product(sums: __m512i, factor: __m512i, other: __m512i) -> __m512i {
        compute!(_mm512_sub_epi32(sums, _mm512_mullo_epi32(factor, other)))
    }

    #[inline(always)]
    fn to_floats(integers: __m512i) -> Self {
        Avx512(compute!(_mm512_cvtepi32_ps(integers)))
    }

    #[inline(always)]
    fn prefetch(address: *const u8) {
        compute!(_mm_prefetch(address.cast(), _MM_HINT_T0));
    }
}

type Plain = Avx512<false>;

super::table::kernels!(Plain, 4, ["avx512f,avx512bw,avx512vnni"], native_halves: false);
