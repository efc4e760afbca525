//! `POST /v1/chat/completions`.

use super::State;
use crate::chat::ChatRequest;
use crate::decision::{Decision, DeploymentScore};
use crate::error::{Error, Result};
use crate::forward::{Answer, AnswerBody};
use crate::limits;
use crate::router::{Caller, CallerKey};
use axum::body::Body;
use axum::extract::{Request, State as Shared};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use futures::stream::StreamExt;
use tokio::sync::OwnedSemaphorePermit;

const CLASS: HeaderName = HeaderName::from_static("x-waypost-class");
const DEPLOYMENT: HeaderName = HeaderName::from_static("x-waypost-deployment");
const DECISION: HeaderName = HeaderName::from_static("x-waypost-decision");
const POLICY: HeaderName = HeaderName::from_static("x-waypost-policy");
const SESSION: HeaderName = HeaderName::from_static("x-waypost-session");
const TIER: HeaderName = HeaderName::from_static("x-waypost-tier");
const TAGS: HeaderName = HeaderName::from_static("x-waypost-tags");
const PRIORITY: HeaderName = HeaderName::from_static("x-waypost-priority");
const WARNING: HeaderName = HeaderName::from_static("x-waypost-warning");

/// Length of `x-waypost-warning` at most: many clients take no more than 8 KiB of headers.
const MAX_WARNING_CHARS: usize = 2_048;

/// Seconds after which a caller refused for lack of room may try again.
const RETRY_AFTER_S: u64 = 1;

/// Routes a chat request and forwards it.
#[utoipa::path(
    post,
    tag = "waypost",
    path = "/v1/chat/completions",
    request_body(content = Object, description = "OpenAI's chat completion request. `model`: `auto`, a class, a deployment or an alias. Headers `x-waypost-class` and `x-waypost-policy` override."),
    responses(
        (status = 200, description = "OpenAI's chat completion, or server-sent chunks; headers x-waypost-class, x-waypost-deployment, x-waypost-decision", body = Object),
        (status = "4XX", description = "The request is at fault", body = super::error::ErrorBody),
        (status = "5XX", description = "No deployment answered", body = super::error::ErrorBody),
    )
)]
pub async fn complete(Shared(state): Shared<State>, request: Request) -> Response {
    let place = match take_place(&state) {
        Ok(place) => place,
        Err(error) => return error.into_response(),
    };
    let (caller, request) = match read(&state, request).await {
        Ok(read) => read,
        Err(error) => return error.into_response(),
    };
    if state.router.config.server.log_prompts {
        let window = crate::embedder::window(&request, state.router.config.embedder.window_chars);
        tracing::info!(prompt = window, "asked");
    }
    match state.router.answer(request, &caller).await {
        Ok(answer) => respond(answer, place),
        Err(refusal) => {
            let mut response = refusal.error.into_response();
            if let Some(decision) = refusal.decision {
                let deployment = decision.deployment.clone();
                name(&mut response, &decision, &deployment);
            }
            response
        }
    }
}

/// A place among the requests being answered; it goes back when dropped.
///
/// # Errors
/// [`Error::Overloaded`] when `server.max_in_flight` are taken.
pub fn take_place(state: &State) -> Result<OwnedSemaphorePermit> {
    let limit = state.router.config.server.max_in_flight;
    let place = state.places.clone().try_acquire_owned();
    place.map_err(|_| Error::Overloaded { limit, retry_after_s: RETRY_AFTER_S })
}

/// What the caller says: headers and body. Shared with `POST /explain`.
///
/// # Errors
/// [`Error::TooLarge`], or [`Error::BadRequest`] for what cannot be understood.
pub async fn read(state: &State, request: Request) -> Result<(Caller, ChatRequest)> {
    let (parts, body) = request.into_parts();
    let caller = caller(state, &parts)?;
    let bytes = super::body::bytes(state, body).await?;
    Ok((caller, ChatRequest::parse(&bytes)?))
}

/// What the caller says beside the body.
fn caller(state: &State, parts: &Parts) -> Result<Caller> {
    let headers = &parts.headers;
    let tags = header(headers, &TAGS)?.unwrap_or_default();
    let priority = header(headers, &PRIORITY)?;
    let priority = priority.map(|text| {
        let expected = "Header x-waypost-priority: expected high, normal, low, or a number from 0 to 9.";
        limits::priority(&text).ok_or_else(|| Error::bad(PRIORITY.as_str(), "invalid_header", expected))
    });
    let asked = state.router.config.rules.iter().flat_map(|rule| &rule.when.headers);
    let told = |(name, _): &(String, _)| Some((name.clone(), headers.get(name)?.to_str().ok()?.to_string()));
    Ok(Caller {
        class: header(headers, &CLASS)?,
        policy: header(headers, &POLICY)?,
        session: header(headers, &SESSION)?,
        tier: header(headers, &TIER)?,
        tags: tags.split(',').map(str::trim).filter(|tag| !tag.is_empty()).map(String::from).collect(),
        priority: priority.transpose()?,
        key: super::access::given(headers).map(|key| CallerKey(String::from_utf8_lossy(key).into_owned())),
        path: parts.uri.path().into(),
        headers: asked.filter_map(told).collect(),
        at: None,
    })
}

fn header(headers: &HeaderMap, name: &HeaderName) -> Result<Option<String>> {
    let text = |value: &HeaderValue| value.to_str().map(|text| text.trim().to_string());
    headers
        .get(name)
        .map(text)
        .transpose()
        .map_err(|_| Error::bad(name.as_str(), "invalid_header", format!("Header {name} is not plain text.")))
}

/// The answer with its headers. The place in the server is held until the body ends.
fn respond(answer: Answer, place: OwnedSemaphorePermit) -> Response {
    let mut response = match answer.body {
        AnswerBody::Whole(bytes) => ([(CONTENT_TYPE, "application/json")], Body::from(bytes)).into_response(),
        AnswerBody::Events(events) => {
            let held = events.map(move |event| {
                let _until_the_end = &place;
                Ok::<_, std::convert::Infallible>(event)
            });
            ([(CONTENT_TYPE, "text/event-stream"), (CACHE_CONTROL, "no-cache")], Body::from_stream(held))
                .into_response()
        }
    };
    name(&mut response, &answer.decision, &answer.deployment);
    let mut warnings = answer.warnings;
    let is_local = |score: &DeploymentScore| *score.deployment == *answer.deployment && *score.provider == *"local";
    if answer.decision.deployments.iter().any(is_local) {
        warnings.push("answered by a tiny demonstration model; set a provider key for real answers".into());
    }
    if let Ok(value) = HeaderValue::from_str(&one_line(&warnings))
        && !warnings.is_empty()
    {
        response.headers_mut().insert(WARNING, value);
    }
    response
}

/// Warnings as a header may hold them: names of parameters in them are the client's own text, of any letters and length.
fn one_line(warnings: &[String]) -> String {
    let letter = |letter| if matches!(letter, ' '..='~') { letter } else { '?' };
    warnings.join("; ").chars().map(letter).take(MAX_WARNING_CHARS).collect()
}

/// Names the decision in the response's headers.
fn name(response: &mut Response, decision: &Decision, deployment: &str) {
    for (header, value) in [(CLASS, decision.class.as_str()), (DEPLOYMENT, deployment), (DECISION, &decision.id)] {
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().insert(header, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_parameter_is_called_the_warning_is_a_header() {
        let warnings = [format!("{}é\n: not sent", "x".repeat(9_000)), "another".into()];
        assert!(HeaderValue::from_str(&one_line(&warnings)).is_ok_and(|value| value.len() == MAX_WARNING_CHARS));
        assert_eq!(one_line(&["café\r\nis: lost".into(), "b".into()]), "caf???is: lost; b");
    }
}
