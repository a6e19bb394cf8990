//! Serves snapshots to Envoys (and other xDS clients) over the aggregated discovery service and those of single
//! types, in the state-of-the-world and the delta protocol.
//!
//! ```text
//!            requests                                            Connected, Acked, Rejected, Disconnected
//!  Envoy ───────────────▶ service (tonic shell) ── request() ─▶ stream ─────────────────────────▶ owner
//!        ◀─────────────── one task a stream     ◀─── next() ─── (no I/O)  ◀── snapshot_changed() ── watch
//!          encoded once    reads and writes apart                book, a type: known, refused, pending, in flight
//! ```
//!
//! * [`stream`]: the machine of one stream. It is given requests, snapshots and the time, and says
//!   what to send next and what was proved. All protocol rules live there.
//! * [`subscription`]: what a client asked for, of one type.
//! * [`wire`]: responses written by hand around bodies that were encoded once.
//! * [`service`]: the tonic services: one task a stream, deadlines, limits. [`service::AdsServer::services`] mounts
//!   the aggregated one with those of single types ([`discovery`]).
//! * [`net`]: connections that can be closed from within, for clients that stop reading.
//! * [`registry`]: what can be asked about streams while they live; [`status`]: the same over gRPC (CSDS). [`metrics`]:
//!   counters.
//! * [`loads`]: what clients report of the requests that they send (LRS).
//!
//! A whole server, whose clients all have the same view:
//!
//! ```no_run
//! use causeway::ads::service::AdsServer;
//! use causeway::ads::{Event, Limits, net};
//! use causeway::snapshot::{Resource, ResourceType, SnapshotBuilder};
//! use tokio::{net::TcpListener, sync::mpsc, sync::watch};
//! use xds_api::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
//!
//! # async fn serve() -> Result<(), Box<dyn std::error::Error>> {
//! let mut builder = SnapshotBuilder::new();
//! // `None` is "not known yet": nobody is told that there is nothing.
//! let (view, snapshots) = watch::channel(None);
//!
//! let (events, mut told) = mpsc::channel(256);
//! let server = tonic::transport::Server::builder().add_service(AdsServer::new(events, Limits::default()));
//! let listener = TcpListener::bind("127.0.0.1:18000").await?;
//! tokio::spawn(server.serve_with_incoming(net::incoming(listener)));
//! tokio::spawn(async move {
//!     while let Some(event) = told.recv().await {
//!         match event {
//!             // Who may be served, and what.
//!             Event::Connected { reply, .. } => _ = reply.send(Ok(snapshots.clone())),
//!             Event::Rejected { refused, detail, .. } => eprintln!("{refused:?} was refused: {detail}"),
//!             Event::Acked { .. } | Event::Disconnected { .. } => {}
//!         }
//!     }
//! });
//!
//! // Whenever something changes: only that is encoded, and only those who subscribed to it are sent it.
//! let assignment = ClusterLoadAssignment { cluster_name: "checkout".into(), ..Default::default() };
//! builder.update(|edit| _ = edit.set(Resource::new(ResourceType::Endpoint, "checkout", &assignment)));
//! view.send_replace(Some(builder.latest().clone()));
//! # Ok(())
//! # }
//! ```
//!
//! With `snapshot` this is a library: it knows nothing of Kubernetes, VIPs or policies. The numbers in
//! comments ("rule 5") are those of the project's list of xDS rules; a test named after each holds it.

mod codec;
pub mod discovery;
pub mod identity;
mod kept;
pub mod loads;
pub mod metrics;
mod nack;
pub mod net;
pub mod registry;
pub mod service;
pub mod status;
pub mod stream;
pub mod subscription;
#[cfg(test)]
mod tests;
pub mod wire;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{oneshot, watch};

use crate::snapshot::{ResourceType, XdsSnapshot};

pub use discovery::DiscoveryService;
pub use identity::NodeInfo;
pub use metrics::Metrics;
pub use registry::Registry;

/// Milliseconds since the Unix epoch. Machines are given it; they never ask a clock.
pub type Millis = i64;

/// A resource's name and version.
pub type Versioned = (Arc<str>, Arc<str>);

/// Identifies a stream within this process; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StreamId(pub u64);

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The variant of the protocol that a stream speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Protocol {
    /// State of the world: `StreamAggregatedResources`.
    Sotw,
    /// Incremental: `DeltaAggregatedResources`.
    Delta,
}

impl Protocol {
    /// As people write it.
    pub const fn label(self) -> &'static str {
        match self {
            Protocol::Sotw => "SotW",
            Protocol::Delta => "Delta",
        }
    }
}

/// Why a node is not served. Its message is what the client sees as the stream's status.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// For the people who run the client: what is wrong and what to do.
    pub message: String,
}

/// The snapshots of one view. `None` until every source is synced or declared unknown (rule 10). When
/// the owner drops the sender, streams end with `UNAVAILABLE` and clients come back to be sorted anew.
pub type Snapshots = watch::Receiver<Option<Arc<XdsSnapshot>>>;

/// What streams tell the owner, in order for each stream: `Connected` first, `Disconnected` last. A
/// stream waits when the owner's channel is full, so a slow owner slows streams, not memory down.
#[derive(Debug)]
pub enum Event {
    /// A node's first request came. Nothing is served before the reply.
    Connected {
        /// The stream.
        stream: StreamId,
        /// What the node says of itself; bound to the stream from here on (rule 13).
        node: NodeInfo,
        /// The variant of the protocol.
        protocol: Protocol,
        /// By which service it came: what can be asked for on it.
        service: DiscoveryService,
        /// The address that it comes from; empty where the transport has none.
        peer: String,
        /// Which snapshots to serve, or why none. Dropping it refuses the stream.
        reply: oneshot::Sender<Result<Snapshots, Refusal>>,
    },
    /// The client has these resources: it acknowledged them, or its `initial_resource_versions` say
    /// so. For SotW and a type whose responses are complete lists this is the whole list.
    Acked {
        /// The stream.
        stream: StreamId,
        /// Their type.
        ty: ResourceType,
        /// What it has.
        resources: Vec<Versioned>,
        /// What it has no longer.
        removed: Vec<Arc<str>>,
    },
    /// The client refused a response (rule 3).
    Rejected {
        /// The stream.
        stream: StreamId,
        /// The type.
        ty: ResourceType,
        /// Those that the error names. They are not sent again in this version.
        refused: Vec<Versioned>,
        /// Those of the same response of which nothing is known until the next ACK.
        unknown: Vec<Versioned>,
        /// The client's own words, whole.
        detail: String,
        /// Of the refused ones, the part of the text that is about each, where it can be taken apart.
        details: BTreeMap<Arc<str>, String>,
    },
    /// The stream ended. Nothing that it proved holds any longer.
    Disconnected {
        /// The stream.
        stream: StreamId,
    },
}

/// What a client may cost, and how long it is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one request; larger ones end the stream before they are parsed. A first delta request
    /// lists all that the client has, about 60 bytes each.
    pub max_request_bytes: usize,
    /// Names in a client's subscriptions to one type.
    pub max_names: usize,
    /// Bytes of a name.
    pub max_name_bytes: usize,
    /// Bytes of bodies in one response where it can be split (rule 20). Many clients refuse more than
    /// 4 MiB; a response holds at least one resource, however large.
    pub max_response_bytes: usize,
    /// Streams at a time.
    pub max_streams: usize,
    /// Streams at a time from one address.
    pub max_streams_per_peer: usize,
    /// How long the first request may take.
    pub first_request_timeout: Duration,
    /// How long a response may wait for the client to read (rule 18).
    pub write_timeout: Duration,
    /// How long a response may stay unanswered before the stream is closed, for all types but clusters.
    /// Small responses fit into buffers on the way, so that a client that reads nothing shows only by this.
    pub ack_timeout: Duration,
    /// How long routes, clusters and endpoints outlive a removed listener. Its open connections go on while it drains
    /// (Envoy's `--drain-time-s`), and without a cluster their requests would be answered 503. Zero removes at once.
    pub drain_timeout: Duration,
    /// How long make-before-break waits for a client (rule 4) before the rest is sent all the same.
    pub order_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_request_bytes: 4 * 1024 * 1024,
            max_names: 20_000,
            max_name_bytes: 1024,
            max_response_bytes: 1024 * 1024,
            max_streams: 20_000,
            max_streams_per_peer: 20_000,
            first_request_timeout: Duration::from_secs(20),
            write_timeout: Duration::from_secs(30),
            ack_timeout: Duration::from_secs(300),
            drain_timeout: Duration::ZERO,
            order_timeout: Duration::from_secs(10),
        }
    }
}

/// The client broke the protocol or a limit; its stream ends with this message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// Rule 13.
    #[error("the first request of a stream must carry `node` with an `id`")]
    NoNode,
    /// Rule 13.
    #[error("the stream belongs to node `{bound}`; it cannot become `{claimed}`")]
    NodeChanged {
        /// The node that the stream belongs to.
        bound: String,
        /// The node that the request says.
        claimed: String,
    },
    /// Rule 14.
    #[error("a request without `type_url` says nothing on an aggregated stream")]
    NoTypeUrl,
    /// A stream of one type is asked for another.
    #[error("{service} serves {own}, not {asked}: ask the service of that type, or the aggregated one")]
    WrongType {
        /// The service's name.
        service: &'static str,
        /// The type that it serves.
        own: &'static str,
        /// The type that was asked for.
        asked: String,
    },
    /// A limit.
    #[error("{count} names of {type_url} are more than the {limit} that a stream may subscribe to")]
    TooManyNames {
        /// The type.
        type_url: String,
        /// How many.
        count: usize,
        /// How many there may be.
        limit: usize,
    },
    /// A limit.
    #[error("a resource name of {bytes} bytes is longer than the {limit} that are allowed")]
    NameTooLong {
        /// Its length.
        bytes: usize,
        /// The longest allowed.
        limit: usize,
    },
    /// A limit.
    #[error("more than {limit} types that are not served here")]
    TooManyTypes {
        /// How many there may be.
        limit: usize,
    },
}
