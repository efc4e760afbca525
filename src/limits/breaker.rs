//! A circuit breaker: whoever keeps failing is left alone, then probed with few requests before all come back.
//!
//! Closed → open: on the share of failures in a decayed window, or on hard failures in a row. Open → half-open after a
//! pause that doubles with every trip, jittered. Half-open → closed after enough probes in time succeeded, or open
//! again on the first that fails. Being at a limit (429) is no failure here.

use std::time::Duration;
use tokio::time::Instant;

/// Seconds after which what was seen counts half.
const HALF_LIFE_S: f64 = 10.0;
/// It takes so many failures, decayed (five within a few seconds), and such a share of all attempts.
const LEAST_FAILURES: f64 = 4.0;
const FAILURE_SHARE: f64 = 0.5;
/// Or so many in a row that leave no doubt: no connection, no answer in time, no access.
const HARD_FAILURES: u32 = 3;
/// The first pause, and the longest: whoever recovers is asked within 25 s (20 s and the jitter).
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(20);
const JITTER: std::ops::Range<f64> = 0.75..1.25;
/// Probes under way at once, and successes needed.
const PROBES: u32 = 2;
const SUCCESSES: u32 = 2;
/// After so long without a trip the next pause is the first again.
const FORGIVEN: Duration = Duration::from_secs(60);
/// When a half-open breaker with all probes under way may be worth asking again.
const PROBE_TIME: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Closed,
    Open { until: Instant },
    HalfOpen,
}

/// One breaker.
#[derive(Debug)]
pub struct Breaker {
    state: State,
    attempts: f64,
    failures: f64,
    at: Instant,
    hard_in_a_row: u32,
    trips: u32,
    tripped: Instant,
    /// Probes of an earlier half-open time say nothing in a later one.
    round: u32,
    probing: u32,
    succeeded: u32,
}

/// A place among the probes; `None` where a request is none.
pub type Probe = Option<u32>;

impl Breaker {
    /// A closed breaker.
    pub fn new(now: Instant) -> Self {
        Breaker {
            state: State::Closed,
            attempts: 0.0,
            failures: 0.0,
            at: now,
            hard_in_a_row: 0,
            trips: 0,
            tripped: now,
            round: 0,
            probing: 0,
            succeeded: 0,
        }
    }

    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// When a request may go; `None` is now.
    pub fn until(&self, now: Instant) -> Option<Instant> {
        match self.state {
            State::Open { until } if until > now => Some(until),
            State::HalfOpen if self.probing >= PROBES => Some(now + PROBE_TIME),
            _ => None,
        }
    }

    /// A request goes.
    pub fn begin(&mut self) -> Probe {
        match self.state {
            State::Closed => return None,
            State::Open { .. } => {
                (self.state, self.probing, self.succeeded) = (State::HalfOpen, 0, 0);
                self.round += 1;
            }
            State::HalfOpen => {}
        }
        self.probing += 1;
        Some(self.round)
    }

    /// A request was answered.
    pub fn succeeded(&mut self, now: Instant, probe: Probe) {
        if self.is_closed() {
            self.count(now, 0.0);
            self.hard_in_a_row = 0;
        } else if self.gave_up(probe) {
            self.succeeded += 1;
            if self.succeeded >= SUCCESSES {
                *self = Breaker { trips: self.trips, tripped: self.tripped, round: self.round, ..Breaker::new(now) };
            }
        }
    }

    /// An answer that began well broke off: its success becomes a failure, so that it counts once.
    pub fn broke(&mut self, now: Instant) {
        if self.is_closed() {
            self.attempts = (self.attempts - 1.0).max(0.0);
            self.failed(now, None, false);
        }
    }

    /// A request failed; `hard` where that leaves no doubt.
    pub fn failed(&mut self, now: Instant, probe: Probe, hard: bool) {
        if !self.is_closed() {
            if self.gave_up(probe) {
                self.trip(now);
            }
            return;
        }
        self.count(now, 1.0);
        self.hard_in_a_row += u32::from(hard);
        let share = self.failures >= LEAST_FAILURES && self.failures >= FAILURE_SHARE * self.attempts;
        if share || self.hard_in_a_row >= HARD_FAILURES {
            self.trip(now);
        }
    }

    /// A request ended without telling anything. True where it was a probe of this half-open time.
    pub fn gave_up(&mut self, probe: Probe) -> bool {
        let counts = self.state == State::HalfOpen && probe == Some(self.round);
        self.probing -= u32::from(counts);
        counts
    }

    fn trip(&mut self, now: Instant) {
        self.trips = if now.duration_since(self.tripped) > FORGIVEN { 1 } else { self.trips + 1 };
        let pause = (PAUSE * 2_u32.pow((self.trips - 1).min(10))).min(LONGEST_PAUSE);
        self.state = State::Open { until: now + pause.mul_f64(rand::random_range(JITTER)) };
        self.tripped = now;
    }

    fn count(&mut self, now: Instant, failure: f64) {
        let decay = 0.5_f64.powf(now.duration_since(self.at).as_secs_f64() / HALF_LIFE_S);
        (self.attempts, self.failures, self.at) = (self.attempts * decay + 1.0, self.failures * decay + failure, now);
    }

    /// `closed`, `open` or `half-open`.
    pub fn name(&self) -> &'static str {
        match self.state {
            State::Closed => "closed",
            State::Open { .. } => "open",
            State::HalfOpen => "half-open",
        }
    }

    /// Why it holds, in words.
    pub fn words(&self) -> String {
        match self.state {
            State::HalfOpen => format!("half-open, {} probes under way", self.probing),
            _ => format!("{}, {:.0} of {:.0} recent attempts failed", self.name(), self.failures, self.attempts),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn it_opens_on_the_share_of_failures_not_on_few_or_a_minority() {
        let now = Instant::now();
        let mut breaker = Breaker::new(now);
        (0..10).for_each(|_| breaker.succeeded(now, None));
        (0..9).for_each(|_| breaker.failed(now, None, false));
        assert!(breaker.is_closed(), "nine of nineteen");
        breaker.failed(now, None, false);
        assert!(breaker.until(now).is_some());
        let mut fresh = Breaker::new(now);
        (0..3).for_each(|_| fresh.failed(now, None, false));
        assert!(fresh.is_closed(), "three are too few");
        (0..2).for_each(|_| fresh.failed(now, None, true));
        assert!(!fresh.is_closed());
    }

    #[test]
    fn an_answer_that_breaks_counts_once() {
        let now = Instant::now();
        let mut breaker = Breaker::new(now);
        (0..3).for_each(|_| breaker.succeeded(now, None));
        (0..4).for_each(|_| {
            assert!(breaker.is_closed());
            breaker.succeeded(now, None); // its beginning
            breaker.broke(now);
        });
        assert!(!breaker.is_closed(), "four of seven");
    }

    #[test]
    fn pauses_grow_to_a_bound_and_two_good_probes_close_it() {
        let mut now = Instant::now();
        let mut breaker = Breaker::new(now);
        (0..3).for_each(|_| breaker.failed(now, None, true));
        let mut pauses = Vec::new();
        for _ in 0..8 {
            let until = breaker.until(now).expect("open");
            pauses.push((until - now).as_secs_f64());
            now = until;
            assert_eq!(breaker.until(now), None);
            let probes = [breaker.begin(), breaker.begin()];
            assert!(breaker.until(now).is_some(), "all probes are under way");
            breaker.failed(now, probes[0], false);
            breaker.succeeded(now, probes[1]); // late: of a time that is over
            assert_eq!(breaker.name(), "open");
        }
        assert!(pauses[0] < 1.3 && pauses[7] > 14.9 && pauses.iter().all(|pause| *pause <= 25.0), "{pauses:?}");
        now += s(25);
        for _ in 0..PROBES {
            let probe = breaker.begin();
            assert!(probe.is_some() && !breaker.is_closed());
            assert!(!breaker.gave_up(Some(1)), "a probe of the first half-open time");
            breaker.succeeded(now, probe);
        }
        assert!(breaker.is_closed());
    }

    #[test]
    fn a_probe_that_is_given_up_makes_room_for_another() {
        let now = Instant::now();
        let mut breaker = Breaker::new(now);
        (0..3).for_each(|_| breaker.failed(now, None, true));
        let later = now + s(2);
        let [probe, _other] = [breaker.begin(), breaker.begin()];
        assert!(breaker.until(later).is_some());
        assert!(breaker.gave_up(probe));
        assert_eq!(breaker.until(later), None);
    }
}
