//! What was last known of clusters that are read from their API servers.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::Row;

use super::{Store, StoreError};
use crate::model::id::{ClusterName, NamespacedName};
use crate::model::object::{KubeNode, Locality, Object, ObjectKey, ObjectKind, Pod};

/// What is kept under a key from now on; `None` where the object is gone.
pub type ObjectChanges = BTreeMap<(ClusterName, ObjectKey), Option<Arc<Object>>>;

const PUT: &str = "INSERT INTO kube_object (cluster, kind, namespace, name, object) VALUES (?1, ?2, ?3, ?4, ?5) \
     ON CONFLICT (cluster, kind, namespace, name) DO UPDATE SET object = excluded.object \
     WHERE kube_object.object <> excluded.object";
const DELETE: &str = "DELETE FROM kube_object WHERE cluster = ?1 AND kind = ?2 AND namespace = ?3 AND name = ?4";

impl Store {
    /// Keeps changes of objects, all or none. Pods and Kubernetes nodes are kept elsewhere and left out here.
    ///
    /// # Errors
    /// What SQLite says, see [`StoreError`]. Nothing has been changed then.
    pub async fn apply_objects(&self, changes: &ObjectChanges) -> Result<(), StoreError> {
        let inventory = &self.inner.inventory;
        let error = |e| inventory.error("keeping objects", e);
        let mut tx = inventory.begin("keeping objects").await?;
        for ((cluster, key), object) in changes {
            let query = match object {
                Some(object) => {
                    let Some(json) = to_json(&**object) else { continue };
                    bind_key(sqlx::query(PUT), cluster, key).bind(json)
                }
                None => bind_key(sqlx::query(DELETE), cluster, key),
            };
            query.execute(&mut *tx).await.map_err(error)?;
        }
        tx.commit().await.map_err(error)
    }

    /// Remembers which cluster it is that has a name.
    ///
    /// # Errors
    /// What SQLite says, see [`StoreError`].
    pub async fn put_cluster_uid(&self, cluster: &ClusterName, uid: &str) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO kube_cluster (cluster, uid) VALUES (?1, ?2) ON CONFLICT (cluster) DO UPDATE SET uid = excluded.uid",
        )
        .bind(cluster.as_str())
        .bind(uid)
        .execute(self.inner.inventory.pool())
        .await
        .map(|_| ())
        .map_err(|e| self.inner.inventory.error("remembering a cluster", e))
    }

    /// The clusters of which something is kept, and their uids.
    ///
    /// # Errors
    /// What SQLite says, see [`StoreError`].
    pub async fn kube_clusters(&self) -> Result<BTreeMap<ClusterName, String>, StoreError> {
        let rows: Vec<(String, String)> = sqlx::query_as("SELECT cluster, uid FROM kube_cluster")
            .fetch_all(self.inner.inventory.pool())
            .await
            .map_err(|e| self.inner.inventory.error("listing clusters", e))?;
        Ok(rows.into_iter().map(|(name, uid)| (ClusterName::from(name), uid)).collect())
    }

    /// Forgets everything of a cluster that is kept here.
    ///
    /// # Errors
    /// What SQLite says, see [`StoreError`].
    pub async fn forget_kube_cluster(&self, cluster: &ClusterName) -> Result<(), StoreError> {
        let inventory = &self.inner.inventory;
        let error = |e| inventory.error("forgetting a cluster", e);
        let mut tx = inventory.begin("forgetting a cluster").await?;
        for query in ["DELETE FROM kube_object WHERE cluster = ?1", "DELETE FROM kube_cluster WHERE cluster = ?1"] {
            sqlx::query(query).bind(cluster.as_str()).execute(&mut *tx).await.map_err(error)?;
        }
        tx.commit().await.map_err(error)
    }

    /// Everything that was last known of a cluster. What a version of Causeway wrote that had another form of it is left
    /// out: the cluster tells it anew.
    ///
    /// # Errors
    /// What SQLite says, see [`StoreError`].
    pub async fn last_known(&self, cluster: &ClusterName) -> Result<Vec<Object>, StoreError> {
        let inventory = &self.inner.inventory;
        let error = |e| inventory.error("reading what was last known", e);
        let kept: Vec<String> = sqlx::query_scalar("SELECT object FROM kube_object WHERE cluster = ?1")
            .bind(cluster.as_str())
            .fetch_all(inventory.pool())
            .await
            .map_err(error)?;
        let mut objects: Vec<Object> = kept.iter().filter_map(|json| serde_json::from_str(json).ok()).collect();
        if objects.len() < kept.len() {
            tracing::warn!(%cluster, left_out = kept.len() - objects.len(), "objects that were kept cannot be read any more");
        }
        let rows = sqlx::query("SELECT * FROM pod WHERE cluster = ?1")
            .bind(cluster.as_str())
            .fetch_all(inventory.pool())
            .await
            .map_err(error)?;
        for row in &rows {
            objects.push(Object::Pod(read_pod(row).map_err(error)?));
        }
        let nodes: Vec<(String, String, String)> =
            sqlx::query_as("SELECT name, region, zone FROM kube_node WHERE cluster = ?1")
                .bind(cluster.as_str())
                .fetch_all(inventory.pool())
                .await
                .map_err(error)?;
        objects.extend(nodes.into_iter().map(|(name, region, zone)| {
            Object::Node(KubeNode {
                name: name.into(),
                locality: Locality { region: region.into(), zone: zone.into() },
            })
        }));
        Ok(objects)
    }
}

fn bind_key<'q>(
    query: sqlx::query::Query<'q, sqlx::Sqlite, sqlx::sqlite::SqliteArguments>,
    cluster: &ClusterName,
    key: &ObjectKey,
) -> sqlx::query::Query<'q, sqlx::Sqlite, sqlx::sqlite::SqliteArguments> {
    let kind = format!("{:?}", key.kind);
    query.bind(cluster.as_str().to_owned()).bind(kind).bind(key.namespace.to_string()).bind(key.name.to_string())
}

fn to_json(object: &(impl Serialize + std::fmt::Debug)) -> Option<String> {
    serde_json::to_string(object)
        .inspect_err(|error| tracing::error!(%error, ?object, "an object cannot be written as JSON"))
        .ok()
}

fn read_pod(row: &sqlx::sqlite::SqliteRow) -> Result<Pod, sqlx::Error> {
    fn json<T: DeserializeOwned + Default>(text: &str) -> T {
        serde_json::from_str(text).unwrap_or_default()
    }
    let text = |column| row.try_get::<String, _>(column);
    Ok(Pod {
        id: NamespacedName::new(text("namespace")?, text("name")?),
        uid: text("uid")?.into(),
        resource_version: text("resource_version")?.into(),
        node: row.try_get::<Option<String>, _>("node")?.map(Into::into),
        addresses: json(&text("addresses")?),
        phase: text("phase")?.into(),
        ready: row.try_get("ready")?,
        labels: json(&text("labels")?),
        weight: row.try_get("weight")?,
        created_at: row.try_get::<Option<i64>, _>("created_at")?.unwrap_or_default() / 1_000,
    })
}

/// Whether objects of the kind are kept by [`Store::apply_objects`]; pods and nodes have tables of their own.
pub fn is_kept(kind: ObjectKind) -> bool {
    !matches!(kind, ObjectKind::Pod | ObjectKind::Node)
}
