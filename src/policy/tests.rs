use std::net::SocketAddr;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::model::decision::{
    ClientView, Endpoint, HealthCheck, LbAlgorithm, LbDecision, LbGroup, LbInput, NodeRole, OutlierDetection,
    PoolChoice, Readiness, VipDecision, VipInput,
};
use crate::model::id::NamespacedName;
use crate::model::object::{Family, Locality, Protocol, ServicePort};
use Readiness::{Draining, NotReady, Ready};

fn place(region: &str, zone: &str) -> Locality {
    Locality { region: region.into(), zone: zone.into() }
}

/// An endpoint `10.0.0.<last>:80` of the network `flat`.
fn endpoint(last: u8, readiness: Readiness, region: &str, zone: &str) -> Endpoint {
    Endpoint {
        address: SocketAddr::from(([10, 0, 0, last], 80)),
        cluster: "east".into(),
        network: "flat".into(),
        locality: place(region, zone),
        node: None,
        pod: None,
        readiness,
        stale: false,
        weight: 1,
    }
}

fn input(endpoints: Vec<Endpoint>) -> LbInput {
    LbInput {
        service: NamespacedName::new("shop", "checkout"),
        port: ServicePort { name: "http".into(), port: 80, protocol: Protocol::Http },
        client: ClientView {
            role: NodeRole::Gateway,
            cluster: None,
            network: Some("flat".into()),
            locality: place("eu", "a"),
        },
        bucket: 0,
        buckets: 1,
        endpoints,
        loads: Vec::new(),
        config: Value::Null,
    }
}

/// As `priority region/zone weight: last*weight`, a draining one with `-` before it.
fn show(decision: &LbDecision) -> Vec<String> {
    let group = |g: &crate::model::decision::LbGroup| {
        let endpoint = |e: &crate::model::decision::LbEndpoint| {
            let text = e.address.ip().to_string();
            let last = text.rsplit('.').next().unwrap_or_default();
            format!("{}{last}*{}", if e.draining { "-" } else { "" }, e.weight)
        };
        let endpoints: Vec<String> = g.endpoints.iter().map(endpoint).collect();
        format!("{} {}/{} {}: {}", g.priority, g.locality.region, g.locality.zone, g.weight, endpoints.join(" "))
    };
    decision.groups.iter().map(group).collect()
}

#[test]
fn the_clients_region_comes_first() {
    let decision = lb_default(&input(vec![
        endpoint(1, Ready, "us", "a"),
        endpoint(2, Ready, "eu", "b"),
        endpoint(3, Ready, "eu", "a"),
        endpoint(4, Ready, "eu", "a"),
        endpoint(5, NotReady, "eu", "a"),
    ]));
    assert_eq!(show(&decision), ["0 eu/a 2: 3*1 4*1", "0 eu/b 1: 2*1", "1 us/a 1: 1*1"]);
    assert_eq!((decision.algorithm, decision.overprovisioning_percent), (LbAlgorithm::LEAST_REQUEST, 140));
}

#[test]
fn without_a_ready_endpoint_near_all_regions_are_alike() {
    let far = || vec![endpoint(1, Ready, "us", "a"), endpoint(2, Ready, "ap", "a"), endpoint(3, Draining, "eu", "a")];
    assert_eq!(show(&lb_default(&input(far()))), ["0 ap/a 1: 2*1", "0 us/a 1: 1*1", "1 eu/a 1: -3*1"]);
    let mut nowhere = input(vec![endpoint(1, Ready, "", ""), endpoint(2, Ready, "us", "a")]);
    nowhere.client.locality = place("", "");
    assert_eq!(show(&lb_default(&nowhere)), ["0 / 1: 1*1", "0 us/a 1: 2*1"]);
}

#[test]
fn draining_endpoints_stand_last_and_weigh_on_nothing() {
    let decision = lb_default(&input(vec![
        endpoint(1, Ready, "eu", "a"),
        endpoint(2, Draining, "eu", "a"),
        endpoint(3, Ready, "us", "a"),
    ]));
    assert_eq!(show(&decision), ["0 eu/a 1: 1*1", "1 us/a 1: 3*1", "2 eu/a 1: -2*1"]);
}

#[test]
fn the_last_draining_endpoint_still_serves() {
    let decision = lb_default(&input(vec![endpoint(1, Draining, "eu", "a"), endpoint(2, NotReady, "eu", "a")]));
    assert_eq!(show(&decision), ["0 eu/a 1: 1*1"]);
    let none = lb_default(&input(vec![endpoint(2, NotReady, "eu", "a")]));
    assert_eq!(none.groups, []);
    assert!(check_lb(&input(vec![endpoint(2, NotReady, "eu", "a")]), none).is_ok());
}

#[test]
fn other_networks_serve_only_where_there_is_no_other_way() {
    let mut far = endpoint(1, Ready, "eu", "a");
    far.network = "other".into();
    let both = input(vec![far.clone(), endpoint(2, Ready, "us", "a")]);
    assert_eq!(show(&lb_default(&both)), ["0 us/a 1: 2*1"]);
    assert_eq!(show(&lb_default(&input(vec![far.clone()]))), ["0 eu/a 1: 1*1"]);
    let mut anywhere = both;
    anywhere.client.network = None;
    assert_eq!(show(&lb_default(&anywhere)), ["0 eu/a 1: 1*1", "1 us/a 1: 2*1"]);
    // The same address in two networks: an Envoy can only have one of them.
    anywhere.endpoints = vec![endpoint(1, Ready, "eu", "a"), far];
    assert_eq!(show(&lb_default(&anywhere)), ["0 eu/a 1: 1*1"]);
}

#[test]
fn weights_are_shares_of_endpoints_and_of_localities() {
    let mut heavy = endpoint(1, Ready, "eu", "a");
    heavy.weight = 7;
    let decision = lb_default(&input(vec![heavy, endpoint(2, Ready, "eu", "a"), endpoint(3, Ready, "eu", "b")]));
    assert_eq!(show(&decision), ["0 eu/a 8: 1*7 2*1", "0 eu/b 1: 3*1"]);
}

#[test]
fn a_configuration_is_read_strictly() {
    let read = |config: Value| LbConfig::parse(&config).map_err(|e| e.to_string());
    assert_eq!(read(Value::Null), Ok(LbConfig::default()));
    assert_eq!(read(json!({})), Ok(LbConfig::default()));
    let all = json!({"algorithm": "Maglev", "overprovisioningPercent": 200, "panicThresholdPercent": 10, "localityPriority": "None"});
    let config = LbConfig {
        algorithm: Algorithm::Maglev,
        overprovisioning_percent: 200,
        panic_threshold_percent: 10,
        locality_priority: LocalityPriority::None,
    };
    assert_eq!(read(all), Ok(config));
    for (config, said) in [
        (json!({"algorithm": "Best"}), "unknown variant `Best`"),
        (json!({"algorythm": "Random"}), "unknown field `algorythm`"),
        (json!({"overprovisioningPercent": 99}), "overprovisioningPercent: 99 is not within 100 to 1000"),
        (json!({"panicThresholdPercent": 101}), "panicThresholdPercent: 101 is not within 0 to 100"),
        (json!({"panicThresholdPercent": -1}), "invalid value"),
        (json!([]), "loadBalancing.config"),
        (json!("Random"), "invalid type"),
    ] {
        let error = read(config.clone()).err().unwrap_or_default();
        assert!(error.contains(said) || config.is_array(), "{config}: {error}");
    }
}

#[test]
fn a_configuration_decides() {
    let mut question = input(vec![endpoint(1, Ready, "us", "a"), endpoint(2, Ready, "eu", "a")]);
    question.config = json!({"localityPriority": "None", "algorithm": "RingHash"});
    let decision = lb_default(&question);
    assert_eq!(show(&decision), ["0 eu/a 1: 2*1", "0 us/a 1: 1*1"]);
    assert_eq!(decision.algorithm, LbAlgorithm::RING_HASH);
    question.config = json!({"localityPriority": "Nonsense"});
    assert_eq!(show(&lb_default(&question)), ["0 eu/a 1: 2*1", "1 us/a 1: 1*1"]);
}

#[test]
fn the_envelope_refuses_what_would_hurt() {
    let question = input(vec![
        endpoint(1, Ready, "eu", "a"),
        endpoint(2, Ready, "us", "a"),
        endpoint(3, Draining, "us", "b"),
        endpoint(4, NotReady, "us", "b"),
    ]);
    let good = lb_default(&question);
    assert!(check_lb(&question, good.clone()).is_ok());
    type Change = fn(&mut LbDecision);
    let cases: [(&str, Change); 12] = [
        ("none of the 4 that were given", |d| d.groups[0].endpoints[0].address.set_port(81)),
        ("used twice", |d| d.groups[1].endpoints[0].address = d.groups[0].endpoints[0].address),
        ("no endpoint would get requests, though 3 can be used", |d| d.groups.clear()),
        ("no endpoint would get requests", |d| {
            d.groups.iter_mut().flat_map(|g| &mut g.endpoints).for_each(|e| e.draining = true);
        }),
        ("priority 1 is there, but 0 is not", |d| drop(d.groups.remove(0))),
        ("has no endpoints", |d| d.groups[1].endpoints.clear()),
        ("has the weight 0", |d| d.groups[0].endpoints[0].weight = 0),
        ("has the weight 0", |d| d.groups[0].weight = 0),
        ("comes twice", |d| {
            d.groups[1].priority = 0;
            d.groups[1].locality = d.groups[0].locality.clone();
        }),
        ("add up to more than", |d| {
            d.groups[1].priority = 0;
            (d.groups[0].weight, d.groups[1].weight) = (u32::MAX, 1);
        }),
        ("priority 128 of us/a is above 127", |d| {
            let last = d.groups.remove(1);
            d.groups.push(LbGroup { priority: 128, ..last });
        }),
        ("add up to more than", |d| {
            let other = d.groups[0].endpoints[0].clone();
            let other = crate::model::decision::LbEndpoint { address: ([10, 0, 0, 3], 80).into(), ..other };
            d.groups.pop();
            d.groups[0].endpoints.push(other);
            d.groups[0].endpoints.iter_mut().for_each(|e| e.weight = u32::MAX);
        }),
    ];
    for (said, change) in cases {
        let mut bad = good.clone();
        change(&mut bad);
        let error = check_lb(&question, bad).err().unwrap_or_default();
        assert!(error.contains(said), "{said}: {error}");
    }
}

#[test]
fn the_envelope_knows_the_range_of_every_setting() {
    let question = input(vec![endpoint(1, Ready, "eu", "a")]);
    let good = lb_default(&question);
    let outliers = |change: fn(&mut OutlierDetection)| {
        let mut detection = OutlierDetection {
            consecutive_5xx: 0,
            interval_ms: 100,
            base_ejection_ms: 600_000,
            max_ejection_percent: 1,
        };
        change(&mut detection);
        LbDecision { outlier_detection: Some(detection), ..good.clone() }
    };
    let checked = |change: fn(&mut HealthCheck)| {
        let mut check = HealthCheck {
            path: Some("/healthz?full=1".to_owned()),
            interval_ms: 600_000,
            timeout_ms: 10,
            unhealthy_threshold: 1,
            healthy_threshold: 100,
        };
        change(&mut check);
        LbDecision { health_check: Some(check), ..good.clone() }
    };
    let algorithm = |algorithm| LbDecision { algorithm, ..good.clone() };
    let ring = |minimum, maximum| algorithm(LbAlgorithm::RingHash { minimum, maximum });
    let maglev = |table_size| algorithm(LbAlgorithm::Maglev { table_size });
    let taken = [
        outliers(|_| {}),
        outliers(|d| d.consecutive_5xx = u32::MAX),
        checked(|_| {}),
        checked(|c| c.path = None),
        algorithm(LbAlgorithm::RoundRobin),
        algorithm(LbAlgorithm::LeastRequest { choices: 2 }),
        algorithm(LbAlgorithm::LeastRequest { choices: 64 }),
        ring(1, 1),
        ring(8_388_608, 8_388_608),
        algorithm(LbAlgorithm::RING_HASH),
        maglev(2),
        maglev(5_000_011),
        algorithm(LbAlgorithm::MAGLEV),
        LbDecision { drop_per_million: 1_000_000, ..good.clone() },
        LbDecision { overprovisioning_percent: 1000, panic_threshold_percent: 100, ..good.clone() },
    ];
    for decision in taken {
        assert_eq!(check_lb(&question, decision.clone()), Ok(decision));
    }
    let refused = [
        ("choices of 1 is not within 2 to 64", algorithm(LbAlgorithm::LeastRequest { choices: 1 })),
        ("choices of 65 is not within 2 to 64", algorithm(LbAlgorithm::LeastRequest { choices: 65 })),
        ("minimum of 0 entries is not within 1 to 8388608 entries", ring(0, 1)),
        ("maximum of 8388609 entries is not within 1 to 8388608 entries", ring(1, 8_388_609)),
        ("minimum of 3 entries is above its maximum of 2", ring(3, 2)),
        ("size of 0 entries is not a prime within 2 to 5000011", maglev(0)),
        ("size of 1 entries is not a prime", maglev(1)),
        ("size of 65536 entries is not a prime", maglev(65_536)),
        // A square's one divisor is the last that is tried.
        ("size of 4932841 entries is not a prime", maglev(2221 * 2221)),
        ("size of 5000077 entries is not a prime within 2 to 5000011", maglev(5_000_077)),
        ("size of 4294967295 entries is not a prime", maglev(u32::MAX)),
        ("factor of 99 % is not within 100 to 1000 %", LbDecision { overprovisioning_percent: 99, ..good.clone() }),
        ("factor of 1001 % is not", LbDecision { overprovisioning_percent: 1001, ..good.clone() }),
        ("threshold of 101 % is not within 0 to 100 %", LbDecision { panic_threshold_percent: 101, ..good.clone() }),
        (
            "drop of requests of 1000001 of a million is not within 0 to 1000000 of a million",
            LbDecision { drop_per_million: 1_000_001, ..good.clone() },
        ),
        ("interval of 99 ms is not within 100 to 600000 ms", outliers(|d| d.interval_ms = 99)),
        ("first ejection of 600001 ms is not within", outliers(|d| d.base_ejection_ms = 600_001)),
        ("largest share of 0 % is not within 1 to 100 %", outliers(|d| d.max_ejection_percent = 0)),
        ("largest share of 101 % is not", outliers(|d| d.max_ejection_percent = 101)),
        ("path \"healthz\" does not begin with /", checked(|c| c.path = Some("healthz".to_owned()))),
        ("path \"\" does not", checked(|c| c.path = Some(String::new()))),
        ("path \"/a b\" does not", checked(|c| c.path = Some("/a b".to_owned()))),
        (r#"path "/\r\n" does not"#, checked(|c| c.path = Some("/\r\n".to_owned()))),
        ("check's interval of 99 ms is not", checked(|c| c.interval_ms = 99)),
        ("timeout of 9 ms is not within 10 to 600000 ms", checked(|c| c.timeout_ms = 9)),
        ("unhealthy threshold of 0 is not within 1 to 100", checked(|c| c.unhealthy_threshold = 0)),
        ("healthy threshold of 101 is not within 1 to 100", checked(|c| c.healthy_threshold = 101)),
    ];
    for (said, decision) in refused {
        let error = check_lb(&question, decision).err().unwrap_or_default();
        assert!(error.contains(said), "{said}: {error}");
    }
}

fn vip(requested: Option<&str>, family: Family, pools: &[(&str, Option<&str>)]) -> VipDecision {
    let choice = |&(pool, next): &(&str, Option<&str>)| PoolChoice {
        pool: pool.into(),
        next_free: next.and_then(|text| text.parse().ok()),
        free: 0,
    };
    vip_default(&VipInput {
        access: NamespacedName::new("shop", "checkout"),
        service: NamespacedName::new("shop", "checkout"),
        pod: None,
        family,
        requested: requested.and_then(|text| text.parse().ok()),
        pools: pools.iter().map(choice).collect(),
    })
}

#[test]
fn an_address_is_the_one_asked_for_or_the_first_free_one() {
    let take = |pool: &str, address: &str| VipDecision::Take {
        pool: pool.into(),
        address: address.parse().expect("tests write addresses well"),
    };
    let refuse = |reason: &str| VipDecision::Refuse { reason: reason.to_owned() };
    let pools = [("a", None), ("b", Some("fd00::1")), ("c", Some("10.0.0.1"))];
    assert_eq!(vip(None, Family::V4, &pools), take("c", "10.0.0.1"));
    assert_eq!(vip(None, Family::V6, &pools), take("b", "fd00::1"));
    assert_eq!(vip(Some("10.0.0.1"), Family::V4, &pools), take("c", "10.0.0.1"));
    assert_eq!(vip(Some("10.0.0.9"), Family::V4, &pools), take("a", "10.0.0.9"));
    assert_eq!(vip(None, Family::V4, &pools[..2]), refuse("no IPv4 address is free in a, b"));
    assert_eq!(vip(None, Family::V4, &[]), refuse("there is no pool with IPv4 addresses that namespace shop may use"));
    assert_eq!(vip(Some("10.0.0.9"), Family::V4, &[]), refuse("no pool that may be used has 10.0.0.9"));
}

fn any_endpoint() -> impl Strategy<Value = Endpoint> {
    let readiness = prop::sample::select(vec![Ready, Draining, NotReady]);
    let places = || prop::sample::select(vec!["", "eu", "us"]);
    (0u8..12, readiness, places(), places(), any::<bool>(), 0u32..3).prop_map(
        |(last, readiness, region, zone, other, weight)| {
            let network = if other { "other" } else { "flat" }.into();
            Endpoint { network, weight, ..endpoint(last, readiness, region, zone) }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_default_keeps_within_the_envelope(
        endpoints in prop::collection::vec(any_endpoint(), 0..12),
        network in prop::sample::select(vec![None, Some("flat"), Some("nowhere")]),
        region in prop::sample::select(vec!["", "eu", "ap"]),
    ) {
        let mut question = input(endpoints);
        question.client.network = network.map(Into::into);
        question.client.locality = place(region, "");
        let decision = lb_default(&question);
        prop_assert_eq!(check_lb(&question, decision.clone()), Ok(decision));
    }
}

#[test]
fn the_settings_that_people_are_told_are_those_that_are_read() {
    let values = [json!("Maglev"), json!(200), json!(50), json!("None")];
    for ((key, _), value) in LB_SETTINGS.into_iter().zip(values) {
        let parsed = LbConfig::parse(&json!({ key: value })).unwrap();
        assert_ne!(parsed, LbConfig::default(), "{key}");
    }
    let unknown = LbConfig::parse(&json!({"other": 1})).unwrap_err().to_string();
    for (key, _) in LB_SETTINGS {
        assert!(unknown.contains(&format!("`{key}`")), "serde lists every field: {unknown}");
    }
    assert_eq!(unknown.matches('`').count() / 2, LB_SETTINGS.len() + 1, "and no other: {unknown}");
    for (key, bad, limit) in [("overprovisioningPercent", 1001, "1000"), ("panicThresholdPercent", 101, "100")] {
        assert!(LbConfig::parse(&json!({ key: bad })).is_err());
        let (_, can_be) = LB_SETTINGS.into_iter().find(|(known, _)| *known == key).unwrap();
        assert!(can_be.ends_with(&format!(" {limit}")), "{can_be}");
    }
}
