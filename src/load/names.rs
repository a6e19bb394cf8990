//! Names of resources, which all clients share, and sets of them.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

/// The number of a name.
pub type NameId = u32;

/// Every name that any client has heard of, with the version that was seen last, so that clients which have the same
/// hold one text between them.
#[derive(Debug, Default)]
pub struct Names {
    table: RwLock<Table>,
}

#[derive(Debug, Default)]
struct Table {
    ids: HashMap<Arc<str>, NameId>,
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    name: Arc<str>,
    version: Arc<str>,
}

impl Names {
    /// The number of a name, which it is given when it is new. What is no UTF-8 is read as if it were, since nothing is
    /// decided by it.
    pub fn id(&self, name: &[u8]) -> NameId {
        let name = String::from_utf8_lossy(name);
        if let Some(id) = self.read().ids.get(&*name) {
            return *id;
        }
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(id) = table.ids.get(&*name) {
            return *id;
        }
        let id = NameId::try_from(table.entries.len()).unwrap_or(NameId::MAX);
        let name: Arc<str> = Arc::from(&*name);
        table.ids.insert(name.clone(), id);
        table.entries.push(Entry { name, version: Arc::from("") });
        id
    }

    /// The same, cheaper where it is the number after the last one: servers tell resources in their order.
    pub fn id_after(&self, last: NameId, name: &[u8]) -> NameId {
        let next = last.wrapping_add(1);
        match self.read().entries.get(next as usize) {
            Some(entry) if entry.name.as_bytes() == name => return next,
            _ => {}
        }
        self.id(name)
    }

    /// How many names there are; their numbers are below this.
    pub fn len(&self) -> usize {
        self.read().entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The name of a number.
    pub fn name(&self, id: NameId) -> Arc<str> {
        self.read().entries.get(id as usize).map_or_else(|| Arc::from(""), |entry| entry.name.clone())
    }

    /// Calls `each` with every name of these numbers, under one lock.
    pub fn each(&self, ids: impl Iterator<Item = NameId>, mut each: impl FnMut(NameId, &Arc<str>)) {
        let table = self.read();
        for id in ids {
            if let Some(entry) = table.entries.get(id as usize) {
                each(id, &entry.name);
            }
        }
    }

    /// A version's text, shared with whoever has the same of this name.
    pub fn version(&self, id: NameId, version: &[u8]) -> Arc<str> {
        if let Some(entry) = self.read().entries.get(id as usize)
            && entry.version.as_bytes() == version
        {
            return entry.version.clone();
        }
        let version: Arc<str> = Arc::from(&*String::from_utf8_lossy(version));
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = table.entries.get_mut(id as usize) {
            entry.version = version.clone();
        }
        version
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A set of names: a bit for each.
#[derive(Clone, Debug, Default)]
pub struct NameSet {
    words: Vec<u64>,
    len: usize,
}

impl NameSet {
    /// Adds one; whether it was missing.
    pub fn insert(&mut self, id: NameId) -> bool {
        let (word, bit) = (id as usize / 64, 1 << (id % 64));
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        let is_new = self.words[word] & bit == 0;
        self.words[word] |= bit;
        self.len += usize::from(is_new);
        is_new
    }

    /// Takes one away; whether it was there.
    pub fn remove(&mut self, id: NameId) -> bool {
        let (word, bit) = (id as usize / 64, 1 << (id % 64));
        let Some(word) = self.words.get_mut(word).filter(|word| **word & bit != 0) else { return false };
        *word &= !bit;
        self.len -= 1;
        true
    }

    /// Whether it is there.
    pub fn contains(&self, id: NameId) -> bool {
        self.words.get(id as usize / 64).is_some_and(|word| word & (1 << (id % 64)) != 0)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// In the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = NameId> {
        let words = self.words.iter().enumerate().filter(|(_, word)| **word != 0);
        words.flat_map(|(n, word)| {
            (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| (n * 64) as NameId + bit)
        })
    }
}
