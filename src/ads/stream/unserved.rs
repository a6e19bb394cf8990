//! Types that are not served: answered empty, so that the client does not wait, and never with the
//! stream's end (rule 14).

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Request, Resources, Response, Stream};
use crate::ads::Violation;

/// Types that are not served but asked for on one stream. An Envoy asks for a handful (secrets,
/// runtime, scoped routes, extensions, virtual hosts).
const MAX_TYPES: usize = 32;

/// One such type.
#[derive(Debug, Default)]
pub(super) struct Unserved {
    names: BTreeSet<Arc<str>>,
    removed: BTreeSet<Arc<str>>,
    due: bool,
    in_flight: Option<String>,
}

impl Stream {
    pub(super) fn unserved_request(&mut self, type_url: &str, request: &Request) -> Result<(), Violation> {
        let type_url: Arc<str> = Arc::from(type_url);
        let is_new = !self.unserved.contains_key(&type_url);
        if is_new && self.unserved.len() >= MAX_TYPES {
            return Err(Violation::TooManyTypes { limit: MAX_TYPES });
        }
        let limits = self.limits.clone();
        let state = self.unserved.entry(type_url.clone()).or_default();
        let (nonce, names) = match request {
            Request::Sotw(request) => {
                (&request.response_nonce, request.resource_names.iter().map(String::as_str).collect::<Vec<_>>())
            }
            Request::Delta(request) => (&request.response_nonce, request.subscribe.iter().collect()),
        };
        if state.in_flight.as_ref() == Some(nonce) {
            state.in_flight = None;
        }
        if let Some(name) = names.iter().find(|name| name.len() > limits.max_name_bytes) {
            return Err(Violation::NameTooLong { bytes: name.len(), limit: limits.max_name_bytes });
        }
        let asked: BTreeSet<Arc<str>> = names.iter().map(|name| Arc::from(*name)).collect();
        match request {
            // An ACK repeats the names; only others are a question.
            Request::Sotw(_) => {
                state.due |= is_new || state.names != asked;
                state.names = asked;
            }
            Request::Delta(_) => {
                state.due |= is_new || !asked.is_empty();
                state.removed.extend(asked.into_iter().filter(|name| **name != *super::super::subscription::WILDCARD));
            }
        }
        let count = state.names.len() + state.removed.len();
        if count > limits.max_names {
            return Err(Violation::TooManyNames { type_url: type_url.to_string(), count, limit: limits.max_names });
        }
        Ok(())
    }

    pub(super) fn next_unserved(&mut self) -> Option<Response> {
        let due = |state: &Unserved| state.due && state.in_flight.is_none();
        let type_url = self.unserved.iter().find(|(_, state)| due(state)).map(|(url, _)| url.clone())?;
        let nonce = self.next_nonce();
        let state = self.unserved.get_mut(&type_url)?;
        state.due = false;
        state.in_flight = Some(nonce.clone());
        let removed = std::mem::take(&mut state.removed).into_iter().collect();
        let (protocol, version) = (self.protocol, "0".to_owned());
        Some(Response { protocol, ty: None, type_url, version, nonce, resources: Resources::default(), removed })
    }

    /// The types that were asked for and are not served.
    pub(super) fn unserved_types(&self) -> Vec<Arc<str>> {
        self.unserved.keys().cloned().collect()
    }
}
