//! The admin interface over HTTP: state for people and commands, health, metrics, the xDS debug pages, and gRPC services for
//! people. It owns nothing: every answer is asked of the owner of the truth, bounded in time.
//!
//! Every request passes [`guard`], which asks `trust::authorize`, before any handler sees it.

mod error;
pub mod guard;
mod handlers;
pub mod metrics;
pub mod policies;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::middleware;
use axum::routing::{delete, get, post};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

pub use error::ApiError;

use crate::reconcile::view::Inspect;
use crate::trust::Mode;

/// What is known of each node's xDS streams. The xDS library keeps it; whoever wires the rooms
/// implements this over it.
pub trait XdsDebug: Send + Sync {
    /// A short row for each connected stream.
    fn nodes(&self) -> Vec<serde_json::Value>;
    /// Everything of one node's streams, by its `node.id`; `None` where it is not connected. Contents are shown of resources
    /// whose names contain `resource`, as far as a page can hold them.
    fn node(&self, id: &str, resource: &str) -> Option<serde_json::Value>;
}

/// What the admin interface works with.
#[derive(Clone)]
pub struct AdminState {
    /// The way to the owner of the truth.
    pub inspect: mpsc::Sender<Inspect>,
    /// The xDS streams.
    pub xds: Arc<dyn XdsDebug>,
    /// Policies.
    pub policies: Arc<dyn policies::Policies>,
    /// Whose turn it is to upload, and what became of that.
    pub uploads: Arc<policies::Uploads>,
    /// Metrics.
    pub metrics: Arc<metrics::Registry>,
    /// gRPC services for people, which go through the same door.
    pub grpc: tonic::service::Routes,
    /// How callers that prove nothing are treated.
    pub mode: Mode,
}

/// Every path, with what it is for: the index page, and the body of a 404.
pub const PATHS: &[(&str, &str)] = &[
    ("/", "this page"),
    ("/healthz", "200 while the process can answer"),
    ("/readyz", "200 once every source is synced or known to be unreachable; else 503 and what is awaited"),
    ("/metrics", "metrics, as OpenMetrics text"),
    ("/api/v1/status", "the whole at a glance"),
    ("/api/v1/clusters", "clusters; DELETE /api/v1/clusters/{name} forgets one that cannot be read any more"),
    ("/api/v1/services", "merged services; ?namespace= narrows"),
    ("/api/v1/accesses", "accesses; ?namespace= narrows"),
    ("/api/v1/vips", "VIPs with their proof; ?namespace= narrows"),
    ("/api/v1/nodes", "Envoys"),
    ("/api/v1/policies", "policies, built in and uploaded"),
    (
        "/api/v1/policies/{name}",
        "everything of one; PUT uploads a component (?world= ?activate= ?config= ?fuel= ?memoryMiB= ?maxRemovedPercent= ?onFailure=), DELETE forgets it (?force=)",
    ),
    ("/api/v1/policies/{name}/component", "the component in force, or of ?digest= or ?version="),
    ("/api/v1/policies/{name}/logs", "what it wrote last"),
    ("/api/v1/policies/{name}/activate", "POST puts the version of ?digest= or ?version= into force"),
    ("/api/v1/policies/{name}/rollback", "POST puts the version into force that was so before"),
    ("/debug/xds/nodes", "connected xDS streams"),
    (
        "/debug/xds/nodes/{id}",
        "what one node was sent, accepted and refused, and where its requests go; ?resource= chooses whose contents are shown",
    ),
];

/// The routes. `bound` is the address that they are served at: on a loopback address, requests whose
/// `Host` is another site's name are refused (DNS rebinding).
///
/// Serve it with connect info of type [`SocketAddr`], as [`serve`] does: without it no caller is
/// known to be local, and all are refused.
pub fn router(state: AdminState, bound: SocketAddr) -> Router {
    let guard = guard::Guard::new(state.mode, bound);
    let grpc = state.grpc.clone().prepare().into_axum_router().reset_fallback();
    Router::new()
        .route("/", get(handlers::index))
        .route("/healthz", get(handlers::healthz))
        .route("/readyz", get(handlers::readyz))
        .route("/metrics", get(handlers::metrics))
        .route("/api/v1/status", get(handlers::status))
        .route("/api/v1/clusters", get(handlers::clusters))
        .route("/api/v1/clusters/{name}", delete(handlers::forget))
        .route("/api/v1/services", get(handlers::services))
        .route("/api/v1/accesses", get(handlers::accesses))
        .route("/api/v1/vips", get(handlers::vips))
        .route("/api/v1/nodes", get(handlers::nodes))
        .route("/api/v1/policies", get(policies::list))
        .route("/api/v1/policies/{name}", get(policies::show).put(policies::upload).delete(policies::delete))
        .route("/api/v1/policies/{name}/component", get(policies::component))
        .route("/api/v1/policies/{name}/logs", get(policies::logs))
        .route("/api/v1/policies/{name}/activate", post(policies::activate))
        .route("/api/v1/policies/{name}/rollback", post(policies::roll_back))
        .route("/debug/xds/nodes", get(handlers::xds_nodes))
        // A wildcard, because node ids may have slashes in them.
        .route("/debug/xds/nodes/{*id}", get(handlers::xds_node))
        .fallback(handlers::no_such_path)
        .method_not_allowed_fallback(handlers::no_such_method)
        .with_state(state)
        .merge(grpc)
        .layer(middleware::from_fn_with_state(guard, guard::check))
}

/// Serves the admin interface on `listener` until `shutdown` ends, then lets requests in flight
/// finish. A client that never ends its request keeps this from returning, so whoever shuts down
/// bounds the wait. Fails only where the listener's own address cannot be read.
pub async fn serve(
    listener: TcpListener,
    state: AdminState,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let bound = listener.local_addr()?;
    let service = router(state, bound).into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, service).with_graceful_shutdown(shutdown).await
}
