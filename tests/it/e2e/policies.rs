//! Policies that are uploaded while everything runs, by where requests land.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::{Setup, clusterset, resolve};
use crate::support::eventually;
use crate::support::fleet::{ControlPlane, Speaks};
use crate::support::manifests::{self, Backend};
use crate::support::traffic::{self, Stream};

pub(super) const WITHIN: Duration = Duration::from_secs(20);
/// Enough that 9 to 1 and 1 to 1 cannot be taken for one another.
const REQUESTS: usize = 400;

pub(super) fn component(name: &str) -> String {
    format!("{}/plugins/components/{name}.wasm", env!("CARGO_MANIFEST_DIR"))
}

/// The access with a policy.
pub(super) fn access(policy: &str, config: &str) -> String {
    let plain = manifests::access_yaml("checkout", "edge", 1);
    format!("{plain}  policies: {{loadBalancing: {{name: {policy}, config: {config}}}}}\n")
}

/// What an Envoy has accepted: the versions of resources, which are hashes of their content.
fn versions(plane: &ControlPlane, node: &str) -> BTreeMap<String, Value> {
    let page = plane.get(&format!("/debug/xds/nodes/{node}?resource=none"));
    let types = page["streams"][0]["types"].as_object().cloned().unwrap_or_default();
    let mut versions = BTreeMap::new();
    for (ty, held) in types {
        for (name, resource) in held["resources"].as_object().into_iter().flatten() {
            versions.insert(format!("{ty} {name}"), resource["accepted"].clone());
        }
    }
    versions
}

pub(super) fn condition(plane: &ControlPlane, kind: &str) -> (String, String) {
    let row = plane.row("/api/v1/accesses", "name", "checkout").expect("the access is there");
    let conditions = row["conditions"].as_array().expect("a list").clone();
    let found = conditions.into_iter().find(|condition| condition["type"] == kind).expect("it is said");
    (found["reason"].as_str().unwrap_or_default().to_owned(), found["message"].as_str().unwrap_or_default().to_owned())
}

/// How many requests of each cluster's pods were answered.
async fn shares(to: std::net::SocketAddr) -> BTreeMap<String, usize> {
    let tally = traffic::send(to, &clusterset("checkout"), REQUESTS).await;
    assert_eq!(tally.failed, Vec::<String>::new());
    let mut shares = BTreeMap::new();
    for (pod, count) in &tally.answered {
        let cluster = pod.split('-').nth(1).unwrap_or_default().to_owned();
        *shares.entry(cluster).or_insert(0_usize) += usize::try_from(*count).unwrap_or(usize::MAX);
    }
    shares
}

#[tokio::test(flavor = "multi_thread")]
async fn an_uploaded_policy_decides_and_is_taken_back_without_a_failed_request() {
    let setup = Setup::new();
    setup.deploy(&Setup::service("checkout", "http"), 0..2, "edge").await;
    let mut plane = setup.control_plane();
    let mut gateway = setup.gateway("gw-1", &plane, Speaks::Delta);
    gateway.start_envoy().start_agent();
    let to = resolve(&plane, "checkout");
    let stream = Stream::start(to, &clusterset("checkout"), 100);
    let before = shares(to).await;
    println!("before: {before:?}");

    let even = versions(&plane, "gw-1");

    // An access may ask for a policy before it is there.
    let weights = "{clusters: {east: 90, west: 10}}";
    setup.clusters.write("east", "checkout-access.yaml", &access("mine", weights));
    eventually("the missing policy to be told", WITHIN, || {
        (condition(&plane, "Accepted").0 == "PolicyNotFound").then_some(())
    });
    let told = plane.command(&["policy", "upload", "mine", &component("lb-weighted-clusters")]);
    println!("{told}");
    eventually("the policy to decide", WITHIN, || (condition(&plane, "Accepted").0 == "Accepted").then_some(()));
    eventually("the weights to reach the Envoy", WITHIN, || (versions(&plane, "gw-1") != even).then_some(()));
    let shared = shares(to).await;
    println!("90 to 10: {shared:?}");
    let west = shared.get("west").copied().unwrap_or_default();
    assert!((15..=75).contains(&west), "a tenth of {REQUESTS}, give or take: {shared:?}");
    let decided = versions(&plane, "gw-1");

    // Another version that has other settings and fails: what was decided goes on, and everybody can see why.
    let hostile = component("testing/hostile");
    plane.command(&["policy", "upload", "mine", &hostile, "--config", r#"{"misbehave": "Loop"}"#, "--no-activate"]);
    println!("{}", plane.command(&["policy", "show", "mine"]));
    plane.command(&["policy", "activate", "mine", "v2"]);
    eventually("the settings to be refused", WITHIN, || {
        (condition(&plane, "Accepted").0 == "PolicyConfigInvalid").then_some(())
    });
    assert_eq!(versions(&plane, "gw-1"), decided);
    // A pod goes: the policy is asked anew, and has no answer.
    let service = Setup::service("checkout", "http");
    let west = |count: u8| -> Vec<Backend> {
        (0..count).map(|i| Backend::ready(format!("checkout-west-{i}"), setup.pod_address("west", i))).collect()
    };
    setup.clusters.service("west", &service, &west(1));
    let failing = eventually("the failure to be told", WITHIN, || {
        let (reason, message) = condition(&plane, "Decided");
        (reason == "PolicyError").then_some(message)
    });
    println!("{failing}");
    assert!(failing.ends_with("; its last decision holds"), "{failing}");
    let kept = shares(to).await;
    println!("kept: {kept:?}");
    assert!(kept["east"] > kept["west"] * 4, "{kept:?}");
    setup.clusters.service("west", &service, &west(2));

    // And back: byte for byte what it was.
    plane.command(&["policy", "rollback", "mine"]);
    eventually("the first version to decide again", WITHIN, || {
        let is_well = condition(&plane, "Decided").0 == "Decided" && condition(&plane, "Accepted").0 == "Accepted";
        (is_well && versions(&plane, "gw-1") == decided).then_some(())
    });

    // It is in use, so it stays; and it outlives the process.
    let refused = plane.delete("/api/v1/policies/mine");
    assert_eq!(refused.0, 409, "{refused:?}");
    assert!(refused.1.contains("shop/checkout"), "{refused:?}");
    plane.process().kill();
    plane.restart();
    plane.wait_ready();
    eventually("the policy after a restart", WITHIN, || {
        (condition(&plane, "Accepted").0 == "Accepted" && condition(&plane, "Decided").0 == "Decided").then_some(())
    });
    let after = shares(to).await;
    println!("after a restart: {after:?}");
    let tally = stream.stop().await;
    println!("{} requests meanwhile", tally.total);
    assert_eq!(tally.failed, Vec::<String>::new());
}
