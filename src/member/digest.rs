//! What a side holds of a cluster, known by hashes, so that two sides find out what differs by saying little. Pure.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use sha2::{Digest, Sha256};

use crate::model::object::ObjectKey;

/// The bits by which a range is divided into parts.
const STEP: u32 = 6;
/// A range of so many bits is not divided further.
const DEEPEST: u32 = 48;
/// The parts of a range.
pub(super) const PARTS: usize = 1 << STEP;

fn hash(parts: &[&[u8]]) -> u64 {
    let mut hasher = Sha256::new();
    parts.iter().for_each(|part| hasher.update(part));
    hasher.finalize().first_chunk().copied().map_or(0, u64::from_be_bytes)
}

/// The hash of an object's key. A cluster with a million objects has two of the same hash with a probability of 3e-8.
pub(super) fn hash_of_key(key: &ObjectKey) -> u64 {
    hash_of(&format!("{:?}", key.kind), &key.namespace, &key.name)
}

/// The hash of what is known by these words.
pub(super) fn hash_of(kind: &str, namespace: &str, name: &str) -> u64 {
    hash(&[kind.as_bytes(), b"\0", namespace.as_bytes(), b"\0", name.as_bytes()])
}

/// The hash of an object's form, by its encoding, which says its key as well.
pub(super) fn hash_of_form(encoded: &[u8]) -> u64 {
    hash(&[encoded])
}

/// A part of the space of key hashes: all that begin with these bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Range {
    bits: u32,
    prefix: u64,
}

impl Range {
    /// All of it.
    pub const WHOLE: Self = Self { bits: 0, prefix: 0 };

    /// A range as a message says it; `None` where it is none.
    pub fn new(bits: u32, prefix: u64) -> Option<Self> {
        let range = Self { bits, prefix };
        (bits <= DEEPEST && bits.is_multiple_of(STEP) && prefix & range.rest() == 0).then_some(range)
    }

    pub fn bits(self) -> u32 {
        self.bits
    }

    pub fn prefix(self) -> u64 {
        self.prefix
    }

    /// The bits that the range does not say.
    fn rest(self) -> u64 {
        u64::MAX.checked_shr(self.bits).unwrap_or(0)
    }

    fn hashes(self) -> RangeInclusive<u64> {
        self.prefix..=self.prefix | self.rest()
    }

    /// Whether it can be divided.
    pub fn is_divisible(self) -> bool {
        self.bits < DEEPEST
    }

    /// Which part of a range of `bits` a hash is in.
    fn index(bits: u32, hash: u64) -> usize {
        ((hash << bits) >> (u64::BITS - STEP)) as usize
    }

    /// A part, 0 to 63, of a range that can be divided.
    pub fn part(self, index: usize) -> Self {
        let bits = self.bits + STEP;
        Self { bits, prefix: self.prefix | ((index as u64) << (u64::BITS - bits)) }
    }

    /// The range that this is a part of, and which; `None` for the whole.
    pub fn parent(self) -> Option<(Self, usize)> {
        let bits = self.bits.checked_sub(STEP)?;
        let parent = Self { bits, prefix: 0 };
        let parent = Self { bits, prefix: self.prefix & !parent.rest() };
        Some((parent, Self::index(bits, self.prefix)))
    }
}

/// An object's form, and what else is kept of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry<T> {
    pub form: u64,
    pub value: T,
}

/// Objects by the hashes of their keys.
#[derive(Clone, Debug)]
pub(crate) struct Held<T> {
    entries: BTreeMap<u64, Entry<T>>,
    digest: u64,
}

impl<T> Default for Held<T> {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), digest: 0 }
    }
}

impl<T> Held<T> {
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// The exclusive or of the hashes of all forms.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    pub fn get(&self, key: u64) -> Option<&Entry<T>> {
        self.entries.get(&key)
    }

    pub fn put(&mut self, key: u64, form: u64, value: T) {
        self.digest ^= form;
        if let Some(before) = self.entries.insert(key, Entry { form, value }) {
            self.digest ^= before.form;
        }
    }

    pub fn remove(&mut self, key: u64) -> Option<T> {
        let entry = self.entries.remove(&key)?;
        self.digest ^= entry.form;
        Some(entry.value)
    }

    /// The objects of a range, by the hashes of their keys, ascending.
    pub fn of(&self, range: Range) -> impl Iterator<Item = (u64, &Entry<T>)> {
        self.entries.range(range.hashes()).map(|(key, entry)| (*key, entry))
    }

    /// The digests of a range's parts. Takes time by the number of objects within.
    pub fn digests(&self, range: Range) -> [u64; PARTS] {
        let mut digests = [0; PARTS];
        for (key, entry) in self.of(range) {
            if let Some(digest) = digests.get_mut(Range::index(range.bits, key)) {
                *digest ^= entry.form;
            }
        }
        digests
    }

    /// Whether the range has more than so many objects.
    pub fn has_more(&self, range: Range, than: usize) -> bool {
        self.of(range).nth(than).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_divide_the_whole_and_know_whose_part_they_are() {
        assert_eq!(Range::WHOLE.hashes(), 0..=u64::MAX);
        let part = Range::WHOLE.part(63).part(1);
        assert_eq!(part.hashes(), 0xfc10_0000_0000_0000..=0xfc1f_ffff_ffff_ffff);
        assert_eq!(part.parent(), Some((Range::WHOLE.part(63), 1)));
        assert_eq!(Range::WHOLE.parent(), None);
        assert_eq!(Range::new(12, part.prefix()), Some(part));
        for (bits, prefix) in [(7, 0), (54, 0), (6, 1), (64, 0), (u32::MAX, 0), (0, 1)] {
            assert_eq!(Range::new(bits, prefix), None, "{bits} {prefix}");
        }
        let mut deep = Range::WHOLE;
        while deep.is_divisible() {
            deep = deep.part(5);
        }
        assert_eq!(deep.bits(), DEEPEST);
    }

    #[test]
    fn digests_follow_what_is_put_and_removed_in_any_order() {
        let (mut one, mut other) = (Held::default(), Held::default());
        let hash_of = |n: u64| hash(&[&n.to_be_bytes()]);
        for n in 0..1_000 {
            one.put(hash_of(n), n * 7 + 1, ());
        }
        for n in (0..1_100).rev() {
            other.put(hash_of(n), n, ());
            other.put(hash_of(n), n * 7 + 1, ());
        }
        assert_ne!(one.digest(), other.digest());
        for n in 1_000..1_100 {
            assert!(other.remove(hash_of(n)).is_some() && other.remove(hash_of(n)).is_none());
        }
        assert_eq!((one.len(), one.digest()), (other.len(), other.digest()));
        let digests = one.digests(Range::WHOLE);
        assert_eq!(digests, other.digests(Range::WHOLE));
        assert_eq!(digests.iter().fold(0, |all, digest| all ^ digest), one.digest());
        let parts = (0..PARTS).map(|part| one.of(Range::WHOLE.part(part)).count()).sum::<usize>();
        assert_eq!(parts, 1_000);
        assert!(one.has_more(Range::WHOLE, 999) && !one.has_more(Range::WHOLE, 1_000));
    }
}
