//! How the weights of each precision are multiplied: the innermost step of a product.

use super::lanes::{Lanes, each};
use super::pack::{Bf16Pair, Bytes, Halves};
use super::whole::Scales;

/// How weights stand in memory, and how they are multiplied.
pub(super) trait Weights: Copy {
    /// What the rows to be multiplied hold.
    type Input: Copy;
    /// What products are summed in.
    type Sums<V: Lanes>: Copy;
    /// What sums are worth.
    type Scales<'a>: Copy;
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

    /// What the sums of a row and the columns from one on are worth.
    ///
    /// # Safety
    /// The scales have the row and the columns.
    unsafe fn scale<V: Lanes>(sums: Self::Sums<V>, scales: Self::Scales<'_>, row: usize, column: usize) -> V;

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

/// Of weights whose sums are floats and what they are worth.
macro_rules! summed_in_floats {
    () => {
        type Sums<V: Lanes> = V;
        type Scales<'a> = ();

        #[inline(always)]
        unsafe fn zeros<V: Lanes>() -> V {
            // SAFETY: as the caller says.
            unsafe { V::splat(0.0) }
        }

        #[inline(always)]
        unsafe fn scale<V: Lanes>(sums: V, (): (), _row: usize, _column: usize) -> V {
            sums
        }
    };
}

impl Weights for f32 {
    type Input = f32;
    const STEPS: usize = 1;
    const COLUMNS: usize = 1;
    const UNROLLED: usize = 4;

    summed_in_floats!();

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
    const STEPS: usize = 1;
    const COLUMNS: usize = 2;
    const UNROLLED: usize = 1;

    summed_in_floats!();

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

impl Weights for Halves {
    type Input = u16;
    const STEPS: usize = 2;
    const COLUMNS: usize = 1;
    const UNROLLED: usize = 1;

    summed_in_floats!();

    #[inline(always)]
    unsafe fn multiply<V: Lanes, const N: usize, const ROWS: usize>(
        sums: &mut [[V; N]; ROWS],
        rows: [*const u16; ROWS],
        at: usize,
        weights: *const Halves,
    ) {
        // SAFETY: as the caller says.
        unsafe {
            let mut halves = [V::splat(0.0); N];
            each!(place in N => halves[place] = V::load(weights.add(place * V::WIDTH).cast()));
            each!(row in ROWS => {
                let input = V::splat(rows[row].add(at).cast::<f32>().read_unaligned());
                each!(place in N => sums[row][place] = sums[row][place].dot_halves(input, halves[place]));
            });
        }
    }
}

impl Weights for Bytes {
    type Input = u8;
    type Sums<V: Lanes> = V::Integers;
    type Scales<'a> = Scales<'a>;
    const STEPS: usize = 4;
    const COLUMNS: usize = 1;
    const UNROLLED: usize = 1;

    #[inline(always)]
    unsafe fn zeros<V: Lanes>() -> V::Integers {
        // SAFETY: as the caller says.
        unsafe { V::splat_integer(0) }
    }

    #[inline(always)]
    unsafe fn scale<V: Lanes>(sums: V::Integers, scales: Scales<'_>, row: usize, column: usize) -> V {
        // SAFETY: as the caller says.
        unsafe {
            let zero = V::splat_integer(*scales.zeros.as_ptr().add(row));
            let sums = V::sub_product(sums, zero, V::load_integers(scales.column_sums.as_ptr().add(column)));
            let scale = V::splat(*scales.rows.as_ptr().add(row)).mul(V::load(scales.columns.as_ptr().add(column)));
            V::to_floats(sums).mul(scale)
        }
    }

    #[inline(always)]
    unsafe fn multiply<V: Lanes, const N: usize, const ROWS: usize>(
        sums: &mut [[V::Integers; N]; ROWS],
        rows: [*const u8; ROWS],
        at: usize,
        weights: *const Bytes,
    ) {
        // SAFETY: as the caller says.
        unsafe {
            let mut bytes = [V::splat_integer(0); N];
            each!(place in N => bytes[place] = V::load_integers(weights.add(place * V::WIDTH).cast()));
            each!(row in ROWS => {
                let input = V::splat_integer(rows[row].add(at).cast::<i32>().read_unaligned());
                each!(place in N => sums[row][place] = V::dot_bytes(sums[row][place], input, bytes[place]));
            });
        }
    }
}
