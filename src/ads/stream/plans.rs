//! What a change means to those who want the same, decided once.
//!
//! A fleet's streams want few different sets of names, and most of them have the same snapshot. So what differs between
//! the snapshot that a stream's client has and the one that it is to have, of the names that it wants, is looked up here
//! first. It lives as long as it is on its way to somebody.

use std::sync::Arc;

use super::resources::Resources;
use crate::ads::kept::Kept;
use crate::ads::subscription::{NameSets, Subscription, SubscriptionMark};
use crate::snapshot::{ResourceType, SnapshotMark, XdsSnapshot};

/// What differs between two snapshots, of the names that a subscription covers, in their order.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// What is new or another.
    pub(super) resources: Resources,
    /// What is gone.
    pub(super) removed: Arc<[Arc<str>]>,
    /// Bytes of names and bodies.
    pub(super) bytes: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    from: SnapshotMark,
    to: SnapshotMark,
    ty: ResourceType,
    wanted: SubscriptionMark,
}

/// The plans of one server, and the sets of names that they are for. Cloning shares them.
#[derive(Clone, Default)]
pub struct Plans {
    by_key: Kept<Key, Plan>,
    pub(super) sets: NameSets,
}

impl Plans {
    pub(super) fn get(&self, from: &XdsSnapshot, to: &XdsSnapshot, ty: ResourceType, sub: &Subscription) -> Arc<Plan> {
        let key = Key { from: from.mark(), to: to.mark(), ty, wanted: sub.mark() };
        if let Some(plan) = self.by_key.get(&key) {
            return plan;
        }
        let plan = Arc::new(Plan::new(from, to, ty, sub));
        self.by_key.keep(key, &plan);
        plan
    }
}

impl Plan {
    fn new(from: &XdsSnapshot, to: &XdsSnapshot, ty: ResourceType, sub: &Subscription) -> Self {
        let (mut resources, mut removed, mut bytes) = (Vec::new(), Vec::new(), 0);
        let mut covered = sub.walk();
        for (name, now) in to.difference(from, ty) {
            if !covered.covers(name) {
                continue;
            }
            bytes += name.len();
            match now {
                Some(now) => {
                    bytes += now.body().len();
                    resources.push(now.clone());
                }
                None => removed.push(name.clone()),
            }
        }
        Self { resources: resources.into(), removed: removed.into(), bytes }
    }
}
