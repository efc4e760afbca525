//! LiteLLM's table: one object of `name: {…}`, prices in dollars a token, every exception a key of its own
//! (`input_cost_per_token_above_200k_tokens_batches`).

use super::{count, decimal, published};
use crate::catalog::{Entry, Hours, Period, Prices, Rates, Region, Table, Tier, When};
use crate::money::Money;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The chat models of the table.
pub fn entries(table: &Value) -> Vec<Entry> {
    let Some(table) = table.as_object() else { return Vec::new() };
    let is_chat = |entry: &Value| matches!(entry["mode"].as_str(), Some("chat" | "responses"));
    let chat = table.iter().filter(|(name, entry)| *name != "sample_spec" && is_chat(entry));
    let read = chat.filter_map(|(name, entry)| Some((name.contains('/'), self::entry(name, entry.as_object()?)?)));
    // Of two lines on one model, the one under the provider's full name stays.
    let (mut full, short): (Vec<_>, Vec<_>) = read.partition(|(is_full, _)| *is_full);
    full.extend(short);
    with_regions(full.into_iter().map(|(_, entry)| entry).collect())
}

/// One model; none for what is only a fee.
fn entry(name: &str, raw: &Map<String, Value>) -> Option<Entry> {
    let theirs = raw.get("litellm_provider")?.as_str()?;
    let provider = super::provider(theirs);
    let own_prefix = ["bedrock", "vertex_ai", "azure", "azure_ai", "cohere"]
        .into_iter()
        .chain([theirs])
        .find_map(|prefix| name.strip_prefix(prefix)?.strip_prefix('/'));
    let model = own_prefix.unwrap_or(name);
    let flag = |key: &str| raw.get(key).and_then(Value::as_bool).unwrap_or(false);
    (!model.contains('*') && !model.contains("commitment") && !model.ends_with("container")).then(|| Entry {
        context_tokens: count(raw.get("max_input_tokens")).or_else(|| count(raw.get("max_tokens"))),
        max_output_tokens: count(raw.get("max_output_tokens")),
        vision: flag("supports_vision") || flag("supports_image_input"),
        tools: flag("supports_function_calling"),
        json_schema: flag("supports_response_schema"),
        reasoning: flag("supports_reasoning"),
        audio: flag("supports_audio_input"),
        ends: raw.get("deprecation_date").and_then(Value::as_str).map(String::from),
        prices: published(&provider, model, prices(&provider, model, raw)),
        model: model.into(),
        provider,
    })
}

fn prices(provider: &str, model: &str, raw: &Map<String, Value>) -> Prices {
    // xAI bills the higher tier from the border on, everyone else after it.
    let first = u64::from(provider == "xai");
    let mut standard = table(raw, "", first);
    if let Some(tiers) = raw.get("tiered_pricing").and_then(Value::as_array) {
        standard = ranges(tiers, &standard);
    }
    Prices {
        standard,
        per_request: per_request(model, provider, raw),
        batch: table(raw, "_batches", first),
        flex: table(raw, "_flex", first),
        priority: table(raw, "_priority", first),
        regions: regions(raw),
        periods: raw.get("off_peak_pricing").and_then(Value::as_object).and_then(off_peak).into_iter().collect(),
    }
}

/// What a request itself costs. Perplexity searches for each one and asks a fee that grows with how much is searched; the
/// least is what it takes unless told otherwise. Elsewhere, and for deep research, searches are counted, not requests.
fn per_request(model: &str, provider: &str, raw: &Map<String, Value>) -> Money {
    let searched = raw.get("search_context_cost_per_query").and_then(Value::as_object);
    let is_fee = provider == "perplexity" && model.starts_with("sonar") && !model.contains("research");
    let fee = searched.filter(|_| is_fee).and_then(|fees| money(fees, "search_context_size_low"));
    money(raw, "input_cost_per_request").or(fee).unwrap_or_default()
}

/// Dollars under a key, written as a decimal.
fn money(raw: &Map<String, Value>, key: &str) -> Option<Money> {
    Money::parse(&decimal(raw.get(key)?)?).filter(|amount| *amount >= Money::ZERO)
}

/// The rates whose keys end so.
fn rates(raw: &Map<String, Value>, end: &str) -> Rates {
    let rate = |key: &str| money(raw, &format!("{key}{end}"));
    Rates {
        input: rate("input_cost_per_token"),
        cached_input: rate("cache_read_input_token_cost").or_else(|| rate("input_cost_per_token_cache_hit")),
        // A write for nothing means that the storage costs nothing: the tokens themselves are paid as prompt.
        cache_write: rate("cache_creation_input_token_cost").filter(|rate| *rate > Money::ZERO),
        cache_write_1h: rate("cache_creation_input_token_cost_above_1hr")
            .or_else(|| rate("cache_creation_input_token_cost_above_12hr")),
        audio_input: rate("input_cost_per_audio_token"),
        output: rate("output_cost_per_token"),
        reasoning: rate("output_cost_per_reasoning_token"),
        audio_output: rate("output_cost_per_audio_token"),
    }
}

/// The rates of a service (its keys end in `service`) at every length of prompt.
fn table(raw: &Map<String, Value>, service: &str, first: u64) -> Table {
    let border = |key: &str| {
        let number = key.strip_suffix(service)?.strip_suffix("_tokens")?.rsplit_once("_above_")?.1;
        match number.strip_suffix('k') {
            Some(thousands) => thousands.parse::<u64>().ok().map(|thousands| (number.to_string(), thousands * 1_000)),
            None => number.parse().ok().map(|tokens| (number.to_string(), tokens)),
        }
    };
    let borders: BTreeMap<u64, String> =
        raw.keys().filter_map(|key| border(key)).map(|(written, tokens)| (tokens, written)).collect();
    let tier = |(tokens, written): (&u64, &String)| Tier {
        above: tokens.saturating_sub(first),
        rates: rates(raw, &format!("_above_{written}_tokens{service}")),
    };
    let tiers = borders.iter().map(tier).filter(|tier| tier.rates != Rates::default()).collect();
    Table { rates: rates(raw, service), tiers }
}

/// `tiered_pricing`: ranges of prompt lengths, each with all its rates. What no range says is as in the plain keys.
fn ranges(written: &[Value], plain: &Table) -> Table {
    let mut tiers: Vec<Tier> = written
        .iter()
        .filter_map(|tier| {
            let above = tier.pointer("/range/0").and_then(Value::as_f64)? as u64;
            Some(Tier { above, rates: rates(tier.as_object()?, "") })
        })
        .collect();
    tiers.sort_by_key(|tier| tier.above);
    match tiers.first() {
        Some(first) if first.above == 0 => {
            let base = tiers.remove(0).rates.over(&plain.rates);
            Table { rates: base, tiers }
        }
        _ => plain.clone(),
    }
}

/// What is paid beside the plain price for an answer from within a region.
fn regions(raw: &Map<String, Value>) -> BTreeMap<String, Region> {
    let uplifts = [
        ("eu", "regional_processing_uplift_multiplier_eu"),
        ("us", "regional_processing_uplift_multiplier_us"),
        ("fedramp", "fedramp_uplift_multiplier"),
        // Any endpoint but the global one.
        ("regional", "regional_endpoint_uplift_multiplier"),
    ];
    let specific = raw.get("provider_specific_entry").and_then(|entry| entry.get("us"));
    let written = uplifts.iter().filter_map(|(region, key)| Some((*region, raw.get(*key)?)));
    written
        .chain(specific.map(|times| ("us", times)))
        .filter_map(|(region, times)| {
            // In millionths, read as a decimal: as picodollars of a millionth.
            let times = Money::parse(&format!("{}e-6", decimal(times)?))?.picodollars();
            Some((region.to_string(), Region { times: u64::try_from(times).ok()?, table: Table::default() }))
        })
        .collect()
}

/// The hours at which less is paid.
fn off_peak(raw: &Map<String, Value>) -> Option<Period> {
    let spans = |value: &Value| -> Vec<Hours> {
        let texts = match value {
            Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
            Value::String(text) => vec![text.as_str()],
            _ => Vec::new(),
        };
        texts.into_iter().filter_map(|text| Hours::try_from(text.to_string()).ok()).collect()
    };
    let mut hours = raw.get("hours_utc").map(spans).unwrap_or_default();
    for window in raw.get("windows").and_then(Value::as_array).into_iter().flatten() {
        let days: Option<Vec<u8>> = window
            .get("weekdays")
            .and_then(Value::as_array)
            .map(|days| days.iter().filter_map(Value::as_u64).filter_map(|day| u8::try_from(day).ok()).collect());
        let daily = spans(&window["hours_utc"]);
        hours.extend(daily.into_iter().map(|span| match &days {
            Some(days) => span.on(days.iter().copied()),
            None => span,
        }));
    }
    let when = When { hours, ..When::default() };
    (!when.hours.is_empty()).then(|| Period { when, table: Table::flat(rates(raw, "")) })
}

/// Lines such as `azure/eu/gpt-4o` and `bedrock/eu-west-1/…` are prices of a region where the plain model has a line too.
fn with_regions(mut models: Vec<Entry>) -> Vec<Entry> {
    let mut kept: Vec<Entry> = Vec::new();
    let (regional, plain): (Vec<Entry>, Vec<Entry>) = models.drain(..).partition(|entry| region_of(entry).is_some());
    kept.extend(plain);
    let places: BTreeMap<(String, String), usize> =
        kept.iter().enumerate().rev().map(|(at, entry)| ((entry.provider.clone(), entry.model.clone()), at)).collect();
    for entry in regional {
        let (region, model) = region_of(&entry).expect("partitioned by it");
        let name = (entry.provider.clone(), model.to_string());
        let region = region.to_string();
        let prices = entry.prices.as_ref().map(|prices| prices.standard.clone());
        match (places.get(&name).and_then(|at| kept[*at].prices.as_mut()), prices) {
            (Some(plain), Some(table)) if table != plain.standard => {
                plain.regions.insert(region, Region { times: crate::catalog::prices::WHOLE, table });
            }
            (Some(_), _) => {}
            (None, _) => kept.push(entry),
        }
    }
    kept
}

/// The region in a name, and the name without it.
fn region_of(entry: &Entry) -> Option<(&str, &str)> {
    let (region, model) = entry.model.split_once('/')?;
    let is_region = match entry.provider.as_str() {
        "azure" => matches!(region, "eu" | "us" | "global" | "global-standard"),
        "bedrock" => region.matches('-').count() >= 2 && region.ends_with(|last: char| last.is_ascii_digit()),
        _ => false,
    };
    is_region.then_some((region, model))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Terms;
    use serde_json::json;

    #[test]
    fn every_kind_of_key_is_read() {
        let table = json!({"azure/x": {
            "litellm_provider": "azure", "mode": "chat", "max_input_tokens": 1e6, "supports_vision": true,
            "input_cost_per_token": 2.5e-06, "output_cost_per_token": "1e-05", "cache_read_input_token_cost": 2.5e-07,
            "cache_creation_input_token_cost": 0.0,
            "cache_creation_input_token_cost_above_1hr": 6e-06, "input_cost_per_token_above_272k_tokens": 5e-06,
            "input_cost_per_token_batches": 1.25e-06, "input_cost_per_token_above_272k_tokens_priority": 2e-05,
            "regional_processing_uplift_multiplier_eu": 1.1,
            "off_peak_pricing": {"input_cost_per_token": 1e-06, "windows": [{"hours_utc": "00:00-00:00", "weekdays": [6, 7]}]},
        }, "azure/eu/x": {"litellm_provider": "azure", "mode": "chat", "input_cost_per_token": 3e-06, "output_cost_per_token": 2e-05}});
        let found = entries(&table);
        assert_eq!(found.len(), 1);
        let entry = &found[0];
        assert_eq!((entry.name().as_str(), entry.context_tokens, entry.vision), ("azure/x", Some(1_000_000), true));
        let prices = entry.prices.as_ref().unwrap();
        let written = serde_json::to_value(prices).unwrap();
        assert_eq!(
            written,
            json!({
                "input": 2.5, "cached_input": 0.25, "cache_write_1h": 6.0, "output": 10.0,
                "tiers": [{"above": 272_000, "input": 5.0}], "batch": {"input": 1.25},
                "priority": {"tiers": [{"above": 272_000, "input": 20.0}]},
                "regions": {"eu": {"input": 3.0, "output": 20.0}},
                "periods": [{"hours": ["sat,sun 00:00-00:00"], "input": 1.0}],
            })
        );
    }

    #[test]
    fn ranges_become_tiers_and_nothing_is_no_price() {
        let table = json!({
            "dashscope/q": {"litellm_provider": "dashscope", "mode": "chat", "tiered_pricing": [
                {"input_cost_per_token": 5e-08, "output_cost_per_token": 4e-07, "range": [0, 256000.0]},
                {"input_cost_per_token": 2.5e-07, "output_cost_per_token": 2e-06, "range": [256000.0, 1000000.0]}]},
            "x/unknown": {"litellm_provider": "x", "mode": "chat", "input_cost_per_token": 0, "output_cost_per_token": 0.0},
            "ollama/llama": {"litellm_provider": "ollama", "mode": "chat", "input_cost_per_token": 0, "output_cost_per_token": 0},
            "xai/grok": {"litellm_provider": "xai", "mode": "chat", "input_cost_per_token": 1e-06,
                "output_cost_per_token": 1e-06, "input_cost_per_token_above_200k_tokens": 2e-06},
        });
        let found = entries(&table);
        let prices = |name: &str| found.iter().find(|entry| entry.name() == name).unwrap().prices.clone();
        let terms = Terms::now(None);
        let tiered = prices("dashscope/q").unwrap();
        assert_eq!(tiered.expected(256_000, 0, 0, &terms).total(), Money::parse("0.0128").unwrap());
        assert_eq!(tiered.expected(256_001, 0, 0, &terms).total(), Money::parse("0.06400025").unwrap());
        assert_eq!((prices("x/unknown"), prices("ollama/llama")), (None, Some(Prices::free())));
        let inclusive = prices("xai/grok").unwrap();
        assert_eq!(inclusive.expected(200_000, 0, 0, &terms).total(), Money::parse("0.4").unwrap());
        assert_eq!(inclusive.expected(199_999, 0, 0, &terms).total(), Money::parse("0.199999").unwrap());
    }
}
