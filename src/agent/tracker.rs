//! Folds what is read of an Envoy into what is reported. No I/O.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::envoy::{Counters, Observation, Phase, Seen};
use super::report::{AgentListener, ListenerState};

/// How long an Envoy whose admin interface is slow or strange is still taken to be as it was last
/// seen. A refused connection is not strange: nobody listens there any more, and that counts at once.
const PATIENCE: Duration = Duration::from_secs(3);

/// When a failed listener, which Envoy itself forgot, could be bound for this long and was not
/// offered anew, nobody wants it any more.
const FORGET_BINDABLE: Duration = Duration::from_secs(60);

/// Failures that are remembered; beyond any real number of listeners of one gateway.
const MAX_REMEMBERED: usize = 4096;

/// What an `Active` listener that vanished with a failure is said to suffer from.
const NOT_LISTENING: &str = "Envoy dropped the listener after it had accepted it: a worker could not listen on the address (is the port in use?)";

/// The state to report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct View {
    /// What the Envoy says of itself; `None` before it was first seen.
    pub node_id: Option<String>,
    pub envoy_up: bool,
    /// Sorted by name.
    pub listeners: Vec<AgentListener>,
}

/// Why a reading failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Silence {
    /// Nobody listens at the admin address.
    Refused,
    /// No answer in time, or not one of an Envoy.
    Unclear,
}

#[derive(Debug)]
struct Failure {
    address: Option<SocketAddr>,
    error: String,
    /// Envoy still shows it.
    shown: bool,
    bindable: Option<bool>,
    bindable_since: Option<Instant>,
}

/// Remembers what Envoy forgets.
#[derive(Debug, Default)]
pub(super) struct Tracker {
    node_id: Option<String>,
    last_good: Option<Instant>,
    up: bool,
    uptime_s: u64,
    counters: Option<Counters>,
    listeners: BTreeMap<String, Seen>,
    failures: BTreeMap<String, Failure>,
}

impl Tracker {
    /// Takes in a complete reading.
    pub fn observed(&mut self, seen: Observation, now: Instant) {
        if !self.up || seen.server.uptime_s < self.uptime_s {
            // Another process, or the first: nothing that was remembered holds.
            self.failures.clear();
            self.listeners.clear();
            self.counters = None;
        }
        self.up = true;
        self.last_good = Some(now);
        self.uptime_s = seen.server.uptime_s;
        if !seen.server.node_id.is_empty() {
            self.node_id = Some(seen.server.node_id);
        }
        self.note_lost_listeners(&seen.counters, &seen.listeners);
        self.note_failures(&seen.listeners);
        self.counters = Some(seen.counters);
        self.listeners = seen.listeners;
        let stopped = seen.counters.stopped > 0 || seen.phase == Phase::Draining;
        for listener in self.listeners.values_mut().filter(|l| l.state == ListenerState::Active) {
            if seen.phase == Phase::Initializing {
                listener.state = ListenerState::Warming;
            } else if stopped {
                listener.state = ListenerState::Draining;
            }
        }
    }

    /// Takes in that a reading failed.
    pub fn silent(&mut self, silence: Silence, now: Instant) {
        let patient = self.last_good.is_some_and(|last| now.duration_since(last) < PATIENCE);
        if silence == Silence::Refused || !patient {
            self.up = false;
            self.listeners.clear();
            self.failures.clear();
        }
    }

    /// Addresses of failed listeners, to be tried.
    pub fn to_try(&self) -> Vec<(String, SocketAddr)> {
        self.failures.iter().filter_map(|(name, failure)| Some((name.clone(), failure.address?))).collect()
    }

    /// What trying them showed.
    pub fn tried(&mut self, name: &str, bindable: Option<bool>, now: Instant) {
        let Some(failure) = self.failures.get_mut(name) else { return };
        failure.bindable = bindable;
        match (bindable, failure.bindable_since) {
            (Some(true), Some(since)) if !failure.shown && now.duration_since(since) > FORGET_BINDABLE => {
                self.failures.remove(name);
            }
            (Some(true), None) => failure.bindable_since = Some(now),
            (Some(true), Some(_)) => {}
            _ => failure.bindable_since = None,
        }
    }

    /// What is to be reported now.
    pub fn view(&self) -> View {
        let failed = self.failures.iter().map(|(name, failure)| AgentListener {
            name: name.clone(),
            address: failure.address,
            state: ListenerState::Failed,
            error: failure.error.clone(),
            bindable: failure.bindable,
        });
        let other = self.listeners.iter().filter(|(_, seen)| seen.state != ListenerState::Failed);
        let other = other.filter(|(name, _)| !self.failures.contains_key(*name)).map(|(name, seen)| AgentListener {
            name: name.clone(),
            address: seen.address,
            state: seen.state,
            error: seen.error.clone(),
            bindable: None,
        });
        let mut listeners: Vec<_> = failed.chain(other).collect();
        listeners.sort_by(|a, b| a.name.cmp(&b.name));
        View { node_id: self.node_id.clone(), envoy_up: self.up, listeners }
    }

    /// Envoy removes a listener without a NACK when a worker cannot `listen()` (XDS.md). What tells
    /// that from a removal by LDS is a failure counted without an update rejected.
    fn note_lost_listeners(&mut self, counters: &Counters, seen: &BTreeMap<String, Seen>) {
        let Some(before) = self.counters else { return };
        if counters.create_failure <= before.create_failure || counters.update_rejected != before.update_rejected {
            return;
        }
        for (name, was) in &self.listeners {
            let had = matches!(was.state, ListenerState::Active | ListenerState::Warming);
            let lost = seen.get(name).is_none_or(|now| now.state == ListenerState::Draining);
            if had && lost {
                let failure = Failure {
                    address: was.address,
                    error: NOT_LISTENING.into(),
                    shown: false,
                    bindable: None,
                    bindable_since: None,
                };
                self.failures.insert(name.clone(), failure);
            }
        }
    }

    fn note_failures(&mut self, seen: &BTreeMap<String, Seen>) {
        for failure in self.failures.values_mut() {
            failure.shown = false;
        }
        for (name, listener) in seen {
            match listener.state {
                ListenerState::Failed => self.note_failure(name, listener),
                ListenerState::Active | ListenerState::Warming => drop(self.failures.remove(name)),
                // It says nothing of the version that failed.
                ListenerState::Draining => {}
            }
        }
    }

    fn note_failure(&mut self, name: &str, listener: &Seen) {
        if let Some(known) = self.failures.get_mut(name) {
            known.shown = true;
            known.error.clone_from(&listener.error);
            if known.address != listener.address {
                known.address = listener.address;
                (known.bindable, known.bindable_since) = (None, None);
            }
            return;
        }
        if self.failures.len() >= MAX_REMEMBERED {
            let Some(forgotten) = self.failures.iter().find(|(_, f)| !f.shown).map(|(name, _)| name.clone()) else {
                return;
            };
            self.failures.remove(&forgotten);
        }
        let failure = Failure {
            address: listener.address,
            error: listener.error.clone(),
            shown: true,
            bindable: None,
            bindable_since: None,
        };
        self.failures.insert(name.to_owned(), failure);
    }
}

#[cfg(test)]
mod tests;
