//! Many decisions are made by all cores, before the views that have them are built.

use std::collections::HashSet;
use std::num::NonZero;
use std::sync::Arc;
use std::thread;

use super::{Backend, Built, Turn, ViewKey, Views, decide};
use crate::policy::{Endpoints, Subject};

/// Fewer decisions than these take about as long as threads that begin and end.
const FEW: usize = 64;
/// Cores that are used at most: policies that are tried out need places in the engine's pool, too.
const MOST_THREADS: usize = 8;

/// How many cores decide.
pub(super) struct Cores(usize);

impl Default for Cores {
    fn default() -> Self {
        Self(thread::available_parallelism().map_or(1, NonZero::get).min(MOST_THREADS))
    }
}

/// A decision that has to be made.
struct Lacking<'a> {
    backend: &'a Backend,
    subject: Subject,
    endpoints: Arc<Endpoints>,
}

impl Views {
    /// Decides on so many cores, at least one.
    #[cfg(test)]
    pub fn on_cores(cores: usize) -> Self {
        Self { cores: Cores(cores), ..Self::default() }
    }

    /// Makes the decisions that these views lack, where they are many; few are made when they are needed. Each is about
    /// another subject, and none depends on another, so that the outcome is the same on any number of cores.
    pub(super) fn decide_ahead(&mut self, keys: &[ViewKey], turn: &Turn<'_>) {
        let Cores(cores) = self.cores;
        let is_new = |key: &ViewKey| self.views.get(key).is_none_or(|view| view.backends.is_empty());
        let are_few = !turn.desired_changed && keys.len() * turn.dirty.len() < FEW && !keys.iter().any(is_new);
        if cores == 1 || are_few {
            return;
        }
        let lacking = self.lacking(keys, turn);
        if lacking.len() < FEW {
            return;
        }
        let share = |part: &[Lacking<'_>]| -> Vec<Built> {
            part.iter().map(|of| decide(of.backend, &of.subject, &of.endpoints, turn)).collect()
        };
        let built: Vec<Built> = thread::scope(|scope| {
            let mut parts = lacking.chunks(lacking.len().div_ceil(cores));
            let own = parts.next().unwrap_or_default();
            let others: Vec<_> = parts.map(|part| scope.spawn(move || share(part))).collect();
            let mut built = share(own);
            for other in others {
                // A panic goes on here, as if the decision had been made here.
                built.extend(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            }
            built
        });
        for (lacking, built) in lacking.into_iter().zip(built) {
            self.keep(lacking.subject, built);
        }
    }

    fn lacking<'a>(&mut self, keys: &[ViewKey], turn: &Turn<'a>) -> Vec<Lacking<'a>> {
        let mut seen = HashSet::new();
        let mut lacking = Vec::new();
        for key in keys {
            for backend in self.needed(key, turn) {
                let subject = Subject { backend: backend.name.clone(), sender: key.sender(backend) };
                let is_known = self.built.get(&subject).is_some_and(|built| built.is_of(backend));
                if !is_known && seen.insert(subject.clone()) {
                    lacking.push(Lacking { backend, subject, endpoints: self.endpoints(backend, turn.world) });
                }
            }
        }
        lacking
    }

    /// The backends that the view is about to be built from: of one that is there, those whose endpoints changed.
    fn needed<'a>(&self, key: &ViewKey, turn: &Turn<'a>) -> Vec<&'a Backend> {
        let desired = turn.desired;
        match self.views.get(key) {
            // Also where only its attempts changed it is built as if it were new, and lacks nothing.
            Some(view) if !turn.desired_changed && !view.backends.is_empty() => {
                let dirty = turn.dirty.iter().filter(|name| view.backends.contains(*name));
                dirty.filter_map(|name| desired.backends.get(name)).collect()
            }
            _ => {
                let offered = desired.listeners.values().filter(|wanted| key.is_offered(wanted));
                offered.filter_map(|wanted| desired.backends.get(&wanted.backend)).collect()
            }
        }
    }
}
