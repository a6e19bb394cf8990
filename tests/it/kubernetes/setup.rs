//! Three clusters with API servers of their own, a control plane that reads them, and pods that really answer.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::apiserver::{ApiServer, Etcd, Room};
use crate::support::fleet::{ControlPlane, Gateway, Speaks, causeway};
use crate::support::host::Host;
use crate::support::pods::Pods;
use crate::support::{eventually, free_addr, in_net, manifests, own_loopback_net};

/// The port of every service.
pub const PORT: u16 = 8080;

/// A pod as the slices show it.
#[derive(Clone, Debug)]
pub struct Pod {
    pub name: String,
    pub address: SocketAddr,
    pub ready: bool,
}

/// Clusters by name; the first is the primary.
pub struct Setup {
    pub dir: TempDir,
    pub pods: Pods,
    servers: Vec<(&'static str, &'static ApiServer)>,
    _room: Room,
}

/// An address of this machine that may stand in an EndpointSlice, which a loopback address may not. Nothing is sent.
pub fn own_address() -> IpAddr {
    let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
    let address = socket.connect("192.0.2.1:9").and_then(|()| socket.local_addr());
    address.expect("this machine needs an address besides loopback").ip()
}

impl Setup {
    /// Starts the clusters, all on one etcd, with CRDs and a pool of VIPs in the primary.
    pub fn new(names: &[&'static str]) -> Self {
        Self::with(names, ApiServer::leaked)
    }

    /// Starts the clusters, each in its own way; an etcd that they may share is there.
    pub fn with(names: &[&'static str], start: impl Fn(&'static str, &'static Etcd) -> &'static ApiServer) -> Self {
        let setup = Self::bare(names, start);
        install_crds(setup.primary());
        setup.fill();
        setup
    }

    /// As [`Setup::with`], without Causeway's definitions and objects.
    pub fn bare(names: &[&'static str], start: impl Fn(&'static str, &'static Etcd) -> &'static ApiServer) -> Self {
        let _room = Room::take(names.len());
        let etcd: &'static Etcd = Box::leak(Box::new(Etcd::start()));
        let servers = names.iter().map(|&name| (name, start(name, etcd))).collect();
        Self { dir: TempDir::new().expect("a folder"), pods: Pods::default(), servers, _room }
    }

    /// As [`Setup::new`], where no cluster is known but the primary.
    pub fn unjoined(names: &[&'static str]) -> Self {
        let setup = Self::bare(names, ApiServer::leaked);
        install_crds(setup.primary());
        setup.fill_primary();
        setup
    }

    /// A primary, which alone is known, and the cluster `hidden` on a host whose outside does not reach it.
    pub fn hidden(host: &Host) -> Self {
        let setup = Self::bare(&["primary", "hidden"], |name, etcd| match name {
            "hidden" => ApiServer::start_hidden(name, host),
            _ => ApiServer::leaked(name, etcd),
        });
        install_crds(setup.primary());
        setup.fill_primary();
        setup
    }

    /// Writes a pool, and ClusterInfos of all clusters; the definitions are there.
    pub fn fill(&self) {
        self.fill_primary();
        for (name, server) in &self.servers[1..] {
            self.join(name, &server.kubeconfig_for("admin-token"));
        }
    }

    /// Writes a pool and the primary's own ClusterInfo.
    pub fn fill_primary(&self) {
        let primary = self.primary();
        primary.kubectl(&["create", "namespace", "causeway-system"]);
        let range = format!("{}/28", in_net(own_loopback_net(), 0));
        primary.apply(&manifests::pool_yaml("edge", &range));
        primary.apply(&format!(
            "apiVersion: causeway.dev/v1alpha1\nkind: ClusterInfo\nmetadata: {{name: {}}}\nspec: {{role: Primary, network: flat}}\n",
            self.servers[0].0
        ));
        for (_, server) in &self.servers {
            server.kubectl(&["create", "namespace", "shop"]);
        }
    }

    pub fn server(&self, name: &str) -> &'static ApiServer {
        self.servers.iter().find(|(known, _)| *known == name).expect("a cluster of this setup").1
    }

    pub fn primary(&self) -> &'static ApiServer {
        self.servers[0].1
    }

    /// Writes a cluster's kubeconfig and its ClusterInfo, as a user would by hand.
    pub fn join(&self, name: &str, kubeconfig: &str) {
        self.put_kubeconfig(name, kubeconfig);
        self.primary().apply(&format!(
            "apiVersion: causeway.dev/v1alpha1\nkind: ClusterInfo\nmetadata: {{name: {name}}}\nspec:\n  role: Sub\n  network: flat\n  \
             source: {{kubeconfig: {{configMapKeyRef: {{namespace: causeway-system, name: {name}, key: kubeconfig}}}}}}\n"
        ));
    }

    /// Lets a cluster join as its people would: it is read, and written, with the rights that this gives.
    pub fn pull(&self, name: &str) {
        let output = causeway()
            .args(["cluster", "join", name, "--network", "flat", "--kubeconfig"])
            .arg(self.primary().kubeconfig())
            .arg("--sub-kubeconfig")
            .arg(self.server(name).kubeconfig())
            .output()
            .expect("the binary runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Writes a cluster's kubeconfig.
    pub fn put_kubeconfig(&self, name: &str, kubeconfig: &str) {
        let mut text = format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{namespace: causeway-system, name: {name}}}\ndata:\n  kubeconfig: |\n"
        );
        for line in kubeconfig.lines() {
            writeln!(text, "    {line}").expect("text takes text");
        }
        self.primary().apply(&text);
    }

    /// Starts pods of a service in a cluster.
    pub async fn start_pods(&self, cluster: &str, service: &str, count: usize) -> Vec<Pod> {
        let mut pods = Vec::new();
        for index in 0..count {
            let name = format!("{service}-{cluster}-{index}");
            let address = SocketAddr::new(own_address(), free_addr().port());
            self.pods.start(&name, address.ip(), address.port()).await;
            pods.push(Pod { name, address, ready: true });
        }
        pods
    }

    /// Writes a service and a slice for each of its pods, since each has a port of its own.
    pub fn put_service(&self, cluster: &str, service: &str, pods: &[Pod]) {
        self.server(cluster).apply(&service_yaml(service, pods));
    }

    /// Pods of a service in each cluster, and an access to it.
    pub async fn deploy(&self, service: &str, count: usize) {
        for (cluster, _) in &self.servers {
            let pods = self.start_pods(cluster, service, count).await;
            self.put_service(cluster, service, &pods);
        }
        self.primary().apply(&manifests::access_yaml(service, "edge", 1));
    }

    /// A control plane that reads them; not started.
    pub fn control_plane(&self) -> ControlPlane {
        let kubeconfig = self.primary().kubeconfig().display().to_string();
        ControlPlane::new(self.dir.path(), &["--kubeconfig", &kubeconfig], free_addr(), &[])
    }

    /// A control plane that reads them and is ready.
    pub fn started(&self) -> ControlPlane {
        let mut plane = self.control_plane();
        plane.restart();
        plane.wait_ready();
        plane
    }

    pub fn gateway(&self, plane: &ControlPlane) -> Gateway {
        let mut gateway = Gateway::new(self.dir.path(), "gw-1", plane.xds, Speaks::Delta);
        gateway.start_envoy().start_agent();
        gateway
    }

    /// An object of the primary, as JSON.
    pub fn get(&self, kind: &str, name: &str) -> Option<Value> {
        get(self.primary(), kind, name)
    }

    /// Waits until a condition of a cluster's ClusterInfo has this status; gives its reason and message.
    pub fn wait_condition(&self, cluster: &str, kind: &str, status: &str, within: Duration) -> (String, String) {
        eventually(&format!("{kind} of {cluster} to be {status}"), within, || {
            let info = self.get("clusterinfo", cluster)?;
            let conditions = info["status"]["conditions"].as_array()?.clone();
            let found = conditions.into_iter().find(|c| c["type"] == kind && c["status"] == status)?;
            let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
            Some((text("reason"), text("message")))
        })
    }
}

impl Drop for Setup {
    fn drop(&mut self) {
        for (_, server) in &self.servers {
            server.stop();
        }
        for (_, server) in &self.servers {
            server.etcd().stop();
        }
    }
}

/// An object in the namespace `shop`, or of a cluster, as JSON.
pub fn get(server: &ApiServer, kind: &str, name: &str) -> Option<Value> {
    let output = server.kubectl_with(&["-n", "shop", "get", kind, name, "-o", "json"], "");
    output.status.success().then(|| serde_json::from_slice(&output.stdout).expect("kubectl prints JSON"))
}

/// Waits for a cluster's state in the control plane's own view.
pub fn wait_cluster(plane: &ControlPlane, cluster: &str, state: &str, within: Duration) -> Value {
    eventually(&format!("cluster {cluster} to be {state}"), within, || {
        plane.row("/api/v1/clusters", "name", cluster).filter(|row| row["state"] == state)
    })
}

pub fn install_crds(server: &ApiServer) {
    let output = crate::support::fleet::causeway().arg("crds").output().expect("the binary runs");
    server.apply(std::str::from_utf8(&output.stdout).expect("YAML"));
    let names = "clusterinfos clusteraccesses endpointsnapshots vippools virtualips policies";
    for name in names.split(' ') {
        let crd = format!("crd/{name}.causeway.dev");
        server.kubectl(&["wait", "--for=condition=Established", "--timeout=60s", &crd]);
    }
}

/// A Service and its slices.
pub fn service_yaml(service: &str, pods: &[Pod]) -> String {
    let mut text = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{namespace: shop, name: {service}, labels: {{app: {service}}}}}\nspec:\n  ports: \
         [{{name: main, port: {PORT}, appProtocol: http}}]\n"
    );
    for Pod { name, address, ready } in pods {
        write!(
            text,
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{namespace: shop, name: {name}, labels: \
             {{kubernetes.io/service-name: {service}}}}}\naddressType: IPv4\nports: [{{name: main, port: {}}}]\nendpoints: \
             [{{addresses: [\"{}\"], conditions: {{ready: {ready}}}, targetRef: {{kind: Pod, namespace: shop, name: {name}}}}}]\n",
            address.port(),
            address.ip()
        )
        .expect("text takes text");
    }
    text
}
