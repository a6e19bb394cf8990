//! Policies from a real registry, and only those that somebody signed whose key is known.

use std::fs;
use std::process::Output;

use causeway::policy::Digest;
use oci_client::secrets::RegistryAuth::Anonymous;

use super::Setup;
use super::policy_objects::{access, component, condition, object, of_access, wait};
use crate::registry::signed::{layer, sign, statement};
use crate::registry::wasm;
use crate::support::fleet::{ControlPlane, causeway};
use crate::support::registry::{Door, Registry};
use crate::support::signing::{P256, SigningKey};

const WEIGHTS: &str = "{clusters: {east: 90, west: 10}}";

fn upload(plane: &ControlPlane, arguments: &[&str]) -> Output {
    let admin = plane.admin.to_string();
    causeway().args(["policy", "upload"]).args(arguments).args(["--admin-addr", &admin]).output().expect("it runs")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registrys_component_decides_when_it_is_signed_and_while_the_registry_is_away() {
    let setup = Setup::new();
    setup.deploy(&Setup::service("checkout", "http"), 0..2, "edge").await;
    setup.clusters.write("east", "checkout-access.yaml", &access("mine", WEIGHTS));
    let (server, key, other) = (Registry::start(&Door::Open), SigningKey::generate(P256), SigningKey::generate(P256));
    let trusted = setup.dir.path().join("cosign.pub");
    fs::write(&trusted, key.public()).unwrap();
    let bytes = component("lb-weighted-clusters");
    let image = server.push("p", "v1", &[wasm(&bytes)], &Anonymous).await;
    let from = format!("{{oci: \"oci://{}/p@{image}\"}}", server.host());
    // The component's digest follows from the manifest's.
    let declared = object("mine", "", &from, "").replace("digest: \"\", ", "");
    setup.clusters.write("east", "policy.yaml", &declared);
    let mut plane = setup.control_plane_with(&["--policy-key", &trusted.display().to_string()]);
    println!("{}", wait(&plane, "mine", "Accepted", "Unsigned"));
    assert_eq!(of_access(&plane, "Accepted"), "PolicyNotFound");
    sign(&server, &image, &[layer(statement(&image), &other)]).await;
    println!("{}", wait(&plane, "mine", "Accepted", "SignatureForeign"));
    sign(&server, &image, &[layer(statement(&image), &key)]).await;
    wait(&plane, "mine", "Active", "Active");
    let shown = plane.get("/api/v1/policies/mine");
    assert_eq!(shown["digest"], Digest::of(&bytes).to_string());
    assert_eq!(shown["versions"][0]["source"], format!("oci://{}/p@{image}", server.host()));
    assert!(shown["versions"][0]["signedBy"].is_string(), "{shown}");

    // The registry is away: a restart has what it needs, and what is new is said to be not to be had.
    server.stop();
    plane.process().kill();
    plane.restart();
    plane.wait_ready();
    wait(&plane, "mine", "Active", "Active");
    let newer = format!("sha256:{}", "0".repeat(64));
    setup.clusters.write("east", "policy.yaml", &declared.replace(&image, &newer));
    wait(&plane, "mine", "Accepted", "RegistryUnreachable");
    assert_eq!(condition(&plane, "mine", "Active").unwrap().1, "Previous");
    assert_eq!(of_access(&plane, "Accepted"), "Accepted");
    setup.clusters.write("east", "policy.yaml", &declared);
    wait(&plane, "mine", "Accepted", "Accepted");
    server.resume();

    // Uploads are held to the same.
    let file = format!("{}/plugins/components/lb-subset.wasm", env!("CARGO_MANIFEST_DIR"));
    let refused = upload(&plane, &["other", &file]);
    let why = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && why.contains("it is not signed"), "{why}");
    let signature = setup.dir.path().join("policy.sig");
    fs::write(&signature, key.sign_in_base64(b"something else")).unwrap();
    let with = ["other", &file, "--signature", &signature.display().to_string()];
    let refused = upload(&plane, &with);
    let why = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && why.contains("or of other bytes"), "{why}");
    fs::write(&signature, key.sign_in_base64(&component("lb-subset"))).unwrap();
    let taken = upload(&plane, &with);
    assert!(taken.status.success(), "{}", String::from_utf8_lossy(&taken.stderr));
    println!("{}", String::from_utf8_lossy(&taken.stdout));

    // The key is not trusted any more: neither is what it signed.
    fs::write(&trusted, other.public()).unwrap();
    plane.process().kill();
    plane.restart();
    plane.wait_ready();
    let message = wait(&plane, "other", "Accepted", "NotLoaded");
    assert!(message.contains("--policy-key"), "{message}");
    wait(&plane, "mine", "Accepted", "SignatureForeign");
    assert_eq!(of_access(&plane, "Accepted"), "PolicyNotFound");
}
