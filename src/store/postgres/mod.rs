//! PostgreSQL: the same tables, in the schema `causeway` of a database.
//!
//! One process writes. It holds an advisory lock of its session, and the ledger is committed in that very session: with
//! the session the lock is lost and so is every commit that is under way, so that nobody commits who does not hold it.
//! A task takes session and lock again, and compares the ledger with what it last was: where somebody else has written,
//! nothing is committed any more. What is unreachable is found out once, and told at once to everybody who asks until it
//! is back.

mod connect;
mod keep;
mod lock;
#[cfg(test)]
mod tests;
mod tx;

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex as Plain, PoisonError};
use std::time::Duration;

use sqlx::postgres::PgConnection;
use tokio::sync::{Mutex, MutexGuard, Notify};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::StoreError;
use super::database::Kind;
use super::ledger::{self, KnownRows, LedgerRow};
use super::statement::{Row, Statement};
use crate::config::PostgresUrl;

use connect::{Target, bounded, is_lost};
pub(super) use tx::Tx;

/// How long a caller waits for its turn: what is before it is a batch of pods, or a question that is not answered.
const TURN: Duration = Duration::from_secs(30);
/// How long the end of a session is waited for.
const GOODBYE: Duration = Duration::from_secs(1);

/// A server's database that is in use.
pub(super) struct Server {
    target: Target,
    ledger: Mutex<Session>,
    inventory: Mutex<Session>,
    policies: Mutex<Session>,
    /// The server's process that serves the ledger's session, which holds the lock.
    holder: AtomicI32,
    /// Why nothing can be asked, while that is so.
    outage: Plain<Option<String>>,
    errors: AtomicU64,
    /// Something is to be looked after.
    wake: Arc<Notify>,
    closed: CancellationToken,
}

/// A connection, which is there where it is known to be usable.
#[derive(Default)]
struct Session {
    connection: Option<PgConnection>,
    /// Of the ledger's session.
    known: Known,
}

/// What the ledger's rows are, as far as that was answered.
#[derive(Default)]
struct Known {
    /// The rows, once they were loaded.
    rows: Option<KnownRows>,
    /// What they are instead where a commit was done that nobody answered for.
    in_doubt: Option<KnownRows>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("target", &self.target).field("outage", &self.outage()).finish_non_exhaustive()
    }
}

impl Server {
    /// Opens the database: waits until it can be reached, takes the lock, and migrates the schema.
    pub async fn open(url: &PostgresUrl) -> Result<Arc<Self>, StoreError> {
        let server = Arc::new(Self {
            target: Target::of(url)?,
            ledger: Mutex::default(),
            inventory: Mutex::default(),
            policies: Mutex::default(),
            holder: AtomicI32::new(0),
            outage: Plain::default(),
            errors: AtomicU64::new(0),
            wake: Arc::default(),
            closed: CancellationToken::new(),
        });
        server.begin_keeping().await?;
        let (wake, closed) = (server.wake.clone(), server.closed.clone());
        tokio::spawn(keep::keep(Arc::downgrade(&server), wake, closed));
        Ok(server)
    }

    /// The database, as it may be shown.
    pub fn path(&self) -> PathBuf {
        self.target.path()
    }

    /// Why the database cannot be asked at present.
    pub fn outage(&self) -> Option<String> {
        self.outage.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How often something failed.
    pub fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }

    pub async fn begin(&self, kind: Kind, doing: &'static str) -> Result<Tx<'_>, StoreError> {
        Tx::begin(self, kind, doing, self.session(kind, doing).await?).await
    }

    pub async fn fetch(&self, kind: Kind, doing: &'static str, statement: Statement) -> Result<Vec<Row>, StoreError> {
        let mut session = self.session(kind, doing).await?;
        self.fetch_in(&mut session, kind, doing, statement).await
    }

    pub async fn load_ledger(&self) -> Result<Vec<LedgerRow>, StoreError> {
        const DOING: &str = "loading the ledger";
        let mut session = self.session(Kind::Ledger, DOING).await?;
        let found = self.fetch_in(&mut session, Kind::Ledger, DOING, ledger::select()).await?;
        let rows = ledger::read_rows(&found)?;
        session.known.rows = Some(rows.iter().map(|row| (row.address, Arc::new(row.clone()))).collect());
        Ok(rows)
    }

    async fn fetch_in(
        &self,
        session: &mut Session,
        kind: Kind,
        doing: &'static str,
        statement: Statement,
    ) -> Result<Vec<Row>, StoreError> {
        let Some(connection) = &mut session.connection else { return Err(self.unreachable(doing)) };
        match bounded(connect::answer(kind), statement.for_postgres().fetch_all(connection)).await {
            Ok(rows) => Ok(rows.into_iter().map(Row::Postgres).collect()),
            Err(source) => {
                self.note(session, kind, &source);
                Err(self.error(doing, source))
            }
        }
    }

    /// A part's session, once it is our turn. That of the ledger is made by the task that takes the lock, others here.
    async fn session(&self, kind: Kind, doing: &'static str) -> Result<MutexGuard<'_, Session>, StoreError> {
        if self.closed.is_cancelled() || self.outage().is_some() {
            return Err(self.unreachable(doing));
        }
        let session = match kind {
            Kind::Ledger => &self.ledger,
            Kind::Inventory => &self.inventory,
            Kind::Policies => &self.policies,
        };
        let waited_ms = TURN.as_millis() as u64;
        let busy = |_| StoreError::Busy { path: self.path(), waited_ms };
        let mut session = timeout(TURN, session.lock()).await.map_err(busy)?;
        // What was waited for may have been its end.
        if self.closed.is_cancelled() || self.outage().is_some() {
            return Err(self.unreachable(doing));
        }
        if session.connection.is_none() && kind != Kind::Ledger {
            let connection = self.target.connect(kind).await.map_err(|source| {
                self.wake.notify_one();
                self.error(doing, source)
            })?;
            session.connection = Some(connection);
        }
        Ok(session)
    }

    /// Gives up a session that an error has ended.
    fn note(&self, session: &mut Session, kind: Kind, error: &sqlx::Error) {
        if !is_lost(error) {
            return;
        }
        session.connection = None;
        if kind == Kind::Ledger {
            self.go_down(error.to_string());
        }
        // Whatever ended one session has perhaps ended the others.
        self.wake.notify_one();
    }

    fn unreachable(&self, doing: &'static str) -> StoreError {
        let detail = match self.closed.is_cancelled() {
            true => "it was closed".to_owned(),
            false => self.outage().unwrap_or_else(|| "its session was lost and is being taken again".to_owned()),
        };
        self.errors.fetch_add(1, Ordering::Relaxed);
        StoreError::Unreachable { doing, path: self.path(), detail }
    }

    /// Says what an error means for this database.
    pub fn error(&self, doing: &'static str, source: sqlx::Error) -> StoreError {
        self.errors.fetch_add(1, Ordering::Relaxed);
        self.target.error(doing, source)
    }

    /// Says that what is there cannot be relied on.
    pub fn corrupt(&self, detail: String) -> StoreError {
        StoreError::Corrupt { path: self.path(), detail, remedy: "restore the database from a backup" }
    }

    /// Ends all sessions, and with them the lock.
    pub async fn close(&self) {
        self.closed.cancel();
        for session in [&self.inventory, &self.policies, &self.ledger] {
            let Ok(mut session) = timeout(GOODBYE, session.lock()).await else { continue };
            if let Some(connection) = session.connection.take() {
                // Dropping it ends it as well, only without a word.
                let _ = timeout(GOODBYE, sqlx::Connection::close(connection)).await;
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.closed.cancel();
    }
}
