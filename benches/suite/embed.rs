//! One text through tokenizer and encoder, with all its views, in each precision of the weights.

use crate::encoder;
use divan::{Bencher, bench};
use std::sync::LazyLock;
use waypost::embedder::{Encoder, Precision};

/// Tokens, the two special ones included.
const LENGTHS: [usize; 4] = [8, 32, 128, 256];

/// Each is one token of the encoder.
const WORDS: [&str; 8] = ["river", "stone", "paper", "window", "garden", "market", "winter", "summer"];

static F32: LazyLock<Encoder> = LazyLock::new(|| encoder(Precision::F32));
static BF16: LazyLock<Encoder> = LazyLock::new(|| encoder(Precision::Bf16));
static INT8: LazyLock<Encoder> = LazyLock::new(|| encoder(Precision::Int8));

#[bench(args = LENGTHS)]
fn f32(bencher: Bencher, tokens: usize) {
    embed(bencher, &F32, tokens);
}

#[bench(args = LENGTHS)]
fn bf16(bencher: Bencher, tokens: usize) {
    embed(bencher, &BF16, tokens);
}

#[bench(args = LENGTHS)]
fn int8(bencher: Bencher, tokens: usize) {
    embed(bencher, &INT8, tokens);
}

fn embed(bencher: Bencher, encoder: &Encoder, tokens: usize) {
    let words: Vec<&str> = WORDS.iter().copied().cycle().take(tokens - 2).collect();
    let text = words.join(" ");
    let (_, spent) = encoder.embed(&text).expect("the text can be embedded");
    assert_eq!(spent.tokens, tokens, "{text}");
    bencher.bench_local(|| encoder.embed(&text));
}
