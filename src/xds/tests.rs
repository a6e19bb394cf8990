use std::net::SocketAddr;
use std::path::Path;

use serde_json::Value;
use xds_api::pb::google::protobuf::Any;

use super::*;
use crate::model::decision::{LbAlgorithm, LbDecision, LbEndpoint, LbGroup};
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

fn spec(protocol: Protocol) -> ClusterSpec<'static> {
    ClusterSpec { name: CLUSTER, protocol, algorithm: LbAlgorithm::LeastRequest, panic_threshold_percent: 1 }
}

#[test]
fn golden_clusters() {
    check!("cluster-http", cluster(&spec(Protocol::Http)));
    check!("cluster-grpc", cluster(&spec(Protocol::Grpc)));
    let tcp = ClusterSpec { algorithm: LbAlgorithm::Maglev, panic_threshold_percent: 0, ..spec(Protocol::Tcp) };
    check!("cluster-tcp", cluster(&tcp));
    assert_eq!(cluster(&spec(Protocol::H2c)), cluster(&spec(Protocol::Grpc)));
}

fn decision() -> LbDecision {
    let place = |region: &str, zone: &str| Locality { region: region.into(), zone: zone.into() };
    let endpoint =
        |text, weight, draining| LbEndpoint { address: address(text), cluster: "east".into(), weight, draining };
    LbDecision {
        groups: vec![
            LbGroup {
                priority: 0,
                locality: place("eu", "a"),
                weight: 8,
                endpoints: vec![endpoint("10.0.0.1:8080", 7, false), endpoint("[fd00::1]:8080", 1, false)],
            },
            LbGroup {
                priority: 1,
                locality: place("", ""),
                weight: 1,
                endpoints: vec![endpoint("10.0.0.2:8080", 1, true)],
            },
        ],
        algorithm: LbAlgorithm::LeastRequest,
        overprovisioning_percent: 140,
        panic_threshold_percent: 0,
    }
}

#[test]
fn golden_assignments() {
    check!("assignment", assignment(CLUSTER, &decision()));
    check!("assignment-empty", assignment(CLUSTER, &LbDecision { groups: Vec::new(), ..decision() }));
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
        let all = [Any::from_msg(&listener), Any::from_msg(&cluster(&spec(Protocol::Http)))];
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
