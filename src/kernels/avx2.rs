//! Vectors of 256 bits: AVX2 with FMA (Haswell, Zen, and later).

use super::lanes::{Lanes, each};
use std::arch::x86_64::*;

#[derive(Clone, Copy)]
pub(super) struct Avx2(__m256);

/// Evaluates intrinsics that touch no memory.
macro_rules! compute {
    ($value:expr) => {
        // SAFETY: a vector was handed in, so the CPU has AVX2 and FMA (see `lanes.rs`).
        unsafe { $value }
    };
}

impl Lanes for Avx2 {
    const WIDTH: usize = 8;
    type Integers = __m256i;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: the caller vouches for the CPU.
        Avx2(unsafe { _mm256_set1_ps(value) })
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller vouches for CPU and pointer.
        Avx2(unsafe { _mm256_loadu_ps(from) })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller vouches for the pointer, the vector for the CPU.
        unsafe { _mm256_storeu_ps(to, self.0) }
    }

    #[inline(always)]
    unsafe fn store_bytes(self, to: *mut u8) {
        // SAFETY: the caller vouches for the pointer, the vector for the CPU.
        unsafe {
            let whole = _mm256_cvtps_epi32(self.0);
            let halves = _mm_packs_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1));
            _mm_storel_epi64(to.cast(), _mm_packus_epi16(halves, halves));
        }
    }

    /// In three rounds of exchanges: of neighbours, of pairs, of halves.
    #[inline(always)]
    unsafe fn transpose(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
        // SAFETY: the caller vouches for CPU and pointers.
        unsafe {
            let row = |row: usize| _mm256_loadu_ps(from.add(row * from_stride));
            let rows = [row(0), row(1), row(2), row(3), row(4), row(5), row(6), row(7)];
            let mut pairs = rows;
            each!(pair in 4 => {
                pairs[2 * pair] = _mm256_unpacklo_ps(rows[2 * pair], rows[2 * pair + 1]);
                pairs[2 * pair + 1] = _mm256_unpackhi_ps(rows[2 * pair], rows[2 * pair + 1]);
            });
            let mut fours = rows;
            each!(half in 2 => {
                let at = 4 * half;
                fours[at] = _mm256_shuffle_ps(pairs[at], pairs[at + 2], 0x44);
                fours[at + 1] = _mm256_shuffle_ps(pairs[at], pairs[at + 2], 0xee);
                fours[at + 2] = _mm256_shuffle_ps(pairs[at + 1], pairs[at + 3], 0x44);
                fours[at + 3] = _mm256_shuffle_ps(pairs[at + 1], pairs[at + 3], 0xee);
            });
            each!(at in 4 => {
                let (low, high) = (fours[at], fours[at + 4]);
                _mm256_storeu_ps(to.add(at * to_stride), _mm256_permute2f128_ps(low, high, 0x20));
                _mm256_storeu_ps(to.add((at + 4) * to_stride), _mm256_permute2f128_ps(low, high, 0x31));
            });
        }
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Avx2(compute!(_mm256_add_ps(self.0, other.0)))
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        Avx2(compute!(_mm256_sub_ps(self.0, other.0)))
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        Avx2(compute!(_mm256_mul_ps(self.0, other.0)))
    }

    #[inline(always)]
    fn div(self, other: Self) -> Self {
        Avx2(compute!(_mm256_div_ps(self.0, other.0)))
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, addend: Self) -> Self {
        Avx2(compute!(_mm256_fmadd_ps(self.0, factor.0, addend.0)))
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        Avx2(compute!(_mm256_max_ps(self.0, other.0)))
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        Avx2(compute!(_mm256_min_ps(self.0, other.0)))
    }

    #[inline(always)]
    fn low_bits_as_exponent(self) -> Self {
        Avx2(compute!(_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(self.0), 23))))
    }

    #[inline(always)]
    fn low_half(self) -> Self {
        Avx2(compute!(_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(self.0), 16))))
    }

    #[inline(always)]
    fn high_half(self) -> Self {
        let mask = compute!(_mm256_set1_epi32(-0x1_0000));
        Avx2(compute!(_mm256_castsi256_ps(_mm256_and_si256(_mm256_castps_si256(self.0), mask))))
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        compute!({
            let four = _mm_add_ps(_mm256_castps256_ps128(self.0), _mm256_extractf128_ps(self.0, 1));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
        })
    }

    #[inline(always)]
    fn largest(self) -> f32 {
        compute!({
            let four = _mm_max_ps(_mm256_castps256_ps128(self.0), _mm256_extractf128_ps(self.0, 1));
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
        })
    }

    #[inline(always)]
    unsafe fn splat_integer(value: i32) -> __m256i {
        // SAFETY: the caller vouches for the CPU.
        unsafe { _mm256_set1_epi32(value) }
    }

    #[inline(always)]
    unsafe fn load_integers(from: *const i32) -> __m256i {
        // SAFETY: the caller vouches for CPU and pointer.
        unsafe { _mm256_loadu_si256(from.cast()) }
    }

    /// Pairs first, in 16 bits: 2 · 127 · 127 still fits.
    #[inline(always)]
    fn dot_bytes(sums: __m256i, unsigned: __m256i, signed: __m256i) -> __m256i {
        compute!({
            let pairs = _mm256_maddubs_epi16(unsigned, signed);
            _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
        })
    }

    #[inline(always)]
    fn sub_product(sums: __m256i, factor: __m256i, other: __m256i) -> __m256i {
        compute!(_mm256_sub_epi32(sums, _mm256_mullo_epi32(factor, other)))
    }

    #[inline(always)]
    fn to_floats(integers: __m256i) -> Self {
        Avx2(compute!(_mm256_cvtepi32_ps(integers)))
    }

    #[inline(always)]
    fn prefetch(address: *const u8) {
        compute!(_mm_prefetch(address.cast(), _MM_HINT_T0));
    }
}

super::table::kernels!(Avx2, 2, ["avx2,fma"], native_halves: false);
