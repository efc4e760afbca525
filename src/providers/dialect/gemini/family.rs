//! What hangs on a model's generation, read off its name: how it is told to think, whether it can be held to JSON while
//! it has tools, whether it insists on thought signatures.

use super::super::loss::Losses;
use super::super::object::Object;

/// A model's generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Family {
    /// (3, 1) for `gemini-3.1-pro`; aliases such as `gemini-flash-latest` are taken for new, other names for old.
    version: (u32, u32),
    pro: bool,
}

impl Family {
    pub(super) fn of(model: &str) -> Self {
        Family { version: version(model), pro: model.contains("-pro") }
    }

    /// From the third generation on: thinking by level, JSON beside tools, signatures demanded.
    pub(super) fn is_third(self) -> bool {
        self.version >= (3, 0)
    }

    /// `thinkingConfig` for an effort, where the model can be told. The budgets are those of Google's own
    /// OpenAI-compatible endpoint.
    pub(super) fn thinking(self, effort: &str, losses: &mut Losses) -> Option<Object> {
        let config = match self.version {
            (3.., _) => Object::default().with("thinkingLevel", self.level(effort, losses)?),
            (2, 5..) => Object::default().with("thinkingBudget", self.budget(effort, losses)?),
            _ => {
                losses.lost("reasoning_effort");
                return None;
            }
        };
        Some(if effort == "none" { config } else { config.with("includeThoughts", true) })
    }

    fn level(self, effort: &str, losses: &mut Losses) -> Option<&'static str> {
        let level = match (effort, self.pro) {
            ("none" | "minimal", true) | ("low", _) => "LOW",
            ("none" | "minimal", false) => "MINIMAL",
            ("medium", _) => "MEDIUM",
            ("high" | "xhigh" | "max", _) => "HIGH",
            _ => return unknown(losses),
        };
        said_otherwise(effort, level, losses);
        Some(level)
    }

    fn budget(self, effort: &str, losses: &mut Losses) -> Option<u32> {
        Some(match effort {
            "none" if self.pro => {
                losses.say("reasoning_effort none becomes 128 tokens: this model always thinks");
                128
            }
            "none" => 0,
            "minimal" | "low" => 1_024,
            "medium" => 8_192,
            "high" | "xhigh" | "max" => 24_576,
            _ => return unknown(losses),
        })
    }
}

fn said_otherwise(effort: &str, level: &str, losses: &mut Losses) {
    if !effort.eq_ignore_ascii_case(level) {
        losses.say(format!("reasoning_effort {effort} becomes {}", level.to_lowercase()));
    }
}

fn unknown<T>(losses: &mut Losses) -> Option<T> {
    losses.lost("reasoning_effort");
    None
}

fn version(model: &str) -> (u32, u32) {
    let Some((_, rest)) = model.split_once("gemini-") else { return (0, 0) };
    let number = rest.split('-').next().unwrap_or_default();
    if !number.starts_with(|first: char| first.is_ascii_digit()) {
        return if rest.ends_with("latest") { (3, 0) } else { (0, 0) };
    }
    let mut parts = number.split('.').map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generations_are_read_off_names() {
        for (name, third) in [
            ("gemini-3-pro-preview", true),
            ("models/gemini-3.1-flash", true),
            ("gemini-flash-latest", true),
            ("gemini-2.5-pro", false),
            ("gemma-3-27b-it", false),
        ] {
            assert_eq!(Family::of(name).is_third(), third, "{name}");
        }
    }

    #[test]
    fn effort_is_a_level_or_a_budget_or_lost() {
        let said = |model: &str, effort: &str| {
            let mut losses = Losses::default();
            let config = Family::of(model).thinking(effort, &mut losses);
            (config.map(|config| String::from_utf8_lossy(&config.bytes()).into_owned()), losses.clauses().len())
        };
        let some = |json: &str| Some(json.to_string());
        assert_eq!(said("gemini-3-pro", "minimal"), (some(r#"{"thinkingLevel":"LOW","includeThoughts":true}"#), 1));
        assert_eq!(said("gemini-3.1-flash", "minimal").1, 0);
        assert_eq!(said("gemini-2.5-flash", "medium"), (some(r#"{"thinkingBudget":8192,"includeThoughts":true}"#), 0));
        assert_eq!(said("gemini-2.5-flash", "none"), (some(r#"{"thinkingBudget":0}"#), 0));
        assert_eq!(said("gemini-2.5-pro", "none"), (some(r#"{"thinkingBudget":128}"#), 1));
        assert_eq!(said("gemini-2.0-flash", "high"), (None, 1));
    }
}
