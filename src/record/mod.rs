//! What is remembered: recent decisions for `/explain` (`decisions.rs`), and what was measured of each deployment
//! (`health/`), which the next decision reads.

mod decisions;
mod health;

pub use decisions::Decisions;
pub use health::{Alarm, Health, HealthBook, InFlight, Length, Now, Prompt, Saved, Seen, What};
