//! Managers that dial in: `causeway member` runs in a sub-cluster, reads that cluster's own API server, and tells the
//! primary what it has. For clusters whose API server the primary cannot reach, or whose credential must not leave
//! them.
//!
//! ```text
//!   sub-cluster                                                  primary
//!   API server ─▶ kube::manager ─▶ outbound ◀─ client ═ mutual TLS ═ service ─▶ inbound ─▶ kube::manager ─▶ owner
//!                                  digest                                       digest
//! ```
//!
//! The protocol is `proto/causeway/member/v1/member.proto`. `outbound`, `inbound`, `digest` and `window` do no I/O and
//! are given the time. Both ends hold hashes of what the other was told, so whichever is restarted, only what differs
//! travels.

use std::time::Duration;

pub mod authority;
mod client;
pub(crate) mod digest;
mod files;
pub(crate) mod inbound;
pub(crate) mod name;
pub(crate) mod outbound;
pub(crate) mod parts;
pub mod service;
mod tls;
mod window;
pub(crate) mod wire;

pub use client::{MemberError, address, run, simulate};
pub use files::{FileError, MemberFile, Options};
pub use tls::{Door, Peer, Proved, TlsError, incoming};

/// Generated from `proto/causeway/member/v1/member.proto`.
#[allow(missing_docs, clippy::all, clippy::pedantic, reason = "generated code")]
pub mod proto {
    tonic::include_proto!("causeway.member.v1");
}

/// The version of the protocol that this crate speaks.
const PROTOCOL_VERSION: u32 = 1;
/// The longest silence that either side should let pass.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// After a silence this long the stream is ended. On a slow line a sign of life waits behind what is under way
/// (`window`).
const SILENCE: Duration = Duration::from_secs(20);

/// No message is larger, before it is parsed: an object of etcd's limit, 1.5 MiB, and a batch before it.
const MAX_MESSAGE: usize = 4 * 1024 * 1024;

/// The other side breaks a rule of the protocol.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum Violation {
    /// It speaks another version.
    #[error(
        "the other side speaks protocol version {0}, this one speaks version {PROTOCOL_VERSION}: upgrade the older one"
    )]
    Version(u32),
    /// A message came where none such may.
    #[error("{0}")]
    Order(&'static str),
    /// A field is not valid.
    #[error("the field {0} is not valid")]
    Malformed(&'static str),
}

#[cfg(test)]
mod sim;
