//! `/admin`: teaching the routing model while it serves, and how its deployments do. One file a subject; `access.rs` says
//! who may.

pub mod candidates;
pub mod deployments;
pub mod exemplars;
pub mod models;
pub mod retrain;

use super::{State, access};
use crate::error::{Error, Result};
use axum::Router as Routes;
use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use axum::middleware::from_fn_with_state;
use axum::routing::{delete, get, post};

/// Entries on one page when the caller names no limit, and at most.
const PAGE: usize = 50;
const MAX_PAGE: usize = 1_000;

/// Everything under `/admin`, behind one check of who asks.
pub fn routes(state: &State) -> Routes<State> {
    Routes::new()
        .route("/admin/exemplars", get(exemplars::list).post(exemplars::add).delete(exemplars::remove_named))
        .route("/admin/exemplars/{id}", delete(exemplars::remove))
        .route("/admin/exemplars/export", get(exemplars::export))
        .route("/admin/exemplars/candidates", get(candidates::list))
        .route("/admin/exemplars/candidates/{id}", post(candidates::judge))
        .route("/admin/deployments", get(deployments::list))
        .route("/admin/retrain", post(retrain::start).get(retrain::job).delete(retrain::cancel))
        .route("/admin/models", get(models::list))
        .route("/admin/models/{version}/activate", post(models::activate))
        .route("/admin/models/rollback", post(models::rollback))
        .route_layer(from_fn_with_state(state.clone(), access::admin))
}

/// A query's parameters, said in this server's words when they are wrong.
fn query<T>(query: std::result::Result<Query<T>, QueryRejection>) -> Result<T> {
    query.map(|Query(query)| query).map_err(|rejection| Error::BadRequest {
        message: format!("{}.", rejection.body_text()),
        param: None,
        code: "invalid_value",
    })
}

fn limit(limit: Option<usize>) -> Result<usize> {
    let limit = limit.unwrap_or(PAGE);
    if (1..=MAX_PAGE).contains(&limit) {
        return Ok(limit);
    }
    Err(Error::bad("limit", "invalid_value", format!("`limit` must lie between 1 and {MAX_PAGE}.")))
}
