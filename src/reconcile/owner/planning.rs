//! The part of a turn in which VIPs are planned and the plan is made durable.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::Owner;
use crate::model::Timestamp;
use crate::model::decision::{NodeRole, VipInput};
use crate::model::id::NamespacedName;
use crate::model::object::Pool;
use crate::model::world::{ClusterState, Sync};
use crate::policy::Failure;
use crate::reconcile::keeper::Durable;
use crate::vip::{self, Audience, ClaimsKnown, Inputs, LedgerState, Plan};

/// The pause after an agent had no room for what it is to be told.
const ORDERS_RETRY_MS: i64 = 100;
/// How long nodes that are gone are remembered at least, for people.
const REMEMBER_NODES_MS: i64 = 24 * 3_600_000;

/// What became of questions to VIP policies: why a policy gave no answer, by access.
type Asked = BTreeMap<NamespacedName, Option<Failure>>;

impl Owner {
    /// Plans, makes it durable, and lets it be what holds. What cannot be made durable at present is left out of it.
    pub(super) async fn make_plan(&mut self, now: Timestamp) -> Durable {
        let vip::Settings { grace_ms, forget_ms, .. } = self.settings.vip;
        self.feedback.prune(REMEMBER_NODES_MS.max(grace_ms).max(forget_ms).saturating_add(60_000), now);
        let (mut plan, asked) = self.plan_with(LedgerState::Open, now);
        self.note_asked(asked);
        self.deadline = None;
        let durable = self.commit(&plan.ledger_changes, now).await;
        if durable != Durable::Yes {
            plan = self.plan_with(LedgerState::Frozen, now).0;
        }
        let deadlines = [self.deadline, plan.next_deadline, self.feedback.next_deadline()];
        self.deadline = deadlines.into_iter().flatten().min();
        // A plan that is frozen asks agents for nothing; what they were asked for holds.
        if durable == Durable::Yes {
            let (told, is_all) = self.agents.tell(&plan);
            for report in told {
                self.feedback.fold(report, now);
            }
            if !is_all {
                let again = now.saturating_add(ORDERS_RETRY_MS);
                self.deadline = Some(self.deadline.map_or(again, |at| at.min(again)));
            }
        }
        self.offers_changed |= plan.offers != self.plan.offers;
        self.plan = plan;
        durable
    }

    /// Plans; gives also what became of each question to a VIP policy, by access.
    fn plan_with(&self, ledger_state: LedgerState, now: Timestamp) -> (Plan, Asked) {
        // Addresses that others have are none of a pool's.
        let foreign = &self.objects.foreign;
        let spared: Vec<Pool> = match foreign.is_empty() {
            true => Vec::new(),
            false => self.world.pools().map(|pool| spare(pool, foreign.keys())).collect(),
        };
        let pools: Vec<&Pool> = match foreign.is_empty() {
            true => self.world.pools().map(AsRef::as_ref).collect(),
            false => spared.iter().collect(),
        };
        let mut accesses: BTreeSet<NamespacedName> = self.world.accesses().map(|access| access.id.clone()).collect();
        if !self.knows_all() {
            accesses.extend(self.perhaps_exported());
        }
        let asked = RefCell::new(Asked::new());
        let choose = |input: &VipInput| {
            let choice = &self.chosen.of(&input.access).vip;
            let (decision, failure) = self.policies.assign(choice, input, now);
            asked.borrow_mut().insert(input.access.clone(), failure);
            decision
        };
        let plan = vip::plan(&Inputs {
            now,
            claims: &self.claims,
            claims_known: self.claims_known(&accesses),
            ledger: &self.ledger,
            ledger_state,
            feedback: &self.feedback,
            pools: &pools,
            settings: self.settings.vip,
            choose: &choose,
        });
        (plan, asked.into_inner())
    }

    fn note_asked(&mut self, asked: Asked) {
        for (access, failure) in asked {
            match failure {
                Some(failure) => {
                    tracing::warn!(%access, reason = failure.reason, "{}", failure.message);
                    self.vip_failures.insert(access, failure);
                }
                None => drop(self.vip_failures.remove(&access)),
            }
        }
        let world = &self.world;
        self.vip_failures.retain(|access, _| world.access(access).is_some());
    }

    /// After the plan's offers were given to the streams: whatever a node has beyond them is being taken from it, so it
    /// proves nothing from now on. Where that changes what is proved, the next turn plans again at once.
    pub(super) fn note_offers(&mut self, now: Timestamp) {
        if !std::mem::take(&mut self.offers_changed) {
            return;
        }
        let plan = &self.plan;
        let touched = self.feedback.offered(|node, name| match node.facts().view.role {
            NodeRole::Gateway => plan.is_offered(node, name),
            // Sidecars are given what any gateway of a pool is.
            NodeRole::Sidecar => {
                plan.offers.get(name).is_some_and(|offer| matches!(*offer.audience, Audience::Gateways { .. }))
            }
        });
        if !touched.is_empty() {
            self.deadline = Some(now);
        }
    }

    /// What it says that a claim is missing. Accesses are read from the primary, so that has to be there and readable.
    /// Of any other cluster it is enough that it was read once, for what is known of it stays while it cannot be read:
    /// else, of two hundred clusters, one that is down would keep every address from being released. Where one was not
    /// read since the start, an access that is there may choose something of it; one that is gone does not.
    fn claims_known<'a>(&self, accesses: &'a BTreeSet<NamespacedName>) -> ClaimsKnown<'a> {
        let Some(primary) = self.world.primary() else { return ClaimsKnown::Partly };
        let is_synced = |cluster: &ClusterState| matches!(cluster.sync, Sync::Synced);
        if !self.world.cluster(primary).is_some_and(is_synced) {
            return ClaimsKnown::Partly;
        }
        let is_known = |cluster: &ClusterState| is_synced(cluster) || self.read_once.contains(&cluster.name);
        if self.world.clusters().all(is_known) { ClaimsKnown::All } else { ClaimsKnown::OfAccesses(accesses) }
    }

    /// Accesses of VIPs that may follow from exports of clusters that were not read since the start. One that had a
    /// ClusterAccess in this time is not among them: that it is gone was told.
    fn perhaps_exported(&self) -> impl Iterator<Item = NamespacedName> {
        let slots = self.ledger.rows().map(|row| &row.slot);
        let exported = slots.filter(|slot| slot.access == slot.service && !self.declared_once.contains(&slot.access));
        exported.map(|slot| slot.access.clone())
    }

    /// Whether everything that there is has been read at least once since the start, so that what was not told is gone.
    pub(in crate::reconcile) fn knows_all(&self) -> bool {
        self.world
            .clusters()
            .all(|cluster| matches!(cluster.sync, Sync::Synced) || self.read_once.contains(&cluster.name))
    }
}

/// The pool without the addresses.
fn spare<'a>(pool: &Pool, addresses: impl Iterator<Item = &'a IpAddr>) -> Pool {
    let mut pool = pool.clone();
    pool.reserved.extend(addresses);
    pool
}
