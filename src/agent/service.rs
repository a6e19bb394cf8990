//! The control plane's end of the agents' stream: each agent's messages become [`Event`]s for the
//! owner of the truth, and what the owner asks goes back by the agent's [`Control`] channel.

use std::collections::HashMap;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ipnet::IpNet;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

pub use super::report::{AgentListener, AssignRequest, Control, ListenerState};

use super::proto::feedback_server;
use super::proto::{self, AgentMessage, ControlMessage};
use super::session::{HEARTBEAT, SILENCE, Session, Step};
use super::wire::{self, Hello, PROTOCOL_VERSION};

/// The state of 65,536 listeners with long names and errors fits; more is not read at all.
const MAX_MESSAGE: usize = 32 * 1024 * 1024;

/// Requests that wait for an agent. The owner should use `try_send`: an agent that lets this many
/// pile up does not read, and will be asked again when it has reconnected.
const CONTROL_BOUND: usize = 1024;

/// Messages handed to the connection ahead of its writing; it is small since HTTP/2 buffers too.
const OUTBOUND_BOUND: usize = 16;

/// Identifies a connection of an agent; never used twice while the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AgentId(pub u64);

/// What agents do. Of each agent there is first a `Connected` and last a `Gone`, and at any time
/// at most one agent of a node is connected.
#[derive(Debug)]
pub enum Event {
    /// An agent is there.
    Connected {
        /// The connection.
        agent: AgentId,
        /// The `node.id` of its Envoy, by its own word.
        node_id: String,
        /// The ranges from which it assigns addresses; empty when it does not assign.
        ranges: Vec<IpNet>,
        /// The agent's version, for people.
        version: String,
        /// What is asked of it. Use `try_send`, so that no agent delays the owner.
        control: mpsc::Sender<Control>,
    },
    /// The whole state of its Envoy's dynamic listeners, replacing what was told before.
    Listeners {
        /// The connection.
        agent: AgentId,
        /// As in `Connected`.
        node_id: String,
        /// Whether the Envoy answers; without it there are no listeners.
        envoy_up: bool,
        /// Sorted by name.
        listeners: Vec<AgentListener>,
    },
    /// The agent took an address for the slot, and wrote that down durably.
    Assigned {
        /// The connection.
        agent: AgentId,
        /// As in the request.
        slot: String,
        /// The address, not checked against anything.
        address: IpAddr,
    },
    /// The agent has no address for the slot.
    AssignFailed {
        /// The connection.
        agent: AgentId,
        /// As in the request.
        slot: String,
        /// Why, for people.
        reason: String,
    },
    /// The agent ended, was silent for too long, or broke the protocol.
    Gone {
        /// The connection.
        agent: AgentId,
    },
}

/// The service `causeway.v1.Feedback`.
#[derive(Clone, Debug)]
pub struct FeedbackServer {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    events: mpsc::Sender<Event>,
    next: AtomicU64,
    /// Who speaks for which node. Never locked across an await.
    nodes: Mutex<HashMap<String, Seat>>,
}

/// The place of the one agent of a node.
#[derive(Clone, Debug)]
struct Seat {
    agent: AgentId,
    /// Asks the agent's task to end.
    leave: CancellationToken,
    /// Cancelled when the agent's `Gone` was sent.
    left: CancellationToken,
}

impl FeedbackServer {
    /// A service that sends its events to the owner of the truth. When the receiver is dropped,
    /// all streams end.
    pub fn new(events: mpsc::Sender<Event>) -> Self {
        let shared = Shared { events, next: AtomicU64::new(1), nodes: Mutex::default() };
        Self { shared: Arc::new(shared) }
    }

    /// The tonic service, for `Server::add_service` or `Routes`.
    pub fn into_service(self) -> feedback_server::FeedbackServer<Self> {
        feedback_server::FeedbackServer::new(self).max_decoding_message_size(MAX_MESSAGE)
    }
}

#[tonic::async_trait]
impl feedback_server::Feedback for FeedbackServer {
    type ReportStream = Pin<Box<dyn futures::Stream<Item = Result<ControlMessage, Status>> + Send>>;

    async fn report(&self, request: Request<Streaming<AgentMessage>>) -> Result<Response<Self::ReportStream>, Status> {
        let agent = AgentId(self.shared.next.fetch_add(1, Ordering::Relaxed));
        let (outbound, responses) = mpsc::channel(OUTBOUND_BOUND);
        let connection = Connection {
            session: Session::new(agent, Instant::now().into_std()),
            inbound: request.into_inner(),
            outbound,
            shared: self.shared.clone(),
        };
        // The task ends by itself: when the stream ends, when the agent is silent, when another agent
        // takes the node, or when the owner has dropped the events' receiver.
        tokio::spawn(connection.serve());
        Ok(Response::new(Box::pin(ReceiverStream::new(responses))))
    }
}

/// Why a connection ends.
enum End {
    /// The agent ended it or the network did.
    Closed,
    /// We end it, and say why.
    Refused(Status),
}

struct Connection {
    session: Session,
    inbound: Streaming<AgentMessage>,
    outbound: mpsc::Sender<Result<ControlMessage, Status>>,
    shared: Arc<Shared>,
}

impl Connection {
    async fn serve(mut self) {
        let hello = match self.hello().await {
            Ok(hello) => hello,
            Err(end) => return self.end(end),
        };
        let agent = self.session.agent();
        let seat = self.shared.take_seat(&hello.node_id, agent).await;
        // Even if this task panics, a later agent of the node does not wait for it.
        let _left = seat.left.clone().drop_guard();
        tracing::info!(agent = agent.0, node = hello.node_id, version = hello.version, "agent connected");
        let (control, requests) = mpsc::channel(CONTROL_BOUND);
        let node_id = hello.node_id.clone();
        let Hello { node_id: node, ranges, version } = hello;
        let connected = Event::Connected { agent, node_id: node, ranges, version, control };
        let end = match self.shared.events.send(connected).await {
            Ok(()) => {
                let end = self.pump(requests, &seat.leave).await;
                // The owner may be gone too; then nobody needs to know.
                let _ = self.shared.events.send(Event::Gone { agent }).await;
                end
            }
            Err(_) => shutting_down(),
        };
        self.shared.leave_seat(&node_id, &seat);
        tracing::info!(agent = agent.0, node = node_id, "agent gone");
        self.end(end);
    }

    /// Waits for the first message.
    async fn hello(&mut self) -> Result<Hello, End> {
        loop {
            let deadline = Instant::from_std(self.session.deadline());
            let message = tokio::select! {
                message = self.inbound.message() => message,
                () = tokio::time::sleep_until(deadline) => return Err(silent()),
            };
            if let Step::Hello(hello) = self.step(message)? {
                return Ok(hello);
            }
        }
    }

    fn step(&mut self, message: Result<Option<AgentMessage>, Status>) -> Result<Step, End> {
        let message = message.map_err(|_| End::Closed)?.ok_or(End::Closed)?;
        self.session.received(message, Instant::now().into_std()).map_err(|refused| End::Refused(refused.into()))
    }

    /// Passes messages both ways until something ends.
    async fn pump(&mut self, mut requests: mpsc::Receiver<Control>, leave: &CancellationToken) -> End {
        let mut waiting = Some(welcome());
        // The owner may drop its sender while the agent goes on to report.
        let mut owner_asks = true;
        let (events, outbound) = (self.shared.events.clone(), self.outbound.clone());
        loop {
            let deadline = Instant::from_std(self.session.deadline());
            // Biased, so that what has arrived counts before the deadline does: when the owner was
            // slow to take our events, the agent is not to blame.
            tokio::select! {
                biased;
                () = leave.cancelled() => return superseded(),
                () = events.closed() => return shutting_down(),
                message = self.inbound.message() => match self.step(message) {
                    Ok(Step::Event(event)) => if events.send(event).await.is_err() { return shutting_down() },
                    Ok(Step::Hello(_) | Step::Nothing) => {}
                    Err(end) => return end,
                },
                permit = outbound.reserve(), if waiting.is_some() => match permit {
                    Ok(permit) => if let Some(message) = waiting.take() { permit.send(Ok(message)) },
                    Err(_) => return End::Closed,
                },
                request = requests.recv(), if owner_asks && waiting.is_none() => match request {
                    Some(request) => waiting = Some(wire::control_to(request)),
                    None => owner_asks = false,
                },
                () = tokio::time::sleep_until(deadline) => return silent(),
            }
        }
    }

    fn end(self, end: End) {
        if let End::Refused(status) = end {
            tracing::warn!(agent = self.session.agent().0, reason = status.message(), "ended an agent's stream");
            // If there is no room, the agent does not read; it sees the stream end all the same.
            let _ = self.outbound.try_send(Err(status));
        }
    }
}

impl Shared {
    /// Takes the node's place; an agent that has it is asked to leave first, and its `Gone` is
    /// waited for, so that the owner never sees two agents of a node.
    async fn take_seat(&self, node: &str, agent: AgentId) -> Seat {
        let mine = Seat { agent, leave: CancellationToken::new(), left: CancellationToken::new() };
        let earlier = self.lock().insert(node.to_owned(), mine.clone());
        if let Some(earlier) = earlier {
            tracing::warn!(node, earlier = earlier.agent.0, agent = agent.0, "another agent speaks for this node now");
            earlier.leave.cancel();
            earlier.left.cancelled().await;
        }
        mine
    }

    fn leave_seat(&self, node: &str, seat: &Seat) {
        let mut nodes = self.lock();
        if nodes.get(node).is_some_and(|holder| holder.agent == seat.agent) {
            nodes.remove(node);
        }
        drop(nodes);
        seat.left.cancel();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Seat>> {
        // The map is whole at every point where a holder could panic.
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn welcome() -> ControlMessage {
    let welcome = proto::Welcome {
        protocol_version: PROTOCOL_VERSION,
        heartbeat_ms: HEARTBEAT.as_millis() as u32,
        silence_ms: SILENCE.as_millis() as u32,
    };
    ControlMessage { body: Some(proto::control_message::Body::Welcome(welcome)) }
}

fn silent() -> End {
    End::Refused(Status::deadline_exceeded(format!("nothing was heard of the agent for {} s", SILENCE.as_secs())))
}

fn superseded() -> End {
    End::Refused(Status::aborted(
        "another agent speaks for this node now; is it started twice, or a node id used twice?",
    ))
}

fn shutting_down() -> End {
    End::Refused(Status::unavailable("the control plane is shutting down"))
}

#[cfg(test)]
mod tests;
