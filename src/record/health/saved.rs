//! What was learned, as a value that can be written to a file and read at the next start. Its times are kept as ages, so
//! that what faded while nothing ran has faded.

use super::decay::Decayed;
use super::length::Lengths;
use super::page::Measured;
use super::{HealthBook, MOST_CLASSES};
use serde::{Deserialize, Serialize};
use std::time::{SystemTime, UNIX_EPOCH};

/// Raised when the meaning of what is kept changes; a file of another one is not read.
const FORMAT: u32 = 1;

/// All pages and lengths.
#[derive(Debug, Serialize, Deserialize)]
pub struct Saved {
    format: u32,
    /// Seconds since 1970.
    saved_at_s: f64,
    pages: Vec<(String, Measured)>,
    lengths: Vec<(String, Lengths)>,
    scores: Decayed,
}

impl HealthBook {
    /// All that was learned.
    pub fn save(&self) -> Saved {
        let now = self.now();
        let page = |page: &super::page::Page| {
            let mut measured = page.measured.lock().clone();
            measured.settle(now, &self.config);
            measured.shift_clock(-now.0);
            (page.name.clone(), measured)
        };
        let length = |(class, lengths): (&String, &Lengths)| {
            let mut lengths = lengths.clone();
            lengths.at_s -= now.0;
            (class.clone(), lengths)
        };
        Saved {
            format: FORMAT,
            saved_at_s: unix_s(),
            pages: self.pages.iter().map(|shared| page(shared)).collect(),
            lengths: self.lengths.lock().iter().map(length).collect(),
            scores: *self.scores.lock(),
        }
    }

    /// Takes up what was learned before, of deployments that are still there; how many of them were. What is no number,
    /// or of another format, is left out.
    pub fn load(&self, saved: Saved) -> usize {
        if saved.format != FORMAT || !saved.scores.is_sound() || !saved.saved_at_s.is_finite() {
            return 0;
        }
        let since_s = self.now().0 - (unix_s() - saved.saved_at_s).max(0.0);
        *self.scores.lock() = saved.scores;
        let sound = saved.lengths.into_iter().filter(|(_, lengths)| lengths.is_sound() && lengths.at_s.is_finite());
        for (class, mut lengths) in sound.take(MOST_CLASSES) {
            lengths.at_s += since_s;
            self.lengths.lock().insert(class, lengths);
        }
        let pages = saved.pages.into_iter();
        pages.map(|(name, measured)| self.load_page(&name, measured, since_s)).filter(|taken| *taken).count()
    }

    fn load_page(&self, name: &str, saved: Measured, since_s: f64) -> bool {
        let Some(index) = self.index_of(name).filter(|_| saved.is_sound()) else { return false };
        let mut measured = self.pages[index].measured.lock();
        // Who waits now still does.
        let waiting = std::mem::take(&mut measured.waiting);
        *measured = saved;
        measured.waiting = waiting;
        measured.shift_clock(since_s);
        measured.settle(self.now(), &self.config);
        true
    }
}

fn unix_s() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}
