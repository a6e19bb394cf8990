//! Reads what an Envoy's admin interface says. Pure.
//!
//! Seen on Envoy 1.40:
//! - A listener that failed and has no earlier version is a `DynamicListener` with only an
//!   `error_state`; a failed update of a good one stands beside its `active_state`. After a rejected
//!   LDS update each failure is there once more without a name: the name is then only inside
//!   `failed_configuration`.
//! - Envoy forgets all error states at the next LDS update, so `tracker` remembers them.
//! - A listener that was updated in place has both an `active_state` and a `draining_state`.
//! - After `POST /drain_listeners` nothing takes connections any more, yet the server is `LIVE` and
//!   the listeners are `active`. Only the counter `listener_stopped` tells.
//! - Before the workers have started (`INITIALIZING`) active listeners do not take connections.

use std::collections::{BTreeMap, btree_map::Entry};
use std::net::{IpAddr, SocketAddr};

use serde::Deserialize;

use super::report::ListenerState;

/// Paths that are read, in this order, on one connection. The dump comes before the listeners: one
/// that went in between is then in the dump only, and counts as gone. The mask leaves out the
/// configurations of good listeners, which can be megabytes; addresses of warming listeners are only
/// in their configuration. `/server_info` names every extension (120 KB), so it is read seldom.
pub(super) const READY: &str = "/ready";
/// Asked by POST: the Envoy fails its health checks from then on, until it ends.
pub(super) const FAIL: &str = "/healthcheck/fail";
pub(super) const SERVER_INFO: &str = "/server_info";
pub(super) const STATS: &str =
    "/stats?format=json&filter=^listener_manager%5C.(listener_(stopped|create_failure)|lds%5C.update_rejected)$";
pub(super) const DUMP: &str = "/config_dump?resource=dynamic_listeners&mask=name,active_state.last_updated,\
warming_state.listener,draining_state.last_updated,error_state.failed_configuration,error_state.details";
pub(super) const LISTENERS: &str = "/listeners?format=json";

/// The answer is not what an Envoy says.
#[derive(Debug, thiserror::Error)]
#[error("cannot understand Envoy's answer to {path}")]
pub(crate) struct ParseError {
    path: &'static str,
    #[source]
    source: serde_json::Error,
}

/// What the answers say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Observation {
    pub server: ServerInfo,
    pub phase: Phase,
    pub counters: Counters,
    /// By name.
    pub listeners: BTreeMap<String, Seen>,
}

/// Of `/server_info`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ServerInfo {
    pub node_id: String,
    /// Seconds since this epoch's start; it goes down only when Envoy restarts.
    pub uptime_s: u64,
}

/// What the server as a whole does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Phase {
    #[default]
    Initializing,
    Live,
    /// Told to drain by `POST /healthcheck/fail`.
    Draining,
}

/// Of `/stats`; absent counters are 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    /// Listeners stopped by `POST /drain_listeners`; removals do not count here.
    pub stopped: u64,
    /// Failed configurations and failed `listen()`s.
    pub create_failure: u64,
    /// LDS updates answered with a NACK.
    pub update_rejected: u64,
    /// LDS updates.
    pub update_attempt: u64,
}

/// A dynamic listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub state: ListenerState,
    pub address: Option<SocketAddr>,
    /// Of the last failed configuration; empty without one.
    pub error: String,
}

#[derive(Deserialize)]
struct ServerInfoJson {
    #[serde(default)]
    uptime_current_epoch: String,
    #[serde(default)]
    node: NodeJson,
}

#[derive(Default, Deserialize)]
struct NodeJson {
    #[serde(default)]
    id: String,
}

pub(crate) fn server_info(body: &[u8]) -> Result<ServerInfo, ParseError> {
    let info: ServerInfoJson = parse(SERVER_INFO, body)?;
    // A protobuf Duration as JSON: `4s` or `4.5s`.
    let whole = info.uptime_current_epoch.split(['.', 's']).next().unwrap_or_default();
    Ok(ServerInfo { node_id: info.node.id, uptime_s: whole.parse().unwrap_or(0) })
}

/// Of `/ready`, whose status is 503 for everything but `LIVE`.
pub(crate) fn phase(body: &[u8]) -> Phase {
    match body.trim_ascii() {
        b"LIVE" => Phase::Live,
        b"DRAINING" => Phase::Draining,
        _ => Phase::Initializing,
    }
}

#[derive(Deserialize)]
struct StatsJson {
    stats: Vec<StatJson>,
}

#[derive(Deserialize)]
struct StatJson {
    /// Absent in the entry that holds all histograms.
    #[serde(default)]
    name: String,
    #[serde(default)]
    value: serde_json::Value,
}

pub(crate) fn counters(body: &[u8]) -> Result<Counters, ParseError> {
    let stats: StatsJson = parse("/stats", body)?;
    let value = |name: &str| {
        let stat = stats.stats.iter().find(|stat| stat.name == name);
        stat.and_then(|stat| stat.value.as_u64()).unwrap_or(0)
    };
    Ok(Counters {
        stopped: value("listener_manager.listener_stopped"),
        create_failure: value("listener_manager.listener_create_failure"),
        update_rejected: value("listener_manager.lds.update_rejected"),
        update_attempt: value("listener_manager.lds.update_attempt"),
    })
}

#[derive(Deserialize)]
struct ListenersJson {
    /// Absent when there are none: proto3's JSON leaves out what is empty.
    #[serde(default)]
    listener_statuses: Vec<StatusJson>,
}

#[derive(Deserialize)]
struct StatusJson {
    #[serde(default)]
    name: String,
    #[serde(default)]
    local_address: AddressJson,
}

#[derive(Default, Deserialize)]
struct AddressJson {
    socket_address: Option<SocketAddressJson>,
}

#[derive(Deserialize)]
struct SocketAddressJson {
    #[serde(default)]
    address: String,
    #[serde(default)]
    port_value: u16,
}

impl AddressJson {
    /// `None` for pipes and for internal listeners.
    fn to_address(&self) -> Option<SocketAddr> {
        let socket = self.socket_address.as_ref()?;
        Some(SocketAddr::new(socket.address.parse::<IpAddr>().ok()?, socket.port_value))
    }
}

/// Addresses of the active listeners, static ones included.
pub(crate) fn active_addresses(body: &[u8]) -> Result<BTreeMap<String, Option<SocketAddr>>, ParseError> {
    let listeners: ListenersJson = parse(LISTENERS, body)?;
    Ok(listeners.listener_statuses.into_iter().map(|s| (s.name, s.local_address.to_address())).collect())
}

#[derive(Deserialize)]
struct DumpJson {
    #[serde(default)]
    configs: Vec<DynamicListenerJson>,
}

#[derive(Deserialize)]
struct DynamicListenerJson {
    #[serde(default)]
    name: String,
    active_state: Option<StateJson>,
    warming_state: Option<StateJson>,
    draining_state: Option<StateJson>,
    error_state: Option<ErrorJson>,
}

#[derive(Deserialize)]
struct StateJson {
    /// Left out by our mask, but there in a full dump.
    listener: Option<ListenerJson>,
}

#[derive(Deserialize)]
struct ErrorJson {
    failed_configuration: Option<ListenerJson>,
    #[serde(default)]
    details: String,
}

#[derive(Deserialize)]
struct ListenerJson {
    #[serde(default)]
    name: String,
    #[serde(default)]
    address: AddressJson,
}

/// Dynamic listeners, with the real addresses of the active ones.
pub(crate) fn dynamic_listeners(
    dump: &[u8],
    active: &BTreeMap<String, Option<SocketAddr>>,
) -> Result<BTreeMap<String, Seen>, ParseError> {
    let dump: DumpJson = parse("/config_dump?resource=dynamic_listeners", dump)?;
    let mut listeners = BTreeMap::new();
    for listener in dump.configs {
        let Some((name, seen)) = one_listener(listener, active) else { continue };
        match listeners.entry(name) {
            Entry::Vacant(place) => drop(place.insert(seen)),
            // The nameless repetition of a failure; the named entry knows the state.
            Entry::Occupied(mut known) => {
                if known.get().error.is_empty() {
                    known.get_mut().error = seen.error;
                }
            }
        }
    }
    Ok(listeners)
}

fn one_listener(
    listener: DynamicListenerJson,
    active: &BTreeMap<String, Option<SocketAddr>>,
) -> Option<(String, Seen)> {
    let (failed, error) = match listener.error_state {
        Some(state) => (state.failed_configuration, state.details),
        None => (None, String::new()),
    };
    let name = match &failed {
        Some(failed) if listener.name.is_empty() => failed.name.clone(),
        _ => listener.name,
    };
    let configured = |state: &StateJson| state.listener.as_ref().and_then(|l| l.address.to_address());
    let (state, address) = if listener.active_state.is_some() && active.contains_key(&name) {
        (ListenerState::Active, active.get(&name).copied().flatten())
    } else if let Some(warming) = &listener.warming_state {
        (ListenerState::Warming, configured(warming))
    } else if let Some(draining) = &listener.draining_state {
        (ListenerState::Draining, configured(draining))
    } else if let Some(failed) = &failed {
        (ListenerState::Failed, failed.address.to_address())
    } else {
        // Removed between our two questions.
        return None;
    };
    if name.is_empty() { None } else { Some((name, Seen { state, address, error })) }
}

fn parse<T: serde::de::DeserializeOwned>(path: &'static str, body: &[u8]) -> Result<T, ParseError> {
    serde_json::from_slice(body).map_err(|source| ParseError { path, source })
}

#[cfg(test)]
mod tests;
