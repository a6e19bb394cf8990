//! Random changes of random objects in three clusters: the world that followed them is always the world of somebody who
//! reads the clusters for the first time.

use std::collections::BTreeMap;
use std::time::Duration;

use causeway::kube::manager::{self, Tell};
use causeway::kube::outbox::Outbox;
use causeway::model::decision::Readiness;
use causeway::model::id::ClusterName;
use causeway::model::world::{AccessScope, World};
use causeway::store::Store;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::setup::{Setup, own_address};
use crate::support::eventually;

const CLUSTERS: [&str; 3] = ["primary", "east", "west"];
const MUTATIONS: usize = 1_000;
const ROUNDS: usize = 10;
const QUIET: Duration = Duration::from_secs(20);

/// A reader of all clusters, and the world that it makes of them.
struct Follower {
    world: World,
    told: mpsc::Receiver<Tell>,
    shutdown: CancellationToken,
    _dir: tempfile::TempDir,
}

impl Follower {
    async fn start(setup: &Setup) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).await.unwrap();
        let kubeconfig = Some(setup.primary().kubeconfig().to_owned());
        let board = causeway::kube::down::Board::new("primary".into());
        let settings = manager::Settings { primary: "primary".into(), kubeconfig, members: None, board };
        let (out, told) = mpsc::channel(64);
        let shutdown = CancellationToken::new();
        tokio::spawn(manager::run(settings, store, out, Outbox::default(), shutdown.clone()));
        let mut world = World::new();
        let _ = world.set_primary(Some("primary".into()));
        Self { world, told, shutdown, _dir: dir }
    }

    /// Takes in what is told, until nothing was for the time.
    async fn follow(&mut self, pause: Duration) {
        while let Ok(Some(tell)) = tokio::time::timeout(pause, self.told.recv()).await {
            let _ = match tell {
                Tell::Changes(changes) => self.world.apply(changes, 0),
                Tell::Expect(cluster) => self.world.expect_cluster(cluster, 0),
                Tell::Problems(..) => continue,
            };
        }
    }

    async fn follow_until_ready(&mut self) {
        while !self.world.ready() || self.world.clusters().count() < CLUSTERS.len() {
            self.follow(Duration::from_millis(50)).await;
        }
    }

    /// All that others see of the world.
    fn picture(&self) -> BTreeMap<String, String> {
        let world = &self.world;
        let mut picture = BTreeMap::new();
        for cluster in world.clusters() {
            picture.insert(format!("cluster {}", cluster.name), format!("{:?} {:?}", cluster.spec, cluster.counts));
        }
        for service in world.services() {
            for port in &service.ports {
                let endpoints = world.endpoints(&service.id, &port.name, &Default::default());
                picture.insert(format!("endpoints {} {}", service.id, port.name), format!("{endpoints:#?}"));
            }
            picture.insert(format!("service {}", service.id), format!("{service:#?}"));
        }
        for access in world.accesses() {
            let scope = AccessScope::of(access);
            for service in world.services_of(access) {
                for port in world.service_in(&service, &access.clusters).expect("it is chosen").ports {
                    let endpoints = world.access_endpoints(&scope, &service, &port.name);
                    let key = format!("endpoints {service} {} of access {}", port.name, access.id);
                    picture.insert(key, format!("{endpoints:#?}"));
                }
            }
            picture.insert(format!("access {}", access.id), format!("{access:#?} {:?}", world.services_of(access)));
        }
        for snapshot in world.user_snapshots() {
            picture.insert(format!("snapshot {}", snapshot.id), format!("{snapshot:?}"));
        }
        for pool in world.pools() {
            picture.insert(format!("pool {}", pool.name), format!("{pool:?}"));
        }
        for (cluster, pod) in world.pods() {
            picture.insert(format!("pod {cluster} {}", pod.id), format!("{pod:?}"));
        }
        picture
    }
}

impl Follower {
    /// The pods of each access by service and cluster, as its EndpointSnapshots have to say them.
    fn snapshots(&self) -> BTreeMap<String, String> {
        let world = &self.world;
        let mut snapshots = BTreeMap::new();
        for access in world.accesses() {
            for service in world.services_of(access) {
                let merged = world.service_in(&service, &access.clusters).unwrap();
                // A cluster without a pod has an object all the same, which says so.
                let key = |cluster: &ClusterName| format!("{} {} {cluster}", access.id.name, service.name);
                for cluster in &merged.clusters {
                    snapshots.insert(key(cluster), BTreeMap::new());
                }
                for port in &merged.ports {
                    for pod in world.access_pods(&AccessScope::of(access), &service, &port.name) {
                        let name = pod.pod.as_deref().map_or_else(|| pod.address.ip().to_string(), str::to_owned);
                        let is_ready = pod.readiness == Readiness::Ready;
                        let says = format!("{is_ready} {} {}", pod.weight, pod.locality.zone);
                        snapshots.entry(key(&pod.cluster)).or_default().entry(name).or_insert(says);
                    }
                }
            }
        }
        snapshots.into_iter().map(|(key, pods)| (key, format!("{pods:?}"))).collect()
    }
}

/// The same, as it was written.
fn written(setup: &Setup) -> BTreeMap<String, String> {
    let list = setup.primary().kubectl(&["-n", "shop", "get", "endpointsnapshots", "-o", "json"]);
    let list: Value = serde_json::from_str(&list).unwrap();
    let mut snapshots: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for object in list["items"].as_array().unwrap() {
        let is_ours = object["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "causeway";
        if !is_ours || object["spec"]["owner"] != "System" {
            continue;
        }
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let spec = &object["spec"];
        let key = format!("{} {} {}", text(&spec["access"]), text(&spec["service"]), text(&spec["cluster"]));
        let pods = snapshots.entry(key).or_default();
        for pod in spec["pods"].as_array().into_iter().flatten() {
            pods.insert(text(&pod["name"]), format!("{} {} {}", pod["ready"], pod["weight"], text(&pod["zone"])));
        }
    }
    snapshots.into_iter().map(|(key, pods)| (key, format!("{pods:?}"))).collect()
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// Draws numbers below a bound (SplitMix64); the seed makes them come again.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) >> 16) as usize % below
    }

    fn flip(&mut self) -> bool {
        self.roll(2) == 0
    }
}

struct Kind {
    api_version: &'static str,
    kind: &'static str,
    plural: &'static str,
    namespaced: bool,
    only_primary: bool,
}

const KINDS: [Kind; 7] = [
    Kind { api_version: "v1", kind: "Service", plural: "services", namespaced: true, only_primary: false },
    Kind {
        api_version: "discovery.k8s.io/v1",
        kind: "EndpointSlice",
        plural: "endpointslices",
        namespaced: true,
        only_primary: false,
    },
    Kind { api_version: "v1", kind: "Pod", plural: "pods", namespaced: true, only_primary: false },
    Kind { api_version: "v1", kind: "Node", plural: "nodes", namespaced: false, only_primary: false },
    Kind {
        api_version: "causeway.dev/v1alpha1",
        kind: "ClusterAccess",
        plural: "clusteraccesses",
        namespaced: true,
        only_primary: true,
    },
    Kind {
        api_version: "causeway.dev/v1alpha1",
        kind: "VipPool",
        plural: "vippools",
        namespaced: false,
        only_primary: true,
    },
    Kind {
        api_version: "causeway.dev/v1alpha1",
        kind: "EndpointSnapshot",
        plural: "endpointsnapshots",
        namespaced: true,
        only_primary: true,
    },
];

impl Kind {
    fn api(&self, client: Client) -> Api<DynamicObject> {
        let (group, version) = self.api_version.rsplit_once('/').unwrap_or(("", self.api_version));
        let resource =
            ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, self.kind), self.plural);
        if self.namespaced { Api::namespaced_with(client, "shop", &resource) } else { Api::all_with(client, &resource) }
    }

    /// A random form of an object, and its status where it has one that counts.
    fn draw(&self, name: &str, dice: &mut Dice) -> (Value, Option<Value>) {
        let mut object = json!({"apiVersion": self.api_version, "kind": self.kind, "metadata": {"name": name}});
        let mut status = None;
        match self.kind {
            "Service" => {
                object["metadata"]["labels"] = json!({"tier": format!("t{}", dice.roll(3))});
                let ports: Vec<Value> = (0..=dice.roll(2))
                    .map(|i| json!({"name": format!("p{i}"), "port": 8000 + i + 10 * dice.roll(2), "appProtocol": (["http", "tcp"])[dice.roll(2)]}))
                    .collect();
                object["spec"] = json!({"ports": ports});
            }
            "EndpointSlice" => {
                let service = format!("o{}", dice.roll(4));
                object["metadata"]["labels"] = json!({"kubernetes.io/service-name": service});
                object["addressType"] = json!("IPv4");
                object["ports"] = json!([{"name": format!("p{}", dice.roll(2)), "port": 9000 + dice.roll(3)}]);
                let endpoints: Vec<Value> = (0..dice.roll(5))
                    .map(|i| {
                        json!({
                            "addresses": [format!("10.9.{}.{}", dice.roll(3), i + 1)],
                            "conditions": {"ready": dice.flip(), "serving": dice.flip(), "terminating": dice.flip()},
                            "nodeName": format!("o{}", dice.roll(4)),
                            "targetRef": {"kind": "Pod", "namespace": "shop", "name": format!("o{}", dice.roll(4))},
                        })
                    })
                    .collect();
                object["endpoints"] = json!(endpoints);
            }
            "Pod" => {
                object["metadata"]["annotations"] = json!({"causeway.dev/weight": (1 + dice.roll(5)).to_string()});
                object["spec"] = json!({"containers": [{"name": "c", "image": "i"}]});
                status =
                    Some(json!({"phase": (["Running", "Pending"])[dice.roll(2)], "podIPs": [{"ip": own_address()}]}));
            }
            "Node" => {
                object["metadata"]["labels"] = json!({"topology.kubernetes.io/zone": format!("z{}", dice.roll(3))});
            }
            "ClusterAccess" => {
                object["spec"] = match dice.flip() {
                    true => json!({"service": {"name": format!("o{}", dice.roll(4))}}),
                    false => json!({"service": {"selector": {"matchLabels": {"tier": format!("t{}", dice.roll(3))}}}}),
                };
            }
            "EndpointSnapshot" => {
                // One in four is Causeway's own, and counts for nothing.
                let owner = (["User", "User", "User", "System"])[dice.roll(4)];
                let mut pods: Vec<Value> = (0..dice.roll(4))
                    .map(|i| match dice.roll(4) {
                        0 => json!({"name": format!("o{i}"), "addresses": [format!("10.8.0.{}", dice.roll(9) + 1)]}),
                        1 => json!({"name": format!("o{i}"), "drain": dice.flip()}),
                        2 => json!({"name": format!("o{i}"), "ready": dice.flip()}),
                        _ => json!({"name": format!("o{i}"), "weight": 1 + dice.roll(9)}),
                    })
                    .collect();
                pods.push(json!({"name": "vm", "addresses": ["10.8.1.1"], "ports": {"p0": 9100 + dice.roll(3)}}));
                let access = format!("o{}", dice.roll(4));
                object["spec"] =
                    json!({"owner": owner, "access": access, "cluster": CLUSTERS[dice.roll(3)], "pods": pods});
                if dice.flip() {
                    object["spec"]["service"] = json!(format!("o{}", dice.roll(4)));
                }
            }
            _ => object["spec"] = json!({"ranges": [format!("240.1.{}.0/24", dice.roll(9))]}),
        }
        (object, status)
    }
}

async fn mutate(clients: &[Client], dice: &mut Dice) {
    let kind = &KINDS[dice.roll(KINDS.len())];
    let client = &clients[if kind.only_primary { 0 } else { dice.roll(clients.len()) }];
    let (api, name) = (kind.api(client.clone()), format!("o{}", dice.roll(4)));
    if dice.roll(4) == 0 {
        // Most are there; of the others it makes no difference.
        let _ = api.delete(&name, &DeleteParams::default().grace_period(0)).await;
        return;
    }
    let (object, status) = kind.draw(&name, dice);
    let object: DynamicObject = serde_json::from_value(object).unwrap();
    let params = PatchParams::apply("mutations").force();
    if let Err(error) = api.patch(&name, &params, &Patch::Apply(&object)).await {
        // What may not change of an object is changed by making it anew.
        assert!(matches!(&error, kube::Error::Api(status) if (400..500).contains(&status.code)), "{error}");
        let _ = api.delete(&name, &DeleteParams::default().grace_period(0)).await;
        api.create(&PostParams::default(), &object).await.unwrap_or_else(|error| panic!("{error}: {object:?}"));
    }
    if let Some(status) = status {
        let patch = Patch::Merge(json!({"status": status}));
        api.patch_status(&name, &PatchParams::default(), &patch).await.expect("a status");
    }
}

fn difference(left: &BTreeMap<String, String>, right: &BTreeMap<String, String>) -> String {
    let keys = left.keys().chain(right.keys());
    keys.filter(|key| left.get(*key) != right.get(*key))
        .map(|key| format!("{key}:\n  followed {:?}\n  anew     {:?}\n", left.get(key), right.get(key)))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_world_equals_one_that_is_read_anew() {
    let seed = std::env::var("CAUSEWAY_SEED").ok().and_then(|text| text.parse().ok());
    let since_epoch = std::time::UNIX_EPOCH.elapsed().expect("a clock");
    let seed = seed.unwrap_or(since_epoch.subsec_nanos().into());
    println!("CAUSEWAY_SEED={seed}");
    let mut dice = Dice(seed);

    let setup = Setup::new(&CLUSTERS);
    let mut clients = Vec::new();
    for cluster in CLUSTERS {
        clients.push(causeway::kube::connect::primary(Some(setup.server(cluster).kubeconfig())).await.unwrap());
    }
    let mut follower = Follower::start(&setup).await;
    follower.follow_until_ready().await;
    let mut plane = setup.control_plane();
    plane.restart();
    for round in 0..ROUNDS {
        for _ in 0..MUTATIONS / ROUNDS {
            mutate(&clients, &mut dice).await;
        }
        let mut anew = Follower::start(&setup).await;
        anew.follow_until_ready().await;
        let until = std::time::Instant::now() + QUIET;
        loop {
            follower.follow(Duration::from_millis(100)).await;
            anew.follow(Duration::from_millis(100)).await;
            let (followed, read) = (follower.picture(), anew.picture());
            if followed == read {
                break;
            }
            let which = difference(&followed, &read);
            assert!(std::time::Instant::now() < until, "CAUSEWAY_SEED={seed}, round {round}: {which}");
        }
    }
    eventually(&format!("the EndpointSnapshots to equal the world, CAUSEWAY_SEED={seed}"), QUIET, || {
        let (wanted, found) = (follower.snapshots(), written(&setup));
        if wanted != found {
            println!("{}", difference(&wanted, &found));
        }
        (wanted == found).then_some(())
    });
    let picture = follower.picture();
    println!("{MUTATIONS} mutations; {} facts at the end", picture.len());
    for fact in ["endpoints", "snapshot"] {
        assert!(picture.keys().any(|key| key.starts_with(fact)), "{picture:#?}");
    }
}
