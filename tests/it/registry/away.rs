//! Registries that are away: another try is worthwhile, and nothing waits for ever.

use std::time::{Duration, Instant};

use causeway::registry::Options;
use oci_client::secrets::RegistryAuth::Anonymous;

use super::{COMPONENT, fetch, fetch_with, options, reference, refused, wasm};
use crate::support::registry::{Door, Registry};

#[tokio::test]
async fn a_registry_that_is_gone_or_silent_is_worth_another_try() {
    let server = Registry::start(&Door::Open);
    let digest = server.push("p", "v1", &[wasm(COMPONENT)], &Anonymous).await;
    let reference = reference(&server, "p", &digest);
    fetch(&reference).await.unwrap();

    server.signal("STOP");
    let started = Instant::now();
    let impatient = Options { patience: Duration::from_secs(1), ..options() };
    refused(fetch_with(impatient, &reference).await, "RegistryUnreachable", "said nothing");
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    server.signal("CONT");
    fetch(&reference).await.unwrap();

    server.stop();
    refused(fetch(&reference).await, "RegistryUnreachable", "refused");
    server.resume();
    assert_eq!(fetch(&reference).await.unwrap().bytes, COMPONENT);
}
