//! Many services in many clusters: how soon it is ready, what it holds, and that work follows change.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use super::Setup;
use crate::support::fleet::{ControlPlane, Speaks};
use crate::support::manifests::{Backend, Service, pool_yaml, service_yaml};
use crate::support::{eventually, free_addr};

/// Services; the long checks take the 1,000, in release.
const SERVICES: usize = if cfg!(feature = "long-checks") { 1000 } else { 60 };
const ENDPOINTS: usize = 20;
const CLUSTERS: [&str; 5] = ["east", "west", "north", "south", "middle"];
/// Services of one file, as exports of real clusters come in large files.
const PER_FILE: usize = 20;

fn address(cluster: usize, service: usize, endpoint: usize) -> IpAddr {
    let host = service * ENDPOINTS + endpoint;
    IpAddr::V4(Ipv4Addr::new(10, 10 + cluster as u8, (host / 250) as u8, (1 + host % 250) as u8))
}

fn service_text(cluster: usize, index: usize, endpoints: usize) -> String {
    let service = Service { name: format!("svc-{index}"), app_protocol: "tcp", port: 8080, pod_port: 9080 };
    let backends: Vec<Backend> = (0..endpoints)
        .map(|e| Backend::ready(format!("svc-{index}-{}-{e}", CLUSTERS[cluster]), address(cluster, index, e)))
        .collect();
    service_yaml(CLUSTERS[cluster], &service, &backends)
}

fn file_text(cluster: usize, file: usize, edited: Option<usize>) -> String {
    let services = file * PER_FILE..((file + 1) * PER_FILE).min(SERVICES);
    services.fold(String::new(), |mut text, index| {
        let endpoints = if edited == Some(index) { ENDPOINTS - 1 } else { ENDPOINTS };
        write!(text, "---\n{}", service_text(cluster, index, endpoints)).expect("text takes text");
        text
    })
}

/// Resident memory in MiB.
fn resident_mib(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process is there");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("Linux says so");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok()).expect("a number") / 1024.0
}

/// How many EDS resources the node's streams were sent.
fn sent(plane: &ControlPlane, node: &str, ty: &str) -> u64 {
    let node = plane.get(&format!("/debug/xds/nodes/{node}?resource=none"));
    let streams = node["streams"].as_array().cloned().unwrap_or_default();
    streams.iter().filter_map(|s| s["types"][ty]["counts"]["resources"].as_u64()).sum()
}

/// When the node was last sent the endpoints of a service, in milliseconds since the Unix epoch.
fn sent_at(plane: &ControlPlane, node: &str, service: usize) -> i64 {
    let name = format!("shop/all/svc-{service}:8080");
    let node = plane.get(&format!("/debug/xds/nodes/{node}?resource=none"));
    let sent = node["streams"][0]["types"]["Endpoint"]["resources"][&name]["sentAt"].as_i64();
    sent.unwrap_or_else(|| panic!("{name} was sent: {node:#}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn one_edited_slice_is_one_resource_to_each_node() {
    let setup = Setup::new();
    for cluster in CLUSTERS {
        setup.clusters.cluster_info(cluster, if cluster == "east" { "Primary" } else { "Sub" }, cluster);
    }
    setup.clusters.write("east", "pool.yaml", &pool_yaml("edge", "127.48.0.0/20"));
    let access = "apiVersion: causeway.dev/v1alpha1\nkind: ClusterAccess\nmetadata: {namespace: shop, name: all}\nspec:\n  service: \
                  {selector: {}}\n  vip: {pool: edge}\n";
    setup.clusters.write("east", "access.yaml", access);
    for (index, cluster) in CLUSTERS.iter().enumerate() {
        for file in 0..SERVICES.div_ceil(PER_FILE) {
            setup.clusters.write(cluster, &format!("part-{file}.yaml"), &file_text(index, file, None));
        }
    }
    let started = Instant::now();
    let mut plane = ControlPlane::start_with(setup.dir.path(), setup.clusters.root(), free_addr(), &[]);
    let ready = started.elapsed();
    let status = plane.get("/api/v1/status");
    assert_eq!(status["services"], SERVICES);
    assert_eq!(status["endpoints"], SERVICES * ENDPOINTS * CLUSTERS.len());
    let memory = resident_mib(plane.process().pid());

    let mut gateways =
        [Speaks::Delta, Speaks::Sotw].map(|speaks| setup.gateway(&format!("gw-{speaks:?}"), &plane, speaks));
    for gateway in &mut gateways {
        gateway.start_envoy();
    }
    eventually("every VIP to be published on both", Duration::from_secs(120), || {
        let vips = plane.vips();
        let done = vips.iter().filter(|v| v["state"] == "Published" && v["bound"] == "2/2").count();
        (done == SERVICES).then_some(())
    });
    let served = started.elapsed();

    let serving = resident_mib(plane.process().pid());
    let nodes = ["gw-Delta", "gw-Sotw"];
    tokio::time::sleep(Duration::from_millis(500)).await;
    let before = nodes.map(|node| ["Cluster", "Endpoint", "Listener", "Route"].map(|ty| sent(&plane, node, ty)));
    let edited = PER_FILE + 3;
    setup.clusters.write("west", "part-1.yaml", &file_text(1, 1, Some(edited)));
    let (edit, edit_ms) = (Instant::now(), causeway::reconcile::now());
    // Envoy's own count says when it has it; the debug page is for people and renders everything.
    let name = format!("cluster.shop/all/svc-{edited}_8080.membership_total");
    let wanted = (ENDPOINTS * CLUSTERS.len() - 1) as u64;
    eventually("the edit to reach both", Duration::from_secs(10), || {
        gateways.iter().all(|gateway| gateway.stat(&name) == Some(wanted)).then_some(())
    });
    let reached = edit.elapsed();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let sent_after: Vec<i64> = nodes.iter().map(|node| sent_at(&plane, node, edited) - edit_ms).collect();
    let after = nodes.map(|node| ["Cluster", "Endpoint", "Listener", "Route"].map(|ty| sent(&plane, node, ty)));
    for (now, before) in after.iter().zip(&before) {
        assert_eq!([now[0] - before[0], now[1] - before[1], now[2] - before[2], now[3] - before[3]], [0, 1, 0, 0]);
    }
    println!(
        "scale: {SERVICES} services x {ENDPOINTS} endpoints x {} clusters: ready in {:.2} s, {memory:.0} MiB resident (with two gateways \
         {serving:.0} MiB, after their debug pages {:.0} MiB), on both gateways after {:.1} s, one edit was sent \
         after {sent_after:?} ms and counted by both Envoys within {} ms",
        CLUSTERS.len(),
        ready.as_secs_f64(),
        resident_mib(plane.process().pid()),
        served.as_secs_f64(),
        reached.as_millis()
    );
    if cfg!(feature = "long-checks") {
        assert!(ready < Duration::from_secs(5), "ready after {ready:?}");
    }
}
