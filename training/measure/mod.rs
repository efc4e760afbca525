//! How good a router over models is on a table of outcomes.
//!
//! Outcomes (`table.rs`) and the routers compared on them (`candidate.rs`, `baselines.rs`, `nearest.rs`) → a curve for
//! each router and its measures (`pair.rs` for two models; `sweep.rs`, `many.rs` and `hull.rs` for two or more) → how
//! sure they are (`bootstrap.rs`) → a report (`report.rs`) and a chart (`plot.rs`). `stability.rs` asks another
//! question: does the choice survive a change of wording?
//!
//! Same data and seed give the same numbers.

pub mod baselines;
pub mod bootstrap;
pub mod candidate;
pub mod forest;
pub mod hull;
pub mod many;
pub mod nearest;
pub mod pair;
pub mod plot;
pub mod report;
pub mod stability;
pub mod sweep;
pub mod table;
