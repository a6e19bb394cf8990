//! What sub-clusters are given, so that their own clients use the names and VIPs: snapshot information of pods, MCS
//! `ServiceImport`s whose address is the VIP, and for namespaces that ask for it Services that lead there.
//!
//! ```text
//!  (reconcile) ─ News ─▶ board ─ render ─┬─ Wanted ─▶ applier ─▶ API server of a cluster that is read
//!                                        └─ Wanted ─▶ (member) ═▶ applier beside the API server of a member's cluster
//! ```
//!
//! What a cluster shall have is rendered once for all clusters. Each has an applier, which compares that with what is
//! there and writes what differs. It touches only objects that it made, known by [`LABEL`]; the cluster manager reads
//! none of those, so that nothing that came down is taken for a source.

mod applier;
mod board;
mod cluster;
mod object;
mod render;
mod seen;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

pub use applier::{Applying, Counters, Summary, Writes, start};
pub use board::{Board, Scope};
pub use object::{Audience, Id, Kind, Part};

use super::outbox::{SnapshotContent, SnapshotKey};
use crate::model::id::{ClusterName, NamespacedName};
use crate::model::object::ServicePort;
use crate::model::world::{self, ExportState, ImportSlice};
use crate::store::Mailbox;

/// The label of every object that came down. What has it is no source.
pub const LABEL: &str = "causeway.dev/synced-down";
/// The label by which a namespace of a sub-cluster asks for Services; its value is `true`.
pub const SERVICES: &str = "causeway.dev/sync-services";

/// A service that an access makes reachable, as clients of other clusters see it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Import {
    /// The ports of its VIPs.
    pub ports: Vec<ServicePort>,
    /// Published VIPs, sorted. None where none has been proved.
    pub vips: Vec<IpAddr>,
    /// The clusters that have it.
    pub clusters: BTreeSet<ClusterName>,
    /// Where it is exported: what the exports amount to, and its endpoints in each cluster.
    pub exported: Option<(world::Import, BTreeMap<ClusterName, Vec<ImportSlice>>)>,
}

/// A service, and an access that reaches it.
pub type Reached = (NamespacedName, NamespacedName);

/// What the owner of the truth tells, in its latest form.
#[derive(Debug, Default)]
pub struct News {
    /// By service and access; `None` where the access does not reach it any more.
    pub imports: BTreeMap<Reached, Option<Arc<Import>>>,
    /// By access, service and cluster; `None` where there are no pods any more.
    pub snapshots: BTreeMap<SnapshotKey, Option<Arc<SnapshotContent>>>,
    /// By name, all ServiceExports that count, and what became of them.
    pub exports: BTreeMap<NamespacedName, Vec<ExportState>>,
    /// Everything that there is was told once.
    pub complete: bool,
}

/// What one cluster shall have, as far as it was not taken yet.
#[derive(Debug, Default)]
pub struct Wanted {
    /// By object; `None` where it shall go.
    pub changes: BTreeMap<Id, Option<Arc<Part>>>,
    /// Everything that the cluster shall have was told: what else is there shall go.
    pub complete: bool,
    /// What gateways had proved before a restart they have had the time to prove again: from now on what is less may be
    /// taken away.
    pub settled: bool,
}

/// The way of [`News`].
pub type Outbox = Mailbox<News>;

/// The way of [`Wanted`].
pub type Inbox = Mailbox<Wanted>;
