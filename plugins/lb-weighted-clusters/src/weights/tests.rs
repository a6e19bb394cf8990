use proptest::prelude::*;

use super::*;

fn cluster(share: u64, sum: u64) -> Cluster<'static> {
    Cluster { name: "", share, sum }
}

fn totals(clusters: &[Cluster<'_>]) -> Vec<u64> {
    scales(clusters).iter().map(|scale| scale.total).collect()
}

#[test]
fn small_numbers_stay_small() {
    assert_eq!(totals(&[cluster(90, 1), cluster(9, 1), cluster(1, 1)]), [90, 9, 1]);
    assert_eq!(totals(&[cluster(50, 3), cluster(50, 3)]), [3, 3]);
    assert_eq!(totals(&[cluster(90, 4), cluster(9, 3), cluster(1, 2)]), [180, 18, 2]);
    assert_eq!(totals(&[cluster(90, 4), cluster(0, 3), cluster(10, 0)]), [4, 0, 0]);
    assert_eq!(totals(&[]), Vec::<u64>::new());
}

#[test]
fn sums_without_a_common_multiple_are_rounded() {
    // Primes: their product has 30 digits.
    let sums = [9973, 9967, 9949, 9941, 9931, 9929, 9923, 9907];
    let clusters: Vec<Cluster<'_>> = sums.into_iter().map(|sum| cluster(1, sum)).collect();
    assert_eq!(totals(&clusters), [ROUNDED / 8; 8]);
    // A share so small that each endpoint has only the least weight there is.
    assert_eq!(totals(&[cluster(10_000, 9973), cluster(1, 7_000_001)])[1], 7_000_001);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn weights_are_in_the_proportion_of_the_shares(
        clusters in prop::collection::vec((0u64..100, prop::collection::vec(1u32..1000, 0..40)), 1..8),
    ) {
        let shares: Vec<Cluster<'_>> = clusters
            .iter()
            .map(|(share, own)| cluster(*share, own.iter().map(|weight| u64::from(*weight)).sum()))
            .collect();
        let used: u64 = shares.iter().filter(|c| c.sum > 0).map(|c| c.share).sum();
        let mut sums = Vec::new();
        for ((share, own), mut scale) in clusters.iter().zip(scales(&shares)) {
            let weights: Vec<u32> = own.iter().map(|weight| scale.next(*weight)).collect();
            prop_assert!(*share == 0 || weights.iter().all(|weight| *weight > 0));
            sums.push(weights.into_iter().map(u64::from).sum::<u64>());
        }
        let all: u64 = sums.iter().sum();
        prop_assert!(all <= u64::from(u32::MAX));
        for ((share, own), sum) in clusters.iter().zip(sums).filter(|((share, own), _)| *share > 0 && !own.is_empty()) {
            // To a millionth of the whole, and in most cases exactly.
            let (wanted, got) = (*share as f64 / used as f64, sum as f64 / all as f64);
            prop_assert!((wanted - got).abs() < 1e-6, "{wanted} {got} of {own:?}");
        }
    }
}
