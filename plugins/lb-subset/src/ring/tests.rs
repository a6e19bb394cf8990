use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn some(count: u64) -> Vec<Endpoint> {
    (1..=count).map(|i| Endpoint { key: i, weight: 1 }).collect()
}

fn all(endpoints: &[Endpoint], buckets: u32, size: u32) -> Vec<Vec<u32>> {
    (0..buckets).map(|bucket| weights(endpoints, bucket, buckets, size)).collect()
}

fn members(weights: &[u32]) -> usize {
    weights.iter().filter(|weight| **weight > 0).count()
}

/// What each endpoint gets of the traffic of all buckets, if these have as much of it each, by what it should get.
fn loads(endpoints: &[Endpoint], buckets: u32, size: u32) -> Vec<f64> {
    let all = all(endpoints, buckets, size);
    let sums: Vec<f64> = all.iter().map(|weights| weights.iter().map(|weight| f64::from(*weight)).sum()).collect();
    let whole: f64 = endpoints.iter().map(|endpoint| f64::from(endpoint.weight)).sum();
    let load = |i: usize| all.iter().zip(&sums).map(|(weights, sum)| f64::from(weights[i]) / sum).sum::<f64>();
    let wanted = |i: usize| f64::from(endpoints[i].weight) / whole;
    (0..endpoints.len()).map(|i| load(i) / f64::from(buckets) / wanted(i)).collect()
}

#[test]
fn few_endpoints_are_everyones() {
    let three = [Endpoint { key: 7, weight: 1 }, Endpoint { key: 8, weight: 5 }, Endpoint { key: 9, weight: 2 }];
    assert_eq!(all(&three, 3, 3), vec![vec![1, 5, 2]; 3]);
    assert_eq!(all(&three, 1, 1), vec![vec![1, 5, 2]]);
    assert_eq!(all(&[], 2, 20), vec![Vec::<u32>::new(); 2]);
}

#[test]
fn buckets_have_about_the_size_that_is_asked_for() {
    for (count, size) in [(21, 20), (40, 20), (100, 20), (159, 20), (160, 20), (168, 21), (1000, 125), (10_000, 1250)] {
        for weights in all(&some(count), 8, 20) {
            assert!(members(&weights).abs_diff(size) <= 1, "{} of {count}", members(&weights));
        }
    }
}

#[test]
fn all_endpoints_get_the_same_share() {
    for count in [5, 21, 40, 75, 100, 159, 160, 161, 400, 1000] {
        for load in loads(&some(count), 8, 20) {
            assert!((load - 1.0).abs() < 0.01, "{count}: {load}");
        }
    }
}

#[test]
fn little_changes_when_endpoints_come_and_go() {
    let mut means = Vec::new();
    for count in [19u64, 30, 60, 100, 150, 165, 300, 1000] {
        let (mut changes, mut most) = (0, 0);
        for i in 0..20 {
            // They come in the order of their keys, and the ring's order is another.
            let (before, after) = (some(count + i), some(count + i + 1));
            for (before, after) in all(&before, 8, 20).iter().zip(all(&after, 8, 20)) {
                let changed = (0..after.len()).filter(|i| (before.get(*i).is_some_and(|w| *w > 0)) != (after[*i] > 0));
                let changed = changed.count();
                (changes, most) = (changes + changed, most.max(changed));
            }
        }
        assert!(most <= 4, "one bucket of {count} changes {most} of its endpoints");
        means.push(f64::from(changes as u32) / 160.0);
    }
    // In the mean one or two of a bucket's 20 come or go.
    assert!(means.iter().all(|mean| *mean < 2.0), "{means:?}");
}

#[test]
fn a_bucket_mixes_what_lies_together() {
    // Keys that count up, as if of one zone after the other.
    let weights = weights(&some(1000), 3, 8, 20);
    let first_half = weights[..500].iter().filter(|weight| **weight > 0).count();
    assert!((40..=85).contains(&first_half), "{first_half} of {}", members(&weights));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_endpoint_is_used_by_some_bucket(
        endpoints in prop::collection::btree_map(any::<u64>(), 1u32..=1000, 1..200),
        buckets in 1u32..=64,
        size in 1u32..50,
    ) {
        let endpoints: Vec<Endpoint> = endpoints.into_iter().map(|(key, weight)| Endpoint { key, weight }).collect();
        let mut used = BTreeSet::new();
        for weights in all(&endpoints, buckets, size) {
            prop_assert!(weights.iter().map(|weight| u64::from(*weight)).sum::<u64>() <= u64::from(u32::MAX));
            prop_assert!(members(&weights) > 0);
            used.extend((0..weights.len()).filter(|i| weights[*i] > 0));
        }
        prop_assert_eq!(used.len(), endpoints.len());
    }

    #[test]
    fn shares_are_by_weight(
        endpoints in prop::collection::btree_map(any::<u64>(), 100u32..=1000, 1..60),
        buckets in 1u32..=16,
        size in 1u32..50,
    ) {
        let endpoints: Vec<Endpoint> = endpoints.into_iter().map(|(key, weight)| Endpoint { key, weight }).collect();
        for load in loads(&endpoints, buckets, size) {
            prop_assert!((load - 1.0).abs() < 0.01, "{load}");
        }
    }

    #[test]
    fn the_order_of_the_endpoints_is_nothing(
        endpoints in prop::collection::btree_map(any::<u64>(), 1u32..=1000, 1..60),
        buckets in 1u32..=16,
    ) {
        let endpoints: Vec<Endpoint> = endpoints.into_iter().map(|(key, weight)| Endpoint { key, weight }).collect();
        let reversed: Vec<Endpoint> = endpoints.iter().rev().copied().collect();
        for (mut one, other) in all(&endpoints, buckets, 10).into_iter().zip(all(&reversed, buckets, 10)) {
            one.reverse();
            prop_assert_eq!(one, other);
        }
    }
}
