//! What people are shown of policies.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::Timestamp;
use crate::policy::OnFailure;
use crate::reconcile::view::{Condition, PolicyCalls};

/// Where a policy comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// It is part of Causeway.
    BuiltIn,
    /// Somebody uploaded it.
    Uploaded,
    /// A Policy object says what it is.
    Object,
}

/// Whether it decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// It does, where an access asks for it.
    Active,
    /// None of its versions was put into force.
    Inactive,
    /// It should, and cannot.
    Broken,
}

/// A policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyView {
    /// Its name.
    pub name: String,
    /// `lb-policy` or `vip-policy`.
    pub world: String,
    /// Where it comes from.
    pub source: Source,
    /// Whether it decides.
    pub state: State,
    /// The number of the version in force; `None` where none is, and of what is built in.
    pub version: Option<u32>,
    /// The digest of the component in force; empty where none is.
    pub digest: String,
    /// Why it is broken; empty otherwise.
    pub message: String,
    /// Accesses that use it, by name or by default.
    pub accesses: usize,
    /// Seconds since the version in force was uploaded; `None` where there is none.
    pub age_seconds: Option<i64>,
    /// What became of its calls.
    #[serde(flatten)]
    pub calls: PolicyCalls,
}

/// Everything of a policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyDetail {
    /// The row of lists.
    #[serde(flatten)]
    pub policy: PolicyView,
    /// The number of the version that was in force before.
    pub before: Option<u32>,
    /// Its versions, oldest first; none of what is built in.
    pub versions: Vec<VersionView>,
    /// Accesses that use it or ask for it, as `namespace/name`.
    pub used_by: Vec<String>,
    /// `Accepted`, `Active` and `Healthy`.
    pub conditions: Vec<Condition>,
}

/// A version of a policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VersionView {
    /// Its number: from 1, in the order of uploads.
    pub number: u32,
    /// Where its bytes came from: `upload`, or what a Policy object says.
    pub source: String,
    /// The key by which it was found to be signed.
    pub signed_by: Option<String>,
    /// The component.
    pub digest: String,
    /// The component's size, in bytes.
    pub size: usize,
    /// Its own configuration; an access's is laid over it.
    pub config: Value,
    /// Instructions of a call.
    pub fuel: u64,
    /// Memory of an instance, in MiB.
    #[serde(rename = "memoryMiB")]
    pub memory_mib: u32,
    /// How much of what is in service one decision may take away, in percent; 100 is no limit.
    pub max_removed_percent: u32,
    /// What holds where it fails.
    pub on_failure: OnFailure,
    /// When it was uploaded, in ms since the Unix epoch.
    pub uploaded_at: Timestamp,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The version is in force from now on.
    Activated,
    /// It is kept, and another is in force, or none.
    Kept,
    /// It was as it should be before.
    Unchanged,
}

/// What was done, and how it is now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PolicyChanged {
    /// What came of it.
    pub outcome: Outcome,
    /// The version that it was about.
    pub version: VersionView,
    /// The policy as it is now.
    pub policy: PolicyView,
}
