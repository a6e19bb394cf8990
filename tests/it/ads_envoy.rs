//! A real Envoy on a static snapshot, in both protocols: what the model client takes for granted.
//! `ENVOY_BIN` names the binary; without it, `envoy` is looked for in `PATH`.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use causeway::ads::service::AdsServer;
use causeway::ads::{Event, Limits, net};
use causeway::snapshot::{Edit, Reference, Resource, ResourceType, SnapshotBuilder, XdsSnapshot};
use prost013::{Message, Name};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};
use xds_api::pb::envoy::config::cluster::v3::Cluster;
use xds_api::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use xds_api::pb::envoy::config::listener::v3::{Listener, filter};
use xds_api::pb::envoy::config::route::v3::RouteConfiguration;
use xds_api::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use xds_api::pb::google::protobuf::Any;

const SOON: Duration = Duration::from_secs(30);

/// An address that no machine has.
const VIP: &str = "vip/240.11.0.1:80";

pub fn message<T: DeserializeOwned>(json: Value) -> T {
    serde_json::from_value(json).expect("a message in JSON")
}

fn cluster(connect_seconds: u32) -> Resource {
    let ads = json!({"resourceApiVersion": "V3", "ads": {}});
    let cluster: Cluster = message(json!({
        "name": "backend", "type": "EDS", "connectTimeout": {"seconds": connect_seconds}, "edsClusterConfig": {"edsConfig": ads},
    }));
    let refs = [Reference::new(ResourceType::Endpoint, "backend")];
    Resource::new(ResourceType::Cluster, "backend", &cluster).with_refs(refs)
}

pub fn endpoints(backend: SocketAddr) -> Resource {
    let address = json!({"socketAddress": {"address": backend.ip().to_string(), "portValue": backend.port()}});
    let assignment: ClusterLoadAssignment = message(json!({
        "clusterName": "backend", "endpoints": [{"lbEndpoints": [{"endpoint": {"address": address}}]}],
    }));
    Resource::new(ResourceType::Endpoint, "backend", &assignment)
}

fn listener(name: &str, address: &str, port: u16) -> Resource {
    let router = json!({"typeUrl": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router", "value": []});
    let manager: HttpConnectionManager = message(json!({
        "statPrefix": "http",
        "rds": {"routeConfigName": "routes", "configSource": {"resourceApiVersion": "V3", "ads": {}}},
        "httpFilters": [{"name": "envoy.filters.http.router", "typedConfig": router}],
    }));
    let mut listener: Listener = message(json!({
        "name": name,
        "address": {"socketAddress": {"address": address, "portValue": port}},
        "filterChains": [{"filters": [{"name": "http"}]}],
    }));
    let type_url = HttpConnectionManager::type_url();
    let config = filter::ConfigType::TypedConfig(Any { type_url, value: manager.encode_to_vec() });
    listener.filter_chains[0].filters[0].config_type = Some(config);
    let refs = [Reference::new(ResourceType::Route, "routes")];
    Resource::new(ResourceType::Listener, name, &listener).with_refs(refs)
}

pub fn routes() -> Resource {
    let to_backend = json!({"match": {"prefix": "/"}, "route": {"cluster": "backend"}});
    let routes: RouteConfiguration = message(json!({
        "name": "routes", "virtualHosts": [{"name": "all", "domains": ["*"], "routes": [to_backend]}],
    }));
    Resource::new(ResourceType::Route, "routes", &routes)
}

/// Answers every request with its name.
pub async fn backend(name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = [0; 4096];
                if tcp.read(&mut request).await.unwrap_or(0) == 0 {
                    return;
                }
                let length = name.len();
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{name}");
                tcp.write_all(answer.as_bytes()).await.ok();
            });
        }
    });
    address
}

/// The body of an HTTP answer; empty when there is none.
pub async fn get(address: SocketAddr, path: &str) -> String {
    let Ok(mut tcp) = TcpStream::connect(address).await else { return String::new() };
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    tcp.write_all(request.as_bytes()).await.ok();
    let mut answer = String::new();
    tcp.read_to_string(&mut answer).await.ok();
    let Some((head, body)) = answer.split_once("\r\n\r\n") else { return String::new() };
    if head.to_lowercase().contains("transfer-encoding: chunked") { joined(body) } else { body.to_owned() }
}

/// The chunks of a body in one.
fn joined(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((length, rest)) = body.split_once("\r\n") {
        let length = usize::from_str_radix(length, 16).unwrap_or(0);
        if length == 0 {
            break;
        }
        whole.push_str(&rest[..length]);
        body = rest[length..].trim_start_matches("\r\n");
    }
    whole
}

struct Fleet {
    server: AdsServer,
    events: mpsc::Receiver<Event>,
    builder: SnapshotBuilder,
    snapshots: watch::Sender<Option<Arc<XdsSnapshot>>>,
    admin: SocketAddr,
    _envoy: Child,
    _dir: tempfile::TempDir,
}

impl Fleet {
    async fn start(api_type: &str, edit: impl FnOnce(&mut Edit)) -> Self {
        let mut builder = SnapshotBuilder::new();
        builder.update(edit);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (tx, events) = mpsc::channel(64);
        let server = AdsServer::new(tx, Limits::default());
        let router = tonic::transport::Server::builder().add_service(server.clone());
        tokio::spawn(router.serve_with_incoming(net::incoming(listener)));
        let dir = tempfile::tempdir().expect("a folder");
        let ads = json!({"resourceApiVersion": "V3", "ads": {}});
        let dynamic = json!({"adsConfig": own_stream(api_type), "cdsConfig": ads, "ldsConfig": ads});
        let envoy = spawn_envoy(dir.path(), &dynamic, address);
        let snapshots = watch::channel(Some(builder.latest().clone())).0;
        let mut fleet = Self { server, events, builder, snapshots, admin: address, _envoy: envoy, _dir: dir };
        fleet.accept().await;
        let path = fleet._dir.path().join("admin");
        fleet.admin = std::fs::read_to_string(path).expect("Envoy wrote it").trim().parse().expect("an address");
        fleet
    }

    async fn event(&mut self) -> Event {
        timeout(SOON, self.events.recv()).await.expect("an event comes").expect("the service lives")
    }

    async fn accept(&mut self) {
        loop {
            if let Event::Connected { reply, .. } = self.event().await {
                reply.send(Ok(self.snapshots.subscribe())).expect("the stream waits");
                return;
            }
        }
    }

    fn update(&mut self, edit: impl FnOnce(&mut Edit)) {
        let next = self.builder.update(edit).expect("a change");
        self.snapshots.send_replace(Some(next));
    }

    /// Waits for the next word about listeners.
    async fn about_listeners(&mut self) -> Event {
        loop {
            let event = self.event().await;
            match &event {
                Event::Acked { ty: ResourceType::Listener, .. } | Event::Rejected { .. } => return event,
                _ => {}
            }
        }
    }

    fn sent(&self, ty: ResourceType) -> (u64, u64) {
        let metrics = self.server.metrics();
        let of = metrics.of(ty);
        (of.responses.load(Ordering::Relaxed), of.resources.load(Ordering::Relaxed))
    }

    fn sent_all(&self) -> [(u64, u64); 4] {
        ResourceType::ALL.map(|ty| self.sent(ty))
    }

    async fn port(&self, listener: &str) -> Option<SocketAddr> {
        let listeners: Value = serde_json::from_str(&get(self.admin, "/listeners?format=json").await).ok()?;
        let statuses = listeners["listener_statuses"].as_array()?;
        let status = statuses.iter().find(|status| status["name"] == listener)?;
        let port = status["local_address"]["socket_address"]["port_value"].as_u64()?;
        Some(SocketAddr::from(([127, 0, 0, 1], u16::try_from(port).ok()?)))
    }

    /// Waits until the listener leads to that backend.
    async fn until_reaches(&self, listener: &str, name: &str) {
        let reached = async {
            loop {
                if let Some(port) = self.port(listener).await
                    && get(port, "/").await == name
                {
                    return;
                }
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(SOON, reached).await.expect("the backend is reached");
    }

    async fn warming(&self) -> usize {
        let dump = get(self.admin, "/config_dump?resource=dynamic_warming_clusters").await;
        let dump: Value = serde_json::from_str(&dump).expect("JSON");
        dump["configs"].as_array().map_or(0, Vec::len)
    }
}

/// A config source that has a stream of its own to the server of [`spawn_envoy`].
pub fn own_stream(api_type: &str) -> Value {
    json!({
        "apiType": api_type, "transportApiVersion": "V3", "setNodeOnFirstMessageOnly": true,
        "grpcServices": [{"envoyGrpc": {"clusterName": "xds"}}],
    })
}

/// A real Envoy with these sources of its configuration.
pub fn spawn_envoy(dir: &Path, dynamic: &Value, server: SocketAddr) -> Child {
    let binary = std::env::var("ENVOY_BIN").unwrap_or_else(|_| "envoy".to_owned());
    let bootstrap = json!({
        "node": {"id": "real", "cluster": "test"},
        "admin": {"address": {"socketAddress": {"address": "127.0.0.1", "portValue": 0}}},
        "dynamicResources": dynamic,
        "staticResources": {"clusters": [{
            "name": "xds", "type": "STATIC",
            "typedExtensionProtocolOptions": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicitHttpConfig": {"http2ProtocolOptions": {}},
            }},
            "loadAssignment": {"clusterName": "xds", "endpoints": [{"lbEndpoints": [{"endpoint": {"address": {
                "socketAddress": {"address": "127.0.0.1", "portValue": server.port()},
            }}}]}]},
        }]},
    });
    std::fs::write(dir.join("bootstrap.json"), bootstrap.to_string()).expect("written");
    let log = std::fs::File::create(dir.join("log")).expect("created");
    Command::new(&binary)
        .arg("-c")
        .arg(dir.join("bootstrap.json"))
        .arg("--admin-address-path")
        .arg(dir.join("admin"))
        .args(["--use-dynamic-base-id", "--concurrency", "1", "-l", "info"])
        .stdout(Stdio::null())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .unwrap_or_else(|error| panic!("`{binary}` (set ENVOY_BIN to a real Envoy): {error}"))
}

async fn serves_refuses_and_reconnects(api_type: &str) {
    let (one, two) = (backend("one").await, backend("two").await);
    let mut fleet = Fleet::start(api_type, |edit| {
        edit.set(cluster(1)).set(endpoints(one)).set(routes());
        edit.set(listener("good", "127.0.0.1", 0)).set(listener(VIP, "240.11.0.1", 80));
    })
    .await;

    // Rules 2 and 3: the refused listener is named, its sibling is proved by the next ACK.
    let Event::Rejected { refused, unknown, detail, details, .. } = fleet.about_listeners().await else {
        panic!("the VIP cannot be bound here")
    };
    assert!(detail.contains("cannot bind"), "{detail}");
    assert_eq!(refused.iter().map(|(name, _)| &**name).collect::<Vec<_>>(), [VIP]);
    assert!(details.get(VIP).is_some_and(|reason| reason.starts_with("cannot bind")), "{details:?}");
    assert_eq!(unknown.iter().map(|(name, _)| &**name).collect::<Vec<_>>(), ["good"]);
    let Event::Acked { resources, .. } = fleet.about_listeners().await else { panic!("the sibling alone is fine") };
    assert_eq!(resources.iter().map(|(name, _)| &**name).collect::<Vec<_>>(), ["good"]);
    fleet.until_reaches("good", "one").await;
    assert_eq!(fleet.sent(ResourceType::Listener), (2, 3), "nothing refused is sent again");

    // One change of endpoints is one resource.
    let before = fleet.sent_all();
    fleet.update(|edit| _ = edit.set(endpoints(two)));
    fleet.until_reaches("good", "two").await;
    let mut expected = before;
    expected[ResourceType::Endpoint.index()] = (before[1].0 + 1, before[1].1 + 1);
    assert_eq!(fleet.sent_all(), expected);

    // Rule 5: a changed cluster leaves warming at once, with its unchanged endpoints.
    fleet.update(|edit| _ = edit.set(cluster(2)));
    let settled = async {
        while fleet.sent(ResourceType::Cluster).0 == expected[0].0 || fleet.warming().await > 0 {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(5), settled).await.expect("the cluster is not left in warming");
    fleet.until_reaches("good", "two").await;

    // Rules 12 and 19: the view is given up, Envoy comes back, and what it has is not sent again.
    let before = fleet.sent_all();
    fleet.snapshots = watch::channel(Some(fleet.builder.latest().clone())).0;
    fleet.accept().await;
    loop {
        match fleet.about_listeners().await {
            Event::Acked { resources, .. } if resources.iter().any(|(name, _)| &**name == "good") => break,
            // A stream begins with a clean slate: the refused one is offered once more.
            Event::Rejected { refused, .. } => assert_eq!(&*refused[0].0, VIP),
            other => panic!("{other:?}"),
        }
    }
    sleep(Duration::from_millis(500)).await;
    let after = fleet.sent_all();
    if api_type == "DELTA_GRPC" {
        let resources = |of: [(u64, u64); 4]| of.map(|(_, resources)| resources);
        let mut expected = resources(before);
        expected[ResourceType::Listener.index()] += 1;
        assert_eq!(resources(after), expected, "only the VIP, which this Envoy does not have");
    }
    fleet.until_reaches("good", "two").await;
}

#[tokio::test]
async fn a_real_envoy_on_delta() {
    serves_refuses_and_reconnects("DELTA_GRPC").await;
}

#[tokio::test]
async fn a_real_envoy_on_sotw() {
    serves_refuses_and_reconnects("GRPC").await;
}

/// Rule 5, and the order of an Envoy's requests: it asks for clusters first, says of their endpoints that it has them,
/// and waits for them all the same when the clusters changed while it was away.
async fn a_cluster_that_changed_meanwhile_leaves_warming(api_type: &str) {
    let one = backend("one").await;
    let mut fleet = Fleet::start(api_type, |edit| {
        edit.set(cluster(1)).set(endpoints(one)).set(routes()).set(listener("good", "127.0.0.1", 0));
    })
    .await;
    fleet.until_reaches("good", "one").await;
    fleet.builder.update(|edit| _ = edit.set(cluster(2)));
    fleet.snapshots = watch::channel(Some(fleet.builder.latest().clone())).0;
    fleet.accept().await;
    let active = async {
        loop {
            let dump = get(fleet.admin, "/config_dump?resource=dynamic_active_clusters").await;
            if dump.contains(r#""connect_timeout": "2s""#) {
                return;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    // By itself Envoy gives up after 15 seconds.
    timeout(Duration::from_secs(10), active).await.expect("the cluster is not left in warming");
    fleet.until_reaches("good", "one").await;
}

#[tokio::test]
async fn a_cluster_that_changed_while_a_real_envoy_was_away_on_delta() {
    a_cluster_that_changed_meanwhile_leaves_warming("DELTA_GRPC").await;
}

#[tokio::test]
async fn a_cluster_that_changed_while_a_real_envoy_was_away_on_sotw() {
    a_cluster_that_changed_meanwhile_leaves_warming("GRPC").await;
}
