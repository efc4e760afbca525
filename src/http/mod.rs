//! The HTTP side: routes here, one file a handler, errors worded in `error.rs`. All use of axum is in this folder.

mod access;
mod admin;
mod body;
mod chat;
mod error;
mod explain;
mod feedback;
mod models;
mod openapi;
mod status;

use crate::error::{Error, Result};
use crate::router::Router;
use crate::teaching;
use axum::Router as Routes;
use axum::extract::FromRef;
use axum::http::{HeaderName, Method, StatusCode, Uri};
use axum::response::Response;
use axum::routing::{get, post};
use axum::serve::ListenerExt;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer};

/// What handlers share.
#[derive(Clone)]
struct State {
    router: Arc<Router>,
    /// Permits for requests being answered; one goes with each body until its end.
    places: Arc<Semaphore>,
    started: u64,
}

impl FromRef<State> for Arc<Router> {
    fn from_ref(state: &State) -> Self {
        state.router.clone()
    }
}

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The whole application on one router: what `serve` runs, and what tests call.
pub fn app(router: Arc<Router>) -> Routes {
    let started = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let places = Arc::new(Semaphore::new(router.config.server.max_in_flight));
    let state = State { router, places, started };
    Routes::new()
        .route("/v1/chat/completions", post(chat::complete))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{*id}", get(models::one))
        .route("/explain", post(explain::explain).get(explain::recent))
        .route("/explain/{id}", get(explain::past))
        .route("/v1/feedback", post(feedback::give))
        .merge(admin::routes(&state))
        .route("/healthz", get(status::healthz))
        .route("/readyz", get(status::readyz))
        .route("/openapi.json", get(openapi::document))
        .fallback(not_found)
        .method_not_allowed_fallback(wrong_method)
        .layer(CatchPanicLayer::custom(error::panicked))
        .layer(PropagateRequestIdLayer::new(REQUEST_ID))
        .layer(SetRequestIdLayer::new(REQUEST_ID, MakeRequestUuid))
        .with_state(state)
}

/// Listens until told to stop (Ctrl-C or SIGTERM), then lets running answers end.
///
/// # Errors
/// [`Error::Config`] when the address cannot be listened on.
pub async fn serve(router: Arc<Router>, ready: impl FnOnce(std::net::SocketAddr)) -> Result<()> {
    let address = router.config.server.listen.clone();
    let wrong = |error: std::io::Error| Error::Config {
        file: router.config.file.clone(),
        key: "server.listen".into(),
        problem: format!("cannot listen on {address}: {error}; choose another with --listen"),
    };
    teaching::resume(&router).await;
    let keeping = tokio::spawn(router.clone().keep_learned());
    let listener = TcpListener::bind(&address).await.map_err(wrong)?;
    ready(listener.local_addr().map_err(wrong)?);
    // An event goes out at once: held back until the one before is acknowledged, it would come 40 ms late.
    let listener = listener.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection without TCP_NODELAY");
        }
    });
    let (drain, stopping) = (router.config.server.drain, Arc::new(tokio::sync::Notify::new()));
    let told = stopping.clone();
    let signal = async move {
        stop().await;
        told.notify_one();
    };
    let app = app(router.clone()).into_make_service_with_connect_info::<std::net::SocketAddr>();
    let serving = axum::serve(listener, app).with_graceful_shutdown(signal);
    let patience = async {
        stopping.notified().await;
        tokio::time::sleep(drain).await;
    };
    let ended = tokio::select! {
        served = serving => served.map_err(wrong),
        () = patience => {
            tracing::warn!(seconds = drain.as_secs(), "stopped with answers still running");
            Ok(())
        }
    };
    router.teaching.retraining.stop().await;
    keeping.abort();
    router.close().await;
    ended
}

async fn stop() {
    let interrupt = tokio::signal::ctrl_c();
    #[cfg(unix)]
    {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut terminate) => tokio::select! { _ = interrupt => {}, _ = terminate.recv() => {} },
            Err(_) => drop(interrupt.await),
        }
    }
    #[cfg(not(unix))]
    drop(interrupt.await);
    tracing::info!("stopping: running answers are finished first");
}

async fn not_found(uri: Uri) -> Response {
    let message = format!("There is no {}. GET /openapi.json lists what is here.", uri.path());
    error::respond(StatusCode::NOT_FOUND, &message, None, "not_found")
}

async fn wrong_method(method: Method, uri: Uri) -> Response {
    let message = format!("{} does not take {method}. GET /openapi.json lists what it takes.", uri.path());
    error::respond(StatusCode::METHOD_NOT_ALLOWED, &message, None, "method_not_allowed")
}
