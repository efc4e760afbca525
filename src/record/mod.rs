//! What is remembered: recent decisions for `/explain` (`decisions.rs`), and what was measured of each deployment
//! (`health/`), which the next decision reads and `learned.rs` keeps over a restart.

mod decisions;
mod health;
mod learned;

pub use decisions::Decisions;
pub use health::{Alarm, Health, HealthBook, InFlight, Length, Now, Prompt, Saved, Seen, What};
pub use learned::Learned;
