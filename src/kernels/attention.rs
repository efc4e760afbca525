//! Scaled dot-product attention, one head and six queries at a time. Vaswani et al., 2017,
//! <https://arxiv.org/abs/1706.03762>.
//!
//! Keys and values of a head are packed into panels as weights are, so both products are the tile of `product.rs`: of
//! floats, or where the weights are rounded anyway and the CPU multiplies bfloat16 by itself, of these.

use super::lanes::{Lanes, each, exp};
use super::pack::{Halves, halve};
use super::product::{TILE_ROWS, for_rows, sums};
use super::weights::Weights;

/// Vectors of a panel of keys or values.
pub(super) const PANEL_VECTORS: usize = 2;

/// Columns of a panel at the widest level. Heads are whole panels wide, and tokens are filled up to them.
pub(super) const WIDEST_PANEL: usize = 32;

/// Below any score: the padding behind the last key.
const NEVER: f32 = -1e30;

/// One layer's attention.
pub(super) struct Attention<'a> {
    pub tokens: usize,
    pub heads: usize,
    /// Queries, keys and values side by side: `[tokens, 3 · width]`.
    pub projected: &'a [f32],
    /// `[tokens, width]`.
    pub outputs: &'a mut [f32],
    /// Scratch: a head's keys and values, `padded(tokens) · head width` each, and six rows of `padded(tokens)`.
    pub keys: &'a mut [f32],
    pub values: &'a mut [f32],
    pub scores: &'a mut [f32],
    /// Scratch for products of bfloat16: `projected` and `scores` in so many halves of a number.
    pub halves: &'a mut [u32],
}

impl Attention<'_> {
    /// Tokens filled up to whole panels.
    pub fn padded(tokens: usize) -> usize {
        tokens.next_multiple_of(WIDEST_PANEL)
    }

    /// Length of `halves`.
    pub fn halves(tokens: usize, width: usize) -> usize {
        (tokens * 3 * width + TILE_ROWS * Self::padded(tokens)) / 2
    }

    fn width(&self) -> usize {
        self.outputs.len() / self.tokens
    }
}

/// Calls a function that is generic in its number of rows with all tokens as queries, a tile at a time.
macro_rules! for_tiles {
    ($tokens:expr, $function:ident::<$lanes:ident>($($argument:expr),*)) => {
        let (mut row, mut tiles) = (0, $tokens.div_ceil(TILE_ROWS));
        while tiles > 0 {
            let rows = ($tokens - row).div_ceil(tiles);
            // SAFETY: the rows exist, and the caller vouches for the rest.
            unsafe { for_rows!(rows, $function::<$lanes>($($argument,)* row)) };
            row += rows;
            tiles -= 1;
        }
    };
}

/// # Safety
/// The CPU has the instructions of `V`; the slices are as long as [`Attention`] says; the width of a head is a multiple
/// of [`WIDEST_PANEL`]; there is a token.
#[inline(always)]
pub(super) unsafe fn attend<V: Lanes>(mut attention: Attention<'_>) {
    let (width, head_width, tokens) = (attention.width(), attention.width() / attention.heads, attention.tokens);
    for head in 0..attention.heads {
        let column = head * head_width;
        // SAFETY: the caller vouches for it; keys stand behind the queries of a token.
        unsafe {
            let keys = attention.projected.as_ptr().add(width + column);
            pack_keys::<V>(keys, 3 * width, tokens, head_width, attention.keys);
        }
        pack_values::<V>(&mut attention, column, head_width);
        for_tiles!(tokens, queries::<V>(&mut attention, column, head_width));
    }
}

/// The same in products of bfloat16.
///
/// # Safety
/// As of [`attend`].
#[inline(always)]
pub(super) unsafe fn attend_halves<V: Lanes>(mut attention: Attention<'_>) {
    let (width, head_width, tokens) = (attention.width(), attention.width() / attention.heads, attention.tokens);
    let length = attention.projected.len();
    // SAFETY: twice as many halves fit in `halves`, of which any bits are some.
    let halves = unsafe { std::slice::from_raw_parts_mut(attention.halves.as_mut_ptr().cast(), length) };
    halve(attention.projected, halves);
    for head in 0..attention.heads {
        let column = head * head_width;
        // SAFETY: the caller vouches for it. Two halves stand where a float would, so that a row is half as long.
        unsafe {
            let keys = attention.halves.as_ptr().cast::<f32>().add((width + column) / 2);
            pack_keys::<V>(keys, 3 * width / 2, tokens, head_width / 2, attention.keys);
        }
        pack_value_pairs::<V>(&mut attention, column, head_width);
        for_tiles!(tokens, query_halves::<V>(&mut attention, column, head_width));
    }
}

/// A head's keys as `[keys / panel, steps, panel]`. Behind the last key stands anything: `softmax` writes over what comes
/// of it.
///
/// # Safety
/// The CPU has the instructions of `V`; `from` is good for `tokens` rows of `steps`, a multiple of 8, `stride` apart.
#[inline(always)]
unsafe fn pack_keys<V: Lanes>(from: *const f32, stride: usize, tokens: usize, steps: usize, keys: &mut [f32]) {
    let panel = PANEL_VECTORS * V::WIDTH;
    for first in (0..tokens).step_by(8) {
        let keys = &mut keys[first / panel * panel * steps + first % panel..];
        for step in (0..steps).step_by(8) {
            // SAFETY: the row exists, and so does the step.
            let from = unsafe { from.add(first * stride + step) };
            if first + 8 <= tokens {
                // SAFETY: eight keys of eight steps are there; the panel has as many steps, and room for eight more
                // keys at each.
                unsafe { V::transpose(from, stride, keys.as_mut_ptr().add(step * panel), panel) };
                continue;
            }
            for key in 0..tokens - first {
                for place in 0..8 {
                    // SAFETY: the key exists, and eight steps of it.
                    keys[(step + place) * panel + key] = unsafe { *from.add(key * stride + place) };
                }
            }
        }
    }
}

/// `[head width / panel, tokens, panel]`.
#[inline(always)]
fn pack_values<V: Lanes>(attention: &mut Attention<'_>, column: usize, head_width: usize) {
    let (panel, width, tokens) = (PANEL_VECTORS * V::WIDTH, attention.width(), attention.tokens);
    for token in 0..tokens {
        let from = token * 3 * width + 2 * width + column;
        let value = &attention.projected[from..from + head_width];
        for (index, part) in value.chunks_exact(panel).enumerate() {
            attention.values[(index * tokens + token) * panel..][..panel].copy_from_slice(part);
        }
    }
}

/// `[head width / panel, tokens / 2, panel]` of two tokens' values each; a last one alone is there twice, and counts once,
/// as the softmax is zero behind it.
#[inline(always)]
fn pack_value_pairs<V: Lanes>(attention: &mut Attention<'_>, column: usize, head_width: usize) {
    let (panel, width, tokens) = (PANEL_VECTORS * V::WIDTH, attention.width(), attention.tokens);
    let (pairs, row) = (tokens.div_ceil(2), 3 * width / 2);
    for pair in 0..pairs {
        let value = |token: usize| {
            &attention.halves[token.min(tokens - 1) * row + (2 * width + column) / 2..][..head_width / 2]
        };
        let (first, second) = (value(2 * pair), value(2 * pair + 1));
        for (index, (first, second)) in first.chunks_exact(panel / 2).zip(second.chunks_exact(panel / 2)).enumerate() {
            let to = &mut attention.values[(index * pairs + pair) * panel..][..panel];
            for (to, (first, second)) in to.as_chunks_mut().0.iter_mut().zip(first.iter().zip(second)) {
                *to = [first & 0xffff | second << 16, first >> 16 | second & !0xffff].map(f32::from_bits);
            }
        }
    }
}

/// # Safety
/// As of [`attend`], and the rows exist.
#[inline(always)]
unsafe fn queries<V: Lanes, const ROWS: usize>(
    attention: &mut Attention<'_>,
    column: usize,
    head_width: usize,
    first: usize,
) {
    let (tokens, width) = (attention.tokens, attention.width());
    // SAFETY: queries, keys, values, scores and outputs reach as far as the tokens filled up to whole panels.
    unsafe {
        let query = attention.projected.as_ptr().add(first * 3 * width + column);
        let inverses = score::<V, f32, ROWS>(attention, query, attention.keys.as_ptr(), head_width);
        let (scores, values) = (attention.scores.as_ptr(), attention.values.as_ptr());
        let outputs = attention.outputs.as_mut_ptr().add(first * width + column);
        mix::<V, f32, ROWS>(scores, values, [tokens, tokens, head_width, width], inverses, outputs);
    }
}

/// # Safety
/// As of [`attend_halves`], and the rows exist.
#[inline(always)]
unsafe fn query_halves<V: Lanes, const ROWS: usize>(
    attention: &mut Attention<'_>,
    column: usize,
    head_width: usize,
    first: usize,
) {
    let (tokens, width, projected) = (attention.tokens, attention.width(), attention.projected.len());
    // SAFETY: as of `queries`; behind the halves of the projection is room for those of the scores.
    unsafe {
        let halves = attention.halves.as_mut_ptr().cast::<u16>();
        let query = halves.add(first * 3 * width + column).cast_const();
        let inverses = score::<V, Halves, ROWS>(attention, query, attention.keys.as_ptr().cast(), head_width);
        let (rounded, count) = (halves.add(projected), ROWS * padded::<V>(tokens));
        let scores = std::slice::from_raw_parts(attention.scores.as_ptr(), count);
        halve(scores, std::slice::from_raw_parts_mut(rounded, count));
        let (depth, values) = (tokens.next_multiple_of(2), attention.values.as_ptr().cast());
        let outputs = attention.outputs.as_mut_ptr().add(first * width + column);
        mix::<V, Halves, ROWS>(rounded, values, [tokens, depth, head_width, width], inverses, outputs);
    }
}

/// Tokens filled up to whole panels of a level.
#[inline(always)]
fn padded<V: Lanes>(tokens: usize) -> usize {
    tokens.next_multiple_of(PANEL_VECTORS * V::WIDTH)
}

/// Puts the exponentials of the scores of some queries into the scratch, and returns the inverses of their sums.
///
/// # Safety
/// As of [`queries`]; `query` is good for the rows, three widths apart, and `keys` for all panels.
#[inline(always)]
unsafe fn score<V: Lanes, W: Weights<Sums<V> = V>, const ROWS: usize>(
    attention: &mut Attention<'_>,
    query: *const W::Input,
    keys: *const W,
    head_width: usize,
) -> [f32; ROWS] {
    let (tokens, stride, padded) = (attention.tokens, 3 * attention.width(), padded::<V>(attention.tokens));
    let scores = attention.scores.as_mut_ptr();
    // SAFETY: as the caller says.
    unsafe {
        for key in (0..padded).step_by(PANEL_VECTORS * V::WIDTH) {
            let keys = keys.add(key * head_width / W::STEPS);
            let sums: [[V; PANEL_VECTORS]; ROWS] =
                sums::<V, W, PANEL_VECTORS, ROWS>(query, stride, keys, head_width, None);
            each!(row in ROWS => each!(place in PANEL_VECTORS => {
                sums[row][place].store(scores.add(row * padded + key + place * V::WIDTH));
            }));
        }
        let scale = 1.0 / (head_width as f32).sqrt();
        let mut inverses = [0.0; ROWS];
        each!(row in ROWS => inverses[row] = 1.0 / softmax::<V>(scores.add(row * padded), tokens, padded, scale));
        inverses
    }
}

/// The values, weighed by rows of exponentials. Of `depth` tokens there are values packed; outputs are rows of `width`.
///
/// # Safety
/// As of [`queries`]; `weights` is good for rows of the tokens filled up to panels, `values` for all panels, and `outputs`
/// for a head of every row.
#[inline(always)]
unsafe fn mix<V: Lanes, W: Weights<Sums<V> = V>, const ROWS: usize>(
    weights: *const W::Input,
    values: *const W,
    [tokens, depth, head_width, width]: [usize; 4],
    inverses: [f32; ROWS],
    outputs: *mut f32,
) {
    for part in (0..head_width).step_by(PANEL_VECTORS * V::WIDTH) {
        // SAFETY: as the caller says.
        unsafe {
            let values = values.add(part * depth / W::STEPS);
            let sums: [[V; PANEL_VECTORS]; ROWS] =
                sums::<V, W, PANEL_VECTORS, ROWS>(weights, padded::<V>(tokens), values, depth, None);
            each!(row in ROWS => each!(place in PANEL_VECTORS => {
                let to = outputs.add(row * width + part + place * V::WIDTH);
                sums[row][place].mul(V::splat(inverses[row])).store(to);
            }));
        }
    }
}

/// Turns scores into their exponentials, whose sum it returns; the padding behind the last token counts for nothing.
///
/// # Safety
/// The CPU has the instructions of `V`; `row` is good for `padded` floats, a multiple of the vector.
#[inline(always)]
unsafe fn softmax<V: Lanes>(row: *mut f32, tokens: usize, padded: usize, scale: f32) -> f32 {
    // SAFETY: as the caller says.
    unsafe {
        for place in tokens..padded {
            *row.add(place) = NEVER;
        }
        let mut largest = V::splat(NEVER);
        for place in (0..padded).step_by(V::WIDTH) {
            largest = V::load(row.add(place)).max(largest);
        }
        let (scale, offset) = (V::splat(scale), V::splat(-scale * largest.largest()));
        let mut sum = V::splat(0.0);
        for place in (0..padded).step_by(V::WIDTH) {
            let exponential = exp(V::load(row.add(place)).mul_add(scale, offset));
            exponential.store(row.add(place));
            sum = sum.add(exponential);
        }
        sum.sum()
    }
}
