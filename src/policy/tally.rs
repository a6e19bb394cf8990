//! What became of policies' calls, for people and metrics.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::component::{Answer, Digest};
use super::engine::Line;
use crate::model::Timestamp;
use crate::model::policy::World;

/// Lines that are kept of each policy.
const MOST_LINES: usize = 256;

/// How long calls took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// Calls that took at most as long as the [`Times::BOUNDS`] of the same place, and longer than the one before it.
    pub counts: [u64; Times::BOUNDS.len()],
    /// Calls that took longer than the last.
    pub longer: u64,
    /// All calls.
    pub sum: Duration,
}

impl Times {
    /// In µs: from a guest that does little to one that is stopped by its fuel on a busy core.
    pub const BOUNDS: [u64; 13] = [10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000];

    fn add(&mut self, took: Duration) {
        self.sum = self.sum.saturating_add(took);
        match Self::BOUNDS.iter().position(|bound| took <= Duration::from_micros(*bound)) {
            Some(place) => self.counts[place] += 1,
            None => self.longer += 1,
        }
    }
}

/// What became of a policy's calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Calls.
    pub calls: u64,
    /// Questions that were answered from the memo.
    pub memo_hits: u64,
    /// Answers that could not be used, by [`CallError::reason`](super::CallError::reason).
    pub failures: BTreeMap<&'static str, u64>,
    /// Decisions that others made in its place, by the reason why it did not.
    pub fallbacks: BTreeMap<&'static str, u64>,
    /// Fuel, of all calls.
    pub fuel_used: u64,
    /// Subjects about which it is not asked for a while, because it failed about them several times in a row.
    pub circuits_open: u64,
    /// How long its calls took.
    pub times: Times,
    /// The last failure, and when.
    pub last_failure: Option<(Timestamp, String)>,
}

impl Counts {
    /// A failure, for `reason`.
    pub(super) fn failed(&mut self, reason: &'static str, message: String, now: Timestamp) {
        *self.failures.entry(reason).or_default() += 1;
        self.last_failure = Some((now, message));
    }
}

/// What is told of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tallied {
    /// Its name.
    pub name: Arc<str>,
    /// What is in force under the name; `None` where it is gone, and was asked for since.
    pub in_force: Option<(World, Digest)>,
    /// What became of its calls.
    pub counts: Counts,
}

/// What is known of a policy.
#[derive(Clone, Debug, Default)]
struct Record {
    in_force: Option<(World, Digest)>,
    counts: Counts,
    lines: VecDeque<(Timestamp, Line)>,
}

/// What became of the calls of all policies. Clones share it, and read it while decisions are made.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    records: Arc<Mutex<BTreeMap<Arc<str>, Record>>>,
}

impl Tally {
    fn records(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Record>> {
        // Each change leaves it whole.
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All policies, by name.
    pub fn all(&self) -> Vec<Tallied> {
        let told = |(name, record): (&Arc<str>, &Record)| Tallied {
            name: name.clone(),
            in_force: record.in_force,
            counts: record.counts.clone(),
        };
        self.records().iter().map(told).collect()
    }

    /// What became of a policy's calls.
    pub(super) fn counts(&self, name: &str) -> Counts {
        self.records().get(name).map(|record| record.counts.clone()).unwrap_or_default()
    }

    /// What a policy wrote last, oldest first.
    pub(super) fn lines(&self, name: &str) -> Vec<(Timestamp, Line)> {
        self.records().get(name).map(|record| record.lines.iter().cloned().collect()).unwrap_or_default()
    }

    /// Changes the counts of a policy.
    pub(super) fn count(&self, name: &Arc<str>, change: impl FnOnce(&mut Counts)) {
        let mut records = self.records();
        match records.get_mut(name) {
            Some(record) => change(&mut record.counts),
            None => change(&mut records.entry(name.clone()).or_default().counts),
        }
    }

    /// Changes the counts of a policy, where it is known.
    pub(super) fn count_known(&self, name: &str, change: impl FnOnce(&mut Counts)) {
        if let Some(record) = self.records().get_mut(name) {
            change(&mut record.counts);
        }
    }

    /// Notes an answer that took so long.
    pub(super) fn note<T>(&self, name: &Arc<str>, answer: &Answer<T>, took: Duration, now: Timestamp) {
        let mut records = self.records();
        let record = records.entry(name.clone()).or_default();
        record.counts.calls += 1;
        record.counts.times.add(took);
        record.counts.fuel_used = record.counts.fuel_used.saturating_add(answer.fuel_used);
        if let Err(error) = &answer.outcome {
            record.counts.failed(error.reason(), error.to_string(), now);
        }
        for line in &answer.lines {
            if record.lines.len() == MOST_LINES {
                record.lines.pop_front();
            }
            record.lines.push_back((now, line.clone()));
        }
    }

    /// A policy is in force.
    pub(super) fn put(&self, name: &Arc<str>, world: World, digest: Digest) {
        self.records().entry(name.clone()).or_default().in_force = Some((world, digest));
    }

    /// A policy is gone, and what was counted of it.
    pub(super) fn remove(&self, name: &str) {
        self.records().remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_counted_where_they_belong() {
        let mut times = Times::default();
        for took in [0, 9_999, 10_000, 10_001, 100_000_000, 100_000_001] {
            times.add(Duration::from_nanos(took));
        }
        assert_eq!((times.counts[0], times.counts[1], times.counts[12], times.longer), (3, 1, 1, 1));
        assert_eq!(times.sum, Duration::from_nanos(200_030_001));
        assert!(Times::BOUNDS.is_sorted());
    }

    #[test]
    fn what_is_gone_is_counted_no_more() {
        let (tally, name): (_, Arc<str>) = (Tally::default(), "mine".into());
        let digest = Digest::of(b"");
        tally.put(&name, World::Lb, digest);
        tally.count(&name, |counts| counts.memo_hits += 2);
        let counts = Counts { memo_hits: 2, ..Counts::default() };
        assert_eq!(tally.all(), [Tallied { name: name.clone(), in_force: Some((World::Lb, digest)), counts }]);
        tally.remove(&name);
        assert_eq!(tally.all().len(), 0);
        assert_eq!(tally.counts("mine"), Counts::default());
    }
}
