//! One gate: what holds requests to one deployment, or to all deployments of one provider.

use super::breaker::{Breaker, Probe};
use super::concurrency::Room;
use super::headers::Heard;
use super::rate::Rate;
use parking_lot::Mutex;
use serde::Serialize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::Instant;
use utoipa::ToSchema;

/// What a request is held by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// A configured rate.
    Rate,
    /// A limit that the provider told, a Retry-After, or a refusal.
    ToldByProvider,
    Breaker,
    /// All places are taken.
    Concurrency,
    /// There may be a place, but others wait for it.
    Queue,
}

impl Why {
    /// Its name in words.
    pub fn name(self) -> &'static str {
        match self {
            Why::Rate => "rate",
            Why::ToldByProvider => "told by provider",
            Why::Breaker => "breaker",
            Why::Concurrency => "concurrency",
            Why::Queue => "queue",
        }
    }
}

/// A request is held, and probably until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    pub why: Why,
    pub until: Instant,
}

/// Why an attempt failed, as far as limits care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failed {
    /// 429: no failure of the deployment, which only is at its limit.
    RateLimited,
    /// 503 or 529: too much load.
    Overloaded,
    /// No answer in time.
    Timeout,
    /// Another 5xx, garbage, or an answer that broke off.
    Down,
    /// No connection: counts at the provider.
    Unreachable,
    /// 401 or 403: counts at the provider.
    Credentials,
    /// The request's own fault: the provider is well.
    Request,
}

/// A gate's own limits, as configured; `None` is no limit.
#[derive(Clone, Copy, Debug, Default)]
pub struct GateSettings {
    pub rpm: Option<u64>,
    pub tpm: Option<u64>,
    pub max_in_flight: Option<u32>,
}

/// One gate.
pub struct Gate {
    /// Nothing at all holds here: said without the lock, for ranking.
    calm: AtomicBool,
    /// Locked to copy or change a few numbers, never across an await. A deployment's before its provider's.
    state: Mutex<State>,
}

/// What a gate knows.
pub struct State {
    pub rate: Rate,
    pub breaker: Breaker,
    pub room: Room,
}

impl Gate {
    pub fn new(settings: GateSettings, now: Instant) -> Self {
        let state = State {
            rate: Rate::new(settings.rpm, settings.tpm, now),
            breaker: Breaker::new(now),
            room: Room::new(settings.max_in_flight),
        };
        let gate = Gate { calm: AtomicBool::new(false), state: Mutex::new(state) };
        gate.change(now, |_| ());
        gate
    }

    pub fn is_calm(&self) -> bool {
        self.calm.load(Ordering::Acquire)
    }

    /// Reads or changes the state under its lock, and keeps `calm` true to it.
    pub fn change<T>(&self, now: Instant, act: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock();
        let result = act(&mut state);
        let calm = state.breaker.is_closed() && state.room.is_free() && state.rate.is_calm(now);
        self.calm.store(calm, Ordering::Release);
        result
    }

    /// Reads the state under its lock.
    pub fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state.lock())
    }
}

impl State {
    /// What holds a request of `tokens`; of several the one that lasts longest.
    pub fn held(&self, tokens: u64, now: Instant) -> Option<Held> {
        let holds = [
            (Why::Concurrency, self.room.until(now)),
            (Why::Rate, self.rate.until(now, tokens)),
            (Why::ToldByProvider, self.rate.told_until(now, tokens)),
            (Why::Breaker, self.breaker.until(now)),
        ];
        let held = holds.into_iter().filter_map(|(why, until)| Some(Held { why, until: until? }));
        held.max_by_key(|held| held.until)
    }

    /// A request goes.
    pub fn take(&mut self, tokens: u64, now: Instant) -> Probe {
        self.room.take();
        self.rate.take(now, tokens);
        self.breaker.begin()
    }

    /// An answer began.
    pub fn began(&mut self, now: Instant, ttft: Duration, probe: Probe) {
        self.breaker.succeeded(now, probe);
        self.rate.accepted();
        self.room.answered(now, ttft);
    }

    /// An answer told its limits.
    pub fn learn(&mut self, now: Instant, heard: Heard) {
        self.rate.learn(now, heard);
    }

    /// An attempt at this deployment failed. `told` is that the provider has said for how long to stay away.
    pub fn failed(&mut self, now: Instant, failed: Failed, probe: Probe, told: bool) {
        match failed {
            // What explains a refusal says nothing about how many at once are too many.
            Failed::RateLimited if told => self.breaker.succeeded(now, probe),
            Failed::RateLimited => {
                self.breaker.succeeded(now, probe);
                self.rate.pause(now);
                self.room.overloaded(now);
            }
            Failed::Overloaded | Failed::Timeout => {
                self.breaker.failed(now, probe, failed == Failed::Timeout);
                self.room.overloaded(now);
            }
            Failed::Down => self.breaker.failed(now, probe, false),
            Failed::Request => self.breaker.succeeded(now, probe),
            Failed::Unreachable | Failed::Credentials => {
                self.breaker.gave_up(probe);
            }
        }
    }

    /// An attempt at one of this provider's deployments failed.
    pub fn failed_at_provider(&mut self, now: Instant, failed: Failed, probe: Probe) {
        match failed {
            Failed::Unreachable | Failed::Credentials => self.breaker.failed(now, probe, true),
            Failed::Timeout => {
                self.breaker.gave_up(probe);
            }
            _ => self.breaker.succeeded(now, probe),
        }
    }

    /// A request of which `reserved` tokens were thought is over; `used` where that is known.
    pub fn over(&mut self, now: Instant, taken: Instant, reserved: u64, used: Option<u64>, sent: bool) {
        self.room.give_back(now, taken);
        self.rate.settle(now, reserved, used.unwrap_or(reserved));
        if !sent {
            self.rate.unsent();
        }
    }

    /// Why a request of `tokens` is held, in words.
    pub fn words(&self, held: Held, tokens: u64, now: Instant) -> String {
        let words = match held.why {
            Why::Rate => self.rate.words(now, tokens),
            Why::ToldByProvider => self.rate.told_words(now, tokens),
            Why::Breaker => self.breaker.words(),
            Why::Concurrency => self.room.words(),
            Why::Queue => "others wait for it".into(),
        };
        format!(
            "{}: {words}, free in {:.1} s",
            held.why.name(),
            held.until.saturating_duration_since(now).as_secs_f64()
        )
    }
}
