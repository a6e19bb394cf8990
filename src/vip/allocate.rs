//! Allocation: the policy chooses, the host checks.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use sha2::{Digest, Sha256};

use crate::feedback::NodeRef;
use crate::model::decision::{PoolChoice, VipDecision, VipInput};
use crate::model::id::PoolName;
use crate::model::object::{AddressRange, AssignedBy, Family, Pool};

use super::ledger::Vip;
use super::plan::{Planning, namespace_labels};
use super::types::{Claim, Reason};

/// The addresses of one pool and family that are free. Lasts for one plan, in which addresses are
/// only ever taken, so the lowest free one is found by going on from the last.
#[derive(Debug)]
pub(super) struct Space {
    /// Sorted, without overlaps; as numbers.
    ranges: Vec<(u128, u128)>,
    family: Family,
    free: u64,
    /// Nothing below is free; `None` past the last range.
    cursor: Option<(usize, u128)>,
}

/// So many addresses are looked at from where a slot's hash leads to: in a pool that is nearly full, the lowest free one
/// has to do.
const LOOKED_AT: u32 = 256;

impl Space {
    fn new(pool: &Pool, family: Family, rows: &BTreeMap<IpAddr, Cow<'_, Vip>>) -> Self {
        let ranges = merged(&pool.ranges, family);
        let mut free: u128 = 0;
        for &(first, last) in &ranges {
            let span = address(family, first)..=address(family, last);
            let held = rows.range(span.clone()).count();
            let reserved = pool.reserved.range(span).filter(|address| !rows.contains_key(address)).count();
            let size = (last - first).saturating_add(1);
            free = free.saturating_add(size.saturating_sub((held + reserved) as u128));
        }
        let cursor = ranges.first().map(|&(first, _)| (0, first));
        Self { ranges, family, free: free.try_into().unwrap_or(u64::MAX), cursor }
    }

    fn next_free(&mut self, reserved: &BTreeSet<IpAddr>, rows: &BTreeMap<IpAddr, Cow<'_, Vip>>) -> Option<IpAddr> {
        while let Some((index, at)) = self.cursor {
            let candidate = address(self.family, at);
            if !reserved.contains(&candidate) && !rows.contains_key(&candidate) {
                return Some(candidate);
            }
            self.cursor = if at < self.ranges[index].1 {
                Some((index, at + 1))
            } else {
                self.ranges.get(index + 1).map(|&(first, _)| (index + 1, first))
            };
        }
        None
    }

    /// The first free address from the `hash`th on, all the way round, among the next few.
    fn free_from(
        &self,
        hash: u64,
        reserved: &BTreeSet<IpAddr>,
        rows: &BTreeMap<IpAddr, Cow<'_, Vip>>,
    ) -> Option<IpAddr> {
        // IPv6 may have more than can be counted; what is beyond is never led to.
        let size =
            self.ranges.iter().fold(0u128, |sum, (first, last)| sum.saturating_add((last - first).saturating_add(1)));
        let mut offset = u128::from(hash).checked_rem(size)?;
        let mut index = 0;
        while let Some(&(first, last)) = self.ranges.get(index).filter(|(first, last)| offset > last - first) {
            offset -= last - first + 1;
            index += 1;
        }
        for _ in 0..LOOKED_AT {
            let &(first, last) = self.ranges.get(index)?;
            let candidate = address(self.family, first + offset);
            if !reserved.contains(&candidate) && !rows.contains_key(&candidate) {
                return Some(candidate);
            }
            (index, offset) =
                if first + offset < last { (index, offset + 1) } else { ((index + 1) % self.ranges.len(), 0) };
        }
        None
    }
}

/// A number for a slot that is the same everywhere and always.
fn slot_hash(claim: &Claim) -> u64 {
    let mut hasher = Sha256::new();
    let pod = claim.pod.as_deref().unwrap_or_default();
    for text in [&*claim.access.namespace, &*claim.access.name, &*claim.service.namespace, &*claim.service.name, pod] {
        hasher.update((text.len() as u64).to_le_bytes());
        hasher.update(text);
    }
    let hash: [u8; 32] = hasher.finalize().into();
    hash.into_iter().take(8).fold(0, |number, byte| number << 8 | u64::from(byte))
}

/// Ranges of the family as numbers, sorted, overlapping ones as one.
fn merged(ranges: &[AddressRange], family: Family) -> Vec<(u128, u128)> {
    let of_family = ranges.iter().filter(|r| Family::of(r.first) == family && Family::of(r.last) == family);
    let mut spans: Vec<_> = of_family.map(|r| (number(r.first), number(r.last))).filter(|(a, b)| a <= b).collect();
    spans.sort_unstable();
    let mut merged: Vec<(u128, u128)> = Vec::with_capacity(spans.len());
    for (first, last) in spans {
        match merged.last_mut() {
            Some(known) if first <= known.1 => known.1 = known.1.max(last),
            _ => merged.push((first, last)),
        }
    }
    merged
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

fn address(family: Family, number: u128) -> IpAddr {
    match family {
        // Numbers of this family come from 32 bits.
        Family::V4 => Ipv4Addr::from_bits(number as u32).into(),
        Family::V6 => Ipv6Addr::from_bits(number).into(),
    }
}

/// Why a claim gets no address: for machines, for people, and what to do.
type Refusal = (Reason, String, String);

impl<'a> Planning<'a> {
    /// Gives addresses to claims that have none. Those that ask for an address come first, so that
    /// no other is given it in the same plan.
    pub(super) fn allocate(&mut self) {
        let mut waiting: Vec<&'a Claim> =
            self.claims.iter().filter(|(key, _)| !self.held.contains_key(*key)).map(|(_, claim)| *claim).collect();
        waiting.sort_by_key(|claim| claim.requested.is_none());
        for claim in waiting {
            if let Err((reason, message, remedy)) = self.allocate_one(claim) {
                self.problem(claim, reason, message, remedy);
            }
        }
    }

    fn allocate_one(&mut self, claim: &'a Claim) -> Result<(), Refusal> {
        if claim.ports.is_empty() {
            return Err((
                Reason::NoPorts,
                format!("service {} has no port that the access chooses, so there is nothing to bind", claim.service),
                "give the service a TCP port, or correct the access's ports".into(),
            ));
        }
        let allowed = self.allowed_pools(claim)?;
        let shared: Vec<&'a Pool> =
            allowed.iter().copied().filter(|pool| pool.assigned_by == AssignedBy::ControlPlane).collect();
        let has_family = |pool: &&'a Pool| pool.ranges.iter().any(|range| Family::of(range.first) == claim.family);
        if !shared.iter().any(has_family)
            && let Some(pool) = allowed.iter().find(|pool| pool.assigned_by == AssignedBy::DataPlane)
        {
            self.to_agents.push((claim, pool));
            return Ok(());
        }
        let shared: Vec<&'a Pool> = shared.into_iter().filter(has_family).collect();
        if shared.is_empty() {
            return Err((
                Reason::NoPool,
                format!("no pool that the access may use has {} addresses", family_name(claim.family)),
                "add a range of that family to a pool, or leave the family out of spec.vip.families".into(),
            ));
        }
        let usable = self.pools_with_quota(claim, self.pools_with_requested(claim, shared)?)?;
        let choices = self.choices(claim, &usable);
        if claim.requested.is_none() && choices.iter().all(|choice| choice.candidates.is_empty()) {
            let names: Vec<_> = usable.iter().map(|pool| pool.name.as_str()).collect();
            return Err((
                Reason::PoolExhausted,
                format!("no {} address is free in pool {}", family_name(claim.family), names.join(", ")),
                "add a range to the pool".into(),
            ));
        }
        let (pool, address) = self.choose(claim, &usable, choices)?;
        self.insert(claim, pool, address, None);
        if let Some(space) = self.spaces.get_mut(&(&pool.name, claim.family)) {
            space.free = space.free.saturating_sub(1);
        }
        Ok(())
    }

    /// Pools that the access may take from, by name.
    fn allowed_pools(&self, claim: &Claim) -> Result<Vec<&'a Pool>, Refusal> {
        let named: Vec<&'a Pool> = match &claim.pool {
            None => self.pools.values().copied().collect(),
            Some(name) => vec![self.pools.get(name).copied().ok_or_else(|| {
                (
                    Reason::PoolMissing,
                    format!("the access names pool {name}, which is not there"),
                    format!("create pool {name}, or correct spec.vip.pool"),
                )
            })?],
        };
        if named.is_empty() {
            return Err((Reason::NoPool, "there is no pool".into(), "create a VipPool".into()));
        }
        let labels = namespace_labels(claim);
        let allowed: Vec<_> = named.into_iter().filter(|pool| pool.namespaces.matches(&labels)).collect();
        if allowed.is_empty() {
            let namespace = &claim.access.namespace;
            return Err((
                Reason::NamespaceNotAllowed,
                match &claim.pool {
                    Some(pool) => format!("pool {pool} does not serve namespace {namespace}"),
                    None => format!("no pool serves namespace {namespace}"),
                },
                "let a pool's namespaceSelector match the namespace".into(),
            ));
        }
        Ok(allowed)
    }

    /// Where an address is asked for: the pools that have it, if it is free.
    fn pools_with_requested(&self, claim: &Claim, pools: Vec<&'a Pool>) -> Result<Vec<&'a Pool>, Refusal> {
        let Some(wanted) = claim.requested else { return Ok(pools) };
        let having: Vec<_> =
            pools.into_iter().filter(|pool| pool.ranges.iter().any(|range| range.contains(wanted))).collect();
        if having.is_empty() || Family::of(wanted) != claim.family {
            return Err((
                Reason::RequestedNotInPool,
                format!("the requested {wanted} is in no pool that the access may use"),
                "request an address of the pool, or none".into(),
            ));
        }
        let free: Vec<_> = having.into_iter().filter(|pool| !pool.reserved.contains(&wanted)).collect();
        if free.is_empty() {
            return Err((
                Reason::RequestedReserved,
                format!("the requested {wanted} is reserved in its pool"),
                "request another address, or take it out of the pool's reserved ones".into(),
            ));
        }
        if let Some(row) = self.rows.get(&wanted) {
            return Err((
                Reason::RequestedTaken,
                format!("the requested {wanted} is held by access {} ({})", row.slot.access, row.phase.as_str()),
                "request another address, or delete the access that holds it".into(),
            ));
        }
        Ok(free)
    }

    fn pools_with_quota(&mut self, claim: &Claim, pools: Vec<&'a Pool>) -> Result<Vec<&'a Pool>, Refusal> {
        let within: Vec<_> = pools.iter().copied().filter(|pool| self.within_quota(pool, claim)).collect();
        match pools.first() {
            Some(pool) if within.is_empty() => Err(quota_refusal(claim, pool)),
            _ => Ok(within),
        }
    }

    fn choices(&mut self, claim: &Claim, pools: &[&'a Pool]) -> Vec<PoolChoice> {
        let hash = slot_hash(claim);
        let held: Vec<u32> = pools.iter().map(|pool| self.held_by_namespace(pool, claim)).collect();
        let Self { spaces, rows, gateways, .. } = self;
        let choice = |(pool, held_by_namespace): (&&'a Pool, u32)| {
            let space =
                spaces.entry((&pool.name, claim.family)).or_insert_with(|| Space::new(pool, claim.family, rows));
            let lowest = space.next_free(&pool.reserved, rows);
            let led_to = lowest.and_then(|_| space.free_from(hash, &pool.reserved, rows));
            let serves = |node: &&NodeRef<'_>| node.connected() && pool.gateways.matches(&node.facts().labels);
            PoolChoice {
                pool: pool.name.clone(),
                candidates: lowest.into_iter().chain(led_to).collect(),
                free: if lowest.is_some() { space.free } else { 0 },
                held_by_namespace,
                gateways: u32::try_from(gateways.iter().filter(serves).count()).unwrap_or(u32::MAX),
            }
        };
        pools.iter().zip(held).map(choice).collect()
    }

    /// Asks the policy and checks its answer.
    fn choose(
        &self,
        claim: &Claim,
        pools: &[&'a Pool],
        choices: Vec<PoolChoice>,
    ) -> Result<(&'a Pool, IpAddr), Refusal> {
        let input = VipInput {
            access: claim.access.clone(),
            service: claim.service.clone(),
            pod: claim.pod.clone(),
            family: claim.family,
            requested: claim.requested,
            pools: choices,
        };
        let (name, address) = match (self.inputs.choose)(&input) {
            VipDecision::Take { pool, address } => (pool, address),
            VipDecision::Refuse { reason } => {
                let remedy = "see the VIP policy and its configuration".into();
                return Err((Reason::PolicyRefused, format!("the VIP policy gives no address: {reason}"), remedy));
            }
        };
        self.check_choice(claim, pools, &name, address).map_err(|wrong| {
            let message = format!("the VIP policy chose {address} of pool {name}, which {wrong}");
            (Reason::PolicyInvalid, message, "correct the VIP policy".into())
        })
    }

    fn check_choice(
        &self,
        claim: &Claim,
        pools: &[&'a Pool],
        name: &PoolName,
        address: IpAddr,
    ) -> Result<(&'a Pool, IpAddr), &'static str> {
        let pool = pools.iter().find(|pool| pool.name == *name).ok_or("is a pool that it was not given")?;
        if Family::of(address) != claim.family {
            Err("is of another family")
        } else if !pool.ranges.iter().any(|range| range.contains(address)) {
            Err("is not in the pool")
        } else if pool.reserved.contains(&address) {
            Err("is reserved")
        } else if self.rows.contains_key(&address) {
            Err("is held by another")
        } else if claim.requested.is_some_and(|wanted| wanted != address) {
            Err("is not the requested address")
        } else {
            Ok((pool, address))
        }
    }
}

pub(super) fn quota_refusal(claim: &Claim, pool: &Pool) -> Refusal {
    let namespace = &claim.access.namespace;
    let quota = pool.quota_per_namespace.unwrap_or_default();
    (
        Reason::QuotaExceeded,
        format!("namespace {namespace} holds the {quota} addresses that pool {} allows it", pool.name),
        "delete accesses of the namespace, or raise the pool's quotaPerNamespace".into(),
    )
}

pub(super) fn family_name(family: Family) -> &'static str {
    match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    }
}
