//! Every kernel at every level this CPU has, against the same arithmetic written plainly in f64.

use super::attention::Attention;
use super::linear::Linear;
use super::load::Tensor;
use super::model::InputError;
use super::pack::{Bf16Pair, halve, widen};
use super::product::After;
use super::whole::{LARGEST, Places, STEPS, Whole};
use super::{Activation, Architecture, Level, LoadError, Model, Precision, Rounded, Scan, Scratch};
use proptest::prelude::*;
use std::ops::ControlFlow;

const AFTER: [After; 5] = [After::Store, After::Add, After::Gelu, After::GeluTanh, After::Relu];

fn levels() -> impl Iterator<Item = Level> {
    Level::ALL.into_iter().filter(|level| level.is_available()).chain([Level::Wide])
}

/// Numbers of -1..=1 that hang on a seed alone.
fn numbers(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// The error function by Simpson's rule.
fn erf(x: f64) -> f64 {
    let (steps, density) = (2000, |t: f64| (-t * t).exp());
    let width = x / f64::from(steps);
    let inner: f64 = (1..steps).map(|at| (2 + 2 * (at % 2)) as f64 * density(width * f64::from(at))).sum();
    (density(0.0) + inner + density(x)) * width / 3.0 * 2.0 / std::f64::consts::PI.sqrt()
}

fn activate(x: f64, after: After) -> f64 {
    match after {
        After::Store | After::Add => x,
        After::Gelu => 0.5 * x * (1.0 + erf((x / std::f64::consts::SQRT_2).clamp(-6.0, 6.0))),
        After::GeluTanh => 0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x)).tanh()),
        After::Relu => x.max(0.0),
    }
}

/// A layer's outputs, and how much the terms of each amount to.
fn product(inputs: &[f32], weights: &[f32], bias: &[f32], before: &[f32], after: After) -> Vec<(f64, f64)> {
    let depth = weights.len() / bias.len();
    let output = |row: &[f32], column: usize, before: f32| {
        let terms = || row.iter().zip(&weights[column * depth..]).map(|(x, w)| f64::from(*x) * f64::from(*w));
        let before = if after == After::Add { f64::from(before) } else { 0.0 };
        let sum = terms().sum::<f64>() + f64::from(bias[column]) + before;
        (activate(sum, after), terms().map(f64::abs).sum::<f64>() + sum.abs() + f64::from(bias[column]).abs())
    };
    let columns = bias.len();
    inputs
        .chunks_exact(depth)
        .zip(before.chunks_exact(columns))
        .flat_map(|(row, before)| (0..columns).map(move |column| (row, column, before[column])))
        .map(|(row, column, before)| output(row, column, before))
        .collect()
}

fn normalised(row: &[f64], gain: &[f32], shift: &[f32], epsilon: f64) -> Vec<f64> {
    let mean = row.iter().sum::<f64>() / row.len() as f64;
    let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / row.len() as f64;
    let place = |at: usize| (row[at] - mean) / (variance + epsilon).sqrt() * f64::from(gain[at]) + f64::from(shift[at]);
    (0..row.len()).map(place).collect()
}

/// `[tokens, width]` of queries, keys and values side by side.
fn attended(projected: &[f64], tokens: usize, heads: usize) -> Vec<f64> {
    let width = projected.len() / tokens / 3;
    let size = width / heads;
    let part =
        |token: usize, which: usize, head: usize| &projected[token * 3 * width + which * width + head * size..][..size];
    let mut outputs = vec![0.0; tokens * width];
    for (head, token) in (0..heads).flat_map(|head| (0..tokens).map(move |token| (head, token))) {
        let score = |key: usize| {
            let dot: f64 = part(token, 0, head).iter().zip(part(key, 1, head)).map(|(q, k)| q * k).sum();
            dot / (size as f64).sqrt()
        };
        let scores: Vec<f64> = (0..tokens).map(score).collect();
        let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = scores.iter().map(|score| (score - largest).exp()).sum();
        for (key, score) in scores.iter().enumerate() {
            let weight = (score - largest).exp() / sum;
            let output = &mut outputs[token * width + head * size..][..size];
            output.iter_mut().zip(part(key, 2, head)).for_each(|(output, value)| *output += weight * value);
        }
    }
    outputs
}

fn attend(level: Level, halved: bool, projected: &[f32], tokens: usize, heads: usize) -> Vec<f32> {
    let width = projected.len() / tokens / 3;
    let padded = Attention::padded(tokens);
    let mut outputs = vec![0.0; tokens * width];
    // NaN where nothing has been written shows what is read all the same.
    let mut buffers = [padded * width / heads, padded * width / heads, padded * 6].map(|length| vec![f32::NAN; length]);
    let [keys, values, scores] = &mut buffers;
    // Of NaN as well.
    let halves = &mut vec![u32::MAX; Attention::halves(tokens, width)];
    let attention = Attention { tokens, heads, projected, outputs: &mut outputs, keys, values, scores, halves };
    let kernels = level.kernels();
    // SAFETY: the level is available, and the slices are as long as `Attention` says.
    unsafe { (if halved { kernels.attend_halves } else { kernels.attend })(attention) };
    outputs
}

fn normalise(level: Level, rows: &mut [f32], gain: &[f32], shift: &[f32], epsilon: f32) {
    // SAFETY: the level is available, and all lengths are multiples of 32.
    unsafe { (level.kernels().normalise)(rows, gain, shift, epsilon) };
}

fn close(left: f64, right: f64, tolerance: f64) -> Result<(), TestCaseError> {
    prop_assert!((left - right).abs() <= tolerance, "{left} is not {right}, to {tolerance}");
    Ok(())
}

fn cosine(left: &[f64], right: &[f64]) -> f64 {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
    dot(left, right) / (dot(left, left) * dot(right, right)).sqrt()
}

/// Numbers that arithmetic goes wrong with.
fn extreme() -> impl Strategy<Value = f32> {
    prop_oneof![
        Just(0.0),
        Just(-0.0),
        Just(1e-42),
        Just(f32::MIN_POSITIVE),
        Just(3e38),
        Just(-3e38),
        Just(f32::NAN),
        Just(f32::INFINITY),
        Just(f32::NEG_INFINITY),
        -1.0_f32..1.0,
    ]
}

/// Cases and rows: fewer where an interpreter looks for undefined behaviour
/// (`RUSTFLAGS="-C target-feature=+avx512f,+avx512bw,+avx512vnni" cargo +nightly miri test`).
const CASES: u32 = if cfg!(miri) { 2 } else { 64 };
const ROWS: usize = if cfg!(miri) { 13 } else { 70 };
const UNITS: usize = if cfg!(miri) { 3 } else { 6 };

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(CASES) })]

    #[test]
    fn linear_layers_multiply(rows in 1..=ROWS, depth in 1..=UNITS, columns in 1..=UNITS, seed: u64, after in 0_usize..5) {
        let (depth, columns, after) = (32 * depth, 32 * columns, AFTER[after]);
        let (inputs, weights) = (numbers(seed, rows * depth), numbers(seed ^ 1, depth * columns));
        let (bias, before) = (numbers(seed ^ 2, columns), numbers(seed ^ 3, rows * columns));
        let expected = product(&inputs, &weights, &bias, &before, after);
        for (level, (precision, error)) in levels().flat_map(|level| {
            // In units of what the terms amount to: of f32 the order of summing, of bfloat16 its bits; of whole numbers the
            // halves of the steps of inputs and weights, which are up to 2/127 and 1/127 of the largest.
            [(Precision::F32, 2e-6), (Precision::Bf16, 4e-3), (Precision::Int8, 5e-2)].map(|precision| (level, precision))
        }) {
            let layer = Linear::new(level, precision, &weights, &bias, &vec![1.0; depth]);
            let mut outputs = before.clone();
            layer.forward(&inputs, &mut outputs, after, &mut Rounded::default());
            for (output, (expected, amount)) in outputs.iter().zip(&expected) {
                close(f64::from(*output), *expected, error * amount + 1e-6)?;
            }
        }
    }

    #[test]
    fn whole_numbers_are_exact_and_the_same_at_every_level(rows in 8..=ROWS, depth in 1..=UNITS, columns in 1..=UNITS, seed: u64, outlier in 0.0_f32..50.0) {
        let (depth, columns) = (32 * depth, 32 * columns);
        let (mut inputs, weights, bias) = (numbers(seed, rows * depth), numbers(seed ^ 1, depth * columns), numbers(seed ^ 2, columns));
        let mut ranges = vec![1.0; depth];
        ranges[seed as usize % depth] = outlier.max(1.0);
        inputs.chunks_exact_mut(depth).for_each(|row| row[seed as usize % depth] *= outlier);
        for level in levels() {
            let layer = Linear::new(level, Precision::Int8, &weights, &bias, &ranges);
            let mut outputs = vec![0.0; rows * columns];
            layer.forward(&inputs, &mut outputs, After::Store, &mut Rounded::default());
            prop_assert_eq!(&outputs, &whole_product(&inputs, &weights, &bias, &ranges), "{:?}", level);
        }
    }

    /// Near enough that the most similar ones are among the few that are then compared exactly.
    #[test]
    fn scanned_similarities_are_near(count in 0_usize..=100, units in 1..=UNITS, seed: u64) {
        let width = units * 32;
        let unit = |seed: u64| {
            let row = numbers(seed, width);
            let length = row.iter().map(|x| x * x).sum::<f32>().sqrt();
            row.into_iter().map(|x| x / length).collect::<Vec<f32>>()
        };
        let vectors: Vec<f32> = (0..count).flat_map(|at| unit(seed.wrapping_add(7 * at as u64 + 1))).collect();
        let query = unit(seed ^ 0x55);
        let mut found = vec![9.0; 3];
        Scan::new(&vectors, width).similarities(&query, &mut Rounded::default(), &mut found);
        prop_assert_eq!(found.len(), count);
        for (found, vector) in found.iter().zip(vectors.chunks_exact(width)) {
            close(f64::from(*found), vector.iter().zip(&query).map(|(a, b)| f64::from(a * b)).sum(), 0.02)?;
        }
    }

    #[test]
    fn further_places_add_up_to_their_input(seed: u64, outlier in 1.0_f32..60.0) {
        let (weights, mut inputs) = (numbers(seed, 64 * 32), numbers(seed ^ 1, 64));
        let mut ranges = vec![1.0; 64];
        (ranges[5], inputs[5]) = (outlier, inputs[5] * outlier);
        let whole = Whole::new(Level::Portable.panels(), &weights, &ranges, Places::further(64));
        let (numbers, scale, zero) = rounded_row(&whole, &inputs, 64);
        for (input, value) in inputs.iter().enumerate() {
            let is_of = |place: usize| if place < 64 { place == input } else { whole.places.further[place - 64] == input };
            let places = (0..numbers.len()).filter(|place| is_of(*place));
            let (mut sum, mut factor) = (0, 0.0);
            for place in places {
                sum += numbers[place] - zero;
                factor += whole.places.factors[place];
            }
            close(f64::from(sum) * f64::from(scale), f64::from(value * factor), f64::from(scale) * 0.51 + 1e-5)?;
        }
    }

    #[test]
    fn nothing_breaks_on_extreme_values(rows in 1_usize..=20, values in prop::collection::vec(extreme(), 64), after in 0_usize..5) {
        let inputs: Vec<f32> = values.iter().copied().cycle().take(rows * 64).collect();
        let projected: Vec<f32> = values.iter().copied().cycle().take(rows * 3 * 64).collect();
        let (weights, bias) = (numbers(1, 64 * 32), numbers(2, 32));
        for level in levels() {
            for precision in [Precision::F32, Precision::Bf16, Precision::Int8] {
                let mut outputs = vec![0.0; rows * 32];
                Linear::new(level, precision, &weights, &bias, &[1.0; 64]).forward(&inputs, &mut outputs, AFTER[after], &mut Rounded::default());
                let usual = inputs.iter().all(|x| x.abs() <= 1.0);
                prop_assert!(!usual || outputs.iter().all(|x| x.is_finite()));
            }
            attend(level, false, &projected, rows, 2);
            attend(level, true, &projected, rows, 2);
            normalise(level, &mut inputs.clone(), &[1.0; 64], &[0.0; 64], 1e-12);
        }
    }

    #[test]
    fn rows_are_normalised(rows in 0_usize..=10, width in 1_usize..=20, seed: u64, scale in 1e-3_f32..1e3) {
        let width = 32 * width;
        let states: Vec<f32> = numbers(seed, rows * width).iter().map(|x| x * scale).collect();
        let (gain, shift) = (numbers(seed ^ 1, width), numbers(seed ^ 2, width));
        for level in levels() {
            let mut outputs = states.clone();
            normalise(level, &mut outputs, &gain, &shift, 1e-12);
            for (row, output) in states.chunks_exact(width).zip(outputs.chunks_exact(width)) {
                let row: Vec<f64> = row.iter().map(|x| f64::from(*x)).collect();
                for (output, expected) in output.iter().zip(normalised(&row, &gain, &shift, 1e-12)) {
                    close(f64::from(*output), expected, 1e-5)?;
                }
            }
        }
    }

    #[test]
    fn heads_attend(tokens in 1..=ROWS, heads in 1_usize..=3, size in 1_usize..=2, seed: u64, sharpness in 0.1_f32..8.0) {
        let width = heads * size * 32;
        let projected: Vec<f32> = numbers(seed, tokens * 3 * width).iter().map(|x| x * sharpness).collect();
        let exact: Vec<f64> = projected.iter().map(|x| f64::from(*x)).collect();
        let mut halves = vec![0; projected.len()];
        halve(&projected, &mut halves);
        let rounded: Vec<f64> = halves.into_iter().map(|half| f64::from(widen(half))).collect();
        // Of bfloat16 it is the softmax's nine bits that remain.
        for (halved, exact, error) in [(false, exact, 1e-5), (true, rounded, 4e-3)] {
            let expected = attended(&exact, tokens, heads);
            for level in levels() {
                for (output, expected) in attend(level, halved, &projected, tokens, heads).iter().zip(&expected) {
                    close(f64::from(*output), *expected, error * f64::from(sharpness) * f64::from(sharpness.max(1.0)))?;
                }
            }
        }
    }

    #[test]
    fn pairs_of_bfloat16_are_near(first in -100.0_f32..100.0, second in -100.0_f32..100.0, tiny: bool) {
        let (first, second) = if tiny { (first * 1e-20, second * 1e-20) } else { (first, second) };
        for (kept, weight) in Bf16Pair::round(first, second).widen().into_iter().zip([first, second]) {
            close(f64::from(kept), f64::from(weight), f64::from(weight.abs()) / 256.0 + 1.2e-38)?;
        }
    }
}

/// A row as whole numbers of 0..=127, what one is worth, and which is zero: as `whole::round` does it.
fn rounded_row(whole: &Whole, input: &[f32], depth: usize) -> (Vec<i32>, f32, i32) {
    let places = &whole.places;
    let of = |place: usize| if place < depth { place } else { places.further[place - depth] };
    let scaled: Vec<f32> = (0..places.count()).map(|place| input[of(place)] * places.factors[place]).collect();
    let lowest = scaled.iter().copied().fold(0.0, f32::min);
    let span = scaled.iter().copied().fold(0.0, f32::max) - lowest;
    let inverse = STEPS / span;
    let zero = (-lowest * inverse + 0.5).round_ties_even();
    let number =
        |place: usize| (scaled[place] * inverse + (places.offsets[place] + zero)).clamp(0.0, LARGEST).round_ties_even();
    ((0..places.count()).map(|place| number(place) as i32).collect(), span / STEPS, zero as i32)
}

fn whole_product(inputs: &[f32], weights: &[f32], bias: &[f32], ranges: &[f32]) -> Vec<f32> {
    let depth = ranges.len();
    let panels = Level::Portable.panels();
    let whole = Whole::new(panels, weights, ranges, Places::further(depth));
    let (count, width) = (whole.places.count(), panels.width());
    let weight = |column: usize, place: usize| {
        let at = column / width * width * count / 4 + place / 4 * width + column % width;
        i64::from(whole.weights[at].0[place % 4])
    };
    let mut outputs = Vec::new();
    for row in inputs.chunks_exact(depth) {
        let (numbers, scale, zero) = rounded_row(&whole, row, depth);
        for (column, bias) in bias.iter().enumerate() {
            let term = |place: usize| i64::from(numbers[place] - zero) * weight(column, place);
            let sum: i64 = (0..count).map(term).sum();
            outputs.push(sum as f32 * (scale * whole.columns[column]) + bias);
        }
    }
    outputs
}

const SMALL: Architecture =
    Architecture { width: 64, heads: 2, inner: 96, layers: 2, epsilon: 1e-12, activation: Activation::Gelu };
const VOCABULARY: usize = 50;

/// Tensors that hang on their names alone.
fn tensor(name: &str) -> Option<Tensor> {
    let Architecture { width, inner, .. } = SMALL;
    let shape = match name.rsplit_once('.')? {
        (_, "bias") if name.contains("intermediate") => vec![inner],
        (_, "bias") => vec![width],
        (module, _) if module.ends_with("LayerNorm") => vec![width],
        (module, _) if module.ends_with("word_embeddings") => vec![VOCABULARY, width],
        (module, _) if module.ends_with("position_embeddings") => vec![80, width],
        (module, _) if module.ends_with("type_embeddings") => vec![2, width],
        (module, _) if module.ends_with("intermediate.dense") => vec![inner, width],
        (module, _) if module.contains("attention") => vec![width, width],
        _ => vec![width, inner],
    };
    let seed = name.bytes().fold(7, |seed: u64, byte| seed.wrapping_mul(31).wrapping_add(u64::from(byte)));
    let spread = if shape.len() == 2 { 0.3 } else { 0.1 };
    let middle = if name.ends_with("LayerNorm.weight") { 1.0 } else { 0.0 };
    let values = numbers(seed, shape.iter().product()).iter().map(|x| middle + x * spread).collect();
    Some((shape, values))
}

/// States after the embedding and every layer.
fn naive(ids: &[u32]) -> Vec<Vec<f64>> {
    let Architecture { width, heads, layers, .. } = SMALL;
    let values = |name: &str| tensor(name).expect("all names have a tensor").1;
    let norm = |state: &[f64], name: &str| -> Vec<f64> {
        let (gain, shift) = (values(&format!("{name}.weight")), values(&format!("{name}.bias")));
        state.chunks_exact(width).flat_map(|row| normalised(row, &gain, &shift, 1e-12)).collect()
    };
    let linear = |state: &[f64], name: &str| -> Vec<f64> {
        let (weights, bias) = (values(&format!("{name}.weight")), values(&format!("{name}.bias")));
        let depth = weights.len() / bias.len();
        let output = |row: &[f64], column: usize| {
            let terms = row.iter().zip(&weights[column * depth..]).map(|(x, w)| x * f64::from(*w));
            terms.sum::<f64>() + f64::from(bias[column])
        };
        state
            .chunks_exact(depth)
            .flat_map(|row| (0..bias.len()).map(|column| output(row, column)).collect::<Vec<_>>())
            .collect()
    };
    let add = |left: &[f64], right: &[f64]| -> Vec<f64> { left.iter().zip(right).map(|(a, b)| a + b).collect() };
    let (words, positions) =
        (values("embeddings.word_embeddings.weight"), values("embeddings.position_embeddings.weight"));
    let types = values("embeddings.token_type_embeddings.weight");
    let embedded = |(position, id): (usize, &u32)| -> Vec<f64> {
        let at =
            |place: usize| words[*id as usize * width + place] + positions[position * width + place] + types[place];
        (0..width).map(|place| f64::from(at(place))).collect()
    };
    let sum: Vec<f64> = ids.iter().enumerate().flat_map(embedded).collect();
    let mut states = vec![norm(&sum, "embeddings.LayerNorm")];
    for layer in 0..layers {
        let below = |part: &str| format!("encoder.layer.{layer}.{part}");
        let state = &states[layer];
        let parts = ["query", "key", "value"].map(|part| linear(state, &below(&format!("attention.self.{part}"))));
        let row = |token: usize| parts.iter().flat_map(move |part| part[token * width..][..width].to_vec());
        let projected: Vec<f64> = (0..ids.len()).flat_map(row).collect();
        let attended = linear(&attended(&projected, ids.len(), heads), &below("attention.output.dense"));
        let attended = norm(&add(&attended, state), &below("attention.output.LayerNorm"));
        let inner: Vec<f64> =
            linear(&attended, &below("intermediate.dense")).iter().map(|x| activate(*x, After::Gelu)).collect();
        let output = add(&linear(&inner, &below("output.dense")), &attended);
        states.push(norm(&output, &below("output.LayerNorm")));
    }
    states
}

fn states(model: &Model, ids: &[u32], scratch: &mut Scratch, deepest: usize) -> Vec<Vec<f64>> {
    let mut states = Vec::new();
    let visited = model.forward(ids, scratch, deepest, |layer, state| {
        assert_eq!(layer, states.len());
        states.push(state.iter().map(|x| f64::from(*x)).collect());
        ControlFlow::Continue(())
    });
    visited.expect("the model knows the ids");
    states
}

#[test]
fn a_model_is_what_it_is_written_plainly() {
    let lengths = [1, 2, 7, 8, 9, 33, 70, 5].into_iter().filter(|tokens| !cfg!(miri) || *tokens == 9);
    let texts = lengths.map(|tokens| (0..tokens).map(|place| place * 7 % VOCABULARY as u32).collect());
    let texts: Vec<(Vec<u32>, _)> = texts.map(|ids: Vec<u32>| (ids.clone(), naive(&ids))).collect();
    for level in levels() {
        for (precision, least) in [(Precision::F32, 0.999_999_9), (Precision::Bf16, 0.9999), (Precision::Int8, 0.998)] {
            let model = Model::load(level, precision, SMALL, tensor).expect("all tensors are there");
            let mut scratch = Scratch::default();
            for (ids, expected) in &texts {
                let states = states(&model, ids, &mut scratch, 9);
                assert_eq!(states.len(), expected.len());
                for (state, expected) in states.iter().zip(expected) {
                    let (tokens, cosine) = (ids.len(), cosine(state, expected));
                    assert!(cosine >= least, "{level:?} {precision:?} {tokens} tokens: cosine {cosine}");
                }
            }
        }
    }
}

/// So that a test of `levels()` is one of the best: of a CPU that it emulates, `tests/run` says which that is.
#[test]
fn the_best_level_is_found() {
    let level = Level::detect();
    assert!(level >= if cfg!(target_arch = "aarch64") { Level::Neon } else { Level::Portable });
    if let Ok(expected) = std::env::var("EXPECTED_LEVEL") {
        assert_eq!(format!("{level:?}"), expected);
    }
}

/// Vectors that are to come out alike on every ARM machine are made at either.
#[cfg(target_arch = "aarch64")]
#[test]
fn the_levels_of_neon_agree_to_the_bit() {
    let ids: Vec<u32> = (0..33).map(|place| place * 7 % VOCABULARY as u32).collect();
    for precision in [Precision::F32, Precision::Bf16, Precision::Int8] {
        let encode = |level: Level| {
            let model = Model::load(level, precision, SMALL, tensor).expect("all tensors are there");
            states(&model, &ids, &mut Scratch::default(), 9)
        };
        assert_eq!(encode(Level::Neon), encode(Level::detect().min(Level::Avx2)), "{precision:?}");
    }
}

#[test]
fn a_forward_pass_stops_where_it_is_told() {
    let model = Model::load(Level::detect(), Precision::F32, SMALL, tensor).expect("all tensors are there");
    let mut scratch = Scratch::default();
    assert_eq!(states(&model, &[1, 2, 3], &mut scratch, 1).len(), 2);
    assert_eq!(states(&model, &[1, 2, 3], &mut scratch, 0).len(), 1);
    let mut visited = 0;
    let stop = |_: usize, _: &[f32]| {
        visited += 1;
        ControlFlow::Break(())
    };
    model.forward(&[1, 2, 3], &mut scratch, 2, stop).expect("the model knows the ids");
    assert_eq!(visited, 1);
}

#[test]
fn ids_are_checked() {
    let model = Model::load(Level::detect(), Precision::F32, SMALL, tensor).expect("all tensors are there");
    let forward = |ids: &[u32]| model.forward(ids, &mut Scratch::default(), 2, |_, _| ControlFlow::Continue(()));
    assert_eq!(forward(&[]), Err(InputError::Empty));
    assert_eq!(forward(&[1; 81]), Err(InputError::TooLong { tokens: 81, positions: 80 }));
    assert_eq!(forward(&[1, 50]), Err(InputError::UnknownToken { id: 50, vocabulary: 50 }));
    assert_eq!(forward(&[1; 80]), Ok(()));
}

#[test]
fn a_model_that_is_not_whole_is_refused() {
    let load = |architecture: Architecture, tensor: &dyn Fn(&str) -> Option<Tensor>| {
        Model::load(Level::detect(), Precision::F32, architecture, tensor).err().map(|error| error.to_string())
    };
    let prefixed = |name: &str| tensor(name.strip_prefix("bert.")?);
    assert_eq!(load(SMALL, &prefixed), None);
    let missing = |name: &str| tensor(name).filter(|_| !name.contains("layer.1.output.dense.bias"));
    assert_eq!(load(SMALL, &missing), Some("there is no tensor encoder.layer.1.output.dense.bias".to_owned()));
    let infinite = |name: &str| tensor(name).map(|(shape, values)| (shape, vec![f32::INFINITY; values.len()]));
    assert!(load(SMALL, &infinite).is_some_and(|error| error.contains("not finite")));
    let cut = |name: &str| tensor(name).map(|(shape, mut values)| (shape, values.split_off(1)));
    assert!(load(SMALL, &cut).is_some_and(|error| error.contains("expected")));
    assert!(load(Architecture { inner: 128, ..SMALL }, &tensor).is_some_and(|error| error.contains("intermediate")));
    for (architecture, named) in [
        (Architecture { heads: 3, ..SMALL }, "heads"),
        (Architecture { heads: 0, ..SMALL }, "heads"),
        (Architecture { width: 40, ..SMALL }, "widths"),
        (Architecture { inner: 8192, ..SMALL }, "widths"),
        (Architecture { epsilon: f32::NAN, ..SMALL }, "epsilon"),
    ] {
        let error = load(architecture, &tensor).expect("it is refused");
        assert!(error.contains(named), "{error}");
        assert!(matches!(architecture.check(), Err(LoadError::Unsupported(_))));
    }
}

#[test]
#[should_panic(expected = "outputs: want 2 rows of 32")]
fn a_slice_of_the_wrong_length_is_refused() {
    let layer = Linear::new(Level::Portable, Precision::F32, &[0.0; 32 * 32], &[0.0; 32], &[1.0; 32]);
    layer.forward(&[0.0; 64], &mut [0.0; 63], After::Store, &mut Rounded::default());
}

#[test]
fn activations_are_near() {
    let identity: Vec<f32> = (0..32 * 32).map(|at| if at / 32 == at % 32 { 1.0 } else { 0.0 }).collect();
    let inputs: Vec<f32> = (0..32 * 64).map(|at| (at as f32 - 1024.0) / 100.0).collect();
    for (level, after) in
        levels().flat_map(|level| [After::Gelu, After::GeluTanh, After::Relu].map(|after| (level, after)))
    {
        let layer = Linear::new(level, Precision::F32, &identity, &[0.0; 32], &[1.0; 32]);
        let mut outputs = vec![0.0; inputs.len()];
        layer.forward(&inputs, &mut outputs, after, &mut Rounded::default());
        for (input, output) in inputs.iter().zip(&outputs) {
            let expected = activate(f64::from(*input), after);
            assert!(
                (f64::from(*output) - expected).abs() <= 3e-7 * expected.abs() + 1e-6,
                "{after:?} of {input}: {output}"
            );
        }
    }
}

#[test]
fn the_larger_of_nan_and_a_number_is_the_second() {
    for level in levels() {
        let layer = Linear::new(level, Precision::F32, &[1.0; 32 * 32], &[0.0; 32], &[1.0; 32]);
        let mut outputs = [1.0; 32];
        layer.forward(&[f32::NAN; 32], &mut outputs, After::Relu, &mut Rounded::default());
        assert_eq!(outputs, [0.0; 32], "{level:?}");
    }
}

#[test]
fn scratch_does_not_grow_again() {
    let model = Model::load(Level::detect(), Precision::Int8, SMALL, tensor).expect("all tensors are there");
    let mut scratch = Scratch::default();
    // A few tokens take another road than many.
    states(&model, &[3; Linear::FEW_ROWS], &mut scratch, 2);
    let longest = states(&model, &[3; 70], &mut scratch, 2);
    let size = scratch.bytes();
    for tokens in [1, 33, 70] {
        states(&model, &vec![3; tokens], &mut scratch, 2);
    }
    assert_eq!(scratch.bytes(), size);
    assert_eq!(longest, states(&model, &[3; 70], &mut scratch, 2), "nothing is left over from other texts");
}
