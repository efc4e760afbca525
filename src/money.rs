//! Money in integers: picodollars, so that a price per token of any provider is exact.

use serde::{Deserialize, Serialize};
use std::ops::{Add, AddAssign};

/// An amount of money in picodollars (1e-12 $). JSON and people see dollars; sums are exact.
///
/// ```
/// use waypost::money::Money;
/// let price_per_token = Money::per_mtok(0.15);
/// assert_eq!(price_per_token.times(1_000).dollars(), 0.000_15);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Money(i64);

impl Money {
    /// No money.
    pub const ZERO: Money = Money(0);

    /// The price of one token, from a list price in dollars per million tokens. Exact to six decimals of the list price.
    pub fn per_mtok(dollars: f64) -> Self {
        Money((dollars * 1e6).round() as i64)
    }

    /// An amount in dollars, rounded to the picodollar.
    pub fn from_dollars(dollars: f64) -> Self {
        Money((dollars * 1e12).round() as i64)
    }

    /// This amount `count` times; saturates instead of overflowing.
    pub fn times(self, count: u64) -> Self {
        Money(self.0.saturating_mul(i64::try_from(count).unwrap_or(i64::MAX)))
    }

    /// The amount in dollars, for people and for comparison with seconds and worth.
    pub fn dollars(self) -> f64 {
        self.0 as f64 / 1e12
    }
}

impl Add for Money {
    type Output = Money;
    fn add(self, other: Money) -> Money {
        Money(self.0.saturating_add(other.0))
    }
}

impl AddAssign for Money {
    fn add_assign(&mut self, other: Money) {
        *self = *self + other;
    }
}

impl Serialize for Money {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.dollars())
    }
}

impl<'de> Deserialize<'de> for Money {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        f64::deserialize(deserializer).map(Money::from_dollars)
    }
}
