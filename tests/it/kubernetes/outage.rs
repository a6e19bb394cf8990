//! Clusters in trouble, several at a time and each in its own way: API servers that stop, fall silent or lose their etcd,
//! packets that are dropped, credentials that end, change or are wrong. What was known of them stays, also over a
//! restart in the middle; the others go on; and each heals within seconds, with nothing sent that does not differ.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::credentials::{ended_at, reader_token, token_until};
use super::setup::{Pod, Setup, service_yaml, wait_cluster};
use crate::e2e::{clusterset, resolve};
use crate::support::apiserver::ApiServer;
use crate::support::eventually;
use crate::support::fleet::{ControlPlane, Gateway, ureq_get};
use crate::support::host::Host;
use crate::support::traffic::Stream;

const CLUSTERS: [&str; 5] = ["primary", "north", "south", "east", "west"];
const STALE: Duration = Duration::from_secs(30);
const SILENT: Duration = Duration::from_secs(60);
/// From the first answer of a cluster's API server to its being synced. It is to be 5 s, which the long checks hold it to.
/// Beside other tests on a busy machine it may be more: a watch that an API server took while its etcd came back and
/// never answers is taken up again after 40 s of silence.
const BACK: Duration = Duration::from_secs(if cfg!(feature = "long-checks") { 5 } else { 60 });
/// From what is known to what its ClusterInfo says.
const SAID: Duration = Duration::from_secs(2);
const START: Duration = Duration::from_secs(30);
/// How long the other clusters change while some are in trouble.
const TROUBLE: Duration = Duration::from_secs(if cfg!(feature = "long-checks") { 600 } else { 5 });

/// Looks again and again whether a gateway has all of these endpoints.
struct Watchman {
    stop: Arc<AtomicBool>,
    task: std::thread::JoinHandle<BTreeSet<String>>,
}

impl Watchman {
    fn start(gateway: &Gateway, endpoints: Vec<SocketAddr>) -> Self {
        let (admin, stop) = (gateway.admin, Arc::new(AtomicBool::new(false)));
        let told = stop.clone();
        let task = std::thread::spawn(move || {
            let mut missed = BTreeSet::new();
            while !told.load(Ordering::Relaxed) {
                if let Ok((200, page)) = ureq_get(admin, "/clusters") {
                    let gone = endpoints.iter().filter(|endpoint| !page.contains(&format!("::{endpoint}::")));
                    missed.extend(gone.map(ToString::to_string));
                }
                std::thread::sleep(Duration::from_millis(100));
            }
            missed
        });
        Self { stop, task }
    }

    /// Endpoints that were missing at some time.
    fn stop(self) -> BTreeSet<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.join().expect("it ends")
    }
}

/// How many resources of each type this run of the control plane has sent.
fn sent(plane: &ControlPlane) -> BTreeMap<String, f64> {
    let (_, page) = ureq_get(plane.admin, "/metrics").expect("metrics");
    let samples = page.lines().filter_map(|line| line.strip_prefix("causeway_xds_resources_total{")?.split_once("} "));
    samples.map(|(kind, count)| (kind.to_owned(), count.parse().expect("a number"))).collect()
}

/// A fleet whose clusters get into trouble.
struct Scene {
    plane: ControlPlane,
    gateway: Gateway,
    stream: Option<Stream>,
    steady: Vec<Pod>,
    extra: Pod,
    watchman: Option<Watchman>,
    /// The last that goes: the others' logs are in its folder.
    setup: Setup,
}

impl Scene {
    async fn start(setup: Setup, prepare: impl FnOnce(&Setup)) -> Self {
        let mut steady = Vec::new();
        for cluster in CLUSTERS {
            let pods = setup.start_pods(cluster, "checkout", 2).await;
            setup.put_service(cluster, "checkout", &pods);
            steady.extend(pods);
        }
        let extra = setup.start_pods("primary", "extra", 1).await.remove(0);
        setup.primary().apply(&crate::support::manifests::access_yaml("checkout", "edge", 1));
        prepare(&setup);
        let plane = setup.started();
        for cluster in CLUSTERS {
            wait_cluster(&plane, cluster, "Synced", START);
        }
        let gateway = setup.gateway(&plane);
        let mut scene = Self { plane, gateway, stream: None, steady, extra, watchman: None, setup };
        resolve(&scene.plane, "checkout");
        scene.wait_gateway(true, |scene| scene.steady.iter().map(|pod| pod.address).collect());
        scene.watch();
        scene
    }

    fn server(&self, cluster: &str) -> &'static ApiServer {
        self.setup.server(cluster)
    }

    /// From now on requests flow, and none may fail; endpoints are watched, and none may go.
    fn watch(&mut self) {
        let endpoints = self.steady.iter().map(|pod| pod.address).collect();
        self.watchman = Some(Watchman::start(&self.gateway, endpoints));
        self.stream = Some(Stream::start(resolve(&self.plane, "checkout"), &clusterset("checkout"), 50));
    }

    /// What came of the requests and the endpoints since.
    async fn check(&mut self) {
        if let (Some(stream), Some(watchman)) = (self.stream.take(), self.watchman.take()) {
            let tally = stream.stop().await;
            assert_eq!(tally.failed, Vec::<String>::new());
            for cluster in CLUSTERS {
                assert!(tally.answered_by(&format!("-{cluster}-")), "{cluster}: {:?}", tally.answered);
            }
            assert_eq!(watchman.stop(), BTreeSet::new(), "endpoints were withdrawn");
        }
    }

    fn wait_gateway(&self, present: bool, endpoints: impl Fn(&Self) -> Vec<SocketAddr>) {
        eventually("the gateway to follow", START, || {
            let page = self.gateway.page("/clusters")?;
            let has = |endpoint: &SocketAddr| page.contains(&format!("::{endpoint}::"));
            endpoints(self).iter().all(|endpoint| has(endpoint) == present).then_some(())
        });
    }

    /// An endpoint of a cluster without trouble comes and goes, up to the gateway.
    fn change_elsewhere(&self) {
        let slice = service_yaml("checkout", std::slice::from_ref(&self.extra));
        let (_, slice) = slice.split_once("---\n").expect("the service, then the slice");
        self.setup.primary().apply(slice);
        self.wait_gateway(true, |scene| vec![scene.extra.address]);
        self.setup.primary().kubectl(&["-n", "shop", "delete", "endpointslice", &self.extra.name]);
        self.wait_gateway(false, |scene| vec![scene.extra.address]);
    }

    /// The clusters become stale one after the other, at most this long after `since`; nothing is sent for that.
    fn wait_stale(&self, since: Instant, clusters: &[(&str, Duration)]) -> Vec<Value> {
        let before = sent(&self.plane);
        let mut rows = Vec::new();
        for (cluster, within) in clusters {
            let row = wait_cluster(&self.plane, cluster, "Unknown", within.saturating_sub(since.elapsed()));
            let left = within.saturating_sub(since.elapsed()).max(SAID);
            self.setup.wait_condition(cluster, "Connected", "False", left);
            println!("{cluster}: stale after {:.1} s: {}", since.elapsed().as_secs_f64(), row["reason"]);
            assert_eq!(row["endpoints"], 2, "{row}");
            rows.push(row);
        }
        let stale = |row: &Value| row["ready"] == 10 && row["stale"] == 2 * clusters.len();
        let row = self.plane.row("/api/v1/services", "name", "checkout").expect("the service");
        assert!(stale(&row), "{row}");
        assert_eq!(sent(&self.plane), before, "resources were sent because a cluster is stale");
        rows
    }

    /// A cluster heals from now on; nothing is sent for that.
    fn wait_back(&self, cluster: &str) {
        let (before, since) = (sent(&self.plane), Instant::now());
        let row = wait_cluster(&self.plane, cluster, "Synced", BACK);
        self.setup.wait_condition(cluster, "Connected", "True", BACK.saturating_sub(since.elapsed()).max(SAID));
        println!("{cluster}: back after {:.1} s", since.elapsed().as_secs_f64());
        assert_eq!(row["endpoints"], 2, "{row}");
        // It is sent after whatever the return caused, as two resources.
        self.change_elsewhere();
        let mut after = sent(&self.plane);
        for (kind, count) in &mut after {
            if kind.contains("endpoint") {
                *count -= 2.0;
            }
        }
        assert_eq!(after, before, "resources were sent that do not differ");
    }

    /// Kills the control plane and starts it anew; an Envoy that comes back is sent only what differs.
    fn restart(&mut self) {
        self.plane.process().kill();
        self.plane.restart();
        self.plane.wait_ready();
        self.change_elsewhere();
        let sent = sent(&self.plane);
        println!("after a restart: {sent:?}");
        assert!(sent.values().sum::<f64>() <= 2.0, "{sent:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clusters_in_trouble_stay_as_they_were_known_and_heal_by_themselves() {
    let host = Host::new();
    let setup = Setup::with(&CLUSTERS, |name, etcd| match name {
        "south" => ApiServer::start_own(name),
        "west" => ApiServer::start_on(name, &host),
        _ => ApiServer::leaked(name, etcd),
    });
    let mut ends = Instant::now();
    let mut scene = Scene::start(setup, |setup| {
        let (north, south) = (setup.server("north"), setup.server("south"));
        let token;
        (token, ends) = token_until(north, "reader", Duration::from_secs(25));
        setup.put_kubeconfig("north", &north.kubeconfig_for(&token));
        setup.put_kubeconfig("south", &south.kubeconfig_for(&reader_token(south, "reader")));
    })
    .await;
    credentials(&mut scene, ends).await;
    scene.check().await;

    scene.watch();
    outages(&mut scene, &host).await;
    scene.check().await;

    scene.watch();
    forgotten(&mut scene).await;
    scene.check().await;
}

/// North's token ends, south's account is deleted, east's kubeconfig is replaced, and west's by a wrong one.
async fn credentials(scene: &mut Scene, ends: Instant) {
    let [north, south, east, west] = ["north", "south", "east", "west"].map(|name| scene.server(name));
    let before = sent(&scene.plane);
    let log = |text: &str, cluster: &str| {
        eventually(&format!("{cluster}: {text}"), START, || {
            let log = scene.plane.log();
            log.lines().any(|line| line.contains(text) && line.contains(cluster)).then_some(())
        });
    };
    scene.setup.put_kubeconfig("west", &west.kubeconfig_for("no-such-token"));
    scene.setup.put_kubeconfig("east", &east.kubeconfig_for(&reader_token(east, "first")));
    log("a new kubeconfig takes over", "east");
    log("Unauthorized", "west");
    south.kubectl(&["-n", "shop", "delete", "serviceaccount", "reader"]);
    let deleted = Instant::now();
    assert_eq!(sent(&scene.plane), before, "resources were sent because a kubeconfig is another");
    for cluster in ["east", "west"] {
        assert_eq!(wait_cluster(&scene.plane, cluster, "Synced", BACK)["endpoints"], 2);
    }
    scene.change_elsewhere();

    ended_at(ends).await;
    let rows = scene.wait_stale(ends.max(deleted), &[("north", STALE), ("south", STALE)]);
    for row in rows {
        assert!(row["reason"].as_str().unwrap().contains("does not accept the credential"), "{row}");
    }
    // In the middle of it all: while one kubeconfig is being replaced, and another was by a wrong one.
    scene.setup.put_kubeconfig("east", &east.kubeconfig_for(&reader_token(east, "second")));
    scene.restart();
    wait_cluster(&scene.plane, "east", "Synced", BACK);
    scene.wait_stale(Instant::now(), &[("north", STALE), ("south", STALE), ("west", STALE)]);

    for (cluster, server) in [("north", north), ("south", south), ("west", west)] {
        scene.setup.put_kubeconfig(cluster, &server.kubeconfig_for(&reader_token(server, "new")));
        scene.wait_back(cluster);
    }
}

/// North's API server stops, south's etcd, east's API server falls silent, and west's packets are dropped.
async fn outages(scene: &mut Scene, host: &Host) {
    let [north, south, east] = ["north", "south", "east"].map(|name| scene.server(name));
    let since = Instant::now();
    north.stop();
    south.etcd().stop();
    // Connections stay open and nothing comes over them any more.
    east.signal("STOP");
    host.drop_packets();
    let all = [("north", STALE), ("south", STALE), ("east", SILENT), ("west", SILENT)];
    scene.wait_stale(since, &all);
    let until = Instant::now() + TROUBLE;
    while Instant::now() < until {
        // Long enough for requests to reach every cluster, and within what a stream of requests lasts.
        let part = (Instant::now() + Duration::from_secs(60)).min(until);
        while Instant::now() < part {
            scene.change_elsewhere();
        }
        if Instant::now() < until {
            scene.check().await;
            scene.watch();
        }
    }
    scene.restart();
    scene.wait_stale(Instant::now(), &all);

    north.resume();
    scene.wait_back("north");
    south.etcd().resume();
    south.wait_ready();
    scene.wait_back("south");
    east.signal("CONT");
    east.wait_ready();
    scene.wait_back("east");
    host.pass_packets();
    scene.wait_back("west");
}

/// North's API server starts anew and knows nothing of the place up to which it was read; then once more, and the
/// control plane starts anew too.
async fn forgotten(scene: &mut Scene) {
    let north = scene.server("north");
    for restart in [false, true] {
        let list: Value = serde_json::from_str(&north.kubectl(&["get", "--raw", "/api/v1/services?limit=1"])).unwrap();
        let place = list["metadata"]["resourceVersion"].as_str().expect("a list's place");
        north.stop();
        // The primary is on the same etcd and moves the revision on.
        for _ in 0..20 {
            scene.setup.primary().namespace("noise");
        }
        if restart {
            scene.plane.process().kill();
            scene.plane.restart();
        }
        north.resume();
        scene.plane.wait_ready();
        let raw = format!("/api/v1/services?watch=true&timeoutSeconds=1&resourceVersion={place}");
        let answer = north.kubectl_with(&["get", "--raw", &raw], "");
        let answer = String::from_utf8([answer.stdout, answer.stderr].concat()).unwrap();
        assert!(answer.contains("too old resource version"), "{answer}");
        scene.wait_back("north");
        let catalog = scene.setup.start_pods("north", "catalog", 1).await;
        scene.setup.put_service("north", "catalog", &catalog);
        eventually("what came since", BACK, || scene.plane.row("/api/v1/services", "name", "catalog"));
        north.kubectl(&["-n", "shop", "delete", "service/catalog", &format!("endpointslice/{}", catalog[0].name)]);
        eventually("what went since", BACK, || {
            scene.plane.row("/api/v1/services", "name", "catalog").is_none().then_some(())
        });
    }
}
