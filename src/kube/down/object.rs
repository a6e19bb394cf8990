//! An object of a sub-cluster, as it shall be. Pure.

use std::fmt;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::core::ApiResource;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::kube::kinds::{EndpointSnapshotResource, MCS_GROUP, MCS_VERSIONS};
use crate::model::id::{ClusterName, NamespacedName};

/// The kinds of what comes down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `causeway.dev` EndpointSnapshot.
    EndpointSnapshot,
    /// `multicluster.x-k8s.io` ServiceImport.
    ServiceImport,
    /// `discovery.k8s.io/v1` EndpointSlice.
    EndpointSlice,
    /// `v1` Service.
    Service,
    /// `multicluster.x-k8s.io` ServiceExport, which users write: only its status is Causeway's.
    ServiceExport,
}

impl Kind {
    /// All kinds, in the order in which they are made: a Service before what it leads to would lead nowhere.
    pub const ALL: [Kind; 5] =
        [Kind::EndpointSnapshot, Kind::ServiceImport, Kind::EndpointSlice, Kind::Service, Kind::ServiceExport];

    /// Whether Causeway makes objects of the kind, and does not only say what became of users'.
    pub fn is_made(self) -> bool {
        self != Kind::ServiceExport
    }

    /// Whether a cluster may do without the kind.
    pub fn is_optional(self) -> bool {
        matches!(self, Kind::ServiceImport | Kind::ServiceExport)
    }

    /// Where the kind is served: the first that is, is used.
    pub(in crate::kube) fn resources(self) -> Vec<ApiResource> {
        match self {
            Kind::EndpointSnapshot => vec![ApiResource::erase::<EndpointSnapshotResource>(&())],
            Kind::EndpointSlice => vec![ApiResource::erase::<EndpointSlice>(&())],
            Kind::Service => vec![ApiResource::erase::<Service>(&())],
            Kind::ServiceImport => mcs("ServiceImport", "serviceimports"),
            Kind::ServiceExport => mcs("ServiceExport", "serviceexports"),
        }
    }

    /// What to install where the kind is not known.
    pub(super) fn remedy(self) -> &'static str {
        match self {
            Kind::EndpointSnapshot => {
                "install Causeway's definitions: `causeway crds | kubectl apply --server-side -f -`"
            }
            Kind::ServiceImport | Kind::ServiceExport => "install the definitions of the MCS API (sigs.k8s.io/mcs-api)",
            Kind::EndpointSlice | Kind::Service => "is this a Kubernetes API server?",
        }
    }
}

fn mcs(kind: &str, plural: &str) -> Vec<ApiResource> {
    let of_version = |version: &str| ApiResource {
        api_version: format!("{MCS_GROUP}/{version}"),
        group: MCS_GROUP.to_owned(),
        version: version.to_owned(),
        kind: kind.to_owned(),
        plural: plural.to_owned(),
    };
    MCS_VERSIONS.iter().map(|version| of_version(version)).collect()
}

/// Identifies an object within a cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace and name.
    pub name: NamespacedName,
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.kind, self.name)
    }
}

/// Which clusters an object is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Audience {
    /// All.
    Everyone,
    /// Those that are to have the pods of this cluster, which is not among them.
    PodsOf(ClusterName),
    /// This one.
    Only(ClusterName),
}

/// What Causeway says of an object; what the API server adds is its own.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// For whom it is.
    pub audience: Audience,
    /// Whether only namespaces that ask for Services get it.
    pub is_asked_for: bool,
    /// It says less than it will once gateways have proved again what they had before a restart.
    pub is_bare: bool,
    /// `metadata` without name and namespace, and what else there is but the status.
    pub body: Value,
    /// The status; null where Causeway writes none.
    pub status: Value,
    /// The hash of the body, by which one form is told from another.
    pub form: u64,
}

impl Part {
    /// An object for all clusters.
    pub fn new(body: Value, status: Value) -> Self {
        let form = hash(&body);
        Self { audience: Audience::Everyone, is_asked_for: false, is_bare: false, body, status, form }
    }

    /// Whether a cluster would notice the difference.
    pub fn is_same(&self, other: &Self) -> bool {
        self.form == other.form && self.is_asked_for == other.is_asked_for && self.status == other.status
    }

    /// The form as the annotation of the object says it.
    pub fn form_text(&self) -> String {
        format!("{:016x}", self.form)
    }
}

/// Fields come in the order of their names, so that the text is the same for ever.
fn hash(body: &Value) -> u64 {
    let digest = Sha256::digest(body.to_string().as_bytes());
    digest.first_chunk().copied().map_or(0, u64::from_be_bytes)
}
