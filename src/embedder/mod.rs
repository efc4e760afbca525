//! From text to embeddings: `window.rs` chooses the text, `tokens/` makes tokens of it, `encoder.rs` runs them through a
//! BERT-family model (on `kernels/` or, where they do not support its shape, `bert.rs`) and pools `views.rs`, `worker.rs`
//! does so on threads of its own behind a bounded queue. Next stop: `classifier/`.

mod bert;
mod courtesy;
mod encoder;
mod sentences;
mod tokens;
mod views;
mod window;
mod worker;

pub use crate::kernels::Precision;
pub use encoder::{Encoder, EncoderSpec, Pooling, Spent};
pub use views::{VIEWS, Views};
pub use window::{clip, window};
pub use worker::{Embedder, Late};

use crate::error::{Error, Result};

/// A vector of unit length. Made only by [`Embedding::new`], so nobody else checks for zero or NaN.
///
/// ```
/// use waypost::embedder::Embedding;
/// let embedding = Embedding::new(vec![3.0, 4.0]).unwrap();
/// assert_eq!(embedding.as_slice(), &[0.6, 0.8]);
/// assert!(Embedding::new(vec![0.0, 0.0]).is_err());
/// assert!(Embedding::new(vec![f32::NAN, 1.0]).is_err());
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Embedding(Vec<f32>);

impl Embedding {
    /// Scales `vector` to unit length.
    ///
    /// # Errors
    /// [`Error::Internal`] when it is empty, zero, or holds NaN or infinity.
    pub fn new(mut vector: Vec<f32>) -> Result<Self> {
        let norm = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
        if !norm.is_finite() || norm <= f32::MIN_POSITIVE {
            return Err(Error::Internal(format!("an embedding of length {norm} cannot be normalised")));
        }
        vector.iter_mut().for_each(|x| *x /= norm);
        Ok(Embedding(vector))
    }

    /// The components.
    pub fn as_slice(&self) -> &[f32] {
        &self.0
    }

    /// Cosine similarity with a vector of unit length, -1..1.
    pub fn similarity(&self, other: &[f32]) -> f32 {
        self.0.iter().zip(other).map(|(a, b)| a * b).sum()
    }
}
