//! Requests of the state-of-the-world protocol.

use xds_api::pb::envoy::service::discovery::v3::DiscoveryRequest;

use super::{Report, Stream};
use crate::ads::subscription::Asked;
use crate::ads::{Millis, Violation};
use crate::snapshot::ResourceType;

impl Stream {
    /// `version_info` is never looked at: on a new stream it says what the client accepted last, which
    /// after a NACK is not what it runs (rule 3), so the first request is always answered in full. What
    /// the client has already costs it nothing, since it compares contents.
    pub(super) fn sotw_request(
        &mut self,
        ty: ResourceType,
        request: &DiscoveryRequest,
        now: Millis,
    ) -> Result<Vec<Report>, Violation> {
        let nonce = request.response_nonce.as_str();
        let book = self.book(ty);
        let begun = book.sub.begun();
        let is_current = nonce == book.last_nonce;
        let crossed = book.in_flight.is_some() && !is_current;
        // Rule 1. A stale request answers nothing and gets no answer. One that crossed a response still
        // tells the client's names at that moment: a name that it drops and takes up again before it
        // answers would otherwise never be sent to it again.
        if begun && !is_current && !crossed && !nonce.is_empty() {
            return Ok(Vec::new());
        }
        let mut reports = Vec::new();
        if begun && is_current {
            reports.extend(self.take_answer(ty, nonce, request.error_detail.as_ref(), now));
        }
        let snapshot = self.snapshot.clone();
        let book = &mut self.books[ty.index()];
        // A client that has forgotten its nonce begins anew.
        let anew = !begun || (nonce.is_empty() && !crossed);
        let known = |name: &str| Some(snapshot.as_ref()?.get(ty, name)?.name().clone());
        let names: Vec<&str> = request.resource_names.iter().map(String::as_str).collect();
        let mut change = book.sub.replace(Asked { ty, known: &known, sets: &self.plans.sets }, &names, &self.limits)?;
        if anew {
            change.asked = book.sub.names().iter().cloned().collect();
            book.owe_answer();
        }
        if change.wildcard_began {
            book.owe_answer();
        }
        reports.extend(book.resubscribed(change, snapshot.as_deref()));
        Ok(reports)
    }
}
