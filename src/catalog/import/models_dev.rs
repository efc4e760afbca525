//! models.dev's table: providers with their models, prices in dollars per million tokens.

use super::{count, decimal, published};
use crate::catalog::{Entry, Prices, Rates, Table, Tier};
use crate::money::Money;
use serde_json::Value;

/// The models of the table that write text.
pub fn entries(table: &Value) -> Vec<Entry> {
    let providers = table.as_object().into_iter().flatten();
    let models = providers.flat_map(|(id, provider)| {
        let models = provider["models"].as_object().into_iter().flatten();
        models.map(move |(model, raw)| entry(id, model, raw))
    });
    models.flatten().collect()
}

fn entry(provider: &str, model: &str, raw: &Value) -> Option<Entry> {
    let lists = |kind: &str, what: &str| {
        raw["modalities"][kind].as_array().is_some_and(|list| list.iter().any(|one| one == what))
    };
    let provider = super::provider(provider);
    let flag = |key: &str| raw[key].as_bool().unwrap_or(false);
    let limit = |key: &str| count(raw["limit"].get(key));
    lists("output", "text").then(|| Entry {
        context_tokens: limit("input").or_else(|| limit("context")),
        max_output_tokens: limit("output"),
        vision: lists("input", "image"),
        tools: flag("tool_call"),
        json_schema: flag("structured_output"),
        reasoning: flag("reasoning"),
        audio: lists("input", "audio"),
        ends: None,
        prices: published(&provider, model, prices(&raw["cost"])),
        model: model.into(),
        provider,
    })
}

fn prices(cost: &Value) -> Prices {
    let long = cost["context_over_200k"]
        .is_object()
        .then(|| Tier { above: 200_000, rates: rates(&cost["context_over_200k"]) });
    let tiers: Vec<Tier> = cost["tiers"].as_array().into_iter().flatten().filter_map(tier).collect();
    let tiers = if tiers.is_empty() { long.into_iter().collect() } else { tiers };
    Prices { standard: Table { rates: rates(cost), tiers }, ..Prices::default() }
}

fn tier(raw: &Value) -> Option<Tier> {
    let is_length = raw["tier"]["type"] == "context";
    count(raw["tier"].get("size")).filter(|_| is_length).map(|above| Tier { above, rates: rates(raw) })
}

fn rates(cost: &Value) -> Rates {
    let rate = |key: &str| Money::parse_per_mtok(&decimal(cost.get(key)?)?).filter(|rate| *rate >= Money::ZERO);
    Rates {
        input: rate("input"),
        cached_input: rate("cache_read"),
        cache_write: rate("cache_write"),
        cache_write_1h: None,
        audio_input: rate("input_audio"),
        output: rate("output"),
        reasoning: rate("reasoning"),
        audio_output: rate("output_audio"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_provider_s_models_are_read() {
        let table = json!({"google": {"id": "google", "models": {
            "g": {"modalities": {"input": ["text", "image"], "output": ["text"]}, "tool_call": true,
                "limit": {"context": 1_048_576, "output": 65_536},
                "cost": {"input": 1.25, "output": 10, "cache_read": 0.125, "context_over_200k": {"input": 9},
                    "tiers": [{"input": 2.5, "tier": {"size": 200_000, "type": "context"}}]}},
            "painter": {"modalities": {"input": ["text"], "output": ["image"]}, "limit": {}},
        }}});
        let found = entries(&table);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].name().as_str(), found[0].vision, found[0].tools), ("gemini/g", true, true));
        let written = serde_json::to_value(&found[0].prices).unwrap();
        let tiers = json!([{"above": 200_000, "input": 2.5}]);
        assert_eq!(written, json!({"input": 1.25, "cached_input": 0.125, "output": 10.0, "tiers": tiers}));
    }
}
