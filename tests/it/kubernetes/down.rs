//! What sub-clusters are given: names, VIPs and pods of others, by objects that their own clients understand.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde_json::{Value, json};

use super::mcs::{self, VERSIONS};
use super::members::Scene;
use super::setup::{PORT, Pod, Setup, get, service_yaml, wait_cluster};
use crate::e2e::clusterset;
use crate::support::apiserver::ApiServer;
use crate::support::fleet::{ControlPlane, Gateway, Speaks, ureq_get};
use crate::support::host::Host;
use crate::support::{eventually, free_addr, manifests, traffic};

pub const WITHIN: Duration = Duration::from_secs(60);
/// VIPs that may stand in EndpointSlices, which loopback addresses may not.
pub const POOL: &str = "240.77.0.0/28";

/// Clusters, a gateway on a host of its own, and a pool whose addresses that host has.
pub struct Stage {
    pub plane: ControlPlane,
    pub gateway: Gateway,
    pub setup: Setup,
    pub host: Host,
}

impl Stage {
    pub fn new(names: &[&'static str], pool: &str) -> Self {
        Self::with(Setup::unjoined(names), pool, &[])
    }

    /// Of clusters that are there; `flags` are further ones of the control plane.
    pub fn with(setup: Setup, pool: &str, flags: &[&str]) -> Self {
        let host = Host::new();
        host.route_here(pool);
        host.make_local(pool);
        setup.primary().apply(&manifests::pool_yaml("edge", pool));
        let near: IpAddr = host.near.parse().expect("an address");
        let port = free_addr().port();
        let xds = SocketAddr::from(([0, 0, 0, 0], port));
        let kubeconfig = setup.primary().kubeconfig().display().to_string();
        let flags = [&["--insecure"], flags].concat();
        let mut plane = ControlPlane::new(setup.dir.path(), &["--kubeconfig", &kubeconfig], xds, &flags);
        plane.restart();
        let to_plane = SocketAddr::new(near, port);
        let mut gateway = Gateway::new(setup.dir.path(), "gw-1", to_plane, Speaks::Delta).in_namespace(&host.name);
        gateway.start_envoy().start_agent();
        Self { plane, gateway, setup, host }
    }

    /// Pods of a service in a cluster, and the Service.
    pub async fn serve(&self, cluster: &str, service: &str, count: usize) {
        let address: IpAddr = self.host.near.parse().expect("an address");
        let mut pods = Vec::new();
        for index in 0..count {
            let (name, port) = (format!("{service}-{cluster}-{index}"), free_addr().port());
            self.setup.pods.start(&name, address, port).await;
            pods.push(Pod { name, address: SocketAddr::new(address, port), ready: true });
        }
        self.setup.put_service(cluster, service, &pods);
    }

    pub fn access(&self, name: &str) {
        self.setup.primary().apply(&manifests::access_yaml(name, "edge", 1));
    }

    pub fn published(&self, service: &str) -> IpAddr {
        eventually("the VIP", WITHIN, || self.plane.resolve(&clusterset(service)).first().copied())
    }

    /// How often something was written to a cluster, by what.
    pub fn writes(&self, cluster: &str, what: &str) -> u64 {
        let (_, page) = ureq_get(self.plane.admin, "/metrics").expect("metrics");
        let of = format!("causeway_sync_down_writes_total{{cluster=\"{cluster}\",what=\"{what}\"}} ");
        page.lines()
            .find_map(|line| line.strip_prefix(&of))
            .map_or(0, |count| count.parse::<f64>().expect("a number") as u64)
    }
}

fn writes_of(plane: &ControlPlane, cluster: &str, what: &str) -> u64 {
    let (_, page) = ureq_get(plane.admin, "/metrics").expect("metrics");
    let of = format!("causeway_sync_down_writes_total{{cluster=\"{cluster}\",what=\"{what}\"}} ");
    let count = page.lines().find_map(|line| line.strip_prefix(&of));
    count.map_or(0, |count| count.parse::<f64>().expect("a number") as u64)
}

pub fn wait_for(server: &ApiServer, kind: &str, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    eventually(&format!("{kind} {name}"), WITHIN, || get(server, kind, name).filter(|object| wanted(object)))
}

pub fn wait_gone(server: &ApiServer, kind: &str, name: &str) {
    eventually(&format!("{kind} {name} to go"), WITHIN, || get(server, kind, name).is_none().then_some(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_a_sub_cluster_reach_pods_of_the_primary_by_what_came_down_alone() {
    let stage = Stage::new(&["primary", "east"], POOL);
    let east = stage.setup.server("east");
    mcs::install(east, &["v1alpha1"]);
    stage.serve("primary", "checkout", 2).await;
    stage.access("checkout");
    stage.setup.pull("east");
    let vip = stage.published("checkout").to_string();

    let import = wait_for(east, "serviceimport", "checkout", |import| import["spec"]["ips"] == json!([vip]));
    assert_eq!(import["spec"]["type"], "ClusterSetIP");
    assert_eq!(
        import["spec"]["ports"],
        json!([{ "name": "main", "port": PORT, "protocol": "TCP", "appProtocol": "http" }])
    );
    wait_for(east, "serviceimport", "checkout", |import| {
        import["status"]["clusters"] == json!([{ "cluster": "primary" }])
    });
    let snapshot =
        wait_for(east, "endpointsnapshot", "checkout.primary.0", |snapshot| snapshot["status"]["vips"] == json!([vip]));
    let pods = snapshot["spec"]["pods"].as_array().expect("a list");
    assert_eq!(pods.len(), 2, "{snapshot}");
    assert!(
        snapshot["status"]["hostnames"].as_array().is_some_and(|names| names.contains(&json!(clusterset("checkout"))))
    );
    let (reason, _) = stage.setup.wait_condition("east", "SyncedDown", "True", WITHIN);
    assert_eq!(reason, "Written");

    // Nobody asked for Services here, and then somebody does, where a user has one of such a name already.
    assert!(get(east, "service", "checkout").is_none());
    east.apply("apiVersion: v1\nkind: Service\nmetadata: {namespace: shop, name: catalog, labels: {mine: \"yes\"}}\nspec: {ports: [{port: 1}]}\n");
    stage.serve("primary", "catalog", 1).await;
    stage.access("catalog");
    stage.published("catalog");
    east.kubectl(&["label", "namespace", "shop", "causeway.dev/sync-services=true"]);
    wait_for(east, "service", "checkout", |service| service["spec"]["selector"].is_null());
    let slice = wait_for(east, "endpointslice", "checkout.causeway.ipv4", |_| true);
    assert_eq!(slice["endpoints"][0]["addresses"], json!([vip]));
    assert_eq!(slice["metadata"]["labels"]["kubernetes.io/service-name"], "checkout");

    // What a client knows is in its own cluster, and leads to the primary's pods.
    let address = slice["endpoints"][0]["addresses"][0].as_str().expect("an address");
    let port = slice["ports"][0]["port"].as_u64().expect("a port") as u16;
    let to = SocketAddr::new(address.parse().expect("an address"), port);
    let tally = traffic::send(to, "checkout.shop.svc.cluster.local", 20).await;
    assert_eq!(tally.failed, Vec::<String>::new());
    assert!(tally.answered_by("checkout-primary-0") && tally.answered_by("checkout-primary-1"), "{tally:?}");

    // What is a user's stays as it was, and that is said.
    let message = eventually("what stands in the way to be said", WITHIN, || {
        let (reason, message) = stage.setup.wait_condition("east", "SyncedDown", "False", WITHIN);
        (reason == "InTheWay").then_some(message)
    });
    assert!(message.contains("Service shop/catalog"), "{message}");
    assert_eq!(get(east, "service", "catalog").expect("it is there")["spec"]["ports"][0]["port"], 1);

    // Nothing of it is a source: east has its own Service alone.
    let row = wait_cluster(&stage.plane, "east", "Synced", WITHIN);
    assert_eq!(row["services"], 2, "catalog, and the API server's own: {row}");
    assert!(get(stage.setup.primary(), "endpointsnapshot", "checkout.east.0").is_none());

    // Who deletes or changes what came down gets it back, and nothing else is written again.
    let all = |what| stage.writes("east", what);
    let mut counts = ["create", "change"].map(all);
    eventually("nothing to be written", WITHIN, || {
        std::thread::sleep(Duration::from_secs(2));
        let now = ["create", "change"].map(all);
        (std::mem::replace(&mut counts, now) == now).then_some(())
    });
    let [created, changed] = counts;
    east.kubectl(&["-n", "shop", "delete", "serviceimport", "checkout"]);
    east.kubectl(&[
        "-n",
        "shop",
        "patch",
        "service",
        "checkout",
        "-p",
        r#"{"spec":{"ports":[{"port":8080,"name":"other"}]}}"#,
    ]);
    wait_for(east, "serviceimport", "checkout", |import| {
        import["spec"]["ips"] == json!([vip]) && import["status"]["clusters"][0]["cluster"] == "primary"
    });
    wait_for(east, "service", "checkout", |service| service["spec"]["ports"][0]["name"] == "main");
    eventually("both writes, and a status", WITHIN, || {
        ((all("create"), all("change")) == (created + 1, changed + 2)).then_some(())
    });

    // A restart of the primary takes nothing away and writes nothing.
    stage.plane_restarts_quietly(&vip).await;
}

impl Stage {
    async fn plane_restarts_quietly(mut self, vip: &str) {
        let east = self.setup.server("east");
        let versions = || {
            ["serviceimport/checkout", "service/checkout", "endpointslice/checkout.causeway.ipv4"]
                .map(|name| east.kubectl(&["-n", "shop", "get", name, "-o", "jsonpath={.metadata.resourceVersion}"]))
        };
        let before = versions();
        self.plane.process().kill();
        self.plane.restart();
        self.plane.wait_ready();
        assert_eq!(self.published("checkout").to_string(), vip);
        self.setup.wait_condition("east", "Connected", "True", WITHIN);
        // Longer than the time for which nothing is taken away.
        tokio::time::sleep(Duration::from_secs(33)).await;
        assert_eq!(versions(), before);
        assert_eq!(["create", "change", "delete"].map(|what| self.writes("east", what)), [0; 3]);

        // With the access all of it goes; what is a user's stays.
        self.setup.primary().kubectl(&["-n", "shop", "delete", "clusteraccess", "checkout"]);
        let kinds = ["serviceimport", "service", "endpointsnapshot", "endpointslice"];
        let names = ["checkout", "checkout", "checkout.primary.0", "checkout.causeway.ipv4"];
        kinds.into_iter().zip(names).for_each(|(kind, name)| wait_gone(east, kind, name));
        assert_eq!(
            get(east, "service", "catalog").expect("it is there")["metadata"]["labels"],
            json!({ "mine": "yes" })
        );

        // A cluster that is given nothing has nothing.
        let none = r#"{"spec":{"syncDown":{"accesses":"None"}}}"#;
        self.setup.primary().kubectl(&["patch", "clusterinfo", "east", "--type=merge", "-p", none]);
        wait_gone(east, "serviceimport", "catalog");
        wait_gone(east, "endpointsnapshot", "catalog.primary.0");
    }
}

/// What came down to a cluster, without what its API server made up.
fn what_came_down(server: &ApiServer) -> Vec<(String, Value, Value)> {
    let kinds = "serviceimports,endpointsnapshots,services,endpointslices";
    let text = server.kubectl(&["get", kinds, "-A", "-l", "causeway.dev/synced-down=true", "-o", "json"]);
    let list: Value = serde_json::from_str(&text).expect("kubectl prints JSON");
    let mut objects: Vec<(String, Value, Value)> = list["items"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|object| {
            let of = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
            let mut spec = object["spec"].clone();
            if let Some(spec) = spec.as_object_mut() {
                spec.retain(|key, _| !key.starts_with("clusterIP"));
            }
            let kind = object["kind"].as_str().unwrap_or_default();
            (format!("{kind} {}/{}", of("namespace"), of("name")), spec, object["status"].clone())
        })
        .collect();
    objects.sort_by(|one, other| one.0.cmp(&other.0));
    objects
}

const LONG: bool = cfg!(feature = "long-checks");
/// How long each cluster's API server is away.
const AWAY: Duration = Duration::from_secs(if LONG { 120 } else { 14 });

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_while_an_api_server_is_away_is_written_once_it_is_back_and_nothing_twice() {
    let mut scene = Scene::new(&["primary", "east", "west", "south"]);
    let subs = ["east", "west", "south"];
    for cluster in subs {
        let server = scene.setup.server(cluster);
        mcs::install(server, VERSIONS);
        server.kubectl(&["label", "namespace", "shop", "causeway.dev/sync-services=true"]);
    }
    let primary = scene.setup.primary();
    let service = |name: &str, pods: usize| {
        let pod = |n: usize| Pod {
            name: format!("{name}-{n}"),
            address: SocketAddr::from(([10, 9, 0, n as u8 + 1], 8080)),
            ready: true,
        };
        primary.apply(&service_yaml(name, &(0..pods).map(pod).collect::<Vec<_>>()));
    };
    let access = |name: &str| primary.apply(&manifests::access_yaml(name, "edge", 1));
    for name in ["stays", "goes-0", "goes-1", "goes-2"] {
        service(name, 2);
        access(name);
    }
    scene.start();
    for name in ["east", "west"] {
        scene.setup.pull(name);
    }
    let file = scene.join("south");
    let _member = scene.member("south", &file);
    let all_alike = |what: &str| {
        eventually(what, WITHIN * 2, || {
            let [one, two, three] = subs.map(|cluster| what_came_down(scene.setup.server(cluster)));
            (!one.is_empty() && one == two && two == three).then_some(one)
        })
    };
    for cluster in subs {
        scene.setup.wait_condition(cluster, "SyncedDown", "True", WITHIN);
    }
    let first = all_alike("all clusters to have the same");
    assert_eq!(first.len(), 4 * 3, "an import, a Service and a snapshot of each access: {first:#?}");
    let writes = |cluster: &str| ["create", "change", "delete"].map(|what| writes_of(&scene.plane, cluster, what));
    // An import's status is a write by itself, and nothing else is written twice.
    for cluster in subs {
        let [created, changed, deleted] = writes(cluster);
        println!("{cluster}: {created} created, {changed} changed, {deleted} deleted");
        assert_eq!((created, deleted), (12, 0), "{cluster}");
        assert!(changed <= 8, "{cluster}: {changed} changes");
    }

    for (turn, away) in subs.into_iter().enumerate() {
        let before = subs.map(writes);
        let server = scene.setup.server(away);
        // Some end, and others go silent. Of those that are pushed silence is not noticed within the shorter time.
        let ends = turn == 0 || turn == 2 && !LONG;
        if ends {
            server.stop()
        } else {
            server.signal("STOP")
        }
        let since = std::time::Instant::now();
        // Something comes, something goes, and something changes, more than once.
        let (new, old) = (format!("new-{turn}"), format!("goes-{turn}"));
        service(&new, 1);
        access(&new);
        primary.kubectl(&["-n", "shop", "delete", "clusteraccess", &old]);
        for pods in [3, 4, 5].map(|pods| pods + 3 * turn) {
            service("stays", pods);
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        tokio::time::sleep(AWAY.saturating_sub(since.elapsed())).await;
        if ends {
            server.resume()
        } else {
            server.signal("CONT")
        }
        let now = all_alike(&format!("{away} to have what the others have"));
        assert_eq!(now.len(), 4 * 3);
        assert!(now.iter().any(|(name, ..)| name.contains(&new)) && !now.iter().any(|(name, ..)| name.contains(&old)));
        scene.setup.wait_condition(away, "SyncedDown", "True", WITHIN);
        let after = eventually("what was written to be told", WITHIN, || {
            let now = subs.map(writes);
            let is_told = |n: usize| n == turn || (now[n][0], now[n][2]) == (before[n][0] + 3, before[n][2] + 3);
            (0..3).all(is_told).then_some(now)
        });
        let of = |n: usize| [0, 1, 2].map(|what| after[n][what] - before[n][what]);
        for (n, cluster) in subs.into_iter().enumerate() {
            let [created, changed, deleted] = of(n);
            println!("{away} was away: {cluster}: {created} created, {changed} changed, {deleted} deleted");
            // A write that was under way when the server went silent may have been done without an answer.
            assert!(created <= 3 && deleted <= 3, "{cluster}");
        }
        // Each of the others wrote the three forms of `stays`, and who was away only what came of them.
        assert!(of(turn)[1] < of((turn + 1) % 3)[1], "{away}: {:?}", of(turn));
    }
}

/// A Service as it may be exported.
fn exported(spec: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{namespace: shop, name: db, labels: {{own: \"1\"}}}}\nspec: {spec}\n"
    )
}

fn slice(cluster: &str, address: &str, hostname: &str) -> String {
    format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{namespace: shop, name: db-{cluster}, labels: \
         {{kubernetes.io/service-name: db}}}}\naddressType: IPv4\nports: [{{name: sql, port: 5432}}]\nendpoints: [{{addresses: \
         [\"{address}\"], hostname: {hostname}, conditions: {{ready: true}}}}]\n"
    )
}

/// A ServiceExport's condition of a kind, as `status reason`.
fn condition(server: &ApiServer, kind: &str) -> Option<String> {
    let export = get(server, "serviceexport", "db")?;
    let conditions = export["status"]["conditions"].as_array()?.clone();
    let condition = conditions.into_iter().find(|condition| condition["type"] == kind)?;
    let text = |field: &str| condition[field].as_str().unwrap_or_default().to_owned();
    assert!(!text("lastTransitionTime").is_empty());
    Some(format!("{} {}", text("status"), text("reason")))
}

fn wait_condition(server: &ApiServer, kind: &str, wanted: &str) {
    let mut last = None;
    let is_so = || {
        last = condition(server, kind);
        (last.as_deref() == Some(wanted)).then_some(())
    };
    eventually(&format!("{kind} to be {wanted}"), WITHIN, is_so);
}

#[tokio::test(flavor = "multi_thread")]
async fn exports_are_imported_everywhere_and_told_what_became_of_them() {
    let mut scene = Scene::new(&["primary", "east", "west"]);
    let [east, west] = ["east", "west"].map(|cluster| scene.setup.server(cluster));
    mcs::install(east, VERSIONS);
    mcs::install(west, &["v1alpha1"]);
    let ports = "ports: [{name: sql, port: 5432, appProtocol: mysql}]";
    let affinity = "sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 60}}";
    east.apply(&[exported(&format!("{{{ports}, {affinity}}}")), slice("east", "10.1.0.1", "db-0")].join("---\n"));
    west.apply(&[exported(&format!("{{{ports}}}")), slice("west", "10.2.0.1", "db-0")].join("---\n"));
    scene.start();
    scene.setup.pull("east");
    let file = scene.join("west");
    let _member = scene.member("west", &file);
    let export =
        mcs::export("v1beta1", "db") + "spec: {exportedLabels: {team: data}, exportedAnnotations: {note: x}}\n";
    east.apply(&export);
    wait_condition(east, "Valid", "True Valid");
    wait_condition(east, "Conflict", "False NoConflicts");

    // Import lives while it is exported, in every cluster, with what the export says and nothing else.
    for server in [east, west] {
        let import = wait_for(server, "serviceimport", "db", |import| {
            import["status"]["clusters"] == json!([{ "cluster": "east" }])
        });
        let spec = &import["spec"];
        assert_eq!((&spec["type"], &spec["sessionAffinity"]), (&json!("ClusterSetIP"), &json!("ClientIP")), "{import}");
        assert_eq!(spec["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"], 60);
        assert_eq!(spec["ports"], json!([{ "name": "sql", "port": 5432, "protocol": "TCP", "appProtocol": "mysql" }]));
        assert_eq!(import["metadata"]["labels"]["team"], "data");
        assert!(import["metadata"]["labels"]["own"].is_null());
        assert_eq!(import["metadata"]["annotations"]["note"], "x");
        let slice = wait_for(server, "endpointslice", "db.east.0", |_| true);
        assert_eq!(slice["metadata"]["labels"]["multicluster.kubernetes.io/service-name"], "db");
        assert_eq!(slice["metadata"]["labels"]["multicluster.kubernetes.io/source-cluster"], "east");
        assert!(slice["metadata"]["labels"]["kubernetes.io/service-name"].is_null(), "no local Service leads there");
        assert_eq!(slice["endpoints"][0]["addresses"], json!(["10.1.0.1"]));
    }

    // A second export differs, which every export is told of; the oldest decides.
    west.apply(&mcs::export("v1alpha1", "db"));
    for server in [east, west] {
        wait_for(server, "serviceimport", "db", |import| {
            import["status"]["clusters"] == json!([{ "cluster": "east" }, { "cluster": "west" }])
                && import["spec"]["sessionAffinity"] == "ClientIP"
        });
        wait_for(server, "endpointslice", "db.west.0", |_| true);
        eventually("the conflict to be told", WITHIN, || {
            condition(server, "Conflict").filter(|conflict| conflict.starts_with("True SessionAffinity"))
        });
    }
    let again = condition(west, "Valid");
    assert_eq!(again.as_deref(), Some("True Valid"));

    let said = "spec: {exportedLabels: {team: data}, exportedAnnotations: {note: x}}\n";
    west.apply(&(mcs::export("v1alpha1", "db") + said));
    // Headless everywhere: no address of its own, and its pods by name.
    for (server, own) in [(east, "10.1.0.1"), (west, "10.2.0.1")] {
        server.kubectl(&["-n", "shop", "delete", "service", "db"]);
        server.apply(&exported(&format!("{{clusterIP: None, {ports}}}")));
        assert!(get(server, "endpointslice", "db.east.0").is_some() || own.is_empty());
    }
    for server in [east, west] {
        let import = wait_for(server, "serviceimport", "db", |import| import["spec"]["type"] == "Headless");
        assert_eq!(import["spec"]["ips"].as_array().map_or(0, Vec::len), 0, "{import}");
        let slice = wait_for(server, "endpointslice", "db.west.0", |_| true);
        assert_eq!(slice["endpoints"][0]["hostname"], "db-0");
        wait_condition(server, "Conflict", "False NoConflicts");
    }

    // No Service is no export, and with the last export all of it goes; the export is its user's.
    west.kubectl(&["-n", "shop", "delete", "service", "db"]);
    eventually("the export to be told", WITHIN, || condition(west, "Valid").filter(|valid| valid == "False NoService"));
    wait_gone(east, "endpointslice", "db.west.0");
    east.kubectl(&["-n", "shop", "delete", "serviceexport", "db"]);
    for server in [east, west] {
        wait_gone(server, "serviceimport", "db");
        wait_gone(server, "endpointslice", "db.east.0");
    }
    assert!(get(west, "serviceexport", "db").is_some());
}
