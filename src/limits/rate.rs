//! Requests and tokens a minute of one gate: as configured, and as the upstream tells.
//!
//! Configured limits are kept by the generic cell rate algorithm: one instant a limit, no window to count. What is
//! told, a `Retry-After` and a refusal hold beside it; of all that holds, the last to end counts.

use super::headers::{Heard, Told, Unit};
use std::time::Duration;
use tokio::time::Instant;

/// Share of a minute's limit that may go at once: the rest is spread over the minute.
const BURST_SHARE: f64 = 0.1;

/// Whatever was told is tried again after this long: quotas get raised, and a day's limit may be an error.
const BELIEVED: Duration = Duration::from_secs(3_600);

/// Pauses after refusals (429) that did not say for how long: the first, and the longest.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A limit a minute. No 60 seconds see more than the limit: the burst is taken out of the steady rate. What alone is
/// larger than the burst waits until nothing is owed, and then owes.
#[derive(Debug)]
struct Meter {
    nanos_per_unit: u64,
    burst_nanos: u64,
    /// When all that was taken is paid off.
    paid: Instant,
}

impl Meter {
    fn new(per_minute: u64, now: Instant) -> Self {
        let per_minute = per_minute.max(1);
        let burst = ((per_minute as f64 * BURST_SHARE) as u64).max(1);
        let nanos_per_unit = 60_000_000_000_u64.div_ceil(per_minute - burst + 1);
        Meter { nanos_per_unit, burst_nanos: burst.saturating_mul(nanos_per_unit), paid: now }
    }

    fn cost(&self, units: u64) -> u64 {
        // A year at most, so that no instant overflows.
        units.saturating_mul(self.nanos_per_unit).min(31_536_000_000_000_000)
    }

    fn until(&self, now: Instant, units: u64) -> Option<Instant> {
        let may_owe = Duration::from_nanos(self.burst_nanos.saturating_sub(self.cost(units)));
        (self.paid.saturating_duration_since(now) > may_owe).then(|| self.paid - may_owe)
    }

    fn take(&mut self, now: Instant, units: u64) {
        self.paid = self.paid.max(now) + Duration::from_nanos(self.cost(units));
    }

    fn give_back(&mut self, units: u64) {
        self.paid = self.paid.checked_sub(Duration::from_nanos(self.cost(units))).unwrap_or(self.paid);
    }
}

/// What was told, and when.
#[derive(Debug)]
struct Standing {
    told: Told,
    heard: Instant,
}

impl Standing {
    fn ends(&self) -> Instant {
        self.heard + self.told.resets_in.min(BELIEVED)
    }

    /// When `units` are there; `None` when they are.
    fn until(&self, now: Instant, units: u64) -> Option<Instant> {
        let Told { limit, remaining, resets_in, refills, .. } = self.told;
        let units = limit.map_or(units, |limit| units.min(limit));
        let lacking = units.saturating_sub(remaining);
        if lacking == 0 {
            return None;
        }
        let spent = limit.map_or(0, |limit| limit.saturating_sub(remaining));
        let share = if refills && spent > 0 { (lacking as f64 / spent as f64).min(1.0) } else { 1.0 };
        let until = (self.heard + resets_in.mul_f64(share)).min(self.ends());
        (until > now).then_some(until)
    }
}

/// The rates of one gate.
#[derive(Debug)]
pub struct Rate {
    requests: Option<Meter>,
    tokens: Option<Meter>,
    told: Vec<Standing>,
    /// Retry-After, or the pause after a refusal.
    hold: Option<Instant>,
    refusals: u32,
}

impl Rate {
    /// Limits a minute; `None` is none.
    pub fn new(rpm: Option<u64>, tpm: Option<u64>, now: Instant) -> Self {
        let meter = |limit: Option<u64>| limit.map(|limit| Meter::new(limit, now));
        Rate { requests: meter(rpm), tokens: meter(tpm), told: Vec::new(), hold: None, refusals: 0 }
    }

    /// When a request of `tokens` (prompt and expected answer) could go by the configuration; `None` is now.
    pub fn until(&self, now: Instant, tokens: u64) -> Option<Instant> {
        let meters = [(&self.requests, 1), (&self.tokens, tokens)];
        meters.into_iter().filter_map(|(meter, units)| meter.as_ref()?.until(now, units)).max()
    }

    /// The same by what the upstream told.
    pub fn told_until(&self, now: Instant, tokens: u64) -> Option<Instant> {
        let told = self.told.iter().filter_map(|standing| standing.until(now, needs(standing.told.unit, tokens)));
        told.chain(self.hold.filter(|hold| *hold > now)).max()
    }

    /// Neither configured nor told anything that still counts.
    pub fn is_calm(&mut self, now: Instant) -> bool {
        self.told.retain(|standing| standing.ends() > now);
        self.hold = self.hold.filter(|hold| *hold > now);
        self.requests.is_none() && self.tokens.is_none() && self.told.is_empty() && self.hold.is_none()
    }

    /// A request goes.
    pub fn take(&mut self, now: Instant, tokens: u64) {
        for (meter, units) in [(&mut self.requests, 1), (&mut self.tokens, tokens)] {
            if let Some(meter) = meter {
                meter.take(now, units);
            }
        }
        for Standing { told, .. } in &mut self.told {
            told.remaining = told.remaining.saturating_sub(needs(told.unit, tokens));
        }
    }

    /// A request of which `reserved` tokens were thought used `used`.
    pub fn settle(&mut self, now: Instant, reserved: u64, used: u64) {
        if let Some(meter) = &mut self.tokens {
            meter.give_back(reserved.saturating_sub(used));
            meter.take(now, used.saturating_sub(reserved));
        }
    }

    /// A request never reached the upstream.
    pub fn unsent(&mut self) {
        self.requests.iter_mut().for_each(|meter| meter.give_back(1));
    }

    /// An upstream's answer told its limits: the newest word on each counts. A Retry-After is never shortened.
    pub fn learn(&mut self, now: Instant, heard: Heard) {
        if !heard.told.is_empty() {
            self.told = heard.told.into_iter().map(|told| Standing { told, heard: now }).collect();
        }
        let hold = heard.retry_after.filter(|after| !after.is_zero()).map(|after| now + after.min(BELIEVED));
        self.hold = self.hold.max(hold);
    }

    /// The upstream refused for its rate (429) and told nothing that holds: it is left alone for a while, longer each
    /// time.
    pub fn pause(&mut self, now: Instant) {
        let pause = PAUSE * 2_u32.pow(self.refusals.min(10));
        self.hold = self.hold.max(Some(now + pause.min(LONGEST_PAUSE)));
        self.refusals = self.refusals.saturating_add(1);
    }

    /// The upstream accepted a request.
    pub fn accepted(&mut self) {
        self.refusals = 0;
    }

    /// Why it holds, in words.
    pub fn words(&self, now: Instant, tokens: u64) -> String {
        let limit =
            |meter: &Meter| 60_000_000_000 / meter.nanos_per_unit + meter.burst_nanos / meter.nanos_per_unit - 1;
        let busy = |meter: &&Meter, units| meter.until(now, units).is_some();
        if let Some(meter) = self.requests.as_ref().filter(|meter| busy(meter, 1)) {
            return format!("at its {} requests a minute", limit(meter));
        }
        let meter = self.tokens.as_ref().filter(|meter| busy(meter, tokens));
        meter.map_or("below its limits".into(), |meter| format!("at its {} tokens a minute", limit(meter)))
    }

    /// What was told that holds, in words.
    pub fn told_words(&self, now: Instant, tokens: u64) -> String {
        let holds = |standing: &&Standing| standing.until(now, needs(standing.told.unit, tokens)).is_some();
        let Some(Standing { told, .. }) = self.told.iter().find(holds) else { return "asked to wait".into() };
        let unit = if told.unit == Unit::Requests { "requests" } else { "tokens" };
        let of = told.limit.map_or(String::new(), |limit| format!(" of {limit}"));
        format!("{}{of} {unit} left", told.remaining)
    }
}

/// What a request needs of a limit. It does not know its answer's length: while any output is left, it may go.
fn needs(unit: Unit, tokens: u64) -> u64 {
    if unit == Unit::Tokens { tokens } else { 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn told(remaining: u64, refills: bool) -> Heard {
        let told = Told { unit: Unit::Requests, limit: Some(60), remaining, resets_in: s(60), refills };
        Heard { told: vec![told], retry_after: None }
    }

    #[test]
    fn a_tenth_goes_at_once_and_tokens_are_settled() {
        let now = Instant::now();
        let mut rate = Rate::new(Some(60), Some(60_000), now);
        (0..6).for_each(|_| {
            assert_eq!(rate.until(now, 100), None);
            rate.take(now, 100);
        });
        let free = rate.until(now, 100).expect("the burst is spent") - now;
        assert!(free > s(1) && free < s(2), "{free:?}");
        let mut rate = Rate::new(None, Some(60_000), now);
        rate.take(now, 30_000); // more than the burst: goes, and owes
        assert!(rate.until(now, 1) > Some(now + s(20)));
        rate.settle(now, 30_000, 500);
        assert_eq!(rate.until(now, 1), None);
    }

    #[test]
    fn what_is_told_holds_until_its_reset() {
        let now = Instant::now();
        let mut rate = Rate::new(None, None, now);
        rate.learn(now, told(1, false));
        assert_eq!(rate.told_until(now, 0), None);
        rate.take(now, 0);
        assert_eq!(rate.told_until(now, 0), Some(now + s(60)));
        assert_eq!(rate.told_until(now + s(60), 0), None);
        rate.learn(now, told(0, true)); // one of sixty comes back each second
        assert_eq!(rate.told_until(now, 0), Some(now + s(1)));
        rate.learn(now, Heard { retry_after: Some(s(20)), ..told(9, true) });
        assert_eq!(rate.told_until(now, 0), Some(now + s(20)));
        assert!(rate.is_calm(now + s(60)));
    }

    #[test]
    fn unexplained_refusals_pause_longer_and_longer() {
        let now = Instant::now();
        let mut rate = Rate::new(None, None, now);
        rate.pause(now);
        rate.pause(now + s(1));
        assert_eq!(rate.told_until(now + s(1), 0), Some(now + s(3)));
        rate.accepted();
        rate.pause(now + s(3));
        assert_eq!(rate.told_until(now + s(3), 0), Some(now + s(4)));
    }

    proptest! {
        #[test]
        fn no_minute_sees_more_than_the_limit(rpm in 1_u64..200, steps in prop::collection::vec(0_u64..3_000, 1..400)) {
            let start = Instant::now();
            let mut rate = Rate::new(Some(rpm), None, start);
            let mut now = start;
            let mut gone = Vec::new();
            for step in steps {
                now += Duration::from_millis(step);
                while rate.until(now, 0).is_none() {
                    rate.take(now, 0);
                    gone.push(now);
                }
                // What `until` promises is true.
                let free = rate.until(now, 0).expect("held");
                prop_assert_eq!(rate.until(free, 0), None);
            }
            let most = gone.iter().map(|from| gone.iter().filter(|at| *at >= from && **at < *from + s(60)).count()).max();
            prop_assert!(most <= Some(rpm as usize), "{:?} of {}", most, rpm);
        }
    }
}
