//! What can go wrong, in words for whoever named the component.

use std::path::PathBuf;

use crate::policy::Digest;

/// Why a component could not be obtained.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// A file of the options cannot be used.
    #[error("{} cannot be used: {detail}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        detail: String,
    },
    /// There is nothing by which a registry could be known.
    #[error(
        "this system has no certificates of authorities ({detail}): install `ca-certificates`, or name their file in \
         SSL_CERT_FILE"
    )]
    NoCertificates {
        /// What was found.
        detail: String,
    },
    /// It cannot be reached, or stopped in the middle.
    #[error("{registry} cannot be reached: {detail}")]
    Unreachable {
        /// The registry.
        registry: String,
        /// What happened.
        detail: String,
    },
    /// It speaks no TLS.
    #[error(
        "{registry} does not speak TLS: correct the port, or name it among the registries that are spoken to without"
    )]
    NoTls {
        /// The registry.
        registry: String,
    },
    /// Its certificate proves nothing.
    #[error("{registry} is not trusted: {detail}; give the PEM file of the authority that signed its certificate")]
    Untrusted {
        /// The registry.
        registry: String,
        /// What is wrong with its certificate.
        detail: String,
    },
    /// It is in trouble of its own, or asks to be left alone for a while.
    #[error("{registry} failed: {detail}")]
    Failed {
        /// The registry.
        registry: String,
        /// What it said.
        detail: String,
    },
    /// It wants credentials, or other ones.
    #[error("{registry} refuses {caller}: {remedy}")]
    Unauthorized {
        /// The registry.
        registry: String,
        /// As whom it was asked.
        caller: String,
        /// What to do.
        remedy: String,
    },
    /// It has no such thing.
    #[error("{reference}: the registry has no such {what}: push it, or correct the name and the digest")]
    NotFound {
        /// What was asked for.
        reference: String,
        /// What is missing: a manifest or a blob.
        what: &'static str,
    },
    /// Something is larger than what is taken.
    #[error(
        "{reference}: {what} has {}, and {most} bytes are taken at most",
        size.map_or_else(|| "too many bytes".to_owned(), |size| format!("{size} bytes"))
    )]
    TooLarge {
        /// What was asked for.
        reference: String,
        /// What is too large.
        what: &'static str,
        /// Its size in bytes, where the registry told it.
        size: Option<u64>,
        /// How many bytes are taken.
        most: u64,
    },
    /// The bytes are others than those that were asked for.
    #[error(
        "{reference}: {what} that the registry gives is not {wanted}, but {found}: it is damaged or was exchanged; push it again"
    )]
    DigestMismatch {
        /// What was asked for.
        reference: String,
        /// What has another digest.
        what: &'static str,
        /// The digest that was asked for.
        wanted: Digest,
        /// The digest of what came.
        found: Digest,
    },
    /// It is an image, but of something else.
    #[error("{reference}: {detail}")]
    NoComponent {
        /// What was asked for.
        reference: String,
        /// What it is instead, and what to do.
        detail: String,
    },
    /// It does not do as the specification says.
    #[error("{registry} does not answer like a registry: {detail}")]
    NoRegistry {
        /// The registry.
        registry: String,
        /// What it answered.
        detail: String,
    },
}

impl RegistryError {
    /// In one word, for conditions and machines.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::File { .. } => "FileUnusable",
            Self::NoCertificates { .. } => "NoCertificates",
            Self::Unreachable { .. } => "RegistryUnreachable",
            Self::NoTls { .. } => "NoTls",
            Self::Untrusted { .. } => "RegistryUntrusted",
            Self::Failed { .. } => "RegistryFailed",
            Self::Unauthorized { .. } => "Unauthorized",
            Self::NotFound { .. } => "NotFound",
            Self::TooLarge { .. } => "TooLarge",
            Self::DigestMismatch { .. } => "DigestMismatch",
            Self::NoComponent { .. } => "NoComponent",
            Self::NoRegistry { .. } => "NoRegistry",
        }
    }

    /// Whether the same may succeed a while later although nobody corrects anything.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Failed { .. })
    }
}
