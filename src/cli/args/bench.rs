//! What the benchmarks are told.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::{Format, Protocol};
use crate::config::parse_duration;

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Bench {
    /// Connect clients that behave as Envoys do to any server of the aggregated discovery service
    #[command(
        after_help = "Each client has a connection and a stream of its own, takes clusters and listeners by wildcard and \
                            the endpoints of its clusters, answers each response once, and decodes nothing. Fails when a \
                            client is not served in time, is refused or loses its stream.\n\nOnly measure servers that \
                            you run. Causeway itself wants nodes with a role: --node-metadata role=sidecar"
    )]
    Xds(BenchXds),
}

#[derive(Debug, Args)]
pub(in crate::cli) struct BenchXds {
    /// Where xDS is served, without TLS
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:18000")]
    pub server: String,
    /// How many clients
    #[arg(long, value_name = "N", default_value = "100", value_parser = clap::value_parser!(u32).range(1..=50_000))]
    pub clients: u32,
    /// How they speak xDS
    #[arg(long, value_enum, default_value = "delta")]
    pub protocol: Protocol,
    /// How long to look on once all are served
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = parse_duration)]
    pub duration: Duration,
    /// How long it may take until all are served
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = parse_duration)]
    pub within: Duration,
    /// How many resources a client holds when it is served [default: when all that it asked for was answered]
    #[arg(long, value_name = "N")]
    pub resources: Option<u32>,
    /// A node's id is this and a number
    #[arg(long, value_name = "TEXT", default_value = "bench-")]
    pub node_id_prefix: String,
    /// The nodes' cluster
    #[arg(long, value_name = "TEXT", default_value = "bench")]
    pub node_cluster: String,
    /// A text in the nodes' metadata; can be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub node_metadata: Vec<String>,
    /// A route configuration to ask for; can be repeated
    #[arg(long, value_name = "NAME")]
    pub route: Vec<String>,
    /// Have every client refuse this resource: cluster/NAME, endpoint/NAME, listener/NAME or route/NAME
    #[arg(long, value_name = "TYPE/NAME")]
    pub refuse: Option<String>,
    /// Clients beside these that subscribe and never read
    #[arg(long, value_name = "N", default_value = "0", value_parser = clap::value_parser!(u32).range(..=50_000))]
    pub stalled: u32,
    /// At the end have all clients come back at once, with the versions of what they hold (delta only)
    #[arg(long)]
    pub reconnect: bool,
    /// Another form than text
    #[arg(short, long, value_enum, value_name = "FORM")]
    pub output: Option<Format>,
}
