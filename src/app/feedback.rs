//! Between the agents' service and the owner: their words into ours.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::agent::Rules;
use crate::agent::service::{AssignRequest, Control, Event as Told, ListenerState};
use crate::feedback::{AgentListener, AgentListenerState};
use crate::model::object::AddressRange;
use crate::reconcile::{AgentEvent, Event, Order};
use crate::vip::Slot;

/// Orders that wait for one agent; more are given at the next plan.
const ORDERS: usize = 64;

/// Passes on what agents tell until either side ends.
pub async fn pass_on(mut told: mpsc::Receiver<Told>, events: mpsc::Sender<Event>) {
    while let Some(event) = told.recv().await {
        let Some(event) = translate(event) else { continue };
        if events.send(Event::Agent(event)).await.is_err() {
            return;
        }
    }
}

fn translate(event: Told) -> Option<AgentEvent> {
    Some(match event {
        Told::Connected { agent, node_id, ranges, version, control } => {
            tracing::info!(node = node_id, version, "an agent connected");
            let (orders, given) = mpsc::channel(ORDERS);
            tokio::spawn(give_orders(given, control));
            let ranges =
                ranges.iter().map(|net| AddressRange { first: net.network(), last: net.broadcast() }).collect();
            AgentEvent::Connected { stream: agent.0, node: node_id.into(), ranges, orders }
        }
        Told::Listeners { agent, node_id, envoy_up, listeners } => AgentEvent::Listeners {
            stream: agent.0,
            node: node_id.into(),
            envoy_up,
            listeners: listeners
                .into_iter()
                .map(|listener| AgentListener {
                    name: listener.name.into(),
                    state: match listener.state {
                        ListenerState::Active => AgentListenerState::Active,
                        ListenerState::Warming => AgentListenerState::Warming,
                        ListenerState::Draining => AgentListenerState::Draining,
                        ListenerState::Failed => AgentListenerState::Failed,
                    },
                    error: listener.error.into(),
                    bindable: listener.bindable,
                })
                .collect(),
        },
        Told::Assigned { agent, slot, address } => {
            AgentEvent::Assigned { stream: agent.0, slot: parse(&slot)?, address }
        }
        Told::AssignFailed { agent, slot, reason } => {
            AgentEvent::AssignFailed { stream: agent.0, slot: parse(&slot)?, reason: reason.into() }
        }
        Told::Gone { agent } => AgentEvent::Gone { stream: agent.0 },
    })
}

/// The slots that agents name are those that they were asked for, so that others are a fault of theirs.
fn parse(slot: &str) -> Option<Slot> {
    slot.parse().inspect_err(|error| tracing::warn!(%error, "an agent names a slot that cannot be read")).ok()
}

async fn give_orders(mut given: mpsc::Receiver<Order>, control: mpsc::Sender<Control>) {
    while let Some(order) = given.recv().await {
        let control_message = match order {
            Order::Release { slot, address } => Control::Release { slot: slot.to_string(), address },
            Order::Assign(request) => {
                let rules = Rules { reserved: request.avoid.clone(), ..Rules::default() };
                Control::Assign(AssignRequest {
                    slot: request.slot.to_string(),
                    access: request.slot.access.clone(),
                    service: request.slot.service.clone(),
                    pod: request.slot.pod.clone(),
                    ports: request.ports.clone(),
                    hostnames: request.hostnames.iter().map(Arc::clone).collect(),
                    family: request.slot.family,
                    current: request.current.or(request.requested),
                    rules_json: serde_json::to_string(&rules).unwrap_or_default(),
                })
            }
        };
        if control.send(control_message).await.is_err() {
            return;
        }
    }
}
