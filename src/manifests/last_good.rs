//! Where the last good content of files is kept, so that a file that is broken at a restart still
//! has its objects.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use crate::model::Timestamp;
use crate::model::id::ClusterName;
use crate::store::{ManifestChange, Store};

/// A future that can be kept in a trait object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A file's last good content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoodFile {
    /// Its path, relative to the cluster's folder.
    pub path: Arc<str>,
    /// SHA-256 of the content, in lower case hexadecimal digits.
    pub sha256: Arc<str>,
    /// The content.
    pub content: Arc<[u8]>,
}

/// A change to what is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Saved {
    /// The file has this content now.
    Put {
        /// The cluster.
        cluster: ClusterName,
        /// The file.
        file: GoodFile,
    },
    /// The file is gone.
    Delete {
        /// The cluster.
        cluster: ClusterName,
        /// The file's path.
        path: Arc<str>,
    },
}

/// Keeping the last good content failed.
#[derive(Debug, thiserror::Error)]
#[error("the last good content of manifests: {0}")]
pub struct LastGoodError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// Keeps the last good content of files.
pub trait LastGood: Send + Sync + 'static {
    /// The clusters of which anything is kept.
    fn clusters(&self) -> BoxFuture<'_, Result<Vec<ClusterName>, LastGoodError>>;

    /// All that is kept of a cluster.
    fn files<'a>(&'a self, cluster: &'a ClusterName) -> BoxFuture<'a, Result<Vec<GoodFile>, LastGoodError>>;

    /// Applies changes in their order, all in one transaction.
    fn save(&self, changes: Vec<Saved>) -> BoxFuture<'_, Result<(), LastGoodError>>;
}

/// Keeps it in memory only: for tests, and for running without a data directory.
#[derive(Debug, Default)]
pub struct InMemory(Mutex<BTreeMap<ClusterName, BTreeMap<Arc<str>, GoodFile>>>);

impl LastGood for InMemory {
    fn clusters(&self) -> BoxFuture<'_, Result<Vec<ClusterName>, LastGoodError>> {
        let clusters = self.0.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect();
        Box::pin(std::future::ready(Ok(clusters)))
    }

    fn files<'a>(&'a self, cluster: &'a ClusterName) -> BoxFuture<'a, Result<Vec<GoodFile>, LastGoodError>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let files = kept.get(cluster).map(|files| files.values().cloned().collect()).unwrap_or_default();
        Box::pin(std::future::ready(Ok(files)))
    }

    fn save(&self, changes: Vec<Saved>) -> BoxFuture<'_, Result<(), LastGoodError>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for change in changes {
            match change {
                Saved::Put { cluster, file } => {
                    kept.entry(cluster).or_default().insert(file.path.clone(), file);
                }
                Saved::Delete { cluster, path } => {
                    let empty = kept.get_mut(&cluster).is_some_and(|files| {
                        files.remove(&path);
                        files.is_empty()
                    });
                    if empty {
                        kept.remove(&cluster);
                    }
                }
            }
        }
        Box::pin(std::future::ready(Ok(())))
    }
}

impl LastGood for Store {
    fn clusters(&self) -> BoxFuture<'_, Result<Vec<ClusterName>, LastGoodError>> {
        Box::pin(async { self.manifest_clusters().await.map_err(wrap) })
    }

    fn files<'a>(&'a self, cluster: &'a ClusterName) -> BoxFuture<'a, Result<Vec<GoodFile>, LastGoodError>> {
        Box::pin(async move {
            let files = self.get_manifests(cluster).await.map_err(wrap)?;
            let good = files.into_iter().map(|file| GoodFile {
                path: file.path.into(),
                sha256: file.sha256.into(),
                content: file.content.into_bytes().into(),
            });
            Ok(good.collect())
        })
    }

    fn save(&self, changes: Vec<Saved>) -> BoxFuture<'_, Result<(), LastGoodError>> {
        Box::pin(async move {
            let mut stored = Vec::with_capacity(changes.len());
            for change in changes {
                stored.push(match change {
                    Saved::Delete { cluster, path } => ManifestChange::Delete { cluster, path: path.to_string() },
                    Saved::Put { cluster, file } => ManifestChange::Put {
                        cluster,
                        path: file.path.to_string(),
                        // What was read as YAML or JSON is text.
                        content: String::from_utf8(file.content.to_vec()).map_err(wrap)?,
                    },
                });
            }
            self.apply_manifests(&stored, now()).await.map_err(wrap)
        })
    }
}

fn wrap(error: impl std::error::Error + Send + Sync + 'static) -> LastGoodError {
    LastGoodError(Box::new(error))
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::try_from(since.as_millis()).unwrap_or(Timestamp::MAX)
}
