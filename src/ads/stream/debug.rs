//! What people can see of a stream while it lives.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::book::Book;
use super::{Counts, Stream};
use crate::ads::{DiscoveryService, Millis, NodeInfo, StreamId};
use crate::snapshot::ResourceType;

/// A stream, for `/debug/xds/nodes/{id}`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StreamDebug {
    /// The stream.
    pub stream: StreamId,
    /// What the node said of itself.
    pub node: NodeInfo,
    /// `SotW` or `Delta`.
    pub protocol: &'static str,
    /// The service that it came by: `ADS`, or `CDS`, `EDS`, `LDS`, `RDS`, `SDS`.
    pub service: DiscoveryService,
    /// The local number of the snapshot that is served; `None` while there is none.
    pub generation: Option<u64>,
    /// By type.
    pub types: BTreeMap<ResourceType, TypeDebug>,
    /// Types that were asked for and are not served.
    pub unserved: Vec<Arc<str>>,
    /// Clusters for whose assignments listeners and routes wait.
    pub awaited: Vec<Arc<str>>,
}

/// One type on a stream.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TypeDebug {
    /// Whether everything is wanted.
    pub wildcard: bool,
    /// Names that were given one by one.
    pub names: Vec<Arc<str>>,
    /// Names that cannot be subscribed to.
    pub not_understood: Vec<Arc<str>>,
    /// What the client has or may have, by name.
    pub resources: BTreeMap<Arc<str>, ResourceDebug>,
    /// What it refused.
    pub refused: Vec<RefusedDebug>,
    /// The nonce of the response that waits for an answer.
    pub in_flight: Option<String>,
    /// When that was sent, in milliseconds since the Unix epoch.
    pub in_flight_since: Option<Millis>,
    /// The last NACK's text.
    pub last_nack: Option<String>,
    /// When it came, in milliseconds since the Unix epoch.
    pub last_nack_at: Option<Millis>,
    /// Messages.
    pub counts: Counts,
}

/// One resource on a stream.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ResourceDebug {
    /// The version that the client accepted last.
    pub accepted: Option<Arc<str>>,
    /// A version that was sent and not proved yet.
    pub offered: Option<Arc<str>>,
    /// When it was sent last, in milliseconds since the Unix epoch, where it is among the last of its type that were; `None`
    /// where the client had it before, too.
    pub sent_at: Option<Millis>,
}

/// A version that was refused.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RefusedDebug {
    /// The resource.
    pub name: Arc<str>,
    /// The version.
    pub version: Arc<str>,
    /// The client's words about it; of a resource's latest refused version only.
    pub detail: String,
    /// When, in milliseconds since the Unix epoch.
    pub at: Millis,
}

impl Stream {
    /// The stream as it is now. O(resources): for people.
    pub fn debug(&self) -> StreamDebug {
        let begun = self.books.iter().filter(|book| book.sub.begun());
        StreamDebug {
            stream: self.id,
            node: self.node.clone(),
            protocol: self.protocol.label(),
            service: self.service,
            generation: self.snapshot.as_ref().map(|snapshot| snapshot.generation()),
            types: begun.map(|book| (book.ty, of_type(book))).collect(),
            unserved: self.unserved_types(),
            awaited: self.awaited.iter().cloned().collect(),
        }
    }
}

fn of_type(book: &Book) -> TypeDebug {
    let sent_at: BTreeMap<&Arc<str>, Millis> = book.latest.iter().map(|(name, at)| (name, *at)).collect();
    let plainly: BTreeMap<&Arc<str>, &Arc<str>> = book.in_flight.iter().flat_map(|sent| sent.plainly()).collect();
    let resource = |name: &Arc<str>| ResourceDebug {
        accepted: book.known.accepted(&book.sub, name).cloned(),
        offered: book.known.offered(name).or_else(|| plainly.get(name).copied()).cloned(),
        sent_at: sent_at.get(name).copied(),
    };
    let mut refused: Vec<RefusedDebug> = Vec::new();
    for (name, versions) in &book.refused {
        refused.extend(versions.iter().map(|r| RefusedDebug {
            name: name.clone(),
            version: r.version.clone(),
            detail: r.detail.clone(),
            at: r.at,
        }));
    }
    refused.sort_by(|a, b| (&a.name, a.at).cmp(&(&b.name, b.at)));
    TypeDebug {
        wildcard: book.sub.is_wildcard(),
        names: book.sub.names().iter().cloned().collect(),
        not_understood: book.not_understood.iter().cloned().collect(),
        resources: book.known.names(&book.sub).into_iter().map(|name| (name.clone(), resource(&name))).collect(),
        refused,
        in_flight: book.in_flight.as_ref().map(|sent| sent.nonce.clone()),
        in_flight_since: book.in_flight.as_ref().map(|sent| sent.sent_at),
        last_nack: book.last_nack.as_ref().map(|(_, text)| text.clone()),
        last_nack_at: book.last_nack.as_ref().map(|(at, _)| *at),
        counts: book.counts,
    }
}
