//! Rows of activations times packed weights: one register tile, and the loops around it.
//!
//! A tile is up to six rows by one panel of columns. Its sums live in registers while depth runs (Goto & van de Geijn,
//! 2008, <https://doi.org/10.1145/1356052.1356053>); the panel stays in the first cache while the rows run past it.

use super::lanes::{Lanes, each, gelu, gelu_tanh, relu};
use super::pack::CACHE_LINE;
use super::weights::Weights;
use std::ops::Range;

/// Most rows of a register tile: with two vectors of columns, sums, weights and an input fill AVX2's sixteen registers.
/// (Four rows by three vectors want fewer loads, but measured 7 % slower: the compiler runs out of registers.)
pub(super) const TILE_ROWS: usize = 6;

/// Bytes of input rows that pass a panel before the next: less than half of the smallest second cache of a CPU with AVX2
/// in use (512 KiB on Zen). Measured from 48 KiB up, the size makes no difference.
const CHUNK_BYTES: usize = 192 << 10;

/// Calls a function that is generic in its number of rows.
macro_rules! for_rows {
    ($rows:expr, $function:ident::<$($generic:tt),*>($($argument:expr),*)) => {
        match $rows {
            1 => $function::<$($generic,)* 1>($($argument),*),
            2 => $function::<$($generic,)* 2>($($argument),*),
            3 => $function::<$($generic,)* 3>($($argument),*),
            4 => $function::<$($generic,)* 4>($($argument),*),
            5 => $function::<$($generic,)* 5>($($argument),*),
            _ => $function::<$($generic,)* 6>($($argument),*),
        }
    };
}
pub(super) use for_rows;

/// What becomes of a product and its bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// It is the output.
    Store,
    /// It is added to what the output holds: the residual connection.
    Add,
    /// `x Φ(x)`.
    Gelu,
    /// The same, approximated with tanh.
    GeluTanh,
    /// `max(x, 0)`.
    Relu,
}

/// Memory to be asked for while a tile is summed: a few rows are done with a panel sooner than memory yields the next, so
/// every tile over a panel asks for its share of the one behind. Measured at 8 tokens: a quarter less time.
#[derive(Clone, Copy)]
pub(super) struct Ahead {
    from: *const u8,
    /// Bytes a turn of the loop.
    stride: usize,
}

impl Ahead {
    /// The share of one of `tiles` over a panel, of which `turn` bytes are read a turn of the loop.
    fn share<W>(panel: &[W], turn: usize, index: usize, tiles: usize) -> Self {
        let bytes = size_of_val(panel);
        Ahead { from: panel.as_ptr().cast::<u8>().wrapping_add(bytes + bytes / tiles * index), stride: turn / tiles }
    }
}

/// Sums over `depth` of the products of `ROWS` rows, `stride` apart, with one panel of `N` vectors of columns.
///
/// # Safety
/// The CPU has the instructions of `V`; `inputs` is good for `ROWS` rows of `depth`, a multiple of `W::STEPS`, and `panel`
/// for as much of `N` vectors.
#[inline(always)]
pub(super) unsafe fn sums<V: Lanes, W: Weights, const N: usize, const ROWS: usize>(
    inputs: *const W::Input,
    stride: usize,
    panel: *const W,
    depth: usize,
    ahead: Option<Ahead>,
) -> [[W::Sums<V>; N]; ROWS] {
    // Opaque, so that they stay in registers: the compiler would work them out anew at every step.
    let rows: [_; ROWS] = std::hint::black_box(std::array::from_fn(|row| inputs.wrapping_add(row * stride)));
    let width = N * V::WIDTH / W::COLUMNS;
    let unrolled = depth - depth % (W::UNROLLED * W::STEPS);
    let mut ahead = ahead;
    // SAFETY: as the caller says.
    unsafe {
        let mut sums = [[W::zeros::<V>(); N]; ROWS];
        let (mut at, mut panel) = (0, panel);
        while at < unrolled {
            each!(step in W::UNROLLED => W::multiply(&mut sums, rows, at + step * W::STEPS, panel.add(step * width)));
            if let Some(ahead) = &mut ahead {
                each!(line in (W::UNROLLED * width * size_of::<W>()).div_ceil(CACHE_LINE) => {
                    V::prefetch(ahead.from.wrapping_add(line * CACHE_LINE));
                });
                ahead.from = ahead.from.wrapping_add(ahead.stride);
            }
            at += W::UNROLLED * W::STEPS;
            panel = panel.add(W::UNROLLED * width);
        }
        while at < depth {
            W::multiply(&mut sums, rows, at, panel);
            at += W::STEPS;
            panel = panel.add(width);
        }
        sums
    }
}

/// One product: `outputs = after(inputs · weights + bias)`.
pub(super) struct Product<'a, W: Weights> {
    pub rows: usize,
    /// Inputs of a row.
    pub depth: usize,
    /// Outputs of a row: a multiple of the vector.
    pub columns: usize,
    /// `[rows, depth]`.
    pub inputs: &'a [W::Input],
    /// Packed by `pack.rs` for the level, the last panel filled up.
    pub weights: &'a [W],
    /// As long as all panels.
    pub bias: &'a [f32],
    /// Of whole numbers, for all rows and panels.
    pub scales: W::Scales<'a>,
    /// `[rows, columns]`.
    pub outputs: &'a mut [f32],
    pub after: After,
}

/// # Safety
/// The CPU has the instructions of `V`; the slices are as long as [`Product`] says, for panels of `N` vectors.
#[inline(always)]
pub(super) unsafe fn multiply<V: Lanes, W: Weights, const N: usize>(mut product: Product<'_, W>) {
    let most = (CHUNK_BYTES / (product.depth * size_of::<W::Input>())).max(TILE_ROWS);
    let mut start = 0;
    while start < product.rows {
        let left = product.rows - start;
        let end = start + left.div_ceil(left.div_ceil(most));
        for panel in 0..product.columns.div_ceil(N * V::WIDTH) {
            let mut row = start;
            let all = (end - start).div_ceil(TILE_ROWS);
            let mut tiles = all;
            while tiles > 0 {
                let rows = (end - row).div_ceil(tiles);
                // SAFETY: panel and rows are inside what the caller vouches for.
                unsafe {
                    for_rows!(rows, tile::<V, W, N>(&mut product, panel, row, [all - tiles, all]));
                    activate::<V, W, N>(&mut product, panel, row..row + rows);
                }
                row += rows;
                tiles -= 1;
            }
        }
        start = end;
    }
}

/// # Safety
/// As of [`multiply`], and panel and rows exist.
#[inline(always)]
unsafe fn tile<V: Lanes, W: Weights, const N: usize, const ROWS: usize>(
    product: &mut Product<'_, W>,
    panel: usize,
    first: usize,
    [index, tiles]: [usize; 2],
) {
    let (depth, columns) = (product.depth, product.columns);
    let start = panel * N * V::WIDTH;
    // SAFETY: all slices reach as far as the panel and the rows, which the caller vouches for; a vector of columns is
    // stored only where the outputs have it.
    unsafe {
        let inputs = product.inputs.as_ptr().add(first * depth);
        let step = N * V::WIDTH / W::COLUMNS;
        let length = step * depth / W::STEPS;
        let weights = product.weights.get_unchecked(panel * length..(panel + 1) * length);
        let ahead = Ahead::share(weights, W::UNROLLED * step * size_of::<W>(), index, tiles);
        let sums: [[W::Sums<V>; N]; ROWS] = sums::<V, W, N, ROWS>(inputs, depth, weights.as_ptr(), depth, Some(ahead));
        each!(place in N => {
            let column = start + place * V::WIDTH;
            if column < columns {
                let bias = V::load(product.bias.as_ptr().add(column));
                each!(row in ROWS => {
                    let mut sum = W::scale::<V>(sums[row][place], product.scales, first + row, column).add(bias);
                    let output = product.outputs.as_mut_ptr().add((first + row) * columns + column);
                    if product.after == After::Add {
                        sum = sum.add(V::load(output));
                    }
                    sum.store(output);
                });
            }
        });
    }
}

/// What follows a tile's sums, while they are in the first cache.
///
/// # Safety
/// As of [`multiply`], and panel and rows exist.
#[inline(always)]
unsafe fn activate<V: Lanes, W: Weights, const N: usize>(
    product: &mut Product<'_, W>,
    panel: usize,
    rows: Range<usize>,
) {
    let columns = panel * N * V::WIDTH..((panel + 1) * N * V::WIDTH).min(product.columns);
    /// A function of every output. Written out for each function: handed over as a value it would not be inlined.
    macro_rules! map {
        ($function:ident) => {
            for row in rows {
                for column in columns.clone().step_by(V::WIDTH) {
                    // SAFETY: panel and rows exist, and a vector divides the columns.
                    unsafe {
                        let output = product.outputs.as_mut_ptr().add(row * product.columns + column);
                        $function(V::load(output)).store(output);
                    }
                }
            }
        };
    }
    match product.after {
        After::Store | After::Add => {}
        After::Gelu => map!(gelu),
        After::GeluTanh => map!(gelu_tanh),
        After::Relu => map!(relu),
    }
}
