//! Linear layers in whole numbers: weights of -127..=127 with a scale an output, inputs of 0..=127 with a scale and a zero
//! a row. Seven bits, so that AVX2's sums of two products stay within sixteen, and every level sums exactly.
//!
//! Two things make up for so few bits:
//! - Inputs are multiplied by the square root of the root mean square of their weights, and weights divided by it. That
//!   makes weights more alike, and alike numbers lose less to rounding (Xiao et al., 2022,
//!   <https://arxiv.org/abs/2211.10438>, without its half that wants calibration).
//! - Encoders have a few inputs several times as large as any other. Those get several places of a row, each with a share
//!   of the input and all of its weight, so that they do not widen the scale of the others.
//!
//! Cosine to f32 of a whole encoder with both: see `Precision::Int8`.

use super::lanes::{Lanes, ROUNDER};
use super::pack::{Aligned, Bytes, Panels};

/// The largest whole number of a weight, and of an input.
pub(super) const LARGEST: f32 = 127.0;

/// Whole numbers from the lowest input of a row to the highest: one less than there are, as offsets take half of one on
/// either side.
pub(super) const STEPS: f32 = 126.0;

/// A row that spans less than this counts as zeros: its scale would be denormal.
const SMALLEST: f32 = 1e-30;

/// A layer's weights and how its inputs become whole numbers.
pub(super) struct Whole {
    pub weights: Aligned<Bytes>,
    /// What one is worth, a column.
    pub columns: Aligned<f32>,
    /// The sum of weights, a column.
    pub column_sums: Aligned<i32>,
    pub places: Places,
}

/// Where the inputs of a row go: each to the place of its number, some to further places at the end.
pub(super) struct Places {
    /// The inputs of the further places.
    pub further: Vec<usize>,
    /// A factor a place: the input's, divided by the number of its places.
    pub factors: Aligned<f32>,
    /// An offset a place, of -0.5 to 0.5: with places `j` of `m`, ⌊(y + ½ + j) / m⌋ add up to ⌊y + ½⌋ (Hermite's identity).
    pub offsets: Aligned<f32>,
}

/// What a product of whole numbers is worth.
#[derive(Clone, Copy)]
pub(super) struct Scales<'a> {
    /// What one is worth, a row.
    pub rows: &'a [f32],
    /// The whole number that stands for zero, a row.
    pub zeros: &'a [i32],
    /// As long as all panels.
    pub columns: &'a [f32],
    /// As long as all panels.
    pub column_sums: &'a [i32],
}

impl Whole {
    /// Of weights `[columns, ranges.len()]`; `ranges` are the largest magnitudes of the inputs, or in proportion to them;
    /// so many places beyond one an input, a multiple of 32.
    pub fn new(panels: Panels, weights: &[f32], ranges: &[f32], further: usize) -> Self {
        let depth = ranges.len();
        let (factors, padded) = (equalisers(weights, depth), panels.padded(weights.len() / depth));
        let spans: Vec<f32> = ranges.iter().zip(&factors).map(|(range, factor)| range * factor).collect();
        let places = Places::new(&spans, &factors, further);
        let (mut columns, mut column_sums) = (Aligned::zeros(padded), Aligned::zeros(padded));
        let mut whole = Vec::with_capacity(weights.len() / depth * places.count());
        for (column, weights) in weights.chunks_exact(depth).enumerate() {
            let equalised: Vec<f32> = weights.iter().zip(&factors).map(|(weight, factor)| weight / factor).collect();
            let scale = equalised.iter().fold(0.0_f32, |largest, weight| largest.max(weight.abs())) / LARGEST;
            // `as` makes 0 of the NaN of an all-zero column.
            let round = |input: usize| round_ties_even(equalised[input] / scale).clamp(-LARGEST, LARGEST) as i8;
            let start = whole.len();
            whole.extend((0..depth).chain(places.further.iter().copied()).map(round));
            columns[column] = scale;
            column_sums[column] = whole[start..].iter().map(|weight| i32::from(*weight)).sum();
        }
        Whole { weights: panels.pack_bytes(&whole, places.count()), columns, column_sums, places }
    }
}

impl Places {
    /// Further places of a row of an encoder's inputs. Measured with all-MiniLM-L6-v2.
    pub fn further(inputs: usize) -> usize {
        (inputs / 12).next_multiple_of(32)
    }

    /// Gives each further place to the input that spans most a place; `spans` are of the inputs times their factors.
    fn new(spans: &[f32], factors: &[f32], further: usize) -> Self {
        let mut counts = vec![1_usize; spans.len()];
        let share = |input: usize, counts: &[usize]| spans[input] / counts[input] as f32;
        let further: Vec<usize> = (0..further)
            .map(|_| {
                let widest = (1..spans.len()).fold(0, |widest, input| {
                    if share(input, &counts) > share(widest, &counts) { input } else { widest }
                });
                counts[widest] += 1;
                widest
            })
            .collect();
        let mut taken = vec![0_usize; spans.len()];
        let count = spans.len() + further.len();
        let (mut place_factors, mut offsets) = (Aligned::zeros(count), Aligned::zeros(count));
        for (place, input) in (0..spans.len()).chain(further.iter().copied()).enumerate() {
            let places = counts[input] as f32;
            place_factors[place] = factors[input] / places;
            offsets[place] = (taken[input] as f32 + 0.5) / places - 0.5;
            taken[input] += 1;
        }
        Places { further, factors: place_factors, offsets }
    }

    /// Places of a row.
    pub fn count(&self) -> usize {
        self.factors.len()
    }
}

/// The square root of the root mean square of an input's weights; 1 where all are zero.
fn equalisers(weights: &[f32], depth: usize) -> Vec<f32> {
    let mut squares = vec![0.0_f32; depth];
    for row in weights.chunks_exact(depth) {
        squares.iter_mut().zip(row).for_each(|(sum, weight)| *sum += weight * weight);
    }
    let mean = |sum: f32| sum / (weights.len() / depth) as f32;
    squares.into_iter().map(|sum| if mean(sum) > 1e-20 { mean(sum).sqrt().sqrt() } else { 1.0 }).collect()
}

/// To the nearest whole number, ties to even, for numbers up to ±4,194,303; the standard library's may be a call.
fn round_ties_even(x: f32) -> f32 {
    (x + ROUNDER) - ROUNDER
}

/// Rows to be rounded.
pub(super) struct Rounding<'a> {
    /// Rows of as many as there are places, less the further ones.
    pub inputs: &'a [f32],
    pub places: &'a Places,
    /// Scratch: a row of all places.
    pub row: &'a mut [f32],
    /// Rows of all places.
    pub outputs: &'a mut [u8],
    /// What one is worth, a row.
    pub scales: &'a mut [f32],
    /// What stands for zero, a row.
    pub zeros: &'a mut [i32],
}

/// Rounds; of NaN it makes some number.
///
/// # Safety
/// The CPU has the instructions of `V`; the slices are as long as [`Rounding`] says, and a vector divides inputs and places.
#[inline(always)]
pub(super) unsafe fn round<V: Lanes>(rounding: Rounding<'_>) {
    let Rounding { inputs, places, row, outputs, scales, zeros } = rounding;
    let (depth, count) = (places.count() - places.further.len(), places.count());
    let (factors, offsets) = (places.factors.as_ptr(), places.offsets.as_ptr());
    for (index, input) in inputs.chunks_exact(depth).enumerate() {
        row[..depth].copy_from_slice(input);
        for (place, input_of) in row[depth..].iter_mut().zip(&places.further) {
            *place = input[*input_of];
        }
        let row = row.as_mut_ptr();
        // SAFETY: row, factors, offsets and a row of outputs have all places, which a vector divides.
        unsafe {
            let (mut lowest, mut highest) = (V::splat(0.0), V::splat(0.0));
            for place in (0..count).step_by(V::WIDTH) {
                let scaled = V::load(row.add(place)).mul(V::load(factors.add(place)));
                (lowest, highest) = (scaled.min(lowest), scaled.max(highest));
                scaled.store(row.add(place));
            }
            let (lowest, highest) = (-V::splat(0.0).sub(lowest).largest(), highest.largest());
            let span = highest - lowest;
            let usable = span >= SMALLEST;
            let inverse = if usable { STEPS / span } else { 0.0 };
            let zero = round_ties_even(-lowest * inverse + 0.5);
            scales[index] = if usable { span / STEPS } else { 0.0 };
            zeros[index] = zero as i32;
            let (inverse, zero) = (V::splat(inverse), V::splat(zero));
            let (least, most) = (V::splat(0.0), V::splat(LARGEST));
            for place in (0..count).step_by(V::WIDTH) {
                let whole = V::load(row.add(place)).mul(inverse).add(V::load(offsets.add(place)).add(zero));
                whole.max(least).min(most).store_bytes(outputs.as_mut_ptr().add(index * count + place));
            }
        }
    }
}
