//! The streams that live now, for people to look at.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dashmap::DashMap;
use serde::Serialize;

use super::stream::{Stream, StreamDebug};
use super::{DiscoveryService, Millis, StreamId};
use crate::snapshot::XdsSnapshot;

/// A stream shared between its task and those who look at it. The lock is held for one step of the
/// machine or one description of it, never across an await.
pub(super) type Shared = Arc<Mutex<Stream>>;

/// Streams by their ids. Cloning shares it.
#[derive(Clone, Default)]
pub struct Registry {
    streams: Arc<DashMap<StreamId, Entry>>,
}

struct Entry {
    node: Arc<str>,
    protocol: &'static str,
    service: DiscoveryService,
    peer: String,
    since: Millis,
    stream: Shared,
}

/// A stream in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StreamRow {
    /// The stream.
    pub stream: StreamId,
    /// `node.id`.
    pub node: Arc<str>,
    /// `SotW` or `Delta`.
    pub protocol: &'static str,
    /// The service that it came by: `ADS`, or `CDS`, `EDS`, `LDS`, `RDS`, `SDS`.
    pub service: DiscoveryService,
    /// The address that it comes from.
    pub peer: String,
    /// Since when, in milliseconds since the Unix epoch.
    pub since: Millis,
}

impl Registry {
    pub(super) fn insert(&self, stream: &Shared, peer: &str, since: Millis) {
        let machine = lock(stream);
        let (id, protocol, service) = (machine.id(), machine.protocol().label(), machine.service());
        let node = Arc::from(machine.node().id.as_str());
        drop(machine);
        let entry = Entry { node, protocol, service, peer: peer.to_owned(), since, stream: stream.clone() };
        self.streams.insert(id, entry);
    }

    pub(super) fn remove(&self, id: StreamId) {
        self.streams.remove(&id);
    }

    /// How many streams live.
    pub fn len(&self) -> usize {
        self.streams.len()
    }

    /// Whether no stream lives.
    pub fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    /// All streams, in the order in which they began.
    pub fn list(&self) -> Vec<StreamRow> {
        let row = |entry: dashmap::mapref::multiple::RefMulti<'_, StreamId, Entry>| StreamRow {
            stream: *entry.key(),
            node: entry.node.clone(),
            protocol: entry.protocol,
            service: entry.service,
            peer: entry.peer.clone(),
            since: entry.since,
        };
        let mut rows: Vec<StreamRow> = self.streams.iter().map(row).collect();
        rows.sort_by_key(|row| row.stream);
        rows
    }

    /// One stream in detail.
    pub fn stream(&self, id: StreamId) -> Option<StreamDebug> {
        // The map's own lock is given back before the stream's is taken.
        let stream = self.streams.get(&id)?.stream.clone();
        Some(lock(&stream).debug())
    }

    /// One stream in detail with the snapshot that it is served, as of one moment.
    pub fn look(&self, id: StreamId) -> Option<(StreamDebug, Option<Arc<XdsSnapshot>>)> {
        let stream = self.streams.get(&id)?.stream.clone();
        let machine = lock(&stream);
        Some((machine.debug(), machine.snapshot().cloned()))
    }

    /// The snapshot that a stream is served, with the bodies of all that it may have.
    pub fn snapshot(&self, id: StreamId) -> Option<Arc<XdsSnapshot>> {
        let stream = self.streams.get(&id)?.stream.clone();
        lock(&stream).snapshot().cloned()
    }

    /// All streams of a node in detail, in the order in which they began. An Envoy has one aggregated stream; more are
    /// two processes with one id, or an old connection that nobody has closed. Of single types it may have any number.
    pub fn node(&self, node: &str) -> Vec<StreamDebug> {
        let ids = self.list().into_iter().filter(|row| *row.node == *node).map(|row| row.stream);
        ids.filter_map(|id| self.stream(id)).collect()
    }
}

/// A poisoned lock means that another thread panicked while describing a stream; the machine itself
/// is changed by its own task only, whose panic ends the stream.
pub(super) fn lock(stream: &Shared) -> MutexGuard<'_, Stream> {
    stream.lock().unwrap_or_else(PoisonError::into_inner)
}
