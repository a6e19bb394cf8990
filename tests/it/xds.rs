//! A real Envoy takes what the builders build. `ENVOY_BIN` names it; without that, `envoy` is
//! looked for in the `PATH`.

use std::net::SocketAddr;
use std::process::Command;

use causeway::model::decision::{HealthCheck, LbAlgorithm, LbDecision, LbEndpoint, LbGroup, OutlierDetection};
use causeway::model::object::{Locality, Protocol};
use causeway::xds::{self, ClusterSpec, ListenerSpec, RouteSpec, Target};
use serde_json::{Value, json};
use xds_api::pb::google::protobuf::Any;

/// The canonical JSON of a message, as Envoy reads it in its own configuration.
macro_rules! shown {
    ($message:expr) => {{
        let any = Any::from_msg(&$message).expect("it can be encoded");
        xds::json(&any.type_url, &any.value).expect("it can be shown")
    }};
}

const HOST: &str = "checkout.shop.svc.clusterset.local";

/// A decision with every setting.
fn decision(algorithm: LbAlgorithm) -> LbDecision {
    LbDecision {
        groups: Vec::new(),
        clusters: [].into(),
        algorithm,
        overprovisioning_percent: 140,
        panic_threshold_percent: 0,
        drop_per_million: 1,
        outlier_detection: Some(OutlierDetection {
            consecutive_5xx: 5,
            interval_ms: 100,
            base_ejection_ms: 600_000,
            max_ejection_percent: 1,
        }),
        health_check: Some(HealthCheck {
            path: Some("/healthz?full=1".to_owned()),
            interval_ms: 600_000,
            timeout_ms: 10,
            unhealthy_threshold: 1,
            healthy_threshold: 100,
        }),
    }
}

fn cluster(protocol: Protocol, algorithm: LbAlgorithm) -> Value {
    let name = format!("shop/{algorithm:?}/checkout:{protocol:?}");
    let decision = decision(algorithm);
    shown!(xds::cluster(&ClusterSpec { name: &name, hostname: HOST, protocol, decision: &decision }))
}

/// A cluster that only connects to see how its endpoints are.
fn connecting_cluster() -> Value {
    let mut decision = decision(LbAlgorithm::LEAST_REQUEST);
    decision.health_check.iter_mut().for_each(|check| check.path = None);
    let spec = ClusterSpec { name: "connecting", hostname: HOST, protocol: Protocol::Tcp, decision: &decision };
    shown!(xds::cluster(&spec))
}

/// A cluster whose assignment stands in the file, so that Envoy reads that too.
fn cluster_with_endpoints() -> Value {
    let endpoint = |text: &str, draining| LbEndpoint { address: address(text), cluster: 0, weight: 3, draining };
    let group = |priority, endpoints: &[LbEndpoint]| LbGroup {
        priority,
        locality: Locality { region: "eu".into(), zone: "a".into() },
        weight: 3,
        endpoints: endpoints.iter().copied().collect(),
    };
    let decision = LbDecision {
        groups: vec![
            group(0, &[endpoint("10.0.0.1:80", false), endpoint("[fd00::1]:80", false)]),
            group(1, &[endpoint("10.0.0.2:80", true)]),
        ],
        clusters: ["east".into()].into(),
        ..decision(LbAlgorithm::LEAST_REQUEST)
    };
    let mut cluster = cluster(Protocol::Http, LbAlgorithm::LEAST_REQUEST);
    cluster["name"] = json!("with-endpoints");
    cluster["type"] = json!("STATIC");
    cluster.as_object_mut().expect("it is an object").remove("eds_cluster_config");
    cluster["load_assignment"] = shown!(xds::assignment("with-endpoints", &decision));
    cluster
}

fn listener(text: &str, target: Target<'_>, attempt: u32) -> Value {
    let address = address(text);
    shown!(xds::listener(&ListenerSpec { name: &format!("vip/{address}"), address, target, attempt }))
}

/// A listener whose routes stand in the file, so that Envoy reads those too.
fn listener_with_routes() -> Value {
    let route = shown!(xds::route(&RouteSpec {
        name: "routes",
        hostnames: vec!["checkout.shop.svc.clusterset.local".to_owned(), "*.example.com".to_owned()],
        cluster_hostnames: vec![("east.checkout.shop.svc.clusterset.local".to_owned(), "east".to_owned())],
        addresses: vec![address("127.0.0.1:0").ip(), address("[::1]:0").ip()],
        cluster: "with-endpoints",
    }));
    let mut listener = listener("127.0.0.1:18083", Target::Http { route: "routes" }, 0);
    let manager = listener.pointer_mut("/filter_chains/0/filters/0/typed_config").expect("it has one");
    manager.as_object_mut().expect("it is an object").remove("rds");
    manager["route_config"] = route;
    listener
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("tests write addresses well")
}

fn bootstrap() -> Value {
    let http = cluster(Protocol::Http, LbAlgorithm::LEAST_REQUEST);
    let http_name = http["name"].as_str().expect("it has a name").to_owned();
    json!({
        "node": {"id": "gateway-1", "cluster": "edge"},
        "dynamic_resources": {
            "ads_config": {
                "api_type": "DELTA_GRPC",
                "transport_api_version": "V3",
                "grpc_services": [{"envoy_grpc": {"cluster_name": "causeway"}}],
            },
        },
        "static_resources": {
            "clusters": [
                {
                    "name": "causeway",
                    "type": "STATIC",
                    "typed_extension_protocol_options": {
                        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                            "explicit_http_config": {"http2_protocol_options": {}},
                        },
                    },
                },
                http,
                cluster(Protocol::Tcp, LbAlgorithm::RoundRobin),
                cluster(Protocol::H2c, LbAlgorithm::RING_HASH),
                cluster(Protocol::Grpc, LbAlgorithm::MAGLEV),
                cluster(Protocol::Http, LbAlgorithm::LeastRequest { choices: 64 }),
                cluster(Protocol::Http, LbAlgorithm::RingHash { minimum: 1, maximum: 1 }),
                cluster(Protocol::Http, LbAlgorithm::RingHash { minimum: 8_388_608, maximum: 8_388_608 }),
                cluster(Protocol::Http, LbAlgorithm::Maglev { table_size: 2 }),
                cluster(Protocol::Http, LbAlgorithm::Maglev { table_size: 5_000_011 }),
                connecting_cluster(),
                cluster(Protocol::Http, LbAlgorithm::Random),
                cluster_with_endpoints(),
            ],
            "listeners": [
                listener("127.0.0.1:18080", Target::Http { route: "from-ads" }, 0),
                listener("127.0.0.1:18081", Target::Tcp { cluster: &http_name }, 3),
                listener("[::1]:18082", Target::Tcp { cluster: &http_name }, 0),
                listener_with_routes(),
            ],
        },
    })
}

#[test]
fn a_real_envoy_takes_every_shape() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("bootstrap.json");
    std::fs::write(&path, format!("{:#}", bootstrap())).expect("it can be written");
    let envoy = std::env::var_os("ENVOY_BIN").unwrap_or_else(|| "envoy".into());
    let output = Command::new(&envoy)
        .args(["--mode", "validate", "--log-level", "warn", "--config-path"])
        .arg(&path)
        .output()
        .unwrap_or_else(|error| panic!("{} (set ENVOY_BIN): {error}", envoy.display()));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(!said.contains("eprecated"), "{said}");
}
