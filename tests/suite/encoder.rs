//! The real encoder: known similarities, pooling over the right tokens, bounded cost, one thread behind a queue.

use crate::harness::ENCODER;
use std::time::Instant;
use waypost::chat::ChatRequest;
use waypost::embedder::{Encoder, window};

#[test]
fn paraphrases_are_nearer_than_strangers_and_vectors_have_unit_length() {
    let encoder = Encoder::load(ENCODER.clone()).unwrap();
    let embed = |text: &str| encoder.embed(text).unwrap().0.whole().clone();
    let (cat, kitten, bond) = (
        embed("A cat sleeps on the sofa."),
        embed("A kitten is napping on the couch."),
        embed("Bond yields rose after the auction."),
    );
    assert!(cat.similarity(kitten.as_slice()) > cat.similarity(bond.as_slice()) + 0.3);
    assert_eq!(cat.as_slice().len(), 384);
    assert!((cat.similarity(cat.as_slice()) - 1.0).abs() < 1e-5);
}

/// The views of the first and the last sentence at five sixths of the layers; the whole stands before them.
const ENDS: [usize; 2] = [6, 7];

#[test]
fn the_forward_pass_is_that_of_candles_own_model() {
    use candle_core::{DType, Device, Tensor};
    use candle_transformers::models::bert::{BertModel, Config};
    let folder = &ENCODER.folder;
    let config: Config = serde_json::from_slice(&std::fs::read(folder.join("config.json")).unwrap()).unwrap();
    let weights = std::fs::read(folder.join("model.safetensors")).unwrap();
    let weights = candle_nn::VarBuilder::from_buffered_safetensors(weights, DType::F32, &Device::Cpu).unwrap();
    let oracle = BertModel::load(weights, &config).unwrap();
    let tokenizer = tokenizers::Tokenizer::from_file(folder.join("tokenizer.json")).unwrap();
    let encoder = Encoder::load(ENCODER.clone()).unwrap();
    for text in ["hello", "Write a function in Rust that merges two sorted lists.", &"a long text ".repeat(60)] {
        let mut tokenizer = tokenizer.clone();
        let ids = tokenizer.with_padding(None).with_truncation(None).unwrap().encode(text, true).unwrap();
        let ids = Tensor::new(ids.get_ids(), &Device::Cpu).unwrap().unsqueeze(0).unwrap();
        let tokens = oracle.forward(&ids, &ids.zeros_like().unwrap(), None).unwrap();
        let mean: Vec<f32> = tokens.mean(1).unwrap().squeeze(0).unwrap().to_vec1().unwrap();
        let wanted = waypost::embedder::Embedding::new(mean).unwrap();
        let found = encoder.embed(text).unwrap().0;
        assert!(found.whole().similarity(wanted.as_slice()) > 0.99999, "{text:.20}");
    }
}

#[test]
fn the_views_differ_where_the_text_has_several_sentences() {
    let encoder = Encoder::load(ENCODER.clone()).unwrap();
    let (one, _) = encoder.embed("Only one sentence stands here").unwrap();
    let [first, last] = ENDS;
    assert!(one.all()[first].similarity(one.all()[last].as_slice()) > 0.9999);
    let (two, _) = encoder
        .embed("Translate the text below into German. The harvest was poor this year because of the drought.")
        .unwrap();
    assert!(two.all()[first].similarity(two.all()[last].as_slice()) < 0.95);
    let (german, _) = encoder.embed("Translate this into German").unwrap();
    let whole = &german.all()[first - 1];
    assert!(whole.similarity(two.all()[first].as_slice()) > whole.similarity(two.all()[last].as_slice()));
}

#[test]
fn five_megabytes_cost_what_the_window_costs() {
    let encoder = Encoder::load(ENCODER.clone()).unwrap();
    let time = |bytes: usize| {
        let request = ChatRequest::from_prompt(&"lorem ipsum dolor sit amet ".repeat(bytes / 27)).unwrap();
        let start = Instant::now();
        let text = window(&request, 2_048);
        let (views, _) = encoder.embed(&text).unwrap();
        assert_eq!(views.whole().as_slice().len(), 384);
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
        assert_eq!(encoder.embed(text).unwrap().0.whole().as_slice().len(), 384, "{text:?}");
    }
}

#[test]
fn coarser_weights_stay_near_the_exact_ones() {
    use waypost::embedder::Precision;
    let encoder = |precision| Encoder::load(waypost::embedder::EncoderSpec { precision, ..ENCODER.clone() }).unwrap();
    let exact = encoder(Precision::F32);
    for (precision, least) in [(Precision::Bf16, 0.9999), (Precision::Int8, 0.997)] {
        let coarse = encoder(precision);
        for text in [
            "hello",
            "Write a function in Rust that merges two sorted lists.",
            "日本語のテキスト。",
            &"so ".repeat(300),
        ] {
            let (exact, coarse) = (exact.embed(text).unwrap().0, coarse.embed(text).unwrap().0);
            for (exact, coarse) in exact.all().iter().zip(coarse.all()) {
                let cosine = exact.similarity(coarse.as_slice());
                assert!(cosine > least, "{precision:?}, {text:.20}: {cosine}");
            }
        }
    }
}
