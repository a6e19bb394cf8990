//! What a client has of one type, in the room that the differences take.
//!
//! Almost always a client has what some snapshot says of all that it subscribed to, and thousands of clients have the
//! same. So a stream keeps that snapshot, which is shared, and beside it only the names for which it is not so: what is
//! on its way, was refused, is uncertain, or is not the client's yet.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::ads::subscription::Subscription;
use crate::snapshot::{Changes, Resource, ResourceType, XdsSnapshot};

/// A version, and for complete lists the resource, so that it can be sent again in a later list.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) version: Arc<str>,
    pub(super) resource: Option<Arc<Resource>>,
}

/// What the client has, or may have, under a name that is told apart.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    /// The last version that it accepted.
    pub(super) accepted: Option<Held>,
    /// A later one that was sent and of which nothing is proved: in flight, or unknown after a NACK.
    pub(super) offered: Option<Held>,
    /// A NACK left open whether the client took a version over; holds until an ACK.
    pub(super) uncertain: bool,
}

impl Known {
    fn is_proved(&self, version: &str) -> bool {
        let is_open = self.uncertain || self.offered.is_some();
        !is_open && self.accepted.as_ref().is_some_and(|held| *held.version == *version)
    }
}

/// What a client has of one type.
#[derive(Debug)]
pub(super) struct Holdings {
    ty: ResourceType,
    /// Whether what was accepted is kept with its body.
    with_bodies: bool,
    /// The client has of this what it subscribed to, but for the names in `apart`.
    base: Option<Arc<XdsSnapshot>>,
    /// `None`: it has nothing of the name.
    apart: BTreeMap<Arc<str>, Option<Known>>,
}

impl Holdings {
    pub(super) fn new(ty: ResourceType, with_bodies: bool) -> Self {
        Self { ty, with_bodies, base: None, apart: BTreeMap::new() }
    }

    /// What the base says of a name that nothing else is said of.
    fn of_base(&self, sub: &Subscription, name: &str) -> Option<&Arc<Resource>> {
        self.base.as_ref()?.get(self.ty, name).filter(|_| sub.covers(name))
    }

    /// Whether the client has, or may have, anything of that name.
    pub(super) fn contains(&self, sub: &Subscription, name: &str) -> bool {
        match self.apart.get(name) {
            Some(known) => known.is_some(),
            None => self.of_base(sub, name).is_some(),
        }
    }

    /// Whether the client is proved to have exactly this version.
    pub(super) fn is_proved(&self, sub: &Subscription, resource: &Resource) -> bool {
        match self.apart.get(resource.name()) {
            Some(known) => known.as_ref().is_some_and(|known| known.is_proved(resource.version())),
            None => self.of_base(sub, resource.name()).is_some_and(|has| has.version() == resource.version()),
        }
    }

    /// The version that the client accepted last.
    pub(super) fn accepted(&self, sub: &Subscription, name: &str) -> Option<&Arc<str>> {
        match self.apart.get(name) {
            Some(known) => known.as_ref()?.accepted.as_ref().map(|held| &held.version),
            None => self.of_base(sub, name).map(|resource| resource.version()),
        }
    }

    /// The same with its body, where that is kept.
    pub(super) fn accepted_resource(&self, sub: &Subscription, name: &str) -> Option<&Arc<Resource>> {
        match self.apart.get(name) {
            Some(known) => known.as_ref()?.accepted.as_ref()?.resource.as_ref(),
            None => self.of_base(sub, name),
        }
    }

    /// The version that was sent last and of which nothing is proved.
    pub(super) fn offered(&self, name: &str) -> Option<&Arc<str>> {
        self.apart.get(name)?.as_ref()?.offered.as_ref().map(|held| &held.version)
    }

    /// What is known under a name, to be changed.
    pub(super) fn entry(&mut self, sub: &Subscription, name: &Arc<str>) -> &mut Known {
        if !self.apart.contains_key(name) {
            let accepted = self.of_base(sub, name).map(|resource| self.held(resource));
            self.apart.insert(name.clone(), Some(Known { accepted, ..Known::default() }));
        }
        self.apart.entry(name.clone()).or_default().get_or_insert_default()
    }

    /// The client does not have this, which it wants.
    pub(super) fn has_nothing_of(&mut self, name: &Arc<str>) {
        self.apart.insert(name.clone(), None);
    }

    /// The client says at first that it has this.
    pub(super) fn has_initially(&mut self, name: Arc<str>, version: &str) {
        let accepted = Some(Held { version: Arc::from(version), resource: None });
        self.apart.insert(name, Some(Known { accepted, ..Known::default() }));
    }

    /// The client accepted this.
    pub(super) fn accept(&mut self, sub: &Subscription, resource: &Arc<Resource>) {
        let accepted = Some(self.held(resource));
        *self.entry(sub, resource.name()) = Known { accepted, ..Known::default() };
    }

    /// A list that was sent had the name no more.
    pub(super) fn left_out(&mut self, name: &str) {
        if let Some(Some(known)) = self.apart.get_mut(name) {
            known.offered = None;
        }
    }

    /// What is kept of a resource.
    pub(super) fn held(&self, resource: &Arc<Resource>) -> Held {
        Held { version: resource.version().clone(), resource: self.with_bodies.then(|| resource.clone()) }
    }

    /// The client has the name no longer, which it still wants. Says whether it had it.
    pub(super) fn forget(&mut self, sub: &Subscription, name: &Arc<str>) -> bool {
        let had = self.contains(sub, name);
        self.apart.insert(name.clone(), None);
        had
    }

    /// The client does not want the name any longer, and so has it no longer. Says whether it had it.
    pub(super) fn unsubscribed(&mut self, name: &str) -> bool {
        match self.apart.remove(name) {
            Some(known) => known.is_some(),
            None => self.base.as_ref().is_some_and(|base| base.get(self.ty, name).is_some()),
        }
    }

    /// The client wants these names from now on, of which it has nothing.
    pub(super) fn subscribed<'a>(&mut self, names: impl IntoIterator<Item = &'a Arc<str>>) {
        let Some(base) = &self.base else { return };
        let in_base = names.into_iter().filter(|name| base.get(self.ty, name).is_some());
        self.apart.extend(in_base.map(|name| (name.clone(), None)));
    }

    /// The client wants everything from now on, and has only what it named before.
    pub(super) fn wildcard_began(&mut self, named_before: impl Fn(&str) -> bool) {
        let Some(base) = &self.base else { return };
        for resource in base.resources(self.ty).filter(|resource| !named_before(resource.name())) {
            self.apart.entry(resource.name().clone()).or_insert(None);
        }
    }

    /// Every name of which the client has, or may have, something, whether it wants it or not. O(resources).
    pub(super) fn all_names(&self) -> Vec<Arc<str>> {
        let base = self.base.iter().flat_map(|base| base.resources(self.ty)).map(|resource| resource.name());
        let of_base = base.filter(|name| !self.apart.contains_key(*name));
        let apart = self.apart.iter().filter(|(_, known)| known.is_some()).map(|(name, _)| name);
        of_base.chain(apart).cloned().collect()
    }

    /// The same of what it wants. O(resources), or O(names) where it named all that it wants.
    pub(super) fn names(&self, sub: &Subscription) -> Vec<Arc<str>> {
        if sub.is_wildcard() {
            return self.all_names();
        }
        sub.names().iter().filter(|name| self.contains(sub, name)).cloned().collect()
    }

    /// At most so many names does the client have.
    pub(super) fn len(&self) -> usize {
        self.base.as_ref().map_or(0, |base| base.len(self.ty)) + self.apart.len()
    }

    /// How many names are told apart.
    #[cfg(test)]
    pub(super) fn apart(&self) -> usize {
        self.apart.len()
    }

    /// The snapshot of which the client has exactly what it wants, where that is so.
    pub(super) fn exactly(&self) -> Option<&Arc<XdsSnapshot>> {
        self.base.as_ref().filter(|_| self.apart.is_empty())
    }

    /// The client has exactly what it wants of this snapshot, as it had of the last, or of nothing.
    pub(super) fn advance(&mut self, snapshot: Arc<XdsSnapshot>) {
        debug_assert!(self.apart.is_empty(), "what is told apart is not forgotten");
        self.base = Some(snapshot);
    }

    /// Takes a snapshot as the base. What differs from it is told apart from here on, and what does not, no longer.
    /// O(names that are told apart, and that changed since the last base).
    pub(super) fn rebase(&mut self, sub: &Subscription, snapshot: &Arc<XdsSnapshot>) {
        if self.base.as_ref().is_some_and(|base| Arc::ptr_eq(base, snapshot)) && self.apart.is_empty() {
            return;
        }
        let before = self.base.replace(snapshot.clone());
        let changes = before.as_ref().map_or(Changes::Everything, |before| snapshot.changed_from(before, self.ty));
        match changes {
            Changes::Exact(names) => {
                for name in names.iter().filter(|name| sub.covers(name)) {
                    self.keep_apart(before.as_deref(), snapshot, name);
                }
            }
            Changes::Everything => {
                let of = |snapshot: &XdsSnapshot| -> Vec<Arc<str>> {
                    if sub.is_wildcard() {
                        return snapshot.resources(self.ty).map(|resource| resource.name().clone()).collect();
                    }
                    sub.names().iter().filter(|name| snapshot.get(self.ty, name).is_some()).cloned().collect()
                };
                let names = before.iter().flat_map(|before| of(before)).chain(of(snapshot)).collect::<Vec<_>>();
                for name in &names {
                    self.keep_apart(before.as_deref(), snapshot, name);
                }
            }
        }
        let ty = self.ty;
        self.apart.retain(|name, known| {
            let current = snapshot.get(ty, name);
            match (known, current) {
                _ if !sub.covers(name) => false,
                (Some(known), Some(current)) => !known.is_proved(current.version()),
                (None, current) => current.is_some(),
                (Some(_), None) => true,
            }
        });
    }

    /// A name may differ between the last base and the next: what the client has of it is what the last one said.
    fn keep_apart(&mut self, before: Option<&XdsSnapshot>, next: &XdsSnapshot, name: &Arc<str>) {
        let before = before.and_then(|before| before.get(self.ty, name));
        let is_same = match (before, next.get(self.ty, name)) {
            (None, None) => true,
            (Some(before), Some(next)) => before.version() == next.version(),
            _ => false,
        };
        if !is_same && !self.apart.contains_key(name) {
            let known = before.map(|before| Known { accepted: Some(self.held(before)), ..Known::default() });
            self.apart.insert(name.clone(), known);
        }
    }
}
