//! IPv4 and IPv6 side by side. The gateway has a network namespace, so that addresses of both
//! families can be made local there; pods and clients are on this side of its interface.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use causeway::dns::QueryType;

use super::{POD_PORT, PORT, Setup, clusterset};
use crate::support::fleet::{ControlPlane, Gateway, Speaks};
use crate::support::host::Host;
use crate::support::manifests::{Backend, access_yaml, service_yaml};
use crate::support::{eventually, free_addr, traffic};

const WITHIN: Duration = Duration::from_secs(15);

fn pool_text(v4: &str, v6: &str) -> String {
    format!(
        "apiVersion: causeway.dev/v1alpha1\nkind: VipPool\nmetadata: {{name: dual}}\nspec:\n  ranges: [\"{v4}\", \"{v6}\"]\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn one_name_has_addresses_of_both_families_that_lead_to_pods_of_both() {
    let setup = Setup::new();
    let host = Host::new();
    let (v4, v6) = ("203.0.113.32/28", "fd00:11::/124");
    let near6 = host.add_ipv6();
    let near4: IpAddr = host.near.parse().expect("an address");
    setup.clusters.write("east", "pool.yaml", &pool_text(v4, v6));
    let service = Setup::service("checkout", "http");
    // east has IPv4 pods, west has IPv6 pods.
    setup.pods.start("checkout-east-0", near4, POD_PORT).await;
    setup.pods.start("checkout-west-0", near6, POD_PORT).await;
    setup.clusters.service("east", &service, &[Backend::ready("checkout-east-0", near4)]);
    let text = service_yaml("west", &service, &[Backend::ready("checkout-west-0", near6)]);
    setup.clusters.write("west", "checkout.yaml", &text.replace("addressType: IPv4", "addressType: IPv6"));
    let access = access_yaml("checkout", "dual", 1).replace("pool: dual", "pool: dual, families: [IPv4, IPv6]");
    setup.clusters.write("east", "access.yaml", &format!("{access}  hostnames: [checkout.example.com]\n"));

    let port = free_addr().port();
    let xds = SocketAddr::from(([0, 0, 0, 0], port));
    let mut plane = ControlPlane::start_with(setup.dir.path(), setup.clusters.root(), xds, &["--insecure"]);
    let to_plane = SocketAddr::new(near4, port);
    let mut gateway = Gateway::new(setup.dir.path(), "gw-1", to_plane, Speaks::Delta).in_namespace(&host.name);
    gateway.start_envoy().start_agent();

    // One of the two families cannot be bound: that family alone is not answered.
    let vip6 = eventually("the IPv6 VIP", WITHIN, || {
        let vips = plane.vips();
        vips.iter().filter_map(|vip| vip["address"].as_str()).find(|a| a.contains(':')).map(str::to_owned)
    });
    host.add_address(&vip6);
    for pool in [v4, v6] {
        host.route_here(pool);
    }
    let name = clusterset("checkout");
    let address6 = eventually("AAAA", WITHIN, || plane.resolve_as(&name, QueryType::Aaaa).first().copied());
    assert!(address6.is_ipv6() && plane.resolve(&name).is_empty());
    host.make_local(v4);
    let address4 = eventually("A", WITHIN, || plane.resolve(&name).first().copied());

    let mut held: Vec<String> =
        plane.vips().iter().map(|vip| vip["address"].as_str().unwrap_or_default().to_owned()).collect();
    held.sort();
    let mut expected = vec![address4.to_string(), address6.to_string()];
    expected.sort();
    assert_eq!(held, expected);
    for is_restarted in [false, true] {
        if is_restarted {
            plane.process().kill();
            plane.restart();
            plane.wait_ready();
        }
        for (kind, address) in [(QueryType::A, address4), (QueryType::Aaaa, address6)] {
            for name in [name.as_str(), "checkout.example.com"] {
                eventually("the address", WITHIN, || (plane.resolve_as(name, kind) == [address]).then_some(()));
            }
            let to = SocketAddr::new(address, PORT);
            let tally = traffic::send(to, "checkout.example.com", 20).await;
            assert_eq!(tally.failed, Vec::<String>::new(), "{to}");
            assert!(tally.answered_by("-east-") && tally.answered_by("-west-"), "{tally:?}");
            // The address itself as the host, in brackets for IPv6.
            assert_eq!(traffic::send(to, &to.to_string(), 3).await.failed, Vec::<String>::new());
        }
    }
}
