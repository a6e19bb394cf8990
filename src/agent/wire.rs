//! Between the messages of `feedback.proto` and our own types. Everything that comes in is checked
//! here, so nothing further in has to doubt it.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::proto;
use super::report::{AgentListener, AssignRequest, Control, ListenerState};
use crate::model::object::{Family, Protocol, ServicePort};

/// The version of the protocol that this crate speaks.
pub(super) const PROTOCOL_VERSION: u32 = 1;

/// Node ids are names of machines or pods; Kubernetes allows 253 bytes for those.
const MAX_NODE_ID: usize = 256;

/// An agent serves one host; more ranges than this are a mistake.
const MAX_RANGES: usize = 64;

/// A gateway with more listeners than this is beyond what one Envoy was made for.
const MAX_LISTENERS: usize = 65_536;

/// Envoy's errors name the address and the errno; a long one is cut, by the agent or here.
const MAX_TEXT: usize = 2_048;

/// A message breaks a rule of `feedback.proto`.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum Malformed {
    #[error("field `{field}` is not valid: `{value}`; expected {expected}")]
    Field { field: &'static str, value: String, expected: &'static str },
    #[error("`{what}` has {count} entries, at most {max} are allowed")]
    TooMany { what: &'static str, count: usize, max: usize },
    #[error("listener `{0}` is told twice in one message")]
    Twice(String),
}

impl Malformed {
    fn field(field: &'static str, value: impl ToString, expected: &'static str) -> Self {
        Self::Field { field, value: cut(value.to_string(), 128), expected }
    }
}

/// An agent's introduction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    pub node_id: String,
    pub ranges: Vec<IpNet>,
    pub version: String,
}

/// Shortens a text to at most `max` bytes, at a character's border.
pub(super) fn cut(mut text: String, max: usize) -> String {
    if text.len() > max {
        text.truncate(text.floor_char_boundary(max));
    }
    text
}

pub(super) fn hello_to(hello: Hello) -> proto::Hello {
    proto::Hello {
        protocol_version: PROTOCOL_VERSION,
        node_id: hello.node_id,
        ranges: hello.ranges.iter().map(IpNet::to_string).collect(),
        agent_version: hello.version,
    }
}

/// The version is the caller's to check: it has its own status.
pub(super) fn hello_from(hello: proto::Hello) -> Result<Hello, Malformed> {
    if hello.node_id.is_empty() || hello.node_id.len() > MAX_NODE_ID {
        return Err(Malformed::field("node_id", hello.node_id, "1 to 256 bytes"));
    }
    at_most("ranges", hello.ranges.len(), MAX_RANGES)?;
    let range = |text: &String| {
        text.parse::<IpNet>().map_err(|_| Malformed::field("ranges", text, "a CIDR")).map(|range| range.trunc())
    };
    let ranges = hello.ranges.iter().map(range).collect::<Result<_, _>>()?;
    Ok(Hello { node_id: hello.node_id, ranges, version: cut(hello.agent_version, 128) })
}

pub(crate) fn listener_to(listener: &AgentListener) -> proto::Listener {
    let state = match listener.state {
        ListenerState::Active => proto::ListenerState::Active,
        ListenerState::Warming => proto::ListenerState::Warming,
        ListenerState::Draining => proto::ListenerState::Draining,
        ListenerState::Failed => proto::ListenerState::Failed,
    };
    proto::Listener {
        name: listener.name.clone(),
        address: listener.address.map(|a| a.to_string()).unwrap_or_default(),
        state: state.into(),
        error: cut(listener.error.clone(), MAX_TEXT),
        bindable: listener.bindable,
    }
}

pub(crate) fn listeners_from(listeners: Vec<proto::Listener>) -> Result<Vec<AgentListener>, Malformed> {
    at_most("listeners", listeners.len(), MAX_LISTENERS)?;
    let listeners = listeners.into_iter().map(listener_from).collect::<Result<Vec<_>, _>>()?;
    let mut names = BTreeSet::new();
    match listeners.iter().find(|l| !names.insert(l.name.as_str())) {
        Some(twice) => Err(Malformed::Twice(twice.name.clone())),
        None => Ok(listeners),
    }
}

fn listener_from(listener: proto::Listener) -> Result<AgentListener, Malformed> {
    let state = match listener.state() {
        proto::ListenerState::Active => ListenerState::Active,
        proto::ListenerState::Warming => ListenerState::Warming,
        proto::ListenerState::Draining => ListenerState::Draining,
        proto::ListenerState::Failed => ListenerState::Failed,
        proto::ListenerState::Unspecified => {
            return Err(Malformed::field("listeners.state", listener.state, "a state of version 1"));
        }
    };
    let address = match listener.address.as_str() {
        "" => None,
        text => Some(text.parse().map_err(|_| Malformed::field("listeners.address", text, "address:port"))?),
    };
    if listener.name.is_empty() || listener.name.len() > MAX_TEXT {
        return Err(Malformed::field("listeners.name", listener.name, "1 to 2048 bytes"));
    }
    let error = cut(listener.error, MAX_TEXT);
    Ok(AgentListener { name: listener.name, address, state, error, bindable: listener.bindable })
}

pub(crate) fn control_to(control: Control) -> proto::ControlMessage {
    use proto::control_message::Body;
    let body = match control {
        Control::Assign(request) => Body::Assign(assign_to(request)),
        Control::Release { slot, address } => Body::Release(proto::Release { slot, address: address.to_string() }),
    };
    proto::ControlMessage { body: Some(body) }
}

fn assign_to(request: AssignRequest) -> proto::Assign {
    let port = |port: &ServicePort| {
        let protocol = match port.protocol {
            Protocol::Tcp => proto::Protocol::Tcp,
            Protocol::Http => proto::Protocol::Http,
            Protocol::H2c => proto::Protocol::H2c,
            Protocol::Grpc => proto::Protocol::Grpc,
        };
        proto::Port { name: port.name.to_string(), number: port.port.into(), protocol: protocol.into() }
    };
    let family = match request.family {
        Family::V4 => proto::Family::Ipv4,
        Family::V6 => proto::Family::Ipv6,
    };
    proto::Assign {
        slot: request.slot,
        access: request.access.to_string(),
        service: request.service.to_string(),
        pod: request.pod.map(|pod| pod.to_string()),
        ports: request.ports.iter().map(port).collect(),
        hostnames: request.hostnames.iter().map(|name| name.to_string()).collect(),
        family: family.into(),
        current: request.current.map(|address| address.to_string()),
        rules_json: request.rules_json,
    }
}

pub(crate) fn assign_from(assign: proto::Assign) -> Result<AssignRequest, Malformed> {
    let family = match assign.family() {
        proto::Family::Ipv4 => Family::V4,
        proto::Family::Ipv6 => Family::V6,
        proto::Family::Unspecified => return Err(Malformed::field("family", assign.family, "IPv4 or IPv6")),
    };
    let name = |field, text: &str| text.parse().map_err(|_| Malformed::field(field, text, "namespace/name"));
    Ok(AssignRequest {
        access: name("access", &assign.access)?,
        service: name("service", &assign.service)?,
        pod: assign.pod.map(Arc::from),
        ports: assign.ports.into_iter().map(port_from).collect::<Result<_, _>>()?,
        hostnames: assign.hostnames.into_iter().map(Arc::from).collect(),
        family,
        current: assign.current.map(|text| address_from("current", &text)).transpose()?,
        rules_json: assign.rules_json,
        slot: assign.slot,
    })
}

fn port_from(port: proto::Port) -> Result<ServicePort, Malformed> {
    let protocol = match port.protocol() {
        proto::Protocol::Unspecified | proto::Protocol::Tcp => Protocol::Tcp,
        proto::Protocol::Http => Protocol::Http,
        proto::Protocol::H2c => Protocol::H2c,
        proto::Protocol::Grpc => Protocol::Grpc,
    };
    match u16::try_from(port.number) {
        Ok(number) if number > 0 => Ok(ServicePort { name: port.name.into(), port: number, protocol }),
        _ => Err(Malformed::field("ports.number", port.number, "1 to 65535")),
    }
}

pub(super) fn address_from(field: &'static str, text: &str) -> Result<IpAddr, Malformed> {
    text.parse().map_err(|_| Malformed::field(field, text, "an IP address"))
}

fn at_most(what: &'static str, count: usize, max: usize) -> Result<(), Malformed> {
    if count > max { Err(Malformed::TooMany { what, count, max }) } else { Ok(()) }
}
