//! The baseline of nearest neighbors: a prompt is answered as well as the training prompts most like it were.

use super::baselines::mean_scores;
use super::table::Table;
use crate::classifier::index::dot;
use crate::training::parallel::in_order;

/// Threads at most: the machine has other work.
const THREADS: usize = 2;

/// Mean score of each model over the k most similar training rows, for each k: `[k][row][name]`. A model that none of
/// them saw gets its mean over all training rows.
///
/// Embeddings have length 1, so that their dot product is the cosine. An exact scan, once for all k; of equally
/// similar rows the first counts.
pub fn nearest(
    training: &Table,
    training_embeddings: &[Vec<f32>],
    embeddings: &[Vec<f32>],
    counts: &[usize],
) -> Vec<Vec<Vec<f64>>> {
    let overall = mean_scores(training);
    let widest = counts.iter().copied().max().unwrap_or(0);
    let one = |embedding: &Vec<f32>| {
        let rows = most_similar(training_embeddings, embedding, widest);
        let mean = |count: &usize| mean_of(training, &rows[..rows.len().min(*count)], &overall);
        counts.iter().map(mean).collect::<Vec<Vec<f64>>>()
    };
    let by_row = in_order(embeddings, THREADS, one).expect("a thread only panics on a bug");
    (0..counts.len()).map(|at| by_row.iter().map(|estimates| estimates[at].clone()).collect()).collect()
}

/// Positions of the most similar embeddings, best first.
fn most_similar(all: &[Vec<f32>], one: &[f32], count: usize) -> Vec<usize> {
    let mut found: Vec<(f32, usize)> = all.iter().enumerate().map(|(at, other)| (dot(one, other), at)).collect();
    let order = |a: &(f32, usize), b: &(f32, usize)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
    if count < found.len() {
        found.select_nth_unstable_by(count, order);
        found.truncate(count);
    }
    found.sort_unstable_by(order);
    found.into_iter().map(|(_, at)| at).collect()
}

fn mean_of(training: &Table, rows: &[usize], overall: &[f64]) -> Vec<f64> {
    let mean = |(name, overall): (usize, &f64)| {
        let scores: Vec<f64> =
            rows.iter().filter_map(|row| training.answer(*row, name)).map(|answer| answer.score).collect();
        if scores.is_empty() { *overall } else { scores.iter().sum::<f64>() / scores.len() as f64 }
    };
    overall.iter().enumerate().map(mean).collect()
}
