//! The ledger: which address is held for what. Its rows are durable before anything is sent.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::Timestamp;
use crate::model::id::{NodeId, PoolName};
use crate::model::object::{Selector, ServicePort};
use crate::model::slot::Slot;

/// How far the withdrawal of a VIP has come. A VIP whose claim returns is held again, at whatever
/// phase, with the same address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "name")]
pub enum Phase {
    /// Claimed.
    #[default]
    Held,
    /// Its name leads nowhere any more; it is served until no resolver remembers it.
    Unpublishing {
        /// Since when.
        since: Timestamp,
    },
    /// Nobody should know it; connections that are open may end.
    Draining {
        /// Since when.
        since: Timestamp,
    },
    /// Its listeners are being taken from the gateways.
    Removing {
        /// Since when.
        since: Timestamp,
    },
}

impl Phase {
    /// The phase's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Held => "Held",
            Phase::Unpublishing { .. } => "Unpublishing",
            Phase::Draining { .. } => "Draining",
            Phase::Removing { .. } => "Removing",
        }
    }

    /// When the phase began; `None` for [`Phase::Held`].
    pub fn since(self) -> Option<Timestamp> {
        match self {
            Phase::Held => None,
            Phase::Unpublishing { since } | Phase::Draining { since } | Phase::Removing { since } => Some(since),
        }
    }
}

/// A port of a VIP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VipPort {
    /// The port.
    #[serde(flatten)]
    pub port: ServicePort,
    /// It was part of the VIP when all its ports were last proved. A port that is added to a VIP
    /// that serves has to prove itself, but what serves already is not unpublished for its sake.
    #[serde(default)]
    pub established: bool,
}

/// A row of the ledger: an address and what it is held for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vip {
    /// The address, the row's key.
    pub address: IpAddr,
    /// The pool that it was taken from.
    pub pool: PoolName,
    /// What for; no two rows have the same.
    pub slot: Slot,
    /// How far its withdrawal has come.
    pub phase: Phase,
    /// Ports that its gateways listen on, by number.
    pub ports: Vec<VipPort>,
    /// The longest time, in seconds, for which resolvers were told to remember it.
    pub ttl_seconds: u32,
    /// Names that lead to it, kept because requests for them arrive until it is removed.
    #[serde(default)]
    pub hostnames: Vec<Arc<str>>,
    /// The pool's selector, kept because the VIP outlives its pool.
    #[serde(default)]
    pub gateways: Selector,
    /// The node whose agent assigned it; `None` where the control plane did.
    pub assigned_by: Option<NodeId>,
    /// When it was allocated.
    pub allocated_at: Timestamp,
    /// When the row changed last.
    pub changed_at: Timestamp,
}

/// A change to the ledger. A plan's changes are made in their order, all or none.
#[derive(Clone, Debug, PartialEq)]
pub enum LedgerChange {
    /// The address is held from now on.
    Insert(Vip),
    /// The row of this address changes; its slot never does.
    Update(Vip),
    /// The address is free from now on.
    Delete(IpAddr),
}

impl LedgerChange {
    /// The address that it is about.
    pub fn address(&self) -> IpAddr {
        match self {
            LedgerChange::Insert(row) | LedgerChange::Update(row) => row.address,
            LedgerChange::Delete(address) => *address,
        }
    }
}

/// Rows or changes contradict each other or the ledger. Nothing may be allocated then.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum LedgerError {
    /// Two slots for one address.
    #[error("{address} is held for {held_for}, so it cannot be held for {wanted_for}")]
    AddressHeld {
        /// The address.
        address: IpAddr,
        /// Whose it is.
        held_for: Box<Slot>,
        /// Who else is said to have it.
        wanted_for: Box<Slot>,
    },
    /// Two addresses for one slot.
    #[error("{slot} holds {held}, so it cannot hold {wanted} too")]
    SlotHeld {
        /// The slot.
        slot: Box<Slot>,
        /// Its address.
        held: IpAddr,
        /// Another.
        wanted: IpAddr,
    },
    /// An update or deletion of what is not there.
    #[error("{address} is not in the ledger")]
    Missing {
        /// The address.
        address: IpAddr,
    },
    /// An update that would give an address to another slot.
    #[error("{address} is held for {held_for} and cannot be moved to {wanted_for}")]
    Moved {
        /// The address.
        address: IpAddr,
        /// Whose it is.
        held_for: Box<Slot>,
        /// Who it would go to.
        wanted_for: Box<Slot>,
    },
}

/// The rows that are durable, by address, with an index by slot.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ledger {
    rows: BTreeMap<IpAddr, Vip>,
    slots: BTreeMap<Slot, IpAddr>,
}

impl Ledger {
    /// The ledger of these rows.
    ///
    /// # Errors
    /// When two rows have the same address or slot.
    pub fn from_rows(rows: impl IntoIterator<Item = Vip>) -> Result<Self, LedgerError> {
        let mut ledger = Self::default();
        for row in rows {
            ledger.insert(row)?;
        }
        Ok(ledger)
    }

    /// Makes the changes of a plan, after they were committed: all, or none and an error.
    ///
    /// # Errors
    /// When a change contradicts the rows; see [`LedgerError`].
    pub fn apply(&mut self, changes: &[LedgerChange]) -> Result<(), LedgerError> {
        let mut undo = Vec::with_capacity(changes.len());
        for change in changes {
            match self.apply_one(change) {
                Ok(inverse) => undo.push(inverse),
                Err(error) => {
                    for inverse in undo.iter().rev() {
                        // An inverse of what was just done cannot fail.
                        let _ = self.apply_one(inverse);
                    }
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// The row of an address.
    pub fn get(&self, address: IpAddr) -> Option<&Vip> {
        self.rows.get(&address)
    }

    /// The row that is held for a slot.
    pub fn by_slot(&self, slot: &Slot) -> Option<&Vip> {
        self.rows.get(self.slots.get(slot)?)
    }

    /// All rows, by address.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &Vip> {
        self.rows.values()
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Whether a listener's name is of a VIP and port of the ledger.
    pub fn has_listener(&self, name: &str) -> bool {
        super::parse_listener_name(name).is_some_and(|listener| {
            self.rows
                .get(&listener.ip())
                .is_some_and(|row| row.ports.iter().any(|port| port.port.port == listener.port()))
        })
    }

    fn insert(&mut self, row: Vip) -> Result<(), LedgerError> {
        if let Some(held) = self.rows.get(&row.address) {
            let (address, held_for) = (row.address, Box::new(held.slot.clone()));
            return Err(LedgerError::AddressHeld { address, held_for, wanted_for: Box::new(row.slot) });
        }
        if let Some(&held) = self.slots.get(&row.slot) {
            return Err(LedgerError::SlotHeld { slot: Box::new(row.slot), held, wanted: row.address });
        }
        self.slots.insert(row.slot.clone(), row.address);
        self.rows.insert(row.address, row);
        Ok(())
    }

    /// Makes one change and returns its inverse.
    fn apply_one(&mut self, change: &LedgerChange) -> Result<LedgerChange, LedgerError> {
        match change {
            LedgerChange::Insert(row) => {
                self.insert(row.clone())?;
                Ok(LedgerChange::Delete(row.address))
            }
            LedgerChange::Update(row) => {
                let address = row.address;
                let known = self.rows.get_mut(&address).ok_or(LedgerError::Missing { address })?;
                if known.slot != row.slot {
                    let (held_for, wanted_for) = (Box::new(known.slot.clone()), Box::new(row.slot.clone()));
                    return Err(LedgerError::Moved { address, held_for, wanted_for });
                }
                Ok(LedgerChange::Update(std::mem::replace(known, row.clone())))
            }
            LedgerChange::Delete(address) => {
                let row = self.rows.remove(address).ok_or(LedgerError::Missing { address: *address })?;
                self.slots.remove(&row.slot);
                Ok(LedgerChange::Insert(row))
            }
        }
    }
}
