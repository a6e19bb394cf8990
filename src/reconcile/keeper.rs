//! Where the VIP ledger is kept, and how a plan's changes of it are made durable.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::copy::LedgerCopy;
use super::from_row;
use super::ledger::{to_row, to_stored};
use super::owner::Owner;
use crate::kube::virtual_ips::{News, Seen, VirtualIps, Write};
use crate::model::Timestamp;
use crate::model::world::Sync;
use crate::store::Store;
use crate::vip::{LedgerChange, Vip};

/// How long a turn waits for an API server or a database. What takes longer goes on behind its back: whoever is silent
/// must not keep the changes of clusters from being served.
const INLINE: Duration = Duration::from_millis(250);
/// The pause after the ledger could not be written.
const RETRY_MS: i64 = 1_000;

/// Where the ledger is kept.
#[derive(Clone)]
pub enum Keeper {
    /// In the store.
    Store(Store),
    /// As `VirtualIp` objects on the primary's API server. The store has a copy, for a restart while that does not
    /// answer.
    Objects(Box<VirtualIps>, LedgerCopy),
}

/// What became of a plan's changes.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Those that are durable, in their order.
    done: Vec<LedgerChange>,
    /// Addresses that others have.
    taken: Vec<Seen>,
    /// Why the rest is not.
    problem: Option<String>,
}

/// Whether a plan's changes are durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Durable {
    /// All of them.
    Yes,
    /// That is not known yet.
    Pending,
    /// Not all of them.
    No,
}

/// What is known of the ledger beside its rows; most of it where objects are the ledger.
#[derive(Default)]
pub(super) struct Objects {
    /// All objects were listed since the start.
    pub is_listed: bool,
    /// An earlier run left a copy of them.
    pub has_copy: bool,
    /// Addresses that the API server has given to others or to nobody that can be found, and why they are not ours.
    pub foreign: BTreeMap<IpAddr, String>,
    /// Rows whose objects are gone or were changed by others.
    restore: Vec<Vip>,
    /// What is being written.
    committing: Option<JoinHandle<Outcome>>,
    /// Whose objects are being deleted by that: their end may be told before it is known here that they were.
    deleting: BTreeSet<IpAddr>,
}

impl Objects {
    /// Nothing is known yet, besides whether an earlier run left a copy.
    pub fn new(has_copy: bool) -> Self {
        Self { has_copy, ..Self::default() }
    }
}

impl Keeper {
    /// Makes changes durable, and restores rows that others changed.
    async fn commit(self, changes: Vec<LedgerChange>, restore: Vec<Vip>) -> Outcome {
        match self {
            Keeper::Store(store) => commit_to_store(&store, changes).await,
            Keeper::Objects(objects, copy) => {
                let outcome = commit_to_objects(&objects, changes, restore).await;
                match to_stored(&outcome.done) {
                    Ok(changes) => copy.change(changes),
                    Err(error) => tracing::error!(%error, "changes of the VIP ledger cannot be copied"),
                }
                outcome
            }
        }
    }

    /// Where the ledger or its copy is.
    pub(super) fn store(&self) -> &Store {
        match self {
            Keeper::Store(store) => store,
            Keeper::Objects(_, copy) => copy.store(),
        }
    }
}

async fn commit_to_store(store: &Store, changes: Vec<LedgerChange>) -> Outcome {
    let stored = match to_stored(&changes) {
        Ok(stored) => stored,
        Err(error) => return Outcome { problem: Some(error.to_string()), ..Outcome::default() },
    };
    match store.commit_ledger(&stored).await {
        Ok(()) => Outcome { done: changes, ..Outcome::default() },
        Err(error) => Outcome { problem: Some(error.to_string()), ..Outcome::default() },
    }
}

async fn commit_to_objects(objects: &VirtualIps, changes: Vec<LedgerChange>, restore: Vec<Vip>) -> Outcome {
    let writes = changes.iter().map(|change| {
        Ok(match change {
            LedgerChange::Insert(vip) => Write::Create(to_row(vip)?),
            LedgerChange::Update(vip) => Write::Put(to_row(vip)?),
            LedgerChange::Delete(address) => Write::Delete(*address),
        })
    });
    let restored = restore.iter().map(|vip| Ok(Write::Put(to_row(vip)?)));
    let writes = match writes.chain(restored).collect::<Result<Vec<Write>, serde_json::Error>>() {
        Ok(writes) => writes,
        Err(error) => return Outcome { problem: Some(error.to_string()), ..Outcome::default() },
    };
    let mut outcome = objects.commit(writes).await;
    outcome.done.sort_unstable();
    let done = outcome.done.iter().filter_map(|place| changes.get(*place).cloned()).collect();
    Outcome { done, taken: outcome.taken, problem: outcome.problem }
}

/// What becomes of what is being written; nothing for ever where nothing is.
pub(super) async fn finished(objects: &mut Objects) -> Outcome {
    let Some(task) = &mut objects.committing else { return std::future::pending().await };
    let outcome = task.await;
    objects.committing = None;
    outcome.unwrap_or_else(|error| Outcome { problem: Some(error.to_string()), ..Outcome::default() })
}

impl Owner {
    /// Whether it is known who has which address, so that serving may begin: of objects that cannot be listed, as an
    /// earlier run knew them.
    pub(super) fn knows_ledger(&self) -> bool {
        match self.outputs.keeper {
            Keeper::Store(_) => true,
            Keeper::Objects(..) => self.objects.is_listed || (self.objects.has_copy && self.is_primary_unknown()),
        }
    }

    /// Whether serving may begin with a first plan. A store that never could be written may be another one than before:
    /// "nothing" would be served, and Envoys that still serve from before would lose all. Objects that were listed, or a
    /// copy of them while they cannot be, say who has what even while they cannot be written.
    pub(super) fn may_begin(&self, durable: Durable) -> bool {
        match durable {
            Durable::Yes => true,
            Durable::Pending => false,
            Durable::No => matches!(self.outputs.keeper, Keeper::Objects(..)),
        }
    }

    fn is_primary_unknown(&self) -> bool {
        let primary = self.world.primary().and_then(|primary| self.world.cluster(primary));
        primary.is_none_or(|primary| matches!(primary.sync, Sync::Unknown { .. }))
    }

    /// Makes a plan's changes durable.
    pub(super) async fn commit(&mut self, changes: &[LedgerChange], now: Timestamp) -> Durable {
        if self.objects.committing.is_some() {
            return if changes.is_empty() { Durable::Yes } else { Durable::Pending };
        }
        let deleted = |change: &LedgerChange| match change {
            LedgerChange::Delete(address) => Some(*address),
            LedgerChange::Insert(_) | LedgerChange::Update(_) => None,
        };
        // What went meanwhile is not made again.
        let (ledger, gone) = (&self.ledger, |address| changes.iter().any(|change| deleted(change) == Some(address)));
        self.objects.restore.retain(|vip| ledger.get(vip.address).is_some() && !gone(vip.address));
        if changes.is_empty() && self.objects.restore.is_empty() {
            self.ledger_problem = None;
            return Durable::Yes;
        }
        let keeper = self.outputs.keeper.clone();
        if matches!(keeper, Keeper::Objects(..)) && !self.objects.is_listed {
            self.ledger_problem = Some("the VirtualIp objects have not been read since the start".to_owned());
            return if changes.is_empty() { Durable::Yes } else { Durable::No };
        }
        self.objects.deleting = changes.iter().filter_map(deleted).collect();
        let mut task = tokio::spawn(keeper.commit(changes.to_vec(), std::mem::take(&mut self.objects.restore)));
        match tokio::time::timeout(INLINE, &mut task).await {
            Ok(Ok(outcome)) => self.committed(outcome, changes.len(), now),
            Ok(Err(error)) => {
                let outcome = Outcome { problem: Some(error.to_string()), ..Outcome::default() };
                self.committed(outcome, changes.len(), now)
            }
            Err(_) => {
                self.objects.committing = Some(task);
                if changes.is_empty() { Durable::Yes } else { Durable::Pending }
            }
        }
    }

    /// Takes in what became of changes that were `wanted` in number.
    pub(super) fn committed(&mut self, outcome: Outcome, wanted: usize, now: Timestamp) -> Durable {
        let Outcome { done, taken, problem } = outcome;
        self.objects.deleting.clear();
        let mut durable = if done.len() == wanted { Durable::Yes } else { Durable::No };
        for change in &done {
            if let Err(error) = self.ledger.apply(std::slice::from_ref(change)) {
                tracing::error!(%error, "what was made durable contradicts the ledger");
                durable = Durable::No;
            }
        }
        if done.iter().any(|change| !matches!(change, LedgerChange::Insert(_))) {
            let ledger = &self.ledger;
            self.feedback.retain_listeners(|name| ledger.has_listener(name));
        }
        for seen in taken {
            self.meet(seen);
        }
        if let Some(problem) = problem.as_ref().filter(|problem| self.ledger_problem.as_ref() != Some(problem)) {
            tracing::error!(problem, "the VIP ledger cannot be written; nothing new is allocated, offered or released");
        }
        self.ledger_problem = problem;
        if durable != Durable::Yes {
            let retry = if self.ledger_problem.is_some() { RETRY_MS } else { 0 };
            self.deadline = Some(now.saturating_add(retry));
        }
        durable
    }

    /// Takes in what is new of the objects.
    pub(super) fn virtual_ips(&mut self, news: News) {
        let Keeper::Objects(objects, copy) = self.outputs.keeper.clone() else { return };
        let rows = self.ledger.len();
        match news {
            News::Listed(all) => {
                self.objects.foreign.clear();
                objects.retain_deleted(|uid| all.iter().any(|seen| seen.uid == uid));
                let there: std::collections::HashSet<IpAddr> = all.iter().map(|seen| seen.address).collect();
                let lost = self.ledger.rows().filter(|row| !there.contains(&row.address)).cloned();
                self.objects.restore.extend(lost.collect::<Vec<_>>());
                all.into_iter().filter(|seen| !objects.is_deleted(&seen.uid)).for_each(|seen| self.meet(seen));
                self.objects.is_listed = true;
                self.copy(&copy);
            }
            // It was changed before it was deleted, and is free.
            News::Changed(seen) if objects.is_deleted(&seen.uid) => {}
            News::Changed(seen) => {
                self.objects.foreign.remove(&seen.address);
                self.meet(*seen);
            }
            News::Gone { address, uid } => {
                self.objects.foreign.remove(&address);
                let was_deleted = objects.is_deleted(&uid);
                objects.retain_deleted(|deleted| deleted != uid);
                let is_expected =
                    was_deleted || self.objects.deleting.contains(&address) || !objects.is_current(address, &uid);
                if let Some(row) = self.ledger.get(address).filter(|_| !is_expected) {
                    tracing::warn!(%address, "the VirtualIp was deleted while it is held; it is made again");
                    self.objects.restore.push(row.clone());
                }
            }
        }
        if rows != self.ledger.len() {
            self.copy(&copy);
        }
    }

    /// Compares an object with what is held, and makes the two one.
    fn meet(&mut self, seen: Seen) {
        let Keeper::Objects(objects, _) = &self.outputs.keeper else { return };
        let Seen { address, uid, generation, row } = seen;
        let read = row.as_ref().map_err(Clone::clone).and_then(|row| from_row(row).map_err(|error| error.to_string()));
        if let Some(held) = self.ledger.get(address) {
            let slot = held.slot.to_string();
            if row.as_ref().is_ok_and(|row| row.slot == slot) {
                if objects.is_outdated(address, &uid, generation) {
                    return;
                }
                objects.remember(address, &uid, generation);
                if read.as_ref() != Ok(held) {
                    tracing::warn!(%address, "the VirtualIp was changed by somebody else; it is restored");
                    self.objects.restore.push(held.clone());
                }
                return;
            }
            tracing::error!(%address, slot, "the API server has given the address to somebody else; it is let go");
            // It is there, as was just seen.
            let _ = self.ledger.apply(&[LedgerChange::Delete(address)]);
        }
        let why = match read {
            Ok(vip) => match self.ledger.by_slot(&vip.slot) {
                None => {
                    objects.remember(address, &uid, generation);
                    // Neither its address nor its slot is held.
                    let _ = self.ledger.apply(&[LedgerChange::Insert(vip)]);
                    return;
                }
                Some(held) => format!("it says {}, which holds {} already", vip.slot, held.address),
            },
            Err(why) => why,
        };
        self.objects.foreign.insert(address, why);
    }

    /// Copies the ledger into the store.
    fn copy(&self, copy: &LedgerCopy) {
        copy.replace(self.ledger.rows().filter_map(|vip| to_row(vip).ok()).collect());
    }
}
