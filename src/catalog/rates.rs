//! What one token costs, by kind: the smallest piece of a price. A kind that is left out costs what the kind above it
//! costs, so a few numbers say a whole price list, and an exception names only what differs.

use crate::decision::Usage;
use crate::money::Money;
use serde::{Deserialize, Serialize};

/// Dollars for a token of each kind; in files as dollars per million tokens. Absent: see each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rates {
    /// A prompt token.
    #[serde(with = "per_mtok", skip_serializing_if = "Option::is_none")]
    pub input: Option<Money>,
    /// A prompt token read from the provider's cache; absent: as `input`.
    #[serde(with = "per_mtok", skip_serializing_if = "Option::is_none")]
    pub cached_input: Option<Money>,
    /// A prompt token written to the provider's cache (five minutes at Anthropic); absent: as `input`.
    #[serde(with = "per_mtok", skip_serializing_if = "Option::is_none")]
    pub cache_write: Option<Money>,
    /// One kept there for an hour or more; absent: as `cache_write`.
    #[serde(with = "per_mtok", skip_serializing_if = "Option::is_none")]
    pub cache_write_1h: Option<Money>,
    /// A prompt token of sound; absent: as `input`.
    #[serde(with = "per_mtok", skip_serializing_if = "Option::is_none")]
    pub audio_input: Option<Money>,
    /// An answer token.
    #[serde(with = "per_mtok", skip_serializing_if = "Option::is_none")]
    pub output: Option<Money>,
    /// An answer token of reasoning; absent: as `output`.
    #[serde(with = "per_mtok", skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<Money>,
    /// An answer token of sound; absent: as `output`.
    #[serde(with = "per_mtok", skip_serializing_if = "Option::is_none")]
    pub audio_output: Option<Money>,
}

/// What a request costs: its prompt (with what the request itself costs) and its answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Cost {
    pub input: Money,
    pub output: Money,
}

impl Cost {
    /// Both together.
    pub fn total(&self) -> Money {
        self.input + self.output
    }
}

impl Rates {
    /// A plain price: so much for a prompt token, so much for an answer token.
    pub fn of(input: Money, output: Money) -> Self {
        Rates { input: Some(input), output: Some(output), ..Rates::default() }
    }

    /// These rates where they say something, `below` elsewhere.
    #[must_use]
    pub fn over(&self, below: &Rates) -> Rates {
        Rates {
            input: self.input.or(below.input),
            cached_input: self.cached_input.or(below.cached_input),
            cache_write: self.cache_write.or(below.cache_write),
            cache_write_1h: self.cache_write_1h.or(below.cache_write_1h),
            audio_input: self.audio_input.or(below.audio_input),
            output: self.output.or(below.output),
            reasoning: self.reasoning.or(below.reasoning),
            audio_output: self.audio_output.or(below.audio_output),
        }
    }

    /// Every kind with its name as files write it.
    pub fn kinds(&self) -> [(&'static str, Option<Money>); 8] {
        [
            ("input", self.input),
            ("cached_input", self.cached_input),
            ("cache_write", self.cache_write),
            ("cache_write_1h", self.cache_write_1h),
            ("audio_input", self.audio_input),
            ("output", self.output),
            ("reasoning", self.reasoning),
            ("audio_output", self.audio_output),
        ]
    }

    /// Whether a prompt and an answer both have a price.
    pub fn is_whole(&self) -> bool {
        self.input.is_some() && self.output.is_some()
    }

    /// What tokens cost at these rates. Counts are taken as parts of their whole: never are more tokens paid than the
    /// prompt and the answer have.
    #[inline]
    pub fn cost(&self, usage: &Usage) -> Cost {
        let input = self.input.unwrap_or_default();
        let output = self.output.unwrap_or_default();
        let written = self.cache_write.unwrap_or(input);
        let mut fresh = usage.prompt_tokens;
        let cached = take(&mut fresh, usage.cached_tokens);
        let mut short = take(&mut fresh, usage.cache_write_tokens.max(usage.cache_write_1h_tokens));
        let long = take(&mut short, usage.cache_write_1h_tokens);
        let heard = take(&mut fresh, usage.audio_tokens);
        let mut words = usage.completion_tokens;
        let reasoned = take(&mut words, usage.reasoning_tokens);
        let spoken = take(&mut words, usage.completion_audio_tokens);
        Cost {
            input: input.times(fresh)
                + self.cached_input.unwrap_or(input).times(cached)
                + written.times(short)
                + self.cache_write_1h.unwrap_or(written).times(long)
                + self.audio_input.unwrap_or(input).times(heard),
            output: output.times(words)
                + self.reasoning.unwrap_or(output).times(reasoned)
                + self.audio_output.unwrap_or(output).times(spoken),
        }
    }
}

/// Takes up to `wanted` out of what is left.
fn take(left: &mut u64, wanted: u64) -> u64 {
    let taken = wanted.min(*left);
    *left -= taken;
    taken
}

/// A rate as dollars per million tokens: a number, or a string of one.
pub mod per_mtok {
    use super::{Deserialize, Money};
    use serde::de::Error;
    use serde::{Deserializer, Serializer};

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Number(f64),
        Text(String),
    }

    /// Writes the list price.
    ///
    /// # Errors
    /// Those of the serialiser.
    pub fn serialize<S: Serializer>(rate: &Option<Money>, serializer: S) -> Result<S::Ok, S::Error> {
        match rate {
            Some(rate) => serializer.serialize_f64(rate.dollars_per_mtok()),
            None => serializer.serialize_none(),
        }
    }

    /// Reads a list price; it is not negative.
    ///
    /// # Errors
    /// Where it is no decimal number of at least 0.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Money>, D::Error> {
        let text = match Option::<Written>::deserialize(deserializer)? {
            None => return Ok(None),
            // The shortest decimal that names this number: the one that was written, to 15 digits.
            Some(Written::Number(number)) => number.to_string(),
            Some(Written::Text(text)) => text,
        };
        let rate = Money::parse_per_mtok(&text).filter(|rate| *rate >= Money::ZERO);
        rate.map(Some).ok_or_else(|| D::Error::custom(format!("expected a price of at least 0, got `{text}`")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATES: &str = r#"{"input":3,"cached_input":0.3,"cache_write":"3.75","cache_write_1h":6,"output":15}"#;

    fn rates() -> Rates {
        serde_json::from_str(RATES).unwrap()
    }

    #[test]
    fn parts_of_the_prompt_are_paid_once_and_never_more_than_the_prompt() {
        let usage = Usage {
            prompt_tokens: 1_000,
            cached_tokens: 400,
            cache_write_tokens: 300,
            cache_write_1h_tokens: 100,
            completion_tokens: 10,
            ..Usage::default()
        };
        // 300 fresh at 3, 400 at 0.3, 200 at 3.75, 100 at 6 dollars a million.
        assert_eq!(rates().cost(&usage).input, Money::parse("0.00237").unwrap());
        let absurd = Usage { cached_tokens: 9_999, ..usage };
        assert_eq!(rates().cost(&absurd).input, Money::per_mtok(0.3).times(1_000));
    }

    #[test]
    fn what_has_no_price_of_its_own_costs_what_its_whole_costs() {
        let plain = Rates::of(Money::per_mtok(1.0), Money::per_mtok(2.0));
        let usage = Usage {
            prompt_tokens: 100,
            cached_tokens: 50,
            cache_write_1h_tokens: 50,
            completion_tokens: 10,
            reasoning_tokens: 10,
            ..Usage::default()
        };
        assert_eq!(plain.cost(&usage).total(), Money::parse("0.00012").unwrap());
        let dear = Rates { reasoning: Some(Money::per_mtok(4.0)), ..plain };
        assert_eq!(dear.cost(&usage).output, Money::per_mtok(4.0).times(10));
    }

    #[test]
    fn rates_are_written_as_they_were_read() {
        let text = serde_json::to_string(&rates()).unwrap();
        assert_eq!(serde_json::from_str::<Rates>(&text).unwrap(), rates());
        assert!(text.contains(r#""cached_input":0.3,"cache_write":3.75"#), "{text}");
        assert!(serde_json::from_str::<Rates>(r#"{"input":-1}"#).is_err());
    }
}
