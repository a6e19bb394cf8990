//! One part of the store, on either database.

use std::sync::Arc;

use super::ledger::{self, KnownRows, LedgerRow};
use super::postgres::{self, Server};
use super::statement::{Row, Statement};
use super::{StoreError, sqlite};

/// The parts of the store: each is committed by itself, and none waits for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Ledger,
    Inventory,
    Policies,
}

/// A part of the store, with its one connection.
#[derive(Debug)]
pub(super) enum Database {
    /// A file.
    Sqlite(sqlite::File),
    /// Tables of a server.
    Postgres { server: Arc<Server>, kind: Kind },
}

impl Database {
    /// Begins a transaction that writes. Others wait for its end.
    pub async fn begin(&self, doing: &'static str) -> Result<Tx<'_>, StoreError> {
        match self {
            Database::Sqlite(file) => Ok(Tx::Sqlite(file.begin(doing).await?)),
            Database::Postgres { server, kind } => Ok(Tx::Postgres(server.begin(*kind, doing).await?)),
        }
    }

    /// The rows that a statement gives.
    pub async fn fetch(&self, doing: &'static str, statement: Statement) -> Result<Vec<Row>, StoreError> {
        match self {
            Database::Sqlite(file) => file.fetch(doing, statement).await,
            Database::Postgres { server, kind } => server.fetch(*kind, doing, statement).await,
        }
    }

    /// Executes a statement by itself; says how many rows it changed.
    pub async fn execute(&self, doing: &'static str, statement: Statement) -> Result<u64, StoreError> {
        match self {
            Database::Sqlite(file) => file.execute(doing, statement).await,
            Database::Postgres { .. } => {
                let mut tx = self.begin(doing).await?;
                let outcome = tx.execute(statement).await;
                tx.finish(outcome).await
            }
        }
    }

    /// All rows of the ledger, by address. From now on they are those that are known.
    pub async fn load_ledger(&self) -> Result<Vec<LedgerRow>, StoreError> {
        match self {
            Database::Sqlite(file) => ledger::read_rows(&file.fetch("loading the ledger", ledger::select()).await?),
            Database::Postgres { server, .. } => server.load_ledger().await,
        }
    }

    /// Says what a database's error means.
    pub fn error(&self, doing: &'static str, source: sqlx::Error) -> StoreError {
        match self {
            Database::Sqlite(file) => file.error(doing, source),
            Database::Postgres { server, .. } => server.error(doing, source),
        }
    }

    /// Says that what is there cannot be relied on.
    pub fn corrupt(&self, detail: String) -> StoreError {
        match self {
            Database::Sqlite(file) => file.corrupt(detail),
            Database::Postgres { server, .. } => server.corrupt(detail),
        }
    }

    pub async fn close(&self) {
        match self {
            Database::Sqlite(file) => file.close().await,
            Database::Postgres { server, .. } => server.close().await,
        }
    }
}

/// A transaction. Where it is dropped, nothing has been changed.
pub(super) enum Tx<'a> {
    Sqlite(sqlite::Tx<'a>),
    Postgres(postgres::Tx<'a>),
}

impl Tx<'_> {
    /// The rows that a statement gives.
    pub async fn fetch(&mut self, statement: Statement) -> Result<Vec<Row>, StoreError> {
        match self {
            Tx::Sqlite(tx) => tx.fetch(statement).await,
            Tx::Postgres(tx) => tx.fetch(statement).await,
        }
    }

    /// Executes a statement; says how many rows it changed.
    pub async fn execute(&mut self, statement: Statement) -> Result<u64, StoreError> {
        match self {
            Tx::Sqlite(tx) => tx.execute(statement).await,
            Tx::Postgres(tx) => tx.execute(statement).await,
        }
    }

    /// Says what the ledger's rows will be once this is committed: where nobody answers whether it was, that is found
    /// out by them.
    pub fn announce(&mut self, change: impl FnOnce(&mut KnownRows)) {
        if let Tx::Postgres(tx) = self {
            tx.announce(change);
        }
    }

    /// Says what an error means that was met on the way.
    pub fn error(&self, source: sqlx::Error) -> StoreError {
        match self {
            Tx::Sqlite(tx) => tx.error(source),
            Tx::Postgres(tx) => tx.error(source),
        }
    }

    /// Commits where all went well so far, and takes everything back where not.
    pub async fn finish<T>(self, outcome: Result<T, StoreError>) -> Result<T, StoreError> {
        match (self, outcome) {
            (Tx::Sqlite(tx), Ok(value)) => tx.commit().await.map(|()| value),
            (Tx::Sqlite(_), Err(error)) => Err(error),
            (Tx::Postgres(tx), Ok(value)) => tx.commit().await.map(|()| value),
            (Tx::Postgres(tx), Err(error)) => {
                tx.roll_back().await;
                Err(error)
            }
        }
    }
}
