use Readiness::{Draining, NotReady, Ready};
use causeway_policy::lb::Readiness;
use causeway_policy::testing::{Backend, backend, check_lb, decide, inspect, question, show};
use proptest::prelude::*;

use super::*;

fn with(config: &str, bucket: u32, buckets: u32, backends: impl IntoIterator<Item = Backend>) -> Question {
    let mut asked = Question { config: config.into(), ..question(backends) };
    (asked.client.bucket, asked.client.buckets) = (bucket, buckets);
    asked
}

#[test]
fn each_bucket_has_its_own_endpoints() {
    let backends = || (0..4).map(|key| backend(key).at("eu", "a").weight(1 + key as u32));
    let of = |bucket| {
        let asked = with(r#"{"buckets": 2, "size": 2}"#, bucket, 2, backends());
        let decision = decide::<LbSubset>(&asked).expect("the configuration is well");
        check_lb(&asked, &decision).expect("the decision holds to the rules");
        decision.endpoints
    };
    let mut both: Vec<u32> = of(0).into_iter().chain(of(1)).collect();
    both.sort_unstable();
    assert_eq!(both, [0, 1, 2, 3]);
}

#[test]
fn what_is_not_ready_is_nobodys_and_what_drains_is_everyones() {
    let backends = || {
        [
            backend(1).at("eu", "a"),
            backend(2).at("us", "b").weight(7),
            backend(3).state(NotReady),
            backend(4).at("eu", "a").state(Draining),
        ]
    };
    for bucket in 0..8 {
        let asked = with("null", bucket, 8, backends());
        let decision = decide::<LbSubset>(&asked).expect("the configuration is well");
        assert_eq!(show(&asked, &decision), ["0 eu/a 1: 1*1", "0 us/b 7: 2*7", "1 eu/a 1: -4*1"]);
    }
}

#[test]
fn a_configuration_says_how_nodes_are_divided() {
    assert_eq!(inspect::<LbSubset>("null"), Ok(Needs { buckets: 8 }));
    assert_eq!(
        inspect::<LbSubset>(r#"{"buckets": 64, "size": 3, "algorithm": "RoundRobin"}"#),
        Ok(Needs { buckets: 64 })
    );
    for (config, said) in [
        (r#"{"buckets": 65}"#, "buckets: 65 is not within 1 to 64"),
        (r#"{"size": 0}"#, "size: 0 is not within 1 to 10000"),
        (
            r#"{"algorithm": "Random"}"#,
            "algorithm: \"Random\" is not what it can be; use `RoundRobin` or `LeastRequest`",
        ),
        (r#"{"bucket": 1}"#, "`lb-subset` has no setting `bucket`; did you mean `buckets`?"),
    ] {
        assert_eq!(inspect::<LbSubset>(config), Err(said.to_owned()), "{config}");
    }
}

fn any_backend() -> impl Strategy<Value = Backend> {
    let state = prop::sample::select(vec![Ready, Ready, Draining, NotReady]);
    let regions = prop::sample::select(vec!["", "eu", "us"]);
    (0u64..100, state, regions, 1u32..1000)
        .prop_map(|(key, state, region, weight)| backend(key).at(region, "a").state(state).weight(weight))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_decision_holds_to_the_rules(
        backends in prop::collection::vec(any_backend(), 0..60),
        (bucket, buckets) in (1u32..=64).prop_flat_map(|buckets| (0..buckets, Just(buckets))),
        size in 1u32..30,
    ) {
        let asked = with(&format!("{{\"buckets\": {buckets}, \"size\": {size}}}"), bucket, buckets, backends);
        let decision = decide::<LbSubset>(&asked).expect("the configuration is well");
        prop_assert_eq!(check_lb(&asked, &decision), Ok(()));
    }
}
