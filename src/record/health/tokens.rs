//! How many tokens a provider counts for one of our estimate (bytes / 4), by deployment: tokenizers differ by up to a
//! half, and so does what a prompt costs.

use super::decay::Decayed;
use serde::{Deserialize, Serialize};

/// Weight of the family's prior, in estimated tokens: a handful of prompts.
const PRIOR_TOKENS: f64 = 2_000.0;

/// A ratio beyond these is a count of something else (images, hidden prompts, cached tokens left out).
const RATIOS: std::ops::RangeInclusive<f64> = 0.2..=5.0;

/// Families known to count otherwise than bytes / 4, by what their models' names contain; the first that fits. Others
/// are taken at 1: OpenAI and Google say of their tokenizers that a token is about four characters, and it is so of
/// Llama 3's, too.
const FAMILIES: [(&str, f64); 8] = [
    // Anthropic on Opus 4.7: its new tokenizer makes up to 1.35 times as many tokens; half of that on those of before.
    ("claude-opus-4-7", 1.4),
    ("claude-opus-4.7", 1.4),
    ("claude-opus-4-8", 1.4),
    ("claude-opus-4.8", 1.4),
    // Compared in 2025 with GPT-4o's: 16 % more on articles, 21 % on mathematics, 30 % on Python.
    ("claude", 1.2),
    // Meta on Llama 3: its tokenizer makes up to 15 % fewer tokens than that of Llama 2.
    ("llama-2", 1.15),
    ("llama2", 1.15),
    ("codellama", 1.15),
];

/// What is assumed of a model before any count was seen.
pub fn prior(model: &str) -> f64 {
    let model = model.to_ascii_lowercase();
    FAMILIES.iter().find(|(family, _)| model.contains(family)).map_or(1.0, |(_, ratio)| *ratio)
}

/// Counted over estimated tokens, apart for text that is mostly ASCII and other text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tokens {
    /// Sums are counted tokens, weights estimated ones.
    seen: [Decayed; 2],
}

impl Tokens {
    /// Lets all fade by a factor.
    pub fn fade(&mut self, factor: f64) {
        self.seen.iter_mut().for_each(|seen| seen.fade(factor));
    }

    /// Adds a prompt of which the provider told its count.
    pub fn add(&mut self, estimated: u64, counted: u64, ascii: bool) {
        let (estimated, counted) = (estimated as f64, counted as f64);
        if estimated > 0.0 && RATIOS.contains(&(counted / estimated)) {
            self.seen[usize::from(ascii)].add(counted / estimated, estimated);
        }
    }

    /// Counted tokens for one estimated, with the family's `prior` while few were seen.
    pub fn ratio(&self, ascii: bool, prior: f64) -> f64 {
        self.seen[usize::from(ascii)].mean(prior, PRIOR_TOKENS)
    }

    /// Whether these are numbers.
    pub fn is_sound(&self) -> bool {
        self.seen.iter().all(Decayed::is_sound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_family_is_assumed_until_the_provider_has_counted() {
        assert_eq!(prior("gpt-4o"), 1.0);
        assert_eq!(prior("us.anthropic.claude-sonnet-4-5"), 1.2);
        assert_eq!(prior("anthropic/Claude-Opus-4.7"), 1.4);
        let mut tokens = Tokens::default();
        assert_eq!(tokens.ratio(true, 1.2), 1.2);
        (0..50).for_each(|_| tokens.add(1_000, 900, true));
        tokens.add(1_000, 90_000, true);
        assert!((tokens.ratio(true, 1.2) - 0.91).abs() < 0.01, "{}", tokens.ratio(true, 1.2));
        assert_eq!(tokens.ratio(false, 1.2), 1.2);
    }
}
