//! `POST /v1/feedback`: what a caller thinks of a decision.

use super::error::ErrorBody;
use super::{State, body, chat};
use crate::error::{Error, Result};
use crate::teaching::candidates::{By, Status};
use crate::teaching::feedback::{self, Feedback, MAX_COMMENT_BYTES, Verdict};
use axum::extract::{Request, State as Shared};
use axum::http::StatusCode;
use axum::response::Json;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// Either `score` or `label`.
#[derive(Deserialize, ToSchema)]
pub struct Body {
    /// From the header x-waypost-decision.
    #[schema(value_type = String)]
    #[serde(default)]
    decision: Value,
    /// How good the answer was, 0..1.
    #[schema(value_type = Option<f64>)]
    #[serde(default)]
    score: Value,
    /// The class that would have been right.
    #[schema(value_type = Option<String>)]
    #[serde(default)]
    label: Value,
    #[schema(value_type = Option<String>)]
    #[serde(default)]
    comment: Value,
}

/// What became of it.
#[derive(Serialize, ToSchema)]
pub struct Kept {
    /// Names it in `/admin/exemplars/candidates`.
    candidate: String,
    status: Status,
}

/// Tells how good a decision was. Its prompt is then kept on the disk, for an operator to make an exemplar of.
#[utoipa::path(
    post,
    tag = "waypost",
    path = "/v1/feedback",
    request_body = Body,
    responses(
        (status = 201, description = "Kept as a candidate", body = Kept),
        (status = 400, description = "Neither or both of score and label, or one of them is wrong", body = ErrorBody),
        (status = 404, description = "The decision is not kept any more", body = ErrorBody),
        (status = 409, description = "Earlier feedback on it was accepted or rejected", body = ErrorBody),
    )
)]
pub async fn give(Shared(state): Shared<State>, request: Request) -> Result<(StatusCode, Json<Kept>)> {
    let _place = chat::take_place(&state)?;
    let feedback = checked(body::json(&state, request.into_body()).await?)?;
    let candidate = feedback::give(&state.router, feedback).await?;
    Ok((StatusCode::CREATED, Json(Kept { candidate: candidate.id, status: candidate.status })))
}

fn checked(body: Body) -> Result<Feedback> {
    let wrong = |field: &str, expected: &str| {
        Err(Error::bad(field, "invalid_value", format!("`{field}`: expected {expected}.")))
    };
    let Value::String(decision) = body.decision else {
        return wrong("decision", "the id in the header x-waypost-decision");
    };
    let verdict = match (body.score, body.label) {
        (Value::Null, Value::Null) => return wrong("score", "a `score` or a `label`"),
        (Value::Null, Value::String(label)) => Verdict::Label(label),
        (Value::Null, _) => return wrong("label", "the name of a class"),
        (score, Value::Null) => match score.as_f64().filter(|score| (0.0..=1.0).contains(score)) {
            Some(score) => Verdict::Score(score),
            None => return wrong("score", "a number from 0 to 1"),
        },
        _ => return wrong("label", "either `score` or `label`, not both"),
    };
    let comment = match body.comment {
        Value::Null => None,
        Value::String(comment) if comment.len() <= MAX_COMMENT_BYTES => Some(comment),
        _ => return wrong("comment", &format!("a text of at most {MAX_COMMENT_BYTES} bytes")),
    };
    Ok(Feedback { decision, verdict, comment, by: By::Caller })
}
