//! Policy objects of an API server, under a control plane that may only what its role says.

use std::time::Duration;

use causeway::policy::Digest;
use serde_json::Value;

use super::join::as_control_plane;
use super::setup::Setup;
use crate::e2e::policy_objects::{component, object};
use crate::support::fleet::ControlPlane;
use crate::support::{eventually, free_addr, manifests};

const WITHIN: Duration = Duration::from_secs(30);

fn condition(setup: &Setup, kind: &str) -> Option<Value> {
    let policy = setup.get("policy", "mine")?;
    policy["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind).cloned()
}

/// Waits for a condition's reason; gives its message.
fn wait(setup: &Setup, kind: &str, reason: &str) -> String {
    eventually(&format!("{kind} to be {reason}"), WITHIN, || {
        let found = condition(setup, kind).filter(|found| found["reason"] == reason)?;
        Some(found["message"].as_str().unwrap_or_default().to_owned())
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_in_a_config_map_decides_and_its_status_says_how_it_does() {
    let setup = Setup::unjoined(&["primary"]);
    setup.deploy("checkout", 2).await;
    let primary = setup.primary();
    let hostile = component("testing/hostile");
    let digest = Digest::of(&hostile).to_string();
    let file = setup.dir.path().join("hostile.wasm");
    std::fs::write(&file, &hostile).unwrap();
    let from_file = format!("--from-file=policy.wasm={}", file.display());
    let from = "{configMapKeyRef: {namespace: causeway-system, name: mine, key: policy.wasm}}";
    let kubeconfig = as_control_plane(&setup).display().to_string();
    let mut plane = ControlPlane::new(setup.dir.path(), &["--kubeconfig", &kubeconfig], free_addr(), &[]);
    primary.apply(&object("mine", &digest, from, "  config: {misbehave: None}\n"));
    plane.restart();
    plane.wait_ready();
    let message = wait(&setup, "Accepted", "ComponentNotFound");
    assert!(message.contains("there is no ConfigMap causeway-system/mine"), "{message}");
    assert_eq!(condition(&setup, "Active").unwrap()["status"], "False");
    primary.kubectl(&["-n", "causeway-system", "create", "configmap", "mine", &from_file]);
    wait(&setup, "Active", "Active");
    let _gateway = setup.gateway(&plane);
    let plain = manifests::access_yaml("checkout", "edge", 1);
    let with = |config: &str| format!("{plain}  policies: {{loadBalancing: {{name: mine, config: {config}}}}}\n");
    primary.apply(&with("{}"));
    eventually("the access to be counted", WITHIN, || {
        (setup.get("policy", "mine")?["status"]["accesses"] == 1).then_some(())
    });
    println!("{}", primary.kubectl(&["get", "policies", "-o", "wide"]));

    // It fails: the object says so, of whom and how, and says so no more when it is well again.
    primary.apply(&object("mine", &digest, from, "  config: {misbehave: Nonsense}\n"));
    let message = wait(&setup, "Accepted", "PolicyConfigInvalid");
    println!("{message}");
    assert_eq!(condition(&setup, "Active").unwrap()["reason"], "Previous");
    primary.apply(&object("mine", &digest, from, "  config: {misbehave: Loop}\n  limits: {fuel: 1000000}\n"));
    let message = wait(&setup, "Healthy", "OutOfFuel");
    println!("{message}");
    assert!(message.starts_with("of shop/checkout: ") && message.ends_with("its last decision holds"), "{message}");
    primary.apply(&object("mine", &digest, from, "  config: {misbehave: None}\n"));
    wait(&setup, "Healthy", "Healthy");
    let status = setup.get("policy", "mine").unwrap();
    assert_eq!(status["status"]["observedGeneration"], status["metadata"]["generation"]);
    assert_eq!(status["status"]["activeDigest"], *digest);

    // What the API server itself refuses, with the remedy.
    for (wrong, remedy) in [
        (object("wrong", "sha256:1", from, ""), "as `sha256sum` prints them"),
        (object("wrong", &digest, "{oci: \"oci://registry/mine:latest\"}", ""), "a tag may become another component"),
        (object("wrong", &digest, "{path: /etc/passwd}", ""), "--policy-dir"),
        (object("wrong", &digest, "{path: a, upload: {}}", ""), "exactly one of"),
        (object("wrong", &digest, from, "  limits: {fuel: 0}\n"), "leave the field out"),
        (object("wrong", &digest, from, "").replace(&format!("digest: \"{digest}\", "), ""), "has no digest"),
    ] {
        let output = primary.kubectl_with(&["apply", "--server-side", "--force-conflicts", "-f", "-"], &wrong);
        let refused = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && refused.contains(remedy), "{remedy}: {refused}");
    }

    // A ConfigMap elsewhere may not be read.
    primary.apply(&object("mine", &Digest::of(b"").to_string(), &from.replace("causeway-system", "shop"), ""));
    let message = wait(&setup, "Accepted", "Forbidden");
    assert!(message.contains("give Causeway a Role"), "{message}");
    primary.kubectl(&["delete", "policy", "mine"]);
    eventually("the access to say that it is gone", WITHIN, || {
        let access = setup.get("clusteraccess", "checkout")?;
        let conditions = access["status"]["conditions"].as_array()?.clone();
        conditions.iter().any(|condition| condition["reason"] == "PolicyNotFound").then_some(())
    });
}
