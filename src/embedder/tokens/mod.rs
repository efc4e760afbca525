//! From text to the tokens an encoder reads: by `wordpiece.rs`, or by the tokenizers crate where a tokenizer.json
//! describes anything else than what that knows, and for the few texts it leaves to the crate. Both give the same
//! tokens (`tests.rs`); ours takes a thirtieth of the time.

mod fold;
#[cfg(test)]
mod tests;
mod trie;
mod wordpiece;

use crate::error::{Error, Result};
use std::path::Path;
use wordpiece::WordPiece;

/// The tokens of a text, special tokens at both ends included.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    /// Their numbers in the vocabulary.
    pub ids: Vec<u32>,
    /// The bytes of the text that each stands for; empty for the special tokens put around it.
    pub offsets: Vec<(usize, usize)>,
}

impl Tokens {
    /// Keeps at most `limit` tokens: of more, the first and last half of the limit, where requests stand.
    pub fn keep_ends(&mut self, limit: usize) {
        if self.ids.len() > limit {
            let head = limit / 2;
            let middle = head..self.ids.len() - (limit - head);
            self.ids.drain(middle.clone());
            self.offsets.drain(middle);
        }
    }

    fn push(&mut self, id: u32, offsets: (usize, usize)) {
        self.ids.push(id);
        self.offsets.push(offsets);
    }
}

/// What an encoder's tokenizer.json describes.
pub struct Tokenizer {
    general: tokenizers::Tokenizer,
    fast: Option<WordPiece>,
}

impl Tokenizer {
    /// Reads the `tokenizer.json` in `folder`; what it says of padding and truncation does not count.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn load(folder: &Path) -> std::result::Result<Self, String> {
        tokenizers::Tokenizer::from_file(folder.join("tokenizer.json"))
            .and_then(Self::new)
            .map_err(|error| error.to_string())
    }

    fn new(mut general: tokenizers::Tokenizer) -> tokenizers::Result<Self> {
        general.with_padding(None).with_truncation(None)?;
        let fast = WordPiece::of(&general);
        if fast.is_none() {
            tracing::info!("this encoder's tokenizer is not BERT's lower-casing one: the tokenizers crate runs it");
        }
        Ok(Tokenizer { general, fast })
    }

    /// All tokens of a text.
    ///
    /// # Errors
    /// [`Error::Internal`] when the tokenizers crate fails.
    pub fn encode(&self, text: &str) -> Result<Tokens> {
        match self.fast.as_ref().and_then(|fast| fast.encode(text)) {
            Some(tokens) => Ok(tokens),
            None => self.encode_generally(text),
        }
    }

    fn encode_generally(&self, text: &str) -> Result<Tokens> {
        let encoding =
            self.general.encode(text, true).map_err(|error| Error::Internal(format!("tokenizing failed: {error}")))?;
        Ok(Tokens { ids: encoding.get_ids().to_vec(), offsets: encoding.get_offsets().to_vec() })
    }
}
