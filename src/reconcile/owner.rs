//! The owner's state and its turns.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::agents::Agents;
use super::claims::{self, Shortfall};
use super::desired;
use super::event::{AgentEvent, Declared, Event, PolicyEvent, Verdict};
use super::inventory::{Inventory, now};
use super::keeper::{self, Keeper, Objects};
use super::names;
use super::nodes::{self, Nodes};
use super::outward::Told;
use super::policies::Chosen;
use super::view::Problem;
use super::views::{Desired, Turn, ViewKey, Views};
use crate::ads;
use crate::dns;
use crate::feedback::{Feedback, Report};
use crate::kube::down;
use crate::kube::outbox::Outbox;
use crate::model::Timestamp;
use crate::model::id::{ClusterName, NamespacedName, NodeId};
use crate::model::object::{Change, Object, ObjectKind};
use crate::model::world::{Touched, World};
use crate::policy::{Failure, Policies};
use crate::snapshot::ResourceType;
use crate::store::NodeEvent;
use crate::vip::{self, Claim, Ledger, Phase, Plan};

mod planning;

/// Events that one turn takes at most, so that a flood of changes does not keep everybody else waiting.
const BATCH: usize = 512;
/// The longest sleep. Deadlines are told by the wall clock, and when that is set back, sleeping until they come by the
/// old one would delay them by as much.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What the operator chose.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The primary cluster, where the clusters themselves shall not decide.
    pub primary: Option<ClusterName>,
    /// Spans of a VIP's withdrawal.
    pub vip: vip::Settings,
    /// The ledger that the owner begins with is a copy of objects that an earlier run has seen.
    pub has_ledger_copy: bool,
}

/// Where the owner's results go.
pub struct Outputs {
    /// Where the VIP ledger is kept.
    pub keeper: Keeper,
    /// Pods and history.
    pub inventory: Inventory,
    /// What goes back to the primary's API server, where clusters are read from API servers.
    pub outbox: Option<Outbox>,
    /// What all clusters shall have of it, where they are API servers too.
    pub down: Option<down::Outbox>,
    /// What Policy objects say.
    pub declared: watch::Sender<Arc<Declared>>,
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
    /// Policies that came into force or went.
    policies: BTreeSet<Arc<str>>,
    /// What became of Policy objects.
    verdicts: bool,
}

impl News {
    fn merge(&mut self, later: News) {
        self.world.merge(later.world);
        self.vips |= later.vips;
        self.nodes |= later.nodes;
        self.policies.extend(later.policies);
        self.verdicts |= later.verdicts;
    }
}

/// The owner of the truth.
pub struct Owner {
    pub(super) world: World,
    pub(super) feedback: Feedback,
    pub(super) ledger: Ledger,
    pub(super) accesses: BTreeMap<NamespacedName, AccessState>,
    pub(super) hostname_conflicts: BTreeMap<NamespacedName, Vec<(Arc<str>, NamespacedName)>>,
    claims: Vec<Claim>,
    /// The plan's offers differ from those that the feedback was told of.
    offers_changed: bool,
    pub(super) plan: Plan,
    pub(super) desired: Desired,
    pub(super) views: Views,
    pub(super) policies: Policies,
    /// Policies that should be in force and cannot be, with the reason.
    pub(super) policies_broken: BTreeMap<Arc<str>, String>,
    /// What became of what Policy objects say.
    pub(super) judged: BTreeMap<Arc<str>, Verdict>,
    pub(super) chosen: Chosen,
    /// Accesses whose VIP policies failed when last asked.
    pub(super) vip_failures: BTreeMap<NamespacedName, Failure>,
    nodes: Nodes,
    agents: Agents,
    pub(super) source_problems: Vec<Problem>,
    pub(super) ledger_problem: Option<String>,
    /// Where the ledger's rows are objects.
    pub(super) objects: Objects,
    /// Names that DNS cannot answer.
    pub(super) names_rejected: Vec<dns::Rejected>,
    names: names::Names,
    hostnames: Vec<Arc<str>>,
    dns_serial: u32,
    /// Accesses of which there was a ClusterAccess since the process began.
    declared_once: BTreeSet<NamespacedName>,
    /// Clusters that were read completely since the process began.
    pub(super) read_once: BTreeSet<ClusterName>,
    pub(super) started_at: Timestamp,
    /// What happened and was not followed yet, because something is waited for.
    news: News,
    /// What the primary's API server was told.
    pub(super) told: Told,
    /// Everything was planned, durably, at least once.
    pub(super) started: bool,
    pub(super) deadline: Option<Timestamp>,
    settings: Settings,
    pub(super) outputs: Outputs,
}

impl Owner {
    /// Begins with what the ledger holds.
    pub fn new(ledger: Ledger, settings: Settings, policies: Policies, outputs: Outputs) -> Self {
        let started_at = now();
        let mut world = World::new();
        // Nothing is there yet that could be touched.
        let _ = world.set_primary(settings.primary.clone());
        Self {
            world,
            feedback: Feedback::new(started_at),
            ledger,
            accesses: BTreeMap::new(),
            hostname_conflicts: BTreeMap::new(),
            claims: Vec::new(),
            offers_changed: false,
            plan: Plan::default(),
            desired: Desired::default(),
            views: Views::default(),
            chosen: Chosen::new(&policies),
            policies,
            policies_broken: BTreeMap::new(),
            judged: BTreeMap::new(),
            vip_failures: BTreeMap::new(),
            nodes: Nodes::default(),
            agents: Agents::default(),
            source_problems: Vec::new(),
            ledger_problem: None,
            objects: Objects::new(settings.has_ledger_copy),
            names_rejected: Vec::new(),
            names: names::Names::default(),
            hostnames: Vec::new(),
            // Grows over restarts too, as long as there is not more than one change a second.
            dns_serial: u32::try_from((started_at / 1000).rem_euclid(1 << 32)).unwrap_or_default(),
            declared_once: BTreeSet::new(),
            read_once: BTreeSet::new(),
            started_at,
            news: News::default(),
            told: Told::default(),
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
            let pause = self.deadline.map(|at| {
                let ms = u64::try_from(at.saturating_sub(now())).unwrap_or(0);
                Duration::from_millis(ms).min(LONGEST_PAUSE)
            });
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                // Before events, of which there may always be more.
                outcome = keeper::finished(&mut self.objects) => {
                    self.committed(outcome, 0, now());
                    self.news.vips = true;
                }
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
                Event::VirtualIps(news_of_them) => {
                    self.virtual_ips(news_of_them);
                    news.vips = true;
                }
                Event::Policies(events) => {
                    for event in events {
                        self.policy(event, &mut news);
                    }
                }
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
        let (mut nodes, mut read) = (BTreeMap::new(), BTreeSet::new());
        for change in &changes {
            match change {
                Change::Synced { cluster } if !self.read_once.contains(cluster) => {
                    read.insert(cluster.clone());
                }
                Change::Forget { cluster } => {
                    self.read_once.remove(cluster);
                    read.remove(cluster);
                    nodes.retain(|(of, _), _| of != cluster);
                }
                Change::Apply { cluster, object } => match &**object {
                    Object::Node(node) => {
                        nodes.insert((cluster.clone(), node.name.clone()), Some(node.locality.clone()));
                    }
                    Object::Access(access) if !self.declared_once.contains(&access.id) => {
                        self.declared_once.insert(access.id.clone());
                    }
                    _ => {}
                },
                Change::Delete { cluster, key } if key.kind == ObjectKind::Node => {
                    nodes.insert((cluster.clone(), key.name.clone()), None);
                }
                Change::Synced { .. } | Change::Delete { .. } | Change::Unknown { .. } => {}
            }
        }
        let mut touched = self.world.apply(changes, now);
        let inventory = &self.outputs.inventory;
        // Pods first: that a cluster is forgotten is told among them, and holds for its nodes.
        inventory.pods(std::mem::take(&mut touched.pods));
        inventory.kube_nodes(nodes);
        for cluster in read {
            // Whatever was not told until now went away while nobody looked.
            inventory.prune(cluster.clone(), self.started_at);
            self.read_once.insert(cluster);
        }
        news.world.merge(touched);
    }

    fn ads(&mut self, event: ads::Event, news: &mut News, now: Timestamp) {
        let report = match event {
            ads::Event::Connected { stream, node, protocol, service, peer, reply } => {
                let facts = match nodes::identify(&node, protocol) {
                    Ok(facts) => facts,
                    Err(message) => {
                        tracing::warn!(peer, message, "a node is refused");
                        let _ = reply.send(Err(ads::Refusal { message }));
                        return;
                    }
                };
                // Of single types a node has many streams, one for each cluster's endpoints; the first tells that it came.
                if service.is_aggregated() || !self.nodes.has(&facts.id) {
                    let text = format!("{} {service} from {peer}, {}", protocol.label(), facts.version);
                    self.history(&facts.id, "Connected", text, now);
                }
                let snapshots = self.nodes.connect(stream.0, &facts.id);
                if reply.send(Ok(snapshots)).is_err() {
                    self.nodes.disconnect(stream.0);
                    return;
                }
                (news.nodes, news.vips) = (true, true);
                Report::NodeConnected { node: facts, stream: stream.0, scope: nodes::scope(service) }
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

    /// Puts a policy in force or takes it away, or notes what became of one.
    fn policy(&mut self, event: PolicyEvent, news: &mut News) {
        let name = match event {
            PolicyEvent::Put(policy) => {
                tracing::info!(policy = %policy.name, digest = %policy.component.digest(), "a policy is in force");
                let name = policy.name.clone();
                self.policies_broken.remove(&name);
                self.policies.put(*policy);
                name
            }
            PolicyEvent::Broken { name, message } => {
                tracing::error!(policy = %name, "a policy is not in force: {message}");
                self.policies_broken.insert(name.clone(), message);
                name
            }
            PolicyEvent::Remove(name) => {
                self.policies_broken.remove(&name);
                tracing::info!(policy = %name, "a policy is taken away");
                if let Err(error) = self.policies.remove(&name) {
                    tracing::error!(%error, "a built-in policy does not come back");
                }
                name
            }
            PolicyEvent::Judged(verdict) => {
                let name = &verdict.spec.name;
                // It is tried again now and then.
                if self.judged.get(name) == Some(&*verdict) {
                    return;
                }
                if let Err(fault) = &verdict.outcome {
                    tracing::warn!(policy = %name, reason = fault.reason, "a Policy object is not in force: {fault}");
                }
                self.judged.insert(name.clone(), *verdict);
                news.verdicts = true;
                return;
            }
        };
        news.policies.insert(name);
    }

    fn fold(&mut self, report: Report, news: &mut News, now: Timestamp) {
        let touched = self.feedback.fold(report, now);
        news.vips |= !touched.is_empty();
        // What a node says of its listeners changes what is proved, but not what it is served: attempts begin in a tick.
        news.nodes |= !touched.nodes.is_empty();
    }

    fn history(&self, node: &NodeId, event: &str, detail: String, at: Timestamp) {
        self.outputs.inventory.event(NodeEvent { node: node.clone(), at, event: event.to_owned(), detail });
    }

    /// Brings everything up to date with the news.
    async fn follow(&mut self, later: News, now: Timestamp) {
        if later.world.policies || !later.world.clusters.is_empty() {
            self.tell_declared();
        }
        self.news.merge(later);
        let is_first = !self.started;
        // Only the start waits for every source. A cluster that appears later adds what it has as it is read.
        if is_first && !(self.world.ready() && self.knows_ledger()) {
            self.deadline = None;
            return;
        }
        if let Some(until) = self.waits_for_policies(now).filter(|_| is_first) {
            self.deadline = Some(until);
            return;
        }
        let mut news = std::mem::take(&mut self.news);
        if is_first {
            news.world.accesses.extend(self.world.accesses().map(|access| access.id.clone()));
            (news.vips, news.nodes) = (true, true);
        }
        let has_choices_changed = self.choose_policies(&news);
        news.vips |= has_choices_changed;
        let has_claims_changed = self.update_claims(&news.world);
        let mut has_planned = false;
        if has_claims_changed || news.vips || news.world.pools || !news.world.clusters.is_empty() {
            let durable = self.make_plan(now).await;
            if is_first && !self.may_begin(durable) {
                return;
            }
            has_planned = true;
        }
        self.started = true;
        let mut desired_changed = false;
        if has_planned
            || desired::is_outdated(&self.world, &self.desired, news.world.services.iter())
            || !news.world.accesses.is_empty()
        {
            let desired = desired::desired(&self.world, &self.plan, &self.chosen, &self.desired);
            if desired != self.desired {
                self.desired = desired;
                desired_changed = true;
            }
        }
        self.publish(&news, desired_changed, is_first, now);
        self.views.end_turn();
        self.note_offers(now);
        let concerns_names = has_planned || desired_changed || !news.world.accesses.is_empty();
        if concerns_names || is_first || self.has_pod_names(&news.world) {
            self.publish_names(is_first);
        }
        let has_failures_changed = self.views.take_failures_changed();
        let has_policies_changed = news.verdicts || news.world.policies || !news.policies.is_empty();
        self.tell_outward(&news.world, has_planned || is_first || has_failures_changed, has_policies_changed);
    }

    /// Finds out which policies accesses have; says whether that differs for any.
    fn choose_policies(&mut self, news: &News) -> bool {
        if news.policies.is_empty() {
            let Self { world, chosen, policies, .. } = self;
            let update = |id| chosen.update(id, world.access(id).map(AsRef::as_ref), policies);
            return news.world.accesses.iter().map(update).fold(false, |any, differs| any | differs);
        }
        self.chosen.renew_defaults(&self.policies);
        let ids: Vec<NamespacedName> = self.world.accesses().map(|access| access.id.clone()).collect();
        let Self { world, chosen, policies, .. } = self;
        let update = |id: &NamespacedName| chosen.update(id, world.access(id).map(AsRef::as_ref), policies);
        ids.iter().chain(&news.world.accesses).map(update).fold(false, |any, differs| any | differs)
    }

    /// Claims anew what the touched accesses and services ask for; says whether any claim differs.
    fn update_claims(&mut self, touched: &Touched) -> bool {
        let mut changed = !touched.accesses.is_empty() && self.update_hostname_conflicts();
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
        let claims = &mut self.accesses.entry(id.clone()).or_default().claims;
        if found.is_empty() && !claims.contains_key(service) {
            // The access names a service that has slices, but is none.
            return false;
        }
        claims.insert(service.clone(), found.clone()) != Some(found)
    }

    /// The access's host names, less those that another access has.
    fn own_hostnames(&self, id: &NamespacedName) -> Vec<Arc<str>> {
        let Some(access) = self.world.access(id) else { return Vec::new() };
        let lost = self.hostname_conflicts.get(id);
        let is_lost = |name: &Arc<str>| lost.is_some_and(|lost| lost.iter().any(|(other, _)| other == name));
        access.hostnames.iter().filter(|name| !is_lost(name)).cloned().collect()
    }

    /// Finds anew who has which host name; says whether any claim differs for it.
    fn update_hostname_conflicts(&mut self) -> bool {
        let held = self.ledger.rows().filter(|row| row.phase == Phase::Held);
        let holders: BTreeSet<(&Arc<str>, &NamespacedName)> =
            held.flat_map(|row| row.hostnames.iter().map(|name| (name, &row.slot.access))).collect();
        let owners = claims::hostname_owners(self.world.accesses().map(AsRef::as_ref), &holders);
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
        differs.iter().fold(false, |changed, id| self.claim_access(id) | changed)
    }

    /// Builds what the changes touch and gives each stream its snapshot.
    fn publish(&mut self, news: &News, desired_changed: bool, is_first: bool, now: Timestamp) {
        let nodes_changed = news.nodes || is_first;
        let of_service = &self.desired.of_service;
        let touched = news.world.services.iter().filter_map(|service| of_service.get(service)).flatten();
        // An access may have chosen the same of a policy that is another one by now.
        let decided_anew =
            self.desired.backends.values().filter(|backend| news.policies.contains(&backend.policy.policy));
        let decided_anew = (!news.policies.is_empty()).then_some(decided_anew).into_iter().flatten();
        let dirty: BTreeSet<Arc<str>> = touched.chain(decided_anew.map(|backend| &backend.name)).cloned().collect();
        let turn = Turn {
            world: &self.world,
            desired: &self.desired,
            desired_changed,
            dirty: &dirty,
            policies: &self.policies,
            now,
        };
        let changed = if desired_changed || !dirty.is_empty() { self.views.update(&turn) } else { HashMap::new() };
        if desired_changed || nodes_changed {
            for (id, node) in self.nodes.iter_mut() {
                let Some(known) = self.feedback.node(id) else { continue };
                let mut attempts = self.feedback.attempts(id);
                // Those of listeners that are not there any more would keep the node in a view of its own.
                attempts.retain(|name, _| self.desired.listeners.contains_key(name));
                let key = ViewKey::of(known, !attempts.is_empty(), &self.desired);
                node.send(&self.views.snapshot(&key, &attempts, &turn));
                node.view = Some(key);
            }
            let used: HashSet<ViewKey> = self.nodes.iter_mut().filter_map(|(_, node)| node.view.clone()).collect();
            self.views.retain(|key| used.contains(key));
            self.policies.retain(|subject| self.desired.backends.contains_key(&subject.backend));
            return;
        }
        if changed.is_empty() {
            return;
        }
        for (_, node) in self.nodes.iter_mut() {
            if let Some(snapshot) = node.view.as_ref().and_then(|view| changed.get(view)) {
                node.send(snapshot);
            }
        }
    }

    /// Whether a touched service has names that go by its pods' readiness: VIPs of pods, or none at all.
    fn has_pod_names(&self, touched: &Touched) -> bool {
        if touched.services.iter().any(|service| self.world.is_headless_import(service)) {
            return true;
        }
        let backends = touched.services.iter().filter_map(|service| self.desired.of_service.get(service)).flatten();
        backends.filter_map(|name| self.desired.backends.get(name)).any(|backend| backend.pod.is_some())
    }

    fn publish_names(&mut self, is_first: bool) {
        let names = names::names(&self.world, &self.plan, &self.desired);
        let hostnames: Vec<Arc<str>> = self.world.accesses().flat_map(|access| access.hostnames.clone()).collect();
        if names == self.names && !is_first && hostnames == self.hostnames {
            return;
        }
        self.dns_serial = self.dns_serial.wrapping_add(1);
        let table = dns::Table::build_from(dns::TableInput {
            records: names.records.clone(),
            hosts: names.hosts.clone(),
            hostnames: hostnames.clone(),
            nameservers: self.outputs.nameservers.clone(),
            serial: self.dns_serial,
        });
        self.names_rejected = table.rejected().to_vec();
        (self.names, self.hostnames) = (names, hostnames);
        self.outputs.dns.send_replace(Arc::new(table));
    }
}
