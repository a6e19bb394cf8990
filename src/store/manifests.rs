//! The last good content of manifest files, so that a file that is broken at a start is still served.

use sha2::{Digest, Sha256};

use super::database::Tx;
use super::statement::{Row, Statement};
use super::{Store, StoreError};
use crate::model::Timestamp;
use crate::model::id::ClusterName;

/// A manifest file as it was when it last was good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestFile {
    /// Its path, relative to the manifests' folder.
    pub path: String,
    /// The content's SHA-256, in lower-case hexadecimal.
    pub sha256: String,
    /// The content.
    pub content: String,
    /// When it was put.
    pub updated_at: Timestamp,
}

const PUT: &str = "INSERT INTO manifest_files (cluster, path, sha256, content, updated_at) VALUES ($1, $2, $3, $4, $5) \
     ON CONFLICT (cluster, path) DO UPDATE SET sha256 = excluded.sha256, content = excluded.content, \
     updated_at = excluded.updated_at WHERE manifest_files.sha256 <> excluded.sha256";
const DELETE: &str = "DELETE FROM manifest_files WHERE cluster = $1 AND path = $2";

/// A change to what is kept of files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ManifestChange {
    /// The file has this content now.
    Put {
        /// The cluster.
        cluster: ClusterName,
        /// The file's path.
        path: String,
        /// Its content.
        content: String,
    },
    /// The file is gone.
    Delete {
        /// The cluster.
        cluster: ClusterName,
        /// The file's path.
        path: String,
    },
}

impl Store {
    /// Applies changes in their order, all or none.
    ///
    /// # Errors
    /// What the database says, see [`StoreError`]. Nothing has been changed then.
    pub async fn apply_manifests(&self, changes: &[ManifestChange], now: Timestamp) -> Result<(), StoreError> {
        let mut tx = self.inner.inventory.begin("keeping manifests").await?;
        let outcome = write(&mut tx, changes, now).await;
        tx.finish(outcome).await
    }

    /// The clusters of which any file is kept.
    ///
    /// # Errors
    /// What the database says, see [`StoreError`].
    pub async fn manifest_clusters(&self) -> Result<Vec<ClusterName>, StoreError> {
        let inventory = &self.inner.inventory;
        const DOING: &str = "listing the clusters of manifests";
        let select = Statement::new("SELECT DISTINCT cluster FROM manifest_files ORDER BY cluster");
        let rows = inventory.fetch(DOING, select).await?;
        let name = |row: &Row| Ok(ClusterName::from(row.get::<String>("cluster")?));
        rows.iter().map(name).collect::<Result<_, sqlx::Error>>().map_err(|e| inventory.error(DOING, e))
    }

    /// The cluster's files, by path. One whose content is not what its hash says is left out, with
    /// a warning: serving what nobody wrote is worse than serving nothing of that file.
    ///
    /// # Errors
    /// What the database says, see [`StoreError`].
    pub async fn get_manifests(&self, cluster: &ClusterName) -> Result<Vec<ManifestFile>, StoreError> {
        let select = Statement::new(
            "SELECT path, sha256, content, updated_at FROM manifest_files WHERE cluster = $1 ORDER BY path",
        );
        const DOING: &str = "reading manifests";
        let rows = self.inner.inventory.fetch(DOING, select.bind(cluster.as_str())).await?;
        let mut files = Vec::with_capacity(rows.len());
        for row in &rows {
            let read = || -> Result<ManifestFile, sqlx::Error> {
                Ok(ManifestFile {
                    path: row.get("path")?,
                    sha256: row.get("sha256")?,
                    content: row.get("content")?,
                    updated_at: row.get("updated_at")?,
                })
            };
            let file = read().map_err(|e| self.inner.inventory.error(DOING, e))?;
            if sha256(&file.content) == file.sha256 {
                files.push(file);
            } else {
                tracing::warn!(%cluster, path = file.path, "a kept manifest differs from its hash and is left out");
            }
        }
        Ok(files)
    }
}

async fn write(tx: &mut Tx<'_>, changes: &[ManifestChange], now: Timestamp) -> Result<(), StoreError> {
    for change in changes {
        let statement = match change {
            ManifestChange::Put { cluster, path, content } => {
                Statement::new(PUT).bind(cluster.as_str()).bind(path).bind(sha256(content)).bind(content).bind(now)
            }
            ManifestChange::Delete { cluster, path } => Statement::new(DELETE).bind(cluster.as_str()).bind(path),
        };
        tx.execute(statement).await?;
    }
    Ok(())
}

fn sha256(content: &str) -> String {
    Sha256::digest(content.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}
