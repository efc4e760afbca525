//! What is done to one row at a time: normalisation, the embedding's sum, and rounding to whole numbers.

use super::lanes::Lanes;

/// The largest whole number an activation becomes. Thirteen bits: 4,096 products with weights of at most 127 stay
/// within 32 bits, and the rounding of activations is no longer what an int8 product loses.
pub(super) const LARGEST_INPUT: f32 = 4095.0;

/// A row whose largest entry is below this counts as zeros: its scale would be denormal.
const SMALLEST: f32 = 1e-30;

/// Layer normalisation over rows of `gain.len()`, in place. Ba et al., 2016, <https://arxiv.org/abs/1607.06450>.
///
/// # Safety
/// The CPU has the instructions of `V`; gain and shift are equally long, a multiple of the vector and not empty; `rows`
/// is a multiple of them.
#[inline(always)]
pub(super) unsafe fn normalise<V: Lanes>(rows: &mut [f32], gain: &[f32], shift: &[f32], epsilon: f32) {
    let width = gain.len();
    for row in rows.chunks_exact_mut(width) {
        let row = row.as_mut_ptr();
        // SAFETY: `row`, gain and shift are `width` long, and a vector divides that.
        unsafe {
            let mut sum = V::splat(0.0);
            for at in (0..width).step_by(V::WIDTH) {
                sum = sum.add(V::load(row.add(at)));
            }
            let mean = V::splat(sum.sum() / width as f32);
            let mut squares = V::splat(0.0);
            for at in (0..width).step_by(V::WIDTH) {
                let centred = V::load(row.add(at)).sub(mean);
                squares = centred.mul_add(centred, squares);
            }
            let inverse = V::splat(1.0 / (squares.sum() / width as f32 + epsilon).sqrt());
            for at in (0..width).step_by(V::WIDTH) {
                let centred = V::load(row.add(at)).sub(mean).mul(inverse);
                centred.mul_add(V::load(gain.as_ptr().add(at)), V::load(shift.as_ptr().add(at))).store(row.add(at));
            }
        }
    }
}

/// The sum of three rows.
///
/// # Safety
/// The CPU has the instructions of `V`; all are equally long, a multiple of the vector.
#[inline(always)]
pub(super) unsafe fn add<V: Lanes>(parts: [&[f32]; 3], sum: &mut [f32]) {
    for at in (0..sum.len()).step_by(V::WIDTH) {
        // SAFETY: all parts reach as far as the sum.
        unsafe {
            let [first, second, third] = parts.map(|part| part.as_ptr().add(at));
            V::load(first).add(V::load(second)).add(V::load(third)).store(sum.as_mut_ptr().add(at));
        }
    }
}

/// Rows of `factors · inputs` as whole numbers up to [`LARGEST_INPUT`], and what one of them is worth in each row. Of NaN
/// it makes some number.
///
/// # Safety
/// The CPU has the instructions of `V`; `inputs` and `outputs` are `scales.len()` rows as long as `factors`, a multiple of
/// the vector.
#[inline(always)]
pub(super) unsafe fn round<V: Lanes>(inputs: &[f32], factors: &[f32], outputs: &mut [i16], scales: &mut [f32]) {
    let depth = factors.len();
    for (row, scale) in scales.iter_mut().enumerate() {
        // SAFETY: the row is inside what the caller vouches for.
        unsafe {
            let (input, output) = (inputs.as_ptr().add(row * depth), outputs.as_mut_ptr().add(row * depth));
            let mut largest = V::splat(0.0);
            for at in (0..depth).step_by(V::WIDTH) {
                let scaled = V::load(input.add(at)).mul(V::load(factors.as_ptr().add(at)));
                largest = scaled.abs().max(largest);
            }
            let largest = largest.largest();
            let usable = largest >= SMALLEST;
            *scale = if usable { largest / LARGEST_INPUT } else { 0.0 };
            let inverse = V::splat(if usable { LARGEST_INPUT / largest } else { 0.0 });
            let (lowest, highest) = (V::splat(-LARGEST_INPUT), V::splat(LARGEST_INPUT));
            for at in (0..depth).step_by(V::WIDTH) {
                let scaled = V::load(input.add(at)).mul(V::load(factors.as_ptr().add(at)));
                scaled.mul(inverse).max(lowest).min(highest).store_i16(output.add(at));
            }
        }
    }
}
