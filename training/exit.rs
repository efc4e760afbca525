//! Fits the early exits: a small net on the views of the encoder's lower layers, and the confidence from which on it
//! decides. Both are judged on prompts of sources that neither the net nor the whole road had seen.

use super::fit::{Standard, train_hidden};
use super::recipe::Recipe;
use super::report::likeliest;
use super::{Lesson, Task, parallel};
use crate::classifier::exit::{Net, READS, Rule, highest, inputs};
use crate::classifier::head::softmax;
use crate::config::cores;
use crate::error::Result;
use indicatif::ProgressBar;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// Fewer prompts than these say too little about a confidence.
const LEAST: usize = 50;

/// Sharpness is looked for between the fourth root of e to the minus 8th and to the 8th power.
const SHARPNESS: std::ops::RangeInclusive<i32> = -8..=8;

/// The exits worth having. `folds` gives each row's fold, `whole` the estimate of the whole road, which did not see it.
///
/// # Errors
/// As [`super::fit::fit`].
pub fn fit(
    lesson: &Lesson<'_>,
    task: &Task<'_>,
    folds: &[usize],
    whole: &[Vec<f64>],
    progress: &ProgressBar,
) -> Result<Vec<(Rule, Net)>> {
    progress.set_message("early exits");
    let all: Vec<usize> = (0..folds.len()).collect();
    let count = folds.iter().max().map_or(0, |last| last + 1);
    let mut waiting = all.clone();
    // Of each row the sum of the logits so far, of nets that did not see it.
    let mut said: Vec<Vec<f32>> = vec![Vec::new(); all.len()];
    let mut exits = Vec::new();
    for views in READS {
        // The last fold is none: that net is trained on all, and kept.
        let nets = parallel::in_order(&(0..=count).collect::<Vec<_>>(), cores(), |fold| {
            let inside: Vec<usize> = all.iter().copied().filter(|row| folds[*row] != *fold).collect();
            net(lesson, task, &inside, views, progress)
        })?;
        let mut nets = nets.into_iter().collect::<Result<Vec<_>>>()?;
        let with = |row: &usize| {
            let (net, mut said): (&Net, _) = (&nets[folds[*row]], said[*row].clone());
            net.add_logits(net.sums(&inputs(lesson.inputs(*row), views)), &mut said);
            said
        };
        let with: Vec<Vec<f32>> = all.iter().map(with).collect();
        let judged: Vec<Judged> = waiting
            .iter()
            .map(|row| Judged {
                logits: with[*row].clone(),
                known: likeliest(lesson.known(*row)),
                whole: likeliest(&whole[*row]),
            })
            .collect();
        let Some((mut rule, taken)) = rule(&judged, views, task.recipe) else { continue };
        said = with;
        rule.share = taken.iter().filter(|taken| **taken).count() as f64 / all.len() as f64;
        waiting = waiting.into_iter().zip(taken).filter(|(_, taken)| !taken).map(|(row, _)| row).collect();
        exits.push((rule, nets.pop().expect("the last is there")));
    }
    Ok(exits)
}

/// A prompt that an exit is judged on: the logits with its own, the right class, and the whole road's.
struct Judged {
    logits: Vec<f32>,
    known: usize,
    whole: usize,
}

/// The lowest confidence from which on an exit loses no more than `exit_loss` of its decisions to the whole road, with its
/// doubt times `exit_doubt`, as prompts to come are less like those learned from than these are; and which prompts it then
/// takes. None where it takes too few. The share is left to the caller.
fn rule(judged: &[Judged], views: usize, recipe: &Recipe) -> Option<(Rule, Vec<bool>)> {
    let sharpness = SHARPNESS.map(|step| (f64::from(step) / 4.0).exp());
    let surprise = |sharpness: f64| -> f64 {
        let of = |one: &Judged| {
            let logits: Vec<f64> = one.logits.iter().map(|logit| sharpness * f64::from(*logit)).collect();
            -softmax(&logits)[one.known].max(f64::MIN_POSITIVE).ln()
        };
        judged.iter().map(of).sum()
    };
    let sharpness = sharpness.min_by(|a, b| surprise(*a).total_cmp(&surprise(*b)))?;
    let mut rule = Rule { views, sharpness, confidence: 1.0, share: 0.0, agreement: 1.0 };
    let shares: Vec<Vec<f64>> = judged.iter().map(|one| rule.shares(&one.logits)).collect();
    let mut order: Vec<usize> = (0..judged.len()).collect();
    order.sort_by(|a, b| highest(&shares[*b]).total_cmp(&highest(&shares[*a])));
    let (mut lost, mut allowed) = (0i64, None);
    for (at, row) in order.iter().enumerate() {
        let (one, said) = (&judged[*row], likeliest(&shares[*row]));
        lost += i64::from(one.whole == one.known) - i64::from(said == one.known);
        if at + 1 >= LEAST && lost as f64 <= recipe.exit_loss * (at + 1) as f64 {
            allowed = Some(highest(&shares[*row]));
        }
    }
    rule.confidence = 1.0 - recipe.exit_doubt * (1.0 - allowed?);
    let takes: Vec<bool> = shares.iter().map(|shares| highest(shares) >= rule.confidence).collect();
    let taken = judged.iter().zip(&shares).zip(&takes).filter(|(_, takes)| **takes);
    let agrees: Vec<bool> = taken.map(|((one, shares), _)| likeliest(shares) == one.whole).collect();
    rule.agreement = agrees.iter().filter(|agrees| **agrees).count() as f64 / agrees.len() as f64;
    (!agrees.is_empty()).then_some((rule, takes))
}

/// A net on some rows.
fn net(lesson: &Lesson<'_>, task: &Task<'_>, rows: &[usize], views: usize, progress: &ProgressBar) -> Result<Net> {
    let fitting = task.recipe.fitting(lesson.teaching);
    let means = lesson.means(rows);
    let rows = lesson.with_reworded(rows);
    let standard = Standard::of(lesson, &rows, &fitting.component_views)?;
    let (center, scale) = (inputs(&standard.center, views), inputs(&standard.scale, views));
    let scaled = |batch: &[usize]| {
        let mut all = Vec::with_capacity(batch.len() * center.len());
        for row in batch {
            let row = inputs(lesson.inputs(*row), views);
            all.extend(row.iter().zip(center.iter().zip(&scale)).map(|(x, (center, scale))| (x - center) * scale));
        }
        all
    };
    let (recipe, mut random) = (task.recipe, ChaCha8Rng::seed_from_u64(task.seed));
    let trained = train_hidden(lesson, rows, recipe.exit_hidden, &scaled, recipe, &means, &mut random, progress);
    Ok(Net {
        weights: trained.dense,
        bias: trained.bias,
        output: trained.output,
        output_bias: trained.output_bias,
        center,
        scale,
    })
}
