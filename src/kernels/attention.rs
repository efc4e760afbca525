//! Scaled dot-product attention, one head and six queries at a time. Vaswani et al., 2017,
//! <https://arxiv.org/abs/1706.03762>.
//!
//! Keys and values of a head are packed into panels as weights are, so both products are the tile of `product.rs`.

use super::lanes::{Lanes, each, exp};
use super::product::{TILE_ROWS, for_rows, sums};

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
}

impl Attention<'_> {
    /// Tokens filled up to whole panels.
    pub fn padded(tokens: usize) -> usize {
        tokens.next_multiple_of(WIDEST_PANEL)
    }

    fn width(&self) -> usize {
        self.outputs.len() / self.tokens
    }
}

/// # Safety
/// The CPU has the instructions of `V`; the slices are as long as [`Attention`] says; the width of a head is a multiple
/// of [`WIDEST_PANEL`]; there is a token.
#[inline(always)]
pub(super) unsafe fn attend<V: Lanes>(mut attention: Attention<'_>) {
    let head_width = attention.width() / attention.heads;
    for head in 0..attention.heads {
        // SAFETY: the caller vouches for it.
        unsafe { pack_keys::<V>(&mut attention, head * head_width, head_width) };
        pack_values::<V>(&mut attention, head * head_width, head_width);
        let mut row = 0;
        let mut tiles = attention.tokens.div_ceil(TILE_ROWS);
        while tiles > 0 {
            let rows = (attention.tokens - row).div_ceil(tiles);
            // SAFETY: the rows exist, and the caller vouches for the rest.
            unsafe { for_rows!(rows, queries::<V, PANEL_VECTORS>(&mut attention, head * head_width, head_width, row)) };
            row += rows;
            tiles -= 1;
        }
    }
}

/// `[keys / panel, head width, panel]`. Behind the last key stands anything: `softmax` writes over what comes of it.
///
/// # Safety
/// As of [`attend`].
#[inline(always)]
unsafe fn pack_keys<V: Lanes>(attention: &mut Attention<'_>, column: usize, head_width: usize) {
    let (panel, width, tokens) = (PANEL_VECTORS * V::WIDTH, attention.width(), attention.tokens);
    for first in (0..tokens).step_by(8) {
        let keys = &mut attention.keys[first / panel * panel * head_width + first % panel..];
        let from = first * 3 * width + width + column;
        for step in (0..head_width).step_by(8) {
            if first + 8 <= tokens {
                // SAFETY: eight keys of `head_width`, a multiple of 8, are `3 width` apart from `from` on; the panel
                // has as many steps, and room for eight more keys at each.
                unsafe {
                    let to = keys.as_mut_ptr().add(step * panel);
                    V::transpose(attention.projected.as_ptr().add(from + step), 3 * width, to, panel);
                }
                continue;
            }
            for key in 0..tokens - first {
                for step in step..step + 8 {
                    keys[step * panel + key] = attention.projected[from + key * 3 * width + step];
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

/// # Safety
/// As of [`attend`], and the rows exist.
#[inline(always)]
unsafe fn queries<V: Lanes, const N: usize, const ROWS: usize>(
    attention: &mut Attention<'_>,
    column: usize,
    head_width: usize,
    first: usize,
) {
    let (tokens, width, panel) = (attention.tokens, attention.width(), N * V::WIDTH);
    let padded = tokens.next_multiple_of(panel);
    let scores = attention.scores.as_mut_ptr();
    // SAFETY: queries, keys, values, scores and outputs reach as far as the tokens filled up to whole panels.
    unsafe {
        let query = attention.projected.as_ptr().add(first * 3 * width + column);
        for key in (0..padded).step_by(panel) {
            let keys = attention.keys.as_ptr().add(key * head_width);
            let sums = sums::<V, f32, N, ROWS>(query, 3 * width, keys, head_width, None);
            each!(row in ROWS => each!(place in N => {
                sums[row][place].store(scores.add(row * padded + key + place * V::WIDTH));
            }));
        }
        let scale = 1.0 / (head_width as f32).sqrt();
        let mut inverses = [0.0; ROWS];
        each!(row in ROWS => inverses[row] = 1.0 / softmax::<V>(scores.add(row * padded), tokens, padded, scale));
        for part in (0..head_width).step_by(panel) {
            let values = attention.values.as_ptr().add(part * tokens);
            let sums = sums::<V, f32, N, ROWS>(scores, padded, values, tokens, None);
            each!(row in ROWS => each!(place in N => {
                let to = (first + row) * width + column + part + place * V::WIDTH;
                sums[row][place].mul(V::splat(inverses[row])).store(attention.outputs.as_mut_ptr().add(to));
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
