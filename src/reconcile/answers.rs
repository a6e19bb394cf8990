//! Rows for people, built when someone asks.

use std::collections::{BTreeMap, HashMap};

use super::event::Verdict;
use super::keeper::Keeper;
use super::owner::Owner;
use super::view::{
    AccessRow, AccessVip, Answer, ClusterRow, Condition, NodeRow, Problem, Query, ServiceRow, StatusView, VipGateway,
    VipRow,
};
use crate::feedback::Protocol;
use crate::kube::virtual_ips::name_of;
use crate::model::Timestamp;
use crate::model::decision::{NodeRole, Readiness};
use crate::model::id::NamespacedName;
use crate::model::object::{Access, ClusterRole};
use crate::model::world::{ClusterState, ExportCondition, MergedService, NoEffect, Sync};
use crate::policy::Failure;
use crate::store::Backend;
use crate::vip::{VipState, VipStatus};

/// How long a node's id may be used by two streams before it is told: one that reconnects may be
/// there before its old end is noticed.
const SHARED_ID_MS: i64 = 5_000;

impl Owner {
    /// Builds the rows of a query.
    pub(super) fn answer(&self, query: Query, now: Timestamp) -> Answer {
        match query {
            Query::Status => Answer::Status(Box::new(self.status(now))),
            Query::Clusters => Answer::Clusters(self.world.clusters().map(|c| cluster_row(c, now)).collect()),
            Query::Services => Answer::Services(self.world.services().map(|s| self.service_row(&s)).collect()),
            Query::Accesses => Answer::Accesses(self.access_rows()),
            Query::Vips => Answer::Vips(self.plan.statuses.iter().map(|s| vip_row(s, now)).collect()),
            Query::Nodes => Answer::Nodes(self.node_rows(now)),
            Query::Policies => Answer::Policies(self.policy_rows()),
            Query::Policy(name) => Answer::Policy(Box::new(self.policy_use(&name))),
        }
    }

    fn status(&self, now: Timestamp) -> StatusView {
        let mut vips: BTreeMap<String, usize> = BTreeMap::new();
        for status in &self.plan.statuses {
            *vips.entry(status.state.to_string()).or_default() += 1;
        }
        StatusView {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ready: self.started,
            waiting_for: if !self.started && (self.ledger_problem.is_some() || !self.knows_ledger()) {
                vec!["the VIP ledger".to_owned()]
            } else if self.world.clusters().next().is_none() {
                vec!["a first cluster: the manifests' folder has none".to_owned()]
            } else {
                self.world.waiting_for().map(|name| format!("cluster {name}")).collect()
            },
            clusters: self.world.clusters().count(),
            services: self.world.services().count(),
            endpoints: self.world.clusters().map(|c| c.counts.endpoints).sum(),
            pods: self.world.pods_count(),
            accesses: self.world.accesses().count(),
            vips,
            nodes: self.feedback.nodes().filter(|node| node.present()).count(),
            problems: self.problems(now),
        }
    }

    fn problems(&self, now: Timestamp) -> Vec<Problem> {
        let mut problems = self.source_problems.clone();
        let mut tell = |cluster: &str, object: String, field: &str, message: String, remedy: String| {
            let (cluster, field) = (cluster.to_owned(), field.to_owned());
            problems.push(Problem { cluster, file: None, line: None, object, field, message, remedy });
        };
        let store = self.outputs.keeper.store();
        let is_in_store = matches!(self.outputs.keeper, Keeper::Store(_));
        if let Some(why) = store.outage() {
            let remedy = match is_in_store {
                true => "bring it back; until then what is served goes on, and no VIP is given or released",
                false => "bring it back; until then what is served goes on, and what is to be kept waits in memory",
            };
            tell("", String::new(), "", format!("the store cannot be used: {why}"), remedy.to_owned());
        } else if let Some(error) = self.ledger_problem.as_ref().filter(|_| is_in_store) {
            let remedy = match store.backend() {
                Backend::Sqlite => "free space in --data-dir or mend its rights; it is tried again each second",
                Backend::Postgres => "see what the database's server says of it; it is tried again each second",
            };
            tell("", String::new(), "", format!("the VIP ledger cannot be written: {error}"), remedy.to_owned());
        }
        if let Some(error) = self.ledger_problem.as_ref().filter(|_| !is_in_store) {
            let remedy = "see whether the primary's API server answers, and whether the role that `causeway rbac primary` prints \
                          is bound; it is tried again each second";
            tell("", String::new(), "", format!("the VIP ledger cannot be written: {error}"), remedy.to_owned());
        }
        for (address, why) in &self.objects.foreign {
            let remedy = format!("to let the address be given again: kubectl delete virtualip {}", name_of(*address));
            tell("", format!("VirtualIp {}", name_of(*address)), "spec", why.clone(), remedy);
        }
        for cluster in self.world.clusters() {
            if let Sync::Unknown { reason } = &cluster.sync {
                let message = format!("cluster {} cannot be read, its endpoints are stale: {reason}", cluster.name);
                let remedy = match self.outputs.keeper {
                    Keeper::Store(_) => format!(
                        "bring its folder back, or say that it is gone for good: DELETE /api/v1/clusters/{}",
                        cluster.name
                    ),
                    Keeper::Objects(..) => {
                        format!("where it is gone for good: causeway cluster leave {}", cluster.name)
                    }
                };
                tell(cluster.name.as_str(), format!("ClusterInfo {}", cluster.name), "", message, remedy);
            }
        }
        for ignored in self.world.ignored() {
            let remedy = "put it into the primary cluster's folder".to_owned();
            tell(ignored.cluster.as_str(), ignored.object.to_string(), "", ignored.reason.clone(), remedy);
        }
        for snapshot in self.world.user_snapshots() {
            if let Err(NoEffect { message, remedy, .. }) = snapshot.effect {
                tell("", format!("EndpointSnapshot {}", snapshot.id), "spec", message, remedy);
            }
        }
        for export in self.world.exports() {
            // Where it is not valid, it is not ready either, which is said once.
            let lacking = export.conditions.into_iter().find(|c| ["Valid", "Ready"].contains(&c.kind) && !c.holds);
            if let Some(ExportCondition { message, remedy, .. }) = lacking {
                tell(export.cluster.as_str(), format!("ServiceExport {}", export.id), "", message, remedy);
            }
        }
        for node in self.feedback.nodes() {
            if node.shared_since().is_some_and(|since| now.saturating_sub(since) > SHARED_ID_MS) {
                let (id, count) = (&node.facts().id, node.streams());
                let message = format!(
                    "{count} streams use the node id {id}: Envoys share it, or one is being restarted; only what all of them \
                     have proved counts"
                );
                tell("", format!("Node {id}"), "node.id", message, "give each Envoy a node.id of its own".to_owned());
            }
        }
        let access = |id: &NamespacedName| match self.world.is_derived(id) {
            true => format!("ServiceExport {id}"),
            false => format!("ClusterAccess {id}"),
        };
        for (id, state) in &self.accesses {
            for shortfall in &state.shortfalls {
                tell("", access(id), "spec", shortfall.message.clone(), shortfall.remedy.clone());
            }
        }
        for access_id in self.world.accesses().map(|access| &access.id) {
            for (field, error) in &self.chosen.of(access_id).faults {
                let remedy = "correct it; until then what was decided before goes on".to_owned();
                tell("", access(access_id), field, error.to_string(), remedy);
            }
        }
        for Verdict { spec, outcome } in self.judged.values() {
            if let Err(fault) = outcome {
                let remedy = "correct it; until then what was in force before goes on".to_owned();
                tell("", format!("Policy {}", spec.name), "spec", fault.message.clone(), remedy);
            }
        }
        for (name, message) in &self.policies_broken {
            let remedy = format!("upload it again, or let it go: causeway policy delete {name}");
            tell("", format!("Policy {name}"), "", format!("the policy is not in force: {message}"), remedy);
        }
        for (id, failure) in self.policy_failures() {
            let remedy = format!("see `causeway policy logs {}`, and upload one that works", failure.policy);
            tell("", access(&id), "spec.policies", failure.message, remedy);
        }
        for (id, lost) in &self.hostname_conflicts {
            for (name, owner) in lost {
                let message = format!("the host name {name} belongs to the ClusterAccess {owner}");
                tell("", access(id), "spec.hostnames", message, "choose another, or remove it there".to_owned());
            }
        }
        for name in &self.names_rejected {
            let remedy = "give the cluster, the service or the pod a shorter or a valid name".to_owned();
            tell("", String::new(), "", format!("the name {} is not answered: {}", name.name, name.reason), remedy);
        }
        for problem in &self.plan.problems {
            tell("", access(&problem.access), "", problem.message.clone(), problem.remedy.clone());
        }
        problems
    }

    fn service_row(&self, service: &MergedService) -> ServiceRow {
        let mut row = ServiceRow {
            namespace: service.id.namespace.to_string(),
            name: service.id.name.to_string(),
            clusters: service.clusters.iter().map(ToString::to_string).collect(),
            ports: service.ports.iter().map(|p| format!("{}:{}/{:?}", p.name, p.port, p.protocol)).collect(),
            ready: 0,
            draining: 0,
            not_ready: 0,
            stale: 0,
            conflicts: service.conflicts.clone(),
        };
        // Of several ports, the first speaks for all: they are the same pods.
        let Some(port) = service.ports.first() else { return row };
        for endpoint in self.world.endpoints(&service.id, &port.name, &Default::default()) {
            match endpoint.readiness {
                Readiness::Ready => row.ready += 1,
                Readiness::Draining => row.draining += 1,
                Readiness::NotReady => row.not_ready += 1,
            }
            row.stale += usize::from(endpoint.stale);
        }
        row
    }

    pub(super) fn access_rows(&self) -> Vec<AccessRow> {
        let mut vips: HashMap<&NamespacedName, Vec<&VipStatus>> = HashMap::new();
        for status in &self.plan.statuses {
            vips.entry(&status.slot.access).or_default().push(status);
        }
        let failures = self.policy_failures();
        self.world
            .accesses()
            .map(|access| {
                self.access_row(access, vips.remove(&access.id).unwrap_or_default(), failures.get(&access.id))
            })
            .collect()
    }

    fn access_row(&self, access: &Access, vips: Vec<&VipStatus>, failure: Option<&Failure>) -> AccessRow {
        let state = self.accesses.get(&access.id);
        AccessRow {
            namespace: access.id.namespace.to_string(),
            name: access.id.name.to_string(),
            services: state.into_iter().flat_map(|s| s.claims.keys()).map(ToString::to_string).collect(),
            vips: vips
                .iter()
                .map(|status| AccessVip {
                    address: status.address,
                    hostnames: status.hostnames.iter().map(ToString::to_string).collect(),
                    state: status.state.to_string(),
                    bound: bound(status),
                })
                .collect(),
            hostnames: access.hostnames.iter().map(ToString::to_string).collect(),
            from: if self.world.is_derived(&access.id) {
                let clusters: Vec<&str> = access.clusters.iter().map(|cluster| cluster.as_str()).collect();
                format!("ServiceExport {}", clusters.join(","))
            } else {
                "ClusterAccess".to_owned()
            },
            conditions: self.conditions(access, &vips, failure),
        }
    }

    /// Why an access does not have what its policies decide; one failure of each.
    pub(super) fn policy_failures(&self) -> BTreeMap<NamespacedName, Failure> {
        let mut failures = self.vip_failures.clone();
        for (backend, failure) in self.views.failures() {
            if let Some(backend) = self.desired.backends.get(&backend) {
                failures.insert(backend.scope.access.clone(), failure);
            }
        }
        failures
    }

    fn conditions(&self, access: &Access, vips: &[&VipStatus], failure: Option<&Failure>) -> Vec<Condition> {
        let condition = |kind: &str, holds: bool, reason: &str, message: String| Condition {
            kind: kind.to_owned(),
            status: if holds { "True" } else { "False" }.to_owned(),
            reason: reason.to_owned(),
            message,
            observed_generation: access.generation,
        };
        let accepted = match (
            self.accesses.get(&access.id).and_then(|state| state.shortfalls.first()),
            self.hostname_conflicts.get(&access.id).and_then(|lost| lost.first()),
            self.chosen.of(&access.id).faults.first(),
        ) {
            (Some(shortfall), _, _) => condition("Accepted", false, shortfall.reason, shortfall.message.clone()),
            (_, Some((name, owner)), _) => {
                condition("Accepted", false, "HostnameConflict", format!("{name} belongs to the ClusterAccess {owner}"))
            }
            (_, _, Some((field, error))) => condition("Accepted", false, error.reason(), format!("{field}: {error}")),
            _ => condition("Accepted", true, "Accepted", String::new()),
        };
        // They are sorted by access.
        let first = self.plan.problems.partition_point(|problem| problem.access < access.id);
        let problem = self.plan.problems.get(first).filter(|problem| problem.access == access.id);
        let wanted: usize = self.accesses.get(&access.id).map_or(0, |s| s.claims.values().map(Vec::len).sum());
        let allocated = match problem {
            _ if wanted > 0 && vips.len() >= wanted => condition("Allocated", true, "Allocated", String::new()),
            Some(problem) => condition("Allocated", false, &problem.reason.to_string(), problem.message.clone()),
            None if access.families.is_empty() => {
                let message = "the service is headless: its name is answered with its pods' addresses".to_owned();
                condition("Allocated", true, "Headless", message)
            }
            None if wanted == 0 => condition("Allocated", false, "NothingClaimed", String::new()),
            None => condition("Allocated", false, "Pending", format!("{} of {wanted} addresses", vips.len())),
        };
        let published = vips.iter().filter(|status| status.state == VipState::Published).count();
        let on_all = vips.iter().all(|status| status.bound == status.expected);
        let published = match (published, vips.len()) {
            (0, 0) if access.families.is_empty() => condition("Published", true, "Headless", String::new()),
            (0, _) => {
                let why = vips.first().map(|s| s.message.clone()).or(problem.map(|p| p.message.clone()));
                condition("Published", false, "NotProved", why.unwrap_or_default())
            }
            (some, all) if some < all => condition("Published", true, "SomePublished", format!("{some} of {all} VIPs")),
            _ if on_all => condition("Published", true, "BoundOnAll", String::new()),
            _ => condition("Published", true, "BoundOnSome", "some gateways have not proved it".to_owned()),
        };
        let decided = match failure {
            Some(failure) => condition("Decided", false, failure.reason, failure.message.clone()),
            None => condition("Decided", true, "Decided", String::new()),
        };
        vec![accepted, allocated, published, decided]
    }

    fn node_rows(&self, now: Timestamp) -> Vec<NodeRow> {
        self.feedback
            .nodes()
            .map(|node| {
                let facts = node.facts();
                let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
                NodeRow {
                    id: facts.id.to_string(),
                    role: match facts.view.role {
                        NodeRole::Gateway => "gateway",
                        NodeRole::Sidecar => "sidecar",
                    }
                    .to_owned(),
                    cluster: text(facts.view.cluster.as_ref().map(|c| c.as_str())),
                    network: text(facts.view.network.as_deref()),
                    region: facts.view.locality.region.to_string(),
                    zone: facts.view.locality.zone.to_string(),
                    protocol: match (node.present(), facts.protocol) {
                        (false, _) => "",
                        (true, Protocol::Sotw) => "SotW",
                        (true, Protocol::Delta) => "Delta",
                    }
                    .to_owned(),
                    version: facts.version.to_string(),
                    state: if node.present() { "Connected" } else { "Gone" }.to_owned(),
                    agent: node.has_agent(),
                    listeners: node.accepted_listeners(),
                    rejected: node.rejected_listeners(),
                    since_seconds: seconds(now, node.since()),
                }
            })
            .collect()
    }
}

fn seconds(now: Timestamp, then: Timestamp) -> i64 {
    now.saturating_sub(then).max(0) / 1000
}

fn bound(status: &VipStatus) -> String {
    format!("{}/{}", status.bound, status.expected)
}

fn cluster_row(cluster: &ClusterState, now: Timestamp) -> ClusterRow {
    let (state, reason) = match &cluster.sync {
        Sync::Pending => ("Pending", ""),
        Sync::Synced => ("Synced", ""),
        Sync::Unknown { reason } => ("Unknown", reason.as_str()),
    };
    ClusterRow {
        name: cluster.name.to_string(),
        role: match cluster.spec.role {
            ClusterRole::Primary => "Primary",
            ClusterRole::Sub => "Sub",
        }
        .to_owned(),
        network: cluster.spec.network.to_string(),
        region: cluster.spec.locality.region.to_string(),
        zone: cluster.spec.locality.zone.to_string(),
        state: state.to_owned(),
        reason: reason.to_owned(),
        services: cluster.counts.services,
        endpoints: cluster.counts.endpoints,
        pods: cluster.counts.pods,
        nodes: cluster.counts.nodes,
        since_seconds: seconds(now, cluster.since),
    }
}

fn vip_row(status: &VipStatus, now: Timestamp) -> VipRow {
    VipRow {
        address: status.address,
        pool: status.pool.to_string(),
        access: status.slot.access.to_string(),
        service: status.slot.service.to_string(),
        pod: status.slot.pod.as_deref().unwrap_or_default().to_owned(),
        ports: status.ports.iter().map(|port| port.port.port).collect(),
        state: status.state.to_string(),
        bound: bound(status),
        proof: status.proof.as_str().to_owned(),
        assigned_by: status.assigned_by.as_ref().map_or_else(|| "ControlPlane".to_owned(), ToString::to_string),
        name: status.hostnames.first().map(ToString::to_string).unwrap_or_default(),
        gateways: status
            .gateways
            .iter()
            .map(|gateway| VipGateway {
                node: gateway.node.to_string(),
                state: gateway.state.to_string(),
                proof: gateway.proof.as_str().to_owned(),
                error: gateway.error.to_string(),
                attempt: gateway.attempt,
            })
            .collect(),
        age_seconds: seconds(now, status.allocated_at),
    }
}
