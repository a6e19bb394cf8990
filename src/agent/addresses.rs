//! Answers the control plane's requests for addresses: `assign` decides, `state` makes it durable.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;

use ipnet::IpNet;

use super::assign::{Assigner, Leases};
use super::proto;
use super::proto::agent_message::Body;
use super::report::{AssignRequest, Control};
use super::state::{StateDir, StateError};
use super::wire;
use crate::model::Timestamp;

/// How long after a connection, in milliseconds, slots that the ledger has no address for wait when
/// our own memory was lost: the control plane tells of the others meanwhile, and their addresses
/// must not be given away.
const LEARN_MS: i64 = 2_000;

/// The agent's assignments.
pub(super) struct Addresses {
    assigner: Assigner,
    dir: StateDir,
    /// Our memory was lost (or never was): until then nothing new is given out.
    learning: Learning,
    waiting: Vec<AssignRequest>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Learning {
    Done,
    /// No control plane was there yet.
    NotBegun,
    Until(Timestamp),
}

impl Addresses {
    /// Opens the state. A damaged file is set aside: the ledger of the control plane knows what is in
    /// use, while an agent that does not start leaves its Envoy unwatched.
    pub fn open(dir: &Path, ranges: &[IpNet], now: Timestamp) -> Result<Self, StateError> {
        let dir = StateDir::open(dir)?;
        let (leases, learning) = match dir.load() {
            Ok(Some(leases)) => (leases, Learning::Done),
            Ok(None) => (Leases::default(), Learning::NotBegun),
            Err(error @ StateError::Corrupt { .. }) => {
                let kept = dir.set_aside(now)?;
                tracing::error!(
                    %error, kept = %kept.display(),
                    "lost the memory of assigned addresses; the control plane's ledger decides, as far as it names ours"
                );
                (Leases::default(), Learning::NotBegun)
            }
            Err(error) => return Err(error),
        };
        let assigner = Assigner::new(ranges.iter().map(IpNet::trunc).collect(), leases);
        Ok(Self { assigner, dir, learning, waiting: Vec::new() })
    }

    pub fn ranges(&self) -> &[IpNet] {
        self.assigner.ranges()
    }

    /// IPv6 addresses that are assigned.
    pub fn assigned_v6(&self) -> BTreeSet<Ipv6Addr> {
        let v6 = |address: &IpAddr| match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(v6) => Some(*v6),
        };
        self.assigner.leases().slots.values().filter_map(v6).collect()
    }

    /// A control plane is there. What an earlier connection asked is asked again.
    pub fn connected(&mut self, now: Timestamp) {
        self.waiting.clear();
        if self.learning != Learning::Done {
            self.learning = Learning::Until(now + LEARN_MS);
        }
    }

    /// When [`Addresses::handle`] wants to be called, if only with nothing.
    pub fn deadline(&self) -> Option<Timestamp> {
        match self.learning {
            Learning::Until(deadline) => Some(deadline),
            Learning::Done | Learning::NotBegun => None,
        }
    }

    /// Takes in requests in their order, and yields the answers to send. The whole batch costs one
    /// write.
    pub fn handle(&mut self, batch: Vec<Control>, now: Timestamp) -> Vec<Body> {
        let mut ready = Vec::new();
        if matches!(self.learning, Learning::Until(deadline) if now >= deadline) {
            self.learning = Learning::Done;
            ready.extend(self.waiting.drain(..).map(Control::Assign));
        }
        ready.extend(batch);
        let before = self.assigner.clone();
        let mut answers = Vec::new();
        for control in ready {
            match control {
                Control::Assign(request) if request.current.is_none() && self.learning != Learning::Done => {
                    self.waiting.push(request);
                }
                Control::Assign(request) => answers.push(self.assign(request, now)),
                Control::Release { slot, address } => {
                    self.waiting.retain(|request| request.slot != slot);
                    if !self.assigner.release(&slot, address, now) {
                        tracing::debug!(slot, %address, "released what the slot does not have");
                    }
                }
            }
        }
        if self.assigner.leases() != before.leases()
            && let Err(error) = self.dir.save(self.assigner.leases())
        {
            tracing::error!(error = chain(&error), "cannot keep assigned addresses");
            self.assigner = before;
            return answers.into_iter().map(|answer| not_kept(answer, &error)).collect();
        }
        answers
    }

    fn assign(&mut self, request: AssignRequest, now: Timestamp) -> Body {
        match self.assigner.assign(&request, now) {
            Ok(address) => {
                tracing::info!(slot = request.slot, %address, access = %request.access, "assigned");
                Body::Assigned(proto::Assigned { slot: request.slot, address: address.to_string() })
            }
            Err(error) => failed(request.slot, error.to_string()),
        }
    }
}

/// An answer that says no.
pub(super) fn failed(slot: String, reason: String) -> Body {
    tracing::warn!(slot, reason, "cannot assign an address");
    Body::AssignFailed(proto::AssignFailed { slot, reason: wire::cut(reason, 2048) })
}

fn not_kept(answer: Body, error: &StateError) -> Body {
    match answer {
        Body::Assigned(assigned) => failed(assigned.slot, format!("the agent {}", chain(error))),
        other => other,
    }
}

/// An error with its causes, for one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests;
