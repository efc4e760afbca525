//! `GET /openapi.json`, made from the types themselves.

use axum::response::Json;
use utoipa::OpenApi;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Waypost",
        description = "An LLM router that explains every decision.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    paths(
        super::chat::complete,
        super::models::list,
        super::models::one,
        super::explain::explain,
        super::explain::past,
        super::explain::recent,
        super::feedback::give,
        super::admin::exemplars::list,
        super::admin::exemplars::add,
        super::admin::exemplars::remove,
        super::admin::exemplars::remove_named,
        super::admin::exemplars::export,
        super::admin::candidates::list,
        super::admin::candidates::judge,
        super::admin::deployments::list,
        super::admin::retrain::start,
        super::admin::retrain::job,
        super::admin::retrain::cancel,
        super::admin::models::list,
        super::admin::models::activate,
        super::admin::models::rollback,
        super::status::healthz,
        super::status::readyz,
        document
    )
)]
struct Document;

/// This document.
#[utoipa::path(get, tag = "waypost", path = "/openapi.json", responses((status = 200, description = "OpenAPI 3.1", body = Object)))]
pub async fn document() -> Json<utoipa::openapi::OpenApi> {
    Json(Document::openapi())
}
