//! Clusters and files that cannot be read: unknown is not empty.

use std::time::Duration;

use super::{Setup, clusterset, resolve};
use crate::support::eventually;
use crate::support::fleet::{ControlPlane, Speaks};
use crate::support::manifests::{Backend, access_yaml};
use crate::support::traffic::{self, Stream};

const WITHIN: Duration = Duration::from_secs(10);

fn wait_cluster(plane: &ControlPlane, cluster: &str, state: &str) {
    eventually(&format!("cluster {cluster} to be {state}"), WITHIN, || {
        plane.row("/api/v1/clusters", "name", cluster).filter(|row| row["state"] == state)
    });
}

fn wait_stale(plane: &ControlPlane, service: &str, count: usize) {
    eventually(&format!("{count} stale endpoints of {service}"), WITHIN, || {
        plane.row("/api/v1/services", "name", service).filter(|row| row["stale"] == count)
    });
}

async fn assert_both_answer(plane: &ControlPlane) {
    let tally = traffic::send(resolve(plane, "checkout"), &clusterset("checkout"), 40).await;
    assert_eq!(tally.failed, Vec::<String>::new());
    assert!(tally.answered_by("-east-") && tally.answered_by("-west-"), "{:?}", tally.answered);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_vanishes_is_unknown_and_served_also_over_a_restart() {
    let setup = Setup::new();
    setup.deploy(&Setup::service("checkout", "http"), 0..2, "edge").await;
    // A service that only the vanishing cluster has, and so its claim hangs on that cluster alone.
    setup.pods.start("ledger-west-9", setup.pod_address("west", 9), super::POD_PORT).await;
    let backend = Backend::ready("ledger-west-9", setup.pod_address("west", 9));
    setup.clusters.service("west", &Setup::service("ledger", "tcp"), &[backend]);
    setup.clusters.write("east", "ledger-access.yaml", &access_yaml("ledger", "edge", 1));
    let mut plane = setup.control_plane();
    let mut gateway = setup.gateway("gw-1", &plane, Speaks::Delta);
    gateway.start_envoy().start_agent();
    let addresses = ["checkout", "ledger"].map(|service| resolve(&plane, service));
    let streams = [("checkout", addresses[0]), ("ledger", addresses[1])]
        .map(|(service, to)| Stream::start(to, &clusterset(service), 50));

    setup.clusters.take_away("west");
    wait_cluster(&plane, "west", "Unknown");
    wait_stale(&plane, "checkout", 2);
    assert_both_answer(&plane).await;
    let table = plane.command(&["clusters"]);
    assert!(table.lines().any(|line| line.starts_with("west") && line.contains("Unknown")), "{table}");
    let status = plane.command(&["status"]);
    assert!(status.contains("cluster west cannot be read") && status.contains("/api/v1/clusters/west"), "{status}");

    plane.process().kill();
    plane.restart();
    plane.wait_ready();
    wait_cluster(&plane, "west", "Unknown");
    wait_stale(&plane, "checkout", 2);
    wait_stale(&plane, "ledger", 1);
    for (service, to) in ["checkout", "ledger"].into_iter().zip(addresses) {
        assert_eq!(resolve(&plane, service), to);
        assert_eq!(plane.wait_vip(&format!("shop/{service}"), "Published")["address"], to.ip().to_string());
    }
    assert_both_answer(&plane).await;

    setup.clusters.bring_back("west");
    wait_cluster(&plane, "west", "Synced");
    wait_stale(&plane, "checkout", 0);
    assert_both_answer(&plane).await;
    for stream in streams {
        assert_eq!(stream.stop().await.failed, Vec::<String>::new());
    }
    let log = plane.log();
    assert!(!log.contains("inconsistent"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_primarys_folder_vanishes_and_no_vip_is_withdrawn() {
    let setup = Setup::new();
    setup.deploy(&Setup::service("checkout", "http"), 0..1, "edge").await;
    let mut plane = setup.control_plane_with(&["--drain", "0s"]);
    let mut gateway = setup.gateway("gw-1", &plane, Speaks::Sotw);
    gateway.start_envoy().start_agent();
    let to = resolve(&plane, "checkout");
    setup.clusters.take_away("east");
    wait_cluster(&plane, "east", "Unknown");
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_both_answer(&plane).await;
    plane.process().kill();
    plane.restart();
    plane.wait_ready();
    assert_eq!(resolve(&plane, "checkout"), to);
    assert_eq!(plane.row("/api/v1/clusters", "name", "east").expect("it is known")["role"], "Primary");
    assert_both_answer(&plane).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_access_that_was_deleted_goes_although_another_cluster_is_unknown() {
    let setup = Setup::new();
    setup.deploy(&Setup::service("checkout", "http"), 0..1, "edge").await;
    setup.deploy(&Setup::service("catalog", "http"), 10..11, "edge").await;
    let mut plane = setup.control_plane_with(&["--drain", "0s", "--grace", "1s"]);
    let mut gateway = setup.gateway("gw-1", &plane, Speaks::Delta);
    gateway.start_envoy().start_agent();
    let (checkout, catalog) = (resolve(&plane, "checkout"), resolve(&plane, "catalog"));
    setup.clusters.take_away("west");
    wait_cluster(&plane, "west", "Unknown");
    // So that it was never read by the process that is asked.
    plane.process().kill();
    plane.restart();
    plane.wait_ready();
    setup.clusters.remove("east", "checkout-access.yaml");
    eventually("the VIP to be withdrawn", WITHIN, || {
        (!plane.vips().is_empty() && plane.vips().iter().all(|vip| vip["access"] != "shop/checkout")).then_some(())
    });
    assert!(plane.resolve(&clusterset("checkout")).is_empty());
    // Envoy may still be on its way back to the new process when the grace ends.
    eventually("the listener to go", WITHIN, || (!gateway.listens_on(checkout)).then_some(()));
    assert_eq!(resolve(&plane, "catalog"), catalog);

    // What a cluster that can be read says no more may still be said by the one that cannot.
    setup.clusters.remove("east", "catalog.yaml");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(resolve(&plane, "catalog"), catalog);
    assert_eq!(traffic::send(catalog, &clusterset("catalog"), 5).await.answered.get("catalog-west-10"), Some(&5));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_breaks_keeps_its_content_and_says_where_it_is_broken() {
    let setup = Setup::new();
    let service = Setup::service("checkout", "http");
    setup.deploy(&service, 0..2, "edge").await;
    let mut plane = setup.control_plane();
    let mut gateway = setup.gateway("gw-1", &plane, Speaks::Delta);
    gateway.start_envoy().start_agent();
    assert_both_answer(&plane).await;

    let good = setup.clusters.read("west", "checkout.yaml");
    let bad = good.replace("ports: [{name: main, port: 9080}]", "ports: [{name: main, port: many}]");
    assert_ne!(good, bad);
    let line = bad.lines().position(|line| line.contains("many")).expect("the fault is there") + 1;
    setup.clusters.write("west", "checkout.yaml", &bad);
    let is_told =
        |status: &str| status.contains(&format!("west/checkout.yaml:{line}")) && status.contains("ports[0].port");
    for is_restarted in [false, true] {
        if is_restarted {
            plane.process().kill();
            plane.restart();
            plane.wait_ready();
        }
        eventually("the fault to be told", WITHIN, || is_told(&plane.command(&["status"])).then_some(()));
        wait_cluster(&plane, "west", "Synced");
        assert_both_answer(&plane).await;
    }
    let status = plane.command(&["status"]);
    assert!(status.contains("EndpointSlice shop/checkout-west"), "{status}");

    // Broken as YAML, on top; the other files of the folder are read on.
    setup.clusters.write("west", "checkout.yaml", &format!("{good}\n  - ]:"));
    setup.pods.start("catalog-west-5", setup.pod_address("west", 5), super::POD_PORT).await;
    let backend = Backend::ready("catalog-west-5", setup.pod_address("west", 5));
    setup.clusters.service("west", &Setup::service("catalog", "tcp"), &[backend]);
    setup.clusters.write("east", "catalog-access.yaml", &access_yaml("catalog", "edge", 1));
    let catalog = resolve(&plane, "catalog");
    assert_eq!(traffic::send(catalog, "catalog", 5).await.failed, Vec::<String>::new());
    assert_both_answer(&plane).await;

    setup.clusters.service("west", &service, &[Backend::ready("checkout-west-1", setup.pod_address("west", 1))]);
    eventually("the fault to be gone", WITHIN, || {
        (!plane.command(&["status"]).contains("checkout.yaml")).then_some(())
    });
    let tally = traffic::send(resolve(&plane, "checkout"), &clusterset("checkout"), 40).await;
    assert!(tally.failed.is_empty() && !tally.answered_by("west-0") && tally.answered_by("west-1"), "{tally:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_forgotten_when_a_person_says_so() {
    let setup = Setup::new();
    setup.deploy(&Setup::service("checkout", "http"), 0..1, "edge").await;
    let mut plane = setup.control_plane();
    let mut gateway = setup.gateway("gw-1", &plane, Speaks::Delta);
    gateway.start_envoy().start_agent();
    assert_both_answer(&plane).await;
    let (status, body) = plane.delete("/api/v1/clusters/west");
    assert_eq!(status, 409, "a cluster that is there cannot be forgotten: {body}");
    assert_eq!(plane.delete("/api/v1/clusters/north").0, 404);

    setup.clusters.take_away("west");
    wait_cluster(&plane, "west", "Unknown");
    assert_eq!(plane.delete("/api/v1/clusters/west").0, 200);
    for is_restarted in [false, true] {
        if is_restarted {
            plane.process().kill();
            plane.restart();
            plane.wait_ready();
        }
        eventually("the cluster to be gone", WITHIN, || {
            (plane.try_get("/api/v1/clusters")?.as_array()?.len() == 1).then_some(())
        });
        let to = resolve(&plane, "checkout");
        eventually("the pods of west to be gone", WITHIN, || {
            (gateway.stat("cluster.shop/checkout/checkout_8080.membership_total") == Some(1)).then_some(())
        });
        let tally = traffic::send(to, &clusterset("checkout"), 20).await;
        assert!(tally.failed.is_empty() && !tally.answered_by("-west-"), "{tally:?}");
        assert!(plane.resolve(&format!("west.{}", clusterset("checkout"))).is_empty());
    }

    setup.clusters.bring_back("west");
    wait_cluster(&plane, "west", "Synced");
    eventually("the pods of west to be back", WITHIN, || {
        (gateway.stat("cluster.shop/checkout/checkout_8080.membership_total") == Some(2)).then_some(())
    });
    assert_both_answer(&plane).await;
}
