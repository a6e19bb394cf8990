//! Policies over HTTP: they are uploaded, activated, rolled back, deleted and looked at. What they are made of and kept
//! in is behind [`Policies`], which whoever wires the rooms implements.

mod error;
mod handlers;
mod uploads;
mod view;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::Value;

pub use error::PolicyError;
pub(crate) use handlers::SIGNATURE;
pub(super) use handlers::{activate, component, delete, list, logs, roll_back, show, upload};
pub use uploads::Uploads;
pub use view::{Outcome, PolicyChanged, PolicyDetail, PolicyView, Source, State, VersionView};

use crate::policy::{Digest, OnFailure, World};
use crate::reconcile::view::PolicyLine;

/// A component that becomes a version of a policy.
#[derive(Clone, Debug)]
pub struct Upload {
    /// The policy's name; it need not be there yet.
    pub name: Arc<str>,
    /// What it decides on, where that is said; else it is found out.
    pub world: Option<World>,
    /// The component.
    pub bytes: Bytes,
    /// How it is used.
    pub settings: ChangedSettings,
    /// When it comes into force.
    pub activation: Activation,
    /// A signature of the bytes, as `cosign sign-blob` prints it.
    pub signature: Option<String>,
}

/// Settings that are said; the others stay as they were, or are the defaults.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChangedSettings {
    /// Its own configuration: an object, or null.
    pub config: Option<Value>,
    /// Instructions of a call.
    pub fuel: Option<u64>,
    /// Memory of an instance, in MiB.
    pub memory_mib: Option<u32>,
    /// How much of what is in service one decision may take away, in percent.
    pub max_removed_percent: Option<u32>,
    /// What holds where it fails.
    pub on_failure: Option<OnFailure>,
}

/// When an uploaded version comes into force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// At once.
    Now,
    /// When somebody says so.
    Later,
}

/// Which of a policy's versions is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// The one of this number.
    Number(u32),
    /// The newest whose component's digest begins with this, with or without `sha256:`.
    Digest(String),
}

/// What is done about accesses that use a policy which is to be deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InUse {
    /// They keep it from being deleted.
    Refuse,
    /// They get what their fallback is.
    FallBack,
}

/// All policies, and what can be done with them.
#[async_trait]
pub trait Policies: Send + Sync {
    /// All that there are: built in, uploaded, or only asked to be in force.
    async fn list(&self) -> Result<Vec<PolicyView>, PolicyError>;
    /// Everything of one.
    async fn show(&self, name: &str) -> Result<PolicyDetail, PolicyError>;
    /// The bytes of a version, the one in force where none is said.
    async fn component(&self, name: &str, which: Option<Which>) -> Result<(Digest, Bytes), PolicyError>;
    /// Verifies, keeps and activates a component.
    async fn upload(&self, upload: Upload) -> Result<PolicyChanged, PolicyError>;
    /// Puts a version into force.
    async fn activate(&self, name: &str, which: Which) -> Result<PolicyChanged, PolicyError>;
    /// Puts the version into force that was so before.
    async fn roll_back(&self, name: &str) -> Result<PolicyChanged, PolicyError>;
    /// Forgets a policy and its versions. In the place of a built-in one that comes back.
    async fn delete(&self, name: &str, in_use: InUse) -> Result<(), PolicyError>;
    /// What it wrote last, oldest first.
    async fn logs(&self, name: &str) -> Result<Vec<PolicyLine>, PolicyError>;
}
