//! The control plane is killed at random points while addresses are being allocated.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Setup, clusterset, resolve};
use crate::support::fleet::{ControlPlane, Speaks};
use crate::support::manifests::{access_yaml, pool_yaml, service_yaml};
use crate::support::postgres::Postgres;
use crate::support::traffic::Stream;
use crate::support::{eventually, in_net};

/// How often it is killed; the long checks take the 50.
const KILLS: u32 = if cfg!(feature = "long-checks") { 50 } else { 6 };

/// The ledger as the file has it, read by another program.
fn file_lines(plane: &ControlPlane) -> Vec<String> {
    let database = plane.dir.join("data").join("ledger.db");
    let output = std::process::Command::new("sqlite3")
        .arg("-readonly")
        .arg(&database)
        .arg("SELECT access, address FROM ledger ORDER BY slot")
        .output()
        .expect("the tests need the command sqlite3");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text").lines().map(str::to_owned).collect()
}

/// Address by access (each has one VIP here), of lines that another program has read.
fn ledger(lines: &[String]) -> BTreeMap<String, String> {
    let rows: Vec<(String, String)> = lines
        .iter()
        .filter_map(|line| line.rsplit_once('|'))
        .map(|(slot, address)| (slot.to_owned(), address.to_owned()))
        .collect();
    let mut addresses: Vec<&String> = rows.iter().map(|(_, address)| address).collect();
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), rows.len(), "an address is held twice: {rows:?}");
    let count = rows.len();
    let by_access: BTreeMap<String, String> = rows.into_iter().collect();
    assert_eq!(by_access.len(), count, "an access holds two addresses: {by_access:?}");
    by_access
}

#[tokio::test(flavor = "multi_thread")]
async fn no_vip_is_lost_doubled_or_moved_by_kill_9() {
    kill_again_and_again(&[], file_lines).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_vip_is_lost_doubled_or_moved_by_kill_9_with_a_database() {
    let server = Postgres::shared();
    let database = server.database();
    let lines = |_: &ControlPlane| server.query(&database, "SELECT access, address FROM causeway.ledger ORDER BY slot");
    kill_again_and_again(&["--store", &server.url(&database)], lines).await;
}

async fn kill_again_and_again(flags: &[&str], lines: impl Fn(&ControlPlane) -> Vec<String>) {
    let setup = Setup::new();
    let net = setup.vip_net;
    setup.clusters.write("east", "pool.yaml", &pool_yaml("edge", &format!("{}/24", in_net(net, 0))));
    setup.deploy(&Setup::service("checkout", "http"), 0..2, "edge").await;
    let mut plane = setup.control_plane_with(flags);
    let mut gateway = setup.gateway("gw-1", &plane, Speaks::Delta);
    gateway.start_envoy().start_agent();
    let to = resolve(&plane, "checkout");
    let stream = Stream::start(to, &clusterset("checkout"), 100);

    // Accesses whose VIP was seen through the API: promises that have to hold for ever after.
    let mut promised: BTreeMap<String, String> = BTreeMap::new();
    // What the ledger held after the last kill, whether or not anybody had seen it.
    let mut before: BTreeMap<String, String> = BTreeMap::new();
    let mut seed = 0x9e37_79b9_u32;
    for round in 0..KILLS {
        for nth in 0..3 {
            let service = Setup::service(&format!("svc-{round}-{nth}"), "tcp");
            setup.clusters.write("east", &format!("{}.yaml", service.name), &service_yaml("east", &service, &[]));
            setup.clusters.write(
                "east",
                &format!("{}-access.yaml", service.name),
                &access_yaml(&service.name, "edge", 1),
            );
        }
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        tokio::time::sleep(Duration::from_millis(u64::from(seed >> 16) % 150)).await;
        for vip in plane.vips() {
            let slot = vip["access"].as_str().unwrap_or_default().to_owned();
            let address = vip["address"].as_str().unwrap_or_default().to_owned();
            let earlier = promised.entry(slot.clone()).or_insert(address.clone());
            assert_eq!(*earlier, address, "the VIP of {slot} moved in round {round}");
        }
        plane.process().kill();
        let held = ledger(&lines(&plane));
        for (access, address) in promised.iter().chain(&before) {
            assert_eq!(held.get(access), Some(address), "round {round}: the ledger's VIP of {access}");
        }
        before = held;
        plane.restart();
        if round % 3 == 0 {
            plane.wait_ready();
        }
    }
    plane.wait_ready();
    let wanted = 1 + 3 * KILLS as usize;
    eventually("every access to have its VIP published", Duration::from_secs(30), || {
        plane.vips().iter().filter(|v| v["state"] == "Published").count().eq(&wanted).then_some(())
    });
    for vip in plane.vips() {
        let (slot, address) = (vip["access"].as_str().unwrap_or_default(), vip["address"].as_str().unwrap_or_default());
        let held = before.get(slot).map_or(address, String::as_str);
        assert_eq!(
            (promised.get(slot).map_or(address, String::as_str), held),
            (address, address),
            "the VIP of {slot} moved"
        );
    }
    let tally = stream.stop().await;
    println!(
        "crash: {KILLS} kills, {wanted} VIPs ({} seen through the API and {} in the ledger before the last kill), {} requests, {} failed",
        promised.len(),
        before.len(),
        tally.total,
        tally.failed.len()
    );
    // Otherwise nothing was at stake.
    assert!(promised.len() > 1 && before.len() > 1, "the kills came before any allocation");
    assert_eq!(tally.failed, Vec::<String>::new(), "Envoy keeps serving while the control plane is away");

    // Nothing changed: a reconnecting Envoy is sent nothing but the EDS that rule 5 asks for.
    let counts = |gateway: &crate::support::fleet::Gateway| {
        ["cluster_manager.cds.update_success", "listener_manager.lds.update_success"].map(|stat| gateway.stat(stat))
    };
    let settled = eventually("updates to settle", Duration::from_secs(10), || {
        let before = counts(&gateway);
        std::thread::sleep(Duration::from_millis(500));
        (before == counts(&gateway)).then_some(before)
    });
    plane.process().kill();
    plane.restart();
    plane.wait_ready();
    eventually("the gateway to be back", Duration::from_secs(20), || {
        let vips = plane.vips();
        (!vips.is_empty() && vips.iter().all(|v| v["state"] == "Published")).then_some(())
    });
    let sent = plane.get("/debug/xds/nodes/gw-1");
    println!("crash: after an unchanged reconnect: {}", sent_resources(&sent));
    assert_eq!(counts(&gateway), settled, "CDS and LDS updates after an unchanged reconnect: {sent:#}");
}

/// How many resources of each type a node's stream was sent.
fn sent_resources(node: &serde_json::Value) -> String {
    let mut parts = Vec::new();
    for stream in node["streams"].as_array().into_iter().flatten() {
        if let Some(types) = stream["types"].as_object() {
            parts.extend(types.iter().map(|(name, of)| format!("{name}={}", of["counts"]["resources"])));
        }
    }
    parts.join(" ")
}
