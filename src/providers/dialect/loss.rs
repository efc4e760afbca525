//! What a translation loses: a short clause each, for `x-waypost-warning`.

use super::wire::{Content, Message, Request};
use serde_json::Value;

/// A parameter's name is the client's own text: of a longer one no more is repeated.
const MAX_NAME: usize = 48;

/// Fields that say nothing to the model: how the answer is sent, or what the caller's own provider keeps of it.
const SILENT: [&str; 7] =
    ["model", "stream_options", "metadata", "store", "prompt_cache_key", "safety_identifier", "service_tier"];

/// Fields of a message that no provider wants back, or that are another dialect's concern.
const SILENT_IN_MESSAGES: [&str; 5] = ["reasoning_content", "reasoning", "annotations", "audio", "extra_content"];

/// The clauses, each said once.
#[derive(Debug, Default)]
pub struct Losses(Vec<String>);

impl Losses {
    /// Something is lost.
    pub fn say(&mut self, clause: impl Into<String>) {
        let clause = clause.into();
        if !self.0.contains(&clause) {
            self.0.push(clause);
        }
    }

    /// A parameter has no translation.
    pub fn lost(&mut self, name: &str) {
        let name: String = name.chars().filter(|letter| matches!(letter, ' '..='~')).take(MAX_NAME).collect();
        self.say(format!("{name} is not sent: this provider does not take it"));
    }

    /// As [`Losses::lost`], where it was given at all.
    pub fn lost_if(&mut self, given: bool, name: &str) {
        if given {
            self.lost(name);
        }
    }

    /// The value, moved to the nearest one that the provider takes.
    pub fn clamped<T: PartialOrd + Copy + std::fmt::Display>(&mut self, name: &str, value: T, least: T, most: T) -> T {
        let nearest = if value < least { least } else { most };
        if value >= least && value <= most {
            return value;
        }
        self.say(format!("{name} {value} becomes {nearest}"));
        nearest
    }

    /// At most so many stop sequences.
    pub fn stops<'a>(&mut self, stops: &'a [String], most: usize) -> &'a [String] {
        if stops.len() > most {
            self.say(format!("stop: only the first {most} of {} are sent", stops.len()));
        }
        &stops[..stops.len().min(most)]
    }

    /// What no dialect translates, in the request and in its messages; `known` are names that this one reads itself.
    pub fn unknown(&mut self, request: &Request, known: &[&str]) {
        let default = |name: &str, value: &Value| match name {
            "logprobs" => value == false,
            "modalities" => *value == serde_json::json!(["text"]),
            _ => value.is_null(),
        };
        for (name, value) in &request.rest {
            let silent = SILENT.contains(&name.as_str()) || known.contains(&name.as_str()) || default(name, value);
            self.lost_if(!silent, name);
        }
        for message in &request.messages {
            self.unknown_in(message);
        }
    }

    fn unknown_in(&mut self, message: &Message) {
        for (name, value) in &message.rest {
            let silent = SILENT_IN_MESSAGES.contains(&name.as_str()) || value.is_null();
            self.lost_if(!silent, &format!("messages[].{name}"));
        }
        self.lost_if(
            message.name.is_some() && !matches!(message.role.as_str(), "tool" | "function"),
            "messages[].name",
        );
        if let Some(Content::Parts(parts)) = &message.content {
            let marked = parts.iter().any(|part| part.rest.contains_key("cache_control"));
            self.lost_if(marked, "cache_control");
        }
    }

    /// All of them.
    pub fn clauses(self) -> Vec<String> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clause_is_said_once_fits_a_header_and_names_what_is_lost() {
        let mut losses = Losses::default();
        losses.lost("content of type x");
        losses.lost("content of type x");
        losses.lost(&format!("a\r\nb\u{e9}{}", "c".repeat(100)));
        let clauses = losses.clauses();
        assert_eq!(clauses.len(), 2);
        assert!(clauses[0].starts_with("content of type x is not sent"), "{clauses:?}");
        assert!(clauses[1].starts_with("abccc") && clauses[1].len() < 100, "{clauses:?}");
    }

    #[test]
    fn values_move_to_the_nearest_that_is_taken() {
        let mut losses = Losses::default();
        assert_eq!(losses.clamped("temperature", 0.5, 0.0, 1.0), 0.5);
        assert_eq!(losses.clamped("temperature", 1.5, 0.0, 1.0), 1.0);
        assert_eq!(losses.clauses(), ["temperature 1.5 becomes 1"]);
    }

    #[test]
    fn what_says_nothing_is_not_lost() {
        let request = r#"{"messages":[{"role":"user","content":"a","name":"me"},{"role":"assistant","content":"b",
            "reasoning_content":"r","provider_state":{}}],"stream_options":{},"logit_bias":null,"modalities":["text"],"k":1,"odd":1}"#;
        let mut losses = Losses::default();
        losses.unknown(&serde_json::from_str(request).unwrap(), &["k"]);
        let names: Vec<_> = losses.0.iter().map(|clause| clause.split(' ').next().unwrap_or_default()).collect();
        assert_eq!(names, ["odd", "messages[].name", "messages[].provider_state"]);
    }
}
