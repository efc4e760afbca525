//! Fits a head: the hidden layer step by step (`hidden.rs`), the principal components by subspace iteration, the kernel
//! estimate in their space in closed form (`kernel.rs`).

use super::Lesson;
use super::hidden::{Batch, Hidden, Pace, Trained, normal};
use super::kernel::{self, Samples};
use super::recipe::{Fitting, Recipe};
use crate::classifier::head::{Head, Kernel, Teaching};
use crate::classifier::structure;
use crate::error::{Error, Result};
use candle_core::{D, Device, Tensor};
use indicatif::ProgressBar;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// Prompts looked at for the principal components.
const COMPONENT_ROWS: usize = 4_000;

/// Rounds of subspace iteration; the spectrum of embeddings falls fast enough for these.
const COMPONENT_ROUNDS: usize = 6;

/// Inputs as the head sees them: centred; for the hidden layer of unit deviation each, for the components each view as
/// a whole, so that directions that hardly vary stay small.
pub struct Standard {
    pub center: Vec<f32>,
    pub scale: Vec<f32>,
    view_scale: Vec<f32>,
}

/// Fits a head on some rows of a lesson. The same rows, recipe and seed give the same head.
///
/// # Errors
/// [`Error::Model`] when the recipe does not fit the inputs; [`Error::Internal`] when a tensor operation fails.
pub fn fit(lesson: &Lesson<'_>, rows: &[usize], recipe: &Recipe, seed: u64, progress: &ProgressBar) -> Result<Head> {
    let fitting = recipe.fitting(lesson.teaching);
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let means = lesson.means(rows);
    let rows = lesson.with_reworded(rows);
    let standard = Standard::of(lesson, &rows, &fitting.component_views)?;
    let components = components(lesson, &rows, &standard, fitting.components, &mut random)?;
    let kernel = fit_kernel(lesson, &rows, &standard, &components, fitting, &means, &mut random)?;
    let scaled = |batch: &[usize]| standard.scaled(lesson, batch, &standard.scale);
    let hidden = train_hidden(lesson, rows, fitting.hidden, &scaled, recipe, &means, &mut random, progress);
    into_head(hidden, lesson.teaching, standard, &components, kernel, fitting)
}

/// Trains a hidden layer of some width on some rows, reworded ones among them; `scaled` gives a batch's inputs.
#[allow(clippy::too_many_arguments)]
pub fn train_hidden(
    lesson: &Lesson<'_>,
    rows: Vec<usize>,
    width: usize,
    scaled: &dyn Fn(&[usize]) -> Vec<f32>,
    recipe: &Recipe,
    means: &[f32],
    random: &mut ChaCha8Rng,
    progress: &ProgressBar,
) -> Trained {
    let fitting = recipe.fitting(lesson.teaching);
    let inputs = scaled(&rows[..1]).len();
    let mut hidden = Hidden::start(inputs, width, lesson.teaching, means, random);
    let epochs = fitting.epochs_for(rows.len(), recipe.min_steps);
    let steps = epochs * rows.len().div_ceil(fitting.batch);
    let mut order = rows;
    let mut step = 0;
    for _ in 0..epochs {
        order.shuffle(random);
        for batch in order.chunks(fitting.batch) {
            // Cosine decay to zero: the last steps settle.
            let pace = 0.5 * (1.0 + (std::f64::consts::PI * step as f64 / steps as f64).cos());
            let pace = Pace {
                rate: (fitting.learning_rate * pace) as f32,
                weight_decay: fitting.weight_decay as f32,
                dropout: fitting.dropout,
            };
            let targets = targets(lesson, batch, fitting.smoothing, means);
            hidden.step(&Batch { inputs: &scaled(batch), targets: &targets }, &pace, random);
            step += 1;
        }
        progress.inc(1);
    }
    hidden.trained()
}

/// The kernel estimate on some rows, landmarks drawn at random among them.
fn fit_kernel(
    lesson: &Lesson<'_>,
    rows: &[usize],
    standard: &Standard,
    components: &Tensor,
    fitting: &Fitting,
    means: &[f32],
    random: &mut ChaCha8Rng,
) -> Result<Kernel> {
    let (inputs, width) = components.dims2()?;
    let mut places = Vec::with_capacity(rows.len() * width);
    for some in rows.chunks(COMPONENT_ROWS) {
        let some = Tensor::from_vec(standard.viewed(lesson, some), (some.len(), inputs), &Device::Cpu)?;
        let some = some.matmul(components)?;
        let length = (some.sqr()?.sum_keepdim(D::Minus1)? + 1e-12)?.sqrt()?;
        places.extend(some.broadcast_div(&length)?.flatten_all()?.to_vec1::<f32>()?);
    }
    let beyond = |row: &usize| {
        let known = lesson.known(*row).iter().zip(means);
        known.map(|(known, mean)| if known.is_nan() { 0.0 } else { known - mean }).collect::<Vec<f32>>()
    };
    let deviations: Vec<f32> = rows.iter().flat_map(beyond).collect();
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.shuffle(random);
    order.truncate(fitting.landmarks);
    let samples = Samples { places: &places, width, deviations: &deviations, means };
    kernel::fit(&samples, &order, fitting.sharpness, fitting.ridge)
}

fn into_head(
    hidden: Trained,
    teaching: Teaching,
    standard: Standard,
    components: &Tensor,
    kernel: Kernel,
    fitting: &Fitting,
) -> Result<Head> {
    let inputs = standard.center.len();
    // The head scales every input for the hidden layer: what the components have otherwise goes into their weights.
    let scales = standard.view_scale.iter().zip(&standard.scale).map(|(view, scale)| view / scale).collect();
    let scales = Tensor::from_vec(scales, (inputs, 1), &Device::Cpu)?;
    let dense = Tensor::from_vec(hidden.dense, (inputs, fitting.hidden), &Device::Cpu)?;
    let columns = Tensor::cat(&[dense, components.broadcast_mul(&scales)?], 1)?;
    Ok(Head {
        teaching,
        center: standard.center,
        scale: standard.scale,
        weights: columns.flatten_all()?.to_vec1()?,
        bias: hidden.bias,
        output: hidden.output,
        output_bias: hidden.output_bias,
        kernel,
        components_share: fitting.components_share,
        exits: Vec::new(),
    })
}

/// What the hidden layer should come near: what is known, smoothed toward even odds of labels, toward the mean of
/// outcomes; NaN where nothing is known.
fn targets(lesson: &Lesson<'_>, batch: &[usize], smoothing: f32, means: &[f32]) -> Vec<f32> {
    let toward = |class: usize| match lesson.teaching {
        Teaching::Labels => 1.0 / means.len() as f32,
        Teaching::Outcomes => means[class],
    };
    let smooth = |(class, value): (usize, &f32)| value * (1.0 - smoothing) + smoothing * toward(class);
    batch.iter().flat_map(|row| lesson.known(*row).iter().enumerate().map(smooth)).collect()
}

impl Standard {
    /// Of some rows.
    ///
    /// # Errors
    /// [`Error::Model`] when the recipe weighs another number of views.
    pub fn of(lesson: &Lesson<'_>, rows: &[usize], view_weights: &[f32]) -> Result<Self> {
        let width = lesson.inputs(rows[0]).len();
        let views = view_weights.len();
        let view_width = width.saturating_sub(structure::WIDTH) / views.max(1);
        if views * view_width + structure::WIDTH != width {
            return Err(Error::Model(format!("the recipe weighs {views} views, but a prompt has {width} inputs")));
        }
        let (mut sums, mut squares) = (vec![0.0f64; width], vec![0.0f64; width]);
        for row in rows {
            for (at, x) in lesson.inputs(*row).iter().enumerate() {
                sums[at] += f64::from(*x);
                squares[at] += f64::from(*x) * f64::from(*x);
            }
        }
        let count = rows.len() as f64;
        let variances: Vec<f64> =
            sums.iter().zip(&squares).map(|(sum, square)| (square / count - (sum / count).powi(2)).max(0.0)).collect();
        let inverse = |variance: f64| (1.0 / variance.sqrt().max(1e-3)) as f32;
        let mut view_scale = vec![0.0; width];
        for (view, weight) in view_weights.iter().enumerate() {
            let place = view * view_width..(view + 1) * view_width;
            let scale = inverse(variances[place.clone()].iter().sum::<f64>() / view_width as f64);
            view_scale[place].fill(weight * scale);
        }
        Ok(Standard {
            center: sums.iter().map(|sum| (sum / count) as f32).collect(),
            scale: variances.into_iter().map(inverse).collect(),
            view_scale,
        })
    }

    /// Inputs of the components.
    fn viewed(&self, lesson: &Lesson<'_>, rows: &[usize]) -> Vec<f32> {
        self.scaled(lesson, rows, &self.view_scale)
    }

    /// Rows beside one another, centred and scaled.
    fn scaled(&self, lesson: &Lesson<'_>, rows: &[usize], scale: &[f32]) -> Vec<f32> {
        let mut all = Vec::with_capacity(rows.len() * self.center.len());
        for row in rows {
            let inputs = lesson.inputs(*row).iter().zip(&self.center).zip(scale);
            all.extend(inputs.map(|((x, center), scale)| (x - center) * scale));
        }
        all
    }
}

/// The directions in which the inputs vary most, `[inputs, count]`, of unit length and at right angles.
fn components(
    lesson: &Lesson<'_>,
    rows: &[usize],
    standard: &Standard,
    count: usize,
    random: &mut ChaCha8Rng,
) -> Result<Tensor> {
    let step = rows.len().div_ceil(COMPONENT_ROWS);
    let some: Vec<usize> = rows.iter().copied().step_by(step).collect();
    let width = standard.center.len();
    let inputs = Tensor::from_vec(standard.viewed(lesson, &some), (some.len(), width), &Device::Cpu)?;
    let turned = inputs.t()?.contiguous()?;
    let mut basis = orthonormal((0..count).map(|_| normal(random, width, 1.0)).collect());
    for _ in 0..COMPONENT_ROUNDS {
        let across = Tensor::from_vec(basis.concat(), (count, width), &Device::Cpu)?.t()?.contiguous()?;
        basis = orthonormal(turned.matmul(&inputs.matmul(&across)?)?.t()?.to_vec2()?);
    }
    Ok(Tensor::from_vec(basis.concat(), (count, width), &Device::Cpu)?.t()?.contiguous()?)
}

/// Gram-Schmidt on rows; a row that depends on those before it becomes zero.
fn orthonormal(mut rows: Vec<Vec<f32>>) -> Vec<Vec<f32>> {
    for at in 0..rows.len() {
        let (before, rest) = rows.split_at_mut(at);
        let row = &mut rest[0];
        let length = |row: &[f32]| row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        let whole = length(row);
        for other in before.iter() {
            let shared: f64 = row.iter().zip(other).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            row.iter_mut().zip(other).for_each(|(a, b)| *a -= (shared * f64::from(*b)) as f32);
        }
        let left = length(row);
        let scale = if left > 1e-5 * whole { 1.0 / left } else { 0.0 };
        row.iter_mut().for_each(|x| *x = (f64::from(*x) * scale) as f32);
    }
    rows
}
