//! Fits the kernel estimate: ridge regression in the space of the principal components with the kernel
//! `exp(sharpness x (cosine - 1))`, on a bounded number of landmarks (Nyström; Rudi et al., 2015,
//! <https://arxiv.org/abs/1507.04717>). It has one solution, found without steps or a rate.

use crate::classifier::head::Kernel;
use crate::error::{Error, Result};
use candle_core::{Device, Tensor};

/// Rows whose similarities to the landmarks are held at a time.
const CHUNK: usize = 4_096;

/// Added to the diagonal beside the ridge: landmarks that are nearly the same would make the equations singular.
const JITTER: f64 = 1e-4;

/// What a kernel estimate is fitted on.
pub struct Samples<'a> {
    /// Shape: rows, width; of unit length.
    pub places: &'a [f32],
    pub width: usize,
    /// Shape: rows, classes: what is known beyond the classes' means, 0 where nothing is.
    pub deviations: &'a [f32],
    pub means: &'a [f32],
}

/// The kernel estimate with `landmarks`, positions among the rows.
///
/// # Errors
/// [`Error::Internal`] when a tensor operation fails.
pub fn fit(samples: &Samples<'_>, landmarks: &[usize], sharpness: f32, ridge: f64) -> Result<Kernel> {
    let Samples { places, width, deviations, means } = *samples;
    let (count, classes) = (landmarks.len(), means.len());
    let chosen: Vec<f32> = landmarks.iter().flat_map(|row| &places[row * width..][..width]).copied().collect();
    let across = Tensor::from_vec(chosen.clone(), (count, width), &Device::Cpu)?.t()?.contiguous()?;
    let near = |rows: &[f32]| -> Result<Tensor> {
        let cosines = Tensor::from_slice(rows, (rows.len() / width, width), &Device::Cpu)?.matmul(&across)?;
        Ok(((cosines - 1.0)? * f64::from(sharpness))?.exp()?)
    };
    let (mut gram, mut right) = (vec![0.0; count * count], vec![0.0; count * classes]);
    let add = |sums: &mut [f64], some: Tensor, weight: f64| -> Result<()> {
        let some: Vec<f32> = some.flatten_all()?.to_vec1()?;
        sums.iter_mut().zip(some).for_each(|(sum, x)| *sum += weight * f64::from(x));
        Ok(())
    };
    for (rows, known) in places.chunks(CHUNK * width).zip(deviations.chunks(CHUNK * classes)) {
        let near = near(rows)?;
        let turned = near.t()?.contiguous()?;
        add(&mut gram, turned.matmul(&near)?, 1.0)?;
        let known = Tensor::from_slice(known, (known.len() / classes, classes), &Device::Cpu)?;
        add(&mut right, turned.matmul(&known)?, 1.0)?;
    }
    add(&mut gram, near(&chosen)?, ridge)?;
    (0..count).for_each(|at| gram[at * count + at] += JITTER * gram[at * count + at].max(1.0));
    solve(&mut gram, &mut right, count, classes)?;
    let duals = right.into_iter().map(|x| x as f32).collect();
    Ok(Kernel { landmarks: chosen, duals, means: means.to_vec(), sharpness })
}

/// Solves `gram x = right` in place by Cholesky's decomposition; `right` has a row of `classes` for each of `count`.
fn solve(gram: &mut [f64], right: &mut [f64], count: usize, classes: usize) -> Result<()> {
    for row in 0..count {
        let (before, rest) = gram.split_at_mut(row * count);
        let current = &mut rest[..count];
        for column in 0..row {
            let other = &before[column * count..][..=column];
            let shared: f64 = current[..column].iter().zip(other).map(|(a, b)| a * b).sum();
            current[column] = (current[column] - shared) / other[column];
        }
        let left = current[row] - current[..row].iter().map(|x| x * x).sum::<f64>();
        if !(left.is_finite() && left > 0.0) {
            return Err(Error::Internal("the kernel's equations have no one solution".into()));
        }
        current[row] = left.sqrt();
    }
    let subtract = |right: &mut [f64], from: usize, row: usize, factor: f64| {
        for class in 0..classes {
            right[row * classes + class] -= factor * right[from * classes + class];
        }
    };
    let divide = |right: &mut [f64], row: usize, by: f64| {
        right[row * classes..][..classes].iter_mut().for_each(|x| *x /= by);
    };
    for row in 0..count {
        (0..row).for_each(|from| subtract(right, from, row, gram[row * count + from]));
        divide(right, row, gram[row * count + row]);
    }
    for row in (0..count).rev() {
        (row + 1..count).for_each(|from| subtract(right, from, row, gram[from * count + row]));
        divide(right, row, gram[row * count + row]);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_every_row_is_a_landmark_what_is_known_is_met() {
        let places: Vec<f32> = (0..40).flat_map(|at| [(at as f32 / 9.0).cos(), (at as f32 / 9.0).sin()]).collect();
        let known: Vec<f32> = (0..40).map(|at| (at as f32 / 6.0).sin()).collect();
        let samples = Samples { places: &places, width: 2, deviations: &known, means: &[0.5] };
        let all: Vec<usize> = (0..40).collect();
        let close = fit(&samples, &all, 8.0, 1e-3).unwrap();
        let stiff = fit(&samples, &all, 8.0, 1e4).unwrap();
        for (place, known) in places.chunks_exact(2).zip(&known) {
            let (found, known) = (close.estimate(place)[0], 0.5 + f64::from(*known));
            assert!((found - known).abs() < 0.1, "{found} for {known}");
            assert!((stiff.estimate(place)[0] - 0.5).abs() < 0.05);
        }
    }
}
