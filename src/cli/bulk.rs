//! An encoder and a routing model for many prompts.

use super::Global;
use crate::classifier::RoutingModel;
use crate::classifier::model::Estimate;
use crate::config::EmbedderConfig;
use crate::embedder::Encoder;
use crate::error::Result;

/// An encoder and a routing model trained on it.
pub struct Bulk {
    pub encoder: Encoder,
    pub model: RoutingModel,
    /// `routing.early_exit`.
    early_exit: bool,
}

impl Bulk {
    /// Opens `builtin` or a model's folder with the encoder it was trained on, whatever the configuration names.
    pub fn open(global: &Global, model: &str) -> Result<Self> {
        let model = RoutingModel::open(model)?;
        let encoder = crate::start::encoder(&settings(global, &model)?, &global.cache()?)?;
        Ok(Bulk { encoder, model, early_exit: global.load()?.routing.early_exit })
    }

    /// The estimate of one text.
    pub fn estimate(&self, text: &str) -> Result<Estimate> {
        Ok(self.model.read(&self.encoder, text, self.early_exit)?.estimate)
    }
}

/// The encoder's settings that a routing model was trained with, whatever the configuration names.
pub fn settings(global: &Global, model: &RoutingModel) -> Result<EmbedderConfig> {
    let trained = &model.manifest;
    Ok(EmbedderConfig {
        model: trained.encoder.clone(),
        pooling: Some(format!("{:?}", trained.pooling).to_lowercase()),
        prefix: Some(trained.prefix.clone()),
        max_tokens: trained.max_tokens,
        window_chars: trained.window_chars,
        ..global.load()?.embedder
    })
}
