//! What a file of requests would have cost: every line goes the router's own road (rules, class, ranking of deployments,
//! the conversation's cached prefix), at configured and catalogue prices, and nothing is sent. Beside it stands what the
//! same requests would have taken on one deployment alone.
//!
//! `case.rs` reads a line, `road.rs` decides about it and counts, `sum.rs` adds up, `report.rs` is what comes out.
//! Assumed and not simulated: every deployment is as fast as `[record]` assumes, none fails, none is at a limit, and no
//! request is spent on learning (`[record] explore_share`), nor on shadows, hedges or the judge.

mod case;
mod report;
mod road;
mod sum;

pub use report::{Line, Report, Saved, Share};
pub use sum::{Dollars, Mean, Sum, thousands};

use crate::classifier::RoutingModel;
use crate::classifier::model::Read;
use crate::config::{ClassConfig, Config};
use crate::embedder::{Embedder, Encoder, EncoderSpec};
use crate::error::{Error, Result};
use crate::policy::Policy;
use crate::providers::Fleet;
use crate::reader::Reader;
use crate::router::{Router, fits};
use crate::training::parallel::in_order;
use case::Case;
use jiff::Timestamp;
use road::{Clock, Road, Singles};
use std::sync::Arc;

/// Mistakes that a report tells in full.
const MISTAKES_TOLD: usize = 5;

/// How a file is simulated.
pub struct Settings {
    pub config: Config,
    pub model: Arc<RoutingModel>,
    /// How the encoder is used; its files are not looked at.
    pub spec: EncoderSpec,
    /// Policies laid over the configured one, as in the header x-waypost-policy; each makes a road of its own. The first
    /// is what everything else is compared with; an empty one is the configured policy.
    pub policies: Vec<String>,
    /// A line's class counts, and no prompt is read.
    pub by_class: bool,
    /// What a request names by its `model` does not count.
    pub auto: bool,
    /// The time of lines that name none.
    pub now: Timestamp,
    pub threads: usize,
}

/// A simulation under way.
pub struct Simulation {
    roads: Vec<Road>,
    singles: Singles,
    model: Arc<RoutingModel>,
    encoder: Option<Encoder>,
    clock: Clock,
    auto: bool,
    threads: usize,
    lines: u64,
    /// Lines that could not be read, and the first of them.
    failed: u64,
    mistakes: Vec<String>,
    /// Requests whose `model` is nothing of ours.
    renamed: u64,
    recorded: Dollars,
    recorded_requests: u64,
}

impl Simulation {
    /// Before the first line.
    ///
    /// # Errors
    /// [`Error::Config`] where no deployment serves anything, [`Error::BadRequest`] for a policy that cannot be read.
    pub fn new(settings: Settings) -> Result<Self> {
        let model = settings.model;
        let mut config = settings.config;
        // Nothing is learned here, so nothing is spent on learning.
        config.record.explore_share = 0.0;
        for policy in &settings.policies {
            Policy::for_request(&config.policy, &config.policies, Some(policy))?;
        }
        let router = || {
            let idle = Reader::new(Embedder::idle(settings.spec.clone()), config.routing.early_exit, 1);
            Router::assemble(config.clone(), model.clone(), idle, Fleet::offline(&config))
        };
        let roads: Vec<Road> =
            settings.policies.iter().map(|policy| Road::new(policy, router(), settings.by_class)).collect();
        let serves = |road: &Road| road.router.fleet.all().iter().any(|own| !own.config.classes.is_empty());
        let Some(first) = roads.first().filter(|road| serves(road)) else {
            let problem = "no deployment serves any class; expected a [[deployment]] whose provider is enabled".into();
            return Err(Error::Config { file: config.file.clone(), key: "deployment".into(), problem });
        };
        Ok(Simulation {
            singles: Singles::new(&first.router),
            roads,
            model,
            encoder: None,
            clock: Clock::new(settings.now),
            auto: settings.auto,
            threads: settings.threads,
            lines: 0,
            failed: 0,
            mistakes: Vec::new(),
            renamed: 0,
            recorded: Dollars::default(),
            recorded_requests: 0,
        })
    }

    /// Simulates some lines with their numbers, in order. `encoder` is called once, when the first prompt must be read;
    /// `tell` after each line that was.
    ///
    /// # Errors
    /// What `encoder` fails with, an encoder that the routing model does not fit, a panic while reading. A line that
    /// cannot be read is no error, but part of the report.
    pub fn run(
        &mut self,
        lines: &[(usize, Vec<u8>)],
        encoder: &dyn Fn() -> Result<Encoder>,
        tell: &(dyn Fn() + Sync),
    ) -> Result<()> {
        let lines: Vec<_> = lines.iter().filter(|(_, line)| !line.trim_ascii().is_empty()).collect();
        let parsed = in_order(&lines, self.threads, |(_, line)| Case::parse(line))?;
        let mut cases = Vec::new();
        for ((number, _), case) in lines.iter().zip(parsed) {
            self.lines += 1;
            match case.and_then(|case| self.check(case)) {
                Ok(case) => cases.push(case),
                Err(problem) => self.fail(*number, &problem),
            }
        }
        let reads = self.read(&cases, encoder, tell)?;
        for (case, read) in cases.iter().zip(&reads) {
            let moment = self.clock.of(case);
            let read = read.as_ref().map(|read| (&self.model, read));
            for (at, road) in self.roads.iter_mut().enumerate() {
                road.take(case, moment, read, (at == 0).then_some(&mut self.singles));
            }
        }
        Ok(())
    }

    /// What came out. `baselines` are names of deployments that are told apart, beside the best and the cheapest.
    ///
    /// # Errors
    /// [`Error::Model`] for a baseline that is no deployment.
    pub fn report(&self, baselines: &[String]) -> Result<Report> {
        report::report(self, baselines)
    }

    /// A line whose names are all known here; its `model` is `auto` where it is nothing of ours.
    fn check(&mut self, mut case: Case) -> std::result::Result<Case, String> {
        let router = &self.roads[0].router;
        let names = [("class", &case.class), ("label", &case.label)];
        let known = |name: &String| router.config.classes.iter().any(|class: &ClassConfig| class.name == *name);
        for (key, name) in names {
            if let Some(name) = name.as_ref().filter(|name| !known(name)) {
                let expected = router.class_names();
                return Err(format!("`{key}`: no [[class]] is named `{name}`; expected one of {expected}"));
            }
        }
        // Rules come first: they may know a name that is nothing else.
        let unknown = || {
            let wish = router.wish(&case.request, &case.caller, &case.features);
            matches!(wish, Err(Error::UnknownModel { .. }))
        };
        if self.auto || unknown() {
            self.renamed += if self.auto { 0 } else { case.count };
            case.request.model = "auto".into();
        }
        if let Some(recorded) = case.recorded {
            self.recorded.add(recorded, case.count);
            self.recorded_requests += case.count;
        }
        Ok(case)
    }

    /// What the routing model makes of each prompt that some road must read.
    fn read(
        &mut self,
        cases: &[Case],
        encoder: &dyn Fn() -> Result<Encoder>,
        tell: &(dyn Fn() + Sync),
    ) -> Result<Vec<Option<Arc<Read>>>> {
        let texts = in_order(cases, self.threads, |case| {
            let moment = self.clock.of(case);
            self.roads.iter().find_map(|road| road.text(case, moment))
        })?;
        if self.encoder.is_none() && texts.iter().any(Option::is_some) {
            let encoder = encoder()?;
            fits(&self.roads[0].router.config, encoder.spec(), &self.model)?;
            self.model.grow_graph();
            self.encoder = Some(encoder);
        }
        let early = self.roads[0].router.config.routing.early_exit;
        let reads = in_order(&texts, self.threads, |text| {
            let read = text.as_ref().zip(self.encoder.as_ref());
            let read = read.map(|(text, encoder)| self.model.read(encoder, text, early).map(Arc::new)).transpose();
            tell();
            read
        })?;
        reads.into_iter().collect()
    }

    fn fail(&mut self, number: usize, problem: &str) {
        self.failed += 1;
        if self.mistakes.len() < MISTAKES_TOLD {
            self.mistakes.push(format!("line {number}: {problem}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::layered;
    use std::sync::LazyLock;

    /// Nobody asks it; reading it takes a while.
    static MODEL: LazyLock<Arc<RoutingModel>> = LazyLock::new(|| Arc::new(RoutingModel::builtin().unwrap()));

    const CONFIG: &str = r#"
        [policy]
        tie_share = 0.0
        value_of_second = 0.0
        [policies.wide]
        tie_share = 10_000.0
        [[rule]]
        name = "night"
        when = { between = "00:00-06:00" }
        deployment = "p/night"
        [[rule]]
        name = "no"
        when = { tags = ["secret"] }
        refuse = "not here"
        [[provider]]
        name = "p"
        kind = "openai"
        key = "env:A_KEY_THAT_NOBODY_SETS"
        [[deployment]]
        name = "p/strong"
        provider = "p"
        model = "strong"
        classes = ["advanced"]
        input = 15.0
        cached_input = 1.5
        output = 45.0
        context_tokens = 100_000
        max_output_tokens = 10_000
        [[deployment]]
        name = "p/small"
        provider = "p"
        model = "small"
        classes = ["basic", "general"]
        input = 0.1
        output = 0.1
        context_tokens = 1_000
        max_output_tokens = 1_000
        [[deployment]]
        name = "p/night"
        provider = "p"
        model = "night"
        classes = []
        input = 1.0
        output = 1.0
        context_tokens = 100_000
        max_output_tokens = 10_000
        [[deployment.period]]
        valid_from = "2026-06-01"
        input = 2.0
    "#;

    /// What comes of lines under a configuration, each policy by class at noon.
    fn simulated(config: &str, policies: &[&str], lines: &[&str]) -> Report {
        let mut config = Config::resolve_keyless("test.toml", layered("test.toml", config).unwrap()).unwrap();
        config.providers.retain(|provider| provider.name == "p");
        config.deployments.retain(|deployment| deployment.provider == "p");
        let spec = crate::start::encoder_unfetched(&config.embedder).unwrap();
        let policies = policies.iter().map(|policy| policy.to_string()).collect();
        let settings = Settings {
            config,
            model: MODEL.clone(),
            spec,
            policies,
            by_class: true,
            auto: false,
            now: "2026-01-05T12:00:00Z".parse().unwrap(),
            threads: 1,
        };
        let mut simulation = Simulation::new(settings).unwrap();
        let lines: Vec<_> = lines.iter().enumerate().map(|(at, line)| (at + 1, line.as_bytes().to_vec())).collect();
        simulation.run(&lines, &|| unreachable!("no prompt is read"), &|| {}).unwrap();
        simulation.report(&[]).unwrap()
    }

    fn cost(report: &Report) -> String {
        report.routed.sum.dollars.to_string()
    }

    #[test]
    fn requests_are_routed_by_class_and_compared_with_one_deployment_alone() {
        let report = simulated(
            CONFIG,
            &["", "wide"],
            &[
                r#"{"class": "advanced", "tokens_in": 1000, "tokens_out": 1000, "count": 10}"#,
                r#"{"class": "basic", "label": "general", "tokens_in": 500, "tokens_out": 500, "count": 90}"#,
                "not a request",
            ],
        );
        // 10 x (0.015 + 0.045) + 90 x 1,000 x 0.0000001
        assert_eq!(cost(&report), "$0.609000");
        assert_eq!((report.routed.sum.quality.get(), report.able), (Some(0.1), Some(1.0)));
        assert_eq!((report.failed, report.mistakes.len()), (1, 1));
        let [best] = &report.baselines[..] else { panic!("{:?}", report.baselines) };
        // The small one cannot hold ten of the requests: it is no baseline for all of them.
        assert_eq!((best.name.as_str(), best.role.as_str()), ("p/strong", "best single, cheapest single"));
        // 10 x 0.06 + 90 x 0.03
        assert_eq!(best.sum.dollars.to_string(), "$3.30");
        // Who answers a class alone answers it under any policy.
        assert_eq!(report.policies[0].sum.dollars.to_string(), "$0.609000");
    }

    #[test]
    fn rules_dated_prices_and_refusals_go_by_the_time_of_the_line() {
        let night = r#"{"class": "advanced", "tokens_in": 1000, "tokens_out": 1000, "at": "2026-01-05T03:00:00Z"}"#;
        let report = simulated(CONFIG, &[""], &[night, &night.replace("2026-01", "2026-07")]);
        assert_eq!((cost(&report).as_str(), report.deployments[0].name.as_str()), ("$0.005000", "p/night"));
        let report = simulated(CONFIG, &[""], &[r#"{"class": "basic", "tags": ["secret"], "count": 7}"#]);
        assert_eq!((report.routed.sum.requests, report.refused.values().sum::<u64>()), (0, 7));
    }

    #[test]
    fn a_conversation_is_paid_at_the_cached_price_while_the_cache_lasts() {
        let turn = |at: &str| {
            format!(
                r#"{{"class": "advanced", "tokens_in": 10000, "tokens_out": 0, "session": "s", "at": "2026-01-05T12:{at}Z"}}"#
            )
        };
        let report = simulated(CONFIG, &[""], &[&turn("00:00"), &turn("01:00"), &turn("50:00")]);
        // 0.15, then all of the prompt cached, then forgotten by the provider.
        assert_eq!((cost(&report).as_str(), report.routed.sum.cached_tokens), ("$0.315000", 10_000));
        assert_eq!(report.baselines[0].sum.dollars, report.routed.sum.dollars);
    }

    #[test]
    fn equal_requests_that_take_turns_are_shared_out() {
        let twin = "[[deployment]]\nname = \"p/twin\"\nprovider = \"p\"\nmodel = \"twin\"\nclasses = [\"advanced\"]\ninput = 5.0\noutput = 5.0\ncontext_tokens = 100_000\nmax_output_tokens = 10_000\n";
        let config = format!("{CONFIG}\n{twin}");
        let report = simulated(&config, &["strategy=round_robin"], &[r#"{"class": "advanced", "count": 100001}"#]);
        let mut shares: Vec<u64> = report.deployments.iter().map(|share| share.sum.requests).collect();
        shares.sort_unstable();
        assert!(shares[0] + shares[1] == 100_001 && shares[1] - shares[0] < 200, "{shares:?}");
    }

    #[test]
    fn scores_of_models_are_the_quality_where_the_file_has_them() {
        let line = r#"{"class": "basic", "label": "basic", "score": {"small": 0.25, "p/strong": 0.75}}"#;
        let report = simulated(CONFIG, &[""], &[line]);
        assert_eq!(report.routed.sum.quality.get(), Some(0.25));
        let told: Vec<_> = report.baselines.iter().map(|line| (line.role.as_str(), line.sum.quality.get())).collect();
        assert_eq!(told, [("best single", Some(0.75)), ("cheapest single", Some(0.25))]);
    }
}
