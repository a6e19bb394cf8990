//! Sidecars, Envoys that do not say what they are, and Envoys that say to be the same one.

use std::net::SocketAddr;
use std::time::Duration;

use super::{Setup, clusterset, resolve};
use crate::support::fleet::{ControlPlane, Gateway, Speaks};
use crate::support::host::Host;
use crate::support::{eventually, free_addr, manifests, traffic};

const WITHIN: Duration = Duration::from_secs(30);

fn node(plane: &ControlPlane, id: &str) -> Option<serde_json::Value> {
    plane.row("/api/v1/nodes", "id", id)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_is_served_and_proves_nothing() {
    let setup = Setup::new();
    setup.deploy(&Setup::service("checkout", "http"), 0..1, "edge").await;
    let plane = setup.control_plane();
    let mut sidecar = Gateway::with_role(setup.dir.path(), "side-1", plane.xds, Speaks::Delta, "sidecar", &[]);
    sidecar.start_envoy().start_agent();
    let vip = plane.wait_vip("shop/checkout", "Allocated");
    let address = vip["address"].as_str().and_then(|a| a.parse().ok()).expect("an address");
    let to = SocketAddr::new(address, super::PORT);
    eventually("the sidecar's listener", WITHIN, || sidecar.listens_on(to).then_some(()));
    // Envoy shows a listener before it listens, and no agent's word is waited for here.
    eventually("a connection to it", WITHIN, || std::net::TcpStream::connect(to).ok());
    let tally = traffic::send(to, &clusterset("checkout"), 30).await;
    assert!(tally.failed.is_empty() && tally.answered_by("-east-") && tally.answered_by("-west-"), "{tally:?}");
    assert!(plane.resolve(&clusterset("checkout")).is_empty(), "a sidecar is no proof");
    let row = node(&plane, "side-1").expect("it is shown");
    assert_eq!((row["role"].as_str(), row["state"].as_str()), (Some("sidecar"), Some("Connected")));
    assert_eq!(plane.vips()[0]["gateways"], serde_json::json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecars_refusals_change_no_vips_state() {
    let setup = Setup::new();
    let hosts = [Host::new(), Host::new()];
    let pool = "203.0.113.64/28";
    setup.clusters.write("east", "pool.yaml", &manifests::pool_yaml("edge", pool));
    setup.deploy(&Setup::service("checkout", "http"), 0..1, "edge").await;
    let port = free_addr().port();
    let xds = SocketAddr::from(([0, 0, 0, 0], port));
    let plane = ControlPlane::start_with(setup.dir.path(), setup.clusters.root(), xds, &["--insecure"]);
    let near = |host: &Host| -> SocketAddr { format!("{}:{port}", host.near).parse().expect("an address") };
    let mut gateway =
        Gateway::new(setup.dir.path(), "gw-1", near(&hosts[0]), Speaks::Delta).in_namespace(&hosts[0].name);
    let mut sidecar = Gateway::with_role(setup.dir.path(), "side-1", near(&hosts[1]), Speaks::Sotw, "sidecar", &[])
        .in_namespace(&hosts[1].name);
    hosts[0].make_local(pool);
    sidecar.start_envoy();
    eventually("the sidecar to refuse", WITHIN, || node(&plane, "side-1").filter(|row| row["rejected"] == 1));
    assert_eq!(plane.wait_vip("shop/checkout", "Allocated")["bound"], "0/0");
    gateway.start_envoy().start_agent();
    let vip = plane.wait_vip("shop/checkout", "Published");
    assert_eq!((vip["bound"].as_str(), vip["gateways"].as_array().map(Vec::len)), (Some("1/1"), Some(1)));
    let status = plane.command(&["status"]);
    assert!(!status.contains("refuses"), "{status}");
    assert_eq!(sidecar.stat("listener_manager.lds.update_rejected"), Some(1));
    assert_eq!(sidecar.stat("cluster_manager.cds.update_rejected"), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_envoy_without_a_role_is_refused_and_told_why() {
    let setup = Setup::new();
    setup.deploy(&Setup::service("checkout", "http"), 0..1, "edge").await;
    let plane = setup.control_plane();
    for speaks in [Speaks::Delta, Speaks::Sotw] {
        let id = format!("gw-{speaks:?}");
        let mut gateway = setup.gateway(&id, &plane, speaks);
        let text = std::fs::read_to_string(gateway.bootstrap()).expect("the bootstrap is there");
        let nameless = text.replace("    \"role\": \"gateway\"\n", "");
        assert_ne!(text, nameless);
        std::fs::write(gateway.bootstrap(), nameless).expect("the bootstrap can be written");
        gateway.start_envoy();
        let reason = format!("node {id}: metadata has no `role`");
        // Envoy shows the status as it came, with what gRPC escapes.
        let escaped = reason.replace(' ', "%20").replace('`', "%60");
        eventually("Envoy's log to say why", WITHIN, || gateway.log().contains(&escaped).then_some(()));
        eventually("our log to say why", WITHIN, || plane.log().contains(&reason).then_some(()));
        assert!(node(&plane, &id).is_none(), "it is no node");
    }
    assert_eq!(plane.wait_vip("shop/checkout", "Allocated")["bound"], "0/0");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_envoys_of_one_id_are_both_served_and_the_weaker_proof_counts() {
    let setup = Setup::new();
    setup.deploy(&Setup::service("checkout", "http"), 0..1, "edge").await;
    let plane = setup.control_plane();
    let mut first = setup.gateway("gw-1", &plane, Speaks::Delta);
    let elsewhere = setup.dir.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).expect("a folder can be made");
    let mut second = Gateway::new(&elsewhere, "gw-1", plane.xds, Speaks::Delta);
    first.start_envoy();
    let to = resolve(&plane, "checkout");
    second.start_envoy();
    eventually("both to have the listener", WITHIN, || (first.listens_on(to) && second.listens_on(to)).then_some(()));
    plane.wait_vip("shop/checkout", "Published");
    // Both follow changes.
    setup.deploy(&Setup::service("catalog", "http"), 10..11, "edge").await;
    let catalog = resolve(&plane, "catalog");
    eventually("both to follow", WITHIN, || (first.listens_on(catalog) && second.listens_on(catalog)).then_some(()));
    let told = "2 streams use the node id gw-1";
    eventually("people to be told", WITHIN, || plane.command(&["status"]).contains(told).then_some(()));

    for gone in [&mut second, &mut first] {
        gone.stop_envoy();
        eventually("it to be told no more", WITHIN, || (!plane.command(&["status"]).contains(told)).then_some(()));
        tokio::time::sleep(Duration::from_millis(500)).await;
        if node(&plane, "gw-1").is_some_and(|row| row["state"] == "Connected") {
            plane.wait_vip("shop/checkout", "Published");
            let tally = traffic::send(to, &clusterset("checkout"), 20).await;
            assert_eq!(tally.failed, Vec::<String>::new());
        }
    }
    eventually("the name not to be answered", WITHIN, || {
        plane.resolve(&clusterset("checkout")).is_empty().then_some(())
    });
}
