//! The road to those who answer. A provider takes a call and gives back either a whole answer or server-sent
//! events, each a complete event, always in OpenAI's format. One file (or folder) a provider kind.

pub mod dialect;
pub mod download;
pub mod fleet;
mod frames;
mod http;
pub mod local;
pub mod sse;

pub use fleet::{Deployment, Fleet};

use crate::chat::{ChatRequest, Needs};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use std::sync::Arc;

/// Someone who answers chat requests.
pub trait Provider: Send + Sync {
    /// Sends one call. Dropping the future, or the body it yields, cancels the work upstream.
    fn send(&self, call: Call) -> BoxFuture<'_, Result<Reply, Failure>>;

    /// Why such a request cannot be put to it at all; `None` where it can.
    fn impossible(&self, _needs: &Needs) -> Option<&'static str> {
        None
    }
}

/// One request for one model.
#[derive(Clone)]
pub struct Call {
    pub request: Arc<ChatRequest>,
    /// The provider's name for the model.
    pub model: String,
}

/// An answer that has begun well: status 200, and of the right content type.
pub struct Reply {
    pub body: Body,
    /// The provider's own request id.
    pub request_id: Option<String>,
    /// What the upstream said of its limits: its response headers, where they are about rates.
    pub limits: Vec<(String, String)>,
    /// What was lost in translation.
    pub warnings: Vec<String>,
}

/// The answer's body.
pub enum Body {
    /// A complete chat completion (a JSON object with `choices`).
    Whole(Bytes),
    /// Complete server-sent events, as they come.
    Events(BoxStream<'static, Result<Bytes, Failure>>),
}

/// Why there is no answer, or no more of it.
#[derive(Clone, Debug)]
pub struct Failure {
    pub kind: FailureKind,
    /// What happened, without secrets or prompts.
    pub message: String,
    /// The upstream's status, when it answered.
    pub status: Option<u16>,
    /// When the upstream wants to be asked again, in seconds.
    pub retry_after_s: Option<u64>,
    /// The upstream's own error body, for a request it refused.
    pub body: Option<Bytes>,
    /// OpenAI's code for it, where the dialect knows better than the body.
    pub code: Option<&'static str>,
    /// What the upstream said of its limits.
    pub limits: Vec<(String, String)>,
    /// Whether the request may have reached the upstream: where not, trying again cannot do anything twice.
    pub sent: bool,
}

/// What kind of failure, which decides whether another deployment is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// The request itself is at fault: another deployment would say the same. Where it was not sent, it has no translation
    /// into this dialect, and another may have one.
    Refused,
    /// The prompt is longer than this model takes: one with a larger context may.
    TooLong,
    /// At a limit: another deployment may have room.
    Busy,
    /// The provider does not accept our credentials or does not know the model.
    Misconfigured,
    /// No connection, or an answer of 5xx.
    Down,
    /// Too late.
    Timeout,
    /// Something that is not a chat completion.
    Garbage,
}

impl Failure {
    /// A failure without an answer from upstream.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Failure {
            kind,
            message: message.into(),
            status: None,
            retry_after_s: None,
            body: None,
            code: None,
            limits: Vec::new(),
            sent: true,
        }
    }

    /// Whether the request itself brought it about, or what the answer says: it says nothing about the deployment, whose
    /// traffic other callers would lose by it.
    pub fn is_the_requests(&self) -> bool {
        let answered = self.kind == FailureKind::Garbage && self.status == Some(200);
        answered || matches!(self.kind, FailureKind::Refused | FailureKind::TooLong)
    }
}
