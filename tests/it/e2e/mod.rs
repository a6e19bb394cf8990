//! The whole on real Envoys: what a user would see.

mod churn;
mod crash;
mod data_plane;
mod families;
mod gateways;
mod loads;
mod names;
mod policies;
pub mod policy_objects;
mod policy_sources;
mod postgres;
mod protocols;
mod rejected;
mod scale;
mod sidecar;
mod single_types;
mod snapshots;
mod sqlite;
mod status;
mod unknown;
mod uploads;
mod withdraw;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tempfile::TempDir;

use crate::support::fleet::{ControlPlane, Gateway, Speaks};
use crate::support::manifests::{self, Backend, Clusters, Service};
use crate::support::pods::Pods;
use crate::support::{eventually, free_addr, in_net, own_loopback_net};

/// Two clusters, `east` (the primary) and `west`, whose pods really answer.
pub struct Setup {
    pub dir: TempDir,
    pub clusters: Clusters,
    pub pods: Pods,
    /// A /24 of loopback for VIPs.
    pub vip_net: [u8; 3],
    /// A /24 of loopback for pods.
    pub pod_net: [u8; 3],
}

/// The port of every pod.
pub const POD_PORT: u16 = 9080;
/// The port of every service.
pub const PORT: u16 = 8080;

impl Setup {
    pub fn new() -> Self {
        let dir = TempDir::new().expect("a temporary folder");
        let clusters = Clusters::at(dir.path().join("clusters"));
        clusters.cluster_info("east", "Primary", "a");
        clusters.cluster_info("west", "Sub", "b");
        let (vip_net, pod_net) = (own_loopback_net(), own_loopback_net());
        let range = format!("{}/28", in_net(vip_net, 0));
        clusters.write("east", "pool.yaml", &manifests::pool_yaml("edge", &range));
        Self { dir, clusters, pods: Pods::default(), vip_net, pod_net }
    }

    /// The address of a cluster's pod.
    pub fn pod_address(&self, cluster: &str, index: u8) -> IpAddr {
        let base = if cluster == "east" { 1 } else { 101 };
        in_net(self.pod_net, base + index)
    }

    pub fn service(name: &str, app_protocol: &'static str) -> Service {
        Service { name: name.to_owned(), app_protocol, port: PORT, pod_port: POD_PORT }
    }

    /// Starts pods of the service in both clusters and writes its manifests and its access.
    pub async fn deploy(&self, service: &Service, indices: std::ops::Range<u8>, pool: &str) {
        for cluster in ["east", "west"] {
            let mut backends = Vec::new();
            for index in indices.clone() {
                let (pod, address) = (format!("{}-{cluster}-{index}", service.name), self.pod_address(cluster, index));
                self.pods.start(&pod, address, service.pod_port).await;
                backends.push(Backend::ready(pod, address));
            }
            self.clusters.service(cluster, service, &backends);
        }
        let file = format!("{}-access.yaml", service.name);
        self.clusters.write("east", &file, &manifests::access_yaml(&service.name, pool, 1));
    }

    pub fn control_plane(&self) -> ControlPlane {
        ControlPlane::start(self.dir.path(), self.clusters.root())
    }

    /// With further flags.
    pub fn control_plane_with(&self, flags: &[&str]) -> ControlPlane {
        ControlPlane::start_with(self.dir.path(), self.clusters.root(), free_addr(), flags)
    }

    pub fn gateway(&self, id: &str, plane: &ControlPlane, speaks: Speaks) -> Gateway {
        Gateway::new(self.dir.path(), id, plane.xds, speaks)
    }
}

/// The name of a service over all clusters.
pub fn clusterset(service: &str) -> String {
    format!("{service}.shop.svc.clusterset.local")
}

/// Waits until the name is answered, and gives the socket address to talk to.
pub fn resolve(plane: &ControlPlane, service: &str) -> SocketAddr {
    let name = clusterset(service);
    let address = eventually(&format!("{name} to be answered"), Duration::from_secs(20), || {
        plane.resolve(&name).first().copied()
    });
    SocketAddr::new(address, PORT)
}
