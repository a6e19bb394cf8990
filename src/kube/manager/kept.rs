//! Keeps what is known of clusters, behind the back of those who read them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::model::id::ClusterName;
use crate::model::object::{Object, ObjectKey};
use crate::store::{self, Mailbox, ObjectChanges, Store, StoreError, is_kept, write_behind};

/// What waits, reduced to its outcome.
#[derive(Default)]
struct Waiting {
    /// Before all others here.
    forgotten: BTreeSet<ClusterName>,
    /// By which clusters are told from others, before their objects.
    uids: BTreeMap<ClusterName, String>,
    objects: ObjectChanges,
}

/// Takes what is to be kept. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Kept {
    waiting: Mailbox<Waiting>,
}

impl Kept {
    pub fn put(&self, cluster: &ClusterName, object: &Object) {
        let key = object.key();
        if is_kept(key.kind) {
            let object = Some(Arc::new(object.clone()));
            self.waiting.put(|waiting| drop(waiting.objects.insert((cluster.clone(), key), object)));
        }
    }

    pub fn delete(&self, cluster: &ClusterName, key: &ObjectKey) {
        if is_kept(key.kind) {
            self.waiting.put(|waiting| drop(waiting.objects.insert((cluster.clone(), key.clone()), None)));
        }
    }

    /// The cluster has this uid.
    pub fn remember(&self, cluster: &ClusterName, uid: &str) {
        self.waiting.put(|waiting| drop(waiting.uids.insert(cluster.clone(), uid.to_owned())));
    }

    pub fn forget(&self, cluster: &ClusterName) {
        self.waiting.put(|waiting| {
            waiting.uids.remove(cluster);
            waiting.objects.retain(|(of, _), _| of != cluster);
            waiting.forgotten.insert(cluster.clone());
        });
    }

    /// Writes until `shutdown`, and then what is left.
    pub async fn write(self, store: Store, shutdown: CancellationToken) {
        write_behind(self.waiting, store, shutdown).await;
    }
}

impl store::Waiting for Waiting {
    const WHAT: &'static str = "what is known of clusters";
    /// A change that is lost to a crash is told again by its cluster, unless that cannot be read just then.
    const PAUSE: Duration = Duration::from_millis(200);

    async fn write(&mut self, store: &Store) -> Result<(), StoreError> {
        for cluster in &self.forgotten {
            store.forget_kube_cluster(cluster).await?;
        }
        for (cluster, uid) in &self.uids {
            store.put_cluster_uid(cluster, uid).await?;
        }
        if self.objects.is_empty() { Ok(()) } else { store.apply_objects(&self.objects).await }
    }

    fn put_back(&mut self, failed: Self) {
        let mut objects = failed.objects;
        objects.retain(|(cluster, _), _| !self.forgotten.contains(cluster));
        objects.append(&mut self.objects);
        self.objects = objects;
        for (cluster, uid) in failed.uids {
            if !self.forgotten.contains(&cluster) {
                self.uids.entry(cluster).or_insert(uid);
            }
        }
        self.forgotten.extend(failed.forgotten);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Waiting as _;

    #[test]
    fn what_was_not_written_waits_below_what_came_since() {
        let [east, west]: [ClusterName; 2] = ["east".into(), "west".into()];
        let uids = |pairs: &[(&ClusterName, &str)]| {
            pairs.iter().map(|(cluster, uid)| ((*cluster).clone(), (*uid).to_owned())).collect()
        };
        let failed = Waiting { uids: uids(&[(&east, "old"), (&west, "w")]), ..Waiting::default() };
        let mut since = Waiting { uids: uids(&[(&east, "new")]), ..Waiting::default() };
        since.put_back(failed);
        assert_eq!(since.uids, uids(&[(&east, "new"), (&west, "w")]));
        // A cluster that was forgotten meanwhile is not remembered by what came before.
        let mut since = Waiting { forgotten: [west.clone()].into(), ..Waiting::default() };
        since.put_back(Waiting { uids: uids(&[(&east, "e"), (&west, "w")]), ..Waiting::default() });
        assert_eq!(since.uids, uids(&[(&east, "e")]));
    }
}
