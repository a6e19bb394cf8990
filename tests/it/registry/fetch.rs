//! What is pushed is what is fetched, or nothing is.

use oci_client::client::{Config, ImageLayer};
use oci_client::manifest::{ImageIndexEntry, OciImageIndex, OciImageManifest, OciManifest};
use oci_client::secrets::RegistryAuth::Anonymous;

use super::{COMPONENT, fetch, reference, refused, wasm};
use crate::support::registry::{Door, Registry};

#[tokio::test]
async fn a_component_is_fetched_by_the_digest_of_its_manifest() {
    let server = Registry::start(&Door::Open);
    let digest = server.push("team/policy", "v1", &[wasm(COMPONENT)], &Anonymous).await;
    let fetched = fetch(&reference(&server, "team/policy", &digest)).await.unwrap();
    assert_eq!(fetched.bytes, COMPONENT);
    assert_eq!(fetched.manifest_digest.to_string(), digest);
    assert_eq!(fetched.signatures, []);
    // The tag may be another component by now; the digest says which it is.
    let newer = server.push("team/policy", "v1", &[wasm(b"another")], &Anonymous).await;
    assert_eq!(fetch(&reference(&server, "team/policy:v1", &digest)).await.unwrap().bytes, COMPONENT);
    assert_eq!(fetch(&reference(&server, "team/policy:v1", &newer)).await.unwrap().bytes, b"another");
}

#[tokio::test]
async fn a_component_of_several_megabytes_is_fetched_whole() {
    let server = Registry::start(&Door::Open);
    let bytes: Vec<u8> = (0..20u32 << 20).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let digest = server.push("large", "v1", &[wasm(&bytes)], &Anonymous).await;
    assert!(fetch(&reference(&server, "large", &digest)).await.unwrap().bytes == bytes);
}

#[tokio::test]
async fn layers_of_older_tools_are_components_too_and_others_lie_beside() {
    let server = Registry::start(&Door::Open);
    for (tag, media_type) in [
        ("a", "application/vnd.wasm.content.layer.v1+wasm"),
        ("b", "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm"),
    ] {
        let layers = [
            ImageLayer::new(&b"read me"[..], "text/markdown".to_owned(), None),
            ImageLayer::new(COMPONENT, media_type.to_owned(), None),
        ];
        let digest = server.push("older", tag, &layers, &Anonymous).await;
        assert_eq!(fetch(&reference(&server, "older", &digest)).await.unwrap().bytes, COMPONENT, "{media_type}");
    }
}

#[tokio::test]
async fn what_is_no_component_is_refused_in_words() {
    let server = Registry::start(&Door::Open);
    let text = || ImageLayer::new(&b"read me"[..], "text/markdown".to_owned(), None);
    let digest = server.push("p", "text", &[text()], &Anonymous).await;
    refused(fetch(&reference(&server, "p", &digest)).await, "NoComponent", "text/markdown");
    let digest = server.push("p", "two", &[wasm(b"one"), wasm(b"two")], &Anonymous).await;
    refused(fetch(&reference(&server, "p", &digest)).await, "NoComponent", "2 components");

    let digest = server.push("p", "one", &[wasm(COMPONENT)], &Anonymous).await;
    let entry = ImageIndexEntry {
        media_type: "application/vnd.oci.image.manifest.v1+json".to_owned(),
        digest: digest.clone(),
        size: 1,
        platform: None,
        annotations: None,
        artifact_type: None,
    };
    let index = OciImageIndex {
        schema_version: 2,
        media_type: Some("application/vnd.oci.image.index.v1+json".to_owned()),
        manifests: vec![entry],
        artifact_type: None,
        annotations: None,
    };
    let index = server.push_manifest("p", "index", &OciManifest::ImageIndex(index)).await;
    refused(fetch(&reference(&server, "p", &index)).await, "NoComponent", &digest);
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let server = Registry::start(&Door::Open);
    let digest = server.push("p", "v1", &[wasm(COMPONENT)], &Anonymous).await;
    let other = digest.replace(|c: char| c.is_ascii_digit(), "0").replace("sha000", "sha256");
    refused(fetch(&reference(&server, "p", &other)).await, "NotFound", "no such manifest");
    refused(fetch(&reference(&server, "q", &digest)).await, "NotFound", "no such manifest");
}

#[tokio::test]
async fn what_is_too_large_is_not_downloaded() {
    let server = Registry::start(&Door::Open);
    let layers = [wasm(COMPONENT)];
    let config = Config::new(&b"{}"[..], "application/vnd.wasm.config.v0+json".to_owned(), None);
    let mut manifest = OciImageManifest::build(&layers, &config, None);
    manifest.layers[0].size = (32 << 20) + 1;
    let digest = server.push_as("p", "v1", &layers, &Anonymous, manifest).await;
    refused(fetch(&reference(&server, "p", &digest)).await, "TooLarge", "33554433 bytes");
}

#[tokio::test]
async fn bytes_that_changed_in_the_registry_are_refused() {
    let server = Registry::start(&Door::Open);
    let digest = server.push("p", "v1", &[wasm(b"component")], &Anonymous).await;
    let reference = reference(&server, "p", &digest);
    let blob = causeway::policy::Digest::of(b"component").to_string();
    std::fs::write(server.blob_file(&blob), b"Component").unwrap();
    refused(fetch(&reference).await, "DigestMismatch", &blob);
    std::fs::write(server.blob_file(&blob), b"component and more").unwrap();
    refused(fetch(&reference).await, "TooLarge", "9 bytes");
    std::fs::write(server.blob_file(&blob), b"comp").unwrap();
    refused(fetch(&reference).await, "DigestMismatch", &blob);
    std::fs::write(server.blob_file(&blob), b"component").unwrap();
    assert_eq!(fetch(&reference).await.unwrap().bytes, b"component");
    let manifest = std::fs::read_to_string(server.blob_file(&digest)).unwrap();
    std::fs::write(server.blob_file(&digest), manifest.replace("wasm", "WASM")).unwrap();
    refused(fetch(&reference).await, "DigestMismatch", &digest);
}
