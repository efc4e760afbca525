//! All deployments with the providers that reach them.

use super::dialect::{self, Dialect};
use super::http::Http;
use super::local::Local;
use super::{Call, Failure, FailureKind, Provider, Reply};
use crate::catalog::Prices;
use crate::chat::Needs;
use crate::config::{Config, DeploymentConfig, ProviderConfig, ProviderKind};
use crate::error::Result;
use crate::limits::GateSettings;
use crate::weights::Cache;
use futures::future::BoxFuture;
use std::collections::HashMap;
use std::sync::Arc;

/// One model at one provider, ready to be called.
pub struct Deployment {
    pub config: DeploymentConfig,
    pub provider: Arc<dyn Provider>,
    /// Its names once more, shared with every decision about it: deployment, provider, model.
    pub name: Arc<str>,
    pub provider_name: Arc<str>,
    pub model: Arc<str>,
}

impl Deployment {
    /// A deployment reached through a provider.
    pub fn new(config: DeploymentConfig, provider: Arc<dyn Provider>) -> Self {
        let (name, provider_name, model) =
            (config.name.as_str().into(), config.provider.as_str().into(), config.model.as_str().into());
        Deployment { config, provider, name, provider_name, model }
    }
}

/// Every deployment that can be called.
pub struct Fleet {
    deployments: Vec<Deployment>,
    /// Places by name and alias.
    names: HashMap<String, usize>,
    /// Discovered providers that gave nothing, and why.
    pub silent: Vec<(String, String)>,
}

/// A provider that is only decided about.
struct Unreached(Option<Box<dyn Dialect>>);

impl Provider for Unreached {
    fn send(&self, _call: Call) -> BoxFuture<'_, std::result::Result<Reply, Failure>> {
        Box::pin(async { Err(Failure::new(FailureKind::Down, "nothing is sent from here")) })
    }

    fn impossible(&self, needs: &Needs) -> Option<&'static str> {
        self.0.as_ref()?.impossible(needs)
    }
}

/// Context assumed of a discovered model, whose list does not tell: what Ollama loads by default is smaller still
/// than most models could take.
const DISCOVERED_CONTEXT_TOKENS: u64 = 8_192;

impl Fleet {
    /// Connects every configured provider: loads the local model, asks those with `discover` for their models.
    ///
    /// # Errors
    /// What loading the local model can fail with; a remote provider that is silent is no error.
    pub async fn start(config: &Config, cache: &Cache) -> Result<Self> {
        let mut fleet = Fleet { deployments: Vec::new(), names: HashMap::new(), silent: Vec::new() };
        let mut providers: HashMap<&str, Arc<dyn Provider>> = HashMap::new();
        for provider in &config.providers {
            match &provider.kind {
                ProviderKind::Local(local) => {
                    if !is_needed(&provider.name, config) {
                        continue;
                    }
                    let (local, cache) = (local.clone(), cache.clone());
                    let started = tokio::task::spawn_blocking(move || Local::start(&local, &cache)).await;
                    let started = started.map_err(|error| {
                        crate::error::Error::Internal(format!("loading the local model: {error}"))
                    })??;
                    providers.insert(&provider.name, Arc::new(started));
                }
                ProviderKind::Http(http) => {
                    let endpoint = Arc::new(Http::new(&provider.name, http.clone())?);
                    if http.discover {
                        match endpoint.models().await {
                            Ok(models) => fleet.add_discovered(&provider.name, &models, config, &endpoint),
                            Err(failure) => fleet.silent.push((provider.name.clone(), failure.message)),
                        }
                    }
                    providers.insert(&provider.name, endpoint);
                }
            }
        }
        for deployment in &config.deployments {
            if let Some(provider) = providers.get(deployment.provider.as_str()) {
                fleet.deployments.push(Deployment::new(deployment.clone(), provider.clone()));
            }
        }
        fleet.settle();
        Ok(fleet)
    }

    /// All configured deployments, of which none can be called: for deciding alone. No model is loaded, nobody is asked
    /// for models.
    pub fn offline(config: &Config) -> Self {
        let unreached = |provider: &ProviderConfig| -> Arc<dyn Provider> {
            Arc::new(Unreached(match &provider.kind {
                ProviderKind::Local(_) => None,
                ProviderKind::Http(http) => Some(dialect::of(http)),
            }))
        };
        let providers: HashMap<&str, Arc<dyn Provider>> =
            config.providers.iter().map(|provider| (provider.name.as_str(), unreached(provider))).collect();
        let reached = |deployment: &DeploymentConfig| {
            let provider = providers.get(deployment.provider.as_str())?;
            Some(Deployment::new(deployment.clone(), provider.clone()))
        };
        Self::of(config.deployments.iter().filter_map(reached).collect())
    }

    /// A fleet of given deployments.
    pub fn of(deployments: Vec<Deployment>) -> Self {
        let mut fleet = Fleet { deployments, names: HashMap::new(), silent: Vec::new() };
        fleet.settle();
        fleet
    }

    /// All deployments.
    pub fn all(&self) -> &[Deployment] {
        &self.deployments
    }

    /// The place of the deployment of this name or alias.
    pub fn index_of(&self, name: &str) -> Option<usize> {
        self.names.get(name).copied()
    }

    /// The deployment of this name or alias.
    pub fn named(&self, name: &str) -> Option<&Deployment> {
        self.index_of(name).map(|index| &self.deployments[index])
    }

    fn add_discovered(&mut self, provider: &str, models: &[String], config: &Config, endpoint: &Arc<Http>) {
        for model in models {
            let name = format!("{provider}/{model}");
            if config.disabled.contains(&name) || config.deployments.iter().any(|deployment| deployment.name == name) {
                continue;
            }
            let deployment = DeploymentConfig {
                name,
                provider: provider.into(),
                model: model.clone(),
                aliases: Vec::new(),
                classes: config.classes.iter().map(|class| class.name.clone()).collect(),
                prices: Prices::free().into(),
                price_known: true,
                context_tokens: DISCOVERED_CONTEXT_TOKENS,
                max_output_tokens: DISCOVERED_CONTEXT_TOKENS,
                vision: false,
                tools: true,
                json_schema: true,
                region: None,
                standby: 1,
                priority: 0,
                weight: 1.0,
                limits: GateSettings::default(),
                zero_retention: false,
            };
            self.deployments.push(Deployment::new(deployment, endpoint.clone()));
        }
    }

    /// Once all deployments are there.
    fn settle(&mut self) {
        self.settle_standby();
        let names = self.deployments.iter().enumerate().flat_map(|(index, deployment)| {
            let config = &deployment.config;
            std::iter::once(&config.name).chain(&config.aliases).map(move |name| (name.clone(), index))
        });
        self.names = names.collect();
    }

    /// Takes deployments on standby out of every class that one of a smaller standby serves.
    fn settle_standby(&mut self) {
        let mut first: HashMap<String, u8> = HashMap::new();
        for deployment in &self.deployments {
            for class in &deployment.config.classes {
                let standby = first.entry(class.clone()).or_insert(u8::MAX);
                *standby = (*standby).min(deployment.config.standby);
            }
        }
        for deployment in &mut self.deployments {
            let standby = deployment.config.standby;
            deployment.config.classes.retain(|class| first.get(class) == Some(&standby));
        }
    }
}

/// The local model is not loaded where everything it would serve is served by configured deployments.
fn is_needed(provider: &str, config: &Config) -> bool {
    let own: Vec<_> = config.deployments.iter().filter(|deployment| deployment.provider == provider).collect();
    let served_before = |class: &String, standby: u8| {
        config
            .deployments
            .iter()
            .any(|other| other.provider != provider && other.standby < standby && other.classes.contains(class))
    };
    own.iter().any(|deployment| deployment.classes.iter().any(|class| !served_before(class, deployment.standby)))
}
