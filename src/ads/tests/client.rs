//! A model of an xDS client, as strict as the protocol allows: it panics where a server breaks a rule
//! that holds always.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use xds_api::pb::envoy::config::core::v3::Node;
use xds_api::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use xds_api::pb::google::rpc::Status;

use crate::ads::stream::{Report, Request, Response, Stream};
use crate::ads::{DiscoveryService, Limits, Millis, NodeInfo, Protocol, StreamId, Violation};
use crate::snapshot::{Reference, Resource, ResourceType, SnapshotBuilder, XdsSnapshot};

pub(super) use crate::snapshot::ResourceType::{Cluster, Endpoint, Listener, Route};

pub(super) const BOTH: [Protocol; 2] = [Protocol::Sotw, Protocol::Delta];

/// A resource whose body is this text. Clients refuse bodies that begin with `bad`.
pub(super) fn res(ty: ResourceType, name: &str, body: &str) -> Resource {
    let resource = Resource::from_encoded(ty, name, Bytes::copy_from_slice(body.as_bytes()));
    match ty {
        Cluster => resource.with_refs([Reference::new(Endpoint, name)]),
        _ => resource,
    }
}

pub(super) fn is_bad(resource: &Resource) -> bool {
    resource.body().starts_with(b"bad")
}

/// A snapshot of these, in a lineage of its own.
pub(super) fn snapshot(resources: &[(ResourceType, &str, &str)]) -> Arc<XdsSnapshot> {
    let mut builder = SnapshotBuilder::new();
    builder.update(|edit| {
        for (ty, name, body) in resources {
            edit.set(res(*ty, name, body));
        }
    });
    builder.latest().clone()
}

/// What the client has of one type.
#[derive(Default)]
struct Side {
    subscribed: BTreeSet<String>,
    asked: bool,
    nonce: String,
    version: String,
    has: BTreeMap<Arc<str>, Arc<Resource>>,
    in_flight: usize,
}

/// How the client words a NACK.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Wording {
    /// As Envoy does, with the names.
    Envoy,
    /// Without any name.
    Nameless,
}

pub(super) struct Client {
    pub(super) stream: Stream,
    pub(super) protocol: Protocol,
    pub(super) now: Millis,
    pub(super) wording: Wording,
    sides: [Side; 4],
    /// Every response since the last [`Client::take_log`].
    log: Vec<Response>,
    pub(super) reports: Vec<Report>,
    /// (type, name, version) that was alone or named in a NACK.
    refused: BTreeSet<(ResourceType, Arc<str>, Arc<str>)>,
    nonces: HashMap<String, ()>,
}

pub(super) fn node(id: &str) -> Node {
    Node { id: id.to_owned(), ..Node::default() }
}

pub(super) fn names(of: &[&str]) -> Vec<String> {
    of.iter().map(|name| (*name).to_owned()).collect()
}

impl Client {
    pub(super) fn new(protocol: Protocol) -> Self {
        Self::with_limits(protocol, Limits::default())
    }

    pub(super) fn with_limits(protocol: Protocol, limits: Limits) -> Self {
        let node = NodeInfo::read(Some(&node("n"))).expect("a node with an id");
        Self {
            stream: Stream::new(StreamId(1), protocol, node, Arc::new(limits)),
            protocol,
            now: 1_000,
            wording: Wording::Envoy,
            sides: Default::default(),
            log: Vec::new(),
            reports: Vec::new(),
            refused: BTreeSet::new(),
            nonces: HashMap::new(),
        }
    }

    /// A client whose view has this snapshot.
    pub(super) fn on(protocol: Protocol, snapshot: &Arc<XdsSnapshot>) -> Self {
        let mut client = Self::new(protocol);
        client.publish(snapshot);
        client
    }

    /// A client of the type's own service.
    pub(super) fn of_one(protocol: Protocol, service: DiscoveryService, snapshot: &Arc<XdsSnapshot>) -> Self {
        let mut client = Self::new(protocol);
        client.stream.came_by(service);
        client.publish(snapshot);
        client
    }

    pub(super) fn publish(&mut self, snapshot: &Arc<XdsSnapshot>) {
        let reports = self.stream.snapshot_changed(Some(snapshot));
        self.reports.extend(reports);
    }

    /// The same client on a new stream: it keeps what it has.
    pub(super) fn reconnect(&mut self, snapshot: &Arc<XdsSnapshot>) {
        for (ty, names) in self.begin_anew(snapshot) {
            self.subscribe(ty, &names.iter().map(String::as_str).collect::<Vec<_>>());
        }
    }

    /// The same, where each request is answered before the next one comes.
    pub(super) fn reconnect_slowly(&mut self, snapshot: &Arc<XdsSnapshot>) {
        for (ty, names) in self.begin_anew(snapshot) {
            self.subscribe(ty, &names.iter().map(String::as_str).collect::<Vec<_>>());
            self.settle();
        }
    }

    /// A new stream, and what is to be asked for on it.
    fn begin_anew(&mut self, snapshot: &Arc<XdsSnapshot>) -> Vec<(ResourceType, BTreeSet<String>)> {
        let mut next = Self::of_one(self.protocol, self.stream.service(), snapshot);
        std::mem::swap(&mut next.sides, &mut self.sides);
        (next.wording, next.now) = (self.wording, self.now);
        for side in &mut next.sides {
            (side.asked, side.in_flight) = (false, 0);
            side.nonce.clear();
        }
        *self = next;
        let wanted = ResourceType::ALL.map(|ty| (ty, std::mem::take(&mut self.sides[ty.index()].subscribed)));
        wanted.into_iter().filter(|(_, names)| !names.is_empty()).collect()
    }

    pub(super) fn request(&mut self, request: Request) -> Result<(), Violation> {
        let reports = self.stream.request(&request, self.now)?;
        self.reports.extend(reports);
        Ok(())
    }

    pub(super) fn subscribe(&mut self, ty: ResourceType, wanted: &[&str]) {
        self.change(ty, wanted, &[]);
    }

    pub(super) fn unsubscribe(&mut self, ty: ResourceType, unwanted: &[&str]) {
        self.change(ty, &[], unwanted);
    }

    fn change(&mut self, ty: ResourceType, wanted: &[&str], unwanted: &[&str]) {
        let side = &mut self.sides[ty.index()];
        side.subscribed.extend(names(wanted));
        for name in unwanted {
            side.subscribed.remove(*name);
        }
        let covers = |n: &Arc<str>| side.subscribed.contains("*") || side.subscribed.contains(&**n);
        let request = match self.protocol {
            Protocol::Sotw => Request::from(self.sotw_request(ty)),
            Protocol::Delta => {
                let first = !side.asked;
                let initial = side.has.iter().filter(|(n, _)| first && covers(n));
                let initial_resource_versions =
                    initial.map(|(name, r)| (name.to_string(), r.version().to_string())).collect();
                Request::from(DeltaDiscoveryRequest {
                    type_url: ty.type_url().to_owned(),
                    resource_names_subscribe: names(wanted),
                    resource_names_unsubscribe: names(unwanted),
                    initial_resource_versions,
                    ..DeltaDiscoveryRequest::default()
                })
            }
        };
        let side = &mut self.sides[ty.index()];
        side.asked = true;
        // What is not wanted is forgotten at once, on both sides.
        let subscribed = side.subscribed.clone();
        side.has.retain(|name, _| subscribed.contains("*") || subscribed.contains(&**name));
        self.request(request).expect("a subscription within the limits");
    }

    pub(super) fn sotw_request(&self, ty: ResourceType) -> DiscoveryRequest {
        let side = &self.sides[ty.index()];
        DiscoveryRequest {
            type_url: ty.type_url().to_owned(),
            resource_names: side.subscribed.iter().cloned().collect(),
            response_nonce: side.nonce.clone(),
            version_info: side.version.clone(),
            ..DiscoveryRequest::default()
        }
    }

    /// Everything that the server has to say now.
    pub(super) fn flush(&mut self) -> Vec<Response> {
        let mut out = Vec::new();
        while let Some(response) = self.stream.next(self.now) {
            assert!(out.len() < 1000, "the server does not stop");
            self.check(&response);
            self.log.push(response.clone());
            out.push(response);
        }
        out
    }

    fn check(&mut self, response: &Response) {
        assert!(self.nonces.insert(response.nonce.clone(), ()).is_none(), "a nonce was used twice");
        let Some(ty) = response.ty else { return };
        let side = &mut self.sides[ty.index()];
        side.in_flight += 1;
        assert_eq!(side.in_flight, 1, "rule 21: two responses of {ty} in flight");
        let mut seen = BTreeSet::new();
        let all = response.resources.iter().map(|r| r.name()).chain(&response.removed);
        for name in all {
            assert!(seen.insert(name.clone()), "rule 14: {name} twice in one response");
        }
        for resource in &response.resources {
            let key = (ty, resource.name().clone(), resource.version().clone());
            assert!(!self.refused.contains(&key), "rule 2: {key:?} was refused and is sent again");
        }
    }

    /// Takes over what is good and answers.
    pub(super) fn answer(&mut self, response: &Response) {
        let Some(ty) = response.ty else {
            return self.reply(&response.type_url, &response.nonce, None);
        };
        let side = &mut self.sides[ty.index()];
        let wanted = |name: &Arc<str>| side.subscribed.contains("*") || side.subscribed.contains(&**name);
        side.in_flight -= 1;
        side.nonce.clone_from(&response.nonce);
        if self.protocol == Protocol::Sotw && ty.is_complete_list() {
            let kept: BTreeSet<&Arc<str>> = response.resources.iter().map(|r| r.name()).collect();
            side.has.retain(|name, _| kept.contains(name));
        }
        for name in &response.removed {
            side.has.remove(name);
        }
        let (bad, good): (Vec<_>, Vec<_>) = response.resources.iter().cloned().partition(|r| is_bad(r));
        side.has.extend(good.into_iter().filter(|r| wanted(r.name())).map(|r| (r.name().clone(), r)));
        if bad.is_empty() {
            side.version.clone_from(&response.version);
            return self.reply(ty.type_url(), &response.nonce, None);
        }
        let is_told = self.wording == Wording::Envoy || response.resources.len() == 1;
        let text = match self.wording {
            Wording::Envoy => {
                let entries: Vec<String> = bad.iter().map(|r| format!("{}: cannot", r.name())).collect();
                format!("Error adding/updating listener(s) {}", entries.join("\n"))
            }
            Wording::Nameless => "cannot".to_owned(),
        };
        for resource in bad.iter().filter(|_| is_told) {
            self.refused.insert((ty, resource.name().clone(), resource.version().clone()));
        }
        self.reply(ty.type_url(), &response.nonce, Some(text));
    }

    fn reply(&mut self, type_url: &str, nonce: &str, error: Option<String>) {
        let error_detail = error.map(|message| Status { code: 13, message, ..Status::default() });
        let request = match (self.protocol, ResourceType::from_type_url(type_url)) {
            (Protocol::Sotw, Some(ty)) => Request::from(DiscoveryRequest { error_detail, ..self.sotw_request(ty) }),
            (Protocol::Sotw, None) => Request::from(DiscoveryRequest {
                type_url: type_url.to_owned(),
                response_nonce: nonce.to_owned(),
                ..DiscoveryRequest::default()
            }),
            (Protocol::Delta, _) => Request::from(DeltaDiscoveryRequest {
                type_url: type_url.to_owned(),
                response_nonce: nonce.to_owned(),
                error_detail,
                ..DeltaDiscoveryRequest::default()
            }),
        };
        self.request(request).expect("an answer breaks no limit");
    }

    /// Answers until there is nothing more to say. Panics when that does not end.
    pub(super) fn settle(&mut self) {
        for _ in 0..500 {
            let responses = self.flush();
            if responses.is_empty() {
                return;
            }
            for response in &responses {
                self.answer(response);
            }
        }
        panic!("client and server talk without end");
    }

    pub(super) fn has(&self, ty: ResourceType) -> BTreeMap<Arc<str>, Arc<Resource>> {
        self.sides[ty.index()].has.clone()
    }

    /// What the client has as `name=body`.
    pub(super) fn holds(&self, ty: ResourceType) -> Vec<String> {
        let text = |r: &Arc<Resource>| format!("{}={}", r.name(), String::from_utf8_lossy(r.body()));
        self.sides[ty.index()].has.values().map(text).collect()
    }

    pub(super) fn subscribed(&self, ty: ResourceType) -> &BTreeSet<String> {
        &self.sides[ty.index()].subscribed
    }

    pub(super) fn take_reports(&mut self) -> Vec<Report> {
        std::mem::take(&mut self.reports)
    }

    /// What was sent, as `type: name name -removed`, one line a response.
    pub(super) fn take_log(&mut self) -> Vec<String> {
        self.log.drain(..).map(|response| line(&response)).collect()
    }
}

/// A response as `type: name name -removed`.
pub(super) fn line(response: &Response) -> String {
    let ty = response.ty.map_or(response.type_url.to_string(), |ty| ty.to_string());
    let added = response.resources.iter().map(|r| format!(" {}", r.name()));
    let removed = response.removed.iter().map(|name| format!(" -{name}"));
    format!("{ty}:{}", added.chain(removed).collect::<String>())
}
