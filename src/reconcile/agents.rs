//! Agents' connections: which node each speaks for, and what it was told already.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use tokio::sync::mpsc;

use super::event::Order;
use crate::feedback::Report;
use crate::model::id::NodeId;
use crate::vip::{AssignRequest, Plan, Slot};

struct Agent {
    node: NodeId,
    orders: mpsc::Sender<Order>,
    asked: BTreeMap<Slot, AssignRequest>,
}

/// All connected agents.
#[derive(Default)]
pub struct Agents {
    by_stream: HashMap<u64, Agent>,
    /// The newest connection of each node's agent.
    newest: HashMap<NodeId, u64>,
}

impl Agents {
    /// Adds a connection.
    pub fn connect(&mut self, stream: u64, node: NodeId, orders: mpsc::Sender<Order>) {
        self.newest.insert(node.clone(), stream);
        self.by_stream.insert(stream, Agent { node, orders, asked: BTreeMap::new() });
    }

    /// Removes a connection; returns its node.
    pub fn gone(&mut self, stream: u64) -> Option<NodeId> {
        let agent = self.by_stream.remove(&stream)?;
        if self.newest.get(&agent.node) == Some(&stream) {
            self.newest.remove(&agent.node);
        }
        Some(agent.node)
    }

    /// The node of a connection, if the connection is the newest of that node's agent.
    pub fn node(&self, stream: u64) -> Option<&NodeId> {
        let agent = self.by_stream.get(&stream)?;
        (self.newest.get(&agent.node) == Some(&stream)).then_some(&agent.node)
    }

    /// Tells agents what the plan asks of them and they were not told yet. Returns what is known by having told it, and
    /// whether all was told: an agent whose queue is full has to be told again.
    pub fn tell(&mut self, plan: &Plan) -> (Vec<Report>, bool) {
        let mut is_all = true;
        let mut wanted: HashMap<&NodeId, BTreeMap<Slot, AssignRequest>> = HashMap::new();
        for (node, request) in &plan.assign_requests {
            wanted.entry(node).or_default().insert(request.slot.clone(), request.clone());
        }
        // Only the newest connection: one that was superseded must not take what is for its successor.
        for stream in self.newest.values() {
            let Some(agent) = self.by_stream.get_mut(stream) else { continue };
            let wanted = wanted.remove(&agent.node).unwrap_or_default();
            agent.asked.retain(|slot, _| wanted.contains_key(slot));
            for (slot, request) in wanted {
                if agent.asked.get(&slot) == Some(&request) {
                    continue;
                }
                match agent.orders.try_send(Order::Assign(Box::new(request.clone()))) {
                    Ok(()) => {
                        agent.asked.insert(slot, request);
                    }
                    Err(error) => is_all &= !is_full(&error),
                }
            }
        }
        let mut reports = Vec::new();
        for (node, slot, address) in &plan.releases {
            match self.release(node, slot, *address) {
                Some(Ok(report)) => reports.push(report),
                Some(Err(error)) => is_all &= !is_full(&error),
                None => {}
            }
        }
        (reports, is_all)
    }

    fn release(
        &mut self,
        node: &NodeId,
        slot: &Slot,
        address: IpAddr,
    ) -> Option<Result<Report, mpsc::error::TrySendError<Order>>> {
        let agent = self.by_stream.get_mut(self.newest.get(node)?)?;
        agent.asked.remove(slot);
        let sent = agent.orders.try_send(Order::Release { slot: slot.clone(), address });
        Some(sent.map(|()| Report::Released { node: node.clone(), slot: slot.clone(), address }))
    }
}

/// Whether there will be room later. An agent that is gone is told when it is back.
fn is_full(error: &mpsc::error::TrySendError<Order>) -> bool {
    matches!(error, mpsc::error::TrySendError::Full(_))
}
