//! What answers as a registry must not.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use causeway::policy::Digest;
use causeway::registry::{Options, Reference};
use serde_json::json;

use super::{COMPONENT, WASM, fetch, fetch_with, options, refused};

/// What is written back.
pub enum Answer {
    /// A head and a body.
    Whole(Vec<u8>),
    /// A head, and then bytes without an end.
    Endless(Vec<u8>),
    /// A head, and then a byte from time to time.
    Dripping(Vec<u8>),
}

impl Answer {
    /// A status, further headers (each ended) and a body.
    pub fn once(status: &str, headers: &str, body: &[u8]) -> Self {
        let length = body.len();
        let head = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n");
        Self::Whole([head.as_bytes(), body].concat())
    }
}

/// Answers each request by its path and its head, as long as the process lives.
pub fn serve(answer: impl Fn(&str, &str) -> Answer + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let answer = Arc::new(answer);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let answer = answer.clone();
            std::thread::spawn(move || converse(stream, &*answer));
        }
    });
    address
}

fn converse(mut stream: TcpStream, answer: &(impl Fn(&str, &str) -> Answer + ?Sized)) {
    let (mut head, mut buffer) = (Vec::new(), [0; 4096]);
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut buffer) {
            // A handshake of TLS is no request.
            Ok(read) if read > 0 && (head.len() + read < 65_536) && buffer[0] != 0x16 => {
                head.extend_from_slice(&buffer[..read])
            }
            _ => {
                let _ = stream.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\n");
                return;
            }
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let path = head.split(' ').nth(1).unwrap_or_default();
    let (head, rest, pause) = match answer(path, &head) {
        Answer::Whole(bytes) => (bytes, Vec::new(), Duration::ZERO),
        Answer::Endless(head) => (head, vec![b' '; 1 << 16], Duration::ZERO),
        Answer::Dripping(head) => (head, vec![b' '], Duration::from_millis(100)),
    };
    if stream.write_all(&head).is_err() || rest.is_empty() {
        return;
    }
    while stream.write_all(&rest).is_ok() {
        std::thread::sleep(pause);
    }
}

fn reference(address: SocketAddr, manifest: &[u8]) -> Reference {
    format!("oci://{address}/p@{}", Digest::of(manifest)).parse().unwrap()
}

fn manifest(size: usize) -> Vec<u8> {
    json!({"schemaVersion": 2, "layers": [{"mediaType": WASM, "digest": Digest::of(COMPONENT).to_string(), "size": size}]})
        .to_string()
        .into_bytes()
}

const OPEN_ENDED: &[u8] = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn answers_without_an_end_fill_no_memory() {
    let text = manifest(COMPONENT.len());
    let address = serve(|_, _| Answer::Endless(OPEN_ENDED.to_vec()));
    refused(fetch(&reference(address, &text)).await, "TooLarge", "the manifest has too many bytes");

    let served = text.clone();
    let address = serve(move |path, _| match path.contains("/blobs/") {
        true => Answer::Endless(OPEN_ENDED.to_vec()),
        false => Answer::once("200 OK", "", &served),
    });
    refused(fetch(&reference(address, &text)).await, "TooLarge", "the component has too many bytes");

    let address = serve(|_, _| Answer::Endless(b"HTTP/1.1 500 Oh\r\nConnection: close\r\n\r\n".to_vec()));
    refused(fetch(&reference(address, &text)).await, "RegistryFailed", "500");

    let address = serve(|_, _| Answer::once("200 OK", "", &vec![b' '; (4 << 20) + 1]));
    refused(fetch(&reference(address, &text)).await, "TooLarge", "the manifest has 4194305 bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_drips_ends_with_the_time_that_one_may_take() {
    let address = serve(|_, _| Answer::Dripping(OPEN_ENDED.to_vec()));
    let started = Instant::now();
    let impatient = Options { most_time: Duration::from_secs(2), ..options() };
    refused(fetch_with(impatient, &reference(address, b"")).await, "RegistryUnreachable", "did not end within 2s");
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_not_trusted_either() {
    for (token, reason, word) in [
        (json!({"token": "a\nb"}).to_string(), "NoRegistry", "forbidden characters"),
        (json!({"other": "a"}).to_string(), "NoRegistry", "no token"),
        ("<html>".to_owned(), "NoRegistry", "no token"),
        (" ".repeat(70_000), "TooLarge", "the token"),
    ] {
        let tokens = serve(move |_, _| Answer::once("200 OK", "", token.as_bytes()));
        let header = format!("WWW-Authenticate: Bearer realm=\"http://{tokens}/\"\r\n");
        let address = serve(move |_, _| Answer::once("401 Unauthorized", &header, b"{}"));
        refused(fetch(&reference(address, b"")).await, reason, word);
    }
    for realm in ["file:///etc/passwd", "nonsense", "https://"] {
        let header = format!("WWW-Authenticate: Bearer realm=\"{realm}\"\r\n");
        let address = serve(move |_, _| Answer::once("401 Unauthorized", &header, b"{}"));
        refused(fetch(&reference(address, b"")).await, "NoRegistry", "its tokens come from");
    }
    let tokens = serve(|_, _| Answer::once("503 Busy", "", b"{}"));
    let header = format!("WWW-Authenticate: Bearer realm=\"http://{tokens}/\"\r\n");
    let address = serve(move |_, _| Answer::once("401 Unauthorized", &header, b"{}"));
    refused(fetch(&reference(address, b"")).await, "RegistryFailed", "503");
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_are_for_their_own_registry() {
    let text = manifest(COMPONENT.len());
    let seen = Arc::new(Mutex::new(Vec::new()));
    // Where the blob really lies: not the registry's business, and not to be shown the password.
    let heads = seen.clone();
    let elsewhere = serve(move |_, head| {
        heads.lock().unwrap().push(head.to_ascii_lowercase());
        Answer::once("200 OK", "", COMPONENT)
    });
    let served = text.clone();
    let address = serve(move |path, head| {
        if !head.contains("Basic ") {
            return Answer::once("401 Unauthorized", "WWW-Authenticate: Basic realm=\"x\"\r\n", b"{}");
        }
        match path {
            _ if path.contains("/blobs/") => {
                Answer::once("307 Temporary Redirect", &format!("Location: http://{elsewhere}/blob\r\n"), b"")
            }
            _ if path.ends_with(".sig") => Answer::once("404 Not Found", "", b"{}"),
            _ => Answer::once("200 OK", "", &served),
        }
    });
    let dir = tempfile::tempdir().unwrap();
    let credentials = dir.path().join("config.json");
    let config = json!({"auths": {address.to_string(): {"username": "reader", "password": "secret"}}});
    std::fs::write(&credentials, config.to_string()).unwrap();
    let options = Options { credentials: Some(credentials), ..options() };
    let fetched = fetch_with(options.clone(), &reference(address, &text)).await.unwrap();
    assert_eq!(fetched.bytes, COMPONENT);
    let heads = seen.lock().unwrap().clone();
    assert_eq!(heads.len(), 1);
    assert!(!heads[0].contains("authorization") && !heads[0].contains("referer"), "{}", heads[0]);

    // A place that the registry sends to and that asks for a password gets none.
    let asking = serve(|_, head| {
        assert!(!head.contains("uthorization"), "{head}");
        Answer::once("401 Unauthorized", "WWW-Authenticate: Basic realm=\"x\"\r\n", b"{}")
    });
    let address =
        serve(move |_, _| Answer::once("307 Temporary Redirect", &format!("Location: http://{asking}/\r\n"), b""));
    refused(fetch_with(options, &reference(address, &text)).await, "Unauthorized", "credentials");
}

#[tokio::test(flavor = "multi_thread")]
async fn redirects_end() {
    let address = serve(|path, _| Answer::once("302 Found", &format!("Location: {path}x\r\n"), b""));
    refused(fetch(&reference(address, b"")).await, "NoRegistry", "redirects too often");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_manifest_than_the_one_that_was_asked_for_is_refused() {
    let (wanted, given) = (manifest(COMPONENT.len()), manifest(1));
    let found = Digest::of(&given).to_string();
    let address = serve(move |_, _| Answer::once("200 OK", "", &given));
    refused(fetch(&reference(address, &wanted)).await, "DigestMismatch", &found);
    for text in [
        &b"{"[..],
        b"[]",
        b"{\"layers\":[{\"mediaType\":\"application/wasm\",\"digest\":\"sha256:1\",\"size\":1}]}",
        b"{}",
    ] {
        let address = serve(move |_, _| Answer::once("200 OK", "", text));
        refused(fetch(&reference(address, text)).await, "NoComponent", "");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_registry_says_about_a_failure_is_told() {
    let body = json!({"errors": [{"code": "TOOMANYREQUESTS", "message": "come back\n later"}]}).to_string();
    let address = serve(move |_, _| Answer::once("429 Too Many Requests", "", body.as_bytes()));
    refused(
        fetch(&reference(address, b"")).await,
        "RegistryFailed",
        "429 Too Many Requests (TOOMANYREQUESTS: come back later)",
    );
}
