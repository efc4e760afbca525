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

    /// An amount in whole picodollars, as logs keep it.
    pub fn from_picodollars(amount: i64) -> Self {
        Money(amount)
    }

    /// This amount in whole picodollars.
    pub fn picodollars(self) -> i64 {
        self.0
    }

    /// An amount in dollars, rounded to the picodollar.
    pub fn from_dollars(dollars: f64) -> Self {
        Money((dollars * 1e12).round() as i64)
    }

    /// Reads a decimal number of dollars ("2.50", "2.5e-06"), digit by digit: no binary fraction in between. What is
    /// finer than a picodollar is rounded, half of one upwards. `None` where it is no decimal number, or too large.
    ///
    /// ```
    /// use waypost::money::Money;
    /// assert_eq!(Money::parse("2.5e-06"), Some(Money::per_mtok(2.5)));
    /// ```
    pub fn parse(dollars: &str) -> Option<Self> {
        Self::decimal(dollars, 12)
    }

    /// The price of one token, from the text of a list price in dollars per million tokens.
    pub fn parse_per_mtok(dollars: &str) -> Option<Self> {
        Self::decimal(dollars, 6)
    }

    /// A decimal number times ten to the power of `shift`, in picodollars.
    fn decimal(text: &str, shift: i32) -> Option<Self> {
        let text = text.trim();
        let (mantissa, exponent) = match text.find(['e', 'E']) {
            Some(at) => (&text[..at], text[at + 1..].parse::<i32>().ok()?),
            None => (text, 0),
        };
        let (negative, mantissa) = match mantissa.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, mantissa.strip_prefix('+').unwrap_or(mantissa)),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits = format!("{whole}{fraction}");
        if digits.is_empty() || digits.len() > 60 || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
            return None;
        }
        // The number is `digits` x 10^(places): whole picodollars end where places reach 0.
        let places = exponent.checked_add(shift)?.checked_sub(i32::try_from(fraction.len()).ok()?)?;
        let kept = (digits.len() as i32).checked_add(places)?;
        let amount = match usize::try_from(kept) {
            Err(_) => 0,
            Ok(kept) if kept >= digits.len() => {
                let number: i64 = digits.parse().ok()?;
                (0..places).try_fold(number, |number, _| if number == 0 { Some(0) } else { number.checked_mul(10) })?
            }
            Ok(kept) => {
                let number: i64 = if kept == 0 { 0 } else { digits[..kept].parse().ok()? };
                number.checked_add(i64::from(digits.as_bytes()[kept] >= b'5'))?
            }
        };
        Some(Money(if negative { -amount } else { amount }))
    }

    /// The list price in dollars per million tokens, of the price of one token: what people and catalogues write.
    pub fn dollars_per_mtok(self) -> f64 {
        self.0 as f64 / 1e6
    }

    /// This amount times a number of millionths, rounded to the picodollar; saturates.
    pub fn millionths(self, parts: u64) -> Self {
        let product = i128::from(self.0) * i128::from(parts);
        let rounded = (product + 500_000).div_euclid(1_000_000);
        Money(rounded.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_read_digit_by_digit() {
        let pico = |text| Money::parse(text).map(Money::picodollars);
        assert_eq!(pico("0.0000025"), Some(2_500_000));
        assert_eq!(pico("2.5e-06"), Some(2_500_000));
        assert_eq!(pico("6E-9"), Some(6_000));
        assert_eq!(pico("1.249997e-05"), Some(12_499_970));
        assert_eq!(pico("0"), Some(0));
        assert_eq!(pico("-3"), Some(-3_000_000_000_000));
        assert_eq!(pico("1e3"), Some(1_000_000_000_000_000));
        // A sum of binary fractions that a catalogue wrote down.
        assert_eq!(pico("3.0001999999999996E-7"), Some(300_020));
        assert_eq!(pico("4.5e-13"), Some(0));
        assert_eq!(pico("5e-13"), Some(1));
        assert_eq!(pico("0.30000000000000004"), Some(300_000_000_000));
        assert_eq!(Money::parse_per_mtok("0.003625").map(Money::picodollars), Some(3_625));
        for wrong in ["", ".", "free", "1.2.3", "1e", "0x10", "1e99", "NaN", "--1", "1_000"] {
            assert_eq!(Money::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn millionths_round_to_the_picodollar() {
        assert_eq!(Money(3).millionths(1_100_000), Money(3));
        assert_eq!(Money(5).millionths(1_100_000), Money(6));
        assert_eq!(Money(i64::MAX).millionths(2_000_000), Money(i64::MAX));
    }
}
