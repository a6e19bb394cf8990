//! Signatures beside images, as `cosign sign` puts them there.

use std::collections::BTreeMap;

use causeway::registry::Fetched;
use causeway::trust::signature::{KeyId, Keys, SignatureError};
use oci_client::client::ImageLayer;
use oci_client::secrets::RegistryAuth::Anonymous;
use serde_json::json;

use super::{COMPONENT, fetch, reference, wasm};
use crate::support::registry::{Door, Registry};
use crate::support::signing::{P256, SigningKey};

pub fn statement(digest: &str) -> Vec<u8> {
    json!({"critical": {
        "identity": {"docker-reference": "registry/p"},
        "image": {"docker-manifest-digest": digest},
        "type": "cosign container image signature",
    }, "optional": null})
    .to_string()
    .into_bytes()
}

pub fn layer(payload: Vec<u8>, key: &SigningKey) -> ImageLayer {
    let signature = key.sign_in_base64(&payload);
    let annotations = BTreeMap::from([("dev.cosignproject.cosign/signature".to_owned(), signature)]);
    ImageLayer::new(payload, "application/vnd.dev.cosign.simplesigning.v1+json".to_owned(), Some(annotations))
}

/// Puts signatures beside an image, in place of those that were there.
pub async fn sign(server: &Registry, digest: &str, layers: &[ImageLayer]) {
    server.push("p", &format!("{}.sig", digest.replace(':', "-")), layers, &Anonymous).await;
}

fn verified(keys: &Keys, fetched: &Fetched) -> Result<KeyId, SignatureError> {
    let signatures = fetched.signatures.iter().map(|found| (&found.payload[..], found.signature.as_bytes()));
    keys.verify_image_by_any(&fetched.manifest_digest.to_string(), signatures)
}

#[tokio::test]
async fn an_image_is_known_by_the_key_that_signed_it() {
    let server = Registry::start(&Door::Open);
    let (key, other) = (SigningKey::generate(P256), SigningKey::generate(P256));
    let keys = Keys::from_pem("cosign.pub", &key.public()).unwrap();
    let signer = keys.ids().next().unwrap();
    let digest = server.push("p", "v1", &[wasm(COMPONENT)], &Anonymous).await;
    let reference = reference(&server, "p", &digest);
    let reason = |fetched: &Fetched| verified(&keys, fetched).unwrap_err().reason();

    assert_eq!(reason(&fetch(&reference).await.unwrap()), "Unsigned");

    sign(&server, &digest, &[layer(statement(&digest), &other)]).await;
    assert_eq!(reason(&fetch(&reference).await.unwrap()), "SignatureForeign");

    sign(&server, &digest, &[layer(statement(&digest), &other), layer(statement(&digest), &key)]).await;
    let fetched = fetch(&reference).await.unwrap();
    assert_eq!((fetched.signatures.len(), verified(&keys, &fetched)), (2, Ok(signer)));

    // The signature of another image, put beside this one.
    let newer = server.push("p", "v2", &[wasm(b"newer")], &Anonymous).await;
    sign(&server, &digest, &[layer(statement(&newer), &key)]).await;
    assert_eq!(reason(&fetch(&reference).await.unwrap()), "SignatureOfOther");

    // A signed text that is no statement of cosign.
    let text = String::from_utf8(statement(&digest)).unwrap().replace("cosign container", "other");
    sign(&server, &digest, &[layer(text.into_bytes(), &key)]).await;
    assert_eq!(reason(&fetch(&reference).await.unwrap()), "SignatureUnreadable");
}

#[tokio::test]
async fn a_payload_that_changed_in_the_registry_is_refused() {
    let server = Registry::start(&Door::Open);
    let key = SigningKey::generate(P256);
    let digest = server.push("p", "v1", &[wasm(COMPONENT)], &Anonymous).await;
    sign(&server, &digest, &[layer(statement(&digest), &key)]).await;
    let payload = causeway::policy::Digest::of(&statement(&digest)).to_string();
    let text = String::from_utf8(statement(&digest)).unwrap();
    std::fs::write(server.blob_file(&payload), text.replace("registry/p", "registry/q")).unwrap();
    super::refused(fetch(&reference(&server, "p", &digest)).await, "DigestMismatch", "a signature's payload");
}
