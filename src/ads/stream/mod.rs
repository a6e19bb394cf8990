//! The machine of one stream: requests, snapshots and the time go in, responses and reports come out.
//!
//! The shell calls [`Stream::request`] for each request, [`Stream::snapshot_changed`] for each snapshot
//! and then [`Stream::next`] until it says `None`, at the latest at [`Stream::next_deadline`].

mod book;
mod debug;
mod delta;
mod holdings;
mod plans;
mod request;
mod resources;
mod sotw;
mod unserved;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use self::book::{Answered, Batch, Book, Removals};
use self::unserved::Unserved;
use super::{DiscoveryService, Limits, Millis, NodeInfo, Protocol, StreamId, Versioned, Violation};
use crate::snapshot::{Resource, ResourceType, XdsSnapshot};
use serde::Serialize;

pub use debug::{RefusedDebug, ResourceDebug, StreamDebug, TypeDebug};
pub use plans::Plans;
pub use request::{DeltaRequest, Request, Texts, VersionWalk, Versions};
pub use resources::Resources;

/// A response to send. Its resources are the snapshot's own: nothing is copied or encoded here.
#[derive(Clone, Debug)]
pub struct Response {
    /// Decides the message's form.
    pub protocol: Protocol,
    /// The type; `None` for types that are not served, whose responses are empty.
    pub ty: Option<ResourceType>,
    /// The type's URL.
    pub type_url: Arc<str>,
    /// `version_info` or `system_version_info`.
    pub version: String,
    /// The nonce: of this stream and type only (rule 1).
    pub nonce: String,
    /// The resources.
    pub resources: Resources,
    /// Names that do not exist or exist no longer; empty in SotW.
    pub removed: Vec<Arc<str>>,
}

/// What an answer proves; [`super::Event`] without the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// See [`super::Event::Acked`].
    Acked {
        /// The type.
        ty: ResourceType,
        /// What the client has.
        resources: Vec<Versioned>,
        /// What it has no longer.
        removed: Vec<Arc<str>>,
    },
    /// See [`super::Event::Rejected`].
    Rejected {
        /// The type.
        ty: ResourceType,
        /// Those that the error names.
        refused: Vec<Versioned>,
        /// Of the same response, those of which nothing is known.
        unknown: Vec<Versioned>,
        /// The client's words.
        detail: String,
        /// The part of the words about each refused one.
        details: BTreeMap<Arc<str>, String>,
    },
}

/// Messages of a type on a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Responses sent.
    pub responses: u64,
    /// Resources in them.
    pub resources: u64,
    /// Acknowledged ones.
    pub acks: u64,
    /// Refused ones.
    pub nacks: u64,
}

/// The machine of one stream.
pub struct Stream {
    id: StreamId,
    service: DiscoveryService,
    protocol: Protocol,
    node: NodeInfo,
    limits: Arc<Limits>,
    plans: Plans,
    snapshot: Option<Arc<XdsSnapshot>>,
    books: [Book; ResourceType::COUNT],
    unserved: BTreeMap<Arc<str>, Unserved>,
    /// Counts responses.
    seq: u64,
    /// Clusters that are new to the client and lack an assignment.
    awaited: BTreeSet<Arc<str>>,
    /// Something happened that may end the wait for some of them.
    awaits_less: bool,
    /// Assignments of clusters that were sent before the client asked for any assignment. It may say that it has
    /// them, but those clusters wait for them all the same (rule 5).
    owed: BTreeSet<Arc<str>>,
    /// The client takes its assignments from elsewhere, so they are not waited for.
    endpoints_elsewhere: bool,
    /// The client came with clusters from another stream, and what it has of listeners and routes it is still to say.
    introduces_itself: bool,
    /// Since when something is held back for the order's sake.
    held_since: Option<Millis>,
    /// Listeners that were removed may drain until then: their connections go on, and what they lead to has to stay.
    draining_until: Option<Millis>,
}

impl Stream {
    /// A stream of a node. Nothing is sent before there is a snapshot (rule 10).
    pub fn new(id: StreamId, protocol: Protocol, node: NodeInfo, limits: Arc<Limits>) -> Self {
        Self {
            id,
            service: DiscoveryService::Aggregated,
            protocol,
            node,
            limits,
            plans: Plans::default(),
            snapshot: None,
            books: ResourceType::ALL.map(|ty| Book::new(ty, protocol)),
            unserved: BTreeMap::new(),
            seq: 0,
            awaited: BTreeSet::new(),
            awaits_less: false,
            owed: BTreeSet::new(),
            endpoints_elsewhere: false,
            introduces_itself: false,
            held_since: None,
            draining_until: None,
        }
    }

    /// The service that it came by. At first it is the aggregated one. On a stream of one type nothing waits for the
    /// others, which the client may take from anywhere.
    pub fn came_by(&mut self, service: DiscoveryService) {
        self.service = service;
    }

    /// The service that it came by.
    pub fn service(&self) -> DiscoveryService {
        self.service
    }

    /// Reports of ACKs say what was acknowledged for these types only. At first it is all of them.
    pub fn tell_acks_of(&mut self, types: &[ResourceType]) {
        for book in &mut self.books {
            book.tells_acks = types.contains(&book.ty);
        }
    }

    /// What is decided for this stream is shared with those that have the same plans. At first they are its own.
    pub fn share_plans(&mut self, plans: &Plans) {
        self.plans = plans.clone();
    }

    /// The snapshot that is served.
    pub fn snapshot(&self) -> Option<&Arc<XdsSnapshot>> {
        self.snapshot.as_ref()
    }

    /// The stream's id.
    pub fn id(&self) -> StreamId {
        self.id
    }

    /// The protocol that it speaks.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// The node that it belongs to.
    pub fn node(&self) -> &NodeInfo {
        &self.node
    }

    /// Takes a request; what it proves is returned. An error ends the stream.
    pub fn request(&mut self, request: &Request, now: Millis) -> Result<Vec<Report>, Violation> {
        self.node.hold(request.node())?;
        let type_url = self.service.type_url_of(request.type_url())?;
        let Some(ty) = ResourceType::from_type_url(type_url) else {
            self.unserved_request(type_url, request)?;
            return Ok(Vec::new());
        };
        match request {
            Request::Sotw(request) => {
                self.awaits_less = true;
                self.sotw_request(ty, request, now)
            }
            Request::Delta(request) => {
                let names = [&request.subscribe, &request.unsubscribe];
                self.awaits_less |= match ty {
                    ResourceType::Cluster => request.error_detail.is_some() || names.iter().any(|all| !all.is_empty()),
                    _ => !request.response_nonce.is_empty(),
                };
                self.delta_request(ty, request, now)
            }
        }
    }

    /// Takes the view's latest snapshot; `None` changes nothing, since what is unknown is not empty.
    pub fn snapshot_changed(&mut self, snapshot: Option<&Arc<XdsSnapshot>>) -> Vec<Report> {
        let Some(next) = snapshot else { return Vec::new() };
        let before = self.snapshot.replace(next.clone());
        self.awaits_less = true;
        let mut reports = Vec::new();
        for book in self.books.iter_mut().filter(|book| book.sub.begun()) {
            match &before {
                Some(before) => book.snapshot_changed(before, next),
                None => {
                    book.compare_all(next);
                    reports.extend(book.proved_initially());
                }
            }
        }
        reports
    }

    /// Whether a new snapshot is to be taken now. While assignments wait for their ACK, which a client gives at once, what
    /// changes meanwhile is left to add up: a client that is slower than the changes takes the latest of each at its own
    /// pace, and costs nothing in between.
    pub fn follows_snapshots(&self) -> bool {
        self.book(ResourceType::Endpoint).in_flight.is_none()
    }

    /// The next response to send, or `None` until something happens.
    pub fn next(&mut self, now: Millis) -> Option<Response> {
        if let Some(response) = self.next_unserved() {
            return Some(response);
        }
        let snapshot = self.snapshot.clone()?;
        let overdue = self.held_since.is_some_and(|since| now - since >= millis(self.limits.order_timeout));
        if overdue {
            self.endpoints_elsewhere |= !self.book(ResourceType::Endpoint).sub.begun();
            self.awaited.clear();
            self.introduces_itself = false;
        }
        self.prune_awaited(&snapshot);
        self.draining_until = self.draining_until.filter(|until| now < *until);
        let drains = self.draining_until.is_some();
        // The second round is for removals: what they wait for may have turned out to be nothing.
        for ty in ResourceType::ALL.into_iter().chain([ResourceType::Cluster, ResourceType::Endpoint]) {
            if !overdue && self.must_wait(ty) {
                continue;
            }
            let serves_a_drain = drains && ty != ResourceType::Listener;
            let may_remove = !serves_a_drain && (overdue || self.may_remove(ty));
            let removals = if may_remove { Removals::Now } else { Removals::Held };
            let max_bytes = self.limits.max_response_bytes;
            if let Some(batch) = self.books[ty.index()].plan(&snapshot, &self.plans, removals, max_bytes) {
                return Some(self.send(ty, batch, &snapshot, now));
            }
        }
        // What is due but could not be sent was held back, unless it only waits for its own ACK.
        // What a draining listener still needs is kept on purpose, which is no reason to hurry anything.
        let held = self.books.iter().any(|book| {
            let is_kept = drains && book.ty != ResourceType::Listener && !book.has_pending_of(&snapshot);
            book.in_flight.is_none() && book.has_pending() && !is_kept
        });
        self.held_since = held.then(|| self.held_since.filter(|_| !overdue).unwrap_or(now));
        None
    }

    /// When to call [`Stream::next`] or [`Stream::overdue`] though nothing happened.
    pub fn next_deadline(&self) -> Option<Millis> {
        let held = self.held_since.map(|since| since + millis(self.limits.order_timeout));
        let unanswered = self.oldest_in_flight().map(|(_, at)| at + millis(self.limits.ack_timeout));
        held.into_iter().chain(unanswered).chain(self.draining_until).min()
    }

    /// The type whose response the client has left unanswered for longer than it may. Clusters do not
    /// count: Envoy withholds their ACK while any of them is warming, which may take for ever.
    pub fn overdue(&self, now: Millis) -> Option<ResourceType> {
        let (ty, at) = self.oldest_in_flight()?;
        (now - at >= millis(self.limits.ack_timeout)).then_some(ty)
    }

    fn oldest_in_flight(&self) -> Option<(ResourceType, Millis)> {
        let prompt = self.books.iter().filter(|book| book.ty != ResourceType::Cluster);
        let all = prompt.filter_map(|book| Some((book.ty, book.in_flight.as_ref()?.sent_at)));
        all.min_by_key(|(_, at)| *at)
    }

    /// For how many names of a type more is kept than the subscription.
    #[cfg(test)]
    pub(in crate::ads) fn told_apart(&self, ty: ResourceType) -> usize {
        self.book(ty).known.apart()
    }

    fn book(&self, ty: ResourceType) -> &Book {
        &self.books[ty.index()]
    }

    fn book_mut(&mut self, ty: ResourceType) -> &mut Book {
        &mut self.books[ty.index()]
    }

    /// Rule 4, make: listeners and routes wait until the clusters that they may lead to are there with
    /// their endpoints. Only clusters that are new count, so the daily change of endpoints holds
    /// nothing back.
    fn must_wait(&self, ty: ResourceType) -> bool {
        let has_news = |ty| {
            let book = self.book(ty);
            book.in_flight.as_ref().is_some_and(|sent| sent.has_news() || book.has_pending())
        };
        match ty {
            ResourceType::Cluster | ResourceType::Endpoint => false,
            ResourceType::Listener => has_news(ResourceType::Cluster) || !self.awaited.is_empty(),
            ResourceType::Route => self.must_wait(ResourceType::Listener) || has_news(ResourceType::Listener),
        }
    }

    /// Rule 4, break: clusters go when no listener and no route is about to stop leading to them, and
    /// assignments after their clusters. Listeners go at once, as a new one may need their address. A client that
    /// reconnects asks for clusters first: what it has of the others leads to clusters as well.
    fn may_remove(&self, ty: ResourceType) -> bool {
        let settled = |ty| self.book(ty).is_settled();
        match ty {
            ResourceType::Cluster => {
                let all = [ResourceType::Listener, ResourceType::Route];
                let is_known = !self.introduces_itself || all.iter().all(|ty| self.book(*ty).sub.begun());
                is_known && all.into_iter().all(settled)
            }
            ResourceType::Endpoint => self.may_remove(ResourceType::Cluster) && settled(ResourceType::Cluster),
            ResourceType::Listener => true,
            ResourceType::Route => settled(ResourceType::Listener),
        }
    }

    fn prune_awaited(&mut self, snapshot: &Arc<XdsSnapshot>) {
        if !std::mem::take(&mut self.awaits_less) || self.awaited.is_empty() {
            return;
        }
        let [clusters, endpoints] = [ResourceType::Cluster, ResourceType::Endpoint].map(|ty| &self.books[ty.index()]);
        let mut current = [ResourceType::Cluster, ResourceType::Endpoint].map(|ty| snapshot.walk(ty));
        let mut accepted = endpoints.accepts(snapshot);
        self.awaited.retain(|name| {
            // Nobody asks for the assignments of a cluster that is gone, refused, or given up by the client. One that
            // changed meanwhile waits for those that it needs now.
            let cluster = current[0].get(name);
            let wanted = cluster.filter(|cluster| clusters.sub.covers(name) && !clusters.is_refused(cluster));
            wanted.into_iter().flat_map(assignments).any(|name| {
                let resource = current[1].get(name);
                resource.is_some_and(|r| !endpoints.is_refused(r)) && !accepted(name)
            })
        });
    }

    fn send(&mut self, ty: ResourceType, batch: Batch, snapshot: &XdsSnapshot, now: Millis) -> Response {
        let nonce = self.next_nonce();
        // Complete lists leave out what was refused, so they have a version of their own.
        let version = batch.list_version.unwrap_or_else(|| snapshot.version(ty));
        let removed = match self.protocol {
            Protocol::Delta => batch.removed.clone(),
            Protocol::Sotw => Vec::new(),
        };
        let response = Response {
            protocol: self.protocol,
            ty: Some(ty),
            type_url: Arc::from(ty.type_url()),
            version: version.to_string(),
            nonce: nonce.clone(),
            resources: batch.resources.clone(),
            removed,
        };
        if ty == ResourceType::Listener && !batch.removed.is_empty() {
            self.draining_until = Some(now + millis(self.limits.drain_timeout)).filter(|until| now < *until);
        }
        let changed = self.book_mut(ty).sent(batch, nonce, now);
        if ty == ResourceType::Cluster && self.service.is_aggregated() {
            self.follow_clusters(&changed);
        }
        response
    }

    /// Rule 5. The endpoints follow the clusters at once and not after their ACK: Envoy withholds the ACK
    /// of clusters until all are warm, and for that they need their endpoints. It reads them in order.
    fn follow_clusters(&mut self, changed: &[Arc<Resource>]) {
        let endpoints = &mut self.books[ResourceType::Endpoint.index()];
        let needed = changed.iter().flat_map(assignments);
        if endpoints.sub.begun() {
            needed.for_each(|name| endpoints.force(name));
        } else if self.owed.is_empty() {
            self.owed = needed.cloned().collect();
        } else {
            self.owed.extend(needed.cloned());
        }
        if !self.endpoints_elsewhere {
            let newcomers = self.book(ResourceType::Cluster).newcomers();
            let mut newcomers: BTreeSet<Arc<str>> = newcomers.map(|cluster| cluster.name().clone()).collect();
            self.awaited.append(&mut newcomers);
            self.awaits_less = true;
        }
    }

    fn next_nonce(&mut self) -> String {
        self.seq += 1;
        format!("{:x}.{:x}", self.id.0, self.seq)
    }

    /// Follows the answer to a response: what a refused cluster needs is not waited for.
    fn answered(&mut self, ty: ResourceType, answered: Option<Answered>) -> Option<Report> {
        let answered = answered?;
        if ty == ResourceType::Cluster {
            for cluster in &answered.refused {
                self.awaited.remove(cluster.name());
            }
        }
        Some(answered.report)
    }

    /// Takes the answer that a request may hold: only to the response in flight (rule 1), and a NACK
    /// only by its error, never by its version (rule 2).
    fn take_answer(
        &mut self,
        ty: ResourceType,
        nonce: &str,
        error: Option<&xds_api::pb::google::rpc::Status>,
        now: Millis,
    ) -> Option<Report> {
        let book = self.book_mut(ty);
        book.in_flight.as_ref().filter(|sent| sent.nonce == nonce)?;
        let answered = match error {
            None => book.acked(),
            Some(error) => book.nacked(&error.message, now),
        };
        self.answered(ty, answered)
    }
}

/// The assignments that a cluster waits for: those that it refers to, else the one of its own name.
fn assignments(cluster: &Arc<Resource>) -> impl Iterator<Item = &Arc<str>> {
    let refs = || cluster.refs().iter().filter(|r| r.ty == ResourceType::Endpoint);
    let own = refs().next().is_none().then(|| cluster.name());
    refs().map(|r| &r.name).chain(own)
}

fn millis(duration: std::time::Duration) -> Millis {
    Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX / 4)
}
