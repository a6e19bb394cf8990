//! Against what cosign and openssl themselves wrote (`tests/fixtures/cosign`).

use sha2::{Digest as _, Sha256};

use super::*;

macro_rules! fixture {
    ($name:literal) => {
        include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/cosign/", $name)).as_slice()
    };
}

const COMPONENT: &[u8] = fixture!("empty.wasm");
/// The digest of manifest.json.
const IMAGE: &str = "sha256:f54cc6faae31019caf8fe643a527d3ea7f2ccac799d3c797fa5b291ecca8e7c2";

fn keys(pem: &[u8]) -> Keys {
    Keys::from_pem("cosign.pub", std::str::from_utf8(pem).unwrap()).unwrap()
}

#[test]
fn a_blob_that_cosign_signed_is_known_by_its_key() {
    let keys = keys(fixture!("cosign.pub"));
    let signer = keys.ids().next().unwrap();
    for (form, signature) in [
        ("signature", fixture!("v2/blob.sig")),
        ("older bundle", fixture!("v2/blob.old-bundle.json")),
        ("bundle", fixture!("v2/blob.bundle.json")),
    ] {
        assert_eq!(keys.verify_blob(COMPONENT, signature), Ok(signer), "{form}");
        let other = keys.verify_blob(b"\0asm\x0d\0\x01\x01", signature).unwrap_err();
        assert_eq!(other.reason(), "SignatureForeign", "{form}");
    }
}

#[test]
fn the_bytes_of_a_signature_are_as_good_as_their_base64() {
    let keys = keys(fixture!("cosign.pub"));
    let der = text::signature(fixture!("v2/blob.sig")).unwrap();
    assert_eq!(der[0], 0x30);
    keys.verify_blob(COMPONENT, &der).unwrap();
    let wrapped: Vec<u8> = fixture!("v2/blob.sig").chunks(64).flat_map(|line| [line, b"\r\n"].concat()).collect();
    keys.verify_blob(COMPONENT, &wrapped).unwrap();
}

#[test]
fn rsa_and_ed25519_keys_verify_too() {
    keys(fixture!("rsa.pub")).verify_blob(COMPONENT, fixture!("v2/rsa.sig")).unwrap();
    keys(fixture!("ed25519.pub")).verify_blob(COMPONENT, fixture!("ed25519.sig")).unwrap();
    assert!(keys(fixture!("rsa.pub")).verify_blob(COMPONENT, fixture!("ed25519.sig")).is_err());
}

#[test]
fn any_one_of_several_keys_is_enough() {
    let text = [fixture!("rsa.pub"), b"# a comment\n", fixture!("cosign.pub")].concat();
    let mut several = keys(&text);
    assert_eq!(several.ids().count(), 2);
    several.extend([keys(fixture!("cosign.pub")), keys(fixture!("ed25519.pub"))]);
    assert_eq!(several.ids().count(), 3);
    let signer = keys(fixture!("cosign.pub")).ids().next().unwrap();
    assert_eq!(several.verify_blob(COMPONENT, fixture!("v2/blob.sig")), Ok(signer));
    assert!(Keys::default().verify_blob(COMPONENT, fixture!("v2/blob.sig")).is_err());
}

#[test]
fn an_image_that_cosign_signed_is_known_by_its_key() {
    let keys = keys(fixture!("cosign.pub"));
    let digest: String = Sha256::digest(fixture!("manifest.json")).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(format!("sha256:{digest}"), IMAGE);
    keys.verify_image(IMAGE, fixture!("v2/payload.json"), fixture!("v2/payload.sig")).unwrap();
    // The same signature does not speak for another image, nor for a component.
    let other = IMAGE.replace('f', "e");
    let error = keys.verify_image(&other, fixture!("v2/payload.json"), fixture!("v2/payload.sig")).unwrap_err();
    assert_eq!(error, SignatureError::OtherImage { signed: IMAGE.to_owned(), wanted: other });
    assert!(keys.verify_blob(COMPONENT, fixture!("v2/payload.sig")).is_err());
    // A good signature of a component is no statement about an image.
    let error = keys.verify_image(IMAGE, COMPONENT, fixture!("v2/blob.sig")).unwrap_err();
    assert_eq!(error.reason(), "SignatureUnreadable");
    let altered = [fixture!("v2/payload.json"), b" "].concat();
    let error = keys.verify_image(IMAGE, &altered, fixture!("v2/payload.sig")).unwrap_err();
    assert_eq!(error.reason(), "SignatureForeign");
}

#[test]
fn of_several_signatures_one_is_enough() {
    let keys = keys(fixture!("cosign.pub"));
    let good = (fixture!("v2/payload.json"), fixture!("v2/payload.sig"));
    let strange = (fixture!("v2/payload.json"), fixture!("v2/rsa.sig"));
    keys.verify_image_by_any(IMAGE, [strange, good]).unwrap();
    assert_eq!(keys.verify_image_by_any(IMAGE, [strange]).unwrap_err().reason(), "SignatureForeign");
    assert_eq!(keys.verify_image_by_any(IMAGE, []).unwrap_err().reason(), "Unsigned");
    let other = IMAGE.replace('f', "e");
    assert_eq!(keys.verify_image_by_any(&other, [good, strange]).unwrap_err().reason(), "SignatureOfOther");
}

#[test]
fn what_is_no_signature_is_told_as_that() {
    let keys = keys(fixture!("cosign.pub"));
    for (given, reason, word) in [
        (&b" \n"[..], "Unsigned", "cosign sign-blob"),
        (b"not base64!", "SignatureUnreadable", "not base64"),
        (b"{\"a\":1}", "SignatureUnreadable", "messageSignature"),
        (b"{\"dsseEnvelope\":{}}", "SignatureUnreadable", "dsseEnvelope"),
        (b"{\"messageSignature\":{\"signature\":\"*\"}}", "SignatureUnreadable", "bundle's signature"),
        (b"{", "SignatureUnreadable", "no such JSON"),
        (b"AAAA", "SignatureForeign", "none of the keys"),
        (&[0x30, 0xff, 0xff], "SignatureForeign", "none of the keys"),
        (&[b'A'; MOST_SIGNATURE + 1], "SignatureUnreadable", "more than"),
    ] {
        let error = keys.verify_blob(COMPONENT, given).unwrap_err();
        assert_eq!(error.reason(), reason, "{error}");
        assert!(error.to_string().contains(word), "{error}");
    }
}

#[test]
fn what_is_no_key_is_told_with_its_file_and_position() {
    let good = std::str::from_utf8(fixture!("cosign.pub")).unwrap();
    let block = |label: &str| format!("{good}-----BEGIN {label}-----\nAAAA\n-----END {label}-----\n");
    for (text, word) in [
        (String::new(), "cosign.pub has no public key"),
        (block("ENCRYPTED SIGSTORE PRIVATE KEY"), "key 2 of cosign.pub is a private key"),
        (block("CERTIFICATE"), "key 2 of cosign.pub is a CERTIFICATE"),
        (block("PUBLIC KEY"), "key 2 of cosign.pub cannot be used"),
        (format!("{good}-----BEGIN PUBLIC KEY-----\nAAAA\n"), "2 keys begin, and 1 end"),
        (good.replace("-----BEGIN PUBLIC", "-----BEGIN"), "cosign.pub is damaged"),
    ] {
        let error = Keys::from_pem("cosign.pub", &text).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
}

#[test]
fn an_id_is_the_beginning_of_what_sha256sum_prints() {
    let ids: Vec<String> = keys(fixture!("cosign.pub")).ids().map(|id| id.to_string()).collect();
    assert_eq!(ids, ["7a43beb0e0959a34"]);
}
