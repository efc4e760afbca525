//! Speed of the parts, by divan; the one binary of all of them. `cargo bench --profile dev` runs on the dependencies that
//! `cargo build` has built already, `cargo bench` builds all of them again with the release profile's optimisation.
//!
//! ```sh
//! cargo run -- models pull all-minilm-l6-v2     # all but `index` and `record` read the default encoder's weights
//! cargo bench --profile dev                     # one part: `cargo bench --profile dev decide`
//! cargo bench --profile dev graph -- --ignored  # hnsw_rs's graph of 250,000 exemplars: takes long to build
//! ```
//!
//! Side by side with other programs are measured the encoder by `training/bench/compare.py` and the wire by
//! `training/bench/wire.py`.

mod decide;
mod embed;
mod exemplars;
mod index;
mod rank;
mod record;
mod wire;

use waypost::config::{Config, layered};
use waypost::embedder::{Encoder, Precision};
use waypost::error::Result;
use waypost::weights::Cache;

/// As the program itself allocates; what is allocated is counted beside the time.
#[global_allocator]
static ALLOCATOR: divan::AllocProfiler<mimalloc::MiMalloc> = divan::AllocProfiler::new(mimalloc::MiMalloc);

fn main() {
    divan::main();
    let only_tried = std::env::args().any(|argument| argument == "--test");
    if !only_tried {
        decide::print_ratios();
        rank::print_shares();
    }
}

/// The shipped configuration with `text` laid over it, and nothing of what this machine's own Waypost was taught.
fn config(text: &str) -> Config {
    let raw = layered("bench.toml", text).expect("the text is TOML");
    let mut config = Config::resolve("bench.toml", raw).expect("the configuration is valid");
    config.teaching.folder = std::env::temp_dir().join("waypost-bench-teaches-nothing-here");
    config
}

/// What needs the weights, or the end of the program where they are not there: nothing is fetched while measuring.
fn or_exit<T>(result: Result<T>) -> T {
    result.unwrap_or_else(|error| {
        eprintln!("\n{error}\nFrom here: cargo run -- models pull all-minilm-l6-v2");
        std::process::exit(1)
    })
}

fn cache() -> Cache {
    or_exit(Cache::open(true))
}

/// The default encoder as it serves, in this precision of its weights.
fn encoder(precision: Precision) -> Encoder {
    let mut settings = config("").embedder;
    settings.precision = precision;
    or_exit(waypost::start::encoder(&settings, &cache()))
}
