//! What the answer to a response proves.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Answered, Batch, Book, InFlight, Refused, Why, versioned};
use crate::ads::nack::{blamed, cut};
use crate::ads::stream::Report;
use crate::ads::{Millis, Versioned};
use crate::snapshot::Resource;

/// Refused versions of one name that are remembered: more than a retry with growing pauses makes
/// while a stream lives; the oldest is forgotten first.
const MAX_REFUSED_VERSIONS: usize = 32;

impl Book {
    /// The client accepted the response in flight.
    pub(in crate::ads::stream) fn acked(&mut self) -> Option<Answered> {
        let InFlight { mut batch, .. } = self.in_flight.take()?;
        self.counts.acks += 1;
        if let Some(snapshot) = batch.plain.take() {
            self.known.advance(snapshot);
            let (resources, removed) = match self.tells_acks {
                true => (batch.resources.iter().map(versioned).collect(), batch.removed),
                false => (Vec::new(), Vec::new()),
            };
            let report = Report::Acked { ty: self.ty, resources, removed };
            return Some(Answered { report, refused: Vec::new() });
        }
        self.list_version = batch.list_version;
        self.list_uncertain = false;
        let mut resources = Vec::with_capacity(batch.resources.len());
        for resource in &batch.resources {
            if !self.sub.covers(resource.name()) {
                continue;
            }
            self.look_again_if_new(resource.name());
            self.known.accept(&self.sub, resource);
            resources.extend(self.tells_acks.then(|| versioned(resource)));
        }
        let gone = |name: &Arc<str>| self.known.contains(&self.sub, name) && self.known.forget(&self.sub, name);
        let removed = batch.removed.into_iter().filter(gone).collect();
        let report = Report::Acked { ty: self.ty, resources, removed };
        Some(Answered { report, refused: Vec::new() })
    }

    /// The client refused the response in flight, or some of it (rules 2 and 3).
    pub(in crate::ads::stream) fn nacked(&mut self, detail: &str, now: Millis) -> Option<Answered> {
        self.note_each();
        let InFlight { batch, unproved, suspicious, .. } = self.in_flight.take()?;
        let detail = cut(detail);
        self.counts.nacks += 1;
        self.last_nack = Some((now, detail.to_owned()));
        let details = blame(detail, &batch, &suspicious);
        let is_blamed = |resource: &&Arc<Resource>| details.contains_key(resource.name());
        let refused: Vec<Arc<Resource>> = batch.resources.iter().filter(is_blamed).cloned().collect();
        let unknown: Vec<Arc<Resource>> = unproved.into_iter().filter(|r| !is_blamed(&r)).collect();
        let mut open: Vec<Versioned> = unknown.iter().map(versioned).collect();
        open.extend(batch.removed.iter().filter_map(|name| Some((name.clone(), self.accepted_version(name)?))));
        self.leave_open(&unknown, &batch.removed);
        for resource in &refused {
            self.refuse(resource, details.get(resource.name()).map_or("", String::as_str), now);
        }
        match refused.is_empty() {
            true => self.suspect(&suspicious),
            false => self.offer_again(&unknown, &batch.removed),
        }
        let report = Report::Rejected {
            ty: self.ty,
            refused: refused.iter().map(versioned).collect(),
            unknown: open,
            detail: detail.to_owned(),
            details,
        };
        Some(Answered { report, refused })
    }

    /// Where what is known under a name was forgotten, the name was unsubscribed and subscribed again while a response was
    /// on its way: the client has what that held, which may be gone or changed.
    fn look_again_if_new(&mut self, name: &Arc<str>) {
        if !self.known.contains(&self.sub, name) {
            self.pending.entry(name.clone()).or_insert(Why::Changed);
        }
    }

    fn accepted_version(&self, name: &str) -> Option<Arc<str>> {
        self.known.accepted(&self.sub, name).cloned()
    }

    fn refuse(&mut self, resource: &Arc<Resource>, detail: &str, now: Millis) {
        let versions = self.refused.entry(resource.name().clone()).or_default();
        if versions.len() >= MAX_REFUSED_VERSIONS {
            versions.remove(0);
        }
        // Of the earlier ones it is enough to know that they were: a client's texts can be long.
        for earlier in versions.iter_mut() {
            earlier.detail = String::new();
        }
        versions.push(Refused { version: resource.version().clone(), detail: detail.to_owned(), at: now });
        if self.known.contains(&self.sub, resource.name()) {
            let known = self.known.entry(&self.sub, resource.name());
            known.offered = None;
            let same = known.accepted.as_ref().is_some_and(|held| held.version == *resource.version());
            if same {
                known.accepted = None;
            }
            if known.accepted.is_none() && !known.uncertain {
                self.known.forget(&self.sub, resource.name());
            }
        }
    }

    /// Notes what a NACK leaves open. The client may have taken it over, so it is asked to remove it
    /// when it goes, even if a later version of it is refused; and it may have removed what it was told to.
    fn leave_open(&mut self, unknown: &[Arc<Resource>], removed: &[Arc<str>]) {
        for resource in unknown {
            if !self.sub.covers(resource.name()) {
                continue;
            }
            self.look_again_if_new(resource.name());
            self.known.entry(&self.sub, resource.name()).uncertain = true;
        }
        for name in removed {
            if self.known.contains(&self.sub, name) {
                self.known.entry(&self.sub, name).uncertain = true;
            }
        }
        if self.is_list() && !(unknown.is_empty() && removed.is_empty()) {
            self.list_uncertain = true;
            self.list_version = None;
        }
    }

    /// The siblings of what was refused are offered once more, so that their next ACK is a proof.
    fn offer_again(&mut self, unknown: &[Arc<Resource>], removed: &[Arc<str>]) {
        for name in unknown.iter().map(|resource| resource.name()).chain(removed) {
            self.pend(name, Why::Forced);
        }
        self.answer_due |= self.list_uncertain;
    }

    /// Nobody is blamed: offer half of the batch, then the other half, down to the culprit. Each step
    /// offers fewer than the one before, so this ends.
    fn suspect(&mut self, suspicious: &[Arc<Resource>]) {
        let (first, second) = suspicious.split_at(suspicious.len() / 2);
        for half in [second, first].into_iter().filter(|half| !half.is_empty()) {
            self.suspects.push_front(half.iter().map(|resource| resource.name().clone()).collect());
        }
        for resource in suspicious {
            self.pend(resource.name(), Why::Forced);
        }
    }
}

/// What of a batch the client's text is about. What it accepted before in the same version is not
/// suspected, unless nothing else was sent.
fn blame(detail: &str, batch: &Batch, suspicious: &[Arc<Resource>]) -> BTreeMap<Arc<str>, String> {
    let candidates = if suspicious.is_empty() { &*batch.resources } else { suspicious };
    if let [only] = candidates {
        return BTreeMap::from([(only.name().clone(), detail.to_owned())]);
    }
    let names: Vec<Arc<str>> = candidates.iter().map(|resource| resource.name().clone()).collect();
    blamed(detail, &names)
}
