//! Components from a real registry, and from hostile ones.

mod access;
mod away;
mod fetch;
mod hostile;
pub mod signed;

use std::time::Duration;

use causeway::registry::{Fetched, Options, Reference, Registry, RegistryError};
use oci_client::client::ImageLayer;

use crate::support::registry::Registry as Server;

/// A component, as far as a registry is concerned.
const COMPONENT: &[u8] = include_bytes!("../../fixtures/cosign/empty.wasm");
const WASM: &str = "application/wasm";

pub fn wasm(bytes: &[u8]) -> ImageLayer {
    ImageLayer::new(bytes.to_vec(), WASM.to_owned(), None)
}

/// Short enough that silence ends a test soon, long enough for a machine that is busy.
fn options() -> Options {
    Options { patience: Duration::from_secs(5), ..Options::default() }
}

fn reference(server: &Server, name: &str, digest: &str) -> Reference {
    format!("oci://{}/{name}@{digest}", server.host()).parse().unwrap()
}

async fn fetch_with(options: Options, reference: &Reference) -> Result<Fetched, RegistryError> {
    Registry::new(options).unwrap().component(reference).await
}

async fn fetch(reference: &Reference) -> Result<Fetched, RegistryError> {
    fetch_with(options(), reference).await
}

/// That it failed for this reason, in words that hold this one, and that another try is worthwhile or not.
#[track_caller]
fn refused(outcome: Result<Fetched, RegistryError>, reason: &str, word: &str) {
    let error = outcome.map(|fetched| fetched.bytes.len()).unwrap_err();
    assert_eq!(error.reason(), reason, "{error}");
    assert!(error.to_string().contains(word), "{error}");
    assert_eq!(error.is_transient(), matches!(reason, "RegistryUnreachable" | "RegistryFailed"), "{error}");
}
