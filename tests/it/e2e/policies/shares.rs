//! Shares of traffic that an uploaded policy decides, when clusters come and go.

use std::net::{IpAddr, SocketAddr};

use super::super::{POD_PORT, PORT, Setup, clusterset, resolve};
use super::{WITHIN, access, component, condition, shares_of, versions};
use crate::decisions::assert_share;
use crate::support::eventually;
use crate::support::fleet::{ControlPlane, Gateway, Speaks};
use crate::support::in_net;
use crate::support::manifests::{Backend, Service};
use crate::support::traffic::Stream;

const REQUESTS: usize = 10_000;
/// How many clusters go and come back.
const TURNS: usize = if cfg!(feature = "long-checks") { 3 } else { 1 };
/// Pods of each cluster.
const PODS: u8 = 2;

struct Three {
    setup: Setup,
    service: Service,
}

impl Three {
    /// Two pods of each of three clusters.
    async fn new() -> Self {
        let setup = Setup::new();
        setup.clusters.cluster_info("south", "Sub", "c");
        let three = Self { setup, service: Setup::service("checkout", "http") };
        for cluster in ["east", "west", "south"] {
            for index in 0..PODS {
                three.setup.pods.start(&pod(cluster, index), three.address(cluster, index), POD_PORT).await;
            }
            three.write(cluster, PODS);
        }
        three
    }

    fn address(&self, cluster: &str, index: u8) -> IpAddr {
        match cluster {
            "south" => in_net(self.setup.pod_net, 201 + index),
            _ => self.setup.pod_address(cluster, index),
        }
    }

    /// Says that the cluster has so many pods.
    fn write(&self, cluster: &str, pods: u8) {
        let backends: Vec<Backend> =
            (0..pods).map(|index| Backend::ready(pod(cluster, index), self.address(cluster, index))).collect();
        self.setup.clusters.service(cluster, &self.service, &backends);
    }
}

fn pod(cluster: &str, index: u8) -> String {
    format!("checkout-{cluster}-{index}")
}

/// Waits until Envoy uses so many endpoints, as it says itself.
fn wait_members(gateway: &Gateway, count: u64) {
    let name = format!("cluster.shop/checkout/checkout_{PORT}.membership_total");
    eventually("Envoy to have the endpoints", WITHIN, || (gateway.stat(&name) == Some(count)).then_some(()));
}

/// Sends many requests and compares where they land with what the policy was told.
async fn assert_lands(to: SocketAddr, wanted: &[(&str, u64)]) {
    let landed = shares_of(to, "checkout", REQUESTS).await;
    println!("of {REQUESTS}: {landed:?}");
    let all: u64 = wanted.iter().map(|(_, weight)| weight).sum();
    for (cluster, weight) in wanted {
        let count = landed.get(*cluster).copied().unwrap_or_default();
        assert_share(count, REQUESTS as u64, *weight as f64 / all as f64);
    }
    assert_eq!(landed.len(), wanted.len(), "nobody else: {landed:?}");
}

fn wait_decided(plane: &ControlPlane) {
    eventually("the policy to decide", WITHIN, || {
        let is = |kind: &str| condition(plane, kind).0 == kind;
        (is("Accepted") && is("Decided")).then_some(())
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn weights_of_an_uploaded_policy_are_shares_of_requests_and_a_cluster_that_goes_fails_none() {
    let three = Three::new().await;
    let clusters = &three.setup.clusters;
    let weights = "{clusters: {east: 90, west: 9, south: 1}}";
    clusters.write("east", "pool-access.yaml", &access("weighted", weights));
    let plane = three.setup.control_plane();
    plane.command(&["policy", "upload", "weighted", &component("lb-weighted-clusters")]);
    wait_decided(&plane);
    let mut gateway = three.setup.gateway("gw-1", &plane, Speaks::Delta);
    gateway.start_envoy().start_agent();
    let to = resolve(&plane, "checkout");
    wait_members(&gateway, 6);
    let whole = versions(&plane, "gw-1");
    assert_lands(to, &[("east", 90), ("west", 9), ("south", 1)]).await;

    // Clusters lose all their endpoints under traffic, first that with most of it.
    let stream = Stream::start(to, &clusterset("checkout"), 200);
    let turns = [
        ("east", [("west", 9), ("south", 1)]),
        ("west", [("east", 90), ("south", 1)]),
        ("south", [("east", 90), ("west", 9)]),
    ];
    for (gone, left) in turns.into_iter().take(TURNS) {
        three.write(gone, 0);
        wait_members(&gateway, 4);
        // Nobody needs its pods any more: requests for them would fail from here on.
        (0..PODS).for_each(|index| three.setup.pods.stop(&pod(gone, index)));
        assert_lands(to, &left).await;
        for index in 0..PODS {
            three.setup.pods.start(&pod(gone, index), three.address(gone, index), POD_PORT).await;
        }
        three.write(gone, PODS);
        wait_members(&gateway, 6);
        eventually("all to be as it was", WITHIN, || (versions(&plane, "gw-1") == whole).then_some(()));
    }
    assert_lands(to, &[("east", 90), ("west", 9), ("south", 1)]).await;
    let tally = stream.stop().await;
    println!("{} requests meanwhile", tally.total);
    assert_eq!(tally.failed, Vec::<String>::new());
    assert_eq!(condition(&plane, "Decided").0, "Decided");
}
