//! The index of exemplars in the learned space. Every vector is compared with the query where most of their length lies
//! (`subspace.rs`), in whole numbers (`kernels/scan.rs`), and the most similar once more exactly; for large sets an
//! hnsw_rs graph is built in the background and takes over. All use of hnsw_rs is in this file.

use super::subspace;
use crate::kernels::{After, Level, Linear, Precision, Rounded, Scan};
use hnsw_rs::prelude::{Distance, Hnsw};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};

/// From this many exemplars on the graph answers sooner than the scan (measured, see ARCHITECTURE.md).
pub const GRAPH_FROM: usize = 250_000;

/// Graph parameters: links per node, candidates while building, candidates while searching (recall in ARCHITECTURE.md).
const LINKS: usize = 16;
const EF_BUILD: usize = 200;
const EF_SEARCH: usize = 64;
const MAX_LAYERS: usize = 16;

/// Directions that vectors are first compared along, and how many vectors it takes for that to pay. Of the default
/// exemplars' 352 dimensions these hold 85 % of the length.
const DIRECTIONS: usize = 96;
const DIRECTIONS_FROM: usize = 2_000;

/// Where the directions hold less of the squared length of all vectors, too much is missed along them.
const DIRECTIONS_SHARE: f32 = 0.75;

/// The most similar at first that are compared exactly: so many times as wanted, and so many more. Of the default
/// exemplars' 20 nearest, 99.94 % are among these 200 (99.7 % among 100).
const AGAIN: usize = 8;
const MORE: usize = 40;

/// One value in so many is looked at for how large the largest are.
const SAMPLED: usize = 16;

/// Vectors placed in the graph between two looks whether anybody still wants it.
const PLACED_AT_ONCE: usize = 256;

/// Vectors of unit length, searched by cosine similarity. A clone is cheap, and may then be changed apart: what is
/// added is compared beside the rest, what is removed is left out of the answers, since hnsw_rs cannot delete.
#[derive(Clone)]
pub struct Index {
    width: usize,
    built: Arc<Built>,
    added: Vec<f32>,
    removed: BTreeSet<usize>,
}

/// What does not change once built.
struct Built {
    vectors: Vec<f32>,
    /// Absent where the width is one that the kernels do not support.
    scan: Option<Coarse>,
    graph: OnceLock<Hnsw<'static, f32, Cosine>>,
    /// Whether the graph was begun.
    growing: AtomicBool,
}

/// The vectors as they are first compared with a query.
struct Coarse {
    /// To the directions of [`DIRECTIONS`]; none where all are compared.
    directions: Option<Linear>,
    scan: Scan,
}

/// A vector found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hit {
    /// Position of the vector, in the order given to [`Index::build`].
    pub position: usize,
    /// Cosine similarity, -1..1.
    pub similarity: f32,
}

/// Cosine distance of unit vectors. hnsw_rs asserts that a distance is not negative, which rounding of a vector
/// with itself can make it: hence the bound.
#[derive(Clone, Copy, Default)]
struct Cosine;

impl Distance<f32> for Cosine {
    fn eval(&self, a: &[f32], b: &[f32]) -> f32 {
        (1.0 - dot(a, b)).max(0.0)
    }
}

thread_local! {
    /// Buffers of a search.
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

#[derive(Default)]
struct Scratch {
    rounded: Rounded,
    similarities: Vec<f32>,
}

impl Coarse {
    fn of(vectors: &[f32], width: usize) -> Option<Self> {
        if !Scan::supports(width) {
            return None;
        }
        if width <= DIRECTIONS || vectors.len() < DIRECTIONS_FROM * width {
            return Some(Coarse { directions: None, scan: Scan::new(vectors, width) });
        }
        let basis = subspace::of(vectors, width, DIRECTIONS);
        let (bias, ranges) = ([0.0; DIRECTIONS], vec![1.0; width]);
        let directions = Linear::new(Level::detect(), Precision::F32, &basis, &bias, &ranges);
        let mut along = vec![0.0; vectors.len() / width * DIRECTIONS];
        directions.forward(vectors, &mut along, After::Store, &mut Rounded::default());
        if dot(&along, &along) < DIRECTIONS_SHARE * dot(vectors, vectors) {
            return Some(Coarse { directions: None, scan: Scan::new(vectors, width) });
        }
        Some(Coarse { scan: Scan::new(&along, DIRECTIONS), directions: Some(directions) })
    }

    fn similarities(&self, query: &[f32], Scratch { rounded, similarities }: &mut Scratch) {
        match &self.directions {
            None => self.scan.similarities(query, rounded, similarities),
            Some(directions) => {
                let mut along = [0.0; DIRECTIONS];
                directions.forward(query, &mut along, After::Store, rounded);
                self.scan.similarities(&along, rounded, similarities);
            }
        }
    }
}

impl Index {
    /// Builds an index over `vectors` (row after row, `width` each, of unit length), without the graph.
    pub fn build(width: usize, vectors: Vec<f32>) -> Self {
        assert!(width > 0 && vectors.len().is_multiple_of(width), "vectors come in rows of {width}");
        let scan = Coarse::of(&vectors, width);
        let built = Built { vectors, scan, graph: OnceLock::new(), growing: AtomicBool::new(false) };
        Index { width, built: Arc::new(built), added: Vec::new(), removed: BTreeSet::new() }
    }

    /// Where the set is large, starts to build the graph on a thread of its own, once; it takes over when it is complete,
    /// and is given up when nobody holds the index any more. `progress` is told how many vectors are placed of how many.
    pub fn grow_graph(&self, progress: impl Fn(usize, usize) + Send + 'static) {
        let large = self.built.vectors.len() / self.width >= GRAPH_FROM;
        if !large || self.built.growing.swap(true, Ordering::Relaxed) {
            return;
        }
        let (built, width) = (Arc::downgrade(&self.built), self.width);
        let grow = move || Self::grow(&built, width, progress);
        if let Err(error) = std::thread::Builder::new().name("index".into()).spawn(grow) {
            tracing::warn!(%error, "no thread for the index: every exemplar is compared instead, which is slower");
        }
    }

    /// Places every vector in a graph, one by one: the parallel insert of hnsw_rs is not reproducible.
    fn grow(built: &Weak<Built>, width: usize, progress: impl Fn(usize, usize)) {
        let Some(count) = built.upgrade().map(|built| built.vectors.len() / width) else { return };
        let graph = Hnsw::new(LINKS, count, MAX_LAYERS, EF_BUILD, Cosine);
        for start in (0..count).step_by(PLACED_AT_ONCE) {
            let Some(built) = built.upgrade() else { return };
            let end = (start + PLACED_AT_ONCE).min(count);
            for position in start..end {
                graph.insert((&built.vectors[position * width..][..width], position));
            }
            progress(end, count);
        }
        if let Some(built) = built.upgrade() {
            // `growing` lets nobody else set it.
            let _ = built.graph.set(graph);
        }
    }

    /// Adds a vector; its position is the next one.
    pub fn add(&mut self, vector: &[f32]) {
        assert_eq!(vector.len(), self.width, "vectors are {} wide", self.width);
        self.added.extend_from_slice(vector);
    }

    /// Leaves a vector out from now on. Positions of the others stay.
    pub fn remove(&mut self, position: usize) {
        self.removed.insert(position);
    }

    /// Whether those that were built are among the answers, and no others.
    pub fn is_as_built(&self) -> bool {
        let (built, added) = (self.built.vectors.len() / self.width, self.added.len() / self.width);
        self.removed.len() == added && self.removed.range(..built).next().is_none()
    }

    /// Whether a position's vector was removed.
    pub fn is_removed(&self, position: usize) -> bool {
        self.removed.contains(&position)
    }

    /// Number of positions, those of removed vectors among them.
    pub fn len(&self) -> usize {
        (self.built.vectors.len() + self.added.len()) / self.width
    }

    /// Whether there is no vector.
    pub fn is_empty(&self) -> bool {
        self.len() == self.removed.len()
    }

    /// The `count` vectors most similar to `query` (of unit length), nearest first.
    pub fn search(&self, query: &[f32], count: usize) -> Vec<Hit> {
        let mut hits: Vec<Hit> = match (self.built.graph.get(), &self.built.scan) {
            (Some(graph), _) => {
                let wanted = count + self.removed.len();
                let found = graph.search(query, wanted, EF_SEARCH.max(2 * wanted));
                found.iter().map(|hit| Hit { position: hit.d_id, similarity: 1.0 - hit.distance }).collect()
            }
            (None, Some(scan)) => self.scan(scan, query, count.saturating_mul(AGAIN).saturating_add(MORE)),
            (None, None) => return self.exact(query, count),
        };
        hits.extend(self.compare(query, &self.added, self.built.vectors.len() / self.width));
        self.best(hits, count)
    }

    /// The same by comparing all exactly: the oracle.
    pub fn exact(&self, query: &[f32], count: usize) -> Vec<Hit> {
        let mut hits: Vec<Hit> = self.compare(query, &self.built.vectors, 0).collect();
        hits.extend(self.compare(query, &self.added, self.built.vectors.len() / self.width));
        self.best(hits, count)
    }

    /// Of those most similar at first, the exact similarities.
    fn scan(&self, scan: &Coarse, query: &[f32], count: usize) -> Vec<Hit> {
        SCRATCH.with_borrow_mut(|scratch| {
            scan.similarities(query, scratch);
            let similarities = &mut scratch.similarities;
            for position in self.removed.range(..similarities.len()) {
                similarities[*position] = f32::NEG_INFINITY;
            }
            let exactly = |position: usize| {
                let vector = &self.built.vectors[position * self.width..][..self.width];
                Hit { position, similarity: dot(query, vector) }
            };
            largest(similarities, count).into_iter().map(exactly).collect()
        })
    }

    fn compare<'a>(&'a self, query: &'a [f32], vectors: &'a [f32], start: usize) -> impl Iterator<Item = Hit> + 'a {
        let rows = vectors.chunks_exact(self.width).enumerate();
        rows.map(move |(at, vector)| Hit { position: start + at, similarity: dot(query, vector) })
    }

    fn best(&self, mut hits: Vec<Hit>, count: usize) -> Vec<Hit> {
        if !self.removed.is_empty() {
            hits.retain(|hit| !self.removed.contains(&hit.position));
        }
        let nearer = |a: &Hit, b: &Hit| b.similarity.total_cmp(&a.similarity).then(a.position.cmp(&b.position));
        let count = count.min(hits.len());
        if count > 0 && count < hits.len() {
            hits.select_nth_unstable_by(count - 1, nearer);
        }
        hits.truncate(count);
        hits.sort_by(nearer);
        hits
    }
}

/// Positions of the `count` largest values, in their order, and of those equal to the least of them.
fn largest(values: &[f32], count: usize) -> Vec<usize> {
    let nth = |values: &mut [f32], rank: usize| {
        let last = values.len().saturating_sub(1);
        values.select_nth_unstable_by(rank.min(last), |a, b| b.total_cmp(a)).1.to_owned()
    };
    if count >= values.len() {
        return (0..values.len()).collect();
    }
    // Most are passed over by looking at a sample: more than wanted remain but for an unlucky one.
    let mut sample: Vec<f32> = values.iter().copied().step_by(SAMPLED).collect();
    let expected = count as f32 / SAMPLED as f32;
    let least = nth(&mut sample, (expected + 3.0 * expected.sqrt()) as usize + 1);
    let at_least = |least: f32| move |position: &usize| values[*position] >= least;
    let some: Vec<usize> = (0..values.len()).filter(at_least(least)).collect();
    let some = if some.len() >= count { some } else { (0..values.len()).collect() };
    let mut remaining: Vec<f32> = some.iter().map(|position| values[*position]).collect();
    let least = nth(&mut remaining, count.saturating_sub(1));
    some.into_iter().filter(at_least(least)).collect()
}

/// The dot product, as eight sums side by side, which the compiler keeps in vector registers.
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; 8];
    let (a_chunks, b_chunks) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f32 = a_chunks.remainder().iter().zip(b_chunks.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in a_chunks.zip(b_chunks) {
        for lane in 0..8 {
            sums[lane] += x[lane] * y[lane];
        }
    }
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    fn unit_vectors(count: usize, width: usize, seed: u64) -> Vec<f32> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut vectors: Vec<f32> = (0..count * width).map(|_| random.random_range(-1.0f32..1.0)).collect();
        for vector in vectors.chunks_exact_mut(width) {
            let norm = dot(vector, vector).sqrt();
            vector.iter_mut().for_each(|x| *x /= norm);
        }
        vectors
    }

    /// An index with its graph grown at once, whatever its size.
    fn with_graph(width: usize, vectors: Vec<f32>) -> Index {
        let index = Index::build(width, vectors);
        Index::grow(&Arc::downgrade(&index.built), width, |_, _| {});
        assert!(index.built.graph.get().is_some());
        index
    }

    fn recall(index: &Index, queries: &[f32], count: usize) -> f64 {
        let found = queries.chunks_exact(index.width).map(|query| {
            let exact: Vec<_> = index.exact(query, count).iter().map(|hit| hit.position).collect();
            index.search(query, count).iter().filter(|hit| exact.contains(&hit.position)).count()
        });
        found.sum::<usize>() as f64 / (queries.len() / index.width * count) as f64
    }

    #[test]
    fn graph_and_scan_agree_with_comparing_all_exactly() {
        // Uniform random vectors are the hardest case; exemplars in the learned space lie in clusters.
        let (vectors, queries) = (unit_vectors(3_000, 32, 1), unit_vectors(100, 32, 2));
        let scan = recall(&Index::build(32, vectors.clone()), &queries, 10);
        assert!(scan == 1.0, "recall@10 of the scan is {scan}");
        let graph = recall(&with_graph(32, vectors), &queries, 10);
        assert!(graph >= 0.85, "recall@10 of the graph is {graph}");
    }

    /// Most of the length of these vectors lies along a few directions, as that of exemplars does.
    #[test]
    fn comparing_along_directions_finds_the_nearest() {
        let width = 160;
        let flatten = |vectors: Vec<f32>| {
            let rows = vectors.chunks_exact(width).flat_map(|row| {
                let mut row: Vec<f32> = row.iter().enumerate().map(|(at, x)| x / (1.0 + at as f32 / 8.0)).collect();
                let length = dot(&row, &row).sqrt();
                row.iter_mut().for_each(|x| *x /= length);
                row
            });
            rows.collect::<Vec<f32>>()
        };
        let vectors = flatten(unit_vectors(DIRECTIONS_FROM, width, 7));
        let mut index = Index::build(width, vectors.clone());
        assert!(index.built.scan.as_ref().is_some_and(|scan| scan.directions.is_some()));
        let found = recall(&index, &flatten(unit_vectors(100, width, 8)), 10);
        assert!(found > 0.99, "recall@10 is {found}");
        (0..DIRECTIONS_FROM - 5).for_each(|position| index.remove(position));
        let left: Vec<usize> = index.search(&vectors[..width], 10).iter().map(|hit| hit.position).collect();
        assert_eq!(left.len(), 5);
        assert!(left.iter().all(|position| *position >= DIRECTIONS_FROM - 5));
    }

    #[test]
    fn the_largest_are_found_whatever_their_order() {
        let random = unit_vectors(1, 5_000, 9);
        let mut rising = random.clone();
        rising.sort_by(f32::total_cmp);
        let (same, mut few) = (vec![0.5; 5_000], vec![f32::NEG_INFINITY; 5_000]);
        few[4_999] = 1.0;
        for values in [random, rising, same, few] {
            for count in [1, 20, 200, 4_999, 5_000, 6_000] {
                let mut sorted = values.clone();
                sorted.sort_by(|a, b| b.total_cmp(a));
                let least = sorted[count.min(5_000) - 1];
                let expected: Vec<usize> = (0..5_000).filter(|at| values[*at] >= least).collect();
                assert!(largest(&values, count) == expected, "{count} largest");
            }
        }
    }

    #[test]
    fn a_vector_is_its_own_nearest_and_never_panics() {
        for width in [16, 32] {
            let vectors = unit_vectors(500, width, 3);
            for index in [Index::build(width, vectors.clone()), with_graph(width, vectors.clone())] {
                for (position, vector) in vectors.chunks_exact(width).enumerate() {
                    let hit = index.search(vector, 1)[0];
                    assert_eq!(hit.position, position);
                    assert!((hit.similarity - 1.0).abs() < 1e-5);
                }
            }
        }
    }

    #[test]
    fn what_is_added_is_found_and_what_is_removed_is_not() {
        let (width, count) = (32, 400);
        let vectors = unit_vectors(count + 2, width, 5);
        let first = || vectors[..count * width].to_vec();
        for before in [Index::build(width, first()), with_graph(width, first())] {
            let mut index = before.clone();
            let (one, two) = vectors[count * width..].split_at(width);
            index.add(one);
            index.add(two);
            assert_eq!((index.search(one, 1)[0].position, index.search(two, 1)[0].position), (count, count + 1));
            index.remove(count);
            index.remove(7);
            let everywhere = index.search(one, count);
            assert!(everywhere.iter().all(|hit| hit.position != count && hit.position != 7));
            assert_ne!(index.search(&vectors[7 * width..8 * width], 1)[0].position, 7);
            assert_eq!(before.search(&vectors[7 * width..8 * width], 1)[0].position, 7);
        }
    }

    #[test]
    fn a_small_set_grows_no_graph_and_one_given_up_ends() {
        let index = Index::build(32, unit_vectors(10, 32, 6));
        index.grow_graph(|_, _| panic!("nothing to be placed"));
        let given_up = Arc::downgrade(&Index::build(32, unit_vectors(10, 32, 6)).built);
        Index::grow(&given_up, 32, |_, _| panic!("nothing to be placed"));
        assert!(index.built.graph.get().is_none());
    }

    #[test]
    fn small_sets_and_large_counts_are_served() {
        let index = Index::build(4, unit_vectors(3, 4, 4));
        assert_eq!(index.search(&[1.0, 0.0, 0.0, 0.0], 10).len(), 3);
        assert!(Index::build(4, Vec::new()).search(&[1.0, 0.0, 0.0, 0.0], 10).is_empty());
    }
}
