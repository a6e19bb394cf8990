use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::policies::{InUse, PolicyChanged, PolicyDetail, PolicyError, PolicyView, Upload, Which};
use super::*;
use crate::policy::Digest;
use crate::reconcile::view::{Answer, ClusterRow, PolicyLine, PolicyUse, Query, ServiceRow, StatusView};
use bytes::Bytes;

struct Streams;

impl XdsDebug for Streams {
    fn nodes(&self) -> Vec<Value> {
        vec![json!({ "id": "side/car 1" })]
    }

    fn node(&self, id: &str, resource: &str) -> Option<Value> {
        (id == "side/car 1" && resource.is_empty()).then(|| json!({ "id": id }))
    }
}

/// None but what is built in.
struct NoPolicies;

fn none(name: &str) -> PolicyError {
    PolicyError::NotFound { name: name.to_owned(), known: Vec::new() }
}

#[async_trait::async_trait]
impl policies::Policies for NoPolicies {
    async fn list(&self) -> Result<Vec<PolicyView>, PolicyError> {
        Ok(Vec::new())
    }

    async fn show(&self, name: &str) -> Result<PolicyDetail, PolicyError> {
        Err(none(name))
    }

    async fn component(&self, name: &str, _: Option<Which>) -> Result<(Digest, Bytes), PolicyError> {
        Err(none(name))
    }

    async fn upload(&self, upload: Upload) -> Result<PolicyChanged, PolicyError> {
        Err(none(&upload.name))
    }

    async fn activate(&self, name: &str, _: Which) -> Result<PolicyChanged, PolicyError> {
        Err(none(name))
    }

    async fn roll_back(&self, name: &str) -> Result<PolicyChanged, PolicyError> {
        Err(none(name))
    }

    async fn delete(&self, name: &str, _: InUse) -> Result<(), PolicyError> {
        Err(none(name))
    }

    async fn logs(&self, name: &str) -> Result<Vec<PolicyLine>, PolicyError> {
        Err(none(name))
    }
}

/// What the admin interface works with, in these tests.
fn state(inspect: mpsc::Sender<Inspect>, mode: Mode) -> AdminState {
    AdminState {
        inspect,
        policies: Arc::new(NoPolicies),
        uploads: Arc::new(policies::Uploads::new(1)),
        xds: Arc::new(Streams),
        metrics: Arc::new(metrics::Registry::new()),
        grpc: Default::default(),
        mode,
    }
}

fn cluster(name: &str, state: &str) -> ClusterRow {
    serde_json::from_value(json!({
        "name": name, "role": "Sub", "network": "flat", "region": "", "zone": "", "state": state, "reason": "",
        "services": 1, "endpoints": 2, "pods": 3, "nodes": 4, "sinceSeconds": 5,
    }))
    .unwrap()
}

fn service(namespace: &str) -> ServiceRow {
    serde_json::from_value(json!({
        "namespace": namespace, "name": "web", "clusters": [], "ports": [], "ready": 0, "draining": 0,
        "notReady": 0, "stale": 0, "conflicts": [],
    }))
    .unwrap()
}

/// An owner that answers from what it is given.
fn owner(waiting_for: Vec<String>) -> mpsc::Sender<Inspect> {
    let (sender, mut inbox) = mpsc::channel(4);
    tokio::spawn(async move {
        while let Some(message) = inbox.recv().await {
            match message {
                Inspect::Query(query, reply) => drop(reply.send(answer(query, &waiting_for))),
                Inspect::Forget { cluster, reply } => {
                    let refused = Err(format!("cluster {cluster} is being read"));
                    drop(reply.send(if cluster == "gone" { Ok(()) } else { refused }));
                }
            }
        }
    });
    sender
}

fn answer(query: Query, waiting_for: &[String]) -> Answer {
    match query {
        Query::Status => Answer::Status(Box::new(StatusView {
            ready: waiting_for.is_empty(),
            waiting_for: waiting_for.to_vec(),
            vips: BTreeMap::from([("Published".to_owned(), 2)]),
            ..StatusView::default()
        })),
        Query::Clusters => Answer::Clusters(vec![cluster("east", "Synced"), cluster("gone", "Unknown")]),
        Query::Services => Answer::Services(vec![service("shop"), service("bank")]),
        Query::Accesses => Answer::Accesses(Vec::new()),
        Query::Vips => Answer::Vips(Vec::new()),
        Query::Nodes => Answer::Nodes(Vec::new()),
        Query::Policies => Answer::Policies(Vec::new()),
        Query::Policy(_) => Answer::Policy(Box::new(PolicyUse {
            row: None,
            used_by: Vec::new(),
            conditions: Vec::new(),
            lines: Vec::new(),
        })),
    }
}

async fn start(inspect: mpsc::Sender<Inspect>) -> SocketAddr {
    let state = state(inspect, Mode::Local);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, state, std::future::pending()));
    address
}

/// Sends a request as it stands, so that tests decide what the head says.
async fn raw(address: SocketAddr, head: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("{head}\r\nConnection: close\r\n\r\n").as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_ascii_lowercase(), body.to_owned())
}

async fn ask(address: SocketAddr, method: &str, path: &str) -> (u16, String, String) {
    raw(address, &format!("{method} {path} HTTP/1.1\r\nHost: {address}")).await
}

async fn get(address: SocketAddr, path: &str) -> (u16, Value) {
    let (status, _, body) = ask(address, "GET", path).await;
    (status, serde_json::from_str(&body).unwrap_or(Value::String(body)))
}

#[tokio::test]
async fn lists_are_answered_and_narrowed() {
    let address = start(owner(Vec::new())).await;
    let (status, rows) = get(address, "/api/v1/services").await;
    assert_eq!((status, rows.as_array().unwrap().len()), (200, 2));
    let (_, rows) = get(address, "/api/v1/services?namespace=shop").await;
    assert_eq!(rows[0]["namespace"], "shop");
    assert_eq!(rows.as_array().unwrap().len(), 1);
    let (status, body) = get(address, "/api/v1/services?namespaces=shop").await;
    assert_eq!((status, body["error"]["code"].as_str()), (400, Some("BadRequest")));
    for path in ["/api/v1/status", "/api/v1/clusters", "/api/v1/accesses", "/api/v1/vips", "/api/v1/nodes"] {
        assert_eq!(get(address, path).await.0, 200, "{path}");
    }
}

#[tokio::test]
async fn readiness_says_what_it_waits_for() {
    let ready = start(owner(Vec::new())).await;
    assert_eq!(get(ready, "/readyz").await.0, 200);
    let waiting = start(owner(vec!["cluster west: first list".to_owned()])).await;
    let (status, body) = get(waiting, "/readyz").await;
    assert_eq!(status, 503);
    assert_eq!(body["waitingFor"], json!(["cluster west: first list"]));
    assert_eq!(get(waiting, "/healthz").await.0, 200);
}

#[tokio::test]
async fn an_owner_that_ended_is_told_and_metrics_go_on() {
    let (inspect, _) = mpsc::channel(1);
    let address = start(inspect).await;
    for path in ["/healthz", "/readyz", "/api/v1/vips"] {
        let (status, body) = get(address, path).await;
        assert_eq!((status, body["error"]["code"].as_str()), (503, Some("Unavailable")), "{path}");
    }
    let (status, page) = get(address, "/metrics").await;
    assert!(status == 200 && page.as_str().unwrap().contains("causeway_up 0.0\n"), "{page}");
}

#[tokio::test]
async fn an_owner_that_does_not_answer_is_not_waited_for_for_ever() {
    let (inspect, mut inbox) = mpsc::channel(4);
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Some(message) = inbox.recv().await {
            kept.push(message);
        }
    });
    let address = start(inspect).await;
    let (status, body) = get(address, "/api/v1/vips").await;
    assert_eq!(status, 503);
    assert!(body["error"]["message"].as_str().unwrap().contains("within 300ms"), "{body}");
}

#[tokio::test]
async fn metrics_are_open_metrics() {
    let address = start(owner(Vec::new())).await;
    let (status, head, page) = ask(address, "GET", "/metrics").await;
    assert_eq!(status, 200);
    assert!(head.contains("content-type: application/openmetrics-text; version=1.0.0"), "{head}");
    for line in [
        "causeway_up 1.0",
        "causeway_ready 1.0",
        "causeway_vips{state=\"Published\"} 2.0",
        "causeway_cluster_synced{cluster=\"east\"} 1.0",
        "causeway_cluster_synced{cluster=\"gone\"} 0.0",
        "# EOF",
    ] {
        assert!(page.lines().any(|l| l == line), "{line} is not in:\n{page}");
    }
}

#[tokio::test]
async fn refused_uploads_are_counted_by_reason() {
    let state = state(owner(Vec::new()), Mode::Local);
    state.metrics.register(state.uploads.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, state, std::future::pending()));
    for (query, length, status) in
        [("?fule=1", 0, 400), ("", 0, 400), ("", 1 << 30, 413), ("?maxRemovedPercent=-1", 0, 400), ("", 0, 400)]
    {
        let head = format!("PUT /api/v1/policies/mine{query} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {length}");
        assert_eq!(raw(address, &head).await.0, status, "{query}");
    }
    let (_, _, page) = ask(address, "GET", "/metrics").await;
    for line in [
        "causeway_policy_uploads_refused_total{reason=\"BadRequest\"} 4.0",
        "causeway_policy_uploads_refused_total{reason=\"TooLarge\"} 1.0",
    ] {
        assert!(page.lines().any(|l| l == line), "{line} is not in:\n{page}");
    }
}

#[tokio::test]
async fn clusters_are_forgotten_only_when_the_owner_agrees() {
    let address = start(owner(Vec::new())).await;
    assert_eq!(ask(address, "DELETE", "/api/v1/clusters/gone").await.0, 200);
    let (status, _, body) = ask(address, "DELETE", "/api/v1/clusters/east").await;
    assert!(status == 409 && body.contains("cluster east is being read"), "{status} {body}");
    let (status, _, body) = ask(address, "DELETE", "/api/v1/clusters/est").await;
    assert!(status == 404 && body.contains("there are east, gone"), "{status} {body}");
}

#[tokio::test]
async fn xds_debug_finds_ids_with_slashes_and_spaces() {
    let address = start(owner(Vec::new())).await;
    for path in ["/debug/xds/nodes/side%2Fcar%201", "/debug/xds/nodes/side/car%201"] {
        let (status, body) = get(address, path).await;
        assert_eq!((status, &body["id"]), (200, &json!("side/car 1")), "{path}");
    }
    assert_eq!(get(address, "/debug/xds/nodes").await.1[0]["id"], "side/car 1");
    assert_eq!(get(address, "/debug/xds/nodes/other").await.0, 404);
    assert_eq!(get(address, "/debug/xds/nodes/%ff").await.0, 400);
}

#[tokio::test]
async fn strangers_to_http_are_told_what_there_is() {
    let address = start(owner(Vec::new())).await;
    let (status, body) = get(address, "/api/v2/vips").await;
    assert_eq!((status, body["error"]["code"].as_str()), (404, Some("NotFound")));
    assert!(body["paths"].as_array().unwrap().contains(&json!("/api/v1/vips")), "{body}");
    let (status, head, body) = ask(address, "POST", "/api/v1/vips").await;
    assert!(status == 405 && head.contains("allow: get,head") && body.contains("MethodNotAllowed"), "{head} {body}");
    let (status, head, body) = ask(address, "HEAD", "/api/v1/vips").await;
    assert!(status == 200 && head.contains("application/json") && body.is_empty(), "{head} {body}");
    let (status, _, page) = ask(address, "GET", "/").await;
    assert!(status == 200 && PATHS.iter().all(|(path, _)| page.contains(path)), "{page}");
}

#[tokio::test]
async fn foreign_hosts_are_refused_on_every_path() {
    let address = start(owner(Vec::new())).await;
    for path in ["/", "/healthz", "/metrics", "/api/v1/vips", "/debug/xds/nodes", "/nothing"] {
        let (status, _, body) = raw(address, &format!("GET {path} HTTP/1.1\r\nHost: evil.example")).await;
        assert_eq!(status, 421, "{path}: {body}");
    }
    let (status, ..) = raw(address, "DELETE /api/v1/clusters/gone HTTP/1.1\r\nHost: evil.example:80").await;
    assert_eq!(status, 421);
    let (status, ..) = raw(address, "GET http://evil.example/healthz HTTP/1.1\r\nHost: localhost").await;
    assert_eq!(status, 421);
    assert_eq!(raw(address, "GET /healthz HTTP/1.1\r\nHost: localhost:1").await.0, 200);
}

#[tokio::test]
async fn a_connection_whose_other_end_is_not_known_is_refused() {
    let state = state(owner(Vec::new()), Mode::Insecure);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = router(state, address);
    tokio::spawn(async move { axum::serve(listener, router).await });
    assert_eq!(ask(address, "GET", "/healthz").await.0, 403);
}

#[tokio::test]
async fn serving_ends_when_told() {
    let state = state(owner(Vec::new()), Mode::Local);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let served = tokio::spawn(serve(listener, state, async { drop(stopped.await) }));
    drop(stop);
    served.await.unwrap().unwrap();
}
