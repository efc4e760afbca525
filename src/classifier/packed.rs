//! The learned weights as the vector instructions of this machine want them: what serves in place of the plain arrays of
//! `head.rs` and `exit.rs`. Hidden layers are rounded to bfloat16, for reading them is what takes the time; the landmarks
//! are not, for their duals are large.

use super::exit::Net;
use super::head::{Head, HeadOutput};
use crate::kernels::{After, Level, Linear, Precision, Rounded};

/// A head's weights, its exits' among them.
pub struct Packed {
    hidden: Columns,
    /// Components to the landmarks' cosines, filled up with zeros.
    landmarks: Linear,
    exits: Vec<Columns>,
}

/// A hidden layer over standardised inputs, which are filled up with zeros.
struct Columns {
    linear: Linear,
    inputs: usize,
    width: usize,
}

impl Packed {
    /// None for widths the kernels are not written for.
    pub fn of(head: &Head) -> Option<Self> {
        let (width, components) = (head.width(), head.width() - head.hidden());
        let count = head.kernel.landmarks.len() / components;
        if !Linear::supports(components) || count == 0 {
            return None;
        }
        let mut bias = head.bias.clone();
        bias.resize(width, 0.0);
        let mut landmarks = head.kernel.landmarks.clone();
        let filled = filled_up(count);
        landmarks.resize(filled * components, 0.0);
        Some(Packed {
            hidden: Columns::of(&head.weights, &bias)?,
            landmarks: pack(Precision::F32, &landmarks, &vec![0.0; filled], components),
            exits: head.exits.iter().map(|net| Columns::of(&net.weights, &net.bias)).collect::<Option<_>>()?,
        })
    }

    /// As [`Head::forward`].
    pub fn forward(&self, head: &Head, inputs: &[f32]) -> HeadOutput {
        let mut rounded = Rounded::default();
        let sums = self.hidden.sums(inputs, &head.center, &head.scale, &mut rounded);
        head.finish(sums, |components| {
            let mut cosines = vec![0.0; filled_up(head.kernel.duals.len() / head.classes())];
            self.landmarks.forward(components, &mut cosines, After::Store, &mut rounded);
            head.kernel.weigh(cosines.into_iter())
        })
    }

    /// As [`Net::sums`], of an exit's number.
    pub fn exit_sums(&self, exit: usize, net: &Net, inputs: &[f32]) -> Vec<f32> {
        self.exits[exit].sums(inputs, &net.center, &net.scale, &mut Rounded::default())
    }
}

impl Columns {
    /// Of weights `[inputs, bias.len()]`.
    fn of(weights: &[f32], bias: &[f32]) -> Option<Self> {
        let (width, inputs) = (bias.len(), weights.len() / bias.len());
        let filled = filled_up(inputs);
        if !Linear::supports(filled) || width != filled_up(width) {
            return None;
        }
        let mut columns = vec![0.0; width * filled];
        for (input, row) in weights.chunks_exact(width).enumerate() {
            row.iter().enumerate().for_each(|(column, weight)| columns[column * filled + input] = *weight);
        }
        Some(Columns { linear: pack(Precision::Bf16, &columns, bias, filled), inputs: filled, width })
    }

    fn sums(&self, inputs: &[f32], center: &[f32], scale: &[f32], rounded: &mut Rounded) -> Vec<f32> {
        let standard = inputs.iter().zip(center.iter().zip(scale)).map(|(x, (center, scale))| (x - center) * scale);
        let mut standard: Vec<f32> = standard.collect();
        standard.resize(self.inputs, 0.0);
        let mut sums = vec![0.0; self.width];
        self.linear.forward(&standard, &mut sums, After::Store, rounded);
        sums
    }
}

fn filled_up(count: usize) -> usize {
    count.next_multiple_of(Linear::WIDTH_UNIT)
}

fn pack(precision: Precision, weights: &[f32], bias: &[f32], inputs: usize) -> Linear {
    Linear::new(Level::detect(), precision, weights, bias, &vec![1.0; inputs])
}
