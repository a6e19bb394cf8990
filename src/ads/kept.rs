//! Values that many streams share, found by a key for as long as any of them has one.

use std::hash::Hash;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use dashmap::DashMap;

/// So many are kept in mind before those that nobody has any longer are looked for.
const LEAST: usize = 4096;

/// Cloning shares it.
pub(super) struct Kept<K, V> {
    by_key: Arc<DashMap<K, Weak<V>>>,
    /// At this size it is swept next: twice what was left the last time, so that sweeping costs each entry little.
    sweep_at: Arc<AtomicUsize>,
}

impl<K: Eq + Hash, V> Kept<K, V> {
    pub(super) fn get(&self, key: &K) -> Option<Arc<V>> {
        self.by_key.get(key)?.upgrade()
    }

    pub(super) fn keep(&self, key: K, value: &Arc<V>) {
        if self.by_key.len() >= self.sweep_at.load(Ordering::Relaxed) {
            self.by_key.retain(|_, value| value.strong_count() > 0);
            self.sweep_at.store((2 * self.by_key.len()).max(LEAST), Ordering::Relaxed);
        }
        self.by_key.insert(key, Arc::downgrade(value));
    }
}

impl<K, V> Clone for Kept<K, V> {
    fn clone(&self) -> Self {
        Self { by_key: self.by_key.clone(), sweep_at: self.sweep_at.clone() }
    }
}

impl<K: Eq + Hash, V> Default for Kept<K, V> {
    fn default() -> Self {
        Self { by_key: Arc::default(), sweep_at: Arc::new(AtomicUsize::new(LEAST)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_has_is_forgotten_and_what_somebody_has_is_not() {
        let kept = Kept::default();
        let held: Vec<Arc<usize>> = (0..LEAST + 10).map(Arc::new).collect();
        held.iter().for_each(|value| kept.keep(**value, value));
        assert!(held.iter().all(|value| kept.get(value).is_some_and(|found| Arc::ptr_eq(&found, value))));
        for key in 0..10 * LEAST {
            kept.keep(held.len() + key, &Arc::new(key));
        }
        assert!(kept.by_key.len() <= 2 * held.len(), "{}", kept.by_key.len());
        assert!(held.iter().all(|value| kept.get(value).is_some()) && kept.get(&held.len()).is_none());
    }
}
