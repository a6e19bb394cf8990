//! The inventory of pods, and of the Kubernetes nodes that say where they run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::database::Tx;
use super::statement::{Statement, Value};
use super::{Store, StoreError};
use crate::model::Timestamp;
use crate::model::id::{ClusterName, NamespacedName};
use crate::model::object::{Locality, Pod};
use crate::model::world::PodChange;

/// Rows of one statement: 15 values each, of the 32,766 that SQLite allows in one, and PostgreSQL 65,535.
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
    /// What the database says, see [`StoreError`].
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
    /// What the database says, see [`StoreError`].
    pub async fn prune_pods(&self, cluster: &ClusterName, since: Timestamp) -> Result<u64, StoreError> {
        let delete = Statement::new("DELETE FROM pod WHERE cluster = $1 AND seen_at < $2");
        let delete = delete.bind(cluster.as_str()).bind(since);
        self.inner.inventory.execute("removing old pods", delete).await
    }

    /// How many pods are in the inventory.
    ///
    /// # Errors
    /// What the database says, see [`StoreError`].
    pub async fn count_pods(&self) -> Result<u64, StoreError> {
        let inventory = &self.inner.inventory;
        const DOING: &str = "counting pods";
        let rows = inventory.fetch(DOING, Statement::new("SELECT count(*) AS pods FROM pod")).await?;
        let count = rows.first().map_or(Ok(0), |row| row.get::<i64>("pods"));
        count.map(i64::unsigned_abs).map_err(|e| inventory.error(DOING, e))
    }

    /// Records where Kubernetes nodes are, by cluster and name, from which the view `pods` takes
    /// region and zone; `None` where a node is gone.
    ///
    /// # Errors
    /// What the database says, see [`StoreError`].
    pub async fn apply_kube_nodes(
        &self,
        nodes: &BTreeMap<(ClusterName, Arc<str>), Option<Locality>>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut tx = self.inner.inventory.begin("recording nodes").await?;
        let outcome = put_nodes(&mut tx, nodes, now).await;
        tx.finish(outcome).await
    }

    async fn forget_pods(&self, cluster: &ClusterName) -> Result<(), StoreError> {
        let mut tx = self.inner.inventory.begin("forgetting a cluster").await?;
        let outcome = forget(&mut tx, cluster).await;
        tx.finish(outcome).await
    }

    async fn apply_chunk(&self, entries: &[(PodKey, Option<Arc<Pod>>)], now: Timestamp) -> Result<(), StoreError> {
        if entries.is_empty() {
            return Ok(());
        }
        let mut tx = self.inner.inventory.begin("writing pods").await?;
        let outcome = write(&mut tx, entries, now).await;
        tx.finish(outcome).await
    }
}

async fn put_nodes(
    tx: &mut Tx<'_>,
    nodes: &BTreeMap<(ClusterName, Arc<str>), Option<Locality>>,
    now: Timestamp,
) -> Result<(), StoreError> {
    for ((cluster, name), locality) in nodes {
        let statement = match locality {
            Some(locality) => Statement::new(
                "INSERT INTO kube_node (cluster, name, region, zone, updated_at) VALUES ($1, $2, $3, $4, $5) \
                 ON CONFLICT (cluster, name) DO UPDATE SET region = excluded.region, zone = excluded.zone, \
                 updated_at = excluded.updated_at \
                 WHERE (kube_node.region, kube_node.zone) IS DISTINCT FROM (excluded.region, excluded.zone)",
            )
            .bind(cluster.as_str())
            .bind(&**name)
            .bind(&*locality.region)
            .bind(&*locality.zone)
            .bind(now),
            None => Statement::new("DELETE FROM kube_node WHERE cluster = $1 AND name = $2")
                .bind(cluster.as_str())
                .bind(&**name),
        };
        tx.execute(statement).await?;
    }
    Ok(())
}

async fn forget(tx: &mut Tx<'_>, cluster: &ClusterName) -> Result<(), StoreError> {
    for sql in ["DELETE FROM pod WHERE cluster = $1", "DELETE FROM kube_node WHERE cluster = $1"] {
        tx.execute(Statement::new(sql).bind(cluster.as_str())).await?;
    }
    Ok(())
}

async fn write(tx: &mut Tx<'_>, entries: &[(PodKey, Option<Arc<Pod>>)], now: Timestamp) -> Result<(), StoreError> {
    let mut present: Vec<(&ClusterName, &Pod)> = Vec::with_capacity(entries.len());
    for ((cluster, id), pod) in entries {
        match pod {
            Some(pod) => present.push((cluster, pod)),
            None => {
                let delete = Statement::new("DELETE FROM pod WHERE cluster = $1 AND namespace = $2 AND name = $3");
                tx.execute(delete.bind(cluster.as_str()).bind(&*id.namespace).bind(&*id.name)).await?;
            }
        }
    }
    for rows in present.chunks(ROWS) {
        let statement = upsert(rows, now);
        // Only the statement of full size comes again and is worth keeping prepared.
        let statement = if rows.len() == ROWS { statement } else { statement.once() };
        tx.execute(statement).await?;
    }
    Ok(())
}

fn upsert(rows: &[(&ClusterName, &Pod)], now: Timestamp) -> Statement {
    let row = |(cluster, pod): &(&ClusterName, &Pod)| -> [Value; 15] {
        let addresses: Vec<String> = pod.addresses.iter().map(ToString::to_string).collect();
        // 0 means that the cluster did not say; the model counts in seconds.
        let created_at = (pod.created_at != 0).then(|| pod.created_at.saturating_mul(1_000));
        [
            cluster.as_str().into(),
            (&*pod.id.namespace).into(),
            (&*pod.id.name).into(),
            (&*pod.uid).into(),
            pod.node.as_deref().into(),
            serde_json::json!(addresses).to_string().into(),
            (&*pod.phase).into(),
            pod.ready.into(),
            serde_json::json!(pod.labels).to_string().into(),
            pod.weight.into(),
            (&*pod.resource_version).into(),
            created_at.into(),
            now.into(),
            now.into(),
            now.into(),
        ]
    };
    // A pod of the same name with another uid is another pod (a StatefulSet's, made anew). What is
    // told again without a difference, as after each restart, keeps its time of change.
    Statement::of_rows(
        "INSERT INTO pod (cluster, namespace, name, uid, node, addresses, phase, ready, labels, weight, \
         resource_version, created_at, first_seen_at, updated_at, seen_at)",
        rows.iter().map(row).collect(),
        " ON CONFLICT (cluster, namespace, name) DO UPDATE SET \
         first_seen_at = CASE WHEN pod.uid = excluded.uid THEN pod.first_seen_at ELSE excluded.first_seen_at END, \
         updated_at = CASE WHEN (pod.uid, pod.node, pod.addresses, pod.phase, pod.ready, pod.labels, pod.weight, \
         pod.created_at) IS NOT DISTINCT FROM (excluded.uid, excluded.node, excluded.addresses, excluded.phase, \
         excluded.ready, excluded.labels, excluded.weight, excluded.created_at) \
         THEN pod.updated_at ELSE excluded.updated_at END, \
         uid = excluded.uid, node = excluded.node, addresses = excluded.addresses, phase = excluded.phase, \
         ready = excluded.ready, labels = excluded.labels, weight = excluded.weight, \
         resource_version = excluded.resource_version, created_at = excluded.created_at, \
         seen_at = excluded.seen_at",
    )
}
