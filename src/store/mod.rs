//! What outlives the process: SQLite files in the data directory, which people may open with `sqlite3` while Causeway
//! runs, or the same tables in a PostgreSQL database (`postgres`). The statements are the same for both (`statement`).
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
//! `_sqlx_migrations`. What a newer Causeway has migrated is refused, untouched.

mod behind;
mod database;
mod error;
mod history;
mod ledger;
mod mailbox;
mod manifests;
mod objects;
mod pods;
mod policies;
mod postgres;
mod sqlite;
mod statement;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

pub use behind::{Waiting, write as write_behind};
pub use error::StoreError;
pub use history::NodeEvent;
pub use ledger::{LedgerChange, LedgerRow};
pub use mailbox::Mailbox;
pub use manifests::{ManifestChange, ManifestFile};
pub use objects::{ObjectChanges, is_kept};
pub use policies::{Added, NewVersion, PolicySettings, PolicyVersion, Say, StoredPolicy, UPLOAD};

use database::{Database, Kind};
use postgres::Server;
use sqlite::{DirLock, File};

use crate::config::{PostgresUrl, StoreUrl};

/// What keeps a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// Files.
    Sqlite,
    /// A server.
    Postgres,
}

impl Backend {
    /// Its name, for metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
        }
    }
}

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
        sqlite::make_dir(dir)?;
        let lock = DirLock::acquire(dir)?;
        let had_inventory = sqlite::has_content(&dir.join(Kind::Inventory.file_name()));
        let ledger = File::open_ledger(dir, had_inventory).await?;
        let policies = match File::open_policies(dir).await {
            Ok(opened) => opened,
            Err(error) => {
                ledger.close().await;
                return Err(error);
            }
        };
        let (inventory, set_aside) = match File::open_inventory(dir).await {
            Ok(opened) => opened,
            Err(error) => {
                ledger.close().await;
                policies.close().await;
                return Err(error);
            }
        };
        let [ledger, inventory, policies] = [ledger, inventory, policies].map(Database::Sqlite);
        let lock = Mutex::new(Some(lock));
        Ok(Self { inner: Arc::new(Inner { ledger, inventory, policies, set_aside, lock }) })
    }

    /// Opens the store where it is said to be. `data_dir` is locked in any case: what is kept on this machine is one
    /// process's.
    ///
    /// # Errors
    /// As [`Store::open`] for files. Of a database, when its server refuses (a wrong password, no such database, a
    /// standby), when another process has it, when its schema is from a newer version or cannot be made. A server that
    /// does not answer is waited for.
    pub async fn open_at(url: &StoreUrl, data_dir: &Path) -> Result<Self, StoreError> {
        match url {
            StoreUrl::Sqlite(dir) if dir == data_dir => Self::open(dir).await,
            StoreUrl::Sqlite(dir) => {
                // The folder of the files has a lock of its own.
                sqlite::make_dir(data_dir)?;
                Self::open(dir).await
            }
            StoreUrl::Postgres(url) => Self::open_database(url, data_dir).await,
        }
    }

    async fn open_database(url: &PostgresUrl, data_dir: &Path) -> Result<Self, StoreError> {
        sqlite::make_dir(data_dir)?;
        let lock = Mutex::new(Some(DirLock::acquire(data_dir)?));
        let server = Server::open(url).await?;
        if let Err(error) = compare_ledgers(&server, data_dir).await {
            server.close().await;
            return Err(error);
        }
        let part = |kind| Database::Postgres { server: server.clone(), kind };
        let [ledger, inventory, policies] = [Kind::Ledger, Kind::Inventory, Kind::Policies].map(part);
        Ok(Self { inner: Arc::new(Inner { ledger, inventory, policies, set_aside: None, lock }) })
    }

    /// Why nothing can be written at present, where the store is a database that cannot be used.
    pub fn outage(&self) -> Option<String> {
        self.server()?.outage()
    }

    /// How often a database failed or could not be asked; 0 for files.
    pub fn errors(&self) -> u64 {
        self.server().map_or(0, |server| server.errors())
    }

    /// What keeps the store.
    pub fn backend(&self) -> Backend {
        if self.server().is_some() { Backend::Postgres } else { Backend::Sqlite }
    }

    fn server(&self) -> Option<&Server> {
        match &self.inner.ledger {
            Database::Sqlite(_) => None,
            Database::Postgres { server, .. } => Some(server),
        }
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

/// Makes sure that a ledger which was kept in files until now is not forgotten: its addresses are in use.
async fn compare_ledgers(server: &Server, data_dir: &Path) -> Result<(), StoreError> {
    let file = data_dir.join(Kind::Ledger.file_name());
    if !sqlite::has_content(&file) || !server.load_ledger().await?.is_empty() {
        return Ok(());
    }
    let ledger = Database::Sqlite(File::open_ledger(data_dir, true).await?);
    let rows = ledger.load_ledger().await.map(|rows| rows.len());
    ledger.close().await;
    match rows? {
        0 => Ok(()),
        rows => Err(StoreError::LedgerElsewhere { path: server.path(), file, rows }),
    }
}
