//! Policies that objects declare, as files. Where they come from and what becomes of them is the same where the objects
//! are an API server's (`kubernetes::policies`).

use std::fs;
use std::time::Duration;

use causeway::policy::Digest;
use serde_json::Value;

use super::Setup;
use crate::support::eventually;
use crate::support::fleet::{ControlPlane, causeway};
use crate::support::manifests;

const WITHIN: Duration = Duration::from_secs(20);

/// A component of the repository.
pub fn component(name: &str) -> Vec<u8> {
    let path = format!("{}/plugins/components/{name}.wasm", env!("CARGO_MANIFEST_DIR"));
    fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A Policy of load balancing.
pub fn object(name: &str, digest: &str, from: &str, rest: &str) -> String {
    format!(
        "apiVersion: causeway.dev/v1alpha1\nkind: Policy\nmetadata: {{name: {name}}}\nspec:\n  world: lb-policy\n  component: \
         {{digest: \"{digest}\", from: {from}}}\n{rest}"
    )
}

pub fn access(policy: &str, config: &str) -> String {
    let plain = manifests::access_yaml("checkout", "edge", 1);
    format!("{plain}  policies: {{loadBalancing: {{name: {policy}, config: {config}}}}}\n")
}

/// A condition of a policy: its status, reason and message.
pub fn condition(plane: &ControlPlane, policy: &str, kind: &str) -> Option<(String, String, String)> {
    let page = plane.try_get(&format!("/api/v1/policies/{policy}"))?;
    let conditions = page["conditions"].as_array()?.clone();
    let found = conditions.into_iter().find(|condition| condition["type"] == kind)?;
    let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
    Some((text("status"), text("reason"), text("message")))
}

/// Waits for a condition's reason; gives its message.
pub fn wait(plane: &ControlPlane, policy: &str, kind: &str, reason: &str) -> String {
    eventually(&format!("{kind} of {policy} to be {reason}"), WITHIN, || {
        condition(plane, policy, kind).filter(|found| found.1 == reason).map(|found| found.2)
    })
}

/// What an access has of its policies.
pub fn of_access(plane: &ControlPlane, kind: &str) -> String {
    let row = plane.row("/api/v1/accesses", "name", "checkout").expect("the access is there");
    let conditions: Vec<Value> = row["conditions"].as_array().expect("a list").clone();
    let found = conditions.into_iter().find(|condition| condition["type"] == kind).expect("it is said");
    found["reason"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_brings_a_policy_and_takes_it_away() {
    let setup = Setup::new();
    setup.deploy(&Setup::service("checkout", "http"), 0..2, "edge").await;
    let bytes = component("lb-weighted-clusters");
    let digest = Digest::of(&bytes).to_string();
    let file = setup.clusters.root().join("east/mine.wasm");
    let put = |text: &str| setup.clusters.write("east", "policy.yaml", text);
    let from_file = "{path: east/mine.wasm}";
    fs::write(&file, &bytes).unwrap();
    put(&object("mine", &digest, from_file, ""));
    setup.clusters.write("east", "checkout-access.yaml", &access("mine", "{clusters: {east: 90, west: 10}}"));
    let mut plane = setup.control_plane();
    // It was waited for: what is served first is what the policy decided.
    assert_eq!((of_access(&plane, "Accepted"), of_access(&plane, "Decided")), ("Accepted".into(), "Decided".into()));
    wait(&plane, "mine", "Active", "Active");
    let shown = plane.command(&["policy", "show", "mine"]);
    println!("{shown}");
    assert!(shown.contains("Source:     Object") && shown.contains("file east/mine.wasm"), "{shown}");

    // The object alone changes it.
    for (method, path) in [("POST", "/api/v1/policies/mine/rollback"), ("DELETE", "/api/v1/policies/mine")] {
        let (status, body) = crate::support::fleet::ureq(plane.admin, method, path).unwrap();
        assert_eq!(status, 409, "{body}");
        assert!(body.contains("is what the object `Policy mine` says"), "{body}");
    }

    // What is not to be had, or is not what was meant, is said, and what decided goes on.
    let zeros = format!("sha256:{}", "0".repeat(64));
    put(&object("mine", &zeros, from_file, ""));
    let message = wait(&plane, "mine", "Accepted", "DigestMismatch");
    assert!(message.contains(&digest) && message.contains(&zeros), "{message}");
    assert_eq!(condition(&plane, "mine", "Active").unwrap().1, "Previous");
    put(&object("mine", &zeros, "{path: east/not-there.wasm}", ""));
    let message = wait(&plane, "mine", "Accepted", "ComponentNotFound");
    assert!(message.contains("east/not-there.wasm"), "{message}");
    put(&object("mine", &zeros, "{upload: {}}", ""));
    eventually("the object to say how it is uploaded", WITHIN, || {
        let (_, _, message) = condition(&plane, "mine", "Accepted")?;
        message.contains("causeway policy upload mine FILE --no-activate").then_some(())
    });
    put(&object("mine", &zeros, "{configMapKeyRef: {namespace: shop, name: mine, key: wasm}}", ""));
    wait(&plane, "mine", "Accepted", "SourceNotServed");
    let problems = plane.get("/api/v1/status")["problems"].to_string();
    assert!(problems.contains("Policy mine"), "{problems}");
    assert_eq!(of_access(&plane, "Decided"), "Decided");

    // A configuration that it does not take: other clusters than there are weights for is fine, words are not.
    put(&object("mine", &digest, from_file, "  config: {clusters: many}\n"));
    wait(&plane, "mine", "Accepted", "PolicyConfigInvalid");

    // A component that was uploaded for it, by its digest.
    let noop = component("testing/noop");
    put(&object("mine", &Digest::of(&noop).to_string(), "{upload: {}}", ""));
    wait(&plane, "mine", "Accepted", "ComponentNotFound");
    let path = format!("{}/plugins/components/testing/noop.wasm", env!("CARGO_MANIFEST_DIR"));
    let output = causeway()
        .args(["policy", "upload", "mine", &path, "--admin-addr", &plane.admin.to_string()])
        .output()
        .expect("the binary runs");
    let refused = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && refused.contains("change the object"), "{refused}");
    plane.command(&["policy", "upload", "mine", &path, "--no-activate"]);
    wait(&plane, "mine", "Accepted", "Accepted");
    assert_eq!(plane.get("/api/v1/policies/mine")["digest"], Digest::of(&noop).to_string());

    // Over a restart, without the file; then back to it, of which the store has the bytes.
    fs::remove_file(&file).unwrap();
    plane.process().kill();
    plane.restart();
    plane.wait_ready();
    wait(&plane, "mine", "Accepted", "Accepted");
    put(&object("mine", &digest, from_file, ""));
    eventually("the component that the store has", WITHIN, || {
        (plane.get("/api/v1/policies/mine")["digest"] == *digest).then_some(())
    });

    // Gone with its object; what was uploaded stays, and decides no more.
    setup.clusters.remove("east", "policy.yaml");
    eventually("the policy to go", WITHIN, || (of_access(&plane, "Accepted") == "PolicyNotFound").then_some(()));
    assert_eq!(plane.get("/api/v1/policies/mine")["state"], "Inactive");
    let versions = plane.get("/api/v1/policies/mine")["versions"].as_array().unwrap().len();
    assert_eq!(versions, 1, "the uploaded one");

    // While nobody looked, it came back and went.
    put(&object("mine", &digest, "{upload: {}}", ""));
    wait(&plane, "mine", "Accepted", "ComponentNotFound");
    fs::write(&file, &bytes).unwrap();
    put(&object("mine", &digest, from_file, ""));
    wait(&plane, "mine", "Active", "Active");
    plane.process().kill();
    setup.clusters.remove("east", "policy.yaml");
    plane.restart();
    plane.wait_ready();
    eventually("the policy to be gone", WITHIN, || (of_access(&plane, "Accepted") == "PolicyNotFound").then_some(()));
}
