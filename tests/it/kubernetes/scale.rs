//! Five clusters with many services, beside a bare kube-rs reflector that reads the same: how long it takes, what it
//! holds, and how soon a change is at the last of many clients. Figures are ratios of one run.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, reflector, watcher};
use kube::{Api, Client};
use prost013::Message;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::sync::watch;
use xds_api::pb::envoy::config::core::v3::{Locality, Node as XdsNode};
use xds_api::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use xds_api::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use xds_api::pb::google::protobuf::{Struct, Value, value::Kind};

use super::setup::{Setup, wait_cluster};
use crate::ads;
use crate::support::eventually;

/// The long checks take the sizes, in release.
const LONG: bool = cfg!(feature = "long-checks");
const CLUSTERS: &[&str] = if LONG { &["primary", "east", "west", "north", "south"] } else { &["primary", "east"] };
const PODS: usize = 10;
const CLIENTS: usize = 100;
const PATCHES: usize = if LONG { 200 } else { 10 };
/// Files that say where the clusters are, for the process that is compared with.
const PEER: &str = "CAUSEWAY_PEER_KUBECONFIGS";
/// How many services each cluster has, where another number than the usual is of interest.
const SIZE: &str = "CAUSEWAY_SCALE_SERVICES";

fn services() -> usize {
    let asked = std::env::var(SIZE).ok().and_then(|text| text.parse().ok());
    asked.unwrap_or(if LONG { 2_000 } else { 40 })
}

async fn client(path: &std::path::Path) -> Client {
    causeway::kube::connect::primary(Some(path)).await.expect("a client")
}

/// Makes all objects of a cluster.
async fn fill(client: Client, cluster: usize) {
    let make = |service: usize| {
        let client = client.clone();
        async move {
            let name = format!("svc-{service}");
            let params = PostParams::default();
            let object = json!({"metadata": {"name": name}, "spec": {"ports": [{"name": "main", "port": 8080}]}});
            let services: Api<Service> = Api::namespaced(client.clone(), "shop");
            services.create(&params, &serde_json::from_value(object).unwrap()).await.expect("a service");
            let mut endpoints = Vec::new();
            let pods: Api<Pod> = Api::namespaced(client.clone(), "shop");
            for pod in 0..PODS {
                let (pod_name, address) = (format!("svc-{service}-{pod}"), address(cluster, service, pod));
                let object = json!({
                    "metadata": {"name": pod_name, "labels": {"app": name, "pod-template-hash": "5d4f8c7b9d"}},
                    "spec": {"nodeName": "n1", "containers": [{
                        "name": "main", "image": "registry.example/shop/checkout:1.2.3",
                        "env": [{"name": "A", "value": "b"}, {"name": "C", "value": "d"}],
                        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}},
                    }]},
                });
                pods.create(&params, &serde_json::from_value(object).unwrap()).await.expect("a pod");
                endpoints.push(json!({
                    "addresses": [address], "conditions": {"ready": true}, "nodeName": "n1",
                    "targetRef": {"kind": "Pod", "namespace": "shop", "name": pod_name},
                }));
            }
            let object = json!({
                "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}}, "addressType": "IPv4",
                "ports": [{"name": "main", "port": 9080}], "endpoints": endpoints,
            });
            let slices: Api<EndpointSlice> = Api::namespaced(client, "shop");
            slices.create(&params, &serde_json::from_value(object).unwrap()).await.expect("a slice");
        }
    };
    futures::stream::iter(0..services()).map(make).buffer_unordered(16).collect::<Vec<_>>().await;
}

fn address(cluster: usize, service: usize, pod: usize) -> String {
    let host = service * PODS + pod;
    format!("10.{}.{}.{}", 10 + cluster, host / 250, 1 + host % 250)
}

fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process is there");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("Linux says so");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
}

/// A reflector of a kind: done when its store is full. It goes on until the process ends.
async fn reflect<K>(client: Client) -> reflector::Store<K>
where
    K: kube::Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug + Send + Sync + 'static,
{
    let (reader, writer) = reflector::store();
    let config = watcher::Config::default().streaming_lists();
    let stream = watcher(Api::<K>::all(client), config).default_backoff().reflect(writer);
    tokio::spawn(stream.try_for_each(|_| futures::future::ready(Ok(()))));
    reader.wait_until_ready().await.expect("the reflector lives");
    reader
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "the other side of the comparison, which the scale test runs in a process of its own"]
async fn bare_reflector() {
    let paths = std::env::var(PEER).expect("the scale test says where the clusters are");
    let started = Instant::now();
    let readings = paths.split(':').map(|path| async move {
        let client = client(path.as_ref()).await;
        tokio::join!(
            reflect::<Node>(client.clone()),
            reflect::<Service>(client.clone()),
            reflect::<Pod>(client.clone()),
            reflect::<EndpointSlice>(client.clone()),
        )
    });
    let stores = futures::future::join_all(readings).await;
    let ready = started.elapsed();
    let objects: usize = stores.iter().map(|(n, s, p, e)| n.len() + s.len() + p.len() + e.len()).sum();
    println!("PEER {} {} {objects}", ready.as_millis(), resident_kib(std::process::id()));
}

/// Runs the bare reflector; gives its time in ms, its memory in KiB and how many objects it held.
fn run_peer(setup: &Setup) -> [u64; 3] {
    let paths: Vec<String> =
        CLUSTERS.iter().map(|name| setup.server(name).kubeconfig().display().to_string()).collect();
    let output = std::process::Command::new(std::env::current_exe().expect("this test's binary"))
        .args(["--exact", "kubernetes::scale::bare_reflector", "--ignored", "--nocapture"])
        .env(PEER, paths.join(":"))
        .output()
        .expect("the peer runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find_map(|line| line.split_once("PEER ")).unwrap_or_else(|| panic!("{text}")).1;
    let mut numbers = line.split(' ').map(|number| number.parse().expect("a number"));
    [(); 3].map(|()| numbers.next().expect("three numbers"))
}

/// What a client has, and since when.
#[derive(Clone, Default)]
struct Held {
    at: Option<Instant>,
    version: String,
    /// As it came: what it says is read when nobody's time is taken.
    assignment: Vec<u8>,
}

impl Held {
    fn endpoints(&self) -> usize {
        let assignment = ClusterLoadAssignment::decode(&*self.assignment).expect("an assignment");
        assignment.endpoints.iter().map(|group| group.lb_endpoints.len()).sum()
    }
}

type Seen = Arc<watch::Sender<Held>>;

/// A client of one service's endpoints.
async fn subscribe(to: std::net::SocketAddr, id: String, resource: String, seen: Seen) {
    let text = |text: &str| Value { kind: Some(Kind::StringValue(text.to_owned())) };
    let fields = HashMap::from([("role", "sidecar"), ("cluster", "east"), ("network", "flat")]);
    let metadata = Struct { fields: fields.into_iter().map(|(key, value)| (key.to_owned(), text(value))).collect() };
    let locality = Some(Locality { region: "eu-1".to_owned(), zone: "a".to_owned(), ..Locality::default() });
    let node = Some(XdsNode { id, metadata: Some(metadata), locality, ..XdsNode::default() });
    let type_url = causeway::snapshot::ResourceType::Endpoint.type_url().to_owned();
    let (tx, answers) = ads::open::<DeltaDiscoveryRequest, DeltaDiscoveryResponse>(to, ads::DELTA).await;
    let first = DeltaDiscoveryRequest {
        node,
        type_url: type_url.clone(),
        resource_names_subscribe: vec![resource],
        ..DeltaDiscoveryRequest::default()
    };
    tx.send(first).await.expect("open");
    let mut answers = answers.expect("a stream");
    while let Ok(Some(answer)) = answers.message().await {
        let at = Some(Instant::now());
        for resource in answer.resources {
            let assignment = resource.resource.expect("a resource").value;
            seen.send_replace(Held { at, version: resource.version, assignment });
        }
        let ack = DeltaDiscoveryRequest {
            type_url: type_url.clone(),
            response_nonce: answer.nonce,
            ..DeltaDiscoveryRequest::default()
        };
        if tx.send(ack).await.is_err() {
            return;
        }
    }
}

fn percentile(sorted: &[f64], share: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * share).round() as usize]
}

#[tokio::test(flavor = "multi_thread")]
async fn beside_a_bare_reflector() {
    let services = services();
    let setup = Setup::new(CLUSTERS);
    let filling = Instant::now();
    for (index, name) in CLUSTERS.iter().enumerate() {
        fill(client(setup.server(name).kubeconfig()).await, index).await;
    }
    let access = "apiVersion: causeway.dev/v1alpha1\nkind: ClusterAccess\nmetadata: {namespace: shop, name: one}\nspec:\n  service: \
                  {name: svc-1}\n  vip: {pool: edge}\n";
    setup.primary().apply(access);
    println!("scale: filled in {:.0} s", filling.elapsed().as_secs_f64());

    // Alternately, so that neither has the warmer caches; the best of each counts.
    let mut peer = [u64::MAX; 3];
    let mut ours = [u64::MAX; 2];
    let mut plane = setup.control_plane();
    for round in 0..3 {
        if round > 0 {
            plane.process().kill();
        }
        let [ms, kib, objects] = run_peer(&setup);
        peer = [peer[0].min(ms), peer[1].min(kib), objects];
        let _ = std::fs::remove_dir_all(setup.dir.path().join("data"));
        let started = Instant::now();
        plane.restart();
        eventually("readiness", Duration::from_secs(300), || {
            let rows = plane.try_get("/api/v1/clusters")?;
            let rows = rows.as_array()?;
            (rows.len() == CLUSTERS.len() && rows.iter().all(|row| row["state"] == "Synced")).then_some(())
        });
        ours[0] = ours[0].min(started.elapsed().as_millis() as u64);
        std::thread::sleep(Duration::from_secs(if LONG { 10 } else { 2 }));
        ours[1] = ours[1].min(resident_kib(plane.process().pid()));
    }
    for name in CLUSTERS {
        let row = wait_cluster(&plane, name, "Synced", Duration::from_secs(30));
        assert_eq!(row["pods"], services * PODS, "{row}");
    }
    let pods = (services * PODS * CLUSTERS.len()) as f64;
    println!(
        "scale: {} clusters x {services} services x {PODS} pods ({} objects): ready in {} ms, {:.2} x the reflector's {} ms; {:.0} MiB, \
         {:.2} x the reflector's {:.0} MiB; {:.2} KiB a pod",
        CLUSTERS.len(),
        peer[2],
        ours[0],
        ours[0] as f64 / peer[0] as f64,
        peer[0],
        ours[1] as f64 / 1024.0,
        ours[1] as f64 / peer[1] as f64,
        peer[1] as f64 / 1024.0,
        ours[1] as f64 / pods
    );
    if LONG {
        assert!(ours[0] <= 2 * peer[0], "ready after more than twice the reflector's time");
        assert!(ours[1] * 2 <= peer[1] * 3, "more than one and a half times the reflector's memory");
    }
    changes(&setup, plane.xds).await;
}

/// One slice is patched again and again: how soon a reflector sees it, and how soon the last client.
async fn changes(setup: &Setup, xds: std::net::SocketAddr) {
    let cluster = CLUSTERS[1];
    let client = client(setup.server(cluster).kubeconfig()).await;
    let slices: Api<EndpointSlice> = Api::namespaced(client, "shop");
    let seen: Vec<Seen> = (0..CLIENTS).map(|_| Arc::new(watch::channel(Held::default()).0)).collect();
    for (index, seen) in seen.iter().enumerate() {
        tokio::spawn(subscribe(xds, format!("client-{index}"), "shop/one/svc-1:8080".to_owned(), seen.clone()));
    }
    let full = PODS * CLUSTERS.len();
    for seen in &seen {
        let mut seen = seen.subscribe();
        let all = tokio::time::timeout(Duration::from_secs(60), seen.wait_for(|held| held.endpoints() == full)).await;
        all.expect("the first endpoints come").expect("the client lives");
    }
    // What anybody who watches sees: the moment of the event itself.
    let event = Arc::new(watch::channel((None, usize::MAX)).0);
    let (told, api) = (event.clone(), slices.clone());
    tokio::spawn(async move {
        let stream = watcher(api, watcher::Config::default().fields("metadata.name=svc-1")).applied_objects();
        let each = |slice: EndpointSlice| {
            told.send_replace((Some(Instant::now()), slice.endpoints.len()));
            futures::future::ready(Ok(()))
        };
        stream.try_for_each(each).await.expect("the watch lives");
    });
    event.subscribe().wait_for(|(at, _)| at.is_some()).await.expect("the watch lives");

    let whole = slices.get("svc-1").await.expect("the slice").endpoints;
    let (mut from_patch, mut from_event, mut watched) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..PATCHES {
        let keep = if round % 2 == 0 { PODS - 1 } else { PODS };
        let patch = Patch::Merge(json!({"endpoints": &whole[..keep]}));
        let started = Instant::now();
        slices.patch("svc-1", &PatchParams::default(), &patch).await.expect("the patch is taken");
        let wanted = full - (PODS - keep);
        // One client's content is read; the others have it when they have its version, a hash of the content.
        let mut version = None;
        let mut last = started;
        for seen in &seen {
            let mut seen = seen.subscribe();
            let has_it = |held: &Held| match &version {
                Some(version) => held.version == *version,
                None => held.endpoints() == wanted,
            };
            let found = tokio::time::timeout(Duration::from_secs(30), seen.wait_for(has_it)).await;
            let held = found.expect("the change comes").expect("the client lives").clone();
            last = last.max(held.at.expect("a time"));
            version.get_or_insert(held.version);
        }
        let at =
            event.subscribe().wait_for(|(_, count)| *count == keep).await.expect("the watch lives").0.expect("a time");
        from_patch.push((last - started).as_secs_f64() * 1e3);
        watched.push((at - started).as_secs_f64() * 1e3);
        from_event.push(last.saturating_duration_since(at).as_secs_f64() * 1e3);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut text = String::new();
    for (what, times) in [
        ("PATCH to last client", &mut from_patch),
        ("PATCH to reflector", &mut watched),
        ("watch event to last client", &mut from_event),
    ] {
        times.sort_by(f64::total_cmp);
        write!(text, "; {what} p50 {:.1} ms, p99 {:.1} ms", percentile(times, 0.5), percentile(times, 0.99))
            .expect("text");
    }
    let ratio = percentile(&from_patch, 0.5) / percentile(&watched, 0.5);
    println!("scale: {PATCHES} patches, {CLIENTS} clients{text}; {ratio:.1} x the reflector's");
}
