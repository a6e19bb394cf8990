//! One function a path.

use std::time::Duration;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::{AdminState, ApiError, PATHS, metrics as families};
use crate::reconcile::view::{Answer, ClusterRow, Inspect, Query as Question, StatusView};

/// How long the owner of the truth has for an answer. One turn takes milliseconds; this is for the
/// first load of a large fleet.
const ANSWER_TIMEOUT: Duration = if cfg!(test) { Duration::from_millis(300) } else { Duration::from_secs(5) };

type Handled<T> = Result<Json<T>, ApiError>;

/// Sends `message` to the owner and awaits the reply, both within [`ANSWER_TIMEOUT`].
async fn send<T>(state: &AdminState, message: impl FnOnce(oneshot::Sender<T>) -> Inspect) -> Result<T, ApiError> {
    let (reply, answer) = oneshot::channel();
    let asked = async {
        let ended = || ApiError::Unavailable("the server is shutting down".to_owned());
        state.inspect.send(message(reply)).await.map_err(|_| ended())?;
        answer.await.map_err(|_| ended())
    };
    let late = |_| ApiError::Unavailable(format!("no answer within {ANSWER_TIMEOUT:?}: the server is busy"));
    tokio::time::timeout(ANSWER_TIMEOUT, asked).await.map_err(late)?
}

/// Asks a query and takes the rows of its variant out of the answer.
macro_rules! ask {
    ($state:expr, $kind:ident) => {
        match send($state, |reply| Inspect::Query(Question::$kind, reply)).await? {
            Answer::$kind(rows) => rows,
            other => return Err(mismatch(Question::$kind, &other)),
        }
    };
}

fn mismatch(asked: Question, got: &Answer) -> ApiError {
    tracing::error!(?asked, "the owner answered another question: {got:?}");
    ApiError::Internal(format!("the answer to {asked:?} is of another kind"))
}

pub(super) async fn index() -> impl IntoResponse {
    let width = PATHS.iter().map(|(path, _)| path.len()).max().unwrap_or_default();
    let mut page = format!("Causeway {}\n\n", env!("CARGO_PKG_VERSION"));
    for (path, what) in PATHS {
        page.push_str(&format!("{path:width$}   {what}\n"));
    }
    page
}

/// Alive as long as the owner of the truth is there to take questions, even if it is busy.
pub(super) async fn healthz(State(state): State<AdminState>) -> Result<&'static str, ApiError> {
    if state.inspect.is_closed() {
        return Err(ApiError::Unavailable("the server is shutting down".to_owned()));
    }
    Ok("ok\n")
}

pub(super) async fn readyz(State(state): State<AdminState>) -> Result<Response, ApiError> {
    let view: Box<StatusView> = ask!(&state, Status);
    if view.ready {
        return Ok(Json(json!({ "ready": true })).into_response());
    }
    let message = match view.waiting_for.as_slice() {
        [] => "not ready yet".to_owned(),
        waiting => format!("waiting for {}", waiting.join("; ")),
    };
    let body = json!({
        "ready": false,
        "waitingFor": view.waiting_for,
        "error": { "code": "NotReady", "message": message },
    });
    Ok((StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response())
}

pub(super) async fn metrics(State(state): State<AdminState>) -> Result<Response, ApiError> {
    let observed = observe(&state).await;
    let text = state
        .metrics
        .encode(families::of_state(observed.as_ref().ok()))
        .map_err(|_| ApiError::Internal("metrics cannot be written as text".to_owned()))?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}

/// What metrics need of the owner. Where it does not answer, the process's own metrics are served
/// all the same: that is when they are needed most.
async fn observe(state: &AdminState) -> Result<families::Observed, ApiError> {
    let status = ask!(state, Status);
    let clusters = ask!(state, Clusters);
    let nodes = ask!(state, Nodes);
    Ok(families::Observed { status, clusters, nodes })
}

/// The query string of lists.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Narrow {
    namespace: Option<String>,
}

impl Narrow {
    fn keeps(&self, namespace: &str) -> bool {
        self.namespace.as_deref().is_none_or(|wanted| wanted == namespace)
    }
}

type Narrowed = Result<Query<Narrow>, QueryRejection>;

fn narrow(query: Narrowed) -> Result<Narrow, ApiError> {
    match query {
        Ok(Query(narrow)) => Ok(narrow),
        Err(error) => Err(ApiError::BadRequest(format!("{}; the one parameter is ?namespace=", error.body_text()))),
    }
}

pub(super) async fn status(State(state): State<AdminState>) -> Handled<StatusView> {
    Ok(Json(*ask!(&state, Status)))
}

pub(super) async fn clusters(State(state): State<AdminState>) -> Handled<Vec<ClusterRow>> {
    Ok(Json(ask!(&state, Clusters)))
}

pub(super) async fn services(State(state): State<AdminState>, query: Narrowed) -> Result<Response, ApiError> {
    let narrow = narrow(query)?;
    let mut rows = ask!(&state, Services);
    rows.retain(|row| narrow.keeps(&row.namespace));
    Ok(Json(rows).into_response())
}

pub(super) async fn accesses(State(state): State<AdminState>, query: Narrowed) -> Result<Response, ApiError> {
    let narrow = narrow(query)?;
    let mut rows = ask!(&state, Accesses);
    rows.retain(|row| narrow.keeps(&row.namespace));
    Ok(Json(rows).into_response())
}

pub(super) async fn vips(State(state): State<AdminState>, query: Narrowed) -> Result<Response, ApiError> {
    let narrow = narrow(query)?;
    let mut rows = ask!(&state, Vips);
    // The access's namespace, since the access is what asked for the VIP.
    rows.retain(|row| narrow.keeps(row.access.split_once('/').map_or("", |(namespace, _)| namespace)));
    Ok(Json(rows).into_response())
}

pub(super) async fn nodes(State(state): State<AdminState>) -> Result<Response, ApiError> {
    Ok(Json(ask!(&state, Nodes)).into_response())
}

/// Forgets a cluster. 404 where there is none of the name, 409 where the owner refuses.
pub(super) async fn forget(
    State(state): State<AdminState>,
    name: Result<Path<String>, PathRejection>,
) -> Handled<Value> {
    let Path(name) = name.map_err(|e| ApiError::BadRequest(e.body_text()))?;
    let clusters = ask!(&state, Clusters);
    if !clusters.iter().any(|row| row.name == name) {
        let known: Vec<&str> = clusters.iter().map(|row| row.name.as_str()).collect();
        let known =
            if known.is_empty() { "there is none".to_owned() } else { format!("there are {}", known.join(", ")) };
        return Err(ApiError::NotFound(format!("no cluster is called `{name}`; {known}")));
    }
    let forgotten = send(&state, |reply| Inspect::Forget { cluster: name.clone(), reply }).await?;
    forgotten.map_err(ApiError::Conflict)?;
    tracing::info!(cluster = %name, "forgotten at a user's request");
    Ok(Json(json!({ "forgotten": name })))
}

pub(super) async fn xds_nodes(State(state): State<AdminState>) -> Json<Vec<Value>> {
    Json(state.xds.nodes())
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Shown {
    #[serde(default)]
    resource: String,
}

pub(super) async fn xds_node(
    State(state): State<AdminState>,
    id: Result<Path<String>, PathRejection>,
    shown: Result<Query<Shown>, QueryRejection>,
) -> Handled<Value> {
    let Path(id) = id.map_err(|e| ApiError::BadRequest(e.body_text()))?;
    let Query(Shown { resource }) =
        shown.map_err(|e| ApiError::BadRequest(format!("{}; the one parameter is ?resource=", e.body_text())))?;
    let missing =
        || ApiError::NotFound(format!("no node `{id}` is connected; GET /debug/xds/nodes lists those that are"));
    state.xds.node(&id, &resource).map(Json).ok_or_else(missing)
}

pub(super) async fn no_such_path(uri: Uri) -> Response {
    let paths: Vec<&str> = PATHS.iter().map(|(path, _)| *path).collect();
    let message = format!("there is nothing at {}", uri.path());
    let body = json!({ "error": { "code": "NotFound", "message": message }, "paths": paths });
    (StatusCode::NOT_FOUND, Json(body)).into_response()
}

pub(super) async fn no_such_method(method: Method, uri: Uri) -> ApiError {
    ApiError::MethodNotAllowed(format!("{} does not take {method}", uri.path()))
}
