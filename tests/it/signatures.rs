//! Public keys of every kind that `openssl` makes, and its signatures.

use causeway::trust::signature::Keys;

use crate::support::signing::{P256, SigningKey};

#[test]
fn what_openssl_signs_is_known_by_its_public_key() {
    for kind in [P256, &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]] {
        let (key, other) = (SigningKey::generate(kind), SigningKey::generate(kind));
        let keys = Keys::from_pem("key.pub", &key.public()).unwrap();
        let others = Keys::from_pem("other.pub", &other.public()).unwrap();
        for signature in [key.sign(b"component"), key.sign_in_base64(b"component").into_bytes()] {
            assert_eq!(keys.verify_blob(b"component", &signature).ok(), keys.ids().next(), "{kind:?}");
            assert!(keys.verify_blob(b"Component", &signature).is_err(), "{kind:?}");
            assert!(others.verify_blob(b"component", &signature).is_err(), "{kind:?}");
        }
    }
}

#[test]
fn keys_that_cannot_be_used_are_refused_when_they_are_read() {
    for (kind, word) in [
        (&["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"][..], "another curve"),
        (&["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:secp256k1"], "another curve"),
        (&["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"], "bits"),
        (&["-algorithm", "ed448"], "another algorithm"),
    ] {
        let error = Keys::from_pem("key.pub", &SigningKey::generate(kind).public()).unwrap_err().to_string();
        assert!(error.contains("key 1 of key.pub") && error.contains(word), "{error}");
    }
    let key = SigningKey::generate(P256);
    let compressed = key.openssl(&["ec", "-in", "key.pem", "-pubout", "-conv_form", "compressed"]);
    let error = Keys::from_pem("key.pub", std::str::from_utf8(&compressed).unwrap()).unwrap_err().to_string();
    assert!(error.contains("compressed"), "{error}");
    let private = std::fs::read_to_string(key.file()).unwrap();
    let error = Keys::from_pem("key.pem", &private).unwrap_err().to_string();
    assert!(error.contains("key 1 of key.pem is a private key"), "{error}");
    let certificate = std::fs::read_to_string(key.certificate()).unwrap();
    let error = Keys::from_pem("cert.pem", &certificate).unwrap_err().to_string();
    assert!(error.contains("openssl x509"), "{error}");
}
