//! Writes manifests the way people's tools do: whole files, put in place by rename.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// A folder of clusters.
pub struct Clusters {
    root: PathBuf,
}

/// One endpoint of a slice.
#[derive(Clone, Debug)]
pub struct Backend {
    pub pod: String,
    pub address: IpAddr,
    pub ready: bool,
    pub terminating: bool,
}

impl Backend {
    pub fn ready(pod: impl Into<String>, address: IpAddr) -> Self {
        Self { pod: pod.into(), address, ready: true, terminating: false }
    }
}

/// A service of the namespace `shop` with one port.
#[derive(Clone, Debug)]
pub struct Service {
    pub name: String,
    pub app_protocol: &'static str,
    pub port: u16,
    pub pod_port: u16,
}

impl Clusters {
    pub fn at(root: impl Into<PathBuf>) -> Self {
        let root = root.into();
        std::fs::create_dir_all(&root).expect("the folder can be made");
        Self { root }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Puts a file in place atomically.
    pub fn write(&self, cluster: &str, file: &str, text: &str) {
        let dir = self.root.join(cluster);
        std::fs::create_dir_all(&dir).expect("the cluster's folder can be made");
        let temporary = dir.join(format!(".{file}.new"));
        std::fs::write(&temporary, text).expect("the file can be written");
        std::fs::rename(&temporary, dir.join(file)).expect("the file can be put in place");
    }

    /// Removes a file.
    pub fn remove(&self, cluster: &str, file: &str) {
        std::fs::remove_file(self.root.join(cluster).join(file)).expect("the file was there");
    }

    /// A file's text.
    pub fn read(&self, cluster: &str, file: &str) -> String {
        std::fs::read_to_string(self.root.join(cluster).join(file)).expect("the file is there")
    }

    /// Takes a cluster's folder away, as an unmounted volume would.
    pub fn take_away(&self, cluster: &str) {
        std::fs::rename(self.root.join(cluster), self.away(cluster)).expect("the folder was there");
    }

    /// Brings it back.
    pub fn bring_back(&self, cluster: &str) {
        std::fs::rename(self.away(cluster), self.root.join(cluster)).expect("the folder was taken away");
    }

    fn away(&self, cluster: &str) -> PathBuf {
        self.root.with_file_name(format!("away-{cluster}"))
    }

    pub fn cluster_info(&self, cluster: &str, role: &str, zone: &str) {
        self.write(
            cluster,
            "cluster.yaml",
            &format!(
                "apiVersion: causeway.dev/v1alpha1\nkind: ClusterInfo\nmetadata: {{name: {cluster}}}\nspec:\n  role: {role}\n  \
                 network: flat\n  locality: {{region: eu-1, zone: {zone}}}\n"
            ),
        );
    }

    /// Writes a service with its slice as one file.
    pub fn service(&self, cluster: &str, service: &Service, backends: &[Backend]) {
        self.write(cluster, &format!("{}.yaml", service.name), &service_yaml(cluster, service, backends));
    }
}

/// A Service and its EndpointSlice.
pub fn service_yaml(cluster: &str, service: &Service, backends: &[Backend]) -> String {
    let Service { name, app_protocol, port, pod_port } = service;
    let mut text = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{namespace: shop, name: {name}, labels: {{app: {name}}}}}\nspec:\n  ports:\n  - \
         {{name: main, port: {port}, targetPort: {pod_port}, appProtocol: {app_protocol}}}\n---\napiVersion: \
         discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  namespace: shop\n  name: {name}-{cluster}\n  labels: \
         {{kubernetes.io/service-name: {name}}}\naddressType: IPv4\nports: [{{name: main, port: {pod_port}}}]\n"
    );
    text.push_str(if backends.is_empty() { "endpoints: []\n" } else { "endpoints:\n" });
    for b in backends {
        let serving = b.ready || b.terminating;
        writeln!(
            text,
            "- {{addresses: [\"{}\"], conditions: {{ready: {}, serving: {serving}, terminating: {}}}, targetRef: {{kind: Pod, \
             namespace: shop, name: {}}}}}",
            b.address,
            b.ready && !b.terminating,
            b.terminating,
            b.pod
        )
        .expect("text takes text");
    }
    text
}

/// A pool of the control plane's.
pub fn pool_yaml(name: &str, range: &str) -> String {
    format!(
        "apiVersion: causeway.dev/v1alpha1\nkind: VipPool\nmetadata: {{name: {name}}}\nspec:\n  ranges: [\"{range}\"]\n"
    )
}

/// A pool of the data plane's.
pub fn data_plane_pool_yaml(name: &str) -> String {
    format!(
        "apiVersion: causeway.dev/v1alpha1\nkind: VipPool\nmetadata: {{name: {name}}}\nspec:\n  assignedBy: DataPlane\n"
    )
}

/// An access to the service of its own name.
pub fn access_yaml(name: &str, pool: &str, ttl_seconds: u32) -> String {
    format!(
        "apiVersion: causeway.dev/v1alpha1\nkind: ClusterAccess\nmetadata: {{namespace: shop, name: {name}}}\nspec:\n  vip: \
         {{pool: {pool}}}\n  publish: {{ttlSeconds: {ttl_seconds}}}\n"
    )
}
