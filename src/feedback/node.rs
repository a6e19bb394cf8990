//! What is known of one Envoy: its streams, and the agent beside it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::Timestamp;
use crate::model::object::AddressRange;
use crate::model::slot::Slot;

use super::report::{AgentListener, AgentListenerState, NodeFacts, Protocol, Scope};
use super::retry::Retry;

/// How well it is proved that a listener is bound on a node, weakest first (XDS.md, "VIP evidence").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Evidence {
    /// Nothing says so.
    #[default]
    None,
    /// It was sent.
    Offered,
    /// Envoy acknowledged it, and it binds before it acknowledges.
    Acked,
    /// The agent sees it active.
    Active,
    /// A connection reached it.
    Probed,
}

impl Evidence {
    /// As people are shown it.
    pub fn as_str(self) -> &'static str {
        match self {
            Evidence::None => "none",
            Evidence::Offered => "offered",
            Evidence::Acked => "acked",
            Evidence::Active => "active",
            Evidence::Probed => "probed",
        }
    }
}

/// A version of a listener that a node does not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Envoy's words, or what the agent found.
    pub detail: Arc<str>,
    /// When it was refused.
    pub at: Timestamp,
    /// Which version.
    pub version: Arc<str>,
}

/// Whether a node may still have a listener, asked before its address is given to someone else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holding {
    /// Nothing was heard of it. It may have been sent all the same, its ACK being under way.
    Unheard,
    /// The node acknowledged that it is gone.
    Removed,
    /// The node had it on a stream that ended, or it was in a batch that was refused; since then
    /// nothing was heard of it.
    Unsure {
        /// Since when.
        since: Timestamp,
    },
    /// It has it.
    Held,
}

/// A listener as one stream knows it.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub(super) accepted: Option<Accepted>,
    /// The agent found that what was accepted does not listen. Kept when the agent goes.
    pub(super) refuted: Option<Rejection>,
    pub(super) rejection: Option<Rejection>,
    /// In a refused batch without being named by the error, since then.
    pub(super) unknown: Option<Timestamp>,
    pub(super) removed: bool,
    /// It is not offered any more: its removal may be under way.
    pub(super) withdrawn: bool,
    pub(super) probed: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Accepted {
    pub(super) version: Arc<str>,
    /// When it was bound, counted in reports: older than the version where an update was accepted.
    pub(super) bound_seq: u64,
}

impl Seen {
    fn evidence(&self) -> Evidence {
        if self.withdrawn {
            Evidence::None
        } else if self.refuted.is_some() {
            Evidence::Offered
        } else if self.accepted.is_some() {
            Evidence::Acked
        } else if self.rejection.is_some() || self.unknown.is_some() {
            Evidence::Offered
        } else {
            Evidence::None
        }
    }
}

/// One stream of a node.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) stream: u64,
    pub(super) scope: Scope,
    pub(super) protocol: Protocol,
    pub(super) connected_at: Timestamp,
    pub(super) seq: u64,
    pub(super) listeners: BTreeMap<Arc<str>, Seen>,
}

/// What is known of an Envoy.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) facts: NodeFacts,
    /// Its open streams that can tell of listeners. Usually one; two while a new one has begun before the end of the
    /// old one is noticed, during a hot restart, or where two Envoys use one id.
    pub(super) sessions: Vec<Session>,
    /// Its other open streams, of single types: they prove nothing and contradict nothing.
    pub(super) others: BTreeSet<u64>,
    /// When its last stream of listeners alone ended: an aggregated one that stays says nothing of them.
    pub(super) own_ended: Option<Timestamp>,
    /// When it connected (from nothing) or went.
    pub(super) since: Timestamp,
    /// Listeners of streams that ended, which it may still have.
    pub(super) held_before: BTreeSet<Arc<str>>,
    pub(super) retries: BTreeMap<Arc<str>, Retry>,
}

impl Node {
    /// The streams whose word on listeners counts. Where the node takes them from a stream of their own, an aggregated
    /// one beside it is there for other types, and its silence says nothing.
    pub(super) fn telling(&self) -> impl DoubleEndedIterator<Item = &Session> {
        let apart = self.has_own();
        self.sessions.iter().filter(move |s| !apart || s.scope == Scope::Listeners || !s.listeners.is_empty())
    }

    /// Whether the node takes its listeners from a stream of their own.
    pub(super) fn has_own(&self) -> bool {
        self.sessions.iter().any(|session| session.scope == Scope::Listeners)
    }
}

/// What an agent said.
#[derive(Clone, Debug)]
pub(super) struct Agent {
    pub(super) stream: u64,
    pub(super) ranges: Vec<AddressRange>,
    pub(super) report: Option<AgentReport>,
    /// Addresses that it took, with the order in which they were told.
    pub(super) assigned: BTreeMap<Slot, (u64, IpAddr)>,
    pub(super) failed: BTreeMap<Slot, Arc<str>>,
}

#[derive(Clone, Debug)]
pub(super) struct AgentReport {
    pub(super) seq: u64,
    pub(super) envoy_up: bool,
    pub(super) listeners: BTreeMap<Arc<str>, AgentListener>,
}

impl AgentReport {
    fn state(&self, listener: &str) -> Option<AgentListenerState> {
        self.listeners.get(listener).map(|l| l.state)
    }
}

/// What is known of a node and of the agent beside it: a handle that is cheap to copy.
#[derive(Clone, Copy, Debug)]
pub struct NodeRef<'a> {
    pub(super) node: &'a Node,
    pub(super) agent: Option<&'a Agent>,
}

impl<'a> NodeRef<'a> {
    /// What it said of itself, last.
    pub fn facts(&self) -> &'a NodeFacts {
        &self.node.facts
    }

    /// Whether a stream of it is open that can bring it listeners.
    pub fn connected(&self) -> bool {
        !self.node.sessions.is_empty()
    }

    /// Whether any stream of it is open.
    pub fn present(&self) -> bool {
        self.connected() || !self.node.others.is_empty()
    }

    /// How many streams of the same service use its id. More than one for long means that two Envoys share the id.
    pub fn streams(&self) -> usize {
        [Scope::Everything, Scope::Listeners].map(|scope| self.of(scope).count()).into_iter().max().unwrap_or(0)
    }

    /// Since when more than one such stream uses its id; `None` while one does, or none.
    pub fn shared_since(&self) -> Option<Timestamp> {
        let shared = [Scope::Everything, Scope::Listeners].into_iter().filter(|scope| self.of(*scope).count() > 1);
        shared.filter_map(|scope| self.of(scope).map(|s| s.connected_at).max()).min()
    }

    fn of(&self, scope: Scope) -> impl Iterator<Item = &'a Session> {
        self.node.sessions.iter().filter(move |session| session.scope == scope)
    }

    /// Since when it is connected or gone.
    pub fn since(&self) -> Timestamp {
        self.node.since
    }

    /// When the oldest open stream that brings it listeners began; `None` while it is gone.
    pub fn connected_at(&self) -> Option<Timestamp> {
        self.node.telling().map(|s| s.connected_at).min()
    }

    /// Whether an agent is connected for it.
    pub fn has_agent(&self) -> bool {
        self.agent.is_some()
    }

    /// Whether the connected agent has reported at all, if only of streams before the present ones. It reports again within
    /// two seconds, and until then an ACK is not taken instead: Envoy acknowledges after bind() and before listen().
    pub fn agent_has_reported(&self) -> bool {
        self.agent.is_some_and(|agent| agent.report.is_some())
    }

    /// Ranges that its agent assigns from.
    pub fn agent_ranges(&self) -> &'a [AddressRange] {
        self.agent.map_or(&[], |agent| &agent.ranges)
    }

    /// The address that its agent took for the slot, and the place of that among all reports.
    pub fn assigned(&self, slot: &Slot) -> Option<(u64, IpAddr)> {
        self.agent?.assigned.get(slot).copied()
    }

    /// All that its agent took.
    pub fn assignments(&self) -> impl Iterator<Item = (&'a Slot, IpAddr)> + use<'a> {
        self.agent.into_iter().flat_map(|agent| &agent.assigned).map(|(slot, &(_, address))| (slot, address))
    }

    /// Why its agent has no address for the slot.
    pub fn assign_failure(&self, slot: &Slot) -> Option<&'a str> {
        self.agent?.failed.get(slot).map(|reason| &**reason)
    }

    /// How often the listener was offered to it anew after an error.
    pub fn attempt(&self, listener: &str) -> u32 {
        self.node.retries.get(listener).map_or(0, |retry| retry.attempt)
    }

    /// How many listeners it has acknowledged on its newest stream.
    pub fn accepted_listeners(&self) -> usize {
        let newest = self.node.telling().next_back();
        newest.map_or(0, |s| s.listeners.values().filter(|seen| seen.accepted.is_some()).count())
    }

    /// How many listeners it refuses, or acknowledged without listening, on its newest stream.
    pub fn rejected_listeners(&self) -> usize {
        let newest = self.node.telling().next_back();
        newest.map_or(0, |s| {
            s.listeners.values().filter(|seen| seen.rejection.is_some() || seen.refuted.is_some()).count()
        })
    }

    /// How well it is proved that the listener is bound there now, in whatever version: where an
    /// update was refused, the earlier version still serves. Of several streams the weakest counts.
    pub fn evidence(&self, listener: &str) -> Evidence {
        let seen = || self.node.telling().map(|s| s.listeners.get(listener));
        let Some(told) = seen().map(|seen| seen.map_or(Evidence::None, Seen::evidence)).min() else {
            return Evidence::None;
        };
        let contradicted = told.min(Evidence::Offered);
        let bound_since =
            |seq: u64| seen().flatten().any(|s| s.accepted.as_ref().is_some_and(|accepted| accepted.bound_seq > seq));
        let evidence = match self.agent.and_then(|agent| agent.report.as_ref()) {
            None => told,
            Some(report) if report.state(listener) == Some(AgentListenerState::Failed) => contradicted,
            Some(_) => match self.fresh_report() {
                None => told,
                Some(report) if !report.envoy_up => contradicted,
                Some(report) => match report.state(listener) {
                    // What the agent saw before this binding was another one.
                    Some(AgentListenerState::Active) if bound_since(report.seq) => told,
                    // The agent's word alone is not enough: the listener may have been removed since,
                    // and with two streams it speaks for one of the two Envoys only.
                    Some(AgentListenerState::Active) if told >= Evidence::Acked => Evidence::Active,
                    Some(AgentListenerState::Active | AgentListenerState::Warming) => told,
                    Some(AgentListenerState::Draining | AgentListenerState::Failed) => contradicted,
                    // What was acknowledged after the report cannot be in it.
                    None if bound_since(report.seq) => told,
                    None => contradicted,
                },
            },
        };
        let probed = evidence >= Evidence::Acked && seen().all(|seen| seen.is_some_and(|seen| seen.probed));
        if probed { Evidence::Probed } else { evidence }
    }

    /// Why the listener, or its last version, does not run there. It may be that an earlier version
    /// does: ask [`NodeRef::evidence`].
    pub fn rejection(&self, listener: &str) -> Option<&'a Rejection> {
        self.node.sessions.iter().filter_map(|s| s.listeners.get(listener)).find_map(|seen| {
            let refused = seen.rejection.as_ref();
            refused.or(seen.refuted.as_ref())
        })
    }

    /// Whether the listener was in a refused batch without being named by the error, and nothing
    /// was heard of it since.
    pub fn is_unknown(&self, listener: &str) -> bool {
        let mut seen = self.node.sessions.iter().filter_map(|s| s.listeners.get(listener));
        seen.any(|seen| seen.unknown.is_some() && seen.accepted.is_none())
    }

    /// Whether it may have the listener. The most that any stream or the agent says counts.
    pub fn holding(&self, listener: &str) -> Holding {
        let agent_sees =
            self.agent.and_then(|agent| agent.report.as_ref()).filter(|report| report.envoy_up).is_some_and(|report| {
                matches!(report.state(listener), Some(AgentListenerState::Active | AgentListenerState::Warming))
            });
        let seen = || self.node.sessions.iter().filter_map(|s| s.listeners.get(listener));
        if agent_sees || seen().any(|seen| seen.accepted.is_some()) {
            return Holding::Held;
        }
        let unknown = seen().filter_map(|seen| seen.unknown).max();
        let before = self.node.held_before.contains(listener).then(|| match self.node.telling().next_back() {
            Some(session) => self.node.own_ended.map_or(session.connected_at, |ended| ended.max(session.connected_at)),
            None => self.node.since,
        });
        match unknown.max(before) {
            Some(since) => Holding::Unsure { since },
            None if seen().any(|seen| seen.removed) => Holding::Removed,
            None => Holding::Unheard,
        }
    }

    /// Names of listeners beginning with the prefix of which anything is known here, sorted.
    pub fn listeners_with_prefix(&self, prefix: &str) -> Vec<&'a Arc<str>> {
        let from = (std::ops::Bound::Included(prefix), std::ops::Bound::Unbounded);
        let mut names = Vec::new();
        for session in &self.node.sessions {
            names.extend(session.listeners.range::<str, _>(from).map(|(n, _)| n).take_while(|n| n.starts_with(prefix)));
        }
        names.extend(self.node.held_before.range::<str, _>(from).take_while(|n| n.starts_with(prefix)));
        if let Some(report) = self.agent.and_then(|agent| agent.report.as_ref()) {
            names.extend(report.listeners.range::<str, _>(from).map(|(n, _)| n).take_while(|n| n.starts_with(prefix)));
        }
        names.sort_unstable();
        names.dedup();
        names
    }

    fn fresh_report(&self) -> Option<&'a AgentReport> {
        let report = self.agent?.report.as_ref()?;
        self.node.telling().all(|s| s.seq < report.seq).then_some(report)
    }
}
