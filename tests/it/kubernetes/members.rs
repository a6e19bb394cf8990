//! Clusters whose own manager dials in: they give what a cluster gives that is read, whoever is restarted or cut off,
//! and only what differs travels.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::setup::{Setup, wait_cluster};
use crate::e2e::{clusterset, resolve};
use crate::support::fleet::{ControlPlane, Process, causeway, ureq_get};
use crate::support::host::Host;
use crate::support::traffic::Stream;
use crate::support::{eventually, free_addr, manifests};

pub const WITHIN: Duration = Duration::from_secs(60);

/// A control plane that lets members in.
pub struct Scene {
    pub plane: ControlPlane,
    pub door: SocketAddr,
    /// By which members reach the door, where they do not go straight to it.
    pub via: Option<SocketAddr>,
    pub setup: Setup,
}

impl Scene {
    pub fn new(names: &[&'static str]) -> Self {
        Self::at(Setup::unjoined(names), free_addr())
    }

    pub fn at(setup: Setup, door: SocketAddr) -> Self {
        let mut plane = setup.control_plane();
        plane.extra.extend(["--member-addr".to_owned(), door.to_string()]);
        Self { plane, door, via: None, setup }
    }

    pub fn start(&mut self) {
        self.plane.restart();
        self.plane.wait_ready();
    }

    /// Lets a cluster join whose member dials in; gives the file of what its people are to apply there.
    fn joined(&self, name: &str) -> PathBuf {
        let objects = self.setup.dir.path().join(format!("{name}.yaml"));
        let address = self.via.unwrap_or(self.door).to_string();
        let output = causeway()
            .args(["cluster", "join", name, "--push", "--network", "flat", "--primary-address", &address])
            .arg("--data-dir")
            .arg(self.plane.dir.join("data"))
            .arg("--out")
            .arg(&objects)
            .arg("--kubeconfig")
            .arg(self.setup.primary().kubeconfig())
            .output()
            .expect("the binary runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        println!("{}", String::from_utf8_lossy(&output.stdout));
        objects
    }

    /// The same of a cluster that there is none of; gives the file of its member.
    pub fn pushed_file(&self, name: &str) -> PathBuf {
        let text = std::fs::read_to_string(self.joined(name)).expect("it was written");
        let secret = text.split("\n---\n").find(|document| document.contains("kind: Secret")).expect("a Secret");
        let secret: Value = serde_yaml_ng::from_str(secret).expect("YAML");
        let file = secret["data"]["member.yaml"].as_str().expect("the file");
        let path = self.setup.dir.path().join(format!("member-{name}.yaml"));
        std::fs::write(&path, STANDARD.decode(file).expect("base64")).expect("the file is written");
        path
    }

    /// Joins a cluster whose member dials in; gives the member's file.
    pub fn join(&self, name: &str) -> PathBuf {
        let objects = self.joined(name);
        // As the sub-cluster's own people would.
        let server = self.setup.server(name);
        server.apply(&std::fs::read_to_string(&objects).expect("it was written"));
        let secret = ["-n", "causeway-system", "get", "secret", "causeway-member", "--output"];
        let template = "go-template={{index .data \"member.yaml\" | base64decode}}";
        let text = server.kubectl(&[&secret[..], &[template]].concat());
        let file = self.setup.dir.path().join(format!("member-{name}.yaml"));
        std::fs::write(&file, text).expect("the file is written");
        file
    }

    /// Starts a member that reads by the rights which joining gave it.
    pub fn member(&self, name: &str, file: &Path) -> Process {
        self.member_by(name, file, causeway())
    }

    /// The same with a command that runs it, on its own host perhaps.
    pub fn member_by(&self, name: &str, file: &Path, mut command: Command) -> Process {
        let server = self.setup.server(name);
        let token = server.kubectl(&["-n", "causeway-system", "create", "token", "causeway-reader"]);
        let kubeconfig = self.setup.dir.path().join(format!("member-{name}.kubeconfig"));
        std::fs::write(&kubeconfig, server.kubeconfig_for(token.trim())).expect("the kubeconfig is written");
        command.args(["member", "--config"]).arg(file).arg("--kubeconfig").arg(kubeconfig);
        Process::start(self.setup.dir.path(), &format!("member-{name}"), &mut command)
    }

    pub fn member_log(&self, name: &str) -> String {
        std::fs::read_to_string(self.setup.dir.path().join(format!("member-{name}.log"))).unwrap_or_default()
    }

    /// How many objects of a cluster travelled in this run of the control plane.
    pub fn travelled(&self, name: &str) -> u64 {
        let (_, page) = ureq_get(self.plane.admin, "/metrics").expect("metrics");
        let of_cluster = format!("cluster=\"{name}\"");
        let samples = page.lines().filter(|line| line.starts_with("causeway_member_objects_total{"));
        let counts = samples.filter(|line| line.contains(&of_cluster)).filter_map(|line| line.rsplit_once(' '));
        counts.map(|(_, count)| count.parse::<f64>().expect("a number") as u64).sum()
    }

    /// Waits for a member's stream to have told everything, the `times`th time in this run of the control plane.
    pub fn wait_told(&self, name: &str, times: usize) {
        let told = "the primary has what the cluster has";
        eventually(&format!("the member of {name} to have told all"), WITHIN, || {
            (self.member_log(name).matches(told).count() >= times).then_some(())
        });
    }
}

/// Objects that are the same in each cluster, but for the net of their addresses: endpoints of one address are one.
fn same_objects(net: &str) -> String {
    let mut text = String::from(
        "apiVersion: v1\nkind: Node\nmetadata: {name: n1, labels: {topology.kubernetes.io/region: eu, \
         topology.kubernetes.io/zone: a}}\n---\napiVersion: v1\nkind: Service\nmetadata: {namespace: shop, name: same, \
         labels: {app: same}}\nspec: {ports: [{name: main, port: 8080, appProtocol: http}, {name: grpc, port: 9000}]}\n",
    );
    for index in 0..20 {
        write!(
            text,
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{namespace: shop, name: same-{index}, labels: {{app: same, index: \
             \"{index}\"}}, annotations: {{causeway.dev/weight: \"{}\"}}}}\nspec: {{nodeName: n1, containers: [{{name: c, image: \
             x}}]}}\n---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{namespace: shop, name: same-{index}, \
             labels: {{kubernetes.io/service-name: same}}}}\naddressType: IPv4\nports: [{{name: main, port: 8080}}, {{name: grpc, \
             port: 9000}}]\nendpoints: [{{addresses: [\"{net}.{index}\"], nodeName: n1, zone: a, conditions: {{ready: {}}}, \
             targetRef: {{kind: Pod, namespace: shop, name: same-{index}}}}}]\n",
            1 + index,
            index % 3 != 0,
        )
        .expect("text takes text");
    }
    text
}

/// What the primary's EndpointSnapshot says of an access's pods in a cluster, without what each API server makes up.
fn snapshot(setup: &Setup, access: &str, cluster: &str) -> Option<BTreeMap<String, Value>> {
    let snapshot = setup.get("endpointsnapshot", &format!("{access}.{cluster}.0"))?;
    let pods = snapshot["spec"]["pods"].as_array()?.iter().map(|pod| {
        let mut pod = pod.clone();
        pod.as_object_mut().expect("an object").remove("uid");
        (pod["name"].as_str().unwrap_or_default().to_owned(), pod)
    });
    Some(pods.collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_gives_what_a_cluster_gives_that_is_read_over_restarts_of_both() {
    let mut scene = Scene::new(&["primary", "pulled", "pushed"]);
    let nets = [("pulled", "10.8.0"), ("pushed", "10.9.0")];
    for (cluster, net) in nets {
        scene.setup.server(cluster).apply(&same_objects(net));
    }
    scene.setup.deploy("checkout", 2).await;
    scene.setup.primary().apply(&manifests::access_yaml("same", "edge", 1));
    scene.setup.join("pulled", &scene.setup.server("pulled").kubeconfig_for("admin-token"));
    let file = scene.join("pushed");
    scene.plane.restart();
    let mut member = scene.member("pushed", &file);
    scene.plane.wait_ready();
    let pulled = wait_cluster(&scene.plane, "pulled", "Synced", WITHIN);
    let pushed = wait_cluster(&scene.plane, "pushed", "Synced", WITHIN);
    for count in ["services", "endpoints", "pods", "nodes"] {
        assert_eq!(pulled[count], pushed[count], "{count}");
    }
    scene.setup.wait_condition("pushed", "Connected", "True", WITHIN);
    let info = scene.setup.get("clusterinfo", "pushed").expect("it is there");
    assert!(info["status"]["serverVersion"].as_str().is_some_and(|version| version.starts_with("v1.")), "{info}");
    assert!(info["status"]["credentialExpiresAt"].as_str().is_some(), "{info}");

    // Requests flow to its pods, and none is lost from here on.
    let _gateway = scene.setup.gateway(&scene.plane);
    let stream = Stream::start(resolve(&scene.plane, "checkout"), &clusterset("checkout"), 50);
    let [of_pulled, of_pushed] = nets.map(|(cluster, net)| {
        let pods = eventually(&format!("the snapshot of {cluster}"), WITHIN, || {
            snapshot(&scene.setup, "same", cluster).filter(|pods| pods.len() == 20)
        });
        format!("{pods:#?}").replace(net, "NET")
    });
    assert_eq!(of_pulled, of_pushed);
    scene.wait_told("pushed", 1);
    let all = scene.travelled("pushed");
    assert!(all > 45, "{all}");

    // The member is killed, and the cluster changes meanwhile.
    member.kill();
    scene.setup.wait_condition("pushed", "Connected", "False", WITHIN);
    let server = scene.setup.server("pushed");
    server.kubectl(&["-n", "shop", "label", "pod", "same-1", "more=1"]);
    server.kubectl(&["-n", "shop", "delete", "endpointslice", "same-2"]);
    server.kubectl(&["-n", "shop", "create", "service", "clusterip", "new", "--tcp=80"]);
    let (reason, message) = scene.setup.wait_condition("pushed", "Synced", "False", WITHIN);
    println!("{reason}: {message}");
    let stale = wait_cluster(&scene.plane, "pushed", "Unknown", WITHIN);
    assert_eq!(stale["endpoints"], pushed["endpoints"], "nothing is withdrawn");
    assert!(stale["reason"].as_str().is_some_and(|reason| reason.contains("causeway member")), "{stale}");
    let mut member = scene.member("pushed", &file);
    wait_cluster(&scene.plane, "pushed", "Synced", WITHIN);
    scene.wait_told("pushed", 2);
    assert_eq!(scene.travelled("pushed") - all, 3, "what changed, and nothing else");
    eventually("what changed", WITHIN, || scene.plane.row("/api/v1/services", "name", "new"));

    // The primary is killed, and the cluster changes meanwhile.
    scene.plane.process().kill();
    server.kubectl(&["-n", "shop", "label", "pod", "same-1", "more=2", "--overwrite"]);
    scene.start();
    wait_cluster(&scene.plane, "pushed", "Synced", WITHIN);
    scene.wait_told("pushed", 3);
    let again = scene.travelled("pushed");
    println!("{again} objects of {all} travelled after a restart of the primary");
    assert!(again <= 3, "{again}");
    assert_eq!(
        wait_cluster(&scene.plane, "pushed", "Synced", WITHIN)["services"],
        pushed["services"].as_u64().unwrap() + 1
    );

    // What changes is told at once.
    let since = Instant::now();
    server.kubectl(&["-n", "shop", "create", "service", "clusterip", "newer", "--tcp=80"]);
    eventually("what changed", WITHIN, || scene.plane.row("/api/v1/services", "name", "newer"));
    println!("a change was seen {:?} after it was begun", since.elapsed());
    assert_eq!(stream.stop().await.failed, Vec::<String>::new());
    member.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_changes_between_both_ways_and_nothing_is_withdrawn() {
    let mut scene = Scene::new(&["primary", "east"]);
    scene.setup.deploy("checkout", 2).await;
    scene.start();
    scene.setup.pull("east");
    wait_cluster(&scene.plane, "east", "Synced", WITHIN);
    let _gateway = scene.setup.gateway(&scene.plane);
    let stream = Stream::start(resolve(&scene.plane, "checkout"), &clusterset("checkout"), 50);
    let server = scene.setup.server("east");
    server.kubectl(&["-n", "shop", "create", "service", "clusterip", "before", "--tcp=80"]);
    eventually("a service", WITHIN, || scene.plane.row("/api/v1/services", "name", "before"));

    let file = scene.join("east");
    let map = ["-n", "causeway-system", "get", "configmap", "east"];
    assert!(!scene.setup.primary().kubectl_with(&map, "").status.success(), "the kubeconfig is not kept");
    let (reason, _) = scene.setup.wait_condition("east", "Connected", "False", WITHIN);
    assert_eq!(reason, "MemberNotConnected");
    server.kubectl(&["-n", "shop", "delete", "service", "before"]);
    let member = scene.member("east", &file);
    scene.wait_told("east", 1);
    scene.setup.wait_condition("east", "Connected", "True", WITHIN);
    eventually("what went meanwhile", WITHIN, || {
        scene.plane.row("/api/v1/services", "name", "before").is_none().then_some(())
    });
    assert_eq!(wait_cluster(&scene.plane, "east", "Synced", WITHIN)["endpoints"], 2);

    scene.setup.pull("east");
    let refused = "has no ClusterInfo east with spec.source.member";
    eventually("the member to be let in no more", WITHIN, || scene.member_log("east").contains(refused).then_some(()));
    server.kubectl(&["-n", "shop", "create", "service", "clusterip", "after", "--tcp=80"]);
    eventually("what is read again", WITHIN, || scene.plane.row("/api/v1/services", "name", "after"));
    assert_eq!(wait_cluster(&scene.plane, "east", "Synced", WITHIN)["endpoints"], 2);
    assert_eq!(stream.stop().await.failed, Vec::<String>::new());

    // Back once more, listed, and gone with all that joining made.
    scene.join("east");
    scene.wait_told("east", 2);
    let cluster = |arguments: &[&str]| {
        let mut command = causeway();
        command.arg("cluster").args(arguments).arg("--kubeconfig").arg(scene.setup.primary().kubeconfig());
        let output = command.output().expect("the binary runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    };
    assert!(cluster(&["list"]).contains("its member dials in"));
    let said = cluster(&["leave", "east", "--sub-kubeconfig", &server.kubeconfig().display().to_string()]);
    for line in [
        "clusterinfo.causeway.dev/east deleted",
        "secret/causeway-member deleted",
        "serviceaccount/causeway-reader deleted",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    eventually("the cluster to be gone", WITHIN, || {
        scene.plane.row("/api/v1/clusters", "name", "east").is_none().then_some(())
    });
    drop(member);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_nothing_outside_reaches_is_told_by_its_member() {
    let host = Host::new();
    let near: IpAddr = host.near.parse().expect("an address");
    let mut scene = Scene::at(Setup::hidden(&host), SocketAddr::new(near, free_addr().port()));
    let server = scene.setup.server("hidden");
    server.apply(&same_objects("10.9.0"));
    let file = scene.join("hidden");
    scene.start();
    let there = host.command(env!("CARGO_BIN_EXE_causeway"));
    let _member = scene.member_by("hidden", &file, there);
    assert!(std::net::TcpStream::connect_timeout(&server.address(), Duration::from_secs(1)).is_err());
    let row = wait_cluster(&scene.plane, "hidden", "Synced", WITHIN);
    assert_eq!((row["pods"].as_u64(), row["nodes"].as_u64()), (Some(20), Some(1)), "{row}");

    // The way out is lost for longer than a silence is borne, and comes back.
    scene.wait_told("hidden", 1);
    let since = Instant::now();
    host.drop_packets();
    server.kubectl(&["-n", "shop", "create", "service", "clusterip", "new", "--tcp=80"]);
    let stale = wait_cluster(&scene.plane, "hidden", "Unknown", WITHIN);
    println!("stale after {:.1} s", since.elapsed().as_secs_f64());
    assert_eq!(stale["pods"], row["pods"], "nothing is withdrawn");
    let before = scene.travelled("hidden");
    host.pass_packets();
    let since = Instant::now();
    wait_cluster(&scene.plane, "hidden", "Synced", WITHIN);
    eventually("what changed", WITHIN, || scene.plane.row("/api/v1/services", "name", "new"));
    println!("back after {:.1} s", since.elapsed().as_secs_f64());
    assert_eq!(scene.travelled("hidden") - before, 1, "what changed, and nothing else");
}
