//! A line of an experiment's log: an answer in an arm, or a score that came later. No prompt, no answer, no id of a
//! caller stands in it.

use crate::money::Money;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::ToSchema;

/// A line.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    Answered(Event),
    Scored(Scored),
    Stopped(Stop),
}

/// One answer in one arm.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Event {
    /// Milliseconds since the Unix epoch.
    pub at_ms: u64,
    pub experiment: String,
    pub arm: String,
    /// See [`super::assign::unit_hash`].
    #[serde(serialize_with = "hex", deserialize_with = "unhex")]
    pub unit: u64,
    pub decision: String,
    #[serde(flatten)]
    pub answered: Answered,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Answered {
    pub class: String,
    /// Who answered; absent where nobody did.
    pub deployment: Option<String>,
    /// What the client got.
    pub status: u16,
    /// Whether those it was sent to failed, also where another then answered; absent where it says nothing of them: the
    /// client went away, or the request itself was refused.
    pub failed: Option<bool>,
    /// What the attempt that answered cost; absent where it is unknown.
    #[serde(rename = "cost_picodollars", serialize_with = "picodollars", deserialize_with = "of_picodollars")]
    pub cost: Option<Money>,
    pub ttft_ms: Option<f64>,
    /// From the request to the end of the answer.
    pub ms: f64,
    pub tokens_in: Option<u64>,
    pub tokens_out: Option<u64>,
    /// How good it was, 0..1, where that is known at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
}

/// How good an answer was, told later.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Scored {
    pub at_ms: u64,
    pub experiment: String,
    pub arm: String,
    pub decision: String,
    /// 0..1.
    pub score: f64,
    pub by: Scorer,
}

/// Who says how good an answer was. The later word is believed, a caller's before the judge's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Scorer {
    Judge,
    Feedback,
}

/// A canary's end.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, ToSchema)]
pub struct Stop {
    pub at_ms: u64,
    pub experiment: String,
    pub arm: String,
    /// The rule that was broken, as its key in the configuration.
    pub rule: String,
    /// What was seen, for people.
    pub why: String,
}

impl Line {
    /// The experiment it belongs to.
    pub fn experiment(&self) -> &str {
        match self {
            Line::Answered(event) => &event.experiment,
            Line::Scored(scored) => &scored.experiment,
            Line::Stopped(stop) => &stop.experiment,
        }
    }
}

/// Milliseconds since the Unix epoch.
pub fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

fn hex<S: Serializer>(unit: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format!("{unit:016x}"))
}

fn unhex<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let text = String::deserialize(deserializer)?;
    u64::from_str_radix(&text, 16).map_err(serde::de::Error::custom)
}

fn picodollars<S: Serializer>(cost: &Option<Money>, serializer: S) -> Result<S::Ok, S::Error> {
    cost.map(Money::picodollars).serialize(serializer)
}

fn of_picodollars<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Money>, D::Error> {
    Option::<i64>::deserialize(deserializer).map(|amount| amount.map(Money::from_picodollars))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_comes_back_as_it_was() {
        let answered =
            Answered { class: "code".into(), cost: Some(Money::from_picodollars(12_345)), ..Answered::default() };
        let event =
            Event { at_ms: 1, experiment: "e".into(), arm: "a".into(), unit: 255, decision: "d".into(), answered };
        let text = serde_json::to_string(&Line::Answered(event.clone())).expect("serialises");
        assert!(
            text.contains(r#""unit":"00000000000000ff""#) && text.contains(r#""cost_picodollars":12345"#),
            "{text}"
        );
        assert_eq!(serde_json::from_str::<Line>(&text).expect("reads"), Line::Answered(event));
    }
}
