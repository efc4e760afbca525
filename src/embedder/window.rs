//! Which text of a request is embedded: the last user turn, with a little context when it is too short to stand
//! alone, cut to a bounded window from both ends before anything is tokenized.

use super::courtesy;
use crate::chat::{ChatRequest, Role};

/// A user turn of fewer characters than this may be a follow-up ("now make it faster") and takes context along.
const FOLLOW_UP_CHARS: usize = 60;

/// Characters of the user turn before it that a follow-up takes along.
const CONTEXT_CHARS: usize = 300;

/// The text to embed, at most `max_chars` characters; empty when the request has none.
///
/// System prompts, tool results and earlier turns are left out: they are long, and say what the application is,
/// not what is asked. A conversation without a user turn is read by its last message with text.
pub fn window(request: &ChatRequest, max_chars: usize) -> String {
    let has_text = |message: &&crate::chat::Message| !message.text.trim().is_empty();
    let mut turns = request.messages.iter().filter(|message| message.role == Role::User).filter(has_text).rev();
    let Some(last) = turns.next().or_else(|| request.messages.iter().rev().find(has_text)) else {
        return String::new();
    };
    let text = clip(courtesy::trim(&last.text), max_chars);
    match turns.next() {
        Some(before) if last.text.trim().chars().nth(FOLLOW_UP_CHARS - 1).is_none() => {
            format!("{}\n{text}", clip(courtesy::trim(&before.text), CONTEXT_CHARS))
        }
        _ => text,
    }
}

/// The first and last half of a longer text. Costs what the window costs, however long the text.
pub fn clip(text: &str, max_chars: usize) -> String {
    if text.chars().nth(max_chars).is_none() {
        return text.into();
    }
    let half = max_chars / 2;
    let head = text.char_indices().nth(half).map_or(text.len(), |(at, _)| at);
    let tail = text.char_indices().rev().nth(half.saturating_sub(1)).map_or(0, |(at, _)| at);
    format!("{}\n{}", &text[..head], &text[tail..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window_of(body: &str) -> String {
        window(&ChatRequest::parse(body.as_bytes()).unwrap(), 2_048)
    }

    #[test]
    fn only_the_last_user_turn_counts() {
        let body = r#"{"messages":[{"role":"system","content":"You are a translator."},{"role":"user","content":"hello there"},
            {"role":"assistant","content":"hi"},{"role":"user","content":"Write a function in Python that merges two sorted lists without recursion."},
            {"role":"tool","content":"{\"long\": \"result\"}"}]}"#;
        assert_eq!(window_of(body), "Write a function in Python that merges two sorted lists without recursion.");
    }

    #[test]
    fn a_follow_up_takes_the_turn_before_along() {
        let body = r#"{"messages":[{"role":"user","content":"write quicksort in C"},{"role":"assistant","content":"..."},{"role":"user","content":"now make it faster"}]}"#;
        assert_eq!(window_of(body), "write quicksort in C\nnow make it faster");
    }

    #[test]
    fn a_long_text_keeps_both_ends_and_char_boundaries() {
        let text = clip(&format!("BEGIN{}END", "é".repeat(100_000)), 100);
        assert!(text.starts_with("BEGIN") && text.ends_with("END"));
        assert_eq!(text.chars().count(), 101);
        assert_eq!(clip("ééé", 3), "ééé");
    }
}
