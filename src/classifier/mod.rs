//! From embeddings to quality per class: `head.rs` (the small classifier, whose hidden layer is the index's space),
//! `index.rs` (exemplars in that space, first looked for in a `subspace.rs` of it), `join.rs` (the stacker of both), all
//! together in `model.rs`; what is plain leaves the encoder by an `exit.rs`. `packed.rs` has the weights as serving
//! multiplies them.
//! Next stop: `policy/`.

pub mod exemplar;
pub mod exit;
pub mod head;
pub mod index;
pub mod join;
pub mod model;
mod packed;
pub mod structure;
mod subspace;

pub use exemplar::Exemplar;
pub use model::{Estimate, RoutingModel};

use crate::embedder::{Embedding, Views};

/// What the head reads of a prompt: the embedding's views and the structure of its text, side by side.
/// `text` is the window the views were made from.
pub fn inputs(views: &Views, text: &str) -> Vec<f32> {
    gather(views.all(), &structure::of(text))
}

/// Views, as many as there are, and the structure of their text, side by side.
fn gather(views: &[Embedding], structure: &[f32]) -> Vec<f32> {
    views.iter().flat_map(|view| view.as_slice()).chain(structure).copied().collect()
}
