//! The task of one stream.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::FutureExt;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tracing::{debug, info, warn};

use super::Shared;
use super::frames::Requests;
use crate::ads::metrics::add;
use crate::ads::registry::{self, lock};
use crate::ads::stream::{Report, Request, Response, Stream};
use crate::ads::{DiscoveryService, Event, Millis, NodeInfo, Protocol, Snapshots, StreamId, Violation};

/// How long a final status may wait for room before the stream ends without it.
const FAREWELL: Duration = Duration::from_millis(200);

/// How long a task sleeps when the machine has no deadline.
pub(super) const IDLE: Duration = Duration::from_secs(3600);

pub(super) struct Task {
    pub(super) shared: Arc<Shared>,
    pub(super) id: StreamId,
    pub(super) service: DiscoveryService,
    pub(super) protocol: Protocol,
    pub(super) peer: String,
    pub(super) close: Option<CancellationToken>,
    pub(super) requests: Requests,
    pub(super) out: Out,
    /// Rings at the latest when something has to be done though nothing happened.
    pub(super) alarm: Pin<Box<Sleep>>,
}

/// The way to the transport.
pub(super) struct Out {
    pub(super) frames: mpsc::Sender<Result<Box<Response>, Status>>,
    /// How many frames the transport is done with.
    pub(super) written: Arc<AtomicU64>,
    /// How many it was given, or is about to be.
    pub(super) handed_over: u64,
    /// How many it was done with when last looked at.
    pub(super) seen: u64,
    /// Since when there was no progress.
    pub(super) since: Instant,
}

impl Out {
    /// Since when the client has not read what it was sent; `None` when it has.
    fn blocked_since(&mut self) -> Option<Instant> {
        let written = self.written.load(Ordering::Relaxed);
        if written != self.seen {
            (self.seen, self.since) = (written, Instant::now());
        }
        (written < self.handed_over).then_some(self.since)
    }

    /// One more frame is to go.
    fn hand_over(&mut self) {
        // A frame that waits behind another one is as late as that one.
        self.since = self.blocked_since().unwrap_or_else(Instant::now);
        self.handed_over += 1;
    }
}

/// How a stream ended.
enum End {
    /// The client hung up.
    Client,
    /// With this status.
    Status(Status),
    /// The client did not read in time: its connection is closed.
    Slow,
}

impl From<Violation> for End {
    fn from(violation: Violation) -> Self {
        let text = violation.to_string();
        End::Status(match violation {
            Violation::TooManyNames { .. } | Violation::NameTooLong { .. } | Violation::TooManyTypes { .. } => {
                Status::resource_exhausted(text)
            }
            Violation::NoNode | Violation::NodeChanged { .. } | Violation::NoTypeUrl | Violation::WrongType { .. } => {
                Status::invalid_argument(text)
            }
        })
    }
}

/// What woke the task.
enum Wake {
    Request(Result<Option<Box<Request>>, Status>),
    Room,
    Snapshot,
    OwnerGone,
    Hung,
    Time,
}

impl Task {
    pub(super) async fn run(mut self) {
        let first = timeout(self.shared.limits.first_request_timeout, self.requests.next()).await;
        let end = match first {
            Ok(Ok(Some(request))) => self.serve(request).await,
            Ok(Ok(None)) => End::Client,
            Ok(Err(status)) => End::Status(status),
            Err(_) => End::Status(Status::deadline_exceeded("no request came")),
        };
        self.farewell(end).await;
    }

    async fn farewell(self, end: End) {
        match end {
            End::Client => debug!(stream = %self.id, "the client closed the stream"),
            End::Status(status) => {
                debug!(stream = %self.id, code = ?status.code(), message = status.message(), "stream ended");
                timeout(FAREWELL, self.out.frames.send(Err(status))).await.ok();
            }
            End::Slow => {
                add(&self.shared.metrics.slow_clients, 1);
                warn!(stream = %self.id, peer = self.peer, "the client does not read; its connection is closed");
                if let Some(close) = self.close {
                    close.cancel();
                }
            }
        }
    }

    /// From the first request to the end.
    async fn serve(&mut self, first: Request) -> End {
        let node = match NodeInfo::read(first.node()) {
            Ok(node) => node,
            Err(violation) => {
                add(&self.shared.metrics.violations, 1);
                return violation.into();
            }
        };
        let id = node.id.clone();
        let (reply, answer) = oneshot::channel();
        let peer = self.peer.clone();
        let (stream, service, protocol) = (self.id, self.service, self.protocol);
        let connected = Event::Connected { stream, node: node.clone(), protocol, service, peer, reply };
        if self.shared.events.send(connected).await.is_err() {
            return End::Status(Status::unavailable("shutting down"));
        }
        let end = match answer.await {
            Err(_) => End::Status(Status::unavailable("shutting down")),
            Ok(Err(refusal)) => {
                add(&self.shared.metrics.streams_refused, 1);
                info!(stream = %self.id, node = id, peer = self.peer, "refused: {refusal}");
                End::Status(Status::permission_denied(refusal.message))
            }
            Ok(Ok(snapshots)) => {
                let (peer, protocol) = (&self.peer, protocol.label());
                info!(stream = %self.id, node = id, peer, %service, protocol, "connected");
                let mut stream = Stream::new(self.id, self.protocol, node, self.shared.limits.clone());
                stream.came_by(service);
                stream.tell_acks_of(&self.shared.acks_of);
                stream.share_plans(&self.shared.plans);
                let stream = Arc::new(Mutex::new(stream));
                self.shared.registry.insert(&stream, &self.peer, self.now());
                // A panic must not leave the owner believing in a client that is gone.
                let looped = AssertUnwindSafe(self.pump(&stream, snapshots, first)).catch_unwind().await;
                self.shared.registry.remove(self.id);
                looped.unwrap_or_else(|_| End::Status(Status::internal("the stream failed")))
            }
        };
        // Told before the client can see the end, so a reconnection is never overtaken by it.
        self.shared.events.send(Event::Disconnected { stream: self.id }).await.ok();
        end
    }

    async fn pump(&mut self, stream: &registry::Shared, mut snapshots: Snapshots, first: Request) -> End {
        let mut outbox: Option<Response> = None;
        let mut wake = Wake::Time;
        let mut first = Some(first);
        // There is a snapshot that was not taken yet; it counts as seen where it woke the task.
        let mut is_new = true;
        loop {
            let stepped = match wake {
                Wake::Request(Ok(Some(request))) => self.take(stream, &request),
                Wake::Request(Ok(None)) | Wake::Hung => return End::Client,
                Wake::Request(Err(status)) => return End::Status(status),
                Wake::OwnerGone => return owner_gone(),
                Wake::Snapshot => {
                    is_new = true;
                    Ok(Vec::new())
                }
                Wake::Room | Wake::Time => Ok(Vec::new()),
            };
            let mut reports = match stepped {
                Ok(reports) => reports,
                Err(violation) => return self.violated(violation),
            };
            if outbox.is_none() && lock(stream).follows_snapshots() {
                match snapshots.has_changed() {
                    Ok(has_changed) if has_changed || is_new => {
                        is_new = false;
                        let latest = snapshots.borrow_and_update().clone();
                        reports.extend(lock(stream).snapshot_changed(latest.as_ref()));
                    }
                    Ok(_) => {}
                    Err(_) => return owner_gone(),
                }
            }
            if let Some(request) = first.take() {
                match self.take(stream, &request) {
                    Ok(more) => reports.extend(more),
                    Err(violation) => return self.violated(violation),
                }
            }
            for report in reports {
                if self.tell(report).await.is_err() {
                    return End::Status(Status::unavailable("shutting down"));
                }
            }
            // The next response is decided only when there is room for it, so what waits is never old.
            if outbox.is_none() {
                outbox = lock(stream).next(self.now());
                if outbox.is_some() {
                    self.out.hand_over();
                }
            }
            if let Some(ty) = lock(stream).overdue(self.now()) {
                warn!(stream = %self.id, %ty, "the client does not answer");
                return End::Slow;
            }
            let write_timeout = self.shared.limits.write_timeout;
            if self.out.blocked_since().is_some_and(|since| since.elapsed() >= write_timeout) {
                return End::Slow;
            }
            wake = self.wait(stream, &mut snapshots, &mut outbox).await;
        }
    }

    /// Waits for one thing. Reading goes on while a write is blocked, and the other way round.
    async fn wait(
        &mut self,
        stream: &registry::Shared,
        snapshots: &mut Snapshots,
        outbox: &mut Option<Response>,
    ) -> Wake {
        let machine = lock(stream).next_deadline().map(|at| {
            let in_ms = u64::try_from(at - self.now()).unwrap_or(0);
            // A machine that is called a little early would ask again at once; a little late is harmless.
            Instant::now() + Duration::from_millis(in_ms + 1)
        });
        let blocked = self.out.blocked_since().map(|since| since + self.shared.limits.write_timeout);
        let deadline = machine.into_iter().chain(blocked).min().unwrap_or_else(|| Instant::now() + IDLE);
        // It is not set anew for each message: when it rings too early, it is looked at what is due and set again. Where
        // nothing is due any more it is put off, which costs less than to be woken by it.
        let is_idle = machine.is_none() && blocked.is_none();
        if is_idle || self.alarm.is_elapsed() || self.alarm.deadline() > deadline.into() {
            self.alarm.as_mut().reset(deadline.into());
        }
        // A stream that could not send what changed is not woken for it: it takes the latest when it can.
        let follows = outbox.is_none() && lock(stream).follows_snapshots();
        tokio::select! {
            biased;
            permit = self.out.frames.reserve(), if outbox.is_some() => match (permit, outbox.take()) {
                (Ok(permit), Some(response)) => {
                    count(&self.shared, &response);
                    permit.send(Ok(Box::new(response)));
                    Wake::Room
                }
                _ => Wake::Hung,
            },
            request = self.requests.next() => Wake::Request(request.map(|request| request.map(Box::new))),
            changed = snapshots.changed(), if follows => if changed.is_ok() { Wake::Snapshot } else { Wake::OwnerGone },
            () = self.out.frames.closed() => Wake::Hung,
            () = self.alarm.as_mut() => Wake::Time,
        }
    }

    fn now(&self) -> Millis {
        self.shared.clock.now()
    }

    fn take(&self, stream: &registry::Shared, request: &Request) -> Result<Vec<Report>, Violation> {
        lock(stream).request(request, self.now())
    }

    fn violated(&self, violation: Violation) -> End {
        add(&self.shared.metrics.violations, 1);
        warn!(stream = %self.id, peer = self.peer, "closed: {violation}");
        violation.into()
    }

    async fn tell(&mut self, report: Report) -> Result<(), mpsc::error::SendError<Event>> {
        let stream = self.id;
        let event = match report {
            Report::Acked { ty, resources, removed } => {
                add(&self.shared.metrics.of(ty).acks, 1);
                if !self.shared.acks_of.contains(&ty) {
                    return Ok(());
                }
                Event::Acked { stream, ty, resources, removed }
            }
            Report::Rejected { ty, refused, unknown, detail, details } => {
                add(&self.shared.metrics.of(ty).nacks, 1);
                warn!(%stream, %ty, refused = refused.len(), unknown = unknown.len(), detail, "refused by the client");
                Event::Rejected { stream, ty, refused, unknown, detail, details }
            }
        };
        self.shared.events.send(event).await
    }
}

fn owner_gone() -> End {
    End::Status(Status::unavailable("come back: your place has changed"))
}

fn count(shared: &Shared, response: &Response) {
    if let Some(ty) = response.ty {
        let bytes = response.encoded_len();
        shared.metrics.of(ty).sent(response.resources.len(), response.removed.len(), bytes);
    }
}
