//! `GET /v1/models`: `auto`, the classes and the deployments, in OpenAI's list shape.

use super::State;
use crate::error::{Error, Result};
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State as Shared};
use axum::response::Json;
use serde::Serialize;
use utoipa::ToSchema;

/// OpenAI's list of models.
#[derive(Serialize, ToSchema)]
pub struct ModelList {
    object: &'static str,
    data: Vec<Model>,
}

/// One name that `model` takes.
#[derive(Clone, Serialize, ToSchema)]
pub struct Model {
    id: String,
    object: &'static str,
    created: u64,
    owned_by: String,
    /// What it is, in a few words.
    description: String,
}

/// Everything that `model` takes.
#[utoipa::path(get, tag = "waypost", path = "/v1/models", responses((status = 200, description = "All names", body = ModelList)))]
pub async fn list(Shared(state): Shared<State>) -> Json<ModelList> {
    Json(ModelList { object: "list", data: all(&state) })
}

/// One of them.
#[utoipa::path(
    get,
    tag = "waypost",
    path = "/v1/models/{id}",
    params(("id" = String, Path, description = "A name from the list")),
    responses((status = 200, description = "The model", body = Model), (status = 404, description = "No such name", body = super::error::ErrorBody))
)]
pub async fn one(
    Shared(state): Shared<State>,
    id: std::result::Result<Path<String>, PathRejection>,
) -> Result<Json<Model>> {
    let id = id.map_or_else(|_| "(not UTF-8)".into(), |Path(id)| id);
    let found = all(&state).into_iter().find(|model| model.id == id);
    found.map(Json).ok_or_else(|| Error::UnknownModel { model: id, classes: state.router.class_names() })
}

fn all(state: &State) -> Vec<Model> {
    let model = |id: &str, owned_by: &str, description: String| Model {
        id: id.into(),
        object: "model",
        created: state.started,
        owned_by: owned_by.into(),
        description,
    };
    let mut models =
        vec![model("auto", "waypost", "the class that fits the prompt, at the deployment that fits the policy".into())];
    models.extend(
        state
            .router
            .config
            .classes
            .iter()
            .map(|class| model(&class.name, "waypost", format!("class: {}", class.description))),
    );
    for deployment in state.router.fleet.all() {
        let config = &deployment.config;
        let names = std::iter::once(&config.name).chain(&config.aliases);
        let description = if config.classes.is_empty() {
            "deployment".into()
        } else {
            format!("deployment for {}", config.classes.join(", "))
        };
        models.extend(names.map(|name| model(name, &config.provider, description.clone())));
    }
    models
}
