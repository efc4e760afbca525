//! Fits a head with candle-nn: cross-entropy, AdamW, dropout on every kind of input so that none is relied on alone.

use super::Sample;
use super::recipe::Recipe;
use crate::classifier::head::{Head, ngram_share};
use crate::error::Result;
use candle_core::{D, DType, Device, Tensor, Var};
use candle_nn::{AdamW, Optimizer, ParamsAdamW, ops};
use indicatif::ProgressBar;
use rand::seq::SliceRandom;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The trained tensors, as [`Head`] holds them.
struct Weights {
    dense: Var,
    ngrams: Var,
    bias: Var,
    output: Var,
    output_bias: Var,
}

/// Fits a head on samples of `classes` classes. The same samples, recipe and seed give the same head.
///
/// # Errors
/// [`crate::error::Error::Internal`] when a tensor operation fails.
pub fn fit(samples: &[Sample], classes: usize, recipe: &Recipe, seed: u64, progress: &ProgressBar) -> Result<Head> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let (center, scale) = standardisation(samples);
    let inputs = center.len();
    let weights = Weights {
        dense: normal(&mut random, (inputs, recipe.width), (1.0 / inputs as f32).sqrt())?,
        ngrams: normal(&mut random, (recipe.buckets as usize, recipe.width), 0.05)?,
        bias: Var::zeros(recipe.width, DType::F32, &Device::Cpu)?,
        output: normal(&mut random, (recipe.width, classes), 1.0)?,
        output_bias: Var::zeros(classes, DType::F32, &Device::Cpu)?,
    };
    let variables = vec![
        weights.dense.clone(),
        weights.ngrams.clone(),
        weights.bias.clone(),
        weights.output.clone(),
        weights.output_bias.clone(),
    ];
    let parameters =
        ParamsAdamW { lr: recipe.learning_rate, weight_decay: recipe.weight_decay, ..ParamsAdamW::default() };
    let mut optimiser = AdamW::new(variables, parameters)?;
    let mut order: Vec<usize> = (0..samples.len()).collect();
    let steps = recipe.epochs * order.len().div_ceil(recipe.batch);
    let mut step = 0;
    for _ in 0..recipe.epochs {
        order.shuffle(&mut random);
        for batch in order.chunks(recipe.batch) {
            // Cosine decay to zero: the last steps settle.
            let share = step as f64 / steps as f64;
            optimiser.set_learning_rate(recipe.learning_rate * 0.5 * (1.0 + (std::f64::consts::PI * share).cos()));
            let batch: Vec<&Sample> = batch.iter().map(|index| &samples[*index]).collect();
            let loss = loss(&weights, &batch, &center, &scale, classes, recipe, &mut random)?;
            optimiser.backward_step(&loss)?;
            step += 1;
        }
        progress.inc(1);
    }
    let plain = |variable: &Var| -> Result<Vec<f32>> { Ok(variable.flatten_all()?.to_vec1()?) };
    Ok(Head {
        center,
        scale,
        dense: plain(&weights.dense)?,
        ngrams: plain(&weights.ngrams)?,
        bias: plain(&weights.bias)?,
        output: plain(&weights.output)?,
        output_bias: plain(&weights.output_bias)?,
    })
}

/// Mean smoothed cross-entropy of a batch under fresh dropout. The formula of the hidden layer is [`Head::forward`]'s.
fn loss(
    weights: &Weights,
    batch: &[&Sample],
    center: &[f32],
    scale: &[f32],
    classes: usize,
    recipe: &Recipe,
    random: &mut ChaCha8Rng,
) -> Result<Tensor> {
    let (dense, ngrams) = inputs(batch, center, scale, recipe, random)?;
    let hidden =
        (dense.matmul(&weights.dense)? + ngrams.matmul(&weights.ngrams)?)?.broadcast_add(&weights.bias)?.relu()?;
    let norm = (hidden.sqr()?.sum_keepdim(D::Minus1)? + 1e-12)?.sqrt()?;
    let logits = hidden.broadcast_div(&norm)?.matmul(&weights.output)?.broadcast_add(&weights.output_bias)?;
    let likelihood = ops::log_softmax(&logits, D::Minus1)?;
    let spread = recipe.label_smoothing as f32 / classes as f32;
    let targets: Vec<f32> = batch
        .iter()
        .flat_map(|sample| (0..classes).map(move |class| if class == sample.label { 1.0 } else { 0.0 }))
        .map(|hot| hot * (1.0 - recipe.label_smoothing as f32) + spread)
        .collect();
    let targets = Tensor::from_vec(targets, (batch.len(), classes), &Device::Cpu)?;
    Ok((likelihood * targets)?.sum_all()?.affine(-1.0 / batch.len() as f64, 0.0)?)
}

/// A batch's dense and n-gram inputs after dropout.
fn inputs(
    batch: &[&Sample],
    center: &[f32],
    scale: &[f32],
    recipe: &Recipe,
    random: &mut ChaCha8Rng,
) -> Result<(Tensor, Tensor)> {
    let buckets = recipe.buckets as usize;
    let mut dense = Vec::with_capacity(batch.len() * center.len());
    let mut ngrams = vec![0.0f32; batch.len() * buckets];
    for (row, sample) in batch.iter().enumerate() {
        let fate: f64 = random.random();
        let (no_ngrams, no_embedding) = (fate < recipe.view_dropout, fate > 1.0 - recipe.view_dropout);
        let keep = 1.0 - recipe.dense_dropout as f32;
        for (x, (center, scale)) in sample.inputs.dense.iter().zip(center.iter().zip(scale)) {
            let kept = !no_embedding && random.random::<f32>() < keep;
            dense.push(if kept { (x - center) * scale / keep } else { 0.0 });
        }
        let kept: Vec<u32> = sample
            .inputs
            .ngrams
            .iter()
            .copied()
            .filter(|_| !no_ngrams && random.random::<f64>() >= recipe.ngram_dropout)
            .collect();
        let share = ngram_share(kept.len());
        kept.iter().for_each(|bucket| ngrams[row * buckets + *bucket as usize] = share);
    }
    Ok((
        Tensor::from_vec(dense, (batch.len(), center.len()), &Device::Cpu)?,
        Tensor::from_vec(ngrams, (batch.len(), buckets), &Device::Cpu)?,
    ))
}

/// Mean and inverse deviation of each dense input, so that views and structure weigh alike at the start.
fn standardisation(samples: &[Sample]) -> (Vec<f32>, Vec<f32>) {
    let width = samples.first().map_or(0, |sample| sample.inputs.dense.len());
    let count = samples.len() as f64;
    let column = |index: usize| samples.iter().map(move |sample| f64::from(sample.inputs.dense[index]));
    let spread = |index: usize| {
        let mean = column(index).sum::<f64>() / count;
        let variance = column(index).map(|x| (x - mean).powi(2)).sum::<f64>() / count;
        (mean as f32, (1.0 / variance.sqrt().max(1e-3)) as f32)
    };
    (0..width).map(spread).unzip()
}

/// Normally distributed weights (Box-Muller), from our own seeded generator: candle's cannot be seeded on a CPU.
fn normal(random: &mut impl Rng, shape: (usize, usize), deviation: f32) -> Result<Var> {
    let mut draw = || {
        let (a, b): (f32, f32) = (1.0 - random.random::<f32>(), random.random());
        deviation * (-2.0 * a.ln()).sqrt() * (std::f32::consts::TAU * b).cos()
    };
    let values: Vec<f32> = (0..shape.0 * shape.1).map(|_| draw()).collect();
    Ok(Var::from_tensor(&Tensor::from_vec(values, shape, &Device::Cpu)?)?)
}
