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
//! Cosines are of all-MiniLM-L6-v2's mean vector to that of exact f32, over 1,000 prompts of 3 to 512 tokens; times are
//! one thread's on Zen 3 (AVX2) as a share of onnxruntime 1.x's on the same model (f32, and int8 for int8), at 8 / 32 /
//! 128 / 256 tokens.
//!
//! | | cosine, mean | least | time |
//! |---|---|---|---|
//! | [`Precision::F32`] | 1.0000000 | 1.0000000 | .64 / .68 / .90 / .90 |
//! | [`Precision::Bf16`] | .999993 | .99997 | .39 / .71 / .94 / .98 |
//! | [`Precision::Int8`] | .99923 | .9971 | .48 / .72 / .85 / .89 |
//!
//! # Levels
//! Levels sum in another order, and NEON, AVX2 and AVX-512 round multiply-adds once, so floats differ between them by a few
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

pub use level::Level;
pub use linear::{Linear, Precision, Rounded};
pub use load::{Activation, Architecture, LoadError};
pub use model::{Model, Scratch};
pub use product::After;
pub use scan::Scan;
