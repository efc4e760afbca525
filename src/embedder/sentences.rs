//! Where the first and the last sentence of a text stand. A request usually stands at either end of what is pasted.

use std::ops::Range;

/// A sentence shorter than this many bytes ("Hi.", "Please:") takes its neighbor along.
const MIN_BYTES: usize = 12;

/// Byte ranges of the first and the last sentence or line. Both are the whole text when it has only one.
pub fn ends(text: &str) -> (Range<usize>, Range<usize>) {
    let breaks = breaks(text);
    let end = text.trim_end().len();
    let start = end - text[..end].trim_start().len();
    let first_end = breaks.iter().copied().find(|at| *at >= start + MIN_BYTES).unwrap_or(end);
    let last_start = breaks.iter().copied().rev().find(|at| *at + MIN_BYTES <= end).unwrap_or(start);
    (start..first_end.clamp(start, end), last_start.clamp(start, end)..end)
}

/// Byte offsets just past each end of a sentence or line.
fn breaks(text: &str) -> Vec<usize> {
    let mut found = Vec::new();
    let mut chars = text.char_indices().peekable();
    while let Some((at, character)) = chars.next() {
        let ends_sentence = match character {
            '\n' | '。' | '！' | '？' | '।' => true,
            '.' | '!' | '?' | ':' | '؟' => chars.peek().is_some_and(|(_, next)| next.is_whitespace()),
            _ => false,
        };
        if ends_sentence {
            found.push(at + character.len_utf8());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::ends;

    fn parts(text: &str) -> (&str, &str) {
        let (first, last) = ends(text);
        (&text[first], &text[last])
    }

    #[test]
    fn a_request_stands_at_either_end() {
        assert_eq!(
            parts("Summarise this text.\nLong text here. And more of it."),
            ("Summarise this text.", " And more of it.")
        );
        assert_eq!(parts("just one sentence"), ("just one sentence", "just one sentence"));
        assert_eq!(parts(""), ("", ""));
        assert_eq!(parts(" \n "), ("", ""));
        assert_eq!(
            parts("Hi. Please help me with this. Thanks."),
            ("Hi. Please help me with this.", " Please help me with this. Thanks.")
        );
    }
}
