//! Beside an Envoy: tells the control plane what its listeners really do, and assigns virtual IPs
//! from its own ranges where a pool leaves that to the data plane.
//!
//! ```text
//!   Envoy's admin ──▶ http ─▶ envoy (parse) ─▶ tracker ── watch<View> ──▶ run ◀── gRPC ──▶ service ── Event ──▶ owner
//!                                                ▲                         │                       ◀─ Control ──
//!                           local (would it bind?)              assign, state (addresses)
//! ```
//!
//! `service` is the control plane's end, everything else is the agent's. The protocol is
//! `proto/causeway/v1/feedback.proto`. `tracker`, `assign` and `session` do no I/O and are given
//! the time.
//!
//! Facts about Envoy were tried on 1.40 and stand where they are used.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;

mod addresses;
mod assign;
mod drain;
pub(crate) mod envoy;
mod http;
mod local;
mod report;
mod run;
pub mod service;
pub(crate) mod session;
pub(crate) mod state;
mod tracker;
pub(crate) mod wire;

pub use assign::Rules;
pub use drain::{DrainOptions, drain};
pub use local::{MakeLocalOptions, make_bindable};
pub use run::run;
pub use state::StateError;

/// Generated from `proto/causeway/v1/feedback.proto`.
#[allow(missing_docs, clippy::all, clippy::pedantic, reason = "generated code")]
pub mod proto {
    tonic::include_proto!("causeway.v1");

    /// The definitions themselves: a `google.protobuf.FileDescriptorSet`.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/causeway.v1.bin"));
}

/// Flags of `causeway agent`.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Where the control plane listens: http://HOST:PORT or unix:/PATH
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:18000")]
    pub control_plane: String,

    /// Envoy's admin interface: ADDRESS:PORT or unix:/PATH
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9901")]
    pub envoy_admin: AdminAddress,

    /// The Envoy's node.id [default: what its admin interface says]
    #[arg(long, value_name = "ID")]
    pub node_id: Option<String>,

    /// A range from which this agent may assign addresses; may be given several times
    #[arg(long, value_name = "CIDR", requires = "state_dir")]
    pub assign: Vec<IpNet>,

    /// Where assigned addresses are kept over restarts
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,

    /// Make the --assign ranges local addresses of this host (as `ip route replace local CIDR dev lo`
    /// would, and for IPv6 each assigned address on lo as well; needs CAP_NET_ADMIN). They stay when
    /// the agent ends
    #[arg(long, requires = "assign")]
    pub make_local: bool,

    /// How often the admin interface is read, as 250ms or 1s
    #[arg(long, value_name = "DURATION", default_value = "250ms", value_parser = duration)]
    pub poll_interval: Duration,
}

/// Where an Envoy's admin interface is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminAddress {
    /// Over TCP.
    Tcp(SocketAddr),
    /// Over a Unix socket.
    Unix(PathBuf),
}

impl FromStr for AdminAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = crate::config::unix_path(path);
            return if path.is_empty() { Err("the path is missing".into()) } else { Ok(Self::Unix(path.into())) };
        }
        let text = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
        let text = text.strip_prefix("localhost:").map_or_else(|| text.to_owned(), |port| format!("127.0.0.1:{port}"));
        text.parse().map(Self::Tcp).map_err(|_| "expected ADDRESS:PORT, as 127.0.0.1:9901, or unix:/PATH".into())
    }
}

impl std::fmt::Display for AdminAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Reads `250ms`, `1s` or `1.5s`; at least 10 ms, at most a minute.
fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit_ms) = match text.strip_suffix("ms") {
        Some(number) => (number, 1.0),
        None => (text.strip_suffix('s').ok_or("expected a number with the unit ms or s, as 250ms")?, 1000.0),
    };
    let ms = number.parse::<f64>().map_err(|_| format!("`{number}` is not a number"))? * unit_ms;
    if (10.0..=60_000.0).contains(&ms) {
        Ok(Duration::from_micros((ms * 1000.0) as u64))
    } else {
        Err("has to be between 10ms and 60s".into())
    }
}

/// Why an agent cannot run. What may pass (no Envoy yet, no control plane yet) is not an error: it
/// is tried again for ever.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The control plane's address cannot be used.
    #[error("--control-plane `{url}`: {reason}")]
    ControlPlane {
        /// As it was given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The state directory cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The Envoy could not be told that it is about to end.
    #[error("cannot drain the Envoy at --envoy-admin {admin}: {reason}")]
    Drain {
        /// Its admin interface.
        admin: String,
        /// What failed.
        reason: String,
    },
    /// A range or an address could not be made local, or be taken away.
    #[error("cannot {task} (as `{command}` would): {reason}")]
    Local {
        /// What failed.
        task: String,
        /// The command of iproute2 that does the same.
        command: String,
        /// Why, and the remedy where one is known.
        reason: String,
    },
}

#[cfg(test)]
mod tests;
