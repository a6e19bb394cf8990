//! Authoritative answers for published VIPs, over UDP and TCP.
//!
//! The owner of the truth puts a [`Table`] into a `watch` channel; [`serve`] answers each question
//! from the table that is in it at that moment, so a swap is visible to the next question. What is
//! not in the table is not published, and is denied with a short negative TTL ([`NEGATIVE_TTL_SECONDS`])
//! so that a VIP that becomes published is found soon.
//!
//! Zones are [`ZONE`] and, each as a zone of its own, the accesses' host names; everything else is
//! refused. Until every source is synced the table is [`Table::pending`], whose answer is SERVFAIL:
//! resolvers then ask elsewhere or keep what they have, whereas a denial would be believed and cached.
//!
//! Standards: RFC 1034/1035 (DNS), RFC 2308 (negative answers), RFC 2782 (SRV), RFC 6891 (EDNS),
//! RFC 7766 (TCP), RFC 8482 (ANY), RFC 9619 (one question a message).

mod answer;
pub(crate) mod client;
pub(crate) mod handler;
#[cfg(test)]
mod hosts_tests;
mod server;
pub(crate) mod stream;
mod table;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;

pub use client::{Lookup, LookupData, LookupRecord, Outcome, QueryType, lookup};
pub use server::serve;
pub use table::{Host, Record, Rejected, Table, TableInput};

/// The zone of the Multi-Cluster Services API (KEP-1645).
pub const ZONE: &str = "clusterset.local";

/// The version of the schema of names in [`ZONE`] that is kept to, which `dns-version.clusterset.local` says.
pub const SCHEMA_VERSION: &str = "1.0.0";

/// How long resolvers may remember that a name or type is not there (the SOA's minimum, RFC 2308).
/// Short, because a name is denied just before its VIP is published; not 0, so that a client in a
/// loop does not reach us each time.
pub const NEGATIVE_TTL_SECONDS: u32 = 5;

/// The largest UDP answer sent, in bytes, whatever the client allows: the size that avoids
/// fragments on nearly all paths (DNS flag day 2020).
pub const MAX_UDP_PAYLOAD: u16 = 1232;

/// What can go wrong around DNS. Bad questions are no errors: they are answered.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    /// A socket cannot be used.
    #[error("the DNS server's {protocol} socket cannot be used: {source}")]
    Socket {
        /// `UDP` or `TCP`.
        protocol: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The text is not a domain name.
    #[error("`{name}` is not a domain name: {reason}")]
    Name {
        /// The text.
        name: String,
        /// Why.
        reason: String,
    },
    /// The server could not be reached.
    #[error("the DNS server {server} cannot be asked over {protocol}: {source}")]
    Io {
        /// The server that was asked.
        server: SocketAddr,
        /// `UDP` or `TCP`.
        protocol: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No answer came in time.
    #[error("the DNS server {server} did not answer within {waited_ms} ms")]
    Timeout {
        /// The server that was asked.
        server: SocketAddr,
        /// How long was waited in all, in milliseconds.
        waited_ms: u64,
    },
    /// The question or the answer is not DNS.
    #[error("what was said with the DNS server {server} is not DNS: {detail}")]
    Message {
        /// The server that was asked.
        server: SocketAddr,
        /// What is wrong with it.
        detail: String,
    },
}
