//! Which names changed at which generation, as far back as is worth remembering.

use std::collections::BTreeSet;
use std::sync::Arc;

use imbl::Vector;

use super::ResourceType;

/// The most names that the log keeps. A stream that is further behind compares everything once,
/// which is what it would cost to walk a log of this length anyway.
const MAX_NAMES: usize = 8192;

/// The most generations that the log keeps: streams are woken at each, so few are ever behind.
const MAX_GENERATIONS: usize = 1024;

/// What changed between two generations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changes {
    /// These names, in their order, were set or removed, and no others. Some may be back at what they were.
    Exact(Arc<[Arc<str>]>),
    /// Too much, or too long ago: compare everything.
    Everything,
}

impl Changes {
    /// Nothing changed.
    pub fn none() -> Self {
        Changes::Exact(Arc::default())
    }
}

/// The changes of one generation, by type.
#[derive(Debug, Default)]
pub(super) struct Entry {
    pub(super) generation: u64,
    pub(super) names: [Arc<[Arc<str>]>; ResourceType::COUNT],
}

impl Entry {
    fn len(&self) -> usize {
        self.names.iter().map(|names| names.len()).sum()
    }
}

/// Entries in the order of their generations, which follow each other without gaps.
#[derive(Clone, Debug, Default)]
pub(super) struct ChangeLog {
    entries: Vector<Arc<Entry>>,
    names: usize,
}

impl ChangeLog {
    pub(super) fn push(&mut self, entry: Entry) {
        self.names += entry.len();
        self.entries.push_back(Arc::new(entry));
        while self.names > MAX_NAMES || self.entries.len() > MAX_GENERATIONS {
            match self.entries.pop_front() {
                Some(oldest) => self.names -= oldest.len(),
                None => break,
            }
        }
    }

    /// Names of a type that changed after `generation`, up to `current`.
    pub(super) fn since(&self, generation: u64, current: u64, ty: ResourceType) -> Changes {
        // The first entry needed is the one after `generation`; when it is forgotten, or the
        // generation was never this lineage's, only a full comparison is right.
        let first_kept = self.entries.front().map_or(u64::MAX, |entry| entry.generation);
        if generation > current || generation.saturating_add(1) < first_kept {
            return Changes::Everything;
        }
        let newer = self.entries.iter().rev().take_while(|entry| entry.generation > generation);
        let mut newer = newer.map(|entry| &entry.names[ty.index()]).filter(|names| !names.is_empty());
        match (newer.next(), newer.next()) {
            (None, _) => Changes::none(),
            // Everybody who is one change behind shares its names.
            (Some(only), None) => Changes::Exact(only.clone()),
            (Some(last), Some(before)) => {
                let all: BTreeSet<&Arc<str>> =
                    [last, before].into_iter().chain(newer).flat_map(|names| names.iter()).collect();
                Changes::Exact(all.into_iter().cloned().collect())
            }
        }
    }
}
