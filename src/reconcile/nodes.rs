//! Envoys as they present themselves: identity, streams, and where their snapshots go.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tokio::sync::watch;

use crate::ads;
use crate::feedback::{NodeFacts, Protocol, Scope};
use crate::model::decision::{ClientView, NodeRole};
use crate::model::id::{ClusterName, NodeId};
use crate::model::object::Locality;
use crate::snapshot::XdsSnapshot;

use super::views::ViewKey;

/// What a stream is given of each new snapshot.
pub type SnapshotSender = watch::Sender<Option<Arc<XdsSnapshot>>>;

/// Reads an identity from the first message of a stream.
///
/// # Errors
/// Says what is missing and how to give it, for the stream's end.
pub fn identify(info: &ads::NodeInfo, protocol: ads::Protocol) -> Result<NodeFacts, String> {
    const HINT: &str = "print a bootstrap with `causeway bootstrap --role gateway|sidecar --node-id NAME`";
    if info.id.is_empty() {
        return Err(format!("the node has no id (node.id); {HINT}"));
    }
    // It becomes part of names, rows and log lines.
    if info.id.contains(char::is_control) {
        return Err(format!("the node's id (node.id) {:?} has control characters; {HINT}", info.id));
    }
    let text = |key: &str| info.metadata.get(key).and_then(|v| v.as_str()).filter(|v| !v.is_empty());
    let role = match text("role") {
        Some("gateway") => NodeRole::Gateway,
        Some("sidecar") => NodeRole::Sidecar,
        Some(other) => {
            return Err(format!("node {}: metadata `role` is `{other}`, not gateway or sidecar; {HINT}", info.id));
        }
        None => return Err(format!("node {}: metadata has no `role`; {HINT}", info.id)),
    };
    let labels = info
        .metadata
        .iter()
        .filter_map(|(key, value)| Some((Arc::from(key.as_str()), Arc::from(value.as_str()?))))
        .collect();
    let view = ClientView {
        role,
        cluster: text("cluster").map(ClusterName::from),
        network: text("network").map(Arc::from),
        locality: Locality { region: info.region.as_str().into(), zone: info.zone.as_str().into() },
    };
    let protocol = match protocol {
        ads::Protocol::Sotw => Protocol::Sotw,
        ads::Protocol::Delta => Protocol::Delta,
    };
    let (id, version) = (NodeId::from(info.id.as_str()), info.user_agent_version.as_str().into());
    Ok(NodeFacts { id, view, labels, version, protocol })
}

/// What a stream of that service can tell of listeners.
pub fn scope(service: ads::DiscoveryService) -> Scope {
    use ads::DiscoveryService::{Aggregated, Cluster, Endpoint, Listener, Route, Secret};
    match service {
        Aggregated => Scope::Everything,
        Listener => Scope::Listeners,
        Cluster | Endpoint | Route | Secret => Scope::Others,
    }
}

/// The streams of a connected node, and what they are served.
#[derive(Default)]
pub struct Node {
    /// By stream id; more than one for a moment when it reconnects before the old end is seen, or where it takes each type
    /// from a stream of its own.
    streams: BTreeMap<u64, SnapshotSender>,
    /// The view that it is of; none before anything is served.
    pub view: Option<ViewKey>,
}

impl Node {
    /// Gives the snapshot to each of its streams.
    pub fn send(&self, snapshot: &Arc<XdsSnapshot>) {
        for sender in self.streams.values() {
            sender.send_if_modified(|held| {
                let is_new = held.as_ref().is_none_or(|held| !Arc::ptr_eq(held, snapshot));
                if is_new {
                    *held = Some(snapshot.clone());
                }
                is_new
            });
        }
    }
}

/// All connected nodes.
#[derive(Default)]
pub struct Nodes {
    by_id: BTreeMap<NodeId, Node>,
    by_stream: HashMap<u64, NodeId>,
}

impl Nodes {
    /// Adds a stream, which is given nothing yet.
    pub fn connect(&mut self, stream: u64, id: &NodeId) -> ads::Snapshots {
        let (sender, receiver) = watch::channel(None);
        self.by_stream.insert(stream, id.clone());
        let node = self.by_id.entry(id.clone()).or_default();
        if let Some((other, _)) = node.streams.last_key_value() {
            tracing::debug!(node = %id, other, stream, "the node opened another stream");
        }
        node.streams.insert(stream, sender);
        receiver
    }

    /// Removes a stream; returns its node, and whether that was its last.
    pub fn disconnect(&mut self, stream: u64) -> Option<(NodeId, bool)> {
        let id = self.by_stream.remove(&stream)?;
        let node = self.by_id.get_mut(&id)?;
        node.streams.remove(&stream);
        let was_last = node.streams.is_empty();
        if was_last {
            self.by_id.remove(&id);
        }
        Some((id, was_last))
    }

    /// Whether the node has a stream.
    pub fn has(&self, id: &NodeId) -> bool {
        self.by_id.contains_key(id)
    }

    /// The node of a stream.
    pub fn of_stream(&self, stream: u64) -> Option<&NodeId> {
        self.by_stream.get(&stream)
    }

    /// All nodes that have a stream.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&NodeId, &mut Node)> {
        self.by_id.iter_mut()
    }
}
