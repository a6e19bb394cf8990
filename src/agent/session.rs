//! The control plane's view of one agent's stream, without I/O: what each message means, and until
//! when the next one must have come.

use std::time::{Duration, Instant};

use tonic::Status;

use super::proto::AgentMessage;
use super::proto::agent_message::Body;
use super::service::{AgentId, Event};
use super::wire::{self, Hello, Malformed, PROTOCOL_VERSION, cut};

/// The longest silence that an agent should let pass.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(5);

/// After three missed heartbeats the agent's word is worth nothing.
pub(super) const SILENCE: Duration = Duration::from_secs(15);

/// The stream cannot go on.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum Refused {
    #[error(
        "the agent speaks protocol version {0}, this control plane speaks version {PROTOCOL_VERSION}: upgrade the older one"
    )]
    Version(u32),
    #[error("the first message has to be Hello")]
    NotHello,
    #[error("Hello may come only once: a node's identity is bound to the stream")]
    HelloAgain,
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

impl From<Refused> for Status {
    fn from(refused: Refused) -> Self {
        let text = refused.to_string();
        match refused {
            Refused::Version(_) => Status::failed_precondition(text),
            Refused::NotHello | Refused::HelloAgain | Refused::Malformed(_) => Status::invalid_argument(text),
        }
    }
}

/// What a message means.
#[derive(Debug)]
pub(crate) enum Step {
    /// The agent said who it is.
    Hello(Hello),
    /// Something for the owner.
    Event(Event),
    /// A sign of life.
    Nothing,
}

/// One stream.
#[derive(Debug)]
pub(crate) struct Session {
    agent: AgentId,
    node_id: Option<String>,
    heard: Instant,
}

impl Session {
    pub fn new(agent: AgentId, now: Instant) -> Self {
        Self { agent, node_id: None, heard: now }
    }

    pub fn agent(&self) -> AgentId {
        self.agent
    }

    /// The agent is gone if nothing is heard of it until then.
    pub fn deadline(&self) -> Instant {
        self.heard + SILENCE
    }

    pub fn received(&mut self, message: AgentMessage, now: Instant) -> Result<Step, Refused> {
        self.heard = now;
        let agent = self.agent;
        match (&self.node_id, message.body) {
            (None, Some(Body::Hello(hello))) => {
                if hello.protocol_version != PROTOCOL_VERSION {
                    return Err(Refused::Version(hello.protocol_version));
                }
                let hello = wire::hello_from(hello)?;
                self.node_id = Some(hello.node_id.clone());
                Ok(Step::Hello(hello))
            }
            (None, _) => Err(Refused::NotHello),
            (Some(_), Some(Body::Hello(_))) => Err(Refused::HelloAgain),
            (Some(node_id), Some(Body::Listeners(report))) => {
                let node_id = node_id.clone();
                let listeners = wire::listeners_from(report.listeners)?;
                // "When it does not answer, listeners is empty": held here, whatever the agent says.
                let listeners = if report.envoy_up { listeners } else { Vec::new() };
                Ok(Step::Event(Event::Listeners { agent, node_id, envoy_up: report.envoy_up, listeners }))
            }
            (Some(_), Some(Body::Assigned(assigned))) => {
                let address = wire::address_from("address", &assigned.address)?;
                Ok(Step::Event(Event::Assigned { agent, slot: assigned.slot, address }))
            }
            (Some(_), Some(Body::AssignFailed(failed))) => {
                let reason = cut(failed.reason, 2048);
                Ok(Step::Event(Event::AssignFailed { agent, slot: failed.slot, reason }))
            }
            // A body that a later agent of the same version added is ignored (feedback.proto).
            (Some(_), Some(Body::Heartbeat(_)) | None) => Ok(Step::Nothing),
        }
    }
}

#[cfg(test)]
mod tests;
