//! What an upstream's headers say of its limits, in one form. Nothing here fails: what cannot be read is left out.
//!
//! | who | headers | reset |
//! |---|---|---|
//! | OpenAI, Groq, xAI, Fireworks | `x-ratelimit-{limit,remaining,reset}-{requests,tokens}` | `6m0s`, `120ms`: until all is back, refilled steadily |
//! | Anthropic | `anthropic-ratelimit-{requests,tokens,input-tokens,output-tokens}-{limit,remaining,reset}` | RFC 3339, refilled steadily |
//! | Azure, GitHub Models, SambaNova | OpenAI's names | seconds until the window ends |
//! | Cerebras, Mistral, Nous | …`-{requests,req,tokens}-{minute,hour,day}`, `x-ratelimitbysize-…-minute`, `ratelimitbysize-…` | seconds, or not told |
//! | OpenRouter, Together | `x-ratelimit-{limit,remaining,reset}` (requests), `x-tokenlimit-…` | milliseconds of the epoch; seconds |
//! | the IETF's draft | `ratelimit-{limit,remaining,reset}`, `ratelimit: "name";r=50;t=30` | seconds |
//! | all | `retry-after` (seconds or a date), `retry-after-ms` | |

use jiff::Timestamp;
use std::time::Duration;

/// The reset of a limit that tells none: nearly all of these are limits of a minute.
const UNTOLD: Duration = Duration::from_secs(60);

/// Nothing is believed to lie further ahead, so that no arithmetic on time overflows.
const FURTHEST: Duration = Duration::from_secs(30 * 86_400);

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Requests,
    Tokens,
    /// Answer tokens alone, of which a request does not yet know how many it needs.
    OutputTokens,
}

/// One limit as an upstream told it.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    pub unit: Unit,
    pub limit: Option<u64>,
    pub remaining: u64,
    /// From now until all of it is there again.
    pub resets_in: Duration,
    /// It comes back bit by bit until then; otherwise all at once.
    pub refills: bool,
}

/// All that one answer's headers tell.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Heard {
    pub told: Vec<Told>,
    pub retry_after: Option<Duration>,
}

/// Names of a limit's three headers.
struct Names {
    limit: &'static str,
    remaining: &'static str,
    reset: &'static str,
    unit: Unit,
}

macro_rules! names {
    ($($before:literal _ $after:literal $unit:ident),* $(,)?) => {
        &[$(Names {
            limit: concat!($before, "limit", $after),
            remaining: concat!($before, "remaining", $after),
            reset: concat!($before, "reset", $after),
            unit: Unit::$unit,
        }),*]
    };
}

const NAMES: &[Names] = names![
    "x-ratelimit-" _ "-requests" Requests,
    "x-ratelimit-" _ "-tokens" Tokens,
    "x-ratelimit-" _ "-project-tokens" Tokens,
    "x-ratelimit-" _ "-tokens-prompt" Tokens,
    "x-ratelimit-" _ "-tokens-generated" OutputTokens,
    "x-ratelimit-" _ "-requests-minute" Requests,
    "x-ratelimit-" _ "-requests-hour" Requests,
    "x-ratelimit-" _ "-requests-1h" Requests,
    "x-ratelimit-" _ "-requests-day" Requests,
    "x-ratelimit-" _ "-req-minute" Requests,
    "x-ratelimit-" _ "-tokens-minute" Tokens,
    "x-ratelimit-" _ "-tokens-hour" Tokens,
    "x-ratelimit-" _ "-tokens-1h" Tokens,
    "x-ratelimit-" _ "-tokens-day" Tokens,
    "x-ratelimitbysize-" _ "-minute" Tokens,
    "ratelimitbysize-" _ "" Tokens,
    "anthropic-ratelimit-requests-" _ "" Requests,
    "anthropic-ratelimit-tokens-" _ "" Tokens,
    "anthropic-ratelimit-input-tokens-" _ "" Tokens,
    "anthropic-ratelimit-output-tokens-" _ "" OutputTokens,
    "x-ratelimit-" _ "" Requests,
    "x-tokenlimit-" _ "" Tokens,
    "ratelimit-" _ "" Requests,
];

/// Reads the headers of one answer. `header` looks one up by its lower-case name; `wall` is our clock, used for dates
/// where the upstream does not tell its own (`date`).
pub fn read(header: impl Fn(&str) -> Option<String>, wall: Timestamp) -> Heard {
    let wall = header("date").and_then(|text| date(&text)).unwrap_or(wall);
    let mut told: Vec<Told> = NAMES.iter().filter_map(|names| told(names, &header, wall)).collect();
    told.extend(header("ratelimit").iter().flat_map(|text| structured(text)));
    let milliseconds = header("retry-after-ms").and_then(|text| positive(&text)).map(|ms| seconds(ms / 1e3));
    let retry_after = milliseconds.or_else(|| header("retry-after").and_then(|text| span(&text, wall)));
    Heard { told, retry_after }
}

fn told(names: &Names, header: &impl Fn(&str) -> Option<String>, wall: Timestamp) -> Option<Told> {
    let remaining = count(&header(names.remaining)?)?;
    let reset = header(names.reset);
    let resets_in = reset.as_deref().and_then(|text| span(text, wall));
    // A duration with units is how those write it who refill steadily; a bare number counts to a window's end.
    let steady = names.remaining.starts_with("anthropic") || reset.is_some_and(|text| duration(&text).is_some());
    Some(Told {
        unit: names.unit,
        limit: header(names.limit).and_then(|text| count(&text)),
        remaining,
        resets_in: resets_in.unwrap_or(UNTOLD),
        refills: steady && resets_in.is_some(),
    })
}

/// The IETF's one header: `"name";r=50;t=30, …` by item, or in earlier drafts `limit=100, remaining=50, reset=30`.
fn structured(text: &str) -> Vec<Told> {
    let one = |text: &str| {
        let value = |names: [&str; 2]| {
            let pairs = text.split([',', ';']).filter_map(|pair| pair.trim().split_once('='));
            pairs.filter(|(name, _)| names.contains(name)).find_map(|(_, value)| count(value))
        };
        let remaining = value(["r", "remaining"])?;
        let resets_in = value(["t", "reset"]).map_or(UNTOLD, |s| seconds(s as f64));
        Some(Told { unit: Unit::Requests, limit: value(["q", "limit"]), remaining, resets_in, refills: false })
    };
    if text.contains("remaining") { one(text).into_iter().collect() } else { text.split(',').filter_map(one).collect() }
}

/// A count at the beginning of a value, such as `100, 100;w=60`; less than nothing is none.
fn count(text: &str) -> Option<u64> {
    let text = text.trim();
    let end = text.find([',', ';', ' ']).unwrap_or(text.len());
    text[..end].parse::<f64>().ok().filter(|number| number.is_finite()).map(|number| number.max(0.0) as u64)
}

fn positive(text: &str) -> Option<f64> {
    text.trim().parse::<f64>().ok().filter(|number| number.is_finite() && *number >= 0.0)
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(FURTHEST).min(FURTHEST)
}

/// From `wall` until what the text says: seconds, seconds or milliseconds of the epoch, `1m0.5s`, or a date.
fn span(text: &str, wall: Timestamp) -> Option<Duration> {
    let until = |epoch_s: f64| seconds((epoch_s - wall.as_millisecond() as f64 / 1e3).max(0.0));
    match positive(text) {
        Some(number) if number >= 1e11 => Some(until(number / 1e3)),
        Some(number) if number >= 1e9 => Some(until(number)),
        Some(number) => Some(seconds(number)),
        None => duration(text).or_else(|| date(text).map(|date| until(date.as_millisecond() as f64 / 1e3))),
    }
}

/// A duration with units: `6m0s`, `120ms`, `1h2m3.5s`.
fn duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    let mut total_s = 0.0;
    while !rest.is_empty() {
        let number = rest.find(|c: char| c != '.' && !c.is_ascii_digit())?;
        let unit = rest[number..].find(|c: char| c == '.' || c.is_ascii_digit()).map_or(rest.len(), |at| number + at);
        let unit_s = match &rest[number..unit] {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3_600.0,
            "d" => 86_400.0,
            _ => return None,
        };
        total_s += rest[..number].parse::<f64>().ok()? * unit_s;
        rest = &rest[unit..];
    }
    (!text.trim().is_empty()).then(|| seconds(total_s))
}

/// RFC 3339, or HTTP's own form (`Sun, 06 Nov 1994 08:49:37 GMT`).
fn date(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    let http = || jiff::fmt::rfc2822::parse(text).ok().map(|date| date.timestamp());
    text.parse().ok().or_else(http)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn heard(headers: &[(&str, &str)]) -> Heard {
        let wall = "2026-01-01T00:00:00Z".parse().expect("a date");
        read(|name| headers.iter().find(|(n, _)| *n == name).map(|(_, value)| value.to_string()), wall)
    }

    /// `(remaining, seconds until reset, refills)` of each limit told.
    fn limits(headers: &[(&str, &str)]) -> Vec<(u64, f64, bool)> {
        let told = heard(headers).told;
        told.iter().map(|told| (told.remaining, told.resets_in.as_secs_f64(), told.refills)).collect()
    }

    #[test]
    fn every_provider_is_understood() {
        let openai = [
            ("x-ratelimit-limit-requests", "60"),
            ("x-ratelimit-remaining-requests", "0"),
            ("x-ratelimit-reset-requests", "1m0s"),
            ("x-ratelimit-remaining-tokens", "149984"),
            ("x-ratelimit-reset-tokens", "120ms"),
        ];
        assert_eq!(limits(&openai), [(0, 60.0, true), (149_984, 0.12, true)]);
        assert_eq!(heard(&openai).told[0].limit, Some(60));
        let anthropic = [
            ("anthropic-ratelimit-output-tokens-remaining", "8000"),
            ("anthropic-ratelimit-output-tokens-reset", "2026-01-01T00:00:30Z"),
        ];
        assert_eq!(limits(&anthropic), [(8000, 30.0, true)]);
        let azure = [("x-ratelimit-remaining-requests", "9"), ("x-ratelimit-reset-requests", "3")];
        assert_eq!(limits(&azure), [(9, 3.0, false)]);
        assert_eq!(limits(&[("x-ratelimit-remaining-req-minute", "717")]), [(717, 60.0, false)]);
        let openrouter = [("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1767225610000")];
        assert_eq!(limits(&openrouter), [(0, 10.0, false)]);
        assert_eq!(limits(&[("ratelimit", r#""a";r=5;t=30, "b";r=0;t=9"#)]), [(5, 30.0, false), (0, 9.0, false)]);
        assert_eq!(limits(&[("ratelimit", "limit=100, remaining=50, reset=5")]), [(50, 5.0, false)]);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_by_the_upstreams_own_clock() {
        let after = |headers: &[(&str, &str)]| heard(headers).retry_after.map(|after| after.as_secs_f64());
        assert_eq!(after(&[("retry-after", "7")]), Some(7.0));
        assert_eq!(after(&[("retry-after-ms", "250"), ("retry-after", "1")]), Some(0.25));
        assert_eq!(after(&[("retry-after", "Thu, 01 Jan 2026 00:00:20 GMT")]), Some(20.0));
        let skewed = [("retry-after", "Thu, 01 Jan 2026 01:00:20 GMT"), ("date", "Thu, 01 Jan 2026 01:00:00 GMT")];
        assert_eq!(after(&skewed), Some(20.0));
        assert_eq!(after(&[("retry-after", "soon")]), None);
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange(text in "\\PC{0,40}|[0-9.hmsµ:;=,rt\" -]{0,40}", pick in 0..NAMES.len()) {
            let names = &NAMES[pick];
            let any = [(names.remaining, "3"), (names.reset, &text), (names.limit, &text), ("retry-after", &text),
                ("retry-after-ms", &text), ("ratelimit", &text), ("date", &text)];
            let heard = heard(&any);
            prop_assert!(heard.told.iter().all(|told| told.resets_in <= FURTHEST));
            prop_assert!(heard.retry_after.is_none_or(|after| after <= FURTHEST));
        }
    }
}
