//! Trains the hidden layer: mini-batches, dropout on its inputs, AdamW (Loshchilov and Hutter, 2019,
//! <https://arxiv.org/abs/1711.05101>).
//!
//! By hand, not on candle's graph: an input left out costs nothing, sums run in one order whatever the machine has of
//! threads and vectors, and folds can be trained side by side. The formulas are [`Head::forward`]'s.
//!
//! [`Head::forward`]: crate::classifier::head::Head::forward

use crate::classifier::head::{Teaching, add_scaled};
use rand::{Rng, RngExt};
use rand_chacha::ChaCha8Rng;

/// AdamW's usual constants.
const MEAN_DECAY: f32 = 0.9;
const SQUARE_DECAY: f32 = 0.999;
const TINY: f32 = 1e-8;

/// Added to a squared length before its root is divided by.
const LENGTH_FLOOR: f32 = 1e-12;

/// The hidden layer and its output while they are trained.
pub struct Hidden {
    teaching: Teaching,
    /// Shape: inputs, width.
    dense: Parameter,
    /// Shape: width.
    bias: Parameter,
    /// Shape: width, classes.
    output: Parameter,
    /// Shape: classes.
    output_bias: Parameter,
    steps: i32,
    /// For each input the rows of the batch that keep it, with its scaled value. Emptied and filled each step.
    kept: Vec<Vec<(u32, f32)>>,
}

/// The trained weights, with the shapes of [`Hidden`].
pub struct Trained {
    pub dense: Vec<f32>,
    pub bias: Vec<f32>,
    pub output: Vec<f32>,
    pub output_bias: Vec<f32>,
}

/// What one step is taken on.
pub struct Batch<'a> {
    /// Shape: rows, inputs; centred and scaled.
    pub inputs: &'a [f32],
    /// Shape: rows, classes: what each should come near; NaN where nothing is known.
    pub targets: &'a [f32],
}

/// How a step is taken.
pub struct Pace {
    pub rate: f32,
    pub weight_decay: f32,
    /// Share of the inputs left out.
    pub dropout: f32,
}

/// A tensor, and AdamW's running means of its gradient and of the gradient's square.
struct Parameter {
    values: Vec<f32>,
    mean: Vec<f32>,
    square: Vec<f32>,
}

impl Hidden {
    /// A layer to be trained. Outcomes start from the classes' means, labels from even odds.
    pub fn start(inputs: usize, width: usize, teaching: Teaching, means: &[f32], random: &mut ChaCha8Rng) -> Self {
        let odds = |mean: &f32| {
            let share = mean.clamp(0.02, 0.98);
            (share / (1.0 - share)).ln()
        };
        let (spread, start) = match teaching {
            Teaching::Labels => (1.0, vec![0.0; means.len()]),
            Teaching::Outcomes => (0.3, means.iter().map(odds).collect()),
        };
        Hidden {
            teaching,
            dense: Parameter::of(normal(random, inputs * width, (1.0 / inputs as f32).sqrt())),
            bias: Parameter::of(vec![0.0; width]),
            output: Parameter::of(normal(random, width * means.len(), spread)),
            output_bias: Parameter::of(start),
            steps: 0,
            kept: vec![Vec::new(); inputs],
        }
    }

    /// One step down the batch's mean loss.
    pub fn step(&mut self, batch: &Batch<'_>, pace: &Pace, random: &mut ChaCha8Rng) {
        let (width, classes) = (self.bias.values.len(), self.output_bias.values.len());
        let rows = batch.targets.len() / classes;
        self.keep(batch.inputs, pace.dropout, random);

        // Forward: places of unit length on the positive side, and a logit a class.
        let mut places = self.bias.values.repeat(rows);
        for (kept, weights) in self.kept.iter().zip(self.dense.values.chunks_exact(width)) {
            for (row, x) in kept {
                add_scaled(&mut places[*row as usize * width..][..width], weights, *x);
            }
        }
        let mut slopes = Vec::with_capacity(rows * classes);
        let mut lengths = Vec::with_capacity(rows);
        for (place, targets) in places.chunks_exact_mut(width).zip(batch.targets.chunks_exact(classes)) {
            place.iter_mut().for_each(|x| *x = x.max(0.0));
            let length = (place.iter().map(|x| x * x).sum::<f32>() + LENGTH_FLOOR).sqrt();
            place.iter_mut().for_each(|x| *x /= length);
            lengths.push(length);
            let mut logits = self.output_bias.values.clone();
            for (x, weights) in place.iter().zip(self.output.values.chunks_exact(classes)) {
                add_scaled(&mut logits, weights, *x);
            }
            slopes.extend(slope(self.teaching, &logits, targets).into_iter().map(|slope| slope / rows as f32));
        }

        // Backward, from the slopes of the loss by each logit.
        let mut output = vec![0.0; width * classes];
        let mut output_bias = vec![0.0; classes];
        let mut bias = vec![0.0; width];
        for ((place, slopes), length) in places.chunks_exact_mut(width).zip(slopes.chunks_exact(classes)).zip(lengths) {
            add_scaled(&mut output_bias, slopes, 1.0);
            for (x, sums) in place.iter().zip(output.chunks_exact_mut(classes)) {
                add_scaled(sums, slopes, *x);
            }
            let weighed = |weights: &[f32]| weights.iter().zip(slopes).map(|(a, b)| a * b).sum::<f32>();
            let back: Vec<f32> = self.output.values.chunks_exact(classes).map(weighed).collect();
            let along: f32 = place.iter().zip(&back).map(|(a, b)| a * b).sum();
            for (x, back) in place.iter_mut().zip(back) {
                *x = if *x > 0.0 { (back - *x * along) / length } else { 0.0 };
            }
            add_scaled(&mut bias, place, 1.0);
        }

        self.steps += 1;
        let change = Change::of(pace, self.steps);
        let mut gradient = vec![0.0; width];
        for (input, kept) in self.kept.iter().enumerate() {
            gradient.fill(0.0);
            for (row, x) in kept {
                add_scaled(&mut gradient, &places[*row as usize * width..][..width], *x);
            }
            self.dense.step(input * width, &gradient, &change);
        }
        self.bias.step(0, &bias, &change);
        self.output.step(0, &output, &change);
        self.output_bias.step(0, &output_bias, &change);
    }

    /// Draws which inputs of which rows take part; what is left is scaled up for what is not.
    fn keep(&mut self, inputs: &[f32], dropout: f32, random: &mut ChaCha8Rng) {
        let (width, left) = (self.kept.len(), ((1.0 - dropout) * 256.0).round().clamp(1.0, 256.0));
        let (limit, scale) = (left as u16, 256.0 / left);
        let mut draws = vec![0u8; width];
        self.kept.iter_mut().for_each(Vec::clear);
        for (row, values) in inputs.chunks_exact(width).enumerate() {
            random.fill_bytes(&mut draws);
            for ((kept, x), draw) in self.kept.iter_mut().zip(values).zip(&draws) {
                if u16::from(*draw) < limit {
                    kept.push((row as u32, x * scale));
                }
            }
        }
    }

    /// The weights as they are now.
    pub fn trained(self) -> Trained {
        Trained {
            dense: self.dense.values,
            bias: self.bias.values,
            output: self.output.values,
            output_bias: self.output_bias.values,
        }
    }
}

/// Slope of a prompt's loss by each logit: cross-entropy of the softmax for labels, binary cross-entropy of each class
/// that is known for outcomes.
fn slope(teaching: Teaching, logits: &[f32], targets: &[f32]) -> Vec<f32> {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f32 = logits.iter().map(|x| (x - highest).exp()).sum();
    let each = |(logit, target): (&f32, &f32)| match teaching {
        Teaching::Labels => (logit - highest).exp() / sum - target,
        Teaching::Outcomes if target.is_nan() => 0.0,
        Teaching::Outcomes => 1.0 / (1.0 + (-logit).exp()) - target,
    };
    logits.iter().zip(targets).map(each).collect()
}

/// The numbers of one AdamW step.
struct Change {
    rate: f32,
    shrink: f32,
    mean_scale: f32,
    square_scale: f32,
}

impl Change {
    fn of(pace: &Pace, steps: i32) -> Self {
        Change {
            rate: pace.rate,
            shrink: 1.0 - pace.rate * pace.weight_decay,
            mean_scale: 1.0 / (1.0 - MEAN_DECAY.powi(steps)),
            square_scale: 1.0 / (1.0 - SQUARE_DECAY.powi(steps)),
        }
    }
}

impl Parameter {
    fn of(values: Vec<f32>) -> Self {
        let zeros = vec![0.0; values.len()];
        Parameter { values, mean: zeros.clone(), square: zeros }
    }

    /// Moves the values from position `at` on against their gradient.
    fn step(&mut self, at: usize, gradient: &[f32], change: &Change) {
        let place = at..at + gradient.len();
        let state = self.mean[place.clone()].iter_mut().zip(&mut self.square[place.clone()]);
        for ((value, (mean, square)), slope) in self.values[place].iter_mut().zip(state).zip(gradient) {
            *mean = MEAN_DECAY * *mean + (1.0 - MEAN_DECAY) * slope;
            *square = SQUARE_DECAY * *square + (1.0 - SQUARE_DECAY) * slope * slope;
            let by = *mean * change.mean_scale / ((*square * change.square_scale).sqrt() + TINY);
            *value = *value * change.shrink - change.rate * by;
        }
    }
}

/// Normally distributed numbers (Box-Muller).
pub fn normal(random: &mut ChaCha8Rng, count: usize, deviation: f32) -> Vec<f32> {
    let mut draw = || {
        let (a, b): (f32, f32) = (1.0 - random.random::<f32>(), random.random());
        deviation * (-2.0 * a.ln()).sqrt() * (std::f32::consts::TAU * b).cos()
    };
    (0..count).map(|_| draw()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{D, DType, Device, Tensor, Var};
    use candle_nn::{AdamW, Optimizer, ParamsAdamW, ops};
    use rand::SeedableRng;

    const ROWS: usize = 7;
    const INPUTS: usize = 11;
    const WIDTH: usize = 6;
    const CLASSES: usize = 3;

    /// The same steps on candle's graph.
    fn by_candle(start: &Hidden, batch: &Batch<'_>, pace: &Pace, steps: usize) -> Vec<Vec<f32>> {
        let var = |values: &[f32], shape: (usize, usize)| Var::from_slice(values, shape, &Device::Cpu).unwrap();
        let dense = var(&start.dense.values, (INPUTS, WIDTH));
        let bias = var(&start.bias.values, (1, WIDTH));
        let output = var(&start.output.values, (WIDTH, CLASSES));
        let output_bias = var(&start.output_bias.values, (1, CLASSES));
        let all = vec![dense.clone(), bias.clone(), output.clone(), output_bias.clone()];
        let settings =
            ParamsAdamW { lr: pace.rate.into(), weight_decay: pace.weight_decay.into(), ..ParamsAdamW::default() };
        let mut optimiser = AdamW::new(all.clone(), settings).unwrap();
        let inputs = Tensor::from_slice(batch.inputs, (ROWS, INPUTS), &Device::Cpu).unwrap();
        let targets: Vec<f32> = batch.targets.iter().map(|x| if x.is_nan() { 0.0 } else { *x }).collect();
        let targets = Tensor::from_vec(targets, (ROWS, CLASSES), &Device::Cpu).unwrap();
        let known: Vec<f32> = batch.targets.iter().map(|x| if x.is_nan() { 0.0 } else { 1.0 }).collect();
        let known = Tensor::from_vec(known, (ROWS, CLASSES), &Device::Cpu).unwrap();
        for _ in 0..steps {
            let hidden = inputs.matmul(&dense).unwrap().broadcast_add(&bias).unwrap().relu().unwrap();
            let length = (hidden.sqr().unwrap().sum_keepdim(D::Minus1).unwrap() + 1e-12).unwrap().sqrt().unwrap();
            let places = hidden.broadcast_div(&length).unwrap();
            let logits = places.matmul(&output).unwrap().broadcast_add(&output_bias).unwrap();
            let each = match start.teaching {
                Teaching::Labels => (ops::log_softmax(&logits, D::Minus1).unwrap() * &targets).unwrap().neg().unwrap(),
                Teaching::Outcomes => {
                    let tail = (logits.abs().unwrap().neg().unwrap().exp().unwrap() + 1.0).unwrap().log().unwrap();
                    let whole = ((logits.relu().unwrap() - (&logits * &targets).unwrap()).unwrap() + tail).unwrap();
                    (whole * &known).unwrap()
                }
            };
            optimiser.backward_step(&(each.sum_all().unwrap() / ROWS as f64).unwrap()).unwrap();
        }
        all.iter().map(|var| var.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap()).collect()
    }

    #[test]
    fn steps_are_those_of_candles_graph() {
        for teaching in [Teaching::Labels, Teaching::Outcomes] {
            let mut random = ChaCha8Rng::seed_from_u64(5);
            let inputs = normal(&mut random, ROWS * INPUTS, 1.0);
            let mut targets: Vec<f32> = (0..ROWS)
                .flat_map(|row| (0..CLASSES).map(move |class| f32::from(u8::from(class == row % CLASSES))))
                .map(|x| 0.9 * x + 0.1 / CLASSES as f32)
                .collect();
            if teaching == Teaching::Outcomes {
                targets[4] = f32::NAN;
            }
            let batch = Batch { inputs: &inputs, targets: &targets };
            let pace = Pace { rate: 0.01, weight_decay: 0.1, dropout: 0.0 };
            let mut ours = Hidden::start(INPUTS, WIDTH, teaching, &[0.2, 0.5, 0.3], &mut random);
            let theirs = by_candle(&ours, &batch, &pace, 20);
            (0..20).for_each(|_| ours.step(&batch, &pace, &mut random));
            let ours = ours.trained();
            for (ours, theirs) in [ours.dense, ours.bias, ours.output, ours.output_bias].iter().zip(&theirs) {
                assert_eq!(ours.len(), theirs.len());
                for (ours, theirs) in ours.iter().zip(theirs) {
                    assert!((ours - theirs).abs() < 2e-4, "{ours} for {theirs}, {teaching:?}");
                }
            }
        }
    }

    #[test]
    fn dropout_leaves_out_its_share_and_keeps_the_mean() {
        let mut random = ChaCha8Rng::seed_from_u64(6);
        let mut hidden = Hidden::start(1_000, 1, Teaching::Labels, &[0.5, 0.5], &mut random);
        hidden.keep(&vec![1.0; 50_000], 0.7, &mut random);
        let kept: Vec<f32> = hidden.kept.iter().flatten().map(|(_, x)| *x).collect();
        assert!((kept.len() as f32 / 50_000.0 - 0.3).abs() < 0.01);
        assert!((kept.iter().sum::<f32>() / 50_000.0 - 1.0).abs() < 0.03);
    }
}
