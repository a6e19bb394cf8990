//! Extension messages, packed into `Any`. The only place that knows `envoy-types`, which has the
//! extensions that `xds-api` lacks but is built on another version of prost, so nothing but bytes
//! passes between them.

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3 as tcp;
use envoy_types::pb::envoy::extensions::retry::host::previous_hosts::v3::PreviousHostsPredicate;
use envoy_types::pb::envoy::extensions::upstreams::http::v3 as upstream;
use envoy_types::pb::envoy::r#type::v3 as types;
use envoy_types::pb::google::protobuf as wkt;
use prost::{Message, Name};
use xds_api::pb::envoy::extensions::filters::http::router::v3::Router;
use xds_api::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use xds_api::pb::google::protobuf::Any;

use crate::model::object::Protocol;

/// The key under which Envoy looks for a cluster's HTTP options.
const HTTP_PROTOCOL_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// An idle HTTP connection to an endpoint is closed by us after this, before most servers do so;
/// whoever closes second may lose a request. Envoy's default is an hour.
const UPSTREAM_IDLE_SECONDS: i64 = 60;

/// How often a TCP connection is tried. Envoy's default is once, so that a pod that has just gone
/// would cost its clients a connection. It may pick the same endpoint again, unlike for HTTP, so
/// there are more tries than there; refused ones cost a round trip each, and the few that wait for
/// an answer that never comes set their endpoint aside.
const CONNECT_ATTEMPTS: u32 = 10;

/// The filter that reads requests.
pub(super) fn connection_manager(message: &HttpConnectionManager) -> Any {
    // Encoding into a growing buffer cannot fail; an empty Any would be refused by Envoy by name.
    Any::from_msg(message).unwrap_or_default()
}

/// The last HTTP filter, which sends requests to the route's cluster.
pub(super) fn router() -> Any {
    Any::from_msg(&Router::default()).unwrap_or_default()
}

fn pack_extension<M: Name>(message: &M) -> Any {
    Any { type_url: M::type_url(), value: message.encode_to_vec() }
}

/// Bytes to a cluster.
pub(super) fn tcp_proxy(stat_prefix: String, cluster: &str, idle_seconds: i64) -> Any {
    let by_client = types::HashPolicy {
        policy_specifier: Some(types::hash_policy::PolicySpecifier::SourceIp(types::hash_policy::SourceIp {})),
    };
    pack_extension(&tcp::TcpProxy {
        stat_prefix,
        cluster_specifier: Some(tcp::tcp_proxy::ClusterSpecifier::Cluster(cluster.to_owned())),
        idle_timeout: Some(wkt::Duration { seconds: idle_seconds, nanos: 0 }),
        max_connect_attempts: Some(wkt::UInt32Value { value: CONNECT_ATTEMPTS }),
        // What ring hash and maglev hash; other algorithms pay it no heed.
        hash_policy: vec![by_client],
        ..Default::default()
    })
}

/// How a cluster's endpoints are spoken to, with the key where Envoy looks for it; nothing for
/// bytes.
pub(super) fn http_protocol_options(protocol: Protocol) -> Option<(String, Any)> {
    use upstream::http_protocol_options::explicit_http_config::ProtocolConfig;
    let config = match protocol {
        Protocol::Tcp => return None,
        Protocol::Http => ProtocolConfig::HttpProtocolOptions(core::Http1ProtocolOptions::default()),
        Protocol::H2c | Protocol::Grpc => ProtocolConfig::Http2ProtocolOptions(core::Http2ProtocolOptions::default()),
    };
    let options = upstream::HttpProtocolOptions {
        common_http_protocol_options: Some(core::HttpProtocolOptions {
            idle_timeout: Some(wkt::Duration { seconds: UPSTREAM_IDLE_SECONDS, nanos: 0 }),
            ..Default::default()
        }),
        upstream_protocol_options: Some(upstream::http_protocol_options::UpstreamProtocolOptions::ExplicitHttpConfig(
            upstream::http_protocol_options::ExplicitHttpConfig { protocol_config: Some(config) },
        )),
        ..Default::default()
    };
    Some((HTTP_PROTOCOL_OPTIONS.to_owned(), pack_extension(&options)))
}

/// Tries again on another endpoint than those that failed.
pub(super) fn previous_hosts() -> Any {
    pack_extension(&PreviousHostsPredicate {})
}

/// A number, where metadata wants a message.
pub(super) fn number(value: u32) -> Any {
    let type_url = "type.googleapis.com/google.protobuf.UInt32Value".to_owned();
    Any { type_url, value: wkt::UInt32Value { value }.encode_to_vec() }
}
