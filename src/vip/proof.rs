//! What is proved: offers, published names and the state of each VIP.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use crate::feedback::{Evidence, Holding, NodeRef};
use crate::model::id::NodeId;
use crate::model::object::{EvidenceRule, PublishRule, Selector};
use crate::model::slot::Slot;

use super::ledger::{Phase, Vip};
use super::plan::{Planning, slot_key};
use super::types::{
    Audience, Claim, GatewayState, GatewayStatus, LedgerState, Offer, Published, Reason, VipState, VipStatus,
};
use super::{listener_name, listener_prefix};

/// Gateways that a selector matches.
struct Fleet<'a> {
    selector: Arc<Selector>,
    gateways: Vec<NodeRef<'a>>,
    /// For VIPs without lingering gateways.
    audience: Arc<Audience>,
}

/// A gateway measured against one VIP: how well each of its ports is proved.
struct Measured<'a> {
    node: NodeRef<'a>,
    ports: Vec<Evidence>,
    status: GatewayStatus,
}

/// A VIP with the names of its listeners, in the order of its ports.
struct Subject<'r> {
    row: &'r Vip,
    names: Vec<Arc<str>>,
    rule: PublishRule,
    /// Positions of the ports that have to be proved.
    required: Vec<usize>,
    /// Gateways that have to prove them.
    needed: usize,
}

impl<'a> Planning<'a> {
    pub(super) fn prove(&mut self) {
        let mut fleets: Vec<Fleet<'a>> = Vec::new();
        let addresses: Vec<IpAddr> = self.rows.keys().copied().collect();
        for address in addresses {
            let Some(row) = self.rows.get(&address).cloned() else { continue };
            let claim = self.claims.get(&slot_key(&row.slot)).copied();
            let subject = Subject::new(&row, claim);
            let frozen = claim.is_none() && !self.inputs.claims_known.decides(&row.slot.access);
            let claimed = row.phase == Phase::Held && (claim.is_some() || frozen);
            let fleet = self.fleet(&mut fleets, &row);
            let (measured, audience) = self.measure_all(&subject, fleet, claimed);
            let proved = measured.iter().filter(|m| m.status.proved).count();
            let published = claimed && !subject.required.is_empty() && proved >= subject.needed;
            if published {
                self.establish(&subject, &measured);
            }
            let slot = Arc::new(row.slot.clone());
            let hostnames: Arc<[Arc<str>]> = row.hostnames.clone().into();
            if published {
                let ttl_seconds = claim.map_or(row.ttl_seconds, |claim| claim.publish.ttl_seconds);
                let ports = subject.proved_ports(&measured);
                let (slot, hostnames) = (slot.clone(), hostnames.clone());
                self.plan.published.push(Published { address, slot, hostnames, ttl_seconds, ports });
            }
            self.offer(&subject, &slot, &hostnames, audience);
            if let Some(claim) = claim.filter(|_| claimed) {
                self.tell_proof(claim, &subject, &measured);
            }
            let hostnames = if published { hostnames } else { Arc::from([]) };
            self.status(&subject, slot, hostnames, measured, published);
        }
    }

    fn fleet<'f>(&self, fleets: &'f mut Vec<Fleet<'a>>, row: &Vip) -> &'f Fleet<'a> {
        // A pool's rows have equal selectors, so there are about as many fleets as pools.
        let index = fleets.iter().position(|fleet| *fleet.selector == row.gateways).unwrap_or_else(|| {
            let matching = self.gateways.iter().filter(|node| row.gateways.matches(&node.facts().labels));
            let selector = Arc::new(row.gateways.clone());
            let audience = Arc::new(Audience::Gateways { selector: selector.clone(), lingering: BTreeSet::new() });
            fleets.push(Fleet { selector, gateways: matching.copied().collect(), audience });
            fleets.len() - 1
        });
        &fleets[index]
    }

    /// Measures the VIP's gateways, and says who they are.
    fn measure_all(
        &self,
        subject: &Subject<'_>,
        fleet: &Fleet<'a>,
        claimed: bool,
    ) -> (Vec<Measured<'a>>, Arc<Audience>) {
        if let Some(id) = &subject.row.slot.node {
            let node = self.inputs.feedback.node(id);
            let measured = node.into_iter().filter_map(|node| self.measure(subject, node)).collect();
            return (measured, Arc::new(Audience::Node(id.clone())));
        }
        let mut measured: Vec<_> = fleet.gateways.iter().filter_map(|node| self.measure(subject, *node)).collect();
        let proved = measured.iter().filter(|m| m.status.proved).count();
        // Where the pool's selector changed: gateways that have the VIP keep it until enough of the
        // new ones have proved it, as long as any of those still may.
        let hopeful = measured.iter().any(|m| m.node.connected() && m.status.state != GatewayState::Rejected);
        if !claimed || proved >= subject.needed || !hopeful {
            return (measured, fleet.audience.clone());
        }
        let mut lingering = BTreeSet::new();
        for node in self.gateways.iter().filter(|node| node.connected()) {
            if fleet.selector.matches(&node.facts().labels) || !subject.is_bound_on(*node) {
                continue;
            }
            lingering.insert(node.facts().id.clone());
            measured.extend(self.measure(subject, *node));
        }
        if lingering.is_empty() {
            return (measured, fleet.audience.clone());
        }
        measured.sort_by(|a, b| a.status.node.cmp(&b.status.node));
        (measured, Arc::new(Audience::Gateways { selector: fleet.selector.clone(), lingering }))
    }

    /// A VIP on one gateway; `None` where that is of no interest (gone for long, or never had it).
    fn measure(&self, subject: &Subject<'_>, node: NodeRef<'a>) -> Option<Measured<'a>> {
        let removing = matches!(subject.row.phase, Phase::Removing { .. });
        let gone_for_long =
            !node.connected() && self.inputs.now.saturating_sub(node.since()) > self.inputs.settings.grace_ms;
        if gone_for_long || (removing && !still_has(subject.row, node)) {
            return None;
        }
        let mut ports = Vec::with_capacity(subject.names.len());
        let mut error: Option<&Arc<str>> = None;
        let (mut rejected, mut unknown, mut attempt) = (false, false, 0);
        for name in &subject.names {
            let evidence = node.evidence(name);
            let rejection = node.rejection(name);
            error = error.or(rejection.map(|r| &r.detail));
            rejected |= rejection.is_some() && evidence < Evidence::Acked;
            unknown |= evidence < Evidence::Acked && node.is_unknown(name);
            attempt = attempt.max(node.attempt(name));
            ports.push(evidence);
        }
        let weakest = ports.iter().copied().min().unwrap_or_default();
        let offered = node.connected() && !removing && !ports.is_empty();
        let state = match weakest {
            _ if !node.connected() => GatewayState::Gone,
            _ if removing => GatewayState::Removing,
            _ if rejected => GatewayState::Rejected,
            _ if unknown => GatewayState::Unknown,
            Evidence::Active | Evidence::Probed => GatewayState::Serving,
            Evidence::Acked => GatewayState::Bound,
            Evidence::None | Evidence::Offered => GatewayState::Offered,
        };
        let proved = node.connected()
            && !subject.required.is_empty()
            && subject.required.iter().all(|&port| suffices(subject.rule.evidence, node, ports[port]));
        let status = GatewayStatus {
            node: node.facts().id.clone(),
            state,
            proof: if offered { weakest.max(Evidence::Offered) } else { weakest },
            proved,
            error: error.cloned().unwrap_or_default(),
            attempt,
        };
        Some(Measured { node, ports, status })
    }

    /// Notes in the ledger that all ports were proved, so that a port that comes later does not
    /// unpublish these.
    fn establish(&mut self, subject: &Subject<'_>, measured: &[Measured<'a>]) {
        if self.inputs.ledger_state == LedgerState::Frozen || subject.row.ports.iter().all(|port| port.established) {
            return;
        }
        let all = |m: &&Measured<'a>| m.ports.iter().all(|e| suffices(subject.rule.evidence, m.node, *e));
        if measured.iter().filter(|m| m.node.connected()).filter(all).count() < subject.needed {
            return;
        }
        if let Some(row) = self.rows.get_mut(&subject.row.address) {
            let row = row.to_mut();
            row.changed_at = self.inputs.now;
            row.ports.iter_mut().for_each(|port| port.established = true);
        }
    }

    fn offer(&mut self, subject: &Subject<'_>, slot: &Arc<Slot>, hostnames: &Arc<[Arc<str>]>, audience: Arc<Audience>) {
        let withdrawing = match subject.row.phase {
            Phase::Held => false,
            Phase::Unpublishing { .. } | Phase::Draining { .. } => true,
            Phase::Removing { .. } => return,
        };
        for (name, port) in subject.names.iter().zip(&subject.row.ports) {
            let offer = Offer {
                address: subject.row.address,
                port: port.port.clone(),
                slot: slot.clone(),
                hostnames: hostnames.clone(),
                audience: audience.clone(),
                withdrawing,
            };
            self.plan.offers.insert(name.clone(), offer);
        }
    }

    fn tell_proof(&mut self, claim: &Claim, subject: &Subject<'_>, measured: &[Measured<'a>]) {
        let address = subject.row.address;
        for m in measured.iter().filter(|m| !m.status.error.is_empty() && m.node.connected()) {
            let still = if m.status.state == GatewayState::Rejected { "" } else { " an update of" };
            self.problem(
                claim,
                Reason::ListenerRejected,
                format!("gateway {} refuses{still} {address}: {}", m.status.node, m.status.error),
                "free the address and port on the gateway, or make its pool local there; it is tried again by itself"
                    .into(),
            );
        }
        let live = measured.iter().filter(|m| m.node.connected()).count();
        let pool = &subject.row.pool;
        match (live, &subject.row.slot.node) {
            (0, None) => self.problem(
                claim,
                Reason::NoGateway,
                format!("no gateway that pool {pool} selects is connected"),
                "start an Envoy whose node metadata has role: gateway and matches the pool's gateways".into(),
            ),
            (_, None) if live < subject.needed => self.problem(
                claim,
                Reason::TooFewGateways,
                format!("{live} gateways of pool {pool} are connected, but the access asks for {}", subject.needed),
                "start more gateways, or lower spec.publish.minGateways".into(),
            ),
            _ => {}
        }
        if subject.row.ports.is_empty() {
            self.problem(
                claim,
                Reason::NoPorts,
                format!("service {} has no port that the access chooses; {address} is kept", claim.service),
                "give the service a TCP port, or correct the access's ports".into(),
            );
        }
    }

    fn status(
        &mut self,
        subject: &Subject<'_>,
        slot: Arc<Slot>,
        hostnames: Arc<[Arc<str>]>,
        measured: Vec<Measured<'a>>,
        published: bool,
    ) {
        let row = subject.row;
        let gateways: Vec<GatewayStatus> = measured.into_iter().map(|m| m.status).collect();
        let bound = gateways.iter().filter(|g| g.proved).count();
        let proof = gateways.iter().map(|g| g.proof).max().unwrap_or_default();
        let state = state_of(row, &gateways, published);
        // What `establish` noted is shown at once.
        let ports = self.rows.get(&row.address).map_or_else(|| row.ports.clone(), |row| row.ports.clone());
        self.plan.statuses.push(VipStatus {
            address: row.address,
            pool: row.pool.clone(),
            slot,
            state,
            phase: row.phase,
            ports,
            bound: u32::try_from(bound).unwrap_or(u32::MAX),
            expected: u32::try_from(gateways.len()).unwrap_or(u32::MAX),
            proof,
            assigned_by: row.assigned_by.clone(),
            hostnames,
            message: message_of(subject, state, bound, &gateways),
            gateways,
            allocated_at: row.allocated_at,
        });
    }
}

impl<'r> Subject<'r> {
    fn new(row: &'r Vip, claim: Option<&Claim>) -> Self {
        let rule = claim.map_or(PublishRule { ttl_seconds: row.ttl_seconds, ..PublishRule::default() }, |claim| {
            claim.publish.clone()
        });
        let established: Vec<usize> = (0..row.ports.len()).filter(|&port| row.ports[port].established).collect();
        let required = if established.is_empty() { (0..row.ports.len()).collect() } else { established };
        // An address that one gateway assigned can be on that one only.
        let needed = if row.slot.node.is_some() { 1 } else { rule.min_gateways.max(1) as usize };
        let names = row.ports.iter().map(|port| listener_name(row.address, port.port.port)).collect();
        Self { row, names, rule, required, needed }
    }

    fn is_bound_on(&self, node: NodeRef<'_>) -> bool {
        !self.required.is_empty()
            && self.required.iter().all(|&port| node.evidence(&self.names[port]) >= Evidence::Acked)
    }

    /// Ports that enough gateways have proved.
    fn proved_ports(&self, measured: &[Measured<'_>]) -> Vec<crate::model::object::ServicePort> {
        let proved = |port: usize| {
            let on = measured.iter().filter(|m| m.node.connected());
            on.filter(|m| suffices(self.rule.evidence, m.node, m.ports[port])).count() >= self.needed
        };
        let ports = self.row.ports.iter().enumerate();
        ports.filter(|(port, _)| proved(*port)).map(|(_, port)| port.port.clone()).collect()
    }
}

/// Whether the evidence is what the rule asks for on this node.
fn suffices(rule: EvidenceRule, node: NodeRef<'_>, evidence: Evidence) -> bool {
    evidence
        >= match rule {
            EvidenceRule::Acked => Evidence::Acked,
            EvidenceRule::Active => Evidence::Active,
            EvidenceRule::Probed => Evidence::Probed,
            EvidenceRule::Strongest if node.agent_has_reported() => Evidence::Active,
            EvidenceRule::Strongest => Evidence::Acked,
        }
}

fn still_has(row: &Vip, node: NodeRef<'_>) -> bool {
    let names = node.listeners_with_prefix(&listener_prefix(row.address));
    names.into_iter().any(|name| matches!(node.holding(name), Holding::Held | Holding::Unsure { .. }))
}

fn state_of(row: &Vip, gateways: &[GatewayStatus], published: bool) -> VipState {
    match row.phase {
        Phase::Unpublishing { .. } => return VipState::Unpublishing,
        Phase::Draining { .. } => return VipState::Draining,
        Phase::Removing { .. } => return VipState::Removing,
        Phase::Held if published => return VipState::Published,
        Phase::Held => {}
    }
    let mut live = gateways.iter().filter(|g| g.state != GatewayState::Gone).map(|g| g.state).peekable();
    if live.peek().is_none() || row.ports.is_empty() {
        VipState::Allocated
    } else if live.clone().all(|state| state == GatewayState::Rejected) {
        VipState::Rejected
    } else if live.clone().any(|state| state == GatewayState::Serving) {
        VipState::Serving
    } else if live.any(|state| state == GatewayState::Bound) {
        VipState::Bound
    } else {
        VipState::Offered
    }
}

fn message_of(subject: &Subject<'_>, state: VipState, bound: usize, gateways: &[GatewayStatus]) -> String {
    let names = |wanted: GatewayState| -> Vec<&str> {
        gateways.iter().filter(|g| g.state == wanted).map(|g| g.node.as_str()).collect::<Vec<&str>>()
    };
    match state {
        VipState::Published => format!("proved on {bound} of {} gateways", gateways.len()),
        VipState::Allocated if subject.row.ports.is_empty() => "no ports to listen on".into(),
        VipState::Allocated => match first_absent(subject.row) {
            Some(node) => format!("gateway {node} is not connected"),
            None => "no gateway of its pool is connected".into(),
        },
        VipState::Rejected => format!("refused by {}", names(GatewayState::Rejected).join(", ")),
        VipState::Offered | VipState::Bound | VipState::Serving => {
            let evidence = subject.rule.evidence;
            format!("{bound} of {} needed gateways gave the evidence asked for ({evidence:?})", subject.needed)
        }
        VipState::Unpublishing => format!("waits {} s until no resolver remembers it", subject.row.ttl_seconds),
        VipState::Draining => "open connections may end".into(),
        VipState::Removing => match names(GatewayState::Removing).as_slice() {
            [] => "waits for gateways that are gone or have not answered".into(),
            having => format!("waits for {} to acknowledge the removal", having.join(", ")),
        },
    }
}

fn first_absent(row: &Vip) -> Option<&NodeId> {
    row.slot.node.as_ref()
}
