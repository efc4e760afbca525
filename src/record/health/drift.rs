//! Drift alarms: a deployment whose quality, time to first token or failures left for the worse what was usual of it
//! over the last day.

use super::decay::Decayed;
use super::shift::Shift;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What an alarm is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// Scores of answers, 0..1.
    Quality,
    /// Time to first token, in milliseconds.
    Ttft,
    /// Share of attempts that failed, 0..1.
    Failures,
}

/// A drift that lasts.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Alarm {
    pub deployment: String,
    pub what: What,
    /// When it was noticed, in milliseconds since 1970.
    pub since_ms: u64,
    /// What was usual before.
    pub from: f64,
    /// What it is now, as far as the last values tell.
    pub to: f64,
}

/// An alarm that began or ended with a value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Turn {
    pub what: What,
    pub began: bool,
    pub from: f64,
    pub to: f64,
}

/// Values seen before anything is called unusual.
const FEWEST: f64 = 20.0;

/// The present level is the mean of about so many values.
const PRESENT: f64 = 8.0;

/// An alarm ends when the present level is so few standard deviations from what is usual. That follows in time, so that
/// an alarm about what stays ends, too.
const BACK_WITHIN: f64 = 1.0;

/// One quantity of one deployment, in units in which more is worse.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Watch {
    usual: Decayed,
    squares: f64,
    present: Decayed,
    shift: Shift,
    standing: Option<Standing>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Standing {
    since_s: f64,
    from: f64,
}

/// An alarm that stands, in the watch's own units: since when, what was usual, what is now.
pub type Stands = (f64, f64, f64);

impl Watch {
    /// Lets what is usual fade.
    pub fn fade(&mut self, factor: f64) {
        self.usual.fade(factor);
        self.squares *= factor;
    }

    /// Adds a value; `least_spread` is the least standard deviation believed. `Some(true)` when an alarm begins with
    /// it, `Some(false)` when one ends.
    pub fn add(&mut self, value: f64, least_spread: f64, now_s: f64) -> Option<bool> {
        self.present.cap(PRESENT);
        self.present.add(value, 1.0);
        let usual = self.usual.mean(value, f64::MIN_POSITIVE);
        let spread = (self.squares / self.usual.weight.max(1.0)).sqrt().max(least_spread);
        let known = self.usual.weight >= FEWEST;
        let far = (value - usual).clamp(-3.0 * spread, 3.0 * spread);
        self.usual.add(usual + far, 1.0);
        self.squares += far * far;
        if self.standing.is_some() {
            return (self.level() <= usual + BACK_WITHIN * spread).then(|| self.end());
        }
        let shift = known.then(|| self.shift.add(value, (value - usual) / spread)).flatten()?;
        (shift > usual).then(|| {
            self.standing = Some(Standing { since_s: now_s, from: usual });
            true
        })
    }

    fn end(&mut self) -> bool {
        (self.standing, self.shift) = (None, Shift::default());
        false
    }

    /// The level of the last values.
    pub fn level(&self) -> f64 {
        self.present.mean(0.0, f64::MIN_POSITIVE)
    }

    /// What is usual.
    pub fn usual(&self) -> f64 {
        self.usual.mean(0.0, f64::MIN_POSITIVE)
    }

    /// The alarm, where one stands.
    pub fn stands(&self) -> Option<Stands> {
        self.standing.map(|standing| (standing.since_s, standing.from, self.level()))
    }

    /// Moves the times in it by so many seconds.
    pub fn shift_clock(&mut self, by_s: f64) {
        if let Some(standing) = &mut self.standing {
            standing.since_s += by_s;
        }
    }

    /// Whether these are numbers.
    pub fn is_sound(&self) -> bool {
        let standing = self.standing.is_none_or(|standing| (standing.since_s + standing.from).is_finite());
        standing
            && self.usual.is_sound()
            && self.squares.is_finite()
            && self.present.is_sound()
            && self.shift.is_sound()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_begins_once_and_ends_when_all_is_as_usual_again() {
        let mut watch = Watch::default();
        let mut turns = |values: &mut dyn Iterator<Item = f64>| -> Vec<bool> {
            values.filter_map(|value| watch.add(value, 0.05, 7.0)).collect()
        };
        let usual = |count: usize| (0..count).map(|at| 0.2 + 0.02 * (at % 5) as f64);
        assert_eq!(turns(&mut usual(300)), [false; 0]);
        assert_eq!(
            turns(&mut usual(60).enumerate().map(|(at, value)| if at % 30 == 9 { 0.9 } else { value })),
            [false; 0]
        );
        assert_eq!(turns(&mut std::iter::repeat_n(0.6, 40)), [true]);
        assert_eq!(turns(&mut usual(60)), [false]);
    }

    #[test]
    fn what_stays_becomes_usual() {
        let mut watch = Watch::default();
        assert!((0..50).all(|_| watch.add(0.2, 0.05, 0.0).is_none()));
        let turns: Vec<bool> = (0..2_000).filter_map(|_| watch.add(0.6, 0.05, 0.0)).collect();
        assert_eq!(turns, [true, false]);
    }
}
