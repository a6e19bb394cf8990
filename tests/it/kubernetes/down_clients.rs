//! A client in a sub-cluster that nothing outside reaches: it knows the cluster's own DNS and Services alone, which have
//! what came down, and its requests are answered by the primary's pods.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use super::down::{POOL, Stage, WITHIN, wait_for, wait_gone};
use super::mcs::{self, VERSIONS};
use super::members::Scene;
use super::setup::{PORT, Setup};
use crate::support::host::{Host, ip};
use crate::support::node::Node;
use crate::support::{eventually, free_addr};

/// Lets a host reach the pool at another, straight.
fn connect(client: &Host, gateway: &Host, pool: &str) {
    let (from, to) = (&client.name, &gateway.name);
    let (near, far) = ("198.19.77.1", "198.19.77.2");
    ip(&format!("-n {from} link add pool type veth peer name clients netns {to}"));
    for (host, link, address) in [(from, "pool", near), (to, "clients", far)] {
        ip(&format!("-n {host} addr add {address}/30 dev {link}"));
        ip(&format!("-n {host} link set {link} up"));
    }
    ip(&format!("-n {from} route add {pool} via {far} dev pool"));
    ip(&format!("-n {to} route add {}/32 via {near} dev clients", client.far()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_reaches_pods_of_the_primary_by_its_own_dns_and_services() {
    let hidden = Host::new();
    let near: IpAddr = hidden.near.parse().expect("an address");
    let door = SocketAddr::new(near, free_addr().port());
    let stage = Stage::with(Setup::hidden(&hidden), POOL, &["--member-addr", &door.to_string()]);
    let server = stage.setup.server("hidden");
    mcs::install(server, VERSIONS);
    server.kubectl(&["label", "namespace", "shop", "causeway.dev/sync-services=true"]);
    connect(&hidden, &stage.host, POOL);
    let node = Node::start(stage.setup.dir.path(), server, &hidden);
    stage.serve("primary", "checkout", 2).await;
    stage.access("checkout");
    let vip = stage.published("checkout").to_string();

    // What the client's cluster has is all that it knows; nothing has come down yet.
    assert_eq!(node.resolve("checkout"), None);
    assert_eq!(node.resolve("checkout.shop.svc.clusterset.local"), None);
    let Stage { plane, gateway: _gateway, setup, host: _host } = stage;
    let scene = Scene { plane, door, via: None, setup };
    let file = scene.join("hidden");
    let _member = scene.member_by("hidden", &file, hidden.command(env!("CARGO_BIN_EXE_causeway")));
    wait_for(server, "serviceimport", "checkout", |import| import["spec"]["ips"][0] == vip.as_str());
    let service = wait_for(server, "service", "checkout", |service| service["spec"]["clusterIP"].is_string());

    // By the clusterset's name straight to the VIP, and by the Service's own to its address, which kube-proxy leads there.
    let names = [
        ("checkout.shop.svc.clusterset.local", vip.as_str()),
        ("checkout", service["spec"]["clusterIP"].as_str().expect("it has one")),
    ];
    for (name, address) in names {
        let found = eventually(&format!("{name} to be known"), WITHIN, || node.resolve(name));
        assert_eq!(found, [address], "{name}");
        let url = format!("http://{name}:{PORT}/");
        eventually(&format!("{url} to be answered"), WITHIN, || node.get(&url).ok());
        let mut answers: BTreeMap<String, u32> = BTreeMap::new();
        for _ in 0..20 {
            *answers.entry(node.get(&url).unwrap_or_else(|error| panic!("{url}: {error}"))).or_default() += 1;
        }
        println!("{url} at {address}: {answers:?}");
        let pods: Vec<&String> = answers.keys().collect();
        assert_eq!(pods, ["checkout-primary-0", "checkout-primary-1"]);
    }

    // Both names go with the access.
    scene.setup.primary().kubectl(&["-n", "shop", "delete", "clusteraccess", "checkout"]);
    wait_gone(server, "service", "checkout");
    for (name, _) in names {
        eventually(&format!("{name} to be unknown"), WITHIN, || node.resolve(name).is_none().then_some(()));
    }
}
