//! The last good content of manifest files, so that a file that is broken at a start is still served.

use sha2::{Digest, Sha256};
use sqlx::Row;

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

const PUT: &str = "INSERT INTO manifest_files (cluster, path, sha256, content, updated_at) VALUES (?1, ?2, ?3, ?4, ?5) \
     ON CONFLICT (cluster, path) DO UPDATE SET sha256 = excluded.sha256, content = excluded.content, \
     updated_at = excluded.updated_at WHERE manifest_files.sha256 <> excluded.sha256";
const DELETE: &str = "DELETE FROM manifest_files WHERE cluster = ?1 AND path = ?2";

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
    /// What SQLite says, see [`StoreError`]. Nothing has been changed then.
    pub async fn apply_manifests(&self, changes: &[ManifestChange], now: Timestamp) -> Result<(), StoreError> {
        let inventory = &self.inner.inventory;
        let error = |e| inventory.error("keeping manifests", e);
        let mut tx = inventory.begin("keeping manifests").await?;
        for change in changes {
            match change {
                ManifestChange::Put { cluster, path, content } => {
                    sqlx::query(PUT)
                        .bind(cluster.as_str())
                        .bind(path)
                        .bind(sha256(content))
                        .bind(content)
                        .bind(now)
                        .execute(&mut *tx)
                        .await
                }
                ManifestChange::Delete { cluster, path } => {
                    sqlx::query(DELETE).bind(cluster.as_str()).bind(path).execute(&mut *tx).await
                }
            }
            .map_err(error)?;
        }
        tx.commit().await.map_err(error)
    }

    /// The clusters of which any file is kept.
    ///
    /// # Errors
    /// What SQLite says, see [`StoreError`].
    pub async fn manifest_clusters(&self) -> Result<Vec<ClusterName>, StoreError> {
        let names: Vec<String> = sqlx::query_scalar("SELECT DISTINCT cluster FROM manifest_files ORDER BY cluster")
            .fetch_all(self.inner.inventory.pool())
            .await
            .map_err(|e| self.inner.inventory.error("listing the clusters of manifests", e))?;
        Ok(names.into_iter().map(ClusterName::from).collect())
    }

    /// The cluster's files, by path. One whose content is not what its hash says is left out, with
    /// a warning: serving what nobody wrote is worse than serving nothing of that file.
    ///
    /// # Errors
    /// What SQLite says, see [`StoreError`].
    pub async fn get_manifests(&self, cluster: &ClusterName) -> Result<Vec<ManifestFile>, StoreError> {
        let error = |e| self.inner.inventory.error("reading manifests", e);
        let rows = sqlx::query(
            "SELECT path, sha256, content, updated_at FROM manifest_files WHERE cluster = ?1 ORDER BY path",
        )
        .bind(cluster.as_str())
        .fetch_all(self.inner.inventory.pool())
        .await
        .map_err(error)?;
        let mut files = Vec::with_capacity(rows.len());
        for row in &rows {
            let read = || -> Result<ManifestFile, sqlx::Error> {
                Ok(ManifestFile {
                    path: row.try_get("path")?,
                    sha256: row.try_get("sha256")?,
                    content: row.try_get("content")?,
                    updated_at: row.try_get("updated_at")?,
                })
            };
            let file = read().map_err(error)?;
            if sha256(&file.content) == file.sha256 {
                files.push(file);
            } else {
                tracing::warn!(%cluster, path = file.path, "a kept manifest differs from its hash and is left out");
            }
        }
        Ok(files)
    }
}

fn sha256(content: &str) -> String {
    Sha256::digest(content.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}
