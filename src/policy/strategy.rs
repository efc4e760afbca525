//! How deployments that can all answer are put in order. A strategy is one question; several make a list: what the first
//! leaves equal (within `policy.tie_share`), the next decides.

use crate::decision::DeploymentScore;
use parking_lot::Mutex;
use rand::RngExt;
use serde::Serialize;
use utoipa::ToSchema;

/// One question by which deployments are ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// Least expected dollars, where waiting and failing have their price.
    Balanced,
    /// Least expected money; a failure costs another try.
    Cheapest,
    /// Least expected time for the whole answer; a failure costs the time lost.
    Fastest,
    /// Least requests in flight for what it can hold.
    LeastBusy,
    /// Smallest `priority`: the others wait until it fails.
    Priority,
    /// Each in its turn.
    RoundRobin,
    /// By chance, in proportion to `weight`.
    Weighted,
    /// The first in the configuration, and no other.
    Fixed,
}

/// All strategies with their names in configuration and decisions.
pub const STRATEGIES: [(&str, Strategy); 8] = [
    ("balanced", Strategy::Balanced),
    ("cheapest", Strategy::Cheapest),
    ("fastest", Strategy::Fastest),
    ("least_busy", Strategy::LeastBusy),
    ("priority", Strategy::Priority),
    ("round_robin", Strategy::RoundRobin),
    ("weighted", Strategy::Weighted),
    ("fixed", Strategy::Fixed),
];

impl Strategy {
    /// The strategy of this name.
    ///
    /// # Errors
    /// What was expected.
    pub fn parse(name: &str) -> Result<Self, String> {
        let found = STRATEGIES.iter().find(|(known, _)| *known == name);
        let known = || STRATEGIES.iter().map(|(known, _)| *known).collect::<Vec<_>>().join(", ");
        found.map(|(_, strategy)| *strategy).ok_or_else(|| format!("expected one of {}, got `{name}`", known()))
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        STRATEGIES.iter().find(|(_, strategy)| *strategy == self).map_or("", |(name, _)| name)
    }

    /// Whether it may be followed by another: those that never leave anything equal may not.
    pub fn leaves_ties(self) -> bool {
        !matches!(self, Strategy::RoundRobin | Strategy::Weighted | Strategy::Fixed)
    }

    /// What is compared, the smaller first.
    pub fn key(self, score: &DeploymentScore) -> f64 {
        match self {
            Strategy::Balanced => score.score,
            Strategy::Cheapest => score.cost().dollars() / (1.0 - score.failure_share),
            Strategy::Fastest => score.latency_ms() + score.failure_ms,
            Strategy::LeastBusy => (score.in_flight as f64 + 1.0) / score.capacity,
            Strategy::Priority => f64::from(score.priority),
            Strategy::Fixed | Strategy::RoundRobin => score.index as f64,
            // Efraimidis and Spirakis: ordering by -ln(u) / weight draws without replacement in proportion to weight.
            Strategy::Weighted => -rand::rng().random_range(f64::MIN_POSITIVE..1.0).ln() / score.weight.max(1e-9),
        }
    }

    /// Whether two keys count as equal: numbers that are measured or estimated within the share, others exactly.
    fn equal(self, best: f64, other: f64, tie_share: f64) -> bool {
        match self {
            Strategy::Balanced | Strategy::Cheapest | Strategy::Fastest => other <= best + tie_share * best.abs(),
            _ => other <= best,
        }
    }
}

/// Whether strategies may stand in this order.
///
/// # Errors
/// What is wrong with it.
pub fn check(strategies: &[Strategy]) -> Result<(), String> {
    let before_last = strategies.split_last().map_or(&[][..], |(_, before)| before);
    if let Some(strategy) = before_last.iter().find(|strategy| !strategy.leaves_ties()) {
        return Err(format!("`{}` leaves nothing to decide for what follows it", strategy.name()));
    }
    match strategies {
        [_, .., Strategy::Fixed] => Err("`fixed` is one deployment and no other: it stands alone".into()),
        _ => Ok(()),
    }
}

/// Whose turn it is, where each takes its turn: for each deployment the number of its last turn. Whoever waited longest is
/// next, so that turns are even whichever deployments each request can go to, and one that comes back from a limit gets
/// one turn and not all it has missed.
///
/// Locked to compare a few numbers and write one, so that two requests at once never get the same turn.
#[derive(Debug, Default)]
pub struct Turns(Mutex<Vec<u64>>);

impl Turns {
    /// Puts whoever waited longest first, and takes that turn; a `dry` look leaves it.
    fn order(&self, scores: &mut [DeploymentScore], dry: bool) {
        let mut turns = self.0.lock();
        let places = scores.iter().map(|score| score.index + 1).max().unwrap_or(0);
        if turns.len() < places {
            turns.resize(places, 0);
        }
        scores.sort_by_key(|score| (turns[score.index], score.index));
        if let (Some(first), false) = (scores.first(), dry) {
            turns[first.index] = turns.iter().max().map_or(0, |last| last + 1);
        }
    }
}

/// Puts `scores`, all of which can answer equally well, in the order of the strategies. `rest` (recent use, smaller
/// first) decides what all of them leave equal, after the load. Returns what decided the first place where the first
/// strategy left several.
pub fn order(
    scores: &mut [DeploymentScore],
    strategies: &[Strategy],
    tie_share: f64,
    turns: &Turns,
    dry: bool,
    rest: &dyn Fn(usize) -> u64,
) -> Option<String> {
    let Some((strategy, later)) = strategies.split_first() else { return by_use(scores, rest) };
    if scores.len() < 2 {
        return None;
    }
    let tied = sort(scores, |score| strategy.key(score), |best, other| strategy.equal(best, other, tie_share));
    if *strategy == Strategy::RoundRobin {
        turns.order(scores, dry);
        return None;
    }
    if !strategy.leaves_ties() {
        return None;
    }
    // Those that come next, should the first fail: what is equal among them the later strategies decide as well.
    let mut from = tied;
    while !later.is_empty() && from < scores.len() {
        let best = strategy.key(&scores[from]);
        let equal = scores[from..].iter().take_while(|score| strategy.equal(best, strategy.key(score), tie_share));
        // At least itself: whatever a key is, the end is reached.
        let to = from + equal.count().max(1);
        order(&mut scores[from..to], later, tie_share, turns, true, rest);
        from = to;
    }
    if tied < 2 {
        return None;
    }
    let decided = order(&mut scores[..tied], later, tie_share, turns, dry, rest);
    let by = decided.or_else(|| later.first().map(|later| later.name().to_string()))?;
    let margin = if tie_share > 0.0 { format!(" within {:.0} %", tie_share * 100.0) } else { String::new() };
    Some(if later.is_empty() {
        format!("{tied} deployments{margin} of the best by {}: {by}", strategy.name())
    } else {
        by
    })
}

/// The last word: least busy, then least recently chosen; never the alphabet.
fn by_use(scores: &mut [DeploymentScore], rest: &dyn Fn(usize) -> u64) -> Option<String> {
    // Cached: what `rest` reads changes while other requests are chosen.
    scores.sort_by_cached_key(|score| (score.in_flight, rest(score.index)));
    let decided_by = match scores {
        [first, second, ..] if first.in_flight < second.in_flight => "least busy",
        _ => "least recently chosen",
    };
    Some(decided_by.into())
}

/// Sorts by a key and tells how many count as equal to the first.
fn sort(
    scores: &mut [DeploymentScore],
    key: impl Fn(&DeploymentScore) -> f64,
    equal: impl Fn(f64, f64) -> bool,
) -> usize {
    let mut keys: Vec<(f64, usize)> = scores.iter().enumerate().map(|(at, score)| (key(score), at)).collect();
    let by_key = |a: &(f64, usize), b: &(f64, usize)| a.0.total_cmp(&b.0).then_with(|| a.1.cmp(&b.1));
    keys.sort_unstable_by(by_key);
    let best = keys.first().map_or(0.0, |(key, _)| *key);
    let tied = keys.iter().take_while(|(key, _)| equal(best, *key)).count();
    permute(scores, keys.into_iter().map(|(_, at)| at).collect());
    tied
}

/// Puts what is at `order[i]` in place `i`, by swaps: the values are large.
pub fn permute<T>(values: &mut [T], mut order: Vec<usize>) {
    for at in 0..values.len() {
        let mut from = order[at];
        // What stood there may have been moved on by an earlier swap.
        while from < at {
            from = order[from];
        }
        values.swap(at, from);
        order[at] = from;
    }
}
