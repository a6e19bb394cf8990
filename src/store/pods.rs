//! The inventory of pods, and of the Kubernetes nodes that say where they run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sqlx::{QueryBuilder, Sqlite, Transaction};

use super::{Store, StoreError};
use crate::model::Timestamp;
use crate::model::id::{ClusterName, NamespacedName};
use crate::model::object::{Locality, Pod};
use crate::model::world::PodChange;

/// Rows of one statement: 15 values each, of the 32,766 that SQLite allows in one.
const ROWS: usize = 500;
/// Rows of one transaction: few enough that others get their turn in a fraction of a second, enough
/// that the commits do not count.
const CHUNK: usize = 10_000;

type PodKey = (ClusterName, NamespacedName);

/// A batch, reduced to its outcome.
#[derive(Default)]
struct Batch {
    forgotten: BTreeSet<ClusterName>,
    /// By key, which is also the order of the table. `None` where the pod is gone.
    pods: BTreeMap<PodKey, Option<Arc<Pod>>>,
}

impl Batch {
    fn of(changes: Vec<PodChange>) -> Self {
        let mut batch = Self::default();
        for change in changes {
            match change {
                PodChange::Upsert { cluster, pod } => {
                    batch.pods.insert((cluster, pod.id.clone()), Some(pod));
                }
                PodChange::Delete { cluster, id } => {
                    batch.pods.insert((cluster, id), None);
                }
                PodChange::ForgetCluster { cluster } => {
                    batch.pods.retain(|(of, _), _| *of != cluster);
                    batch.forgotten.insert(cluster);
                }
            }
        }
        batch
    }
}

impl Store {
    /// Applies the changes in their order. Large batches are committed in chunks, and each chunk is
    /// whole; applying a batch once more does no harm, so after an error the whole may be repeated.
    /// `now` becomes the time of what is new or different.
    ///
    /// # Errors
    /// What SQLite says, see [`StoreError`].
    pub async fn apply_pods(&self, changes: Vec<PodChange>, now: Timestamp) -> Result<(), StoreError> {
        let batch = Batch::of(changes);
        for cluster in &batch.forgotten {
            self.forget_pods(cluster).await?;
        }
        let mut waiting: Vec<(PodKey, Option<Arc<Pod>>)> = Vec::with_capacity(batch.pods.len().min(CHUNK));
        for entry in batch.pods {
            waiting.push(entry);
            if waiting.len() == CHUNK {
                self.apply_chunk(&waiting, now).await?;
                waiting.clear();
            }
        }
        self.apply_chunk(&waiting, now).await
    }

    /// Removes the cluster's pods that have not been told since `since`: once a cluster has been
    /// read completely after a start, these went away while nobody looked. Returns how many.
    ///
    /// # Errors
    /// What SQLite says, see [`StoreError`].
    pub async fn prune_pods(&self, cluster: &ClusterName, since: Timestamp) -> Result<u64, StoreError> {
        sqlx::query("DELETE FROM pod WHERE cluster = ?1 AND seen_at < ?2")
            .bind(cluster.as_str())
            .bind(since)
            .execute(self.inner.inventory.pool())
            .await
            .map(|done| done.rows_affected())
            .map_err(|e| self.inner.inventory.error("removing old pods", e))
    }

    /// How many pods are in the inventory.
    ///
    /// # Errors
    /// What SQLite says, see [`StoreError`].
    pub async fn count_pods(&self) -> Result<u64, StoreError> {
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM pod")
            .fetch_one(self.inner.inventory.pool())
            .await
            .map_err(|e| self.inner.inventory.error("counting pods", e))?;
        Ok(count.unsigned_abs())
    }

    /// Records where Kubernetes nodes are, by cluster and name, from which the view `pods` takes
    /// region and zone; `None` where a node is gone.
    ///
    /// # Errors
    /// What SQLite says, see [`StoreError`].
    pub async fn apply_kube_nodes(
        &self,
        nodes: &BTreeMap<(ClusterName, Arc<str>), Option<Locality>>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let inventory = &self.inner.inventory;
        let mut tx = inventory.begin("recording nodes").await?;
        for ((cluster, name), locality) in nodes {
            let query = match locality {
                Some(locality) => sqlx::query(
                    "INSERT INTO kube_node (cluster, name, region, zone, updated_at) VALUES (?1, ?2, ?3, ?4, ?5) \
                     ON CONFLICT (cluster, name) DO UPDATE SET region = excluded.region, zone = excluded.zone, \
                     updated_at = excluded.updated_at \
                     WHERE (kube_node.region, kube_node.zone) IS NOT (excluded.region, excluded.zone)",
                )
                .bind(cluster.as_str())
                .bind(&**name)
                .bind(&*locality.region)
                .bind(&*locality.zone)
                .bind(now),
                None => sqlx::query("DELETE FROM kube_node WHERE cluster = ?1 AND name = ?2")
                    .bind(cluster.as_str())
                    .bind(&**name),
            };
            query.execute(&mut *tx).await.map_err(|e| inventory.error("recording nodes", e))?;
        }
        tx.commit().await.map_err(|e| inventory.error("recording nodes", e))
    }

    async fn forget_pods(&self, cluster: &ClusterName) -> Result<(), StoreError> {
        let inventory = &self.inner.inventory;
        let mut tx = inventory.begin("forgetting a cluster").await?;
        for statement in ["DELETE FROM pod WHERE cluster = ?1", "DELETE FROM kube_node WHERE cluster = ?1"] {
            sqlx::query(statement)
                .bind(cluster.as_str())
                .execute(&mut *tx)
                .await
                .map_err(|e| inventory.error("forgetting a cluster", e))?;
        }
        tx.commit().await.map_err(|e| inventory.error("forgetting a cluster", e))
    }

    async fn apply_chunk(&self, entries: &[(PodKey, Option<Arc<Pod>>)], now: Timestamp) -> Result<(), StoreError> {
        if entries.is_empty() {
            return Ok(());
        }
        let inventory = &self.inner.inventory;
        let mut tx = inventory.begin("writing pods").await?;
        let mut present: Vec<(&ClusterName, &Pod)> = Vec::with_capacity(entries.len());
        for ((cluster, id), pod) in entries {
            match pod {
                Some(pod) => present.push((cluster, pod)),
                None => {
                    sqlx::query("DELETE FROM pod WHERE cluster = ?1 AND namespace = ?2 AND name = ?3")
                        .bind(cluster.as_str())
                        .bind(&*id.namespace)
                        .bind(&*id.name)
                        .execute(&mut *tx)
                        .await
                        .map_err(|e| inventory.error("removing pods", e))?;
                }
            }
        }
        for rows in present.chunks(ROWS) {
            upsert(&mut tx, rows, now).await.map_err(|e| inventory.error("writing pods", e))?;
        }
        tx.commit().await.map_err(|e| inventory.error("writing pods", e))
    }
}

async fn upsert(
    tx: &mut Transaction<'static, Sqlite>,
    rows: &[(&ClusterName, &Pod)],
    now: Timestamp,
) -> Result<(), sqlx::Error> {
    let mut query = QueryBuilder::<Sqlite>::new(
        "INSERT INTO pod (cluster, namespace, name, uid, node, addresses, phase, ready, labels, weight, \
         resource_version, created_at, first_seen_at, updated_at, seen_at) ",
    );
    query.push_values(rows, |mut row, (cluster, pod)| {
        let addresses: Vec<String> = pod.addresses.iter().map(ToString::to_string).collect();
        // 0 means that the cluster did not say; the model counts in seconds.
        let created_at = (pod.created_at != 0).then(|| pod.created_at.saturating_mul(1_000));
        row.push_bind(cluster.as_str().to_owned())
            .push_bind(pod.id.namespace.to_string())
            .push_bind(pod.id.name.to_string())
            .push_bind(pod.uid.to_string())
            .push_bind(pod.node.as_ref().map(ToString::to_string))
            .push_bind(serde_json::json!(addresses).to_string())
            .push_bind(pod.phase.to_string())
            .push_bind(i64::from(pod.ready))
            .push_bind(serde_json::json!(pod.labels).to_string())
            .push_bind(i64::from(pod.weight))
            .push_bind(pod.resource_version.to_string())
            .push_bind(created_at)
            .push_bind(now)
            .push_bind(now)
            .push_bind(now);
    });
    // A pod of the same name with another uid is another pod (a StatefulSet's, made anew). What is
    // told again without a difference, as after each restart, keeps its time of change.
    query.push(
        " ON CONFLICT (cluster, namespace, name) DO UPDATE SET \
         first_seen_at = iif(pod.uid = excluded.uid, pod.first_seen_at, excluded.first_seen_at), \
         updated_at = iif((pod.uid, pod.node, pod.addresses, pod.phase, pod.ready, pod.labels, pod.weight, \
         pod.created_at) IS (excluded.uid, excluded.node, excluded.addresses, excluded.phase, excluded.ready, \
         excluded.labels, excluded.weight, excluded.created_at), pod.updated_at, excluded.updated_at), \
         uid = excluded.uid, node = excluded.node, addresses = excluded.addresses, phase = excluded.phase, \
         ready = excluded.ready, labels = excluded.labels, weight = excluded.weight, \
         resource_version = excluded.resource_version, created_at = excluded.created_at, \
         seen_at = excluded.seen_at",
    );
    // Only the statement of full size comes again and is worth keeping prepared.
    query.build().persistent(rows.len() == ROWS).execute(&mut **tx).await.map(|_| ())
}
