//! `causeway member`: reads its own cluster, and keeps a stream to the primary.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::codec::CompressionEncoding;
use tonic::codegen::Service;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Status, Streaming};

use super::digest::Held;
use super::files::{FileError, Given, Options};
use super::inbound::{Intake, Step, Taken};
use super::outbound::{About, Outbound};
use super::parts::{self, Parts};
use super::proto::member_client::MemberClient;
use super::proto::member_message::Body;
use super::proto::primary_message::Body as Said;
use super::proto::{self, MemberMessage, PrimaryMessage};
use super::tls::{OwnCertificate, TlsError, server_name};
use super::{MAX_MESSAGE, Violation};
use crate::kube::connect;
use crate::kube::down::{self, Applying, Counters, Inbox};
use crate::kube::manager::{self, Problem, Tell};
use crate::kube::outbox::Outbox;
use crate::model::id::ClusterName;
use crate::model::object::Change;

/// Making a connection, over a slow line too.
const CONNECT: Duration = Duration::from_secs(15);
/// Bounds of the pause between connections, which grows; half of it is random, so that members do not all come back at
/// the same moment.
const PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// The pause after another member of the cluster has taken the place: to take it back at once would go on for ever.
const SUPERSEDED: Duration = Duration::from_secs(30);
/// A connection that lasted this long was a good one: the next pause is short again.
const GOOD: Duration = Duration::from_secs(30);
/// Our messages that may wait for the connection; the machine bounds what is under way in bytes.
const OUTBOUND: usize = 4;
/// What is read of the cluster ahead of its being taken.
const TOLD: usize = 64;
/// How often the files are looked at while a stream is there.
const LOOK: Duration = Duration::from_secs(10);
/// From then on the certificate's end is told of.
const WARN: Duration = Duration::from_secs(14 * 24 * 3600);
/// How often.
const WARN_EVERY: Duration = Duration::from_secs(6 * 3600);
/// What is told of problems at most, as the protocol says.
const PROBLEMS: usize = 256;

/// Why a member cannot run. What may pass is no error: it is tried again for ever.
#[derive(Debug, thiserror::Error)]
pub enum MemberError {
    /// What it is given.
    #[error(transparent)]
    File(#[from] FileError),
    /// Its certificates.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The cluster that it reads.
    #[error("{0}")]
    Cluster(String),
}

/// Checks `HOST:PORT`.
///
/// # Errors
/// What is wrong with it, for people.
pub fn address(text: &str) -> Result<String, String> {
    let uri: Uri = format!("https://{text}").parse().map_err(|error| format!("`{text}`: {error}"))?;
    match (uri.host(), uri.port_u16(), uri.path()) {
        (Some(host), Some(1..), "/") if !host.is_empty() && uri.authority().is_some_and(|a| a.as_str() == text) => {
            Ok(text.to_owned())
        }
        _ => Err(format!("`{text}` is not HOST:PORT")),
    }
}

/// Runs beside a cluster until `shutdown`. Needs no order of starting: it waits for the cluster's API server and for
/// the primary, and takes them up again whenever they come back.
///
/// # Errors
/// Only for what does not pass by itself: files that cannot be used.
pub async fn run(options: Options, shutdown: CancellationToken) -> Result<(), MemberError> {
    let (_, own) = ready(&options)?;
    let (told, receiver) = mpsc::channel(TOLD);
    let outbox = Outbox::default();
    let cluster = ClusterName::from(own.cluster);
    let reads = manager::read_own(cluster.clone(), options.kubeconfig.clone(), told, outbox.clone());
    let mut member = Member::new(options, cluster.to_string(), receiver, outbox);
    tokio::select! {
        () = shutdown.cancelled() => Ok(()),
        ended = reads => match ended {
            Err(error) => Err(MemberError::Cluster(format!("{error:#}"))),
            // It ends when nobody listens.
            Ok(()) => Ok(()),
        },
        () = member.keep() => Ok(()),
    }
}

/// As [`run`], for a cluster that there is none of: it has what is told, and is given nothing. For measuring primaries.
///
/// # Errors
/// As [`run`].
pub async fn simulate(options: Options, uid: &str, told: mpsc::Receiver<Tell>) -> Result<(), MemberError> {
    let (_, own) = ready(&options)?;
    let mut member = Member::new(options, own.cluster, told, Outbox::default());
    (member.writes, member.is_read) = (false, true);
    uid.clone_into(&mut member.about.uid);
    member.keep().await;
    Ok(())
}

/// What is given at present, made ready for a connection.
fn ready(options: &Options) -> Result<(Ready, OwnCertificate), MemberError> {
    let given = options.read()?;
    let (config, own) = given.material.client(&given.trust_domain)?;
    Ok((Ready { given, config }, own))
}

struct Ready {
    given: Given,
    config: Arc<ClientConfig>,
}

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Given(#[from] MemberError),
    #[error("cannot connect")]
    Connect(#[source] tonic::transport::Error),
    #[error("the primary ended the stream: {}", .0.message())]
    Status(Status),
    #[error("the primary closed the stream")]
    Closed,
    #[error("the primary was silent for too long")]
    Silent,
    #[error("the primary breaks the protocol")]
    Violation(#[from] Violation),
    #[error("another certificate is there")]
    Rotated,
    #[error("the certificate is of cluster {0} now, not of the one that is read; restart the member")]
    OtherCluster(String),
}

struct Member {
    options: Options,
    machine: Outbound,
    /// What the cluster is given, and what is held of it.
    down: Intake<Parts>,
    inbox: Inbox,
    /// Writes that; from the first stream on which the primary gives something.
    applying: Option<Applying>,
    counters: Arc<Counters>,
    is_summary_due: bool,
    /// Whether what is given is written to the cluster.
    writes: bool,
    about: About,
    told: mpsc::Receiver<Tell>,
    outbox: Outbox,
    /// The cluster has said which it is.
    is_read: bool,
    /// When the certificate's end was told of last.
    warned: Option<Instant>,
}

impl Member {
    fn new(options: Options, cluster: String, told: mpsc::Receiver<Tell>, outbox: Outbox) -> Self {
        Self {
            options,
            machine: Outbound::default(),
            down: Intake::within(Held::default(), Instant::now().into_std()),
            inbox: Inbox::default(),
            applying: None,
            counters: Arc::default(),
            is_summary_due: false,
            writes: true,
            about: About { cluster, ..About::default() },
            told,
            outbox,
            is_read: false,
            warned: None,
        }
    }

    /// Keeps a stream for ever.
    async fn keep(&mut self) {
        let mut pause = PAUSE.0;
        loop {
            if self.until_identified().await.is_none() {
                return;
            }
            let started = Instant::now();
            let ended = match self.stream().await {
                Ok(never) => match never {},
                Err(ended) => ended,
            };
            self.machine.closed();
            let travelled = self.machine.travelled;
            if matches!(ended, Ended::Rotated) {
                tracing::info!("another certificate is there: the stream is begun anew with it");
                continue;
            }
            tracing::warn!(
                upserts = travelled.upserts,
                deletes = travelled.deletes,
                "not connected to the primary: {}",
                chain(&ended)
            );
            if started.elapsed() >= GOOD {
                pause = PAUSE.0;
            }
            let is_superseded = matches!(&ended, Ended::Status(status) if status.code() == Code::Aborted);
            let wait = jittered(if is_superseded { SUPERSEDED } else { pause });
            if self.take_for(wait).await.is_none() {
                return;
            }
            pause = (pause * 2).min(PAUSE.1);
        }
    }

    /// Takes in what is told of the cluster until it has said which it is; `None` when nothing is told any more.
    async fn until_identified(&mut self) -> Option<()> {
        while !self.is_read {
            tokio::select! {
                told = self.told.recv() => self.take(told?),
                () = self.outbox.news() => self.look_at_outbox(),
            }
        }
        Some(())
    }

    /// Takes in what is told of the cluster for so long.
    async fn take_for(&mut self, span: Duration) -> Option<()> {
        let until = Instant::now() + span;
        loop {
            tokio::select! {
                () = sleep_until(until) => return Some(()),
                told = self.told.recv() => self.take(told?),
                () = self.outbox.news() => self.look_at_outbox(),
            }
        }
    }

    fn take(&mut self, told: Tell) {
        match told {
            Tell::Changes(changes) => changes.into_iter().for_each(|change| self.change(change)),
            Tell::Problems(_, problems) => {
                let problem = |problem: Problem| proto::Problem {
                    object: problem.object,
                    field: problem.field,
                    message: problem.message,
                    remedy: problem.remedy,
                };
                self.machine.set_problems(problems.into_iter().take(PROBLEMS).map(problem).collect());
            }
            // Only the primary tells of clusters.
            Tell::Expect(_) => {}
        }
    }

    fn change(&mut self, change: Change) {
        match change {
            Change::Apply { object, .. } => self.machine.apply(&object),
            Change::Delete { key, .. } => self.machine.delete(&key),
            Change::Synced { .. } => self.machine.complete(),
            Change::Unknown { reason, .. } => self.machine.failing("CannotRead", reason),
            // The own cluster is not forgotten.
            Change::Forget { .. } => {}
        }
    }

    /// The reader says in the ClusterInfo's words which cluster it is.
    fn look_at_outbox(&mut self) {
        let waiting = self.outbox.take();
        for connection in waiting.connections.into_values().flatten() {
            if !connection.cluster_uid.is_empty() && !connection.server_version.is_empty() {
                self.about.uid = connection.cluster_uid;
                self.about.server_version = connection.server_version;
                if !std::mem::replace(&mut self.is_read, true) {
                    let About { cluster, uid, server_version } = &self.about;
                    tracing::info!(cluster, uid, server_version, "the cluster answers");
                }
            }
        }
    }

    /// One stream, from Hello to its end.
    async fn stream(&mut self) -> Result<std::convert::Infallible, Ended> {
        let (ready, own) = ready(&self.options)?;
        if own.cluster != self.about.cluster {
            return Err(Ended::OtherCluster(own.cluster));
        }
        self.warn(own.expires_at);
        let given = ready.given.clone();
        let (outbound, messages) = mpsc::channel(OUTBOUND);
        // What is told of the cluster meanwhile waits, in its bounds.
        let channel = connect_to(ready).await.map_err(Ended::Connect)?;
        let mut client = MemberClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE)
            .send_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Gzip);
        let opened = timeout(CONNECT, client.sync(ReceiverStream::new(messages))).await;
        let inbound = opened.map_err(|_| Ended::Silent)?.map_err(Ended::Status)?.into_inner();
        let now = Instant::now().into_std();
        self.machine.opened(now);
        let held = std::mem::replace(&mut self.down, Intake::within(Held::default(), now)).into_held();
        self.down = Intake::within(held, now);
        self.is_summary_due = self.applying.is_some();
        tracing::info!(
            primary = given.primary,
            cluster = self.about.cluster,
            objects = self.machine.len(),
            "connected to the primary"
        );
        self.talk(&given, own.expires_at, &outbound, inbound).await
    }

    async fn talk(
        &mut self,
        given: &Given,
        expires_at: Option<Timestamp>,
        outbound: &mpsc::Sender<MemberMessage>,
        mut inbound: Streaming<PrimaryMessage>,
    ) -> Result<std::convert::Infallible, Ended> {
        let mut look = tokio::time::interval(LOOK);
        let mut waiting = None;
        let mut was_live = false;
        loop {
            let now = Instant::now().into_std();
            if self.machine.is_silent(now) {
                return Err(Ended::Silent);
            }
            if waiting.is_none() {
                waiting = self.machine.next(&self.about, now).or_else(|| self.next_down(now));
            }
            if !was_live && waiting.is_none() && self.machine.is_live() {
                was_live = true;
                let travelled = self.machine.travelled;
                tracing::info!(
                    objects = self.machine.len(),
                    upserts = travelled.upserts,
                    deletes = travelled.deletes,
                    bytes = travelled.bytes,
                    "the primary has what the cluster has"
                );
            }
            let deadline = self.machine.deadline().map_or_else(Instant::now, Instant::from_std);
            tokio::select! {
                biased;
                message = inbound.message() => {
                    let message = message.map_err(Ended::Status)?.ok_or(Ended::Closed)?;
                    let now = Instant::now().into_std();
                    // Any message is a sign of life.
                    let body = match message.body {
                        Some(Said::Down(told)) => {
                            self.take_down(told.body, now).await?;
                            None
                        }
                        body => body,
                    };
                    let rejected = self.machine.received(body, now)?;
                    if let Some(proto::Rejected { object, reason }) = rejected {
                        tracing::warn!(object, "the primary does not take an object: {reason}");
                    }
                }
                permit = outbound.reserve(), if waiting.is_some() => {
                    let permit = permit.map_err(|_| Ended::Closed)?;
                    permit.send(MemberMessage { body: waiting.take() });
                }
                told = self.told.recv() => match told {
                    Some(told) => self.take(told),
                    None => return Err(Ended::Closed),
                },
                () = self.outbox.news() => self.look_at_outbox(),
                () = changed(self.applying.as_mut()) => self.is_summary_due = true,
                _ = look.tick() => {
                    self.warn(expires_at);
                    // Files that are being written are not taken for others.
                    if self.options.read().is_ok_and(|found| found != *given) && ready(&self.options).is_ok() {
                        return Err(Ended::Rotated);
                    }
                }
                () = sleep_until(deadline) => {}
            }
        }
    }

    /// The primary said something of what the cluster is given.
    async fn take_down(&mut self, told: Option<Body>, now: std::time::Instant) -> Result<(), Ended> {
        match self.down.received(told, now)? {
            Step::Take { seq, items } => {
                self.inbox.put(|wanted| {
                    for item in items {
                        match item {
                            Taken::Object(given) => drop(wanted.changes.insert(given.0, Some(given.1))),
                            Taken::Gone(id) => drop(wanted.changes.insert(id, None)),
                            Taken::Invalid(id, faults) => {
                                let reasons: Vec<String> = faults.iter().map(ToString::to_string).collect();
                                tracing::warn!(%id, "what the primary gives makes no sense: {}", reasons.join("; "));
                            }
                        }
                    }
                });
                self.down.taken(seq);
            }
            Step::Synced => self.inbox.put(|wanted| (wanted.complete, wanted.settled) = (true, true)),
            Step::Hello(_) | Step::State(_) | Step::Problems(_) | Step::Nothing => {}
        }
        if self.applying.is_none() && self.writes {
            let client = connect::primary(self.options.kubeconfig.as_deref()).await;
            let client = client.map_err(|error| MemberError::Cluster(format!("{error:#}")))?;
            self.applying = Some(down::start(client, self.inbox.clone(), self.counters.clone()));
        }
        Ok(())
    }

    fn next_down(&mut self, now: std::time::Instant) -> Option<Body> {
        if let Some(said) = self.down.next(now) {
            return Some(Body::Down(Box::new(PrimaryMessage { body: Some(said) })));
        }
        // The stream has begun: the machine has said who it is.
        let is_due = self.is_summary_due && self.machine.is_greeted();
        let applying = self.applying.as_ref().filter(|_| is_due)?;
        self.is_summary_due = false;
        Some(Body::SyncedDown(parts::summary_to(&applying.summary.borrow())))
    }

    /// Tells of the certificate's end when it is near.
    fn warn(&mut self, expires_at: Option<Timestamp>) {
        let Some(at) = expires_at else { return };
        let left = at.duration_since(Timestamp::now());
        if left > jiff::SignedDuration::try_from(WARN).unwrap_or(jiff::SignedDuration::MAX)
            || self.warned.is_some_and(|last| last.elapsed() < WARN_EVERY)
        {
            return;
        }
        self.warned = Some(Instant::now());
        let remedy = "make another by `causeway cluster join --push`; the file is taken up without a restart";
        if left.is_negative() {
            tracing::error!(ended = %at, remedy, "the member's certificate has ended");
        } else {
            tracing::warn!(ends = %at, days = left.as_hours() / 24, remedy, "the member's certificate ends soon");
        }
    }
}

/// Waits until there is something to tell of what comes down.
async fn changed(applying: Option<&mut Applying>) {
    match applying {
        // It goes on for as long as it is held.
        Some(applying) => drop(applying.summary.changed().await),
        None => std::future::pending().await,
    }
}

async fn connect_to(ready: Ready) -> Result<Channel, tonic::transport::Error> {
    let uri = format!("http://{}", ready.given.primary);
    Endpoint::from_shared(uri)?
        .connect_timeout(CONNECT)
        .connect_with_connector(Connector { address: ready.given.primary, config: ready.config })
        .await
}

/// Makes connections with a certificate of its own.
struct Connector {
    address: String,
    config: Arc<ClientConfig>,
}

impl Service<Uri> for Connector {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let (address, config) = (self.address.clone(), self.config.clone());
        Box::pin(async move {
            let tcp = TcpStream::connect(&address).await?;
            tcp.set_nodelay(true)?;
            let stream = TlsConnector::from(config).connect(server_name()?, tcp).await?;
            Ok(TokioIo::new(stream))
        })
    }
}

/// An error and what caused it, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let inner = error.to_string();
        if !text.contains(&inner) {
            text.push_str(": ");
            text.push_str(&inner);
        }
        cause = error.source();
    }
    text
}

/// At least half of the pause, at most all of it.
fn jittered(pause: Duration) -> Duration {
    use std::hash::{BuildHasher, Hasher, RandomState};
    let random = RandomState::new().build_hasher().finish() % 1024;
    pause / 2 + (pause / 2) * u32::try_from(random).unwrap_or(0) / 1024
}
