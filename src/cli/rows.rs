//! Which columns the rows have.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::policy::short;
use super::table::{age, some_of};
pub(super) use crate::admin::policies::PolicyView as Policy;
pub(super) use crate::reconcile::view::{
    AccessRow as Access, ClusterRow as Cluster, Condition, NodeRow as Node, ServiceRow as Service, VipGateway,
    VipRow as Vip,
};

/// When a column is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// Always.
    Always,
    /// With `-o wide`.
    Wide,
    /// Unless one namespace was asked for.
    AcrossNamespaces,
}

/// A column of a table of `R`.
pub(super) struct Column<R> {
    /// Its head.
    pub head: &'static str,
    /// When it is shown.
    pub shown: Shown,
    /// A row's cell.
    pub cell: fn(&R) -> String,
}

pub(super) const fn column<R>(head: &'static str, cell: fn(&R) -> String) -> Column<R> {
    Column { head, shown: Shown::Always, cell }
}

pub(super) const fn wide<R>(head: &'static str, cell: fn(&R) -> String) -> Column<R> {
    Column { head, shown: Shown::Wide, cell }
}

pub(super) const fn namespace<R>(cell: fn(&R) -> String) -> Column<R> {
    Column { head: "NAMESPACE", shown: Shown::AcrossNamespaces, cell }
}

/// Something that is listed.
pub(super) trait Row: Serialize + Sized + 'static {
    /// One of them, for `-o name`.
    const KIND: &'static str;
    /// What they are called together.
    const PLURAL: &'static str;
    /// The columns.
    const COLUMNS: &'static [Column<Self>];

    /// The name by which people ask for it.
    fn name(&self) -> String;

    /// What no other row of the kind has.
    fn id(&self) -> String {
        self.name()
    }
}

/// What the admin API gives, under `/api/v1/` and its plural.
pub(super) trait Served: Row + DeserializeOwned {}

impl Served for Cluster {}
impl Served for Service {}
impl Served for Access {}
impl Served for Vip {}
impl Served for Node {}
impl Served for Policy {}

impl Row for Cluster {
    const KIND: &'static str = "cluster";
    const PLURAL: &'static str = "clusters";
    const COLUMNS: &'static [Column<Self>] = &[
        column("NAME", |r| r.name.clone()),
        column("ROLE", |r| r.role.clone()),
        column("NETWORK", |r| r.network.clone()),
        column("STATE", |r| r.state.clone()),
        column("SERVICES", |r| r.services.to_string()),
        column("ENDPOINTS", |r| r.endpoints.to_string()),
        column("PODS", |r| r.pods.to_string()),
        column("NODES", |r| r.nodes.to_string()),
        column("AGE", |r| age(r.since_seconds)),
        wide("REGION", |r| r.region.clone()),
        wide("ZONE", |r| r.zone.clone()),
        wide("REASON", |r| r.reason.clone()),
    ];

    fn name(&self) -> String {
        self.name.clone()
    }
}

impl Row for Service {
    const KIND: &'static str = "service";
    const PLURAL: &'static str = "services";
    const COLUMNS: &'static [Column<Self>] = &[
        namespace(|r| r.namespace.clone()),
        column("NAME", |r| r.name.clone()),
        column("CLUSTERS", |r| some_of(&r.clusters, 3)),
        column("PORTS", |r| some_of(&r.ports, 3)),
        column("READY", |r| format!("{}/{}", r.ready, r.ready + r.draining + r.not_ready)),
        column("DRAINING", |r| r.draining.to_string()),
        column("STALE", |r| r.stale.to_string()),
        column("CONFLICTS", |r| r.conflicts.len().to_string()),
        wide("DECIDED", |r| r.conflicts.join("; ")),
    ];

    fn name(&self) -> String {
        self.name.clone()
    }

    fn id(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

impl Row for Access {
    const KIND: &'static str = "access";
    const PLURAL: &'static str = "accesses";
    const COLUMNS: &'static [Column<Self>] = &[
        namespace(|r| r.namespace.clone()),
        column("NAME", |r| r.name.clone()),
        column("SERVICES", |r| some_of(&r.services, 2)),
        column("VIPS", |r| some_of(r.vips.iter().map(|v| v.address), 3)),
        column("STATE", |r| some_of(distinct(r.vips.iter().map(|v| v.state.clone())), 3)),
        column("BOUND", |r| some_of(r.vips.iter().map(|v| v.bound.clone()), 3)),
        column("PUBLISHED", |r| condition(r, "Published").map(|c| c.status.clone()).unwrap_or_default()),
        column("REASON", |r| telling(r).map(|c| c.reason.clone()).unwrap_or_default()),
        wide("FROM", |r| r.from.clone()),
        wide("HOSTNAMES", |r| some_of(&r.hostnames, 3)),
        wide("MESSAGE", |r| telling(r).map(|c| c.message.clone()).unwrap_or_default()),
    ];

    fn name(&self) -> String {
        self.name.clone()
    }

    fn id(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

fn distinct(items: impl Iterator<Item = String>) -> Vec<String> {
    let mut seen = Vec::new();
    for item in items {
        if !seen.contains(&item) {
            seen.push(item);
        }
    }
    seen
}

fn condition<'a>(row: &'a Access, kind: &str) -> Option<&'a Condition> {
    row.conditions.iter().find(|c| c.kind == kind)
}

/// The first condition that does not hold, since those after it follow from it; else the last.
fn telling(row: &Access) -> Option<&Condition> {
    let order = ["Accepted", "Allocated", "Published"];
    let known = || order.iter().filter_map(|kind| condition(row, kind));
    known().find(|c| c.status != "True").or_else(|| known().next_back())
}

impl Row for Vip {
    const KIND: &'static str = "vip";
    const PLURAL: &'static str = "vips";
    const COLUMNS: &'static [Column<Self>] = &[
        column("ADDRESS", |r| r.address.to_string()),
        column("ACCESS", |r| r.access.clone()),
        column("PORTS", |r| some_of(&r.ports, 3)),
        column("STATE", |r| r.state.clone()),
        column("BOUND", |r| r.bound.clone()),
        column("PROOF", |r| r.proof.clone()),
        column("NAME", |r| r.name.clone()),
        column("AGE", |r| age(r.age_seconds)),
        wide("POOL", |r| r.pool.clone()),
        wide("SERVICE", |r| r.service.clone()),
        wide("POD", |r| r.pod.clone()),
        wide("ASSIGNED-BY", |r| r.assigned_by.clone()),
        wide("GATEWAYS", |r| r.gateways.iter().map(gateway).collect::<Vec<_>>().join(", ")),
    ];

    fn name(&self) -> String {
        self.address.to_string()
    }
}

fn gateway(on: &VipGateway) -> String {
    let retry = if on.attempt > 0 { format!(" attempt {}", on.attempt) } else { String::new() };
    let error = if on.error.is_empty() { String::new() } else { format!(": {}", on.error) };
    format!("{} {} ({}){retry}{error}", on.node, on.state, on.proof)
}

impl Row for Node {
    const KIND: &'static str = "node";
    const PLURAL: &'static str = "nodes";
    const COLUMNS: &'static [Column<Self>] = &[
        column("ID", |r| r.id.clone()),
        column("ROLE", |r| r.role.clone()),
        column("CLUSTER", |r| r.cluster.clone()),
        column("STATE", |r| r.state.clone()),
        column("AGENT", |r| if r.agent { "yes" } else { "no" }.to_owned()),
        column("LISTENERS", |r| r.listeners.to_string()),
        column("REJECTED", |r| r.rejected.to_string()),
        column("AGE", |r| age(r.since_seconds)),
        wide("NETWORK", |r| r.network.clone()),
        wide("REGION", |r| r.region.clone()),
        wide("ZONE", |r| r.zone.clone()),
        wide("PROTOCOL", |r| r.protocol.clone()),
        wide("VERSION", |r| r.version.clone()),
    ];

    fn name(&self) -> String {
        self.id.clone()
    }
}

impl Row for Policy {
    const KIND: &'static str = "policy";
    const PLURAL: &'static str = "policies";
    const COLUMNS: &'static [Column<Self>] = &[
        column("NAME", |r| r.name.clone()),
        column("WORLD", |r| r.world.clone()),
        column("STATE", |r| format!("{:?}", r.state)),
        column("VERSION", |r| match r.version {
            Some(number) => number.to_string(),
            None if r.digest.is_empty() => String::new(),
            None => "built-in".to_owned(),
        }),
        column("DIGEST", |r| short(&r.digest)),
        column("ACCESSES", |r| r.accesses.to_string()),
        column("CALLS", |r| r.calls.calls.to_string()),
        column("FAILURES", |r| r.calls.failures.values().sum::<u64>().to_string()),
        column("FALLBACKS", |r| r.calls.fallbacks.values().sum::<u64>().to_string()),
        column("AGE", |r| r.age_seconds.map(age).unwrap_or_default()),
        wide("MEMO-HITS", |r| r.calls.memo_hits.to_string()),
        wide("FUEL", |r| r.calls.fuel_used.to_string()),
        wide("MESSAGE", |r| match &r.calls.last_failure {
            Some(last) if r.message.is_empty() => last.message.clone(),
            _ => r.message.clone(),
        }),
    ];

    fn name(&self) -> String {
        self.name.clone()
    }
}
