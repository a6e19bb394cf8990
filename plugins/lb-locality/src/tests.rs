use Readiness::{Draining, NotReady, Ready};
use causeway_policy::lb::{self, Readiness};
use causeway_policy::testing::{Backend, backend, check_lb, decide, inspect, question, show};
use proptest::prelude::*;

use super::*;
use crate::config::Algorithm;

fn shown(asked: &Question) -> Vec<String> {
    let decision = decide::<LbLocality>(asked).expect("the configuration is well");
    check_lb(asked, &decision).expect("the decision holds to the rules");
    show(asked, &decision)
}

fn with(config: &str, backends: impl IntoIterator<Item = Backend>) -> Question {
    Question { config: config.into(), ..question(backends) }
}

#[test]
fn the_clients_region_comes_first() {
    let asked = question([
        backend(1).at("us", "a"),
        backend(2).at("eu", "b"),
        backend(3).at("eu", "a"),
        backend(4).at("eu", "a"),
        backend(5).at("eu", "a").state(NotReady),
    ]);
    assert_eq!(shown(&asked), ["0 eu/a 2: 3*1 4*1", "0 eu/b 1: 2*1", "1 us/a 1: 1*1"]);
    let decision = decide::<LbLocality>(&asked).unwrap();
    assert_eq!(decision.algorithm, lb::Algorithm::LeastRequest(2));
    assert_eq!((decision.overprovisioning_percent, decision.panic_threshold_percent), (140, 1));
    assert_eq!(Decision { groups: vec![], endpoints: vec![], ..decision }, Decision::default());
}

#[test]
fn without_a_ready_endpoint_near_all_regions_are_alike() {
    let far = [backend(1).at("us", "a"), backend(2).at("ap", "a"), backend(3).at("eu", "a").state(Draining)];
    assert_eq!(shown(&question(far)), ["0 ap/a 1: 2*1", "0 us/a 1: 1*1", "1 eu/a 1: -3*1"]);
    let mut nowhere = question([backend(1), backend(2).at("us", "a")]);
    nowhere.client.locality = Locality { region: String::new(), zone: String::new() };
    assert_eq!(shown(&nowhere), ["0 / 1: 1*1", "0 us/a 1: 2*1"]);
}

#[test]
fn draining_endpoints_stand_last_and_weigh_on_nothing() {
    let asked = [backend(1).at("eu", "a"), backend(2).at("eu", "a").state(Draining), backend(3).at("us", "a")];
    assert_eq!(shown(&question(asked)), ["0 eu/a 1: 1*1", "1 us/a 1: 3*1", "2 eu/a 1: -2*1"]);
}

#[test]
fn the_last_draining_endpoint_still_serves() {
    let gone = backend(2).at("eu", "a").state(NotReady);
    assert_eq!(shown(&question([backend(1).at("eu", "a").state(Draining), gone.clone()])), ["0 eu/a 1: 1*1"]);
    assert_eq!(shown(&question([gone])), Vec::<String>::new());
}

#[test]
fn other_networks_serve_only_where_there_is_no_other_way() {
    let far = || backend(1).at("eu", "a").of("west").network("other");
    let both = question([far(), backend(2).at("us", "a")]);
    assert_eq!(shown(&both), ["0 us/a 1: 2*1"]);
    assert_eq!(shown(&question([far()])), ["0 eu/a 1: 1*1"]);
    let mut anywhere = both;
    anywhere.client.network = None;
    assert_eq!(shown(&anywhere), ["0 eu/a 1: 1*1", "1 us/a 1: 2*1"]);
    // The same address in two networks: an Envoy can only have one of them.
    let mut twice = question([backend(1).at("eu", "a"), far()]);
    twice.client.network = None;
    assert_eq!(shown(&twice), ["0 eu/a 1: 1*1"]);
}

#[test]
fn weights_are_shares_of_endpoints_and_of_localities() {
    let asked = [backend(1).at("eu", "a").weight(7), backend(2).at("eu", "a"), backend(3).at("eu", "b")];
    assert_eq!(shown(&question(asked)), ["0 eu/a 8: 1*7 2*1", "0 eu/b 1: 3*1"]);
}

/// An endpoint in each of these places; the client is at `eu/a`.
fn spread() -> [Backend; 5] {
    [
        backend(1).at("ap", "a"),
        backend(2).at("us", "a"),
        backend(3).at("eu", "b"),
        backend(4).at("eu", "a"),
        backend(5).at("sa", "a"),
    ]
}

#[test]
fn zone_then_region_then_the_others() {
    let asked = with(r#"{"localityPriority": "Zone"}"#, spread());
    let expected = ["0 eu/a 1: 4*1", "1 eu/b 1: 3*1", "2 ap/a 1: 1*1", "2 sa/a 1: 5*1", "2 us/a 1: 2*1"];
    assert_eq!(shown(&asked), expected);
    let mut no_zone = asked;
    no_zone.client.locality.zone.clear();
    assert_eq!(shown(&no_zone)[..2], ["0 eu/a 1: 4*1", "0 eu/b 1: 3*1"]);
    let elsewhere = with(r#"{"localityPriority": "Zone"}"#, spread().into_iter().filter(|b| b.zone != "a"));
    assert_eq!(shown(&elsewhere), ["0 eu/b 1: 3*1"]);
}

#[test]
fn regions_fail_over_in_their_order() {
    let asked = with(r#"{"failover": ["us", "nowhere", "eu", "ap"]}"#, spread());
    let expected = ["0 eu/a 1: 4*1", "0 eu/b 1: 3*1", "1 us/a 1: 2*1", "2 ap/a 1: 1*1", "3 sa/a 1: 5*1"];
    assert_eq!(shown(&asked), expected);
    // The same order serves every client: one in `ap` has its own region first, and then `us`.
    let mut elsewhere = asked;
    elsewhere.client.locality = Locality { region: "ap".into(), zone: "c".into() };
    let expected = ["0 ap/a 1: 1*1", "1 us/a 1: 2*1", "2 eu/a 1: 4*1", "2 eu/b 1: 3*1", "3 sa/a 1: 5*1"];
    assert_eq!(shown(&elsewhere), expected);
    elsewhere.client.locality.region.clear();
    assert_eq!(shown(&elsewhere)[0], "0 us/a 1: 2*1");
}

#[test]
fn a_configuration_is_read_strictly() {
    for well in ["null", "{}", r#"{"algorithm": "Maglev", "localityPriority": "None", "failover": []}"#] {
        assert_eq!(inspect::<LbLocality>(well), Ok(lb::Needs { buckets: 1 }), "{well}");
    }
    let many = format!("{{\"failover\": {:?}}}", (0..65).map(|i| format!("r{i}")).collect::<Vec<_>>());
    for (config, said) in [
        (
            r#"{"algorithm": "Best"}"#,
            "algorithm: \"Best\" is not what it can be; use `RoundRobin`, `LeastRequest`, `RingHash`, `Maglev` or `Random`",
        ),
        (r#"{"algorythm": "Random"}"#, "`lb-locality` has no setting `algorythm`; did you mean `algorithm`?"),
        (r#"{"overprovisioningPercent": 99}"#, "overprovisioningPercent: 99 is not within 100 to 1000"),
        (r#"{"panicThresholdPercent": 101}"#, "panicThresholdPercent: 101 is not within 0 to 100"),
        (
            r#"{"panicThresholdPercent": -1}"#,
            "panicThresholdPercent: -1 is not what it can be; use a whole number from 0 to 100",
        ),
        (
            r#"{"localityPriority": "Node"}"#,
            "localityPriority: \"Node\" is not what it can be; use `Zone`, `Region` or `None`",
        ),
        (r#"{"failover": "us"}"#, "failover: \"us\" is not what it can be; use a list of regions"),
        (r#"{"failover": ["us", "eu", "us"]}"#, "failover[2]: `us` is there twice; remove one of the two"),
        (r#"{"failover": [""]}"#, "failover[0]: a region has a name"),
        (
            r#"{"failover": ["us"], "localityPriority": "None"}"#,
            "failover: with `localityPriority: None` all regions are alike; use `localityPriority: Region` or `Zone`, or leave the order out",
        ),
        (&many, "failover: 65 regions are more than 64"),
        ("[]", "the configuration is no mapping; write `{}` or settings by name"),
        ("\"Random\"", "the configuration is no mapping; write `{}` or settings by name"),
    ] {
        assert_eq!(inspect::<LbLocality>(config), Err(said.to_owned()), "{config}");
        assert_eq!(decide::<LbLocality>(&with(config, [])), Err(said.to_owned()), "{config}");
    }
}

#[test]
fn a_configuration_decides() {
    let config = r#"{"localityPriority": "None", "algorithm": "RingHash", "overprovisioningPercent": 200, "panicThresholdPercent": 50}"#;
    let asked = with(config, [backend(1).at("us", "a"), backend(2).at("eu", "a")]);
    assert_eq!(shown(&asked), ["0 eu/a 1: 2*1", "0 us/a 1: 1*1"]);
    let decision = decide::<LbLocality>(&asked).unwrap();
    assert_eq!(decision.algorithm, lb::Algorithm::RingHash(lb::Ring { minimum: 1024, maximum: 8_388_608 }));
    assert_eq!((decision.overprovisioning_percent, decision.panic_threshold_percent), (200, 50));
    for (name, algorithm) in [
        (Algorithm::RoundRobin, lb::Algorithm::RoundRobin),
        (Algorithm::LeastRequest, lb::Algorithm::LeastRequest(2)),
        (Algorithm::Maglev, lb::Algorithm::Maglev(65_537)),
        (Algorithm::Random, lb::Algorithm::Random),
    ] {
        let asked = with(&format!("{{\"algorithm\": \"{name:?}\"}}"), []);
        assert_eq!(decide::<LbLocality>(&asked).unwrap().algorithm, algorithm);
    }
}

fn any_backend() -> impl Strategy<Value = Backend> {
    let state = prop::sample::select(vec![Ready, Draining, NotReady]);
    let places = || prop::sample::select(vec!["", "eu", "us", "ap"]);
    (0u64..12, state, places(), places(), any::<bool>(), 1u32..3).prop_map(|(key, state, region, zone, far, weight)| {
        let one = backend(key).at(region, zone).state(state).weight(weight);
        if far { one.of("west").network("other") } else { one }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_decision_holds_to_the_rules(
        backends in prop::collection::vec(any_backend(), 0..12),
        network in prop::sample::select(vec![None, Some("flat"), Some("nowhere")]),
        (region, zone) in prop::sample::select(vec![("", ""), ("eu", ""), ("eu", "us"), ("sa", "eu")]),
        config in prop::sample::select(vec![
            "null",
            r#"{"localityPriority": "Zone", "failover": ["ap", "us"]}"#,
            r#"{"localityPriority": "None"}"#,
        ]),
    ) {
        let mut asked = with(config, backends);
        asked.client.network = network.map(Into::into);
        asked.client.locality = Locality { region: region.into(), zone: zone.into() };
        let decision = decide::<LbLocality>(&asked).expect("the configuration is well");
        prop_assert_eq!(check_lb(&asked, &decision), Ok(()));
        // What the client can use is used, and nothing else.
        let usable = asked.usable();
        let drained = decision.groups.iter().filter(|group| group.draining).map(|group| group.count).sum::<u32>();
        prop_assert_eq!(drained as usize, usable.draining.len());
        prop_assert_eq!(decision.endpoints.len(), usable.ready.len() + usable.draining.len());
    }
}
