//! How many requests a deployment may have in flight: a configured cap, and below it a limit that adapts.
//!
//! Additive increase, multiplicative decrease. A gradient on the time to first token alone does not do here: with
//! prompts between ten and a hundred thousand tokens it varies tenfold without any load. So the limit does not exist
//! until there is evidence, it comes down by much on refusals and timeouts and by little on slowness under load, and
//! it is gone again when it no longer binds. An idle or healthy deployment is never throttled.

use std::time::Duration;
use tokio::time::Instant;

/// What is left of the requests in flight after a refusal or a timeout, and after slowness.
const AFTER_OVERLOAD: f64 = 0.7;
const AFTER_SLOWNESS: f64 = 0.9;
/// Slow: the recent time to first token is so many times the usual one, with so many in flight.
const SLOW: f64 = 2.0;
/// And by so much: a few milliseconds more are this machine's, not a deployment that chokes.
const SLOW_BY_S: f64 = 0.1;
const SLOW_IN_FLIGHT: u32 = 8;
/// Weights of one answer in the recent and the usual time to first token.
const RECENT: f64 = 0.2;
const USUAL: f64 = 0.01;
/// Answers before the usual time is one.
const ANSWERS: u32 = 30;
/// Failures that come together are one piece of evidence.
const ROUND: Duration = Duration::from_secs(1);
/// Without evidence for so long there is no limit any more.
const FORGOTTEN: Duration = Duration::from_secs(300);

/// Places at one deployment or provider.
#[derive(Debug)]
pub struct Room {
    cap: Option<u32>,
    /// The adaptive limit, engaged or not.
    limit: Option<f64>,
    in_flight: u32,
    recent_s: f64,
    usual_s: f64,
    answers: u32,
    /// How long a place is held, roughly.
    held_s: f64,
    evidence: Option<Instant>,
}

impl Room {
    /// Room for `cap` requests; `None` is no limit.
    pub fn new(cap: Option<u32>) -> Self {
        let cap = cap.map(|cap| cap.max(1));
        Room { cap, limit: None, in_flight: 0, recent_s: 0.0, usual_s: 0.0, answers: 0, held_s: 1.0, evidence: None }
    }

    /// Requests in flight.
    pub fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// The limit now, if any.
    pub fn limit(&self) -> Option<u32> {
        let adaptive = self.limit.map(|limit| limit as u32);
        [self.cap, adaptive].into_iter().flatten().min()
    }

    /// There is a place.
    pub fn is_free(&self) -> bool {
        self.limit().is_none_or(|limit| self.in_flight < limit)
    }

    /// When a place is likely to be there; `None` is now.
    pub fn until(&self, now: Instant) -> Option<Instant> {
        let expected = Duration::from_secs_f64((self.held_s / f64::from(self.in_flight.max(1))).clamp(0.001, 60.0));
        (!self.is_free()).then(|| now + expected)
    }

    /// Takes a place.
    pub fn take(&mut self) {
        self.in_flight += 1;
    }

    /// Gives back a place that was held since `taken`.
    pub fn give_back(&mut self, now: Instant, taken: Instant) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.held_s += RECENT * (now.duration_since(taken).as_secs_f64() - self.held_s);
    }

    /// An answer began after `ttft`.
    pub fn answered(&mut self, now: Instant, ttft: Duration) {
        let ttft_s = ttft.as_secs_f64();
        if self.answers == 0 {
            (self.recent_s, self.usual_s) = (ttft_s, ttft_s);
        }
        self.answers = self.answers.saturating_add(1);
        self.recent_s += RECENT * (ttft_s - self.recent_s);
        self.usual_s += USUAL.max(1.0 / f64::from(self.answers)) * (ttft_s - self.usual_s);
        let slow = self.answers > ANSWERS && self.recent_s > (SLOW * self.usual_s).max(self.usual_s + SLOW_BY_S);
        if slow && self.in_flight >= SLOW_IN_FLIGHT {
            return self.decrease(now, AFTER_SLOWNESS);
        }
        self.increase(now);
    }

    /// The deployment refused for load, or did not answer in time.
    pub fn overloaded(&mut self, now: Instant) {
        self.decrease(now, AFTER_OVERLOAD);
    }

    fn decrease(&mut self, now: Instant, share: f64) {
        let again = self.evidence.is_some_and(|last| now.duration_since(last) < ROUND);
        if !again {
            // From what was really in flight, not from a limit that nobody reached.
            let from = self.limit.unwrap_or(f64::INFINITY).min(f64::from(self.in_flight));
            self.limit = Some((from * share).max(1.0));
            self.evidence = Some(now);
        }
    }

    /// One more a round of answers, where the limit binds; no limit at all when nothing spoke for one in a long time.
    fn increase(&mut self, now: Instant) {
        let Some(limit) = self.limit else { return };
        let forgotten = self.evidence.is_none_or(|last| now.duration_since(last) > FORGOTTEN);
        let binds = f64::from(self.in_flight) + 1.0 >= limit;
        self.limit = (!forgotten).then_some(if binds { limit + 1.0 / limit } else { limit });
    }

    /// Why it holds, in words.
    pub fn words(&self) -> String {
        let adapted = if self.limit() == self.cap { "" } else { ", adapted to what it bears" };
        format!("{} of {} in flight{adapted}", self.in_flight, self.limit().unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAST: Duration = Duration::from_millis(100);

    /// One second with `busy` in flight, where more than `capacity` are refused.
    fn second(room: &mut Room, now: Instant, busy: u32, capacity: u32) {
        while room.in_flight < busy && room.is_free() {
            room.take();
        }
        if room.in_flight > capacity {
            room.overloaded(now);
        }
        while room.in_flight > 0 {
            room.answered(now, FAST);
            room.give_back(now, now);
        }
    }

    #[test]
    fn the_limit_finds_the_capacity_and_is_forgotten() {
        let start = Instant::now();
        let mut room = Room::new(None);
        second(&mut room, start, 1_000, 2_000);
        assert_eq!(room.limit(), None, "a healthy deployment has none");
        let limits: Vec<u32> = (1..200)
            .filter_map(|s| {
                second(&mut room, start + Duration::from_secs(2 * s), 100, 20);
                room.limit()
            })
            .collect();
        let settled = &limits[50..];
        assert!(settled.iter().all(|limit| (13..=22).contains(limit)), "{settled:?}");
        second(&mut room, start + Duration::from_secs(800), 1, 20);
        assert_eq!(room.limit(), None);
    }

    #[test]
    fn failures_that_come_together_count_once_and_the_cap_stays() {
        let now = Instant::now();
        let mut room = Room::new(Some(10));
        (0..10).for_each(|_| room.take());
        assert!(room.until(now).is_some());
        (0..10).for_each(|_| room.overloaded(now));
        assert_eq!(room.limit(), Some(7));
        assert_eq!(Room::new(Some(10)).limit(), Some(10));
    }

    #[test]
    fn slowness_counts_only_under_load() {
        let now = Instant::now();
        let mut room = Room::new(None);
        (0..100).for_each(|_| room.answered(now, FAST));
        room.take();
        (0..10).for_each(|_| room.answered(now, FAST * 10));
        assert_eq!(room.limit(), None, "a slow deployment without load is the ranking's matter");
        (0..9).for_each(|_| room.take());
        room.answered(now, FAST * 10);
        assert_eq!(room.limit(), Some(9));
        let mut near = Room::new(None);
        (0..100).for_each(|_| near.answered(now, FAST / 50));
        (0..10).for_each(|_| near.take());
        (0..10).for_each(|_| near.answered(now, FAST / 10));
        assert_eq!(near.limit(), None, "2 ms and 10 ms are both fast");
    }
}
