//! ServiceExports of the Multi-Cluster Services API, all the way to requests.

use std::time::Duration;

use causeway::dns::{Lookup, LookupData, Outcome, QueryType};
use serde_json::Value;

use super::deploy::printed;
use super::mcs::{self, VERSIONS};
use super::members::Scene;
use super::setup::{Pod, Setup, wait_cluster};
use crate::e2e::{clusterset, resolve};
use crate::support::eventually;
use crate::support::fleet::ControlPlane;
use crate::support::traffic;

const WITHIN: Duration = Duration::from_secs(30);

fn access(plane: &ControlPlane, name: &str) -> Option<Value> {
    plane.row("/api/v1/accesses", "name", name)
}

fn wait_from(plane: &ControlPlane, name: &str, from: &str) -> Value {
    eventually(&format!("the access {name} to be from {from}"), WITHIN, || {
        access(plane, name).filter(|row| row["from"] == from)
    })
}

async fn ask(plane: &ControlPlane, name: &str, kind: QueryType) -> Lookup {
    causeway::dns::lookup(plane.dns, name, kind).await.expect("the server answers")
}

fn services(lookup: &Lookup) -> Vec<(u16, String)> {
    let of = |data: &LookupData| match data {
        LookupData::Service { port, target } => Some((*port, target.clone())),
        _ => None,
    };
    lookup.records.iter().filter_map(|record| of(&record.data)).collect()
}

fn problem(plane: &ControlPlane, object: &str) -> Option<String> {
    let status = plane.get("/api/v1/status");
    let problems = status["problems"].as_array().expect("a list").iter();
    let found = problems.filter(|problem| problem["object"] == object);
    found.map(|problem| problem["message"].as_str().unwrap_or_default().to_owned()).next()
}

#[tokio::test(flavor = "multi_thread")]
async fn exported_services_are_reached_in_the_clusters_that_export_them_and_in_no_other() {
    let setup = Setup::new(&["primary", "east", "west"]);
    let (east, west) = (setup.server("east"), setup.server("west"));
    // The primary has none of the kinds, and one cluster knows but the older version.
    mcs::install(east, VERSIONS);
    mcs::install(west, &["v1alpha1"]);
    for cluster in ["primary", "east", "west"] {
        for service in ["checkout", "private"] {
            let pods = setup.start_pods(cluster, service, 2).await;
            setup.put_service(cluster, service, &pods);
        }
    }
    east.apply(
        "apiVersion: v1\nkind: Service\nmetadata: {namespace: shop, name: elsewhere}\nspec: {type: ExternalName, externalName: \
         db.example.com}\n",
    );
    east.apply(&[mcs::export("v1beta1", "checkout"), mcs::export("v1beta1", "elsewhere")].join("---\n"));
    let plane = setup.started();
    for cluster in ["primary", "east", "west"] {
        wait_cluster(&plane, cluster, "Synced", WITHIN);
    }
    let _gateway = setup.gateway(&plane);
    wait_from(&plane, "checkout", "ServiceExport east");
    let name = clusterset("checkout");
    let vip = resolve(&plane, "checkout");
    let tally = traffic::send(vip, &name, 60).await;
    assert_eq!(tally.failed, Vec::<String>::new());
    assert!(tally.answered_by("-east-"), "{:?}", tally.answered);
    for cluster in ["-primary-", "-west-"] {
        assert!(!tally.answered_by(cluster), "{cluster} does not export: {:?}", tally.answered);
    }

    // What is not exported is not there, and what cannot be exported is told.
    assert_eq!(ask(&plane, &clusterset("private"), QueryType::A).await.outcome, Outcome::NoSuchName);
    assert_eq!(access(&plane, "private"), None);
    assert_eq!(access(&plane, "elsewhere"), None);
    let why = problem(&plane, "ServiceExport shop/elsewhere").expect("it is told");
    assert!(why.contains("ExternalName"), "{why}");
    let srv = ask(&plane, &format!("_main._tcp.{name}"), QueryType::Srv).await;
    assert_eq!(services(&srv), [(vip.port(), format!("{name}."))]);

    // A second cluster exports it: the same VIP, more endpoints.
    west.apply(&mcs::export("v1alpha1", "checkout"));
    wait_from(&plane, "checkout", "ServiceExport east,west");
    let tally = eventually_both(&plane, &name).await;
    assert_eq!(tally.failed, Vec::<String>::new());
    assert!(!tally.answered_by("-primary-"), "{:?}", tally.answered);
    assert_eq!(resolve(&plane, "checkout"), vip);

    // The first one does no longer.
    east.kubectl(&["-n", "shop", "delete", "serviceexport", "checkout"]);
    wait_from(&plane, "checkout", "ServiceExport west");
    eventually("requests to reach the other cluster alone", WITHIN, || {
        let tally =
            tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(traffic::send(vip, &name, 20)));
        assert_eq!(tally.failed, Vec::<String>::new());
        (tally.answered_by("-west-") && !tally.answered_by("-east-")).then_some(())
    });

    // With the last export the name goes, and then the VIP.
    west.kubectl(&["-n", "shop", "delete", "serviceexport", "checkout"]);
    eventually("the access to be gone", WITHIN, || access(&plane, "checkout").is_none().then_some(()));
    eventually("the VIP to be gone", Duration::from_secs(60), || plane.vips().is_empty().then_some(()));
    assert_eq!(ask(&plane, &name, QueryType::A).await.outcome, Outcome::NoSuchName);
}

async fn eventually_both(plane: &ControlPlane, name: &str) -> traffic::Tally {
    let until = std::time::Instant::now() + WITHIN;
    loop {
        let tally = traffic::send(resolve(plane, "checkout"), name, 40).await;
        if tally.answered_by("-east-") && tally.answered_by("-west-") {
            return tally;
        }
        assert!(std::time::Instant::now() < until, "{:?}", tally.answered);
    }
}

/// A headless service, and one pod of it with a host name.
fn stateful(service: &str, pod: &Pod) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{namespace: shop, name: {service}}}\nspec: {{clusterIP: None, ports: [{{name: sql, port: \
         5432}}]}}\n---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{namespace: shop, name: {service}-1, labels: \
         {{kubernetes.io/service-name: {service}}}}}\naddressType: IPv4\nports: [{{name: sql, port: {}}}]\nendpoints: [{{addresses: \
         [\"{}\"], hostname: {service}-0, conditions: {{ready: {}}}}}]\n",
        pod.address.port(),
        pod.address.ip(),
        pod.ready
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_tells_of_exports_once_it_may_read_them_and_headless_ones_are_answered_with_their_pods() {
    let mut scene = Scene::new(&["primary", "east"]);
    let east = scene.setup.server("east");
    scene.start();
    let file = scene.join("east");
    mcs::install(east, VERSIONS);
    // A reader whose role is of an earlier version.
    let role = ["get", "clusterrole", "causeway-reader", "-o", "json"];
    let mut older: Value = serde_json::from_str(&east.kubectl(&role)).expect("kubectl prints JSON");
    let rules = older["rules"].as_array_mut().expect("a list");
    rules.retain(|rule| rule["apiGroups"][0] != "multicluster.x-k8s.io");
    assert!(east.kubectl_with(&["replace", "-f", "-"], &older.to_string()).status.success());
    let pods = scene.setup.start_pods("east", "db", 1).await;
    east.apply(&stateful("db", &pods[0]));
    east.apply(&mcs::export("v1beta1", "db"));
    let _member = scene.member("east", &file);
    wait_cluster(&scene.plane, "east", "Synced", WITHIN);
    assert_eq!(access(&scene.plane, "db"), None);
    assert!(scene.member_log("east").contains("ServiceExports may not be read"), "{}", scene.member_log("east"));

    east.apply(&printed(&["rbac", "sub-cluster"]));
    let row = wait_from(&scene.plane, "db", "ServiceExport east");
    assert_eq!(row["vips"].as_array().map(Vec::len), Some(0), "{row}");
    let name = clusterset("db");
    let host = format!("db-0.east.{name}");
    for asked in [&name, &host] {
        assert_eq!(ask(&scene.plane, asked, QueryType::A).await.addresses(), [pods[0].address.ip()], "{asked}");
    }
    let target = [(pods[0].address.port(), format!("{host}."))];
    for asked in [format!("_sql._tcp.{name}"), name.clone()] {
        assert_eq!(services(&ask(&scene.plane, &asked, QueryType::Srv).await), target, "{asked}");
    }
    let out = Pod { ready: false, ..pods[0].clone() };
    east.apply(&stateful("db", &out));
    eventually("the names of a pod that is not ready to be gone", WITHIN, || {
        scene.plane.resolve(&name).is_empty().then_some(())
    });
    for asked in [&name, &host] {
        assert_eq!(ask(&scene.plane, asked, QueryType::A).await.outcome, Outcome::NoSuchName, "{asked}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kind_may_come_and_go_and_a_cluster_access_stands_before_exports() {
    let setup = Setup::new(&["primary", "east"]);
    let pods = setup.start_pods("east", "checkout", 1).await;
    setup.put_service("east", "checkout", &pods);
    let plane = setup.started();
    wait_cluster(&plane, "east", "Synced", WITHIN);
    assert_eq!(access(&plane, "checkout"), None);
    let east = setup.server("east");
    mcs::install(east, &["v1alpha1"]);
    east.apply(&mcs::export("v1alpha1", "checkout"));
    wait_from(&plane, "checkout", "ServiceExport east");
    let vip = eventually("a VIP", WITHIN, || plane.vips().first().map(|vip| vip["address"].clone()));

    // A ClusterAccess takes over what was given to the export.
    setup.primary().apply(&crate::support::manifests::access_yaml("checkout", "edge", 1));
    wait_from(&plane, "checkout", "ClusterAccess");
    assert_eq!(plane.vips().first().map(|row| row["address"].clone()), Some(vip.clone()));
    setup.primary().kubectl(&["-n", "shop", "delete", "clusteraccess", "checkout"]);
    wait_from(&plane, "checkout", "ServiceExport east");
    assert_eq!(plane.vips().first().map(|row| row["address"].clone()), Some(vip));

    // A newer version comes beside the one that is watched, which then goes.
    mcs::install(east, VERSIONS);
    east.kubectl(&[
        "patch",
        "crd",
        "serviceexports.multicluster.x-k8s.io",
        "--type=json",
        "--patch",
        r#"[{"op": "replace", "path": "/spec/versions/0/served", "value": false}]"#,
    ]);
    east.apply(&mcs::export("v1beta1", "private"));
    eventually("an export of the newer version to be told", WITHIN, || {
        problem(&plane, "ServiceExport shop/private").filter(|why| why.contains("no Service shop/private"))
    });
    assert!(access(&plane, "checkout").is_some_and(|row| row["from"] == "ServiceExport east"));

    // With the kind all its objects go.
    east.kubectl(&["delete", "crd", "serviceexports.multicluster.x-k8s.io"]);
    eventually("what was exported to be gone", WITHIN, || access(&plane, "checkout").is_none().then_some(()));
    assert_eq!(problem(&plane, "ServiceExport shop/private"), None);
    wait_cluster(&plane, "east", "Synced", WITHIN);
}
