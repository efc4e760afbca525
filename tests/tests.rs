//! The one integration binary: behaviour through the real application, with the real encoder and routing model.
//! `suite/harness.rs` puts an application together; each other file is one subject.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should panic where it stands")]

#[path = "suite/harness.rs"]
mod harness;

#[path = "suite/asking.rs"]
mod asking;
#[path = "suite/config.rs"]
mod config;
#[path = "suite/decisions.rs"]
mod decisions;
#[path = "suite/dispatch/mod.rs"]
mod dispatch;
#[path = "suite/encoder.rs"]
mod encoder;
#[path = "suite/examples.rs"]
mod examples;
#[path = "suite/http.rs"]
mod http;
#[path = "suite/measure/mod.rs"]
mod measure;
#[path = "suite/policy.rs"]
mod policy;
#[path = "suite/teaching.rs"]
mod teaching;
#[path = "suite/training.rs"]
mod training;
#[path = "suite/weights.rs"]
mod weights;
