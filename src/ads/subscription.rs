//! What a client asked for, of one type (rules 7 to 9, 16).

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Limits, Violation};
use crate::snapshot::ResourceType;

/// The name that stands for all resources of a type.
pub const WILDCARD: &str = "*";

/// Names of the other naming scheme, with authorities, context parameters and globs. They are not
/// understood here, so none is ever subscribed to, not even as a plain text (rule 16).
const XDSTP: &str = "xdstp:";

/// Whether everything of a type is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Wildcard {
    #[default]
    No,
    /// By a first request that named nothing.
    Legacy,
    /// By the name `*`.
    Explicit,
}

/// A client's subscription to one type.
#[derive(Clone, Debug, Default)]
pub struct Subscription {
    begun: bool,
    wildcard: Wildcard,
    names: BTreeSet<Arc<str>>,
}

/// What a request changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubscriptionChange {
    /// It was the first request of its type on the stream.
    pub first: bool,
    /// The wildcard is new: everything is to be compared.
    pub wildcard_began: bool,
    /// The wildcard is gone: what only it covered is no longer wanted.
    pub wildcard_ended: bool,
    /// Names to answer, whatever the client has.
    pub asked: Vec<Arc<str>>,
    /// Names that nothing covers any longer.
    pub dropped: Vec<Arc<str>>,
    /// Names that cannot be subscribed to (rule 16).
    pub not_understood: Vec<Arc<str>>,
}

impl Subscription {
    /// Whether there was a request of this type.
    pub fn begun(&self) -> bool {
        self.begun
    }

    /// Whether everything is wanted.
    pub fn is_wildcard(&self) -> bool {
        self.wildcard != Wildcard::No
    }

    /// Whether the resource is wanted.
    pub fn covers(&self, name: &str) -> bool {
        self.is_wildcard() || self.names.contains(name)
    }

    /// The names that were given one by one.
    pub fn names(&self) -> &BTreeSet<Arc<str>> {
        &self.names
    }

    /// A SotW request: its names replace those before.
    pub fn replace(
        &mut self,
        ty: ResourceType,
        names: &[String],
        limits: &Limits,
    ) -> Result<SubscriptionChange, Violation> {
        let mut change = SubscriptionChange { first: !self.begun, ..SubscriptionChange::default() };
        let next = Self { begun: true, wildcard: self.next_wildcard(ty, names), names: BTreeSet::new() };
        let before = std::mem::replace(self, next);
        self.add(ty, names, limits, &mut change)?;
        change.asked.retain(|name| !before.names.contains(name));
        change.wildcard_began = self.is_wildcard() && !before.is_wildcard();
        change.wildcard_ended = !self.is_wildcard() && before.is_wildcard();
        change.dropped = before.names.into_iter().filter(|name| !self.covers(name)).collect();
        Ok(change)
    }

    /// Rule 7: naming nothing means everything at first, and as long as nothing was ever named; later
    /// it means nothing.
    fn next_wildcard(&self, ty: ResourceType, names: &[String]) -> Wildcard {
        if names.iter().any(|name| name == WILDCARD) {
            return Wildcard::Explicit;
        }
        let may_be_legacy = ty.is_complete_list() && (!self.begun || self.wildcard == Wildcard::Legacy);
        if names.is_empty() && may_be_legacy { Wildcard::Legacy } else { Wildcard::No }
    }

    /// A delta request: names are added and taken away. Taking away comes first, so that a name in
    /// both lists ends up subscribed.
    pub fn change(
        &mut self,
        ty: ResourceType,
        subscribe: &[String],
        unsubscribe: &[String],
        limits: &Limits,
    ) -> Result<SubscriptionChange, Violation> {
        let mut change = SubscriptionChange { first: !self.begun, ..SubscriptionChange::default() };
        let was_wildcard = self.is_wildcard();
        if !self.begun {
            self.wildcard = self.next_wildcard(ty, subscribe);
        }
        self.begun = true;
        if unsubscribe.iter().any(|name| name == WILDCARD) {
            self.wildcard = Wildcard::No;
        }
        if subscribe.iter().any(|name| name == WILDCARD) {
            self.wildcard = Wildcard::Explicit;
        }
        for name in unsubscribe {
            // Rule 9: what was never subscribed by name cannot be unsubscribed by name.
            let Some(name) = self.names.take(name.as_str()) else { continue };
            if self.is_wildcard() { change.asked.push(name) } else { change.dropped.push(name) }
        }
        self.add(ty, subscribe, limits, &mut change)?;
        change.dropped.retain(|name| !self.covers(name));
        change.wildcard_began = self.is_wildcard() && !was_wildcard;
        change.wildcard_ended = !self.is_wildcard() && was_wildcard;
        Ok(change)
    }

    fn add(
        &mut self,
        ty: ResourceType,
        names: &[String],
        limits: &Limits,
        change: &mut SubscriptionChange,
    ) -> Result<(), Violation> {
        for name in names.iter().filter(|name| *name != WILDCARD) {
            if name.len() > limits.max_name_bytes {
                return Err(Violation::NameTooLong { bytes: name.len(), limit: limits.max_name_bytes });
            }
            let name: Arc<str> = Arc::from(name.as_str());
            if name.starts_with(XDSTP) {
                change.not_understood.push(name);
                continue;
            }
            self.names.insert(name.clone());
            change.asked.push(name);
        }
        let count = self.names.len();
        if count > limits.max_names {
            let type_url = ty.type_url().to_owned();
            return Err(Violation::TooManyNames { type_url, count, limit: limits.max_names });
        }
        Ok(())
    }
}
