//! Start-up: from a checked configuration to a router that is ready.

use crate::classifier::RoutingModel;
use crate::config::{Config, EmbedderConfig};
use crate::embedder::{Embedder, Encoder, EncoderSpec, Pooling};
use crate::error::{Error, Result};
use crate::experiment::Experiments;
use crate::forward::SideCalls;
use crate::money::Money;
use crate::providers::Fleet;
use crate::reader::Reader;
use crate::router::{Router, fits};
use crate::teaching::Shelf;
use crate::weights::{Cache, Manifest};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// See [`deadline`].
const DEADLINE: Duration = Duration::from_millis(25);
const DEADLINE_READINGS: u32 = 2;
const DEADLINE_TRIES: usize = 4;

/// Loads everything a router needs, fetching weights that are missing. Without `traffic` no experiment runs.
///
/// # Errors
/// Whatever is wrong with the configuration, the weights or the routing model, said for the operator.
pub async fn router(config: Config, cache: Cache, traffic: bool) -> Result<Arc<Router>> {
    let (settings, weights) = (config.clone(), cache.clone());
    let loading = tokio::task::spawn_blocking(move || {
        let encoder = encoder(&settings.embedder, &weights)?;
        let model = routing_model(&settings, encoder.spec())?;
        let deadline = deadline(&settings.embedder, &encoder, &model)?;
        Ok::<_, Error>((encoder, model, deadline))
    });
    let (encoder, model, deadline) = loading.await.map_err(|error| Error::Internal(format!("loading: {error}")))??;
    let embedder = Embedder::start(encoder, config.embedder.threads, config.embedder.queue, deadline)?;
    for deployment in config.deployments.iter().filter(|deployment| !deployment.price_known) {
        let rates = deployment.prices.standard.rates;
        tracing::warn!(
            deployment = deployment.name,
            assumed_input = rates.input.map(Money::dollars_per_mtok),
            assumed_output = rates.output.map(Money::dollars_per_mtok),
            "its price is not known: no costs are recorded, and it is ranked at these dollars per million tokens. Set `input` and `output`, or `catalog`"
        );
    }
    let fleet = Fleet::start(&config, &cache).await?;
    for rule in &config.rules {
        if let Some(name) = rule.deployment.as_ref().filter(|name| fleet.index_of(name).is_none()) {
            tracing::warn!(
                rule = rule.name,
                deployment = name,
                "a rule names a deployment that cannot be called: requests that it matches are refused"
            );
        }
    }
    let reader = Reader::new(embedder, config.routing.early_exit, config.routing.remembered);
    let mut router = Router::new(config, model, reader, fleet)?;
    if traffic {
        router.experiments = experiments(&router).await?;
    }
    let router = Arc::new(router);
    if traffic {
        let again = router.clone();
        let loading = tokio::task::spawn_blocking(move || again.learned.load(&again.health));
        loading.await.map_err(|error| Error::Internal(format!("loading what was learned: {error}")))?;
        let told = Arc::downgrade(&router);
        router.experiments.run(Arc::new(SideCalls(told.clone())), move |grade| {
            if let Some(router) = told.upgrade() {
                router.graded(&grade);
            }
        });
    }
    Ok(router)
}

/// The experiments, taken up where their logs left them.
async fn experiments(router: &Router) -> Result<Experiments> {
    let (config, spec) = (router.config.clone(), router.reader.embedder.spec().clone());
    let names: HashSet<String> = router.fleet.all().iter().map(|deployment| deployment.config.name.clone()).collect();
    let started = tokio::task::spawn_blocking(move || {
        let load =
            |path: &Path| RoutingModel::load(path).and_then(|model| fits(&config, &spec, &model).map(|()| model));
        Experiments::start(&config, |name| names.contains(name), load)
    });
    started.await.map_err(|error| Error::Internal(format!("starting the experiments: {error}")))
}

/// How long a decision may take where the configuration does not say: [`DEADLINE`], or on a machine that needs longer so
/// many times what the longest prompt takes: the least of some readings, for others may be busy while this one starts.
fn deadline(settings: &EmbedderConfig, encoder: &Encoder, model: &RoutingModel) -> Result<Duration> {
    if let Some(deadline) = settings.deadline {
        return Ok(deadline);
    }
    // Of a script that has a token for each character.
    let longest = "字".repeat(settings.window_chars);
    let mut least = Duration::MAX;
    for _ in 0..DEADLINE_TRIES {
        let start = Instant::now();
        model.read(encoder, &longest, false)?;
        least = least.min(start.elapsed());
    }
    Ok(DEADLINE.max(least * DEADLINE_READINGS))
}

/// The routing model to serve with: the configured one; where that is the builtin one, the version that was published
/// over it while running, if any. Blocks.
///
/// # Errors
/// As [`RoutingModel::open`]. A version published over the builtin one that cannot serve is passed over with a word in
/// the log: it was published by an earlier Waypost, or for another encoder.
pub fn routing_model(config: &Config, spec: &EncoderSpec) -> Result<RoutingModel> {
    let shelf = Shelf::of(config);
    let Some(version) = shelf.over_builtin() else { return RoutingModel::open(&config.routing.model) };
    match shelf.load(&version, config, spec) {
        Ok(model) => {
            tracing::info!(routing_model = model.title(), folder = %shelf.folder().display(), "serves in place of the builtin one");
            Ok(model)
        }
        Err(error) => {
            tracing::error!(version, %error, "cannot serve in place of the builtin routing model, which serves");
            RoutingModel::builtin()
        }
    }
}

/// Loads the configured encoder, fetching its weights when they are missing. Blocks.
///
/// # Errors
/// As [`encoder_spec`], or when the weights cannot be read.
pub fn encoder(config: &EmbedderConfig, cache: &Cache) -> Result<Encoder> {
    Encoder::load(encoder_spec(config, cache)?)
}

/// Where the configured encoder's files are and how it is used, fetching the files when they are missing. Blocks.
///
/// # Errors
/// [`Error::Weights`] when they cannot be had, [`Error::Config`] for a pooling that does not exist.
pub fn encoder_spec(config: &EmbedderConfig, cache: &Cache) -> Result<EncoderSpec> {
    let manifest = Manifest::named(&config.model, config.revision.as_deref())?;
    let folder = cache.ensure(&manifest)?;
    Ok(EncoderSpec { folder, ..encoder_unfetched(config)? })
}

/// How the configured encoder is used, without its files: for what is decided unread.
///
/// # Errors
/// [`Error::Config`] for a pooling that does not exist, or what reading its manifest can fail with.
pub fn encoder_unfetched(config: &EmbedderConfig) -> Result<EncoderSpec> {
    let manifest = Manifest::named(&config.model, config.revision.as_deref())?;
    let pooling = config.pooling.clone().or(manifest.pooling).unwrap_or_else(|| "mean".into());
    let wrong = || Error::Config {
        file: "configuration".into(),
        key: "embedder.pooling".into(),
        problem: format!("expected \"mean\" or \"cls\", got \"{pooling}\""),
    };
    Ok(EncoderSpec {
        name: manifest.name,
        folder: PathBuf::new(),
        pooling: Pooling::parse(&pooling).ok_or_else(wrong)?,
        prefix: config.prefix.clone().or(manifest.prefix).unwrap_or_default(),
        max_tokens: config.max_tokens,
        precision: config.precision,
        reproducible: false,
    })
}
