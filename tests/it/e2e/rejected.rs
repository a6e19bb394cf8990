//! A VIP that one gateway cannot bind. Two network namespaces of this machine are the gateways'
//! hosts; each reaches the control plane through a pair of virtual interfaces.

use std::net::SocketAddr;
use std::time::Duration;

use super::{Setup, clusterset};
use crate::support::fleet::{ControlPlane, Gateway, Speaks};
use crate::support::host::Host;
use crate::support::{eventually, free_addr, manifests};

fn gateway_state(plane: &ControlPlane, access: &str, node: &str) -> Option<(String, String)> {
    let vips = plane.vips();
    let vip = vips.iter().find(|v| v["access"] == access)?;
    let row = vip["gateways"].as_array()?.iter().find(|g| g["node"] == node)?.clone();
    Some((row["state"].as_str()?.to_owned(), row["error"].as_str()?.to_owned()))
}

async fn a_rejection_is_seen_contained_and_healed(speaks: Speaks) {
    let setup = Setup::new();
    let hosts = [Host::new(), Host::new()];
    // Documentation addresses: nobody's, and local only where a host says so.
    let pool = "203.0.113.0/28";
    setup.clusters.write("east", "pool.yaml", &manifests::pool_yaml("edge", pool));
    setup.clusters.write("east", "everywhere.yaml", &manifests::pool_yaml("everywhere", "127.99.0.0/28"));
    setup.deploy(&Setup::service("checkout", "http"), 0..1, "edge").await;
    setup.deploy(&Setup::service("catalog", "http"), 10..11, "everywhere").await;
    let port = free_addr().port();
    let xds = SocketAddr::from(([0, 0, 0, 0], port));
    let plane = ControlPlane::start_with(setup.dir.path(), setup.clusters.root(), xds, &["--insecure"]);
    let mut gateways: Vec<Gateway> = hosts
        .iter()
        .zip(["gw-good", "gw-bad"])
        .map(|(host, id)| {
            let near = format!("{}:{port}", host.near).parse().expect("an address");
            Gateway::new(setup.dir.path(), id, near, speaks).in_namespace(&host.name)
        })
        .collect();
    hosts[0].make_local(pool);
    for gateway in &mut gateways {
        gateway.start_envoy().start_agent();
    }

    let (_, error) = eventually("gw-bad to refuse the VIP", Duration::from_secs(20), || {
        gateway_state(&plane, "shop/checkout", "gw-bad").filter(|(state, _)| state == "Rejected")
    });
    assert!(error.contains("Cannot assign requested address"), "Envoy's own words, not: {error}");
    plane.wait_vip("shop/checkout", "Published");
    eventually("gw-good to have it", Duration::from_secs(10), || {
        gateway_state(&plane, "shop/checkout", "gw-good").filter(|(state, _)| state == "Serving" || state == "Bound")
    });
    eventually("the other VIP to be on both", Duration::from_secs(10), || {
        plane.vips().iter().any(|v| v["access"] == "shop/catalog" && v["bound"] == "2/2").then_some(())
    });

    // Nothing is sent again while nothing changes.
    let rejected = |gateway: &Gateway| gateway.stat("listener_manager.lds.update_rejected");
    let before = rejected(&gateways[1]).expect("Envoy counts");
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(before, 1, "the refused content was sent once");
    assert_eq!(rejected(&gateways[1]), Some(before));

    // With no gateway left, the name is not answered; the other VIP's is.
    let name = clusterset("checkout");
    assert!(!plane.resolve(&name).is_empty());
    gateways[0].stop_envoy();
    eventually("the name not to be answered", Duration::from_secs(10), || {
        plane.resolve(&name).is_empty().then_some(())
    });
    assert!(!plane.resolve(&clusterset("catalog")).is_empty());

    // The cause goes away; nobody tells the control plane.
    hosts[1].make_local(pool);
    eventually("the VIP to recover", Duration::from_secs(20), || (!plane.resolve(&name).is_empty()).then_some(()));
    let (state, _) = gateway_state(&plane, "shop/checkout", "gw-bad").expect("the row is there");
    assert_eq!(state, "Serving");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vip_that_one_gateway_cannot_bind_delta() {
    a_rejection_is_seen_contained_and_healed(Speaks::Delta).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vip_that_one_gateway_cannot_bind_sotw() {
    a_rejection_is_seen_contained_and_healed(Speaks::Sotw).await;
}
