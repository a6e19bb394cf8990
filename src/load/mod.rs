//! xDS clients by the thousand in one process, to measure a server with: any that speaks the aggregated discovery
//! service, ours or another.
//!
//! ```text
//!  Fleet ── one task and one connection a client ── h2 ──▶ server
//!    │        Scanner (skips bodies) ─▶ Session (no I/O: subscribes, remembers, ACKs, NACKs) ─▶ requests
//!    └─────────────── Board: what all clients saw, and when ◀──┘
//! ```
//!
//! Each client behaves as an Envoy does: one stream on a connection of its own, clusters and listeners by wildcard,
//! the assignments of the clusters that it was told of, and each response answered once. Unlike an Envoy it never
//! decodes a body, so that the clients cost less than the server that is measured.
//!
//! * [`scanner`]: names and versions out of a response's bytes as they arrive. [`request`]: requests, written by hand.
//! * [`names`]: names that all clients share, and sets of them. [`session`]: one client without its connection.
//! * [`board`]: counts and times. [`client`]: one client on its connection. [`fleet`]: all of them.

pub mod board;
pub mod client;
pub mod fleet;
pub mod names;
pub mod request;
pub mod scanner;
pub mod session;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

pub use board::{Awaited, Board, Times, Totals};
pub use fleet::Fleet;

use crate::ads::Protocol;
use crate::snapshot::ResourceType;

/// Whether a client reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reading {
    /// All that comes.
    #[default]
    All,
    /// Nothing at all after it has subscribed: its side of the connection is full at some point.
    Nothing,
}

/// What a client remembers of the resources that it was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Memory {
    /// Which there are: a bit for each name.
    #[default]
    Names,
    /// Their versions as well, 16 bytes for each, so that it can come back with `initial_resource_versions`.
    Versions,
}

/// What the clients of a fleet are like.
#[derive(Clone, Debug)]
pub struct Profile {
    /// The variant of the protocol.
    pub protocol: Protocol,
    /// The types that a client subscribes to, in this order. Clusters and listeners by wildcard; endpoints those of
    /// the clusters that it was sent, taken to be named as these; routes by [`Profile::routes`].
    pub types: Vec<ResourceType>,
    /// The route configurations to ask for.
    pub routes: Vec<String>,
    /// A client's node id is this and its number.
    pub node_id_prefix: String,
    /// The node's cluster.
    pub node_cluster: String,
    /// String values of the node's metadata.
    pub node_metadata: Vec<(String, String)>,
    /// Whether it reads.
    pub reading: Reading,
    /// What it remembers.
    pub memory: Memory,
    /// Type and name of a resource that it refuses whenever it is sent.
    pub refuses: Option<(ResourceType, Arc<str>)>,
    /// How many resources of all types a client holds when it counts as served; without it, when each of its
    /// subscriptions was answered.
    pub served_at: Option<usize>,
}

impl Profile {
    /// An Envoy that speaks this protocol.
    pub fn new(protocol: Protocol) -> Self {
        Self {
            protocol,
            types: vec![ResourceType::Cluster, ResourceType::Endpoint, ResourceType::Listener],
            routes: Vec::new(),
            node_id_prefix: "load-".to_owned(),
            node_cluster: "load".to_owned(),
            node_metadata: Vec::new(),
            reading: Reading::All,
            memory: Memory::Names,
            refuses: None,
            served_at: None,
        }
    }
}

/// Where the server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its address.
    pub address: SocketAddr,
    /// Its name, for the `:authority` of requests.
    pub authority: String,
}

impl From<SocketAddr> for Target {
    fn from(address: SocketAddr) -> Self {
        Self { address, authority: address.to_string() }
    }
}

/// Why a client ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection came about.
    #[error("cannot connect to {address}")]
    Connect {
        /// Where to.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The connection broke, or the server broke HTTP/2.
    #[error("the connection failed")]
    Http2(#[from] h2::Error),
    /// The address or name cannot be asked for.
    #[error("`{authority}` is no name of a server")]
    Authority {
        /// As it was given.
        authority: String,
    },
    /// The server closed the connection without ending the stream.
    #[error("the server closed the connection")]
    Closed,
    /// The server ended the stream.
    #[error("the server ended the stream with status {code}: {message}")]
    Status {
        /// The number of a gRPC status; 0 is an end without an error.
        code: u32,
        /// The server's words.
        message: String,
    },
    /// The server answered with another HTTP status than 200.
    #[error("the server answered with HTTP status {status}; is that port serving gRPC?")]
    HttpStatus {
        /// The status.
        status: u16,
    },
    /// A response is not what it should be.
    #[error("the server's response cannot be read: {0}")]
    Response(#[from] scanner::Malformed),
}

/// A connection is a file, and a process may often have only a thousand: takes as many as it is allowed to. Where that
/// cannot be, connecting fails with a message of its own.
pub fn allow_many_connections() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).ok();
}
