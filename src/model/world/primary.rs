//! Which cluster is the primary, what holds of each cluster, and what has no effect where it is.

use std::sync::Arc;

use super::cluster::default_spec;
use super::{Ignored, Touched, World};
use crate::model::id::ClusterName;
use crate::model::object::{ClusterRole, ClusterSpec, Object, ObjectKey, ObjectKind};

/// The primary's name where nobody says which one it is.
const CONVENTIONAL: &str = "primary";

impl World {
    /// Decides which cluster is the primary, in place of what the clusters say; `None` leaves it to
    /// them again. While the chosen one is not there, there is no primary.
    pub fn set_primary(&mut self, chosen: Option<ClusterName>) -> Touched {
        let mut touched = Touched::default();
        self.chosen_primary = chosen;
        self.settle(&mut touched);
        touched
    }

    /// The primary: the one that was chosen, if any was; else the cluster that says so of itself (the first by name, should several), else
    /// the one that is called `primary`, else the only one there is, else the only one that has
    /// pools, so that a second folder does not withdraw what the first one serves.
    pub(super) fn find_primary(&self) -> Option<ClusterName> {
        if let Some(chosen) = &self.chosen_primary {
            return self.clusters.contains_key(chosen).then(|| chosen.clone());
        }
        let says_so = self
            .clusters
            .iter()
            .find(|(name, data)| data.infos.get(*name).is_some_and(|spec| spec.role == ClusterRole::Primary));
        if let Some((name, _)) = says_so.or_else(|| self.clusters.get_key_value(CONVENTIONAL)) {
            return Some(name.clone());
        }
        only(self.clusters.keys())
            .or_else(|| only(self.clusters.iter().filter(|(_, data)| !data.pools.is_empty()).map(|(name, _)| name)))
            .cloned()
    }

    /// What holds of a cluster: what the primary says of it, else what it says of itself.
    pub(super) fn find_spec(&self, name: &ClusterName) -> ClusterSpec {
        let of_primary = self.primary_data().and_then(|data| data.infos.get(name));
        let own = || self.clusters.get(name).and_then(|data| data.infos.get(name));
        let mut spec = of_primary.or_else(own).cloned().unwrap_or_else(|| default_spec(name));
        let is_primary = self.primary.as_ref() == Some(name);
        spec.role = if is_primary { ClusterRole::Primary } else { ClusterRole::Sub };
        spec
    }

    /// Objects that have no effect where they are, in a fixed order.
    pub fn ignored(&self) -> Vec<Ignored> {
        let mut all = Vec::new();
        for (name, data) in &self.clusters {
            if self.primary.as_ref() != Some(name) {
                let reason = match (&self.primary, &self.chosen_primary) {
                    (None, Some(chosen)) => {
                        format!("the cluster that is chosen as the primary, {chosen}, is not there")
                    }
                    (Some(primary), _) => format!("it is read from the primary cluster only, which is {primary}"),
                    (None, None) => {
                        "no cluster is the primary: give one a ClusterInfo of its own name with role Primary".to_owned()
                    }
                };
                let accesses = data.accesses.values().map(|access| Object::Access((**access).clone()).key());
                let pools = data.pools.values().map(|pool| Object::Pool((**pool).clone()).key());
                let snapshots = data.snapshots().map(|snapshot| Object::Snapshot((**snapshot).clone()).key());
                let policies = data.policies.values().map(|policy| Object::Policy((**policy).clone()).key());
                all.extend(accesses.chain(pools).chain(snapshots).chain(policies).map(|object| Ignored {
                    cluster: name.clone(),
                    object,
                    reason: reason.clone(),
                }));
            }
            all.extend(data.infos.values().filter_map(|info| {
                let reason = self.why_info_ignored(name, info)?;
                let object = ObjectKey {
                    kind: ObjectKind::ClusterInfo,
                    namespace: Arc::from(""),
                    name: info.name.as_str().into(),
                };
                Some(Ignored { cluster: name.clone(), object, reason })
            }));
        }
        all.sort();
        all
    }

    fn why_info_ignored(&self, cluster: &ClusterName, info: &ClusterSpec) -> Option<String> {
        let from_primary = self.primary.as_ref() == Some(cluster);
        if !from_primary && info.name != *cluster {
            return Some(format!(
                "a ClusterInfo is read from the primary cluster or from the cluster that it names, {}",
                info.name
            ));
        }
        if !from_primary && self.primary_data().is_some_and(|data| data.infos.contains_key(&info.name)) {
            return Some("the primary cluster has a ClusterInfo of the same name, which counts instead".to_owned());
        }
        if !self.clusters.contains_key(&info.name) {
            return Some(format!("no source of a cluster {} is configured", info.name));
        }
        if info.role == ClusterRole::Primary && self.primary.as_ref() != Some(&info.name) {
            let primary = self.primary.as_ref().map_or("no cluster", ClusterName::as_str);
            return Some(format!("its role Primary has no effect: there is one primary, and that is {primary}"));
        }
        None
    }
}

/// The only item, if there is exactly one.
fn only<T>(mut items: impl Iterator<Item = T>) -> Option<T> {
    let first = items.next()?;
    items.next().is_none().then_some(first)
}
