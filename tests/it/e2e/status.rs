//! What people can ask over gRPC: the status of xDS clients (CSDS) at the admin interface, and at each address which
//! services are served there.

use std::net::SocketAddr;
use std::time::Duration;

use prost_reflect::prost_types::FileDescriptorProto;
use prost013::Message;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};
use xds_api::pb::envoy::admin::v3::ClientResourceStatus;
use xds_api::pb::envoy::config::listener::v3::Listener;
use xds_api::pb::envoy::service::status::v3::client_config::GenericXdsConfig;
use xds_api::pb::envoy::service::status::v3::{ClientStatusRequest, ClientStatusResponse, ConfigStatus};
use xds_api::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use xds_api::pb::envoy::r#type::matcher::v3::{NodeMatcher, StringMatcher, StructMatcher};

use super::Setup;
use crate::ads::ClientCodec;
use crate::support::fleet::Speaks;
use crate::support::manifests;

const SERVICE: &str = "/envoy.service.status.v3.ClientStatusDiscoveryService";

type StatusCodec = ClientCodec<ClientStatusRequest, ClientStatusResponse>;

async fn channel(to: SocketAddr) -> Channel {
    let endpoint = Channel::from_shared(format!("http://{to}")).expect("an address");
    endpoint.connect().await.expect("it is served")
}

fn of(patterns: &[MatchPattern]) -> ClientStatusRequest {
    let matcher = |pattern: &MatchPattern| {
        let node_id = StringMatcher { match_pattern: Some(pattern.clone()), ..StringMatcher::default() };
        NodeMatcher { node_id: Some(node_id), ..NodeMatcher::default() }
    };
    ClientStatusRequest { node_matchers: patterns.iter().map(matcher).collect(), ..ClientStatusRequest::default() }
}

async fn fetch(to: SocketAddr, request: ClientStatusRequest) -> Result<ClientStatusResponse, Status> {
    let mut grpc = tonic::client::Grpc::new(channel(to).await);
    grpc.ready().await.expect("it is ready");
    let path = PathAndQuery::from_maybe_shared(format!("{SERVICE}/FetchClientStatus")).expect("a path");
    grpc.unary(tonic::Request::new(request), path, StatusCodec::default()).await.map(tonic::Response::into_inner)
}

fn nodes(response: &ClientStatusResponse) -> Vec<&str> {
    response.config.iter().filter_map(|client| Some(client.node.as_ref()?.id.as_str())).collect()
}

fn listener<'a>(response: &'a ClientStatusResponse, name: &str) -> Option<&'a GenericXdsConfig> {
    let configs = &response.config.first()?.generic_xds_configs;
    configs.iter().find(|config| config.type_url.ends_with(".Listener") && config.name == name)
}

async fn until(
    what: &str,
    to: SocketAddr,
    node: &str,
    met: impl Fn(&ClientStatusResponse) -> bool,
) -> ClientStatusResponse {
    let started = std::time::Instant::now();
    loop {
        let told = fetch(to, of(&[MatchPattern::Exact(node.to_owned())])).await.expect("an answer");
        if met(&told) {
            return told;
        }
        assert!(started.elapsed() < Duration::from_secs(30), "{what}: {told:#?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn people_see_what_each_envoy_has_and_refuses() {
    let setup = Setup::new();
    // One pool whose addresses are of this machine, and one whose are not.
    setup.clusters.write("east", "away.yaml", &manifests::pool_yaml("away", "203.0.113.64/28"));
    setup.deploy(&Setup::service("checkout", "http"), 0..1, "edge").await;
    setup.deploy(&Setup::service("catalog", "http"), 4..5, "away").await;
    let plane = setup.control_plane();
    let mut one = setup.gateway("gw-1", &plane, Speaks::Delta);
    let mut two = setup.gateway("gw-2", &plane, Speaks::Sotw);
    one.start_envoy();
    two.start_envoy();
    let name = |access: &str| {
        let vip = plane.vips().into_iter().find(|vip| vip["access"] == access).expect("it has an address");
        format!("vip/{}:{}", vip["address"].as_str().expect("an address"), super::PORT)
    };
    plane.wait_vip("shop/checkout", "Published");
    plane.wait_vip("shop/catalog", "Rejected");
    let (good, bad) = (name("shop/checkout"), name("shop/catalog"));
    for node in ["gw-1", "gw-2"] {
        let told = until("the listeners' states", plane.admin, node, |told| {
            let has = |name: &str, status| listener(told, name).is_some_and(|it| it.client_status() == status);
            has(&good, ClientResourceStatus::Acked) && has(&bad, ClientResourceStatus::Nacked)
        })
        .await;
        assert_eq!(nodes(&told), [node], "of no other node");
        let config = listener(&told, &good).expect("it is told");
        assert_eq!((config.config_status(), config.error_state.as_ref()), (ConfigStatus::Synced, None));
        let content = config.xds_config.as_ref().expect("its content");
        assert_eq!(Listener::decode(&*content.value).expect("a listener").name, good);
        let config = listener(&told, &bad).expect("it is told");
        let error = config.error_state.as_ref().expect("why");
        assert_eq!(config.config_status(), ConfigStatus::Error);
        assert!(error.details.contains("cannot bind"), "{}", error.details);
        let kinds: std::collections::BTreeSet<&str> =
            told.config[0].generic_xds_configs.iter().filter_map(|config| config.type_url.rsplit('.').next()).collect();
        assert_eq!(kinds.len(), 4, "clusters, endpoints, listeners and routes: {kinds:?}");
    }

    let all = fetch(plane.admin, ClientStatusRequest { exclude_resource_contents: true, ..of(&[]) }).await;
    let all = all.expect("an answer");
    assert_eq!(nodes(&all), ["gw-1", "gw-2"]);
    assert!(all.config.iter().flat_map(|it| &it.generic_xds_configs).all(|config| config.xds_config.is_none()));
    let none = fetch(plane.admin, of(&[MatchPattern::Prefix("side".to_owned())])).await.expect("an answer");
    assert!(none.config.is_empty());
    let matcher = NodeMatcher { node_metadatas: vec![StructMatcher::default()], ..NodeMatcher::default() };
    let refused = fetch(plane.admin, ClientStatusRequest { node_matchers: vec![matcher], ..of(&[]) }).await;
    let refused = refused.expect_err("it is not understood");
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("node_metadatas"), "{}", refused.message());

    // One answer for each request of a stream.
    let mut grpc = tonic::client::Grpc::new(channel(plane.admin).await);
    grpc.ready().await.expect("it is ready");
    let path = PathAndQuery::from_maybe_shared(format!("{SERVICE}/StreamClientStatus")).expect("a path");
    let asked = ["gw-1", "gw-2"].map(|id| of(&[MatchPattern::Exact(id.to_owned())]));
    let requests = tonic::Request::new(tokio_stream::iter(asked));
    let mut answers = grpc.streaming(requests, path, StatusCodec::default()).await.expect("it is served").into_inner();
    for id in ["gw-1", "gw-2"] {
        assert_eq!(nodes(&answers.message().await.expect("an answer").expect("one more")), [id]);
    }
    assert!(answers.message().await.expect("the end").is_none());

    // Where Envoys are served, nobody is told of other Envoys.
    let refused = fetch(plane.xds, of(&[])).await.expect_err("not there");
    assert_eq!(refused.code(), Code::Unimplemented);
}

async fn reflect(to: SocketAddr, asked: MessageRequest) -> MessageResponse {
    let mut client = ServerReflectionClient::new(channel(to).await);
    let request = ServerReflectionRequest { host: String::new(), message_request: Some(asked) };
    let mut answers = client.server_reflection_info(tokio_stream::iter([request])).await.expect("served").into_inner();
    let answer: Option<ServerReflectionResponse> = answers.message().await.expect("an answer");
    answer.and_then(|answer| answer.message_response).expect("it says something")
}

async fn services(to: SocketAddr) -> Vec<String> {
    match reflect(to, MessageRequest::ListServices(String::new())).await {
        MessageResponse::ListServicesResponse(list) => list.service.into_iter().map(|service| service.name).collect(),
        other => panic!("no list: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_address_tells_which_services_are_there() {
    let setup = Setup::new();
    let plane = setup.control_plane();
    let own = ["grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"];
    let xds = [
        "envoy.service.discovery.v3.AggregatedDiscoveryService",
        "envoy.service.cluster.v3.ClusterDiscoveryService",
        "envoy.service.endpoint.v3.EndpointDiscoveryService",
        "envoy.service.listener.v3.ListenerDiscoveryService",
        "envoy.service.route.v3.RouteDiscoveryService",
        "envoy.service.secret.v3.SecretDiscoveryService",
        "causeway.v1.Feedback",
        "envoy.service.load_stats.v3.LoadReportingService",
    ];
    assert_eq!(services(plane.xds).await, [&xds[..], &own].concat());
    let admin = ["envoy.service.status.v3.ClientStatusDiscoveryService"];
    assert_eq!(services(plane.admin).await, [&admin[..], &own].concat());
    for (to, symbol) in services(plane.xds).await.into_iter().map(|name| (plane.xds, name)) {
        match reflect(to, MessageRequest::FileContainingSymbol(symbol.clone())).await {
            MessageResponse::FileDescriptorResponse(files) => {
                let file: FileDescriptorProto =
                    prost::Message::decode(&*files.file_descriptor_proto[0]).expect("a file");
                let (package, service) = symbol.rsplit_once('.').expect("a package");
                assert_eq!(file.package(), package);
                assert!(file.service.iter().any(|it| it.name() == service), "{symbol}");
            }
            other => panic!("{symbol}: {other:?}"),
        }
    }
    // HTTP/1 goes on beside it, also for what is no path.
    let (status, body) = crate::support::fleet::ureq_get(plane.admin, "/no/such").expect("an answer");
    assert!(status == 404 && body.contains("/healthz"), "{status} {body}");
}
