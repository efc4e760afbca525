//! Where the versions of the routing model lie, and which of them serves. The builtin model has a folder of versions
//! too, in the teaching folder: a version published there serves in its place from the next start on as well.

use super::blocking;
use crate::classifier::RoutingModel;
use crate::config::Config;
use crate::embedder::EncoderSpec;
use crate::error::{Error, Result};
use crate::router::{Router, fits};
use crate::training::versions::Versions;
use serde::Serialize;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use utoipa::ToSchema;

/// The word that names the model inside the binary.
pub const BUILTIN: &str = "builtin";

/// The versions of the configured routing model.
pub struct Shelf {
    builtin: bool,
    /// Folder of routing models, and the name of this one.
    pub(super) models: PathBuf,
    pub(super) name: String,
    pub(super) versions: Versions,
}

/// The versions there are.
#[derive(Serialize, ToSchema)]
pub struct Models {
    /// `name@version` of the routing model that serves.
    serving: String,
    /// Version of the model inside the binary, which `POST /admin/models/builtin/activate` takes; absent where the
    /// configuration names a folder.
    builtin: Option<String>,
    /// Versions on the disk: those that served first, the last one first.
    data: Vec<Model>,
}

/// A version on the disk.
#[derive(Serialize, ToSchema)]
pub struct Model {
    version: String,
    /// Whether it serves now.
    serving: bool,
    /// Its place among those that served: 0 serves from the next start on, 1 is what a rollback takes; none never served.
    served: Option<usize>,
    /// What was measured when it was trained, if anything was.
    #[schema(value_type = Object)]
    metrics: Option<Value>,
}

impl Shelf {
    /// The shelf of `routing.model`.
    pub fn of(config: &Config) -> Self {
        let builtin = config.routing.model == BUILTIN;
        let named = Path::new(&config.routing.model);
        let folder = match builtin {
            true => config.teaching.folder.join("models/default"),
            // One version's own folder lies among its kind.
            false if named.join("manifest.json").exists() => parent(named),
            false => named.to_path_buf(),
        };
        let name = folder.file_name().map_or("default".into(), |name| name.to_string_lossy().into_owned());
        Shelf { builtin, models: parent(&folder), name, versions: Versions::at(folder) }
    }

    /// The folder of the versions.
    pub fn folder(&self) -> PathBuf {
        self.models.join(&self.name)
    }

    /// The version that serves in place of the builtin one, if any does.
    pub fn over_builtin(&self) -> Option<String> {
        self.versions.current().filter(|_| self.builtin)
    }

    /// Loads a version that can serve. Blocks.
    ///
    /// # Errors
    /// As [`RoutingModel::load`] and [`fits`].
    pub fn load(&self, version: &str, config: &Config, spec: &EncoderSpec) -> Result<RoutingModel> {
        let model = RoutingModel::load(&self.versions.path(version))?;
        fits(config, spec, &model).map(|()| model)
    }

    /// Makes sure that some version is published, to compare the next one with: the one that serves.
    pub(super) fn publish_serving(&self, serving: &RoutingModel) -> Result<()> {
        let version = &serving.manifest.version;
        if self.versions.current().is_some() {
            return Ok(());
        }
        if self.builtin && !self.versions.path(version).exists() {
            self.versions.write(version, &RoutingModel::builtin_files())?;
        }
        self.versions.publish(version)
    }

    /// Makes `current` name what it named before.
    pub(super) fn restore(&self, before: Option<&str>) -> Result<()> {
        match before {
            _ if self.versions.current().as_deref() == before => Ok(()),
            Some(version) => self.versions.publish(version),
            None => self.unpublish(),
        }
    }

    fn unpublish(&self) -> Result<()> {
        let current = self.folder().join("current");
        match std::fs::remove_file(&current) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io(current)(error)),
            _ => Ok(()),
        }
    }

    fn list(&self, serving: &RoutingModel) -> Result<Models> {
        let metrics = |version: &str| {
            let text = std::fs::read(self.versions.path(version).join("metrics.json")).ok()?;
            serde_json::from_slice(&text).ok()
        };
        let model = |listed: crate::training::versions::Listed| Model {
            serving: listed.version == serving.manifest.version,
            metrics: metrics(&listed.version),
            served: listed.served,
            version: listed.version,
        };
        Ok(Models {
            serving: serving.title(),
            builtin: self.builtin.then(RoutingModel::builtin_version).flatten(),
            data: self.versions.list()?.into_iter().map(model).collect(),
        })
    }
}

/// The versions there are, and which of them serves.
///
/// # Errors
/// [`Error::Io`] when the folder cannot be read.
pub async fn list(router: &Arc<Router>) -> Result<Models> {
    let router = router.clone();
    blocking(move || router.teaching.shelf.list(&router.model.load())).await
}

/// Makes a version serve, now and from the next start on, and returns its title.
///
/// # Errors
/// [`Error::Unknown`], [`Error::Conflict`] while retraining or for a version that does not go with the configuration,
/// [`Error::Io`].
pub async fn activate(router: &Arc<Router>, version: String) -> Result<String> {
    let router = router.clone();
    blocking(move || {
        let (shelf, teaching) = (&router.teaching.shelf, &router.teaching);
        teaching.retraining.refuse_while_running()?;
        teaching.folder.claim()?;
        if version == BUILTIN && shelf.builtin {
            return serve(&router, RoutingModel::builtin()?, || shelf.unpublish());
        }
        if !shelf.versions.list()?.iter().any(|listed| listed.version == version) {
            return Err(Error::Unknown { kind: "version", id: version });
        }
        let model = shelf.load(&version, &router.config, router.reader.embedder.spec()).map_err(unfit)?;
        serve(&router, model, || shelf.versions.publish(&version))
    })
    .await
}

/// Makes the version that served before serve again, and returns its title.
///
/// # Errors
/// As [`activate`]; [`Error::Conflict`] when there is none.
pub async fn rollback(router: &Arc<Router>) -> Result<String> {
    let router = router.clone();
    blocking(move || {
        let (shelf, teaching) = (&router.teaching.shelf, &router.teaching);
        teaching.retraining.refuse_while_running()?;
        teaching.folder.claim()?;
        let Some(before) = shelf.versions.list()?.into_iter().find(|listed| listed.served == Some(1)) else {
            return Err(Error::Conflict {
                message: "No version served before this one.".into(),
                code: "nothing_before",
            });
        };
        let model = shelf.load(&before.version, &router.config, router.reader.embedder.spec()).map_err(unfit)?;
        serve(&router, model, || shelf.versions.rollback().map(|_| ()))
    })
    .await
}

fn serve(router: &Router, version: RoutingModel, publish: impl FnOnce() -> Result<()>) -> Result<String> {
    let title = version.title();
    router.teaching.book.lock().serve(router, version, false, publish)?;
    Ok(title)
}

/// A version that cannot serve here is for the operator who asked for it to understand.
fn unfit(error: Error) -> Error {
    Error::Conflict { message: format!("This version cannot serve: {error}."), code: "version_does_not_fit" }
}

fn parent(path: &Path) -> PathBuf {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).map_or(".".into(), Path::to_path_buf)
}
