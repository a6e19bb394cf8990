//! The resources of one view at one generation: immutable, shared, encoded and hashed once.
//!
//! ```text
//!  owner ── edit(): set / remove ── finish() ─▶ Arc<XdsSnapshot> ── watch ─▶ every stream of the view
//!                                                 │ names → Arc<Resource>   (persistent maps, by type)
//!                                                 │ version by type         (content hash, kept incrementally)
//!                                                 └ change log              (which names, since which generation)
//! ```
//!
//! Nothing here knows what the resources mean: a caller declares which others a resource needs
//! ([`Resource::with_refs`]) and [`XdsSnapshot::check`] tells which of those are missing. Cost follows
//! change: an edit of `n` names clones no map, hashes `n` bodies and leaves `n` names in the log.

mod edit;
mod log;
mod resource;
#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use imbl::OrdMap;
use imbl::ordmap::DiffItem;
use imbl::shared_ptr::DefaultSharedPtr;

pub use edit::{Edit, SnapshotBuilder};
pub use log::Changes;
pub use resource::{Reference, Resource, ResourceType, version_of};

use log::ChangeLog;

/// The version of a set of resources: a hash that does not depend on order and that adding and
/// taking away one resource changes in constant time. A sum (not XOR) of 128-bit hashes modulo
/// 2^128, so that two equal items do not cancel out.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct SetVersion(u128);

impl SetVersion {
    /// The version with one more resource in the set.
    #[must_use]
    pub fn with(self, resource: &Resource) -> Self {
        Self(self.0.wrapping_add(resource.fingerprint()))
    }

    /// The version with one resource less.
    #[must_use]
    pub fn without(self, resource: &Resource) -> Self {
        Self(self.0.wrapping_sub(resource.fingerprint()))
    }
}

impl fmt::Display for SetVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for SetVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Tells one snapshot of this process from all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SnapshotMark(u64);

impl SnapshotMark {
    /// One that no snapshot has yet.
    fn next() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Self(LAST.fetch_add(1, Ordering::Relaxed))
    }
}

/// The resources of one type.
#[derive(Clone, Default)]
struct Table {
    resources: OrdMap<Arc<str>, Arc<Resource>>,
    version: SetVersion,
    bytes: usize,
}

/// An immutable set of resources at one generation. Cloning the `Arc` is how streams hold it.
#[derive(Clone)]
pub struct XdsSnapshot {
    mark: SnapshotMark,
    generation: u64,
    /// Snapshots made from each other by edits share this; generations compare only among them.
    lineage: Arc<()>,
    tables: [Table; ResourceType::COUNT],
    log: ChangeLog,
}

static NOTHING: LazyLock<Arc<XdsSnapshot>> = LazyLock::new(XdsSnapshot::empty);

impl XdsSnapshot {
    /// A snapshot without resources, at generation 0, which starts a lineage of its own.
    pub fn empty() -> Arc<Self> {
        Arc::new(Self {
            mark: SnapshotMark::next(),
            generation: 0,
            lineage: Arc::new(()),
            tables: Default::default(),
            log: ChangeLog::default(),
        })
    }

    /// The one that everything can be compared with: it has no resources, and nothing is made from it.
    pub fn nothing() -> Arc<Self> {
        NOTHING.clone()
    }

    /// Whether it is [`XdsSnapshot::nothing`].
    pub fn is_nothing(&self) -> bool {
        self.mark == NOTHING.mark
    }

    /// What tells it from all others.
    pub fn mark(&self) -> SnapshotMark {
        self.mark
    }

    /// Counts edits since [`XdsSnapshot::empty`]. Local to this process: replicas agree on
    /// versions, never on generations.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The resource of that name.
    pub fn get(&self, ty: ResourceType, name: &str) -> Option<&Arc<Resource>> {
        self.tables[ty.index()].resources.get(name)
    }

    /// All resources of a type, in the order of their names.
    pub fn resources(&self, ty: ResourceType) -> impl Iterator<Item = &Arc<Resource>> {
        self.tables[ty.index()].resources.values()
    }

    /// Looks up many names, which is cheap where they come in their order.
    pub fn walk(&self, ty: ResourceType) -> Walk<'_> {
        let resources = &self.tables[ty.index()].resources;
        Walk { resources, next: resources.range::<_, str>(..), misses: 0 }
    }

    /// How many resources of a type there are.
    pub fn len(&self, ty: ResourceType) -> usize {
        self.tables[ty.index()].resources.len()
    }

    /// Whether there is no resource of any type.
    pub fn is_empty(&self) -> bool {
        self.tables.iter().all(|table| table.resources.is_empty())
    }

    /// The sum of the lengths of a type's bodies, in bytes: what one SotW response costs (rule 20).
    pub fn bytes(&self, ty: ResourceType) -> usize {
        self.tables[ty.index()].bytes
    }

    /// The version of all resources of a type: equal contents have equal versions, on every replica
    /// and after a restart (rule 19).
    pub fn version(&self, ty: ResourceType) -> SetVersion {
        self.tables[ty.index()].version
    }

    /// Which names of a type changed after that generation of the same lineage.
    pub fn changed_since(&self, generation: u64, ty: ResourceType) -> Changes {
        if generation == self.generation {
            return Changes::none();
        }
        self.log.since(generation, self.generation, ty)
    }

    /// Which names of a type differ between an earlier snapshot and this one. Snapshots of different
    /// lineages have no common log, so there everything may differ.
    pub fn changed_from(&self, earlier: &XdsSnapshot, ty: ResourceType) -> Changes {
        if Arc::ptr_eq(&self.lineage, &earlier.lineage) {
            self.changed_since(earlier.generation, ty)
        } else {
            Changes::Everything
        }
    }

    /// What differs between an earlier snapshot and this one, in the order of the names: each with the resource that it has
    /// here, or `None` where it has none. O(what differs) within a lineage, O(resources) beyond.
    pub fn difference<'a>(
        &'a self,
        earlier: &'a XdsSnapshot,
        ty: ResourceType,
    ) -> impl Iterator<Item = (&'a Arc<str>, Option<&'a Arc<Resource>>)> {
        let [before, now] = [earlier, self].map(|snapshot| &snapshot.tables[ty.index()].resources);
        before.diff(now).filter_map(|item| match item {
            DiffItem::Add(name, now) => Some((name, Some(now))),
            DiffItem::Remove(name, _) => Some((name, None)),
            DiffItem::Update { old: (_, old), new: (name, now) } => {
                (old.version() != now.version()).then_some((name, Some(now)))
            }
        })
    }

    /// Begins an edit of this snapshot.
    pub fn edit(&self) -> Edit {
        Edit::new(self.clone())
    }

    /// References that lead nowhere, in a fixed order. O(resources): for tests, debugging and the
    /// occasional full check; [`Edit::check`] looks only at what was edited.
    pub fn check(&self) -> Vec<Lint> {
        let all = ResourceType::ALL.into_iter().flat_map(|ty| self.resources(ty));
        all.flat_map(|resource| self.lints_of(resource)).collect()
    }

    fn lints_of(&self, resource: &Arc<Resource>) -> Vec<Lint> {
        let missing = resource.refs().iter().filter(|r| self.get(r.ty, &r.name).is_none());
        missing.map(|r| Lint { ty: resource.ty(), name: resource.name().clone(), missing: r.clone() }).collect()
    }
}

/// See [`XdsSnapshot::walk`].
pub struct Walk<'a> {
    resources: &'a OrdMap<Arc<str>, Arc<Resource>>,
    next: imbl::ordmap::RangedIter<'a, Arc<str>, Arc<Resource>, DefaultSharedPtr>,
    /// How many names in a row were not the next one.
    misses: usize,
}

impl<'a> Walk<'a> {
    /// After so many misses names are no longer expected to be the next one.
    const PATIENCE: usize = 8;

    /// The resource of that name.
    pub fn get(&mut self, name: &str) -> Option<&'a Arc<Resource>> {
        if self.misses >= Self::PATIENCE {
            return self.resources.get(name);
        }
        if let Some((next, resource)) = self.next.next()
            && (std::ptr::eq(&**next, name) || **next == *name)
        {
            self.misses = 0;
            return Some(resource);
        }
        self.misses += 1;
        self.next = self.resources.range::<_, str>((Bound::Included(name), Bound::Unbounded));
        let mut found = self.next.clone();
        let (_, resource) = found.next().filter(|(next, _)| ***next == *name)?;
        self.next = found;
        Some(resource)
    }
}

impl fmt::Debug for XdsSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("XdsSnapshot");
        out.field("generation", &self.generation);
        for ty in ResourceType::ALL {
            out.field(ty.label(), &self.len(ty));
        }
        out.finish()
    }
}

/// A resource needs another one that is not in the snapshot: an EDS cluster without its assignment
/// would stay in warming, a listener without its route configuration would wait for it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[error("{ty} `{name}` needs {} `{}`, which is not in the snapshot", missing.ty, missing.name)]
pub struct Lint {
    /// The type of the resource that has the reference.
    pub ty: ResourceType,
    /// Its name.
    pub name: Arc<str>,
    /// What it needs.
    pub missing: Reference,
}
