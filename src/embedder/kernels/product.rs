//! Rows of activations times packed weights: one register tile, and the loops around it.
//!
//! A tile is up to six rows by one panel of columns. Its sums live in registers while depth runs (Goto & van de Geijn,
//! 2008, <https://doi.org/10.1145/1356052.1356053>); the panel stays in the first cache while the rows run past it.

use super::lanes::{Lanes, gelu, gelu_tanh, relu};
use super::pack::{Bf16Pair, I8Pair};

/// Most rows of a register tile: with two vectors of columns, sums, weights and an input fill AVX2's sixteen registers.
/// (Four rows by three vectors want fewer loads, but measured 7 % slower: the compiler runs out of registers.)
pub(super) const TILE_ROWS: usize = 6;

/// Input rows that pass a panel before the next: half of the second cache of Zen and of Intel's clients.
const CHUNK_BYTES: usize = 192 << 10;

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

/// How weights stand in memory, and how they are multiplied.
pub(super) trait Weights: Copy {
    /// What the rows to be multiplied hold.
    type Input: Copy;
    /// What products are summed in.
    type Sums<V: Lanes>: Copy;
    /// Steps of depth of which one of these holds the weights.
    const STEPS: usize;
    /// Columns of which one of these holds the weights.
    const COLUMNS: usize;
    /// How often a step is written out in a row: what is around its sums is up to a third of its instructions, but some
    /// leave the compiler too few registers.
    const UNROLLED: usize;

    /// # Safety
    /// The CPU has the instructions of `V`.
    unsafe fn zeros<V: Lanes>() -> Self::Sums<V>;

    fn to_floats<V: Lanes>(sums: Self::Sums<V>) -> V;

    /// Adds the products of [`Self::STEPS`] inputs of every row with their weights.
    ///
    /// # Safety
    /// The CPU has the instructions of `V`; from `at` on the rows are good for so many inputs, and `weights` for `N`
    /// vectors of them.
    unsafe fn multiply<V: Lanes, const N: usize, const ROWS: usize>(
        sums: &mut [[Self::Sums<V>; N]; ROWS],
        rows: [*const Self::Input; ROWS],
        at: usize,
        weights: *const Self,
    );
}

impl Weights for f32 {
    type Input = f32;
    type Sums<V: Lanes> = V;
    const STEPS: usize = 1;
    const COLUMNS: usize = 1;
    const UNROLLED: usize = 4;

    #[inline(always)]
    unsafe fn zeros<V: Lanes>() -> V {
        // SAFETY: as the caller says.
        unsafe { V::splat(0.0) }
    }

    #[inline(always)]
    fn to_floats<V: Lanes>(sums: V) -> V {
        sums
    }

    #[inline(always)]
    unsafe fn multiply<V: Lanes, const N: usize, const ROWS: usize>(
        sums: &mut [[V; N]; ROWS],
        rows: [*const f32; ROWS],
        at: usize,
        weights: *const f32,
    ) {
        // SAFETY: as the caller says.
        unsafe {
            let mut vectors = [V::splat(0.0); N];
            each!(place in N => vectors[place] = V::load(weights.add(place * V::WIDTH)));
            multiply_add(sums, rows, at, vectors);
        }
    }
}

impl Weights for Bf16Pair {
    type Input = f32;
    type Sums<V: Lanes> = V;
    const STEPS: usize = 1;
    const COLUMNS: usize = 2;
    const UNROLLED: usize = 1;

    #[inline(always)]
    unsafe fn zeros<V: Lanes>() -> V {
        // SAFETY: as the caller says.
        unsafe { V::splat(0.0) }
    }

    #[inline(always)]
    fn to_floats<V: Lanes>(sums: V) -> V {
        sums
    }

    #[inline(always)]
    unsafe fn multiply<V: Lanes, const N: usize, const ROWS: usize>(
        sums: &mut [[V; N]; ROWS],
        rows: [*const f32; ROWS],
        at: usize,
        weights: *const Bf16Pair,
    ) {
        // SAFETY: as the caller says.
        unsafe {
            let mut vectors = [V::splat(0.0); N];
            each!(pair in N / 2 => {
                let second = V::load(weights.add(pair * V::WIDTH).cast());
                vectors[2 * pair] = second.low_half();
                vectors[2 * pair + 1] = second;
            });
            multiply_add(sums, rows, at, vectors);
        }
    }
}

/// # Safety
/// The rows are good for more than `at` inputs.
#[inline(always)]
unsafe fn multiply_add<V: Lanes, const N: usize, const ROWS: usize>(
    sums: &mut [[V; N]; ROWS],
    rows: [*const f32; ROWS],
    at: usize,
    weights: [V; N],
) {
    each!(row in ROWS => {
        // SAFETY: as the caller says; the weights vouch for the CPU.
        let input = unsafe { V::splat(*rows[row].add(at)) };
        each!(place in N => sums[row][place] = input.mul_add(weights[place], sums[row][place]));
    });
}

impl Weights for I8Pair {
    type Input = i16;
    type Sums<V: Lanes> = V::Sums;
    const STEPS: usize = 2;
    const COLUMNS: usize = 1;
    const UNROLLED: usize = 1;

    #[inline(always)]
    unsafe fn zeros<V: Lanes>() -> V::Sums {
        // SAFETY: as the caller says.
        unsafe { V::zeros() }
    }

    #[inline(always)]
    fn to_floats<V: Lanes>(sums: V::Sums) -> V {
        V::to_floats(sums)
    }

    /// Exact as long as no sum leaves 32 bits; `Linear` sees to that.
    #[inline(always)]
    unsafe fn multiply<V: Lanes, const N: usize, const ROWS: usize>(
        sums: &mut [[V::Sums; N]; ROWS],
        rows: [*const i16; ROWS],
        at: usize,
        weights: *const I8Pair,
    ) {
        // SAFETY: as the caller says.
        unsafe {
            let mut pairs = [V::load_i8(weights.cast()); N];
            each!(place in N => pairs[place] = V::load_i8(weights.add(place * V::WIDTH).cast()));
            each!(row in ROWS => {
                let input = V::splat_pair(rows[row].add(at));
                each!(place in N => sums[row][place] = V::dot_pairs(sums[row][place], pairs[place], input));
            });
        }
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
) -> [[W::Sums<V>; N]; ROWS] {
    // Opaque, so that they stay in registers: the compiler would work them out anew at every step.
    let rows: [_; ROWS] = std::hint::black_box(std::array::from_fn(|row| inputs.wrapping_add(row * stride)));
    let width = N * V::WIDTH / W::COLUMNS;
    let unrolled = depth - depth % (W::UNROLLED * W::STEPS);
    // SAFETY: as the caller says.
    unsafe {
        let mut sums = [[W::zeros::<V>(); N]; ROWS];
        let (mut at, mut panel) = (0, panel);
        while at < unrolled {
            each!(step in W::UNROLLED => W::multiply(&mut sums, rows, at + step * W::STEPS, panel.add(step * width)));
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
    /// Outputs of a row: a multiple of 16.
    pub columns: usize,
    /// `[rows, depth]`.
    pub inputs: &'a [W::Input],
    /// Packed by `pack.rs` for the level, the last panel filled up.
    pub weights: &'a [W],
    /// As long as all panels.
    pub bias: &'a [f32],
    /// Of whole numbers: what one is worth, a row and a column (as long as all panels).
    pub scales: Option<(&'a [f32], &'a [f32])>,
    /// `[rows, columns]`.
    pub outputs: &'a mut [f32],
    pub after: After,
}

/// # Safety
/// The CPU has the instructions of `V`; the slices are as long as [`Product`] says, for panels of `N` vectors.
#[inline(always)]
pub(super) unsafe fn multiply<V: Lanes, W: Weights, const N: usize>(mut product: Product<'_, W>) {
    let chunk = (CHUNK_BYTES / (product.depth * size_of::<W::Input>())).max(TILE_ROWS);
    let mut start = 0;
    while start < product.rows {
        let end = (start + chunk).min(product.rows);
        for panel in 0..product.columns.div_ceil(N * V::WIDTH) {
            let mut row = start;
            let mut tiles = (end - start).div_ceil(TILE_ROWS);
            while tiles > 0 {
                let rows = (end - row).div_ceil(tiles);
                // SAFETY: panel and rows are inside what the caller vouches for.
                unsafe { tile_of::<V, W, N>(&mut product, panel, row, rows) };
                row += rows;
                tiles -= 1;
            }
        }
        start = end;
    }
}

/// Calls a function that is generic in its number of rows.
macro_rules! for_rows {
    ($rows:expr, $function:ident::<$($generic:ty),*; $n:ident>($($argument:expr),*)) => {
        match $rows {
            1 => $function::<$($generic,)* $n, 1>($($argument),*),
            2 => $function::<$($generic,)* $n, 2>($($argument),*),
            3 => $function::<$($generic,)* $n, 3>($($argument),*),
            4 => $function::<$($generic,)* $n, 4>($($argument),*),
            5 => $function::<$($generic,)* $n, 5>($($argument),*),
            _ => $function::<$($generic,)* $n, 6>($($argument),*),
        }
    };
}
pub(super) use for_rows;

/// # Safety
/// As of [`multiply`], and panel and rows exist.
#[inline(always)]
unsafe fn tile_of<V: Lanes, W: Weights, const N: usize>(
    product: &mut Product<'_, W>,
    panel: usize,
    row: usize,
    rows: usize,
) {
    // SAFETY: as the caller says.
    unsafe { for_rows!(rows, tile::<V, W; N>(product, panel, row)) }
}

/// # Safety
/// As of [`multiply`], and panel and rows exist.
#[inline(always)]
unsafe fn tile<V: Lanes, W: Weights, const N: usize, const ROWS: usize>(
    product: &mut Product<'_, W>,
    panel: usize,
    first: usize,
) {
    let (depth, columns) = (product.depth, product.columns);
    let start = panel * N * V::WIDTH;
    // SAFETY: all slices reach as far as the panel and the rows, which the caller vouches for; a vector of columns is
    // stored only where the outputs have it.
    unsafe {
        let inputs = product.inputs.as_ptr().add(first * depth);
        let weights = product.weights.as_ptr().add(start * depth / (W::STEPS * W::COLUMNS));
        let sums: [[W::Sums<V>; N]; ROWS] = sums::<V, W, N, ROWS>(inputs, depth, weights, depth);
        let mut outputs = [[V::splat(0.0); N]; ROWS];
        each!(place in N => {
            let column = start + place * V::WIDTH;
            let bias = V::load(product.bias.as_ptr().add(column));
            each!(row in ROWS => {
                let mut sum = W::to_floats::<V>(sums[row][place]);
                if let Some((row_scales, column_scales)) = product.scales {
                    let scale = V::splat(*row_scales.as_ptr().add(first + row));
                    sum = sum.mul(scale.mul(V::load(column_scales.as_ptr().add(column))));
                }
                outputs[row][place] = sum.add(bias);
            });
        });
        match product.after {
            After::Store | After::Add => {}
            After::Gelu => each!(row in ROWS => each!(place in N => outputs[row][place] = gelu(outputs[row][place]))),
            After::GeluTanh => {
                each!(row in ROWS => each!(place in N => outputs[row][place] = gelu_tanh(outputs[row][place])))
            }
            After::Relu => each!(row in ROWS => each!(place in N => outputs[row][place] = relu(outputs[row][place]))),
        }
        each!(row in ROWS => each!(place in N => {
            let column = start + place * V::WIDTH;
            if column < columns {
                let to = product.outputs.as_mut_ptr().add((first + row) * columns + column);
                let output = outputs[row][place];
                let output = if product.after == After::Add { output.add(V::load(to)) } else { output };
                output.store(to);
            }
        }));
    }
}
