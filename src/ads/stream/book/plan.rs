//! What the next response of a type holds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Batch, Book, Removals, Why};
use crate::ads::Protocol;
use crate::ads::stream::plans::Plans;
use crate::snapshot::{Resource, SetVersion, XdsSnapshot};

impl Book {
    /// Decides on the next response, if one is due. Never while one is in flight (rule 21).
    pub(in crate::ads::stream) fn plan(
        &mut self,
        snapshot: &Arc<XdsSnapshot>,
        plans: &Plans,
        removals: Removals,
        max_bytes: usize,
    ) -> Option<Batch> {
        if self.in_flight.is_some() {
            return None;
        }
        if let Some(batch) = self.follow(snapshot, plans, removals, max_bytes) {
            return Some(batch);
        }
        while self.has_pending() {
            let scope = self.suspects.pop_front();
            let batch = match self.is_list() {
                true => self.list(snapshot, removals, scope.as_ref()),
                false => {
                    let plain = if scope.is_none() { self.plain(snapshot, removals, max_bytes) } else { None };
                    plain.unwrap_or_else(|| self.batch(snapshot, removals, max_bytes, scope.as_ref()))
                }
            };
            let news = match batch.list_version {
                Some(version) => self.list_version != Some(version),
                None => !batch.resources.is_empty() || !batch.removed.is_empty(),
            };
            if news || (self.answer_due && scope.is_none()) {
                self.answer_due = false;
                return Some(batch);
            }
            // A group of suspects may have vanished meanwhile; the next one is due then.
            if scope.is_none() {
                break;
            }
        }
        if self.sub.begun() && !self.has_pending() {
            self.known.rebase(&self.sub, snapshot);
        }
        None
    }

    /// What changed since the client had exactly what it wants, where nothing else is to be said and it fits into one
    /// response. Otherwise it becomes pending, name by name.
    fn follow(
        &mut self,
        snapshot: &Arc<XdsSnapshot>,
        plans: &Plans,
        removals: Removals,
        max_bytes: usize,
    ) -> Option<Batch> {
        self.behind.as_ref()?;
        if self.has_only_changes()
            && let Some(base) = self.known.exactly()
        {
            let plan = plans.get(base, snapshot, self.ty, &self.sub);
            // In SotW nothing says that an assignment or a route is gone.
            let may_remove = removals == Removals::Now && self.protocol == Protocol::Delta;
            if plan.bytes <= max_bytes && (plan.removed.is_empty() || may_remove) {
                self.behind = None;
                let is_owed = std::mem::take(&mut self.answer_due);
                if plan.resources.is_empty() && plan.removed.is_empty() && !is_owed {
                    self.known.advance(snapshot.clone());
                    return None;
                }
                return Some(Batch {
                    resources: plan.resources.clone(),
                    removed: plan.removed.to_vec(),
                    list_version: None,
                    plain: Some(snapshot.clone()),
                    _plan: Some(plan),
                });
            }
        }
        self.catch_up();
        None
    }

    /// All that is pending, where it is nothing but what changed since the client had exactly what it wants, and fits into
    /// one response.
    fn plain(&mut self, snapshot: &Arc<XdsSnapshot>, removals: Removals, max_bytes: usize) -> Option<Batch> {
        let base = self.known.exactly()?;
        if !self.can_be_plain() || self.pending.is_empty() || self.pending.values().any(|why| *why != Why::Changed) {
            return None;
        }
        let (mut resources, mut removed, mut bytes) = (Vec::with_capacity(self.pending.len()), Vec::new(), 0);
        for name in self.pending.keys() {
            match (base.get(self.ty, name), snapshot.get(self.ty, name)) {
                (None, None) => {}
                (Some(before), Some(now)) if before.version() == now.version() => {}
                (_, Some(now)) => {
                    bytes += name.len() + now.body().len();
                    resources.push(now.clone());
                }
                // In SotW nothing says that an assignment or a route is gone.
                (Some(_), None) if removals == Removals::Held || self.protocol == Protocol::Sotw => return None,
                (Some(_), None) => {
                    bytes += name.len();
                    removed.push(name.clone());
                }
            }
            if bytes > max_bytes {
                return None;
            }
        }
        self.pending = BTreeMap::new();
        Some(Batch { resources: resources.into(), removed, plain: Some(snapshot.clone()), ..Batch::default() })
    }

    /// Some of what is pending, split by size (rule 20).
    fn batch(
        &mut self,
        snapshot: &XdsSnapshot,
        removals: Removals,
        max_bytes: usize,
        scope: Option<&BTreeSet<Arc<str>>>,
    ) -> Batch {
        let mut removed: Vec<Arc<str>> = std::mem::take(&mut self.not_understood_due).into_iter().collect();
        let mut bytes: usize = removed.iter().map(|name| name.len()).sum();
        let mut resources = Vec::new();
        let mut todo = self.resume.take().map_or_else(BTreeMap::new, |name| self.pending.split_off(&name));
        let mut then = std::mem::take(&mut self.pending);
        let mut later = BTreeMap::new();
        while let Some((name, why)) = todo.pop_first().or_else(|| then.pop_first()) {
            if scope.is_some_and(|scope| !scope.contains(&name)) {
                later.insert(name, why);
                continue;
            }
            let resource = snapshot.get(self.ty, &name);
            let size = name.len() + resource.map_or(0, |r| r.body().len());
            let is_full = bytes + size > max_bytes && bytes > 0;
            match (resource, self.is_due(&name, resource, why)) {
                (None, true) if removals == Removals::Held && why != Why::Asked => {
                    later.insert(name, why);
                }
                (_, true) if is_full => {
                    self.resume = Some(name.clone());
                    later.insert(name, why);
                    break;
                }
                (Some(resource), true) => {
                    bytes += size;
                    resources.push(resource.clone());
                }
                (None, true) => {
                    bytes += size;
                    removed.push(name);
                }
                // In SotW nothing says that an assignment or a route is gone: the client has it until it wants it
                // no longer.
                (_, false) => {}
            }
        }
        later.append(&mut todo);
        later.append(&mut then);
        self.pending = later;
        Batch { resources: resources.into(), removed, ..Batch::default() }
    }

    fn is_due(&self, name: &Arc<str>, resource: Option<&Arc<Resource>>, why: Why) -> bool {
        match resource {
            _ if !self.sub.covers(name) => false,
            Some(resource) if self.is_refused(resource) => false,
            Some(resource) => why >= Why::Forced || !self.known.is_proved(&self.sub, resource),
            None => self.protocol == Protocol::Delta && (why == Why::Asked || self.known.contains(&self.sub, name)),
        }
    }

    /// All that the client should have. In place of what it refused stands what it accepted before, so
    /// that leaving it out does not delete what works (rules 2 and 10).
    fn list(&mut self, snapshot: &XdsSnapshot, removals: Removals, scope: Option<&BTreeSet<Arc<str>>>) -> Batch {
        let known = self.known.names(&self.sub);
        let mut list: BTreeMap<&Arc<str>, &Arc<Resource>> = BTreeMap::new();
        let by_name = self.sub.names().iter().filter_map(|name| snapshot.get(self.ty, name));
        let all = self.sub.is_wildcard().then(|| snapshot.resources(self.ty)).into_iter().flatten();
        let waiting = |name: &Arc<str>| self.suspects.iter().any(|group| group.contains(name));
        for resource in by_name.chain(all) {
            let name = resource.name();
            let in_scope = scope.is_some_and(|scope| scope.contains(name));
            let withheld = self.is_refused(resource) || (!in_scope && waiting(name));
            let picked = if withheld { self.last_accepted(name) } else { Some(resource) };
            list.extend(picked.map(|resource| (name, resource)));
        }
        let mut held = BTreeMap::new();
        if removals == Removals::Held {
            // What it never accepted leads nowhere yet, so only what it accepted is held.
            for name in known.iter().filter(|name| snapshot.get(self.ty, name).is_none()) {
                if let Some(resource) = self.last_accepted(name) {
                    list.insert(name, resource);
                    held.insert(name.clone(), Why::Changed);
                }
            }
        }
        let removed = known.iter().filter(|name| !list.contains_key(name)).cloned().collect();
        let resources: Vec<Arc<Resource>> = list.into_values().cloned().collect();
        let list_version = resources.iter().fold(SetVersion::default(), |version, r| version.with(r));
        self.pending = held;
        Batch { resources: resources.into(), removed, list_version: Some(list_version), ..Batch::default() }
    }

    fn last_accepted(&self, name: &Arc<str>) -> Option<&Arc<Resource>> {
        let resource = self.known.accepted_resource(&self.sub, name)?;
        (!self.is_refused(resource)).then_some(resource)
    }
}
