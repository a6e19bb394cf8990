//! The agent's shell: reads the Envoy, keeps the stream to the control plane, and answers it.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::Ipv6Addr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::FutureExt;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};

use super::addresses::{Addresses, chain, failed};
use super::http::{ReadError, Reader};
use super::local;
use super::proto::agent_message::Body;
use super::proto::control_message::Body as Asked;
use super::proto::feedback_client::FeedbackClient;
use super::proto::{self, AgentMessage, ControlMessage};
use super::report::Control;
use super::session::HEARTBEAT;
use super::tracker::{Tracker, View};
use super::wire::{self, Hello, PROTOCOL_VERSION};
use super::{Error, Options};
use crate::model::Timestamp;

/// A control plane on the same host or in the same cluster answers within milliseconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// The control plane may first have to see another agent of the same node off.
const WELCOME_TIMEOUT: Duration = Duration::from_secs(10);

/// Bounds of the pause between connections; half of it is random, so that agents do not all come
/// back at the same moment.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// A connection that lasted this long was a good one: the next pause is short again.
const GOOD_CONNECTION: Duration = Duration::from_secs(30);

/// Our messages that may wait for the connection. Each report replaces the earlier ones, and
/// answers are no more than requests.
const OUTBOUND_BOUND: usize = 64;

/// Requests that are answered with one write to the disk.
const BATCH: usize = 256;

/// The Envoy's main thread should not spend more than a fifth of its time on us.
const MAX_SHARE: u32 = 4;

/// Stands beside the Envoy until `shutdown` is cancelled. Needs no order of starting: it waits for
/// the Envoy and for the control plane, and takes them up again whenever they come back.
///
/// # Errors
/// Only for what does not pass by itself: an address that is none, a state directory that cannot be
/// used, a range that cannot be made local.
pub async fn run(options: Options, shutdown: CancellationToken) -> Result<(), Error> {
    let endpoint = endpoint(&options.control_plane)?;
    let mut addresses = match &options.state_dir {
        Some(dir) if !options.assign.is_empty() => Some(Addresses::open(dir, &options.assign, now())?),
        _ => None,
    };
    if options.make_local {
        local::make_local(&options.assign)?;
        for address in addresses.iter().flat_map(Addresses::assigned_v6) {
            local::add_address(address)?;
        }
    }
    let (seen, views) = watch::channel(None);
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = poll(&options, seen) => {}
        () = report(&options, &endpoint, views, &mut addresses) => {}
    }
    Ok(())
}

/// Also accepts `unix:/path`. There is no TLS in this build, so `https` is refused rather than
/// spoken to in the clear.
fn endpoint(url: &str) -> Result<Endpoint, Error> {
    let wrong = |reason: String| Error::ControlPlane { url: url.to_owned(), reason };
    if !url.starts_with("http://") && !url.starts_with("unix:/") {
        return Err(wrong("expected http://HOST:PORT or unix:/PATH".into()));
    }
    let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|error| wrong(chain(&error)))?;
    // A control plane that vanished without a word is noticed by missing pings.
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(HEARTBEAT)
        .keep_alive_timeout(HEARTBEAT)
        .keep_alive_while_idle(true))
}

/// How often what did not change is reported again, right after it was read. An ACK may reach the control plane after
/// the report of the listener that it is about; only a later report then says that the listener is active.
const SAY_AGAIN: Duration = Duration::from_secs(2);

/// Reads the Envoy for ever; the view is `None` until the first reading, good or not, is over.
async fn poll(options: &Options, seen: watch::Sender<Option<View>>) {
    let mut reader = Reader::new(options.envoy_admin.clone());
    let mut tracker = Tracker::default();
    let mut said = String::new();
    let mut viewed = Instant::now();
    loop {
        let started = Instant::now();
        match reader.observe().await {
            Ok(observation) => {
                if !said.is_empty() {
                    tracing::info!(admin = %options.envoy_admin, "Envoy answers again");
                    said.clear();
                }
                tracker.observed(observation, Instant::now().into_std());
                for (name, address) in tracker.to_try() {
                    tracker.tried(&name, local::bindable(address), Instant::now().into_std());
                }
            }
            Err(error) => {
                note(&mut said, &error, options);
                tracker.silent(error.silence(), Instant::now().into_std());
            }
        }
        let view = Some(tracker.view());
        seen.send_if_modified(|known| {
            let changed = *known != view;
            if changed {
                *known = view;
            }
            let is_due = changed || viewed.elapsed() >= SAY_AGAIN;
            if is_due {
                viewed = Instant::now();
            }
            is_due
        });
        sleep(options.poll_interval.max(started.elapsed() * MAX_SHARE)).await;
    }
}

/// Logs a failure once, not four times a second.
fn note(said: &mut String, error: &ReadError, options: &Options) {
    let text = chain(error);
    if *said != text {
        tracing::warn!(admin = %options.envoy_admin, error = text, "cannot read Envoy's admin interface");
        *said = text;
    }
}

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("cannot connect")]
    Connect(#[source] tonic::transport::Error),
    #[error("the control plane did not answer within {} s", .0.as_secs())]
    Timeout(Duration),
    #[error("the control plane ended the stream: {}", .0.message())]
    Status(Status),
    #[error("the control plane closed the stream")]
    Closed,
    #[error("the control plane's first message is no Welcome of protocol version {PROTOCOL_VERSION}")]
    NotWelcome,
    #[error("the Envoy calls itself `{0}` now")]
    OtherNode(String),
}

/// Keeps a stream to the control plane for ever.
async fn report(
    options: &Options,
    endpoint: &Endpoint,
    mut views: watch::Receiver<Option<View>>,
    addresses: &mut Option<Addresses>,
) {
    let mut backoff = BACKOFF.0;
    loop {
        let Some(node_id) = node_id(options, &mut views).await else { return };
        let started = Instant::now();
        let mut views = views.clone();
        let ended = stream(options, endpoint, &node_id, &mut views, addresses).await;
        tracing::warn!(
            control_plane = options.control_plane,
            node = node_id,
            reason = chain(&ended),
            "not connected to the control plane"
        );
        if started.elapsed() >= GOOD_CONNECTION {
            backoff = BACKOFF.0;
        }
        sleep(jittered(backoff)).await;
        backoff = (backoff * 2).min(BACKOFF.1);
    }
}

/// The name to report under: the flag's, else the Envoy's own as soon as there is one. `None` when
/// the polling has ended.
async fn node_id(options: &Options, views: &mut watch::Receiver<Option<View>>) -> Option<String> {
    let known = |view: &Option<View>| match (view, &options.node_id) {
        (Some(_), Some(flag)) => Some(flag.clone()),
        (Some(view), None) => view.node_id.clone(),
        (None, _) => None,
    };
    let view = views.wait_for(|view| known(view).is_some()).await.ok()?;
    known(&view)
}

/// One connection, from Hello to its end.
async fn stream(
    options: &Options,
    endpoint: &Endpoint,
    node_id: &str,
    views: &mut watch::Receiver<Option<View>>,
    addresses: &mut Option<Addresses>,
) -> Ended {
    match open(endpoint, node_id, addresses).await {
        Ok((outbound, inbound, heartbeat)) => {
            tracing::info!(control_plane = options.control_plane, node = node_id, "connected to the control plane");
            if let Some(addresses) = addresses {
                addresses.connected(now());
            }
            // What was reported to an earlier connection counts for nothing.
            views.mark_changed();
            let make_local = options.make_local;
            let mut stream = Stream { outbound, inbound, heartbeat, make_local, said: Instant::now() };
            let bound = options.node_id.is_none().then_some(node_id);
            match stream.talk(bound, views, addresses).await {
                Ok(never) => match never {},
                Err(ended) => ended,
            }
        }
        Err(ended) => ended,
    }
}

type Opened = (mpsc::Sender<AgentMessage>, Streaming<ControlMessage>, Duration);

async fn open(endpoint: &Endpoint, node_id: &str, addresses: &Option<Addresses>) -> Result<Opened, Ended> {
    let channel: Channel = endpoint.connect().await.map_err(Ended::Connect)?;
    let ranges = addresses.as_ref().map_or_else(Vec::new, |addresses| addresses.ranges().to_vec());
    let hello = Hello { node_id: node_id.to_owned(), ranges, version: env!("CARGO_PKG_VERSION").into() };
    let (outbound, messages) = mpsc::channel(OUTBOUND_BOUND);
    let hello = AgentMessage { body: Some(Body::Hello(wire::hello_to(hello))) };
    outbound.send(hello).await.map_err(|_| Ended::Closed)?;
    let welcome = async {
        let mut client = FeedbackClient::new(channel);
        let mut inbound = client.report(ReceiverStream::new(messages)).await.map_err(Ended::Status)?.into_inner();
        let message = inbound.message().await.map_err(Ended::Status)?.ok_or(Ended::Closed)?;
        match message.body {
            Some(Asked::Welcome(welcome)) if welcome.protocol_version == PROTOCOL_VERSION => {
                let asked = Duration::from_millis(welcome.heartbeat_ms.into());
                Ok((inbound, asked.clamp(Duration::from_millis(100), HEARTBEAT)))
            }
            _ => Err(Ended::NotWelcome),
        }
    };
    let welcome = timeout(WELCOME_TIMEOUT, welcome).await.map_err(|_| Ended::Timeout(WELCOME_TIMEOUT))?;
    let (inbound, heartbeat) = welcome?;
    Ok((outbound, inbound, heartbeat))
}

struct Stream {
    outbound: mpsc::Sender<AgentMessage>,
    inbound: Streaming<ControlMessage>,
    heartbeat: Duration,
    make_local: bool,
    /// When we last sent something.
    said: Instant,
}

impl Stream {
    /// `bound` is the node id if it came from the Envoy; when the Envoy changes it, the stream has to
    /// end, since its identity cannot change.
    async fn talk(
        &mut self,
        bound: Option<&str>,
        views: &mut watch::Receiver<Option<View>>,
        addresses: &mut Option<Addresses>,
    ) -> Result<std::convert::Infallible, Ended> {
        loop {
            let learned = addresses.as_ref().and_then(Addresses::deadline);
            let learned_in = learned.map(|at| Duration::from_millis(u64::try_from(at - now()).unwrap_or(0)));
            tokio::select! {
                changed = views.changed() => {
                    changed.map_err(|_| Ended::Closed)?;
                    let view = views.borrow_and_update().clone();
                    if let Some(view) = view {
                        check_identity(bound, &view)?;
                        self.say(listeners(&view)).await?;
                    }
                }
                message = self.inbound.message() => {
                    let message = message.map_err(Ended::Status)?.ok_or(Ended::Closed)?;
                    self.answer(message, addresses).await?;
                }
                () = sleep(learned_in.unwrap_or_default()), if learned_in.is_some() => {
                    self.say_answers(addresses, Vec::new()).await?;
                }
                () = sleep_until(self.said + self.heartbeat) => self.say(Body::Heartbeat(proto::Heartbeat {})).await?,
            }
        }
    }

    async fn say(&mut self, body: Body) -> Result<(), Ended> {
        self.said = Instant::now();
        self.outbound.send(AgentMessage { body: Some(body) }).await.map_err(|_| Ended::Closed)
    }

    /// Answers a message and all that have arrived behind it.
    async fn answer(&mut self, first: ControlMessage, addresses: &mut Option<Addresses>) -> Result<(), Ended> {
        let mut batch = Vec::new();
        let mut next = Some(first);
        while let Some(message) = next.take() {
            match requested(message) {
                Ok(control) => batch.extend(control),
                Err(answer) => self.say(answer).await?,
            }
            if batch.len() < BATCH
                && let Some(message) = self.inbound.message().now_or_never()
            {
                // An end of the stream is met again when it is next read.
                next = message.map_err(Ended::Status)?;
            }
        }
        self.say_answers(addresses, batch).await
    }

    async fn say_answers(&mut self, addresses: &mut Option<Addresses>, batch: Vec<Control>) -> Result<(), Ended> {
        let answers = match addresses {
            // It writes a small file and waits for the disk, a few milliseconds a batch; nothing else
            // in this process would gain by a thread of its own for that.
            Some(addresses) => {
                let before = addresses.assigned_v6();
                let answers = addresses.handle(batch, now());
                if self.make_local { localize(answers, &before, &addresses.assigned_v6()) } else { answers }
            }
            None => batch.into_iter().filter_map(refuse).collect(),
        };
        for answer in answers {
            self.say(answer).await?;
        }
        Ok(())
    }
}

/// Gives assigned IPv6 addresses to the loopback interface before they are told, and takes back
/// those that are not assigned any more.
fn localize(answers: Vec<Body>, before: &BTreeSet<Ipv6Addr>, after: &BTreeSet<Ipv6Addr>) -> Vec<Body> {
    for address in before.difference(after) {
        if let Err(error) = local::remove_address(*address) {
            tracing::warn!(%error, "a released address stays local");
        }
    }
    let mut told = Vec::with_capacity(answers.len());
    for answer in answers {
        let result = match &answer {
            Body::Assigned(assigned) => match assigned.address.parse() {
                Ok(address) => local::add_address(address),
                Err(_) => Ok(()), // IPv4: the range's route is enough.
            },
            _ => Ok(()),
        };
        told.push(match (result, answer) {
            (Err(error), Body::Assigned(assigned)) => failed(assigned.slot, error.to_string()),
            (_, answer) => answer,
        });
    }
    told
}

fn check_identity(bound: Option<&str>, view: &View) -> Result<(), Ended> {
    match (bound, &view.node_id) {
        (Some(bound), Some(node_id)) if bound != node_id => Err(Ended::OtherNode(node_id.clone())),
        _ => Ok(()),
    }
}

fn listeners(view: &View) -> Body {
    let listeners = view.listeners.iter().map(wire::listener_to).collect();
    Body::Listeners(proto::Listeners { envoy_up: view.envoy_up, listeners })
}

/// What a message asks. `Err` is the answer to one that cannot be understood.
fn requested(message: ControlMessage) -> Result<Option<Control>, Body> {
    match message.body {
        Some(Asked::Assign(assign)) => {
            let slot = assign.slot.clone();
            wire::assign_from(assign)
                .map(|request| Some(Control::Assign(request)))
                .map_err(|malformed| failed(slot, malformed.to_string()))
        }
        Some(Asked::Release(release)) => match wire::address_from("address", &release.address) {
            Ok(address) => Ok(Some(Control::Release { slot: release.slot, address })),
            Err(malformed) => {
                tracing::warn!(slot = release.slot, %malformed, "cannot understand a release");
                Ok(None)
            }
        },
        // A second Welcome, or something that a later control plane added.
        Some(Asked::Welcome(_)) | None => Ok(None),
    }
}

fn refuse(control: Control) -> Option<Body> {
    match control {
        Control::Assign(request) => Some(failed(request.slot, "this agent was started without --assign".into())),
        Control::Release { .. } => None,
    }
}

/// Between half of the pause and all of it.
fn jittered(pause: Duration) -> Duration {
    let random = RandomState::new().build_hasher().finish() % 1000;
    pause / 2 + pause * random as u32 / 2000
}

fn now() -> Timestamp {
    // A clock before 1970 is wrong anyway; cooling times are bounded against a wrong clock.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as Timestamp)
}
