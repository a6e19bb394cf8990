//! The kinds on a real API server: what it refuses, with which words, and what it takes.

use causeway::kube::convert::{cluster_access, cluster_info, endpoint_snapshot, vip_pool};
use causeway::kube::crd;
use causeway::kube::documents::documents;
use causeway::kube::kinds::{
    ClusterAccess, ClusterInfo, EndpointSnapshot, EndpointSnapshotSpec, PolicySpec, VipPool, VirtualIpSpec,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::support::apiserver::{ApiServer, shared};
use crate::support::eventually;

/// Installs Causeway's kinds on a shared cluster; again and again does no harm.
pub fn install(server: &ApiServer) {
    server.apply(&documents(&crd::all()).unwrap());
    let args = ["wait", "--for=condition=Established", "--timeout=60s", "crd"];
    let names: Vec<String> = crd::all().into_iter().filter_map(|definition| definition.metadata.name).collect();
    let args: Vec<&str> = args.into_iter().chain(names.iter().map(String::as_str)).collect();
    server.kubectl(&args);
    // Established says that one API server serves it; kubectl's discovery may be a moment behind.
    eventually("the kinds to be known", std::time::Duration::from_secs(30), || {
        server.kubectl(&["api-resources", "--categories=causeway", "-o", "name"]).contains("virtualips").then_some(())
    });
}

fn object(kind: &str, name: &str, namespace: Option<&str>, spec: &str) -> String {
    let namespace = namespace.map_or(String::new(), |namespace| format!("  namespace: {namespace}\n"));
    let spec: String = spec.lines().map(|line| format!("  {line}\n")).collect();
    format!("apiVersion: causeway.dev/v1alpha1\nkind: {kind}\nmetadata:\n  name: {name}\n{namespace}spec:\n{spec}")
}

fn check_refusals(kind: &str, namespace: Option<&str>, cases: &[(&str, &str, &str)]) {
    let server = shared(0);
    install(server);
    let mut wrong = Vec::new();
    for (name, spec, wanted) in cases {
        let manifest = object(kind, name, namespace, spec);
        let output = server.kubectl_with(&["create", "--dry-run=server", "-f", "-"], &manifest);
        let said = String::from_utf8_lossy(&output.stderr);
        if output.status.success() || !said.contains(wanted) {
            wrong.push(format!("{manifest}wanted: {wanted}\nsaid: {said}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n---\n"));
}

#[test]
fn cluster_infos_that_cannot_be_are_refused() {
    let key = "{namespace: causeway-system, name: east, key: kubeconfig}";
    check_refusals(
        "ClusterInfo",
        None,
        &[
            ("a.b", "{}", "metadata.name must have at most 63 characters and no dots"),
            ("crd-bad", "role: Boss", "supported values: \"Primary\", \"Sub\""),
            ("crd-bad", "network: ''", "name it, or leave the field out for `default`"),
            ("crd-bad", "network: ' '", "name it, or leave the field out for `default`"),
            ("crd-bad", "source: {}", "write exactly one of `kubeconfig`, `member` or `manifests`"),
            ("crd-bad", "source: {member: {}, manifests: {}}", "write exactly one of `kubeconfig`, `member`"),
            ("crd-bad", "source: {kubeconfig: {}}", "write exactly one of `configMapKeyRef` or `secretKeyRef`"),
            (
                "crd-bad",
                &format!("source: {{kubeconfig: {{configMapKeyRef: {key}, secretKeyRef: {key}}}}}"),
                "write exactly one of `configMapKeyRef` or `secretKeyRef`",
            ),
            (
                "crd-bad",
                "source: {kubeconfig: {secretKeyRef: {namespace: a, name: b, key: c/d}}}",
                "write the key within the object's data",
            ),
            ("crd-bad", "namespaces: {exclude: ['kube-*']}", "patterns are not understood"),
            ("crd-bad", "namespaces: {exclude: [a, a]}", "Duplicate value"),
            ("crd-bad", "syncDown: {accesses: Some}", "supported values: \"All\", \"None\""),
            ("crd-bad", "colour: red", "unknown field \"spec.colour\""),
        ],
    );
}

#[test]
fn accesses_that_cannot_be_are_refused() {
    let namespace = shared(0).namespace("crd-access");
    let long = format!("hostnames: ['{}.example.com']", "a".repeat(64));
    check_refusals(
        "ClusterAccess",
        Some(&namespace),
        &[
            ("a.b", "{}", "write `spec.service: {name: …}`"),
            ("bad", "service: {}", "write exactly one of `name` or `selector`"),
            ("bad", "service: {name: a, selector: {}}", "write exactly one of `name` or `selector`"),
            ("bad", "service: {name: Web}", "write the name of a Service"),
            ("bad", "service: {selector: {matchLabels: {'-a': b}}}", "a key must be one that a label can have"),
            ("bad", "service: {selector: {matchLabels: {a: 'b c'}}}", "a value must be one that a label can have"),
            ("bad", "service: {selector: {matchExpressions: [{key: a, operator: In}]}}", "need at least one of values"),
            ("bad", "service: {selector: {matchExpressions: [{key: a, operator: Exists, values: [b]}]}}", "take none"),
            ("bad", "ports: []", "an empty list chooses no port"),
            ("bad", "ports: [{}]", "write exactly one of `name` or `number`"),
            ("bad", "ports: [{name: http, number: 80}]", "write exactly one of `name` or `number`"),
            ("bad", "ports: [{number: 0}]", "should be greater than or equal to 1"),
            ("bad", "ports: [{number: 65536}]", "should be less than or equal to 65535"),
            ("bad", "ports: [{name: http}, {name: http}]", "a port is there twice"),
            ("bad", "clusters: {names: []}", "an empty list chooses no cluster"),
            ("bad", "clusters: {names: [East]}", "write the name of a cluster"),
            ("bad", "hostnames: ['*.example.com']", "write a whole DNS name"),
            ("bad", "hostnames: [com]", "write a whole DNS name"),
            ("bad", "hostnames: [10.0.0.1]", "write a whole DNS name"),
            ("bad", "hostnames: ['a.b:80']", "write a whole DNS name"),
            ("bad", &long, "write a whole DNS name"),
            ("bad", "hostnames: [web.clusterset.local]", "use a name of your own domain"),
            ("bad", "hostnames: [a.example.com, a.example.com]", "Duplicate value"),
            ("bad", "hostnames: [a.example.com]\nservice: {selector: {}}", "a host name leads to one service"),
            ("bad", "vip: {addresses: [240.0.0.1]}\nservice: {selector: {}}", "an address leads to one service"),
            ("bad", "vip: {addresses: [10.0.0.256]}", "write one address of the pool"),
            ("bad", "vip: {addresses: [10.0.0.01]}", "write one address of the pool"),
            ("bad", "vip: {addresses: [224.0.0.1]}", "must be a unicast address"),
            ("bad", "vip: {addresses: ['fe80::1']}", "must be a unicast address"),
            ("bad", "vip: {addresses: [10.0.0.1, 10.0.0.2]}", "at most one address of each family"),
            ("bad", "vip: {addresses: ['fd00::1', 'fd00::2']}", "at most one address of each family"),
            ("bad", "vip: {families: [IPv4], addresses: ['fd00::1']}", "add the family, or remove the address"),
            ("bad", "vip: {families: []}", "an empty list asks for no address"),
            ("bad", "vip: {families: [IPv5]}", "supported values: \"IPv4\", \"IPv6\""),
            ("bad", "vip: {per: Pod, addresses: [10.0.0.1]}", "let each pod have one of the pool"),
            ("bad", "vip: {pool: Edge}", "write the name of a VipPool"),
            ("bad", "publish: {minGateways: 0}", "a name is never answered without proof"),
            ("bad", "publish: {ttlSeconds: 0}", "use 1 to 86400"),
            ("bad", "publish: {ttlSeconds: 86401}", "use 1 to 86400"),
            ("bad", "publish: {evidence: Guess}", "supported values"),
            ("bad", "policies: {loadBalancing: {name: ''}}", "name a Policy, or leave the field out"),
            ("bad", "policies: {vip: {name: ''}}", "name a Policy, or leave the field out"),
            ("bad", "policies: {loadBalancing: {config: 3}}", "must be of type object"),
            ("bad", "policies: {vip: {config: 3}}", "must be of type object"),
        ],
    );
}

#[test]
fn pools_that_cannot_be_are_refused() {
    check_refusals(
        "VipPool",
        None,
        &[
            ("crd-bad", "{}", "list at least one of `ranges`"),
            ("crd-bad", "ranges: []", "list at least one of `ranges`"),
            ("crd-bad", "assignedBy: DataPlane\nranges: [10.0.0.0/24]", "remove `ranges`"),
            ("crd-bad", "ranges: [edge]", "must be a range of addresses"),
            ("crd-bad", "ranges: [10.0.0.0/33]", "must be a range of addresses"),
            ("crd-bad", "ranges: [10.0.0.1-]", "must be a range of addresses"),
            ("crd-bad", "ranges: [10.0.0.1-10.0.0.2-10.0.0.3]", "must be a range of addresses"),
            ("crd-bad", "ranges: [10.0.0.1/24]", "has bits set beyond its prefix length; write"),
            ("crd-bad", "ranges: ['10.0.0.1-fd00::1']", "list a range for each family"),
            ("crd-bad", "ranges: [224.0.0.0/24]", "use unicast addresses"),
            ("crd-bad", "ranges: ['fe80::/64']", "use unicast addresses"),
            ("crd-bad", "ranges: ['0.0.0.0/8']", "use unicast addresses"),
            ("crd-bad", "ranges: ['0.0.0.0-10.0.0.1']", "use unicast addresses"),
            ("crd-bad", "ranges: [10.0.0.0/24, 10.0.0.0/24]", "Duplicate value"),
            ("crd-bad", "ranges: [10.0.0.0/24]\nreserved: [10.0.0.0/32]", "write one address each"),
            ("crd-bad", "ranges: [10.0.0.0/24]\nreserved: [255.255.255.255]", "write an address of the ranges"),
            (
                "crd-bad",
                "ranges: [10.0.0.0/24]\nnamespaceSelector: {matchLabels: {team: a}}",
                "select by the label `kubernetes.io/metadata.name`",
            ),
            ("crd-bad", "ranges: [10.0.0.0/24]\nquotaPerNamespace: -1", "use a whole number from 0"),
            ("crd-bad", "ranges: [10.0.0.0/24]\nassignedBy: Nobody", "supported values"),
        ],
    );
}

/// The spec of a VirtualIp.
fn vip_spec(address: &str) -> String {
    format!(
        "address: '{address}'\npool: edge\naccess: shop/checkout\nservice: shop/checkout\nphase: Held\nlistening: {{}}\n\
         ttlSeconds: 5\nallocatedAt: 1\nchangedAt: 1\n"
    )
}

#[test]
fn virtual_ips_are_named_by_their_address_and_never_move() {
    let (v4, v6) = (vip_spec("240.44.0.7"), vip_spec("fd00:44::7"));
    check_refusals(
        "VirtualIp",
        None,
        &[
            ("240.44.0.8", &v4, "set metadata.name to what spec.address says"),
            ("fd00-44--7", &v6, "all 8 groups of 4 hexadecimal digits"),
            ("fd00-0044-0000-0000-0000-0000-0000-0008", &v6, "all 8 groups of 4 hexadecimal digits"),
            ("fd00-0044-0000-0000-0000-0000-0000-0007", &vip_spec("fd00:044::7"), "in its canonical form"),
            ("a", &vip_spec("edge"), "must be an IP address in its canonical form"),
            ("224.0.0.1", &vip_spec("224.0.0.1"), "must be a unicast address"),
            ("240.44.0.7", &v4.replace("access: shop/checkout", "access: checkout"), "written as `namespace/name`"),
            ("240.44.0.7", &v4.replace("Held", "Lost"), "supported values"),
            ("240.44.0.7", &v4.replace("pool: edge\n", ""), "spec.pool: Required value"),
        ],
    );
    let server = shared(0);
    for (name, spec) in [("240.44.0.7", &v4), ("fd00-0044-0000-0000-0000-0000-0000-0007", &v6)] {
        let manifest = object("VirtualIp", name, None, spec);
        server.apply(&manifest);
        let taken = spec_of::<VirtualIpSpec>(server, &["virtualip", name]);
        assert_eq!(taken.pool, "edge");
        for (from, to) in [("pool: edge", "pool: other"), ("access: shop/checkout", "access: shop/other")] {
            let args = ["apply", "--server-side", "--field-manager=test", "-f", "-"];
            let output = server.kubectl_with(&args, &manifest.replace(from, to));
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(!output.status.success() && said.contains("an address in use never moves"), "{to}: {said}");
        }
        server.apply(&manifest.replace("Held", "Draining"));
        let shown = server.kubectl(&["get", "vip", name, "--no-headers"]);
        assert!(shown.contains("shop/checkout"), "{shown}");
        server.kubectl(&["delete", "virtualip", name]);
    }
}

#[test]
fn snapshots_and_policies_that_cannot_be_are_refused() {
    let namespace = shared(0).namespace("crd-snapshot");
    let pod = |rest: &str| format!("access: checkout\npods: [{{name: vm-1{rest}}}]");
    check_refusals(
        "EndpointSnapshot",
        Some(&namespace),
        &[
            ("bad", "{}", "spec.access: Required value"),
            ("bad", "access: Checkout", "write the name of a ClusterAccess"),
            ("bad", "access: a\ncluster: a.b", "write the name of a ClusterInfo"),
            ("bad", "access: a\nowner: Me", "supported values: \"System\", \"User\""),
            ("bad", "access: a\npods: [{name: one}, {name: one}]", "Duplicate value"),
            ("bad", "access: a\npods: [{ready: true}]", "Required value"),
            ("bad", &pod(", addresses: [vm]"), "must be an IP address"),
            ("bad", &pod(", addresses: [0.0.0.0]"), "must be a unicast address"),
            ("bad", &pod(", ports: {http: 0}"), "should be greater than or equal to 1"),
            ("bad", &pod(", ports: {http: 65536}"), "should be less than or equal to 65535"),
            ("bad", &pod(", weight: 0"), "should be greater than or equal to 1"),
            ("bad", &pod(", weight: 1001"), "should be less than or equal to 1000"),
        ],
    );
    check_refusals(
        "Policy",
        None,
        &[
            ("crd-bad", "component: {}", "spec.world: Required value"),
            ("crd-bad", "world: ip-policy\ncomponent: {}", "supported values: \"lb-policy\", \"vip-policy\""),
            ("crd-bad", "world: lb-policy\ncomponent: {digest: 'sha256:12'}", "64 hexadecimal digits"),
            ("crd-bad", "world: lb-policy\ncomponent: {from: {}}", "write exactly one of `upload`"),
            ("crd-bad", "world: lb-policy\ncomponent: {from: {oci: 'oci://a/b:latest'}}", "by its digest"),
            ("crd-bad", "world: lb-policy\ncomponent: {}\nlimits: {memoryMiB: 0}", "use 1 to 256 MiB"),
            ("crd-bad", "world: lb-policy\ncomponent: {}\nonFailure: Panic", "supported values"),
        ],
    );
}

fn read<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value.clone()).unwrap_or_else(|e| panic!("{e}: {value:#}"))
}

fn get(server: &ApiServer, what: &[&str]) -> Value {
    let args: Vec<&str> = ["get", "-o", "json"].into_iter().chain(what.iter().copied()).collect();
    serde_json::from_str(&server.kubectl(&args)).unwrap()
}

fn spec_of<T: DeserializeOwned>(server: &ApiServer, what: &[&str]) -> T {
    read(get(server, what)["spec"].take())
}

/// Fields that the API server fills in, at a JSON pointer.
fn assert_filled(object: &Value, wanted: &[(&str, Value)]) {
    for (pointer, value) in wanted {
        assert_eq!(object.pointer(pointer), Some(value), "{pointer} of {object:#}");
    }
}

#[test]
fn what_the_api_server_takes_the_control_plane_takes() {
    let server = shared(0);
    install(server);
    let namespace = server.namespace("crd-good");
    let digest = "0123456789abcdef".repeat(4);
    let infos = [
        (
            "crd-good-east",
            "{role: Sub, network: flat, locality: {region: eu-1, zone: a}, namespaces: {exclude: [kube-system]}, \
          syncDown: {accesses: All}, source: {kubeconfig: {configMapKeyRef: {namespace: causeway-system, name: east, key: kubeconfig}}}}",
        ),
        ("crd-good-empty", "{}"),
        ("crd-good-member", "{role: Primary, source: {member: {}}}"),
    ];
    let pools = [
        (
            "crd-good-edge",
            "{ranges: [240.11.0.0/16, 'fd00:11::/112', 10.0.0.10-10.0.0.20], reserved: [240.11.0.0, 240.11.0.1], \
          gateways: {matchLabels: {role: gateway}}, namespaceSelector: {}, quotaPerNamespace: 100, assignedBy: ControlPlane}",
        ),
        ("crd-good-one", "{ranges: [240.12.0.1, '::1'], quotaPerNamespace: 0}"),
        ("crd-good-rack", "{assignedBy: DataPlane}"),
    ];
    let accesses = [
        (
            "checkout",
            "{service: {name: checkout}, ports: [{name: http}], clusters: {names: [east, west]}, hostnames: \
          [checkout.example.com], vip: {per: Service, pool: edge, families: [IPv4], addresses: []}, publish: {evidence: Strongest, \
          minGateways: 1, ttlSeconds: 5}, policies: {loadBalancing: {name: lb-locality, config: {}}, vip: {name: vip-sticky}}}",
        ),
        ("catalog", "{}"),
        (
            "many",
            "{service: {selector: {matchExpressions: [{key: app.kubernetes.io/name, operator: In, values: [a, b]}]}}, \
          ports: [{number: 80}, {name: admin}], vip: {per: Pod, families: [IPv4, IPv6]}, publish: {dnsEndpoint: true, serviceStatus: true}}",
        ),
        (
            "both",
            "{vip: {addresses: [240.11.0.9, 'fd00:11::9']}, policies: {loadBalancing: {config: {algorithm: Random}}}}",
        ),
    ];
    for (name, spec) in infos {
        server.apply(&object("ClusterInfo", name, None, spec));
        let info = get(server, &["clusterinfo", name]);
        cluster_info(&read::<ClusterInfo>(info)).unwrap();
    }
    assert_filled(
        &get(server, &["ci", "crd-good-empty"]),
        &[("/spec/role", "Sub".into()), ("/spec/network", "default".into()), ("/spec/syncDown/accesses", "All".into())],
    );
    for (name, spec) in pools {
        server.apply(&object("VipPool", name, None, spec));
        vip_pool(&read::<VipPool>(get(server, &["vp", name]))).unwrap();
    }
    assert_filled(&get(server, &["vp", "crd-good-one"]), &[("/spec/assignedBy", "ControlPlane".into())]);
    for (name, spec) in accesses {
        server.apply(&object("ClusterAccess", name, Some(&namespace), spec));
        cluster_access(&read::<ClusterAccess>(get(server, &["ca", name, "-n", &namespace]))).unwrap();
    }
    assert_filled(
        &get(server, &["ca", "catalog", "-n", &namespace]),
        &[
            ("/spec/vip/per", "Service".into()),
            ("/spec/publish/evidence", "Strongest".into()),
            ("/spec/publish/minGateways", 1.into()),
            ("/spec/publish/ttlSeconds", 5.into()),
            ("/spec/publish/dnsEndpoint", false.into()),
        ],
    );
    let pod = "{name: checkout-7d9f-abcde, uid: u, node: n1, zone: a, addresses: [10.1.2.3], ports: {http: 8080}, ready: true, \
               weight: 1, drain: false}";
    let spec =
        format!("{{owner: System, access: checkout, cluster: east, pods: [{pod}, {{name: vm-1, weight: 1000}}]}}");
    server.apply(&object("EndpointSnapshot", "checkout-east-0", Some(&namespace), &spec));
    server.apply(&object("EndpointSnapshot", "mine", Some(&namespace), "{access: checkout}"));
    let snapshot: EndpointSnapshotSpec = spec_of(server, &["es", "checkout-east-0", "-n", &namespace]);
    assert_eq!(snapshot.pods.len(), 2);
    let taken = |name: &str| {
        let object = read::<EndpointSnapshot>(get(server, &["es", name, "-n", &namespace]));
        endpoint_snapshot(&object).unwrap().object
    };
    assert_eq!(taken("checkout-east-0"), None, "Causeway's own say what is known already");
    assert!(taken("mine").is_some());
    let mine = get(server, &["es", "mine", "-n", &namespace, "--show-managed-fields"]);
    assert_filled(&mine, &[("/spec/owner", "User".into())]);
    let policy = format!(
        "{{world: lb-policy, component: {{digest: 'sha256:{digest}', from: {{upload: {{}}}}}}, config: {{a: [1]}}, \
         limits: {{fuel: 50000000, memoryMiB: 64}}}}"
    );
    server.apply(&object("Policy", "crd-good-mine", None, &policy));
    let taken = get(server, &["policies.causeway.dev", "crd-good-mine"]);
    assert_filled(&taken, &[("/spec/onFailure", "KeepLast".into()), ("/spec/config/a/0", 1.into())]);
    read::<PolicySpec>(taken["spec"].clone());
    let everything = server.kubectl(&["get", "causeway", "-A"]);
    for name in ["crd-good-east", "crd-good-rack", "checkout-east-0", "many", "crd-good-mine"] {
        assert!(everything.contains(name), "{name} is not in:\n{everything}");
    }
}

#[test]
fn a_snapshot_of_a_thousand_pods_costs_one_entry_of_managed_fields() {
    let server = shared(0);
    install(server);
    let namespace = server.namespace("crd-large");
    let pod = |n: u32| {
        let long = "a".repeat(180);
        format!(
            "{{name: pod-{long}-{n}, addresses: [10.0.{}.{}], ports: {{http: 8080}}, weight: 3}}",
            n / 250,
            n % 250 + 1
        )
    };
    let pods: Vec<String> = (0..1000).map(pod).collect();
    let spec = format!("{{access: checkout, pods: [{}]}}", pods.join(", "));
    server.apply(&object("EndpointSnapshot", "large", Some(&namespace), &spec));
    let large = get(server, &["es", "large", "-n", &namespace, "--show-managed-fields"]);
    let fields = large["metadata"]["managedFields"].to_string();
    assert!(fields.len() < 1000, "{} bytes of managedFields", fields.len());
}
