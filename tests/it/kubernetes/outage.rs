//! API servers that stop, fall silent, lose their etcd or refuse the credential: what was known stays.

use std::time::{Duration, Instant};

use super::setup::{Setup, wait_cluster};
use crate::e2e::{clusterset, resolve};
use crate::support::eventually;
use crate::support::fleet::ControlPlane;
use crate::support::traffic::Stream;

/// Noticed after 10 s of trouble, a pulse and an answer that is waited for.
const STALE: Duration = Duration::from_secs(30);
const SILENT: Duration = Duration::from_secs(60);
/// What the issue of a cluster's return may take.
const BACK: Duration = Duration::from_secs(20);

fn endpoints(plane: &ControlPlane, service: &str) -> (u64, u64) {
    let row = plane.row("/api/v1/services", "name", service).expect("the service is there");
    (row["ready"].as_u64().unwrap_or_default(), row["stale"].as_u64().unwrap_or_default())
}

/// Lets one cluster be in trouble while requests go on; the other changes meanwhile.
async fn endure(setup: &Setup, plane: &mut ControlPlane, within: Duration, fail: impl Fn(), mend: impl Fn()) {
    wait_cluster(plane, "east", "Synced", STALE);
    let gateway = setup.gateway(plane);
    let stream = Stream::start(resolve(plane, "checkout"), &clusterset("checkout"), 50);
    let before = endpoints(plane, "checkout");

    fail();
    let failed_at = Instant::now();
    wait_cluster(plane, "east", "Unknown", within);
    println!("stale after {:.1} s", failed_at.elapsed().as_secs_f64());
    assert_eq!(endpoints(plane, "checkout").0, before.0, "an endpoint was withdrawn");
    // What changes elsewhere is followed meanwhile.
    let extra = setup.start_pods("primary", "catalog", 1).await;
    setup.put_service("primary", "catalog", &extra);
    eventually("the other cluster's change", STALE, || plane.row("/api/v1/services", "name", "catalog"));
    // A restart knows no more than what was kept.
    plane.process().kill();
    plane.restart();
    plane.wait_ready();
    wait_cluster(plane, "east", "Unknown", within);
    assert_eq!(endpoints(plane, "checkout").0, before.0, "an endpoint was lost over a restart");

    let updates = || gateway.stat("cluster_manager.cds.update_success").unwrap_or_default();
    eventually("the gateway to be told everything again", STALE, || (updates() > 0).then_some(()));
    mend();
    let mended_at = Instant::now();
    wait_cluster(plane, "east", "Synced", BACK);
    println!("back after {:.1} s", mended_at.elapsed().as_secs_f64());
    assert_eq!(endpoints(plane, "checkout"), before);
    assert_eq!(stream.stop().await.failed, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_api_server_withdraws_nothing() {
    let setup = Setup::apart(&["primary", "east"]);
    setup.deploy("checkout", 2).await;
    let mut plane = setup.started();
    let east = setup.server("east");
    endure(&setup, &mut plane, STALE, || east.stop(), || east.resume()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_etcd_and_a_silent_server_withdraw_nothing() {
    let setup = Setup::apart(&["primary", "east"]);
    setup.deploy("checkout", 2).await;
    let mut plane = setup.started();
    let east = setup.server("east");
    endure(&setup, &mut plane, STALE, || east.etcd().stop(), || east.etcd().resume()).await;
    // Connections stay open and nothing comes over them any more.
    endure(&setup, &mut plane, SILENT, || east.signal("STOP"), || east.signal("CONT")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_the_server_has_forgotten_is_listed_anew() {
    // Both clusters are on one etcd, so that what changes in one moves the other's revision on.
    let setup = Setup::new(&["primary", "east"]);
    setup.deploy("checkout", 2).await;
    let plane = setup.started();
    wait_cluster(&plane, "east", "Synced", STALE);
    let _gateway = setup.gateway(&plane);
    let stream = Stream::start(resolve(&plane, "checkout"), &clusterset("checkout"), 50);
    let east = setup.server("east");
    east.stop();
    for _ in 0..20 {
        setup.primary().namespace("noise");
    }
    // A server that starts knows nothing of before: to resume there is answered by 410.
    east.resume();
    let one = setup.start_pods("east", "catalog", 1).await;
    setup.put_service("east", "catalog", &one);
    eventually("what came since", STALE, || plane.row("/api/v1/services", "name", "catalog"));
    wait_cluster(&plane, "east", "Synced", BACK);
    assert_eq!(endpoints(&plane, "checkout"), (4, 0));
    assert_eq!(stream.stop().await.failed, Vec::<String>::new());
}
