//! The binary against an admin interface with canned answers, a small DNS server and small backends.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use causeway::admin::policies::{self, InUse, PolicyChanged, PolicyDetail, PolicyError, PolicyView, Upload, Which};
use causeway::admin::{self, AdminState, XdsDebug, metrics};
use causeway::policy::Digest;
use causeway::reconcile::view::{Answer, Inspect, PolicyLine, PolicyUse, Query, StatusView};
use causeway::trust::Mode;
use hickory_server::proto::op::{Message, ResponseCode};
use hickory_server::proto::rr::rdata::A;
use hickory_server::proto::rr::{RData, Record, RecordType};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, UdpSocket};
use tokio::process::Command;
use tokio::sync::mpsc;

use crate::golden::check;

/// The rows that the server answers; tests may change them while it runs.
type Rows = Arc<Mutex<Value>>;

fn canned() -> Value {
    json!({
        "status": {
            "version": "0.1.0", "ready": false, "waitingFor": ["cluster west: first list"], "clusters": 2,
            "services": 2, "endpoints": 24, "pods": 24, "accesses": 2, "vips": {"Offered": 1, "Published": 2, "Rejected": 0},
            "nodes": 2, "problems": [
                {"cluster": "east", "file": "shop/access.yaml", "line": 14, "object": "ClusterAccess shop/checkout",
                 "field": "spec.ports[0].name", "message": "no port is called `htp`", "remedy": "write `http`"},
                {"cluster": "", "object": "", "field": "", "message": "no pool has a free IPv6 address", "remedy": ""},
            ],
        },
        "clusters": [
            {"name": "east", "role": "Primary", "network": "flat", "region": "eu-1", "zone": "a", "state": "Synced",
             "reason": "", "services": 2, "endpoints": 20, "pods": 20, "nodes": 3, "sinceSeconds": 312},
            {"name": "west", "role": "Sub", "network": "flat", "region": "", "zone": "", "state": "Unknown",
             "reason": "folder is gone", "services": 0, "endpoints": 4, "pods": 4, "nodes": 0, "sinceSeconds": 7200},
        ],
        "services": [
            {"namespace": "bank", "name": "ledger", "clusters": ["east"], "ports": ["grpc:9090/Grpc"], "ready": 3,
             "draining": 1, "notReady": 0, "stale": 0, "conflicts": []},
            {"namespace": "shop", "name": "checkout", "clusters": ["a", "b", "c", "east", "west"],
             "ports": ["http:80/Http", "admin:8080/Tcp"], "ready": 18, "draining": 0, "notReady": 2, "stale": 4,
             "conflicts": ["port http: 80 in east, 81 in west; east is older"]},
        ],
        "accesses": [
            {"namespace": "bank", "name": "ledger", "services": ["bank/ledger"], "vips": [], "hostnames": [], "from": "ServiceExport east,west",
             "conditions": [
                {"type": "Accepted", "status": "True", "reason": "Accepted", "message": "", "observedGeneration": 1},
                {"type": "Allocated", "status": "False", "reason": "PoolExhausted", "message": "pool edge has no free address",
                 "observedGeneration": 1},
                {"type": "Published", "status": "False", "reason": "NotAllocated", "message": "", "observedGeneration": 1}]},
            {"namespace": "shop", "name": "checkout", "services": ["shop/checkout"],
             "vips": [{"address": "240.11.0.7", "hostnames": ["checkout.shop.svc.clusterset.local"], "state": "Published", "bound": "2/2"},
                      {"address": "fd00:11::7", "hostnames": [], "state": "Offered", "bound": "0/2"}],
             "hostnames": ["checkout.shop.svc.clusterset.local", "checkout.example.com"], "from": "ClusterAccess",
             "conditions": [
                {"type": "Accepted", "status": "True", "reason": "Accepted", "message": "", "observedGeneration": 4},
                {"type": "Published", "status": "True", "reason": "BoundOnAll", "message": "2 of 2 gateways", "observedGeneration": 4}]},
        ],
        "vips": [
            {"address": "240.11.0.7", "pool": "edge", "access": "shop/checkout", "service": "shop/checkout", "pod": "",
             "ports": [80, 8080], "state": "Published", "bound": "1/2", "proof": "active", "assignedBy": "ControlPlane",
             "name": "checkout.shop.svc.clusterset.local", "ageSeconds": 90000, "gateways": [
                {"node": "gw-1", "state": "Serving", "proof": "active", "error": "", "attempt": 0},
                {"node": "gw-2", "state": "Rejected", "proof": "none", "attempt": 3,
                 "error": "cannot bind '240.11.0.7:80': Address already in use"}]},
            {"address": "fd00:11::7", "pool": "edge", "access": "bank/ledger", "service": "bank/ledger", "pod": "ledger-0",
             "ports": [9090], "state": "Offered", "bound": "0/2", "proof": "offered", "assignedBy": "gw-1", "name": "",
             "ageSeconds": 59, "gateways": []},
        ],
        "nodes": [
            {"id": "gw-1", "role": "gateway", "cluster": "east", "network": "flat", "region": "eu-1", "zone": "a",
             "protocol": "Delta", "version": "1.40.0", "state": "Connected", "agent": true, "listeners": 2, "rejected": 0,
             "sinceSeconds": 600},
            {"id": "side/car 1", "role": "sidecar", "cluster": "", "network": "", "region": "", "zone": "", "protocol": "",
             "version": "1.39.1", "state": "Gone", "agent": false, "listeners": 0, "rejected": 1, "sinceSeconds": 3},
        ],
    })
}

struct Streams;

impl XdsDebug for Streams {
    fn nodes(&self) -> Vec<Value> {
        vec![json!({ "node": "gw-1", "protocol": "Delta" })]
    }

    fn node(&self, id: &str, _: &str) -> Option<Value> {
        (id == "side/car 1").then(|| json!({ "node": id, "listeners": { "subscribed": ["*"], "refused": [] } }))
    }
}

fn rows<T: DeserializeOwned>(canned: &Value, key: &str) -> T {
    serde_json::from_value(canned[key].clone()).unwrap_or_else(|e| panic!("canned {key}: {e}"))
}

fn answer(canned: &Value, query: Query) -> Answer {
    match query {
        Query::Status => Answer::Status(Box::new(rows::<StatusView>(canned, "status"))),
        Query::Clusters => Answer::Clusters(rows(canned, "clusters")),
        Query::Services => Answer::Services(rows(canned, "services")),
        Query::Accesses => Answer::Accesses(rows(canned, "accesses")),
        Query::Vips => Answer::Vips(rows(canned, "vips")),
        Query::Nodes => Answer::Nodes(rows(canned, "nodes")),
        Query::Policies => Answer::Policies(Vec::new()),
        Query::Policy(_) => Answer::Policy(Box::new(PolicyUse {
            row: None,
            used_by: Vec::new(),
            conditions: Vec::new(),
            lines: Vec::new(),
        })),
    }
}

/// No policies: their commands are tried on a real control plane.
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

/// Serves the rows; the address, and the rows to change.
async fn server() -> (String, Rows) {
    let rows: Rows = Arc::new(Mutex::new(canned()));
    let (inspect, mut inbox) = mpsc::channel(4);
    let shared = rows.clone();
    tokio::spawn(async move {
        while let Some(message) = inbox.recv().await {
            match message {
                Inspect::Query(query, reply) => drop(reply.send(answer(&shared.lock().unwrap(), query))),
                Inspect::Forget { reply, .. } => drop(reply.send(Ok(()))),
            }
        }
    });
    let metrics = Arc::new(metrics::Registry::new());
    let state = AdminState {
        inspect,
        policies: Arc::new(NoPolicies),
        uploads: Arc::new(policies::Uploads::new(1)),
        xds: Arc::new(Streams),
        metrics,
        grpc: Default::default(),
        mode: Mode::Local,
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(admin::serve(listener, state, std::future::pending()));
    (address, rows)
}

/// The binary with nothing of the environment that it would read.
fn causeway(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_causeway"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CAUSEWAY_") || name == "RUST_LOG" {
            command.env_remove(name);
        }
    }
    command.args(args).kill_on_drop(true).stdin(Stdio::null());
    command
}

pub(crate) async fn run(args: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = causeway(args).output().await.unwrap();
    (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// Runs a client command that must succeed without a word on standard error.
async fn print(admin: &str, args: &[&str]) -> String {
    let (code, stdout, stderr) = run(&[args, &["--admin-addr", admin]].concat()).await;
    assert_eq!((code, stderr.as_str()), (0, ""), "{args:?}");
    stdout
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_look_as_they_should() {
    let (admin, _) = server().await;
    for kind in ["clusters", "services", "accesses", "vips", "nodes"] {
        check(&format!("cli/{kind}.txt"), &print(&admin, &[kind]).await);
        check(&format!("cli/{kind}-wide.txt"), &print(&admin, &[kind, "-o", "wide"]).await);
        check(&format!("cli/{kind}-name.txt"), &print(&admin, &[kind, "-o", "name"]).await);
    }
    check("cli/status.txt", &print(&admin, &["status"]).await);
    check("cli/services-shop.txt", &print(&admin, &["svc", "-n", "shop", "--no-headers"]).await);
    check("cli/vips-shop.yaml", &print(&admin, &["vips", "-n", "shop", "-o", "yaml"]).await);
    check("cli/xds.yaml", &print(&admin, &["xds", "side/car 1"]).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn json_is_the_apis_own() {
    let (admin, _) = server().await;
    for kind in ["clusters", "services", "accesses", "vips", "nodes", "status"] {
        let printed: Value = serde_json::from_str(&print(&admin, &[kind, "-o", "json"]).await).unwrap();
        assert_eq!(printed, canned()[kind], "{kind}");
    }
    let nodes: Value = serde_json::from_str(&print(&admin, &["xds", "-o", "json"]).await).unwrap();
    assert_eq!(nodes[0]["node"], "gw-1");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_narrow_and_missing_ones_fail() {
    let (admin, _) = server().await;
    assert_eq!(print(&admin, &["vips", "240.11.0.7", "-o", "name"]).await, "vip/240.11.0.7\n");
    assert_eq!(print(&admin, &["services", "bank/ledger", "-A", "-o", "name"]).await, "service/bank/ledger\n");
    let (code, stdout, stderr) = run(&["clusters", "east", "north", "-o", "name", "--admin-addr", &admin]).await;
    assert_eq!((code, stdout.as_str()), (1, "cluster/east\n"));
    assert!(stderr.contains("cluster `north` not found"), "{stderr}");
    let (code, stdout, stderr) = run(&["accesses", "-n", "empty", "--admin-addr", &admin]).await;
    assert_eq!((code, stdout.as_str(), stderr.as_str()), (0, "", "No accesses found in namespace empty\n"));
    let (code, stdout, _) = run(&["accesses", "-n", "empty", "-o", "json", "--admin-addr", &admin]).await;
    assert_eq!((code, stdout.as_str()), (0, "[]\n"));
    let (code, _, stderr) = run(&["xds", "other", "--admin-addr", &admin]).await;
    assert!(code == 1 && stderr.contains("no node `other` is connected"), "{stderr}");
    let (code, ..) = run(&["vips", "-A", "-n", "shop"]).await;
    assert_eq!(code, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_prints_what_changed_and_nothing_else() {
    let (admin, rows) = server().await;
    let mut child = causeway(&["vips", "--watch", "--admin-addr", &admin]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = async || {
        let line = tokio::time::timeout(Duration::from_secs(20), lines.next_line()).await;
        line.expect("a line in time").unwrap().expect("another line")
    };
    let head = next().await;
    let first = [next().await, next().await];
    assert!(head.starts_with("ADDRESS ") && first[0].starts_with("240.11.0.7 "), "{head}\n{first:?}");
    // Growing older is no change; a new state is one.
    rows.lock().unwrap()["vips"][0]["ageSeconds"] = json!(90001);
    rows.lock().unwrap()["vips"][1]["state"] = json!("Bound");
    let changed = next().await;
    assert!(changed.starts_with("fd00:11::7 ") && changed.contains(" Bound "), "{changed}");
    assert_eq!(changed.find("Bound"), head.find("STATE"), "columns stay aligned");
    rows.lock().unwrap()["vips"].as_array_mut().unwrap().remove(0);
    let gone = next().await;
    assert!(gone.starts_with("240.11.0.7 ") && gone.ends_with("<gone>"), "{gone}");
    child.kill().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watched_status_is_printed_again_when_it_changes() {
    let (admin, rows) = server().await;
    let mut child = causeway(&["status", "-w", "--admin-addr", &admin]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut until = async |wanted: &str| {
        let found = async { while lines.next_line().await.unwrap().expect("another line") != wanted {} };
        tokio::time::timeout(Duration::from_secs(20), found).await.unwrap_or_else(|_| panic!("{wanted} in time"));
    };
    until("Ready:      no, waiting for cluster west: first list").await;
    rows.lock().unwrap()["status"]["ready"] = json!(true);
    until("---").await;
    until("Ready:      yes").await;
    child.kill().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_leaves_is_no_error() {
    let (admin, rows) = server().await;
    let row = canned()["vips"][0].clone();
    rows.lock().unwrap()["vips"] = Value::Array(vec![row; 5000]);
    let mut child = causeway(&["vips", "-o", "json", "--admin-addr", &admin])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let ended = child.wait_with_output().await.unwrap();
    assert_eq!((ended.status.code(), String::from_utf8(ended.stderr).unwrap().as_str()), (Some(0), ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_there_is_told_with_a_remedy() {
    // Bound and closed again: nobody listens there.
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    let output = causeway(&["vips"]).env("CAUSEWAY_ADMIN_ADDR", &address).output().await.unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    for part in ["cannot reach the server at", address.as_str(), "causeway serve", "--admin-addr"] {
        assert!(stderr.contains(part), "{stderr}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_another_kind_is_told() {
    let backend = backend("<html>hello</html>", "404 Not Found").await.to_string();
    let (code, _, stderr) = run(&["vips", "--admin-addr", &backend]).await;
    assert!(code == 1 && stderr.contains("answered 404 <html>hello</html>"), "{stderr}");
    let backend = self::backend("[{}]", "200 OK").await.to_string();
    let (code, _, stderr) = run(&["vips", "--admin-addr", &backend]).await;
    assert!(code == 1 && stderr.contains("is it a Causeway server"), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn serve_refuses_a_wrong_configuration_with_exit_code_2() {
    let dir = tempfile::tempdir().unwrap();
    let manifests = dir.path().to_str().unwrap();
    let cases: &[(&[&str], &str)] = &[
        (&["serve"], "--manifests is missing"),
        (&["serve", "--manifests", "/nowhere"], "no such folder"),
        (&["serve", "--manifests", manifests, "--admin-addr", "0.0.0.0:1"], "add --insecure"),
        (&["serve", "--config", "/nowhere.yaml"], "/nowhere.yaml"),
        (&["serve", "--manifest", manifests], "--manifests"),
        (&["probe", "https://x"], "TLS"),
        (&["bootstrap", "--role", "router"], "gateway, sidecar"),
    ];
    for (args, message) in cases {
        let (code, stdout, stderr) = run(args).await;
        assert_eq!((code, stdout.as_str()), (2, ""), "{args:?}: {stderr}");
        assert!(stderr.contains(message), "{args:?}: {stderr}");
    }
    let output = causeway(&["serve", "--manifests", manifests]).env("RUST_LOG", "x=loud").output().await.unwrap();
    assert_eq!(output.status.code(), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn bootstraps_and_version_are_printed() {
    let gateway = ["bootstrap", "--role", "gateway", "--node-id", "gw-1", "--cluster", "east", "--region", "eu-1"];
    let (code, stdout, stderr) = run(&[&gateway[..], &["--zone", "a", "--label", "tier=edge"]].concat()).await;
    assert_eq!((code, stderr.as_str()), (0, ""));
    check("cli/bootstrap.yaml", &stdout);
    assert_eq!(run(&["version"]).await.1, format!("causeway {}\n", env!("CARGO_PKG_VERSION")));
}

/// A backend that answers everything with one body.
async fn backend(body: &'static str, status: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(answer_all(listener, body, status));
    address
}

async fn answer_all(listener: TcpListener, body: &'static str, status: &'static str) {
    while let Ok((mut stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            let mut head = [0; 4096];
            let length = stream.read(&mut head).await.unwrap_or_default();
            let host_sent =
                String::from_utf8_lossy(&head[..length]).to_ascii_lowercase().contains("host: shop.example:");
            let status = if host_sent || body.starts_with(['<', '[']) { status } else { "421 Misdirected Request" };
            let length = body.len();
            let text = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
            drop(stream.write_all(text.as_bytes()).await);
        });
    }
}

/// A DNS server that knows one name; over UDP it says nothing but "ask over TCP" when told to.
async fn dns(addresses: Vec<Ipv4Addr>, truncate: bool) -> SocketAddr {
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = tcp.local_addr().unwrap();
    let udp = UdpSocket::bind(address).await.unwrap();
    let over_tcp = addresses.clone();
    tokio::spawn(async move {
        let mut buffer = [0; 4096];
        while let Ok((length, peer)) = udp.recv_from(&mut buffer).await {
            let mut reply = reply(&buffer[..length], &addresses);
            if truncate {
                reply.answers.clear();
                reply.metadata.truncation = true;
            }
            drop(udp.send_to(&reply.to_vec().unwrap(), peer).await);
        }
    });
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = tcp.accept().await {
            let mut question = vec![0; usize::from(stream.read_u16().await.unwrap())];
            stream.read_exact(&mut question).await.unwrap();
            let bytes = reply(&question, &over_tcp).to_vec().unwrap();
            stream.write_u16(bytes.len() as u16).await.unwrap();
            stream.write_all(&bytes).await.unwrap();
        }
    });
    address
}

fn reply(question: &[u8], addresses: &[Ipv4Addr]) -> Message {
    let question = Message::from_vec(question).unwrap();
    let asked = question.queries[0].clone();
    let mut reply = Message::response(question.metadata.id, question.metadata.op_code);
    if asked.name().to_utf8() != "shop.example." {
        reply.metadata.response_code = ResponseCode::NXDomain;
    } else if asked.query_type() == RecordType::A {
        let record = |ip: &Ipv4Addr| Record::from_rdata(asked.name().clone(), 60, RData::A(A(*ip)));
        reply.add_answers(addresses.iter().map(record));
    }
    reply.add_query(asked);
    reply
}

/// Two backends on one port of two loopback addresses, as two VIPs would be.
async fn two_backends() -> (Vec<Ipv4Addr>, u16) {
    let ips = [Ipv4Addr::new(127, 0, 0, 1), Ipv4Addr::new(127, 0, 0, 2)];
    let first = TcpListener::bind((ips[0], 0)).await.unwrap();
    let port = first.local_addr().unwrap().port();
    let second = TcpListener::bind((ips[1], port)).await.unwrap();
    tokio::spawn(answer_all(first, "east-0", "200 OK"));
    tokio::spawn(answer_all(second, "west-0", "200 OK"));
    (ips.to_vec(), port)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_goes_round_the_addresses_of_a_name() {
    let (ips, port) = two_backends().await;
    for truncate in [false, true] {
        let dns = dns(ips.clone(), truncate).await.to_string();
        let target = format!("http://shop.example:{port}/who");
        let (code, stdout, stderr) = run(&["probe", &target, "--dns", &dns, "-n", "20", "-o", "json"]).await;
        assert_eq!((code, stderr.as_str()), (0, ""));
        let report: Value = serde_json::from_str(&stdout).unwrap();
        assert_eq!((report["ok"].as_u64(), report["failed"].as_u64()), (Some(20), Some(0)), "{stdout}");
        let counts: Vec<(&str, u64)> = report["answers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| (row["answer"].as_str().unwrap(), row["count"].as_u64().unwrap()))
            .collect();
        assert_eq!(counts, [("east-0", 10), ("west-0", 10)]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_fails_when_requests_fail() {
    let (_, port) = two_backends().await;
    // The third address has nobody on it.
    let dns = dns(vec![Ipv4Addr::new(127, 0, 0, 1), Ipv4Addr::new(127, 0, 0, 3)], false).await.to_string();
    let target = format!("shop.example:{port}");
    let (code, stdout, _) = run(&["probe", &target, "--dns", &dns, "-n", "10"]).await;
    assert_eq!(code, 1);
    assert!(
        stdout.contains("connect: Connection refused") && stdout.contains("5 ok, 5 failed (50.00% ok)"),
        "{stdout}"
    );
    let (code, ..) = run(&["probe", &target, "--dns", &dns, "-n", "10", "--fail-under", "50"]).await;
    assert_eq!(code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_of_a_name_that_is_not_there_says_so() {
    let dns = dns(Vec::new(), false).await.to_string();
    let (code, _, stderr) = run(&["probe", "http://nobody.example/", "--dns", &dns]).await;
    assert!(code == 1 && stderr.contains("NXDOMAIN"), "{stderr}");
    let (code, _, stderr) = run(&["probe", "http://shop.example/", "--dns", &dns]).await;
    assert!(code == 1 && stderr.contains("no address of the wanted kind"), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_does_not_wait_for_ever_and_keeps_its_rate() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = silent.local_addr().unwrap().to_string();
    let (code, stdout, _) = run(&["probe", &target, "-n", "2", "--timeout", "200ms"]).await;
    assert!(code == 1 && stdout.contains("no answer within 200ms"), "{stdout}");
    let quick = backend("[ok]", "200 OK").await.to_string();
    let begun = std::time::Instant::now();
    let (code, ..) = run(&["probe", &quick, "-n", "11", "--rate", "20"]).await;
    assert!(code == 0 && begun.elapsed() >= Duration::from_millis(500), "{:?}", begun.elapsed());
}
