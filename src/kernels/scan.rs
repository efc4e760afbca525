//! Similarities of one vector to many, in whole numbers: a quarter of the memory to read, which is all that a scan's speed
//! hangs on. They are near, not exact (within about 0.01 for vectors of unit length): whoever wants the most similar
//! compares a few more than wanted exactly.

use super::level::Level;
use super::linear::{Linear, Rounded, Rows};
use super::pack::Aligned;
use super::product::{After, Product};
use super::whole::{Rounding, Scales, Whole};

/// Every level's panels, and vectors of columns, are multiples or divisors of this.
const COLUMN_UNIT: usize = 16;

/// Vectors to be compared with: one linear layer whose outputs are the similarities.
pub struct Scan {
    level: Level,
    width: usize,
    count: usize,
    vectors: Whole,
    bias: Aligned<f32>,
}

impl Scan {
    /// Whether vectors of a width can be scanned.
    pub fn supports(width: usize) -> bool {
        Linear::supports(width)
    }

    /// Packs vectors, row after row of `width` finite numbers.
    ///
    /// # Panics
    /// When the width is not supported, or a row not whole.
    pub fn new(vectors: &[f32], width: usize) -> Self {
        assert!(Self::supports(width) && vectors.len().is_multiple_of(width), "rows of {width}: want a multiple of 32");
        let (level, count) = (Level::detect(), vectors.len() / width);
        let panels = level.panels();
        let (vectors, bias) = (Whole::new(panels, vectors, &vec![1.0; width], 0), Aligned::zeros(panels.padded(count)));
        let columns = Self::columns(count);
        let reach = columns <= bias.len()
            && vectors.columns.len() == bias.len()
            && vectors.column_sums.len() == bias.len()
            && 4 * vectors.weights.len() == bias.len() * vectors.places.count();
        assert!(reach, "{count} vectors are packed into {} columns", bias.len());
        Scan { level, width, count, vectors, bias }
    }

    /// Puts the dot product of `query` with each vector into `similarities`.
    ///
    /// # Panics
    /// When the query is not `width` long.
    pub fn similarities(&self, query: &[f32], rounded: &mut Rounded, similarities: &mut Vec<f32>) {
        assert_eq!(query.len(), self.width, "vectors are {} wide", self.width);
        similarities.clear();
        similarities.resize(Self::columns(self.count), 0.0);
        if self.count == 0 {
            return;
        }
        let kernels = self.level.kernels();
        let Whole { weights, columns: column_scales, column_sums, places } = &self.vectors;
        let Rows { row, numbers, scales, zeros } = rounded.grow(1, places.count());
        // SAFETY: `Level::detect` found the level; the query is one row; `Rounded::grow` made the scratch as long; vectors,
        // their scales and the bias reach to the end of the last panel, and the outputs to a multiple of 16 not beyond it.
        unsafe {
            (kernels.round)(Rounding { inputs: query, places, row, outputs: numbers, scales, zeros });
            (kernels.multiply_bytes)(Product {
                rows: 1,
                depth: places.count(),
                columns: Self::columns(self.count),
                inputs: numbers,
                weights,
                bias: &self.bias,
                scales: Scales { rows: scales, zeros, columns: column_scales, column_sums },
                outputs: similarities,
                after: After::Store,
            });
        }
        similarities.truncate(self.count);
    }

    /// Columns of the product: a multiple of what the kernels store at a time, and of no panel that is not there.
    fn columns(count: usize) -> usize {
        count.next_multiple_of(COLUMN_UNIT)
    }
}
