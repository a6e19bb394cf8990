//! What many objects say alike is kept once: namespaces, names of nodes and pods, labels. A cluster says most of its texts
//! thousands of times.

use std::hash::Hash;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

use dashmap::DashSet;

use super::object::Labels;

/// With fewer than this there is nothing worth looking through.
const FEW: usize = 4_096;

/// Values that are in use, each once.
struct Pool<T: ?Sized> {
    kept: DashSet<Arc<T>>,
    /// How many may still come until it is looked for those that nobody uses any more.
    room: AtomicUsize,
}

impl<T: ?Sized + Eq + Hash> Pool<T> {
    fn new() -> Self {
        Self { kept: DashSet::new(), room: AtomicUsize::new(FEW) }
    }

    fn get(&self, value: &T, make: impl FnOnce() -> Arc<T>) -> Arc<T> {
        if let Some(found) = self.kept.get(value) {
            return found.clone();
        }
        // Two that come at once may both stay for a while.
        let made = make();
        self.kept.insert(made.clone());
        if self.room.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.kept.retain(|value| Arc::strong_count(value) > 1);
            // As many again, so that the looking costs each that comes the same.
            self.room.store(self.kept.len().max(FEW), Ordering::Relaxed);
        }
        made
    }
}

/// The text, as all have it that say the same.
pub fn text(text: &str) -> Arc<str> {
    static TEXTS: LazyLock<Pool<str>> = LazyLock::new(Pool::new);
    TEXTS.get(text, || Arc::from(text))
}

/// The labels, as all have them that say the same.
pub fn labels(labels: Labels) -> Arc<Labels> {
    static LABELS: LazyLock<Pool<Labels>> = LazyLock::new(Pool::new);
    LABELS.get(&labels, || Arc::new(labels.iter().map(|(key, value)| (text(key), text(value))).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_alike_is_one() {
        assert!(Arc::ptr_eq(&text("shop"), &text("shop")));
        assert!(!Arc::ptr_eq(&text("shop"), &text("shops")));
        let said = |value: &str| labels([("app".into(), value.into())].into());
        let (one, other) = (said("web"), said("web"));
        assert!(Arc::ptr_eq(&one, &other) && *one == *other);
        assert_ne!(one, said("db"));
    }

    #[test]
    fn what_nobody_uses_goes() {
        let pool = Pool::<str>::new();
        let get = |text: &str| pool.get(text, || Arc::from(text));
        let used: Vec<Arc<str>> = (0..100).map(|n| get(&format!("used-{n}"))).collect();
        for n in 0..10 * FEW {
            get(&format!("passing-{n}"));
        }
        assert!(pool.kept.len() <= FEW + used.len(), "{}", pool.kept.len());
        assert!(used.iter().all(|text| Arc::ptr_eq(text, &get(text))));
    }
}
