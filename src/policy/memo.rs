//! What was asked before is not asked again.

use std::collections::HashMap;
use std::sync::Arc;

use super::component::Digest;
use super::question::Hash;
use crate::model::decision::LbDecision;

/// What decides: a component, and what it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MemoKey {
    /// The component.
    pub digest: Digest,
    /// Of the question, which has the configuration in it.
    pub question: Hash,
}

/// Decisions by what they follow from. Bounded: what was not asked for longest goes, in halves.
#[derive(Debug)]
pub struct Memo {
    young: HashMap<MemoKey, Arc<LbDecision>>,
    old: HashMap<MemoKey, Arc<LbDecision>>,
    half: usize,
    /// Questions that were answered from here.
    pub hits: u64,
    /// Questions that were not.
    pub misses: u64,
}

impl Memo {
    /// Keeps so many decisions, at least the half of `most` that were asked for last.
    pub fn new(most: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), half: most / 2, hits: 0, misses: 0 }
    }

    /// What was decided.
    pub fn get(&mut self, key: &MemoKey) -> Option<Arc<LbDecision>> {
        let found = match self.young.get(key) {
            Some(found) => Some(found.clone()),
            None => self.old.remove(key).inspect(|found| {
                self.young.insert(*key, found.clone());
            }),
        };
        match found {
            Some(_) => self.hits += 1,
            None => self.misses += 1,
        }
        found
    }

    /// Keeps a decision.
    pub fn put(&mut self, key: MemoKey, decision: Arc<LbDecision>) {
        if self.young.len() >= self.half {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, decision);
    }
}
