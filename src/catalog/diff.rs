//! What would change from one catalogue to another.

use super::{Catalog, Entry};
use crate::money::Money;
use serde::Serialize;
use std::collections::BTreeMap;

/// One model that differs.
#[derive(Debug, PartialEq, Serialize)]
pub struct Difference {
    /// `provider/model`.
    pub model: String,
    pub kind: Kind,
    /// What differs of a model that both know.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<Change>,
}

/// How a model differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    New,
    Gone,
    Changed,
}

/// One value of a model; prices in dollars per million tokens.
#[derive(Debug, PartialEq, Serialize)]
pub struct Change {
    pub key: &'static str,
    pub from: Option<f64>,
    pub to: Option<f64>,
    /// By how much it rises, in percent of what it was; absent where either is absent, or it was nothing.
    pub percent: Option<f64>,
}

impl Change {
    fn of(key: &'static str, from: Option<f64>, to: Option<f64>) -> Option<Self> {
        let percent = from.zip(to).filter(|(from, _)| *from > 0.0).map(|(from, to)| 100.0 * (to - from) / from);
        (from != to).then_some(Change { key, from, to, percent })
    }
}

/// All models that differ, by name.
pub fn differences(old: &Catalog, new: &Catalog) -> Vec<Difference> {
    let by_name = |catalog: &Catalog| catalog.models.iter().cloned().map(|entry| (entry.name(), entry)).collect();
    let (old, new): (BTreeMap<String, Entry>, BTreeMap<String, Entry>) = (by_name(old), by_name(new));
    let names: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let compared = names.into_iter().filter_map(|name| match (old.get(name), new.get(name)) {
        (Some(before), Some(after)) => changed(name, before, after),
        (None, _) => Some(Difference { model: name.clone(), kind: Kind::New, changes: Vec::new() }),
        (_, None) => Some(Difference { model: name.clone(), kind: Kind::Gone, changes: Vec::new() }),
    });
    compared.collect()
}

fn changed(name: &str, before: &Entry, after: &Entry) -> Option<Difference> {
    let rates = |entry: &Entry| entry.prices.as_ref().map(|prices| prices.standard.rates.kinds());
    let nothing = crate::catalog::Rates::default().kinds();
    let (old, new) = (rates(before).unwrap_or(nothing), rates(after).unwrap_or(nothing));
    let dollars = |rate: Option<Money>| rate.map(Money::dollars_per_mtok);
    let mut changes: Vec<Change> =
        old.iter().zip(new).filter_map(|((key, old), (_, new))| Change::of(key, dollars(*old), dollars(new))).collect();
    let tokens = |count: Option<u64>| count.map(|count| count as f64);
    let limits = [
        ("context_tokens", before.context_tokens, after.context_tokens),
        ("max_output_tokens", before.max_output_tokens, after.max_output_tokens),
    ];
    changes.extend(limits.into_iter().filter_map(|(key, old, new)| Change::of(key, tokens(old), tokens(new))));
    // Tiers, services, regions, periods and capabilities have no one number: that they differ is told.
    let others = |entry: &Entry| {
        let mut rest = entry.clone();
        (rest.context_tokens, rest.max_output_tokens) = (None, None);
        if let Some(prices) = &mut rest.prices {
            prices.standard.rates = crate::catalog::Rates::default();
        }
        rest
    };
    if others(before) != others(after) {
        changes.push(Change { key: "other", from: None, to: None, percent: None });
    }
    (!changes.is_empty()).then(|| Difference { model: name.into(), kind: Kind::Changed, changes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{Prices, Rates};

    fn catalog(models: &[(&str, f64)]) -> Catalog {
        let entry = |(model, input): &(&str, f64)| Entry {
            provider: "p".into(),
            model: (*model).into(),
            prices: Some(Prices::flat(Rates::of(Money::per_mtok(*input), Money::per_mtok(1.0)))),
            ..Entry::default()
        };
        Catalog::new(Vec::new(), models.iter().map(entry).collect())
    }

    #[test]
    fn new_gone_and_dearer_models_are_told_apart() {
        let found = differences(
            &catalog(&[("a", 2.0), ("b", 1.0), ("d", 1.0)]),
            &catalog(&[("a", 3.0), ("c", 1.0), ("d", 1.0)]),
        );
        let told: Vec<_> = found.iter().map(|one| (one.model.as_str(), one.kind)).collect();
        assert_eq!(told, [("p/a", Kind::Changed), ("p/b", Kind::Gone), ("p/c", Kind::New)]);
        assert_eq!(found[0].changes, [Change { key: "input", from: Some(2.0), to: Some(3.0), percent: Some(50.0) }]);
    }
}
