//! Fetches one public file over HTTPS: a catalogue.

use crate::error::{Error, Result};
use futures::StreamExt;
use std::time::Duration;

/// Connecting, and between two pieces of the file.
const PATIENCE: Duration = Duration::from_secs(15);
/// A larger file is none of those that are fetched here.
const LARGEST: usize = 128 << 20;

/// The bytes at this address.
///
/// # Errors
/// [`Error::Catalog`] naming the address and what went wrong.
pub async fn download(address: &str) -> Result<Vec<u8>> {
    let failed = |problem: String| Error::Catalog(format!("{address} could not be fetched: {problem}"));
    let client = reqwest::Client::builder().connect_timeout(PATIENCE).read_timeout(PATIENCE).build();
    let client = client.map_err(|error| failed(innermost(&error)))?;
    let reply = client.get(address).send().await.map_err(|error| failed(innermost(&error)))?;
    if !reply.status().is_success() {
        return Err(failed(format!("it answered {}", reply.status())));
    }
    let mut bytes = Vec::new();
    let mut pieces = reply.bytes_stream();
    while let Some(piece) = pieces.next().await {
        bytes.extend_from_slice(&piece.map_err(|error| failed(innermost(&error)))?);
        if bytes.len() > LARGEST {
            return Err(failed(format!("it is larger than {} MiB", LARGEST >> 20)));
        }
    }
    Ok(bytes)
}

/// The cause at the bottom of an error: what the operator can mend.
fn innermost(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), innermost)
}
