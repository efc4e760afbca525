//! Fits the join of head and neighbors on out-of-fold estimates: multinomial logistic regression on two logarithms
//! and a bias, by gradient descent on the likelihood. It calibrates at the same time.

use super::OutOfFold;
use crate::classifier::join::Join;

const STEPS: usize = 2_000;
const RATE: f64 = 0.05;

/// Pull of the weights toward an even join and of the biases toward zero, per prompt.
const RIDGE: f64 = 1e-3;

/// The join that makes the out-of-fold labels likeliest.
pub fn fit(items: &[OutOfFold], classes: usize) -> Join {
    let mut join = Join { head_weight: 0.5, neighbors_weight: 0.5, bias: vec![0.0; classes] };
    for _ in 0..STEPS {
        let mut slope = Join { head_weight: 0.0, neighbors_weight: 0.0, bias: vec![0.0; classes] };
        for item in items {
            let estimate = join.estimate(&item.head, &item.neighbors);
            for (class, share) in estimate.iter().enumerate() {
                let error = (share - f64::from(u8::from(class == item.label))) / items.len() as f64;
                slope.head_weight += error * item.head[class].max(1e-4).ln();
                slope.neighbors_weight += error * item.neighbors[class].max(1e-4).ln();
                slope.bias[class] += error;
            }
        }
        join.head_weight -= RATE * (slope.head_weight + RIDGE * (join.head_weight - 0.5));
        join.neighbors_weight -= RATE * (slope.neighbors_weight + RIDGE * (join.neighbors_weight - 0.5));
        // Bias gradients are small: a class's share of the error, not a sum over logarithms.
        join.bias.iter_mut().zip(&slope.bias).for_each(|(bias, slope)| *bias -= 10.0 * RATE * (slope + RIDGE * *bias));
    }
    join
}

/// The confidence that the router would have had in an out-of-fold prompt.
pub fn confidence_of(join: &Join, item: &OutOfFold) -> f64 {
    join.estimate(&item.head, &item.neighbors).into_iter().fold(0.0, f64::max) * item.nearest
}
