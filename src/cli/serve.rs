//! `waypost serve`.

use super::{Global, block_on};
use crate::config::Config;
use crate::error::Result;
use crate::router::Router;
use clap::Args;

#[derive(Args, Default)]
pub struct Serve {
    /// Address and port; overrides `server.listen`.
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
}

impl Serve {
    pub fn run(self, global: &Global) -> Result<()> {
        let mut config = global.load()?;
        if let Some(listen) = self.listen {
            config.server.listen = listen;
        }
        let cache = global.cache()?;
        block_on(async {
            let router = crate::start::router(config, cache, true).await?;
            let shown = router.clone();
            crate::http::serve(router, |address| greet(&shown, address)).await
        })
    }
}

/// What a newcomer needs next.
fn greet(router: &Router, address: std::net::SocketAddr) {
    eprintln!(
        "\nWaypost listens on http://{address}  (routing model {}, encoder {}, {} ms a decision)",
        router.model.load().title(),
        router.reader.embedder.spec().name,
        router.reader.embedder.deadline().as_millis()
    );
    for deployment in router.fleet.all().iter().filter(|deployment| !deployment.config.classes.is_empty()) {
        let config = &deployment.config;
        eprintln!("  {:28} {}", config.name, config.classes.join(" "));
    }
    if only_local(&router.config, router) {
        eprintln!(
            "  Only the tiny local demonstration model answers. Set a provider's key for real answers: {}",
            keys(&router.config)
        );
    }
    for (provider, why) in &router.fleet.silent {
        tracing::debug!(provider, why, "an optional provider is silent");
    }
    eprintln!(
        "Try:\n  curl http://{address}/v1/chat/completions -H 'content-type: application/json' \\\n    -d '{{\"model\":\"auto\",\"messages\":[{{\"role\":\"user\",\"content\":\"Name three uses of a brick.\"}}]}}'\n"
    );
}

fn only_local(config: &Config, router: &Router) -> bool {
    let local = |name: &str| {
        config
            .providers
            .iter()
            .any(|provider| provider.name == name && matches!(provider.kind, crate::config::ProviderKind::Local(_)))
    };
    !router.fleet.all().is_empty() && router.fleet.all().iter().all(|deployment| local(&deployment.config.provider))
}

fn keys(config: &Config) -> String {
    let names = config
        .skipped
        .iter()
        .filter_map(|skipped| skipped.reason.strip_prefix("env:").and_then(|rest| rest.split(' ').next()));
    names.collect::<Vec<_>>().join(", ")
}
