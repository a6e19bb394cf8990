//! A node of a cluster, as far as clients on it need one: CoreDNS and kube-proxy on a host with the cluster's API server.

use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use super::apiserver::ApiServer;
use super::fleet::Process;
use super::host::Host;
use super::{built_with, eventually};

/// Where clients ask for names: the Service kube-system/kube-dns.
const DNS: &str = "10.96.0.10";

/// A running node, and what its clients' resolver is told.
pub struct Node<'a> {
    _processes: [Process; 2],
    host: &'a Host,
    resolv_conf: PathBuf,
}

impl<'a> Node<'a> {
    /// Starts one on the host for the cluster, whose API server is on that host.
    pub fn start(dir: &Path, server: &ApiServer, host: &'a Host) -> Self {
        let (far, near) = (host.far(), &host.near);
        let corefile = dir.join("Corefile");
        let kubeconfig = server.kubeconfig().display().to_string();
        let text = format!(
            ".:53 {{\n  bind {far}\n  errors\n  kubernetes cluster.local clusterset.local {{\n    kubeconfig {kubeconfig}\n    \
             multicluster clusterset.local\n  }}\n}}\n"
        );
        std::fs::write(&corefile, text).expect("the Corefile is written");
        let resolv_conf = dir.join("resolv.conf");
        let search = "shop.svc.cluster.local svc.cluster.local cluster.local";
        let text = format!("nameserver {DNS}\nsearch {search}\noptions ndots:5 timeout:1\n");
        std::fs::write(&resolv_conf, text).expect("the resolver's file is written");
        // What is meant for addresses of Services has to have a way, by which it never goes.
        super::host::ip(&format!("-n {} route add default via {near}", host.name));
        server.apply(&format!(
            "apiVersion: v1\nkind: Node\nmetadata: {{name: node}}\n---\napiVersion: v1\nkind: Service\nmetadata: {{namespace: \
             kube-system, name: kube-dns}}\nspec: {{clusterIP: {DNS}, ports: [{{name: dns, port: 53, protocol: UDP}}]}}\n---\n\
             apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{namespace: kube-system, name: kube-dns, labels: \
             {{kubernetes.io/service-name: kube-dns}}}}\naddressType: IPv4\nports: [{{name: dns, port: 53, protocol: UDP}}]\n\
             endpoints: [{{addresses: [\"{far}\"], conditions: {{ready: true}}}}]\n"
        ));
        let status =
            format!("{{\"status\": {{\"addresses\": [{{\"type\": \"InternalIP\", \"address\": \"{far}\"}}]}}}}");
        server.kubectl(&["patch", "node", "node", "--subresource=status", "--type=merge", "-p", &status]);

        let start = |program: &str, arguments: &[&str]| {
            let mut command = host.command(built_with("tests/node/build.sh", &[program]));
            Process::start(dir, program, command.args(arguments))
        };
        let coredns = start("coredns", &["-conf", &corefile.display().to_string()]);
        let kubeconfig = format!("--kubeconfig={kubeconfig}");
        let proxy = start(
            "kube-proxy",
            &[
                kubeconfig.as_str(),
                "--proxy-mode=nftables",
                "--hostname-override=node",
                // The machine's own settings are left alone.
                "--conntrack-max-per-core=0",
                "--conntrack-tcp-timeout-established=0s",
                "--conntrack-tcp-timeout-close-wait=0s",
            ],
        );
        let node = Self { _processes: [coredns, proxy], host, resolv_conf };
        eventually("the node to answer for names", Duration::from_secs(60), || node.resolve("kube-dns.kube-system"));
        node
    }

    /// Runs a command as a pod of the namespace `shop` would on this node, with its resolver.
    pub fn run(&self, command: &[&str]) -> Output {
        let script = "mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"";
        self.host
            .command("unshare")
            .args(["--mount", "sh", "-c", script])
            .arg(&self.resolv_conf)
            .args(command)
            .output()
            .expect("ip runs")
    }

    /// The addresses of a name, as a client's C library finds them.
    pub fn resolve(&self, name: &str) -> Option<Vec<String>> {
        let output = self.run(&["getent", "ahostsv4", name]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut found: Vec<String> =
            text.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect();
        found.sort();
        found.dedup();
        (output.status.success() && !found.is_empty()).then_some(found)
    }

    /// What is answered to a GET.
    pub fn get(&self, url: &str) -> Result<String, String> {
        let output = self.run(&["curl", "-fsS", "--max-time", "5", url]);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }
}
