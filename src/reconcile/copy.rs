//! A copy of the VIP ledger, where objects are the ledger: written behind the owner's back, since nothing waits for it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use tokio_util::sync::CancellationToken;

use crate::store::{self, LedgerChange, LedgerRow, Mailbox, Store, StoreError, write_behind};

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
}

impl store::Waiting for Waiting {
    const WHAT: &'static str = "the copy of the VIP ledger";

    async fn write(&mut self, store: &Store) -> Result<(), StoreError> {
        if let Some(whole) = &self.whole {
            let rows: Vec<LedgerRow> = whole.values().cloned().collect();
            return store.replace_ledger(&rows).await;
        }
        // Slots and addresses may have changed places, in an order that is not known any more: first all are free.
        let gone = self.changes.keys().copied().map(LedgerChange::Delete);
        let there = self.changes.values().flatten().cloned().map(LedgerChange::Put);
        store.commit_ledger(&gone.chain(there).collect::<Vec<_>>()).await
    }

    fn put_back(&mut self, failed: Waiting) {
        if self.whole.is_some() {
            return;
        }
        let since = std::mem::replace(self, failed);
        for (address, row) in since.changes {
            self.change(address, row);
        }
    }
}

/// Takes what the copy is to be. Cheap to clone.
#[derive(Clone)]
pub struct LedgerCopy {
    store: Store,
    waiting: Mailbox<Waiting>,
}

impl LedgerCopy {
    /// A copy in the store. Nothing is written before [`LedgerCopy::write`] runs.
    pub fn new(store: Store) -> Self {
        Self { store, waiting: Mailbox::default() }
    }

    /// The store that has the copy.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Makes these all rows.
    pub fn replace(&self, rows: Vec<LedgerRow>) {
        let whole = rows.into_iter().map(|row| (row.address, row)).collect();
        self.waiting.put(|waiting| *waiting = Waiting { whole: Some(whole), changes: BTreeMap::new() });
    }

    /// Adds changes, in their order.
    pub fn change(&self, changes: Vec<LedgerChange>) {
        self.waiting.put(|waiting| {
            for change in changes {
                match change {
                    LedgerChange::Put(row) => waiting.change(row.address, Some(row)),
                    LedgerChange::Delete(address) => waiting.change(address, None),
                }
            }
        });
    }

    /// Writes until `shutdown`, and then what is left.
    pub async fn write(self, shutdown: CancellationToken) {
        write_behind(self.waiting, self.store, shutdown).await;
    }
}
