//! Who answers: strategies, rules, conversations, limits, and invariants of the order for any fleet.

mod limits;
mod order;
mod rules;
mod sessions;
mod strategies;

use crate::harness::{ANSWER, Bench, Script};
use waypost::config::DeploymentConfig;

/// A bench that tries nobody for what could be learned: what a test expects must not depend on the clock.
fn bench(text: &str) -> Bench {
    let mut bench = Bench::new(text);
    bench.config.record.explore_share = 0.0;
    bench
}

/// Adds a deployment of the class `general` at so many dollars per million tokens, changed by `edit`.
fn add(bench: Bench, name: &str, dollars: f64, edit: impl FnOnce(&mut DeploymentConfig)) -> Bench {
    let mut bench = bench.with(name, &["general"], (dollars, dollars), Script::Answer(ANSWER));
    edit(&mut bench.deployments.last_mut().unwrap().config);
    bench
}
