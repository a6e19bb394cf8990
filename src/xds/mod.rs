//! Decisions become Envoy messages. Pure: what goes in is all that counts, and the same input
//! gives the same bytes. So no message may have two entries in one protobuf map, because the
//! order of those is not fixed.
//!
//! The shapes are chosen so that no request fails while pods come and go; each choice that differs
//! from Envoy's default has its reason beside it.

use std::collections::HashMap;
use std::net::SocketAddr;

use xds_api::pb::envoy::config::core::v3 as core;
use xds_api::pb::google::protobuf;

mod any;
mod cluster;
mod endpoint;
mod health;
mod json;
mod listener;
mod route;
#[cfg(test)]
mod tests;

pub use cluster::{CONNECT_TIMEOUT_SECONDS, ClusterSpec, cluster};
pub use endpoint::assignment;
pub use json::{JsonError, descriptors, json};
pub use listener::{ListenerSpec, METADATA_NAMESPACE, Target, listener};
pub use route::{RouteSpec, route};

/// A silent TCP connection or HTTP stream is kept this long. The gateway does not know its
/// services: database pools and streams that wait for events are silent for long, so only what is
/// surely abandoned goes.
const IDLE_TIMEOUT_SECONDS: i64 = 3600;

fn seconds(seconds: i64) -> protobuf::Duration {
    protobuf::Duration { seconds, nanos: 0 }
}

fn milliseconds(milliseconds: u32) -> protobuf::Duration {
    let nanos = milliseconds % 1000 * 1_000_000;
    protobuf::Duration { seconds: i64::from(milliseconds / 1000), nanos: nanos as i32 }
}

/// Whatever has to be fetched comes over the same aggregated stream.
///
/// Envoy's default is to wait 15 s for a resource and then to go on without it: a cluster without
/// endpoints answers 503, a listener without routes 404, both on a VIP that looks healthy. Zero
/// waits as long as it takes. Until then a new listener does not become active, so it is not
/// published, and a changed one keeps serving in its old form.
fn over_ads() -> core::ConfigSource {
    core::ConfigSource {
        resource_api_version: core::ApiVersion::V3 as i32,
        initial_fetch_timeout: Some(seconds(0)),
        config_source_specifier: Some(core::config_source::ConfigSourceSpecifier::Ads(
            core::AggregatedConfigSource::default(),
        )),
        ..Default::default()
    }
}

fn socket_address(address: SocketAddr) -> core::Address {
    core::Address {
        address: Some(core::address::Address::SocketAddress(core::SocketAddress {
            address: address.ip().to_string(),
            port_specifier: Some(core::socket_address::PortSpecifier::PortValue(u32::from(address.port()))),
            ..Default::default()
        })),
    }
}

/// The metadata by which a route finds the endpoints of one Kubernetes cluster, under Envoy's namespace for it.
const CLUSTER_KEY: &str = "cluster";

/// Says that an endpoint is of a Kubernetes cluster, or that a route wants only such.
fn of_cluster(name: &str) -> core::Metadata {
    let value = protobuf::Value { kind: Some(protobuf::value::Kind::StringValue(name.to_owned())) };
    let fields = protobuf::Struct { fields: HashMap::from([(CLUSTER_KEY.to_owned(), value)]) };
    core::Metadata { filter_metadata: HashMap::from([("envoy.lb".to_owned(), fields)]), ..Default::default() }
}
