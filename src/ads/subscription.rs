//! What a client asked for, of one type (rules 7 to 9, 16).

use std::cmp::Ordering;
use std::collections::btree_set::Range;
use std::collections::{BTreeSet, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::iter::Peekable;
use std::sync::{Arc, LazyLock};

use super::kept::Kept;
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
    /// Shared with all that want the same, until they differ.
    names: Arc<BTreeSet<Arc<str>>>,
    /// The sum of the names' hashes.
    sum: u64,
}

/// The sets of names that first requests gave, each kept once for all streams. Cloning shares it.
#[derive(Clone, Default)]
pub struct NameSets(Kept<SubscriptionMark, BTreeSet<Arc<str>>>);

/// Equal subscriptions have equal ones. Different ones have equal ones as rarely as 64-bit numbers agree by chance: the
/// names are hashed with keys of this process, which no client knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SubscriptionMark {
    is_wildcard: bool,
    count: usize,
    sum: u64,
}

/// What a request is about.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// Its type.
    pub ty: ResourceType,
    /// A name that is in memory already: thousands of clients ask for the same ones.
    pub known: &'a dyn Fn(&str) -> Option<Arc<str>>,
    /// Sets of names that are in memory already.
    pub sets: &'a NameSets,
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
    /// Names to answer, whatever the client has; left out of a first request, where it is all of them.
    pub asked: Vec<Arc<str>>,
    /// Names that nothing covered before; left out of a first request, too.
    pub added: Vec<Arc<str>>,
    /// Where the wildcard is new: the names that were wanted before.
    pub named_before: BTreeSet<Arc<str>>,
    /// Names that nothing covers any longer.
    pub dropped: Vec<Arc<str>>,
    /// Names that cannot be subscribed to (rule 16).
    pub not_understood: Vec<Arc<str>>,
}

fn hash(name: &str) -> u64 {
    static KEYS: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    KEYS.hash_one(name)
}

/// How far [`Subscription::walk`] goes step by step before it looks a name up.
const STEPS: usize = 4;

/// See [`Subscription::walk`].
pub(super) struct Walk<'a> {
    sub: &'a Subscription,
    next: Peekable<Range<'a, Arc<str>>>,
}

impl Walk<'_> {
    /// Whether the resource is wanted.
    pub(super) fn covers(&mut self, name: &Arc<str>) -> bool {
        if self.sub.is_wildcard() {
            return true;
        }
        for _ in 0..STEPS {
            let Some(next) = self.next.peek() else { return self.sub.names.contains(name) };
            if Arc::ptr_eq(next, name) {
                return true;
            }
            match (*next).cmp(name) {
                Ordering::Less => _ = self.next.next(),
                Ordering::Equal => return true,
                Ordering::Greater => return self.sub.names.contains(name),
            }
        }
        self.next = self.sub.names.range::<Arc<str>, _>(name..).peekable();
        self.next.peek().is_some_and(|next| *next == name)
    }
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

    /// What tells it from others of the same type.
    pub(super) fn mark(&self) -> SubscriptionMark {
        match self.is_wildcard() {
            true => SubscriptionMark { is_wildcard: true, count: 0, sum: 0 },
            false => SubscriptionMark { is_wildcard: false, count: self.names.len(), sum: self.sum },
        }
    }

    /// Looks many names up, which is cheap where they come in their order.
    pub(super) fn walk(&self) -> Walk<'_> {
        Walk { sub: self, next: self.names.range::<Arc<str>, _>(..).peekable() }
    }

    /// The names that were given one by one.
    pub fn names(&self) -> &Arc<BTreeSet<Arc<str>>> {
        &self.names
    }

    /// A SotW request: its names replace those before.
    pub fn replace(
        &mut self,
        asked: Asked<'_>,
        names: &[&str],
        limits: &Limits,
    ) -> Result<SubscriptionChange, Violation> {
        let mut change = SubscriptionChange { first: !self.begun, ..SubscriptionChange::default() };
        let wildcard = self.next_wildcard(asked.ty, names);
        // Every ACK repeats all names.
        if self.begun && self.wildcard == wildcard && self.is_exactly(names) {
            return Ok(change);
        }
        let next = Self { begun: true, wildcard, names: Arc::default(), sum: 0 };
        let before = std::mem::replace(self, next);
        let known = |name: &str| before.names.get(name).cloned().or_else(|| (asked.known)(name));
        self.add(Asked { known: &known, ..asked }, names, limits, &mut change)?;
        change.asked.retain(|name| !before.names.contains(name));
        change.added = change.asked.iter().filter(|_| !before.is_wildcard()).cloned().collect();
        change.wildcard_began = self.is_wildcard() && !before.is_wildcard();
        change.wildcard_ended = !self.is_wildcard() && before.is_wildcard();
        change.dropped = before.names.iter().filter(|name| !self.covers(name)).cloned().collect();
        if change.wildcard_began {
            change.named_before = Arc::unwrap_or_clone(before.names);
        }
        Ok(change)
    }

    /// Takes the names of a first request.
    fn begin(&mut self, asked: Asked<'_>, names: &[&str], known: impl Fn(&str) -> Arc<str>) {
        let sum = names.iter().fold(0, |sum: u64, name| sum.wrapping_add(hash(name)));
        let mark = SubscriptionMark { is_wildcard: false, count: names.len(), sum };
        if let Some(set) = asked.sets.0.get(&mark) {
            (self.names, self.sum) = (set, sum);
            return;
        }
        let set: BTreeSet<Arc<str>> = names.iter().map(|name| known(name)).collect();
        self.sum = set.iter().fold(0, |sum, name| sum.wrapping_add(hash(name)));
        self.names = Arc::new(set);
        asked.sets.0.keep(SubscriptionMark { is_wildcard: false, count: self.names.len(), sum: self.sum }, &self.names);
    }

    /// Whether the names are those that were given before, each once.
    fn is_exactly(&self, names: &[&str]) -> bool {
        let distinct: HashSet<&str> = names.iter().copied().filter(|name| *name != WILDCARD).collect();
        distinct.len() == self.names.len() && distinct.into_iter().all(|name| self.names.contains(name))
    }

    /// Rule 7: naming nothing means everything at first, and as long as nothing was ever named; later
    /// it means nothing.
    fn next_wildcard(&self, ty: ResourceType, names: &[&str]) -> Wildcard {
        if names.contains(&WILDCARD) {
            return Wildcard::Explicit;
        }
        let may_be_legacy = ty.is_complete_list() && (!self.begun || self.wildcard == Wildcard::Legacy);
        if names.is_empty() && may_be_legacy { Wildcard::Legacy } else { Wildcard::No }
    }

    /// A delta request: names are added and taken away. Taking away comes first, so that a name in
    /// both lists ends up subscribed.
    pub fn change(
        &mut self,
        asked: Asked<'_>,
        subscribe: &[&str],
        unsubscribe: &[&str],
        limits: &Limits,
    ) -> Result<SubscriptionChange, Violation> {
        let mut change = SubscriptionChange { first: !self.begun, ..SubscriptionChange::default() };
        let was_wildcard = self.is_wildcard();
        if !self.begun {
            self.wildcard = self.next_wildcard(asked.ty, subscribe);
        }
        self.begun = true;
        let may_begin = !was_wildcard && subscribe.contains(&WILDCARD);
        let named_before = if may_begin { BTreeSet::clone(&self.names) } else { BTreeSet::new() };
        if unsubscribe.contains(&WILDCARD) {
            self.wildcard = Wildcard::No;
        }
        if subscribe.contains(&WILDCARD) {
            self.wildcard = Wildcard::Explicit;
        }
        for name in unsubscribe {
            // Rule 9: what was never subscribed by name cannot be unsubscribed by name.
            let Some(name) = self.names.get(*name).cloned() else { continue };
            Arc::make_mut(&mut self.names).remove(&name);
            self.sum = self.sum.wrapping_sub(hash(&name));
            if self.is_wildcard() { change.asked.push(name) } else { change.dropped.push(name) }
        }
        self.add(asked, subscribe, limits, &mut change)?;
        if was_wildcard {
            change.added.clear();
        }
        change.dropped.retain(|name| !self.covers(name));
        change.wildcard_began = self.is_wildcard() && !was_wildcard;
        change.wildcard_ended = !self.is_wildcard() && was_wildcard;
        if change.wildcard_began {
            change.named_before = named_before;
        }
        Ok(change)
    }

    fn add(
        &mut self,
        asked: Asked<'_>,
        names: &[&str],
        limits: &Limits,
        change: &mut SubscriptionChange,
    ) -> Result<(), Violation> {
        let mut understood = Vec::with_capacity(names.len());
        for name in names.iter().copied().filter(|name| *name != WILDCARD) {
            if name.len() > limits.max_name_bytes {
                return Err(Violation::NameTooLong { bytes: name.len(), limit: limits.max_name_bytes });
            }
            match name.starts_with(XDSTP) {
                true => change.not_understood.push(Arc::from(name)),
                false => understood.push(name),
            }
        }
        let known = |name: &str| (asked.known)(name).unwrap_or_else(|| Arc::from(name));
        if change.first {
            self.begin(asked, &understood, known);
        } else {
            for name in understood {
                let name = known(name);
                if !self.names.contains(&name) {
                    Arc::make_mut(&mut self.names).insert(name.clone());
                    self.sum = self.sum.wrapping_add(hash(&name));
                    change.added.push(name.clone());
                }
                change.asked.push(name);
            }
        }
        let count = self.names.len();
        if count > limits.max_names {
            let type_url = asked.ty.type_url().to_owned();
            return Err(Violation::TooManyNames { type_url, count, limit: limits.max_names });
        }
        Ok(())
    }
}
