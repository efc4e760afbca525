//! The forward pass of BERT-family encoders on the CPU, and the scan of many vectors, as fast as vector units and caches
//! allow.
//!
//! This is the only module of the crate with unsafe code. What it offers is safe: every slice is checked once, where it
//! is handed in. A width, a head or an activation the kernels are not written for is refused when loading
//! ([`LoadError::Unsupported`]), so that the caller can fall back to another engine.
//!
//! | file | what it owns |
//! |---|---|
//! | `model.rs` | the encoder: its forward pass |
//! | `load.rs` | what an encoder is, and how one is made of named tensors |
//! | `linear.rs` | a linear layer with packed weights, in three precisions |
//! | `whole.rs` | the one in whole numbers: what becomes of weights and inputs |
//! | `scan.rs` | similarities of one vector to many, in whole numbers |
//! | `level.rs` | which instructions this CPU has |
//! | `pack.rs` | the order of weights in memory |
//! | `product.rs`, `weights.rs`, `attention.rs`, `rows.rs` | the arithmetic, written once over a vector of any width |
//! | `lanes.rs` | that vector |
//! | `portable.rs`, `neon.rs`, `dotprod.rs`, `avx2.rs`, `avx512.rs`, `avx512bf16.rs` | the vector of each level |
//! | `table.rs` | the entry points that enable a level's instructions |
//!
//! # Precisions
//! Cosines are of all-MiniLM-L6-v2's mean vector to that of onnxruntime in f32, over 1,000 held-out prompts; times are one
//! thread's on Zen 5 as a share of onnxruntime's on the same model (f32 for f32 and bf16, int8 for int8), at 8 / 32 / 128 /
//! 256 tokens, tokenizing counted (`training/bench/compare.py`). With AVX2 alone int8 takes .52 / .59 / .61 / .63 of f32.
//!
//! | | cosine, mean | least | time |
//! |---|---|---|---|
//! | [`Precision::F32`] | 1.00000 | 1.00000 | .47 / .51 / .75 / .82 |
//! | [`Precision::Bf16`] | .99999 | .99995 | .25 / .28 / .43 / .47 |
//! | [`Precision::Int8`] | .99919 | .99681 | .31 / .42 / .58 / .64 |
//!
//! # Levels
//! Levels sum attention and norms in another order, and NEON, AVX2 and AVX-512 round multiply-adds once, so floats differ between them by a few
//! units in the last place. Products of whole numbers are the same to the bit.

mod attention;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avx512bf16;
#[cfg(target_arch = "aarch64")]
mod dotprod;
mod lanes;
mod level;
mod linear;
mod load;
mod model;
#[cfg(target_arch = "aarch64")]
mod neon;
mod pack;
mod portable;
mod product;
mod rows;
mod scan;
mod table;
#[cfg(test)]
mod tests;
mod weights;
mod whole;
#[cfg(test)]
mod wide;

pub use level::{INSTRUCTIONS, Level};
pub use linear::{Linear, Precision, Rounded};
pub use load::{Activation, Architecture, LoadError};
pub use model::{Model, Scratch};
pub use product::After;
pub use scan::Scan;
