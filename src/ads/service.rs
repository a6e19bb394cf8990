//! The tonic service: a thin shell, one task a stream, around [`Stream`].

mod task;

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tokio::sync::mpsc;
use tonic::codegen::{Body, BoxFuture, Service, StdError, http};
use tonic::server::{Grpc, NamedService, StreamingService};
use tonic::{Status, Streaming};

use super::metrics::add;
use super::net;
use super::stream::{Request, Response};
use super::wire::AdsCodec;
use super::{Event, Limits, Metrics, Millis, Protocol, Registry, StreamId};

/// Frames between a stream's task and the transport. One is enough to keep the transport busy, and
/// whatever waits here was decided before it could be overtaken by a newer snapshot.
const FRAMES: usize = 1;

/// `envoy.service.discovery.v3.AggregatedDiscoveryService`, both methods. The services of single types
/// and their unary `Fetch` methods are not served at all (rule 22): one door, one set of checks.
/// Cloning shares everything.
#[derive(Clone)]
pub struct AdsServer {
    shared: Arc<Shared>,
}

struct Shared {
    events: mpsc::Sender<Event>,
    limits: Arc<Limits>,
    registry: Registry,
    metrics: Arc<Metrics>,
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
        let shared = Shared {
            events,
            limits: Arc::new(limits),
            registry: Registry::default(),
            metrics: Arc::default(),
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
    const NAME: &'static str = "envoy.service.discovery.v3.AggregatedDiscoveryService";
}

impl<B> Service<http::Request<B>> for AdsServer
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let protocol = match request.uri().path().rsplit('/').next() {
            Some("StreamAggregatedResources") => Protocol::Sotw,
            Some("DeltaAggregatedResources") => Protocol::Delta,
            _ => return Box::pin(async { Ok(Status::unimplemented("not a method of this service").into_http()) }),
        };
        let method = Method { shared: self.shared.clone(), protocol };
        let mut grpc = Grpc::new(AdsCodec(protocol));
        grpc = grpc.apply_max_message_size_config(Some(self.shared.limits.max_request_bytes), None);
        Box::pin(async move { Ok(grpc.streaming(method, request).await) })
    }
}

struct Method {
    shared: Arc<Shared>,
    protocol: Protocol,
}

impl StreamingService<Request> for Method {
    type Response = Response;
    type ResponseStream = Frames;
    type Future = BoxFuture<tonic::Response<Self::ResponseStream>, Status>;

    fn call(&mut self, request: tonic::Request<Streaming<Request>>) -> Self::Future {
        let opened = self.shared.open(request, self.protocol);
        Box::pin(async move { opened.map(tonic::Response::new) })
    }
}

impl Shared {
    fn open(
        self: &Arc<Self>,
        request: tonic::Request<Streaming<Request>>,
        protocol: Protocol,
    ) -> Result<Frames, Status> {
        let peer = net::peer(request.extensions());
        let place = Place::take(self, peer.map(|peer| peer.ip().to_canonical()))?;
        let close = request.extensions().get::<net::ConnectionHandle>().map(|handle| handle.close.clone());
        let (out, frames) = mpsc::channel(FRAMES);
        let written: Arc<AtomicU64> = Arc::default();
        let id = StreamId(self.next_stream.fetch_add(1, Ordering::Relaxed));
        let peer = peer.map(|peer| peer.to_string()).unwrap_or_default();
        let (shared, requests) = (self.clone(), request.into_inner());
        let out = task::Out { frames: out, written: written.clone(), handed_over: 0, seen: 0, since: Instant::now() };
        let task = task::Task { shared, id, protocol, peer, close, requests, out };
        // Owned by the connection: it ends when the transport drops `frames`, and says `Disconnected`
        // however it ends, which a future that is merely dropped could not.
        tokio::spawn(async move {
            task.run().await;
            drop(place);
        });
        Ok(Frames { frames, taken: 0, written })
    }
}

/// The transport's end of a stream. The transport asks for more when what it took is written out as far
/// as its bounded buffers go; that is how the stream's task learns that a client does not read. HTTP/2
/// takes a frame or two beyond its window; a client that is stuck on those is noticed by its missing ACK.
struct Frames {
    frames: mpsc::Receiver<Result<Response, Status>>,
    taken: u64,
    written: Arc<AtomicU64>,
}

impl tokio_stream::Stream for Frames {
    type Item = Result<Response, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.written.store(self.taken, Ordering::Relaxed);
        let polled = self.frames.poll_recv(cx);
        if polled.is_ready() {
            self.taken += 1;
        }
        polled
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
