//! Structural features of a text: its shape, apart from its words. All lie near 0..1.

/// Number of features.
pub const WIDTH: usize = 24;

/// The features of a text.
pub fn of(text: &str) -> [f32; WIDTH] {
    let chars = text.chars().count().max(1) as f32;
    let lines: Vec<&str> = text.lines().collect();
    let words = text.split_whitespace().count().max(1) as f32;
    let share =
        |wanted: &dyn Fn(char) -> bool| text.chars().filter(|character| wanted(*character)).count() as f32 / chars;
    let has = |pattern: &str| f32::from(u8::from(text.contains(pattern)));
    let count = |pattern: &str| (text.matches(pattern).count() as f32 / 4.0).min(1.0);
    let line_share = |wanted: &dyn Fn(&str) -> bool| {
        lines.iter().filter(|line| wanted(line.trim())).count() as f32 / lines.len().max(1) as f32
    };
    let last = text.trim_end().chars().next_back().unwrap_or(' ');
    let first = text.trim_start().chars().next().unwrap_or(' ');
    let flag = |yes: bool| f32::from(u8::from(yes));
    [
        (chars.ln() / 8.0).min(1.0),
        (words.ln() / 6.0).min(1.0),
        ((lines.len() as f32).ln_1p() / 4.0).min(1.0),
        (chars / words / 24.0).min(1.0),
        share(&|c| c.is_ascii_digit()) * 4.0,
        share(&|c| c.is_uppercase()) * 4.0,
        share(&|c| "{}();=<>[]_\\".contains(c)) * 6.0,
        share(&|c| "+-*/^%=".contains(c)) * 6.0,
        share(&|c| !c.is_ascii()) * 2.0,
        share(&|c| c == ',' || c == ';') * 8.0,
        flag(last == '?'),
        flag(last == ':'),
        flag(first.is_lowercase()),
        count("?"),
        count("\""),
        has("```"),
        has("http"),
        count("\n\n"),
        line_share(&|line| is_option(line)),
        line_share(&|line| is_labelled(line)),
        line_share(&|line| line.starts_with(['-', '*', '•', '>'])),
        line_share(&|line| line.ends_with([';', '{', '}', ')'])),
        line_share(&|line| line.contains(',') && line.split(',').count() >= 4),
        has("$"),
    ]
}

/// "A) …", "B. …", "(c) …".
fn is_option(line: &str) -> bool {
    let mut chars = line.trim_start_matches('(').chars();
    matches!((chars.next(), chars.next()), (Some(letter), Some(')' | '.')) if letter.is_ascii_alphabetic())
}

/// "Question: …", "Input: …": a short label before a colon.
fn is_labelled(line: &str) -> bool {
    line.split_once(':').is_some_and(|(label, _)| {
        (1..=20).contains(&label.len()) && label.chars().all(|c| c.is_alphanumeric() || c == ' ')
    })
}
