//! Users' own EndpointSnapshots: backends that no Kubernetes knows, and pods that are weighed, drained and given back.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::setup::{Setup, own_address, wait_cluster};
use crate::e2e::{clusterset, resolve};
use crate::support::apiserver::ApiServer;
use crate::support::fleet::{ControlPlane, Gateway};
use crate::support::traffic::{self, Http, Stream};
use crate::support::{eventually, free_addr};

const WITHIN: Duration = Duration::from_secs(20);

/// A user's snapshot of the access `checkout`.
fn snapshot(name: &str, cluster: &str, owner: &str, pod: &str) -> String {
    format!(
        "apiVersion: causeway.dev/v1alpha1\nkind: EndpointSnapshot\nmetadata: {{namespace: shop, name: {name}}}\nspec: {{owner: \
         {owner}, access: checkout, cluster: {cluster}, pods: [{pod}]}}\n"
    )
}

fn delete(server: &ApiServer, name: &str) {
    server.kubectl(&["-n", "shop", "delete", "endpointsnapshot", name]);
}

/// Starts a backend that is no pod of any cluster.
async fn start_vm(setup: &Setup, name: &str) -> SocketAddr {
    let address = SocketAddr::new(own_address(), free_addr().port());
    setup.pods.start(name, address.ip(), address.port()).await;
    address
}

fn vm(name: &str, address: SocketAddr) -> String {
    format!("{{name: {name}, addresses: [{}], ports: {{main: {}}}}}", address.ip(), address.port())
}

/// Whether a line of Envoy's clusters is of the address and says this.
fn says(gateway: &Gateway, address: SocketAddr, what: &str) -> bool {
    let page = gateway.page("/clusters").unwrap_or_default();
    page.lines().any(|line| line.contains(&format!("::{address}::")) && line.contains(what))
}

/// Waits until Envoy says so of the address; prints how long that took.
fn wait_says(gateway: &Gateway, address: SocketAddr, what: &str) {
    let since = Instant::now();
    eventually(&format!("Envoy to say {what} of {address}"), WITHIN, || says(gateway, address, what).then_some(()));
    println!("{what} after {} ms", since.elapsed().as_millis());
}

fn wait_gone(gateway: &Gateway, address: SocketAddr) {
    eventually(&format!("Envoy to forget {address}"), WITHIN, || (!says(gateway, address, "")).then_some(()));
}

/// Problems with EndpointSnapshots, as `causeway status` tells them.
fn problems(plane: &ControlPlane) -> Vec<String> {
    let status = plane.get("/api/v1/status");
    let all = status["problems"].as_array().expect("a list");
    let of_snapshots = all.iter().filter(|p| p["object"].as_str().unwrap_or_default().starts_with("EndpointSnapshot"));
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    of_snapshots.map(|problem| format!("{}: {}", text(&problem["object"]), text(&problem["message"]))).collect()
}

/// Waits until the last request of before has ended, which Envoy sends on its way while it is told.
fn wait_quiet(setup: &Setup, name: &str) -> Instant {
    eventually(&format!("{name} to be asked no more"), WITHIN, || {
        let asked = setup.pods.last_asked(name);
        asked.is_none_or(|asked| asked.elapsed() > Duration::from_millis(300)).then(Instant::now)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_users_say_of_backends_holds_at_once_and_ends_with_the_object() {
    let setup = Setup::new(&["primary", "east"]);
    let mut pods = Vec::new();
    for cluster in ["primary", "east"] {
        let of_cluster = setup.start_pods(cluster, "checkout", 2).await;
        setup.put_service(cluster, "checkout", &of_cluster);
        pods.extend(of_cluster);
    }
    setup.primary().apply(&crate::support::manifests::access_yaml("checkout", "edge", 1));
    let plane = setup.started();
    wait_cluster(&plane, "east", "Synced", WITHIN);
    let gateway = setup.gateway(&plane);
    let (to, host) = (resolve(&plane, "checkout"), clusterset("checkout"));
    let stream = Stream::start(to, &host, 100);
    let server = setup.primary();

    // A machine outside of Kubernetes serves.
    let vm_address = start_vm(&setup, "vm-1").await;
    server.apply(&snapshot("vms", "primary", "User", &vm("vm-1", vm_address)));
    wait_says(&gateway, vm_address, "weight::1");
    eventually("the machine to be asked", WITHIN, || setup.pods.last_asked("vm-1"));

    // One pod gets nearly all.
    let chosen = &pods[2];
    server.apply(&snapshot("mine", "east", "User", &format!("{{name: {}, weight: 1000}}", chosen.name)));
    wait_says(&gateway, chosen.address, "weight::1000");
    let tally = traffic::send(to, &host, 200).await;
    assert_eq!(tally.failed, Vec::<String>::new());
    let share = tally.answered.get(&chosen.name).copied().unwrap_or_default();
    println!("{share} of 200 requests at 1000:1");
    assert!(share >= 180, "{:?}", tally.answered);

    // It gets none, and is still known.
    server.apply(&snapshot("mine", "east", "User", &format!("{{name: {}, drain: true}}", chosen.name)));
    wait_says(&gateway, chosen.address, "health_flags::/eds_status_draining");
    assert!(says(&gateway, chosen.address, "weight::1"));
    let drained_at = wait_quiet(&setup, &chosen.name);
    let tally = traffic::send(to, &host, 200).await;
    assert_eq!(tally.failed, Vec::<String>::new());
    assert!(!tally.answered_by(&chosen.name), "{:?}", tally.answered);
    assert!(setup.pods.last_asked(&chosen.name) < Some(drained_at), "a new request reached it");
    assert!(says(&gateway, chosen.address, ""), "it is not listed any more");
    assert_eq!(problems(&plane), Vec::<String>::new());

    // What finds nothing says so.
    server.apply(&snapshot("lost", "east", "User", "{name: nobody, drain: true}"));
    let told = eventually("the problem to be told", WITHIN, || problems(&plane).pop());
    assert!(told.contains("has no pod `nobody` in the cluster east"), "{told}");
    delete(server, "lost");

    // Both go, and everything is as it was.
    delete(server, "mine");
    eventually("the pod to be asked again", WITHIN, || {
        setup.pods.last_asked(&chosen.name).filter(|asked| *asked > drained_at)
    });
    delete(server, "vms");
    wait_gone(&gateway, vm_address);
    let gone_at = wait_quiet(&setup, "vm-1");
    let tally = traffic::send(to, &host, 100).await;
    assert!(pods.iter().all(|pod| tally.answered_by(&pod.name)), "{:?}", tally.answered);
    assert!(setup.pods.last_asked("vm-1") < Some(gone_at));
    let tally = stream.stop().await;
    println!("{} requests, {} failed", tally.total, tally.failed.len());
    assert_eq!(tally.failed, Vec::<String>::new());
    assert_eq!(problems(&plane), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn only_users_objects_are_read_though_the_definition_be_older() {
    let setup = Setup::new(&["primary"]);
    setup.deploy("checkout", 1).await;
    let server = setup.primary();
    let (mine, ours) = (start_vm(&setup, "vm-user").await, start_vm(&setup, "vm-system").await);
    server.apply(&snapshot("mine", "primary", "User", &vm("vm-user", mine)));
    server.apply(&snapshot("ours", "primary", "System", &vm("vm-system", ours)));
    let listed = ["get", "endpointsnapshots", "-A", "-o", "name", "--field-selector", "spec.owner=User"];
    assert_eq!(server.kubectl(&listed).trim(), "endpointsnapshot.causeway.dev/mine");
    let gateway_of = |plane: &ControlPlane| {
        let gateway = setup.gateway(plane);
        let _ = resolve(plane, "checkout");
        wait_says(&gateway, mine, "weight::1");
        assert!(!says(&gateway, ours, ""), "an object of owner System counts");
        gateway
    };
    {
        let plane = setup.started();
        let gateway = gateway_of(&plane);
        // Whose owner changes is not a user's any more, and is again.
        server.apply(&snapshot("mine", "primary", "System", &vm("vm-user", mine)));
        wait_gone(&gateway, mine);
        server.apply(&snapshot("mine", "primary", "User", &vm("vm-user", mine)));
        wait_says(&gateway, mine, "weight::1");
    }
    let patch = r#"[{"op": "remove", "path": "/spec/versions/0/selectableFields"}]"#;
    server.kubectl(&["patch", "crd", "endpointsnapshots.causeway.dev", "--type=json", "-p", patch]);
    eventually("the API server to know no such field", WITHIN, || {
        (!server.kubectl_with(&listed, "").status.success()).then_some(())
    });
    let plane = setup.started();
    let _gateway = gateway_of(&plane);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_while_the_primary_is_away_keeps_them() {
    let setup = Setup::with(&["primary"], |name, _| crate::support::apiserver::ApiServer::start_own(name));
    setup.deploy("checkout", 1).await;
    let server = setup.primary();
    let address = start_vm(&setup, "vm-1").await;
    server.apply(&snapshot("vms", "primary", "User", &vm("vm-1", address)));
    let mut plane = setup.started();
    let gateway = setup.gateway(&plane);
    let to = resolve(&plane, "checkout");
    wait_says(&gateway, address, "weight::1");
    // What is known is written down within a second or two.
    let kept = plane.dir.join("data").join("inventory.db");
    eventually("the object to be kept", WITHIN, || {
        let query = "SELECT count(*) FROM kube_object WHERE kind = 'EndpointSnapshot'";
        let output = std::process::Command::new("sqlite3").arg("-readonly").arg(&kept).arg(query).output();
        let output = output.expect("the tests need the command sqlite3");
        (String::from_utf8_lossy(&output.stdout).trim() == "1").then_some(())
    });
    server.stop();
    plane.process().kill();
    plane.restart();
    plane.wait_ready();
    wait_cluster(&plane, "primary", "Unknown", WITHIN);
    // A fresh Envoy has only what the control plane knows now.
    drop(gateway);
    let gateway = setup.gateway(&plane);
    wait_says(&gateway, address, "weight::1");
    // Endpoints come before listeners, and Envoy shows a listener before it listens.
    eventually("a connection to the gateway", WITHIN, || std::net::TcpStream::connect(to).ok());
    let restarted_at = Instant::now();
    eventually("the machine to be asked", WITHIN, || {
        let answer = tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(Http::default().get(to, &clusterset("checkout")))
        });
        assert!(answer.as_ref().is_ok_and(|(status, _)| *status == 200), "{answer:?}");
        setup.pods.last_asked("vm-1").filter(|asked| *asked > restarted_at)
    });
}
