//! All deployments with the providers that reach them.

use super::Provider;
use super::http::Http;
use super::local::Local;
use crate::catalog::Prices;
use crate::config::{Config, DeploymentConfig, ProviderKind};
use crate::error::Result;
use crate::weights::Cache;
use std::collections::HashMap;
use std::sync::Arc;

/// One model at one provider, ready to be called.
pub struct Deployment {
    pub config: DeploymentConfig,
    pub provider: Arc<dyn Provider>,
}

/// Every deployment that can be called.
pub struct Fleet {
    deployments: Vec<Deployment>,
    /// Discovered providers that gave nothing, and why.
    pub silent: Vec<(String, String)>,
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
        let mut fleet = Fleet { deployments: Vec::new(), silent: Vec::new() };
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
                fleet.deployments.push(Deployment { config: deployment.clone(), provider: provider.clone() });
            }
        }
        fleet.settle_standby();
        Ok(fleet)
    }

    /// A fleet of given deployments.
    pub fn of(deployments: Vec<Deployment>) -> Self {
        let mut fleet = Fleet { deployments, silent: Vec::new() };
        fleet.settle_standby();
        fleet
    }

    /// All deployments.
    pub fn all(&self) -> &[Deployment] {
        &self.deployments
    }

    /// The deployment of this name or alias.
    pub fn named(&self, name: &str) -> Option<&Deployment> {
        self.deployments.iter().find(|deployment| {
            deployment.config.name == name || deployment.config.aliases.iter().any(|alias| alias == name)
        })
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
            };
            self.deployments.push(Deployment { config: deployment, provider: endpoint.clone() });
        }
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
