//! Requests of the state-of-the-world protocol.

use xds_api::pb::envoy::service::discovery::v3::DiscoveryRequest;

use super::{Report, Stream};
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
        // Rule 1. A request that crossed a response is stale too; the client's answer to that response
        // will carry its latest names.
        let crossed = nonce.is_empty() && book.in_flight.is_some();
        if begun && (crossed || (!nonce.is_empty() && nonce != book.last_nonce)) {
            return Ok(Vec::new());
        }
        let mut reports = Vec::new();
        if begun && !nonce.is_empty() {
            reports.extend(self.take_answer(ty, nonce, request.error_detail.as_ref(), now));
        }
        let snapshot = self.snapshot.clone();
        let book = &mut self.books[ty.index()];
        // A client that has forgotten its nonce begins anew.
        let anew = !begun || nonce.is_empty();
        let mut change = book.sub.replace(ty, &request.resource_names, &self.limits)?;
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
