//! The price of one model at one provider, and what a request costs by it.
//!
//! A price is a table of rates with exceptions laid over it: longer prompts (`tiers`), other services (`batch`, `flex`,
//! `priority`), regions, and times (`periods`). All is `Money` in integers; a sum is exact to the picodollar.

use super::period::When;
use super::rates::{Cost, Rates};
use crate::decision::Usage;
use crate::money::Money;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Rates, and other ones for long prompts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    #[serde(flatten)]
    pub rates: Rates,
    /// Shortest first. The last one that a prompt exceeds holds for the whole request, prompt and answer: so Anthropic,
    /// Google, OpenAI, xAI and Alibaba mean it, none of them bills only what is above.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tiers: Vec<Tier>,
}

/// Rates of prompts longer than so many tokens; what they leave out is as below.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tier {
    /// Prompt tokens, cached ones included, that must be exceeded.
    pub above: u64,
    #[serde(flatten)]
    pub rates: Rates,
}

impl Table {
    /// One rate for all lengths.
    pub fn flat(rates: Rates) -> Self {
        Table { rates, tiers: Vec::new() }
    }

    /// The exception for a prompt of this length; empty where there is none.
    fn tier(&self, prompt_tokens: u64) -> Rates {
        self.tiers.iter().rev().find(|tier| prompt_tokens > tier.above).map_or_else(Rates::default, |tier| tier.rates)
    }

    /// Sorts the tiers, on which `tier` relies.
    fn settle(&mut self) {
        self.tiers.sort_by_key(|tier| tier.above);
    }

    fn is_empty(&self) -> bool {
        *self == Table::default()
    }
}

/// How a request is served, where the provider has a price for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Service {
    #[default]
    Standard,
    /// Answered within a day, for less.
    Batch,
    /// Answered when there is room, for less.
    Flex,
    /// Answered first, for more.
    Priority,
}

/// Rates of one region, and a factor on all that is paid there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Region {
    /// In millionths; files write a factor such as 1.1.
    #[serde(default = "whole", with = "factor", skip_serializing_if = "is_whole")]
    pub times: u64,
    #[serde(flatten)]
    pub table: Table,
}

/// A factor of one, in millionths.
pub const WHOLE: u64 = 1_000_000;

fn whole() -> u64 {
    WHOLE
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_whole(times: &u64) -> bool {
    *times == WHOLE
}

/// Rates of a time. They stand in place of the standard ones, at every length of prompt unless they have tiers of
/// their own; batch, flex and priority prices stay as they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Period {
    #[serde(flatten)]
    pub when: When,
    #[serde(flatten)]
    pub table: Table,
}

/// The price of one model at one provider.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prices {
    #[serde(flatten)]
    pub standard: Table,
    /// Dollars for the request itself.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub per_request: Money,
    #[serde(default, skip_serializing_if = "Table::is_empty")]
    pub batch: Table,
    #[serde(default, skip_serializing_if = "Table::is_empty")]
    pub flex: Table,
    #[serde(default, skip_serializing_if = "Table::is_empty")]
    pub priority: Table,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub regions: BTreeMap<String, Region>,
    /// Where two hold, the later one in the list counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub periods: Vec<Period>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_nothing(amount: &Money) -> bool {
    *amount == Money::ZERO
}

/// The circumstances of a request that change its price.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    pub at: Timestamp,
    pub service: Service,
    pub region: Option<&'a str>,
}

impl<'a> Terms<'a> {
    /// Served as usual, now.
    pub fn now(region: Option<&'a str>) -> Self {
        Terms { at: Timestamp::now(), service: Service::Standard, region }
    }
}

impl Prices {
    /// A price without exceptions.
    pub fn flat(rates: Rates) -> Self {
        Prices { standard: Table::flat(rates), ..Prices::default() }
    }

    /// Nothing is paid: models on one's own machines.
    pub fn free() -> Self {
        Self::flat(Rates::of(Money::ZERO, Money::ZERO))
    }

    /// Puts tiers in order. Prices read from a file go through this once.
    #[must_use]
    pub fn settled(mut self) -> Self {
        let regions = self.regions.values_mut().map(|region| &mut region.table);
        let periods = self.periods.iter_mut().map(|period| &mut period.table);
        let own = [&mut self.standard, &mut self.batch, &mut self.flex, &mut self.priority];
        own.into_iter().chain(regions).chain(periods).for_each(Table::settle);
        self
    }

    /// What a request costs, from what the provider counted.
    #[inline]
    pub fn cost(&self, usage: &Usage, terms: &Terms<'_>) -> Cost {
        let plain = terms.service == Service::Standard && self.is_plain();
        let cost =
            if plain { self.standard.rates.cost(usage) } else { self.rates(usage.prompt_tokens, terms).cost(usage) };
        let cost = Cost { input: cost.input + self.per_request, ..cost };
        match terms.region.and_then(|region| self.regions.get(region)) {
            Some(region) if region.times != WHOLE => {
                Cost { input: cost.input.millionths(region.times), output: cost.output.millionths(region.times) }
            }
            _ => cost,
        }
    }

    /// What a request is expected to cost, for ranking: `cached` of the prompt's tokens are in the provider's cache.
    /// Nothing is allocated.
    #[inline]
    pub fn expected(&self, prompt_tokens: u64, cached: u64, answer_tokens: u64, terms: &Terms<'_>) -> Cost {
        let usage =
            Usage { prompt_tokens, cached_tokens: cached, completion_tokens: answer_tokens, ..Usage::default() };
        self.cost(&usage, terms)
    }

    /// The rates of a prompt of this length under these terms. Of a service's exceptions the nearest counts: its rate
    /// for this length, the standard one for this length (a discount that nobody published is not assumed), its plain
    /// rate, the plain standard one.
    pub fn rates(&self, prompt_tokens: u64, terms: &Terms<'_>) -> Rates {
        let standard = &self.standard;
        let service = match terms.service {
            Service::Standard => None,
            Service::Batch => Some(&self.batch),
            Service::Flex => Some(&self.flex),
            Service::Priority => Some(&self.priority),
        };
        let rates = match service.filter(|table| !table.is_empty()) {
            None => self.now(prompt_tokens, terms.at, standard.tier(prompt_tokens).over(&standard.rates)),
            Some(table) => {
                let plain = table.rates.over(&standard.rates);
                table.tier(prompt_tokens).over(&standard.tier(prompt_tokens)).over(&plain)
            }
        };
        match terms.region.and_then(|region| self.regions.get(region)) {
            Some(region) => region.table.tier(prompt_tokens).over(&region.table.rates).over(&rates),
            None => rates,
        }
    }

    /// Whether no length, region or time has other standard rates: most have none, and five hundred are ranked at once.
    fn is_plain(&self) -> bool {
        self.standard.tiers.is_empty() && self.regions.is_empty() && self.periods.is_empty()
    }

    /// Rates with those of the time laid over them.
    fn now(&self, prompt_tokens: u64, at: Timestamp, rates: Rates) -> Rates {
        match self.periods.iter().rev().find(|period| period.when.holds(at)) {
            Some(period) => period.table.tier(prompt_tokens).over(&period.table.rates).over(&rates),
            None => rates,
        }
    }
}

/// A factor in millionths, written as a number such as 1.1.
mod factor {
    use super::Money;
    use serde::{Deserialize, Deserializer, Serializer};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
    pub fn serialize<S: Serializer>(times: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(*times as f64 / 1e6)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        let number = f64::deserialize(deserializer)?;
        // As picodollars of a millionth: the same decimal reading as that of prices.
        let times = Money::parse(&format!("{number}e-6")).and_then(|times| u64::try_from(times.picodollars()).ok());
        times.ok_or_else(|| serde::de::Error::custom(format!("expected a factor of at least 0, got {number}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRICES: &str = r#"{
        "input": 1.25, "cached_input": 0.125, "output": 10,
        "tiers": [{"above": 400000, "input": 5}, {"above": 200000, "input": 2.5, "cached_input": 0.25, "output": 15}],
        "per_request": 0.005,
        "batch": {"input": 0.625, "output": 5},
        "regions": {"eu": {"times": 1.1}, "in": {"output": 20}},
        "periods": [
            {"valid_from": "2026-03-01", "valid_until": "2026-03-31", "input": 0.5},
            {"hours": ["16:30-00:30"], "output": 1, "valid_from": "2026-05-01"}
        ]
    }"#;

    fn prices() -> Prices {
        serde_json::from_str::<Prices>(PRICES).unwrap().settled()
    }

    fn terms(at: &str) -> Terms<'static> {
        Terms { at: at.parse().unwrap(), service: Service::Standard, region: None }
    }

    fn costs(prompt: u64, cached: u64, answer: u64, terms: &Terms<'_>, dollars: &str) {
        assert_eq!(prices().expected(prompt, cached, answer, terms).total(), Money::parse(dollars).unwrap());
    }

    #[test]
    fn a_tier_begins_after_its_border_and_holds_for_the_whole_request() {
        let plain = terms("2026-01-01T00:00:00Z");
        costs(200_000, 0, 1_000, &plain, "0.265");
        costs(200_001, 0, 1_000, &plain, "0.5200025");
        // Cached tokens count towards the border.
        costs(200_001, 200_000, 0, &plain, "0.0550025");
        // A higher tier leaves out what it does not change, and that is as below all tiers.
        costs(400_001, 0, 1_000, &plain, "2.015005");
    }

    #[test]
    fn periods_regions_and_services_change_what_they_name() {
        costs(1_000_000, 0, 0, &terms("2026-03-31T23:00:00Z"), "0.505");
        costs(1_000_000, 0, 0, &terms("2026-04-01T00:00:00Z"), "5.005");
        costs(0, 0, 1_000, &terms("2026-05-02T20:00:00Z"), "0.006");
        costs(0, 0, 1_000, &terms("2026-05-02T12:00:00Z"), "0.015");
        let batch = Terms { service: Service::Batch, ..terms("2026-03-05T00:00:00Z") };
        costs(1_000, 0, 1_000, &batch, "0.010625");
        let eu = Terms { region: Some("eu"), ..terms("2026-01-01T00:00:00Z") };
        costs(1_000, 0, 1_000, &eu, "0.017875");
        let india = Terms { region: Some("in"), ..eu };
        costs(0, 0, 1_000, &india, "0.025");
        // A region without a price of its own pays what all pay; so does a service.
        let flex = Terms { service: Service::Flex, region: Some("mars"), ..eu };
        costs(0, 0, 1_000, &flex, "0.015");
    }

    #[test]
    fn prices_are_written_as_they_were_read() {
        let text = serde_json::to_string(&prices()).unwrap();
        assert_eq!(serde_json::from_str::<Prices>(&text).unwrap().settled(), prices());
        assert!(text.contains(r#""eu":{"times":1.1}"#) && text.contains(r#""hours":["16:30-00:30"]"#), "{text}");
    }
}
