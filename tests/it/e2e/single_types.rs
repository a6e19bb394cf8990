//! A gateway that takes clusters and listeners from services of their own, and endpoints and routes from the aggregated
//! one, as the resources that it is sent say.

use std::time::Duration;

use super::{Setup, clusterset, resolve};
use crate::support::fleet::{Gateway, Speaks};
use crate::support::{eventually, traffic};

/// Changes the bootstrap's two config sources into streams of their own.
fn take_apart(gateway: &Gateway, api_type: &str) {
    let path = gateway.bootstrap();
    let mut text = std::fs::read_to_string(&path).expect("the bootstrap is there");
    for source in ["cds_config", "lds_config"] {
        let aggregated = format!("  {source}: {{ads: {{}}, resource_api_version: V3}}\n");
        assert!(text.contains(&aggregated), "{text}");
        let own = format!(
            "  {source}:\n    resource_api_version: V3\n    api_config_source:\n      api_type: {api_type}\n      \
             transport_api_version: V3\n      set_node_on_first_message_only: true\n      grpc_services:\n      - \
             envoy_grpc: {{cluster_name: causeway-xds}}\n"
        );
        text = text.replace(&aggregated, &own);
    }
    std::fs::write(path, text).expect("the bootstrap is written");
}

async fn is_proved_and_withdrawn(speaks: Speaks, api_type: &str) {
    let setup = Setup::new();
    setup.deploy(&Setup::service("checkout", "http"), 0..1, "edge").await;
    // After a restart an address is given back when nodes of the time before have had this long to come.
    let mut plane = setup.control_plane_with(&["--grace", "3s"]);
    let mut gateway = setup.gateway("gw-1", &plane, speaks);
    take_apart(&gateway, api_type);
    gateway.start_envoy().start_agent();
    let vip = plane.wait_vip("shop/checkout", "Published");
    assert_eq!(vip["bound"], "1/1");
    let tally = traffic::send(resolve(&plane, "checkout"), &clusterset("checkout"), 30).await;
    assert!(tally.failed.is_empty() && tally.answered_by("-east-") && tally.answered_by("-west-"), "{tally:?}");
    let streams = plane.get("/debug/xds/nodes");
    let of_gateway = streams.as_array().expect("a list").iter().filter(|row| row["node"] == "gw-1");
    let mut services: Vec<&str> = of_gateway.filter_map(|row| row["service"].as_str()).collect();
    services.sort_unstable();
    assert_eq!(services, ["ADS", "CDS", "LDS"], "{streams}");
    let node = plane.row("/api/v1/nodes", "id", "gw-1").expect("it is shown");
    assert_eq!((node["state"].as_str(), node["listeners"].as_u64()), (Some("Connected"), Some(1)));

    // Its streams come back in any order to another process, which has to be proved everything anew.
    plane.process().kill();
    plane.restart();
    plane.wait_ready();
    assert_eq!(plane.wait_vip("shop/checkout", "Published")["address"], vip["address"]);

    // And it lets go of what is withdrawn.
    std::fs::remove_file(setup.clusters.root().join("east/checkout-access.yaml")).expect("the access is there");
    eventually("the VIP to be given back", Duration::from_secs(60), || plane.vips().is_empty().then_some(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_with_streams_of_their_own_by_delta() {
    is_proved_and_withdrawn(Speaks::Delta, "DELTA_GRPC").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_with_streams_of_their_own_by_sotw() {
    is_proved_and_withdrawn(Speaks::Sotw, "GRPC").await;
}
