//! When a price holds: between two moments (a promotion, a price that changes), and at certain hours of the day
//! (off-peak).

use jiff::civil::{Date, Weekday};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use serde::{Deserialize, Serialize};

/// When a price holds; without any of the three, always.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct When {
    /// From this moment on; a date means its first moment in UTC.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "start")]
    pub valid_from: Option<Timestamp>,
    /// Until before this moment; a date is included whole.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "end")]
    pub valid_until: Option<Timestamp>,
    /// At these hours only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hours: Vec<Hours>,
}

impl When {
    /// Whether the price holds at this moment.
    pub fn holds(&self, at: Timestamp) -> bool {
        self.valid_from.is_none_or(|from| at >= from)
            && self.valid_until.is_none_or(|until| at < until)
            && (self.hours.is_empty() || self.hours.iter().any(|hours| hours.hold(at)))
    }
}

/// Hours of the day in UTC, on some or all days: `00:30-16:30`, or `mon,tue 22:00-06:00`. The end is not included; an
/// end before the start is past midnight, and one that is the start means the whole day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Hours {
    /// Bit 0 is Monday.
    days: u8,
    /// Minutes after midnight.
    from: u16,
    until: u16,
}

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const ALL_DAYS: u8 = 0b111_1111;

impl Hours {
    fn hold(&self, at: Timestamp) -> bool {
        let now = at.to_zoned(TimeZone::UTC).datetime();
        let minute = (now.hour() as u16) * 60 + now.minute() as u16;
        let in_hours = match self.from < self.until {
            true => (self.from..self.until).contains(&minute),
            false => minute >= self.from || minute < self.until,
        };
        in_hours && self.days & (1 << day_of(now.date().weekday())) != 0
    }

    /// These hours on some days alone; 1 is Monday, 7 Sunday.
    pub fn on(self, days: impl IntoIterator<Item = u8>) -> Self {
        let bits = days.into_iter().filter(|day| (1..=7).contains(day)).fold(0, |bits, day| bits | 1 << (day - 1));
        Hours { days: bits, ..self }
    }
}

fn day_of(day: Weekday) -> u8 {
    day.to_monday_zero_offset() as u8
}

impl TryFrom<String> for Hours {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || format!("expected hours in UTC like `00:30-16:30` or `mon,tue 22:00-06:00`, got `{text}`");
        let (days, hours) =
            text.trim().rsplit_once(' ').map_or((None, text.trim()), |(days, hours)| (Some(days), hours));
        let day = |name: &str| DAYS.iter().position(|day| *day == name.trim()).ok_or_else(wrong);
        let days = match days {
            None => ALL_DAYS,
            Some(days) => days.split(',').try_fold(0, |bits, name| day(name).map(|day| bits | 1 << day))?,
        };
        let (from, until) = hours.split_once('-').ok_or_else(wrong)?;
        Ok(Hours { days, from: minutes(from).ok_or_else(wrong)?, until: minutes(until).ok_or_else(wrong)? })
    }
}

/// Minutes after midnight of `HH:MM`.
fn minutes(text: &str) -> Option<u16> {
    let (hour, minute) = text.trim().split_once(':')?;
    let (hour, minute) = (hour.parse::<u16>().ok()?, minute.parse::<u16>().ok()?);
    (hour <= 24 && minute < 60).then_some((hour * 60 + minute) % 1_440)
}

impl From<Hours> for String {
    fn from(hours: Hours) -> String {
        let clock = |minute: u16| format!("{:02}:{:02}", minute / 60, minute % 60);
        let span = format!("{}-{}", clock(hours.from), clock(hours.until));
        if hours.days == ALL_DAYS {
            return span;
        }
        let days: Vec<_> = (0..7).filter(|day| hours.days & (1 << day) != 0).map(|day| DAYS[day]).collect();
        format!("{} {span}", days.join(","))
    }
}

/// A moment, or the first one of a date in UTC.
///
/// # Errors
/// What was expected, where it is neither.
pub fn moment(text: &str, is_end: bool) -> Result<Timestamp, String> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at);
    }
    let wrong = |_| format!("expected a date (2026-01-31) or a moment (2026-01-31T12:00:00Z), got `{text}`");
    let date: Date = text.parse().map_err(wrong)?;
    let first = if is_end { date.checked_add(1.day()).map_err(wrong)? } else { date };
    Ok(first.to_zoned(TimeZone::UTC).map_err(wrong)?.timestamp())
}

fn start<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| moment(&text, false).map_err(serde::de::Error::custom)).transpose()
}

fn end<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| moment(&text, true).map_err(serde::de::Error::custom)).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_last_day_is_included_and_the_day_after_is_not() {
        let when: When = serde_json::from_str(r#"{"valid_from":"2026-01-10","valid_until":"2026-01-20"}"#).unwrap();
        assert!(!when.holds(at("2026-01-09T23:59:59Z")));
        assert!(when.holds(at("2026-01-10T00:00:00Z")));
        assert!(when.holds(at("2026-01-20T23:59:59Z")));
        assert!(!when.holds(at("2026-01-21T00:00:00Z")));
        assert!(serde_json::from_str::<When>(r#"{"valid_from":"soon"}"#).is_err());
    }

    #[test]
    fn hours_may_pass_midnight_and_keep_to_their_days() {
        let night = Hours::try_from("16:30-00:30".to_string()).unwrap();
        assert!(night.hold(at("2026-01-05T16:30:00Z")) && night.hold(at("2026-01-05T00:29:59Z")));
        assert!(!night.hold(at("2026-01-05T00:30:00Z")) && !night.hold(at("2026-01-05T16:29:00Z")));
        // 2026-01-05 is a Monday.
        let weekend = Hours::try_from("sat,sun 00:00-00:00".to_string()).unwrap();
        assert!(!weekend.hold(at("2026-01-05T12:00:00Z")) && weekend.hold(at("2026-01-04T12:00:00Z")));
        assert_eq!(weekend, Hours::try_from("00:00-24:00".to_string()).unwrap().on([6, 7]));
        assert_eq!(String::from(weekend), "sat,sun 00:00-00:00");
        assert!(Hours::try_from("day 00:00-01:00".to_string()).is_err());
    }
}
