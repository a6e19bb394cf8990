//! One VIP, one name, two clusters.

use std::time::Duration;

use super::{PORT, Setup, clusterset, resolve};
use crate::support::fleet::Speaks;
use crate::support::manifests;
use crate::support::{eventually, traffic};

#[tokio::test(flavor = "multi_thread")]
async fn one_name_leads_to_pods_of_both_clusters() {
    let setup = Setup::new();
    setup.deploy(&Setup::service("checkout", "http"), 0..2, "edge").await;
    setup.deploy(&Setup::service("ledger", "tcp"), 10..12, "edge").await;
    let plane = setup.control_plane();
    assert!(plane.resolve(&clusterset("checkout")).is_empty(), "no gateway has proved it, so it is not answered");

    let mut delta = setup.gateway("gw-delta", &plane, Speaks::Delta);
    let mut sotw = setup.gateway("gw-sotw", &plane, Speaks::Sotw);
    delta.start_envoy().start_agent();
    sotw.start_envoy();

    for service in ["checkout", "ledger"] {
        let vip = plane.wait_vip(&format!("shop/{service}"), "Published");
        let to = resolve(&plane, service);
        assert_eq!(vip["address"], to.ip().to_string());
        let tally = traffic::send(to, &clusterset(service), 200).await;
        assert_eq!(tally.failed, Vec::<String>::new());
        assert!(tally.answered_by("-east-") && tally.answered_by("-west-"), "{:?}", tally.answered);
    }
    eventually("both gateways to have proved both VIPs", Duration::from_secs(10), || {
        plane.vips().iter().all(|v| v["bound"] == "2/2" && v["state"] == "Published").then_some(())
    });
    let answer = plane.get("/debug/xds/nodes/gw-sotw").to_string();
    assert!(answer.contains("vip/") && answer.contains("shop/checkout/checkout:8080"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_for_one_cluster_reaches_only_its_pods() {
    let setup = Setup::new();
    setup.deploy(&Setup::service("checkout", "http"), 0..2, "edge").await;
    let plane = setup.control_plane();
    let mut gateway = setup.gateway("gw-1", &plane, Speaks::Delta);
    gateway.start_envoy().start_agent();
    let to = resolve(&plane, "checkout");
    let name = format!("west.{}", clusterset("checkout"));
    assert_eq!(plane.resolve(&name), vec![to.ip()]);
    let tally = traffic::send(to, &format!("{name}:{PORT}"), 40).await;
    assert_eq!(tally.failed, Vec::<String>::new());
    assert!(tally.answered_by("-west-") && !tally.answered_by("-east-"), "{:?}", tally.answered);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_pod_gets_a_vip_and_a_name_where_asked() {
    let setup = Setup::new();
    let service = Setup::service("db", "tcp");
    setup.deploy(&service, 0..2, "edge").await;
    let access = manifests::access_yaml("db", "edge", 1).replace("pool: edge", "pool: edge, per: Pod");
    setup.clusters.write("east", "db-access.yaml", &access);
    let plane = setup.control_plane();
    let mut gateway = setup.gateway("gw-1", &plane, Speaks::Delta);
    gateway.start_envoy().start_agent();
    for (cluster, pod) in [("east", "db-east-0"), ("east", "db-east-1"), ("west", "db-west-0"), ("west", "db-west-1")] {
        let name = format!("{pod}.{cluster}.{}", clusterset("db"));
        let address = eventually(&format!("{name} to be answered"), Duration::from_secs(20), || {
            plane.resolve(&name).first().copied()
        });
        let tally = traffic::send((address, PORT).into(), "db", 5).await;
        assert_eq!(tally.answered.get(pod), Some(&5), "{tally:?}");
    }
    assert_eq!(plane.resolve(&clusterset("db")).len(), 4, "the service's name answers every pod's VIP");
}
