//! From embeddings to quality per class: word n-grams (`ngrams.rs`) and structure (`structure.rs`) join the
//! embedding's views in a small head (`head.rs`), whose hidden layer is the space of the exemplars' index
//! (`index.rs`); head and neighbors are joined and calibrated in `join.rs`. `model.rs` keeps it all as one
//! versioned routing model. Next stop: `policy/`.

pub mod exemplar;
pub mod head;
pub mod index;
pub mod join;
pub mod model;
pub mod ngrams;
pub mod structure;

pub use exemplar::Exemplar;
pub use model::{Estimate, RoutingModel};

use crate::embedder::Views;

/// What the head reads of a prompt: the embedding's views, the n-gram buckets and the structure of its text.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// Views and structure side by side.
    pub dense: Vec<f32>,
    /// Buckets of the hashed n-grams.
    pub ngrams: Vec<u32>,
}

impl Inputs {
    /// Gathers the head's inputs of one text. `text` is the window the views were made from.
    pub fn gather(views: &Views, text: &str, buckets: u32) -> Self {
        let mut dense = Vec::with_capacity(3 * views.whole.as_slice().len() + structure::WIDTH);
        for view in [&views.whole, &views.first, &views.last] {
            dense.extend_from_slice(view.as_slice());
        }
        dense.extend(structure::of(text));
        Inputs { dense, ngrams: ngrams::of(text, buckets) }
    }
}
