//! Tests of what travels.

use super::*;

fn objects() -> Vec<Object> {
    let id = |name: &str| NamespacedName::new("shop", name);
    let labels: Labels = [
        ("app.kubernetes.io/name".into(), "checkout".into()),
        ("app.kubernetes.io/version".into(), "1.24.3".into()),
        ("pod-template-hash".into(), "7d9f8b6c5".into()),
    ]
    .into();
    let addresses = ["10.1.2.3", "fd00::1"].map(|address| address.parse().unwrap()).into_iter().collect();
    let endpoint = SliceEndpoint {
        addresses: ["10.1.2.3".parse().unwrap()].into(),
        ready: true,
        serving: true,
        terminating: false,
        node: Some("ip-10-0-17-4.eu-central-1.compute.internal".into()),
        zone: Some("eu-central-1a".into()),
        pod: Some("checkout-7d9f8b6c5-x2x4z".into()),
        hostname: Some("checkout-0".into()),
    };
    vec![
        Object::Node(KubeNode {
            name: "ip-10-0-17-4.eu-central-1.compute.internal".into(),
            locality: Locality { region: "eu-central-1".into(), zone: "eu-central-1a".into() },
        }),
        Object::Service(Service {
            id: id("checkout"),
            labels: labels.clone(),
            headless: true,
            ports: vec![
                ServicePort { name: "http".into(), port: 80, protocol: Protocol::Http },
                ServicePort { name: "grpc".into(), port: 9000, protocol: Protocol::Grpc },
                ServicePort { name: "h2c".into(), port: 9001, protocol: Protocol::H2c },
                ServicePort { name: "raw".into(), port: 65_535, protocol: Protocol::Tcp },
            ],
            created_at: 1_700_000_000,
            traits: ServiceTraits {
                external_name: false,
                client_ip_affinity: Some(10_800),
                internal_traffic_local: true,
                traffic_distribution: Some("PreferClose".into()),
                families: vec![Family::V6, Family::V4],
                other_ports: vec![
                    OtherPort {
                        name: "dns".into(),
                        port: 53,
                        transport: Transport::Udp,
                        app_protocol: Some("dns".into()),
                    },
                    OtherPort { name: "sig".into(), port: 2905, transport: Transport::Sctp, app_protocol: None },
                ],
                app_protocols: [("http".into(), "kubernetes.io/ws".into())].into(),
            },
        }),
        Object::Service(Service {
            id: id("elsewhere"),
            labels: Default::default(),
            headless: false,
            ports: Vec::new(),
            created_at: 0,
            traits: ServiceTraits { external_name: true, ..ServiceTraits::default() },
        }),
        Object::Export(ServiceExport {
            id: id("checkout"),
            created_at: 1_700_000_000,
            generation: 3,
            labels: [("example.com/team".into(), "shop".into())].into(),
            annotations: [("example.com/note".into(), "free text, as long as it likes".into())].into(),
        }),
        Object::Slice(EndpointSlice {
            id: id("checkout-abcde"),
            service: "checkout".into(),
            ports: vec![SlicePort { name: "http".into(), port: 8080 }],
            endpoints: vec![
                endpoint.clone(),
                SliceEndpoint {
                    node: None,
                    zone: None,
                    pod: None,
                    hostname: None,
                    ready: false,
                    terminating: true,
                    ..endpoint
                },
            ],
        }),
        Object::Pod(Pod {
            id: id("checkout-7d9f8b6c5-x2x4z"),
            uid: "0b8d1c1e-4d4c-4f0e-9a55-5d7a8a6a2f11".into(),
            resource_version: "184467440".into(),
            node: Some("ip-10-0-17-4.eu-central-1.compute.internal".into()),
            addresses,
            phase: "Running".into(),
            ready: true,
            labels: labels.into(),
            weight: 1000,
            created_at: 1_700_000_000,
        }),
    ]
}

#[test]
fn objects_arrive_as_they_were() {
    for object in objects() {
        let encoded = encode(&object).unwrap();
        let json = serde_json::to_string(&object).unwrap();
        println!("{}: {} bytes, {} as JSON", object.key(), encoded.len(), json.len());
        assert_eq!(decode(&encoded), Ok(object));
    }
}

#[test]
fn kinds_of_the_primary_have_no_encoding() {
    let pool = crate::model::object::Pool {
        name: "edge".into(),
        ranges: Vec::new(),
        reserved: Default::default(),
        gateways: Default::default(),
        namespaces: Default::default(),
        quota_per_namespace: None,
        assigned_by: Default::default(),
    };
    assert_eq!(encode(&Object::Pool(pool)), None);
}

#[test]
fn what_makes_no_sense_is_refused_with_its_key_and_field() {
    let of = |body: Body| decode(&proto::Object { object: Some(body) }.encode_to_vec());
    let cases = [
        (of(Body::Node(proto::Node { name: "UP".into(), ..Default::default() })), "name"),
        (of(Body::Pod(proto::Pod { namespace: "a".into(), name: "b".into(), ..Default::default() })), "weight"),
        (
            of(Body::Pod(proto::Pod {
                namespace: "a".into(),
                name: "b".into(),
                weight: 1,
                addresses: vec![vec![1, 2, 3]],
                ..Default::default()
            })),
            "addresses[0]",
        ),
        (
            of(Body::Service(proto::Service {
                namespace: "a/b".into(),
                name: "c".into(),
                ports: vec![proto::ServicePort { name: String::new(), port: 65_536, protocol: 99 }],
                ..Default::default()
            })),
            "ports[0].port",
        ),
        (
            of(Body::Service(proto::Service {
                namespace: "a".into(),
                name: "c".into(),
                traits: Some(proto::ServiceTraits {
                    other_ports: vec![proto::OtherPort {
                        transport: proto::Transport::Udp.into(),
                        ..Default::default()
                    }],
                    ..Default::default()
                }),
                ..Default::default()
            })),
            "traits.otherPorts[0].port",
        ),
        (
            of(Body::Slice(proto::EndpointSlice {
                namespace: "a".into(),
                name: "c".into(),
                service: "s".into(),
                endpoints: vec![proto::Endpoint { addresses: vec![vec![224, 0, 0, 1]], ..Default::default() }],
                ..Default::default()
            })),
            "endpoints[0].addresses[0]",
        ),
    ];
    for (decoded, field) in cases {
        let Err(Unfit::Invalid(_, faults)) = decoded else { panic!("{decoded:?}") };
        assert!(faults.iter().any(|fault| fault.field == field), "{field}: {faults:?}");
    }
    assert!(matches!(decode(b"\xff\xff"), Err(Unfit::Unreadable(_))));
    assert!(matches!(decode(b""), Err(Unfit::Unreadable(_))), "a kind of a later version");
}
