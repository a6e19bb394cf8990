//! A simulation: gateways, agents, claims and restarts in any order, against what must always hold.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use proptest::prelude::*;

use crate::feedback::{AgentListener, AgentListenerState, Feedback, Report, Scope};
use crate::model::Timestamp;
use crate::model::object::Pool;
use crate::model::slot::Slot;

use super::tests::{agent_pool, choose_first, claim, edge_pool, gateway, labels, port, range};
use super::*;

const GATEWAYS: usize = 3;
/// Claims 0 to 3 are of pool `edge`, claim 4 is assigned by agents.
const CLAIMS: usize = 5;
const GRACE_MS: i64 = 60_000;

#[derive(Clone, Debug)]
enum Op {
    Claim(usize),
    Unclaim(usize),
    ChangePorts(usize),
    Connect(usize),
    /// The stream breaks; Envoy runs on.
    Disconnect(usize),
    /// Envoy ends and loses its listeners.
    Crash(usize),
    /// Envoy takes what it is sent; its answer is under way.
    Apply(usize),
    /// Its answers arrive.
    Deliver(usize),
    ToggleRefusal(usize),
    ToggleLabel(usize),
    AgentUp(usize),
    AgentDown(usize),
    AgentReport(usize),
    AgentAct(usize),
    Restart,
    FailNextCommit,
    TogglePool,
    Blink,
    Advance(i64),
}

fn op() -> impl Strategy<Value = Op> {
    let g = 0..GATEWAYS;
    let c = 0..CLAIMS;
    prop_oneof![
        4 => c.clone().prop_map(Op::Claim),
        3 => c.clone().prop_map(Op::Unclaim),
        1 => c.prop_map(Op::ChangePorts),
        4 => g.clone().prop_map(Op::Connect),
        1 => g.clone().prop_map(Op::Disconnect),
        1 => g.clone().prop_map(Op::Crash),
        5 => g.clone().prop_map(Op::Apply),
        4 => g.clone().prop_map(Op::Deliver),
        1 => g.clone().prop_map(Op::ToggleRefusal),
        2 => g.clone().prop_map(Op::ToggleLabel),
        2 => g.clone().prop_map(Op::AgentUp),
        1 => g.clone().prop_map(Op::AgentDown),
        3 => g.clone().prop_map(Op::AgentReport),
        3 => g.prop_map(Op::AgentAct),
        1 => Just(Op::Restart),
        1 => Just(Op::FailNextCommit),
        1 => Just(Op::TogglePool),
        3 => Just(Op::Blink),
        4 => prop_oneof![Just(2_000), Just(5_000), Just(10_000), Just(61_000)].prop_map(Op::Advance),
    ]
}

type Versions = BTreeMap<Arc<str>, Arc<str>>;

#[derive(Default)]
struct Gateway {
    /// What Envoy has bound: the truth.
    bound: Versions,
    stream: Option<u64>,
    /// What the stream was sent, and what of it was refused.
    sent: Versions,
    /// What of it was told to the owner as acknowledged.
    told: BTreeSet<Arc<str>>,
    refused: BTreeSet<(Arc<str>, Arc<str>)>,
    under_way: Vec<Report>,
    refuses: bool,
    unlabelled: bool,
    desired: Versions,
    agent: Option<u64>,
    assigned: BTreeMap<Slot, IpAddr>,
}

struct Sim {
    now: Timestamp,
    streams: u64,
    claims: BTreeMap<usize, Claim>,
    ports: [u16; CLAIMS],
    shrunk: bool,
    ledger: Ledger,
    feedback: Feedback,
    gateways: Vec<Gateway>,
    plan: Plan,
    fail_commit: bool,
    /// Addresses of control-plane slots whose claim was never withdrawn since.
    pinned: BTreeMap<Slot, IpAddr>,
}

impl Sim {
    fn new() -> Self {
        Self {
            now: 1_000_000,
            streams: 0,
            claims: BTreeMap::new(),
            ports: [80; CLAIMS],
            shrunk: false,
            ledger: Ledger::default(),
            feedback: Feedback::new(1_000_000),
            gateways: (0..GATEWAYS).map(|_| Gateway::default()).collect(),
            plan: Plan::default(),
            fail_commit: false,
            pinned: BTreeMap::new(),
        }
    }

    fn id(g: usize) -> crate::model::id::NodeId {
        format!("gw-{g}").into()
    }

    fn pools(&self) -> Vec<Pool> {
        let mut edge = edge_pool();
        edge.ranges = vec![range("240.0.0.1", if self.shrunk { "240.0.0.1" } else { "240.0.0.6" })];
        edge.gateways = super::tests::selector("tier", "edge");
        vec![edge, agent_pool()]
    }

    fn step(&mut self, op: Op) {
        match op {
            Op::Claim(c) => {
                let pool = if c == 4 { "agents" } else { "edge" };
                let mut claim = claim(&format!("a{c}"), pool);
                claim.ports = vec![port(self.ports[c])];
                claim.publish.min_gateways = if c == 3 { 2 } else { 1 };
                self.claims.insert(c, claim);
            }
            Op::Unclaim(c) => {
                if let Some(claim) = self.claims.remove(&c) {
                    self.pinned.remove(&claim.slot());
                }
            }
            Op::ChangePorts(c) => {
                self.ports[c] = 80 + (self.ports[c] + 1) % 3;
                if let Some(claim) = self.claims.get_mut(&c) {
                    claim.ports = vec![port(80), port(self.ports[c])];
                }
            }
            Op::Connect(g) => self.connect(g),
            Op::Disconnect(g) => self.disconnect(g),
            Op::Crash(g) => {
                self.disconnect(g);
                self.gateways[g].bound.clear();
                self.agent_report(g);
            }
            Op::Apply(g) => self.apply(g),
            Op::Deliver(g) => self.deliver(g),
            Op::ToggleRefusal(g) => self.gateways[g].refuses ^= true,
            Op::ToggleLabel(g) => {
                self.gateways[g].unlabelled ^= true;
                if self.gateways[g].stream.is_some() {
                    self.disconnect(g);
                    self.connect(g);
                }
            }
            Op::AgentUp(g) => self.agent_up(g),
            Op::AgentDown(g) => {
                if let Some(stream) = self.gateways[g].agent.take() {
                    self.feedback.fold(Report::AgentGone { node: Self::id(g), stream }, self.now);
                }
            }
            Op::AgentReport(g) => self.agent_report(g),
            Op::AgentAct(g) => self.agent_act(g),
            Op::Restart => self.restart(),
            Op::FailNextCommit => self.fail_commit = true,
            Op::TogglePool => self.shrunk ^= true,
            Op::Blink => self.now += 500,
            Op::Advance(ms) => self.run_until(self.now + ms),
        }
        self.turn();
    }

    fn connect(&mut self, g: usize) {
        if self.gateways[g].stream.is_some() {
            return;
        }
        self.streams += 1;
        let stream = self.streams;
        let tier = if self.gateways[g].unlabelled { "other" } else { "edge" };
        let facts = gateway(Self::id(g).as_str(), labels("tier", tier));
        self.feedback.fold(Report::NodeConnected { node: facts, stream, scope: Scope::Everything }, self.now);
        let it = &mut self.gateways[g];
        it.stream = Some(stream);
        it.sent = it.bound.clone();
        it.refused.clear();
        it.told.clear();
        self.turn();
    }

    fn disconnect(&mut self, g: usize) {
        let it = &mut self.gateways[g];
        it.under_way.clear();
        if let Some(stream) = it.stream.take() {
            self.feedback.fold(Report::NodeGone { node: Self::id(g), stream }, self.now);
        }
    }

    fn apply(&mut self, g: usize) {
        let it = &mut self.gateways[g];
        let Some(stream) = it.stream else { return };
        let (mut accepted, mut refused) = (Vec::new(), Vec::new());
        for (name, version) in &it.desired {
            let pair = (name.clone(), version.clone());
            if it.refused.contains(&pair) {
                continue;
            }
            if it.sent.get(name) == Some(version) {
                // `initial_resource_versions` proved that both sides have the same.
                if it.told.insert(name.clone()) {
                    accepted.push(pair);
                }
            } else if it.refuses {
                it.refused.insert(pair.clone());
                refused.push(pair);
            } else {
                it.bound.insert(name.clone(), version.clone());
                it.sent.insert(name.clone(), version.clone());
                it.told.insert(name.clone());
                accepted.push(pair);
            }
        }
        let removed: Vec<_> = it.sent.keys().filter(|name| !it.desired.contains_key(*name)).cloned().collect();
        for name in &removed {
            it.sent.remove(name);
            it.told.remove(name);
            it.bound.remove(name);
        }
        let node = Self::id(g);
        if !refused.is_empty() {
            let (unknown, detail) = (accepted.clone(), Arc::from("cannot bind"));
            it.under_way.push(Report::Rejected { node: node.clone(), stream, listeners: refused, unknown, detail });
        }
        if !accepted.is_empty() || !removed.is_empty() {
            it.under_way.push(Report::Acked { node, stream, listeners: accepted, removed });
        }
    }

    fn deliver(&mut self, g: usize) {
        for report in std::mem::take(&mut self.gateways[g].under_way) {
            self.feedback.fold(report, self.now);
        }
    }

    fn agent_up(&mut self, g: usize) {
        self.streams += 1;
        let (node, stream) = (Self::id(g), self.streams);
        self.gateways[g].agent = Some(stream);
        // All agents have the same range, so that they get into each other's way.
        let ranges = vec![range("10.0.0.1", "10.0.0.4")];
        self.feedback.fold(Report::AgentConnected { node, stream, ranges }, self.now);
        for (slot, address) in self.gateways[g].assigned.clone() {
            self.feedback.fold(Report::Assigned { node: Self::id(g), slot, address }, self.now);
        }
    }

    fn agent_report(&mut self, g: usize) {
        let Some(stream) = self.gateways[g].agent else { return };
        let active = |name: &Arc<str>| AgentListener {
            name: name.clone(),
            state: AgentListenerState::Active,
            error: "".into(),
            bindable: None,
        };
        let listeners = self.gateways[g].bound.keys().map(active).collect();
        let report = Report::AgentListeners { node: Self::id(g), stream, listeners, envoy_up: true };
        self.feedback.fold(report, self.now);
    }

    fn agent_act(&mut self, g: usize) {
        if self.gateways[g].agent.is_none() {
            return;
        }
        let node = Self::id(g);
        for (_, slot, address) in self.plan.releases.clone().into_iter().filter(|(id, _, _)| *id == node) {
            if self.gateways[g].assigned.get(&slot) == Some(&address) {
                self.gateways[g].assigned.remove(&slot);
            }
            self.feedback.fold(Report::Released { node: node.clone(), slot, address }, self.now);
        }
        for (_, request) in self.plan.assign_requests.clone().into_iter().filter(|(id, _)| *id == node) {
            let assigned = &mut self.gateways[g].assigned;
            let mut free = (1..=4).map(|n| IpAddr::from([10, 0, 0, n])).filter(|a| !request.avoid.contains(a));
            let known = assigned.get(&request.slot).copied();
            let Some(address) = request.current.or(known).or_else(|| free.next()) else { continue };
            assigned.insert(request.slot.clone(), address);
            self.feedback.fold(Report::Assigned { node: node.clone(), slot: request.slot, address }, self.now);
        }
    }

    /// The control plane ends and begins again with its durable rows; every stream breaks.
    fn restart(&mut self) {
        for it in &mut self.gateways {
            it.stream = None;
            it.agent = None;
            it.under_way.clear();
        }
        let rows: Vec<Vip> = self
            .ledger
            .rows()
            .map(|row| serde_json::to_value(row).unwrap())
            .map(|row| serde_json::from_value(row).unwrap())
            .collect();
        assert_eq!(rows, self.ledger.rows().cloned().collect::<Vec<_>>());
        self.ledger = Ledger::from_rows(rows).unwrap();
        self.feedback = Feedback::new(self.now);
        self.plan = Plan::default();
    }

    /// Time passes while everything that is connected does its work.
    fn run_until(&mut self, until: Timestamp) {
        for _ in 0..200 {
            for g in 0..GATEWAYS {
                self.deliver(g);
                self.apply(g);
                self.deliver(g);
            }
            self.turn();
            let next = self.plan.next_deadline.into_iter().chain(self.feedback.next_deadline()).min();
            let next = next.unwrap_or(until).max(self.now + 1).min(self.now + 1_000).min(until);
            if self.now >= until {
                return;
            }
            self.now = next;
        }
    }

    fn turn(&mut self) {
        self.feedback.tick(self.now);
        let pools = self.pools();
        let claims: Vec<Claim> = self.claims.values().cloned().collect();
        let pools: Vec<&Pool> = pools.iter().collect();
        let mut inputs = Inputs {
            now: self.now,
            claims: &claims,
            claims_known: ClaimsKnown::All,
            ledger: &self.ledger,
            ledger_state: LedgerState::Open,
            feedback: &self.feedback,
            pools: &pools,
            settings: Settings { drain_ms: 10_000, grace_ms: GRACE_MS, forget_ms: 3_600_000 },
            choose: &choose_first,
        };
        let mut plan = plan(&inputs);
        if !plan.ledger_changes.is_empty() && std::mem::take(&mut self.fail_commit) {
            inputs.ledger_state = LedgerState::Frozen;
            plan = super::plan(&inputs);
            assert!(plan.ledger_changes.is_empty());
        }
        self.check_releases(&plan);
        self.ledger.apply(&plan.ledger_changes).expect("a plan's changes fit its ledger");
        if plan.ledger_changes.iter().any(|change| matches!(change, LedgerChange::Delete(_))) {
            self.feedback.retain_listeners(|name| self.ledger.has_listener(name));
        }
        self.plan = plan;
        self.feedback.offered(|node, name| self.plan.is_offered(node, name));
        self.check();
        for (g, it) in self.gateways.iter_mut().enumerate() {
            let Some(node) = self.feedback.node(&Self::id(g)).filter(|node| node.connected()) else { continue };
            let version = |name: &Arc<str>| Arc::from(format!("attempt {}", node.attempt(name)));
            it.desired = self.plan.offers_for(node).map(|(name, _)| (name.clone(), version(name))).collect();
        }
    }

    fn check_releases(&self, plan: &Plan) {
        for change in &plan.ledger_changes {
            let LedgerChange::Delete(address) = change else { continue };
            for (g, it) in self.gateways.iter().enumerate().filter(|(_, it)| it.stream.is_some()) {
                let has = it.bound.keys().any(|name| parse_listener_name(name).unwrap().ip() == *address);
                assert!(!has, "{address} was released while gw-{g} has it");
            }
        }
    }

    fn check(&mut self) {
        for offer in self.plan.offers.values() {
            let row = self.ledger.get(offer.address).expect("an offered VIP is durable");
            assert_eq!(row.slot, *offer.slot);
        }
        for published in &self.plan.published {
            let row = self.ledger.get(published.address).expect("a published VIP is durable");
            assert_eq!(row.phase, Phase::Held);
            assert!(!published.ports.is_empty());
            for port in &published.ports {
                let name = listener_name(published.address, port.port);
                let on = self.gateways.iter().filter(|it| it.stream.is_some() && it.bound.contains_key(&name)).count();
                let needed = if *row.slot.access.name == *"a3" { 2 } else { 1 };
                assert!(on >= needed, "{name} is published, but bound on {on} gateways");
            }
        }
        for claim in self.claims.values() {
            let slot = claim.slot();
            let held = self.ledger.by_slot(&slot).map(|row| row.address);
            if let Some(pinned) = self.pinned.get(&slot) {
                assert_eq!(held, Some(*pinned), "the VIP of {slot} moved or was lost");
            } else if let Some(held) = held {
                self.pinned.insert(slot, held);
            }
        }
        assert_eq!(self.plan.statuses.len(), self.ledger.len());
    }

    /// Everything is mended and time passes: what is claimed is published, the rest is free.
    fn settle(&mut self) {
        self.shrunk = false;
        self.fail_commit = false;
        for g in 0..GATEWAYS {
            self.gateways[g].refuses = false;
            if self.gateways[g].unlabelled {
                self.disconnect(g);
                self.gateways[g].unlabelled = false;
            }
            self.connect(g);
            self.agent_up(g);
        }
        // Longer than the longest pause between attempts.
        for _ in 0..60 {
            for g in 0..GATEWAYS {
                self.agent_act(g);
                self.apply(g);
                self.deliver(g);
                self.agent_report(g);
            }
            self.run_until(self.now + 10_000);
        }
        let problems = &self.plan.problems;
        for claim in self.claims.values() {
            let on = self.plan.published.iter().filter(|p| p.slot.access == claim.access).count();
            let wanted = if claim.pool.as_ref().unwrap().as_str() == "agents" { GATEWAYS } else { 1 };
            assert_eq!(
                on, wanted,
                "{:?} {:?} {problems:?} {:#?}",
                claim.access, self.plan.published, self.plan.statuses
            );
        }
        assert_eq!(problems, &[]);
        for status in &self.plan.statuses {
            assert_eq!(status.bound, status.expected, "{status:#?}");
        }
        assert_eq!(self.ledger.len(), self.plan.published.len(), "unclaimed VIPs are released");
        assert_eq!(self.plan.ledger_changes, &[], "a settled plan changes nothing");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_vip_is_never_lost_doubled_moved_or_published_without_proof(ops in prop::collection::vec(op(), 1..80)) {
        let mut sim = Sim::new();
        for op in ops {
            sim.step(op);
        }
        sim.settle();
    }
}
