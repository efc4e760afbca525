//! Sums over many requests. Money is added in whole picodollars, wide enough that no file's sum is cut short.

use crate::money::Money;
use serde::{Serialize, Serializer};
use std::fmt;

/// A sum of money, in picodollars.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dollars(i128);

impl Dollars {
    /// Adds `amount` so many times.
    pub fn add(&mut self, amount: Money, count: u64) {
        self.0 = self.0.saturating_add(i128::from(amount.picodollars()).saturating_mul(i128::from(count)));
    }

    /// What is more than `other`; negative where it is less.
    #[must_use]
    pub fn less(self, other: Dollars) -> Self {
        Dollars(self.0.saturating_sub(other.0))
    }

    /// For shares, means and charts.
    pub fn to_f64(self) -> f64 {
        self.0 as f64 / 1e12
    }

    /// The amount divided by `requests` and times a thousand, rounded to the picodollar.
    #[must_use]
    pub fn per_thousand(self, requests: u64) -> Self {
        Dollars(self.0.saturating_mul(1_000) / i128::from(requests.max(1)))
    }
}

/// `$3,750.00`; below a dollar six decimals. Rounded from the exact sum, half of the last digit away from nothing.
impl fmt::Display for Dollars {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let amount = self.0.unsigned_abs();
        let digits = if amount >= 1_000_000_000_000 || amount == 0 { 2 } else { 6 };
        let unit = 10u128.pow(12 - digits);
        let rounded = (amount + unit / 2) / unit;
        let (whole, rest) = (rounded / 10u128.pow(digits), rounded % 10u128.pow(digits));
        let sign = if self.0 < 0 { "-" } else { "" };
        write!(to, "{sign}${}.{rest:0width$}", thousands(whole), width = digits as usize)
    }
}

impl Serialize for Dollars {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.to_f64())
    }
}

/// `1,000,000`.
pub fn thousands(number: u128) -> String {
    let digits = number.to_string();
    let groups: Vec<&[u8]> = digits.as_bytes().rchunks(3).rev().collect();
    groups.iter().map(|group| String::from_utf8_lossy(group)).collect::<Vec<_>>().join(",")
}

/// What some requests took.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Sum {
    pub requests: u64,
    pub tokens_in: u64,
    /// Of these, expected in a provider's cache.
    pub cached_tokens: u64,
    pub tokens_out: u64,
    pub dollars: Dollars,
    /// Requests whose price is assumed, since nobody knows it.
    pub assumed_price: u64,
    /// Mean score of the answers, or share of them by the right class or one that covers it, 0..1; absent where the file
    /// does not tell of any.
    #[serde(serialize_with = "mean")]
    pub quality: Mean,
    /// Milliseconds expected for a whole answer.
    #[serde(serialize_with = "mean")]
    pub latency_ms: Mean,
}

/// What one request takes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Taken {
    pub tokens_in: u64,
    pub cached_tokens: u64,
    pub tokens_out: u64,
    pub cost: Money,
    pub price_known: bool,
    pub quality: Option<f64>,
    pub latency_ms: f64,
}

impl Sum {
    /// Adds so many equal requests.
    pub fn add(&mut self, taken: &Taken, count: u64) {
        self.requests += count;
        self.tokens_in = self.tokens_in.saturating_add(taken.tokens_in.saturating_mul(count));
        self.cached_tokens = self.cached_tokens.saturating_add(taken.cached_tokens.saturating_mul(count));
        self.tokens_out = self.tokens_out.saturating_add(taken.tokens_out.saturating_mul(count));
        self.dollars.add(taken.cost, count);
        self.assumed_price += if taken.price_known { 0 } else { count };
        self.latency_ms.add(taken.latency_ms, count);
        if let Some(quality) = taken.quality {
            self.quality.add(quality, count);
        }
    }
}

/// A mean over requests.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mean {
    sum: f64,
    count: u64,
}

impl Mean {
    fn add(&mut self, value: f64, count: u64) {
        self.sum += value * count as f64;
        self.count += count;
    }

    /// The mean; `None` of nothing.
    pub fn get(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }
}

fn mean<S: Serializer>(mean: &Mean, serializer: S) -> Result<S::Ok, S::Error> {
    mean.get().serialize(serializer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_exact_and_shown_to_the_cent() {
        let mut sum = Dollars::default();
        sum.add(Money::parse("0.00375").unwrap(), 1_000_000);
        assert_eq!(sum.to_string(), "$3,750.00");
        // More than a 64-bit number of picodollars holds.
        sum.add(Money::parse("5").unwrap(), 10_000_000);
        assert_eq!(sum.to_string(), "$50,003,750.00");
        let mut cents = Dollars::default();
        cents.add(Money::parse("1.005").unwrap(), 1);
        assert_eq!((cents.to_string(), Dollars::default().less(cents).to_string()), ("$1.01".into(), "-$1.01".into()));
        let mut small = Dollars::default();
        small.add(Money::parse("0.0000157").unwrap(), 1);
        assert_eq!(small.to_string(), "$0.000016");
        assert_eq!(small.per_thousand(1).to_string(), "$0.015700");
    }

    #[test]
    fn quality_is_the_mean_of_what_is_known() {
        let mut sum = Sum::default();
        sum.add(&Taken { quality: Some(1.0), latency_ms: 100.0, price_known: true, ..Taken::default() }, 3);
        sum.add(&Taken { quality: Some(0.0), latency_ms: 200.0, price_known: true, ..Taken::default() }, 1);
        sum.add(&Taken { quality: None, latency_ms: 300.0, ..Taken::default() }, 4);
        assert_eq!((sum.quality.get(), sum.latency_ms.get()), (Some(0.75), Some(212.5)));
        assert_eq!((sum.requests, sum.assumed_price), (8, 4));
    }
}
