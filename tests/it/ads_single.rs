//! A real Envoy that takes each type from a service of its own, in both protocols, and no aggregated stream at all.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use causeway::ads::service::AdsServer;
use causeway::ads::{DiscoveryService, Event, Limits, Protocol, net};
use causeway::snapshot::{Reference, Resource, ResourceType, SnapshotBuilder, XdsSnapshot};
use prost013::{Message, Name};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};
use xds_api::pb::envoy::config::cluster::v3::Cluster;
use xds_api::pb::envoy::config::listener::v3::{Listener, filter};
use xds_api::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use xds_api::pb::google::protobuf::Any;

use crate::ads_envoy::{backend, endpoints, get, message, own_stream, routes, spawn_envoy};

const SOON: Duration = Duration::from_secs(30);

/// A type that is taken from a stream of its own.
fn own_source(api_type: &str) -> Value {
    json!({"resourceApiVersion": "V3", "apiConfigSource": own_stream(api_type)})
}

fn cluster(api_type: &str, connect_seconds: u32) -> Resource {
    let cluster: Cluster = message(json!({
        "name": "backend", "type": "EDS", "connectTimeout": {"seconds": connect_seconds},
        "edsClusterConfig": {"edsConfig": own_source(api_type)},
    }));
    let refs = [Reference::new(ResourceType::Endpoint, "backend")];
    Resource::new(ResourceType::Cluster, "backend", &cluster).with_refs(refs)
}

fn listener(api_type: &str, name: &str) -> Resource {
    let router = json!({"typeUrl": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router", "value": []});
    let manager: HttpConnectionManager = message(json!({
        "statPrefix": "http", "rds": {"routeConfigName": "routes", "configSource": own_source(api_type)},
        "httpFilters": [{"name": "envoy.filters.http.router", "typedConfig": router}],
    }));
    let mut listener: Listener = message(json!({
        "name": name, "address": {"socketAddress": {"address": "127.0.0.1", "portValue": 0}},
        "filterChains": [{"filters": [{"name": "http"}]}],
    }));
    let type_url = HttpConnectionManager::type_url();
    let config = filter::ConfigType::TypedConfig(Any { type_url, value: manager.encode_to_vec() });
    listener.filter_chains[0].filters[0].config_type = Some(config);
    Resource::new(ResourceType::Listener, name, &listener).with_refs([Reference::new(ResourceType::Route, "routes")])
}

type Seen = Arc<Mutex<Vec<(DiscoveryService, Protocol)>>>;

/// Serves every stream the same snapshots, and notes by which services they came and what they proved.
async fn follow(
    mut events: mpsc::Receiver<Event>,
    snapshots: watch::Receiver<Option<Arc<XdsSnapshot>>>,
    seen: Seen,
    proved: mpsc::UnboundedSender<(ResourceType, Vec<String>)>,
) {
    while let Some(event) = events.recv().await {
        match event {
            Event::Connected { service, protocol, reply, .. } => {
                seen.lock().expect("not poisoned").push((service, protocol));
                reply.send(Ok(snapshots.clone())).expect("the stream waits");
            }
            Event::Acked { ty, resources, .. } => {
                let names = resources.iter().map(|(name, _)| name.to_string()).collect();
                proved.send((ty, names)).ok();
            }
            Event::Rejected { ty, detail, .. } => panic!("{ty}: {detail}"),
            Event::Disconnected { .. } => {}
        }
    }
}

async fn reaches(admin: SocketAddr, listener: &str, name: &str) -> bool {
    let listeners: Value = serde_json::from_str(&get(admin, "/listeners?format=json").await).unwrap_or_default();
    let statuses = listeners["listener_statuses"].as_array().cloned().unwrap_or_default();
    let status = statuses.into_iter().find(|status| status["name"] == listener).unwrap_or_default();
    match status["local_address"]["socket_address"]["port_value"].as_u64().and_then(|port| u16::try_from(port).ok()) {
        Some(port) => get(SocketAddr::from(([127, 0, 0, 1], port)), "/").await == name,
        None => false,
    }
}

async fn until_reaches(admin: SocketAddr, listener: &str, name: &str) {
    let reached = async {
        while !reaches(admin, listener, name).await {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(SOON, reached).await.unwrap_or_else(|_| panic!("{listener} does not lead to {name}"));
}

async fn each_type_by_its_own_service(api_type: &str, protocol: Protocol) {
    let (one, two) = (backend("one").await, backend("two").await);
    let mut builder = SnapshotBuilder::new();
    builder.update(|edit| {
        edit.set(cluster(api_type, 1)).set(endpoints(one)).set(routes()).set(listener(api_type, "first"));
    });
    let listener_socket = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener_socket.local_addr().expect("an address");
    let (tx, events) = mpsc::channel(64);
    let server = AdsServer::new(tx, Limits::default());
    let router = tonic::transport::Server::builder().add_routes(server.services(Ok));
    tokio::spawn(router.serve_with_incoming(net::incoming(listener_socket)));
    let (view, snapshots) = watch::channel(Some(builder.latest().clone()));
    let seen: Seen = Arc::default();
    let (proved_tx, mut proved) = mpsc::unbounded_channel();
    tokio::spawn(follow(events, snapshots, seen.clone(), proved_tx));
    let dir = tempfile::tempdir().expect("a folder");
    let dynamic = json!({"cdsConfig": own_source(api_type), "ldsConfig": own_source(api_type)});
    let _envoy = spawn_envoy(dir.path(), &dynamic, address);

    // Each type is proved, by its own stream.
    let mut types = BTreeSet::new();
    while types.len() < ResourceType::COUNT {
        let (ty, names) = timeout(SOON, proved.recv()).await.expect("an ACK comes").expect("the service lives");
        if !names.is_empty() {
            types.insert(ty);
        }
    }
    let path = dir.path().join("admin");
    let admin: SocketAddr = std::fs::read_to_string(path).expect("Envoy wrote it").trim().parse().expect("an address");
    until_reaches(admin, "first", "one").await;
    let services: BTreeSet<&str> =
        seen.lock().expect("not poisoned").iter().map(|(service, _)| service.label()).collect();
    assert_eq!(services, BTreeSet::from(["CDS", "EDS", "LDS", "RDS"]));
    assert!(seen.lock().expect("not poisoned").iter().all(|(_, spoken)| *spoken == protocol));
    let rows = server.registry().list();
    assert_eq!(rows.len(), 4, "{rows:?}");
    assert!(rows.iter().all(|row| &*row.node == "real"));

    // Changes of each type arrive, each by its own way.
    let mut update = |edit: &dyn Fn(&mut causeway::snapshot::Edit)| {
        let next = builder.update(|it| edit(it)).expect("a change");
        view.send_replace(Some(next));
    };
    update(&|edit| _ = edit.set(endpoints(two)));
    until_reaches(admin, "first", "two").await;
    update(&|edit| _ = edit.set(cluster(api_type, 2)).set(endpoints(one)).set(listener(api_type, "second")));
    until_reaches(admin, "second", "one").await;
    until_reaches(admin, "first", "one").await;
    update(&|edit| _ = edit.remove(ResourceType::Listener, "first"));
    let gone = async {
        while get(admin, "/listeners?format=json").await.contains("\"first\"") {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(SOON, gone).await.expect("the listener goes, whatever the other streams do");
    until_reaches(admin, "second", "one").await;
}

#[tokio::test]
async fn a_real_envoy_takes_each_type_by_delta() {
    each_type_by_its_own_service("DELTA_GRPC", Protocol::Delta).await;
}

#[tokio::test]
async fn a_real_envoy_takes_each_type_by_sotw() {
    each_type_by_its_own_service("GRPC", Protocol::Sotw).await;
}
