//! `[[rule]]`, checked: names exist, expressions compile, times and zones can be read.

use super::raw::{RawRule, RawWhen};
use super::resolved::Check;
use super::secret::Secret;
use crate::error::Result;
use crate::policy::rule::{Hours, Rule, Trait, When, words};
use jiff::civil::{Time, Weekday};
use jiff::tz::TimeZone;
use regex::Regex;

/// The longest expression that a rule may compile to, in bytes.
const MAX_REGEX_BYTES: usize = 1 << 20;

/// Names that a rule may use.
pub(super) struct Names<'a> {
    pub classes: &'a [String],
    pub deployments: &'a dyn Fn(&str) -> bool,
    /// Whether a policy can be read, or what is wrong with it.
    pub policy: &'a dyn Fn(&str) -> std::result::Result<(), String>,
}

/// One rule.
///
/// # Errors
/// [`crate::error::Error::Config`] with the rule, the key and what was expected.
pub(super) fn resolve(check: &Check<'_>, raw: &RawRule, names: &Names<'_>) -> Result<Rule> {
    let name = check.need("rule", "name", raw.name.clone())?;
    let wrong = |key: &str, problem: String| check.wrong(format!("rule `{name}`.{key}"), problem);
    if let Some(class) = raw.class.as_ref().filter(|class| !names.classes.contains(class)) {
        let problem = format!("no [[class]] is named `{class}`; expected one of {}", names.classes.join(", "));
        return Err(wrong("class", problem));
    }
    if let Some(deployment) = raw.deployment.as_ref().filter(|deployment| !(names.deployments)(deployment)) {
        return Err(wrong("deployment", format!("no [[deployment]] is named `{deployment}`")));
    }
    if let Some(policy) = &raw.policy {
        (names.policy)(policy).map_err(|problem| wrong("policy", problem))?;
    }
    if raw.class.is_some() && raw.deployment.is_some() {
        return Err(wrong("class", "expected either `class` or `deployment`, not both".into()));
    }
    if raw.class.is_none() && raw.deployment.is_none() && raw.policy.is_none() && raw.refuse.is_none() {
        return Err(wrong("class", "expected one of class, deployment, policy, refuse: this rule says nothing".into()));
    }
    let others = [&raw.class, &raw.deployment, &raw.policy];
    match &raw.refuse {
        Some(_) if others.into_iter().any(Option::is_some) => {
            let problem = "expected no class, deployment or policy beside it: nobody would answer by them";
            return Err(wrong("refuse", problem.into()));
        }
        Some(words) if words.trim().is_empty() => {
            return Err(wrong("refuse", "expected the words that the client is told, got none".into()));
        }
        _ => {}
    }
    let when = when(check, &name, raw.when.as_ref().unwrap_or(&RawWhen::default()))?;
    Ok(Rule {
        when,
        class: raw.class.clone(),
        deployment: raw.deployment.clone(),
        policy: raw.policy.clone(),
        refuse: raw.refuse.clone(),
        name,
    })
}

fn when(check: &Check<'_>, rule: &str, raw: &RawWhen) -> Result<When> {
    let wrong = |key: &str, problem: String| check.wrong(format!("rule `{rule}`.when.{key}"), problem);
    let regex = |key: &str, text: &str| {
        let built = regex::RegexBuilder::new(text).size_limit(MAX_REGEX_BYTES).build();
        built.map_err(|error| wrong(key, format!("expected a regular expression: {error}")))
    };
    let traits = |key: &str, wanted: &Option<Vec<String>>| -> Result<Vec<Trait>> {
        let known = || Trait::ALL.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        let one = |word: &String| {
            let found = Trait::ALL.iter().find(|(name, _)| name == word).map(|(_, found)| *found);
            found.ok_or_else(|| wrong(key, format!("expected some of {}, got `{word}`", known())))
        };
        wanted.iter().flatten().map(one).collect()
    };
    let headers = raw.headers.iter().flatten();
    let headers: Result<Vec<(String, Regex)>> =
        headers.map(|(name, value)| Ok((name.to_lowercase(), regex("headers", &format!("^(?:{value})$"))?))).collect();
    let keys: Result<Vec<Secret>> = raw
        .keys
        .iter()
        .flatten()
        .map(|source| {
            let found = Secret::read(check.file, &format!("rule `{rule}`.when.keys"), source)?;
            match found {
                // Nobody has the key of a rule that cannot be read: it holds for nobody.
                None if check.keyless => Ok(Secret::unguessable()),
                found => found.ok_or_else(|| wrong("keys", format!("{source} is not set"))),
            }
        })
        .collect();
    let text = match (&raw.keywords, &raw.regex) {
        (Some(_), Some(_)) => return Err(wrong("regex", "expected either `keywords` or `regex`, not both".into())),
        (Some(list), None) => Some(words(list).map_err(|error| wrong("keywords", error.to_string()))?),
        (None, Some(text)) => Some(regex("regex", text)?),
        (None, None) => None,
    };
    Ok(When {
        models: raw.models.clone().unwrap_or_default(),
        path: raw.path.clone(),
        headers: headers?,
        tiers: raw.tiers.clone().unwrap_or_default(),
        keys: keys?,
        tags: raw.tags.clone().unwrap_or_default(),
        text,
        languages: raw.languages.clone().unwrap_or_default(),
        min_tokens: raw.min_tokens,
        max_tokens: raw.max_tokens,
        has: traits("has", &raw.has)?,
        lacks: traits("lacks", &raw.lacks)?,
        hours: hours(raw).map_err(|(key, problem)| wrong(key, problem))?,
    })
}

fn hours(raw: &RawWhen) -> std::result::Result<Option<Hours>, (&'static str, String)> {
    if raw.between.is_none() && raw.days.is_none() {
        return Ok(None);
    }
    let zone = match raw.zone.as_deref() {
        None => TimeZone::UTC,
        Some(name) => {
            TimeZone::get(name).map_err(|_| ("zone", format!("expected a name like Europe/Berlin, got `{name}`")))?
        }
    };
    let time = |text: &str| text.trim().parse::<Time>().ok();
    let between = match raw.between.as_deref() {
        None => None,
        Some(text) => {
            let both = text.split_once('-').and_then(|(from, until)| Some((time(from)?, time(until)?)));
            Some(both.ok_or_else(|| ("between", format!("expected \"HH:MM-HH:MM\", got `{text}`")))?)
        }
    };
    let day = |word: &String| {
        let days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
        let at = days.iter().position(|day| day == word);
        let offset =
            at.and_then(|at| i8::try_from(at + 1).ok()).and_then(|day| Weekday::from_monday_one_offset(day).ok());
        offset.ok_or_else(|| ("days", format!("expected some of {}, got `{word}`", days.join(", "))))
    };
    let days = raw.days.iter().flatten().map(day).collect::<std::result::Result<_, _>>()?;
    Ok(Some(Hours { zone, days, between }))
}
