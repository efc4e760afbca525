//! What the caller wants, and the two choices made by it: the class (`quality.rs`, `class.rs`) and the deployment
//! (`rank.rs`).
//! `flip.rs` tells the smallest change of policy that would have chosen otherwise.

pub mod class;
pub mod flip;
pub mod quality;
pub mod rank;

use crate::config::RawPolicy;
use crate::error::{Error, Result};
use serde::Serialize;
use std::collections::BTreeMap;
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
    /// Only deployments in these regions; empty: any.
    pub regions: Vec<String>,
    /// Deployments tried before the client sees an error.
    pub max_attempts: usize,
}

/// A mistake in a policy: the key, and what was expected.
type Mistake = (&'static str, String);

impl Policy {
    /// A policy from its table, with what it does not name taken from `below`.
    pub(crate) fn from_raw(raw: &RawPolicy, below: &RawPolicy) -> std::result::Result<Self, Mistake> {
        let number = |key, value: Option<f64>| match value {
            Some(value) if value.is_finite() && value >= 0.0 => Ok(value),
            Some(value) => Err((key, format!("expected a number of at least 0, got {value}"))),
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
            regions: raw.regions.clone().or(below.regions.clone()).unwrap_or_default(),
            max_attempts: raw.max_attempts.or(below.max_attempts).ok_or(("max_attempts", "is missing".into()))?,
        };
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

    fn set(&mut self, key: &str, value: &str) -> std::result::Result<(), String> {
        if key == "regions" {
            self.regions = value.split('|').map(|region| region.trim().to_string()).collect();
            return Ok(());
        }
        let number: f64 = value
            .parse()
            .ok()
            .filter(|number: &f64| number.is_finite() && *number >= 0.0)
            .ok_or_else(|| format!("`{key}` expects a number of at least 0, got `{value}`"))?;
        match key {
            "quality_floor" if number <= 1.0 => self.quality_floor = number,
            "quality_floor" => return Err(format!("`quality_floor` expects at most 1, got `{value}`")),
            "worth" => self.worth = Some(number),
            "value_of_second" => self.value_of_second = number,
            "tie_share" => self.tie_share = number,
            "max_cost" => self.max_cost = Some(number),
            "max_latency_ms" => self.max_latency_ms = Some(number),
            "max_attempts" => self.max_attempts = (number as usize).max(1),
            _ => {
                return Err(format!(
                    "unknown key `{key}`; expected quality_floor, worth, value_of_second, tie_share, max_cost, max_latency_ms, max_attempts or regions"
                ));
            }
        }
        Ok(())
    }
}
