//! What a client says at first that it has (rule 12).

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Book, Why};
use crate::ads::stream::Versions;
use crate::ads::subscription::SubscriptionChange;
use crate::snapshot::{Resource, XdsSnapshot};

impl Book {
    /// Takes over what a first request says that the client has, before anything is known that it should have.
    pub(in crate::ads::stream) fn has_initially(&mut self, initial: &Versions) {
        for (name, version) in initial.iter().filter(|(name, _)| self.sub.covers(name)) {
            let name: Arc<str> = Arc::from(name);
            self.known.has_initially(name.clone(), version);
            self.pending.insert(name, Why::Changed);
        }
    }

    /// The same of a client that comes back to a snapshot: most of what it has is what it should have, so that only the
    /// rest is noted. Of what the client asked for, it is answered what it does not have, and what it is owed.
    pub(in crate::ads::stream) fn comes_back(
        &mut self,
        change: SubscriptionChange,
        initial: &Versions,
        owed: &BTreeSet<Arc<str>>,
        snapshot: &Arc<XdsSnapshot>,
    ) {
        self.known.advance(snapshot.clone());
        let mut versions = initial.walk();
        let mut seen = 0;
        if self.sub.is_wildcard() {
            for resource in snapshot.resources(self.ty) {
                let version = versions.get(resource.name());
                seen += usize::from(version.is_some());
                self.compare_initially(resource.name(), Some(resource), version);
            }
        }
        let names = self.sub.names().clone();
        let (mut resources, mut versions) = (snapshot.walk(self.ty), initial.walk());
        for name in names.iter() {
            let (resource, version) = (resources.get(name), versions.get(name));
            if !self.sub.is_wildcard() {
                seen += usize::from(version.is_some());
                self.compare_initially(name, resource, version);
            }
            if version.is_none() || owed.contains(name) {
                self.pend(name, Why::Asked);
            }
        }
        // What it has and wants, and is no more.
        if seen < initial.len() && self.sub.is_wildcard() {
            let ty = self.ty;
            for (name, version) in initial.iter().filter(|(name, _)| snapshot.get(ty, name).is_none()) {
                self.compare_initially(&Arc::from(name), None, Some(version));
            }
        }
        self.not_understood(change.not_understood);
    }

    /// A client begins that has nothing. What it wants is what changed since there was nothing at all, which is the same
    /// for all that begin; of what it asked for, only what does not exist is noted.
    pub(in crate::ads::stream) fn begins(&mut self, change: SubscriptionChange, snapshot: &Arc<XdsSnapshot>) {
        self.known.advance(XdsSnapshot::nothing());
        self.behind = Some(snapshot.clone());
        let names = self.sub.names().clone();
        let mut resources = snapshot.walk(self.ty);
        for name in names.iter().filter(|name| resources.get(name).is_none()) {
            self.pend(name, Why::Asked);
        }
        self.not_understood(change.not_understood);
    }

    /// What the client has under a name and what it should have.
    fn compare_initially(&mut self, name: &Arc<str>, resource: Option<&Arc<Resource>>, version: Option<&str>) {
        match (resource, version) {
            (Some(resource), Some(version)) if **resource.version() == *version => return,
            (_, Some(version)) => self.known.has_initially(name.clone(), version),
            (Some(_), None) => self.known.has_nothing_of(name),
            (None, None) => return,
        }
        self.pend(name, Why::Changed);
    }
}
