//! Requests of the incremental protocol.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Arc;

use super::{DeltaRequest, Report, Stream};
use crate::ads::subscription::Asked;
use crate::ads::{Millis, Violation};
use crate::snapshot::ResourceType;

impl Stream {
    pub(super) fn delta_request(
        &mut self,
        ty: ResourceType,
        request: &DeltaRequest,
        now: Millis,
    ) -> Result<Vec<Report>, Violation> {
        // Rule 1: a stale nonce answers nothing, but what was subscribed with it counts.
        let answer = self.take_answer(ty, &request.response_nonce, request.error_detail.as_ref(), now);
        let mut reports: Vec<Report> = answer.into_iter().collect();
        let snapshot = self.snapshot.clone();
        // Rule 5, at a reconnection. While clusters are warming Envoy pauses its requests for clusters, so
        // that those for endpoints come first on the new stream; it says that it has the endpoints, but
        // those clusters never got them and wait for its `initial_fetch_timeout` (seen on Envoy 1.40).
        // A stream of endpoints alone is each subscription's own: what the client says of it is what its cluster has.
        let is_aggregated = self.service.is_aggregated();
        let warming = is_aggregated && ty == ResourceType::Endpoint && !self.book(ResourceType::Cluster).sub.begun();
        // The same of clusters that were sent on this stream before it asked for endpoints.
        let owed = if ty == ResourceType::Endpoint { std::mem::take(&mut self.owed) } else { BTreeSet::new() };
        let book = &mut self.books[ty.index()];
        let [subscribe, unsubscribe] =
            [&request.subscribe, &request.unsubscribe].map(|names| names.iter().collect::<Vec<_>>());
        let resources = snapshot.as_ref().map(|snapshot| RefCell::new(snapshot.walk(ty)));
        let known = |name: &str| Some(resources.as_ref()?.borrow_mut().get(name)?.name().clone());
        let mut change = book.sub.change(
            Asked { ty, known: &known, sets: &self.plans.sets },
            &subscribe,
            &unsubscribe,
            &self.limits,
        )?;
        let first = change.first;
        let initial = &request.initial;
        let (mut comes_back, mut begins) = (None, None);
        if first {
            self.introduces_itself |= is_aggregated && ty == ResourceType::Cluster && !initial.is_empty();
            let mut lengths = initial.iter().map(|(name, version)| name.len().max(version.len()));
            if let Some(bytes) = lengths.find(|bytes| *bytes > self.limits.max_name_bytes) {
                return Err(Violation::NameTooLong { bytes, limit: self.limits.max_name_bytes });
            }
            comes_back = snapshot.as_ref().filter(|_| !warming && !initial.is_empty());
            begins = snapshot.as_ref().filter(|_| initial.is_empty());
            if comes_back.is_none() && begins.is_none() {
                // Rule 12: of what the client has, only what differs is sent.
                let is_asked = |name: &&Arc<str>| warming || owed.contains(*name) || initial.get(name).is_none();
                change.asked = book.sub.names().iter().filter(is_asked).cloned().collect();
                book.has_initially(initial);
            }
            // A client that starts waits for an answer to a wildcard, even if there is nothing; one that
            // has something is only reconnecting.
            if book.sub.is_wildcard() && initial.is_empty() {
                book.owe_answer();
            }
        } else if change.wildcard_began {
            book.owe_answer();
        }
        match (comes_back, begins) {
            (Some(snapshot), _) => book.comes_back(change, initial, &owed, snapshot),
            (None, Some(snapshot)) => book.begins(change, snapshot),
            (None, None) => reports.extend(book.resubscribed(change, snapshot.as_deref())),
        }
        // Subscribing to ever other names without reading the answers must not cost ever more memory.
        let exist = snapshot.as_ref().map_or(0, |snapshot| snapshot.len(ty)) + book.known.len();
        if book.pending() > exist + 2 * self.limits.max_names {
            let (count, limit) = (book.pending(), self.limits.max_names);
            return Err(Violation::TooManyNames { type_url: ty.type_url().to_owned(), count, limit });
        }
        if first && snapshot.is_some() {
            reports.extend(book.proved_initially());
        }
        Ok(reports)
    }
}
