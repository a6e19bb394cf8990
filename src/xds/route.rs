//! Routes (RDS): one virtual host for each service's port.

use std::collections::BTreeSet;
use std::net::IpAddr;

use xds_api::pb::envoy::config::route::v3::{
    HeaderMatcher, RetryPolicy, Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost, header_matcher,
    retry_policy, route as action, route_action, route_match,
};
use xds_api::pb::envoy::r#type::matcher::v3::{RegexMatcher, StringMatcher, string_matcher};

use super::{any, seconds};

/// Failures after which no endpoint can have begun to serve the request.
const RETRY_UNSERVED: &str = "connect-failure,refused-stream,reset-before-request";

/// Besides those, a connection that broke before the answer began. An endpoint that stops closes
/// its idle connections, and a request may already be on its way on one of them.
const RETRY_SAFE: &str = "connect-failure,refused-stream,reset-before-request,reset";

/// Methods that ask for nothing but an answer (RFC 9110, 9.2.1), so a proxy may repeat them.
const SAFE_METHODS: &str = "GET|HEAD|OPTIONS";

/// How often a request may be tried again on another endpoint. Four tries in all
/// survive the loss of half of the endpoints at once in most cases, and bound what one request
/// that kills its server can do.
const RETRIES: u32 = 3;

/// How often Envoy picks again when it picked an endpoint that was tried already. An endpoint that
/// refuses is the least busy of all, so among few endpoints least request picks it most of the
/// time: five picks, as others have it, were seen to lose requests. A pick costs next to nothing.
const PICKS: i64 = 30;

/// What a route configuration is built from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteSpec<'a> {
    /// Its name.
    pub name: &'a str,
    /// Host names that lead to the service, without a port.
    pub hostnames: Vec<String>,
    /// Host names that lead to the endpoints of one Kubernetes cluster only, with that cluster.
    pub cluster_hostnames: Vec<(String, String)>,
    /// VIPs that lead to the service, for clients that use the bare address.
    pub addresses: Vec<IpAddr>,
    /// Where requests go.
    pub cluster: &'a str,
}

/// Builds a route configuration. A request for any other host is answered with 404.
pub fn route(spec: &RouteSpec<'_>) -> RouteConfiguration {
    let mut virtual_hosts = vec![virtual_host(spec.name.to_owned(), domains(spec), spec.cluster, None)];
    for (hostname, kubernetes_cluster) in &spec.cluster_hostnames {
        let name = format!("{}@{kubernetes_cluster}", spec.name);
        let domains = vec![hostname.to_ascii_lowercase()];
        virtual_hosts.push(virtual_host(name, domains, spec.cluster, Some(kubernetes_cluster)));
    }
    RouteConfiguration {
        name: spec.name.to_owned(),
        virtual_hosts,
        // The port is the listener's; clients write it or leave it out.
        ignore_port_in_host_matching: true,
        ..Default::default()
    }
}

fn virtual_host(name: String, domains: Vec<String>, cluster: &str, only: Option<&str>) -> VirtualHost {
    VirtualHost {
        name,
        domains,
        routes: vec![
            to_cluster("safe", cluster, only, vec![is_safe()], RETRY_SAFE),
            to_cluster("any", cluster, only, Vec::new(), RETRY_UNSERVED),
        ],
        ..Default::default()
    }
}

/// Sorted and each once, since Envoy refuses doubles. An IPv6 address stands in brackets, as it
/// does in a `Host` header.
fn domains(spec: &RouteSpec<'_>) -> Vec<String> {
    let names = spec.hostnames.iter().map(|name| name.to_ascii_lowercase());
    let literals = spec.addresses.iter().map(|address| match address {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    });
    names.chain(literals).collect::<BTreeSet<_>>().into_iter().collect()
}

fn to_cluster(name: &str, cluster: &str, only: Option<&str>, headers: Vec<HeaderMatcher>, retry_on: &str) -> Route {
    Route {
        name: name.to_owned(),
        r#match: Some(RouteMatch {
            path_specifier: Some(route_match::PathSpecifier::Prefix("/".to_owned())),
            headers,
            ..Default::default()
        }),
        action: Some(action::Action::Route(RouteAction {
            cluster_specifier: Some(route_action::ClusterSpecifier::Cluster(cluster.to_owned())),
            metadata_match: only.map(super::of_cluster),
            // Envoy's default ends every answer after 15 s, which breaks downloads, gRPC streams and
            // slow reports. Zero leaves it to the client and the service, who know; silence is
            // bounded by the listener's `stream_idle_timeout`, dead peers by TCP keepalive.
            timeout: Some(seconds(0)),
            retry_policy: Some(retries(retry_on)),
            hash_policy: vec![by_client()],
            ..Default::default()
        })),
        ..Default::default()
    }
}

fn is_safe() -> HeaderMatcher {
    let methods = RegexMatcher { regex: SAFE_METHODS.to_owned(), ..Default::default() };
    HeaderMatcher {
        name: ":method".to_owned(),
        header_match_specifier: Some(header_matcher::HeaderMatchSpecifier::StringMatch(StringMatcher {
            match_pattern: Some(string_matcher::MatchPattern::SafeRegex(methods)),
            ..Default::default()
        })),
        ..Default::default()
    }
}

fn retries(retry_on: &str) -> RetryPolicy {
    RetryPolicy {
        retry_on: retry_on.to_owned(),
        num_retries: Some(RETRIES.into()),
        retry_host_predicate: vec![retry_policy::RetryHostPredicate {
            name: "envoy.retry_host_predicates.previous_hosts".to_owned(),
            config_type: Some(retry_policy::retry_host_predicate::ConfigType::TypedConfig(any::previous_hosts())),
        }],
        host_selection_retry_max_attempts: PICKS,
        ..Default::default()
    }
}

/// What ring hash and maglev hash; other algorithms pay it no heed.
fn by_client() -> route_action::HashPolicy {
    use route_action::hash_policy::{ConnectionProperties, PolicySpecifier};
    route_action::HashPolicy {
        policy_specifier: Some(PolicySpecifier::ConnectionProperties(ConnectionProperties { source_ip: true })),
        ..Default::default()
    }
}
