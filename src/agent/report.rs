//! What agents and the control plane tell each other, in strict types.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::model::id::NamespacedName;
use crate::model::object::{Family, ServicePort};

/// What an Envoy does with a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenerState {
    /// Takes connections.
    Active,
    /// Waits for something (a route, a secret); does not take connections yet.
    Warming,
    /// Takes no new connections, or its whole Envoy was told to drain.
    Draining,
    /// Its configuration could not be applied, and there is no earlier one.
    Failed,
}

/// A dynamic listener of an Envoy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentListener {
    /// Its name in LDS.
    pub name: String,
    /// With the port that was really bound; `None` where it is not an IP address or not known.
    pub address: Option<SocketAddr>,
    /// What Envoy does with it.
    pub state: ListenerState,
    /// Envoy's own words about the last configuration that failed; empty where there is none. With
    /// [`ListenerState::Active`] an older configuration is served.
    pub error: String,
    /// For [`ListenerState::Failed`]: whether the address could be bound now. `None` where the agent
    /// cannot tell, for example because the port is privileged and the agent is not.
    pub bindable: Option<bool>,
}

/// The control plane asks an agent for an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssignRequest {
    /// Names what the address is for; opaque to the agent.
    pub slot: String,
    /// The access.
    pub access: NamespacedName,
    /// The service.
    pub service: NamespacedName,
    /// The pod, where VIPs are per pod.
    pub pod: Option<Arc<str>>,
    /// Ports that will be served at the address.
    pub ports: Vec<ServicePort>,
    /// Names that will lead to the address.
    pub hostnames: Vec<Arc<str>>,
    /// The wanted family.
    pub family: Family,
    /// What the ledger has for the slot; it wins if it lies in the agent's ranges.
    pub current: Option<IpAddr>,
    /// [`super::assign::Rules`] as JSON, or empty.
    pub rules_json: String,
}

/// What the control plane asks of an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// Asks for an address; answered by `Assigned` or `AssignFailed`.
    Assign(AssignRequest),
    /// The slot's address is free again.
    Release {
        /// As in the assignment.
        slot: String,
        /// The address.
        address: IpAddr,
    },
}
