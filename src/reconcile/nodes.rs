//! Envoys as they present themselves: identity, streams, and where their snapshots go.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tokio::sync::watch;

use crate::ads;
use crate::model::Timestamp;
use crate::model::decision::{ClientView, NodeRole};
use crate::model::id::{ClusterName, NodeId};
use crate::model::object::{Labels, Locality};
use crate::snapshot::XdsSnapshot;

use super::views::ViewKey;

/// What a stream is given of each new snapshot.
pub type SnapshotSender = watch::Sender<Option<Arc<XdsSnapshot>>>;

/// Who a node says that it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Identity {
    /// `node.id`.
    pub id: NodeId,
    /// What policies see.
    pub client: ClientView,
    /// All text-valued metadata, for pool selectors.
    pub labels: Labels,
    /// As the Envoy says.
    pub version: String,
}

/// Reads an identity from the first message of a stream.
///
/// # Errors
/// Says what is missing and how to give it, for the stream's end.
pub fn identify(info: &ads::NodeInfo) -> Result<Identity, String> {
    const HINT: &str = "print a bootstrap with `causeway bootstrap --role gateway|sidecar --node-id NAME`";
    if info.id.is_empty() {
        return Err(format!("the node has no id (node.id); {HINT}"));
    }
    let text = |key: &str| info.metadata.get(key).and_then(|v| v.as_str()).filter(|v| !v.is_empty());
    let role = match text("role") {
        Some("gateway") => NodeRole::Gateway,
        Some("sidecar") => NodeRole::Sidecar,
        Some(other) => return Err(format!("node {}: metadata `role` is `{other}`, not gateway or sidecar; {HINT}", info.id)),
        None => return Err(format!("node {}: metadata has no `role`; {HINT}", info.id)),
    };
    let labels = info
        .metadata
        .iter()
        .filter_map(|(key, value)| Some((Arc::from(key.as_str()), Arc::from(value.as_str()?))))
        .collect();
    let client = ClientView {
        role,
        cluster: text("cluster").map(ClusterName::from),
        network: text("network").map(Arc::from),
        locality: Locality { region: info.region.as_str().into(), zone: info.zone.as_str().into() },
    };
    Ok(Identity { id: NodeId::from(info.id.as_str()), client, labels, version: info.user_agent_version.clone() })
}

/// A node that is or was connected.
pub struct Node {
    /// Who it says it is, by its newest stream.
    pub identity: Identity,
    /// Its streams; more than one for a moment when it reconnects before the old end is seen.
    pub streams: BTreeMap<u64, (SnapshotSender, ads::Protocol)>,
    /// The view that it is of.
    pub view: ViewKey,
    /// When it connected, or went.
    pub since: Timestamp,
}

impl Node {
    /// The newest stream: the only one whose word counts.
    pub fn newest_stream(&self) -> Option<u64> {
        self.streams.keys().next_back().copied()
    }

    /// Gives the snapshot to each of its streams.
    pub fn send(&self, snapshot: &Arc<XdsSnapshot>) {
        for (sender, _) in self.streams.values() {
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

/// All nodes that this process has seen.
#[derive(Default)]
pub struct Nodes {
    /// By id.
    pub by_id: BTreeMap<NodeId, Node>,
    by_stream: HashMap<u64, NodeId>,
}

impl Nodes {
    /// Adds a stream; says whether the node's identity differs from an earlier stream's.
    pub fn connect(&mut self, stream: u64, identity: Identity, view: ViewKey, protocol: ads::Protocol, now: Timestamp) -> watch::Receiver<Option<Arc<XdsSnapshot>>> {
        let (sender, receiver) = watch::channel(None);
        self.by_stream.insert(stream, identity.id.clone());
        let node = self.by_id.entry(identity.id.clone()).or_insert_with(|| Node {
            identity: identity.clone(),
            streams: BTreeMap::new(),
            view: view.clone(),
            since: now,
        });
        if let Some(other) = node.newest_stream() {
            tracing::info!(node = %identity.id, other, stream, "the node opened another stream; the newer one counts");
        } else {
            node.since = now;
        }
        node.identity = identity;
        node.view = view;
        node.streams.insert(stream, (sender, protocol));
        receiver
    }

    /// Removes a stream; returns its node where that was its last.
    pub fn disconnect(&mut self, stream: u64, now: Timestamp) -> Option<NodeId> {
        let id = self.by_stream.remove(&stream)?;
        let node = self.by_id.get_mut(&id)?;
        node.streams.remove(&stream);
        if !node.streams.is_empty() {
            return None;
        }
        node.since = now;
        Some(id)
    }

    /// The node of a stream, if that stream is its newest: reports of older ones say nothing of what is.
    pub fn speaking(&self, stream: u64) -> Option<&NodeId> {
        let id = self.by_stream.get(&stream)?;
        let node = self.by_id.get(id)?;
        (node.newest_stream() == Some(stream)).then_some(id)
    }

    /// Nodes with at least one stream.
    pub fn connected(&self) -> impl Iterator<Item = (&NodeId, &Node)> {
        self.by_id.iter().filter(|(_, node)| !node.streams.is_empty())
    }
}
