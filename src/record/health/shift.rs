//! Tells a shift of level from noise, within a few values: two cumulative sums (CUSUM, Page 1954), one a direction.

use serde::{Deserialize, Serialize};

/// What a value may deviate without adding to the sums, in standard deviations: half of the smallest shift looked for.
const SLACK: f64 = 1.0;

/// A sum past this is a shift. With values held to `MOST`, it takes three of them however large: one outlier, or two,
/// are none. In normal noise a false one comes about once in a million values.
const LIMIT: f64 = 5.0;

/// More than this one value does not deviate.
const MOST: f64 = 3.0;

/// Both sums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Shift {
    up: Run,
    down: Run,
}

/// One direction: the sum, and the values since it was last nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Run {
    reach: f64,
    total: f64,
    count: f64,
}

impl Shift {
    /// Adds a value that lies `deviation` standard deviations from the level. When that makes a shift, the mean of the
    /// values it was made of; all begins anew then.
    pub fn add(&mut self, value: f64, deviation: f64) -> Option<f64> {
        let found = self.up.add(value, deviation).or(self.down.add(value, -deviation));
        if found.is_some() {
            *self = Shift::default();
        }
        found
    }

    /// Whether the last values hint at a lower level that is not yet believed.
    pub fn suspects_lower(&self) -> bool {
        self.down.reach > SLACK
    }

    /// Whether these are numbers.
    pub fn is_sound(&self) -> bool {
        [self.up, self.down].iter().all(|run| (run.reach + run.total + run.count).is_finite())
    }
}

impl Run {
    fn add(&mut self, value: f64, deviation: f64) -> Option<f64> {
        self.reach += deviation.clamp(-MOST, MOST) - SLACK;
        if self.reach <= 0.0 {
            *self = Run::default();
            return None;
        }
        self.total += value;
        self.count += 1.0;
        (self.reach > LIMIT).then(|| self.total / self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_far_values_are_a_shift_and_two_are_none() {
        let mut shift = Shift::default();
        assert_eq!([9.0, 9.0, 0.0, 0.0, 0.0, 0.0, 9.0, 9.0].map(|far| shift.add(far, far)), [None; 8]);
        assert_eq!(shift.add(9.0, 9.0), Some(9.0));
        assert_eq!([-8.0, -8.0, -8.0].map(|far| shift.add(far, far)), [None, None, Some(-8.0)]);
    }
}
