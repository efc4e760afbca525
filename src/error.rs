//! Every way a request or a start-up can fail, as facts. `http/error.rs` alone turns them into statuses.

use std::path::PathBuf;

/// What went wrong. The text of a variant is what the person who can mend it reads: it says what, where, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The client's request cannot be understood. `param` is the JSON path at fault, `code` a stable word for programs.
    #[error("{message}")]
    BadRequest { message: String, param: Option<String>, code: &'static str },
    /// The body is larger than `server.max_body_bytes`.
    #[error("The request body is larger than this server's limit of {limit} bytes.")]
    TooLarge { limit: usize },
    /// The body did not come in within `server.body_timeout_ms`.
    #[error("The request body did not come in within {limit_ms} ms.")]
    SlowBody { limit_ms: u128 },
    /// `model` is neither `auto`, a class, a deployment nor an alias.
    #[error(
        "The model `{model}` does not exist. Use `auto`, a class ({classes}), or one of the deployments that GET /v1/models lists."
    )]
    UnknownModel { model: String, classes: String },
    /// `/explain/{id}` of a decision that is not, or no longer, kept.
    #[error("No decision `{id}` is kept here. The last {kept} are; GET /explain lists them.")]
    UnknownDecision { id: String, kept: usize },
    /// Something named that is not here: `kind` is what it would be ("exemplar").
    #[error("There is no {kind} `{id}` here.")]
    Unknown { kind: &'static str, id: String },
    /// What is asked for does not go with how things stand now.
    #[error("{message}")]
    Conflict { message: String, code: &'static str },
    /// `/admin` asked for without the right key.
    #[error("{}", if *.given { "This admin key is not the right one." } else { "This needs the admin key: `Authorization: Bearer KEY` or `x-api-key: KEY`." })]
    Unauthorized { given: bool },
    /// `/admin` asked for from where no key is configured for.
    #[error("Without a key in [admin] only programs on this machine are answered here{why}.")]
    Forbidden { why: &'static str },
    /// Every deployment that could serve the class is out, with the reason for each.
    #[error("No deployment fits this request. {reasons}")]
    NothingFits { reasons: String, context: bool },
    /// A bounded resource is taken.
    #[error("{what} is busy. Try again in {retry_after_s} s.")]
    Busy { what: String, retry_after_s: u64 },
    /// The server as a whole is at `server.max_in_flight`.
    #[error("This server is answering as many requests as it may ({limit}). Try again in {retry_after_s} s.")]
    Overloaded { limit: usize, retry_after_s: u64 },
    /// A provider refused the request itself; its own status and error body.
    #[error("{message}")]
    Refused { status: u16, message: String, body: Option<bytes::Bytes>, code: Option<&'static str> },
    /// A `[[rule]]` refuses the request.
    #[error("{message}")]
    Ruled { message: String },
    /// All attempts failed before the first byte. `status` is what the client gets.
    #[error("{message}")]
    Upstream { status: u16, message: String, code: &'static str },
    /// The configuration cannot be used.
    #[error("{file}: {key}: {problem}")]
    Config { file: String, key: String, problem: String },
    /// Weights are missing, damaged or out of reach.
    #[error("{0}")]
    Weights(String),
    /// A routing model or its training data cannot be used.
    #[error("{0}")]
    Model(String),
    /// The catalogue of models and prices cannot be used, imported or fetched.
    #[error("{0}")]
    Catalog(String),
    /// A file could not be read or written.
    #[error("{path}: {source}", path = path.display())]
    Io { path: PathBuf, source: std::io::Error },
    /// Something that should not happen; the cause is for the log, not for the client.
    #[error("{0}")]
    Internal(String),
}

/// The crate's result.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A malformed request, naming the JSON path at fault.
    pub fn bad(param: impl Into<String>, code: &'static str, message: impl Into<String>) -> Self {
        Error::BadRequest { message: message.into(), param: Some(param.into()), code }
    }

    /// The HTTP status the client gets.
    pub fn status(&self) -> u16 {
        match self {
            Error::BadRequest { .. } | Error::NothingFits { .. } => 400,
            Error::Unauthorized { .. } => 401,
            Error::Forbidden { .. } | Error::Ruled { .. } => 403,
            Error::UnknownModel { .. } | Error::UnknownDecision { .. } | Error::Unknown { .. } => 404,
            Error::Conflict { .. } => 409,
            Error::SlowBody { .. } => 408,
            Error::TooLarge { .. } => 413,
            Error::Busy { .. } => 429,
            Error::Overloaded { .. } => 503,
            Error::Refused { status, .. } | Error::Upstream { status, .. } => *status,
            Error::Config { .. }
            | Error::Weights(_)
            | Error::Model(_)
            | Error::Catalog(_)
            | Error::Io { .. }
            | Error::Internal(_) => 500,
        }
    }

    /// Attaches the path to an I/O error: `fs::read(&path).map_err(Error::io(&path))`.
    pub fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Error::Io { path, source }
    }
}

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        Error::Internal(format!("tensor computation failed: {error}"))
    }
}
