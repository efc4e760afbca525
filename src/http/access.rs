//! Who may teach: whoever has the admin key; where none is configured, programs on this machine.

use super::State;
use crate::config::Secret;
use crate::error::{Error, Result};
use axum::extract::{ConnectInfo, Request, State as Shared};
use axum::http::header::{AUTHORIZATION, HOST, HeaderMap, HeaderValue, ORIGIN};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::net::{IpAddr, SocketAddr};

/// Lets a request to `/admin` through, or answers it.
pub async fn admin(Shared(state): Shared<State>, request: Request, next: Next) -> Response {
    let allowed = match &state.router.config.admin.key {
        Some(key) => with_key(key, request.headers()),
        None => on_this_machine(&request),
    };
    match allowed {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

/// The key that a request carries, as clients of OpenAI, Anthropic and Google send it.
pub fn given(headers: &HeaderMap) -> Option<&[u8]> {
    let bearer = headers.get(AUTHORIZATION).and_then(|value| {
        let (scheme, key) = value.as_bytes().split_at_checked(7)?;
        scheme.eq_ignore_ascii_case(b"bearer ").then_some(key)
    });
    let named = |name| headers.get(name).map(HeaderValue::as_bytes);
    bearer.or_else(|| named("x-api-key")).or_else(|| named("x-goog-api-key")).map(<[u8]>::trim_ascii)
}

fn with_key(key: &Secret, headers: &HeaderMap) -> Result<()> {
    match given(headers) {
        Some(given) if key.matches(given) => Ok(()),
        given => Err(Error::Unauthorized { given: given.is_some() }),
    }
}

/// The peer is this machine, and no web page open in a browser on it: a page's requests name their origin, or, where
/// its own name was made to point here, that name as the host.
fn on_this_machine(request: &Request) -> Result<()> {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip());
    if !peer.is_some_and(|peer| peer.to_canonical().is_loopback()) {
        return Err(Error::Forbidden { why: "" });
    }
    let headers = request.headers();
    let host = headers
        .get(HOST)
        .map(|host| host.to_str().unwrap_or("?"))
        .or(request.uri().authority().map(|name| name.as_str()));
    if headers.contains_key(ORIGIN) || !host.is_none_or(names_this_machine) {
        return Err(Error::Forbidden { why: ", and no web page" });
    }
    Ok(())
}

/// Whether a `Host` says loopback, with or without a port.
fn names_this_machine(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    name.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::names_this_machine;

    #[test]
    fn hosts_of_this_machine() {
        for host in ["localhost", "LOCALHOST:8080", "127.0.0.1:8080", "127.0.0.1", "[::1]:80", "[::1]"] {
            assert!(names_this_machine(host), "{host}");
        }
        for host in ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "", "10.0.0.1:80"] {
            assert!(!names_this_machine(host), "{host}");
        }
    }
}
