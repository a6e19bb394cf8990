//! What a member is given: one file, or one for each thing.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::tls::Material;

/// A member's file, as `causeway cluster join --push` writes it.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemberFile {
    /// Where the primary listens for members, as `HOST:PORT`.
    pub primary: String,
    /// The trust domain of ids.
    #[serde(rename = "trustDomain", default = "trust_domain")]
    pub trust_domain: String,
    /// The primary's authority, in PEM.
    pub ca: String,
    /// The member's certificate, in PEM.
    pub cert: String,
    /// The certificate's key, in PEM.
    pub key: String,
}

fn trust_domain() -> String {
    super::authority::TRUST_DOMAIN.to_owned()
}

/// Flags of `causeway member`.
#[derive(Clone, Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("given").required(true).args(["config", "ca"]))]
pub struct Options {
    /// The file that `causeway cluster join --push` made
    #[arg(long, value_name = "FILE", conflicts_with_all = ["ca", "cert", "key"])]
    pub config: Option<PathBuf>,
    /// Certificates of the primary's authority, in PEM
    #[arg(long, value_name = "FILE", requires_all = ["cert", "key", "primary"])]
    pub ca: Option<PathBuf>,
    /// The member's certificate, in PEM
    #[arg(long, value_name = "FILE")]
    pub cert: Option<PathBuf>,
    /// The certificate's key, in PEM
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// Where the primary listens for members, as HOST:PORT [default: what the file of --config says]
    #[arg(long, value_name = "HOST:PORT", value_parser = super::client::address)]
    pub primary: Option<String>,
    /// The trust domain of the certificate's SPIFFE id [default: what the file of --config says, or causeway]
    #[arg(long, value_name = "NAME")]
    pub trust_domain: Option<String>,
    /// Kubeconfig of the cluster to read [default: as a pod of it, with its service account]
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// How log lines are written: text or json
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub log_format: crate::config::LogFormat,
}

/// Why what a member is given cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// A file cannot be read.
    #[error("{}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// The file is none of a member's.
    #[error("{}: {why}; write it by `causeway cluster join --push`", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

/// What was given, as it lies there at present.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Given {
    pub primary: String,
    pub trust_domain: String,
    pub material: Material,
}

impl Options {
    /// Reads the files anew.
    pub(super) fn read(&self) -> Result<Given, FileError> {
        let text = |path: &Path| {
            fs::read_to_string(path).map_err(|source| FileError::Unreadable { path: path.to_owned(), source })
        };
        let flag = |path: &Option<PathBuf>| path.as_deref().map(text).transpose().map(Option::unwrap_or_default);
        let file = match &self.config {
            Some(path) => serde_yaml_ng::from_str::<MemberFile>(&text(path)?)
                .map_err(|error| FileError::Content { path: path.clone(), why: error.to_string() })?,
            None => MemberFile {
                primary: String::new(),
                trust_domain: trust_domain(),
                ca: flag(&self.ca)?,
                cert: flag(&self.cert)?,
                key: flag(&self.key)?,
            },
        };
        let primary = self.primary.clone().unwrap_or(file.primary);
        if let (Err(why), Some(path)) = (super::client::address(&primary), &self.config) {
            return Err(FileError::Content { path: path.clone(), why: format!("primary: {why}") });
        }
        Ok(Given {
            primary,
            trust_domain: self.trust_domain.clone().unwrap_or(file.trust_domain),
            material: Material { ca: file.ca, cert: file.cert, key: file.key },
        })
    }
}
