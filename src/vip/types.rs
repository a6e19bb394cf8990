//! What the planner is given and what it answers.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use serde::Serialize;

use crate::feedback::{Evidence, Feedback, NodeRef};
use crate::model::Timestamp;
use crate::model::decision::{NodeRole, VipDecision, VipInput};
use crate::model::id::{NamespacedName, NodeId, PoolName};
use crate::model::object::{Family, Pool, PublishRule, Selector, ServicePort};
use crate::model::slot::Slot;

use super::ledger::{Ledger, LedgerChange, Phase, VipPort};

/// A wish for an address: one for each access, service (or pod) and family.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    /// The access, whose namespace pools and quotas go by.
    pub access: NamespacedName,
    /// The service.
    pub service: NamespacedName,
    /// The pod, where VIPs are per pod.
    pub pod: Option<Arc<str>>,
    /// The family.
    pub family: Family,
    /// Ports to listen on; of two with one number the first counts.
    pub ports: Vec<ServicePort>,
    /// The pool to take the address from; any that fits where not said.
    pub pool: Option<PoolName>,
    /// The address asked for, of the same family.
    pub requested: Option<IpAddr>,
    /// When its names are answered.
    pub publish: PublishRule,
    /// Names that shall lead to it.
    pub hostnames: Vec<Arc<str>>,
}

impl Claim {
    /// The claim's slot where the control plane assigns.
    pub fn slot(&self) -> Slot {
        let Self { access, service, pod, family, .. } = self;
        Slot { access: access.clone(), service: service.clone(), pod: pod.clone(), family: *family, node: None }
    }
}

/// How much the claims that are passed say by their absence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimsKnown<'a> {
    /// These are all: a VIP without a claim is withdrawn.
    All,
    /// These are all accesses, but what some of them choose cannot be read: a VIP without a claim
    /// is withdrawn only where its access is none of these.
    OfAccesses(&'a BTreeSet<NamespacedName>),
    /// The source of accesses was not read yet, or cannot be: a VIP without a claim stays as it is.
    Partly,
}

impl ClaimsKnown<'_> {
    /// Whether it says something that the access has no claim for a VIP.
    pub(super) fn decides(self, access: &NamespacedName) -> bool {
        match self {
            ClaimsKnown::All => true,
            ClaimsKnown::OfAccesses(there) => !there.contains(access),
            ClaimsKnown::Partly => false,
        }
    }
}

/// Spans of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long a withdrawn VIP serves after its names were forgotten, in milliseconds.
    pub drain_ms: i64,
    /// How long a node that does not answer may keep an address from being given away, in
    /// milliseconds.
    pub grace_ms: i64,
    /// How long a gateway may be gone until the addresses that its agent assigned are withdrawn, in
    /// milliseconds.
    pub forget_ms: i64,
}

impl Default for Settings {
    /// 10 s for requests in flight; 60 s, twice the time in which a dead stream is noticed; a day,
    /// so that no maintenance of a gateway changes its addresses.
    fn default() -> Self {
        Self { drain_ms: 10_000, grace_ms: 60_000, forget_ms: 86_400_000 }
    }
}

/// Whether what a plan would change of the ledger can be made durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LedgerState {
    /// It can.
    #[default]
    Open,
    /// It cannot at present: the plan changes no row, so nothing is allocated, released or taken a step further; what
    /// is durable is offered, and published while it is proved and claimed.
    Frozen,
}

/// All that a plan depends on.
#[derive(Clone, Copy)]
pub struct Inputs<'a> {
    /// The time.
    pub now: Timestamp,
    /// What is wished for.
    pub claims: &'a [Claim],
    /// Whether that is all.
    pub claims_known: ClaimsKnown<'a>,
    /// What is durable.
    pub ledger: &'a Ledger,
    /// Whether it can be changed.
    pub ledger_state: LedgerState,
    /// What the data plane told.
    pub feedback: &'a Feedback,
    /// The pools.
    pub pools: &'a [&'a Pool],
    /// Spans of time.
    pub settings: Settings,
    /// The policy that chooses addresses. It must be a pure function.
    pub choose: &'a dyn Fn(&VipInput) -> VipDecision,
}

/// Which nodes are sent a listener.
#[derive(Clone, Debug, PartialEq)]
pub enum Audience {
    /// Gateways of a pool.
    Gateways {
        /// Those whose labels match.
        selector: Arc<Selector>,
        /// Those that matched earlier and keep the listener until enough others have proved it.
        lingering: BTreeSet<NodeId>,
    },
    /// The gateway whose agent assigned the address.
    Node(NodeId),
}

impl Audience {
    /// Whether the node is sent the listener. Only gateways are.
    pub fn includes(&self, node: NodeRef<'_>) -> bool {
        let facts = node.facts();
        facts.view.role == NodeRole::Gateway
            && match self {
                Audience::Gateways { selector, lingering } => {
                    selector.matches(&facts.labels) || lingering.contains(&facts.id)
                }
                Audience::Node(id) => facts.id == *id,
            }
    }
}

/// A listener that shall be there: one for each VIP and port.
#[derive(Clone, Debug, PartialEq)]
pub struct Offer {
    /// The VIP.
    pub address: IpAddr,
    /// The port.
    pub port: ServicePort,
    /// What the VIP is for.
    pub slot: Arc<Slot>,
    /// Names under which requests arrive.
    pub hostnames: Arc<[Arc<str>]>,
    /// Who is sent it.
    pub audience: Arc<Audience>,
    /// The VIP is being withdrawn, but still serves.
    pub withdrawing: bool,
}

/// A VIP whose names are answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Published {
    /// The VIP.
    pub address: IpAddr,
    /// What it is for.
    pub slot: Arc<Slot>,
    /// Names that lead to it.
    pub hostnames: Arc<[Arc<str>]>,
    /// How long answers may be remembered, in seconds.
    pub ttl_seconds: u32,
    /// The ports that are proved on enough gateways.
    pub ports: Vec<ServicePort>,
}

/// Why a [`Problem`] is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Reason {
    /// No pool could give an address.
    NoPool,
    /// The pool that the access or a VIP names is not there.
    PoolMissing,
    /// The pool does not serve the namespace.
    NamespaceNotAllowed,
    /// The namespace holds as many addresses as the pool allows.
    QuotaExceeded,
    /// No address of the family is free.
    PoolExhausted,
    /// The requested address is not in a pool that the access may use.
    RequestedNotInPool,
    /// The requested address is reserved.
    RequestedReserved,
    /// The requested address is held by another.
    RequestedTaken,
    /// The VIP's address is not the requested one; a VIP never moves.
    RequestedDiffers,
    /// The policy gave no address.
    PolicyRefused,
    /// The policy gave an address that it must not give.
    PolicyInvalid,
    /// The VIP is kept although its address is not in its pool any more.
    OutsidePool,
    /// The VIP is kept although the access names another pool.
    PoolDiffers,
    /// The claim has no ports.
    NoPorts,
    /// No gateway that the pool selects is connected.
    NoGateway,
    /// No gateway that the pool selects has an agent with addresses of the family.
    NoAgent,
    /// An agent has no address to give.
    AssignFailed,
    /// An agent took an address that it must not take.
    AssignRejected,
    /// An agent's address is kept although it is not in the agent's ranges any more.
    OutsideAgentRange,
    /// A gateway refuses a listener.
    ListenerRejected,
    /// Fewer gateways than the access asks for.
    TooFewGateways,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Something about an access that a person should mend.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// The access.
    pub access: NamespacedName,
    /// Why, for machines.
    pub reason: Reason,
    /// What is wrong, for people.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

/// What an agent is asked to assign an address for. Each plan lists all that hold at present.
#[derive(Clone, Debug, PartialEq)]
pub struct AssignRequest {
    /// What for.
    pub slot: Slot,
    /// The pool, whose rules it goes by.
    pub pool: PoolName,
    /// The address that it has and keeps; `None` where it has none yet.
    pub current: Option<IpAddr>,
    /// The address that the user asks for.
    pub requested: Option<IpAddr>,
    /// Addresses of the agent's ranges that others hold.
    pub avoid: BTreeSet<IpAddr>,
    /// Ports that will be bound.
    pub ports: Vec<ServicePort>,
    /// Names that will lead to it.
    pub hostnames: Vec<Arc<str>>,
}

/// A VIP's state as people are shown it (DESIGN.md, "A VIP's life").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum VipState {
    /// Durable; no gateway is there to be offered it.
    Allocated,
    /// Sent to its gateways.
    Offered,
    /// A gateway acknowledged it.
    Bound,
    /// An agent or a probe saw it on a gateway, but not all that is asked for is proved.
    Serving,
    /// Its names are answered.
    Published,
    /// Withdrawn: waits until no resolver remembers it.
    Unpublishing,
    /// Withdrawn: open connections may end.
    Draining,
    /// Withdrawn: waits until no gateway has it.
    Removing,
    /// Every gateway refuses it.
    Rejected,
}

impl fmt::Display for VipState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A VIP's state on one gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum GatewayState {
    /// Sent.
    Offered,
    /// Acknowledged.
    Bound,
    /// Seen by an agent or reached by a probe.
    Serving,
    /// Refused, and no earlier version is bound.
    Rejected,
    /// In a refused batch; nothing was heard of it since.
    Unknown,
    /// Has it and shall not have it any more.
    Removing,
    /// Not connected.
    Gone,
}

impl fmt::Display for GatewayState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A VIP on one gateway; of several ports the least proved counts.
#[derive(Clone, Debug, PartialEq)]
pub struct GatewayStatus {
    /// The node's id.
    pub node: NodeId,
    /// The state.
    pub state: GatewayState,
    /// The strongest evidence that holds for all ports.
    pub proof: Evidence,
    /// Whether that is what the access asks for.
    pub proved: bool,
    /// Envoy's words; empty where there is no error.
    pub error: Arc<str>,
    /// How often a listener was offered anew after an error.
    pub attempt: u32,
}

/// A VIP as people are shown it.
#[derive(Clone, Debug, PartialEq)]
pub struct VipStatus {
    /// The address.
    pub address: IpAddr,
    /// The pool.
    pub pool: PoolName,
    /// What for.
    pub slot: Arc<Slot>,
    /// The state.
    pub state: VipState,
    /// The ledger's phase.
    pub phase: Phase,
    /// Ports.
    pub ports: Vec<VipPort>,
    /// Gateways that proved it.
    pub bound: u32,
    /// Gateways that should.
    pub expected: u32,
    /// The strongest evidence on any gateway.
    pub proof: Evidence,
    /// The node whose agent assigned it.
    pub assigned_by: Option<NodeId>,
    /// Names that lead to it; empty while it is not published.
    pub hostnames: Arc<[Arc<str>]>,
    /// For each gateway what is known, by id.
    pub gateways: Vec<GatewayStatus>,
    /// When it was allocated.
    pub allocated_at: Timestamp,
    /// Why the state is what it is, for people.
    pub message: String,
}

/// What shall be done. The caller commits `ledger_changes` and applies them to its [`Ledger`] before
/// it publishes or sends anything else of the plan; when that fails, it drops the plan. Once the
/// offers are published and differ from the last ones, it tells [`Feedback::offered`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Changes to the ledger: deletions, then updates, then insertions.
    pub ledger_changes: Vec<LedgerChange>,
    /// Listeners that shall be there, by name.
    pub offers: BTreeMap<Arc<str>, Offer>,
    /// VIPs whose names are answered, by address.
    pub published: Vec<Published>,
    /// What people should mend, sorted.
    pub problems: Vec<Problem>,
    /// All that agents are asked to assign, by node and slot.
    pub assign_requests: Vec<(NodeId, AssignRequest)>,
    /// Addresses that agents shall let go. Repeated until [`crate::feedback::Report::Released`].
    pub releases: Vec<(NodeId, Slot, IpAddr)>,
    /// When to plan again, though nothing else happens.
    pub next_deadline: Option<Timestamp>,
    /// Each VIP, by address.
    pub statuses: Vec<VipStatus>,
}

impl Plan {
    /// The listeners that a node is to be sent.
    pub fn offers_for<'a>(&'a self, node: NodeRef<'a>) -> impl Iterator<Item = (&'a Arc<str>, &'a Offer)> {
        self.offers.iter().filter(move |(_, offer)| offer.audience.includes(node))
    }

    /// Whether a node is to be sent a listener: what [`Feedback::offered`] asks.
    pub fn is_offered(&self, node: NodeRef<'_>, listener: &str) -> bool {
        self.offers.get(listener).is_some_and(|offer| offer.audience.includes(node))
    }
}
