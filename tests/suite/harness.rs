//! A whole application with the real encoder and routing model, and scripted providers in place of remote ones.

use axum::Router as Routes;
use axum::body::{Body, to_bytes};
use axum::http::{Request, Response, StatusCode};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::StreamExt;
use parking_lot::Mutex;
use serde_json::Value;
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tower::ServiceExt;
use waypost::catalog::{Prices, Rates};
use waypost::classifier::RoutingModel;
use waypost::config::{Config, DeploymentConfig, layered};
use waypost::embedder::{Embedder, EncoderSpec, Pooling};
use waypost::experiment::Experiments;
use waypost::forward::SideCalls;
use waypost::money::Money;
use waypost::providers::{self, Call, Deployment, Failure, Fleet, Provider, Reply};
use waypost::reader::Reader;
use waypost::router::Router;
use waypost::weights::{Cache, Manifest};

/// The default encoder's files; fetched at first use like at a first start.
pub static ENCODER: LazyLock<EncoderSpec> = LazyLock::new(|| {
    let manifest = Manifest::named("all-minilm-l6-v2", None).unwrap();
    let folder = Cache::open(false).unwrap().ensure(&manifest).expect("the default encoder can be fetched");
    EncoderSpec {
        name: manifest.name,
        folder,
        pooling: Pooling::Mean,
        prefix: String::new(),
        max_tokens: default_config().embedder.max_tokens,
        precision: waypost::embedder::Precision::F32,
        reproducible: true,
    }
});

/// One embedder for all tests: loading it takes longer than most of them.
static EMBEDDER: LazyLock<Embedder> = LazyLock::new(|| {
    let encoder = waypost::embedder::Encoder::load(ENCODER.clone()).unwrap();
    Embedder::start(encoder, 1, 512, Duration::from_secs(60)).unwrap()
});

/// The builtin routing model: clones are cheap, reading it is not.
static BUILTIN: LazyLock<RoutingModel> = LazyLock::new(|| RoutingModel::builtin().unwrap());

/// What a scripted provider does with a call.
#[derive(Clone)]
pub enum Script {
    Answer(&'static str),
    Events(Vec<&'static str>),
    Fail(Failure),
}

/// A provider that follows a script, which a test may change, and remembers the bodies it was sent.
pub struct Scripted {
    pub script: Mutex<Script>,
    pub seen: Mutex<Vec<Bytes>>,
}

impl Provider for Scripted {
    fn send(&self, call: Call) -> BoxFuture<'_, Result<Reply, Failure>> {
        self.seen.lock().push(call.request.body_for(&call.model, &Default::default()).0);
        let body = match &*self.script.lock() {
            Script::Answer(text) => Ok(providers::Body::Whole(Bytes::from_static(text.as_bytes()))),
            Script::Events(events) => {
                let events: Vec<_> = events.iter().map(|event| Ok(Bytes::from_static(event.as_bytes()))).collect();
                Ok(providers::Body::Events(futures::stream::iter(events).boxed()))
            }
            Script::Fail(failure) => Err(failure.clone()),
        };
        Box::pin(async move {
            Ok(Reply { body: body?, request_id: Some("upstream-1".into()), limits: Vec::new(), warnings: Vec::new() })
        })
    }
}

/// A chat completion as an upstream words it.
pub const ANSWER: &str = r#"{"id":"c1","object":"chat.completion","odd":{"a": 1.50},"choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1000,"completion_tokens":100,"prompt_tokens_details":{"cached_tokens":400}}}"#;

/// The shipped configuration without a file over it.
pub fn default_config() -> Config {
    config("")
}

/// The configuration with `text` laid over the defaults.
pub fn config(text: &str) -> Config {
    Config::resolve("test.toml", layered("test.toml", text).unwrap()).unwrap()
}

/// Deployments for the scripts, each serving every class unless `edit` says otherwise.
pub struct Bench {
    pub config: Config,
    pub providers: Vec<Arc<Scripted>>,
    pub deployments: Vec<Deployment>,
    /// Its routing model is not the builtin one.
    taught: bool,
}

impl Bench {
    pub fn new(text: &str) -> Self {
        let mut config = config(text);
        let taught = text.contains("[teaching]") || config.routing.model != "builtin";
        if !taught {
            // Nothing of what this machine's own Waypost was taught.
            config.teaching.folder = std::env::temp_dir().join("waypost-suite-teaches-nothing-here");
        }
        Bench { config, providers: Vec::new(), deployments: Vec::new(), taught }
    }

    /// Adds a deployment `name` to `classes` at dollars per million tokens of input and output.
    pub fn with(mut self, name: &str, classes: &[&str], prices: (f64, f64), script: Script) -> Self {
        let mut config = self.config.deployments[0].clone();
        (config.name, config.provider, config.model) = (name.into(), "scripted".into(), format!("{name}-model"));
        config.classes = classes.iter().map(|class| class.to_string()).collect();
        if classes == ["*"] {
            config.classes = self.config.classes.iter().map(|class| class.name.clone()).collect();
        }
        let [input, cached_input, output] = [prices.0, prices.0 / 10.0, prices.1].map(Money::per_mtok);
        let rates = Rates { cached_input: Some(cached_input), ..Rates::of(input, output) };
        (config.prices, config.price_known) = (Prices::flat(rates).into(), true);
        (config.context_tokens, config.max_output_tokens, config.standby) = (100_000, 4_000, 0);
        self.add(config, script);
        self
    }

    /// The deployments of `text` itself, as it says them, each with a provider that answers [`ANSWER`]. Its secrets
    /// (`env:NAME`) need not be set: each is [`secret`] of its name.
    pub fn of(text: &str) -> Self {
        let own: toml::Table = text.parse().unwrap();
        let named = |item: &toml::Value| item["name"].as_str().unwrap().to_string();
        let own: Vec<String> = own["deployment"].as_array().unwrap().iter().map(named).collect();
        let mut bench = Bench::new(&with_secrets(text));
        // Which tries are made to learn depends on the clock; what a test promises must not.
        bench.config.record.explore_share = 0.0;
        for config in bench.config.deployments.clone().into_iter().filter(|config| own.contains(&config.name)) {
            bench.add(config, Script::Answer(ANSWER));
        }
        assert_eq!(bench.deployments.len(), own.len(), "each deployment can be called");
        bench
    }

    fn add(&mut self, config: DeploymentConfig, script: Script) {
        let provider = Arc::new(Scripted { script: Mutex::new(script), seen: Mutex::default() });
        self.providers.push(provider.clone());
        self.deployments.push(Deployment::new(config, provider));
    }

    /// As [`Bench::router`], with experiments and judge running; their logs in `folder`. Needs an async runtime.
    pub fn router_with_experiments(mut self, folder: &Path) -> Arc<Router> {
        self.config.experiment_log.folder = folder.into();
        let mut router = self.put_together();
        let names: Vec<String> = router.fleet.all().iter().map(|one| one.config.name.clone()).collect();
        let load = |_: &Path| unreachable!("no test here has an arm with a routing model");
        router.experiments = Experiments::start(&router.config, |name| names.iter().any(|known| known == name), load);
        let router = Arc::new(router);
        let told = Arc::downgrade(&router);
        router.experiments.run(Arc::new(SideCalls(told.clone())), move |grade| {
            told.upgrade().unwrap().graded(&grade);
        });
        router
    }

    pub fn router(self) -> Arc<Router> {
        Arc::new(self.put_together())
    }

    fn put_together(self) -> Router {
        let model = match self.taught {
            true => waypost::start::routing_model(&self.config, EMBEDDER.spec()).unwrap(),
            false => BUILTIN.clone(),
        };
        let reader = Reader::new(EMBEDDER.clone(), self.config.routing.early_exit, self.config.routing.remembered);
        let mut router = Router::new(self.config, model, reader, Fleet::of(self.deployments)).unwrap();
        router.teaching.program = Some(env!("CARGO_BIN_EXE_waypost").into());
        router
    }
}

/// What the variable `name` holds in tests.
pub fn secret(name: &str) -> String {
    format!("secret of {name}")
}

/// The text with every `env:NAME` in quotes replaced by a file that holds the [`secret`] of it: the environment belongs
/// to all tests together.
fn with_secrets(text: &str) -> String {
    let folder = std::env::temp_dir().join("waypost-suite-secrets");
    std::fs::create_dir_all(&folder).unwrap();
    let mut parts = text.split("\"env:");
    let mut changed = parts.next().unwrap_or_default().to_string();
    for part in parts {
        let (name, rest) = part.split_once('"').unwrap();
        let file = folder.join(name);
        // Written aside and moved: other tests read it meanwhile.
        let mut aside = tempfile::NamedTempFile::new_in(&folder).unwrap();
        std::io::Write::write_all(&mut aside, secret(name).as_bytes()).unwrap();
        aside.persist(&file).unwrap();
        changed += &format!("\"file:{}\"{rest}", file.display());
    }
    changed
}

/// An answer read whole.
pub struct Answered {
    pub status: StatusCode,
    pub headers: axum::http::HeaderMap,
    pub text: String,
}

impl Answered {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// Sends a request through the application.
pub async fn send(app: &Routes, method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Answered {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response: Response<Body> = app.clone().oneshot(request.body(body.into()).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = to_bytes(body, usize::MAX).await.unwrap();
    Answered { status: parts.status, headers: parts.headers, text: String::from_utf8(bytes.to_vec()).unwrap() }
}

/// A chat request of one user message.
pub fn chat(model: &str, prompt: &str, stream: bool) -> String {
    serde_json::json!({"model": model, "messages": [{"role": "user", "content": prompt}], "stream": stream}).to_string()
}

/// The decision that an answer names.
pub async fn decision_of(app: &Routes, answered: &Answered) -> Value {
    let id = answered.header("x-waypost-decision");
    send(app, "GET", &format!("/explain/{id}"), &[], "").await.json()
}
