//! What a ranking reads of what was measured: the health of 500 deployments, of which all have answered. Ranking them
//! may take 100 microseconds.

use divan::{Bencher, bench};
use waypost::record::{HealthBook, Prompt, Seen};

const DEPLOYMENTS: usize = 500;

#[bench]
fn read_500(bencher: Bencher) {
    let book = book();
    bencher.bench_local(|| {
        let now = book.now();
        (0..DEPLOYMENTS).map(|index| book.read(index, now, Prompt::of(3_000)).ttft_ms).fold(0.0, f64::max)
    });
}

/// The worst case: all are due to be tried, and none is worth it.
#[bench]
fn explore_500(bencher: Bencher) {
    let names = names();
    let book = HealthBook::new(crate::config("").record, names.iter().map(|name| (name.as_str(), "model")));
    bencher
        .bench_local(|| book.explore(book.now(), Prompt::of(3_000), 0.0, 0..DEPLOYMENTS, |_, health| health.ttft_ms));
}

#[bench]
fn one_answer(bencher: Bencher) {
    let book = book();
    bencher.bench_local(|| {
        let now = book.now();
        let mut in_flight = book.begin(7, now, Prompt::of(3_000), 0.0);
        in_flight.first_byte();
        book.first_token(7, now, 3_000, 120.0);
        book.answered(7, now, &seen());
    });
}

fn seen() -> Seen<'static> {
    Seen { total_ms: 900.0, tokens: Some(100), teaches: Some("code"), counted_in: Some(3_100), ..Seen::default() }
}

fn book() -> HealthBook {
    let names = names();
    let book = HealthBook::new(crate::config("").record, names.iter().map(|name| (name.as_str(), "model")));
    for index in (0..DEPLOYMENTS).cycle().take(DEPLOYMENTS * 20) {
        book.first_token(index, book.now(), 3_000, 100.0 + index as f64);
        book.answered(index, book.now(), &seen());
    }
    book
}

fn names() -> Vec<String> {
    (0..DEPLOYMENTS).map(|at| format!("provider/model-{at}")).collect()
}
