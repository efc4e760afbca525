//! One vector of floats as every instruction set has it, and the functions that need no more than that.
//!
//! A vector can only be made by the unsafe constructors, whose caller vouches for the instruction set; whoever holds
//! one may therefore compute with it safely. Every method is inlined into an entry point that enables the
//! instructions (`table.rs`): called from elsewhere it would be correct, but slow.

/// A vector of floats, and one of as many 32-bit integers.
///
/// # Safety
/// The unsafe functions want a CPU with the implementation's instructions, and pointers good for what they name.
pub(super) trait Lanes: Copy {
    /// Floats in a vector.
    const WIDTH: usize;
    /// As many 32-bit integers, or as many times four bytes.
    type Integers: Copy;

    /// # Safety
    /// The CPU has the instructions.
    unsafe fn splat(value: f32) -> Self;
    /// # Safety
    /// The CPU has the instructions; `from` is good for `WIDTH` floats.
    unsafe fn load(from: *const f32) -> Self;
    /// # Safety
    /// `to` is good for `WIDTH` floats.
    unsafe fn store(self, to: *mut f32);
    /// Rounds whole numbers of 0..=127 to bytes: to the nearest, ties to even. What is beyond may come out as anything.
    ///
    /// # Safety
    /// `to` is good for `WIDTH` bytes.
    unsafe fn store_bytes(self, to: *mut u8);
    /// A block of eight rows of eight floats, `from_stride` apart, as columns.
    ///
    /// # Safety
    /// The CPU has the instructions; `from` and `to` are good for eight rows of eight, their strides apart.
    unsafe fn transpose(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize);

    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    fn div(self, other: Self) -> Self;
    /// `self * factor + addend`, rounded once where the CPU can.
    fn mul_add(self, factor: Self, addend: Self) -> Self;
    /// The larger; `other` if either is NaN.
    fn max(self, other: Self) -> Self;
    /// The smaller; `other` if either is NaN.
    fn min(self, other: Self) -> Self;
    /// The lowest nine bits of the representation as sign and exponent: 2^(n - 127) for a lowest part n.
    fn low_bits_as_exponent(self) -> Self;
    /// The lower sixteen bits of the representation as upper ones.
    fn low_half(self) -> Self;
    /// The upper sixteen bits of the representation, the lower ones zero.
    fn high_half(self) -> Self;
    /// Adds the products of both halves, each a bfloat16. The CPU may take denormals for zeros.
    #[inline(always)]
    fn dot_halves(self, left: Self, right: Self) -> Self {
        self.dot_widened(left, right)
    }
    /// The same as two products of floats.
    #[inline(always)]
    fn dot_widened(self, left: Self, right: Self) -> Self {
        let high = left.high_half().mul_add(right.high_half(), self);
        left.low_half().mul_add(right.low_half(), high)
    }
    /// The sum of all lanes.
    fn sum(self) -> f32;
    /// The largest of all lanes.
    fn largest(self) -> f32;

    /// # Safety
    /// The CPU has the instructions.
    unsafe fn splat_integer(value: i32) -> Self::Integers;
    /// # Safety
    /// The CPU has the instructions; `from` is good for `WIDTH` integers.
    unsafe fn load_integers(from: *const i32) -> Self::Integers;
    /// Adds the products of four bytes each. Exact where no unsigned byte is above 127, and no sum leaves 32 bits.
    fn dot_bytes(sums: Self::Integers, unsigned: Self::Integers, signed: Self::Integers) -> Self::Integers;
    /// `sums - factor * other`, wrapping.
    fn sub_product(sums: Self::Integers, factor: Self::Integers, other: Self::Integers) -> Self::Integers;
    fn to_floats(integers: Self::Integers) -> Self;
    /// Asks for the cache line of an address, which may be any.
    fn prefetch(address: *const u8);
}

/// A loop of a constant number of turns. Unlike an iterator's, its body is certain to become part of the entry point that
/// enables the instructions.
macro_rules! each {
    ($index:ident in $turns:expr => $body:expr) => {{
        let mut $index = 0;
        while $index < $turns {
            $body;
            $index += 1;
        }
    }};
}
pub(super) use each;

/// 1.5 · 2^23: adding it leaves the nearest whole number in the lowest bits.
pub(super) const ROUNDER: f32 = 12_582_912.0;

/// `self * factor + addend` with one factor for all lanes.
///
/// # Safety
/// None of its own: `x` vouches for the CPU.
#[inline(always)]
fn affine<V: Lanes>(x: V, factor: f32, addend: f32) -> V {
    // SAFETY: a vector exists, so the CPU has the instructions.
    unsafe { x.mul_add(V::splat(factor), V::splat(addend)) }
}

/// `coefficients[0] + coefficients[1] x + …`, by Horner's rule.
#[inline(always)]
fn polynomial<V: Lanes, const TERMS: usize>(x: V, coefficients: [f32; TERMS]) -> V {
    // SAFETY: a vector exists, so the CPU has the instructions.
    unsafe {
        let mut sum = V::splat(coefficients[TERMS - 1]);
        let mut term = TERMS - 1;
        while term > 0 {
            term -= 1;
            sum = sum.mul_add(x, V::splat(coefficients[term]));
        }
        sum
    }
}

#[inline(always)]
fn clamp<V: Lanes>(x: V, low: f32, high: f32) -> V {
    // SAFETY: a vector exists, so the CPU has the instructions.
    unsafe { x.max(V::splat(low)).min(V::splat(high)) }
}

/// e^x to 2 units in the last place for x in -87..=88, and its ends outside. Range reduction and coefficients of
/// Cephes' `expf` (Moshier, <https://www.netlib.org/cephes/>).
#[inline(always)]
pub(super) fn exp<V: Lanes>(x: V) -> V {
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let x = clamp(x, -87.0, 88.0);
    let shifted = affine(x, std::f32::consts::LOG2_E, ROUNDER + 127.0);
    let whole = affine(shifted, 1.0, -(ROUNDER + 127.0));
    // SAFETY: a vector exists, so the CPU has the instructions.
    let rest = unsafe { whole.mul_add(V::splat(-LN_2_LOW), whole.mul_add(V::splat(-LN_2_HIGH), x)) };
    let tail = polynomial(rest, [0.5, 1.666_666_5e-1, 4.166_579_6e-2, 8.333_452e-3, 1.398_199_9e-3, 1.987_569_1e-4]);
    let fraction = affine(tail.mul_add(rest.mul(rest), rest), 1.0, 1.0);
    fraction.mul(shifted.low_bits_as_exponent())
}

/// The error function to 3e-7, as a rational minimax approximation on -4..=4 (coefficients of XLA's `ErfImpl32`, which
/// Eigen had as `generic_fast_erf_float`).
#[inline(always)]
fn erf<V: Lanes>(x: V) -> V {
    let x = clamp(x, -4.0, 4.0);
    let square = x.mul(x);
    let above = polynomial(
        square,
        [
            -1.609_603_3e-2,
            -2.954_6e-3,
            -7.349_906_3e-4,
            -5.692_506_4e-5,
            -2.101_024e-6,
            2.770_681_4e-8,
            -2.726_142_3e-10,
        ],
    );
    let below = polynomial(square, [-1.426_474e-2, -7.373_329_2e-3, -1.682_827e-3, -2.133_740_6e-4, -1.456_607_2e-5]);
    x.mul(above).div(below)
}

/// x Φ(x), Hendrycks & Gimpel, 2016, <https://arxiv.org/abs/1606.08415>.
#[inline(always)]
pub(super) fn gelu<V: Lanes>(x: V) -> V {
    let half = affine(x, 0.5, 0.0);
    half.mul_add(erf(affine(x, std::f32::consts::FRAC_1_SQRT_2, 0.0)), half)
}

/// The same with the paper's tanh: 0.5 x (1 + tanh u) = x / (1 + e^(-2u)), u = √(2/π) (x + 0.044715 x³).
#[inline(always)]
pub(super) fn gelu_tanh<V: Lanes>(x: V) -> V {
    const MINUS_2_SQRT_2_OVER_PI: f32 = -1.595_769;
    let inner = affine(x.mul(x), 0.044_715 * MINUS_2_SQRT_2_OVER_PI, MINUS_2_SQRT_2_OVER_PI);
    x.div(affine(exp(inner.mul(x)), 1.0, 1.0))
}

#[inline(always)]
pub(super) fn relu<V: Lanes>(x: V) -> V {
    // SAFETY: a vector exists, so the CPU has the instructions.
    x.max(unsafe { V::splat(0.0) })
}
