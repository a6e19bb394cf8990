//! Policies that are uploaded while everything runs, by where requests land.

mod hostile;
mod own;
mod refused;
mod rollback;
mod shares;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;

use super::{Setup, clusterset, resolve};
use crate::support::eventually;
use crate::support::fleet::{ControlPlane, Speaks};
use crate::support::manifests::{self, Backend};
use crate::support::traffic::{Http, Stream};

pub const WITHIN: Duration = Duration::from_secs(20);
/// Enough that 9 to 1 and 1 to 1 cannot be taken for one another.
const REQUESTS: usize = 400;

/// The file of a committed component.
pub fn component(name: &str) -> String {
    format!("{}/plugins/components/{name}.wasm", env!("CARGO_MANIFEST_DIR"))
}

/// The access to `checkout` with a policy.
pub fn access(policy: &str, config: &str) -> String {
    access_to("checkout", policy, config)
}

/// The access to a service with a policy.
pub fn access_to(service: &str, policy: &str, config: &str) -> String {
    let plain = manifests::access_yaml(service, "edge", 1);
    format!("{plain}  policies: {{loadBalancing: {{name: {policy}, config: {config}}}}}\n")
}

/// What an Envoy has accepted: the versions of resources, which are hashes of their content.
pub fn versions(plane: &ControlPlane, node: &str) -> BTreeMap<String, Value> {
    resources(plane, node, "none", |row| row["accepted"].clone())
}

/// What is served to an Envoy, whole: the contents of all resources.
pub fn contents(plane: &ControlPlane, node: &str) -> BTreeMap<String, Value> {
    resources(plane, node, "", |row| row["content"].clone())
}

fn resources(plane: &ControlPlane, node: &str, shown: &str, of: impl Fn(&Value) -> Value) -> BTreeMap<String, Value> {
    let page = plane.get(&format!("/debug/xds/nodes/{node}?resource={shown}"));
    let types = page["streams"][0]["types"].as_object().cloned().unwrap_or_default();
    let mut found = BTreeMap::new();
    for (ty, held) in types {
        for (name, row) in held["resources"].as_object().into_iter().flatten() {
            found.insert(format!("{ty} {name}"), of(row));
        }
    }
    found
}

/// Reason and message of a condition of `checkout`'s access.
pub fn condition(plane: &ControlPlane, kind: &str) -> (String, String) {
    condition_of(plane, "checkout", kind)
}

/// Reason and message of a condition of an access.
pub fn condition_of(plane: &ControlPlane, access: &str, kind: &str) -> (String, String) {
    let row = plane.row("/api/v1/accesses", "name", access).expect("the access is there");
    let conditions = row["conditions"].as_array().expect("a list").clone();
    let found = conditions.into_iter().find(|condition| condition["type"] == kind).expect("it is said");
    (found["reason"].as_str().unwrap_or_default().to_owned(), found["message"].as_str().unwrap_or_default().to_owned())
}

/// How many requests of each cluster's pods were answered, by the names of the pods that answered.
pub fn by_cluster<'a>(answered: impl IntoIterator<Item = (&'a String, &'a u64)>) -> BTreeMap<String, u64> {
    let mut shares = BTreeMap::new();
    for (pod, count) in answered {
        let cluster = pod.split('-').nth(1).unwrap_or_default().to_owned();
        *shares.entry(cluster).or_insert(0) += count;
    }
    shares
}

/// Where a few requests for `checkout` land.
async fn shares(to: SocketAddr) -> BTreeMap<String, u64> {
    shares_of(to, "checkout", REQUESTS).await
}

/// Where requests for a service land: so many, one after the other on one connection.
pub async fn shares_of(to: SocketAddr, service: &str, requests: usize) -> BTreeMap<String, u64> {
    let (http, host) = (Http::default(), clusterset(service));
    let mut answered = BTreeMap::new();
    for _ in 0..requests {
        let (status, body) = http.get(to, &host).await.expect("an answer");
        assert_eq!(status, 200, "{body}");
        *answered.entry(body).or_insert(0) += 1;
    }
    by_cluster(&answered)
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
