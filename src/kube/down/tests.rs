//! What is rendered for whom, and how what is there is told from what is wanted.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};

use super::seen::covers;
use super::*;
use crate::kube::kinds::SnapshotPod;
use crate::model::export::Transport;
use crate::model::object::{Family, Protocol, SlicePort};
use crate::model::world::{ImportKind, ImportPort};

fn name(text: &str) -> NamespacedName {
    NamespacedName::new("shop", text)
}

fn import(vips: &[&str]) -> Arc<Import> {
    let port = |name: &str, port, protocol| ServicePort { name: name.into(), port, protocol };
    Arc::new(Import {
        ports: vec![port("http", 80, Protocol::Http), port("db", 5432, Protocol::Tcp)],
        vips: vips.iter().map(|vip| vip.parse().unwrap()).collect(),
        clusters: ["east".into(), "west".into()].into(),
        exported: None,
    })
}

fn told(service: &str, access: &str, import: Option<Arc<Import>>) -> News {
    News { imports: [((name(service), name(access)), import)].into(), ..News::default() }
}

fn pods(cluster: &str, names: &[&str]) -> News {
    let key = SnapshotKey { access: name("checkout"), service: name("checkout"), cluster: cluster.into() };
    let pods = names.iter().map(|pod| SnapshotPod { name: (*pod).to_owned(), ..SnapshotPod::default() }).collect();
    let content = SnapshotContent { pods, ..SnapshotContent::default() };
    News { snapshots: [(key, Some(Arc::new(content)))].into(), ..News::default() }
}

fn scope() -> Scope {
    Scope { accesses: true, ..Scope::default() }
}

fn taken(inbox: &Inbox) -> Vec<(String, bool)> {
    inbox.take().changes.into_iter().map(|(id, part)| (id.to_string(), part.is_some())).collect()
}

fn there(texts: &[&str]) -> Vec<(String, bool)> {
    texts.iter().map(|text| ((*text).to_owned(), true)).collect()
}

#[test]
fn a_cluster_gets_names_and_vips_and_the_primarys_pods_but_not_its_own() {
    let board = Board::new("primary".into());
    let [east, west] = ["east", "west"].map(|cluster| board.inbox(&cluster.into(), scope()));
    board.take(told("checkout", "checkout", Some(import(&["240.11.0.7", "fd00:11::7"]))));
    for inbox in [&east, &west] {
        let of_service = [
            "ServiceImport shop/checkout",
            "EndpointSlice shop/checkout.causeway.ipv4",
            "EndpointSlice shop/checkout.causeway.ipv6",
            "Service shop/checkout",
        ];
        assert_eq!(taken(inbox), there(&of_service));
    }
    board.take(pods("primary", &["a"]));
    board.take(pods("east", &["b"]));
    let of_primary = ["EndpointSnapshot shop/checkout.primary.0"];
    assert_eq!((taken(&east), taken(&west)), (there(&of_primary), there(&of_primary)));
    // One that asks for all is given those of the others, from the start.
    let all = board.inbox(&"west".into(), Scope { all_pods: true, ..scope() });
    let found = taken(&all);
    assert_eq!(found.len(), 6, "{found:?}");
    board.take(pods("west", &["c"]));
    board.take(pods("east", &["b", "d"]));
    assert_eq!(taken(&all), there(&["EndpointSnapshot shop/checkout.east.0"]));
    assert!(taken(&west).is_empty(), "nobody listens there any more");
    for nothing in [Scope::default(), Scope { excluded: BTreeSet::from(["shop".into()]), ..scope() }] {
        assert!(taken(&board.inbox(&"north".into(), nothing)).is_empty());
    }
}

#[test]
fn only_what_differs_is_told_and_what_goes_goes() {
    let board = Board::new("primary".into());
    let inbox = board.inbox(&"east".into(), scope());
    board.take(told("checkout", "b", Some(import(&["240.11.0.7"]))));
    assert_eq!(taken(&inbox).len(), 3);
    board.take(told("checkout", "b", Some(import(&["240.11.0.7"]))));
    assert!(taken(&inbox).is_empty());
    // Of two accesses the first by name has the say, once it has an address that is proved.
    board.take(told("checkout", "a", Some(import(&[]))));
    assert!(taken(&inbox).is_empty());
    board.take(told("checkout", "a", Some(import(&["240.11.0.8"]))));
    assert_eq!(taken(&inbox).len(), 2, "the import, and what the Service leads to");
    board.take(told("checkout", "a", None));
    assert_eq!(taken(&inbox).len(), 2);
    board.take(told("checkout", "b", Some(import(&[]))));
    let gone = taken(&inbox);
    assert!(gone.contains(&("EndpointSlice shop/checkout.causeway.ipv4".to_owned(), false)), "{gone:?}");
    assert!(gone.contains(&("ServiceImport shop/checkout".to_owned(), true)), "without an address: {gone:?}");
    board.take(told("checkout", "b", None));
    let gone = taken(&inbox);
    assert!(gone.len() == 2 && gone.iter().all(|(_, is_there)| !is_there), "{gone:?}");
    assert!(!inbox.take().complete);
    board.take(News { complete: true, ..News::default() });
    assert!(inbox.take().complete && board.inbox(&"new".into(), scope()).take().complete);
    board.settle();
    assert!(inbox.take().settled && board.inbox(&"new".into(), scope()).take().settled);
}

#[test]
fn what_is_there_covers_what_is_wanted_whatever_a_server_adds() {
    let wanted = json!({ "spec": { "ports": [{ "port": 80 }], "ips": [], "selector": null } });
    let is_there = |value: Value| covers(&value, &wanted);
    assert!(is_there(json!({ "spec": { "ports": [{ "port": 80, "protocol": "TCP" }], "clusterIP": "10.0.0.1" } })));
    assert!(!is_there(json!({ "spec": { "ports": [{ "port": 81 }] } })));
    assert!(!is_there(json!({ "spec": { "ports": [{ "port": 80 }, { "port": 81 }] } })), "lists are the same");
    assert!(!is_there(json!({ "spec": { "ports": [{ "port": 80 }], "ips": ["240.0.0.1"] } })));
    assert!(!is_there(json!({})));
    assert!(covers(&Value::Null, &json!({ "clusters": [] })) && !covers(&Value::Null, &json!({ "clusters": ["a"] })));
}

#[test]
fn what_is_exported_does_not_hide_what_causeway_made_and_ports_have_one_name() {
    let port = |name: &str, port| ImportPort { name: name.into(), port, transport: Transport::Tcp, app_protocol: None };
    let text = |pairs: [(&str, &str); 3]| pairs.map(|(key, value)| (key.into(), value.into())).into();
    let exported = world::Import {
        id: name("db"),
        kind: ImportKind::ClusterSetIp,
        ports: vec![port("", 80), port("sql", 5432)],
        families: Vec::new(),
        client_ip_affinity: None,
        internal_traffic_local: false,
        traffic_distribution: None,
        labels: text([(LABEL, "false"), ("app.kubernetes.io/managed-by", "me"), ("team", "data")]),
        annotations: text([("causeway.dev/form", "0"), ("causeway.dev/other", "1"), ("note", "x")]),
        clusters: ["east".into()].into(),
    };
    let ports = vec![SlicePort { name: "".into(), port: 8080 }, SlicePort { name: "sql".into(), port: 5432 }];
    let slice = ImportSlice { family: Family::V4, ports, endpoints: Vec::new() };
    let import = Import { exported: Some((exported, [("east".into(), vec![slice])].into())), ..Import::default() };
    let board = Board::new("primary".into());
    let inbox = board.inbox(&"west".into(), scope());
    board.take(told("db", "db", Some(Arc::new(import))));
    let objects = inbox.take().changes;
    let body = |kind: Kind| {
        let (_, part) = objects.iter().find(|(id, _)| id.kind == kind).unwrap();
        part.clone().unwrap().body.clone()
    };
    let metadata = body(Kind::ServiceImport)["metadata"].clone();
    let labels = json!({ LABEL: "true", "app.kubernetes.io/managed-by": "causeway", "team": "data" });
    assert_eq!((&metadata["labels"], &metadata["annotations"]), (&labels, &json!({ "note": "x" })));
    for kind in [Kind::ServiceImport, Kind::EndpointSlice] {
        let body = body(kind);
        let ports = if kind == Kind::ServiceImport { &body["spec"]["ports"] } else { &body["ports"] };
        let names: Vec<&Value> = ports.as_array().unwrap().iter().map(|port| &port["name"]).collect();
        assert_eq!(names, ["port-80", "sql"], "{kind:?}");
    }
}
