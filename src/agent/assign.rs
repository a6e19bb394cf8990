//! Which slot has which address of the agent's ranges. No I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::report::AssignRequest;
use crate::model::Timestamp;
use crate::model::object::Family;

/// How long, in milliseconds, a released address is kept from other slots. The control plane has
/// already waited for the name's time to live and for open connections; this is for clients that
/// remember longer than they should.
pub(super) const COOLDOWN_MS: i64 = 60_000;

/// More addresses than an Envoy could have listeners for.
const MAX_SLOTS: usize = 65_536;

/// What restricts the choice of an address; it stands as JSON in `rules_json`. Members that are not
/// known are ignored, so that a newer control plane may say more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rules {
    /// Addresses that may not be taken.
    pub reserved: BTreeSet<IpAddr>,
    /// If not empty, only addresses of these ranges may be taken.
    pub within: Vec<IpNet>,
}

/// There is no address for the slot.
#[derive(Debug, thiserror::Error)]
pub(super) enum AssignError {
    #[error("the slot's name is empty")]
    NoSlot,
    #[error("rules_json cannot be read: {0}")]
    Rules(#[source] serde_json::Error),
    #[error("this agent has no {family} range")]
    NoRange { family: &'static str },
    #[error("no free {family} address: {used} are assigned, {cooling} were released less than a minute ago")]
    Exhausted { family: &'static str, used: usize, cooling: usize },
    #[error("this agent has {MAX_SLOTS} addresses assigned, which is the most")]
    TooMany,
}

/// What is kept over restarts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Leases {
    /// Address by slot.
    pub slots: BTreeMap<String, IpAddr>,
    /// Released addresses that are not yet for everybody.
    pub cooling: BTreeMap<IpAddr, Cooling>,
}

/// An address that was released.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cooling {
    /// Who had it, and may have it again at once.
    pub slot: String,
    /// When others may have it.
    pub until: Timestamp,
}

/// Assigns addresses of some ranges.
#[derive(Clone, Debug)]
pub(super) struct Assigner {
    ranges: Vec<IpNet>,
    leases: Leases,
    holders: BTreeMap<IpAddr, String>,
}

impl Assigner {
    /// The leases hold no address twice (`state` has checked it).
    pub fn new(ranges: Vec<IpNet>, leases: Leases) -> Self {
        let holders = leases.slots.iter().map(|(slot, address)| (*address, slot.clone())).collect();
        Self { ranges, leases, holders }
    }

    pub fn ranges(&self) -> &[IpNet] {
        &self.ranges
    }

    pub fn leases(&self) -> &Leases {
        &self.leases
    }

    /// The slot's address: the ledger's, else the one it has, else the one it had, else a free one.
    pub fn assign(&mut self, request: &AssignRequest, now: Timestamp) -> Result<IpAddr, AssignError> {
        let slot = request.slot.as_str();
        if slot.is_empty() {
            return Err(AssignError::NoSlot);
        }
        self.end_cooling(now);
        let fits = |address: &IpAddr| Family::of(*address) == request.family && self.has(*address);
        let ledgers = request.current.filter(fits);
        if let Some(address) = ledgers.or_else(|| self.leases.slots.get(slot).copied().filter(fits)) {
            self.lease(slot, address);
            return Ok(address);
        }
        if !self.leases.slots.contains_key(slot) && self.leases.slots.len() >= MAX_SLOTS {
            return Err(AssignError::TooMany);
        }
        let rules = match request.rules_json.as_str() {
            "" => Rules::default(),
            text => serde_json::from_str(text).map_err(AssignError::Rules)?,
        };
        let had = self.leases.cooling.iter().find(|(a, c)| c.slot == slot && fits(a) && rules.allow(**a));
        let address = match had {
            Some((address, _)) => *address,
            None => self.free(slot, request.family, &rules)?,
        };
        self.lease(slot, address);
        Ok(address)
    }

    /// The slot gives its address back. Returns whether it had it.
    pub fn release(&mut self, slot: &str, address: IpAddr, now: Timestamp) -> bool {
        if self.leases.slots.get(slot) != Some(&address) {
            return false;
        }
        self.end_cooling(now);
        self.leases.slots.remove(slot);
        self.holders.remove(&address);
        self.leases.cooling.insert(address, Cooling { slot: slot.to_owned(), until: now + COOLDOWN_MS });
        true
    }

    fn has(&self, address: IpAddr) -> bool {
        self.ranges.iter().any(|range| range.contains(&address))
    }

    /// Gives the address to the slot, taking it from whoever has it: that can only be because the
    /// ledger says so, and the ledger holds no address twice.
    fn lease(&mut self, slot: &str, address: IpAddr) {
        if let Some(other) = self.holders.insert(address, slot.to_owned())
            && other != slot
        {
            tracing::warn!(%address, slot, other, "the control plane's ledger gives the address to another slot");
            self.leases.slots.remove(&other);
        }
        if let Some(before) = self.leases.slots.insert(slot.to_owned(), address)
            && before != address
        {
            self.holders.remove(&before);
        }
        self.leases.cooling.remove(&address);
    }

    fn end_cooling(&mut self, now: Timestamp) {
        self.leases.cooling.retain(|_, cooling| {
            // After the clock was set back, nothing cools for longer than from now on.
            cooling.until = cooling.until.min(now + COOLDOWN_MS);
            cooling.until > now
        });
    }

    fn free(&self, slot: &str, family: Family, rules: &Rules) -> Result<IpAddr, AssignError> {
        let name = if family == Family::V4 { "IPv4" } else { "IPv6" };
        let mut ranges = self.ranges.iter().filter(|range| Family::of(range.addr()) == family).peekable();
        if ranges.peek().is_none() {
            return Err(AssignError::NoRange { family: name });
        }
        let free = |address: &IpAddr| {
            !self.holders.contains_key(address) && !self.leases.cooling.contains_key(address) && rules.allow(*address)
        };
        // Where rules name ranges, they are what is searched: a /64 may allow only a few addresses.
        let found = ranges.find_map(|range| match rules.within.as_slice() {
            [] => Usable::of(range).candidates(slot, self.taken(rules)).find(free),
            within => within
                .iter()
                .filter_map(|part| overlap(range, part))
                .find_map(|part| Usable::of(range).cut_to(&part)?.candidates(slot, self.taken(rules)).find(free)),
        });
        let of_family = |address: &&IpAddr| Family::of(**address) == family;
        found.ok_or_else(|| AssignError::Exhausted {
            family: name,
            used: self.holders.keys().filter(of_family).count(),
            cooling: self.leases.cooling.keys().filter(of_family).count(),
        })
    }

    /// How many addresses can be in the way at most.
    fn taken(&self, rules: &Rules) -> u128 {
        (self.holders.len() + self.leases.cooling.len() + rules.reserved.len()) as u128
    }
}

impl Rules {
    fn allow(&self, address: IpAddr) -> bool {
        !self.reserved.contains(&address)
            && (self.within.is_empty() || self.within.iter().any(|range| range.contains(&address)))
    }
}

/// The narrower of two ranges, if one lies within the other; CIDRs do not overlap otherwise.
fn overlap(a: &IpNet, b: &IpNet) -> Option<IpNet> {
    if a.contains(b) {
        Some(b.trunc())
    } else if b.contains(a) {
        Some(*a)
    } else {
        None
    }
}

/// Addresses of a range that a host may have, as numbers, both ends included.
#[derive(Clone, Copy)]
struct Usable {
    first: u128,
    last: u128,
    v4: bool,
}

impl Usable {
    /// Leaves out the network's and the broadcast address of an IPv4 range, and the subnet-router
    /// anycast address of an IPv6 one (RFC 4291, 2.6.1): routers treat them specially. Ranges of one
    /// or two addresses (RFC 3021, RFC 6164) have none of these.
    fn of(range: &IpNet) -> Self {
        let (mut first, mut last, v4) = (number(range.network()), number(range.broadcast()), range.addr().is_ipv4());
        if last - first > 1 {
            first += 1;
            last -= u128::from(v4);
        }
        Self { first, last, v4 }
    }

    fn cut_to(self, part: &IpNet) -> Option<Self> {
        let (first, last) = (number(part.network()).max(self.first), number(part.broadcast()).min(self.last));
        (first <= last).then_some(Self { first, last, v4: self.v4 })
    }

    /// Candidates, starting at a place that follows from the slot's name, so that a slot gets the
    /// same address again even if the state was lost. One more than may be taken is enough.
    fn candidates(self, slot: &str, taken: u128) -> impl Iterator<Item = IpAddr> {
        let hash = Sha256::digest(slot.as_bytes());
        let start = hash.iter().take(16).fold(0_u128, |number, byte| number << 8 | u128::from(*byte));
        // All of IPv6 as one range does not fit; nobody has it, and losing one address is no loss.
        let size = (self.last - self.first).saturating_add(1);
        let start = start % size;
        (0..size.min(taken.saturating_add(1))).map(move |step| {
            // Written so that nothing overflows: start and step are below size.
            let left = size - start;
            let offset = if step < left { start + step } else { step - left };
            self.address(self.first + offset)
        })
    }

    fn address(self, number: u128) -> IpAddr {
        if self.v4 { Ipv4Addr::from_bits(number as u32).into() } else { Ipv6Addr::from_bits(number).into() }
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_bits().into(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

#[cfg(test)]
mod tests;
