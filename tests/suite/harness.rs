//! A whole application with the real encoder and routing model, and scripted providers in place of remote ones.

use axum::Router as Routes;
use axum::body::{Body, to_bytes};
use axum::http::{Request, Response, StatusCode};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::StreamExt;
use parking_lot::Mutex;
use serde_json::Value;
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tower::ServiceExt;
use waypost::catalog::{Prices, Rates};
use waypost::config::{Config, layered};
use waypost::embedder::{Embedder, EncoderSpec, Pooling};
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

/// What a scripted provider does with a call.
#[derive(Clone)]
pub enum Script {
    Answer(&'static str),
    Events(Vec<&'static str>),
    Fail(Failure),
}

/// A provider that follows a script and remembers the bodies it was sent.
pub struct Scripted {
    script: Script,
    pub seen: Mutex<Vec<Bytes>>,
}

impl Provider for Scripted {
    fn send(&self, call: Call) -> BoxFuture<'_, Result<Reply, Failure>> {
        self.seen.lock().push(call.request.body_for(&call.model, &Default::default()).0);
        let body = match &self.script {
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
}

impl Bench {
    pub fn new(text: &str) -> Self {
        let mut config = config(text);
        if !text.contains("[teaching]") {
            // Nothing of what this machine's own Waypost was taught.
            config.teaching.folder = std::env::temp_dir().join("waypost-suite-teaches-nothing-here");
        }
        Bench { config, providers: Vec::new(), deployments: Vec::new() }
    }

    /// Adds a deployment `name` to `classes` at dollars per million tokens of input and output.
    pub fn with(mut self, name: &str, classes: &[&str], prices: (f64, f64), script: Script) -> Self {
        let provider = Arc::new(Scripted { script, seen: Mutex::default() });
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
        self.providers.push(provider.clone());
        self.deployments.push(Deployment::new(config, provider));
        self
    }

    pub fn router(self) -> Arc<Router> {
        let model = waypost::start::routing_model(&self.config, EMBEDDER.spec()).unwrap();
        let reader = Reader::new(EMBEDDER.clone(), self.config.routing.early_exit, self.config.routing.remembered);
        let mut router = Router::new(self.config, model, reader, Fleet::of(self.deployments)).unwrap();
        router.teaching.program = Some(env!("CARGO_BIN_EXE_waypost").into());
        Arc::new(router)
    }
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
