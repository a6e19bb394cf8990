//! What was last known of clusters that are read from their API servers.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::database::Tx;
use super::statement::{Row, Statement};
use super::{Store, StoreError};
use crate::model::id::{ClusterName, NamespacedName};
use crate::model::object::{KubeNode, Locality, Object, ObjectKey, ObjectKind, Pod};
use crate::model::shared;

/// What is kept under a key from now on; `None` where the object is gone.
pub type ObjectChanges = BTreeMap<(ClusterName, ObjectKey), Option<Arc<Object>>>;

const PUT: &str = "INSERT INTO kube_object (cluster, kind, namespace, name, object) VALUES ($1, $2, $3, $4, $5) \
     ON CONFLICT (cluster, kind, namespace, name) DO UPDATE SET object = excluded.object \
     WHERE kube_object.object <> excluded.object";
const DELETE: &str = "DELETE FROM kube_object WHERE cluster = $1 AND kind = $2 AND namespace = $3 AND name = $4";

impl Store {
    /// Keeps changes of objects, all or none. Pods and Kubernetes nodes are kept elsewhere and left out here.
    ///
    /// # Errors
    /// What the database says, see [`StoreError`]. Nothing has been changed then.
    pub async fn apply_objects(&self, changes: &ObjectChanges) -> Result<(), StoreError> {
        let mut tx = self.inner.inventory.begin("keeping objects").await?;
        let outcome = write(&mut tx, changes).await;
        tx.finish(outcome).await
    }

    /// Remembers which cluster it is that has a name.
    ///
    /// # Errors
    /// What the database says, see [`StoreError`].
    pub async fn put_cluster_uid(&self, cluster: &ClusterName, uid: &str) -> Result<(), StoreError> {
        let put = Statement::new(
            "INSERT INTO kube_cluster (cluster, uid) VALUES ($1, $2) \
             ON CONFLICT (cluster) DO UPDATE SET uid = excluded.uid",
        );
        let put = put.bind(cluster.as_str()).bind(uid);
        self.inner.inventory.execute("remembering a cluster", put).await.map(|_| ())
    }

    /// The clusters of which something is kept, and their uids.
    ///
    /// # Errors
    /// What the database says, see [`StoreError`].
    pub async fn kube_clusters(&self) -> Result<BTreeMap<ClusterName, String>, StoreError> {
        let inventory = &self.inner.inventory;
        const DOING: &str = "listing clusters";
        let rows = inventory.fetch(DOING, Statement::new("SELECT cluster, uid FROM kube_cluster")).await?;
        let read = |row: &Row| Ok((ClusterName::from(row.get::<String>("cluster")?), row.get("uid")?));
        rows.iter().map(read).collect::<Result<_, sqlx::Error>>().map_err(|e| inventory.error(DOING, e))
    }

    /// Forgets everything of a cluster that is kept here.
    ///
    /// # Errors
    /// What the database says, see [`StoreError`].
    pub async fn forget_kube_cluster(&self, cluster: &ClusterName) -> Result<(), StoreError> {
        let mut tx = self.inner.inventory.begin("forgetting a cluster").await?;
        let outcome = forget(&mut tx, cluster).await;
        tx.finish(outcome).await
    }

    /// Everything that was last known of a cluster. What a version of Causeway wrote that had another form of it is left
    /// out: the cluster tells it anew.
    ///
    /// # Errors
    /// What the database says, see [`StoreError`].
    pub async fn last_known(&self, cluster: &ClusterName) -> Result<Vec<Object>, StoreError> {
        let inventory = &self.inner.inventory;
        const DOING: &str = "reading what was last known";
        let error = |e| inventory.error(DOING, e);
        let of = |sql| inventory.fetch(DOING, Statement::new(sql).bind(cluster.as_str()));
        let kept = of("SELECT object FROM kube_object WHERE cluster = $1").await?;
        let mut objects = Vec::with_capacity(kept.len());
        for row in &kept {
            let json: String = row.get("object").map_err(error)?;
            objects.extend(serde_json::from_str::<Object>(&json));
        }
        if objects.len() < kept.len() {
            tracing::warn!(%cluster, left_out = kept.len() - objects.len(), "objects that were kept cannot be read any more");
        }
        for row in &of("SELECT * FROM pod WHERE cluster = $1").await? {
            objects.push(Object::Pod(read_pod(row).map_err(error)?));
        }
        for row in &of("SELECT name, region, zone FROM kube_node WHERE cluster = $1").await? {
            objects.push(Object::Node(read_node(row).map_err(error)?));
        }
        Ok(objects)
    }
}

async fn write(tx: &mut Tx<'_>, changes: &ObjectChanges) -> Result<(), StoreError> {
    for ((cluster, key), object) in changes {
        let statement = match object {
            Some(object) => {
                let Some(json) = to_json(&**object) else { continue };
                of_key(PUT, cluster, key).bind(json)
            }
            None => of_key(DELETE, cluster, key),
        };
        tx.execute(statement).await?;
    }
    Ok(())
}

async fn forget(tx: &mut Tx<'_>, cluster: &ClusterName) -> Result<(), StoreError> {
    for sql in ["DELETE FROM kube_object WHERE cluster = $1", "DELETE FROM kube_cluster WHERE cluster = $1"] {
        tx.execute(Statement::new(sql).bind(cluster.as_str())).await?;
    }
    Ok(())
}

fn of_key(sql: &'static str, cluster: &ClusterName, key: &ObjectKey) -> Statement {
    let kind = format!("{:?}", key.kind);
    Statement::new(sql).bind(cluster.as_str()).bind(kind).bind(&*key.namespace).bind(&*key.name)
}

fn to_json(object: &(impl Serialize + std::fmt::Debug)) -> Option<String> {
    serde_json::to_string(object)
        .inspect_err(|error| tracing::error!(%error, ?object, "an object cannot be written as JSON"))
        .ok()
}

fn read_pod(row: &Row) -> Result<Pod, sqlx::Error> {
    fn json<T: DeserializeOwned + Default>(text: &str) -> T {
        serde_json::from_str(text).unwrap_or_default()
    }
    let text = |column| row.get::<String>(column);
    Ok(Pod {
        id: NamespacedName::new(shared::text(&text("namespace")?), shared::text(&text("name")?)),
        uid: text("uid")?.into(),
        resource_version: text("resource_version")?.into(),
        node: row.get::<Option<String>>("node")?.as_deref().map(shared::text),
        addresses: json(&text("addresses")?),
        phase: shared::text(&text("phase")?),
        ready: row.get("ready")?,
        labels: shared::labels(json(&text("labels")?)),
        weight: row.small("weight")?,
        created_at: row.get::<Option<i64>>("created_at")?.unwrap_or_default() / 1_000,
    })
}

fn read_node(row: &Row) -> Result<KubeNode, sqlx::Error> {
    let text = |column| row.get::<String>(column);
    let locality = Locality { region: shared::text(&text("region")?), zone: shared::text(&text("zone")?) };
    Ok(KubeNode { name: shared::text(&text("name")?), locality })
}

/// Whether objects of the kind are kept by [`Store::apply_objects`]; pods and nodes have tables of their own.
pub fn is_kept(kind: ObjectKind) -> bool {
    !matches!(kind, ObjectKind::Pod | ObjectKind::Node)
}
