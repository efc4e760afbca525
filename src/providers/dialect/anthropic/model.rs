//! What a model takes, by its name. Sources: Anthropic's API specification, its migration guides for Opus 4.7, 5 and 5.5,
//! and LiteLLM's model table (`supports_sampling_params`, `supports_forced_tool_use`, `thinking_always_on`).

/// What a model takes. Where it is no Claude (others speak this API too), what the API's first years had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abilities {
    pub sampling: Sampling,
    /// Thinks as long as it finds fit, told how hard by a word (since 4.6); else it is given a budget of tokens.
    pub adaptive: bool,
    /// Knows the effort `xhigh` (since 4.7).
    pub xhigh: bool,
    /// Thinks without being asked (since 5).
    pub thinks_unasked: bool,
    /// Cannot be kept from thinking.
    pub always_thinks: bool,
    /// Can be made to call a tool.
    pub forced_tools: bool,
    /// Answers in JSON by a schema, and keeps to strict tools (since 4.5).
    pub structured: bool,
    /// `max_tokens` must be told; where the caller does not, this: half of what the models take since 4.0 (64,000), and
    /// what the oldest take.
    pub default_max_tokens: u64,
}

/// Whether `temperature` and `top_p` are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sampling {
    Both,
    /// One of the two (since 4.1).
    Either,
    /// Neither (since 4.7).
    Neither,
}

impl Abilities {
    /// The abilities of the model of this name.
    pub fn of(model: &str) -> Self {
        let Some((family, version)) = claude(model) else {
            return Abilities {
                sampling: Sampling::Both,
                adaptive: false,
                xhigh: false,
                thinks_unasked: false,
                always_thinks: false,
                forced_tools: true,
                structured: false,
                default_max_tokens: 4_096,
            };
        };
        let (haiku, largest) = (family == "haiku", matches!(family, "fable" | "mythos"));
        Abilities {
            sampling: match version {
                _ if version >= (4, 7) => Sampling::Neither,
                _ if version >= (4, 1) => Sampling::Either,
                _ => Sampling::Both,
            },
            adaptive: version >= (4, 6),
            xhigh: version >= (4, 7),
            thinks_unasked: version >= (5, 0),
            always_thinks: largest || !haiku && version >= (5, 5),
            forced_tools: haiku || version < if largest { (5, 1) } else { (5, 5) },
            structured: version >= (4, 5),
            default_max_tokens: if version >= (4, 0) { 32_000 } else { 4_096 },
        }
    }
}

/// Family and version of a Claude: (`opus`, (4, 5)) for `claude-opus-4-5-20251101`. One without a number is taken for
/// the newest.
fn claude(model: &str) -> Option<(&str, (u32, u32))> {
    let mut words = model.split(|letter: char| !letter.is_ascii_alphanumeric()).skip_while(|word| *word != "claude");
    words.next()?;
    let words: Vec<&str> = words.collect();
    let family = words.iter().find(|word| word.starts_with(|first: char| first.is_ascii_alphabetic()));
    // Of eight digits are the dates.
    let mut numbers = words.iter().filter_map(|word| word.parse().ok()).filter(|number| *number < 1_000_u32);
    let version = numbers.next().map_or((u32::MAX, 0), |major| (major, numbers.next().unwrap_or(0)));
    Some((family.copied().unwrap_or_default(), version))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_old_and_new_are_read() {
        for (name, expected) in [
            ("claude-3-5-sonnet-20241022", Some(("sonnet", (3, 5)))),
            ("claude-opus-4-20250514", Some(("opus", (4, 0)))),
            ("us.anthropic.claude-opus-4-6-v1", Some(("opus", (4, 6)))),
            ("claude-haiku-5-5", Some(("haiku", (5, 5)))),
            ("claude-mythos-preview", Some(("mythos", (u32::MAX, 0)))),
            ("MiniMax-M3", None),
        ] {
            assert_eq!(claude(name), expected, "{name}");
        }
    }

    #[test]
    fn each_generation_takes_what_its_guide_says() {
        let of = Abilities::of;
        assert_eq!(of("claude-sonnet-4-6").sampling, Sampling::Either);
        assert_eq!(of("claude-opus-4-7").sampling, Sampling::Neither);
        assert!(!of("claude-opus-4-5").adaptive && of("claude-opus-4-6").adaptive);
        assert!(of("claude-opus-5").forced_tools && !of("claude-opus-5").always_thinks);
        assert!(!of("claude-opus-5-5").forced_tools && of("claude-opus-5-5").always_thinks);
        assert!(of("claude-haiku-5-5").forced_tools && !of("claude-haiku-5-5").always_thinks);
        assert!(of("claude-fable-5").forced_tools && of("claude-fable-5").always_thinks);
        assert!(!of("claude-fable-5-1").forced_tools);
        assert!(!of("llama-3").structured && of("llama-3").forced_tools);
    }
}
