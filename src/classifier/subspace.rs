//! The directions along which vectors of unit length are most alike: their first principal components, not centred, by
//! subspace iteration (Halko et al., 2011, <https://doi.org/10.1137/090771806>, section 4.4). The dot product of two
//! vectors is about that of their places in it.

use super::index::dot;

/// Vectors looked at, spread evenly: a hundred for each direction say enough of where most of their length lies.
const LOOKED_AT: usize = 4_096;

/// Rounds. Directions at the edge, between which more rounds would choose, are worth about the same.
const ROUNDS: usize = 4;

/// `count` orthonormal rows of `width`, the same for the same vectors on every machine.
///
/// # Panics
/// When there are fewer vectors than `count`, or the rows are not whole.
pub fn of(vectors: &[f32], width: usize, count: usize) -> Vec<f32> {
    let rows = vectors.len() / width;
    assert!(vectors.len().is_multiple_of(width) && rows >= count, "{rows} rows of {width}: want at least {count}");
    let step = rows.div_ceil(LOOKED_AT);
    let products = products(vectors.chunks_exact(width).step_by(step), width);
    let start = (0..count).flat_map(|at| &vectors[at * rows / count * width..][..width]);
    let mut basis: Vec<f32> = start.copied().collect();
    orthonormalise(&mut basis, width);
    for _ in 0..ROUNDS {
        basis = basis
            .chunks_exact(width)
            .flat_map(|row| products.chunks_exact(width).map(|column| dot(row, column)))
            .collect();
        orthonormalise(&mut basis, width);
    }
    basis
}

/// The sum of each vector's products with itself: `[width, width]`.
fn products<'a>(vectors: impl Iterator<Item = &'a [f32]>, width: usize) -> Vec<f32> {
    let mut sums = vec![0.0; width * width];
    for vector in vectors {
        for (x, sums) in vector.iter().zip(sums.chunks_exact_mut(width)) {
            sums.iter_mut().zip(vector).for_each(|(sum, y)| *sum += x * y);
        }
    }
    sums
}

/// Gram and Schmidt's, each row twice, which is enough (Giraud et al., 2005, <https://doi.org/10.1007/s00211-005-0615-4>).
/// A row that the ones before it make up becomes an axis that they do not.
fn orthonormalise(basis: &mut [f32], width: usize) {
    for at in 0..basis.len() / width {
        let (before, row) = basis.split_at_mut(at * width);
        let row = &mut row[..width];
        let mut axis = 0..width;
        loop {
            let length = dot(row, row).sqrt().max(f32::MIN_POSITIVE);
            row.iter_mut().for_each(|x| *x /= length);
            for _ in 0..2 {
                for other in before.chunks_exact(width) {
                    let share = dot(row, other);
                    row.iter_mut().zip(other).for_each(|(x, y)| *x -= share * y);
                }
            }
            let left = dot(row, row).sqrt();
            if left > 1e-3 {
                row.iter_mut().for_each(|x| *x /= left);
                break;
            }
            row.fill(0.0);
            row[axis.next().expect("fewer rows than axes leave one free")] = 1.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_of_the_length_lies_in_it_and_its_rows_are_orthonormal() {
        // Vectors in the plane of two directions, and a little beside it; some of them the same.
        let width = 32;
        let vectors: Vec<f32> = (0..200)
            .flat_map(|at| {
                let angle = (at / 2) as f32;
                (0..width).map(move |place| match place {
                    3 => angle.cos(),
                    7 => angle.sin(),
                    _ => 0.01 * ((at * place) as f32).sin(),
                })
            })
            .collect();
        let basis = of(&vectors, width, 4);
        for (at, row) in basis.chunks_exact(width).enumerate() {
            for (other_at, other) in basis.chunks_exact(width).enumerate() {
                let expected = if at == other_at { 1.0 } else { 0.0 };
                assert!((dot(row, other) - expected).abs() < 1e-5, "rows {at} and {other_at}: {}", dot(row, other));
            }
        }
        for vector in vectors.chunks_exact(width) {
            let inside: f32 = basis.chunks_exact(width).map(|row| dot(row, vector).powi(2)).sum();
            assert!(inside > 0.99 * dot(vector, vector), "{inside} of {}", dot(vector, vector));
        }
    }

    #[test]
    fn the_same_vector_many_times_has_a_basis_too() {
        let vectors = [1.0_f32, 0.0, 0.0, 0.0].repeat(8);
        let basis = of(&vectors, 4, 3);
        assert_eq!(basis.len(), 12);
        assert!(basis.chunks_exact(4).all(|row| (dot(row, row) - 1.0).abs() < 1e-6));
    }
}
