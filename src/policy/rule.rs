//! `[[rule]]`: what an operator decides beforehand. The first rule whose conditions all hold says what it says: a class,
//! a deployment, a policy, or that the request is refused.

use crate::config::Secret;
use crate::features::Features;
use jiff::civil::{Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use regex::Regex;

/// A rule, checked.
#[derive(Clone, Debug)]
pub struct Rule {
    pub name: String,
    pub when: When,
    /// The class that answers, in place of the one the router would choose.
    pub class: Option<String>,
    /// The deployment that answers.
    pub deployment: Option<String>,
    /// As the header `x-waypost-policy` says it; what the request's own header says is laid over it.
    pub policy: Option<String>,
    /// The request is refused with these words.
    pub refuse: Option<String>,
}

/// Conditions; those that are there must all hold.
#[derive(Clone, Debug, Default)]
pub struct When {
    /// What the request's `model` or class header says; `auto` alone where a rule names a class or a deployment and this is empty.
    pub models: Vec<String>,
    /// Beginning of the request's path.
    pub path: Option<String>,
    /// Headers, by lower-case name, and what their values must match.
    pub headers: Vec<(String, Regex)>,
    pub tiers: Vec<String>,
    pub keys: Vec<Secret>,
    pub tags: Vec<String>,
    /// Any of these words in the last user turn, or a match of the operator's own expression.
    pub text: Option<Regex>,
    pub languages: Vec<String>,
    pub min_tokens: Option<u64>,
    pub max_tokens: Option<u64>,
    pub has: Vec<Trait>,
    pub lacks: Vec<Trait>,
    pub hours: Option<Hours>,
}

/// What a request can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trait {
    Tools,
    /// Its last message is the result of a tool.
    ToolResult,
    Images,
    Schema,
    Stream,
    /// Turns before this one.
    History,
}

/// A time of day on some days of the week, in a time zone.
#[derive(Clone, Debug)]
pub struct Hours {
    pub zone: TimeZone,
    /// All, where empty.
    pub days: Vec<Weekday>,
    /// From the first until before the second; past midnight where the second is earlier. The whole day where absent.
    pub between: Option<(Time, Time)>,
}

/// What rules look at.
pub struct Facts<'a> {
    /// What the request asks for: `auto`, a class or a deployment.
    pub model: &'a str,
    pub path: &'a str,
    pub headers: &'a [(String, String)],
    pub tier: Option<&'a str>,
    pub key: Option<&'a str>,
    pub tags: &'a [String],
    pub features: &'a Features,
    /// The last user turn.
    pub text: &'a str,
    pub at: Timestamp,
}

impl Rule {
    /// Whether all its conditions hold. `language` is asked only where one of them is about it.
    pub fn holds(&self, facts: &Facts<'_>, language: impl FnOnce() -> Option<String>) -> bool {
        let when = &self.when;
        let any = |wanted: &[String], given: Option<&str>| {
            wanted.is_empty() || given.is_some_and(|given| wanted.iter().any(|wanted| wanted == given))
        };
        let bound_to_auto = when.models.is_empty() && (self.class.is_some() || self.deployment.is_some());
        (!bound_to_auto || facts.model == "auto")
            && any(&when.models, Some(facts.model))
            && when.path.as_ref().is_none_or(|path| facts.path.starts_with(path.as_str()))
            && any(&when.tiers, facts.tier)
            && (when.tags.is_empty() || facts.tags.iter().any(|tag| when.tags.contains(tag)))
            && when.min_tokens.is_none_or(|least| facts.features.tokens_in >= least)
            && when.max_tokens.is_none_or(|most| facts.features.tokens_in <= most)
            && when.has.iter().all(|wanted| wanted.is_in(facts.features))
            && !when.lacks.iter().any(|unwanted| unwanted.is_in(facts.features))
            && when
                .headers
                .iter()
                .all(|(name, value)| facts.headers.iter().any(|(given, text)| given == name && value.is_match(text)))
            && when.hours.as_ref().is_none_or(|hours| hours.hold(facts.at))
            && (when.keys.is_empty()
                || facts.key.is_some_and(|given| when.keys.iter().any(|key| key.matches(given.as_bytes()))))
            && when.text.as_ref().is_none_or(|text| text.is_match(facts.text))
            && (when.languages.is_empty() || any(&when.languages, language().as_deref()))
    }
}

impl Trait {
    /// All traits with their names.
    pub const ALL: [(&'static str, Trait); 6] = [
        ("tools", Trait::Tools),
        ("tool_result", Trait::ToolResult),
        ("images", Trait::Images),
        ("schema", Trait::Schema),
        ("stream", Trait::Stream),
        ("history", Trait::History),
    ];

    fn is_in(self, features: &Features) -> bool {
        match self {
            Trait::Tools => features.tools > 0,
            Trait::ToolResult => features.tool_result,
            Trait::Images => features.images > 0,
            Trait::Schema => features.json_schema,
            Trait::Stream => features.stream,
            Trait::History => features.user_turns > 1,
        }
    }
}

impl Hours {
    fn hold(&self, at: Timestamp) -> bool {
        let now: Zoned = at.to_zoned(self.zone.clone());
        let time = now.time();
        // The small hours belong to the night that began the day before.
        let (inside, day) = match self.between {
            None => (true, now.weekday()),
            Some((from, until)) if from <= until => (from <= time && time < until, now.weekday()),
            Some((from, _)) if time >= from => (true, now.weekday()),
            Some((_, until)) => (time < until, now.weekday().previous()),
        };
        inside && (self.days.is_empty() || self.days.contains(&day))
    }
}

/// An expression that finds any of the words as whole words, whatever their case.
///
/// # Errors
/// What the expression is too large for.
pub fn words(words: &[String]) -> Result<Regex, regex::Error> {
    let escaped: Vec<String> = words.iter().map(|word| regex::escape(word)).collect();
    Regex::new(&format!(r"(?i)(?:^|\W)(?:{})(?:$|\W)", escaped.join("|")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts<'a>(features: &'a Features, text: &'a str, at: &str) -> Facts<'a> {
        Facts {
            model: "auto",
            path: "/v1/chat/completions",
            headers: &[],
            tier: None,
            key: None,
            tags: &[],
            features,
            text,
            at: at.parse().expect("a time"),
        }
    }

    fn rule(when: When) -> Rule {
        Rule { name: "r".into(), when, class: None, deployment: None, policy: None, refuse: None }
    }

    const NOON: &str = "2026-01-05T12:00:00Z"; // a Monday

    #[test]
    fn a_night_spans_midnight_and_belongs_to_the_day_it_began() {
        let between = Some((Time::constant(22, 0, 0, 0), Time::constant(6, 0, 0, 0)));
        let night = rule(When {
            hours: Some(Hours { zone: TimeZone::get("Europe/Berlin").unwrap(), days: vec![Weekday::Monday], between }),
            ..When::default()
        });
        let features = Features::default();
        let holds = |at: &str| night.holds(&facts(&features, "", at), || None);
        assert!(holds("2026-01-05T21:00:00Z"), "Monday 22:00 in Berlin");
        assert!(holds("2026-01-06T04:59:00Z"), "Tuesday 05:59 is still Monday's night");
        assert!(!holds("2026-01-06T05:00:00Z") && !holds(NOON) && !holds("2026-01-05T04:00:00Z"));
    }

    #[test]
    fn words_are_whole_words_and_every_condition_must_hold() {
        let refund = rule(When {
            text: Some(words(&["refund".into(), "c++".into()]).unwrap()),
            min_tokens: Some(10),
            lacks: vec![Trait::Images],
            ..When::default()
        });
        let (few, many) = (Features::default(), Features { tokens_in: 10, ..Features::default() });
        assert!(refund.holds(&facts(&many, "My REFUND, please", NOON), || None));
        assert!(refund.holds(&facts(&many, "is it c++?", NOON), || None));
        assert!(!refund.holds(&facts(&many, "refunded", NOON), || None));
        assert!(!refund.holds(&facts(&few, "refund", NOON), || None));
        let pictured = Features { images: 1, ..many.clone() };
        assert!(!refund.holds(&facts(&pictured, "refund", NOON), || None));
    }

    #[test]
    fn a_rule_that_names_a_class_leaves_requests_that_name_their_own_alone() {
        let features = Features::default();
        let ruled = Rule { class: Some("code".into()), ..rule(When::default()) };
        let named = Facts { model: "general", ..facts(&features, "", NOON) };
        assert!(ruled.holds(&facts(&features, "", NOON), || None) && !ruled.holds(&named, || None));
        let wanted = rule(When { models: vec!["general".into()], ..When::default() });
        assert!(Rule { class: Some("code".into()), ..wanted }.holds(&named, || None));
    }

    #[test]
    fn the_language_is_asked_only_where_a_rule_is_about_it() {
        let features = Features::default();
        assert!(rule(When::default()).holds(&facts(&features, "", NOON), || unreachable!()));
        let german = rule(When { languages: vec!["deu".into()], ..When::default() });
        assert!(german.holds(&facts(&features, "", NOON), || Some("deu".into())));
        assert!(!german.holds(&facts(&features, "", NOON), || None));
    }
}
