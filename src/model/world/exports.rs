//! Exports (KEP-1645): which clusters offer a service to all, and the access that this amounts to. While a cluster
//! exports a Service, and no ClusterAccess has its name and namespace, there is an access with every default to it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::cluster::ClusterData;
use super::{Touched, World};
use crate::model::export::ServiceExport;
use crate::model::id::{ClusterName, NamespacedName};
use crate::model::object::{
    Access, Family, Labels, PolicyRef, PortChoice, PublishRule, Service, ServiceChoice, VipPer,
};

/// Which clusters export what, and the accesses that follow.
#[derive(Default)]
pub(super) struct Exports {
    /// Which clusters have a ServiceExport of this name, excluded namespaces included.
    pub exporters: BTreeMap<NamespacedName, BTreeSet<ClusterName>>,
    /// By the services' names, whether or not a ClusterAccess stands before them.
    pub derived: BTreeMap<NamespacedName, Arc<Access>>,
}

/// A cluster that exports a Service which can be exported.
pub(super) struct Constituent<'a> {
    pub cluster: &'a ClusterName,
    pub data: &'a ClusterData,
    pub export: &'a ServiceExport,
    pub service: &'a Service,
}

/// Least is strongest: the oldest export wins, one of unknown age comes last, then the first cluster by name.
pub(super) fn age(export: &ServiceExport) -> (bool, i64, Reverse<bool>) {
    (export.created_at == 0, export.created_at, Reverse(false))
}

impl World {
    /// Whether the access of this name follows from exports, and is no object of its own.
    pub fn is_derived(&self, access: &NamespacedName) -> bool {
        self.declared(access).is_none() && self.derived(access).is_some()
    }

    /// Whether any cluster has a ServiceExport of this name, whether or not it counts.
    pub(super) fn is_exported(&self, id: &NamespacedName) -> bool {
        self.exports.exporters.contains_key(id)
    }

    /// The clusters that export a service and have it, if its namespace counts there, the oldest export first.
    pub(super) fn constituents(&self, id: &NamespacedName) -> Vec<Constituent<'_>> {
        let exporters = self.exports.exporters.get(id).into_iter().flatten();
        let mut all: Vec<Constituent<'_>> = exporters
            .filter_map(|cluster| self.clusters.get_key_value(cluster))
            .filter_map(|(cluster, data)| {
                Some(Constituent { cluster, data, export: data.export(id)?, service: data.service(id)? })
            })
            .collect();
        // Exporters come by name, and the sort is stable.
        all.sort_by_key(|constituent| age(constituent.export));
        all
    }

    /// The ClusterAccess of this name, if it counts.
    pub(super) fn declared(&self, id: &NamespacedName) -> Option<&Arc<Access>> {
        self.primary_data().filter(|data| data.sees(&id.namespace))?.accesses.get(id)
    }

    /// The access that follows from exports of this name, while there is a primary from whose pools it may take.
    pub(super) fn derived(&self, id: &NamespacedName) -> Option<&Arc<Access>> {
        self.primary.as_ref()?;
        self.exports.derived.get(id)
    }

    /// Those of the accesses that follow from exports, from this name on, before which no ClusterAccess stands.
    pub(super) fn derived_from(&self, first: NamespacedName) -> impl Iterator<Item = &Arc<Access>> {
        let counts = self.primary.is_some();
        let derived = self.exports.derived.range(first..).filter(move |_| counts);
        derived.filter(|(id, _)| self.declared(id).is_none()).map(|(_, access)| access)
    }

    /// The cluster begins or ceases to export a service, or does so in another form.
    pub(super) fn put_export(
        &mut self,
        cluster: &ClusterName,
        id: NamespacedName,
        export: Option<ServiceExport>,
        touched: &mut Touched,
    ) {
        let Some(data) = self.clusters.get_mut(cluster) else { return };
        if data.exports.get(&id) == export.as_ref() {
            return;
        }
        match export {
            Some(export) => {
                data.exports.insert(id.clone(), export);
                self.exports.exporters.entry(id.clone()).or_default().insert(cluster.clone());
            }
            None => {
                data.exports.remove(&id);
                self.cease_export(&id, cluster);
            }
        }
        if self.clusters.get(cluster).is_some_and(|data| data.sees(&id.namespace)) {
            // The oldest export decides conflicts, so that the merged service may differ.
            self.touch_service(id.clone(), touched);
            self.derive(&id, touched);
        }
    }

    /// The cluster exports the service no longer.
    pub(super) fn cease_export(&mut self, id: &NamespacedName, cluster: &ClusterName) {
        if let Some(exporters) = self.exports.exporters.get_mut(id) {
            exporters.remove(cluster);
            if exporters.is_empty() {
                self.exports.exporters.remove(id);
            }
        }
    }

    /// Finds anew which access follows from the exports of a service.
    pub(super) fn derive(&mut self, id: &NamespacedName, touched: &mut Touched) {
        let derived = self.access_of_exports(id);
        if self.exports.derived.get(id).map(|access| &**access) == derived.as_ref() {
            return;
        }
        match derived {
            Some(access) => drop(self.exports.derived.insert(id.clone(), Arc::new(access))),
            None => drop(self.exports.derived.remove(id)),
        }
        touched.accesses.insert(id.clone());
    }

    fn access_of_exports(&self, id: &NamespacedName) -> Option<Access> {
        let constituents = self.constituents(id);
        let strongest = constituents.first()?.service;
        // A headless service has no address of its own: its pods are answered.
        let families: Vec<Family> = if strongest.headless { Vec::new() } else { strongest.traits.families().to_vec() };
        Some(Access {
            id: id.clone(),
            generation: 0,
            labels: Labels::new(),
            service: ServiceChoice::Name(id.name.clone()),
            ports: Vec::<PortChoice>::new(),
            clusters: constituents.iter().map(|constituent| constituent.cluster.clone()).collect(),
            hostnames: Vec::new(),
            per: VipPer::Service,
            pool: None,
            families,
            addresses: Vec::new(),
            publish: PublishRule::default(),
            load_balancing: PolicyRef::default(),
            vip_policy: PolicyRef::default(),
        })
    }
}

/// Both in the order of their names.
pub(super) fn by_name<'a>(
    left: impl Iterator<Item = &'a Arc<Access>>,
    right: impl Iterator<Item = &'a Arc<Access>>,
) -> impl Iterator<Item = &'a Arc<Access>> {
    let (mut left, mut right) = (left.peekable(), right.peekable());
    std::iter::from_fn(move || match (left.peek(), right.peek()) {
        (Some(first), Some(second)) if second.id < first.id => right.next(),
        (Some(_), _) => left.next(),
        (None, _) => right.next(),
    })
}
