//! The real encoder: known similarities, pooling over the right tokens, bounded cost, one thread behind a queue.

use crate::harness::ENCODER;
use std::time::Instant;
use waypost::chat::ChatRequest;
use waypost::embedder::{Encoder, window};

#[test]
fn paraphrases_are_nearer_than_strangers_and_vectors_have_unit_length() {
    let encoder = Encoder::load(ENCODER.clone()).unwrap();
    let embed = |text: &str| encoder.embed(text).unwrap().0.whole;
    let (cat, kitten, bond) = (
        embed("A cat sleeps on the sofa."),
        embed("A kitten is napping on the couch."),
        embed("Bond yields rose after the auction."),
    );
    assert!(cat.similarity(kitten.as_slice()) > cat.similarity(bond.as_slice()) + 0.3);
    assert_eq!(cat.as_slice().len(), 384);
    assert!((cat.similarity(cat.as_slice()) - 1.0).abs() < 1e-5);
}

#[test]
fn the_views_differ_where_the_text_has_several_sentences() {
    let encoder = Encoder::load(ENCODER.clone()).unwrap();
    let (one, _) = encoder.embed("Only one sentence stands here").unwrap();
    assert!(one.first.similarity(one.last.as_slice()) > 0.9999);
    let (two, _) = encoder
        .embed("Translate the text below into German. The harvest was poor this year because of the drought.")
        .unwrap();
    assert!(two.first.similarity(two.last.as_slice()) < 0.9);
    let (german, _) = encoder.embed("Translate this into German").unwrap();
    assert!(german.whole.similarity(two.first.as_slice()) > german.whole.similarity(two.last.as_slice()));
}

#[test]
fn five_megabytes_cost_what_the_window_costs() {
    let encoder = Encoder::load(ENCODER.clone()).unwrap();
    let time = |bytes: usize| {
        let request = ChatRequest::from_prompt(&"lorem ipsum dolor sit amet ".repeat(bytes / 27)).unwrap();
        let start = Instant::now();
        let text = window(&request, 2_048);
        let (views, _) = encoder.embed(&text).unwrap();
        assert_eq!(views.whole.as_slice().len(), 384);
        start.elapsed()
    };
    time(2_100);
    let median = |bytes| {
        let mut times: Vec<_> = (0..5).map(|_| time(bytes)).collect();
        times.sort();
        times[2]
    };
    let (small, large) = (median(2_100), median(5_000_000));
    assert!(large < 3 * small, "{large:?} against {small:?}");
}

#[test]
fn an_empty_text_and_odd_scripts_are_embedded() {
    let encoder = Encoder::load(ENCODER.clone()).unwrap();
    for text in ["", " ", "\u{0}", "日本語のテキスト。", "🦀🦀🦀", "‏مرحبا بالعالم", &"a".repeat(5_000)]
    {
        assert_eq!(encoder.embed(text).unwrap().0.first.as_slice().len(), 384, "{text:?}");
    }
}
