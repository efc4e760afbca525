//! A whole decision as it is served, `RoutingModel::read`: embedding, head, index and join of a prompt of about 32 tokens,
//! beside the embedding of the same prompt alone.

use crate::encoder;
use crate::exemplars::routing_model;
use divan::{Bencher, bench};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant};
use waypost::classifier::exemplar;
use waypost::embedder::Encoder;

const EXEMPLARS: [usize; 3] = [1_000, 10_000, 100_000];
const TOKENS: RangeInclusive<usize> = 30..=34;

static ENCODER: LazyLock<Encoder> = LazyLock::new(|| encoder(crate::config("").embedder.precision));

/// Held-out prompts of so many tokens: on random words no early exit would be sure of anything.
static PROMPTS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/exemplars/heldout");
    let read = exemplar::read(&[folder], &[]).expect("the held-out prompts can be read");
    let tokens = |prompt: &str| ENCODER.embed(prompt).expect("a prompt can be embedded").1.tokens;
    read.into_iter().map(|exemplar| exemplar.prompt).filter(|prompt| TOKENS.contains(&tokens(prompt))).collect()
});

/// Time of the decisions, and of the embeddings of the same prompts alone, by whether exits were on and the number of
/// exemplars.
static SPENT: Mutex<BTreeMap<(bool, usize), [Duration; 2]>> = Mutex::new(BTreeMap::new());

#[bench(args = EXEMPLARS, sample_count = 500, sample_size = 1)]
fn exits_off(bencher: Bencher, exemplars: usize) {
    decide(bencher, exemplars, false);
}

#[bench(args = EXEMPLARS, sample_count = 500, sample_size = 1)]
fn exits_on(bencher: Bencher, exemplars: usize) {
    decide(bencher, exemplars, true);
}

/// Every sample is another prompt; before each the same prompt is embedded alone, so that a noisy machine disturbs both.
fn decide(bencher: Bencher, exemplars: usize, exits: bool) {
    let model = routing_model(exemplars);
    let mut prompts = PROMPTS.iter().cycle();
    let mut spent = [Duration::ZERO; 2];
    let embed_next = || {
        let prompt = prompts.next().expect("there are held-out prompts");
        let start = Instant::now();
        divan::black_box(ENCODER.embed(prompt).expect("a prompt can be embedded"));
        (prompt, start.elapsed())
    };
    let decided = |(prompt, embedding): (&String, Duration)| {
        let start = Instant::now();
        let read = model.read(&ENCODER, prompt, exits).expect("a prompt can be read");
        spent[0] += start.elapsed();
        spent[1] += embedding;
        read
    };
    bencher.with_inputs(embed_next).bench_local_values(decided);
    SPENT.lock().expect("no bench panicked").insert((exits, exemplars), spent);
}

/// What a decision takes as a multiple of the embedding alone, of the sums over all prompts.
pub fn print_ratios() {
    let spent = SPENT.lock().expect("no bench panicked");
    for ((exits, exemplars), [decision, embedding]) in spent.iter() {
        let (exits, ratio) = (if *exits { "on" } else { "off" }, decision.as_secs_f64() / embedding.as_secs_f64());
        println!("a decision among {exemplars:6} exemplars, early exits {exits:3}: {ratio:.2} x the embedding alone");
    }
}
