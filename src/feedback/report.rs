//! What comes back from the data plane.

use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::decision::ClientView;
use crate::model::id::NodeId;
use crate::model::object::{AddressRange, Labels};
use crate::model::slot::Slot;

/// The variant of xDS that a stream speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Protocol {
    /// State of the world: each ACK is of the whole list of listeners.
    Sotw,
    /// Incremental: an ACK is of what its response carried.
    Delta,
}

/// What a stream can tell of listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All, where the node takes its listeners from it: an aggregated stream.
    Everything,
    /// All: a stream of listeners only.
    Listeners,
    /// Nothing: a stream of another type.
    Others,
}

/// An Envoy as it presents itself on a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeFacts {
    /// `node.id`.
    pub id: NodeId,
    /// What decides what it is served.
    pub view: ClientView,
    /// The string-valued fields of its metadata, for pool selectors.
    pub labels: Labels,
    /// What it says of its version.
    pub version: Arc<str>,
    /// What its stream speaks.
    pub protocol: Protocol,
}

/// How Envoy's admin interface describes a listener, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum AgentListenerState {
    /// Envoy gave it up with an error.
    Failed,
    /// It takes no new connections.
    Draining,
    /// It is not used yet.
    Warming,
    /// It is listed as listening.
    Active,
}

/// A listener as an agent sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentListener {
    /// Its name.
    pub name: Arc<str>,
    /// Its state.
    pub state: AgentListenerState,
    /// Envoy's words where it has an error; empty otherwise.
    pub error: Arc<str>,
    /// Whether the agent could bind the address itself, where it tried.
    pub bindable: Option<bool>,
}

/// What a connection to a VIP on one gateway showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeOutcome {
    /// That Envoy answered.
    Reached,
    /// It did not, for this reason.
    Failed(Arc<str>),
}

/// A listener's name and the version of it that was sent.
pub type NameVersion = (Arc<str>, Arc<str>);

/// One thing that the data plane told. Only listeners (LDS) matter here.
///
/// `stream` is the id of the connection that the report came by. A connection's end may be noticed
/// after its successor's start, so a report of a stream that is not known any more changes nothing.
#[derive(Clone, Debug, PartialEq)]
pub enum Report {
    /// An Envoy opened a stream. Nothing that an earlier stream proved counts for this one.
    NodeConnected {
        /// Who.
        node: NodeFacts,
        /// The stream's id.
        stream: u64,
        /// What it can tell.
        scope: Scope,
    },
    /// An Envoy has these listeners in these versions. On a SotW stream it is the whole list.
    Acked {
        /// Who.
        node: NodeId,
        /// By which stream.
        stream: u64,
        /// What it has.
        listeners: Vec<NameVersion>,
        /// What it has no more.
        removed: Vec<Arc<str>>,
    },
    /// An Envoy refused listeners (XDS.md, rule 3).
    Rejected {
        /// Who.
        node: NodeId,
        /// By which stream.
        stream: u64,
        /// Those that the error names.
        listeners: Vec<NameVersion>,
        /// The rest of the batch, of which nothing is known until the next ACK.
        unknown: Vec<NameVersion>,
        /// Envoy's words.
        detail: Arc<str>,
    },
    /// A stream ended.
    NodeGone {
        /// Whose.
        node: NodeId,
        /// Which.
        stream: u64,
    },
    /// An agent connected; it takes the place of an earlier one of that node.
    AgentConnected {
        /// Beside which Envoy it stands.
        node: NodeId,
        /// The connection's id.
        stream: u64,
        /// Ranges from which it may assign addresses; empty where it assigns none.
        ranges: Vec<AddressRange>,
    },
    /// All that an agent sees.
    AgentListeners {
        /// Beside which Envoy.
        node: NodeId,
        /// The connection's id.
        stream: u64,
        /// Every listener that Envoy has. A name may come twice (an old one draining).
        listeners: Vec<AgentListener>,
        /// Whether Envoy answers on its admin interface.
        envoy_up: bool,
    },
    /// An agent's connection ended.
    AgentGone {
        /// Beside which Envoy.
        node: NodeId,
        /// The connection's id.
        stream: u64,
    },
    /// An agent took an address for a slot.
    Assigned {
        /// Beside which Envoy.
        node: NodeId,
        /// For what.
        slot: Slot,
        /// The address.
        address: IpAddr,
    },
    /// An agent has no address for a slot.
    AssignFailed {
        /// Beside which Envoy.
        node: NodeId,
        /// For what.
        slot: Slot,
        /// Why.
        reason: Arc<str>,
    },
    /// An agent let an address go (or, where it does not confirm that, was told to).
    Released {
        /// Beside which Envoy.
        node: NodeId,
        /// For what.
        slot: Slot,
        /// The address.
        address: IpAddr,
    },
    /// Someone connected to a listener's address on this gateway.
    Probed {
        /// The gateway.
        node: NodeId,
        /// The listener.
        listener: Arc<str>,
        /// What came of it.
        outcome: ProbeOutcome,
    },
}
