//! What outlives the process: two SQLite files in the data directory, which people may open with
//! `sqlite3` while Causeway runs.
//!
//! | file | holds | when it is lost |
//! |---|---|---|
//! | `ledger.db` | which VIP is given to whom | nothing is served: the store does not open, as an empty ledger would hand out addresses that are in use |
//! | `policies.db` | uploaded policies: every version, and which of them is active | it is begun anew, without any; one that cannot be read is not opened |
//! | `inventory.db` | pods, Kubernetes nodes, history of Envoys, last good manifests | it is set aside and begun anew; a resync fills it |
//! | `causeway.lock` | the lock and process id of the one process that uses the directory | it is made anew |
//!
//! The ledger and the policies are committed with `synchronous=FULL`: when [`Store::commit_ledger`] returns, the rows
//! survive a loss of power. The inventory is committed with `NORMAL`: it survives the process, and a
//! loss of power costs at most its last changes. Each file has one connection, so that writers wait
//! in order instead of meeting SQLite's busy error; a batch of pods or an upload never holds up the ledger.
//!
//! The schema is made by migrations that only go forward, recorded in each file's
//! `_sqlx_migrations`. A file that a newer Causeway has migrated is refused, untouched.

mod database;
mod error;
mod history;
mod ledger;
mod lock;
mod manifests;
mod objects;
mod pods;
mod policies;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

pub use error::StoreError;
pub use history::NodeEvent;
pub use ledger::{LedgerChange, LedgerRow};
pub use manifests::{ManifestChange, ManifestFile};
pub use objects::{ObjectChanges, is_kept};
pub use policies::{Added, NewVersion, PolicySettings, PolicyVersion, Say, StoredPolicy, UPLOAD};

use database::{Database, Kind};
use lock::DirLock;

/// The open store of a data directory. Cheap to clone; all clones are the same store.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    ledger: Database,
    inventory: Database,
    policies: Database,
    set_aside: Option<PathBuf>,
    /// Released last, when all files are closed.
    lock: Mutex<Option<DirLock>>,
}

impl Store {
    /// Opens the store in `dir`, which is made (for its owner only) where it does not exist, and
    /// migrates its files to the newest schema.
    ///
    /// # Errors
    /// When another process uses the directory, when the directory cannot be written, when the
    /// ledger is missing, corrupt or from a newer version, when the policies are corrupt or from a newer
    /// version. Nothing is changed then. A corrupt inventory is no error, see [`Store::set_aside`].
    pub async fn open(dir: impl AsRef<Path>) -> Result<Self, StoreError> {
        let dir = dir.as_ref();
        database::make_dir(dir)?;
        let lock = DirLock::acquire(dir)?;
        let had_inventory = database::has_content(&dir.join(Kind::Inventory.file_name()));
        let ledger = Database::open_ledger(dir, had_inventory).await?;
        let policies = match Database::open_policies(dir).await {
            Ok(opened) => opened,
            Err(error) => {
                ledger.close().await;
                return Err(error);
            }
        };
        let (inventory, set_aside) = match Database::open_inventory(dir).await {
            Ok(opened) => opened,
            Err(error) => {
                ledger.close().await;
                policies.close().await;
                return Err(error);
            }
        };
        let lock = Mutex::new(Some(lock));
        Ok(Self { inner: Arc::new(Inner { ledger, inventory, policies, set_aside, lock }) })
    }

    /// Where the corrupt inventory was moved to, if there was one when the store was opened. What
    /// it held is missing until the clusters have been read again.
    pub fn set_aside(&self) -> Option<&Path> {
        self.inner.set_aside.as_deref()
    }

    /// Ends all use of the files, folds their write-ahead logs into them and releases the
    /// directory. Every later call on any clone fails. Dropping the last clone releases it too, but
    /// leaves the logs to the next opening.
    pub async fn close(&self) {
        self.inner.ledger.close().await;
        self.inner.inventory.close().await;
        self.inner.policies.close().await;
        drop(self.inner.lock.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}
