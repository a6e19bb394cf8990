//! The tonic service: a thin shell, one task a stream, around [`Stream`].

mod doors;
mod frames;
mod task;

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tokio::sync::mpsc;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service, StdError, http};
use tonic::server::NamedService;

use self::frames::{Frames, Requests};
use super::metrics::add;
use super::net;
use super::stream::Plans;
use super::{DiscoveryService, Event, Limits, Metrics, Millis, Protocol, Registry, StreamId};
use crate::snapshot::ResourceType;

/// Frames between a stream's task and the transport. One is enough to keep the transport busy, and
/// whatever waits here was decided before it could be overtaken by a newer snapshot.
const FRAMES: usize = 1;

/// `envoy.service.discovery.v3.AggregatedDiscoveryService`, both methods; with [`AdsServer::services`] the services of
/// single types beside it. All streams go through the same checks, and the unary `Fetch` methods are not served at all
/// (rule 22). Cloning shares everything.
#[derive(Clone)]
pub struct AdsServer {
    shared: Arc<Shared>,
}

struct Shared {
    events: mpsc::Sender<Event>,
    acks_of: Vec<ResourceType>,
    limits: Arc<Limits>,
    registry: Registry,
    metrics: Arc<Metrics>,
    plans: Plans,
    next_stream: AtomicU64,
    open: Mutex<Open>,
    clock: Clock,
}

/// Milliseconds since the Unix epoch that never jump: the wall clock at the start, and the time that
/// has passed since. A jump would otherwise make every client look slow at once.
struct Clock {
    start: Instant,
    start_ms: Millis,
}

impl Clock {
    fn new() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { start: Instant::now(), start_ms: Millis::try_from(since.as_millis()).unwrap_or(0) }
    }

    fn now(&self) -> Millis {
        self.start_ms + Millis::try_from(self.start.elapsed().as_millis()).unwrap_or(0)
    }
}

/// Streams that are open, to hold the limits.
#[derive(Default)]
struct Open {
    total: usize,
    by_peer: HashMap<IpAddr, usize>,
}

impl AdsServer {
    /// A service that reports to `events`. A stream that cannot report waits, so the channel's bound is
    /// how far the owner may fall behind; a few hundred is plenty.
    pub fn new(events: mpsc::Sender<Event>, limits: Limits) -> Self {
        Self::with_acks_of(events, limits, &ResourceType::ALL)
    }

    /// The same, where the owner wants to hear of the ACKs of these types only. Most of them prove what nobody asks for:
    /// a change of endpoints has one of each client.
    pub fn with_acks_of(events: mpsc::Sender<Event>, limits: Limits, types: &[ResourceType]) -> Self {
        let shared = Shared {
            events,
            acks_of: types.to_vec(),
            limits: Arc::new(limits),
            registry: Registry::default(),
            metrics: Arc::default(),
            plans: Plans::default(),
            next_stream: AtomicU64::new(1),
            open: Mutex::default(),
            clock: Clock::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// The streams that live now.
    pub fn registry(&self) -> Registry {
        self.shared.registry.clone()
    }

    /// Counters.
    pub fn metrics(&self) -> Arc<Metrics> {
        self.shared.metrics.clone()
    }
}

impl NamedService for AdsServer {
    const NAME: &'static str = DiscoveryService::Aggregated.name();
}

impl<B> Service<http::Request<B>> for AdsServer
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        self.enter(DiscoveryService::Aggregated, request)
    }
}

impl AdsServer {
    /// Opens a stream of that service.
    fn enter<B>(
        &self,
        service: DiscoveryService,
        request: http::Request<B>,
    ) -> BoxFuture<http::Response<Body>, Infallible>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<StdError> + Send + 'static,
    {
        let method = request.uri().path().rsplit('/').next().unwrap_or_default();
        let Some(protocol) = service.protocol(method) else {
            let status = Status::unimplemented(service.unimplemented(method));
            return Box::pin(async { Ok(status.into_http()) });
        };
        let (head, body) = request.into_parts();
        let opened = self.shared.open(&head.extensions, Body::new(body), service, protocol);
        Box::pin(async move { Ok(opened.map_or_else(Status::into_http, Frames::into_http)) })
    }
}

impl Shared {
    fn open(
        self: &Arc<Self>,
        extensions: &http::Extensions,
        body: Body,
        service: DiscoveryService,
        protocol: Protocol,
    ) -> Result<Frames, Status> {
        let peer = net::peer(extensions);
        let place = Place::take(self, peer.map(|peer| peer.ip().to_canonical()))?;
        let close = extensions.get::<net::ConnectionHandle>().map(|handle| handle.close.clone());
        let (out, frames) = mpsc::channel(FRAMES);
        let written: Arc<AtomicU64> = Arc::default();
        let id = StreamId(self.next_stream.fetch_add(1, Ordering::Relaxed));
        let peer = peer.map(|peer| peer.to_string()).unwrap_or_default();
        let shared = self.clone();
        let requests = Requests::new(body, protocol, shared.limits.max_request_bytes);
        let out = task::Out { frames: out, written: written.clone(), handed_over: 0, seen: 0, since: Instant::now() };
        let alarm = Box::pin(tokio::time::sleep(task::IDLE));
        let task = task::Task { shared, id, service, protocol, peer, close, requests, out, alarm };
        // Owned by the connection: it ends when the transport drops `frames`, and says `Disconnected`
        // however it ends, which a future that is merely dropped could not.
        tokio::spawn(async move {
            task.run().await;
            drop(place);
        });
        Ok(Frames::new(frames, written))
    }
}

/// A stream's place among those that are allowed; given back when dropped.
struct Place {
    shared: Arc<Shared>,
    peer: Option<IpAddr>,
}

impl Place {
    fn take(shared: &Arc<Shared>, peer: Option<IpAddr>) -> Result<Self, Status> {
        let limits = &shared.limits;
        let mut open = shared.open.lock().unwrap_or_else(PoisonError::into_inner);
        let of_peer = peer.and_then(|peer| open.by_peer.get(&peer).copied()).unwrap_or(0);
        if open.total >= limits.max_streams || of_peer >= limits.max_streams_per_peer {
            add(&shared.metrics.streams_refused, 1);
            let (open, limit) = match of_peer >= limits.max_streams_per_peer {
                true => (of_peer, limits.max_streams_per_peer),
                false => (open.total, limits.max_streams),
            };
            return Err(Status::resource_exhausted(format!("{open} streams are open of {limit} that may be")));
        }
        open.total += 1;
        if let Some(peer) = peer {
            *open.by_peer.entry(peer).or_default() += 1;
        }
        add(&shared.metrics.streams_opened, 1);
        Ok(Self { shared: shared.clone(), peer })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.shared.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.total = open.total.saturating_sub(1);
        if let Some(peer) = self.peer
            && let Some(count) = open.by_peer.get_mut(&peer)
        {
            *count = count.saturating_sub(1);
            if *count == 0 {
                open.by_peer.remove(&peer);
            }
        }
        add(&self.shared.metrics.streams_closed, 1);
    }
}
