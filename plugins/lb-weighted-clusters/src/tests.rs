use Readiness::{Draining, NotReady, Ready};
use causeway_policy::lb::{Algorithm, Needs, Readiness};
use causeway_policy::testing::{Backend, backend, check_lb, decide, inspect, question, show};
use proptest::prelude::*;

use super::*;

const THREE: &str = r#"{"clusters": {"east": 90, "west": 9, "south": 1}}"#;

fn with(config: &str, backends: impl IntoIterator<Item = Backend>) -> Question {
    Question { config: config.into(), ..question(backends) }
}

fn decided(asked: &Question) -> Decision {
    let decision = decide::<LbWeightedClusters>(asked).expect("the configuration is well");
    check_lb(asked, &decision).expect("the decision holds to the rules");
    decision
}

fn shown(config: &str, backends: impl IntoIterator<Item = Backend>) -> Vec<String> {
    let asked = with(config, backends);
    show(&asked, &decided(&asked))
}

/// One endpoint in each of three clusters, two of them in the same place.
fn three() -> [Backend; 3] {
    [backend(1).of("east").at("eu", "a"), backend(2).of("west").at("us", "a"), backend(3).of("south").at("eu", "a")]
}

#[test]
fn shares_are_by_cluster_even_where_clusters_share_a_place() {
    assert_eq!(shown(THREE, three()), ["0 eu/a 91: 1*90 3*1", "0 us/a 9: 2*9"]);
    let more = three().into_iter().chain([backend(4).of("east").at("us", "a").weight(2)]);
    assert_eq!(shown(THREE, more), ["0 eu/a 31: 1*30 3*1", "0 us/a 69: 2*9 4*60"]);
    let decision = decided(&with(THREE, three()));
    assert_eq!((decision.algorithm, decision.drop_per_million), (Algorithm::RoundRobin, 0));
}

#[test]
fn the_share_of_a_cluster_without_endpoints_goes_to_the_others_in_proportion() {
    let without = |key: u64| three().into_iter().filter(move |one| one.key != key);
    assert_eq!(shown(THREE, without(1)), ["0 eu/a 1: 3*1", "0 us/a 9: 2*9"]);
    assert_eq!(shown(THREE, without(3)), ["0 eu/a 10: 1*10", "0 us/a 1: 2*1"]);
    // One that cannot be reached or is not ready counts as gone; one that drains finishes what it has.
    let [east, west, south] = three();
    let asked = [east.clone().state(NotReady), west.clone(), south.clone()];
    assert_eq!(shown(THREE, asked), ["0 eu/a 1: 3*1", "0 us/a 9: 2*9"]);
    let asked = [east.clone().state(Draining), west.clone(), south.clone()];
    assert_eq!(shown(THREE, asked), ["0 eu/a 1: 3*1", "0 us/a 9: 2*9", "1 eu/a 1: -1*1"]);
    assert_eq!(shown(THREE, [east.network("far"), west, south]), ["0 eu/a 1: 3*1", "0 us/a 9: 2*9"]);
}

#[test]
fn an_order_says_who_gets_the_share() {
    let ordered = r#"{"clusters": {"east": 90, "west": 9, "south": 1}, "failover": ["north", "south", "west"]}"#;
    let [east, west, south] = three();
    assert_eq!(shown(ordered, [west.clone(), south.clone()]), ["0 eu/a 91: 3*91", "0 us/a 9: 2*9"]);
    assert_eq!(shown(ordered, [east.clone(), west.clone()]), ["0 eu/a 9: 1*9", "0 us/a 1: 2*1"]);
    // One that has no share of its own gets what fails over.
    let north = backend(4).of("north").at("eu", "n");
    let all = [east.clone(), west, south, north.clone()];
    assert_eq!(shown(ordered, all), ["0 eu/a 91: 1*90 3*1", "0 us/a 9: 2*9"]);
    assert_eq!(shown(ordered, [east, north]), ["0 eu/a 9: 1*9", "0 eu/n 1: 4*1"]);
}

#[test]
fn without_failover_a_share_is_refused() {
    let never = r#"{"clusters": {"east": 90, "west": 9, "south": 1}, "failover": false}"#;
    let dropped = |backends: Vec<Backend>| decided(&with(never, backends)).drop_per_million;
    let [east, west, south] = three();
    assert_eq!(dropped(vec![east.clone(), west.clone(), south]), 0);
    assert_eq!(dropped(vec![west]), 910_000);
    assert_eq!(dropped(vec![east]), 100_000);
    assert_eq!(dropped(vec![backend(4).of("north")]), 1_000_000);
}

#[test]
fn some_clusters_stand_by() {
    let config = r#"{"clusters": {"east": 1, "west": 0}}"#;
    let [east, west, south] = three();
    assert_eq!(shown(config, [east, west.clone(), south.clone()]), ["0 eu/a 1: 1*1"]);
    assert_eq!(shown(config, [west.clone(), south.clone()]), ["0 us/a 1: 2*1"]);
    assert_eq!(shown(config, [south.clone()]), ["0 eu/a 1: 3*1"]);
    assert_eq!(shown("null", [west, south.weight(5)]), ["0 eu/a 5: 3*5", "0 us/a 1: 2*1"]);
    assert_eq!(shown(config, []), Vec::<String>::new());
}

#[test]
fn shares_hold_with_ten_thousand_endpoints() {
    // Numbers of endpoints without a common divisor, and weights of their own.
    let of = |cluster: &'static str, count: u64, first: u64| {
        (first..first + count).map(move |key| {
            let zone = ["a", "b", "c"][key as usize % 3];
            backend(key).of(cluster).at("eu", zone).weight(1 + (key % 7) as u32)
        })
    };
    let asked = with(THREE, of("east", 6007, 0).chain(of("west", 2999, 10_000)).chain(of("south", 994, 20_000)));
    let decision = decided(&asked);
    let mut sums = [0u64; 3];
    for (endpoint, weight) in decision.endpoints.iter().zip(&decision.weights) {
        sums[asked.endpoint(*endpoint).cluster_index() as usize] += u64::from(*weight);
    }
    let all: u64 = sums.iter().sum();
    for (sum, share) in sums.into_iter().zip([0.9, 0.09, 0.01]) {
        assert!((sum as f64 / all as f64 - share).abs() < 1e-6, "{sums:?}");
    }
    // A group's weight is what its endpoints have, so that their shares multiply to their weights.
    let mut at = 0;
    for group in &decision.groups {
        let range = at..at + group.count as usize;
        at = range.end;
        assert_eq!(decision.weights[range].iter().sum::<u32>(), group.weight);
    }
}

#[test]
fn a_configuration_is_read_strictly() {
    for well in ["null", THREE, r#"{"clusters": {"east": 1}, "failover": true, "algorithm": "Maglev"}"#] {
        assert_eq!(inspect::<LbWeightedClusters>(well), Ok(Needs { buckets: 1 }), "{well}");
    }
    for (config, said) in [
        (r#"{"clusters": {"east": 10001}}"#, "clusters.east: 10001 is not within 0 to 10000"),
        (
            r#"{"clusters": {"east": 0}}"#,
            "clusters: none has a share; give one at least 1, such as `{east: 90, west: 10}`",
        ),
        (
            r#"{"clusters": ["east"]}"#,
            "clusters: [\"east\"] is not what it can be; use a mapping of clusters to their shares, such as `{east: 90, west: 10}`",
        ),
        (
            r#"{"failover": "west"}"#,
            "failover: \"west\" is not what it can be; use `true`, `false` or a list of clusters",
        ),
        (r#"{"failover": ["west", "west"]}"#, "failover[1]: `west` is there twice; remove one of the two"),
        (
            r#"{"algorithm": "Random"}"#,
            "algorithm: \"Random\" is not what it can be; use `RoundRobin`, `RingHash` or `Maglev`",
        ),
        (
            r#"{"weights": {}}"#,
            "`lb-weighted-clusters` has no setting `weights`; use `clusters`, `failover` or `algorithm`",
        ),
    ] {
        assert_eq!(inspect::<LbWeightedClusters>(config), Err(said.to_owned()), "{config}");
    }
}

fn any_backend() -> impl Strategy<Value = Backend> {
    let state = prop::sample::select(vec![Ready, Draining, NotReady]);
    let places = || prop::sample::select(vec!["", "eu", "us"]);
    let clusters = prop::sample::select(vec!["east", "west", "south", "north"]);
    (0u64..30, state, places(), places(), clusters, 1u32..1000).prop_map(
        |(key, state, region, zone, cluster, weight)| {
            backend(key).at(region, zone).of(cluster).state(state).weight(weight)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_decision_holds_to_the_rules(
        backends in prop::collection::vec(any_backend(), 0..30),
        config in prop::sample::select(vec![
            "null",
            THREE,
            r#"{"clusters": {"east": 7, "west": 0}, "failover": ["north", "south"]}"#,
            r#"{"clusters": {"east": 7, "south": 3}, "failover": false}"#,
        ]),
    ) {
        let asked = with(config, backends);
        let decision = decide::<LbWeightedClusters>(&asked).expect("the configuration is well");
        prop_assert_eq!(check_lb(&asked, &decision), Ok(()));
    }
}
