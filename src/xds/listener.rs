//! Listeners (LDS): one for each VIP and port.
//!
//! Envoy must really bind the address, or refuse the listener: there is neither `freebind` nor
//! `bind_to_port: false`, since an ACK proves a VIP only so.

use std::collections::HashMap;
use std::net::SocketAddr;

use xds_api::pb::envoy::config::core::v3::Metadata;
use xds_api::pb::envoy::config::listener::v3::{Filter, FilterChain, Listener, filter};
use xds_api::pb::envoy::extensions::filters::network::http_connection_manager::v3 as http;
use xds_api::pb::google::protobuf;

use super::{IDLE_TIMEOUT_SECONDS, any, over_ads, seconds, socket_address};

/// Under this key the listener's metadata has what is ours.
pub const METADATA_NAMESPACE: &str = "causeway";

/// A client that opened a request must have sent its headers within this, so that one that
/// trickles them cannot hold connections for nothing. Envoy has no limit by default.
const REQUEST_HEADERS_TIMEOUT_SECONDS: i64 = 60;

/// Where a listener's traffic goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// Bytes to a cluster.
    Tcp {
        /// The cluster's name.
        cluster: &'a str,
    },
    /// Requests by a route configuration.
    Http {
        /// The route configuration's name.
        route: &'a str,
    },
}

/// What a listener is built from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenerSpec<'a> {
    /// Its name (`vip::listener_name`).
    pub name: &'a str,
    /// What it binds.
    pub address: SocketAddr,
    /// Where its traffic goes.
    pub target: Target<'a>,
    /// How often it was offered anew to a node that refused it. An attempt makes other content of
    /// the same listener, because what was refused is never sent again (rule 2).
    pub attempt: u32,
}

/// Builds a listener.
pub fn listener(spec: &ListenerSpec<'_>) -> Listener {
    let stat_prefix = format!("vip_{}_{}", spec.address.ip(), spec.address.port());
    let (name, config) = match spec.target {
        Target::Tcp { cluster } => {
            ("envoy.filters.network.tcp_proxy", any::tcp_proxy(stat_prefix, cluster, IDLE_TIMEOUT_SECONDS))
        }
        Target::Http { route } => (
            "envoy.filters.network.http_connection_manager",
            any::connection_manager(&connection_manager(stat_prefix, route)),
        ),
    };
    let filter = Filter { name: name.to_owned(), config_type: Some(filter::ConfigType::TypedConfig(config)) };
    Listener {
        name: spec.name.to_owned(),
        address: Some(socket_address(spec.address)),
        filter_chains: vec![FilterChain { filters: vec![filter], ..Default::default() }],
        metadata: (spec.attempt > 0).then(|| attempt_metadata(spec.attempt)),
        ..Default::default()
    }
}

fn connection_manager(stat_prefix: String, route: &str) -> http::HttpConnectionManager {
    http::HttpConnectionManager {
        codec_type: http::http_connection_manager::CodecType::Auto as i32,
        stat_prefix,
        route_specifier: Some(http::http_connection_manager::RouteSpecifier::Rds(http::Rds {
            config_source: Some(over_ads()),
            route_config_name: route.to_owned(),
        })),
        http_filters: vec![http::HttpFilter {
            name: "envoy.filters.http.router".to_owned(),
            config_type: Some(http::http_filter::ConfigType::TypedConfig(any::router())),
            ..Default::default()
        }],
        upgrade_configs: vec![http::http_connection_manager::UpgradeConfig {
            upgrade_type: "websocket".to_owned(),
            ..Default::default()
        }],
        // The peer is the client: its address goes to `x-forwarded-for`, and what it says of itself
        // in Envoy's own headers is not believed.
        use_remote_address: Some(true.into()),
        // `/a/../b` must not mean one thing here and another at the endpoint.
        normalize_path: Some(true.into()),
        // `name.` is the same host as `name`.
        strip_trailing_host_dot: true,
        // The endpoint's own `server` header says who answered.
        server_header_transformation: http::http_connection_manager::ServerHeaderTransformation::PassThrough as i32,
        // Envoy's default of five minutes cuts streams that wait for events.
        stream_idle_timeout: Some(seconds(IDLE_TIMEOUT_SECONDS)),
        request_headers_timeout: Some(seconds(REQUEST_HEADERS_TIMEOUT_SECONDS)),
        ..Default::default()
    }
}

/// One entry at each level, since the order of more would not be fixed.
fn attempt_metadata(attempt: u32) -> Metadata {
    let number = protobuf::Value { kind: Some(protobuf::value::Kind::NumberValue(f64::from(attempt))) };
    let ours = protobuf::Struct { fields: HashMap::from([("attempt".to_owned(), number)]) };
    Metadata { filter_metadata: HashMap::from([(METADATA_NAMESPACE.to_owned(), ours)]), ..Default::default() }
}
