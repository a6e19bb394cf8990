//! Many clusters whose managers dial in, as they would: the members are real, what they read is made up.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use causeway::kube::manager::Tell;
use causeway::member::{Options, simulate};
use causeway::model::id::{ClusterName, NamespacedName};
use causeway::model::object::{
    Change, EndpointSlice, KubeNode, Locality, Object, Pod, Protocol, Service, ServicePort, SliceEndpoint, SlicePort,
};
use causeway::model::shared;
use clap::Parser;
use tokio::sync::mpsc;

use super::members::Scene;
use super::setup::wait_cluster;
use crate::support::eventually;

pub const LONG: bool = cfg!(feature = "long-checks");
/// How many clusters there are, one size after the other.
const SIZES: &[usize] = if LONG { &[10, 50] } else { &[3] };
pub const PODS: usize = if LONG { 20_000 } else { 200 };
const PODS_OF_SERVICE: usize = 100;
/// How long changes are made, in seconds, and how many in each.
const CHURN: u64 = if LONG { 60 } else { 2 };
const CHANGES: u64 = 100;

fn text(text: impl AsRef<str>) -> Arc<str> {
    Arc::from(text.as_ref())
}

pub fn pod(cluster: usize, index: usize, version: u64) -> Object {
    let name = format!("checkout-{}-7d9f8b6c5d-{index:05}", index / PODS_OF_SERVICE);
    let service = format!("checkout-{}", index / PODS_OF_SERVICE);
    Object::Pod(Pod {
        id: NamespacedName::new("shop", name.as_str()),
        uid: text(format!("6f1c9a52-0b1d-4c6e-{cluster:04x}-{index:012x}")),
        resource_version: text((1_000_000 + version).to_string()),
        node: Some(text(format!("node-{}", index % 50))),
        addresses: [address(cluster, index).into()].into(),
        phase: "Running".into(),
        ready: true,
        labels: shared::labels(
            [("app", service.as_str()), ("pod-template-hash", "7d9f8b6c5d"), ("version", "v1")]
                .map(|(key, value)| (text(key), text(value)))
                .into(),
        ),
        weight: 1,
        created_at: 1_790_000_000,
    })
}

fn address(cluster: usize, index: usize) -> Ipv4Addr {
    let number = 0x0a00_0000 + (cluster as u32) * 32_768 + index as u32;
    Ipv4Addr::from(number)
}

pub fn cluster(cluster: usize) -> Vec<Object> {
    let mut objects: Vec<Object> = (0..50)
        .map(|n| {
            let locality = Locality { region: "eu-1".into(), zone: text(format!("eu-1-{}", n % 3)) };
            Object::Node(KubeNode { name: text(format!("node-{n}")), locality })
        })
        .collect();
    for service in 0..PODS / PODS_OF_SERVICE {
        let id = NamespacedName::new("shop", format!("checkout-{service}").as_str());
        objects.push(Object::Service(Service {
            id: id.clone(),
            labels: [(text("app"), id.name.clone())].into(),
            headless: false,
            ports: vec![ServicePort { name: "http".into(), port: 80, protocol: Protocol::Http }],
            created_at: 1_790_000_000,
            traits: Default::default(),
        }));
        let pods = service * PODS_OF_SERVICE..(service + 1) * PODS_OF_SERVICE;
        objects.push(Object::Slice(EndpointSlice {
            id: NamespacedName::new("shop", format!("checkout-{service}-x7k2p").as_str()),
            service: id.name.clone(),
            ports: vec![SlicePort { name: "http".into(), port: 8080 }],
            endpoints: pods
                .clone()
                .map(|index| SliceEndpoint {
                    addresses: [address(cluster, index).into()].into(),
                    ready: true,
                    serving: true,
                    terminating: false,
                    hostname: None,
                    node: Some(text(format!("node-{}", index % 50))),
                    zone: Some(text("eu-1-0")),
                    pod: Some(text(format!("checkout-{service}-7d9f8b6c5d-{index:05}"))),
                })
                .collect(),
        }));
        objects.extend(pods.map(|index| pod(cluster, index, 0)));
    }
    objects
}

#[derive(Parser)]
struct Given {
    #[command(flatten)]
    options: Options,
}

/// The options of a member with this file.
pub fn options(file: &Path) -> Options {
    let given = Given::try_parse_from(["member", "--config", &file.display().to_string()]);
    given.unwrap_or_else(|error| panic!("{error}")).options
}

fn status_kib(pid: u32, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("Linux says so");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// CPU time of a process so far.
fn cpu(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let fields: Vec<&str> = stat.rsplit_once(')').expect("a name").1.split_whitespace().collect();
    let ticks = fields[11].parse::<u64>().expect("ticks") + fields[12].parse::<u64>().expect("ticks");
    Duration::from_millis(ticks * 10)
}

#[tokio::test(flavor = "multi_thread")]
async fn many_members_cost_little() {
    let mut scene = Scene::new(&["primary"]);
    scene.start();
    let pid = scene.plane.process().pid();
    let empty = status_kib(pid, "VmRSS:");
    let mut members: BTreeMap<String, mpsc::Sender<Tell>> = BTreeMap::new();
    let mut tasks = tokio::task::JoinSet::new();
    for &size in SIZES {
        let (before, cpu_before) = (Instant::now(), cpu(pid));
        let added: Vec<usize> = (members.len()..size).collect();
        for &index in &added {
            let name = format!("c{index}");
            let file = scene.pushed_file(&name);
            let options = options(&file);
            let (told, receiver) = mpsc::channel(4);
            tasks.spawn(async move { simulate(options, &format!("uid-{index}"), receiver).await });
            let of: ClusterName = name.as_str().into();
            let apply = |object| Change::Apply { cluster: of.clone(), object: Box::new(object) };
            let changes = cluster(index).into_iter().map(apply).collect();
            told.send(Tell::Changes(changes)).await.expect("it listens");
            told.send(Tell::Changes(vec![Change::Synced { cluster: of.clone() }])).await.expect("it listens");
            members.insert(name, told);
        }
        let joined = before.elapsed();
        for index in added {
            wait_cluster(&scene.plane, &format!("c{index}"), "Synced", Duration::from_secs(600));
        }
        let pods = (size * PODS) as f64;
        // What waits to be stored is written a moment later.
        let mut settled = status_kib(pid, "VmRSS:");
        eventually("the store to have it", Duration::from_secs(300), || {
            let now = status_kib(pid, "VmRSS:");
            let was = std::mem::replace(&mut settled, now);
            let before = cpu(pid);
            std::thread::sleep(Duration::from_secs(1));
            (cpu(pid) - before < Duration::from_millis(50) && now.abs_diff(was) < 4096).then_some(())
        });
        let (rss, peak) = (status_kib(pid, "VmRSS:"), status_kib(pid, "VmHWM:"));
        println!(
            "{size} clusters, {pods} pods: ready {:?} after the first joined ({joined:?} of that to join), CPU {:?}; {:.0} bytes a pod (RSS {} MiB, at most {} MiB)",
            before.elapsed(),
            cpu(pid) - cpu_before,
            (rss - empty) as f64 * 1024.0 / pods,
            rss / 1024,
            peak / 1024,
        );

        // With fewer, what does not grow with them weighs more.
        if size == 50 {
            assert!((rss - empty) as f64 * 1024.0 <= 1024.0 * pods, "a pod takes more than 1 KiB");
        }

        // Changes of pods, spread over all clusters.
        let (start, cpu_start) = (Instant::now(), cpu(pid));
        let mut tick = tokio::time::interval(Duration::from_micros(1_000_000 / CHANGES));
        for change in 0..CHURN * CHANGES {
            tick.tick().await;
            let index = change as usize % size;
            let name = format!("c{index}");
            let object = Box::new(pod(index, (change as usize * 7919) % PODS, change + 1));
            let change = Change::Apply { cluster: name.as_str().into(), object };
            members[&name].send(Tell::Changes(vec![change])).await.expect("it listens");
        }
        let used = cpu(pid) - cpu_start;
        println!(
            "{size} clusters: {CHANGES} changes a second cost {:.1} % of a core",
            100.0 * used.as_secs_f64() / start.elapsed().as_secs_f64()
        );
        let travelled: u64 = (0..size).map(|index| scene.travelled(&format!("c{index}"))).sum();
        println!("{travelled} objects have travelled");
    }
    tasks.abort_all();
}
