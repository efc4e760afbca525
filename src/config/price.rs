//! What a deployment costs: by its own keys, else by the catalogue; and what is assumed where neither knows.

use super::raw::{RawDeployment, RawRates};
use super::resolved::DeploymentConfig;
use crate::catalog::period::moment;
use crate::catalog::{Entry, Hours, Period, Prices, Rates, Table, Tier, When};
use crate::money::Money;

/// A mistake: the key, and what was expected.
type Mistake = (String, String);

/// The price of a deployment; none where it is not known. An `input` or `output` of its own makes a price of its own, of
/// which nothing is taken from the catalogue: half of two price lists is none. Other keys change the catalogue's.
pub fn prices(raw: &RawDeployment, entry: Option<&Entry>) -> Result<Option<Prices>, Mistake> {
    let own = rates("", raw)?;
    let base = if own.input.is_some() || own.output.is_some() {
        for (key, rate) in [("input", own.input), ("output", own.output)] {
            rate.ok_or_else(|| (key.to_string(), "is missing; a price of its own needs input and output".to_string()))?;
        }
        Prices::flat(own)
    } else if let Some(listed) = entry.and_then(|entry| entry.prices.clone()) {
        let standard = Table { rates: own.over(&listed.standard.rates), ..listed.standard };
        Prices { standard, ..listed }
    } else {
        return Ok(None);
    };
    with_exceptions(base, raw).map(|prices| Some(prices.settled()))
}

fn with_exceptions(mut prices: Prices, raw: &RawDeployment) -> Result<Prices, Mistake> {
    if let Some(dollars) = raw.per_request {
        prices.per_request = amount("per_request", dollars, Money::parse)?;
    }
    if let Some(written) = &raw.tiers {
        prices.standard.tiers = tiers("tiers", written)?;
    }
    if let Some(written) = &raw.batch {
        prices.batch = table("batch", written)?;
    }
    for written in raw.period.iter().flatten() {
        prices.periods.push(Period { when: when(written)?, table: table("period", written)? });
    }
    Ok(prices)
}

fn table(place: &str, raw: &RawRates) -> Result<Table, Mistake> {
    let tiers = tiers(place, raw.tiers.as_deref().unwrap_or_default())?;
    Ok(Table { rates: rates(&format!("{place}."), raw)?, tiers })
}

fn tiers(place: &str, raw: &[RawRates]) -> Result<Vec<Tier>, Mistake> {
    let tier = |raw: &RawRates| {
        let missing = || (format!("{place}.above"), "is missing: the tokens that a prompt must exceed".to_string());
        Ok(Tier { above: raw.above.ok_or_else(missing)?, rates: rates(&format!("{place}."), raw)? })
    };
    raw.iter().map(tier).collect()
}

fn when(raw: &RawRates) -> Result<When, Mistake> {
    let moment = |key: &str, text: &Option<String>, is_end| {
        let read = text.as_deref().map(|text| moment(text, is_end)).transpose();
        read.map_err(|problem| (format!("period.{key}"), problem))
    };
    let hours = raw.hours.iter().flatten().cloned().map(Hours::try_from).collect::<Result<_, _>>();
    Ok(When {
        valid_from: moment("valid_from", &raw.valid_from, false)?,
        valid_until: moment("valid_until", &raw.valid_until, true)?,
        hours: hours.map_err(|problem| ("period.hours".to_string(), problem))?,
    })
}

/// The keys that name rates, in a deployment and in its exceptions.
trait Keys {
    fn keys(&self) -> [(&'static str, Option<f64>); 8];
}

macro_rules! keys {
    ($($table:ident),*) => {$(
        impl Keys for $table {
            fn keys(&self) -> [(&'static str, Option<f64>); 8] {
                [
                    ("input", self.input), ("cached_input", self.cached_input), ("cache_write", self.cache_write),
                    ("cache_write_1h", self.cache_write_1h), ("audio_input", self.audio_input),
                    ("output", self.output), ("reasoning", self.reasoning), ("audio_output", self.audio_output),
                ]
            }
        }
    )*};
}
keys!(RawDeployment, RawRates);

fn rates(place: &str, raw: &impl Keys) -> Result<Rates, Mistake> {
    let mut found = [None; 8];
    for (found, (key, dollars)) in found.iter_mut().zip(raw.keys()) {
        let key = format!("{place}{key}");
        *found = dollars.map(|dollars| amount(&key, dollars, Money::parse_per_mtok)).transpose()?;
    }
    let [input, cached_input, cache_write, cache_write_1h, audio_input, output, reasoning, audio_output] = found;
    Ok(Rates { input, cached_input, cache_write, cache_write_1h, audio_input, output, reasoning, audio_output })
}

/// An amount as its shortest decimal reads, which is how it was written.
fn amount(key: &str, dollars: f64, read: impl Fn(&str) -> Option<Money>) -> Result<Money, Mistake> {
    let amount = read(&dollars.to_string()).filter(|amount| *amount >= Money::ZERO);
    amount.ok_or_else(|| (key.to_string(), format!("expected a number of at least 0, got {dollars}")))
}

/// Dollars per million prompt and answer tokens assumed of a deployment of unknown price where no known one asks for
/// money: what the dearest widely used models cost. A guess, on the side that keeps it from being preferred.
const ASSUMED: [f64; 2] = [15.0, 75.0];

/// Gives deployments of unknown price the dearest known prices of their classes, so that they are ranked last among
/// equals and budgets are not outrun; never nothing.
pub fn assume_unknown(deployments: &mut [DeploymentConfig]) {
    let known: Vec<(Vec<String>, Rates)> = deployments
        .iter()
        .filter(|deployment| deployment.price_known)
        .map(|deployment| (deployment.classes.clone(), deployment.prices.standard.rates))
        .collect();
    for deployment in deployments.iter_mut().filter(|deployment| !deployment.price_known) {
        let shares = |classes: &[String]| classes.iter().any(|class| deployment.classes.contains(class));
        let peers = || known.iter().filter(|(classes, _)| shares(classes)).map(|(_, rates)| rates);
        let dearest = |rate: fn(&Rates) -> Option<Money>, assumed: f64| {
            let most = peers().filter_map(rate).max().filter(|most| *most > Money::ZERO);
            most.unwrap_or(Money::per_mtok(assumed))
        };
        let [input, output] = ASSUMED;
        let rates = Rates::of(dearest(|rates| rates.input, input), dearest(|rates| rates.output, output));
        deployment.prices = Prices::flat(rates).into();
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, layered};
    use crate::money::Money;

    /// The configuration of these deployments at a provider nobody knows.
    fn resolved(deployments: &str) -> crate::error::Result<Config> {
        let provider = "[[provider]]\nname = \"mine\"\nkind = \"openai\"\nbase_url = \"http://127.0.0.1:9/v1\"\n";
        Config::resolve("test.toml", layered("test.toml", &format!("{provider}{deployments}"))?)
    }

    fn deployment(name: &str, keys: &str) -> String {
        format!(
            "[[deployment]]\nname = \"{name}\"\nprovider = \"mine\"\nmodel = \"{name}\"\nclasses = [\"code\"]\n\
             context_tokens = 1000\nmax_output_tokens = 100\n{keys}\n"
        )
    }

    #[test]
    fn an_unknown_price_is_that_of_the_dearest_of_its_class_and_never_nothing() {
        let known = deployment("cheap", "input = 1\noutput = 9") + &deployment("dear", "input = 2\noutput = 3");
        let config = resolved(&(known + &deployment("unknown", ""))).unwrap();
        let unknown = config.deployments.iter().find(|one| one.name == "unknown").unwrap();
        let rates = unknown.prices.standard.rates;
        assert!(!unknown.price_known);
        assert_eq!((rates.input, rates.output), (Some(Money::per_mtok(2.0)), Some(Money::per_mtok(9.0))));
        let alone = resolved(&deployment("unknown", "")).unwrap();
        let rates = alone.deployments.iter().find(|one| one.name == "unknown").unwrap().prices.standard.rates;
        assert!(rates.input > Some(Money::ZERO) && rates.output > Some(Money::ZERO));
    }

    #[test]
    fn exceptions_are_read_and_mistakes_named() {
        let keys = "input = 1\noutput = 2\nper_request = 0.01\nbatch = {input = 0.5, output = 1}\n\
                    tiers = [{above = 200, input = 2}]\n\
                    [[deployment.period]]\nvalid_from = \"2026-01-01\"\nvalid_until = \"2026-01-31\"\ninput = 0.1";
        let config = resolved(&deployment("m", keys)).unwrap();
        let prices = &config.deployments.iter().find(|one| one.name == "m").unwrap().prices;
        assert_eq!((prices.standard.tiers.len(), prices.periods.len()), (1, 1));
        assert_eq!(prices.per_request, Money::parse("0.01").unwrap());
        assert_eq!(prices.batch.rates.input, Some(Money::per_mtok(0.5)));
        for (keys, word) in [
            ("input = 1", "output"),
            ("input = -1\noutput = 1", "-1"),
            ("input = 1\noutput = 1\ntiers = [{input = 2}]", "tiers.above"),
            ("input = 1\noutput = 1\n[[deployment.period]]\nvalid_from = \"soon\"", "period.valid_from"),
            ("input = 1\noutput = 1\nbatch = {inptu = 1}", "inptu"),
            ("catalog = \"nobody/nothing\"", "nobody/nothing"),
        ] {
            let error = resolved(&deployment("m", keys)).unwrap_err().to_string();
            assert!(error.contains(word), "{keys}: {error}");
        }
    }
}
