//! Policies that misbehave while traffic runs: nobody else notices, and everybody can see who it was and how.

use std::collections::BTreeMap;
use std::time::Instant;

use serde_json::Value;

use super::super::{Setup, clusterset, resolve};
use super::{WITHIN, access_to, component, condition_of, contents, versions};
use crate::guests::MISBEHAVIOURS;
use crate::support::eventually;
use crate::support::fleet::{ControlPlane, Speaks};
use crate::support::traffic::Stream;

/// After the first, which fills caches and pools.
const ROUNDS: usize = if cfg!(feature = "long-checks") { 12 } else { 2 };
/// What the control plane may have grown by, in KiB: it keeps lines of policies' logs, statuses and histories.
const MOST_GROWTH: u64 = 16 * 1024;
const A_SECOND: u32 = 100;

/// Memory of a process that is resident, in KiB.
pub fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process is there");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux says so");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

fn shown(plane: &ControlPlane, policy: &str) -> Value {
    serde_json::from_str(&plane.command(&["policy", "show", policy, "-o", "json"])).expect("JSON")
}

/// Messages of what is wrong, as `causeway status` says them.
fn problems(plane: &ControlPlane) -> Vec<String> {
    let status: Value = serde_json::from_str(&plane.command(&["status", "-o", "json"])).expect("JSON");
    let all = status["problems"].as_array().expect("a list").clone();
    all.iter().map(|problem| problem["message"].as_str().unwrap_or_default().to_owned()).collect()
}

/// How often the hostile policy failed, by reason.
fn failures(plane: &ControlPlane) -> Value {
    plane.get("/api/v1/policies/hostile")["failures"].clone()
}

/// The component with a remark of its own at its end, which makes it another one.
fn remarked(number: usize) -> Vec<u8> {
    let mut bytes = std::fs::read(component("testing/hostile")).expect("a committed component");
    // A custom section has a name and content; of one byte each.
    bytes.extend([0, 3, 1, b'n', u8::try_from(number).expect("few rounds")]);
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_policies_harm_nobody_and_are_named() {
    let setup = Setup::new();
    for (service, indices) in [("checkout", 0..2), ("catalog", 10..12)] {
        setup.deploy(&Setup::service(service, "http"), indices, "edge").await;
    }
    let other = access_to("catalog", "weighted", "{clusters: {east: 3, west: 1}}");
    setup.clusters.write("east", "catalog-access.yaml", &other);
    let mut plane = setup.control_plane();
    plane.command(&["policy", "upload", "weighted", &component("lb-weighted-clusters")]);
    let mut gateway = setup.gateway("gw-1", &plane, Speaks::Delta);
    gateway.start_envoy().start_agent();
    let streams =
        ["checkout", "catalog"].map(|service| Stream::start(resolve(&plane, service), &clusterset(service), A_SECOND));
    let settled = || {
        let held = versions(&plane, "gw-1");
        held.len() >= 8 && held.values().all(|version| version.is_string())
    };
    eventually("the Envoy to accept what there is", WITHIN, || settled().then_some(()));
    let of_other = |all: BTreeMap<String, Value>| -> Vec<(String, Value)> {
        all.into_iter().filter(|(name, _)| name.contains("catalog")).collect()
    };
    let untouched = of_other(contents(&plane, "gw-1"));

    let mut resident = Vec::new();
    let begun = Instant::now();
    for round in 0..=ROUNDS {
        // Another component each time: one that failed three times is not asked for a while.
        let file = setup.dir.path().join("hostile.wasm");
        std::fs::write(&file, remarked(round)).expect("the file can be written");
        let file = file.display().to_string();
        plane.command(&["policy", "upload", "hostile", &file, "--on-failure", "Default"]);
        for (misbehaviour, reason) in MISBEHAVIOURS {
            let before = failures(&plane);
            let config = format!("{{misbehave: {misbehaviour}}}");
            setup.clusters.write("east", "checkout-access.yaml", &access_to("checkout", "hostile", &config));
            let message = eventually(&format!("{misbehaviour} to be told"), WITHIN, || {
                // The one after the other: the condition is that of this failure then.
                let is_counted = failures(&plane)[reason].as_u64() > before[reason].as_u64();
                let (said, message) = condition_of(&plane, "checkout", "Decided");
                (is_counted && said == *reason).then_some(message)
            });
            assert!(message.starts_with("policy `hostile` (sha256:"), "{message}");
            assert!(message.ends_with("`lb-locality` decides in its place"), "{message}");
            if round == 0 {
                println!("{misbehaviour}: {message}");
                let last = shown(&plane, "hostile")["lastFailure"]["message"].clone();
                assert!(last.as_str().is_some_and(|last| message.contains(last)), "{last} is shown, and {message}");
                assert!(problems(&plane).contains(&message), "it is in the status: {:?}", problems(&plane));
            }
        }
        resident.push(resident_kib(plane.process().pid()));
    }
    println!(
        "{} in {:.1} s; resident after each round: {resident:?} KiB",
        failures(&plane),
        begun.elapsed().as_secs_f64()
    );
    let (first, last) = (resident[0], resident[ROUNDS]);
    assert!(last < first + MOST_GROWTH, "{resident:?} KiB");

    assert_eq!(of_other(contents(&plane, "gw-1")), untouched, "the other access has what it had");
    assert_eq!(condition_of(&plane, "catalog", "Decided").0, "Decided");
    let well = access_to("checkout", "hostile", "{misbehave: None}");
    setup.clusters.write("east", "checkout-access.yaml", &well);
    eventually("it to behave", WITHIN, || (condition_of(&plane, "checkout", "Decided").0 == "Decided").then_some(()));
    for stream in streams {
        let tally = stream.stop().await;
        println!("{} requests", tally.total);
        assert_eq!(tally.failed, Vec::<String>::new());
    }
}
