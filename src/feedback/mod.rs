//! Folds the data plane's reports into what is known of each node and listener. Pure.
//!
//! ```text
//!  NodeConnected, Acked, Rejected, NodeGone ──▶ streams ─┐
//!                                                        ├─▶ evidence, rejection, holding (NodeRef)
//!  AgentConnected, AgentListeners, AgentGone ──▶ agents ─┘        ▲
//!                             time ──▶ tick ──▶ attempts ─────────┘ (what is offered anew)
//! ```
//!
//! Evidence is asked for twice with opposite caution: a VIP is published only where it is *certain*
//! that a gateway has it ([`NodeRef::evidence`], the weakest of what is said), and its address is
//! given away only where it is certain that *none* has it ([`NodeRef::holding`], the most that is
//! said). Nothing here is durable: after a restart all of it is told again.

mod node;
mod report;
mod retry;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use crate::model::Timestamp;
use crate::model::id::NodeId;
use crate::model::object::AddressRange;
use crate::model::slot::Slot;

pub use node::{Evidence, Holding, NodeRef, Rejection};
pub use report::{AgentListener, AgentListenerState, NameVersion, NodeFacts, ProbeOutcome, Protocol, Report, Scope};

use node::{Accepted, Agent, AgentReport, Node, Seen, Session};

/// What a report or the passing of time changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// Nodes that connected, went, or of whose agents something changed.
    pub nodes: BTreeSet<NodeId>,
    /// Listeners of which something is known that was not.
    pub listeners: BTreeSet<Arc<str>>,
}

impl Touched {
    /// Nothing changed.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty() && self.listeners.is_empty()
    }

    /// Takes the other's in.
    pub fn merge(&mut self, other: Touched) {
        self.nodes.extend(other.nodes);
        self.listeners.extend(other.listeners);
    }

    fn node(&mut self, node: &NodeId) {
        self.nodes.insert(node.clone());
    }
}

/// What the data plane has told since this process began.
#[derive(Clone, Debug)]
pub struct Feedback {
    started_at: Timestamp,
    /// Counts reports, so that "before" and "after" do not depend on a clock's resolution.
    seq: u64,
    nodes: BTreeMap<NodeId, Node>,
    agents: BTreeMap<NodeId, Agent>,
}

impl Feedback {
    /// Knows nothing. Nodes may be running of which it has not heard yet, so `started_at` counts as
    /// the moment at which every unknown node went.
    pub fn new(started_at: Timestamp) -> Self {
        Self { started_at, seq: 0, nodes: BTreeMap::new(), agents: BTreeMap::new() }
    }

    /// When this memory began.
    pub fn started_at(&self) -> Timestamp {
        self.started_at
    }

    /// Takes in a report. What it repeats touches nothing.
    pub fn fold(&mut self, report: Report, now: Timestamp) -> Touched {
        self.seq += 1;
        match report {
            Report::NodeConnected { node, stream, scope } => self.node_connected(node, stream, scope, now),
            Report::Acked { node, stream, listeners, removed } => self.acked(&node, stream, listeners, removed),
            Report::Rejected { node, stream, listeners, unknown, detail } => {
                self.rejected(&node, stream, listeners, unknown, &detail, now)
            }
            Report::NodeGone { node, stream } => self.node_gone(&node, stream, now),
            Report::AgentConnected { node, stream, ranges } => self.agent_connected(node, stream, ranges, now),
            Report::AgentListeners { node, stream, listeners, envoy_up } => {
                self.agent_listeners(&node, stream, listeners, envoy_up, now)
            }
            Report::AgentGone { node, stream } => self.agent_gone(&node, stream, now),
            Report::Assigned { node, slot, address } => self.assigned(&node, slot, address),
            Report::AssignFailed { node, slot, reason } => self.assign_failed(&node, slot, reason),
            Report::Released { node, slot, address } => self.released(&node, &slot, address),
            Report::Probed { node, listener, outcome } => self.probed(&node, listener, &outcome),
        }
    }

    /// Begins the attempts whose time has come.
    pub fn tick(&mut self, now: Timestamp) -> Touched {
        let mut touched = Touched::default();
        for (id, node) in self.nodes.iter_mut().filter(|(_, node)| !node.sessions.is_empty()) {
            for (name, retry) in &mut node.retries {
                if retry.tick(now) {
                    touched.node(id);
                    touched.listeners.insert(name.clone());
                }
            }
        }
        touched
    }

    /// When [`Feedback::tick`] has something to do next.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        let live = self.nodes.values().filter(|node| !node.sessions.is_empty());
        live.flat_map(|node| node.retries.values()).filter_map(|retry| retry.due()).min()
    }

    /// Forgets nodes that went more than `age_ms` ago. Choose it longer than the planner's
    /// `grace_ms` and `forget_ms`.
    pub fn prune(&mut self, age_ms: i64, now: Timestamp) -> Touched {
        let mut touched = Touched::default();
        self.nodes.retain(|id, node| {
            let is_here = !node.sessions.is_empty() || !node.others.is_empty();
            let keep = is_here || now.saturating_sub(node.since) <= age_ms;
            if !keep {
                touched.node(id);
            }
            keep
        });
        touched
    }

    /// Forgets refusals, attempts and removals of listeners that will not come back. To be called
    /// after VIPs or ports were taken out of the ledger; what a node still has is kept.
    pub fn retain_listeners(&mut self, keep: impl Fn(&str) -> bool) {
        for node in self.nodes.values_mut() {
            for session in &mut node.sessions {
                session.listeners.retain(|name, seen| seen.accepted.is_some() || keep(name));
            }
            let Node { sessions, retries, .. } = node;
            for (name, retry) in retries {
                if !keep(name) && !sessions.iter().any(|s| s.listeners.contains_key(name)) {
                    retry.set_aside();
                }
            }
        }
    }

    /// Takes note of what is offered from now on. What a node has and is not offered any more is
    /// being removed from it, so it proves nothing from this moment, not only from the ACK of its
    /// removal. Should it be offered again before, then as a further attempt, so that a new ACK has
    /// to come. To be called whenever a plan's offers differ from the last, once they are published.
    pub fn offered(&mut self, is_offered: impl Fn(NodeRef<'_>, &str) -> bool) -> Touched {
        let mut touched = Touched::default();
        let Self { nodes, agents, .. } = self;
        for (id, node) in nodes.iter_mut().filter(|(_, node)| !node.sessions.is_empty()) {
            let has = |seen: &Seen| seen.accepted.is_some() && !seen.withdrawn;
            let sessions = node.sessions.iter().flat_map(|session| &session.listeners);
            let handle = NodeRef { node, agent: agents.get(id) };
            let gone: BTreeSet<Arc<str>> = sessions
                .filter(|(name, seen)| has(seen) && !is_offered(handle, name))
                .map(|(name, _)| name.clone())
                .collect();
            for name in gone {
                for session in &mut node.sessions {
                    if let Some(seen) = session.listeners.get_mut(&name) {
                        seen.withdrawn = seen.accepted.is_some();
                    }
                }
                node.retries.entry(name.clone()).or_default().withdrawn();
                touched.listeners.insert(name);
            }
        }
        touched
    }

    /// What is known of a node.
    pub fn node(&self, id: &NodeId) -> Option<NodeRef<'_>> {
        self.nodes.get(id).map(|node| NodeRef { node, agent: self.agents.get(id) })
    }

    /// All nodes, connected or gone, by id.
    pub fn nodes(&self) -> impl Iterator<Item = NodeRef<'_>> {
        self.nodes.iter().map(|(id, node)| NodeRef { node, agent: self.agents.get(id) })
    }

    /// How often each listener was offered to the node anew after an error; those that never were
    /// are left out. The number goes into the listener that this node is sent.
    pub fn attempts(&self, id: &NodeId) -> BTreeMap<Arc<str>, u32> {
        let retries = self.nodes.get(id).into_iter().flat_map(|node| &node.retries);
        retries.filter(|(_, retry)| retry.attempt > 0).map(|(name, retry)| (name.clone(), retry.attempt)).collect()
    }

    fn node_connected(&mut self, facts: NodeFacts, stream: u64, scope: Scope, now: Timestamp) -> Touched {
        let mut touched = Touched::default();
        touched.node(&facts.id);
        let (protocol, seq) = (facts.protocol, self.seq);
        let session = Session { stream, scope, protocol, connected_at: now, seq, listeners: BTreeMap::new() };
        let node = self.nodes.entry(facts.id.clone()).or_insert_with(|| Node {
            facts: facts.clone(),
            sessions: Vec::new(),
            others: BTreeSet::new(),
            own_ended: None,
            since: now,
            held_before: BTreeSet::new(),
            retries: BTreeMap::new(),
        });
        node.facts = facts;
        // A stream's id that comes again is a stream that begins again.
        node.end_session(stream, now);
        if scope == Scope::Others {
            node.others.insert(stream);
            return touched;
        }
        if node.sessions.is_empty() {
            node.since = now;
            node.retries.retain(|_, retry| !retry.is_set_aside());
        }
        // What was refused on the stream of listeners still is when another begins beside it.
        if scope == Scope::Listeners || !node.has_own() {
            for retry in node.retries.values_mut() {
                retry.reconnected();
            }
        }
        node.sessions.push(session);
        touched
    }

    fn node_gone(&mut self, id: &NodeId, stream: u64, now: Timestamp) -> Touched {
        let mut touched = Touched::default();
        if let Some(node) = self.nodes.get_mut(id)
            && node.end_session(stream, now)
        {
            if node.sessions.is_empty() {
                node.since = now;
            }
            touched.node(id);
        }
        touched
    }

    fn acked(&mut self, id: &NodeId, stream: u64, listeners: Vec<NameVersion>, mut removed: Vec<Arc<str>>) -> Touched {
        let mut touched = Touched::default();
        let seq = self.seq;
        let Some((node, index)) = self.nodes.get_mut(id).and_then(|node| node.with_session(stream)) else {
            return touched;
        };
        if node.sessions[index].protocol == Protocol::Sotw {
            let told: BTreeSet<&str> = listeners.iter().map(|(name, _)| &**name).collect();
            let session = &node.sessions[index].listeners;
            let had = session.iter().filter(|(_, s)| s.accepted.is_some() || s.unknown.is_some()).map(|(name, _)| name);
            let gone = had.chain(&node.held_before).filter(|name| !told.contains(&***name));
            removed.extend(gone.cloned().collect::<Vec<_>>());
        }
        for (name, version) in listeners {
            node.accept(index, &name, version, seq, &mut touched);
        }
        for name in removed {
            let seen = node.sessions[index].listeners.entry(name.clone()).or_default();
            if !seen.removed || seen.accepted.is_some() {
                touched.listeners.insert(name.clone());
            }
            *seen = Seen { removed: true, ..Seen::default() };
            node.held_before.remove(&name);
            if let Some(retry) = node.retries.get_mut(&name) {
                retry.set_aside();
            }
        }
        touched
    }

    fn rejected(
        &mut self,
        id: &NodeId,
        stream: u64,
        listeners: Vec<NameVersion>,
        unknown: Vec<NameVersion>,
        detail: &Arc<str>,
        now: Timestamp,
    ) -> Touched {
        let mut touched = Touched::default();
        let Some((node, index)) = self.nodes.get_mut(id).and_then(|node| node.with_session(stream)) else {
            return touched;
        };
        for (name, version) in listeners {
            let seen = node.sessions[index].listeners.entry(name.clone()).or_default();
            let news = seen.rejection.as_ref().is_none_or(|r| r.version != version);
            if news {
                seen.rejection = Some(Rejection { detail: detail.clone(), at: now, version });
                seen.removed = false;
                node.retries.entry(name.clone()).or_default().failed(now);
            }
            node.sessions[index].listeners.entry(name.clone()).or_default().unknown = None;
            touched.listeners.insert(name);
        }
        for (name, version) in unknown {
            let seen = node.sessions[index].listeners.entry(name.clone()).or_default();
            if seen.accepted.as_ref().is_none_or(|accepted| accepted.version != version) {
                seen.unknown = Some(now);
                seen.removed = false;
                touched.listeners.insert(name);
            }
        }
        touched
    }

    fn agent_connected(&mut self, id: NodeId, stream: u64, ranges: Vec<AddressRange>, now: Timestamp) -> Touched {
        let mut touched = Touched::default();
        touched.node(&id);
        // What its predecessor found of addresses holds no more.
        for retry in self.nodes.get_mut(&id).into_iter().flat_map(|node| node.retries.values_mut()) {
            retry.agent_gone(now);
        }
        let (assigned, failed) = (BTreeMap::new(), BTreeMap::new());
        self.agents.insert(id, Agent { stream, ranges, report: None, assigned, failed });
        touched
    }

    fn agent_gone(&mut self, id: &NodeId, stream: u64, now: Timestamp) -> Touched {
        let mut touched = Touched::default();
        if self.agents.get(id).is_none_or(|agent| agent.stream != stream) {
            return touched;
        }
        self.agents.remove(id);
        if let Some(node) = self.nodes.get_mut(id) {
            for retry in node.retries.values_mut() {
                retry.agent_gone(now);
            }
        }
        touched.node(id);
        touched
    }

    fn agent_listeners(
        &mut self,
        id: &NodeId,
        stream: u64,
        listeners: Vec<AgentListener>,
        envoy_up: bool,
        now: Timestamp,
    ) -> Touched {
        let mut touched = Touched::default();
        let Some(agent) = self.agents.get_mut(id).filter(|agent| agent.stream == stream) else {
            return touched;
        };
        let report = AgentReport { seq: self.seq, envoy_up, listeners: strongest_by_name(listeners) };
        let node = self.nodes.get_mut(id);
        match &agent.report {
            Some(last) if last.envoy_up == envoy_up => {
                // The first report of a stream's life makes the agent's word count for it.
                if node.as_ref().is_some_and(|node| node.sessions.iter().any(|s| s.seq > last.seq)) {
                    touched.node(id);
                }
                let names = last.listeners.keys().chain(report.listeners.keys());
                touched
                    .listeners
                    .extend(names.filter(|name| last.listeners.get(*name) != report.listeners.get(*name)).cloned());
                // The same words, but now said after a binding that they could not speak of before.
                let sessions = node.as_ref().into_iter().flat_map(|node| &node.sessions);
                let bound = sessions.flat_map(|session| &session.listeners).filter_map(|(name, seen)| {
                    seen.accepted.as_ref().is_some_and(|accepted| accepted.bound_seq > last.seq).then_some(name)
                });
                touched.listeners.extend(bound.cloned());
            }
            _ => touched.node(id),
        }
        if let Some(node) = node {
            node.compare(&report, now, &mut touched);
        }
        agent.report = Some(report);
        touched
    }

    fn assigned(&mut self, id: &NodeId, slot: Slot, address: IpAddr) -> Touched {
        let mut touched = Touched::default();
        let seq = self.seq;
        if let Some(agent) = self.agents.get_mut(id) {
            agent.failed.remove(&slot);
            if agent.assigned.get(&slot).is_none_or(|&(_, known)| known != address) {
                agent.assigned.insert(slot, (seq, address));
                touched.node(id);
            }
        }
        touched
    }

    fn assign_failed(&mut self, id: &NodeId, slot: Slot, reason: Arc<str>) -> Touched {
        let mut touched = Touched::default();
        if let Some(agent) = self.agents.get_mut(id)
            && agent.failed.insert(slot, reason.clone()).is_none_or(|known| known != reason)
        {
            touched.node(id);
        }
        touched
    }

    fn released(&mut self, id: &NodeId, slot: &Slot, address: IpAddr) -> Touched {
        let mut touched = Touched::default();
        if let Some(agent) = self.agents.get_mut(id)
            && agent.assigned.get(slot).is_some_and(|&(_, known)| known == address)
        {
            agent.assigned.remove(slot);
            touched.node(id);
        }
        touched
    }

    fn probed(&mut self, id: &NodeId, listener: Arc<str>, outcome: &ProbeOutcome) -> Touched {
        let mut touched = Touched::default();
        let sessions = self.nodes.get_mut(id).map(|node| &mut node.sessions);
        for seen in sessions.into_iter().flatten().filter_map(|s| s.listeners.get_mut(&listener)) {
            let reached = *outcome == ProbeOutcome::Reached;
            if seen.probed != reached {
                seen.probed = reached;
                touched.listeners.insert(listener.clone());
            }
        }
        touched
    }
}

impl Node {
    fn with_session(&mut self, stream: u64) -> Option<(&mut Self, usize)> {
        let index = self.sessions.iter().position(|s| s.stream == stream)?;
        Some((self, index))
    }

    /// Ends a stream that can tell of listeners, and remembers what the node may still have from it.
    fn end_session(&mut self, stream: u64, now: Timestamp) -> bool {
        if self.others.remove(&stream) {
            return false;
        }
        let Some(index) = self.sessions.iter().position(|s| s.stream == stream) else {
            return false;
        };
        let ended = self.sessions.remove(index);
        if ended.scope == Scope::Listeners && !self.has_own() {
            self.own_ended = Some(now);
        }
        let had = ended.listeners.into_iter().filter(|(_, s)| s.accepted.is_some() || s.unknown.is_some());
        self.held_before.extend(had.map(|(name, _)| name));
        true
    }

    fn accept(&mut self, index: usize, name: &Arc<str>, version: Arc<str>, seq: u64, touched: &mut Touched) {
        let seen = self.sessions[index].listeners.entry(name.clone()).or_default();
        // After a refusal a SotW stream acknowledges the earlier version again with its siblings:
        // that says nothing new of the version that was refused.
        let again = seen.accepted.as_ref().is_some_and(|accepted| accepted.version == version);
        if again {
            if seen.unknown.take().is_some() || seen.rejection.take_if(|r| r.version == version).is_some() {
                touched.listeners.insert(name.clone());
            }
        } else {
            let bound = seen.accepted.as_ref().filter(|_| seen.refuted.is_none());
            let bound_seq = bound.map_or(seq, |accepted| accepted.bound_seq);
            *seen = Seen { accepted: Some(Accepted { version, bound_seq }), probed: seen.probed, ..Seen::default() };
            touched.listeners.insert(name.clone());
        }
        let sound = seen.rejection.is_none() && seen.refuted.is_none();
        self.held_before.remove(name);
        if sound && let Some(retry) = self.retries.get_mut(name) {
            retry.succeeded();
        }
    }

    /// Holds what was acknowledged against what the agent sees: `listen()` may fail after the ACK,
    /// and Envoy then drops the listener without a word (XDS.md, "VIP evidence").
    fn compare(&mut self, report: &AgentReport, now: Timestamp, touched: &mut Touched) {
        let Self { sessions, retries, .. } = self;
        for session in sessions.iter_mut().filter(|_| report.envoy_up) {
            for (name, seen) in &mut session.listeners {
                let Some(accepted) = &seen.accepted else { continue };
                let told = report.listeners.get(name);
                match told.map(|l| l.state) {
                    Some(AgentListenerState::Active) if seen.refuted.take().is_some() => {
                        touched.listeners.insert(name.clone());
                        if seen.rejection.is_none()
                            && let Some(retry) = retries.get_mut(name)
                        {
                            retry.succeeded();
                        }
                    }
                    Some(AgentListenerState::Failed) | None if seen.refuted.is_none() => {
                        let detail = match told.map(|l| &l.error).filter(|error| !error.is_empty()) {
                            Some(error) => error.clone(),
                            None => Arc::from("acknowledged, but the agent does not find it among Envoy's listeners"),
                        };
                        seen.refuted = Some(Rejection { detail, at: now, version: accepted.version.clone() });
                        seen.probed = false;
                        retries.entry(name.clone()).or_default().failed(now);
                        touched.listeners.insert(name.clone());
                    }
                    _ => {}
                }
            }
        }
        for (name, listener) in &report.listeners {
            if let (Some(bindable), Some(retry)) = (listener.bindable, retries.get_mut(name)) {
                retry.bindable(bindable, now);
            }
        }
    }
}

/// Envoy lists a listener twice while an old version of it drains; the stronger entry counts. The
/// error and whether the address can be bound are kept from either.
fn strongest_by_name(listeners: Vec<AgentListener>) -> BTreeMap<Arc<str>, AgentListener> {
    let mut by_name: BTreeMap<Arc<str>, AgentListener> = BTreeMap::new();
    for listener in listeners {
        match by_name.get_mut(&listener.name) {
            None => {
                by_name.insert(listener.name.clone(), listener);
            }
            Some(known) => {
                known.state = known.state.max(listener.state);
                known.bindable = known.bindable.or(listener.bindable);
                if known.error.is_empty() {
                    known.error = listener.error;
                }
            }
        }
    }
    by_name
}
