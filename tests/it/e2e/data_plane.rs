//! A VIP that the data plane assigned from its own range.

use std::time::Duration;

use super::{Setup, clusterset, resolve};
use crate::support::fleet::{ControlPlane, Gateway, Speaks};
use crate::support::{eventually, in_net, manifests, traffic};

#[derive(Clone, Copy, Debug)]
enum Part {
    Agent,
    Envoy,
    ControlPlane,
}

const ORDERS: [[Part; 3]; 6] = {
    use Part::{Agent as A, ControlPlane as C, Envoy as E};
    [[A, E, C], [A, C, E], [E, A, C], [E, C, A], [C, A, E], [C, E, A]]
};

async fn restart(part: Part, plane: &mut ControlPlane, gateway: &mut Gateway) {
    match part {
        Part::Agent => {
            gateway.stop_agent();
            tokio::time::sleep(Duration::from_millis(200)).await;
            gateway.start_agent();
        }
        Part::Envoy => {
            gateway.stop_envoy();
            tokio::time::sleep(Duration::from_millis(200)).await;
            gateway.start_envoy();
        }
        Part::ControlPlane => {
            plane.process().kill();
            plane.restart();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_of_the_data_planes_own_range_is_published_and_stays() {
    let setup = Setup::new();
    setup.clusters.write("east", "rack.yaml", &manifests::data_plane_pool_yaml("rack"));
    setup.deploy(&Setup::service("catalog", "http"), 0..2, "rack").await;
    let mut plane = setup.control_plane();
    let range = format!("{}/28", in_net(setup.vip_net, 64));
    let mut gateway = setup.gateway("gw-1", &plane, Speaks::Delta).assigning(&range);
    gateway.start_envoy().start_agent();
    let vip = plane.wait_vip("shop/catalog", "Published");
    let address = vip["address"].as_str().expect("an address").to_owned();
    let last: u8 = address.rsplit('.').next().and_then(|n| n.parse().ok()).expect("IPv4");
    assert!((64..80).contains(&last), "{address} is not of {range}");
    assert_eq!(vip["assignedBy"], "gw-1");
    let tally = traffic::send(resolve(&plane, "catalog"), &clusterset("catalog"), 50).await;
    assert!(tally.failed.is_empty() && tally.answered_by("-east-") && tally.answered_by("-west-"), "{tally:?}");

    for order in ORDERS {
        for part in order {
            restart(part, &mut plane, &mut gateway).await;
            // Not waiting lets two restarts overlap; waiting lets each settle. Both have to hold.
            if matches!(order[0], Part::Envoy) {
                eventually("the control plane to answer", Duration::from_secs(20), || plane.try_get("/api/v1/vips"));
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
        }
        plane.wait_ready();
        let vip = plane.wait_vip("shop/catalog", "Published");
        assert_eq!(vip["address"], address, "after {order:?}");
        assert_eq!(plane.vips().len(), 1, "after {order:?}");
        let tally = traffic::send(resolve(&plane, "catalog"), &clusterset("catalog"), 20).await;
        assert!(tally.failed.is_empty(), "after {order:?}: {tally:?}");
    }
}
