//! Whether the server lives, and whether it can answer.

use crate::router::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Json;
use serde_json::{Value, json};
use std::sync::Arc;

/// The process lives.
#[utoipa::path(get, tag = "waypost", path = "/healthz", responses((status = 200, description = "It lives", body = Object)))]
pub async fn healthz() -> Json<Value> {
    Json(json!({"status": "ok", "version": env!("CARGO_PKG_VERSION")}))
}

/// The model is loaded (it is before the port opens), and some deployment can be called.
#[utoipa::path(get, tag = "waypost", path = "/readyz", responses((status = 200, description = "It can answer", body = Object), (status = 503, description = "No deployment", body = Object)))]
pub async fn readyz(State(router): State<Arc<Router>>) -> (StatusCode, Json<Value>) {
    let deployments = router.fleet.all().len();
    let ready = deployments > 0;
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let word = if ready { "ready" } else { "no deployment: set a provider's key, or add a [[deployment]]" };
    (
        status,
        Json(
            json!({"status": word, "routing_model": router.model.load().title(), "encoder": router.reader.embedder.spec().name, "deployments": deployments}),
        ),
    )
}
