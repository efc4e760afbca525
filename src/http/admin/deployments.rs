//! `/admin/deployments`: how every deployment does.

use super::super::State;
use crate::overview::Overview;
use axum::extract::State as Shared;
use axum::response::Json;

/// Every deployment with what was measured of it and what holds it, the alarms, and what runs beside the traffic.
#[utoipa::path(operation_id = "deployments", get, tag = "admin", path = "/admin/deployments", responses((status = 200, description = "All of it, now", body = Overview)))]
pub async fn list(Shared(state): Shared<State>) -> Json<Overview> {
    Json(state.router.overview())
}
