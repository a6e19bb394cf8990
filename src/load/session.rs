//! One client without its connection: what it subscribes to, remembers and answers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use prost013::Message;
use xds_api::pb::envoy::config::core::v3::Node;
use xds_api::pb::google::protobuf::value::Kind;
use xds_api::pb::google::protobuf::{Struct, Value};

use super::board::{Board, Round};
use super::names::{NameId, NameSet};
use super::request::Writer;
use super::scanner::{Sink, Summary, resource_type};
use super::{Memory, Profile, Reading};
use crate::ads::Protocol;
use crate::snapshot::ResourceType;

/// What a client has of one type.
#[derive(Default)]
struct Side {
    /// Whether its first request of this stream was sent.
    begun: bool,
    /// Whether any response of this stream came.
    answered: bool,
    held: NameSet,
    /// By the number of the name; empty unless versions are remembered.
    versions: Vec<Arc<str>>,
    /// Names that it subscribes to, where it does not by wildcard.
    wanted: NameSet,
    /// Those of them that nothing was said of yet.
    unanswered: NameSet,
    /// State of the world: the version that it accepted last.
    accepted: Vec<u8>,
}

/// A client. Its requests are gathered until [`Session::take_requests`] takes them.
pub struct Session {
    profile: Arc<Profile>,
    board: Arc<Board>,
    node: Bytes,
    sides: [Side; ResourceType::COUNT],
    refuses: Option<(ResourceType, NameId)>,
    requests: Vec<Bytes>,
    started: Instant,
    is_served: bool,
    /// Of the response that is being read: names that are new, and all of a complete list.
    newcomers: Vec<NameId>,
    listed: NameSet,
    /// The resource that came last.
    last: NameId,
    is_refused: bool,
    round: Option<Arc<Round>>,
    round_number: u64,
    to_come: usize,
    /// Of the response that is being read.
    came: usize,
}

impl Session {
    /// The client of that number. It begins with [`Session::start`].
    pub fn new(number: usize, profile: Arc<Profile>, board: Arc<Board>) -> Self {
        let node = node(&profile, number);
        let refuses = profile.refuses.as_ref().map(|(ty, name)| (*ty, board.names.id(name.as_bytes())));
        Self {
            profile,
            board,
            node,
            sides: Default::default(),
            refuses,
            requests: Vec::new(),
            started: Instant::now(),
            is_served: false,
            newcomers: Vec::new(),
            listed: NameSet::default(),
            last: NameId::MAX,
            is_refused: false,
            round: None,
            round_number: 0,
            to_come: 0,
            came: 0,
        }
    }

    /// Begins a stream. What the client has from an earlier one it keeps, as an Envoy does.
    pub fn start(&mut self) {
        self.started = Instant::now();
        self.requests.clear();
        self.left();
        for side in &mut self.sides {
            (side.begun, side.answered) = (false, false);
            side.unanswered = NameSet::default();
        }
        for ty in self.profile.clone().types.iter().copied() {
            let names: Vec<NameId> = match ty {
                ResourceType::Cluster | ResourceType::Listener => Vec::new(),
                ResourceType::Endpoint => self.clusters_at_start(),
                ResourceType::Route => {
                    self.profile.routes.iter().map(|name| self.board.names.id(name.as_bytes())).collect()
                }
            };
            // An Envoy does not ask for endpoints before it knows a cluster.
            let is_wildcard = ty.is_complete_list();
            if is_wildcard || !names.is_empty() {
                self.subscribe(ty, names);
            }
        }
    }

    /// A client that never reads could never learn of a cluster, so it asks for all that others have heard of.
    fn clusters_at_start(&self) -> Vec<NameId> {
        match self.profile.reading {
            Reading::All => self.sides[ResourceType::Cluster.index()].held.iter().collect(),
            Reading::Nothing => (0..self.board.names.len()).filter_map(|id| NameId::try_from(id).ok()).collect(),
        }
    }

    /// The stream ended.
    pub fn left(&mut self) {
        if std::mem::take(&mut self.is_served) {
            self.board.client_not_served();
        }
    }

    /// What is to be sent, each with its gRPC prefix.
    pub fn take_requests(&mut self) -> impl Iterator<Item = Bytes> {
        self.requests.drain(..)
    }

    /// How many resources it holds.
    pub fn held(&self) -> usize {
        self.sides.iter().map(|side| side.held.len()).sum()
    }

    fn request(&mut self, ty: ResourceType) -> Writer {
        let mut request = Writer::new(self.profile.protocol, ty);
        if self.sides.iter().all(|side| !side.begun) {
            request.node(&self.node);
        }
        request
    }

    fn subscribe(&mut self, ty: ResourceType, names: Vec<NameId>) {
        let mut request = self.request(ty);
        let side = &mut self.sides[ty.index()];
        let is_first = !std::mem::replace(&mut side.begun, true);
        for id in &names {
            side.wanted.insert(*id);
            side.unanswered.insert(*id);
        }
        match self.profile.protocol {
            Protocol::Delta => {
                self.board.names.each(names.into_iter(), |_, name| request.name(name));
                if is_first && self.profile.memory == Memory::Versions {
                    let versions = &side.versions;
                    let version = |id: NameId| versions.get(id as usize).map_or("", |version| &**version);
                    self.board.names.each(side.held.iter(), |id, name| request.initial_version(name, version(id)));
                }
            }
            Protocol::Sotw => {
                request.version(&side.accepted);
                self.board.names.each(side.wanted.iter(), |_, name| request.name(name));
            }
        }
        self.requests.push(request.finish());
    }

    fn unsubscribe(&mut self, ty: ResourceType, names: &[NameId]) {
        let mut request = self.request(ty);
        let side = &mut self.sides[ty.index()];
        let mut told = Vec::new();
        for id in names {
            side.held.remove(*id);
            side.unanswered.remove(*id);
            if side.wanted.remove(*id) {
                told.push(*id);
            }
        }
        // In the state of the world the next request lists what is left; nobody waits for it.
        if self.profile.protocol == Protocol::Delta && side.begun && !told.is_empty() {
            self.board.names.each(told.into_iter(), |_, name| request.unsubscribe(name));
            self.requests.push(request.finish());
        }
    }

    fn answer(&mut self, ty: ResourceType, summary: &Summary) {
        let mut request = self.request(ty);
        request.nonce(&summary.nonce);
        let is_refused = std::mem::take(&mut self.is_refused);
        let side = &mut self.sides[ty.index()];
        if self.profile.protocol == Protocol::Sotw {
            if !is_refused {
                side.accepted.clone_from(&summary.version);
            }
            request.version(&side.accepted);
            self.board.names.each(side.wanted.iter(), |_, name| request.name(name));
        }
        if is_refused {
            let name = self.profile.refuses.as_ref().map_or("", |(_, name)| name);
            request.error(&format!("Error adding/updating {ty}(s) {name}: refused as it was asked to"));
            self.board.refused(ty);
        }
        self.requests.push(request.finish());
    }

    fn removed(&mut self, ty: ResourceType, summary: &Summary) -> Vec<NameId> {
        let side = &mut self.sides[ty.index()];
        let listed = std::mem::take(&mut self.listed);
        let mut gone: Vec<NameId> = summary.removed.iter().map(|name| self.board.names.id(name)).collect();
        if self.profile.protocol == Protocol::Sotw && ty.is_complete_list() {
            gone.extend(side.held.iter().filter(|id| !listed.contains(*id)));
        }
        for id in &gone {
            side.held.remove(*id);
            side.unanswered.remove(*id);
        }
        gone
    }

    fn follow(&mut self, added: Vec<NameId>, gone: &[NameId]) {
        let endpoint = ResourceType::Endpoint;
        if !self.profile.types.contains(&endpoint) {
            return;
        }
        if !gone.is_empty() {
            self.unsubscribe(endpoint, gone);
        }
        let wanted = &self.sides[endpoint.index()].wanted;
        let added: Vec<NameId> = added.into_iter().filter(|id| !wanted.contains(*id)).collect();
        if !added.is_empty() {
            self.subscribe(endpoint, added);
        }
    }

    fn look_whether_served(&mut self) {
        let done = match self.profile.served_at {
            Some(count) => self.held() >= count,
            None => self.sides.iter().filter(|side| side.begun).all(|side| match self.profile.protocol {
                Protocol::Delta => side.answered && side.unanswered.is_empty(),
                // Nothing says there that a name does not exist.
                Protocol::Sotw => side.answered,
            }),
        };
        if done && !self.is_served {
            self.is_served = true;
            self.board.client_served(self.since_start());
        }
    }

    fn since_start(&self) -> Duration {
        self.started.elapsed()
    }

    /// Whether the round that is on waits for this one.
    fn is_awaited(&mut self, ty: ResourceType, id: NameId) -> bool {
        if self.round_number != self.board.round_number() {
            self.round_number = self.board.round_number();
            self.round = self.board.round();
            self.to_come = self.round.as_ref().map_or(0, |round| round.awaited.count);
            self.came = 0;
        }
        let Some(round) = &self.round else { return false };
        self.to_come > 0 && round.awaited.ty == ty && round.awaited.name.is_none_or(|name| name == id)
    }

    /// Once a response is counted, so that whoever waits for the round finds it in the counts.
    fn count_towards_round(&mut self) {
        let came = std::mem::take(&mut self.came).min(self.to_come);
        self.to_come -= came;
        if came > 0 && self.to_come == 0 {
            self.round.iter().for_each(|round| round.arrived());
        }
    }
}

impl Sink for Session {
    fn resource(&mut self, ty: Option<ResourceType>, name: &[u8], version: &[u8]) {
        let Some(ty) = ty else { return };
        let id = self.board.names.id_after(self.last, name);
        self.last = id;
        self.came += usize::from(self.is_awaited(ty, id));
        if self.profile.protocol == Protocol::Sotw && ty.is_complete_list() {
            self.listed.insert(id);
        }
        let side = &mut self.sides[ty.index()];
        side.unanswered.remove(id);
        if self.refuses == Some((ty, id)) {
            self.is_refused = true;
            return;
        }
        if side.held.insert(id) && ty == ResourceType::Cluster {
            self.newcomers.push(id);
        }
        if self.profile.memory == Memory::Versions {
            let place = id as usize;
            if side.versions.len() <= place {
                side.versions.resize(place + 1, Arc::from(""));
            }
            side.versions[place] = self.board.names.version(id, version);
        }
    }

    fn response(&mut self, summary: &Summary) {
        let added = std::mem::take(&mut self.newcomers);
        let Some(ty) = resource_type(&summary.type_url) else { return };
        let gone = self.removed(ty, summary);
        self.board.response(ty, summary, gone.len());
        self.sides[ty.index()].answered = true;
        self.answer(ty, summary);
        if ty == ResourceType::Cluster {
            self.follow(added, &gone);
        }
        self.look_whether_served();
        self.count_towards_round();
    }
}

fn node(profile: &Profile, number: usize) -> Bytes {
    let text = |text: &String| Value { kind: Some(Kind::StringValue(text.clone())) };
    let fields = profile.node_metadata.iter().map(|(key, value)| (key.clone(), text(value))).collect();
    let node = Node {
        id: format!("{}{number}", profile.node_id_prefix),
        cluster: profile.node_cluster.clone(),
        metadata: Some(Struct { fields }),
        user_agent_name: "causeway-load".to_owned(),
        ..Node::default()
    };
    Bytes::from(node.encode_to_vec())
}
