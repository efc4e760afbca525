//! Sums that fade with time, and the time they are read at.

use serde::{Deserialize, Serialize};

/// A moment, in seconds since the book was opened. Taken once for all pages that one decision reads.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Now(pub f64);

impl Now {
    /// What is left of a weight of one after the time since `at_s`; a clock that went back counts as standing still.
    pub fn fade(self, at_s: f64, half_life_s: f64) -> f64 {
        (-(self.0 - at_s).max(0.0) / half_life_s).exp2()
    }
}

/// A sum and its weight. Whoever keeps it fades both alike, so that the mean stays and only its weight against a prior
/// goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Decayed {
    pub sum: f64,
    pub weight: f64,
}

impl Decayed {
    /// Multiplies sum and weight.
    pub fn fade(&mut self, factor: f64) {
        self.sum *= factor;
        self.weight *= factor;
    }

    /// Adds a value that counts `weight` times.
    pub fn add(&mut self, value: f64, weight: f64) {
        self.sum += value * weight;
        self.weight += weight;
    }

    /// The mean, shrunk toward `prior` as if that had been seen `weight` (above 0) times.
    pub fn mean(&self, prior: f64, weight: f64) -> f64 {
        (self.sum + prior * weight) / (self.weight + weight)
    }

    /// Lets older values go until the weight is at most `limit`.
    pub fn cap(&mut self, limit: f64) {
        if self.weight > limit {
            self.fade(limit / self.weight);
        }
    }

    /// Whether these are numbers such a sum can have; what was read from a file may be anything.
    pub fn is_sound(&self) -> bool {
        self.sum.is_finite() && self.weight.is_finite() && self.weight >= 0.0
    }
}
