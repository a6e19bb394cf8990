//! Where the bytes of a Policy object's component come from.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use tokio::io::AsyncReadExt;

use crate::kube::component::of_config_map;
use crate::model::policy::{ComponentSource, PolicySpec};
use crate::policy::{Digest, LoadError, MOST_BYTES};
use crate::reconcile::PolicyFault;
use crate::registry::{NoReference, Reference, Registry, RegistryError, Signature};

/// Where components are looked for.
pub(in crate::app) struct Sources {
    /// Beneath it lie files.
    pub folder: Option<PathBuf>,
    /// The primary's API server, where clusters are read from API servers.
    pub client: Option<kube::Client>,
    /// Registries.
    pub registry: Registry,
}

/// A component's bytes, and who says that they are right.
pub(super) struct Obtained {
    /// The bytes.
    pub bytes: Bytes,
    /// The manifest that they belong to, and its signatures, where they come from a registry.
    pub image: Option<Image>,
}

/// What a registry says of a component.
pub(super) struct Image {
    /// The manifest's digest.
    pub digest: Digest,
    /// Signatures of the manifest.
    pub signatures: Vec<Signature>,
}

/// Why what an object says cannot be in force, and whether that may end by itself.
#[derive(Debug)]
pub(super) struct Unfit {
    /// Why.
    pub fault: PolicyFault,
    /// Whether it is tried again.
    pub again: Again,
}

/// Whether something is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Again {
    /// After a pause.
    Later,
    /// When the object differs, or somebody uploads something.
    WhenChanged,
}

impl Unfit {
    pub fn new(again: Again, reason: &str, message: impl Into<String>) -> Self {
        Self { fault: PolicyFault { reason: reason.to_owned(), message: message.into() }, again }
    }
}

impl Sources {
    /// Obtains a component, whose digest is the one that the object says.
    pub(super) async fn obtain(&self, spec: &PolicySpec) -> Result<Obtained, Unfit> {
        let obtained = match &spec.from {
            ComponentSource::Upload => {
                let digest = spec.digest.as_deref().unwrap_or_default();
                let message = format!(
                    "no component {digest} was uploaded; upload it: causeway policy upload {} FILE --no-activate",
                    spec.name
                );
                return Err(Unfit::new(Again::WhenChanged, "ComponentNotFound", message));
            }
            ComponentSource::ConfigMap { namespace, name, key } => {
                let Some(client) = &self.client else {
                    let message = "clusters are read from files here, and a ConfigMap can only be read from an API server; use \
                                   spec.component.from.path";
                    return Err(Unfit::new(Again::WhenChanged, "SourceNotServed", message));
                };
                let bytes = of_config_map(client, namespace, name, key).await;
                let bytes = bytes.map_err(|why| Unfit::new(Again::Later, why.reason, why.to_string()))?;
                Obtained { bytes: bytes.into(), image: None }
            }
            ComponentSource::Path(path) => Obtained { bytes: self.file(path).await?, image: None },
            ComponentSource::Oci(reference) => self.image(reference).await?,
        };
        if obtained.bytes.len() > MOST_BYTES {
            let error = LoadError::TooLarge { size: obtained.bytes.len(), most: MOST_BYTES };
            return Err(Unfit::new(Again::Later, error.reason(), error.to_string()));
        }
        let found = Digest::of(&obtained.bytes).to_string();
        match &spec.digest {
            Some(wanted) if **wanted != *found => {
                let message = format!("{} has the digest {found}, but spec.component.digest says {wanted}", spec.from);
                Err(Unfit::new(Again::Later, "DigestMismatch", message))
            }
            _ => Ok(obtained),
        }
    }

    async fn file(&self, path: &str) -> Result<Bytes, Unfit> {
        let Some(folder) = &self.folder else {
            let message = "files are read only beneath --policy-dir, which `causeway serve` was not told";
            return Err(Unfit::new(Again::WhenChanged, "SourceNotServed", message));
        };
        let failed = |error: io::Error| {
            let reason = match error.kind() {
                io::ErrorKind::NotFound => "ComponentNotFound",
                _ => "Unreadable",
            };
            let message = format!("{path} in {} cannot be read: {error}; put the component there", folder.display());
            Unfit::new(Again::Later, reason, message)
        };
        let whole = inside(folder, path).await.map_err(failed)?;
        let file = tokio::fs::File::open(whole).await.map_err(failed)?;
        let mut bytes = Vec::new();
        file.take(MOST_BYTES as u64 + 1).read_to_end(&mut bytes).await.map_err(failed)?;
        Ok(bytes.into())
    }

    async fn image(&self, reference: &str) -> Result<Obtained, Unfit> {
        let unread = |error: NoReference| Unfit::new(Again::WhenChanged, "InvalidReference", error.to_string());
        let parsed: Reference = reference.parse().map_err(unread)?;
        let failed = |error: RegistryError| {
            // What is missing or refused may be there, or allowed, a while later.
            Unfit::new(Again::Later, error.reason(), error.to_string())
        };
        let fetched = self.registry.component(&parsed).await.map_err(failed)?;
        let image = Image { digest: fetched.manifest_digest, signatures: fetched.signatures };
        Ok(Obtained { bytes: fetched.bytes.into(), image: Some(image) })
    }
}

/// The file that is meant, where no link leads it out of the folder.
async fn inside(folder: &Path, path: &str) -> io::Result<PathBuf> {
    let (folder, path) = (tokio::fs::canonicalize(folder).await?, tokio::fs::canonicalize(folder.join(path)).await?);
    match path.starts_with(&folder) {
        true if path.is_file() => Ok(path),
        true => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no file")),
        false => Err(io::Error::new(io::ErrorKind::PermissionDenied, "a link leads out of the folder")),
    }
}
