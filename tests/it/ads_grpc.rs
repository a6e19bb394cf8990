//! A real gRPC client (grpc-go) that finds real backends by this server: it asks for a listener by name, then for its
//! route, its cluster and its endpoints, in the state-of-the-world protocol, and is stricter than Envoy.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use causeway::ads::service::AdsServer;
use causeway::ads::{Event, Limits, Protocol, net};
use causeway::snapshot::{Edit, Reference, Resource, ResourceType, SnapshotBuilder, XdsSnapshot};
use prost013::{Message, Name};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpListener;
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};
use xds_api::pb::envoy::config::cluster::v3::Cluster;
use xds_api::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use xds_api::pb::envoy::config::listener::v3::{ApiListener, Listener};
use xds_api::pb::envoy::config::route::v3::RouteConfiguration;
use xds_api::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use xds_api::pb::google::protobuf::Any;

const SOON: Duration = Duration::from_secs(30);

/// The program, built where it is not there.
fn program() -> &'static PathBuf {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/grpc-client/build.sh");
        let output = std::process::Command::new(script).stderr(Stdio::inherit()).output().expect("build.sh runs");
        assert!(output.status.success(), "{script} failed");
        PathBuf::from(String::from_utf8(output.stdout).expect("a path").trim())
    })
}

fn message<T: DeserializeOwned>(json: Value) -> T {
    serde_json::from_value(json).expect("a message in JSON")
}

fn ads() -> Value {
    json!({"resourceApiVersion": "V3", "ads": {}})
}

fn listener() -> Resource {
    let router = json!({"typeUrl": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router", "value": []});
    let manager: HttpConnectionManager = message(json!({
        "rds": {"routeConfigName": "routes", "configSource": ads()},
        "httpFilters": [{"name": "router", "typedConfig": router}],
    }));
    let manager = Any { type_url: HttpConnectionManager::type_url(), value: manager.encode_to_vec() };
    let api_listener = Some(ApiListener { api_listener: Some(manager) });
    let listener = Listener { name: "echo".to_owned(), api_listener, ..Listener::default() };
    let refs = [Reference::new(ResourceType::Route, "routes")];
    Resource::new(ResourceType::Listener, "echo", &listener).with_refs(refs)
}

fn routes() -> Resource {
    let to_backend = json!({"match": {"prefix": ""}, "route": {"cluster": "backend"}});
    let routes: RouteConfiguration = message(json!({
        "name": "routes", "virtualHosts": [{"name": "all", "domains": ["*"], "routes": [to_backend]}],
    }));
    Resource::new(ResourceType::Route, "routes", &routes)
}

/// gRPC has no clusters of fixed addresses, and refuses them.
fn cluster(kind: &str) -> Resource {
    let cluster: Cluster = message(json!({"name": "backend", "type": kind, "edsClusterConfig": {"edsConfig": ads()}}));
    let refs = [Reference::new(ResourceType::Endpoint, "backend")];
    Resource::new(ResourceType::Cluster, "backend", &cluster).with_refs(refs)
}

fn endpoints(backend: SocketAddr) -> Resource {
    let address = json!({"socketAddress": {"address": backend.ip().to_string(), "portValue": backend.port()}});
    let assignment: ClusterLoadAssignment = message(json!({
        "clusterName": "backend",
        "endpoints": [{
            "locality": {"region": "here"}, "loadBalancingWeight": {"value": 1}, "lbEndpoints": [{"endpoint": {"address": address}}],
        }],
    }));
    Resource::new(ResourceType::Endpoint, "backend", &assignment)
}

/// One of the program's processes, which ends with its input.
struct Process {
    _child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Process {
    fn start(arguments: &[&str], bootstrap: Option<&Value>) -> Self {
        let mut command = Command::new(program());
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        if let Some(bootstrap) = bootstrap {
            command.env("GRPC_XDS_BOOTSTRAP_CONFIG", bootstrap.to_string());
        }
        let mut child = command.spawn().expect("it runs");
        let input = child.stdin.take().expect("piped");
        let output = BufReader::new(child.stdout.take().expect("piped")).lines();
        Self { _child: child, input, output }
    }

    async fn line(&mut self) -> String {
        timeout(SOON, self.output.next_line()).await.expect("a line comes").expect("it can be read").expect("it lives")
    }
}

/// How a call went.
#[derive(Debug, Deserialize)]
struct Outcome {
    peer: String,
    code: String,
    error: String,
}

struct Served {
    events: mpsc::Receiver<Event>,
    builder: SnapshotBuilder,
    snapshots: watch::Sender<Option<Arc<XdsSnapshot>>>,
    client: Process,
}

impl Served {
    async fn start(edit: impl FnOnce(&mut Edit)) -> Self {
        let mut builder = SnapshotBuilder::new();
        builder.update(edit);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (tx, events) = mpsc::channel(64);
        let server = AdsServer::new(tx, Limits::default());
        let router = tonic::transport::Server::builder().add_service(server);
        tokio::spawn(router.serve_with_incoming(net::incoming(listener)));
        let bootstrap = json!({
            "xds_servers": [{"server_uri": address.to_string(), "channel_creds": [{"type": "insecure"}], "server_features": ["xds_v3"]}],
            "node": {"id": "grpc"},
        });
        let client = Process::start(&["call", "xds:///echo"], Some(&bootstrap));
        let snapshots = watch::channel(Some(builder.latest().clone())).0;
        Self { events, builder, snapshots, client }
    }

    async fn event(&mut self) -> Event {
        timeout(SOON, self.events.recv()).await.expect("an event comes").expect("the service lives")
    }

    fn update(&mut self, edit: impl FnOnce(&mut Edit)) {
        let next = self.builder.update(edit).expect("a change");
        self.snapshots.send_replace(Some(next));
    }

    async fn call(&mut self) -> Outcome {
        self.client.input.write_all(b"\n").await.expect("it reads");
        serde_json::from_str(&self.client.line().await).expect("an outcome")
    }

    /// Calls until one goes as it should.
    async fn until(&mut self, expected: impl Fn(&Outcome) -> bool) {
        let started = std::time::Instant::now();
        loop {
            let outcome = self.call().await;
            if expected(&outcome) {
                return;
            }
            assert!(started.elapsed() < SOON, "{outcome:?}");
            sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn backend() -> (Process, SocketAddr) {
    let mut backend = Process::start(&["backend"], None);
    let address = backend.line().await.parse().expect("an address");
    (backend, address)
}

#[tokio::test]
async fn a_grpc_client_follows_the_endpoints_and_says_what_it_refuses() {
    let ((_one, one), (_two, two)) = (backend().await, backend().await);
    let mut served = Served::start(|edit| {
        edit.set(listener()).set(routes()).set(cluster("EDS")).set(endpoints(one));
    })
    .await;
    served.client.input.write_all(b"\n").await.expect("it reads");
    let Event::Connected { node, protocol, reply, .. } = served.event().await else { panic!("it connects first") };
    assert_eq!((node.id.as_str(), protocol), ("grpc", Protocol::Sotw));
    reply.send(Ok(served.snapshots.subscribe())).expect("the stream waits");
    let first: Outcome = serde_json::from_str(&served.client.line().await).expect("an outcome");
    assert_eq!(first.peer, one.to_string(), "{first:?}");
    // It has asked for each by name and accepted each, parents first.
    let mut accepted = Vec::new();
    while accepted.len() < ResourceType::COUNT {
        match served.event().await {
            Event::Acked { ty, resources, .. } => accepted.push((ty, resources.len())),
            other => panic!("{other:?}"),
        }
    }
    use ResourceType::{Cluster, Endpoint, Listener, Route};
    assert_eq!(accepted, [(Listener, 1), (Route, 1), (Cluster, 1), (Endpoint, 1)]);

    served.update(|edit| _ = edit.set(endpoints(two)));
    served.until(|outcome| outcome.peer == two.to_string()).await;

    // What it refuses is reported with its name and its reason, and what it had goes on.
    served.update(|edit| _ = edit.set(cluster("STATIC")));
    let (refused, detail) = loop {
        if let Event::Rejected { refused, detail, .. } = served.event().await {
            break (refused, detail);
        }
    };
    assert_eq!(refused.iter().map(|(name, _)| &**name).collect::<Vec<_>>(), ["backend"]);
    assert!(detail.contains("unsupported cluster type"), "{detail}");
    assert_eq!(served.call().await.peer, two.to_string());

    // Without its listener the name leads nowhere; with it, and a cluster that it takes, it does again.
    served.update(|edit| _ = edit.remove(Listener, "echo").set(cluster("EDS")));
    served.until(|outcome| outcome.code == "Unavailable" && outcome.error.contains("echo")).await;
    served.update(|edit| _ = edit.set(listener()).set(endpoints(one)));
    served.until(|outcome| outcome.peer == one.to_string()).await;
}
