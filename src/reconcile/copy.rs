//! A copy of the VIP ledger, where objects are the ledger: written behind the owner's back, since nothing waits for it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::store::{LedgerChange, LedgerRow, Store, StoreError};

/// How long after a failed write the next is tried.
const RETRY: Duration = Duration::from_secs(2);

/// What waits, reduced to its outcome.
#[derive(Default)]
struct Waiting {
    /// All rows; what is in the store beside them goes.
    whole: Option<BTreeMap<IpAddr, LedgerRow>>,
    /// Where not all: rows that differ, `None` where one is gone.
    changes: BTreeMap<IpAddr, Option<LedgerRow>>,
}

impl Waiting {
    fn change(&mut self, address: IpAddr, row: Option<LedgerRow>) {
        match (&mut self.whole, row) {
            (Some(whole), Some(row)) => drop(whole.insert(address, row)),
            (Some(whole), None) => drop(whole.remove(&address)),
            (None, row) => drop(self.changes.insert(address, row)),
        }
    }

    /// Puts what was not written below what came since.
    fn put_back(&mut self, failed: Waiting) {
        if self.whole.is_some() {
            return;
        }
        let since = std::mem::replace(self, failed);
        for (address, row) in since.changes {
            self.change(address, row);
        }
    }

    async fn write(&self, store: &Store) -> Result<(), StoreError> {
        if let Some(whole) = &self.whole {
            let rows: Vec<LedgerRow> = whole.values().cloned().collect();
            return store.replace_ledger(&rows).await;
        }
        // Slots and addresses may have changed places, in an order that is not known any more: first all are free.
        let gone = self.changes.keys().copied().map(LedgerChange::Delete);
        let there = self.changes.values().flatten().cloned().map(LedgerChange::Put);
        store.commit_ledger(&gone.chain(there).collect::<Vec<_>>()).await
    }
}

/// Takes what the copy is to be. Cheap to clone.
#[derive(Clone)]
pub struct LedgerCopy {
    store: Store,
    waiting: Arc<Mutex<Waiting>>,
    news: Arc<Notify>,
}

impl LedgerCopy {
    /// A copy in the store. Nothing is written before [`LedgerCopy::write`] runs.
    pub fn new(store: Store) -> Self {
        Self { store, waiting: Arc::default(), news: Arc::default() }
    }

    /// The store that has the copy.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Makes these all rows.
    pub fn replace(&self, rows: Vec<LedgerRow>) {
        let whole = rows.into_iter().map(|row| (row.address, row)).collect();
        *self.lock() = Waiting { whole: Some(whole), changes: BTreeMap::new() };
        self.news.notify_one();
    }

    /// Adds changes, in their order.
    pub fn change(&self, changes: Vec<LedgerChange>) {
        let mut waiting = self.lock();
        for change in changes {
            match change {
                LedgerChange::Put(row) => waiting.change(row.address, Some(row)),
                LedgerChange::Delete(address) => waiting.change(address, None),
            }
        }
        drop(waiting);
        self.news.notify_one();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        // Each change leaves what waits whole.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes until `shutdown`, and then what is left.
    pub async fn write(self, shutdown: CancellationToken) {
        loop {
            let is_last = shutdown.is_cancelled();
            let waiting = std::mem::take(&mut *self.lock());
            let outcome = waiting.write(&self.store).await;
            if let Err(error) = &outcome {
                // Of a database that cannot be used the store tells itself, once.
                if self.store.outage().is_none() {
                    tracing::warn!(%error, "the copy of the VIP ledger could not be written; trying again");
                }
                self.lock().put_back(waiting);
            }
            if is_last {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(RETRY), if outcome.is_err() => {}
                () = self.news.notified(), if outcome.is_ok() => {}
                () = shutdown.cancelled() => {}
            }
        }
    }
}
