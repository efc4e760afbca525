//! The index alone: the 20 nearest, and what it takes to build it. Up to `GRAPH_FROM` exemplars, and while the graph of
//! more of them grows, every vector is scanned.

use crate::exemplars::places;
use divan::{Bencher, bench};
use std::sync::mpsc::channel;
use std::sync::{LazyLock, OnceLock};
use waypost::classifier::RoutingModel;
use waypost::classifier::index::{GRAPH_FROM, Index};

const NEIGHBORS: usize = 20;
const LARGE: usize = 100_000;

static BUILTIN: LazyLock<RoutingModel> = LazyLock::new(|| RoutingModel::builtin().expect("the builtin model is whole"));

/// Grown once for both benches of it.
static WITH_GRAPH: OnceLock<Index> = OnceLock::new();

#[bench(args = [1_000, 10_000, LARGE, GRAPH_FROM])]
fn search(bencher: Bencher, exemplars: usize) {
    search_in(bencher, &built(exemplars));
}

#[bench(ignore)]
fn search_graph(bencher: Bencher) {
    search_in(bencher, WITH_GRAPH.get_or_init(|| grown(built(GRAPH_FROM))));
}

#[bench(args = [10_000, LARGE], sample_count = 10, sample_size = 1)]
fn build(bencher: Bencher, exemplars: usize) {
    let (width, places) = places(&BUILTIN, exemplars, 1);
    bencher.with_inputs(|| places.clone()).bench_local_values(|places| Index::build(width, places));
}

#[bench(ignore, sample_count = 1, sample_size = 1)]
fn build_graph(bencher: Bencher) {
    let index = built(GRAPH_FROM);
    bencher.bench_local(|| WITH_GRAPH.get_or_init(|| grown(index.clone())).len());
}

fn built(exemplars: usize) -> Index {
    let (width, places) = places(&BUILTIN, exemplars, 1);
    Index::build(width, places)
}

/// The same when its graph serves.
fn grown(index: Index) -> Index {
    let (held, ended) = channel::<()>();
    index.grow_graph(move |_, _| drop(held.clone()));
    // Nothing is sent: the thread lets go of its end when it is done.
    let _ = ended.recv();
    index
}

/// Another query each time.
fn search_in(bencher: Bencher, index: &Index) {
    let (width, queries) = places(&BUILTIN, 1_000, 2);
    let mut queries = queries.chunks_exact(width).cycle();
    bencher
        .with_inputs(|| queries.next().expect("there are queries"))
        .bench_local_values(|query| index.search(query, NEIGHBORS));
}
