//! The forward pass of BERT-family encoders on the CPU, as fast as its vector units and caches allow.
//!
//! This is the only module of the crate with unsafe code. What it offers is safe: every slice is checked once, where it
//! is handed in.
//!
//! | file | what it owns |
//! |---|---|
//! | `model.rs` | the encoder: loading, the forward pass |
//! | `linear.rs` | a linear layer with packed weights, in three precisions |
//! | `level.rs` | which instructions this CPU has |
//! | `pack.rs` | the order of weights in memory |
//! | `product.rs`, `attention.rs`, `rows.rs` | the arithmetic, written once over a vector of any width |
//! | `lanes.rs` | that vector; `portable.rs`, `avx2.rs`, `avx512.rs`: one for each level |
//! | `table.rs` | the entry points that enable a level's instructions |

mod attention;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod lanes;
mod level;
mod linear;
mod model;
mod pack;
mod portable;
mod product;
mod rows;
mod table;

pub use level::Level;
pub use linear::Precision;
pub use model::{Activation, Architecture, LoadError, Model, Scratch};
