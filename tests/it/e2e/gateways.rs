//! Which gateways have a VIP, and how many of them have to prove it how well.

use std::time::Duration;

use super::{Setup, clusterset, resolve};
use crate::support::fleet::{ControlPlane, Gateway, Speaks};
use crate::support::manifests::access_yaml;
use crate::support::{eventually, in_net, traffic};

const WITHIN: Duration = Duration::from_secs(10);
/// How long is waited for something not to happen.
const A_WHILE: Duration = Duration::from_millis(1200);

fn selecting(setup: &Setup, tier: &str) -> String {
    format!(
        "apiVersion: causeway.dev/v1alpha1\nkind: VipPool\nmetadata: {{name: edge}}\nspec:\n  ranges: [\"{}/28\"]\n  gateways: \
         {{matchLabels: {{tier: {tier}}}}}\n",
        in_net(setup.vip_net, 0)
    )
}

fn labelled(setup: &Setup, plane: &ControlPlane, tier: &str) -> Gateway {
    let flags = ["--label", &format!("tier={tier}")];
    Gateway::with_role(setup.dir.path(), &format!("gw-{tier}"), plane.xds, Speaks::Delta, "gateway", &flags)
}

fn publish(rule: &str) -> String {
    access_yaml("checkout", "edge", 1).replace("ttlSeconds: 1", &format!("ttlSeconds: 1, {rule}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pools_selector_says_which_gateways_have_its_vips_also_when_it_changes() {
    let setup = Setup::new();
    setup.deploy(&Setup::service("checkout", "http"), 0..1, "edge").await;
    setup.clusters.write("east", "pool.yaml", &selecting(&setup, "outer"));
    let plane = setup.control_plane_with(&["--drain", "0s"]);
    let mut inner = labelled(&setup, &plane, "inner");
    inner.start_envoy().start_agent();
    eventually("the other gateway to be there", WITHIN, || plane.row("/api/v1/nodes", "id", "gw-inner"));
    tokio::time::sleep(A_WHILE).await;
    assert!(plane.resolve(&clusterset("checkout")).is_empty());
    let status = plane.command(&["status"]);
    assert!(status.contains("no gateway that pool edge selects is connected"), "{status}");

    let mut outer = labelled(&setup, &plane, "outer");
    outer.start_envoy().start_agent();
    let to = resolve(&plane, "checkout");
    assert_eq!(plane.wait_vip("shop/checkout", "Published")["bound"], "1/1");
    assert!(outer.listens_on(to) && !inner.listens_on(to));
    assert_eq!(inner.page("/clusters").map(|page| page.contains("shop/checkout")), Some(false), "not even a cluster");

    setup.clusters.write("east", "pool.yaml", &selecting(&setup, "inner"));
    eventually("the VIP to be on the other gateway only", WITHIN, || {
        assert!(!plane.resolve(&clusterset("checkout")).is_empty(), "the name is answered all the while");
        (inner.listens_on(to) && !outer.listens_on(to)).then_some(())
    });
    let tally = traffic::send(to, &clusterset("checkout"), 20).await;
    assert_eq!(tally.failed, Vec::<String>::new());
    assert_eq!(plane.wait_vip("shop/checkout", "Published")["gateways"][0]["node"], "gw-inner");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_asks_for_two_gateways_is_answered_only_while_two_prove_it() {
    let setup = Setup::new();
    setup.deploy(&Setup::service("checkout", "http"), 0..1, "edge").await;
    setup.clusters.write("east", "checkout-access.yaml", &publish("minGateways: 2"));
    let plane = setup.control_plane();
    let mut gateways = [setup.gateway("gw-1", &plane, Speaks::Delta), setup.gateway("gw-2", &plane, Speaks::Sotw)];
    gateways[0].start_envoy().start_agent();
    plane.wait_vip("shop/checkout", "Serving");
    tokio::time::sleep(A_WHILE).await;
    assert!(plane.resolve(&clusterset("checkout")).is_empty());
    let status = plane.command(&["status"]);
    assert!(status.contains("1 gateways of pool edge are connected, but the access asks for 2"), "{status}");

    gateways[1].start_envoy();
    resolve(&plane, "checkout");
    assert_eq!(plane.wait_vip("shop/checkout", "Published")["bound"], "2/2");
    gateways[0].stop_envoy();
    eventually("the name not to be answered", WITHIN, || {
        plane.resolve(&clusterset("checkout")).is_empty().then_some(())
    });
    gateways[0].start_envoy();
    resolve(&plane, "checkout");
}

#[tokio::test(flavor = "multi_thread")]
async fn evidence_that_only_agents_give_is_waited_for() {
    let setup = Setup::new();
    setup.deploy(&Setup::service("checkout", "http"), 0..1, "edge").await;
    setup.clusters.write("east", "checkout-access.yaml", &publish("evidence: Active"));
    let plane = setup.control_plane();
    let mut gateway = setup.gateway("gw-1", &plane, Speaks::Delta);
    gateway.start_envoy();
    assert_eq!(plane.wait_vip("shop/checkout", "Bound")["proof"], "acked");
    tokio::time::sleep(A_WHILE).await;
    assert!(plane.resolve(&clusterset("checkout")).is_empty());
    // An ACK is enough where the access says so.
    setup.clusters.write("east", "checkout-access.yaml", &publish("evidence: Acked"));
    resolve(&plane, "checkout");
    setup.clusters.write("east", "checkout-access.yaml", &publish("evidence: Active"));
    eventually("the name not to be answered", WITHIN, || {
        plane.resolve(&clusterset("checkout")).is_empty().then_some(())
    });
    gateway.start_agent();
    resolve(&plane, "checkout");
    assert_eq!(plane.wait_vip("shop/checkout", "Published")["proof"], "active");
}
