//! What people can ask with the command `sqlite3`, as README.md says.

use std::process::Command;
use std::time::Duration;

use super::{Setup, resolve};
use crate::support::eventually;
use crate::support::fleet::{ControlPlane, Speaks};

const WITHIN: Duration = Duration::from_secs(10);

fn ask(plane: &ControlPlane, query: &str) -> Vec<String> {
    let output = Command::new("sqlite3")
        .arg(plane.dir.join("data").join("inventory.db"))
        .arg(query)
        .output()
        .expect("the tests need the command sqlite3");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

fn pod(name: &str, node: &str, ready: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{namespace: shop, name: {name}, uid: uid-{name}, labels: {{app: checkout}}}}\nspec: \
         {{nodeName: {node}, containers: [{{name: main, image: x}}]}}\nstatus:\n  phase: Running\n  podIP: 10.1.2.3\n  podIPs: [{{ip: \
         10.1.2.3}}, {{ip: \"fd00::3\"}}]\n  conditions: [{{type: Ready, status: \"{ready}\"}}]\n"
    )
}

fn kube_node(name: &str, zone: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Node\nmetadata: {{name: {name}, labels: {{topology.kubernetes.io/region: eu-1, \
         topology.kubernetes.io/zone: {zone}}}}}\n"
    )
}

/// The query of README.md, word for word.
fn readmes_query() -> String {
    let readme = include_str!("../../../README.md");
    let line = readme.lines().find(|line| line.starts_with("sqlite3 ")).expect("README.md shows a query");
    line.split('"').nth(1).expect("in quotes").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_can_be_asked_for_while_they_change() {
    let setup = Setup::new();
    let nodes = format!("{}---\n{}", kube_node("n1", "a"), kube_node("n2", "b"));
    setup.clusters.write("east", "nodes.yaml", &nodes);
    setup.clusters.write(
        "east",
        "pods.yaml",
        &format!("{}---\n{}", pod("p-1", "n1", "True"), pod("p-2", "n2", "False")),
    );
    setup.clusters.write("west", "pods.yaml", &pod("p-1", "n9", "True"));
    let mut plane = setup.control_plane();
    let query = format!("{} ORDER BY cluster, name", readmes_query());
    let wait = |plane: &ControlPlane, wanted: &[&str]| {
        let mut last = vec![];
        let until = std::time::Instant::now() + WITHIN;
        while last != wanted {
            assert!(std::time::Instant::now() < until, "there is {last:?}, not {wanted:?}");
            last = ask(plane, &query);
            std::thread::sleep(Duration::from_millis(25));
        }
    };
    wait(&plane, &["east|shop|p-1|n1|a|1", "east|shop|p-2|n2|b|0", "west|shop|p-1|n9||1"]);
    let columns = "SELECT uid, addresses, phase, labels, region FROM pods WHERE cluster = 'east' AND name = 'p-1'";
    assert_eq!(ask(&plane, columns), ["uid-p-1|[\"10.1.2.3\",\"fd00::3\"]|Running|{\"app\":\"checkout\"}|eu-1"]);

    setup.clusters.write("east", "pods.yaml", &pod("p-2", "n1", "True"));
    wait(&plane, &["east|shop|p-2|n1|a|1", "west|shop|p-1|n9||1"]);
    // A cluster that cannot be read keeps its pods; what changed while nobody looked is seen at the start.
    setup.clusters.take_away("west");
    plane.process().kill();
    setup.clusters.write("east", "pods.yaml", &pod("p-3", "n2", "True"));
    plane.restart();
    plane.wait_ready();
    wait(&plane, &["east|shop|p-3|n2|b|1", "west|shop|p-1|n9||1"]);
    assert_eq!(plane.delete("/api/v1/clusters/west").0, 200);
    wait(&plane, &["east|shop|p-3|n2|b|1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_history_of_a_node_can_be_read() {
    let setup = Setup::new();
    setup.deploy(&Setup::service("checkout", "http"), 0..1, "edge").await;
    let plane = setup.control_plane();
    let mut gateway = setup.gateway("gw-1", &plane, Speaks::Delta);
    gateway.start_envoy().start_agent();
    resolve(&plane, "checkout");
    gateway.stop_agent();
    let events = || ask(&plane, "SELECT event FROM node_events WHERE node = 'gw-1' ORDER BY id");
    eventually("the agent's end", WITHIN, || events().contains(&"AgentGone".to_owned()).then_some(()));
    gateway.stop_envoy();
    eventually("the Envoy's end", WITHIN, || (events().last()? == "Gone").then_some(()));
    let mut events = events();
    events[..2].sort();
    assert_eq!(events, ["AgentConnected", "Connected", "AgentGone", "Gone"]);
    let detail =
        ask(&plane, "SELECT detail, datetime(at / 1000, 'unixepoch') FROM node_events WHERE event = 'Connected'");
    assert!(detail[0].starts_with("Delta ADS from 127.0.0.1:") && detail[0].contains("|20"), "{detail:?}");
}
