//! Waypost: an LLM router that reads each prompt locally and explains every decision.
//!
//! The road of one request is in [`router`]. The map:
//!
//! | to see… | open |
//! |---|---|
//! | the whole pipeline, as a few calls | `router.rs` |
//! | what a request is, and the facts read off it | `chat.rs`, `features.rs` |
//! | text to vectors | `embedder/` |
//! | vectors to quality per class: head, index, join | `classifier/` |
//! | the arithmetic of the two, in vector instructions | `kernels/` |
//! | what the caller wants, rules, strategies; class and deployment chosen by them | `policy/`, `choice.rs` |
//! | conversations and what of them is cached where | `session.rs` |
//! | attempts, retries, streaming, what is recorded when the body ends | `forward/`, `record/` |
//! | how every deployment does, for an operator | `overview.rs` |
//! | who may be asked now: rates, breakers, requests in flight, the queue | `limits/` |
//! | who answers: endpoints and their dialects, the local model | `providers/`, `providers/dialect/` |
//! | providers known by name | `config/presets.rs` |
//! | what models cost and can do: prices, the catalogue and its import | `catalog/` |
//! | the value everything else reads | `decision.rs` |
//! | what a file of requests would have cost | `simulate/` |
//! | other ways tried on part of the traffic; shadows, canaries, the judge | `experiment/` |
//! | exemplars, feedback and retraining while it runs | `teaching/` |
//! | routes and error bodies | `http/` |
//! | every config key | `config/default.toml` |
//! | weights: manifests, fetching, verifying | `weights/` |
//! | how a routing model is trained | `../training/` |
//! | how fast its parts are | `../benches/suite/` |
//!
//! Dependencies point one way: `main → cli → http → router → {embedder, classifier, policy, providers, record} →
//! {chat, config, catalog, error}`; embedder and classifier compute with kernels; training reads embedder and classifier only;
//! teaching changes the router's model and starts training as a process of its own.

pub mod catalog;
pub mod chat;
pub mod choice;
pub mod classifier;
pub mod cli;
pub mod config;
pub mod decision;
pub mod embedder;
pub mod error;
pub mod experiment;
pub mod features;
pub mod forward;
pub mod http;
#[expect(unsafe_code, reason = "vector instructions; nowhere else is any unsafe code")]
mod kernels;
pub mod limits;
pub mod money;
pub mod overview;
pub mod policy;
pub mod providers;
pub mod reader;
pub mod record;
pub mod router;
pub mod session;
pub mod simulate;
pub mod start;
pub mod teaching;
#[path = "../training/mod.rs"]
pub mod training;
pub mod weights;
