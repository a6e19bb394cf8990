use std::net::SocketAddr;
use std::path::Path;

use serde_json::Value;
use xds_api::pb::envoy::config::cluster::v3::{Cluster, cluster::LbConfig};
use xds_api::pb::google::protobuf::Any;

use super::*;
use crate::model::decision::{HealthCheck, LbAlgorithm, LbDecision, LbEndpoint, LbGroup, OutlierDetection};
use crate::model::object::{Locality, Protocol};

const CLUSTER: &str = "shop/checkout/checkout:80";

/// Shows a message and compares it with `tests/golden/xds-<name>.json`, which it rewrites when
/// `UPDATE_GOLDEN` is set.
macro_rules! check {
    ($name:literal, $message:expr) => {{
        let any = Any::from_msg(&$message).expect("it can be encoded");
        let value = json(&any.type_url, &any.value).expect("it can be shown");
        check_complete(&any, &value);
        compare($name, &value);
    }};
}

fn compare(name: &str, value: &Value) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/xds-{name}.json"));
    let shown = format!("{value:#}\n");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &shown).expect("the golden file can be written");
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(golden == shown, "{name} differs from its golden file; UPDATE_GOLDEN=1 rewrites it:\n{shown}");
}

/// What is shown is all there is: made back into a message, it has the same bytes. A field that
/// the descriptors lack would be missing here.
fn check_complete(any: &Any, value: &Value) {
    use prost::Message;
    let name = any.type_url.rsplit('/').next().expect("it has a name");
    let pool = json::POOL.as_ref().expect("the descriptors fit together");
    let descriptor = pool.get_message_by_name(name).expect("it is known");
    let back = prost_reflect::DynamicMessage::deserialize(descriptor, value.clone()).expect("it can be read");
    assert_eq!(back.encode_to_vec().len(), any.value.len(), "a field of {name} is not shown: {value:#}");
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("tests write addresses well")
}

fn of(protocol: Protocol, decision: &LbDecision) -> Cluster {
    cluster(&ClusterSpec { name: CLUSTER, hostname: "checkout.shop.svc.clusterset.local", protocol, decision })
}

#[test]
fn golden_clusters() {
    let plain = LbDecision { panic_threshold_percent: 1, ..decision() };
    check!("cluster-http", of(Protocol::Http, &plain));
    check!("cluster-grpc", of(Protocol::Grpc, &plain));
    check!("cluster-tcp", of(Protocol::Tcp, &LbDecision { algorithm: LbAlgorithm::MAGLEV, ..decision() }));
    assert_eq!(of(Protocol::H2c, &plain), of(Protocol::Grpc, &plain));
}

fn judged() -> LbDecision {
    LbDecision {
        outlier_detection: Some(OutlierDetection {
            consecutive_5xx: 5,
            interval_ms: 1500,
            base_ejection_ms: 30_000,
            max_ejection_percent: 20,
        }),
        health_check: Some(HealthCheck {
            path: Some("/healthz".to_owned()),
            interval_ms: 10_000,
            timeout_ms: 250,
            unhealthy_threshold: 3,
            healthy_threshold: 2,
        }),
        ..decision()
    }
}

#[test]
fn golden_clusters_that_judge() {
    check!("cluster-judging-http", of(Protocol::Http, &judged()));
    let mut connects = judged();
    connects.health_check.iter_mut().for_each(|check| check.path = None);
    connects.outlier_detection.iter_mut().for_each(|detection| detection.consecutive_5xx = 0);
    check!("cluster-judging-tcp", of(Protocol::Tcp, &connects));
}

#[test]
fn health_checks_speak_what_the_endpoints_speak() {
    use xds_api::pb::envoy::config::core::v3::health_check::HealthChecker;
    let asked = |protocol| match of(protocol, &judged()).health_checks.remove(0).health_checker {
        Some(HealthChecker::HttpHealthCheck(check)) => check.codec_client_type().as_str_name(),
        other => panic!("{other:?}"),
    };
    assert_eq!([Protocol::Http, Protocol::Tcp].map(asked), ["HTTP1", "HTTP1"]);
    assert_eq!([Protocol::H2c, Protocol::Grpc].map(asked), ["HTTP2", "HTTP2"]);
}

#[test]
fn an_algorithm_says_no_more_than_what_differs_from_envoys_defaults() {
    let said = |algorithm| {
        let made = of(Protocol::Http, &LbDecision { algorithm, ..decision() });
        let settings = match made.lb_config.clone() {
            Some(LbConfig::LeastRequestLbConfig(c)) => format!("{:?}", c.choice_count.map(|n| n.value)),
            Some(LbConfig::RingHashLbConfig(c)) => {
                format!("{:?}", (c.minimum_ring_size.map(|n| n.value), c.maximum_ring_size.map(|n| n.value)))
            }
            Some(LbConfig::MaglevLbConfig(c)) => format!("{:?}", c.table_size.map(|n| n.value)),
            other => format!("{other:?}"),
        };
        format!("{} {settings}", made.lb_policy().as_str_name())
    };
    let table = [
        (LbAlgorithm::RoundRobin, "ROUND_ROBIN None"),
        (LbAlgorithm::Random, "RANDOM None"),
        (LbAlgorithm::LEAST_REQUEST, "LEAST_REQUEST None"),
        (LbAlgorithm::LeastRequest { choices: 7 }, "LEAST_REQUEST Some(7)"),
        (LbAlgorithm::RING_HASH, "RING_HASH None"),
        (LbAlgorithm::RingHash { minimum: 1024, maximum: 4096 }, "RING_HASH (Some(1024), Some(4096))"),
        (LbAlgorithm::MAGLEV, "MAGLEV None"),
        (LbAlgorithm::Maglev { table_size: 251 }, "MAGLEV Some(251)"),
    ];
    for (algorithm, expected) in table {
        assert_eq!(said(algorithm), expected);
    }
}

fn decision() -> LbDecision {
    let place = |region: &str, zone: &str| Locality { region: region.into(), zone: zone.into() };
    let endpoint = |text, weight, draining| LbEndpoint { address: address(text), cluster: 0, weight, draining };
    LbDecision {
        groups: vec![
            LbGroup {
                priority: 0,
                locality: place("eu", "a"),
                weight: 8,
                endpoints: [endpoint("10.0.0.1:8080", 7, false), endpoint("[fd00::1]:8080", 1, false)]
                    .into_iter()
                    .collect(),
            },
            LbGroup {
                priority: 1,
                locality: place("", ""),
                weight: 1,
                endpoints: [endpoint("10.0.0.2:8080", 1, true)].into_iter().collect(),
            },
        ],
        clusters: ["east".into()].into(),
        algorithm: LbAlgorithm::LEAST_REQUEST,
        overprovisioning_percent: 140,
        panic_threshold_percent: 0,
        drop_per_million: 0,
        outlier_detection: None,
        health_check: None,
    }
}

#[test]
fn golden_assignments() {
    check!("assignment", assignment(CLUSTER, &decision()));
    check!("assignment-empty", assignment(CLUSTER, &LbDecision { groups: Vec::new(), ..decision() }));
    check!("assignment-dropping", assignment(CLUSTER, &LbDecision { drop_per_million: 250_000, ..decision() }));
}

#[test]
fn golden_listeners() {
    let at = |text: &str, target: Target<'static>, attempt| {
        let address = address(text);
        listener(&ListenerSpec { name: &format!("vip/{address}"), address, target, attempt })
    };
    check!("listener-http", at("240.11.0.1:80", Target::Http { route: CLUSTER }, 0));
    check!("listener-tcp", at("[fd00::1]:5432", Target::Tcp { cluster: CLUSTER }, 2));
}

#[test]
fn golden_routes() {
    let hostnames = ["checkout.shop.svc.clusterset.local", "Checkout.example.com", "checkout.example.com"];
    let spec = RouteSpec {
        name: CLUSTER,
        hostnames: hostnames.map(str::to_owned).to_vec(),
        cluster_hostnames: vec![("east.checkout.shop.svc.clusterset.local".to_owned(), "east".to_owned())],
        addresses: vec![address("240.11.0.1:0").ip(), address("[fd00::1]:0").ip()],
        cluster: CLUSTER,
    };
    check!("route", route(&spec));
}

#[test]
fn an_attempt_makes_other_content() {
    let address = address("240.11.0.1:80");
    let target = Target::Tcp { cluster: CLUSTER };
    let made = [0, 1, 2].map(|attempt| listener(&ListenerSpec { name: "vip", address, target, attempt }));
    assert!(made[0].metadata.is_none());
    assert!(made[0] != made[1] && made[1] != made[2]);
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let address = address("240.11.0.1:80");
    let bytes = || {
        let target = Target::Http { route: CLUSTER };
        let listener = listener(&ListenerSpec { name: "vip", address, target, attempt: 3 });
        let all = [Any::from_msg(&listener), Any::from_msg(&of(Protocol::Http, &judged()))];
        all.map(|any| any.expect("it can be encoded").value)
    };
    let first = bytes();
    assert!((0..50).all(|_| bytes() == first));
}

#[test]
fn what_cannot_be_shown_is_an_error() {
    let unknown = json("type.googleapis.com/no.such.Type", &[]);
    assert!(matches!(unknown, Err(JsonError::UnknownType(_))), "{unknown:?}");
    let garbage = json("type.googleapis.com/envoy.config.cluster.v3.Cluster", &[0xff]);
    assert!(matches!(garbage, Err(JsonError::Decode { .. })), "{garbage:?}");
    let mut listener = listener(&ListenerSpec {
        name: "",
        address: address("1.1.1.1:1"),
        target: Target::Tcp { cluster: "" },
        attempt: 0,
    });
    let inner = Any { type_url: "type.googleapis.com/no.such.Filter".to_owned(), value: vec![1] };
    listener.filter_chains[0].filters[0].config_type =
        Some(xds_api::pb::envoy::config::listener::v3::filter::ConfigType::TypedConfig(inner));
    let any = Any::from_msg(&listener).expect("it can be encoded");
    let opaque = json(&any.type_url, &any.value);
    assert!(matches!(opaque, Err(JsonError::Encode { .. })), "{opaque:?}");
}
