//! What the caller wants, and the two choices made by it: the class (`quality.rs`, `class.rs`) and the deployment
//! (`rank.rs`).
//! `flip.rs` tells the smallest change of policy that would have chosen otherwise.

pub mod class;
pub mod flip;
pub mod quality;
pub mod rank;
pub mod rule;
pub mod strategy;

use crate::config::RawPolicy;
use crate::error::{Error, Result};
use serde::Serialize;
use std::collections::BTreeMap;
use strategy::Strategy;
use utoipa::ToSchema;

/// What a caller wants. See `[policy]` in default.toml for the meaning of each key.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Policy {
    /// The cheapest class whose quality reaches this wins.
    pub quality_floor: f64,
    /// Dollars a good answer is worth; when set, classes are compared in dollars instead of by the floor.
    pub worth: Option<f64>,
    /// Dollars that a second of waiting costs the caller.
    pub value_of_second: f64,
    /// Deployments within this share of the best score are a tie.
    pub tie_share: f64,
    /// Deployments expected to cost more dollars are out.
    pub max_cost: Option<f64>,
    /// Deployments expected to take longer for a whole answer are out.
    pub max_latency_ms: Option<f64>,
    /// How the deployments of a class are ordered; empty: as the class has it, or `[routing]`.
    pub strategy: Vec<Strategy>,
    /// Deployments expected to take longer for a whole answer come after all others.
    pub guard_latency_ms: Option<f64>,
    /// Deployments that failed more of their recent attempts come after all others.
    pub guard_failures: Option<f64>,
    /// Deployments whose recent answers scored lower, by judge and feedback, come after all others.
    pub guard_quality: Option<f64>,
    /// Only deployments in these regions; empty: any.
    pub allowed_regions: Vec<String>,
    /// Only deployments whose provider keeps nothing of a request.
    pub zero_retention: bool,
    /// Attempts before the client sees an error, over all deployments.
    pub max_attempts: usize,
    /// From accepting the request to its first byte, over all attempts; absent: `server.request_timeout_ms`.
    pub deadline_ms: Option<f64>,
    /// Whether a second deployment is asked too when the first takes longer than it does for 95 of 100.
    pub hedge: bool,
    /// Answers that count as failures, so that the next deployment is tried.
    pub fail_on: Vec<FailOn>,
    /// Place in the queue where all are at their limits, 0 first; absent: as `x-waypost-priority` says, or 1.
    pub priority: Option<u8>,
    /// Whether a stream that breaks is continued by another deployment.
    pub continue_streams: bool,
}

/// An answer that counts as a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FailOn {
    /// The model or the provider's filter refuses.
    Refusal,
    /// Neither text nor a tool call.
    Empty,
}

impl FailOn {
    fn parse(word: &str) -> std::result::Result<Self, String> {
        match word {
            "refusal" => Ok(FailOn::Refusal),
            "empty" => Ok(FailOn::Empty),
            _ => Err(format!("expected refusal or empty, got `{word}`")),
        }
    }
}

/// No number of a policy is larger: beyond it sums of dollars and times are no numbers any more, and a deadline no time.
const MOST: f64 = 1e12;

/// A mistake in a policy: the key, and what was expected.
type Mistake = (&'static str, String);

impl Policy {
    /// A policy from its table, with what it does not name taken from `below`.
    pub(crate) fn from_raw(raw: &RawPolicy, below: &RawPolicy) -> std::result::Result<Self, Mistake> {
        let number = |key, value: Option<f64>| match value {
            Some(value) if (0.0..=MOST).contains(&value) => Ok(value),
            Some(value) => Err((key, format!("expected a number from 0 to {MOST:e}, got {value}"))),
            None => Err((key, "is missing".into())),
        };
        let maybe = |key, value: Option<f64>| value.map(|value| number(key, Some(value))).transpose();
        let policy = Policy {
            quality_floor: number("quality_floor", raw.quality_floor.or(below.quality_floor))?,
            worth: maybe("worth", raw.worth.or(below.worth))?,
            value_of_second: number("value_of_second", raw.value_of_second.or(below.value_of_second))?,
            tie_share: number("tie_share", raw.tie_share.or(below.tie_share))?,
            max_cost: maybe("max_cost", raw.max_cost.or(below.max_cost))?,
            max_latency_ms: maybe("max_latency_ms", raw.max_latency_ms.or(below.max_latency_ms))?,
            strategy: words("strategy", &raw.strategy, &below.strategy, Strategy::parse)?,
            guard_latency_ms: maybe("guard_latency_ms", raw.guard_latency_ms.or(below.guard_latency_ms))?,
            guard_failures: maybe("guard_failures", raw.guard_failures.or(below.guard_failures))?,
            guard_quality: maybe("guard_quality", raw.guard_quality.or(below.guard_quality))?,
            allowed_regions: raw.allowed_regions.clone().or(below.allowed_regions.clone()).unwrap_or_default(),
            zero_retention: raw.zero_retention.or(below.zero_retention).unwrap_or(false),
            deadline_ms: maybe("deadline_ms", raw.deadline_ms.or(below.deadline_ms))?,
            hedge: raw.hedge.or(below.hedge).unwrap_or(false),
            fail_on: words("fail_on", &raw.fail_on, &below.fail_on, FailOn::parse)?,
            priority: raw.priority.or(below.priority),
            continue_streams: raw.continue_streams.or(below.continue_streams).unwrap_or(false),
            max_attempts: raw.max_attempts.or(below.max_attempts).ok_or(("max_attempts", "is missing".into()))?,
        };
        strategy::check(&policy.strategy).map_err(|problem| ("strategy", problem))?;
        if policy.quality_floor > 1.0 {
            return Err(("quality_floor", format!("expected at most 1, got {}", policy.quality_floor)));
        }
        if policy.max_attempts == 0 {
            return Err(("max_attempts", "expected at least 1, got 0".into()));
        }
        Ok(policy)
    }

    /// The policy of one request: `header` names a policy, or changes keys of the default (`quality_floor=0.8, worth=0.01`),
    /// or both (`cheap, max_attempts=1`).
    ///
    /// # Errors
    /// [`Error::BadRequest`] naming the unknown policy or key, or the value that does not fit.
    pub fn for_request(default: &Policy, named: &BTreeMap<String, Policy>, header: Option<&str>) -> Result<Policy> {
        let wrong = |problem: String| {
            Error::bad("x-waypost-policy", "invalid_policy", format!("Header x-waypost-policy: {problem}."))
        };
        let mut policy = default.clone();
        for item in header.unwrap_or_default().split(',').map(str::trim).filter(|item| !item.is_empty()) {
            match item.split_once('=') {
                None => {
                    let names: Vec<_> = named.keys().map(String::as_str).collect();
                    policy = named.get(item).cloned().ok_or_else(|| {
                        wrong(format!(
                            "no policy is named `{item}`; expected one of {}, or key=value",
                            names.join(", ")
                        ))
                    })?;
                }
                Some((key, value)) => policy.set(key.trim(), value.trim()).map_err(wrong)?,
            }
        }
        Ok(policy)
    }

    /// This policy within the hard constraints of `other`: where a request may go is not for the caller to widen.
    #[must_use]
    pub fn within(mut self, other: &Policy) -> Self {
        if !other.allowed_regions.is_empty() {
            let own = std::mem::take(&mut self.allowed_regions);
            self.allowed_regions = match own.is_empty() {
                true => other.allowed_regions.clone(),
                false => own.into_iter().filter(|region| other.allowed_regions.contains(region)).collect(),
            };
            if self.allowed_regions.is_empty() {
                // Nothing is in both: no deployment has this region.
                self.allowed_regions = vec![String::new()];
            }
        }
        self.zero_retention |= other.zero_retention;
        self
    }

    fn set(&mut self, key: &str, value: &str) -> std::result::Result<(), String> {
        let list = || value.split('|').map(str::trim).filter(|word| !word.is_empty());
        let number = || {
            let number = value.parse().ok().filter(|number: &f64| (0.0..=MOST).contains(number));
            number.ok_or_else(|| format!("`{key}` expects a number from 0 to {MOST:e}, got `{value}`"))
        };
        let truth = || value.parse().map_err(|_| format!("`{key}` expects true or false, got `{value}`"));
        match key {
            "quality_floor" => match number()? {
                floor if floor <= 1.0 => self.quality_floor = floor,
                _ => return Err(format!("`quality_floor` expects at most 1, got `{value}`")),
            },
            "worth" => self.worth = Some(number()?),
            "value_of_second" => self.value_of_second = number()?,
            "tie_share" => self.tie_share = number()?,
            "max_cost" => self.max_cost = Some(number()?),
            "max_latency_ms" => self.max_latency_ms = Some(number()?),
            "guard_latency_ms" => self.guard_latency_ms = Some(number()?),
            "guard_failures" => self.guard_failures = Some(number()?),
            "guard_quality" => self.guard_quality = Some(number()?),
            "deadline_ms" => self.deadline_ms = Some(number()?),
            "max_attempts" => self.max_attempts = (number()? as usize).max(1),
            "allowed_regions" => self.allowed_regions = list().map(String::from).collect(),
            "strategy" => {
                self.strategy = list().map(Strategy::parse).collect::<std::result::Result<_, _>>()?;
                strategy::check(&self.strategy)?;
            }
            "fail_on" => self.fail_on = list().map(FailOn::parse).collect::<std::result::Result<_, _>>()?,
            "priority" => self.priority = Some((number()? as u8).min(9)),
            "zero_retention" => self.zero_retention = truth()?,
            "hedge" => self.hedge = truth()?,
            _ => return Err(format!("unknown key `{key}`; expected {}", KEYS.join(", "))),
        }
        Ok(())
    }
}

/// What the header `x-waypost-policy` takes, lists with `|` between their words.
const KEYS: [&str; 17] = [
    "quality_floor",
    "worth",
    "value_of_second",
    "tie_share",
    "max_cost",
    "max_latency_ms",
    "guard_latency_ms",
    "guard_failures",
    "guard_quality",
    "deadline_ms",
    "max_attempts",
    "allowed_regions",
    "strategy",
    "fail_on",
    "zero_retention",
    "hedge",
    "priority",
];

/// A list of words, each with its meaning.
fn words<T>(
    key: &'static str,
    own: &Option<Vec<String>>,
    below: &Option<Vec<String>>,
    parse: impl Fn(&str) -> std::result::Result<T, String>,
) -> std::result::Result<Vec<T>, Mistake> {
    let words = own.as_ref().or(below.as_ref()).map_or(&[][..], Vec::as_slice);
    words.iter().map(|word| parse(word)).collect::<std::result::Result<_, _>>().map_err(|problem| (key, problem))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_header_makes_a_number_that_cannot_be_reckoned_with() {
        let below = RawPolicy { max_attempts: Some(1), ..RawPolicy::default() };
        let raw = RawPolicy {
            quality_floor: Some(0.5),
            value_of_second: Some(0.0),
            tie_share: Some(0.0),
            ..RawPolicy::default()
        };
        let default = Policy::from_raw(&raw, &below).expect("a policy");
        let read = |header| Policy::for_request(&default, &BTreeMap::new(), Some(header));
        for header in ["deadline_ms=1e30", "value_of_second=1e308", "worth=inf", "tie_share=-1", "max_cost=NaN"] {
            assert!(read(header).is_err(), "{header}");
        }
        let most = read("deadline_ms=1e12, value_of_second=1e12").expect("within bounds");
        let deadline = std::time::Duration::from_secs_f64(most.deadline_ms.expect("set") / 1e3);
        assert!(deadline > std::time::Duration::from_secs(1));
    }
}
