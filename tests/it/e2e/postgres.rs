//! The store in a PostgreSQL database, which goes away in each way and comes back: nobody who is served notices.

use std::time::{Duration, Instant};

use super::{POD_PORT, Setup, clusterset, resolve};
use crate::support::eventually;
use crate::support::fleet::{ControlPlane, Speaks, ureq_get};
use crate::support::host::Host;
use crate::support::manifests::{Backend, access_yaml, service_yaml};
use crate::support::postgres::{PASSWORD, Postgres};
use crate::support::traffic::{Http, Stream};

const WITHIN: Duration = Duration::from_secs(30);
const LONG: bool = cfg!(feature = "long-checks");
/// For how long nobody must be given an address.
const HELD: Duration = Duration::from_secs(if LONG { 30 } else { 5 });
/// The same while the database is silent, which is how one looks that cannot be reached.
const HELD_SILENT: Duration = if LONG { Duration::from_secs(3600) } else { HELD };

/// The ledger as another program reads it, and as the API tells it.
fn ledgers(server: &Postgres, database: &str, plane: &ControlPlane) -> [Vec<String>; 2] {
    let held = server.query(database, "SELECT access || ' ' || address FROM causeway.ledger ORDER BY 1");
    let text = |vip: &serde_json::Value, field: &str| vip[field].as_str().unwrap_or_default().to_owned();
    let mut told: Vec<String> =
        plane.vips().iter().map(|vip| format!("{} {}", text(vip, "access"), text(vip, "address"))).collect();
    told.sort();
    [held, told]
}

/// The query of README.md, word for word.
fn readmes_query() -> String {
    let readme = include_str!("../../../README.md");
    let line = readme.lines().find(|line| line.starts_with("psql ")).expect("README.md shows a query");
    line.split('"').nth(1).expect("in quotes").to_owned()
}

fn metric(plane: &ControlPlane, name: &str) -> f64 {
    let page = ureq_get(plane.admin, "/metrics").expect("the admin interface answers").1;
    let line = page.lines().find_map(|line| line.strip_prefix(&format!("{name}{{backend=\"postgres\"}} ")));
    line.unwrap_or_else(|| panic!("{name} is not in {page}")).parse().expect("a number")
}

fn add_access(setup: &Setup, name: &str) {
    let service = Setup::service(name, "tcp");
    setup.clusters.write("east", &format!("{name}.yaml"), &service_yaml("east", &service, &[]));
    setup.clusters.write("east", &format!("{name}-access.yaml"), &access_yaml(name, "edge", 1));
}

/// The service's pods are now these of the primary's, each started.
async fn move_to_pod(setup: &Setup, index: u8) -> String {
    let (pod, address) = (format!("checkout-east-{index}"), setup.pod_address("east", index));
    setup.pods.start(&pod, address, POD_PORT).await;
    setup.clusters.service("east", &Setup::service("checkout", "http"), &[Backend::ready(&pod, address)]);
    setup.clusters.service("west", &Setup::service("checkout", "http"), &[]);
    let object = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{namespace: shop, name: {pod}, uid: uid-{pod}}}\nspec: {{nodeName: n1, \
         containers: [{{name: main, image: x}}]}}\nstatus: {{phase: Running, podIP: {address}}}\n"
    );
    setup.clusters.write("east", "pods.yaml", &object);
    pod
}

/// Waits until the pod answers; says after how long.
async fn wait_answer(to: std::net::SocketAddr, pod: &str) -> Duration {
    let begun = Instant::now();
    loop {
        if Http::default().get(to, &clusterset("checkout")).await.is_ok_and(|(_, body)| body.contains(pod)) {
            return begun.elapsed();
        }
        assert!(begun.elapsed() < WITHIN, "{pod} never answered");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_the_database_costs_no_request() {
    let server = Postgres::start();
    let database = server.database();
    let setup = Setup::new();
    setup.deploy(&Setup::service("checkout", "http"), 0..2, "edge").await;
    let mut plane = setup.control_plane_with(&["--store", &server.url(&database)]);
    let mut gateway = setup.gateway("gw-1", &plane, Speaks::Delta);
    gateway.start_envoy().start_agent();
    let to = resolve(&plane, "checkout");

    // A restart finds what was given.
    let before = ledgers(&server, &database, &plane);
    assert_eq!((before[0].len(), &before[0]), (1, &before[1]));
    plane.process().kill();
    plane.restart();
    plane.wait_ready();
    assert_eq!(ledgers(&server, &database, &plane), before);
    let stream = Stream::start(to, &clusterset("checkout"), 100);

    type Act = fn(&Postgres);
    let outages: [(&str, Act, Act, Duration); 3] = [
        ("stopped", Postgres::stop, Postgres::resume, HELD),
        ("frozen", Postgres::freeze, Postgres::thaw, HELD_SILENT),
        ("killed", Postgres::crash, Postgres::resume, HELD),
    ];
    let mut pods = Vec::new();
    for (index, (how, go, come, held)) in (10..).zip(outages) {
        go(&server);
        // While nobody knows yet, too.
        let name = format!("new-{how}");
        add_access(&setup, &name);
        let pod = move_to_pod(&setup, index).await;
        let arrived = wait_answer(to, &pod).await;
        assert!(arrived < Duration::from_secs(3), "{how}: an endpoint took {arrived:?}");
        let begun = Instant::now();
        eventually("the outage to be told", WITHIN, || {
            plane.command(&["status"]).contains("the store cannot be used").then_some(())
        });
        let told = begun.elapsed();
        assert_eq!(metric(&plane, "causeway_store_up"), 0.0, "{how}");
        let (until, mut slowest) = (Instant::now() + held, Duration::ZERO);
        while Instant::now() < until {
            let asked = Instant::now();
            let vips = plane.vips();
            slowest = slowest.max(asked.elapsed());
            assert!(vips.iter().all(|vip| vip["access"] != format!("shop/{name}")), "{how}: it was given an address");
            std::thread::sleep(Duration::from_millis(50));
        }
        // A statement is waited for 5 s.
        assert!(slowest < Duration::from_secs(2), "{how}: the owner took {slowest:?} to answer");
        // Again while it is known.
        let pod = move_to_pod(&setup, index + 10).await;
        let late = wait_answer(to, &pod).await;
        pods.push(pod);

        let begun = Instant::now();
        come(&server);
        plane.wait_vip(&format!("shop/{name}"), "Published");
        let given = begun.elapsed();
        let [held, told_vips] = eventually("the ledger and the API to say the same", WITHIN, || {
            let both = ledgers(&server, &database, &plane);
            (both[0] == both[1]).then_some(both)
        });
        assert!(
            before[0].iter().all(|row| held.contains(row)) && held.len() == pods.len() + 1,
            "{held:?} {told_vips:?}"
        );
        eventually("the inventory to be complete", WITHIN, || {
            let found = server.query(&database, "SELECT name FROM causeway.pods ORDER BY 1");
            (found == [pods.last()?.as_str()]).then_some(())
        });
        let asked = server.query(&database, &readmes_query());
        assert!(
            asked.len() == 1 && asked[0].starts_with(&format!("east|shop|{}|n1|", pods[pods.len() - 1])),
            "{asked:?}"
        );
        assert_eq!(metric(&plane, "causeway_store_up"), 1.0, "{how}");
        println!(
            "postgres, {how}: an endpoint arrived after {arrived:?} and {late:?}, the outage was told after {told:?}, the \
             slowest answer of the owner took {slowest:?}, a VIP was there {given:?} after the server's return"
        );
    }
    let tally = stream.stop().await;
    println!("postgres: {} requests, {} failed", tally.total, tally.failed.len());
    assert_eq!(tally.failed, Vec::<String>::new());
    assert!(metric(&plane, "causeway_store_errors_total") > 0.0);
    assert!(!plane.log().contains(PASSWORD) && !plane.log().contains("p%40ss"), "the password is in the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_waits_for_the_database_and_gives_nothing_before() {
    let server = Postgres::start();
    let database = server.database();
    let setup = Setup::new();
    setup.deploy(&Setup::service("checkout", "http"), 0..1, "edge").await;
    let mut plane = setup.control_plane_with(&["--store", &server.url(&database)]);
    let mut gateway = setup.gateway("gw-1", &plane, Speaks::Delta);
    gateway.start_envoy().start_agent();
    let to = resolve(&plane, "checkout");
    let before = ledgers(&server, &database, &plane);
    let stream = Stream::start(to, &clusterset("checkout"), 50);

    plane.process().kill();
    server.stop();
    plane.restart();
    eventually("the wait to be told", WITHIN, || plane.log().contains("waiting for the store").then_some(()));
    assert!(ureq_get(plane.admin, "/readyz").is_err(), "it serves without a ledger");
    server.resume();
    plane.wait_ready();
    plane.wait_vip("shop/checkout", "Published");
    assert_eq!(ledgers(&server, &database, &plane), before);
    let tally = stream.stop().await;
    assert_eq!(tally.failed, Vec::<String>::new());

    // A second one is told who is there.
    let second = tempfile::tempdir().unwrap();
    let mut other = ControlPlane::new(
        second.path(),
        &["--manifests", &setup.clusters.root().display().to_string()],
        crate::support::free_addr(),
        &["--store", &server.url(&database)],
    );
    other.restart();
    let pid = plane.process().pid();
    eventually("the second to be refused", WITHIN, || {
        let log = other.log();
        (log.contains("is in use by `causeway ") && log.contains(&format!(" {pid} "))).then_some(())
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn dropped_packets_are_an_outage_like_any_other() {
    let host = Host::new();
    let server = Postgres::start_at(host.far(), Some(&host.name));
    let database = server.database();
    let setup = Setup::new();
    setup.deploy(&Setup::service("checkout", "http"), 0..2, "edge").await;
    let plane = setup.control_plane_with(&["--store", &server.url(&database)]);
    let mut gateway = setup.gateway("gw-1", &plane, Speaks::Delta);
    gateway.start_envoy().start_agent();
    let to = resolve(&plane, "checkout");
    let stream = Stream::start(to, &clusterset("checkout"), 100);

    host.drop_packets();
    add_access(&setup, "new");
    let pod = move_to_pod(&setup, 10).await;
    let arrived = wait_answer(to, &pod).await;
    assert!(arrived < Duration::from_secs(3), "an endpoint took {arrived:?}");
    eventually("the outage to be told", WITHIN, || {
        plane.command(&["status"]).contains("the store cannot be used").then_some(())
    });
    tokio::time::sleep(HELD).await;
    assert!(plane.vips().iter().all(|vip| vip["access"] != "shop/new"), "it was given an address");

    // The server still has the old session, and its lock.
    host.pass_packets();
    let begun = Instant::now();
    plane.wait_vip("shop/new", "Published");
    println!("postgres, dropped: an endpoint arrived after {arrived:?}, a VIP {:?} after the return", begun.elapsed());
    let [held, told] = ledgers(&server, &database, &plane);
    assert_eq!((held.len(), &held), (2, &told));
    let tally = stream.stop().await;
    assert_eq!(tally.failed, Vec::<String>::new());
}
