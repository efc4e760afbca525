//! Ours beside the tokenizers crate: ids and offsets must be the same.

use super::fold::{Fold, Folds, Part, parts};
use super::{Tokenizer, Tokens};
use crate::weights::{Cache, Manifest};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::LazyLock;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::{NormalizedString, Normalizer, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

/// That of the default encoder; fetched at first use like at a first start.
static REAL: LazyLock<Tokenizer> = LazyLock::new(|| {
    let manifest = Manifest::named("all-minilm-l6-v2", None).unwrap();
    let folder = Cache::open(false).unwrap().ensure(&manifest).expect("the default encoder can be fetched");
    Tokenizer::load(&folder).unwrap()
});

/// One of so few entries that most words are cut, and many unknown.
static SMALL: LazyLock<Tokenizer> = LazyLock::new(|| Tokenizer::new(small(&|_| {})).unwrap());

static PROMPTS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let mut prompts = Vec::new();
    let mut open = vec![PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("data/exemplars")];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "jsonl") {
            let lines = std::fs::read_to_string(path).unwrap();
            prompts.extend(lines.lines().map(|line| {
                let line: Value = serde_json::from_str(line).unwrap();
                line["prompt"].as_str().unwrap().to_owned()
            }));
        }
    }
    prompts.sort_unstable();
    prompts
});

/// Pieces of text in which a step of the tokenizer has something to do, or must not.
#[rustfmt::skip]
const AWKWARD: &[&str] = &[
    // accents, alone and composed, in and out of order; marks that are kept
    "\u{301}", "\u{323}", "\u{344}", "\u{345}", "é", "e\u{301}", "ế", "ạ\u{302}", "ñ", "Å", "\u{212b}", "ǆ", "й", "ё",
    "ά", "\u{f73}", "\u{f71}\u{f72}", "\u{f81}", "\u{302e}", "\u{1b44}", "\u{a9c0}", "\u{1d15f}", "\u{1d160}",
    "\u{1d165}", "\u{20dd}", "\u{903}", "\u{94d}", "ো", "க்ஷௌ", "\u{1e94a}", "\u{8d3}", "\u{1dfa}",
    // letters whose lower case is special
    "İ", "ı", "ß", "ẞ", "Σ", "ΑΣ", "ς", "ﬁ", "K", "Ω", "Ⅷ", "Ⓐ", "𝐀", "𐐀", "Ꭰ", "ꭰ", "Ა",
    // scripts
    "日本", "豈", "\u{2f800}", "㐀", "𠀀", "\u{2b820}", "\u{2ebf0}", "한국", "\u{1112}\u{1161}", "ｶﾞ", "が", "ไทย", "ﷺ", "שׁ",
    // left out, and spaces
    "\0", "\u{1}", "\u{7f}", "\u{85}", "\u{ad}", "\u{200b}", "\u{200d}", "\u{feff}", "\u{fffd}", "\u{e000}",
    "\u{10ffff}", "\u{378}", " ", "\t", "\r\n", "\u{b}", "\u{a0}", "\u{2003}", "\u{2028}", "\u{3000}", "\u{180e}",
    // punctuation, signs, emoji
    "#", "##", "¿", "—", "…", "\u{37e}", "≠", "$", "👩\u{200d}👧\u{fe0f}", "🦀",
    // special tokens
    "[SEP]", "[MASK]", "[sep]",
];

fn small(change: &dyn Fn(&mut Value)) -> tokenizers::Tokenizer {
    let entries =
        "[PAD] [UNK] [CLS] [SEP] [MASK] a b c d e f g ab abc the é и й 日 ᄒ ##ᅡ # ##a ##b ##bc ##cd ##e ##и . , ! $ ß";
    let vocabulary: Value = entries.split(' ').zip(0..).map(|(entry, id)| (entry.to_owned(), json!(id))).collect();
    let special = |id: u32, content: &str| {
        json!({"id": id, "content": content, "special": true, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false})
    };
    let piece = |id: &str| json!({"SpecialToken": {"id": id, "type_id": 0}});
    let mut file = json!({
        "version": "1.0",
        "added_tokens": [special(0, "[PAD]"), special(1, "[UNK]"), special(2, "[CLS]"), special(3, "[SEP]"), special(4, "[MASK]")],
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null,
            "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "TemplateProcessing",
            "single": [piece("[CLS]"), {"Sequence": {"id": "A", "type_id": 0}}, piece("[SEP]")],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [2], "tokens": ["[CLS]"]},
                "[SEP]": {"id": "[SEP]", "ids": [3], "tokens": ["[SEP]"]}}},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 10, "vocab": vocabulary},
    });
    change(&mut file);
    file.to_string().parse().unwrap()
}

/// Panics where the two differ.
fn compare(tokenizer: &Tokenizer, text: &str) {
    assert_eq!(tokenizer.encode(text).unwrap(), tokenizer.encode_generally(text).unwrap(), "{text:?}");
}

fn awkward() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => select(AWKWARD).prop_map(str::to_owned),
        1 => any::<char>().prop_map(String::from),
        1 => proptest::char::range('\u{80}', '\u{30ff}').prop_map(String::from),
        1 => "[A-Za-z]{1,4}",
        1 => "[ab]{9,12}|[a-cé]{98,102}",
    ]
}

#[test]
fn every_character_becomes_what_tokenizers_makes_of_it() {
    let normalizer = BertNormalizer::new(true, true, None, true);
    let folds = Folds::new();
    // Past these planes, all is unassigned or for private use; the first of that is among them.
    for character in ('\0'..'\u{34000}').chain('\u{e0000}'..'\u{f1000}') {
        let mut normalized = NormalizedString::from(character.to_string());
        normalizer.normalize(&mut normalized).unwrap();
        let mut split = PreTokenizedString::from(normalized);
        BertPreTokenizer.pre_tokenize(&mut split).unwrap();
        let wanted: Vec<_> = split.get_splits(OffsetReferential::Original, OffsetType::Byte);
        let wanted: Vec<&str> = wanted.into_iter().map(|(word, _, _)| word).collect();
        let mut words = vec![String::new()];
        let mut read = |part| match part {
            Part::Letter(letter) => words.last_mut().unwrap().push(letter),
            Part::Alone(letter) => words.extend([letter.to_string(), String::new()]),
            Part::Space => words.push(String::new()),
        };
        match folds.of(character) {
            Fold::Nothing => {}
            Fold::One(part) => read(part),
            Fold::Several => parts(character, read),
            Fold::Moving => continue,
        }
        words.retain(|word| !word.is_empty());
        assert_eq!(words, wanted, "{character:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_gives_the_same_tokens(text in any::<String>()) {
        compare(&SMALL, &text);
        compare(&REAL, &text);
    }

    #[test]
    fn awkward_text_gives_the_same_tokens(pieces in prop::collection::vec(awkward(), 0..12)) {
        compare(&SMALL, &pieces.concat());
        compare(&REAL, &pieces.concat());
    }

    /// `PROPTEST_CASES=1000000 cargo test --lib mutated` looks closer.
    #[test]
    fn mutated_prompts_give_the_same_tokens(
        prompt in any::<Index>(),
        changes in prop::collection::vec((any::<Index>(), 0..4_usize, prop::option::of(awkward())), 0..8),
    ) {
        let mut chars: Vec<char> = prompt.get(&PROMPTS).chars().take(400).collect();
        for (place, removed, added) in changes {
            let from = place.index(chars.len() + 1);
            let to = chars.len().min(from + removed);
            chars.splice(from..to, added.unwrap_or_default().chars());
        }
        compare(&REAL, &chars.into_iter().collect::<String>());
    }
}

#[test]
fn all_exemplars_give_the_same_tokens() {
    assert!(REAL.fast.is_some() && PROMPTS.len() > 1_000);
    PROMPTS.iter().for_each(|prompt| compare(&REAL, prompt));
}

#[test]
fn special_tokens_and_moving_marks_in_a_text_are_left_to_the_crate() {
    let fast = SMALL.fast.as_ref().unwrap();
    assert!(["a [sep] b", "[ SEP ]", "é\u{323}"].iter().all(|text| fast.encode(text).is_some()));
    for text in ["a [SEP] b", "x[MASK]", "a\u{302e}\u{301}", "\u{1d15f}"] {
        assert!(fast.encode(text).is_none(), "{text:?}");
        compare(&SMALL, text);
    }
    assert_eq!(SMALL.encode("a[MASK]").unwrap().ids, [2, 5, 4, 3]);
}

#[test]
fn another_tokenizer_is_left_to_the_crate() {
    let is_ours = |change: &dyn Fn(&mut Value)| Tokenizer::new(small(change)).unwrap().fast.is_some();
    assert!(is_ours(&|_| {}));
    assert!(is_ours(&|file| file["normalizer"]["strip_accents"] = json!(true)));
    assert!(!is_ours(&|file| file["normalizer"]["strip_accents"] = json!(false)));
    assert!(!is_ours(&|file| file["normalizer"]["lowercase"] = json!(false)));
    assert!(!is_ours(&|file| file["normalizer"]["clean_text"] = json!(false)));
    assert!(!is_ours(&|file| file["normalizer"]["handle_chinese_chars"] = json!(false)));
    assert!(!is_ours(&|file| file["normalizer"] = json!({"type": "Lowercase"})));
    assert!(!is_ours(&|file| file["pre_tokenizer"] = json!({"type": "Whitespace"})));
    assert!(!is_ours(&|file| file["post_processor"] = json!(null)));
    assert!(!is_ours(&|file| file["post_processor"]["single"][2] = json!({"Sequence": {"id": "A", "type_id": 0}})));
    assert!(!is_ours(&|file| file["post_processor"]["special_tokens"]["[SEP]"] = json!({
        "id": "[SEP]", "ids": [3, 3], "tokens": ["[SEP]", "[SEP]"]
    })));
    assert!(!is_ours(&|file| file["added_tokens"][4]["normalized"] = json!(true)));
    assert!(!is_ours(&|file| file["model"]["unk_token"] = json!("<unk>")));
    assert!(!is_ours(&|file| file["model"]["continuing_subword_prefix"] = json!("@@")));
}

#[test]
fn of_many_tokens_both_ends_are_kept() {
    let kept = |limit| {
        let mut tokens = Tokens::default();
        (0..9).for_each(|id| tokens.push(id, (id as usize, id as usize + 1)));
        tokens.keep_ends(limit);
        assert!(tokens.ids.iter().zip(&tokens.offsets).all(|(id, (start, _))| *id as usize == *start));
        tokens.ids
    };
    assert_eq!(kept(9), [0, 1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(kept(8), [0, 1, 2, 3, 5, 6, 7, 8]);
    assert_eq!(kept(3), [0, 7, 8]);
}

/// `cargo test --lib tokens::tests::speed -- --ignored --nocapture`
#[test]
#[ignore = "measures"]
fn speed() {
    let median = |run: &dyn Fn()| {
        let mut times: Vec<_> = (0..2_001)
            .map(|_| {
                let start = std::time::Instant::now();
                run();
                start.elapsed()
            })
            .collect();
        times.sort_unstable();
        times[1_000]
    };
    let english = "Please write a short function in Rust which merges two sorted lists, and explain its complexity; \
        the interviewer wouldn't accept unwraps. ";
    let russian = "Напишите, пожалуйста, короткую функцию на Rust, которая сливает два отсортированных списка. ";
    let chinese = "请用Rust写一个合并两个有序列表的简短函数，并解释它的复杂度。";
    for (language, text) in [("English", english), ("Russian", russian), ("Chinese", chinese)] {
        for length in [8, 32, 128, 256] {
            let mut text = text.repeat(40);
            while REAL.encode(&text).unwrap().ids.len() > length {
                text.pop();
            }
            let (ours, theirs) = (median(&|| drop(REAL.encode(&text))), median(&|| drop(REAL.encode_generally(&text))));
            println!(
                "{language}, {length:3} tokens, {:4} bytes: ours {ours:9.2?}, the crate {theirs:9.2?}",
                text.len()
            );
        }
    }
    let start = std::time::Instant::now();
    let fast = super::WordPiece::of(&REAL.general);
    println!("made in {:.1?}", start.elapsed());
    drop(fast);
}
