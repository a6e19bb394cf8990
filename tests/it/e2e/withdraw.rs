//! Accesses and pools that are edited and deleted while requests run.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::{PORT, Setup, clusterset, resolve};
use crate::support::fleet::{ControlPlane, Speaks, causeway};
use crate::support::manifests::{access_yaml, pool_yaml};
use crate::support::traffic::{self, Http, Stream};
use crate::support::{eventually, in_net};

const WITHIN: Duration = Duration::from_secs(10);
const TTL_SECONDS: u32 = 2;
/// What `--drain 1s` and the TTL come to.
const SERVED_FOR: Duration = Duration::from_secs(3);

/// How many rows the ledger's file has for the address, as another program sees it.
fn ledger_rows(plane: &ControlPlane, address: SocketAddr) -> String {
    let output = std::process::Command::new("sqlite3")
        .arg("-readonly")
        .arg(plane.dir.join("data").join("ledger.db"))
        .arg(format!("SELECT count(*) FROM ledger WHERE address = '{}'", address.ip()))
        .output()
        .expect("the tests need the command sqlite3");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

async fn a_deleted_access_goes_step_by_step(speaks: Speaks) {
    let setup = Setup::new();
    setup.deploy(&Setup::service("checkout", "http"), 0..1, "edge").await;
    setup.clusters.write("east", "checkout-access.yaml", &access_yaml("checkout", "edge", TTL_SECONDS));
    let plane = setup.control_plane_with(&["--drain", "1s", "--grace", "2s"]);
    let mut gateway = setup.gateway("gw-1", &plane, speaks);
    gateway.start_envoy().start_agent();
    let to = resolve(&plane, "checkout");
    plane.wait_vip("shop/checkout", "Published");

    setup.clusters.remove("east", "checkout-access.yaml");
    let name = clusterset("checkout");
    eventually("the name not to be answered", WITHIN, || plane.resolve(&name).is_empty().then_some(()));
    let forgotten = Instant::now();
    let (mut states, mut served) = (vec![], 0);
    while gateway.listens_on(to) {
        // A resolver's client may still come, under each name that led here.
        for host in [name.clone(), format!("west.{name}")] {
            let answer = Http::default().get(to, &host).await;
            let is_due = forgotten.elapsed() < SERVED_FOR - Duration::from_millis(300);
            assert!(!is_due || answer.as_ref().is_ok_and(|(status, _)| *status == 200), "{host}: {answer:?}");
            served += usize::from(answer.is_ok());
        }
        if let Some(vip) = plane.row("/api/v1/vips", "address", &to.ip().to_string()) {
            let state = vip["state"].as_str().unwrap_or_default().to_owned();
            if states.last() != Some(&state) {
                states.push(state);
            }
            assert_eq!(vip["name"], "", "a VIP that is withdrawn has no name");
        }
        assert!(forgotten.elapsed() < WITHIN, "the listener stays: {states:?}");
        assert!(plane.resolve(&name).is_empty(), "the name came back");
    }
    let (gone, least) = (forgotten.elapsed(), SERVED_FOR - Duration::from_millis(200));
    assert!(gone > least, "the listener went {gone:?} after the name, not {SERVED_FOR:?}");
    assert!(served > 10);
    // The name goes at once; what the ledger says of it follows, and may be seen a moment later.
    let seen: Vec<&String> = states.iter().skip_while(|state| *state == "Bound").take(2).collect();
    assert_eq!(seen, ["Unpublishing", "Draining"], "{states:?}");
    eventually("the address to be free", WITHIN, || (ledger_rows(&plane, to) == "0").then_some(()));
    assert!(plane.vips().is_empty());
    eventually("Envoy to drop the cluster", WITHIN, || {
        (!gateway.page("/clusters")?.contains("shop/checkout")).then_some(())
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_access_goes_step_by_step_delta() {
    a_deleted_access_goes_step_by_step(Speaks::Delta).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_access_goes_step_by_step_sotw() {
    a_deleted_access_goes_step_by_step(Speaks::Sotw).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_access_that_comes_back_has_its_address_without_interruption() {
    let setup = Setup::new();
    setup.deploy(&Setup::service("checkout", "http"), 0..2, "edge").await;
    let plane = setup.control_plane_with(&["--drain", "3s", "--grace", "2s"]);
    let mut gateway = setup.gateway("gw-1", &plane, Speaks::Delta);
    gateway.start_envoy().start_agent();
    let to = resolve(&plane, "checkout");
    let stream = Stream::start(to, &clusterset("checkout"), 100);
    for phase in ["Unpublishing", "Draining"] {
        setup.clusters.remove("east", "checkout-access.yaml");
        plane.wait_vip("shop/checkout", phase);
        setup.clusters.write("east", "checkout-access.yaml", &access_yaml("checkout", "edge", 1));
        assert_eq!(plane.wait_vip("shop/checkout", "Published")["address"], to.ip().to_string());
        assert_eq!(resolve(&plane, "checkout"), to);
    }
    let tally = stream.stop().await;
    assert!(tally.failed.is_empty() && tally.total > 50, "{tally:?}");
}

/// A service of two ports, both of which lead to the pods' one.
fn two_ports(text: &str) -> String {
    text.replace(
        "appProtocol: http}",
        "appProtocol: http}\n  - {name: extra, port: 8081, targetPort: 9080, appProtocol: http}",
    )
    .replace("ports: [{name: main, port: 9080}]", "ports: [{name: main, port: 9080}, {name: extra, port: 9080}]")
}

fn edited_access(ports: &str, hostnames: &str) -> String {
    format!("{}  hostnames: [{hostnames}]\n{ports}", access_yaml("checkout", "edge", 1))
}

#[tokio::test(flavor = "multi_thread")]
async fn edits_of_names_and_ports_take_effect_and_leave_other_ports_alone() {
    let setup = Setup::new();
    setup.deploy(&Setup::service("checkout", "http"), 0..1, "edge").await;
    for cluster in ["east", "west"] {
        let text = two_ports(&setup.clusters.read(cluster, "checkout.yaml"));
        setup.clusters.write(cluster, "checkout.yaml", &text);
    }
    let plane = setup.control_plane_with(&["--drain", "0s", "--grace", "2s"]);
    let mut gateway = setup.gateway("gw-1", &plane, Speaks::Delta);
    gateway.start_envoy().start_agent();
    let to = resolve(&plane, "checkout");
    let extra = SocketAddr::new(to.ip(), PORT + 1);
    eventually("both ports", WITHIN, || (gateway.listens_on(to) && gateway.listens_on(extra)).then_some(()));
    let name = clusterset("checkout");
    assert_eq!(traffic::send(extra, &name, 5).await.failed, Vec::<String>::new());
    let stream = Stream::start(to, &name, 100);

    setup.clusters.write("east", "checkout-access.yaml", &edited_access("  ports: [{name: main}]\n", "a.example.com"));
    eventually("the host name", WITHIN, || (plane.resolve("a.example.com") == [to.ip()]).then_some(()));
    eventually("the port to go", WITHIN, || (!gateway.listens_on(extra)).then_some(()));
    assert!(Http::default().get(extra, &name).await.is_err(), "nobody listens there");
    eventually_answers(to, "a.example.com").await;

    setup.clusters.write(
        "east",
        "checkout-access.yaml",
        &edited_access("  ports: [{number: 8081}, {name: main}]\n", "b.example.com"),
    );
    eventually("the other host name", WITHIN, || (plane.resolve("b.example.com") == [to.ip()]).then_some(()));
    assert!(plane.resolve("a.example.com").is_empty());
    eventually("the port to come", WITHIN, || gateway.listens_on(extra).then_some(()));
    eventually_answers(extra, "b.example.com").await;
    let (status, _) = Http::default().get(extra, "a.example.com").await.expect("Envoy answers");
    assert_eq!(status, 404, "a name that is gone is not served");
    let tally = stream.stop().await;
    assert!(tally.failed.is_empty() && tally.total > 10, "{tally:?}");
    assert_eq!(plane.wait_vip("shop/checkout", "Published")["address"], to.ip().to_string());
}

/// Names reach DNS with the plan and Envoy an ACK later.
async fn eventually_answers(to: SocketAddr, host: &str) {
    let until = Instant::now() + WITHIN;
    loop {
        let answer = Http::default().get(to, host).await;
        if answer.as_ref().is_ok_and(|(status, _)| *status == 200) {
            return;
        }
        assert!(Instant::now() < until, "{host} at {to}: {answer:?}");
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_that_shrinks_keeps_vips_in_use_and_gives_new_ones_from_what_is_left() {
    let setup = Setup::new();
    setup.deploy(&Setup::service("checkout", "http"), 0..1, "edge").await;
    let mut plane = setup.control_plane_with(&["--drain", "0s", "--grace", "2s"]);
    let mut gateway = setup.gateway("gw-1", &plane, Speaks::Delta);
    gateway.start_envoy().start_agent();
    let to = resolve(&plane, "checkout");
    let stream = Stream::start(to, &clusterset("checkout"), 50);
    let range = format!("{}/28", in_net(setup.vip_net, 128));
    setup.clusters.write("east", "pool.yaml", &pool_yaml("edge", &range));
    let told = format!("{} is no longer one that pool edge gives; it is kept", to.ip());
    for is_restarted in [false, true] {
        if is_restarted {
            plane.process().kill();
            plane.restart();
            plane.wait_ready();
        }
        eventually("it to be told", WITHIN, || plane.command(&["status"]).contains(&told).then_some(()));
        assert_eq!(plane.wait_vip("shop/checkout", "Published")["address"], to.ip().to_string());
    }
    setup.deploy(&Setup::service("catalog", "http"), 10..11, "edge").await;
    let catalog = resolve(&plane, "catalog");
    assert!(
        (128..144).contains(&catalog.ip().to_string().rsplit('.').next().and_then(|n| n.parse().ok()).unwrap_or(0))
    );

    // The whole pool goes: what it gave stays.
    setup.clusters.remove("east", "pool.yaml");
    eventually("it to be told", WITHIN, || plane.command(&["status"]).contains("pool edge is gone").then_some(()));
    for (service, to) in [("checkout", to), ("catalog", catalog)] {
        assert_eq!(resolve(&plane, service), to);
        assert_eq!(traffic::send(to, &clusterset(service), 5).await.failed, Vec::<String>::new());
    }
    assert_eq!(stream.stop().await.failed, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_withdrawal_goes_on_after_restarts_and_without_a_gateway_that_died() {
    let setup = Setup::new();
    setup.deploy(&Setup::service("checkout", "http"), 0..1, "edge").await;
    setup.deploy(&Setup::service("catalog", "http"), 10..11, "edge").await;
    let mut plane = setup.control_plane_with(&["--drain", "1s", "--grace", "2s"]);
    let mut gateways = [setup.gateway("gw-1", &plane, Speaks::Delta), setup.gateway("gw-2", &plane, Speaks::Sotw)];
    for gateway in &mut gateways {
        gateway.start_envoy().start_agent();
    }
    let (checkout, catalog) = (resolve(&plane, "checkout"), resolve(&plane, "catalog"));
    eventually("both gateways to have both", WITHIN, || {
        plane.vips().iter().all(|vip| vip["bound"] == "2/2").then_some(())
    });

    // It dies while the first VIP drains, and one gateway with it for good.
    setup.clusters.remove("east", "checkout-access.yaml");
    plane.wait_vip("shop/checkout", "Draining");
    plane.process().kill();
    gateways[1].stop_envoy();
    gateways[1].stop_agent();
    assert!(gateways[0].listens_on(checkout));
    plane.restart();
    plane.wait_ready();
    let restarted = Instant::now();
    assert!(plane.resolve(&clusterset("checkout")).is_empty());
    eventually("the listener to go", WITHIN, || (!gateways[0].listens_on(checkout)).then_some(()));
    eventually("the address to be free", WITHIN, || (ledger_rows(&plane, checkout) == "0").then_some(()));
    let waited = restarted.elapsed();
    assert!(waited > Duration::from_millis(1500), "the other gateway may have it still: freed after {waited:?}");

    // What was not touched is as it was.
    assert_eq!(resolve(&plane, "catalog"), catalog);
    let tally = traffic::send(catalog, &clusterset("catalog"), 10).await;
    assert_eq!(tally.failed, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_envoy_that_drains_gives_its_names_up_and_serves_until_it_ends() {
    let setup = Setup::new();
    setup.deploy(&Setup::service("checkout", "http"), 0..1, "edge").await;
    let plane = setup.control_plane_with(&[]);
    let mut gateway = setup.gateway("gw-1", &plane, Speaks::Delta);
    gateway.start_envoy().start_agent();
    let to = resolve(&plane, "checkout");
    let name = clusterset("checkout");

    let requests = Stream::start(to, &name, 50);
    let admin = gateway.admin.to_string();
    let mut draining = causeway().args(["drain", "--envoy-admin", &admin, "--for", "60s"]).spawn().expect("it runs");
    eventually("the name not to be answered", WITHIN, || plane.resolve(&name).is_empty().then_some(()));
    assert!(draining.try_wait().unwrap().is_none(), "it waits, as the agent has to stay");
    let tally = requests.stop().await;
    assert!(tally.failed.is_empty(), "{:?}", tally.failed);

    // It ends with the Envoy, and there is none then that could be told.
    gateway.stop_envoy();
    let status = eventually("the command to end", WITHIN, || draining.try_wait().unwrap());
    assert!(status.success());
    let output = causeway().args(["drain", "--envoy-admin", &admin, "--for", "1s"]).output().expect("it runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && errors.contains("cannot drain the Envoy at --envoy-admin"), "{errors}");
}
