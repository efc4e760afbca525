//! BERT's lower-casing tokenizer, in one walk over the text: characters are folded (`fold.rs`), gathered into words, and
//! a word is cut into the longest pieces the vocabulary has (`trie.rs`). What the tokenizers crate makes of the same
//! text, without a string for each step and each token.

use super::Tokens;
use super::fold::{Fold, Folds, Part, parts};
use super::trie::{Node, Trie};
use tokenizers::models::ModelWrapper;
use tokenizers::normalizers::NormalizerWrapper;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::processors::PostProcessorWrapper;
use tokenizers::processors::template::Template;
use tokenizers::{Model, Tokenizer};

/// The tokenizer of one vocabulary.
pub struct WordPiece {
    folds: Folds,
    vocabulary: Trie,
    /// Where pieces that continue a word begin in the vocabulary: behind `##`.
    continued: Node,
    unknown: u32,
    /// A longer word is unknown.
    max_word_chars: usize,
    /// The tokens before and behind a text.
    around: [u32; 2],
    /// What stands for a token of its own wherever a text has it: `[SEP]` and the like.
    special: Vec<String>,
}

impl WordPiece {
    /// `tokenizer` made fast; nothing if it does anything else than what is done here.
    pub fn of(tokenizer: &Tokenizer) -> Option<Self> {
        let Some(NormalizerWrapper::BertNormalizer(normalizer)) = tokenizer.get_normalizer() else { return None };
        let Some(PreTokenizerWrapper::BertPreTokenizer(_)) = tokenizer.get_pre_tokenizer() else { return None };
        let Some(PostProcessorWrapper::Template(template)) = tokenizer.get_post_processor() else { return None };
        let ModelWrapper::WordPiece(model) = tokenizer.get_model() else { return None };
        let special = tokenizer.get_added_tokens_decoder();
        let known = normalizer.clean_text
            && normalizer.handle_chinese_chars
            && normalizer.strip_accents != Some(false)
            && normalizer.lowercase
            && template.single == Template::try_from("[CLS] $A [SEP]").ok()?
            && special.values().all(|token| !token.normalized);
        if !known {
            return None;
        }
        let vocabulary = Trie::new(model.get_vocab());
        Some(WordPiece {
            folds: Folds::new(),
            continued: vocabulary.node(&model.continuing_subword_prefix)?,
            vocabulary,
            unknown: model.token_to_id(&model.unk_token)?,
            max_word_chars: model.max_input_chars_per_word,
            around: tokenizer.encode("", true).ok()?.get_ids().try_into().ok()?,
            special: special.values().map(|token| token.content.clone()).collect(),
        })
    }

    /// The tokens of `text`; nothing if it has special tokens or marks that are left to the tokenizers crate.
    pub fn encode(&self, text: &str) -> Option<Tokens> {
        if self.special.iter().any(|token| text.contains(token)) {
            return None;
        }
        let [first, last] = self.around;
        let mut walk =
            Walk { rules: self, tokens: Tokens::default(), word: String::new(), sources: Vec::new(), chars: 0 };
        walk.tokens.push(first, (0, 0));
        for (at, character) in text.char_indices() {
            let source = (at, at + character.len_utf8());
            match self.folds.of(character) {
                Fold::Nothing => {}
                Fold::One(part) => walk.read(part, source),
                Fold::Several => parts(character, |part| walk.read(part, source)),
                Fold::Moving => return None,
            }
        }
        walk.end_word();
        walk.tokens.push(last, (0, 0));
        Some(walk.tokens)
    }
}

/// A text being read.
struct Walk<'a> {
    rules: &'a WordPiece,
    tokens: Tokens,
    /// The word that has begun.
    word: String,
    /// For each byte of it, the bytes of the text it comes from.
    sources: Vec<(usize, usize)>,
    /// How many characters it has.
    chars: usize,
}

impl Walk<'_> {
    fn read(&mut self, part: Part, source: (usize, usize)) {
        match part {
            Part::Space => self.end_word(),
            Part::Letter(letter) => self.push(letter, source),
            Part::Alone(letter) => {
                self.end_word();
                self.push(letter, source);
                self.end_word();
            }
        }
    }

    fn push(&mut self, letter: char, source: (usize, usize)) {
        self.word.push(letter);
        self.sources.resize(self.word.len(), source);
        self.chars += 1;
    }

    /// Cuts the word into the longest pieces there are; one without a piece makes all of it unknown.
    fn end_word(&mut self) {
        let source = |from: usize, to: usize| (self.sources[from].0, self.sources[to - 1].1);
        let before = self.tokens.ids.len();
        let (mut node, mut from) = (Trie::ROOT, 0);
        while from < self.word.len() {
            let piece = self.rules.vocabulary.longest(node, &self.word.as_bytes()[from..]);
            let Some((id, length)) = piece.filter(|_| self.chars <= self.rules.max_word_chars) else {
                self.tokens.ids.truncate(before);
                self.tokens.offsets.truncate(before);
                self.tokens.push(self.rules.unknown, source(0, self.word.len()));
                break;
            };
            self.tokens.push(id, source(from, from + length));
            (node, from) = (self.rules.continued, from + length);
        }
        self.word.clear();
        self.sources.clear();
        self.chars = 0;
    }
}
