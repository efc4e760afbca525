//! What is done to one row at a time: normalisation, the embedding's sum, and rounding to whole numbers.

use super::lanes::Lanes;

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
