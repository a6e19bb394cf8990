//! When what is to be written: at once, a few at a time, and not again before a rest, so that what changes often is
//! written in its latest form; after a failure later and later. Pure.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::time::{Duration, Instant};

/// Writes that are under way at once.
const AT_ONCE: usize = 8;
/// How long an object that was written is not written again.
const REST: Duration = Duration::from_secs(1);
/// Pauses after a write that failed, growing.
const PAUSES: [Duration; 5] = [
    Duration::from_millis(200),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(15),
];

/// Objects that may have to be written.
#[derive(Debug)]
pub(super) struct Queue<T> {
    dirty: BTreeSet<T>,
    /// Not to be written before then, and how often it failed.
    resting: HashMap<T, (Instant, usize)>,
    under_way: BTreeSet<T>,
}

impl<T: Ord + Hash + Clone> Queue<T> {
    pub fn new() -> Self {
        Self { dirty: BTreeSet::new(), resting: HashMap::new(), under_way: BTreeSet::new() }
    }

    /// The object may differ from what is wanted.
    pub fn add(&mut self, object: T) {
        self.dirty.insert(object);
    }

    /// The same for many.
    pub fn extend(&mut self, objects: impl IntoIterator<Item = T>) {
        self.dirty.extend(objects);
    }

    /// Whether nothing waits and nothing is under way.
    pub fn is_idle(&self) -> bool {
        self.dirty.is_empty() && self.under_way.is_empty()
    }

    /// Begins all that can be begun: `step` says what is to be done with an object, and nothing where it is as it should
    /// be. Gives that, and how long it is until more can be.
    pub fn begin<S>(&mut self, now: Instant, step: impl Fn(&T) -> Option<S>) -> (Vec<(T, S)>, Option<Duration>) {
        let mut next: Option<Instant> = None;
        let (mut begun, mut settled) = (Vec::new(), Vec::new());
        for object in &self.dirty {
            if self.under_way.len() + begun.len() >= AT_ONCE {
                break;
            }
            if self.under_way.contains(object) {
                continue;
            }
            if let Some((until, _)) = self.resting.get(object).filter(|(until, _)| *until > now) {
                next = Some(next.map_or(*until, |next| next.min(*until)));
                continue;
            }
            match step(object) {
                Some(step) => begun.push((object.clone(), step)),
                None => settled.push(object.clone()),
            }
        }
        for object in settled {
            self.dirty.remove(&object);
            self.resting.remove(&object);
        }
        for (object, _) in &begun {
            self.dirty.remove(object);
            self.under_way.insert(object.clone());
        }
        (begun, next.map(|at| at.saturating_duration_since(now)))
    }

    /// The object was written.
    pub fn written(&mut self, object: &T, now: Instant) {
        self.under_way.remove(object);
        self.resting.insert(object.clone(), (now + REST, 0));
    }

    /// The object is gone.
    pub fn gone(&mut self, object: &T) {
        self.under_way.remove(object);
        self.resting.remove(object);
    }

    /// The object could not be written, and is tried again later; gives how often it failed before.
    pub fn failed(&mut self, object: T, now: Instant) -> usize {
        self.under_way.remove(&object);
        let failed = self.resting.get(&object).map_or(0, |(_, failed)| *failed);
        self.resting.insert(object.clone(), (now + PAUSES[failed.min(PAUSES.len() - 1)], failed + 1));
        self.dirty.insert(object);
        failed
    }

    /// The object is left alone for so long, and looked at again then.
    pub fn postpone(&mut self, object: T, until: Instant) {
        self.under_way.remove(&object);
        self.resting.insert(object.clone(), (until, 0));
        self.dirty.insert(object);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objects(begun: &[(u32, ())]) -> Vec<u32> {
        begun.iter().map(|(object, ())| *object).collect()
    }

    #[test]
    fn what_changes_often_is_written_once_a_rest_and_a_few_at_a_time() {
        let (mut queue, start) = (Queue::new(), Instant::now());
        queue.extend(0..20);
        let (begun, _) = queue.begin(start, |_| Some(()));
        assert_eq!(objects(&begun), (0..8).collect::<Vec<u32>>());
        assert!(queue.begin(start, |_| Some(())).0.is_empty());
        queue.written(&0, start);
        queue.add(0);
        // The next one has its turn, and what was just written waits.
        let (begun, _) = queue.begin(start, |_| Some(()));
        assert_eq!(objects(&begun), [8]);
        (1..9).for_each(|object| queue.written(&object, start));
        let (begun, _) = queue.begin(start, |_| Some(()));
        assert_eq!(objects(&begun), (9..17).collect::<Vec<u32>>());
        (9..17).for_each(|object| queue.written(&object, start));
        let (begun, pause) = queue.begin(start, |_| Some(()));
        assert_eq!((objects(&begun), pause), (vec![17, 18, 19], Some(REST)));
        (17..20).for_each(|object| queue.written(&object, start));
        let (begun, pause) = queue.begin(start + REST, |_| None::<()>);
        assert!(begun.is_empty() && pause.is_none() && queue.is_idle(), "it is as it should be");
    }

    #[test]
    fn a_failure_is_tried_again_later_and_later_until_it_is_not_one() {
        let (mut queue, mut now) = (Queue::new(), Instant::now());
        queue.add(1);
        for pause in PAUSES.into_iter().chain([PAUSES[4]]) {
            assert_eq!(objects(&queue.begin(now, |_| Some(())).0), [1]);
            queue.failed(1, now);
            assert_eq!(queue.begin(now, |_| Some(())).1, Some(pause));
            now += pause;
        }
        queue.begin(now, |_| Some(()));
        queue.written(&1, now);
        queue.add(1);
        queue.begin(now + REST, |_| Some(()));
        assert_eq!(queue.failed(1, now + REST), 0, "it begins anew");
    }
}
