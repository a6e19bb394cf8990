//! Ring hash and Maglev: a client stays where it is.

use std::collections::{BTreeMap, BTreeSet};

use causeway::model::decision::{LbAlgorithm, LbDecision};
use causeway::model::object::Protocol;

use super::{HOST, Pod, Proxy, Stage, alike, decision, group};
use crate::support::traffic::Http;

const CLIENTS: u8 = 100;

/// The one pod that each client lands at, by its connections one after the other.
async fn homes(stage: &Stage, proxy: &Proxy) -> BTreeMap<u8, String> {
    let mut homes = BTreeMap::new();
    for client in 0..CLIENTS {
        let mut pods = BTreeSet::new();
        for _ in 0..3 {
            let http = Http::from_address(stage.client_address(client));
            pods.extend(proxy.land_as(&http, HOST, 1).await.pods.into_keys());
        }
        assert_eq!(pods.len(), 1, "client {client} landed at {pods:?}");
        homes.insert(client, pods.pop_first().expect("one"));
    }
    homes
}

fn used(homes: &BTreeMap<u8, String>) -> usize {
    homes.values().collect::<BTreeSet<_>>().len()
}

async fn clients_stay(algorithm: LbAlgorithm, protocol: Protocol, id: &str) {
    let stage = Stage::new().await;
    let pods = stage.pods(5).await;
    let decided = |pods: &[Pod]| LbDecision { algorithm, ..decision(alike(pods)) };
    let mut proxy = stage.envoy(id, protocol, &decided(&pods));
    let before = homes(&stage, &proxy).await;
    assert_eq!(used(&before), 5, "all pods are of use");
    proxy.decide(&decided(&pods[..4]));
    let after = homes(&stage, &proxy).await;
    assert_eq!(used(&after), 4);
    let is_moved = |client: &u8| before[client] != "pod-4" && before[client] != after[client];
    let moved = before.keys().filter(|client| is_moved(client)).count();
    println!("{moved} of {CLIENTS} clients left a pod that is still there");
    // Envoy gives the others more entries, so that about 12 move; without a memory of who was where, 60 would.
    assert!(moved <= 30, "{moved} of {CLIENTS} clients left a pod that is still there");
    proxy.decide(&decided(&pods));
    assert_eq!(homes(&stage, &proxy).await, before, "the pod's return brings its clients back");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_stays_on_its_pod_by_ring_hash() {
    clients_stay(LbAlgorithm::RING_HASH, Protocol::Http, "gw-ring").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_stays_on_its_pod_by_maglev() {
    clients_stay(LbAlgorithm::MAGLEV, Protocol::Http, "gw-maglev").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_of_bytes_stay_too() {
    clients_stay(LbAlgorithm::MAGLEV, Protocol::Tcp, "gw-bytes").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_size_of_a_ring_or_table_reaches_envoy() {
    let stage = Stage::new().await;
    let pods = stage.pods(5).await;
    let decided = |algorithm| LbDecision { algorithm, ..decision(alike(&pods)) };
    let ring = |minimum, maximum| LbAlgorithm::RingHash { minimum, maximum };
    let mut proxy = stage.envoy("gw-sizes", Protocol::Http, &decided(ring(1, 1)));
    // One entry has room for one pod, two have room for two, and so have 251 for all.
    assert_eq!(used(&homes(&stage, &proxy).await), 1);
    proxy.decide(&decided(ring(2048, 8_388_608)));
    assert_eq!(used(&homes(&stage, &proxy).await), 5);
    proxy.decide(&decided(LbAlgorithm::Maglev { table_size: 2 }));
    assert_eq!(used(&homes(&stage, &proxy).await), 2);
    proxy.decide(&decided(LbAlgorithm::Maglev { table_size: 251 }));
    assert_eq!(used(&homes(&stage, &proxy).await), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clusters_name_reaches_that_cluster_by_every_algorithm() {
    let stage = Stage::new().await;
    let pods = stage.pods(4).await;
    let decided = |algorithm| LbDecision {
        algorithm,
        ..decision(vec![
            group(0, "east", 99, pods[..2].iter().map(|pod| (pod, 1))),
            group(0, "west", 1, pods[2..].iter().map(|pod| (pod, 1))),
        ])
    };
    let algorithms = [
        LbAlgorithm::LeastRequest { choices: 3 },
        LbAlgorithm::RoundRobin,
        LbAlgorithm::Random,
        LbAlgorithm::RingHash { minimum: 64, maximum: 4096 },
        LbAlgorithm::Maglev { table_size: 251 },
    ];
    let mut proxy = stage.envoy("gw-names", Protocol::Http, &decided(LbAlgorithm::LEAST_REQUEST));
    for algorithm in algorithms {
        proxy.decide(&decided(algorithm));
        let mut of_west = BTreeSet::new();
        for client in 0..30 {
            let http = Http::from_address(stage.client_address(client));
            let landed = proxy.land_as(&http, &format!("west.{HOST}"), 3).await;
            assert_eq!(landed.with(200), 3, "{algorithm:?}: {landed:?}");
            of_west.extend(landed.pods.into_keys());
        }
        assert!(of_west.iter().eq(["pod-2", "pod-3"]), "{algorithm:?}: {of_west:?}");
    }
}
