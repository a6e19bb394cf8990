//! A client as Envoy is one: it warms clusters until their assignments come and listeners until their
//! routes come, asks for what its clusters and listeners name, keeps what it has over reconnections,
//! and activates what it was given. Also one that names what it wants, and one as gRPC is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use xds_api::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use xds_api::pb::google::rpc::Status;

use super::random::Random;
use crate::ads::stream::{Request, Response};
use crate::ads::tests::client::{Cluster, Endpoint, Listener, Route, Wording, is_bad, node};
use crate::ads::{Millis, Protocol};
use crate::snapshot::{Resource, ResourceType};

type Name = Arc<str>;

/// How long a cluster waits for its first assignment: Envoy's `initial_fetch_timeout`.
const FETCH_TIMEOUT_MS: Millis = 15_000;

/// What a client asks for first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// All clusters and listeners, by `*`.
    Everything,
    /// All, by naming none in the first request.
    Legacy,
    /// Clusters and listeners by name, which change.
    Named,
    /// One listener by name, its route, the clusters of that route, their assignments.
    Grpc,
}

/// What it is told and has of one type.
#[derive(Default)]
pub(super) struct Side {
    /// What people told it to want, where nothing else implies it.
    pub(super) base: BTreeSet<String>,
    /// What it told the server last.
    pub(super) asked: BTreeSet<String>,
    pub(super) begun: bool,
    nonce: String,
    version: String,
    pub(super) has: BTreeMap<Name, Arc<Resource>>,
    /// Names of which it was told nothing since it asked for them on this stream (delta).
    pub(super) open: BTreeSet<String>,
    /// It waits for some answer on this stream.
    pub(super) waits: bool,
}

pub(super) struct Client {
    pub(super) name: String,
    pub(super) protocol: Protocol,
    pub(super) kind: Kind,
    wording: Wording,
    /// Says nothing about clusters while one is warming, as Envoy does.
    pub(super) withholds: bool,
    /// Acknowledges before it asks for what the response implies.
    acks_first: bool,
    sides: [Side; 4],
    /// Clusters that take traffic.
    pub(super) active: BTreeMap<Name, Arc<Resource>>,
    /// Clusters in a version whose assignment did not come yet, since when.
    pub(super) warming: BTreeMap<Name, (Arc<Resource>, Millis)>,
    /// What it ever refused.
    pub(super) refused: BTreeSet<(ResourceType, Name)>,
    /// Clusters that it lacks though a route leads to them, where no server could know better.
    forgiven: BTreeSet<Name>,
    withheld: Option<(String, Option<Status>)>,
    said_node: bool,
    /// Requests on their way out.
    pub(super) out: Vec<Request>,
}

impl Client {
    pub(super) fn new(name: String, protocol: Protocol, bad_percent: usize, random: &mut Random) -> Self {
        let kinds = [Kind::Everything, Kind::Everything, Kind::Legacy, Kind::Named, Kind::Grpc];
        let kind = kinds[random.below(kinds.len())];
        let nameless = bad_percent > 0 && random.chance(25);
        let mut client = Self {
            name,
            protocol,
            kind,
            wording: if nameless { Wording::Nameless } else { Wording::Envoy },
            withholds: kind != Kind::Grpc && random.chance(60),
            acks_first: random.chance(50),
            sides: Default::default(),
            active: BTreeMap::new(),
            warming: BTreeMap::new(),
            refused: BTreeSet::new(),
            forgiven: BTreeSet::new(),
            withheld: None,
            said_node: false,
            out: Vec::new(),
        };
        match kind {
            Kind::Everything | Kind::Legacy => {
                for ty in [Cluster, Listener] {
                    client.side_mut(ty).base.insert("*".to_owned());
                }
            }
            Kind::Named => client.churn(random),
            Kind::Grpc => {
                _ = client.side_mut(Listener).base.insert(super::content::Content::listener_name(random).to_string())
            }
        }
        client
    }

    pub(super) fn side(&self, ty: ResourceType) -> &Side {
        &self.sides[ty.index()]
    }

    fn side_mut(&mut self, ty: ResourceType) -> &mut Side {
        &mut self.sides[ty.index()]
    }

    /// People tell a client that names things to want others.
    pub(super) fn churn(&mut self, random: &mut Random) {
        if self.kind != Kind::Named {
            return;
        }
        let (ty, name) = match random.below(4) {
            0 => (Listener, super::content::Content::listener_name(random).to_string()),
            1 => (if random.chance(50) { Listener } else { Cluster }, "*".to_owned()),
            _ => (Cluster, super::content::Content::cluster_name(random).to_string()),
        };
        let base = &mut self.side_mut(ty).base;
        if !base.remove(&name) {
            base.insert(name);
        }
    }

    /// What it wants of a type now.
    fn wanted(&self, ty: ResourceType) -> BTreeSet<String> {
        let named_by = |resources: &mut dyn Iterator<Item = &Arc<Resource>>| -> BTreeSet<String> {
            let refs = resources.flat_map(|resource| resource.refs().iter());
            refs.filter(|r| r.ty == ty).map(|r| r.name.to_string()).collect()
        };
        match ty {
            Endpoint => named_by(&mut self.active.values().chain(self.warming.values().map(|(cluster, _)| cluster))),
            Route => named_by(&mut self.side(Listener).has.values()),
            Cluster if self.kind == Kind::Grpc => named_by(&mut self.side(Route).has.values()),
            Cluster | Listener => self.side(ty).base.clone(),
        }
    }

    pub(super) fn covers(&self, ty: ResourceType, name: &str) -> bool {
        let asked = &self.side(ty).asked;
        asked.contains("*") || asked.contains(name)
    }

    /// Says nothing about clusters for now.
    fn is_paused(&self, ty: ResourceType) -> bool {
        ty == Cluster && self.withholds && !self.warming.is_empty()
    }

    /// A new stream: all is asked for anew, and what it has it keeps.
    pub(super) fn connected(&mut self) {
        self.said_node = false;
        self.withheld = None;
        self.out.clear();
        for side in &mut self.sides {
            (side.begun, side.waits) = (false, false);
            side.nonce.clear();
            side.asked.clear();
            side.open.clear();
        }
        for ty in [Listener, Route, Cluster, Endpoint] {
            let wanted = self.wanted(ty);
            self.forget_but(ty, &wanted);
        }
        // One that asks for clusters first has all that they need, or it would ask for that first.
        if !self.withholds {
            let names: Vec<Name> = self.side(Endpoint).has.keys().cloned().collect();
            names.iter().for_each(|name| self.assigned(name));
        }
        // It says that it has a cluster, but not that this one is not warm yet.
        self.forgiven.extend(self.warming.keys().cloned());
        self.sync();
    }

    /// What is not wanted is forgotten.
    fn forget_but(&mut self, ty: ResourceType, wanted: &BTreeSet<String>) {
        let has = &mut self.sides[ty.index()].has;
        has.retain(|name, _| wanted.contains("*") || wanted.contains(&**name));
        if ty == Cluster {
            self.active.retain(|name, _| has.contains_key(name));
            self.warming.retain(|name, _| has.contains_key(name));
        }
    }

    /// Tells the server what is wanted otherwise than it was told before.
    pub(super) fn sync(&mut self) {
        self.sync_each(ResourceType::ALL);
    }

    fn sync_each(&mut self, types: impl IntoIterator<Item = ResourceType>) {
        for ty in types {
            let wanted = self.wanted(ty);
            let side = self.side(ty);
            let idle = if side.begun { side.asked == wanted } else { wanted.is_empty() };
            if !self.is_paused(ty) && !idle {
                let request = self.request(ty, None);
                self.out.push(request);
            }
        }
    }

    /// A request with the latest wants, and an answer if there is one.
    fn request(&mut self, ty: ResourceType, answer: Option<(String, Option<Status>)>) -> Request {
        // In SotW any request answers, so the answer that was withheld goes with the first.
        let answer = answer.or_else(|| self.withheld.take_if(|_| ty == Cluster));
        let wanted = self.wanted(ty);
        let node = (!self.said_node).then(|| node(&self.name));
        self.said_node = true;
        let legacy = self.kind == Kind::Legacy;
        let side = &mut self.sides[ty.index()];
        let first = !std::mem::replace(&mut side.begun, true);
        let before = std::mem::replace(&mut side.asked, wanted);
        let (asked, type_url) = (&side.asked, ty.type_url().to_owned());
        let said = |name: &&String| !(legacy && *name == "*");
        let added: Vec<String> = asked.difference(&before).filter(said).cloned().collect();
        let covers = |name: &str| asked.contains("*") || asked.contains(name);
        let (response_nonce, error_detail) = answer.unwrap_or_default();
        let request = match self.protocol {
            Protocol::Sotw => {
                side.waits |= first || !added.is_empty();
                Request::from(DiscoveryRequest {
                    node,
                    type_url,
                    version_info: side.version.clone(),
                    resource_names: asked.iter().filter(said).cloned().collect(),
                    response_nonce: side.nonce.clone(),
                    error_detail,
                    ..DiscoveryRequest::default()
                })
            }
            Protocol::Delta => {
                let initial = side.has.iter().filter(|(name, _)| first && covers(name));
                let initial: BTreeMap<String, String> =
                    initial.map(|(name, has)| (name.to_string(), has.version().to_string())).collect();
                side.waits |= first && asked.contains("*") && initial.is_empty();
                side.open.extend(added.iter().filter(|name| *name != "*" && !initial.contains_key(*name)).cloned());
                side.open.retain(|name| asked.contains(name));
                Request::from(DeltaDiscoveryRequest {
                    node,
                    type_url,
                    resource_names_subscribe: added,
                    resource_names_unsubscribe: before.difference(asked).cloned().collect(),
                    initial_resource_versions: initial.into_iter().collect(),
                    response_nonce,
                    error_detail,
                    ..DeltaDiscoveryRequest::default()
                })
            }
        };
        let asked = asked.clone();
        self.forget_but(ty, &asked);
        request
    }

    /// Takes a response over and answers it, at once or when its clusters are warm.
    pub(super) fn take(&mut self, response: &Response, now: Millis) {
        let Some(ty) = response.ty else { return };
        let (bad, good): (Vec<_>, Vec<_>) = response.resources.iter().cloned().partition(|r| is_bad(r));
        self.remove(ty, response);
        let covered: Vec<Arc<Resource>> = good.into_iter().filter(|r| self.covers(ty, r.name())).collect();
        for resource in covered {
            let before = self.side_mut(ty).has.insert(resource.name().clone(), resource.clone());
            match ty {
                Cluster if before.is_none_or(|before| before.version() != resource.version()) => {
                    self.warming.insert(resource.name().clone(), (resource, now));
                }
                Endpoint => self.assigned(resource.name()),
                _ => {}
            }
        }
        for resource in &bad {
            self.refused.insert((ty, resource.name().clone()));
            if ty == Endpoint {
                // The cluster goes without.
                self.assigned(resource.name());
            }
        }
        let side = self.side_mut(ty);
        side.waits = false;
        side.nonce.clone_from(&response.nonce);
        for name in response.resources.iter().map(|r| r.name()).chain(&response.removed) {
            side.open.remove(&**name);
        }
        if bad.is_empty() {
            side.version.clone_from(&response.version);
        }
        self.answer(ty, (response.nonce.clone(), self.complaint(&bad)));
    }

    fn remove(&mut self, ty: ResourceType, response: &Response) {
        let listed: BTreeSet<&Name> = response.resources.iter().map(|r| r.name()).collect();
        let is_list = self.protocol == Protocol::Sotw && ty.is_complete_list();
        let side = &mut self.sides[ty.index()];
        side.has.retain(|name, _| (!is_list || listed.contains(name)) && !response.removed.contains(name));
        match ty {
            Cluster => {
                self.active.retain(|name, _| side.has.contains_key(name));
                self.warming.retain(|name, _| side.has.contains_key(name));
            }
            Endpoint => response.removed.iter().for_each(|name| self.assigned(name)),
            _ => {}
        }
    }

    /// Something was said about an assignment: clusters that waited for it are warm.
    fn assigned(&mut self, name: &Name) {
        self.warm(|cluster, _| cluster.refs().iter().any(|r| r.ty == Endpoint && r.name == *name));
    }

    /// Clusters that waited too long go without.
    pub(super) fn pass(&mut self, now: Millis) {
        let before = self.warming.len();
        self.warm(|_, since| now - since >= FETCH_TIMEOUT_MS);
        if self.warming.len() != before {
            self.release();
        }
    }

    fn warm(&mut self, is_warm: impl Fn(&Resource, Millis) -> bool) {
        let done = self.warming.iter().filter(|(_, (cluster, since))| is_warm(cluster, *since));
        let done: Vec<Name> = done.map(|(name, _)| name.clone()).collect();
        for name in done {
            self.active.extend(self.warming.remove(&name).map(|(cluster, _)| (name.clone(), cluster)));
        }
    }

    fn complaint(&self, bad: &[Arc<Resource>]) -> Option<Status> {
        if bad.is_empty() {
            return None;
        }
        let message = match self.wording {
            Wording::Envoy => {
                let entries: Vec<String> = bad.iter().map(|r| format!("{}: cannot", r.name())).collect();
                format!("Error adding/updating listener(s) {}", entries.join("\n"))
            }
            Wording::Nameless => "cannot".to_owned(),
        };
        Some(Status { code: 13, message, ..Status::default() })
    }

    fn answer(&mut self, ty: ResourceType, answer: (String, Option<Status>)) {
        if self.is_paused(ty) {
            self.withheld = Some(answer);
            self.sync();
            return;
        }
        if !self.acks_first {
            self.sync_others(ty);
        }
        let request = self.request(ty, Some(answer));
        self.out.push(request);
        self.sync();
        self.release();
    }

    fn sync_others(&mut self, but: ResourceType) {
        self.sync_each(ResourceType::ALL.into_iter().filter(|ty| *ty != but));
    }

    /// All clusters are warm: what was not said about them is said.
    fn release(&mut self) {
        if self.is_paused(Cluster) {
            return;
        }
        if let Some(answer) = self.withheld.take() {
            let request = self.request(Cluster, Some(answer));
            self.out.push(request);
        }
        self.sync();
    }

    /// What refuses this version clearly: whether the server can tell that it is meant.
    pub(super) fn is_plain(&self, response: &[Arc<Resource>]) -> bool {
        self.wording == Wording::Envoy || response.len() == 1
    }

    pub(super) fn is_nameless(&self) -> bool {
        self.wording == Wording::Nameless
    }

    /// Clusters that are gone without the server's fault.
    pub(super) fn forgive(&mut self, names: impl IntoIterator<Item = Name>) {
        self.forgiven.extend(names);
    }

    /// Routes that take traffic and lead to clusters that do not. Clients that choose their clusters
    /// have themselves to thank for it.
    pub(super) fn lacking(&mut self) -> Vec<(Name, Name)> {
        self.forgiven.retain(|name| !self.active.contains_key(name));
        if matches!(self.kind, Kind::Grpc | Kind::Named) {
            return Vec::new();
        }
        // Where a NACK names nobody, halves of a list are tried, and clusters go and come back.
        if self.protocol == Protocol::Sotw && self.is_nameless() {
            return Vec::new();
        }
        // It goes on with the routes that it had when it refuses others, and those may lead to what is gone.
        if self.refused.iter().any(|(ty, _)| matches!(ty, Listener | Route)) {
            return Vec::new();
        }
        let routes = self.side(Listener).has.values().flat_map(|listener| listener.refs());
        let routes = routes.filter_map(|route| self.side(Route).has.get(&route.name));
        let leads = routes.flat_map(|route| route.refs().iter().map(|to| (route.name().clone(), to.name.clone())));
        // A cluster whose assignment it refused waits for one that it does not refuse.
        let refused = |ty: ResourceType, name: &Name| self.refused.contains(&(ty, name.clone()));
        let waits = |name: &Name| {
            self.warming.get(name).is_some_and(|(to, _)| to.refs().iter().any(|r| refused(r.ty, &r.name)))
        };
        let excused = |name: &Name| refused(Cluster, name) || waits(name) || self.forgiven.contains(name);
        leads.filter(|(_, name)| !self.active.contains_key(name) && !excused(name)).collect()
    }
}
