//! Components from registries of container images: `oci://host/name@sha256:…`, as the CNCF's "Wasm OCI Artifact" lays
//! them out (<https://tag-runtime.cncf.io/wgs/wasm/deliverables/wasm-oci-artifact/>) and `oras`, `wkg` or `crane` push
//! them.
//!
//! Whoever names a registry may name a hostile one: everything that is read has a size that it may have and a time that it
//! may take, nothing is kept but bytes whose digest was asked for, and credentials go to their own registry alone.

pub(crate) mod challenge;
pub(crate) mod credentials;
mod error;
pub(crate) mod manifest;
mod reference;
#[cfg(test)]
mod tests;
mod wire;

use std::path::PathBuf;
use std::time::Duration;

pub use error::RegistryError;
pub use reference::{NoReference, Reference};

use crate::policy::{Digest, MOST_BYTES};
use manifest::Manifest;
use wire::{Clients, Scheme, Session};

/// The largest manifest that is read, in bytes: what registries have to take at least.
const MOST_MANIFEST: u64 = 4 << 20;
/// The largest payload of a signature that is read, in bytes.
const MOST_PAYLOAD: u64 = 64 << 10;
/// How many signatures of one image are read: the newest.
const MOST_SIGNATURES: usize = 16;

/// How registries are spoken to.
#[derive(Clone, Debug)]
pub struct Options {
    /// A file like docker's `config.json`, whose `auths` are used. It is read anew each time, as credentials rotate.
    pub credentials: Option<PathBuf>,
    /// A PEM file of certificates that are trusted beside the system's.
    pub ca: Option<PathBuf>,
    /// Registries (`host:port` as in references) that are spoken to without TLS. Those on a loopback address need not be
    /// named.
    pub plain_http: Vec<String>,
    /// How long a registry may say nothing, when it is connected to and between any two parts of an answer.
    pub patience: Duration,
    /// How long one answer may take in all.
    pub most_time: Duration,
}

impl Default for Options {
    /// No credentials, the system's certificates, 15 s of silence and 5 minutes for an answer: 32 MiB over 1 Mbit/s.
    fn default() -> Self {
        Self {
            credentials: None,
            ca: None,
            plain_http: Vec::new(),
            patience: Duration::from_secs(15),
            most_time: Duration::from_secs(300),
        }
    }
}

/// A signature that somebody put beside an image. Nothing is verified yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// What was signed: a statement about the image.
    pub payload: Vec<u8>,
    /// The signature of the payload, in base64.
    pub signature: String,
}

/// What a registry gave.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The component.
    pub bytes: Vec<u8>,
    /// The digest of the manifest, which is the reference's.
    pub manifest_digest: Digest,
    /// The signatures that `cosign sign` put beside it.
    pub signatures: Vec<Signature>,
}

/// Registries, as this process may use them.
#[derive(Clone, Debug)]
pub struct Registry {
    options: Options,
    clients: Clients,
}

impl Registry {
    /// Checks the files that the options name.
    ///
    /// # Errors
    /// When one of them cannot be read or is not what it should be.
    pub fn new(options: Options) -> Result<Self, RegistryError> {
        if let Some(path) = &options.credentials {
            credentials::check(path)?;
        }
        let clients = Clients::new(&options)?;
        Ok(Self { options, clients })
    }

    /// Obtains a component and its signatures. Both digests, that of the manifest and that of the component, are verified;
    /// signatures are not.
    ///
    /// # Errors
    /// When the registry does not give it, or gives something else.
    pub async fn component(&self, reference: &Reference) -> Result<Fetched, RegistryError> {
        let host = reference.registry();
        if self.options.plain_http.iter().any(|plain| plain == host) {
            return self.component_over(reference, Scheme::Http).await;
        }
        match self.component_over(reference, Scheme::Https).await {
            // What is sent to oneself is seen by nobody else.
            Err(RegistryError::NoTls { .. }) if reference.is_loopback() => {
                self.component_over(reference, Scheme::Http).await
            }
            outcome => outcome,
        }
    }

    async fn component_over(&self, reference: &Reference, scheme: Scheme) -> Result<Fetched, RegistryError> {
        let mut session = Session::new(&self.clients, &self.options, reference, scheme).await?;
        let wanted = reference.digest();
        let text = session.manifest(&wanted.to_string(), MOST_MANIFEST).await?;
        verify(reference, "the manifest", wanted, &text)?;
        let layer = Manifest::parse(reference, &text)?.component(reference)?;
        if layer.size > MOST_BYTES as u64 {
            return Err(RegistryError::TooLarge {
                reference: reference.to_string(),
                what: "the component",
                size: Some(layer.size),
                most: MOST_BYTES as u64,
            });
        }
        let bytes = session.blob("the component", layer.digest, layer.size).await?;
        verify(reference, "the component", layer.digest, &bytes)?;
        let signatures = signatures(&mut session, reference).await?;
        Ok(Fetched { bytes, manifest_digest: wanted, signatures })
    }
}

/// What `cosign sign` stored: an image of its own in the same repository, whose tag is made of the digest that was signed
/// and whose layers are payloads. It is not pinned; that payloads are whole is verified, and who signed them is to be.
async fn signatures(session: &mut Session<'_>, reference: &Reference) -> Result<Vec<Signature>, RegistryError> {
    let tag = format!("{}.sig", reference.digest().to_string().replace(':', "-"));
    let text = match session.manifest(&tag, MOST_MANIFEST).await {
        Ok(text) => text,
        Err(RegistryError::NotFound { .. }) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut signatures = Vec::new();
    for (layer, signature) in Manifest::parse(reference, &text)?.signatures(MOST_PAYLOAD, MOST_SIGNATURES) {
        let payload = session.blob("a signature's payload", layer.digest, layer.size).await?;
        verify(reference, "a signature's payload", layer.digest, &payload)?;
        signatures.push(Signature { payload, signature });
    }
    Ok(signatures)
}

fn verify(reference: &Reference, what: &'static str, wanted: Digest, bytes: &[u8]) -> Result<(), RegistryError> {
    let found = Digest::of(bytes);
    if found == wanted {
        return Ok(());
    }
    Err(RegistryError::DigestMismatch { reference: reference.to_string(), what, wanted, found })
}
