//! The kernels of a level: entry points that enable its instructions and inline the generic code into them.

use super::attention::Attention;
use super::pack::{Bf16Pair, Bytes, Halves};
use super::product::Product;
use super::whole::Rounding;

/// Functions of one instruction set.
///
/// # Safety
/// Every function wants a CPU with the instructions, and what its generic counterpart says of slices.
pub(super) struct Kernels {
    /// Floats in a vector.
    pub lanes: usize,
    /// Vectors in a panel of weights.
    pub vectors: usize,
    pub multiply_f32: unsafe fn(Product<'_, f32>),
    pub multiply_bf16: unsafe fn(Product<'_, Bf16Pair>),
    pub multiply_halves: unsafe fn(Product<'_, Halves>),
    /// Whether bfloat16 is best multiplied so: the CPU does it by itself.
    pub native_halves: bool,
    pub multiply_bytes: unsafe fn(Product<'_, Bytes>),
    pub normalise: unsafe fn(rows: &mut [f32], gain: &[f32], shift: &[f32], epsilon: f32),
    pub add: unsafe fn(parts: [&[f32]; 3], sum: &mut [f32]),
    pub round: unsafe fn(Rounding<'_>),
    pub halve: unsafe fn(inputs: &[f32], outputs: &mut [u16]),
    pub attend: unsafe fn(Attention<'_>),
    pub attend_halves: unsafe fn(Attention<'_>),
}

/// Makes `KERNELS` of a level from its vector, the vectors in a panel, the instructions to enable, and whether bfloat16 is
/// among them.
macro_rules! kernels {
    ($lanes:ident, $vectors:literal, [$($features:literal)?], native_halves: $native:literal) => {
        pub(super) static KERNELS: super::table::Kernels = super::table::Kernels {
            lanes: <$lanes as Lanes>::WIDTH,
            vectors: $vectors,
            multiply_f32: entries::multiply_f32,
            multiply_bf16: entries::multiply_bf16,
            multiply_halves: entries::multiply_halves,
            native_halves: $native,
            multiply_bytes: entries::multiply_bytes,
            normalise: entries::normalise,
            add: entries::add,
            round: entries::round,
            halve: entries::halve,
            attend: entries::attend,
            attend_halves: entries::attend_halves,
        };

        /// # Safety
        /// Of every function: the CPU has the instructions, and what the function it inlines says of slices.
        mod entries {
            use super::super::{attention, pack::{self, Bf16Pair, Bytes, Halves}, product, rows, whole};

            super::super::table::entry!([$($features)?] multiply_f32(it: product::Product<'_, f32>) product::multiply::<super::$lanes, f32, $vectors>);
            super::super::table::entry!([$($features)?] multiply_bf16(it: product::Product<'_, Bf16Pair>) product::multiply::<super::$lanes, Bf16Pair, $vectors>);
            super::super::table::entry!([$($features)?] multiply_halves(it: product::Product<'_, Halves>) product::multiply::<super::$lanes, Halves, $vectors>);
            super::super::table::entry!([$($features)?] multiply_bytes(it: product::Product<'_, Bytes>) product::multiply::<super::$lanes, Bytes, $vectors>);
            super::super::table::entry!([$($features)?] normalise(rows: &mut [f32], gain: &[f32], shift: &[f32], epsilon: f32) rows::normalise::<super::$lanes>);
            super::super::table::entry!([$($features)?] add(parts: [&[f32]; 3], sum: &mut [f32]) rows::add::<super::$lanes>);
            super::super::table::entry!([$($features)?] round(it: whole::Rounding<'_>) whole::round::<super::$lanes>);
            super::super::table::entry!([$($features)?] halve(inputs: &[f32], outputs: &mut [u16]) pack::halve);
            super::super::table::entry!([$($features)?] attend(it: attention::Attention<'_>) attention::attend::<super::$lanes>);
            super::super::table::entry!([$($features)?] attend_halves(it: attention::Attention<'_>) attention::attend_halves::<super::$lanes>);
        }
    };
}

/// An entry point that enables instructions and inlines a generic function.
macro_rules! entry {
    ([$($features:literal)?] $name:ident($($argument:ident: $type:ty),*) $($generic:tt)*) => {
        $(#[target_feature(enable = $features)])?
        #[allow(unused_unsafe, reason = "not every generic function is unsafe")]
        pub(super) unsafe fn $name($($argument: $type),*) {
            // SAFETY: the caller vouches for the CPU and for what the function says of slices.
            unsafe { $($generic)*($($argument),*) }
        }
    };
}

pub(super) use {entry, kernels};
