//! What a `Policy` object says: which component decides, where it comes from, and how it is used.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a policy decides on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum World {
    /// Where a service's traffic goes.
    #[default]
    #[serde(rename = "lb-policy")]
    Lb,
    /// Which address a service gets.
    #[serde(rename = "vip-policy")]
    Vip,
}

/// What holds where a policy fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnFailure {
    /// Its last good decision, less the endpoints that are gone.
    #[default]
    KeepLast,
    /// What the default policy decides.
    Default,
}

/// A `Policy`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PolicySpec {
    /// Its name.
    pub name: Arc<str>,
    /// What it decides on.
    pub world: World,
    /// The component's digest, as `sha256:` and 64 hexadecimal digits; not said only where the source says which bytes
    /// are meant.
    pub digest: Option<Arc<str>>,
    /// Where the component's bytes are.
    pub from: ComponentSource,
    /// Base64 of a signature of the bytes, as `cosign sign-blob` prints it.
    #[serde(default)]
    pub signature: Option<Arc<str>>,
    /// The policy's own configuration: an object, or null.
    #[serde(default)]
    pub config: serde_json::Value,
    /// What holds where it fails.
    #[serde(default)]
    pub on_failure: OnFailure,
    /// Instructions of a call; the default where not said.
    #[serde(default)]
    pub fuel: Option<u64>,
    /// Memory of an instance, in MiB; the default where not said.
    #[serde(default)]
    pub memory_mib: Option<u32>,
    /// How much of what is in service one decision may take away, in percent; no limit where not said.
    #[serde(default)]
    pub max_removed_percent: Option<u32>,
    /// Of which generation of the object this is said; 0 where objects have none.
    #[serde(default)]
    pub generation: i64,
}

/// Where a component's bytes are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ComponentSource {
    /// Somebody uploads them.
    Upload,
    /// In `binaryData` of a ConfigMap of the primary.
    ConfigMap {
        /// Its namespace.
        namespace: Arc<str>,
        /// Its name.
        name: Arc<str>,
        /// The key within it.
        key: Arc<str>,
    },
    /// In a registry, as `oci://host/name@sha256:…`, which is the digest of a manifest.
    Oci(Arc<str>),
    /// In a file beneath the folder that the operator chose.
    Path(Arc<str>),
}

impl std::fmt::Display for ComponentSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Upload => f.write_str("upload"),
            Self::ConfigMap { namespace, name, key } => write!(f, "ConfigMap {namespace}/{name} key {key}"),
            Self::Oci(reference) => f.write_str(reference),
            Self::Path(path) => write!(f, "file {path}"),
        }
    }
}
