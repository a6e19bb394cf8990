//! The owner's state and its turns.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::agents::Agents;
use super::claims::{self, Shortfall};
use super::desired;
use super::event::{AgentEvent, Event};
use super::inventory::{Inventory, now};
use super::ledger::to_stored;
use super::names;
use super::nodes::{self, Nodes};
use super::view::Problem;
use super::views::{Desired, Turn, ViewKey, Views};
use crate::ads;
use crate::dns;
use crate::feedback::{Feedback, Report};
use crate::model::Timestamp;
use crate::model::id::{NamespacedName, NodeId};
use crate::model::object::{Change, Pool};
use crate::model::world::{ClusterState, Sync, Touched, World};
use crate::policy;
use crate::snapshot::ResourceType;
use crate::store::{NodeEvent, Store};
use crate::vip::{self, Claim, ClaimsKnown, Inputs, Ledger, Plan};

/// Events that one turn takes at most, so that a flood of changes does not keep everybody else waiting.
const BATCH: usize = 512;
/// The pause after the ledger could not be written.
const LEDGER_RETRY_MS: i64 = 1_000;
/// How long nodes that are gone are remembered, for people.
const REMEMBER_NODES_MS: i64 = 24 * 3_600_000;

/// What the operator chose.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Spans of a VIP's withdrawal.
    pub vip: vip::Settings,
}

/// Where the owner's results go.
pub struct Outputs {
    /// The VIP ledger.
    pub store: Store,
    /// Pods and history.
    pub inventory: Inventory,
    /// Names.
    pub dns: watch::Sender<Arc<dns::Table>>,
    /// Addresses at which names are asked, for NS records.
    pub nameservers: Vec<std::net::IpAddr>,
}

/// The claims of one access, by service.
#[derive(Default)]
pub(super) struct AccessState {
    pub(super) claims: BTreeMap<NamespacedName, Vec<Claim>>,
    pub(super) shortfalls: Vec<Shortfall>,
}

/// What changed in a turn, so that only what follows from it is done.
#[derive(Default)]
struct News {
    world: Touched,
    /// The data plane told something about VIPs, or time passed that they waited for.
    vips: bool,
    /// Nodes came, or what they are offered anew may differ.
    nodes: bool,
}

/// The owner of the truth.
pub struct Owner {
    pub(super) world: World,
    pub(super) feedback: Feedback,
    pub(super) ledger: Ledger,
    pub(super) accesses: BTreeMap<NamespacedName, AccessState>,
    pub(super) hostname_conflicts: BTreeMap<NamespacedName, Vec<(Arc<str>, NamespacedName)>>,
    claims: Vec<Claim>,
    pub(super) plan: Plan,
    pub(super) desired: Desired,
    views: Views,
    nodes: Nodes,
    agents: Agents,
    pub(super) source_problems: Vec<Problem>,
    pub(super) ledger_problem: Option<String>,
    records: Vec<dns::Record>,
    hostnames: Vec<Arc<str>>,
    dns_serial: u32,
    /// Everything was planned at least once.
    started: bool,
    deadline: Option<Timestamp>,
    settings: Settings,
    outputs: Outputs,
}

impl Owner {
    /// Begins with what the ledger holds.
    pub fn new(ledger: Ledger, settings: Settings, outputs: Outputs) -> Self {
        Self {
            world: World::new(),
            feedback: Feedback::new(now()),
            ledger,
            accesses: BTreeMap::new(),
            hostname_conflicts: BTreeMap::new(),
            claims: Vec::new(),
            plan: Plan::default(),
            desired: Desired::default(),
            views: Views::default(),
            nodes: Nodes::default(),
            agents: Agents::default(),
            source_problems: Vec::new(),
            ledger_problem: None,
            records: Vec::new(),
            hostnames: Vec::new(),
            dns_serial: 0,
            started: false,
            deadline: None,
            settings,
            outputs,
        }
    }

    /// Takes events until the channel closes or `shutdown`.
    pub async fn run(mut self, mut events: mpsc::Receiver<Event>, shutdown: CancellationToken) {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let pause = self.deadline.map(|at| Duration::from_millis(u64::try_from(at - now()).unwrap_or(0)));
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                count = events.recv_many(&mut batch, BATCH) => if count == 0 { return },
                () = tokio::time::sleep(pause.unwrap_or_default()), if pause.is_some() => {}
            }
            self.turn(std::mem::take(&mut batch), now()).await;
        }
    }

    async fn turn(&mut self, events: Vec<Event>, now: Timestamp) {
        let mut news = News::default();
        let mut asked = Vec::new();
        for event in events {
            match event {
                Event::Changes(changes) => self.changes(changes, &mut news, now),
                Event::Expect(cluster) => news.world.merge(self.world.expect_cluster(cluster, now)),
                Event::SourceProblems(problems) => self.source_problems = problems,
                Event::Ads(event) => self.ads(event, &mut news, now),
                Event::Agent(event) => self.agent(event, &mut news, now),
                Event::Inspect(query, reply) => asked.push((query, reply)),
            }
        }
        if self.deadline.is_some_and(|at| at <= now) {
            news.vips = true;
        }
        if !self.feedback.tick(now).is_empty() {
            (news.vips, news.nodes) = (true, true);
        }
        self.follow(news, now).await;
        for (query, reply) in asked {
            // Whoever asked may have left.
            let _ = reply.send(self.answer(query, now));
        }
    }

    fn changes(&mut self, changes: Vec<Change>, news: &mut News, now: Timestamp) {
        self.outputs.inventory.kube_nodes(&changes);
        let mut touched = self.world.apply(changes, now);
        self.outputs.inventory.pods(std::mem::take(&mut touched.pods));
        for name in &touched.clusters {
            if self.world.cluster(name).is_some_and(|cluster| matches!(cluster.sync, Sync::Synced)) {
                self.outputs.inventory.read_whole(name);
            }
        }
        news.world.merge(touched);
    }

    fn ads(&mut self, event: ads::Event, news: &mut News, now: Timestamp) {
        let report = match event {
            ads::Event::Connected { stream, node, protocol, peer, reply } => {
                let facts = match nodes::identify(&node, protocol) {
                    Ok(facts) => facts,
                    Err(message) => {
                        tracing::warn!(peer, message, "a node is refused");
                        let _ = reply.send(Err(ads::Refusal { message }));
                        return;
                    }
                };
                let snapshots = self.nodes.connect(stream.0, &facts.id);
                self.history(
                    &facts.id,
                    "Connected",
                    format!("{} from {peer}, {}", protocol.label(), facts.version),
                    now,
                );
                if reply.send(Ok(snapshots)).is_err() {
                    self.nodes.disconnect(stream.0);
                    return;
                }
                (news.nodes, news.vips) = (true, true);
                Report::NodeConnected { node: facts, stream: stream.0 }
            }
            ads::Event::Acked { stream, ty: ResourceType::Listener, resources, removed } => {
                let Some(node) = self.nodes.of_stream(stream.0).cloned() else { return };
                Report::Acked { node, stream: stream.0, listeners: resources, removed }
            }
            ads::Event::Rejected { stream, ty, refused, unknown, detail, details } => {
                let Some(node) = self.nodes.of_stream(stream.0).cloned() else { return };
                tracing::warn!(%node, ty = ty.label(), ?refused, detail, "an Envoy refuses resources");
                self.history(&node, "Rejected", format!("{}: {detail}", ty.label()), now);
                if ty != ResourceType::Listener {
                    return;
                }
                return self.rejected(&node, stream.0, refused, unknown, &detail, &details, news, now);
            }
            ads::Event::Disconnected { stream } => {
                let Some((node, was_last)) = self.nodes.disconnect(stream.0) else { return };
                if was_last {
                    self.history(&node, "Gone", String::new(), now);
                }
                (news.nodes, news.vips) = (true, true);
                Report::NodeGone { node, stream: stream.0 }
            }
            ads::Event::Acked { .. } => return,
        };
        self.fold(report, news, now);
    }

    /// One report for each of Envoy's separate reasons.
    #[expect(clippy::too_many_arguments, reason = "the parts of one event")]
    fn rejected(
        &mut self,
        node: &NodeId,
        stream: u64,
        refused: Vec<ads::Versioned>,
        mut unknown: Vec<ads::Versioned>,
        detail: &str,
        details: &BTreeMap<Arc<str>, String>,
        news: &mut News,
        now: Timestamp,
    ) {
        let mut by_reason: BTreeMap<&str, Vec<ads::Versioned>> = BTreeMap::new();
        for listener in refused {
            let reason = details.get(&listener.0).map_or(detail, String::as_str);
            by_reason.entry(reason).or_default().push(listener);
        }
        if by_reason.is_empty() {
            by_reason.insert(detail, Vec::new());
        }
        for (reason, listeners) in by_reason {
            let unknown = std::mem::take(&mut unknown);
            let (node, detail) = (node.clone(), Arc::from(reason));
            self.fold(Report::Rejected { node, stream, listeners, unknown, detail }, news, now);
        }
    }

    fn agent(&mut self, event: AgentEvent, news: &mut News, now: Timestamp) {
        let report = match event {
            AgentEvent::Connected { stream, node, ranges, orders } => {
                self.agents.connect(stream, node.clone(), orders);
                self.history(&node, "AgentConnected", String::new(), now);
                news.vips = true;
                Report::AgentConnected { node, stream, ranges }
            }
            AgentEvent::Listeners { stream, node, envoy_up, listeners } => {
                Report::AgentListeners { node, stream, listeners, envoy_up }
            }
            AgentEvent::Assigned { stream, slot, address } => {
                let Some(node) = self.agents.node(stream).cloned() else { return };
                Report::Assigned { node, slot, address }
            }
            AgentEvent::AssignFailed { stream, slot, reason } => {
                let Some(node) = self.agents.node(stream).cloned() else { return };
                Report::AssignFailed { node, slot, reason }
            }
            AgentEvent::Gone { stream } => {
                let Some(node) = self.agents.gone(stream) else { return };
                self.history(&node, "AgentGone", String::new(), now);
                news.vips = true;
                Report::AgentGone { node, stream }
            }
        };
        self.fold(report, news, now);
    }

    fn fold(&mut self, report: Report, news: &mut News, now: Timestamp) {
        if !self.feedback.fold(report, now).is_empty() {
            // A refusal may have led to an attempt, which is a view of its own.
            (news.vips, news.nodes) = (true, true);
        }
    }

    fn history(&self, node: &NodeId, event: &str, detail: String, at: Timestamp) {
        self.outputs.inventory.event(NodeEvent { node: node.clone(), at, event: event.to_owned(), detail });
    }

    /// Brings everything up to date with the news.
    async fn follow(&mut self, mut news: News, now: Timestamp) {
        if !self.world.ready() {
            return;
        }
        let is_first = !std::mem::replace(&mut self.started, true);
        if is_first {
            news.world.accesses.extend(self.world.accesses().map(|access| access.id.clone()));
            (news.vips, news.nodes) = (true, true);
        }
        let has_claims_changed = self.update_claims(&news.world);
        let mut has_planned = false;
        if has_claims_changed || news.vips || news.world.pools || !news.world.clusters.is_empty() {
            has_planned = self.make_plan(now).await;
        }
        let mut desired_changed = false;
        if has_planned
            || desired::is_outdated(&self.world, &self.desired, news.world.services.iter())
            || !news.world.accesses.is_empty()
        {
            let desired = desired::desired(&self.world, &self.plan);
            if desired != self.desired {
                self.desired = desired;
                desired_changed = true;
            }
        }
        self.publish(&news.world, desired_changed, news.nodes || is_first);
        if has_planned || desired_changed || is_first || self.has_pod_vips(&news.world) {
            self.publish_names(is_first);
        }
    }

    /// Claims anew what the touched accesses and services ask for; says whether any claim differs.
    fn update_claims(&mut self, touched: &Touched) -> bool {
        if !touched.accesses.is_empty() {
            self.update_hostname_conflicts();
        }
        let mut changed = false;
        for id in &touched.accesses {
            changed |= self.claim_access(id);
        }
        for service in &touched.services {
            for id in self.world.accesses_of(service) {
                if !touched.accesses.contains(&id) {
                    changed |= self.claim_service(&id, service);
                }
            }
        }
        if changed {
            self.claims = self.accesses.values().flat_map(|a| a.claims.values().flatten()).cloned().collect();
        }
        changed
    }

    fn claim_access(&mut self, id: &NamespacedName) -> bool {
        let before = self.accesses.remove(id).unwrap_or_default();
        let Some(access) = self.world.access(id) else { return !before.claims.is_empty() };
        let hostnames = self.own_hostnames(id);
        let mut state = AccessState::default();
        let services = self.world.services_of(access);
        if services.is_empty() {
            state.shortfalls.push(claims::no_service(access));
        }
        for service in services {
            let (found, shortfalls) = claims::claims_of(&self.world, access, &service, &hostnames);
            state.shortfalls.extend(shortfalls);
            state.claims.insert(service, found);
        }
        let changed = state.claims != before.claims;
        self.accesses.insert(id.clone(), state);
        changed
    }

    fn claim_service(&mut self, id: &NamespacedName, service: &NamespacedName) -> bool {
        let Some(access) = self.world.access(id) else { return false };
        let hostnames = self.own_hostnames(id);
        let (found, _) = claims::claims_of(&self.world, access, service, &hostnames);
        self.accesses.entry(id.clone()).or_default().claims.insert(service.clone(), found.clone()) != Some(found)
    }

    /// The access's host names, less those that another access has.
    fn own_hostnames(&self, id: &NamespacedName) -> Vec<Arc<str>> {
        let Some(access) = self.world.access(id) else { return Vec::new() };
        let lost = self.hostname_conflicts.get(id);
        let is_lost = |name: &Arc<str>| lost.is_some_and(|lost| lost.iter().any(|(other, _)| other == name));
        access.hostnames.iter().filter(|name| !is_lost(name)).cloned().collect()
    }

    fn update_hostname_conflicts(&mut self) {
        let owners = claims::hostname_owners(self.world.accesses().map(AsRef::as_ref));
        let mut conflicts: BTreeMap<NamespacedName, Vec<(Arc<str>, NamespacedName)>> = BTreeMap::new();
        for access in self.world.accesses() {
            for name in &access.hostnames {
                if let Some(owner) = owners.get(name).filter(|owner| **owner != access.id) {
                    conflicts.entry(access.id.clone()).or_default().push((name.clone(), owner.clone()));
                }
            }
        }
        // Whoever lost or won a name is claimed anew.
        let before = std::mem::replace(&mut self.hostname_conflicts, conflicts);
        let now = &self.hostname_conflicts;
        let differs: BTreeSet<NamespacedName> =
            before.keys().chain(now.keys()).filter(|id| before.get(*id) != now.get(*id)).cloned().collect();
        for id in differs {
            self.claim_access(&id);
        }
    }

    /// Plans, makes it durable, and lets it be what holds. Says whether it does.
    async fn make_plan(&mut self, now: Timestamp) -> bool {
        self.feedback.prune(REMEMBER_NODES_MS, now);
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
            self.deadline = Some(now + LEDGER_RETRY_MS);
            return false;
        }
        self.ledger_problem = None;
        self.deadline = [plan.next_deadline, self.feedback.next_deadline()].into_iter().flatten().min();
        let ledger = &self.ledger;
        self.feedback.retain_listeners(|name| ledger.has_listener(name));
        for report in self.agents.tell(&plan) {
            self.feedback.fold(report, now);
        }
        self.plan = plan;
        true
    }

    /// What it says that a VIP has no claim. Accesses are the primary's alone; their services may be in any cluster,
    /// so that while one cannot be read, a missing claim of an access that is there says nothing.
    fn claims_known<'a>(&self, accesses: &'a BTreeSet<NamespacedName>) -> ClaimsKnown<'a> {
        let is_read = |cluster: &ClusterState| matches!(cluster.sync, Sync::Synced);
        let primary = self.world.primary().and_then(|name| self.world.cluster(name));
        match (self.world.clusters().all(is_read), primary.is_some_and(is_read)) {
            (true, _) => ClaimsKnown::All,
            (false, true) => ClaimsKnown::OfAccesses(accesses),
            (false, false) => ClaimsKnown::Partly,
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

    /// Builds what the changes touch and gives each stream its snapshot.
    fn publish(&mut self, touched: &Touched, desired_changed: bool, nodes_changed: bool) {
        let of_service = &self.desired.of_service;
        let dirty: BTreeSet<Arc<str>> =
            touched.services.iter().filter_map(|service| of_service.get(service)).flatten().cloned().collect();
        let turn = Turn { world: &self.world, desired: &self.desired, desired_changed, dirty: &dirty };
        let changed = if desired_changed || !dirty.is_empty() { self.views.update(&turn) } else { Vec::new() };
        if desired_changed || nodes_changed {
            for (id, node) in self.nodes.iter_mut() {
                let Some(known) = self.feedback.node(id) else { continue };
                let attempts = self.feedback.attempts(id);
                let key = ViewKey::of(known, !attempts.is_empty(), &self.desired);
                node.send(&self.views.snapshot(&key, &attempts, &turn));
                node.view = Some(key);
            }
            let used: Vec<ViewKey> = self.nodes.iter_mut().filter_map(|(_, node)| node.view.clone()).collect();
            self.views.retain(|key| used.contains(key));
            return;
        }
        for (key, snapshot) in changed {
            for (_, node) in self.nodes.iter_mut().filter(|(_, node)| node.view.as_ref() == Some(&key)) {
                node.send(&snapshot);
            }
        }
    }

    /// Whether a touched service has VIPs of pods, whose names go by the pods' readiness.
    fn has_pod_vips(&self, touched: &Touched) -> bool {
        let backends = touched.services.iter().filter_map(|service| self.desired.of_service.get(service)).flatten();
        backends.filter_map(|name| self.desired.backends.get(name)).any(|backend| backend.pod.is_some())
    }

    fn publish_names(&mut self, is_first: bool) {
        let records = names::records(&self.world, &self.plan, &self.desired);
        let hostnames: Vec<Arc<str>> = self.world.accesses().flat_map(|access| access.hostnames.clone()).collect();
        if records == self.records && !is_first && hostnames == self.hostnames {
            return;
        }
        self.dns_serial = self.dns_serial.wrapping_add(1);
        let table = dns::Table::build_from(dns::TableInput {
            records: records.clone(),
            hostnames: hostnames.clone(),
            nameservers: self.outputs.nameservers.clone(),
            serial: self.dns_serial,
        });
        (self.records, self.hostnames) = (records, hostnames);
        self.outputs.dns.send_replace(Arc::new(table));
    }
}
