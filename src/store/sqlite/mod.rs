//! One SQLite file: opening, checking, migrating, and the translation of its errors.

mod lock;
#[cfg(test)]
mod tests;

use std::fs::{DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Sqlite, Transaction};

use super::StoreError;
use super::database::Kind;
use super::statement::{Row, Statement};

pub(super) use lock::DirLock;

/// Migrations of the ledger's file.
pub(super) static LEDGER_MIGRATIONS: Migrator = sqlx::migrate!("src/store/migrations/ledger");
/// Migrations of the inventory's file.
pub(super) static INVENTORY_MIGRATIONS: Migrator = sqlx::migrate!("src/store/migrations/inventory");
/// Migrations of the policies' file.
pub(super) static POLICIES_MIGRATIONS: Migrator = sqlx::migrate!("src/store/migrations/policies");

/// How long a person's transaction in another program is waited for.
const BUSY: Duration = Duration::from_secs(5);
/// How long a caller waits for its turn; the longest holder is a chunk of pods, well below a second.
const TURN: Duration = Duration::from_secs(60);

/// SQLite's primary result codes (sqlite.org/rescode.html); the extended ones carry them in the low byte.
const SQLITE_BUSY: i32 = 5;
const SQLITE_CORRUPT: i32 = 11;
const SQLITE_NOTADB: i32 = 26;

/// What of SQLite a part needs.
impl Kind {
    pub(super) fn file_name(self) -> &'static str {
        match self {
            Kind::Ledger => "ledger.db",
            Kind::Inventory => "inventory.db",
            Kind::Policies => "policies.db",
        }
    }

    fn migrations(self) -> &'static Migrator {
        match self {
            Kind::Ledger => &LEDGER_MIGRATIONS,
            Kind::Inventory => &INVENTORY_MIGRATIONS,
            Kind::Policies => &POLICIES_MIGRATIONS,
        }
    }

    fn options(self, path: &Path) -> SqliteConnectOptions {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .busy_timeout(BUSY)
            // A file that somebody else prepared must not make us run functions from its schema.
            .pragma("trusted_schema", "OFF")
            .pragma("cell_size_check", "ON")
            // After a large batch the log is cut back to this, in bytes.
            .pragma("journal_size_limit", "16777216")
            // Statements hold only placeholders, but a batch of pods is a long one.
            .disable_statement_logging();
        match self {
            Kind::Ledger | Kind::Policies => options.synchronous(SqliteSynchronous::Full),
            Kind::Inventory => options.synchronous(SqliteSynchronous::Normal),
        }
    }
}

/// Makes the data directory, for its owner only: manifests and the names of pods are nobody else's
/// business. A directory that exists keeps its rights.
pub(super) fn make_dir(dir: &Path) -> Result<(), StoreError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .and_then(|()| dir.parent().filter(|parent| !parent.as_os_str().is_empty()).map_or(Ok(()), sync_dir))
        .map_err(|source| StoreError::Directory { path: dir.to_owned(), source })
}

/// Makes the names in a directory survive a loss of power; a file's own sync does not cover them.
fn sync_dir(dir: &Path) -> io::Result<()> {
    std::fs::File::open(dir)?.sync_all()
}

/// Device and inode.
fn identity(path: &Path) -> io::Result<(u64, u64)> {
    std::fs::metadata(path).map(|data| (data.dev(), data.ino()))
}

/// Whether there is a file with something in it.
pub(super) fn has_content(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|data| data.len() > 0)
}

/// An open file with its one connection.
#[derive(Debug)]
pub(super) struct File {
    kind: Kind,
    path: PathBuf,
    pool: SqlitePool,
    /// Device and inode of the file that was opened.
    identity: (u64, u64),
}

impl File {
    /// Opens the ledger. `used_before` says that there must be one.
    pub async fn open_ledger(dir: &Path, used_before: bool) -> Result<Self, StoreError> {
        let path = dir.join(Kind::Ledger.file_name());
        // SQLite takes an empty file for a new database, which here would mean that all addresses
        // are free.
        if used_before && !has_content(&path) {
            return Err(StoreError::LedgerMissing { path });
        }
        let database = Self::connect(Kind::Ledger, path).await?;
        match database.prepare_ledger(used_before).await {
            Ok(()) => Ok(database),
            Err(error) => {
                database.close().await;
                Err(error)
            }
        }
    }

    async fn prepare_ledger(&self, used_before: bool) -> Result<(), StoreError> {
        self.check("PRAGMA integrity_check(10)").await?;
        // The file may also have lost its write-ahead log, and with it all that it had.
        if used_before && !self.is_migrated().await? {
            return Err(StoreError::LedgerMissing { path: self.path.clone() });
        }
        self.migrate(Kind::Ledger).await
    }

    /// Opens the inventory. A corrupt one is moved aside, to the path that is returned with the new.
    pub async fn open_inventory(dir: &Path) -> Result<(Self, Option<PathBuf>), StoreError> {
        let path = dir.join(Kind::Inventory.file_name());
        let detail = match Self::try_inventory(path.clone()).await {
            Ok(database) => return Ok((database, None)),
            Err(StoreError::Corrupt { detail, .. }) => detail,
            Err(error) => return Err(error),
        };
        let aside = dir.join("inventory.db.corrupt");
        tracing::warn!(path = %path.display(), aside = %aside.display(), detail,
            "the inventory is corrupt; it is set aside and begun anew, and fills from the clusters");
        set_aside(&path, &aside)?;
        Ok((Self::try_inventory(path).await?, Some(aside)))
    }

    async fn try_inventory(path: PathBuf) -> Result<Self, StoreError> {
        let database = Self::connect(Kind::Inventory, path).await?;
        let prepared = async {
            database.check("PRAGMA quick_check(1)").await?;
            database.migrate(Kind::Inventory).await
        };
        match prepared.await {
            Ok(()) => Ok(database),
            Err(error) => {
                database.close().await;
                Err(error)
            }
        }
    }

    /// Opens the policies. A file that is missing or empty is made anew; what cannot be read is left as it is and refused.
    pub async fn open_policies(dir: &Path) -> Result<Self, StoreError> {
        let database = Self::connect(Kind::Policies, dir.join(Kind::Policies.file_name())).await?;
        let prepared = async {
            database.check("PRAGMA quick_check(10)").await?;
            database.migrate(Kind::Policies).await
        };
        match prepared.await {
            Ok(()) => Ok(database),
            Err(error) => {
                database.close().await;
                Err(error)
            }
        }
    }

    async fn connect(kind: Kind, path: PathBuf) -> Result<Self, StoreError> {
        // SQLite would make the file readable for everybody; its log takes the rights of the file.
        let identity = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .and_then(|_| path.parent().map_or(Ok(()), sync_dir))
            .and_then(|()| identity(&path))
            .map_err(|source| StoreError::Directory { path: path.clone(), source })?;
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            .acquire_timeout(TURN)
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false)
            .connect_lazy_with(kind.options(&path));
        let database = Self { kind, path, pool, identity };
        match database.pool.acquire().await {
            Ok(_) => Ok(database),
            Err(source) => {
                let error = database.error("opening", source);
                database.close().await;
                Err(error)
            }
        }
    }

    async fn check(&self, pragma: &'static str) -> Result<(), StoreError> {
        let found: Vec<String> =
            sqlx::query_scalar(pragma).fetch_all(&self.pool).await.map_err(|e| self.error("checking", e))?;
        match found.as_slice() {
            [only] if only == "ok" => Ok(()),
            problems => Err(self.corrupt(problems.join("; "))),
        }
    }

    async fn is_migrated(&self) -> Result<bool, StoreError> {
        let tables: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name IN ('_sqlx_migrations', 'ledger')",
        )
        .fetch_one(&self.pool)
        .await
        .map_err(|e| self.error("reading the schema", e))?;
        Ok(tables == 2)
    }

    async fn migrate(&self, kind: Kind) -> Result<(), StoreError> {
        kind.migrations().run(&self.pool).await.map_err(|source| match source {
            MigrateError::VersionMissing(migration) => StoreError::NewerSchema { path: self.path.clone(), migration },
            MigrateError::Execute(source) => self.error("migrating", source),
            source => StoreError::Migrate { path: self.path.clone(), source },
        })
    }

    /// Begins a transaction that writes. `IMMEDIATE`, because a transaction that begins by reading
    /// and writes later fails at once where another program has written in between.
    pub async fn begin(&self, doing: &'static str) -> Result<Tx<'_>, StoreError> {
        let tx = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(|e| self.error(doing, e))?;
        Ok(Tx { file: self, doing, tx })
    }

    pub async fn fetch(&self, doing: &'static str, statement: Statement) -> Result<Vec<Row>, StoreError> {
        let found = statement.for_sqlite().fetch_all(&self.pool).await.map_err(|e| self.error(doing, e))?;
        Ok(found.into_iter().map(Row::Sqlite).collect())
    }

    pub async fn execute(&self, doing: &'static str, statement: Statement) -> Result<u64, StoreError> {
        let done = statement.for_sqlite().execute(&self.pool).await;
        done.map(|done| done.rows_affected()).map_err(|e| self.error(doing, e))
    }

    /// Makes sure that the file is still the one at its path. One that was deleted or replaced (a
    /// backup moved over it) takes commits as before, and they vanish when the process ends.
    fn check_in_place(&self) -> Result<(), StoreError> {
        match identity(&self.path) {
            Ok(now) if now == self.identity => Ok(()),
            _ => Err(StoreError::Replaced { path: self.path.clone() }),
        }
    }

    #[cfg(test)]
    pub fn pool(&self) -> &SqlitePool {
        &self.pool
    }

    /// Says what an error of SQLite means for this file.
    pub fn error(&self, doing: &'static str, source: sqlx::Error) -> StoreError {
        let path = self.path.clone();
        match primary_code(&source) {
            Some(SQLITE_BUSY) => StoreError::Busy { path, waited_ms: BUSY.as_millis() as u64 },
            Some(SQLITE_CORRUPT | SQLITE_NOTADB) => self.corrupt(source.to_string()),
            _ => StoreError::Sql { doing, path, source },
        }
    }

    /// Says that the file cannot be relied on.
    pub fn corrupt(&self, detail: String) -> StoreError {
        let remedy = match self.kind {
            Kind::Ledger | Kind::Inventory => "restore it from a backup",
            Kind::Policies => "restore it from a backup, or remove it and upload the policies anew",
        };
        StoreError::Corrupt { path: self.path.clone(), detail, remedy }
    }

    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// A transaction of a file. It is rolled back where it is dropped.
pub(super) struct Tx<'a> {
    file: &'a File,
    doing: &'static str,
    tx: Transaction<'static, Sqlite>,
}

impl Tx<'_> {
    pub async fn fetch(&mut self, statement: Statement) -> Result<Vec<Row>, StoreError> {
        let found = statement.for_sqlite().fetch_all(&mut *self.tx).await;
        Ok(found.map_err(|e| self.file.error(self.doing, e))?.into_iter().map(Row::Sqlite).collect())
    }

    pub async fn execute(&mut self, statement: Statement) -> Result<u64, StoreError> {
        let done = statement.for_sqlite().execute(&mut *self.tx).await;
        done.map(|done| done.rows_affected()).map_err(|e| self.file.error(self.doing, e))
    }

    pub fn error(&self, source: sqlx::Error) -> StoreError {
        self.file.error(self.doing, source)
    }

    pub async fn commit(self) -> Result<(), StoreError> {
        // Last of all, so that the answer is about the file as it is when the rows go into it.
        if self.file.kind != Kind::Inventory {
            self.file.check_in_place()?;
        }
        self.tx.commit().await.map_err(|e| self.file.error(self.doing, e))
    }
}

fn primary_code(error: &sqlx::Error) -> Option<i32> {
    let code: i32 = error.as_database_error()?.code()?.parse().ok()?;
    Some(code & 0xff)
}

/// Renames the file, and removes its log and the log's index, which would spoil a new one. An
/// earlier file that was set aside is replaced, so that they do not pile up.
fn set_aside(path: &Path, aside: &Path) -> Result<(), StoreError> {
    std::fs::rename(path, aside).map_err(|source| StoreError::Directory { path: path.to_owned(), source })?;
    for suffix in ["-wal", "-shm"] {
        let mut beside = path.as_os_str().to_owned();
        beside.push(suffix);
        match std::fs::remove_file(&beside) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(StoreError::Directory { path: beside.into(), source });
            }
            _ => {}
        }
    }
    Ok(())
}
