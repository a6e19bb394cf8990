//! Keeps what is known of clusters, behind the back of those who read them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::model::id::ClusterName;
use crate::model::object::{Object, ObjectKey};
use crate::store::{ObjectChanges, Store, StoreError, is_kept};

/// The pause between writes. A change that is lost to a crash is told again by its cluster, unless that cannot be read
/// just then.
const PAUSE: Duration = Duration::from_millis(200);

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
    waiting: Arc<Mutex<Waiting>>,
    news: Arc<Notify>,
}

impl Kept {
    pub fn put(&self, cluster: &ClusterName, object: &Object) {
        let key = object.key();
        if is_kept(key.kind) {
            let object = Some(Arc::new(object.clone()));
            self.change(|waiting| drop(waiting.objects.insert((cluster.clone(), key), object)));
        }
    }

    pub fn delete(&self, cluster: &ClusterName, key: &ObjectKey) {
        if is_kept(key.kind) {
            self.change(|waiting| drop(waiting.objects.insert((cluster.clone(), key.clone()), None)));
        }
    }

    /// The cluster has this uid.
    pub fn remember(&self, cluster: &ClusterName, uid: &str) {
        self.change(|waiting| drop(waiting.uids.insert(cluster.clone(), uid.to_owned())));
    }

    pub fn forget(&self, cluster: &ClusterName) {
        self.change(|waiting| {
            waiting.uids.remove(cluster);
            waiting.objects.retain(|(of, _), _| of != cluster);
            waiting.forgotten.insert(cluster.clone());
        });
    }

    fn change(&self, change: impl FnOnce(&mut Waiting)) {
        // Each change leaves what waits whole.
        change(&mut self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        self.news.notify_one();
    }

    /// Writes until `shutdown`, and then what is left.
    pub async fn write(self, store: Store, shutdown: CancellationToken) {
        loop {
            let is_last = shutdown.is_cancelled();
            let waiting = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
            if let Err(error) = write(&store, &waiting).await {
                // Of a database that cannot be used the store tells itself, once.
                if store.outage().is_none() {
                    tracing::error!(%error, "what is known of clusters could not be kept; trying again");
                }
                let mut since = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
                put_back(&mut since, waiting);
                self.news.notify_one();
            }
            if is_last {
                return;
            }
            tokio::select! {
                () = async { tokio::time::sleep(PAUSE).await; self.news.notified().await } => {}
                () = shutdown.cancelled() => {}
            }
        }
    }
}

async fn write(store: &Store, waiting: &Waiting) -> Result<(), StoreError> {
    for cluster in &waiting.forgotten {
        store.forget_kube_cluster(cluster).await?;
    }
    for (cluster, uid) in &waiting.uids {
        store.put_cluster_uid(cluster, uid).await?;
    }
    if waiting.objects.is_empty() { Ok(()) } else { store.apply_objects(&waiting.objects).await }
}

/// Puts what was not written below what came since.
fn put_back(since: &mut Waiting, failed: Waiting) {
    let forgotten = &since.forgotten;
    let mut objects = failed.objects;
    objects.retain(|(cluster, _), _| !forgotten.contains(cluster));
    objects.append(&mut since.objects);
    since.objects = objects;
    for (cluster, uid) in failed.uids {
        if !since.forgotten.contains(&cluster) {
            since.uids.entry(cluster).or_insert(uid);
        }
    }
    since.forgotten.extend(failed.forgotten);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_written_waits_below_what_came_since() {
        let [east, west]: [ClusterName; 2] = ["east".into(), "west".into()];
        let uids = |pairs: &[(&ClusterName, &str)]| {
            pairs.iter().map(|(cluster, uid)| ((*cluster).clone(), (*uid).to_owned())).collect()
        };
        let failed = Waiting { uids: uids(&[(&east, "old"), (&west, "w")]), ..Waiting::default() };
        let mut since = Waiting { uids: uids(&[(&east, "new")]), ..Waiting::default() };
        put_back(&mut since, failed);
        assert_eq!(since.uids, uids(&[(&east, "new"), (&west, "w")]));
        // A cluster that was forgotten meanwhile is not remembered by what came before.
        let mut since = Waiting { forgotten: [west.clone()].into(), ..Waiting::default() };
        put_back(&mut since, Waiting { uids: uids(&[(&east, "e"), (&west, "w")]), ..Waiting::default() });
        assert_eq!(since.uids, uids(&[(&east, "e")]));
    }
}
