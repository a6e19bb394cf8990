//! The primary's end of members' streams: each is let in by its certificate, and hands over to the cluster manager.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::codec::CompressionEncoding;
use tonic::{Request, Response, Status, Streaming};

use super::digest::{Held, hash_of_form, hash_of_key};
use super::inbound::{Hello, Inbound, Step, Taken};
use super::outbound::{About, Outbound};
use super::parts::{self, Parts};
use super::proto::member_message::Body as Message;
use super::proto::primary_message::Body;
use super::proto::{self, MemberMessage, PrimaryMessage, member_server};
use super::tls::Peer;
use super::wire::{self, Content};
use super::{MAX_MESSAGE, Violation};
use crate::kube::connect::{Identity, Refused};
use crate::kube::down::{Summary, Wanted};
use crate::kube::manager::{FromMember, Knock, Known, Members, Problem, Seat};
use crate::kube::watch::Item;
use crate::model::id::ClusterName;
use crate::model::object::ObjectKey;
use crate::trust::{Decision, authorize_cluster};

/// Messages handed to the connection ahead of its writing; it is small since HTTP/2 buffers too.
const OUTBOUND: usize = 16;

/// What members of one cluster have told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// A member is connected.
    pub is_connected: bool,
    /// Streams that were let in.
    pub streams: u64,
    /// When the certificate of the last one ends, in seconds since the Unix epoch; 0 where that is not known.
    pub certificate_ends_at: i64,
    /// Objects that came.
    pub upserts: u64,
    /// Objects that were told to be gone.
    pub deletes: u64,
    /// Objects that made no sense.
    pub rejected: u64,
}

/// Counters. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    by_cluster: Arc<Mutex<HashMap<String, Told>>>,
    refused: Arc<AtomicU64>,
}

impl Counters {
    /// What was told, by cluster.
    pub fn by_cluster(&self) -> Vec<(String, Told)> {
        let by_cluster = self.by_cluster.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = by_cluster.iter().map(|(cluster, told)| (cluster.clone(), *told)).collect();
        all.sort_unstable_by(|one, other| one.0.cmp(&other.0));
        all
    }

    /// Streams that were not let in.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    fn change(&self, cluster: &str, change: impl FnOnce(&mut Told)) {
        let mut by_cluster = self.by_cluster.lock().unwrap_or_else(PoisonError::into_inner);
        change(by_cluster.entry(cluster.to_owned()).or_default());
    }
}

/// The service `causeway.member.v1.Member`.
#[derive(Clone)]
pub struct MemberServer {
    shared: Arc<Shared>,
}

struct Shared {
    members: Members,
    counters: Counters,
    /// The stream of each cluster. Never locked across an await.
    places: Mutex<HashMap<String, Place>>,
    /// What is held of each cluster between streams, and in which of its lives.
    held: Mutex<HashMap<String, (u64, Held<ObjectKey>)>>,
    next: AtomicU64,
    shutdown: CancellationToken,
}

/// The place of the one member of a cluster.
#[derive(Clone)]
struct Place {
    id: u64,
    /// Asks the member's task to end.
    leave: CancellationToken,
    /// Cancelled when what it held was put back.
    left: CancellationToken,
}

impl MemberServer {
    /// A service that hands over to these; its streams end at `shutdown`.
    pub fn new(members: Members, shutdown: CancellationToken) -> Self {
        let shared = Shared {
            members,
            counters: Counters::default(),
            places: Mutex::default(),
            held: Mutex::default(),
            next: AtomicU64::new(1),
            shutdown,
        };
        Self { shared: Arc::new(shared) }
    }

    /// What is counted.
    pub fn counters(&self) -> Counters {
        self.shared.counters.clone()
    }

    /// The tonic service. It takes streams of connections of [`super::incoming`] only.
    pub fn into_service(self) -> member_server::MemberServer<Self> {
        member_server::MemberServer::new(self)
            .max_decoding_message_size(MAX_MESSAGE)
            .accept_compressed(CompressionEncoding::Gzip)
            .send_compressed(CompressionEncoding::Gzip)
    }
}

#[tonic::async_trait]
impl member_server::Member for MemberServer {
    type SyncStream = Pin<Box<dyn futures::Stream<Item = Result<PrimaryMessage, Status>> + Send>>;

    async fn sync(&self, request: Request<Streaming<MemberMessage>>) -> Result<Response<Self::SyncStream>, Status> {
        let peer = request.extensions().get::<Peer>().cloned();
        let peer = peer.ok_or_else(|| Status::permission_denied("the connection has proved nothing"))?;
        let (outbound, responses) = mpsc::channel(OUTBOUND);
        let connection = Connection {
            inbound: request.into_inner(),
            outbound,
            machine: Inbound::new(Instant::now().into_std()),
            down: Outbound::default(),
            is_told: (false, false),
            summary: None,
            peer,
            shared: self.shared.clone(),
        };
        // The task ends by itself: when the stream ends, when the member is silent or its certificate has ended, when
        // another member of the cluster comes, or at the shutdown.
        tokio::spawn(connection.serve());
        Ok(Response::new(Box::pin(ReceiverStream::new(responses))))
    }
}

/// Why a connection ends.
enum End {
    /// The member ended it, or the network did.
    Closed(String),
    /// We end it, and say why.
    Refused(Status),
}

impl From<Violation> for End {
    fn from(violation: Violation) -> Self {
        let text = violation.to_string();
        Self::Refused(match violation {
            Violation::Version(_) => Status::failed_precondition(text),
            Violation::Order(_) | Violation::Malformed(_) => Status::invalid_argument(text),
        })
    }
}

struct Connection {
    inbound: Streaming<MemberMessage>,
    outbound: mpsc::Sender<Result<PrimaryMessage, Status>>,
    machine: Inbound,
    /// What the cluster is given.
    down: Outbound,
    /// Whether all of that was told, and is settled.
    is_told: (bool, bool),
    /// How far it has that, where the member has said something new.
    summary: Option<Summary>,
    peer: Peer,
    shared: Arc<Shared>,
}

impl Connection {
    async fn serve(mut self) {
        let hello = match self.hello().await {
            Ok(hello) => hello,
            Err(end) => return self.refuse(end),
        };
        if let Decision::Deny { reason } = authorize_cluster(&self.peer.identity, &hello.cluster) {
            return self.refuse(End::Refused(Status::permission_denied(reason)));
        }
        let cluster = hello.cluster.clone();
        if let Err(end) = self.check(&hello).await {
            return self.refuse(end);
        }
        let place = self.shared.take_place(&cluster).await;
        // Even if this task panics, a later member of the cluster does not wait for it.
        let left = place.left.clone().drop_guard();
        let seat = match self.enter(hello).await {
            Ok(seat) => seat,
            Err(end) => {
                self.shared.leave_place(&cluster, &place);
                return self.refuse(end);
            }
        };
        let held = self.shared.held_in(&cluster, &seat);
        tracing::info!(cluster, address = %self.peer.address, known = held.len(), "a member is connected");
        self.machine.welcome(held);
        self.down.opened_within(Instant::now().into_std());
        let ends_at = self.peer.expires_at.map_or(0, Timestamp::as_second);
        self.shared.counters.change(&cluster, |told| {
            told.is_connected = true;
            told.certificate_ends_at = ends_at;
            told.streams += 1;
        });
        let end = self.pump(&cluster, &seat, &place.leave).await;
        self.shared.counters.change(&cluster, |told| told.is_connected = false);
        let Connection { machine, outbound, shared, .. } = self;
        // Of a cluster that is gone nothing is kept.
        if !seat.news.is_closed() {
            shared.put_back(&cluster, seat.life, machine.into_held());
        }
        shared.leave_place(&cluster, &place);
        drop(left);
        match end {
            End::Closed(why) => tracing::warn!(cluster, "a member is gone: {why}"),
            End::Refused(status) => {
                tracing::warn!(cluster, "a member's stream is ended: {}", status.message());
                // The connection may be gone too.
                let _ = outbound.try_send(Err(status));
            }
        }
    }

    fn refuse(self, end: End) {
        let Connection { peer: Peer { address, identity, .. }, outbound, shared, .. } = self;
        match end {
            End::Closed(why) => tracing::debug!(%address, %identity, "a member left before it was let in: {why}"),
            End::Refused(status) => {
                shared.counters.refused.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(%address, %identity, "a member is refused: {}", status.message());
                let _ = outbound.try_send(Err(status));
            }
        }
    }

    /// Waits for the first message.
    async fn hello(&mut self) -> Result<Hello, End> {
        let deadline = Instant::from_std(self.machine.silent_at());
        let message = tokio::select! {
            message = self.inbound.message() => message,
            () = tokio::time::sleep_until(deadline) => return Err(silent()),
        };
        match self.step(message)? {
            Step::Hello(hello) => Ok(hello),
            _ => Err(Violation::Order("another message than Hello came first").into()),
        }
    }

    fn step(&mut self, message: Result<Option<MemberMessage>, Status>) -> Result<Step, End> {
        let message = message.map_err(|status| End::Closed(status.message().to_owned()))?;
        let message = message.ok_or_else(|| End::Closed("it ended the stream".to_owned()))?;
        let now = Instant::now().into_std();
        // Any message is a sign of life.
        let step = match message.body {
            Some(Message::Down(said)) => {
                if let Some(proto::Rejected { object, reason }) = self.down.received(said.body, now)? {
                    tracing::warn!(object, "a member does not take what its cluster is given: {reason}");
                }
                None
            }
            Some(Message::SyncedDown(said)) => {
                self.summary = Some(parts::summary_from(said));
                None
            }
            body => body,
        };
        Ok(self.machine.received(step, now)?)
    }

    /// Takes in what the cluster is given.
    fn take_down(&mut self, wanted: Wanted) {
        for (id, part) in wanted.changes {
            let key = Parts::hash(&id);
            match part {
                Some(part) => self.down.put(key, parts::encode(&id, &part)),
                None => self.down.remove(key),
            }
        }
        self.is_told.0 |= wanted.complete;
        self.is_told.1 |= wanted.settled;
        // From then on what is not there is gone.
        if self.is_told == (true, true) {
            self.down.complete();
        }
    }

    /// Before anybody is asked to leave for it.
    async fn check(&self, hello: &Hello) -> Result<(), End> {
        let identity = Identity { uid: hello.uid.clone(), version: hello.server_version.clone() };
        let answer = self.shared.members.check(&hello.cluster.as_str().into(), identity).await;
        answer.map_err(|why| End::Refused(Status::failed_precondition(why.to_string())))
    }

    async fn enter(&self, hello: Hello) -> Result<Seat, End> {
        let identity = Identity { uid: hello.uid, version: hello.server_version };
        let knock = Knock { identity, expires_at: self.peer.expires_at };
        let cluster = ClusterName::from(hello.cluster);
        let seat = self.shared.members.enter(&cluster, knock).await;
        seat.map_err(|why| End::Refused(Status::failed_precondition(why.to_string())))
    }

    /// Passes messages both ways until something ends.
    async fn pump(&mut self, cluster: &str, seat: &Seat, leave: &CancellationToken) -> End {
        let (outbound, shutdown) = (self.outbound.clone(), self.shared.shutdown.clone());
        let ends_in = self.peer.expires_at.map(|at| at.duration_since(Timestamp::now()).unsigned_abs());
        let ends_at = ends_in.and_then(|span| Instant::now().checked_add(span));
        let mut waiting = None;
        loop {
            let now = Instant::now().into_std();
            if waiting.is_none() {
                waiting = self.machine.next(now).or_else(|| self.next_down(now));
            }
            if let Some(summary) = self.summary.take()
                && seat.news.send(FromMember::Down(summary)).await.is_err()
            {
                return unseated();
            }
            let silent_at = Instant::from_std(self.machine.silent_at());
            let heartbeat_at = Instant::from_std(self.machine.heartbeat_at());
            // Biased, so that what has arrived counts before the deadline does: when the owner was slow to take
            // objects, the member is not to blame.
            tokio::select! {
                biased;
                () = leave.cancelled() => return superseded(),
                () = shutdown.cancelled() => return End::Refused(Status::unavailable("the primary shuts down")),
                () = seat.news.closed() => return unseated(),
                message = self.inbound.message() => match self.step(message) {
                    Ok(step) => if let Err(end) = self.hand_over(cluster, seat, step).await { return end },
                    Err(end) => return end,
                },
                permit = outbound.reserve(), if waiting.is_some() => match permit {
                    Ok(permit) => permit.send(Ok(PrimaryMessage { body: waiting.take() })),
                    Err(_) => return End::Closed("it does not read any more".to_owned()),
                },
                () = seat.down.news() => self.take_down(seat.down.take()),
                () = tokio::time::sleep_until(heartbeat_at), if waiting.is_none() => {}
                () = tokio::time::sleep_until(silent_at) => return silent(),
                () = sleep_until(ends_at) => return ended(),
            }
        }
    }

    fn next_down(&mut self, now: std::time::Instant) -> Option<Body> {
        // It has greeted, and says nothing of itself within another stream.
        let body = self.down.next(&About::default(), now)?;
        Some(Body::Down(Box::new(MemberMessage { body: Some(body) })))
    }

    /// What the machine holds now must reach the cluster manager, so nothing cuts this short.
    async fn hand_over(&mut self, cluster: &str, seat: &Seat, step: Step) -> Result<(), End> {
        let gone = unseated;
        match step {
            Step::Take { seq, items } => {
                let items: Vec<Item> = items.into_iter().map(item).collect();
                let count = |of: fn(&Item) -> bool| items.iter().filter(|item| of(item)).count() as u64;
                let upserts = count(|item| matches!(item, Item::Object(_)));
                let deletes = count(|item| matches!(item, Item::Gone(_)));
                let rejected = count(|item| matches!(item, Item::Invalid(..)));
                self.shared.counters.change(cluster, |told| {
                    told.upserts += upserts;
                    told.deletes += deletes;
                    told.rejected += rejected;
                });
                let (passed, taken) = oneshot::channel();
                seat.news.send(FromMember::Items(items, passed)).await.map_err(|_| gone())?;
                taken.await.map_err(|_| gone())?;
                self.machine.taken(seq);
                Ok(())
            }
            Step::Synced => seat.news.send(FromMember::Synced).await.map_err(|_| gone()),
            Step::State(why) => {
                let why = why.map(|(reason, message)| Refused {
                    reason: "MemberCannotRead",
                    message: format!("the member cannot read its cluster: {reason}: {message}"),
                    remedy: "mend that in the cluster",
                });
                seat.news.send(FromMember::Reads(why)).await.map_err(|_| gone())
            }
            Step::Problems(problems) => {
                let of_cluster = |problem: proto::Problem| Problem {
                    cluster: ClusterName::from(cluster),
                    object: problem.object,
                    field: problem.field,
                    message: problem.message,
                    remedy: problem.remedy,
                };
                let problems = problems.into_iter().map(of_cluster).collect();
                seat.news.send(FromMember::Problems(problems)).await.map_err(|_| gone())
            }
            Step::Hello(_) | Step::Nothing => Ok(()),
        }
    }
}

fn item(taken: Taken<wire::Objects>) -> Item {
    match taken {
        Taken::Object(object) => Item::Object(object),
        Taken::Gone(key) => Item::Gone(key),
        Taken::Invalid(key, faults) => Item::Invalid(key, faults),
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

impl Shared {
    /// Takes the cluster's place; whoever has it is asked to leave, and waited for.
    async fn take_place(&self, cluster: &str) -> Place {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let place = Place { id, leave: CancellationToken::new(), left: CancellationToken::new() };
        let before = self.lock_places().insert(cluster.to_owned(), place.clone());
        if let Some(before) = before {
            before.leave.cancel();
            before.left.cancelled().await;
        }
        place
    }

    fn leave_place(&self, cluster: &str, place: &Place) {
        let mut places = self.lock_places();
        if places.get(cluster).is_some_and(|known| known.id == place.id) {
            places.remove(cluster);
        }
    }

    fn lock_places(&self) -> std::sync::MutexGuard<'_, HashMap<String, Place>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is held of the cluster: what the last stream left, or else what the world was told. Of what is not known in
    /// which form it was told, the form is asked for.
    fn held_in(&self, cluster: &str, seat: &Seat) -> Held<ObjectKey> {
        let kept = self.held.lock().unwrap_or_else(PoisonError::into_inner).remove(cluster);
        if let Some((life, held)) = kept
            && life == seat.life
        {
            return held;
        }
        let mut held = Held::default();
        for known in &seat.known {
            let (key, form) = match known {
                Known::Object(object) => {
                    (object.key(), wire::encode(object).map_or(0, |encoded| hash_of_form(&encoded)))
                }
                Known::Key(key) => (key.clone(), 0),
            };
            held.put(hash_of_key(&key), form, key);
        }
        held
    }

    fn put_back(&self, cluster: &str, life: u64, held: Held<ObjectKey>) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).insert(cluster.to_owned(), (life, held));
    }
}

fn unseated() -> End {
    End::Refused(Status::unavailable("the cluster is not read by a member any more"))
}

fn silent() -> End {
    End::Refused(Status::deadline_exceeded("the member was silent for too long"))
}

fn superseded() -> End {
    End::Refused(Status::aborted("another member of the cluster has connected; run one only"))
}

fn ended() -> End {
    End::Refused(Status::unauthenticated(
        "the member's certificate has ended; make another: `causeway cluster join --push`",
    ))
}
