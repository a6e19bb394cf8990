//! One connection: a stream of the server, what is on its way in both directions, and what holds of
//! every message whatever happens.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::client::{Client, Kind};
use crate::ads::stream::{Plans, Report, Request, Response, Stream};
use crate::ads::tests::client::{Cluster, Listener, Route, is_bad, node};
use crate::ads::{Limits, Millis, NodeInfo, Protocol, StreamId};
use crate::snapshot::{Resource, ResourceType, XdsSnapshot};

type Name = Arc<str>;

/// What the server was told of one type on this stream.
#[derive(Default)]
struct Told {
    /// The response that it has no answer to.
    unanswered: Option<(String, Vec<Arc<Resource>>, Vec<Name>)>,
    /// What was acknowledged.
    acked: BTreeMap<Name, Arc<Resource>>,
    /// What was refused so that it cannot be misunderstood.
    refused: BTreeSet<(Name, Name)>,
    begun: bool,
}

pub(super) struct Link {
    pub(super) replica: usize,
    pub(super) stream: Stream,
    pub(super) to_server: VecDeque<Request>,
    pub(super) to_client: VecDeque<(Response, Asked)>,
    /// Responses that fit on the way to a client that does not read.
    capacity: usize,
    limits: Arc<Limits>,
    told: [Told; 4],
    nonces: BTreeSet<String>,
    /// There was a snapshot.
    synced: bool,
    /// What the server believes that the client has.
    pub(super) believed: [BTreeMap<Name, Name>; 4],
    /// Resources that were sent.
    pub(super) resources: usize,
}

/// Of which types the client had said what it wants and has when a response was decided.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) clusters: bool,
    pub(super) routes: bool,
}

impl Link {
    pub(super) fn new(
        id: u64,
        replica: usize,
        client: &Client,
        (limits, plans): (&Arc<Limits>, &Plans),
        capacity: usize,
    ) -> Self {
        let node = NodeInfo::read(Some(&node(&client.name))).expect("a node with an id");
        let mut stream = Stream::new(StreamId(id), client.protocol, node, limits.clone());
        stream.share_plans(plans);
        Self {
            replica,
            stream,
            to_server: VecDeque::new(),
            to_client: VecDeque::new(),
            capacity,
            limits: limits.clone(),
            told: Default::default(),
            nonces: BTreeSet::new(),
            synced: false,
            believed: Default::default(),
            resources: 0,
        }
    }

    /// The stream looks at its view.
    pub(super) fn wake(&mut self, published: Option<&Arc<XdsSnapshot>>) {
        self.synced |= published.is_some();
        let reports = self.stream.snapshot_changed(published);
        self.believe(reports);
    }

    /// The server reads one request.
    pub(super) fn deliver(&mut self, client: &Client, now: Millis) -> bool {
        let Some(request) = self.to_server.pop_front() else { return false };
        self.note(&request, client);
        let reports = self.stream.request(&request, now).expect("the client keeps the protocol");
        self.believe(reports);
        true
    }

    fn note(&mut self, request: &Request, client: &Client) {
        let (type_url, nonce, error) = match request {
            Request::Sotw(request) => (&request.type_url, &request.response_nonce, &request.error_detail),
            Request::Delta(request) => (&request.type_url, &request.response_nonce, &request.error_detail),
        };
        let ty = ResourceType::from_type_url(type_url).expect("a type that is served");
        let told = &mut self.told[ty.index()];
        told.begun = true;
        if told.unanswered.as_ref().is_some_and(|(unanswered, ..)| unanswered == nonce)
            && let Some((_, resources, removed)) = told.unanswered.take()
        {
            if error.is_some() {
                let blamed = resources.iter().filter(|r| is_bad(r) && client.is_plain(&resources));
                told.refused.extend(blamed.map(|r| (r.name().clone(), r.version().clone())));
            } else {
                if client.protocol == Protocol::Sotw && ty.is_complete_list() {
                    told.acked.clear();
                }
                removed.iter().for_each(|name| _ = told.acked.remove(name));
                told.acked.extend(resources.into_iter().map(|r| (r.name().clone(), r)));
            }
        }
        match request {
            Request::Sotw(request) => {
                let names = &request.resource_names;
                let all = names.iter().any(|n| n == "*") || (names.is_empty() && client.kind == Kind::Legacy);
                told.acked.retain(|name, _| all || names.iter().any(|n| **n == **name));
            }
            Request::Delta(request) => {
                let dropped =
                    |name: &Name| request.unsubscribe.iter().any(|dropped| dropped == "*" || *dropped == **name);
                told.acked.retain(|name, _| !dropped(name));
            }
        }
    }

    fn believe(&mut self, reports: Vec<Report>) {
        for report in reports {
            let (ty, resources, removed) = match report {
                Report::Acked { ty, resources, removed } => (ty, resources, removed),
                // Of these nothing is known until they are acknowledged.
                Report::Rejected { ty, unknown, .. } => {
                    unknown.iter().for_each(|(name, _)| _ = self.believed[ty.index()].remove(name));
                    continue;
                }
            };
            let believed = &mut self.believed[ty.index()];
            if self.stream.protocol() == Protocol::Sotw && ty.is_complete_list() && !resources.is_empty() {
                believed.clear();
            }
            removed.iter().for_each(|name| _ = believed.remove(name));
            believed.extend(resources);
        }
    }

    /// The server says the next thing, if it has one and there is room.
    pub(super) fn send(&mut self, now: Millis) -> bool {
        if self.to_client.len() >= self.capacity {
            return false;
        }
        let response = self.stream.next(now);
        let deadline = self.stream.next_deadline();
        let Some(response) = response else {
            let due = self.stream.overdue(now).is_some();
            assert!(due || deadline.is_none_or(|at| at > now), "the shell would spin: {deadline:?} at {now}");
            return false;
        };
        self.check(&response);
        let asked = self.asked();
        self.resources += response.resources.len();
        self.to_client.push_back((response, asked));
        true
    }

    pub(super) fn asked(&self) -> Asked {
        let begun = |ty: ResourceType| self.told[ty.index()].begun;
        Asked { clusters: begun(Cluster), routes: begun(Listener) && begun(Route) }
    }

    fn check(&mut self, response: &Response) {
        assert!(self.synced, "rule 10: something is said before there is a snapshot");
        let snapshot = self.stream.snapshot().expect("rule 10: nothing is said before there is a snapshot").clone();
        let ty = response.ty.expect("only served types are asked for");
        assert!(self.nonces.insert(response.nonce.clone()), "rule 1: the nonce {} again", response.nonce);
        let told = &mut self.told[ty.index()];
        assert!(told.begun, "{ty} was never asked for");
        let sent = (response.nonce.clone(), response.resources.to_vec(), response.removed.clone());
        let before = told.unanswered.replace(sent);
        assert!(before.is_none(), "rule 21: two responses of {ty} are in flight");

        let all: Vec<&Name> = response.resources.iter().map(|r| r.name()).chain(&response.removed).collect();
        let distinct: BTreeSet<&Name> = all.iter().copied().collect();
        assert_eq!(all.len(), distinct.len(), "rule 14: a name twice in {response:?}");
        for resource in &response.resources {
            let (name, version) = (resource.name(), resource.version());
            let is_current = snapshot.get(ty, name).is_some_and(|current| current.version() == version);
            let was_acked = told.acked.get(name).is_some_and(|acked| acked.version() == version);
            assert!(is_current || was_acked, "{ty} {name}@{version} is neither current nor what the client had");
            let refused = told.refused.contains(&(name.clone(), version.clone()));
            assert!(!refused, "rule 2: {ty} {name}@{version} was refused and is sent again");
        }
        for name in &response.removed {
            assert!(snapshot.get(ty, name).is_none(), "{ty} {name} exists and is said to be gone");
        }
        let is_list = response.protocol == Protocol::Sotw && ty.is_complete_list();
        if is_list {
            // Rule 10: left out is deleted.
            for name in told.acked.keys().filter(|name| snapshot.get(ty, name).is_some()) {
                assert!(distinct.contains(name), "rule 10: {ty} {name} exists and is left out");
            }
        } else {
            let bytes: usize = response.resources.iter().map(|r| r.name().len() + r.body().len()).sum();
            assert!(
                all.len() <= 1 || bytes <= self.limits.max_response_bytes,
                "rule 20: {bytes} bytes in {response:?}"
            );
        }
    }

    /// Whether the client acknowledged it on this stream.
    pub(super) fn has_acked(&self, ty: ResourceType, name: &Name) -> bool {
        self.told[ty.index()].acked.contains_key(name)
    }

    /// Whether the client has no longer a say in what it is sent of a type.
    pub(super) fn is_refused(&self, resource: &Resource) -> bool {
        self.told[resource.ty().index()].refused.contains(&(resource.name().clone(), resource.version().clone()))
    }

    pub(super) fn is_answered(&self) -> bool {
        self.told.iter().all(|told| told.unanswered.is_none())
    }
}
