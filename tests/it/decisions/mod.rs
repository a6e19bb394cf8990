//! Decisions on real Envoys: every setting is proved by where requests land.
//!
//! The messages are those of `xds`, served by the library's own ADS server, without a control plane around them, so that a
//! test decides what it likes.

mod aside;
mod hashing;
mod parts;
mod spread;

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use causeway::ads::service::AdsServer;
use causeway::ads::{Event, Limits, net};
use causeway::model::decision::{HealthCheck, LbDecision, LbEndpoint, LbGroup};
use causeway::model::object::{Locality, Protocol};
use causeway::snapshot::{Reference, Resource, ResourceType, SnapshotBuilder, XdsSnapshot};
use causeway::xds::{self, ClusterSpec, ListenerSpec, RouteSpec, Target};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;

use crate::support::fleet::{Gateway, Speaks};
use crate::support::traffic::Http;
use crate::support::{eventually, in_net, own_loopback_net};

/// The cluster, its assignment and its route.
const BACKEND: &str = "shop/checkout/checkout:80";
const HOST: &str = "checkout.shop.svc.clusterset.local";
const POD_PORT: u16 = 9080;
const VIP_PORT: u16 = 8080;
/// How long something that must come may take.
const SOON: Duration = Duration::from_secs(30);

/// A pod: answers each request with its name and the status that it was told to answer with.
pub struct Pod {
    pub address: SocketAddr,
    told: Arc<Told>,
    server: JoinHandle<()>,
}

struct Told {
    name: String,
    status: AtomicU16,
    health: AtomicU16,
    health_checks: AtomicU64,
    held: AtomicU64,
    release: Notify,
}

impl Pod {
    /// `/healthz` is asked for its health; requests to `/hold` wait until they are released.
    async fn start(name: &str, address: SocketAddr) -> Self {
        let told = Arc::new(Told {
            name: name.to_owned(),
            status: AtomicU16::new(200),
            health: AtomicU16::new(200),
            health_checks: AtomicU64::new(0),
            held: AtomicU64::new(0),
            release: Notify::new(),
        });
        let listener = TcpListener::bind(address).await.expect("the pod's address is free");
        let shared = told.clone();
        let router = Router::new().fallback(move |request: Request| answer(shared.clone(), request));
        let server = tokio::spawn(async move { axum::serve(listener, router).await.expect("the pod serves") });
        Self { address, told, server }
    }

    /// What it answers requests with from now on.
    pub fn answer_with(&self, status: u16) {
        self.told.status.store(status, Ordering::Relaxed);
    }

    /// What it answers health checks with from now on.
    pub fn answer_checks_with(&self, status: u16) {
        self.told.health.store(status, Ordering::Relaxed);
    }

    pub fn health_checks(&self) -> u64 {
        self.told.health_checks.load(Ordering::Relaxed)
    }

    /// How many requests wait in it.
    pub fn held(&self) -> u64 {
        self.told.held.load(Ordering::Relaxed)
    }

    pub fn release(&self) {
        self.told.release.notify_waiters();
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn answer(told: Arc<Told>, request: Request) -> (StatusCode, String) {
    let code = |status: &AtomicU16| StatusCode::from_u16(status.load(Ordering::Relaxed)).expect("a status");
    match request.uri().path() {
        "/healthz" => {
            told.health_checks.fetch_add(1, Ordering::Relaxed);
            // A host name with slashes is refused by servers of many kinds.
            assert_eq!(request.headers().get("host").map(|host| host.as_bytes()), Some(HOST.as_bytes()));
            (code(&told.health), String::new())
        }
        "/hold" => {
            let released = told.release.notified();
            told.held.fetch_add(1, Ordering::Relaxed);
            released.await;
            told.held.fetch_sub(1, Ordering::Relaxed);
            (StatusCode::OK, told.name.clone())
        }
        _ => (code(&told.status), told.name.clone()),
    }
}

/// The plainest decision: every pod of one locality alike.
pub fn decision(groups: Vec<LbGroup>) -> LbDecision {
    LbDecision { panic_threshold_percent: 0, ..LbDecision::new(groups, CLUSTERS.map(Into::into).into()) }
}

/// The clusters that pods of these tests run in.
const CLUSTERS: [&str; 3] = ["east", "west", "north"];

/// Pods of one locality, which is a cluster's, with their weights.
pub fn group<'a>(priority: u32, cluster: &str, weight: u32, pods: impl IntoIterator<Item = (&'a Pod, u32)>) -> LbGroup {
    let number = CLUSTERS.iter().position(|known| *known == cluster).expect("one of the clusters");
    let endpoint = |(pod, weight): (&Pod, u32)| LbEndpoint {
        address: pod.address,
        cluster: number as u32,
        weight,
        draining: false,
    };
    let locality = Locality { region: "eu-1".into(), zone: cluster.into() };
    LbGroup { priority, locality, weight, endpoints: pods.into_iter().map(endpoint).collect() }
}

/// Pods of one locality, alike.
pub fn alike(pods: &[Pod]) -> Vec<LbGroup> {
    vec![group(0, "east", 1, pods.iter().map(|pod| (pod, 1)))]
}

/// A path is asked for ten times a second, and every answer counts.
pub fn asks() -> HealthCheck {
    HealthCheck {
        path: Some("/healthz".to_owned()),
        interval_ms: 100,
        timeout_ms: 5000,
        unhealthy_threshold: 1,
        healthy_threshold: 1,
    }
}

/// What the ADS server was told of each node.
#[derive(Default)]
struct Known {
    snapshots: HashMap<String, watch::Sender<Option<Arc<XdsSnapshot>>>>,
    streams: HashMap<u64, String>,
    acked: HashMap<(String, ResourceType, Arc<str>), Arc<str>>,
    rejected: Vec<String>,
}

/// An ADS server, and addresses of loopback for pods, VIPs and clients.
pub struct Stage {
    dir: TempDir,
    xds: SocketAddr,
    known: Arc<Mutex<Known>>,
    net: [u8; 3],
}

impl Stage {
    pub async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let xds = listener.local_addr().expect("an address");
        let (events, receiver) = mpsc::channel(64);
        let server = AdsServer::new(events, Limits::default());
        tokio::spawn(
            tonic::transport::Server::builder().add_service(server).serve_with_incoming(net::incoming(listener)),
        );
        let known = Arc::new(Mutex::new(Known::default()));
        tokio::spawn(listen(receiver, known.clone()));
        Self { dir: TempDir::new().expect("a temporary folder"), xds, known, net: own_loopback_net() }
    }

    /// `count` pods, `pod-0` and so on.
    pub async fn pods(&self, count: u8) -> Vec<Pod> {
        let mut pods = Vec::new();
        for index in 0..count {
            pods.push(Pod::start(&format!("pod-{index}"), self.pod_address(index)).await);
        }
        pods
    }

    pub fn pod_address(&self, index: u8) -> SocketAddr {
        SocketAddr::new(in_net(self.net, 1 + index), POD_PORT)
    }

    /// An address that a client may come from; there are 100.
    pub fn client_address(&self, index: u8) -> IpAddr {
        in_net(self.net, 100 + index)
    }

    /// An Envoy whose VIP leads to what is decided, once it does.
    pub fn envoy(&self, id: &str, protocol: Protocol, decision: &LbDecision) -> Proxy {
        let mut known = self.known.lock().expect("not poisoned");
        let index = u8::try_from(known.snapshots.len()).expect("few Envoys");
        let vip = SocketAddr::new(in_net(self.net, 200 + index), VIP_PORT);
        let mut builder = SnapshotBuilder::new();
        builder.update(|edit| {
            for resource in constant_resources(vip, protocol) {
                edit.set(resource);
            }
            for resource in resources_of(protocol, decision) {
                edit.set(resource);
            }
        });
        known.snapshots.insert(id.to_owned(), watch::channel(Some(builder.latest().clone())).0);
        drop(known);
        let mut gateway = Gateway::new(self.dir.path(), id, self.xds, Speaks::Delta);
        gateway.start_envoy();
        let proxy = Proxy { vip, gateway, protocol, builder, known: self.known.clone() };
        proxy.settle();
        // Envoy lists a listener before its workers listen.
        eventually("the VIP to listen", SOON, || std::net::TcpStream::connect(vip).ok());
        proxy
    }
}

async fn listen(mut events: mpsc::Receiver<Event>, known: Arc<Mutex<Known>>) {
    while let Some(event) = events.recv().await {
        let mut known = known.lock().expect("not poisoned");
        match event {
            Event::Connected { stream, node, reply, .. } => {
                known.streams.insert(stream.0, node.id.clone());
                let snapshots = known.snapshots.get(&node.id).expect("the node is known").subscribe();
                // A stream that is gone already asks for nothing.
                let _ = reply.send(Ok(snapshots));
            }
            Event::Acked { stream, ty, resources, .. } => {
                let node = known.streams.get(&stream.0).cloned().expect("the stream is known");
                known.acked.extend(resources.into_iter().map(|(name, version)| ((node.clone(), ty, name), version)));
            }
            Event::Rejected { detail, .. } => known.rejected.push(detail),
            Event::Disconnected { .. } => {}
        }
    }
}

/// The listener, and the route where there is one.
fn constant_resources(vip: SocketAddr, protocol: Protocol) -> Vec<Resource> {
    let name = format!("vip/{vip}");
    let (target, refers_to) = match protocol.is_http() {
        true => (Target::Http { route: BACKEND }, ResourceType::Route),
        false => (Target::Tcp { cluster: BACKEND }, ResourceType::Cluster),
    };
    let listener = xds::listener(&ListenerSpec { name: &name, address: vip, target, attempt: 0 });
    let mut resources =
        vec![Resource::new(ResourceType::Listener, name, &listener).with_refs([Reference::new(refers_to, BACKEND)])];
    if protocol.is_http() {
        let of_clusters = ["east", "west"].map(|cluster| (format!("{cluster}.{HOST}"), cluster.to_owned()));
        let route = xds::route(&RouteSpec {
            name: BACKEND,
            hostnames: vec![HOST.to_owned()],
            cluster_hostnames: of_clusters.to_vec(),
            addresses: Vec::new(),
            cluster: BACKEND,
        });
        let refs = [Reference::new(ResourceType::Cluster, BACKEND)];
        resources.push(Resource::new(ResourceType::Route, BACKEND, &route).with_refs(refs));
    }
    resources
}

/// The cluster and its assignment.
fn resources_of(protocol: Protocol, decision: &LbDecision) -> [Resource; 2] {
    let cluster = xds::cluster(&ClusterSpec { name: BACKEND, hostname: HOST, protocol, decision });
    let refs = [Reference::new(ResourceType::Endpoint, BACKEND)];
    [
        Resource::new(ResourceType::Cluster, BACKEND, &cluster).with_refs(refs),
        Resource::new(ResourceType::Endpoint, BACKEND, &xds::assignment(BACKEND, decision)),
    ]
}

/// An Envoy with a VIP.
pub struct Proxy {
    pub vip: SocketAddr,
    pub gateway: Gateway,
    protocol: Protocol,
    builder: SnapshotBuilder,
    known: Arc<Mutex<Known>>,
}

impl Proxy {
    /// Decides anew, and waits until Envoy has it: its main thread, that is. Its workers hear of other endpoints an
    /// instant later, so where those are gone, see [`Proxy::until`].
    pub fn decide(&mut self, decision: &LbDecision) {
        let resources = resources_of(self.protocol, decision);
        let next = self.builder.update(|edit| resources.into_iter().for_each(|resource| _ = edit.set(resource)));
        let next = next.expect("it is another decision");
        self.known.lock().expect("not poisoned").snapshots[&self.gateway.id].send_replace(Some(next));
        self.settle();
    }

    /// Waits until Envoy has what is decided, and uses it.
    fn settle(&self) {
        for ty in [ResourceType::Cluster, ResourceType::Endpoint] {
            let held = self.builder.latest().get(ty, BACKEND).expect("it is there").version().clone();
            eventually("Envoy to take the decision", SOON, || {
                let known = self.known.lock().expect("not poisoned");
                assert!(known.rejected.is_empty(), "{:?}", known.rejected);
                let key = (self.gateway.id.clone(), ty, Arc::from(BACKEND));
                (known.acked.get(&key) == Some(&held)).then_some(())
            });
        }
        eventually("no cluster to be warming", SOON, || {
            let page = self.gateway.page("/config_dump?resource=dynamic_warming_clusters")?;
            let dump: serde_json::Value = serde_json::from_str(&page).ok()?;
            dump["configs"].as_array().is_none_or(Vec::is_empty).then_some(())
        });
    }

    /// A gauge or counter of the cluster.
    pub fn stat(&self, name: &str) -> u64 {
        let page = self.gateway.page("/stats?format=json").expect("statistics");
        let stats: serde_json::Value = serde_json::from_str(&page).expect("JSON");
        let full = format!("cluster.{}.{name}", BACKEND.replace(':', "_"));
        let of_it = |stat: &&serde_json::Value| stat["name"] == full.as_str();
        stats["stats"].as_array().and_then(|all| all.iter().find(of_it)?["value"].as_u64()).unwrap_or(0)
    }

    /// Where so many requests land, one after the other.
    pub async fn land(&self, count: usize) -> Landed {
        self.land_as(&Http::default(), HOST, count).await
    }

    /// As [`Proxy::land`], by a client and under a host name.
    pub async fn land_as(&self, client: &Http, host: &str, count: usize) -> Landed {
        let mut landed = Landed::default();
        for _ in 0..count {
            let (status, body) = client.get(self.vip, host).await.expect("an answer");
            *landed.statuses.entry(status).or_default() += 1;
            *landed.pods.entry(body).or_default() += 1;
        }
        landed
    }

    /// Waits until requests land as is asked for.
    pub async fn until(&self, what: &str, count: usize, wanted: impl Fn(&Landed) -> bool) {
        let found = async {
            while !wanted(&self.land(count).await) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(SOON, found).await.unwrap_or_else(|_| panic!("waited {SOON:?} in vain for {what}"));
    }
}

/// Where requests landed: how many at each pod, and with which status. What Envoy answers itself is at a pod that is named
/// by its words.
#[derive(Debug, Default)]
pub struct Landed {
    pub pods: BTreeMap<String, u64>,
    pub statuses: BTreeMap<u16, u64>,
}

impl Landed {
    pub fn at(&self, pod: usize) -> u64 {
        self.pods.get(&format!("pod-{pod}")).copied().unwrap_or(0)
    }

    pub fn with(&self, status: u16) -> u64 {
        self.statuses.get(&status).copied().unwrap_or(0)
    }

    /// Whether requests landed at exactly these pods.
    pub fn is_at(&self, pods: &[usize]) -> bool {
        let mut named: Vec<String> = pods.iter().map(|pod| format!("pod-{pod}")).collect();
        named.sort();
        self.pods.keys().eq(named.iter())
    }
}

/// Fails unless the count is within the bounds that 99.9 % of samples keep to, by the normal distribution that the
/// binomial one is close to at these sizes. It is for what goes in turn, and so much closer.
pub fn assert_share(count: u64, of: u64, share: f64) {
    assert_within(3.29, count, of, share);
}

/// As [`assert_share`], for what Envoy leaves to chance: of two million samples one is further off.
pub fn assert_chance(count: u64, of: u64, share: f64) {
    assert_within(5.0, count, of, share);
}

fn assert_within(deviations: f64, count: u64, of: u64, share: f64) {
    let (count, of) = (count as f64, of as f64);
    let bound = deviations * (of * share * (1.0 - share)).sqrt();
    println!("{count} of {of} are to be {share} ± {:.4}", bound / of);
    assert!((count - of * share).abs() <= bound, "{count} of {of} is not {share} ± {:.4}", bound / of);
}
