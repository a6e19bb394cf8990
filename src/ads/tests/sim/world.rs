//! Replicas, clients and the network between them, moved by chance, one small step at a time.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use super::client::{Client, Kind};
use super::content::{Content, Replica};
use super::link::Link;
use super::random::Random;
use crate::ads::stream::Plans;
use crate::ads::tests::client::{Cluster, Endpoint, Listener, Route, is_bad, line};
use crate::ads::{Limits, Millis, Protocol};
use crate::snapshot::ResourceType;

/// Longer than any simulated time.
const NEVER: Duration = Duration::from_secs(1_000_000);

/// Which protocols the clients speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fleet {
    Sotw,
    Delta,
    Both,
}

impl Fleet {
    /// The test that explores it.
    pub(super) fn test(self) -> &'static str {
        match self {
            Fleet::Sotw => "sotw_clients_have_their_views",
            Fleet::Delta => "delta_clients_have_their_views",
            Fleet::Both => "clients_of_both_protocols_have_their_views",
        }
    }
}

struct Node {
    client: Client,
    link: Option<Link>,
    stalled_until: Millis,
}

pub(super) struct World {
    random: Random,
    now: Millis,
    limits: Arc<Limits>,
    plans: Plans,
    /// Nothing is hurried, so that make-before-break holds without exception.
    patient: bool,
    content: Content,
    replicas: Vec<Replica>,
    nodes: Vec<Node>,
    streams: u64,
    trace: Option<Vec<String>>,
}

/// Whether the steps are written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trace {
    Off,
    On,
}

/// Prints what led there when a check fails, since the panic passes through.
impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(trace) = &self.trace
        {
            let skipped = trace.len().saturating_sub(80);
            eprintln!("the last steps:\n{}", trace[skipped..].join("\n"));
        }
    }
}

impl World {
    pub(super) fn new(seed: u64, fleet: Fleet, trace: Trace) -> Self {
        let mut random = Random::new(seed);
        let patient = random.chance(70);
        let limits = Limits {
            max_response_bytes: if random.chance(30) { 40 } else { 1 << 20 },
            order_timeout: if patient { NEVER } else { Duration::from_secs(10) },
            ack_timeout: if patient { NEVER } else { Duration::from_secs(60) },
            ..Limits::default()
        };
        let bad_percent = if random.chance(50) { 0 } else { 12 };
        let mut content = Content::new(bad_percent);
        for _ in 0..random.below(12) {
            content.edit(&mut random);
        }
        let replicas = (0..2 + random.below(2)).map(|_| Replica::new()).collect();
        let mut world = Self {
            random,
            now: 1_000,
            limits: Arc::new(limits),
            plans: Plans::default(),
            patient,
            content,
            replicas,
            nodes: Vec::new(),
            streams: 0,
            trace: (trace == Trace::On).then(Vec::new),
        };
        for n in 0..2 + world.random.below(3) {
            let protocol = match fleet {
                Fleet::Sotw => Protocol::Sotw,
                Fleet::Delta => Protocol::Delta,
                Fleet::Both => [Protocol::Sotw, Protocol::Delta][world.random.below(2)],
            };
            let client = Client::new(format!("n{n}"), protocol, bad_percent, &mut world.random);
            let about = format!("{protocol:?} {:?}, withholds {}", client.kind, client.withholds);
            world.say(|| format!("n{n}: {about}"));
            world.nodes.push(Node { client, link: None, stalled_until: 0 });
        }
        world.say(|| format!("patient: {patient}"));
        world
    }

    fn say(&mut self, text: impl FnOnce() -> String) {
        let now = self.now;
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{now:>7} {}", text()));
        }
    }

    /// Something happens somewhere.
    pub(super) fn step(&mut self) {
        let ms = self.random.below(20) as Millis;
        self.pass(ms);
        let node = self.random.below(self.nodes.len());
        let replica = self.random.below(self.replicas.len());
        match self.random.below(100) {
            0..10 => {
                let said = self.content.edit(&mut self.random);
                self.say(|| format!("edit: {said}"));
            }
            10..20 => self.publish(replica),
            20..32 => self.wake(node),
            32..52 => _ = self.deliver(node),
            52..68 => _ = self.send(node),
            68..84 => _ = self.read(node),
            84..88 => self.converse(node),
            88 | 89 => self.disconnect(node),
            90..94 => self.connect(node),
            94 => self.fail(replica),
            95 => self.nodes[node].stalled_until = self.now + self.random.below(10_000) as Millis,
            96 => {
                let ms = self.random.below(12_000) as Millis;
                self.pass(ms);
            }
            _ => {
                let client = &mut self.nodes[node].client;
                client.churn(&mut self.random);
                if self.nodes[node].link.is_some() {
                    self.nodes[node].client.sync();
                    self.flush(node);
                }
            }
        }
    }

    fn pass(&mut self, ms: Millis) {
        self.now += ms;
        for node in 0..self.nodes.len() {
            let Node { client, link, .. } = &mut self.nodes[node];
            client.pass(self.now);
            match link {
                None => client.out.clear(),
                Some(link) if link.stream.overdue(self.now).is_some() => self.disconnect(node),
                Some(_) => self.flush(node),
            }
        }
    }

    fn publish(&mut self, replica: usize) {
        self.replicas[replica].publish(&self.content, &mut self.random);
        self.say(|| format!("replica {replica} publishes"));
    }

    /// A replica goes, with its connections, and comes up in a new lineage, unsynced.
    fn fail(&mut self, replica: usize) {
        self.say(|| format!("replica {replica} fails"));
        self.replicas[replica] = Replica::new();
        for node in 0..self.nodes.len() {
            if self.nodes[node].link.as_ref().is_some_and(|link| link.replica == replica) {
                self.disconnect(node);
            }
        }
    }

    fn disconnect(&mut self, node: usize) {
        if self.nodes[node].link.take().is_some() {
            self.say(|| format!("n{node} is disconnected"));
        }
    }

    fn connect(&mut self, node: usize) {
        let replica = self.random.below(self.replicas.len());
        self.connect_to(node, replica);
    }

    fn connect_to(&mut self, node: usize, replica: usize) {
        if self.nodes[node].link.is_some() {
            return;
        }
        self.say(|| format!("n{node} connects to replica {replica}"));
        self.streams += 1;
        let capacity = 1 + self.random.below(6);
        let Node { client, link, .. } = &mut self.nodes[node];
        let mut new = Link::new(self.streams, replica, client, (&self.limits, &self.plans), capacity);
        new.wake(self.replicas[replica].published.as_ref());
        *link = Some(new);
        client.connected();
        self.flush(node);
    }

    /// What the client said is on its way.
    fn flush(&mut self, node: usize) {
        let Node { client, link, .. } = &mut self.nodes[node];
        if let Some(link) = link {
            link.to_server.extend(client.out.drain(..));
        }
    }

    fn wake(&mut self, node: usize) {
        if let Some(link) = &mut self.nodes[node].link {
            link.wake(self.replicas[link.replica].published.as_ref());
        }
    }

    fn deliver(&mut self, node: usize) -> bool {
        let Node { client, link, .. } = &mut self.nodes[node];
        let Some(link) = link else { return false };
        let next = link.to_server.front().cloned();
        let delivered = link.deliver(client, self.now);
        if self.trace.is_some()
            && let Some(request) = next
        {
            self.say(|| format!("n{node} -> {}", describe(&request)));
        }
        delivered
    }

    fn send(&mut self, node: usize) -> bool {
        let Some(link) = &mut self.nodes[node].link else { return false };
        let sent = link.send(self.now);
        if self.trace.is_some() && sent {
            let text = link.to_client.back().map(|(response, _)| line(response)).unwrap_or_default();
            self.say(|| format!("n{node} <- {text}"));
        }
        sent
    }

    fn read(&mut self, node: usize) -> bool {
        let now = self.now;
        let Node { client, link: Some(link), stalled_until } = &mut self.nodes[node] else { return false };
        if *stalled_until > now {
            return false;
        }
        let Some((response, told)) = link.to_client.pop_front() else { return false };
        let before: BTreeSet<Arc<str>> = client.active.keys().cloned().collect();
        client.take(&response, now);
        if response.ty == Some(Cluster) {
            // Nobody could know better: on a new stream a SotW client does not say what it has.
            let gone = before.into_iter().filter(|name| !client.active.contains_key(name));
            let unknown = |name: &Arc<str>| client.protocol == Protocol::Sotw && !link.has_acked(Cluster, name);
            let forgiven: Vec<Arc<str>> = gone.filter(unknown).collect();
            client.forgive(forgiven);
        }
        if matches!(response.ty, Some(Listener | Route)) && !told.clusters {
            // Nor can it know what clusters a client has that is still to ask for them.
            let lacking = client.lacking().into_iter().map(|(_, cluster)| cluster);
            let forgiven: Vec<Arc<str>> = lacking.collect();
            client.forgive(forgiven);
        }
        let ty = response.ty;
        self.flush(node);
        self.say(|| format!("n{node} reads {ty:?}"));
        self.check_routes(node);
        true
    }

    fn check_routes(&mut self, node: usize) {
        let client = &mut self.nodes[node].client;
        if let Some((route, cluster)) = client.lacking().first()
            && self.patient
        {
            let held = client.warming.contains_key(cluster);
            panic!("rule 4: n{node} takes traffic by route {route} to cluster {cluster} (warming: {held})");
        }
    }

    /// A node and its server talk for a while without disturbance.
    fn converse(&mut self, node: usize) {
        self.wake(node);
        for _ in 0..self.random.below(8) {
            self.deliver(node);
            self.send(node);
            self.read(node);
        }
    }

    /// Nothing happens any more but what is on its way.
    pub(super) fn rest(&mut self) {
        self.say(|| "rest".to_owned());
        for replica in 0..self.replicas.len() {
            self.publish(replica);
        }
        for node in 0..self.nodes.len() {
            self.nodes[node].stalled_until = 0;
            self.connect(node);
        }
        self.settle();
        // Rule 5: what warms has all that it needs, unless an assignment vanished under way.
        self.check_warming();
        self.wait();
        if self.patient {
            // No order makes anybody wait for ever, but for routes that a client on a new stream never asks for.
            self.check_views(|link| link.stream.protocol() == Protocol::Sotw || link.asked().routes);
        }
        self.pass(NEVER.as_millis() as Millis);
        self.settle();
        self.check_views(|_| true);
        self.check_silence();
    }

    /// Clients give up waiting for assignments that do not come. One that names nobody in its NACKs and
    /// says nothing while clusters are warming takes its time, a culprit after the other.
    fn wait(&mut self) {
        for _ in 0..100 {
            self.pass(20_000);
            if self.settle() == 0 {
                return;
            }
        }
        panic!("this never comes to rest");
    }

    /// Everything is said and answered that can be now; how much that was.
    fn settle(&mut self) -> usize {
        let mut all = 0;
        for node in 0..self.nodes.len() {
            self.wake(node);
            let mut rounds = 0;
            while self.round(node) {
                rounds += 1;
                assert!(rounds < 500, "n{node} and its server talk without end");
            }
            all += rounds;
        }
        all
    }

    fn round(&mut self, node: usize) -> bool {
        let mut moved = false;
        while self.deliver(node) {
            moved = true;
        }
        while self.send(node) {
            moved = true;
        }
        while self.read(node) {
            moved = true;
        }
        moved
    }

    fn check_warming(&mut self) {
        for Node { client, link, .. } in &self.nodes {
            let Some(link) = link else { continue };
            for (name, (cluster, _)) in &client.warming {
                let is_current = self.content.get(Cluster, name).is_some_and(|c| c.version() == cluster.version());
                let has_all = cluster.refs().iter().all(|r| {
                    let assignment = self.content.get(Endpoint, &r.name);
                    assignment.is_some_and(|assignment| !is_bad(assignment) && !link.is_refused(assignment))
                });
                assert!(!is_current || !has_all, "rule 5: {} has cluster {name} in warming", client.name);
            }
        }
    }

    fn check_views(&self, of: impl Fn(&Link) -> bool) {
        for Node { client, link, .. } in &self.nodes {
            let link = link.as_ref().expect("all are connected");
            if !of(link) {
                continue;
            }
            for ty in ResourceType::ALL {
                self.check_view(client, link, ty);
            }
            assert!(link.is_answered(), "{} has not answered", client.name);
        }
    }

    fn check_view(&self, client: &Client, link: &Link, ty: ResourceType) {
        let (side, who) = (client.side(ty), &client.name);
        let believed = &link.believed[ty.index()];
        for current in self.content.of(ty).filter(|r| client.covers(ty, r.name())) {
            let (name, version) = (current.name(), current.version());
            if is_bad(current) {
                continue;
            }
            let has = side.has.get(name).map(|has| has.version());
            assert_eq!(has, Some(version), "{who} {ty} {name}: not its view");
            assert_eq!(believed.get(name), Some(version), "{who} {ty} {name}: it was not proved");
        }
        let stays = client.protocol == Protocol::Sotw && !ty.is_complete_list();
        for (name, has) in &side.has {
            assert!(!is_bad(has), "{who} {ty} {name} is bad");
            assert!(stays || self.content.get(ty, name).is_some(), "{who} {ty} {name} is gone, but not for it");
        }
        for (name, version) in believed {
            let has = side.has.get(name).map(|has| has.version());
            assert_eq!(has, Some(version), "{who} {ty} {name}: believed without ground");
        }
        assert!(!side.waits, "{who} waits for an answer about {ty}");
        for name in &side.open {
            let bad = self.content.get(ty, &Arc::from(name.as_str())).is_some_and(|r| is_bad(r));
            assert!(bad, "{who} was told nothing about {ty} {name}");
        }
    }

    /// Nothing more is said, whatever the time.
    fn check_silence(&mut self) {
        for _ in 0..3 {
            self.pass(100_000);
            for node in 0..self.nodes.len() {
                assert!(!self.send(node), "n{node}: at rest nothing more is said");
                let link = self.nodes[node].link.as_ref().expect("connected");
                assert_eq!(link.stream.next_deadline(), None, "n{node}: at rest nothing is due");
            }
        }
    }

    /// Rules 12 and 19: another replica has nothing new for anyone; and a change is sent alone.
    pub(super) fn move_on(&mut self) {
        for node in 0..self.nodes.len() {
            let from = self.nodes[node].link.as_ref().map_or(0, |link| link.replica);
            self.disconnect(node);
            self.connect_to(node, (from + 1) % self.replicas.len());
        }
        self.settle();
        self.check_warming();
        self.wait();
        self.check_views(|_| true);
        let bad = ResourceType::ALL.into_iter().any(|ty| self.content.of(ty).any(|r| is_bad(r)));
        for Node { client, link, .. } in self.nodes.iter().filter(|_| !bad) {
            let link = link.as_ref().expect("connected");
            let has_any = ResourceType::ALL.into_iter().any(|ty| !client.side(ty).has.is_empty());
            if client.protocol == Protocol::Delta && client.kind != Kind::Grpc && has_any {
                assert_eq!(link.resources, 0, "rule 19: {} was sent what it had", client.name);
            }
        }
    }
}

fn describe(request: &crate::ads::stream::Request) -> String {
    use crate::ads::stream::Request;
    let mut text = String::new();
    let (type_url, nonce, error, names, dropped) = match request {
        Request::Sotw(r) => {
            let names: Vec<&str> = r.resource_names.iter().map(String::as_str).collect();
            (&r.type_url, &r.response_nonce, &r.error_detail, names, Vec::new())
        }
        Request::Delta(r) => {
            let (names, dropped) = (r.subscribe.iter().collect(), r.unsubscribe.iter().collect::<Vec<_>>());
            (&r.type_url, &r.response_nonce, &r.error_detail, names, dropped)
        }
    };
    let ty = ResourceType::from_type_url(type_url).map_or("?", |ty| ty.label());
    write!(text, "{ty} nonce '{nonce}' {names:?}").ok();
    if !dropped.is_empty() {
        write!(text, " not {dropped:?}").ok();
    }
    if let Request::Delta(r) = request
        && !r.initial.is_empty()
    {
        let initial: Vec<&str> = r.initial.iter().map(|(name, _)| name).collect();
        write!(text, " has {initial:?}").ok();
    }
    if let Some(error) = error {
        write!(text, " refused: {:?}", error.message).ok();
    }
    text
}
