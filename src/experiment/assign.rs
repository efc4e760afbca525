//! Which arm a unit is in: weighted rendezvous hashing (Schindelhauer and Schomaker 2005) on SHA-256 of names alone, so
//! that it needs no memory and never changes.
//!
//! Every arm draws an exponential waiting time for the unit, divided by the arm's share; the shortest wins. An arm that
//! is added, or whose share alone is raised against the others', only gains units, and as many as its share says;
//! between the others nothing moves. No stateless rule can do better for every change: with shares laid side by side
//! on a line, raising the first would push units from each arm into the next.

use crate::config::{ExperimentConfig, UnitKind};
use sha2::{Digest, Sha256};

/// Who sent a request, and what is known of it without any experiment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Subject<'a> {
    /// The class it gets without any experiment: what an arm would choose must not decide who is in it.
    pub class: &'a str,
    pub tags: &'a [String],
    pub session: Option<&'a str>,
    pub user: Option<&'a str>,
    pub key: Option<&'a str>,
    /// The decision's id.
    pub request: &'a str,
    pub fixed: Fixed,
}

/// What the caller fixed: no experiment changes that.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fixed {
    pub policy: bool,
    pub class: bool,
    pub deployment: bool,
}

impl Fixed {
    /// Whether an arm that sets this key would overrule the caller.
    fn forbids(self, key: &str) -> bool {
        match key {
            "policy" => self.policy || self.deployment,
            "class" | "routing_model" => self.class || self.deployment,
            _ => self.deployment,
        }
    }
}

/// A number in (0, 1] that hangs on the words alone.
fn place(words: &[&str]) -> f64 {
    // The 53 bits that a float holds; never 0, whose logarithm is none.
    ((hash(words) >> 11) + 1) as f64 / (1u64 << 53) as f64
}

/// The first 64 bits of the SHA-256 of the words, each ended by a zero byte.
fn hash(words: &[&str]) -> u64 {
    let mut hasher = Sha256::new();
    for word in words {
        hasher.update(word.as_bytes());
        hasher.update([0]);
    }
    let digest: [u8; 32] = hasher.finalize().into();
    u64::from_be_bytes(digest[..8].try_into().expect("eight of 32 bytes"))
}

/// What stands for a unit in logs: it tells requests of one unit, and not whose they are.
pub fn unit_hash(experiment: &str, unit: &str) -> u64 {
    hash(&["unit", experiment, unit])
}

/// Whether something with this id is in a sample of so large a share; one of a smaller share is in every larger one.
pub fn sampled(purpose: &str, id: &str, share: f64) -> bool {
    place(&["sample", purpose, id]) <= share
}

/// The place of the winner among names with shares.
pub fn winner<'a>(purpose: &str, unit: &str, shares: impl Iterator<Item = (&'a str, f64)>) -> Option<usize> {
    let wait = |(name, share): (&str, f64)| -place(&["arm", purpose, name, unit]).ln() / share;
    shares.map(wait).enumerate().min_by(|a, b| a.1.total_cmp(&b.1)).map(|(at, _)| at)
}

/// The name of nobody, who gets what a layer's experiments leave; no experiment can have it.
const NOBODY: &str = "";

impl ExperimentConfig {
    /// The unit of a request, where it has one.
    pub fn unit<'a>(&self, subject: &Subject<'a>) -> Option<&'a str> {
        match self.by {
            UnitKind::Session => subject.session,
            UnitKind::User => subject.user,
            UnitKind::Key => subject.key,
            UnitKind::Request => Some(subject.request),
        }
    }

    /// Whether it takes such requests.
    pub fn takes(&self, subject: &Subject<'_>) -> bool {
        (self.classes.is_empty() || self.classes.iter().any(|class| class == subject.class))
            && self.tags.iter().all(|tag| subject.tags.contains(tag))
            && !self.keys().any(|key| subject.fixed.forbids(key))
    }

    /// Whether a unit takes part; `all` are the experiments, among them those of its layer.
    pub fn has(&self, unit: &str, all: &[&ExperimentConfig]) -> bool {
        let Some(layer) = &self.layer else { return sampled(&self.name, unit, self.share) };
        let inside: Vec<_> = all.iter().filter(|one| one.layer.as_ref() == Some(layer)).collect();
        let left = 1.0 - inside.iter().map(|one| one.share).sum::<f64>();
        let nobody = (left > 0.0).then_some((NOBODY, left));
        let shares = inside.iter().map(|one| (one.name.as_str(), one.share)).chain(nobody);
        winner(&format!("layer {layer}"), unit, shares)
            .and_then(|at| inside.get(at))
            .is_some_and(|one| one.name == self.name)
    }

    /// The arm of a unit that takes part.
    pub fn arm(&self, unit: &str) -> usize {
        winner(&self.name, unit, self.arms.iter().map(|arm| (arm.name.as_str(), arm.share))).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ArmConfig, Change, ExperimentKind};

    const UNITS: usize = 100_000;

    fn experiment(name: &str, arms: &[(&str, f64)]) -> ExperimentConfig {
        let arm =
            |(name, share): &(&str, f64)| ArmConfig { name: (*name).into(), share: *share, change: Change::default() };
        ExperimentConfig {
            name: name.into(),
            by: UnitKind::Session,
            layer: None,
            classes: vec![],
            tags: vec![],
            share: 1.0,
            arms: arms.iter().map(arm).collect(),
            kind: ExperimentKind::Split,
        }
    }

    fn units() -> impl Iterator<Item = String> {
        (0..UNITS).map(|unit| format!("session-{unit}"))
    }

    fn arms(experiment: &ExperimentConfig) -> Vec<usize> {
        units().map(|unit| experiment.arm(&unit)).collect()
    }

    fn chi_square(pairs: &[(f64, f64)]) -> f64 {
        pairs.iter().map(|(seen, expected)| (seen - expected).powi(2) / expected).sum()
    }

    #[test]
    fn arms_get_their_shares_and_experiments_are_independent() {
        let (one, two) = (experiment("one", &[("a", 0.7), ("b", 0.3)]), experiment("two", &[("a", 0.5), ("b", 0.5)]));
        let (first, second) = (arms(&one), arms(&two));
        let mut cells = vec![];
        for (a, share) in one.arms.iter().enumerate() {
            for (b, other) in two.arms.iter().enumerate() {
                let seen = first.iter().zip(&second).filter(|(x, y)| (**x, **y) == (a, b)).count();
                cells.push((seen as f64, UNITS as f64 * share.share * other.share));
            }
        }
        // 3 degrees of freedom: 16.27 is passed once in a thousand draws; the hash is fixed, so this is no chance.
        assert!(chi_square(&cells) < 16.27, "{cells:?}");
    }

    #[test]
    fn an_arm_is_for_ever() {
        let one = experiment("one", &[("control", 0.5), ("b", 0.5)]);
        let kept: Vec<usize> = units().take(16).map(|unit| one.arm(&unit)).collect();
        // Computed once with another implementation of SHA-256.
        assert_eq!(kept, [0, 1, 1, 0, 1, 0, 1, 1, 1, 1, 1, 0, 1, 0, 1, 1]);
        assert_eq!(unit_hash("one", "session-0"), 0x171d334956622235);
    }

    #[test]
    fn a_new_arm_takes_its_share_and_nothing_else_moves() {
        let before = arms(&experiment("one", &[("a", 0.5), ("b", 0.5)]));
        let after = arms(&experiment("one", &[("b", 0.45), ("a", 0.45), ("c", 0.1)]));
        // In the second the order is another: b, a, c.
        let moved = before.iter().zip(&after).filter(|(before, after)| 1 - **before != **after);
        let to: Vec<usize> = moved.map(|(_, after)| *after).collect();
        assert!(to.iter().all(|arm| *arm == 2), "only into the new one");
        assert!((to.len() as f64 / UNITS as f64 - 0.1).abs() < 0.005);
        let (fewer, more) =
            (experiment("one", &[("a", 0.6), ("b", 0.4)]), experiment("one", &[("a", 0.7), ("b", 0.3)]));
        let moved: Vec<_> = arms(&fewer).into_iter().zip(arms(&more)).filter(|(x, y)| x != y).collect();
        assert!(moved.iter().all(|pair| *pair == (1, 0)));
        assert!((moved.len() as f64 / UNITS as f64 - 0.1).abs() < 0.005);
    }

    #[test]
    fn a_layer_shares_its_units_out() {
        let inside = |name: &str, share| ExperimentConfig {
            layer: Some("l".into()),
            share,
            ..experiment(name, &[("a", 0.5), ("b", 0.5)])
        };
        let (one, two) = (inside("one", 0.5), inside("two", 0.3));
        let all = [&one, &two];
        let (mut first, mut second, mut b) = (0, 0, 0);
        for unit in units() {
            let (x, y) = (one.has(&unit, &all), two.has(&unit, &all));
            assert!(!(x && y), "in both");
            (first, second) = (first + usize::from(x), second + usize::from(y));
            b += usize::from(x && one.arm(&unit) == 1);
        }
        let near = |count: usize, share: f64| (count as f64 / UNITS as f64 - share).abs() < 0.01;
        assert!(near(first, 0.5) && near(second, 0.3) && near(b, 0.25), "{first} {second} {b}");
        assert!(units().filter(|unit| sampled("s", unit, 0.1)).all(|unit| sampled("s", &unit, 0.2)));
    }

    #[test]
    fn what_a_caller_fixed_is_left_alone() {
        let mut one = experiment("one", &[("a", 0.5), ("b", 0.5)]);
        one.arms[1].change.policy = Some("cheap".into());
        let subject = Subject { class: "code", ..Subject::default() };
        assert!(one.takes(&subject));
        assert!(one.takes(&Subject { fixed: Fixed { class: true, ..Fixed::default() }, ..subject }));
        assert!(!one.takes(&Subject { fixed: Fixed { policy: true, ..Fixed::default() }, ..subject }));
        assert!(!one.takes(&Subject { fixed: Fixed { deployment: true, ..Fixed::default() }, ..subject }));
        one.tags = vec!["nightly".into()];
        assert!(!one.takes(&subject));
    }
}
