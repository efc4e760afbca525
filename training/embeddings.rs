//! Embeds many texts, once each: results are kept in the cache by a hash of the text, so a second run is fast.

use crate::classifier::inputs;
use crate::embedder::{Embedding, Encoder, EncoderSpec, VIEWS, Views};
use crate::error::{Error, Result};
use crate::kernels::Level;
use crate::training::parallel::in_order;
use crate::weights::{Cache, hex};
use indicatif::ProgressBar;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::io::Write;
use std::path::PathBuf;

type Key = [u8; 32];

/// Texts embedded between two writes of the cache.
const SAVED_AT_ONCE: usize = 512;

/// Raised when encoders round otherwise than before, so that nothing kept from then is mixed in.
const ROUNDING: u32 = 2;

/// Views of texts already embedded by one encoder under one window.
pub struct EmbeddingCache {
    path: PathBuf,
    known: HashMap<Key, Vec<f32>>,
}

impl EmbeddingCache {
    /// Opens the cache's file for an encoder; an unreadable one counts as empty.
    ///
    /// # Errors
    /// [`Error::Io`] when its folder cannot be made.
    pub fn open(cache: &Cache, spec: &EncoderSpec) -> Result<Self> {
        let folder = cache.root().join("embeddings");
        std::fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
        let usage =
            format!("{ROUNDING}|{}|{:?}|{}|{}|{VIEWS:?}", spec.name, spec.pooling, spec.prefix, spec.max_tokens);
        // Where there is neither AVX2 nor AVX-512, vectors come out otherwise.
        let usage = match Level::detect().min(Level::Avx2) {
            Level::Avx2 => usage,
            other => format!("{usage}|{}", other.name()),
        };
        let path = folder.join(format!("{}.bin", &hex(&Sha256::digest(usage))[..16]));
        let bytes = std::fs::read(&path).unwrap_or_default();
        Ok(EmbeddingCache { known: parse(&bytes).unwrap_or_default(), path })
    }

    /// The views of every text, embedding on `threads` threads what is not known yet.
    ///
    /// # Errors
    /// What the encoder fails with; [`Error::Io`] when the cache cannot be written.
    pub fn views(
        &mut self,
        encoder: &Encoder,
        texts: &[String],
        threads: usize,
        progress: &ProgressBar,
    ) -> Result<Vec<Views>> {
        let unknown: Vec<&String> = texts.iter().filter(|text| !self.known.contains_key(&key(text))).collect();
        progress.set_length(unknown.len() as u64);
        // Kept as they come: an interrupted run has not worked for nothing.
        for some in unknown.chunks(SAVED_AT_ONCE) {
            let fresh = embed_all(encoder, some, threads, progress)?;
            self.save(&fresh)?;
            self.known.extend(fresh);
        }
        texts.iter().map(|text| to_views(&self.known[&key(text)])).collect()
    }

    /// The head's inputs of every text.
    ///
    /// # Errors
    /// As [`EmbeddingCache::views`].
    pub fn inputs(
        &mut self,
        encoder: &Encoder,
        texts: &[String],
        threads: usize,
        progress: &ProgressBar,
    ) -> Result<Vec<Vec<f32>>> {
        let views = self.views(encoder, texts, threads, progress)?;
        Ok(views.iter().zip(texts).map(|(views, text)| inputs(views, text)).collect())
    }

    /// Appends records in one write, so that several processes can share the file. An empty or damaged file is begun anew.
    fn save(&self, fresh: &[(Key, Vec<f32>)]) -> Result<()> {
        let width = fresh.first().map_or(0, |(_, vector)| vector.len()) as u32;
        let begun = !self.known.is_empty() && self.path.exists();
        let mut bytes = if begun { Vec::new() } else { width.to_le_bytes().to_vec() };
        for (key, vector) in fresh {
            bytes.extend(key);
            bytes.extend(vector.iter().flat_map(|x| x.to_le_bytes()));
        }
        let mut options = std::fs::File::options();
        let options = if begun { options.append(true) } else { options.write(true).create(true).truncate(true) };
        let mut file = options.open(&self.path).map_err(Error::io(&self.path))?;
        file.write_all(&bytes).map_err(Error::io(&self.path))
    }
}

fn embed_all(
    encoder: &Encoder,
    texts: &[&String],
    threads: usize,
    progress: &ProgressBar,
) -> Result<Vec<(Key, Vec<f32>)>> {
    let embed = |text: &&String| {
        let (views, _) = encoder.embed(text)?;
        progress.inc(1);
        Ok((key(text), views.all().iter().flat_map(|view| view.as_slice().to_vec()).collect()))
    };
    in_order(texts, threads, embed)?.into_iter().collect()
}

fn to_views(vector: &[f32]) -> Result<Views> {
    let parts = vector.chunks_exact(vector.len() / VIEWS.len()).map(|part| Embedding::new(part.to_vec()));
    Ok(Views::new(parts.collect::<Result<_>>()?))
}

fn parse(bytes: &[u8]) -> Option<HashMap<Key, Vec<f32>>> {
    let (width, records) = bytes.split_first_chunk::<4>()?;
    let size = 32 + 4 * u32::from_le_bytes(*width) as usize;
    let record = |record: &[u8]| {
        let (key, vector) = record.split_first_chunk::<32>()?;
        Some((*key, vector.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()))
    };
    // A torn record at the end would shift those appended after it: then all is read anew.
    (size > 32 && records.len() % size == 0).then(|| records.chunks_exact(size).filter_map(record).collect())
}

fn key(text: &str) -> Key {
    Sha256::digest(text).into()
}
