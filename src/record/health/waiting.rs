//! Requests that wait for their first byte: one that waits longer than expected is evidence now, not when it ends. A
//! deployment that hangs loses its traffic this way before its first timeout.

use super::decay::Now;
use std::collections::VecDeque;

/// Requests followed at once. Of a deployment with more of them in flight, every second is followed, or every third…
const FOLLOWED: usize = 64;

/// So many who are late together, and a quarter of all who wait, tell of the deployment and not of themselves. Only those
/// count of whom none that was due later has been answered in time: one that others overtook is an outlier.
const TOGETHER: usize = 3;

/// An answer is in time when it took no more than so many times the expected.
const IN_TIME: f64 = 1.25;

/// A single request that is late past all that was ever usual says half of it.
const ALONE: f64 = 0.5;

/// The requests, by when their first byte was due.
#[derive(Clone, Debug, Default)]
pub struct Waiting {
    due: VecDeque<(f64, u64)>,
    begun: u64,
    /// When the latest due of those answered in time was due.
    fine_s: f64,
}

impl Waiting {
    /// Follows a request whose first byte is due at `due_s`; its ticket, or none where enough others are followed.
    pub fn begin(&mut self, due_s: f64, in_flight: usize) -> Option<u64> {
        self.begun += 1;
        let every = 1 + (in_flight / (FOLLOWED / 2)) as u64;
        if self.due.len() >= FOLLOWED || !self.begun.is_multiple_of(every) {
            return None;
        }
        let at = self.due.iter().rposition(|(other, _)| *other <= due_s).map_or(0, |before| before + 1);
        self.due.insert(at, (due_s, self.begun));
        Some(self.begun)
    }

    /// Its first byte came, or it was given up.
    pub fn end(&mut self, ticket: u64) {
        self.due.retain(|(_, other)| *other != ticket);
    }

    /// An answer came, after `ms` where `expected_ms` was expected.
    pub fn came(&mut self, now: Now, ms: f64, expected_ms: f64) {
        if ms <= IN_TIME * expected_ms {
            self.fine_s = self.fine_s.max(now.0 + (expected_ms - ms) / 1e3);
        }
    }

    /// By how much more than expected the first token must be believed to take, in milliseconds. `patience_ms`: how late
    /// a single request may be before it means anything.
    #[inline]
    pub fn late_ms(&self, now: Now, patience_ms: f64) -> f64 {
        let late = |at: usize| self.due.get(at).map_or(0.0, |(due, _)| (now.0 - due).max(0.0) * 1e3);
        if late(0) == 0.0 {
            return 0.0;
        }
        let overtaken = self.due.partition_point(|(due, _)| *due < self.fine_s);
        let together = late(overtaken + TOGETHER - 1 + (self.due.len() - overtaken) / 4);
        together.max(ALONE * (late(overtaken) - patience_ms)).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_late_together_count_at_once_and_one_alone_only_when_it_is_unusually_late() {
        let mut waiting = Waiting::default();
        let tickets: Vec<_> = (0..4).map(|at| waiting.begin(1.0 + 0.01 * f64::from(at), 0).unwrap()).collect();
        assert_eq!(waiting.late_ms(Now(0.9), 500.0), 0.0);
        assert!((waiting.late_ms(Now(1.3), 500.0) - 270.0).abs() < 1e-6);
        tickets[1..].iter().for_each(|ticket| waiting.end(*ticket));
        assert_eq!(waiting.late_ms(Now(1.4), 500.0), 0.0);
        assert!((waiting.late_ms(Now(11.0), 500.0) - 4_750.0).abs() < 1e-6);
        waiting.came(Now(1.0), 100.0, 115.0);
        assert_eq!(waiting.late_ms(Now(11.0), 500.0), 0.0, "one that was due later has been answered in time");
    }

    #[test]
    fn no_more_are_followed_than_there_is_room_for() {
        let mut waiting = Waiting::default();
        let followed = (0..10_000).filter(|at| waiting.begin(1.0, *at).is_some()).count();
        assert_eq!(followed, FOLLOWED);
    }
}
