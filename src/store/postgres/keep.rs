//! The session that holds the lock: taking it, keeping it, and taking it again.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, Weak};
use std::time::{Duration, Instant};

use sqlx::Connection;
use sqlx::postgres::PgConnection;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::connect::{self, bounded, is_passing};
use super::{Known, Server, Session, lock};
use crate::store::StoreError;
use crate::store::database::Kind;
use crate::store::ledger::{self, KnownRows};
use crate::store::statement::Row;

/// How often the session is looked after, and how long after a failure it is tried again.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long an answer to nothing may take.
const PING: Duration = Duration::from_secs(3);
/// How long somebody else's lock is waited for at the start: the server may not have seen yet that a process before this
/// one is dead.
const LOCK_WAIT: Duration = Duration::from_secs(3);
/// How often waiting at the start is told.
const TELL: Duration = Duration::from_secs(10);

/// Why the session could not be taken.
enum Untaken {
    /// It may go better soon.
    Passing(StoreError),
    /// Somebody has to do something.
    Lasting(StoreError),
}

/// Looks after the session until the store is closed.
pub(super) async fn keep(server: Weak<Server>, wake: Arc<Notify>, closed: CancellationToken) {
    loop {
        tokio::select! {
            () = closed.cancelled() => return,
            () = wake.notified() => {}
            () = tokio::time::sleep(INTERVAL) => {}
        }
        let Some(server) = server.upgrade() else { return };
        tokio::select! {
            () = closed.cancelled() => return,
            () = server.look_after() => {}
        }
        if server.outage().is_some() {
            tokio::time::sleep(INTERVAL).await;
        }
    }
}

impl Server {
    /// Takes the session for the first time. Waits while nobody answers: whoever restarts this process would do no more,
    /// and know less.
    pub(super) async fn begin_keeping(&self) -> Result<(), StoreError> {
        let begun = Instant::now();
        let (mut told, mut locked): (Option<Instant>, Option<Instant>) = (None, None);
        let mut session = self.ledger.lock().await;
        loop {
            let mut pause = INTERVAL / 4;
            let error = match self.take(true).await {
                Ok(connection) => {
                    session.connection = Some(connection);
                    return Ok(());
                }
                Err(Untaken::Lasting(error @ StoreError::InUse { .. }))
                    if locked.get_or_insert_with(Instant::now).elapsed() < LOCK_WAIT =>
                {
                    pause = INTERVAL / 20;
                    error
                }
                Err(Untaken::Lasting(error)) => return Err(error),
                Err(Untaken::Passing(error)) => error,
            };
            if told.is_none_or(|told| told.elapsed() > TELL) {
                let waited_seconds = begun.elapsed().as_secs();
                tracing::warn!(%error, waited_seconds, "waiting for the store, without which nothing is served");
                told = Some(Instant::now());
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Sees whether the session is still there, and takes it again where not.
    async fn look_after(&self) {
        // Whoever has it finds out by itself.
        let Ok(mut session) = tokio::time::timeout(PING, self.ledger.lock()).await else { return };
        if let Some(connection) = &mut session.connection {
            let Err(error) = bounded(PING, connection.ping()).await else { return self.come_back() };
            session.connection = None;
            self.go_down(error.to_string());
        }
        match self.take_again(&mut session).await {
            Ok(()) => self.come_back(),
            Err(error) => self.go_down(error.to_string()),
        }
    }

    async fn take_again(&self, session: &mut Session) -> Result<(), StoreError> {
        let mut connection = self.take(false).await.map_err(|untaken| match untaken {
            Untaken::Passing(error) | Untaken::Lasting(error) => error,
        })?;
        self.compare(&mut connection, &mut session.known).await?;
        session.connection = Some(connection);
        Ok(())
    }

    /// A session that has the lock; at the start its schema is migrated.
    async fn take(&self, is_first: bool) -> Result<PgConnection, Untaken> {
        const DOING: &str = "connecting";
        let failed = |source: sqlx::Error| match is_passing(&source) {
            true => Untaken::Passing(self.error(DOING, source)),
            false => Untaken::Lasting(self.error(DOING, source)),
        };
        let mut connection = self.target.connect(Kind::Ledger).await.map_err(failed)?;
        let standby = sqlx::query_scalar("SELECT pg_is_in_recovery()").fetch_one(&mut connection);
        if bounded(PING, standby).await.map_err(failed)? {
            return Err(Untaken::Lasting(StoreError::Standby { path: self.path() }));
        }
        if !bounded(PING, lock::try_take(&mut connection)).await.map_err(failed)? {
            return Err(self.locked(&mut connection).await.map_err(failed)?);
        }
        let pid = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut connection);
        self.holder.store(bounded(PING, pid).await.map_err(failed)?, Ordering::Relaxed);
        if is_first {
            self.target.migrate(&mut connection).await.map_err(Untaken::Lasting)?;
        }
        Ok(connection)
    }

    /// Why the lock cannot be had. A session of our own that the server has not seen to be dead is ended.
    async fn locked(&self, connection: &mut PgConnection) -> Result<Untaken, sqlx::Error> {
        let holder = bounded(PING, lock::holder(connection)).await?;
        let name = match &holder {
            Some(holder) if holder.name == self.target.name => {
                bounded(PING, lock::end(connection, holder.pid)).await?;
                "a session of this process that was lost, and is being ended".to_owned()
            }
            Some(holder) => holder.to_string(),
            // It was let go in between.
            None => "somebody who has just let it go".to_owned(),
        };
        Ok(Untaken::Lasting(StoreError::InUse { path: self.path(), holder: name }))
    }

    /// Makes sure that nobody has written while the lock was not held. What a commit did that nobody answered for is
    /// taken back: nobody was told of it, and whoever asked for it asks again.
    async fn compare(&self, connection: &mut PgConnection, known: &mut Known) -> Result<(), StoreError> {
        const DOING: &str = "comparing the ledger";
        let Some(rows) = &known.rows else { return Ok(()) };
        let select = ledger::select().for_postgres().fetch_all(&mut *connection);
        let found = bounded(connect::answer(Kind::Ledger), select).await.map_err(|e| self.error(DOING, e))?;
        let found: Vec<Row> = found.into_iter().map(Row::Postgres).collect();
        let found: KnownRows = ledger::read_rows(&found)?.into_iter().map(|row| (row.address, Arc::new(row))).collect();
        if found != *rows {
            if known.in_doubt.as_ref() != Some(&found) {
                return Err(StoreError::LedgerChanged { path: self.path(), address: first_difference(&found, rows) });
            }
            tracing::info!("what a commit did whose answer was lost is taken back; it is asked for anew");
            bounded(connect::answer(Kind::Ledger), restore(connection, &found, rows))
                .await
                .map_err(|e| self.error(DOING, e))?;
        }
        known.in_doubt = None;
        Ok(())
    }

    /// From now on everybody is told at once that nothing can be asked.
    pub(super) fn go_down(&self, why: String) {
        let before = self.outage.lock().unwrap_or_else(PoisonError::into_inner).replace(why.clone());
        if before.is_none() {
            let store = &self.target;
            tracing::error!(
                ?store,
                why,
                "the store cannot be used; what is served goes on, and no VIP is given or released"
            );
        } else if before.is_some_and(|before| before != why) {
            tracing::warn!(why, "the store still cannot be used");
        }
    }

    fn come_back(&self) {
        if self.outage.lock().unwrap_or_else(PoisonError::into_inner).take().is_some() {
            tracing::info!(store = ?self.target, "the store can be used again");
        }
    }
}

/// Makes rows that were found what they should be.
async fn restore(connection: &mut PgConnection, found: &KnownRows, wanted: &KnownRows) -> Result<(), sqlx::Error> {
    let mut tx = connection.begin().await?;
    let differs = |address| found.get(address) != wanted.get(address);
    for address in found.keys().filter(|address| differs(address)) {
        ledger::delete(*address).for_postgres().execute(&mut *tx).await?;
    }
    for row in wanted.iter().filter(|(address, _)| differs(address)).map(|(_, row)| row) {
        ledger::put(row).for_postgres().execute(&mut *tx).await?;
    }
    tx.commit().await
}

fn first_difference(found: &KnownRows, known: &KnownRows) -> Option<std::net::IpAddr> {
    let mut both = found.keys().chain(known.keys());
    both.find(|address| found.get(address) != known.get(address)).copied()
}
