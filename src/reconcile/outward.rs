//! What is told to the primary's API server after a turn: statuses, and the snapshot information of accesses' pods.
//! Only what follows from what changed is looked at, and only what differs from what was told is told.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::owner::Owner;
use crate::kube::down::{Import, Reached};
use crate::kube::kinds::{
    AccessVipStatus, ClusterAccessStatus, ClusterCounts, EndpointSnapshotStatus, PolicyStatus, SnapshotPod,
    StatusCondition, VipPoolStatus, VirtualIpGateway, VirtualIpStatus,
};
use crate::kube::outbox::{ClusterSeen, DnsRecord, ServiceAddresses, SnapshotContent, SnapshotKey};
use crate::model::decision::{Endpoint, Readiness};
use crate::model::id::{ClusterName, NamespacedName, PoolName};
use crate::model::object::{Access, AddressRange, Pool, VipPer};
use crate::model::world::{AccessScope, ClusterState, ExportState, Sync, Touched};
use crate::vip::VipStatus;

/// An access's service.
type Pair = (NamespacedName, NamespacedName);

/// What a pair is bound to: published addresses and their names.
type Binding = (BTreeSet<IpAddr>, BTreeSet<Arc<str>>);

/// What was told.
#[derive(Default)]
pub(super) struct Told {
    clusters: BTreeMap<ClusterName, ClusterSeen>,
    accesses: BTreeMap<NamespacedName, ClusterAccessStatus>,
    vips: BTreeMap<IpAddr, VirtualIpStatus>,
    pools: BTreeMap<PoolName, VipPoolStatus>,
    policies: BTreeMap<Arc<str>, PolicyStatus>,
    bindings: BTreeMap<Pair, Binding>,
    services: BTreeMap<NamespacedName, ServiceAddresses>,
    dns_endpoints: BTreeMap<NamespacedName, Vec<DnsRecord>>,
    snapshots: BTreeMap<Pair, BTreeMap<ClusterName, Arc<SnapshotContent>>>,
    users: BTreeMap<NamespacedName, EndpointSnapshotStatus>,
    imports: BTreeMap<Pair, Arc<Import>>,
    exports: BTreeMap<NamespacedName, Vec<ExportState>>,
    complete: bool,
}

impl Owner {
    /// Tells what differs after a turn; `planned` where VIPs or what is known of them may differ, `policies` where
    /// policies or what became of them may.
    pub(super) fn tell_outward(&mut self, touched: &Touched, planned: bool, policies: bool) {
        let Some(outbox) = self.outputs.outbox.clone() else { return };
        let mut told = std::mem::take(&mut self.told);
        let clusters = self.changed_clusters(&mut told);
        let mut pairs = self.touched_pairs(touched);
        let mut concerned = self.world.snapshots_concerned(touched);
        let (mut accesses, mut vips, mut pools) = (Vec::new(), Vec::new(), Vec::new());
        let (mut services, mut dns_endpoints) = (Vec::new(), Vec::new());
        if planned || !touched.accesses.is_empty() {
            accesses = self.changed_accesses(&mut told);
        }
        if planned {
            vips = self.changed_vips(&mut told);
            pools = self.changed_pools(&mut told);
            let rebound = self.changed_bindings(&mut told);
            if !rebound.is_empty() {
                concerned.extend(self.world.user_snapshots().map(|snapshot| snapshot.id));
            }
            pairs.extend(rebound);
        }
        let users = self.changed_users(concerned, &mut told);
        let policies = match policies || planned || !touched.accesses.is_empty() {
            true => changes(&mut told.policies, self.policy_statuses()),
            false => Vec::new(),
        };
        if planned || !touched.accesses.is_empty() {
            services = changes(&mut told.services, self.service_addresses(&told.bindings));
            dns_endpoints = changes(&mut told.dns_endpoints, self.dns_records());
        }
        // What is gone has pairs as well, of which nothing is left.
        let there = &self.accesses;
        let is_there =
            |(access, service): &Pair| there.get(access).is_some_and(|state| state.claims.contains_key(service));
        let gone: Vec<Pair> = match planned || !touched.accesses.is_empty() {
            true => told.snapshots.keys().filter(|pair| !is_there(pair)).cloned().collect(),
            false => Vec::new(),
        };
        pairs.extend(gone);
        let imports = self.changed_imports(&pairs, &mut told);
        let exports = self.changed_exports(touched, &mut told);
        let snapshots: Vec<(SnapshotKey, Option<Arc<SnapshotContent>>)> =
            pairs.into_iter().flat_map(|pair| self.changed_snapshots(pair, &mut told)).collect();
        let complete = !told.complete && self.knows_all();
        told.complete |= complete;
        self.told = told;
        if let Some(down) = &self.outputs.down
            && (complete || !imports.is_empty() || !snapshots.is_empty() || !exports.is_empty())
        {
            down.put(|news| {
                news.imports.extend(imports);
                news.snapshots.extend(snapshots.iter().cloned());
                news.exports.extend(exports);
                news.complete |= complete;
            });
        }
        if complete
            || [clusters.len(), accesses.len(), vips.len(), pools.len(), snapshots.len()].iter().any(|count| *count > 0)
            || [services.len(), dns_endpoints.len(), users.len(), policies.len()].iter().any(|count| *count > 0)
        {
            outbox.put(|waiting| {
                waiting.seen.extend(clusters);
                waiting.accesses.extend(accesses);
                waiting.vips.extend(vips);
                waiting.pools.extend(pools);
                waiting.policies.extend(policies);
                waiting.user_snapshots.extend(users);
                waiting.services.extend(services);
                waiting.dns_endpoints.extend(dns_endpoints);
                waiting.snapshots.extend(snapshots);
                waiting.complete |= complete;
            });
        }
    }

    fn changed_clusters(&self, told: &mut Told) -> Vec<(ClusterName, Option<ClusterSeen>)> {
        let wanted = self.world.clusters().map(|cluster| (cluster.name.clone(), cluster_seen(cluster))).collect();
        changes(&mut told.clusters, wanted)
    }

    fn changed_accesses(&self, told: &mut Told) -> Vec<(NamespacedName, Option<ClusterAccessStatus>)> {
        let rows = self.access_rows().into_iter().map(|row| {
            let id = NamespacedName::new(row.namespace.as_str(), row.name.as_str());
            (id, row)
        });
        // An access that follows from exports is no object that could have a status.
        let wanted = rows
            .filter(|(id, _)| !self.world.is_derived(id))
            .map(|(id, row)| {
                let vip = |vip: super::view::AccessVip| AccessVipStatus {
                    address: vip.address,
                    hostnames: vip.hostnames,
                    state: vip.state,
                    bound: vip.bound,
                };
                let status = ClusterAccessStatus {
                    vips: row.vips.into_iter().map(vip).collect(),
                    services: row.services,
                    observed_generation: row.conditions.first().map_or(0, |condition| condition.observed_generation),
                    conditions: row.conditions.into_iter().map(condition).collect(),
                };
                (id, status)
            })
            .collect();
        changes(&mut told.accesses, wanted)
    }

    fn changed_vips(&self, told: &mut Told) -> Vec<(IpAddr, Option<VirtualIpStatus>)> {
        let wanted = self.plan.statuses.iter().map(|status| (status.address, vip_status(status))).collect();
        changes(&mut told.vips, wanted)
    }

    fn changed_pools(&self, told: &mut Told) -> Vec<(PoolName, Option<VipPoolStatus>)> {
        let mut used: BTreeMap<&PoolName, u64> = BTreeMap::new();
        for vip in self.ledger.rows() {
            *used.entry(&vip.pool).or_default() += 1;
        }
        let wanted = self
            .world
            .pools()
            .map(|pool| {
                let used = used.get(&pool.name).copied().unwrap_or_default();
                let size = size_of(pool);
                let free = size.and_then(|size| i64::try_from(size.saturating_sub(u128::from(used))).ok());
                let conditions = vec![StatusCondition {
                    kind: "Accepted".to_owned(),
                    status: "True".to_owned(),
                    reason: "Accepted".to_owned(),
                    ..StatusCondition::default()
                }];
                (pool.name.clone(), VipPoolStatus { used, free, observed_generation: 0, conditions })
            })
            .collect();
        changes(&mut told.pools, wanted)
    }

    /// What each access's services are bound to; gives the pairs of which that differs.
    fn changed_bindings(&self, told: &mut Told) -> BTreeSet<Pair> {
        let mut wanted: BTreeMap<Pair, Binding> = BTreeMap::new();
        for vip in &self.plan.published {
            let pair = (vip.slot.access.clone(), vip.slot.service.clone());
            let (addresses, names) = wanted.entry(pair).or_default();
            addresses.insert(vip.address);
            names.extend(vip.hostnames.iter().cloned());
        }
        changes(&mut told.bindings, wanted).into_iter().map(|(pair, _)| pair).collect()
    }

    /// Published addresses for the status of Services, where accesses ask for that. Of several accesses to one Service,
    /// the first by name has the say.
    fn service_addresses(&self, bindings: &BTreeMap<Pair, Binding>) -> BTreeMap<NamespacedName, ServiceAddresses> {
        let mut services = BTreeMap::new();
        let asking =
            self.world.accesses().filter(|access| access.publish.service_status && access.per == VipPer::Service);
        for access in asking {
            for service in self.accesses.get(&access.id).into_iter().flat_map(|state| state.claims.keys()) {
                let bound = bindings.get(&(access.id.clone(), service.clone()));
                let addresses = bound.into_iter().flat_map(|(addresses, _)| addresses).copied().collect();
                let wanted = ServiceAddresses { access: access.id.clone(), addresses };
                services.entry(service.clone()).or_insert(wanted);
            }
        }
        services
    }

    /// Records of host names for ExternalDNS, where accesses ask for them.
    fn dns_records(&self) -> BTreeMap<NamespacedName, Vec<DnsRecord>> {
        let mut wanted: BTreeMap<NamespacedName, Vec<DnsRecord>> = BTreeMap::new();
        let asking: BTreeMap<&NamespacedName, &Access> = self
            .world
            .accesses()
            .filter(|access| access.publish.dns_endpoint)
            .map(|access| (&access.id, access.as_ref()))
            .collect();
        let mut targets: BTreeMap<(&NamespacedName, &Arc<str>, &str), BTreeSet<IpAddr>> = BTreeMap::new();
        for vip in &self.plan.published {
            let Some(access) = asking.get(&vip.slot.access) else { continue };
            let record_type = if vip.address.is_ipv4() { "A" } else { "AAAA" };
            for name in vip.hostnames.iter().filter(|name| access.hostnames.contains(name)) {
                targets.entry((&access.id, name, record_type)).or_default().insert(vip.address);
            }
        }
        for id in asking.keys() {
            wanted.insert((*id).clone(), Vec::new());
        }
        for ((id, name, record_type), addresses) in targets {
            let record = DnsRecord {
                dns_name: name.to_string(),
                record_type: record_type.to_owned(),
                targets: addresses.iter().map(ToString::to_string).collect(),
                record_ttl: asking.get(id).map_or(0, |access| access.publish.ttl_seconds),
            };
            wanted.entry(id.clone()).or_default().push(record);
        }
        wanted
    }

    /// What clients of other clusters see of accesses' services.
    fn changed_imports(&self, pairs: &BTreeSet<Pair>, told: &mut Told) -> Vec<(Reached, Option<Arc<Import>>)> {
        let mut changed = Vec::new();
        for pair in pairs {
            let import = self.import_of(pair, told.bindings.get(pair)).map(Arc::new);
            let before = match import.clone() {
                Some(import) => told.imports.insert(pair.clone(), import),
                None => told.imports.remove(pair),
            };
            if before != import {
                let (access, service) = pair.clone();
                changed.push(((service, access), import));
            }
        }
        changed
    }

    fn import_of(&self, (access, service): &Pair, binding: Option<&Binding>) -> Option<Import> {
        // An export's access has the name of its service.
        let exported = if access == service { self.world.import(service) } else { None };
        let access = self.world.access(access).filter(|access| access.per == VipPer::Service)?;
        let claims = self.accesses.get(&access.id).and_then(|state| state.claims.get(service));
        if claims.is_none() && exported.is_none() {
            return None;
        }
        let merged = self.world.service_in(service, &access.clusters)?;
        let of_cluster = |cluster: &ClusterName| (cluster.clone(), self.world.import_endpoints(service, cluster));
        Some(Import {
            ports: claims.and_then(|claims| claims.first()).map_or_else(Vec::new, |claim| claim.ports.clone()),
            vips: binding.into_iter().flat_map(|(addresses, _)| addresses).copied().collect(),
            clusters: merged.clusters,
            exported: exported.map(|exported| {
                let slices = exported.clusters.iter().map(of_cluster).collect();
                (exported, slices)
            }),
        })
    }

    /// What became of exports, where that differs.
    fn changed_exports(&self, touched: &Touched, told: &mut Told) -> Vec<(NamespacedName, Vec<ExportState>)> {
        let mut changed = Vec::new();
        for id in touched.services.union(&touched.accesses) {
            let states = self.world.exports_of(id);
            let before = match states.is_empty() {
                true => told.exports.remove(id).unwrap_or_default(),
                false => told.exports.insert(id.clone(), states.clone()).unwrap_or_default(),
            };
            if before != states {
                changed.push((id.clone(), states));
            }
        }
        changed
    }

    fn touched_pairs(&self, touched: &Touched) -> BTreeSet<Pair> {
        let mut pairs = BTreeSet::new();
        for service in &touched.services {
            pairs.extend(self.world.accesses_of(service).into_iter().map(|access| (access, service.clone())));
        }
        for access in &touched.accesses {
            let claimed = self.accesses.get(access).into_iter().flat_map(|state| state.claims.keys());
            pairs.extend(claimed.map(|service| (access.clone(), service.clone())));
        }
        pairs
    }

    /// What users' snapshots are bound to, and whether they have the effect that they ask for.
    fn changed_users(
        &self,
        concerned: BTreeSet<NamespacedName>,
        told: &mut Told,
    ) -> Vec<(NamespacedName, Option<EndpointSnapshotStatus>)> {
        let mut changed = Vec::new();
        for id in concerned {
            let status = self.world.user_snapshot(&id).map(|snapshot| {
                let bound = told.bindings.get(&(snapshot.access, snapshot.service)).cloned();
                let (vips, hostnames) = bound.unwrap_or_default();
                let (status, reason, message) = match snapshot.effect {
                    Ok(()) => ("True", "Effective", String::new()),
                    Err(why) => ("False", why.reason, format!("{}; {}", why.message, why.remedy)),
                };
                let effective = StatusCondition {
                    kind: "Effective".to_owned(),
                    status: status.to_owned(),
                    reason: reason.to_owned(),
                    message,
                    observed_generation: snapshot.generation,
                    ..StatusCondition::default()
                };
                EndpointSnapshotStatus {
                    vips: vips.into_iter().collect(),
                    hostnames: hostnames.iter().map(ToString::to_string).collect(),
                    conditions: vec![effective],
                    ..EndpointSnapshotStatus::default()
                }
            });
            let before = match &status {
                Some(status) => told.users.insert(id.clone(), status.clone()),
                None => told.users.remove(&id),
            };
            if before != status {
                changed.push((id, status));
            }
        }
        changed
    }

    fn changed_snapshots(&self, pair: Pair, told: &mut Told) -> Vec<(SnapshotKey, Option<Arc<SnapshotContent>>)> {
        let binding = told.bindings.get(&pair).cloned().unwrap_or_default();
        let wanted = self.snapshots_of(&pair, &binding);
        let mut all = told.snapshots.remove(&pair).unwrap_or_default();
        let (access, service) = pair.clone();
        let found = changes(&mut all, wanted);
        if !all.is_empty() {
            told.snapshots.insert(pair, all);
        }
        found
            .into_iter()
            .map(|(cluster, content)| {
                (SnapshotKey { access: access.clone(), service: service.clone(), cluster }, content)
            })
            .collect()
    }

    /// An access's pods of one service, by cluster.
    fn snapshots_of(
        &self,
        (access, service): &Pair,
        (vips, names): &Binding,
    ) -> BTreeMap<ClusterName, Arc<SnapshotContent>> {
        let chosen = self.accesses.get(access).is_some_and(|state| state.claims.contains_key(service));
        let Some((access, merged)) = self
            .world
            .access(access)
            .filter(|_| chosen)
            .and_then(|access| Some((access, self.world.service_in(service, &access.clusters)?)))
        else {
            return BTreeMap::new();
        };
        let mut pods: BTreeMap<ClusterName, BTreeMap<String, SnapshotPod>> = BTreeMap::new();
        for cluster in &merged.clusters {
            pods.entry(cluster.clone()).or_default();
        }
        let scope = AccessScope::of(access);
        for port in &merged.ports {
            for endpoint in self.world.access_pods(&scope, service, &port.name) {
                let pods = pods.entry(endpoint.cluster.clone()).or_default();
                let name = match &endpoint.pod {
                    Some(pod) => pod.to_string(),
                    None => endpoint.address.ip().to_string(),
                };
                let pod = pods.entry(name).or_insert_with_key(|name| self.snapshot_pod(name, service, &endpoint));
                let address = endpoint.address.ip().to_string();
                if !pod.addresses.contains(&address) {
                    pod.addresses.push(address);
                }
                pod.ports.insert(port.name.to_string(), endpoint.address.port());
            }
        }
        let content = |pods: BTreeMap<String, SnapshotPod>| SnapshotContent {
            pods: pods.into_values().collect(),
            vips: vips.iter().copied().collect(),
            hostnames: names.iter().map(ToString::to_string).collect(),
        };
        pods.into_iter().map(|(cluster, pods)| (cluster, Arc::new(content(pods)))).collect()
    }

    fn snapshot_pod(&self, name: &str, service: &NamespacedName, endpoint: &Endpoint) -> SnapshotPod {
        let id = NamespacedName::new(service.namespace.clone(), name);
        let uid = self.world.pod(&endpoint.cluster, &id).map(|pod| pod.uid.to_string()).filter(|uid| !uid.is_empty());
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        SnapshotPod {
            name: name.to_owned(),
            uid,
            node: endpoint.node.as_deref().map(str::to_owned),
            region: text(&endpoint.locality.region),
            zone: text(&endpoint.locality.zone),
            addresses: Vec::new(),
            ports: BTreeMap::new(),
            ready: Some(endpoint.readiness == Readiness::Ready),
            weight: Some(endpoint.weight),
            drain: (endpoint.readiness == Readiness::Draining).then_some(true),
        }
    }
}

/// Brings what was told up to what is wanted; gives what differs.
fn changes<K: Ord + Clone, V: PartialEq + Clone>(
    told: &mut BTreeMap<K, V>,
    wanted: BTreeMap<K, V>,
) -> Vec<(K, Option<V>)> {
    let mut changes: Vec<(K, Option<V>)> =
        told.keys().filter(|key| !wanted.contains_key(*key)).map(|key| (key.clone(), None)).collect();
    let differs = |(key, value): &(&K, &V)| told.get(key) != Some(*value);
    changes.extend(wanted.iter().filter(differs).map(|(key, value)| (key.clone(), Some(value.clone()))));
    *told = wanted;
    changes
}

fn cluster_seen(cluster: &ClusterState) -> ClusterSeen {
    let (state, reason) = match &cluster.sync {
        Sync::Pending => ("Pending", ""),
        Sync::Synced => ("Synced", ""),
        Sync::Unknown { reason } => ("Unknown", reason.as_str()),
    };
    let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    let counts = ClusterCounts {
        services: count(cluster.counts.services),
        endpoints: count(cluster.counts.endpoints),
        pods: count(cluster.counts.pods),
        nodes: count(cluster.counts.nodes),
    };
    ClusterSeen { state: state.to_owned(), reason: reason.to_owned(), counts }
}

pub(super) fn condition(condition: super::view::Condition) -> StatusCondition {
    let super::view::Condition { kind, status, reason, message, observed_generation } = condition;
    StatusCondition { kind, status, reason, message, last_transition_time: String::new(), observed_generation }
}

fn vip_status(status: &VipStatus) -> VirtualIpStatus {
    VirtualIpStatus {
        state: status.state.to_string(),
        bound: format!("{}/{}", status.bound, status.expected),
        proof: status.proof.as_str().to_owned(),
        hostnames: status.hostnames.iter().map(ToString::to_string).collect(),
        gateways: status
            .gateways
            .iter()
            .map(|gateway| VirtualIpGateway {
                node: gateway.node.to_string(),
                state: gateway.state.to_string(),
                proof: gateway.proof.as_str().to_owned(),
                error: gateway.error.to_string(),
            })
            .collect(),
        message: status.message.clone(),
    }
}

/// How many addresses of a pool may be given; `None` where the data plane has them, or there are too many to count.
fn size_of(pool: &Pool) -> Option<u128> {
    let sizes = pool.ranges.iter().map(|AddressRange { first, last }| {
        let number = |address: &IpAddr| match address {
            IpAddr::V4(v4) => u128::from(u32::from(*v4)),
            IpAddr::V6(v6) => u128::from(*v6),
        };
        number(last).checked_sub(number(first))?.checked_add(1)
    });
    let all = sizes.collect::<Option<Vec<u128>>>()?.into_iter().try_fold(0_u128, u128::checked_add)?;
    let reserved = pool.reserved.iter().filter(|address| pool.ranges.iter().any(|range| range.contains(**address)));
    (!pool.ranges.is_empty()).then(|| all.saturating_sub(reserved.count() as u128))
}
