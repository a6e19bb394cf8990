//! Making the next snapshot from the last.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::log::Entry;
use super::{Lint, Resource, ResourceType, SnapshotMark, XdsSnapshot};

/// An edit of a snapshot: the maps are shared with it until they are changed.
pub struct Edit {
    base: XdsSnapshot,
    next: XdsSnapshot,
    touched: [BTreeSet<Arc<str>>; ResourceType::COUNT],
}

impl Edit {
    pub(super) fn new(base: XdsSnapshot) -> Self {
        Self { next: base.clone(), base, touched: Default::default() }
    }

    /// Puts a resource in, in place of the one of its type and name. An equal one changes nothing,
    /// except that newly declared references replace the old ones.
    pub fn set(&mut self, resource: impl Into<Arc<Resource>>) -> &mut Self {
        let resource = resource.into();
        let table = &mut self.next.tables[resource.ty().index()];
        let old = table.resources.insert(resource.name().clone(), resource.clone());
        if let Some(old) = &old {
            table.version = table.version.without(old);
            table.bytes -= old.body().len();
        }
        table.version = table.version.with(&resource);
        table.bytes += resource.body().len();
        if old.is_none_or(|old| old.version() != resource.version()) {
            self.touched[resource.ty().index()].insert(resource.name().clone());
        }
        self
    }

    /// Takes a resource out, if it is there.
    pub fn remove(&mut self, ty: ResourceType, name: &str) -> &mut Self {
        let table = &mut self.next.tables[ty.index()];
        if let Some(old) = table.resources.remove(name) {
            table.version = table.version.without(&old);
            table.bytes -= old.body().len();
            self.touched[ty.index()].insert(old.name().clone());
        }
        self
    }

    /// Leaves exactly these resources of a type. For callers that build all of a view anew: what is
    /// equal stays untouched.
    pub fn replace_all(&mut self, ty: ResourceType, resources: impl IntoIterator<Item = Resource>) -> &mut Self {
        let mut gone: BTreeSet<Arc<str>> = self.next.resources(ty).map(|r| r.name().clone()).collect();
        for resource in resources.into_iter().filter(|r| r.ty() == ty) {
            gone.remove(resource.name());
            self.set(resource);
        }
        for name in gone {
            self.remove(ty, &name);
        }
        self
    }

    /// References of what this edit touched that lead nowhere, and those that it broke are found by
    /// [`XdsSnapshot::check`] only, since nothing is indexed backwards.
    pub fn check(&self) -> Vec<Lint> {
        let touched = ResourceType::ALL.into_iter().zip(&self.touched);
        let resources = touched.flat_map(|(ty, names)| names.iter().filter_map(move |n| self.next.get(ty, n)));
        resources.flat_map(|resource| self.next.lints_of(resource)).collect()
    }

    /// The snapshot of the next generation, or `None` when the contents are what they were: then
    /// nobody is to be woken.
    pub fn finish(mut self) -> Option<Arc<XdsSnapshot>> {
        let mut entry = Entry { generation: self.base.generation + 1, ..Entry::default() };
        for ty in ResourceType::ALL {
            // A name that was set and then set back is no change.
            let names = std::mem::take(&mut self.touched[ty.index()]);
            entry.names[ty.index()] = names.into_iter().filter(|name| self.differs(ty, name)).collect();
        }
        if entry.names.iter().all(|names| names.is_empty()) {
            return None;
        }
        self.next.mark = SnapshotMark::next();
        self.next.generation = entry.generation;
        self.next.log.push(entry);
        Some(Arc::new(self.next))
    }

    fn differs(&self, ty: ResourceType, name: &str) -> bool {
        let version = |snapshot: &XdsSnapshot| snapshot.get(ty, name).map(|r| r.version().clone());
        version(&self.base) != version(&self.next)
    }
}

/// Builds snapshots one after the other: an [`Edit`] with the latest snapshot kept beside it.
pub struct SnapshotBuilder {
    latest: Arc<XdsSnapshot>,
}

impl SnapshotBuilder {
    /// Starts a lineage with an empty snapshot.
    pub fn new() -> Self {
        Self { latest: XdsSnapshot::empty() }
    }

    /// The latest snapshot.
    pub fn latest(&self) -> &Arc<XdsSnapshot> {
        &self.latest
    }

    /// Applies an edit; the new snapshot, or `None` when it changed nothing.
    pub fn update(&mut self, edit: impl FnOnce(&mut Edit)) -> Option<Arc<XdsSnapshot>> {
        let mut next = self.latest.edit();
        edit(&mut next);
        let next = next.finish()?;
        self.latest = next.clone();
        Some(next)
    }
}

impl Default for SnapshotBuilder {
    fn default() -> Self {
        Self::new()
    }
}
