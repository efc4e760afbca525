//! Hashed word n-grams: what the words themselves say, beside what the embedding makes of them.
//! The feature-hashing trick (Weinberger et al., 2009) keeps the table at a fixed size for any vocabulary.

use std::collections::BTreeSet;

/// Words looked at, from either end of the text.
const WORDS_PER_END: usize = 120;

/// Words at either end that also count by their place.
const EDGE_WORDS: usize = 4;

/// Buckets of the text's word unigrams and bigrams and of its first and last words, each once, ascending.
pub fn of(text: &str, buckets: u32) -> Vec<u32> {
    let words = words(text);
    let mut found = BTreeSet::new();
    let mut add = |kind: u8, parts: &[&str]| {
        found.insert(bucket(kind, parts, buckets));
    };
    for word in &words {
        add(0, &[word]);
    }
    for pair in words.windows(2) {
        add(1, &[&pair[0], &pair[1]]);
    }
    for (place, word) in words.iter().take(EDGE_WORDS).enumerate() {
        add(2 + u8::from(place == 0), &[word]);
    }
    for word in words.iter().rev().take(EDGE_WORDS) {
        add(4, &[word]);
    }
    found.into_iter().collect()
}

/// Lower-case words; digits are one word each run, scripts without spaces count by character.
fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut word = String::new();
    let mut flush = |word: &mut String| {
        if !word.is_empty() {
            words.push(std::mem::take(word));
        }
    };
    for character in text.chars() {
        if is_unspaced(character) {
            flush(&mut word);
            word.push(character);
            flush(&mut word);
        } else if character.is_ascii_digit() {
            // All numbers of a length are one word: "12" and "47" say the same about a task.
            if !word.ends_with('0') && !word.is_empty() {
                flush(&mut word);
            }
            word.push('0');
        } else if character.is_alphanumeric() || character == '\'' {
            word.extend(character.to_lowercase());
        } else {
            flush(&mut word);
            if "?:{}()=;<>`|#+*%$€/".contains(character) {
                word.push(character);
                flush(&mut word);
            }
        }
    }
    flush(&mut word);
    if words.len() > 2 * WORDS_PER_END {
        words.drain(WORDS_PER_END..words.len() - WORDS_PER_END);
    }
    words
}

/// Chinese and Japanese are written without spaces.
fn is_unspaced(character: char) -> bool {
    matches!(character, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}')
}

fn bucket(kind: u8, parts: &[&str], buckets: u32) -> u32 {
    let mut hash = crc32fast::Hasher::new();
    hash.update(&[kind]);
    for part in parts {
        hash.update(part.as_bytes());
        hash.update(&[0]);
    }
    hash.finalize() % buckets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_a_length_are_one_word_and_symbols_count() {
        assert_eq!(words("Add 12 and 47?"), ["add", "00", "and", "00", "?"]);
        assert_eq!(words("翻訳 x1"), ["翻", "訳", "x", "0"]);
    }

    #[test]
    fn buckets_are_bounded_ascending_and_stable() {
        let found = of("translate this sentence into French", 8_192);
        assert!(found.windows(2).all(|pair| pair[0] < pair[1]) && found.iter().all(|bucket| *bucket < 8_192));
        assert_eq!(found, of("Translate THIS sentence into french", 8_192));
    }
}
