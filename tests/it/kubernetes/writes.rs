//! What Causeway writes to the primary's API server: that it is right, that it is restored when others change it, and
//! that nothing is written that need not be.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::setup::{PORT, Setup, wait_cluster};
use crate::e2e::{clusterset, resolve};
use crate::support::apiserver::ApiServer;
use crate::support::fleet::ControlPlane;
use crate::support::traffic::Stream;
use crate::support::{eventually, manifests};

const WITHIN: Duration = Duration::from_secs(30);
/// How long nothing is to happen.
const QUIET: Duration = Duration::from_secs(10);

/// The objects of a kind in the namespace `shop`, or of all, by name.
fn objects(server: &ApiServer, kind: &str) -> BTreeMap<String, Value> {
    let list: Value = serde_json::from_str(&server.kubectl(&["-n", "shop", "get", kind, "-o", "json"])).unwrap();
    let items = list["items"].as_array().unwrap().iter();
    items.map(|item| (item["metadata"]["name"].as_str().unwrap().to_owned(), item.clone())).collect()
}

fn names(objects: &BTreeMap<String, Value>) -> Vec<&str> {
    objects.keys().map(String::as_str).collect()
}

/// The pods of a snapshot, by name.
fn pods(snapshot: &Value) -> BTreeMap<String, Value> {
    let pods = snapshot["spec"]["pods"].as_array().into_iter().flatten();
    pods.map(|pod| (pod["name"].as_str().unwrap().to_owned(), pod.clone())).collect()
}

/// How many writes of each resource that Causeway writes the API server has answered, by its own count.
fn writes(server: &ApiServer) -> BTreeMap<String, u64> {
    let mut writes = BTreeMap::new();
    for line in server.kubectl(&["get", "--raw", "/metrics"]).lines() {
        let Some(labels) = line.strip_prefix("apiserver_request_total{") else { continue };
        let label = |name: &str| labels.split_once(&format!("{name}=\"")).and_then(|(_, rest)| rest.split('"').next());
        let is_write = matches!(label("verb"), Some("APPLY" | "PATCH" | "POST" | "PUT" | "DELETE"));
        let ours = label("group") == Some("causeway.dev") || label("resource") == Some("services");
        if let (true, true, Some(resource), Some((_, count))) =
            (is_write, ours, label("resource"), line.rsplit_once(' '))
        {
            let what = match label("subresource") {
                Some("") | None => resource.to_owned(),
                Some(subresource) => format!("{resource}/{subresource}"),
            };
            *writes.entry(what).or_default() += count.parse::<f64>().unwrap() as u64;
        }
    }
    writes
}

/// What was written since.
fn since(server: &ApiServer, before: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let now = writes(server).into_iter();
    let more = now.map(|(what, count)| (what.clone(), count - before.get(&what).copied().unwrap_or_default()));
    more.filter(|(_, count)| *count > 0).collect()
}

/// Waits until nothing was written for a second.
fn wait_quiet(server: &ApiServer) -> BTreeMap<String, u64> {
    let mut before = writes(server);
    eventually("the writes to end", WITHIN, || {
        std::thread::sleep(Duration::from_secs(2));
        let now = writes(server);
        (std::mem::replace(&mut before, now.clone()) == now).then_some(now)
    })
}

/// The condition of an object, as its status and reason.
fn condition(object: &Value, kind: &str) -> Option<(String, String)> {
    let conditions = object["status"]["conditions"].as_array()?;
    let found = conditions.iter().find(|condition| condition["type"] == kind)?;
    Some((found["status"].as_str()?.to_owned(), found["reason"].as_str()?.to_owned()))
}

fn wait_condition(setup: &Setup, object: &str, kind: &str, wanted: (&str, &str)) -> Value {
    let mut last = Value::Null;
    let until = std::time::Instant::now() + WITHIN;
    loop {
        let (resource, name) = object.split_once('/').unwrap();
        if let Some(object) = setup.get(resource, name) {
            if condition(&object, kind) == Some((wanted.0.to_owned(), wanted.1.to_owned())) {
                return object;
            }
            last = object;
        }
        assert!(std::time::Instant::now() < until, "{kind} of {object} is not {wanted:?}: {last:#}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn wait_synced(plane: &ControlPlane, clusters: &[&str]) {
    clusters.iter().for_each(|cluster| drop(wait_cluster(plane, cluster, "Synced", WITHIN)));
}

#[tokio::test(flavor = "multi_thread")]
async fn statuses_and_snapshots_are_there_once_and_nothing_is_written_while_nothing_changes() {
    let setup = Setup::new(&["primary", "east"]);
    let local = setup.start_pods("primary", "checkout", 2).await;
    setup.put_service("primary", "checkout", &local);
    let mut east = setup.start_pods("east", "checkout", 2).await;
    setup.put_service("east", "checkout", &east);
    setup.primary().apply(&manifests::access_yaml("checkout", "edge", 1));
    let plane = setup.started();
    wait_synced(&plane, &["primary", "east"]);
    let _gateway = setup.gateway(&plane);
    resolve(&plane, "checkout");
    let server = setup.primary();

    let access = wait_condition(&setup, "clusteraccess/checkout", "Published", ("True", "BoundOnAll"));
    let vip = access["status"]["vips"][0]["address"].as_str().unwrap().to_owned();
    assert_eq!(access["status"]["observedGeneration"], access["metadata"]["generation"]);
    assert_eq!(condition(&access, "Accepted").unwrap().0, "True");
    for (cluster, services) in [("primary", 1), ("east", 1)] {
        let info = wait_condition(&setup, &format!("clusterinfo/{cluster}"), "Synced", ("True", "Synced"));
        assert_eq!(info["status"]["state"], "Synced");
        assert!(info["status"]["counts"]["services"].as_u64().unwrap() >= services, "{info:#}");
        assert!(info["status"]["serverVersion"].as_str().unwrap().starts_with('v'), "{info:#}");
    }
    let object = eventually("the VirtualIp's proof", WITHIN, || {
        setup.get("virtualip", &vip).filter(|object| object["status"]["state"] == "Published")
    });
    assert_eq!((&object["spec"]["access"], &object["status"]["bound"]), (&"shop/checkout".into(), &"1/1".into()));
    assert_eq!(object["status"]["gateways"][0]["node"], "gw-1");
    assert_eq!(object["status"]["proof"], "active");
    // Each object is written by itself; when nothing is written any more, all say what holds.
    wait_quiet(server);
    let pool = setup.get("vippool", "edge").unwrap();
    assert_eq!((pool["status"]["used"].as_u64(), pool["status"]["free"].as_i64()), (Some(1), Some(15)));
    let snapshots = objects(server, "endpointsnapshots");
    assert_eq!(names(&snapshots), ["checkout.east.0", "checkout.primary.0"]);
    for (name, snapshot) in &snapshots {
        let cluster = name.split('.').nth(1).unwrap();
        let wanted = [format!("checkout-{cluster}-0"), format!("checkout-{cluster}-1")];
        assert_eq!(pods(snapshot).into_keys().collect::<Vec<_>>(), wanted);
        assert_eq!(snapshot["status"]["vips"][0], vip.as_str(), "{snapshot:#}");
        assert_eq!(snapshot["status"]["hostnames"][0], clusterset("checkout"));
        assert!(snapshot["status"]["boundAt"].is_string());
    }
    let shown = server.kubectl(&["get", "causeway", "-A"]);
    for part in
        ["clusterinfo.causeway.dev/east", "virtualip.causeway.dev/", "endpointsnapshot.causeway.dev/checkout.east.0"]
    {
        assert!(shown.contains(part), "{shown}");
    }

    let before = wait_quiet(server);
    std::thread::sleep(QUIET);
    assert_eq!(since(server, &before), BTreeMap::new(), "nothing changed, and something was written");

    // One pod's readiness flips: the one object that lists it is written, once.
    east[0].ready = false;
    setup.put_service("east", "checkout", &east);
    eventually("the pod's readiness", WITHIN, || {
        let snapshot = setup.get("endpointsnapshot", "checkout.east.0")?;
        (pods(&snapshot)["checkout-east-0"]["ready"] == false).then_some(())
    });
    wait_quiet(server);
    assert_eq!(since(server, &before), BTreeMap::from([("endpointsnapshots".to_owned(), 1)]));

    // A restart finds everything as it is.
    let before = wait_quiet(server);
    let mut plane = plane;
    plane.process().kill();
    plane.restart();
    plane.wait_ready();
    wait_synced(&plane, &["primary", "east"]);
    resolve(&plane, "checkout");
    wait_quiet(server);
    let after = since(server, &before);
    println!("written over a restart: {after:?}");
    assert_eq!(after.get("endpointsnapshots"), None, "the snapshots' contents were written again");
    assert_eq!(after.get("virtualips"), None, "the ledger was written again");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_change_is_restored() {
    let setup = Setup::new(&["primary", "east"]);
    setup.deploy("checkout", 2).await;
    let plane = setup.started();
    wait_synced(&plane, &["primary", "east"]);
    let _gateway = setup.gateway(&plane);
    let stream = Stream::start(resolve(&plane, "checkout"), &clusterset("checkout"), 50);
    let server = setup.primary();
    let access = wait_condition(&setup, "clusteraccess/checkout", "Published", ("True", "BoundOnAll"));
    let vip = access["status"]["vips"][0]["address"].as_str().unwrap();
    wait_quiet(server);
    let whole = |name: &str| pods(&setup.get("endpointsnapshot", name)?).len().eq(&2).then_some(());
    eventually("the snapshots", WITHIN, || whole("checkout.east.0").and(whole("checkout.primary.0")));

    server.kubectl(&["-n", "shop", "delete", "endpointsnapshot", "checkout.east.0"]);
    eventually("the deleted snapshot", WITHIN, || whole("checkout.east.0"));
    let patch = ["-n", "shop", "patch", "endpointsnapshot", "checkout.primary.0", "--type=merge", "-p"];
    server.kubectl(&[&patch[..], &[r#"{"spec": {"pods": [], "owner": "User"}}"#]].concat());
    eventually("the edited snapshot", WITHIN, || whole("checkout.primary.0"));
    assert_eq!(setup.get("endpointsnapshot", "checkout.primary.0").unwrap()["spec"]["owner"], "System");

    let uid = |vip: &str| setup.get("virtualip", vip).map(|object| object["metadata"]["uid"].clone());
    let before = uid(vip);
    server.kubectl(&["delete", "virtualip", vip]);
    eventually("the deleted VirtualIp", WITHIN, || uid(vip).filter(|uid| Some(uid) != before.as_ref()));
    server.kubectl(&[
        "patch",
        "virtualip",
        vip,
        "--type=merge",
        "-p",
        r#"{"spec": {"phase": "Removing", "since": 1}}"#,
    ]);
    eventually("the edited VirtualIp", WITHIN, || {
        setup.get("virtualip", vip).filter(|object| object["spec"]["phase"] == "Held")
    });
    let patch = ["-n", "shop", "patch", "clusteraccess", "checkout", "--subresource=status", "--type=merge", "-p"];
    server.kubectl(&[&patch[..], &[r#"{"status": {"vips": []}}"#]].concat());
    eventually("the edited status", WITHIN, || {
        setup.get("clusteraccess", "checkout").filter(|object| object["status"]["vips"][0]["address"] == vip)
    });
    assert_eq!(plane.vips().len(), 1);
    assert_eq!(stream.stop().await.failed, Vec::<String>::new());

    // With the access goes what was made for it.
    server.kubectl(&["-n", "shop", "delete", "clusteraccess", "checkout"]);
    eventually("the snapshots and the VirtualIp to go", Duration::from_secs(60), || {
        (objects(server, "endpointsnapshots").is_empty() && objects(server, "virtualips").is_empty()).then_some(())
    });
}

/// A VirtualIp as somebody else would write it.
fn virtual_ip(address: &str, access: &str) -> String {
    format!(
        "apiVersion: causeway.dev/v1alpha1\nkind: VirtualIp\nmetadata: {{name: {address}}}\nspec: {{address: {address}, pool: edge, \
         access: {access}, service: {access}, phase: Held, listening: {{ports: [{{name: main, port: {PORT}, protocol: Http}}], \
         hostnames: [], gateways: {{match_labels: {{}}, match_expressions: []}}}}, ttlSeconds: 5, allocatedAt: 1, changedAt: 1}}\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn creating_a_virtual_ip_is_what_allocates() {
    let setup = Setup::new(&["primary"]);
    let server = setup.primary();
    let pool = setup.get("vippool", "edge").unwrap()["spec"]["ranges"][0].as_str().unwrap().to_owned();
    let net = pool.rsplit_once('.').unwrap().0;
    let of = |last: u8| format!("{net}.{last}");
    // The first is somebody else's, and says nothing that can be read; the sixth is kept for an access that will come.
    server.apply(&virtual_ip(&of(0), "other/one").replace("protocol: Http", "protocol: Nonsense"));
    server.apply(&virtual_ip(&of(5), "shop/pinned"));
    let pods = setup.start_pods("primary", "checkout", 1).await;
    setup.put_service("primary", "checkout", &pods);
    setup.put_service("primary", "pinned", &pods);
    let plane = setup.started();
    wait_synced(&plane, &["primary"]);
    server.apply(&manifests::access_yaml("pinned", "edge", 1));
    server.apply(&manifests::access_yaml("checkout", "edge", 1));
    let address = |access: &str| {
        let access = format!("shop/{access}");
        let vips = plane.vips();
        vips.iter().find(|vip| vip["access"] == access.as_str()).map(|vip| vip["address"].as_str().unwrap().to_owned())
    };
    assert_eq!(eventually("an address", WITHIN, || address("checkout")), of(1));
    assert_eq!(eventually("the pinned address", WITHIN, || address("pinned")), of(5));
    let problems = plane.get("/api/v1/status")["problems"].to_string();
    assert!(problems.contains(&format!("VirtualIp {}", of(0))) && problems.contains("kubectl delete"), "{problems}");
    // Somebody takes the next one while this runs.
    server.apply(&virtual_ip(&of(2), "shop/checkout"));
    setup.put_service("primary", "catalog", &pods);
    server.apply(&manifests::access_yaml("catalog", "edge", 1));
    assert_eq!(eventually("an address", WITHIN, || address("catalog")), of(3));
    let names = objects(server, "virtualips");
    assert_eq!(names.keys().map(String::as_str).collect::<Vec<_>>(), [of(0), of(1), of(2), of(3), of(5)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_access_with_ten_thousand_pods_is_cut_into_objects() {
    let setup = Setup::new(&["primary"]);
    let server = setup.primary();
    let slice = |number: usize, ready: bool| {
        let endpoint = |n: usize| {
            format!(
                "{{addresses: [10.{}.{}.{}], conditions: {{ready: {}}}, nodeName: ip-10-0-{}-{}.eu-central-1.compute.internal, zone: \
                 eu-central-1a, targetRef: {{kind: Pod, namespace: shop, name: large-7d9f8b6c5d-{number:02}{n:03}, uid: \
                 0f0f0f0f-0000-4000-8000-{number:06}{n:06}}}}}",
                10 + number,
                n / 250,
                1 + n % 250,
                ready || n != 7,
                number,
                n % 100
            )
        };
        format!(
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{namespace: shop, name: large-{number}, labels: \
             {{kubernetes.io/service-name: large}}}}\naddressType: IPv4\nports: [{{name: main, port: 8080}}]\nendpoints: [{}]\n",
            (0..1000).map(endpoint).collect::<Vec<_>>().join(", ")
        )
    };
    let service = super::setup::service_yaml("large", &[]);
    let slices: Vec<String> = (0..10).map(|number| slice(number, true)).collect();
    server.apply(&format!("{service}---\n{}", slices.join("---\n")));
    server.apply(&manifests::access_yaml("large", "edge", 1));
    let plane = setup.started();
    wait_synced(&plane, &["primary"]);
    let all = || objects(server, "endpointsnapshots").values().map(|snapshot| pods(snapshot).len()).sum::<usize>();
    eventually("all pods in snapshots", WITHIN, || (all() == 10_000).then_some(()));
    let snapshots = objects(server, "endpointsnapshots");
    let bytes = snapshots.values().map(|snapshot| snapshot.to_string().len());
    let largest = bytes.max().unwrap();
    println!("10,000 pods in {} objects, the largest of {} KiB", snapshots.len(), largest >> 10);
    assert!(largest < 256 << 10);
    let before = wait_quiet(server);
    server.apply(&slice(3, false));
    eventually("the pod's readiness", WITHIN, || {
        let all = objects(server, "endpointsnapshots");
        all.values()
            .find_map(|snapshot| pods(snapshot).remove("large-7d9f8b6c5d-03007"))
            .filter(|pod| pod["ready"] == false)
    });
    wait_quiet(server);
    assert_eq!(since(server, &before), BTreeMap::from([("endpointsnapshots".to_owned(), 1)]));
}

pub const DNS_ENDPOINT: &str = "apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: dnsendpoints.externaldns.k8s.io, annotations: {api-approved.kubernetes.io: 'https://github.com/kubernetes-sigs/external-dns/pull/2007'}}
spec:
  group: externaldns.k8s.io
  names: {kind: DNSEndpoint, listKind: DNSEndpointList, plural: dnsendpoints, singular: dnsendpoint}
  scope: Namespaced
  versions:
  - name: v1alpha1
    served: true
    storage: true
    subresources: {status: {}}
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            properties:
              endpoints:
                type: array
                items:
                  type: object
                  properties:
                    dnsName: {type: string}
                    recordTTL: {type: integer, format: int64}
                    recordType: {type: string}
                    targets: {type: array, items: {type: string}}
";

#[tokio::test(flavor = "multi_thread")]
async fn services_and_external_dns_are_told_published_addresses_where_asked() {
    let setup = Setup::new(&["primary"]);
    let server = setup.primary();
    let pods = setup.start_pods("primary", "checkout", 1).await;
    setup.put_service("primary", "checkout", &pods);
    let access = "apiVersion: causeway.dev/v1alpha1\nkind: ClusterAccess\nmetadata: {namespace: shop, name: checkout}\nspec: {hostnames: \
                  [checkout.example.com], vip: {pool: edge}, publish: {serviceStatus: true, dnsEndpoint: true, ttlSeconds: 7}}\n";
    server.apply(access);
    let plane = setup.started();
    wait_synced(&plane, &["primary"]);
    let gateway = setup.gateway(&plane);
    resolve(&plane, "checkout");
    let said = wait_condition(&setup, "clusteraccess/checkout", "ServiceStatus", ("False", "NotLoadBalancer"));
    wait_condition(&setup, "clusteraccess/checkout", "DnsEndpoint", ("False", "NotWritten"));
    let address = said["status"]["vips"][0]["address"].clone();

    server.apply(DNS_ENDPOINT);
    let patch = r#"{"spec": {"type": "LoadBalancer", "loadBalancerClass": "causeway.dev/vip"}}"#;
    server.kubectl(&["-n", "shop", "patch", "service", "checkout", "--type=merge", "-p", patch]);
    let ingress = || Some(setup.get("service", "checkout")?["status"]["loadBalancer"]["ingress"][0]["ip"].clone());
    eventually("the Service's address", WITHIN, || ingress().filter(|ip| *ip == address));
    wait_condition(&setup, "clusteraccess/checkout", "ServiceStatus", ("True", "Written"));
    wait_condition(&setup, "clusteraccess/checkout", "DnsEndpoint", ("True", "Written"));
    let endpoint = setup.get("dnsendpoint", "checkout").unwrap()["spec"]["endpoints"][0].clone();
    let wanted = serde_json::json!({
        "dnsName": "checkout.example.com", "recordType": "A", "targets": [address], "recordTTL": 7,
    });
    assert_eq!(endpoint, wanted);
    // What is not proved any more is not said any more.
    drop(gateway);
    eventually("the Service's address to go", WITHIN, || ingress().filter(Value::is_null));
    eventually("the DNSEndpoint to go", WITHIN, || setup.get("dnsendpoint", "checkout").is_none().then_some(()));
    wait_condition(&setup, "clusteraccess/checkout", "DnsEndpoint", ("False", "NothingPublished"));
}

#[tokio::test(flavor = "multi_thread")]
async fn users_snapshots_say_what_they_are_bound_to_and_why_they_have_no_effect() {
    let setup = Setup::new(&["primary"]);
    let server = setup.primary();
    let pods_of_it = setup.start_pods("primary", "checkout", 2).await;
    setup.put_service("primary", "checkout", &pods_of_it);
    server.apply(&manifests::access_yaml("checkout", "edge", 1));
    let plane = setup.started();
    wait_synced(&plane, &["primary"]);
    let _gateway = setup.gateway(&plane);
    resolve(&plane, "checkout");
    let entry = |name: &str, access: &str, pod: &str| {
        server.apply(&format!(
            "apiVersion: causeway.dev/v1alpha1\nkind: EndpointSnapshot\nmetadata: {{namespace: shop, name: {name}}}\nspec: {{access: \
             {access}, pods: [{{name: {pod}, weight: 7}}]}}\n"
        ));
    };
    entry("heavier", "checkout", "checkout-primary-0");
    entry("nobody", "checkout", "no-such-pod");
    entry("early", "late", "late-primary-0");
    let heavier = wait_condition(&setup, "endpointsnapshot/heavier", "Effective", ("True", "Effective"));
    assert_eq!(heavier["status"]["vips"].as_array().unwrap().len(), 1, "{heavier:#}");
    assert_eq!(heavier["status"]["hostnames"][0], clusterset("checkout"));
    wait_condition(&setup, "endpointsnapshot/nobody", "Effective", ("False", "PodNotFound"));
    wait_condition(&setup, "endpointsnapshot/early", "Effective", ("False", "AccessNotFound"));
    // Causeway's own object shows the pod as it is served.
    let ours_has_weight = |weight: u32| {
        eventually("the weight in Causeway's own object", WITHIN, || {
            let ours = setup.get("endpointsnapshot", "checkout.primary.0")?;
            (pods(&ours)["checkout-primary-0"]["weight"] == weight).then_some(())
        });
    };
    ours_has_weight(7);
    // What was missing comes.
    let late = setup.start_pods("primary", "late", 1).await;
    setup.put_service("primary", "late", &late);
    server.apply(&manifests::access_yaml("late", "edge", 1));
    wait_condition(&setup, "endpointsnapshot/early", "Effective", ("True", "Effective"));
    server.kubectl(&["-n", "shop", "delete", "endpointsnapshot", "heavier"]);
    ours_has_weight(1);
    let before = wait_quiet(server);
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(since(server, &before), BTreeMap::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_definitions_let_through_and_makes_no_sense_is_told_in_its_status() {
    let setup = Setup::new(&["primary"]);
    let server = setup.primary();
    let plane = setup.started();
    wait_synced(&plane, &["primary"]);
    // What a definition's rules cannot say.
    let pool = |ranges: &str| {
        server.apply(&format!(
            "apiVersion: causeway.dev/v1alpha1\nkind: VipPool\nmetadata: {{name: odd}}\nspec: {{ranges: [{ranges}]}}\n"
        ));
    };
    for (ranges, wanted) in [("10.0.0.20-10.0.0.10", "spec.ranges[0]"), ("240.0.0.0/4", "spec.ranges[0]")] {
        pool(ranges);
        let said = eventually("the fault in the status", WITHIN, || {
            let pool = setup.get("vippool", "odd")?;
            let is_current = pool["status"]["observedGeneration"] == pool["metadata"]["generation"];
            is_current
                .then_some(pool)
                .filter(|pool| condition(pool, "Accepted").is_some_and(|(_, why)| why == "Invalid"))
        });
        let message = said["status"]["conditions"][0]["message"].as_str().unwrap();
        assert!(message.starts_with(wanted), "{message}");
    }
    pool("10.0.0.10-10.0.0.20");
    wait_condition(&setup, "vippool/odd", "Accepted", ("True", "Accepted"));
}
