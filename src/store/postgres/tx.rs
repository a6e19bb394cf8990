//! A transaction in a session.

use std::sync::atomic::Ordering;

use tokio::sync::MutexGuard;

use super::connect::{self, bounded};
use super::lock;
use super::{Server, Session};
use crate::store::StoreError;
use crate::store::database::Kind;
use crate::store::ledger::KnownRows;
use crate::store::statement::{Row, Statement};

/// A transaction. One that is dropped takes its session with it, and the server takes back what it did.
pub(in crate::store) struct Tx<'a> {
    server: &'a Server,
    kind: Kind,
    doing: &'static str,
    session: MutexGuard<'a, Session>,
    /// What the ledger's rows are once it is committed.
    after: Option<KnownRows>,
    is_open: bool,
}

impl<'a> Tx<'a> {
    pub(super) async fn begin(
        server: &'a Server,
        kind: Kind,
        doing: &'static str,
        session: MutexGuard<'a, Session>,
    ) -> Result<Self, StoreError> {
        let mut tx = Self { server, kind, doing, session, after: None, is_open: true };
        tx.control("BEGIN").await?;
        // The ledger's session is the one that holds the lock. Others write only while it does.
        if kind != Kind::Ledger {
            let rows = tx.fetch(lock::holders()).await?;
            let ours = server.holder.load(Ordering::Relaxed);
            let is_ours = |row: &Row| row.get::<i32>("pid").is_ok_and(|pid| pid == ours);
            if !rows.first().is_some_and(is_ours) {
                server.wake.notify_one();
                tx.roll_back().await;
                return Err(server.unreachable(doing));
            }
        }
        Ok(tx)
    }

    pub fn announce(&mut self, change: impl FnOnce(&mut KnownRows)) {
        if let Some(rows) = &self.session.known.rows {
            let mut after = rows.clone();
            change(&mut after);
            self.after = Some(after);
        }
    }

    pub async fn fetch(&mut self, statement: Statement) -> Result<Vec<Row>, StoreError> {
        let Some(connection) = &mut self.session.connection else { return Err(self.server.unreachable(self.doing)) };
        let found = bounded(connect::answer(self.kind), statement.for_postgres().fetch_all(connection)).await;
        match found {
            Ok(rows) => Ok(rows.into_iter().map(Row::Postgres).collect()),
            Err(source) => Err(self.failed(source)),
        }
    }

    pub async fn execute(&mut self, statement: Statement) -> Result<u64, StoreError> {
        let Some(connection) = &mut self.session.connection else { return Err(self.server.unreachable(self.doing)) };
        let done = bounded(connect::answer(self.kind), statement.for_postgres().execute(connection)).await;
        match done {
            Ok(done) => Ok(done.rows_affected()),
            Err(source) => Err(self.failed(source)),
        }
    }

    pub fn error(&self, source: sqlx::Error) -> StoreError {
        self.server.error(self.doing, source)
    }

    pub async fn commit(mut self) -> Result<(), StoreError> {
        self.session.known.in_doubt = self.after.take();
        let outcome = self.control("COMMIT").await;
        // Where nobody answers, what was asked for may have been done all the same.
        if self.session.connection.is_some() {
            self.is_open = false;
            let after = self.session.known.in_doubt.take();
            if let (Ok(()), Some(after)) = (&outcome, after) {
                self.session.known.rows = Some(after);
            }
        }
        outcome
    }

    pub async fn roll_back(mut self) {
        if self.session.connection.is_some() && self.control("ROLLBACK").await.is_ok() {
            self.is_open = false;
        }
    }

    async fn control(&mut self, command: &'static str) -> Result<(), StoreError> {
        let Some(connection) = &mut self.session.connection else { return Err(self.server.unreachable(self.doing)) };
        let done =
            bounded(connect::answer(self.kind), sqlx::Executor::execute(connection, sqlx::raw_sql(command))).await;
        match done {
            Ok(_) => Ok(()),
            Err(source) => Err(self.failed(source)),
        }
    }

    fn failed(&mut self, source: sqlx::Error) -> StoreError {
        self.server.note(&mut self.session, self.kind, &source);
        self.server.error(self.doing, source)
    }
}

impl Drop for Tx<'_> {
    fn drop(&mut self) {
        if self.is_open && self.session.connection.take().is_some() {
            self.server.wake.notify_one();
        }
    }
}
