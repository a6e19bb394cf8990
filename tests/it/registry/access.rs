//! Passwords, tokens and TLS.

use std::fs;
use std::path::Path;

use causeway::registry::{Options, Registry as Client};
use oci_client::secrets::RegistryAuth::{Anonymous, Basic};
use serde_json::json;

use super::hostile::{Answer, serve};
use super::{COMPONENT, fetch, fetch_with, options, reference, refused, wasm};
use crate::support::registry::{Door, PASSWORD, Registry, USER};
use crate::support::signing::{P256, SigningKey};

fn with_password(server: &Registry, password: &str) -> Options {
    let config = json!({"auths": {server.host(): {"username": USER, "password": password}}});
    Options { credentials: Some(server.file("config.json", &config.to_string())), ..options() }
}

#[tokio::test]
async fn a_password_lets_in() {
    let server = Registry::start(&Door::Password);
    let auth = Basic(USER.to_owned(), PASSWORD.to_owned());
    let digest = server.push("p", "v1", &[wasm(COMPONENT)], &auth).await;
    let reference = reference(&server, "p", &digest);
    refused(fetch(&reference).await, "Unauthorized", "whoever has no credentials");
    refused(
        fetch_with(with_password(&server, "wrong"), &reference).await,
        "Unauthorized",
        "`reader`: correct the password",
    );

    let client = Client::new(with_password(&server, PASSWORD)).unwrap();
    assert_eq!(client.component(&reference).await.unwrap().bytes, COMPONENT);
    // Credentials rotate while the process runs.
    with_password(&server, "old");
    refused(client.component(&reference).await, "Unauthorized", "`reader`");
    with_password(&server, PASSWORD);
    client.component(&reference).await.unwrap();
    server.file("config.json", "{");
    refused(client.component(&reference).await, "FileUnusable", "config.json");
}

/// Gives tokens for reading and writing to whoever says the password, as large registries do.
fn token_server(key: SigningKey) -> (String, std::path::PathBuf) {
    let certificate = key.certificate();
    let der = String::from_utf8(key.openssl(&["x509", "-in", "cert.pem"])).unwrap();
    let x5c: String = der.lines().filter(|line| !line.starts_with("-----")).collect();
    let address = serve(move |path, head| {
        // printf reader:secret | base64
        if !head.contains("Basic cmVhZGVyOnNlY3JldA==") {
            return Answer::once("401 Unauthorized", "", b"{}");
        }
        assert!(path.contains("service=test"), "{path}");
        let now = jiff::Timestamp::now().as_second();
        let header = json!({"alg": "RS256", "typ": "JWT", "x5c": [x5c]});
        let claims = json!({
            "iss": "test", "sub": USER, "aud": "test", "jti": "1", "iat": now, "nbf": now - 60, "exp": now + 300,
            "access": [{"type": "repository", "name": "team/policy", "actions": ["pull", "push"]}],
        });
        let url_safe = |text: &str| text.trim_end_matches('=').replace('+', "-").replace('/', "_");
        let part = |value: &serde_json::Value| url_safe(&base64(value.to_string().as_bytes()));
        let signed = format!("{}.{}", part(&header), part(&claims));
        let token = format!("{signed}.{}", url_safe(&key.sign_in_base64(signed.as_bytes())));
        Answer::once("200 OK", "", json!({"token": token}).to_string().as_bytes())
    });
    (format!("http://{address}/token"), certificate)
}

fn base64(bytes: &[u8]) -> String {
    use ::base64::Engine as _;
    ::base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_lets_in() {
    let key = SigningKey::generate(&["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]);
    let (realm, certificate) = token_server(key);
    let server = Registry::start(&Door::Token { realm, certificate });
    let auth = Basic(USER.to_owned(), PASSWORD.to_owned());
    let digest = server.push("team/policy", "v1", &[wasm(COMPONENT)], &auth).await;
    let reference = reference(&server, "team/policy", &digest);
    assert_eq!(fetch_with(with_password(&server, PASSWORD), &reference).await.unwrap().bytes, COMPONENT);
    refused(fetch_with(with_password(&server, "wrong"), &reference).await, "Unauthorized", "`reader`");
    refused(fetch(&reference).await, "Unauthorized", "whoever has no credentials");
}

#[tokio::test]
async fn tls_is_spoken_with_those_who_are_trusted() {
    let key = SigningKey::generate(P256);
    let certificate = key.certificate();
    let server = Registry::start(&Door::Tls { certificate: certificate.clone(), key: key.file() });
    let digest = format!("sha256:{}", "0".repeat(64));
    let reference = reference(&server, "p", &digest);
    refused(fetch(&reference).await, "RegistryUntrusted", "UnknownIssuer");
    // It is trusted, and asked: there is nothing in it.
    let trusting = Options { ca: Some(certificate), ..options() };
    refused(fetch_with(trusting.clone(), &reference).await, "NotFound", "no such manifest");
    let named = Options { plain_http: vec![server.host()], ..trusting };
    refused(fetch_with(named, &reference).await, "NoRegistry", "400");
}

#[tokio::test]
async fn registries_elsewhere_are_not_spoken_to_in_plain() {
    let server = Registry::start(&Door::Open);
    let digest = server.push("p", "v1", &[wasm(COMPONENT)], &Anonymous).await;
    // A name that means this machine, but does not say so.
    let host = server.host().replace("127.0.0.1", &this_machine());
    let reference = format!("oci://{host}/p@{digest}").parse().unwrap();
    refused(fetch(&reference).await, "NoTls", "does not speak TLS");
    let named = Options { plain_http: vec![host], ..options() };
    assert_eq!(fetch_with(named, &reference).await.unwrap().bytes, COMPONENT);
}

/// The resolver knows more names of 127.0.0.1 than `localhost`: numbers are one.
fn this_machine() -> String {
    "2130706433".to_owned()
}

#[test]
fn files_that_cannot_be_used_are_told_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let refused = |options: Options, path: &Path, word: &str| {
        let error = Client::new(options).unwrap_err();
        let text = error.to_string();
        assert!(
            error.reason() == "FileUnusable" && text.contains(&path.display().to_string()) && text.contains(word),
            "{text}"
        );
    };
    let missing = dir.path().join("missing");
    refused(Options { ca: Some(missing.clone()), ..options() }, &missing, "No such file");
    refused(Options { credentials: Some(missing.clone()), ..options() }, &missing, "No such file");
    let empty = file("empty.pem", "");
    refused(Options { ca: Some(empty.clone()), ..options() }, &empty, "no certificate");
    let text = file("config.json", "[");
    refused(Options { credentials: Some(text.clone()), ..options() }, &text, "docker's config.json");
}
