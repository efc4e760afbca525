//! Does a choice survive a change of wording that leaves the work asked for as it is? Seeded changes of a prompt: the
//! router should answer each as it answers the prompt itself.

use rand::seq::{IndexedRandom, index};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A named way to reword a prompt.
pub struct Perturbation {
    pub name: &'static str,
    pub apply: fn(&str, &mut ChaCha8Rng) -> String,
}

/// All of them.
pub const PERTURBATIONS: [Perturbation; 8] = [
    Perturbation { name: "typos", apply: typos },
    Perturbation { name: "lower case", apply: |text, _| text.to_lowercase() },
    Perturbation { name: "title case", apply: |text, _| title_case(text) },
    Perturbation { name: "upper case", apply: |text, _| text.to_uppercase() },
    Perturbation { name: "polite prefix", apply: |text, random| format!("{}{text}", pick(&PREFIXES, random)) },
    Perturbation { name: "polite suffix", apply: |text, random| format!("{text}{}", pick(&SUFFIXES, random)) },
    Perturbation { name: "white space", apply: white_space },
    Perturbation { name: "wrapped", apply: |text, random| pick(&TEMPLATES, random).replacen("{}", text, 1) },
];

/// Share of the letters that get a typo.
const TYPO_RATE: f64 = 0.02;

/// Letters from which on a text gets at least one typo.
const TYPO_LETTERS: usize = 12;

const PREFIXES: [&str; 12] = [
    "Hi there, could you please help me with this? ",
    "Hello! ",
    "Good morning. I hope you are well. ",
    "Hey, quick one: ",
    "Please help me out here. ",
    "If you have a moment, please take a look at this. ",
    "I would be grateful for your help. ",
    "Dear assistant, ",
    "Sorry to bother you, but I need a hand. ",
    "Thank you for your help so far. ",
    "Could you please do this for me?\n\n",
    "Hi,\n\n",
];

const SUFFIXES: [&str; 12] = [
    " Thanks!",
    " Thank you very much.",
    " Please and thank you.",
    "\n\nThanks in advance!",
    "\n\nBest regards",
    " I appreciate your help.",
    " Many thanks for your time.",
    " Cheers!",
    "\n\nKind regards,\nSam",
    " That would be a great help.",
    " Have a nice day!",
    "\n\nI look forward to your answer.",
];

const BLANKS: [&str; 6] = [" ", "   ", "\n", "\n\n", " \n", "\t"];

const TEMPLATES: [&str; 12] = [
    "I have a question: {}",
    "Here is what I need:\n\n{}",
    "{}\n\nThat is all I need.",
    "My request is the following.\n\n{}",
    "\"{}\"",
    "“{}”",
    "> {}",
    "```\n{}\n```",
    "Request: {}",
    "Please read this and respond.\n\n{}",
    "---\n{}\n---",
    "Let me start with this one: {}",
];

/// Every phrase that is put around a prompt here: what must not be learned from.
pub const PHRASES: [&[&str]; 3] = [&PREFIXES, &SUFFIXES, &TEMPLATES];

const KEYBOARD: [&str; 3] = ["qwertyuiop", "asdfghjkl", "zxcvbnm"];

/// The random numbers of one prompt under one perturbation: the same for the same seed, whatever else was perturbed.
pub fn seeded(seed: u64, prompt: usize) -> ChaCha8Rng {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(prompt as u64);
    random
}

/// Swaps a letter with the next, drops it, doubles it or hits a neighboring key, for 2 % of the letters; for at least
/// one in a text of 12 letters or more.
pub fn typos(text: &str, random: &mut ChaCha8Rng) -> String {
    let letters: Vec<usize> =
        (0..).zip(text.chars()).filter(|(_, one)| one.is_alphabetic()).map(|(at, _)| at).collect();
    let least = usize::from(letters.len() >= TYPO_LETTERS);
    let count = ((letters.len() as f64 * TYPO_RATE).round() as usize).max(least);
    let typed = mistype(text, &letters, count, random);
    // Two typos side by side can cancel out ("aab" → "ab" → "aab"); one alone cannot.
    if count > 1 && typed == text { mistype(text, &letters, 1, random) } else { typed }
}

fn mistype(text: &str, letters: &[usize], count: usize, random: &mut ChaCha8Rng) -> String {
    let mut typed: Vec<char> = text.chars().collect();
    let mut places: Vec<usize> = index::sample(random, letters.len(), count).iter().map(|at| letters[at]).collect();
    places.sort_unstable();
    for at in places.into_iter().rev() {
        match (random.random_range(0..4), neighboring_key(typed[at], random)) {
            (0, _) if at + 1 < typed.len() && typed[at + 1] != typed[at] => typed.swap(at, at + 1),
            (1, _) => drop(typed.remove(at)),
            (2, Some(key)) => typed[at] = key,
            _ => typed.insert(at, typed[at]),
        }
    }
    typed.into_iter().collect()
}

/// The key to the left or right on a QWERTY keyboard, in the same case; None off the keyboard.
fn neighboring_key(letter: char, random: &mut ChaCha8Rng) -> Option<char> {
    let (row, lower) = (random.random_range(0..2usize), letter.to_ascii_lowercase());
    let keys: Vec<char> = KEYBOARD.iter().find(|keys| keys.contains(lower))?.chars().collect();
    let at = keys.iter().position(|key| *key == lower)?;
    let key = if (row == 0 && at > 0) || at + 1 == keys.len() { keys[at - 1] } else { keys[at + 1] };
    Some(if letter.is_uppercase() { key.to_ascii_uppercase() } else { key })
}

/// The first letter of every word in upper case, the rest as it is.
fn title_case(text: &str) -> String {
    let mut inside = false;
    let mut one = |letter: char| {
        let first = letter.is_alphabetic() && !inside;
        inside = letter.is_alphanumeric() || letter == '\'';
        if first { letter.to_uppercase().collect::<String>() } else { letter.to_string() }
    };
    text.chars().map(&mut one).collect()
}

fn white_space(text: &str, random: &mut ChaCha8Rng) -> String {
    format!("{}{text}{}", pick(&BLANKS, random), pick(&BLANKS, random))
}

fn pick<'a>(all: &[&'a str], random: &mut ChaCha8Rng) -> &'a str {
    all.choose(random).copied().unwrap_or_default()
}
