//! The model in this process: SmolLM2-135M by candle. A tiny demonstration, so that a machine without a key or a
//! network answers; it speaks the same format as every other provider. `engine.rs` generates, `prompt.rs` writes
//! the chat template, `stop.rs` watches for stop sequences, `reply.rs` words the answer.

mod engine;
mod prompt;
mod reply;
mod stop;

use super::{Body, Call, Failure, FailureKind, Provider, Reply};
use crate::chat::ChatRequest;
use crate::config::LocalProvider;
use crate::error::{Error, Result};
use crate::weights::{Cache, Manifest};
use bytes::Bytes;
use engine::{Engine, Piece, Settings};
use futures::future::BoxFuture;
use futures::stream::StreamExt;
use reply::Wording;
use serde::Deserialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// Seconds after which a refused caller may find a place: about one answer's time.
const RETRY_AFTER_S: u64 = 5;

/// Pieces of an answer that may wait for a slow client before generation pauses.
const PIECES_AHEAD: usize = 32;

/// The local model and the places in front of it.
pub struct Local {
    engine: Arc<Engine>,
    places: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
    config: LocalProvider,
}

/// `stop` is a string or a list of them.
#[derive(Deserialize)]
#[serde(untagged)]
enum Stop {
    One(String),
    Many(Vec<String>),
}

impl Local {
    /// Loads the model, fetching its weights where needed. Blocks: call it off the async threads.
    ///
    /// # Errors
    /// [`Error::Weights`] when the weights cannot be had or read.
    pub fn start(config: &LocalProvider, cache: &Cache) -> Result<Self> {
        let manifest = Manifest::named(&config.model, None)?;
        let folder = cache.ensure(&manifest)?;
        Ok(Local {
            engine: Arc::new(Engine::load(&folder, &manifest)?),
            places: Arc::new(Semaphore::new(config.max_concurrent)),
            waiting: Arc::new(AtomicUsize::new(0)),
            config: config.clone(),
        })
    }

    async fn answer(&self, call: Call) -> std::result::Result<Reply, Failure> {
        let settings = self.settings(&call.request).map_err(refused)?;
        let prompt = self.engine.encode(&prompt::chatml(&call.request.messages)).map_err(broken)?;
        let room = self.engine.context_tokens().saturating_sub(prompt.len());
        if room == 0 {
            let message = format!(
                "The prompt has {} tokens; the local model's context is {}.",
                prompt.len(),
                self.engine.context_tokens()
            );
            return Err(refused(Error::bad("messages", "context_length_exceeded", message)));
        }
        let settings = Settings { max_tokens: settings.max_tokens.min(room), ..settings };
        let permit = self.place().await?;
        let wording = Wording::new(&call.model, prompt.len(), call.request.include_usage);
        let pieces = self.generate(prompt, settings, permit);
        let body = if call.request.stream {
            Body::Events(wording.events(pieces).boxed())
        } else {
            Body::Whole(wording.whole(pieces).await?)
        };
        Ok(Reply { body, request_id: None, limits: Vec::new(), warnings: Vec::new() })
    }

    /// Waits for a place, or refuses when too many wait already.
    async fn place(&self) -> std::result::Result<OwnedSemaphorePermit, Failure> {
        struct Waiting(Arc<AtomicUsize>);
        impl Drop for Waiting {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::Relaxed);
            }
        }
        if let Ok(permit) = self.places.clone().try_acquire_owned() {
            return Ok(permit);
        }
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(self.waiting.clone());
        if before >= self.config.queue {
            let failure = Failure::new(FailureKind::Busy, "the local model is busy and its queue is full");
            return Err(Failure { status: Some(429), retry_after_s: Some(RETRY_AFTER_S), ..failure });
        }
        self.places
            .clone()
            .acquire_owned()
            .await
            .map_err(|_| Failure::new(FailureKind::Down, "the local model is shut down"))
    }

    /// Generates on a thread that blocks. The permit goes back when generation ends; it ends when nobody listens.
    fn generate(&self, prompt: Vec<u32>, settings: Settings, permit: OwnedSemaphorePermit) -> mpsc::Receiver<Piece> {
        let (sender, pieces) = mpsc::channel(PIECES_AHEAD);
        let engine = self.engine.clone();
        tokio::task::spawn_blocking(move || {
            let _permit = permit;
            engine.generate(&prompt, &settings, |piece| sender.blocking_send(piece).is_ok());
        });
        pieces
    }

    fn settings(&self, request: &ChatRequest) -> Result<Settings> {
        let within = |name: &'static str, range: std::ops::RangeInclusive<f64>, default: f64| -> Result<f64> {
            let value = request.field::<f64>(name, "a number")?.unwrap_or(default);
            if range.contains(&value) {
                return Ok(value);
            }
            Err(Error::bad(
                name,
                "invalid_value",
                format!("`{name}` must lie between {} and {}.", range.start(), range.end()),
            ))
        };
        if request.field::<u64>("n", "an integer")?.unwrap_or(1) != 1 {
            return Err(Error::bad("n", "unsupported_value", "The local model gives one choice: `n` must be 1."));
        }
        Ok(Settings {
            max_tokens: request.max_tokens.unwrap_or(u64::MAX).min(self.config.max_output_tokens) as usize,
            temperature: within("temperature", 0.0..=2.0, 0.7)?,
            top_p: within("top_p", 0.0..=1.0, 0.95)?,
            seed: request.field::<i64>("seed", "an integer")?.map(|seed| seed as u64),
            stop: match request.field::<Stop>("stop", "a string or a list of strings")? {
                None => Vec::new(),
                Some(Stop::One(stop)) => vec![stop],
                Some(Stop::Many(stops)) => stops,
            }
            .into_iter()
            .filter(|stop| !stop.is_empty())
            .collect(),
        })
    }
}

impl Provider for Local {
    fn send(&self, call: Call) -> BoxFuture<'_, std::result::Result<Reply, Failure>> {
        Box::pin(self.answer(call))
    }
}

/// The request is at fault: the client gets these words in OpenAI's error shape.
fn refused(error: Error) -> Failure {
    let (param, code) = match &error {
        Error::BadRequest { param, code, .. } => (param.clone(), *code),
        _ => (None, "invalid_request"),
    };
    let body = serde_json::json!({"error": {"message": error.to_string(), "type": "invalid_request_error", "param": param, "code": code}});
    let failure = Failure::new(FailureKind::Refused, error.to_string());
    Failure { status: Some(400), body: Some(Bytes::from(body.to_string())), ..failure }
}

fn broken(error: Error) -> Failure {
    Failure::new(FailureKind::Down, format!("the local model failed: {error}"))
}
