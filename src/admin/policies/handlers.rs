//! One function a path.

use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{Activation, ChangedSettings, InUse, PolicyChanged, PolicyDetail, PolicyError, PolicyView, Upload, Which};
use crate::admin::{AdminState, ApiError};
use crate::policy::{LoadError, MOST_BYTES, OnFailure, World};
use crate::reconcile::view::PolicyLine;

/// How long an upload's bytes may take to come.
const PATIENCE: Duration = Duration::from_secs(120);
/// What is read of a body that is too large, after it was refused: a client that sends before it listens would otherwise
/// see its connection break instead of the reason.
const LINGER: Duration = Duration::from_secs(5);

/// The header in which an upload's signature comes, as `cosign sign-blob` prints it.
pub(crate) const SIGNATURE: &str = "causeway-signature";

type Handled<T> = Result<Json<T>, ApiError>;
type Name = Result<Path<String>, PathRejection>;
type Asked<T> = Result<Query<T>, QueryRejection>;

fn name(name: Name) -> Result<String, ApiError> {
    name.map(|Path(name)| name).map_err(|error| ApiError::BadRequest(error.body_text()))
}

fn query<T: DeserializeOwned>(asked: Asked<T>, parameters: &str) -> Result<T, ApiError> {
    let Query(query) = asked.map_err(|error| ApiError::BadRequest(format!("{}; {parameters}", error.body_text())))?;
    Ok(query)
}

pub(in crate::admin) async fn list(State(state): State<AdminState>) -> Handled<Vec<PolicyView>> {
    Ok(Json(state.policies.list().await?))
}

pub(in crate::admin) async fn show(State(state): State<AdminState>, path: Name) -> Handled<PolicyDetail> {
    Ok(Json(state.policies.show(&name(path)?).await?))
}

pub(in crate::admin) async fn logs(State(state): State<AdminState>, path: Name) -> Handled<Vec<PolicyLine>> {
    Ok(Json(state.policies.logs(&name(path)?).await?))
}

/// Which version is meant, in a query string.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::admin) struct AskedVersion {
    digest: Option<String>,
    version: Option<u32>,
}

const WHICH: &str = "say which by ?digest=, a digest or its beginning, or by ?version=, a number";

impl AskedVersion {
    fn which(self) -> Result<Option<Which>, ApiError> {
        match (self.digest, self.version) {
            (None, None) => Ok(None),
            (Some(digest), None) => Ok(Some(Which::Digest(digest))),
            (None, Some(number)) => Ok(Some(Which::Number(number))),
            (Some(_), Some(_)) => Err(ApiError::BadRequest(format!("two versions are asked for; {WHICH}"))),
        }
    }
}

pub(in crate::admin) async fn component(
    State(state): State<AdminState>,
    path: Name,
    asked: Asked<AskedVersion>,
) -> Result<Response, ApiError> {
    let which = query(asked, WHICH)?.which()?;
    let (digest, bytes) = state.policies.component(&name(path)?, which).await?;
    // RFC 9110, 8.8.3: a strong validator, in quotes.
    let headers = [(header::CONTENT_TYPE, "application/wasm".to_owned()), (header::ETAG, format!("\"{digest}\""))];
    Ok((headers, bytes).into_response())
}

pub(in crate::admin) async fn activate(
    State(state): State<AdminState>,
    path: Name,
    asked: Asked<AskedVersion>,
) -> Handled<PolicyChanged> {
    let missing = || ApiError::BadRequest(format!("no version is asked for; {WHICH}"));
    let which = query(asked, WHICH)?.which()?.ok_or_else(missing)?;
    Ok(Json(state.policies.activate(&name(path)?, which).await?))
}

pub(in crate::admin) async fn roll_back(State(state): State<AdminState>, path: Name) -> Handled<PolicyChanged> {
    Ok(Json(state.policies.roll_back(&name(path)?).await?))
}

/// The query string of a deletion.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::admin) struct Force {
    #[serde(default)]
    force: bool,
}

pub(in crate::admin) async fn delete(
    State(state): State<AdminState>,
    path: Name,
    asked: Asked<Force>,
) -> Handled<Value> {
    let name = name(path)?;
    let in_use = match query(asked, "the one parameter is ?force=true")?.force {
        true => InUse::FallBack,
        false => InUse::Refuse,
    };
    state.policies.delete(&name, in_use).await?;
    Ok(Json(json!({ "deleted": name })))
}

/// The query string of an upload.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::admin) struct AskedUpload {
    world: Option<World>,
    activate: Option<bool>,
    on_failure: Option<OnFailure>,
    fuel: Option<u64>,
    #[serde(rename = "memoryMiB")]
    memory_mib: Option<u32>,
    max_removed_percent: Option<u32>,
    config: Option<String>,
}

pub(in crate::admin) async fn upload(
    State(state): State<AdminState>,
    path: Name,
    asked: Asked<AskedUpload>,
    headers: HeaderMap,
    body: Body,
) -> Handled<PolicyChanged> {
    let uploaded = take(&state, path, asked, &headers, body).await;
    uploaded.inspect_err(|error| state.uploads.refused(error))
}

async fn take(
    state: &AdminState,
    path: Name,
    asked: Asked<AskedUpload>,
    headers: &HeaderMap,
    body: Body,
) -> Handled<PolicyChanged> {
    let parameters =
        "the parameters are ?world=, ?activate=, ?config=, ?fuel=, ?memoryMiB=, ?maxRemovedPercent= and ?onFailure=";
    let asked = match query(asked, parameters) {
        Ok(asked) => asked,
        Err(error) => return Err(after_the_rest(error, body)),
    };
    let read = |config: String| {
        let why = |error| PolicyError::Setting { field: "config", why: format!("it is no JSON: {error}") };
        serde_json::from_str::<Value>(&config).map_err(why)
    };
    let settings = asked.config.map(read).transpose().map(|config| ChangedSettings {
        config,
        fuel: asked.fuel,
        memory_mib: asked.memory_mib,
        max_removed_percent: asked.max_removed_percent,
        on_failure: asked.on_failure,
    });
    let (name, settings) = match (name(path), settings) {
        (Ok(name), Ok(settings)) => (name, settings),
        (Err(error), _) => return Err(after_the_rest(error, body)),
        (_, Err(error)) => return Err(after_the_rest(error.into(), body)),
    };
    let told = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if let Some(size) = told.filter(|size| *size > MOST_BYTES) {
        return Err(after_the_rest(too_large(size), body));
    }
    let signature = headers.get(SIGNATURE).map(|told| String::from_utf8_lossy(told.as_bytes()).into_owned());
    // Few are held in memory at once; others are not read until one is done.
    let _turn = state.uploads.turn().await.ok_or(PolicyError::Ended)?;
    let bytes = read_whole(body).await?;
    let activation = if asked.activate.unwrap_or(true) { Activation::Now } else { Activation::Later };
    let upload = Upload { name: name.into(), world: asked.world, bytes, settings, activation, signature };
    Ok(Json(state.policies.upload(upload).await?))
}

fn too_large(size: usize) -> ApiError {
    ApiError::TooLarge(format!("the component is refused: {}", LoadError::TooLarge { size, most: MOST_BYTES }))
}

/// Reads a component, as far as it may be one.
async fn read_whole(mut body: Body) -> Result<Bytes, ApiError> {
    let mut bytes = BytesMut::new();
    let reading = async {
        while let Some(frame) = body.frame().await {
            let broken = |error| ApiError::BadRequest(format!("the component did not come through: {error}"));
            if let Ok(data) = frame.map_err(broken)?.into_data() {
                bytes.extend_from_slice(&data);
            }
            if bytes.len() > MOST_BYTES {
                return Err(too_large(bytes.len()));
            }
        }
        Ok(())
    };
    match tokio::time::timeout(PATIENCE, reading).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return Err(after_the_rest(error, body)),
        Err(_) => {
            let seconds = PATIENCE.as_secs();
            return Err(ApiError::BadRequest(format!("the component did not come through within {seconds} s")));
        }
    }
    if bytes.is_empty() {
        let how = "send the component as the body, as `curl --upload-file policy.wasm` does";
        return Err(ApiError::BadRequest(format!("the body is empty; {how}")));
    }
    Ok(bytes.freeze())
}

/// Lets what is still on its way be thrown away in the background, while the client is told.
fn after_the_rest(error: ApiError, mut body: Body) -> ApiError {
    tokio::spawn(tokio::time::timeout(LINGER, async move { while let Some(Ok(_)) = body.frame().await {} }));
    error
}
