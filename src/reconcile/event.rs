//! What reaches the owner of the truth. Everything that changes anything is one of these.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::view::{Answer, Problem, Query};
use crate::ads;
use crate::feedback::AgentListener;
use crate::kube::virtual_ips;
use crate::model::id::{ClusterName, NodeId};
use crate::model::object::{AddressRange, Change};
use crate::model::policy::PolicySpec;
use crate::policy::Policy;
use crate::vip::{AssignRequest, Slot};

/// Something that happened.
pub enum Event {
    /// Sources saw changes, which belong together.
    Changes(Vec<Change>),
    /// A cluster that a source knows of and has not read yet; nothing is served before it has been.
    Expect(ClusterName),
    /// All that is wrong in the sources at present.
    SourceProblems(Vec<Problem>),
    /// From an xDS stream.
    Ads(ads::Event),
    /// From an agent's stream.
    Agent(AgentEvent),
    /// Something is new of the objects that are the VIP ledger.
    VirtualIps(virtual_ips::News),
    /// Policies come into force, or go.
    Policies(Vec<PolicyEvent>),
    /// Somebody asks.
    Inspect(Query, oneshot::Sender<Answer>),
}

/// What changes of the policies in force.
#[derive(Debug)]
pub enum PolicyEvent {
    /// From now on this one has its name.
    Put(Box<Policy>),
    /// There is none of the name any more, unless a built-in one has it.
    Remove(Arc<str>),
    /// One that should be in force cannot be, until it is put.
    Broken {
        /// Its name.
        name: Arc<str>,
        /// Why, for people.
        message: String,
    },
    /// What became of what a Policy object says.
    Judged(Box<Verdict>),
}

/// What the Policy objects say at present.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Declared {
    /// By name.
    pub specs: BTreeMap<Arc<str>, Arc<PolicySpec>>,
    /// The primary was read completely, so that what is not here is not there.
    pub complete: bool,
}

/// What became of what a Policy object says.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// What it said.
    pub spec: Arc<PolicySpec>,
    /// Whether it is in force by now, or why not.
    pub outcome: Result<(), PolicyFault>,
}

/// Why what a Policy object says is not in force.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct PolicyFault {
    /// In CamelCase, for machines.
    pub reason: String,
    /// What is wrong and what to do, for people.
    pub message: String,
}

/// Something that an agent's stream told.
pub enum AgentEvent {
    /// It connected.
    Connected {
        /// The connection; never used again.
        stream: u64,
        /// Beside which Envoy it stands.
        node: NodeId,
        /// Ranges that it assigns from.
        ranges: Vec<AddressRange>,
        /// The way to it.
        orders: mpsc::Sender<Order>,
    },
    /// All that it sees.
    Listeners {
        /// The connection.
        stream: u64,
        /// Beside which Envoy.
        node: NodeId,
        /// Whether Envoy answers.
        envoy_up: bool,
        /// Its listeners.
        listeners: Vec<AgentListener>,
    },
    /// It took an address.
    Assigned {
        /// The connection.
        stream: u64,
        /// For what.
        slot: Slot,
        /// The address.
        address: IpAddr,
    },
    /// It has no address to give.
    AssignFailed {
        /// The connection.
        stream: u64,
        /// For what.
        slot: Slot,
        /// Why.
        reason: Arc<str>,
    },
    /// Its connection ended.
    Gone {
        /// The connection.
        stream: u64,
    },
}

/// What an agent is told to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Order {
    /// Take an address and tell it.
    Assign(Box<AssignRequest>),
    /// Let an address go.
    Release {
        /// What it was for.
        slot: Slot,
        /// The address.
        address: IpAddr,
    },
}
