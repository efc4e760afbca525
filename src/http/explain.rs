//! `/explain`: a decision without forwarding, a past decision, recent decisions.

use super::{State, chat};
use crate::decision::Decision;
use crate::error::{Error, Result};
use crate::router::Router;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, Request, State as Shared};
use axum::response::Json;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

/// Decisions on one page when the caller names no limit, and at most.
const PAGE: usize = 20;
const MAX_PAGE: usize = 200;

/// Which page of recent decisions.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    /// At most so many decisions, 1..200; 20 when absent.
    limit: Option<usize>,
    /// Only decisions older than the one of this id.
    before: Option<String>,
}

/// A page of recent decisions, newest first.
#[derive(Serialize, ToSchema)]
pub struct Page {
    data: Vec<Arc<Decision>>,
    /// Whether older decisions are kept: ask again with `before` set to the last id.
    has_more: bool,
}

/// Decides about a chat request; nothing is forwarded or recorded.
#[utoipa::path(
    post,
    tag = "waypost",
    path = "/explain",
    request_body(content = Object, description = "OpenAI's chat completion request, as for POST /v1/chat/completions"),
    responses((status = 200, description = "The decision", body = Decision), (status = "4XX", description = "The request is at fault", body = super::error::ErrorBody))
)]
pub async fn explain(Shared(state): Shared<State>, request: Request) -> Result<Json<Decision>> {
    let _place = chat::take_place(&state)?;
    let (caller, request) = chat::read(&state, request).await?;
    state.router.decide(&request, &caller).await.map(Json)
}

/// A past decision, with what came of it.
#[utoipa::path(
    get,
    tag = "waypost",
    path = "/explain/{id}",
    params(("id" = String, Path, description = "From the header x-waypost-decision")),
    responses((status = 200, description = "The decision", body = Decision), (status = 404, description = "Not kept", body = super::error::ErrorBody))
)]
pub async fn past(
    Shared(router): Shared<Arc<Router>>,
    id: std::result::Result<Path<String>, PathRejection>,
) -> Result<Json<Arc<Decision>>> {
    // An id that is not even UTF-8 is none that was ever given out.
    let id = id.map_or_else(|_| "(not UTF-8)".into(), |Path(id)| id);
    let kept = router.decisions.keep();
    router.decisions.get(&id).map(Json).ok_or(Error::UnknownDecision { id, kept })
}

/// Recent decisions, newest first.
#[utoipa::path(get, tag = "waypost", path = "/explain", params(PageQuery), responses((status = 200, description = "One page", body = Page)))]
pub async fn recent(
    Shared(router): Shared<Arc<Router>>,
    query: std::result::Result<Query<PageQuery>, QueryRejection>,
) -> Result<Json<Page>> {
    let Query(query) =
        query.map_err(|rejection| Error::bad("limit", "invalid_value", format!("{}.", rejection.body_text())))?;
    let limit = query.limit.unwrap_or(PAGE);
    if !(1..=MAX_PAGE).contains(&limit) {
        return Err(Error::bad("limit", "invalid_value", format!("`limit` must lie between 1 and {MAX_PAGE}.")));
    }
    if let Some(id) = query.before.as_deref().filter(|id| router.decisions.get(id).is_none()) {
        return Err(Error::UnknownDecision { id: id.into(), kept: router.decisions.keep() });
    }
    let mut data = router.decisions.page(limit + 1, query.before.as_deref());
    let has_more = data.len() > limit;
    data.truncate(limit);
    Ok(Json(Page { data, has_more }))
}
