//! Names, sizes and forms at the limits of what an API server accepts: each appears, or says why not, and none keeps
//! others from being read.

use std::process::Command;
use std::time::Duration;

use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Client};
use serde_json::{Value, json};

use super::setup::{Setup, install_crds, wait_cluster};
use crate::support::apiserver::ApiServer;
use crate::support::fleet::ControlPlane;
use crate::support::{eventually, manifests};

const WITHIN: Duration = Duration::from_secs(30);

/// What shall be seen of a case.
enum Seen {
    /// A merged service with so many ports, ready endpoints and endpoints that are not.
    Service { namespace: String, name: String, ports: usize, ready: u64, not_ready: u64 },
    /// No such service.
    NoService(&'static str),
    /// A pod in the store with so many addresses, and where it runs.
    Pod { namespace: String, name: String, addresses: usize, node: String },
    /// A Kubernetes node in the store, and its zone.
    Node(String, &'static str),
    /// An access that chose so many services.
    Access { name: String, services: usize },
    /// A problem of an object whose name begins so, with all of these texts.
    Problem(&'static str, [&'static str; 2]),
}

struct Case {
    what: &'static str,
    objects: Vec<Value>,
    seen: Vec<Seen>,
}

fn meta(namespace: &str, name: &str) -> Value {
    json!({"namespace": namespace, "name": name})
}

fn service(namespace: &str, name: &str, ports: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": meta(namespace, name), "spec": {"ports": ports}})
}

fn slice(namespace: &str, name: &str, service: &str, fields: Value) -> Value {
    let mut slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"namespace": namespace, "name": name, "labels": {"kubernetes.io/service-name": service}},
    });
    let fields = fields.as_object().expect("fields").clone();
    slice.as_object_mut().expect("an object").extend(fields);
    slice
}

fn pod(namespace: &str, name: &str, spec: Value, status: Value) -> Value {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": meta(namespace, name), "status": status,
        "spec": {"containers": [{"name": "main", "image": "i"}]},
    });
    pod["spec"].as_object_mut().expect("an object").extend(spec.as_object().expect("fields").clone());
    pod
}

fn access(name: &str, spec: Value) -> Value {
    let api_version = "causeway.dev/v1alpha1";
    json!({"apiVersion": api_version, "kind": "ClusterAccess", "metadata": meta("shop", name), "spec": spec})
}

fn main_port() -> Value {
    json!([{"name": "main", "port": 8080}])
}

/// Name and port as a slice has them.
fn main_target() -> Value {
    json!([{"name": "main", "port": 9080}])
}

fn sees(name: &str, ports: usize, ready: u64, not_ready: u64) -> Vec<Seen> {
    vec![Seen::Service { namespace: "shop".to_owned(), name: name.to_owned(), ports, ready, not_ready }]
}

/// Parts of 63 characters joined by dots, 253 in all.
fn long_subdomain(letter: &str) -> String {
    [letter.repeat(63), letter.repeat(63), letter.repeat(63), letter.repeat(61)].join(".")
}

fn names() -> Vec<Case> {
    let (namespace, long, dotted) = ("n".repeat(63), "s".repeat(63), long_subdomain("p"));
    let (undotted, node) = ("q".repeat(253), long_subdomain("k"));
    let port = "t".repeat(15);
    let label_key = format!("{}/{}", long_subdomain("l"), "m".repeat(63));
    let mut labelled = service("shop", "labelled", main_port());
    labelled["metadata"]["labels"] =
        json!({label_key.clone(): "v".repeat(63), "empty": "", "UPPER_lower.0": "A-b_c.9"});
    let selector = json!({
        "matchLabels": {label_key.clone(): "v".repeat(63), "empty": ""},
        "matchExpressions": [
            {"key": "UPPER_lower.0", "operator": "In", "values": (0..63).map(|i| format!("v{i}")).chain(["A-b_c.9".to_owned()]).collect::<Vec<_>>()},
            {"key": "absent", "operator": "DoesNotExist"},
        ],
    });
    let endpoints = json!([
        {"addresses": ["10.1.0.1"], "targetRef": {"kind": "Pod", "namespace": namespace, "name": dotted}, "nodeName": node},
        {"addresses": ["10.1.0.2"], "targetRef": {"kind": "Pod", "namespace": namespace, "name": undotted}},
    ]);
    let mut host = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}});
    host["metadata"]["labels"] = json!({"topology.kubernetes.io/zone": "z"});
    vec![
        Case {
            what: "63 characters in names of namespaces, services and ports, 253 in those of slices, pods and nodes",
            objects: vec![
                json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}),
                service(
                    &namespace,
                    &long,
                    json!([{"name": long, "port": 65535, "targetPort": port}, {"name": "0", "port": 1}]),
                ),
                slice(
                    &namespace,
                    &dotted,
                    &long,
                    json!({"endpoints": endpoints, "ports": [{"name": long, "port": 1}, {"name": "0", "port": 65535}]}),
                ),
                host,
                pod(&namespace, &dotted, json!({"nodeName": node}), json!({"podIPs": [{"ip": "10.1.0.1"}]})),
                pod(&namespace, &undotted, json!({}), json!({})),
            ],
            seen: vec![
                Seen::Service { namespace: namespace.clone(), name: long.clone(), ports: 2, ready: 2, not_ready: 0 },
                Seen::Pod { namespace: namespace.clone(), name: dotted, addresses: 1, node: node.clone() },
                Seen::Pod { namespace, name: undotted, addresses: 0, node: String::new() },
                Seen::Node(node, "z"),
            ],
        },
        Case {
            what: "names that are numbers",
            objects: vec![
                json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "0"}}),
                json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "1"}}),
                pod("0", "1", json!({"nodeName": "1"}), json!({})),
                service("0", "a0", json!([{"port": 1}])),
                slice("0", "1", "a0", json!({"endpoints": [{"addresses": ["10.1.0.3"]}], "ports": [{"port": 1}]})),
            ],
            seen: vec![
                Seen::Service { namespace: "0".to_owned(), name: "a0".to_owned(), ports: 1, ready: 1, not_ready: 0 },
                Seen::Pod { namespace: "0".to_owned(), name: "1".to_owned(), addresses: 0, node: "1".to_owned() },
                Seen::Node("1".to_owned(), ""),
            ],
        },
        Case {
            what: "labels at their limits, and an access that selects by them",
            objects: vec![
                labelled,
                slice(
                    "shop",
                    "labelled",
                    "labelled",
                    json!({"endpoints": [{"addresses": ["10.1.0.4"]}], "ports": main_target()}),
                ),
                access(&long_subdomain("a"), json!({"service": {"selector": selector}})),
                access(&"b".repeat(63), json!({})),
            ],
            seen: [
                sees("labelled", 1, 1, 0),
                vec![
                    Seen::Access { name: long_subdomain("a"), services: 1 },
                    Seen::Access { name: "b".repeat(63), services: 0 },
                ],
            ]
            .into_iter()
            .flatten()
            .collect(),
        },
        Case {
            what: "a pod's own VIP whose name is no DNS name",
            objects: vec![
                service("shop", "each", main_port()),
                slice(
                    "shop",
                    "each",
                    "each",
                    json!({
                        "endpoints": [{"addresses": ["10.1.0.5"], "targetRef": {"kind": "Pod", "name": "r".repeat(253)}}],
                        "ports": main_target(),
                    }),
                ),
                access("each", json!({"vip": {"per": "Pod"}})),
            ],
            seen: vec![
                Seen::Access { name: "each".to_owned(), services: 1 },
                Seen::Problem("", ["each.shop.svc.clusterset.local is not answered", "shorter"]),
            ],
        },
    ]
}

fn slices() -> Vec<Case> {
    let ports =
        |first: usize| (0..100).map(|i| json!({"name": format!("p{i}"), "port": first + i})).collect::<Vec<_>>();
    let many: Vec<Value> = (0..1000)
        .map(|i| json!({"addresses": [format!("10.2.{}.{}", i / 250, 1 + i % 250)], "conditions": {"ready": i % 10 != 0}}))
        .collect();
    let bare = json!({
        "addresses": ["10.3.0.2"], "conditions": null, "deprecatedTopology": null, "hints": null, "hostname": null,
        "nodeName": null, "targetRef": null, "zone": null,
    });
    let target = |reference: Value, address: &str| json!({"addresses": [address], "targetRef": reference});
    let ipv6 = json!({"addressType": "IPv6", "endpoints": [{"addresses": ["fd00::1:1"]}], "ports": main_target()});
    let fqdn = json!({"addressType": "FQDN", "endpoints": [{"addresses": ["db.example.com"]}], "ports": main_target()});
    vec![
        Case {
            what: "100 ports, 1000 endpoints",
            objects: vec![
                service("shop", "many", json!(ports(1000))),
                slice("shop", "many", "many", json!({"endpoints": many, "ports": ports(2000)})),
            ],
            seen: sees("many", 100, 900, 100),
        },
        Case {
            what: "slices without endpoints or ports, and null wherever something may be left out",
            objects: vec![
                service("shop", "bare", main_port()),
                slice("shop", "bare-a", "bare", json!({})),
                slice("shop", "bare-b", "bare", json!({"endpoints": [], "ports": null})),
                slice("shop", "bare-c", "bare", json!({"endpoints": [bare], "ports": main_target()})),
                slice(
                    "shop",
                    "bare-d",
                    "bare",
                    json!({
                        "endpoints": [{"addresses": ["10.3.0.3"], "conditions": {"ready": null, "serving": null, "terminating": null}}],
                        "ports": [{"name": "main", "port": 1, "protocol": null, "appProtocol": null}, {"name": "any", "port": null}],
                    }),
                ),
                slice(
                    "shop",
                    "bare-e",
                    "",
                    json!({"endpoints": [{"addresses": ["10.3.0.4"]}], "ports": main_target()}),
                ),
            ],
            seen: sees("bare", 1, 2, 0),
        },
        Case {
            what: "targets that are no pods, or are nowhere",
            objects: vec![
                service("shop", "targets", main_port()),
                slice(
                    "shop",
                    "targets",
                    "targets",
                    json!({"ports": main_target(), "endpoints": [
                        target(json!({"kind": "Node", "name": "n"}), "10.3.1.1"),
                        target(json!({"kind": "VirtualMachineInstance", "namespace": "elsewhere", "name": "vm"}), "10.3.1.2"),
                        target(json!({"kind": "Pod", "name": "not-there"}), "10.3.1.3"),
                        target(json!({"kind": "Pod"}), "10.3.1.4"),
                        target(json!({}), "10.3.1.5"),
                    ]}),
                ),
            ],
            seen: sees("targets", 1, 5, 0),
        },
        Case {
            what: "slices of both families and of host names",
            objects: vec![
                service("shop", "dual", main_port()),
                slice(
                    "shop",
                    "dual-4",
                    "dual",
                    json!({"endpoints": [{"addresses": ["10.3.2.1"]}], "ports": main_target()}),
                ),
                slice("shop", "dual-6", "dual", ipv6),
                slice("shop", "dual-fqdn", "dual", fqdn),
            ],
            seen: sees("dual", 1, 2, 0),
        },
        Case {
            what: "addresses that no endpoint can have beside one that it can",
            objects: vec![
                service("shop", "odd", main_port()),
                slice(
                    "shop",
                    "odd",
                    "odd",
                    json!({"ports": main_target(), "endpoints": [
                        {"addresses": ["239.1.1.1"]}, {"addresses": ["255.255.255.255"]}, {"addresses": ["10.3.3.1"]},
                    ]}),
                ),
            ],
            seen: [
                sees("odd", 1, 1, 0),
                vec![
                    Seen::Problem("EndpointSlice shop/odd", ["multicast", "left out"]),
                    Seen::Problem("EndpointSlice shop/odd", ["broadcast", "left out"]),
                ],
            ]
            .into_iter()
            .flatten()
            .collect(),
        },
    ]
}

fn services_and_pods() -> Vec<Case> {
    let with = |name: &str, spec: Value| json!({"apiVersion": "v1", "kind": "Service", "metadata": meta("shop", name), "spec": spec});
    let running = |name: &str, spec: Value, status: Value, addresses: usize, node: &str| {
        let seen = Seen::Pod { namespace: "shop".to_owned(), name: name.to_owned(), addresses, node: node.to_owned() };
        (pod("shop", name, spec, status), seen)
    };
    let two = json!({"podIP": "10.4.0.1", "podIPs": [{"ip": "10.4.0.1"}, {"ip": "fd00::4:1"}], "phase": "Running"});
    let (pods, mut seen): (Vec<_>, Vec<_>) = [
        running("no-ip", json!({"nodeName": "n"}), json!({"phase": "Pending"}), 0, "n"),
        running("no-node", json!({}), json!({"podIPs": [{"ip": "10.4.0.2"}]}), 1, ""),
        running(
            "host-network",
            json!({"hostNetwork": true, "nodeName": "n"}),
            json!({"podIPs": [{"ip": "10.4.0.3"}]}),
            1,
            "n",
        ),
        running("two-ips", json!({}), two, 2, ""),
        running("no-status", json!({}), json!({}), 0, ""),
        running(
            "failed",
            json!({}),
            json!({"phase": "Failed", "conditions": [{"type": "Ready", "status": "Unknown"}]}),
            0,
            "",
        ),
    ]
    .into_iter()
    .unzip();
    let mut weighed = pod("shop", "weighed", json!({}), json!({}));
    weighed["metadata"]["annotations"] = json!({"causeway.dev/weight": "heavy"});
    seen.push(Seen::Problem("Pod shop/weighed", ["is no weight", "1 to 1000"]));
    seen.push(Seen::Node("unlabelled".to_owned(), ""));
    let unlabelled = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "unlabelled"}});
    vec![
        Case {
            what: "services of every sort",
            objects: vec![
                with("external", json!({"type": "ExternalName", "externalName": "db.example.com"})),
                with("headless-bare", json!({"clusterIP": "None"})),
                with("headless", json!({"clusterIP": "None", "ports": main_port(), "selector": {"app": "x"}})),
                with("udp", json!({"ports": [{"name": "dns", "port": 53, "protocol": "UDP"}]})),
                with(
                    "both",
                    json!({"ports": [{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53}]}),
                ),
                with(
                    "balanced",
                    json!({"type": "LoadBalancer", "ports": [{"name": "a", "port": 1, "appProtocol": "example.com/mine"}]}),
                ),
            ],
            seen: [
                vec![Seen::NoService("external")],
                sees("headless-bare", 0, 0, 0),
                sees("headless", 1, 0, 0),
                sees("udp", 0, 0, 0),
                sees("both", 1, 0, 0),
                sees("balanced", 1, 0, 0),
            ]
            .into_iter()
            .flatten()
            .collect(),
        },
        Case {
            what: "pods without this or that, and a node without labels",
            objects: pods.into_iter().chain([weighed, unlabelled]).collect(),
            seen,
        },
    ]
}

/// Objects that a definition of another version lets through.
fn other_versions() -> Vec<Case> {
    let mut nothing = access("nothing", json!({}));
    nothing.as_object_mut().expect("an object").remove("spec");
    let mut status = access("status", json!({"service": {"name": "labelled"}}));
    status["status"] = json!({"vips": "of another form", "conditions": 3});
    vec![
        Case {
            what: "fields that are not known",
            objects: vec![access(
                "future",
                json!({"service": {"name": "labelled"}, "color": "blue", "vip": {"sticky": true}}),
            )],
            seen: vec![
                Seen::Access { name: "future".to_owned(), services: 1 },
                Seen::Problem("ClusterAccess shop/future", ["spec.color", "does not know"]),
                Seen::Problem("ClusterAccess shop/future", ["spec.vip.sticky", "does not know"]),
            ],
        },
        Case {
            what: "fields of another form, beside an object without any and one with a status of another form",
            objects: vec![access("form", json!({"ports": "http"})), nothing, status],
            seen: vec![
                Seen::Problem("ClusterAccess shop/form", ["cannot be read", "causeway crds"]),
                Seen::Access { name: "nothing".to_owned(), services: 0 },
                Seen::Access { name: "status".to_owned(), services: 1 },
            ],
        },
    ]
}

async fn write(client: &Client, object: &Value) {
    let text = |field: &str| object[field].as_str().expect("a text");
    let (group, version) = text("apiVersion").rsplit_once('/').unwrap_or(("", text("apiVersion")));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, text("kind")));
    let namespace = object["metadata"]["namespace"].as_str();
    let api: Api<DynamicObject> = match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    let typed = serde_json::from_value(object.clone()).expect("an object");
    api.create(&PostParams::default(), &typed).await.unwrap_or_else(|error| panic!("{error}: {}", object["metadata"]));
    if let Some(status) = object.get("status") {
        let name = object["metadata"]["name"].as_str().expect("a name");
        let patch = Patch::Merge(json!({"status": status}));
        api.patch_status(name, &PatchParams::default(), &patch)
            .await
            .unwrap_or_else(|error| panic!("{error}: {object}"));
    }
}

fn ask(plane: &ControlPlane, query: &str) -> Vec<String> {
    let database = plane.dir.join("data").join("inventory.db");
    let output = Command::new("sqlite3").arg(database).arg(query).output().expect("the tests need the command sqlite3");
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

/// Why it is not seen yet.
fn missing(plane: &ControlPlane, seen: &Seen) -> Result<(), String> {
    let rows = |path: &str| plane.get(path).as_array().cloned().unwrap_or_default();
    let of = |row: &Value, namespace: &str, name: &str| row["namespace"] == namespace && row["name"] == name;
    match seen {
        Seen::Service { namespace, name, ports, ready, not_ready } => {
            let row = rows("/api/v1/services").into_iter().find(|row| of(row, namespace, name));
            let row = row.ok_or_else(|| format!("no service {name}"))?;
            let counts = (row["ports"].as_array().map(Vec::len), row["ready"].as_u64(), row["notReady"].as_u64());
            if counts == (Some(*ports), Some(*ready), Some(*not_ready)) { Ok(()) } else { Err(row.to_string()) }
        }
        Seen::NoService(name) => match plane.row("/api/v1/services", "name", name) {
            None => Ok(()),
            Some(row) => Err(row.to_string()),
        },
        Seen::Pod { namespace, name, addresses, node } => {
            let query = format!(
                "SELECT json_array_length(addresses), coalesce(node, '') FROM pods WHERE cluster = 'east' AND namespace = \
                 '{namespace}' AND name = '{name}'"
            );
            let found = ask(plane, &query);
            if found == [format!("{addresses}|{node}")] { Ok(()) } else { Err(format!("pod {name}: {found:?}")) }
        }
        Seen::Node(name, zone) => {
            let found = ask(plane, &format!("SELECT zone FROM kube_node WHERE cluster = 'east' AND name = '{name}'"));
            if found == [*zone] { Ok(()) } else { Err(format!("node {name}: {found:?}")) }
        }
        Seen::Access { name, services } => {
            let row = rows("/api/v1/accesses").into_iter().find(|row| of(row, "shop", name));
            let row = row.ok_or_else(|| format!("no access {name}"))?;
            let found = row["services"].as_array().map(Vec::len);
            if found == Some(*services) { Ok(()) } else { Err(row.to_string()) }
        }
        Seen::Problem(object, texts) => {
            let problems = plane.get("/api/v1/status")["problems"].as_array().cloned().unwrap_or_default();
            let tells = |problem: &Value| {
                let all = problem.to_string();
                problem["object"].as_str().is_some_and(|of| of.starts_with(object))
                    && texts.iter().all(|text| all.contains(text))
            };
            if problems.iter().any(tells) { Ok(()) } else { Err(format!("none of {texts:?} in {problems:#?}")) }
        }
    }
}

async fn write_all(primary: &Client, east: &Client, cases: &[Case]) {
    for object in cases.iter().flat_map(|case| &case.objects) {
        write(if object["kind"] == "ClusterAccess" { primary } else { east }, object).await;
    }
}

/// Waits until all is seen as it should be.
async fn check(plane: &ControlPlane, cases: &[Case]) {
    let mut waiting: Vec<(&str, &Seen)> =
        cases.iter().flat_map(|case| case.seen.iter().map(|seen| (case.what, seen))).collect();
    let until = std::time::Instant::now() + WITHIN;
    while std::time::Instant::now() < until && !waiting.is_empty() {
        waiting.retain(|(_, seen)| missing(plane, seen).is_err());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let whys: Vec<String> =
        waiting.iter().filter_map(|(what, seen)| Some(format!("{what}: {}", missing(plane, seen).err()?))).collect();
    assert!(whys.is_empty(), "{}", whys.join("\n"));
    println!("{} cases are as they should be", cases.len());
}

/// Installs a definition of ClusterAccess that lets everything through and sets nothing.
fn loosen(server: &ApiServer) {
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let patch = json!([{"op": "replace", "path": "/spec/versions/0/schema/openAPIV3Schema", "value": schema}]);
    let patch = patch.to_string();
    server.kubectl(&["patch", "crd", "clusteraccesses.causeway.dev", "--type=json", "-p", &patch]);
    // It takes a moment until that holds.
    let odd = access("odd", json!({"color": "blue"})).to_string();
    eventually("the definition to let everything through", WITHIN, || {
        let args = ["create", "--dry-run=server", "--validate=false", "-o", "jsonpath={.spec.color}", "-f", "-"];
        (server.kubectl_with(&args, &odd).stdout == b"blue").then_some(())
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_api_server_accepts_is_read_or_told() {
    let setup = Setup::bare(&["primary", "east"], ApiServer::leaked);
    // Nobody has installed the definitions yet.
    let mut plane = setup.control_plane();
    plane.restart();
    let row = wait_cluster(&plane, "primary", "Unknown", WITHIN);
    let (reason, log) = (row["reason"].as_str().unwrap_or_default(), plane.log());
    for text in ["does not know the kind", "causeway crds | kubectl apply"] {
        assert!(reason.contains(text), "{reason}");
        assert!(log.contains(text), "{log}");
    }
    assert!(plane.command(&["status"]).contains("causeway crds"));
    install_crds(setup.primary());
    wait_cluster(&plane, "primary", "Synced", WITHIN);
    setup.fill();
    wait_cluster(&plane, "east", "Synced", WITHIN);
    plane.wait_ready();
    let _gateway = setup.gateway(&plane);

    let mut clients = Vec::new();
    for cluster in ["primary", "east"] {
        clients.push(causeway::kube::connect::primary(Some(setup.server(cluster).kubeconfig())).await.unwrap());
    }
    let mut cases: Vec<Case> = [names(), slices(), services_and_pods()].into_iter().flatten().collect();
    write_all(&clients[0], &clients[1], &cases).await;
    check(&plane, &cases).await;
    loosen(setup.primary());
    let others = other_versions();
    write_all(&clients[0], &clients[1], &others).await;
    cases.extend(others);

    // Nothing of all this keeps anything else from being read, now or from the start. (A watch that began before the
    // definition was another is still told by the one before.)
    plane.process().kill();
    plane.restart();
    plane.wait_ready();
    for cluster in ["primary", "east"] {
        wait_cluster(&plane, cluster, "Synced", WITHIN);
    }
    check(&plane, &cases).await;
    setup.put_service("east", "checkout", &setup.start_pods("east", "checkout", 1).await);
    setup.primary().apply(&manifests::access_yaml("checkout", "edge", 1));
    eventually("what is ordinary to be served", WITHIN, || plane.row("/api/v1/vips", "access", "shop/checkout"));
    let log = plane.log();
    assert!(!log.contains("panicked") && !log.contains("inconsistent"), "{log}");
}
