//! What BERT's lower-casing tokenizer makes of a single character before words are looked up: cleaned, decomposed,
//! stripped of accents, in lower case, and a letter of a word or a word by itself. Step by step as the tokenizers crate
//! does it (its `normalizers/bert.rs` and `pre_tokenizers/bert.rs`), with the tables it does it by.

use unicode_categories::UnicodeCategories;
use unicode_normalization_alignments::char::{canonical_combining_class, decompose_canonical};

/// What becomes of a character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fold {
    /// It is left out: the letters around it are neighbors.
    Nothing,
    /// It becomes one thing.
    One(Part),
    /// It is decomposed into several [`parts`].
    Several,
    /// A mark that is kept, and whose place among other marks depends on these.
    Moving,
}

/// What is done with what it becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// It ends a word.
    Space,
    /// A letter of a word.
    Letter(char),
    /// A word by itself.
    Alone(char),
}

/// Characters below this have their fold looked up: the alphabets, kana and most signs. Those above are mostly Chinese
/// characters and Hangul, of which texts use too many for a table to be worth its making.
const TABLE_END: u32 = 0x3100;

/// The folds of all characters.
pub struct Folds(Vec<Fold>);

impl Folds {
    /// Makes the table.
    pub fn new() -> Self {
        // No surrogates stand below the end.
        Folds((0..TABLE_END).filter_map(char::from_u32).map(Fold::of).collect())
    }

    /// What becomes of `character`.
    pub fn of(&self, character: char) -> Fold {
        self.0.get(character as usize).copied().unwrap_or_else(|| Fold::of(character))
    }
}

impl Fold {
    fn of(character: char) -> Fold {
        // The most used of the Chinese ones, by far: they are never decomposed.
        if matches!(character, '\u{4e00}'..='\u{9fff}') {
            return Fold::One(Part::Alone(character));
        }
        if is_dropped(character) {
            return Fold::Nothing;
        }
        if character.is_whitespace() {
            return Fold::One(Part::Space);
        }
        let mut moving = false;
        decompose_canonical(character, |part| {
            moving |= canonical_combining_class(part) != 0 && !part.is_mark_nonspacing();
        });
        if moving {
            return Fold::Moving;
        }
        let mut found = Vec::new();
        parts(character, |part| found.push(part));
        match found[..] {
            [] => Fold::Nothing,
            [Part::Letter(letter)] if is_chinese(character) => Fold::One(Part::Alone(letter)),
            [part] => Fold::One(part),
            _ => Fold::Several,
        }
    }
}

/// What a character is decomposed into, without accents and in lower case.
pub fn parts(character: char, mut each: impl FnMut(Part)) {
    decompose_canonical(character, |part| {
        if !part.is_mark_nonspacing() {
            part.to_lowercase().for_each(|part| {
                each(match part {
                    _ if part.is_whitespace() => Part::Space,
                    _ if part.is_ascii_punctuation() || part.is_punctuation() => Part::Alone(part),
                    _ => Part::Letter(part),
                });
            });
        }
    });
}

fn is_dropped(character: char) -> bool {
    match character {
        '\t' | '\n' | '\r' => false,
        '\0' | char::REPLACEMENT_CHARACTER => true,
        _ => character.is_other(),
    }
}

fn is_chinese(character: char) -> bool {
    matches!(
        u32::from(character),
        0x4E00..=0x9FFF
            | 0x3400..=0x4DBF
            | 0x20000..=0x2A6DF
            | 0x2A700..=0x2B73F
            | 0x2B740..=0x2B81F
            | 0x2B920..=0x2CEAF
            | 0xF900..=0xFAFF
            | 0x2F800..=0x2FA1F
    )
}
