//! The envelope around decisions, what is kept of them, and the memo. Policies themselves are tested in `plugins/`, and
//! running them in `tests/it`.

use std::net::SocketAddr;
use std::sync::Arc;

use super::envelope::{check_groups, check_settings};
use super::kept::kept;
use super::memo::{Memo, MemoKey};
use super::*;
use crate::model::decision::{
    ClientView, Endpoint, HealthCheck, LbAlgorithm, LbDecision, LbEndpoint, LbGroup, NodeRole, OutlierDetection,
    Picked, Readiness, Sender,
};
use crate::model::id::NamespacedName;
use crate::model::object::{Locality, Protocol, ServicePort};
use Readiness::{Draining, NotReady, Ready};

fn place(region: &str, zone: &str) -> Locality {
    Locality { region: region.into(), zone: zone.into() }
}

fn address(last: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, last], 80))
}

fn endpoint(last: u8, readiness: Readiness, region: &str) -> Endpoint {
    Endpoint {
        address: address(last),
        cluster: "east".into(),
        network: "flat".into(),
        locality: place(region, "a"),
        node: None,
        pod: None,
        readiness,
        stale: false,
        weight: 1,
    }
}

fn group(priority: u32, region: &str, endpoints: &[u8]) -> LbGroup {
    let endpoint = |last: &u8| LbEndpoint { address: address(*last), cluster: 0, weight: 1, draining: false };
    LbGroup { priority, locality: place(region, "a"), weight: 1, endpoints: endpoints.iter().map(endpoint).collect() }
}

fn decision(groups: Vec<LbGroup>) -> LbDecision {
    LbDecision::new(groups, ["east".into()].into())
}

fn two_regions() -> LbDecision {
    decision(vec![group(0, "eu", &[1, 2]), group(1, "us", &[3])])
}

#[test]
fn groups_that_an_envoy_would_refuse_are_refused() {
    assert_eq!(check_groups(&two_regions()), Ok(()));
    type Change = fn(&mut LbDecision);
    let cases: [(&str, Change); 7] = [
        ("priority 1 is there, but 0 is not", |d| drop(d.groups.remove(0))),
        ("priority 1 of us/a has no endpoints", |d| d.groups[1].endpoints = Picked::default()),
        ("priority 0 of eu/a has the weight 0", |d| d.groups[0].weight = 0),
        ("priority 0 of eu/a comes twice", |d| d.groups[1] = group(0, "eu", &[3])),
        ("priority 128 of us/a is above 127", |d| d.groups[1].priority = 128),
        ("add up to more than 4294967295", |d| {
            d.groups[1].priority = 0;
            (d.groups[0].weight, d.groups[1].weight) = (u32::MAX, 1);
        }),
        ("add up to more than 4294967295", |d| {
            let heavy = d.groups[0].endpoints.iter().map(|endpoint| LbEndpoint { weight: u32::MAX, ..endpoint });
            d.groups[0].endpoints = heavy.collect();
        }),
    ];
    for (said, change) in cases {
        let mut bad = two_regions();
        change(&mut bad);
        let error = check_groups(&bad).err().unwrap_or_default();
        assert!(error.contains(said), "{said}: {error}");
    }
}

#[test]
fn settings_out_of_their_range_are_refused() {
    let outliers =
        OutlierDetection { consecutive_5xx: 5, interval_ms: 1_000, base_ejection_ms: 1_000, max_ejection_percent: 50 };
    let health = HealthCheck {
        path: Some("/healthz".to_owned()),
        interval_ms: 1_000,
        timeout_ms: 500,
        unhealthy_threshold: 3,
        healthy_threshold: 1,
    };
    let mut good = two_regions();
    (good.outlier_detection, good.health_check) = (Some(outliers), Some(health));
    for algorithm in [
        LbAlgorithm::RoundRobin,
        LbAlgorithm::Random,
        LbAlgorithm::LEAST_REQUEST,
        LbAlgorithm::RING_HASH,
        LbAlgorithm::MAGLEV,
        LbAlgorithm::Maglev { table_size: 5_000_011 },
    ] {
        good.algorithm = algorithm;
        assert_eq!(check_settings(&good), Ok(()));
    }
    let outlier =
        |change: fn(&mut OutlierDetection)| move |d: &mut LbDecision| d.outlier_detection.as_mut().map_or((), change);
    let check = |change: fn(&mut HealthCheck)| move |d: &mut LbDecision| d.health_check.as_mut().map_or((), change);
    type Change = Box<dyn Fn(&mut LbDecision)>;
    let cases: Vec<(&str, Change)> = vec![
        ("an overprovisioning factor of 99 %", Box::new(|d| d.overprovisioning_percent = 99)),
        ("a panic threshold of 101 %", Box::new(|d| d.panic_threshold_percent = 101)),
        ("1000001 of a million", Box::new(|d| d.drop_per_million = 1_000_001)),
        ("1 is not within 2 to 64", Box::new(|d| d.algorithm = LbAlgorithm::LeastRequest { choices: 1 })),
        ("is above its maximum", Box::new(|d| d.algorithm = LbAlgorithm::RingHash { minimum: 9, maximum: 8 })),
        ("65536 entries is not a prime", Box::new(|d| d.algorithm = LbAlgorithm::Maglev { table_size: 65_536 })),
        ("not a prime", Box::new(|d| d.algorithm = LbAlgorithm::Maglev { table_size: u32::MAX })),
        ("of 99 ms", Box::new(outlier(|o| o.interval_ms = 99))),
        ("of 600001 ms", Box::new(outlier(|o| o.base_ejection_ms = 600_001))),
        ("of 0 %", Box::new(outlier(|o| o.max_ejection_percent = 0))),
        ("does not begin with /", Box::new(check(|c| c.path = Some("/a b".to_owned())))),
        ("of 9 ms", Box::new(check(|c| c.timeout_ms = 9))),
        ("unhealthy threshold of 0", Box::new(check(|c| c.unhealthy_threshold = 0))),
    ];
    for (said, change) in cases {
        let mut bad = good.clone();
        change(&mut bad);
        let error = check_settings(&bad).err().unwrap_or_default();
        assert!(error.contains(said), "{said}: {error}");
    }
}

#[test]
fn what_is_kept_of_a_decision_is_what_is_still_there() {
    let now = |endpoints: &[(u8, Readiness)]| {
        Endpoints::new(endpoints.iter().map(|(last, readiness)| endpoint(*last, *readiness, "eu")).collect())
    };
    let shown = |kept: Option<LbDecision>| {
        let kept = kept?;
        let endpoints = kept.groups.iter().flat_map(|group| group.endpoints.iter().map(move |e| (group.priority, e)));
        let text = endpoints
            .map(|(priority, e)| format!("{priority}:{}{}", if e.draining { "-" } else { "" }, e.address.ip()));
        Some(text.collect::<Vec<_>>().join(" "))
    };
    let last = two_regions();
    let all = [(1, Ready), (2, Ready), (3, Ready)];
    assert_eq!(kept(&last, &now(&all)), Some(last.clone()));
    let some = now(&[(1, Draining), (2, NotReady), (3, Ready), (4, Ready)]);
    assert_eq!(shown(kept(&last, &some)).as_deref(), Some("0:-10.0.0.1 1:10.0.0.3"));
    assert_eq!(shown(kept(&last, &now(&[(3, Ready)]))).as_deref(), Some("0:10.0.0.3"), "priorities have no gaps");
    assert_eq!(kept(&last, &now(&[(4, Ready)])), None, "somebody else has to decide");
    assert_eq!(shown(kept(&last, &now(&[]))).as_deref(), Some(""));
    assert_eq!(shown(kept(&last, &now(&[(4, NotReady)]))).as_deref(), Some(""));
}

#[test]
fn everything_that_is_asked_changes_the_hash_of_the_question() {
    let service = NamespacedName::new("shop", "checkout");
    let port = ServicePort { name: "http".into(), port: 80, protocol: Protocol::Http };
    let client = ClientView { role: NodeRole::Gateway, cluster: None, network: None, locality: place("eu", "a") };
    let sender = Sender { client, buckets: 1, bucket: 0 };
    let endpoints = Endpoints::new(vec![endpoint(1, Ready, "eu"), endpoint(2, Ready, "us")]);
    let question = LbQuestion { service: &service, port: &port, sender: &sender, endpoints: &endpoints, config: "{}" };
    let known = question.hash();
    assert_eq!(known, question.hash());
    assert_eq!(endpoints.hash(), Endpoints::new(endpoints.list().to_vec()).hash());
    assert_ne!(known, LbQuestion { config: "{ }", ..question }.hash());
    assert_ne!(known, LbQuestion { service: &NamespacedName::new("shopc", "heckout"), ..question }.hash());
    assert_ne!(known, LbQuestion { port: &ServicePort { port: 81, ..port.clone() }, ..question }.hash());
    let changes: [fn(&mut Sender); 5] = [
        |s| s.bucket = 1,
        |s| s.buckets = 2,
        |s| s.client.role = NodeRole::Sidecar,
        |s| s.client.cluster = Some("".into()),
        |s| (s.client.locality.region, s.client.locality.zone) = ("e".into(), "ua".into()),
    ];
    for change in changes {
        let mut other = sender.clone();
        change(&mut other);
        assert_ne!(known, LbQuestion { sender: &other, ..question }.hash(), "{other:?}");
    }
    let changes: [fn(&mut Endpoint); 7] = [
        |e| e.address.set_port(81),
        |e| e.weight = 2,
        |e| e.readiness = Draining,
        |e| e.stale = true,
        |e| e.cluster = "west".into(),
        |e| e.network = "other".into(),
        |e| e.locality.zone = "b".into(),
    ];
    for change in changes {
        let mut list = endpoints.list().to_vec();
        change(&mut list[0]);
        assert_ne!(endpoints.hash(), Endpoints::new(list.clone()).hash(), "{:?}", list[0]);
    }
}

#[test]
fn the_memo_forgets_what_was_not_asked_for_longest() {
    let key = |number: u8| MemoKey { digest: Digest::of(b""), question: [number; 32] };
    let mut memo = Memo::new(4);
    let known = Arc::new(two_regions());
    for number in 0..4 {
        memo.put(key(number), known.clone());
    }
    assert!(memo.get(&key(0)).is_some(), "and it is young again");
    memo.put(key(4), known.clone());
    memo.put(key(5), known.clone());
    assert!(memo.get(&key(0)).is_some() && memo.get(&key(5)).is_some());
    assert!(memo.get(&key(1)).is_none());
    assert_eq!((memo.hits, memo.misses), (3, 1));
}

#[test]
fn digests_are_read_as_they_are_written() {
    let digest = Digest::of(b"a policy");
    assert_eq!(digest.to_string().parse(), Ok(digest));
    let upper = digest.to_string().to_uppercase();
    let digits = digest.to_string().replace("sha256:", "");
    for text in ["", "sha256:", "sha256:0", &upper, &digits, &format!("sha256:{}g", &digits[1..])] {
        assert_eq!(text.parse::<Digest>(), Err(NoDigest), "{text}");
    }
}
