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

    /// Tells agents what the plan asks of them and they were not told yet. An agent whose queue is
    /// full is told at the next plan. Returns what is known by having told it.
    pub fn tell(&mut self, plan: &Plan) -> Vec<Report> {
        let mut wanted: HashMap<&NodeId, BTreeMap<Slot, AssignRequest>> = HashMap::new();
        for (node, request) in &plan.assign_requests {
            wanted.entry(node).or_default().insert(request.slot.clone(), request.clone());
        }
        for agent in self.by_stream.values_mut() {
            let wanted = wanted.remove(&agent.node).unwrap_or_default();
            agent.asked.retain(|slot, _| wanted.contains_key(slot));
            for (slot, request) in wanted {
                let is_told = agent.asked.get(&slot) == Some(&request);
                if !is_told && agent.orders.try_send(Order::Assign(Box::new(request.clone()))).is_ok() {
                    agent.asked.insert(slot, request);
                }
            }
        }
        plan.releases.iter().filter_map(|(node, slot, address)| self.release(node, slot, *address)).collect()
    }

    fn release(&mut self, node: &NodeId, slot: &Slot, address: IpAddr) -> Option<Report> {
        let agent = self.by_stream.get_mut(self.newest.get(node)?)?;
        agent.asked.remove(slot);
        agent.orders.try_send(Order::Release { slot: slot.clone(), address }).ok()?;
        Some(Report::Released { node: node.clone(), slot: slot.clone(), address })
    }
}
