//! The part of a turn in which VIPs are planned and the plan is made durable.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::Owner;
use crate::model::Timestamp;
use crate::model::decision::NodeRole;
use crate::model::id::NamespacedName;
use crate::model::object::Pool;
use crate::model::world::{ClusterState, Sync};
use crate::policy;
use crate::reconcile::ledger::to_stored;
use crate::vip::{self, Audience, ClaimsKnown, Inputs, LedgerChange, Plan, VipState};

/// The pause after the ledger could not be written.
const LEDGER_RETRY_MS: i64 = 1_000;
/// The pause after an agent had no room for what it is to be told.
const ORDERS_RETRY_MS: i64 = 100;
/// How long nodes that are gone are remembered at least, for people.
const REMEMBER_NODES_MS: i64 = 24 * 3_600_000;

impl Owner {
    /// Plans, makes it durable, and lets it be what holds. Says whether it does.
    pub(super) async fn make_plan(&mut self, now: Timestamp) -> bool {
        let vip::Settings { grace_ms, forget_ms, .. } = self.settings.vip;
        self.feedback.prune(REMEMBER_NODES_MS.max(grace_ms).max(forget_ms).saturating_add(60_000), now);
        let pools: Vec<&Pool> = self.world.pools().map(AsRef::as_ref).collect();
        let accesses = self.world.accesses().map(|access| access.id.clone()).collect();
        let plan = vip::plan(&Inputs {
            now,
            claims: &self.claims,
            claims_known: self.claims_known(&accesses),
            ledger: &self.ledger,
            feedback: &self.feedback,
            pools: &pools,
            settings: self.settings.vip,
            choose: &policy::vip_default,
        });
        if let Err(error) = self.commit(&plan).await {
            tracing::error!(error, "the VIP ledger cannot be written; nothing new is allocated, offered or released");
            self.ledger_problem = Some(error);
            self.deadline = Some(now.saturating_add(LEDGER_RETRY_MS));
            self.keep_proved(&plan);
            return false;
        }
        self.ledger_problem = None;
        self.deadline = [plan.next_deadline, self.feedback.next_deadline()].into_iter().flatten().min();
        if plan.ledger_changes.iter().any(|change| !matches!(change, LedgerChange::Insert(_))) {
            let ledger = &self.ledger;
            self.feedback.retain_listeners(|name| ledger.has_listener(name));
        }
        let (told, is_all) = self.agents.tell(&plan);
        for report in told {
            self.feedback.fold(report, now);
        }
        if !is_all {
            let again = now.saturating_add(ORDERS_RETRY_MS);
            self.deadline = Some(self.deadline.map_or(again, |at| at.min(again)));
        }
        self.offers_changed |= plan.offers != self.plan.offers;
        self.plan = plan;
        true
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

    /// Whether everything that there is has been read at least once since the start, so that what was not told is gone.
    pub(in crate::reconcile) fn knows_all(&self) -> bool {
        self.world
            .clusters()
            .all(|cluster| matches!(cluster.sync, Sync::Synced) || self.read_once.contains(&cluster.name))
    }

    /// Of a plan that could not be made durable only this is taken: which names are not proved any more. To answer
    /// fewer of them needs no ledger, and a gateway that went must not be answered for until a disk is mended.
    fn keep_proved(&mut self, plan: &Plan) {
        let proved: HashSet<IpAddr> = plan.published.iter().map(|vip| vip.address).collect();
        self.plan.published.retain(|vip| proved.contains(&vip.address));
        let changed: HashSet<IpAddr> = plan.ledger_changes.iter().map(LedgerChange::address).collect();
        let statuses = plan.statuses.iter().filter(|status| !changed.contains(&status.address));
        let mut fresh: HashMap<_, _> = statuses.map(|status| (status.address, status)).collect();
        for status in &mut self.plan.statuses {
            if let Some(fresh) = fresh.remove(&status.address) {
                *status = fresh.clone();
            } else if status.state == VipState::Published && !proved.contains(&status.address) {
                (status.state, status.hostnames) = (VipState::Offered, Arc::from([]));
                status.message = "it is not proved any more; the VIP ledger cannot be written".to_owned();
            }
        }
    }

    async fn commit(&mut self, plan: &Plan) -> Result<(), String> {
        if plan.ledger_changes.is_empty() {
            return Ok(());
        }
        let stored = to_stored(&plan.ledger_changes).map_err(|error| error.to_string())?;
        self.outputs.store.commit_ledger(&stored).await.map_err(|error| error.to_string())?;
        self.ledger.apply(&plan.ledger_changes).map_err(|error| error.to_string())
    }
}
