//! The command line's grammar.

mod bench;
mod cluster;
mod policy;
mod snapshot;

use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use secrecy::{ExposeSecret, SecretString};

use crate::agent;
use crate::config::{Settings, parse_duration};
use crate::member;
pub(super) use bench::{Bench, BenchXds};
pub(super) use cluster::{Cluster, Join, Leave, ListClusters, MemberOf, Rbac};
pub(super) use policy::{
    ActivatePolicy, DeletePolicy, Fallback, Language, NewPolicy, Policy, PolicyCompiler, PolicyLogs, RollBackPolicy,
    ShowPolicy, UploadPolicy,
};
pub(super) use snapshot::{CreateSnapshot, DeleteSnapshots, EditSnapshot, GetSnapshots, Owner, Snapshot};

/// A multi-cluster control plane for Envoy.
#[derive(Debug, Parser)]
#[command(name = "causeway", version, propagate_version = false, max_term_width = 100)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Serve xDS, DNS and the admin interface
    Serve(Box<Serve>),
    /// Show the whole at a glance, and what should be mended
    Status(Status),
    /// Join and leave clusters on API servers
    #[command(subcommand)]
    Cluster(Cluster),
    /// List clusters, as the control plane sees them
    Clusters(List),
    /// List services, merged over the clusters
    #[command(visible_aliases = ["service", "svc"])]
    Services(NamespacedList),
    /// List accesses
    #[command(visible_alias = "access")]
    Accesses(NamespacedList),
    /// List virtual IPs with the proof that they are bound
    #[command(visible_alias = "vip")]
    Vips(NamespacedList),
    /// List Envoys
    #[command(visible_alias = "node")]
    Nodes(List),
    /// Show what a node was sent, accepted and refused; without NODE, which nodes there are
    Xds(Xds),
    /// Print an Envoy bootstrap
    Bootstrap(Bootstrap),
    /// Run beside an Envoy and report its listeners
    Agent(agent::Options),
    /// Have an Envoy that is about to end give its virtual IPs up, and wait while requests in flight end
    Drain(agent::DrainOptions),
    /// Make ranges local addresses of this host, so that an Envoy can bind virtual IPs there; needs CAP_NET_ADMIN
    MakeLocal(agent::MakeLocalOptions),
    /// Run in a sub-cluster, and tell the primary what that has
    Member(member::Options),
    /// Send requests to a name and show who answers
    Probe(Probe),
    /// Measure a server with clients by the thousand
    #[command(subcommand)]
    Bench(Bench),
    /// Work with the snapshot information of accesses' pods on the primary's API server
    #[command(subcommand, visible_alias = "snapshots")]
    Snapshot(Snapshot),
    /// Upload policies, put them into force and take them back
    #[command(subcommand, visible_alias = "policies")]
    Policy(Policy),
    /// Compile a policy from standard input into a cache; what the server runs for it
    #[command(name = crate::policy::apart::COMMAND, hide = true)]
    PolicyCompiler(PolicyCompiler),
    /// Print roles and their bindings, for `kubectl apply --server-side -f -`
    #[command(subcommand)]
    Rbac(Rbac),
    /// Print the custom resource definitions, for `kubectl apply --server-side -f -`
    Crds,
    /// Print the version
    Version,
}

#[derive(Debug, Args)]
#[command(after_help = "A value is taken from the flag, else from the environment (--xds-addr is CAUSEWAY_XDS_ADDR), \
                        else from the file of --config, else from the default.")]
pub(super) struct Serve {
    /// YAML file whose keys are these flags' names
    #[arg(long, value_name = "FILE")]
    pub config: Option<String>,
    /// Folder that has one subfolder of Kubernetes YAML for each cluster
    #[arg(long, value_name = "DIR")]
    pub manifests: Option<String>,
    /// Kubeconfig of the primary cluster, whose ClusterInfos say which others there are
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<String>,
    /// As --kubeconfig, but as a pod of the primary cluster, with its service account
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub in_cluster: Option<String>,
    /// Folder of what is kept on this machine [default: causeway-data]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<String>,
    /// Where the store is: sqlite://DIR or postgres://USER@HOST/DATABASE [default: files in --data-dir]
    #[arg(long, value_name = "URL")]
    pub store: Option<SecretString>,
    /// Where xDS is served, also as unix:/path; can be repeated [default: 127.0.0.1:18000]
    #[arg(long, value_name = "ADDR")]
    pub xds_addr: Vec<String>,
    /// Where the admin interface is served [default: 127.0.0.1:18080]
    #[arg(long, value_name = "ADDR")]
    pub admin_addr: Option<String>,
    /// Where DNS is served, or none [default: 127.0.0.1:5353]
    #[arg(long, value_name = "ADDR")]
    pub dns_addr: Option<String>,
    /// Where managers of sub-clusters (`causeway member`) are let in, by certificates, or none [default: none]
    #[arg(long, value_name = "ADDR")]
    pub member_addr: Option<String>,
    /// Certificates (PEM) of the authority that vouches for members [default: one that is made in the data folder]
    #[arg(long, value_name = "FILE")]
    pub member_ca_cert: Option<String>,
    /// Key (PEM) of the first of --member-ca-cert
    #[arg(long, value_name = "FILE")]
    pub member_ca_key: Option<String>,
    /// The trust domain of members' SPIFFE ids [default: causeway]
    #[arg(long, value_name = "NAME")]
    pub trust_domain: Option<String>,
    /// Allow addresses that other machines can reach, and serve whoever connects
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub insecure: Option<String>,
    /// The primary cluster, where the manifests should not decide [default with API servers: primary]
    #[arg(long, value_name = "CLUSTER")]
    pub primary: Option<String>,
    /// How long a withdrawn VIP's listeners stay for requests in flight [default: 5s]
    #[arg(long, value_name = "DURATION")]
    pub drain: Option<String>,
    /// How long a node may be gone before a VIP's release no longer waits for it, and how long what a drained listener leads to is kept [default: 60s]
    #[arg(long, value_name = "DURATION")]
    pub grace: Option<String>,
    /// How often Envoys tell of the requests that they send, or none [default: 10s]
    #[arg(long, value_name = "DURATION")]
    pub load_report_interval: Option<String>,
    /// Folder beneath which the files of Policy objects lie [default: that of --manifests]
    #[arg(long, value_name = "DIR")]
    pub policy_dir: Option<String>,
    /// File of public keys (PEM); each policy must be signed by one of them, as cosign does it; can be repeated
    #[arg(long, value_name = "FILE")]
    pub policy_key: Vec<String>,
    /// Credentials of registries that policies come from, as `docker login` writes them
    #[arg(long, value_name = "FILE")]
    pub registry_config: Option<String>,
    /// Registry that is spoken to without TLS, as loopback ones always are; can be repeated
    #[arg(long, value_name = "HOST")]
    pub insecure_registry: Vec<String>,
    /// Certificates (PEM) that registries may have beside those that the system trusts
    #[arg(long, value_name = "FILE")]
    pub registry_ca: Option<String>,
    /// CPU time that compiling a policy may take [default: 60s]
    #[arg(long, value_name = "DURATION")]
    pub policy_compile_cpu: Option<String>,
    /// Memory that compiling a policy may take, in MiB [default: 2048]
    #[arg(long, value_name = "N")]
    pub policy_compile_memory_mib: Option<String>,
    /// How log lines are written: text or json [default: text]
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<String>,
}

impl Serve {
    /// The flags as settings.
    pub fn settings(self) -> Settings {
        Settings::default()
            .flag("config", self.config)
            .flag("manifests", self.manifests)
            .flag("kubeconfig", self.kubeconfig)
            .flag("in-cluster", self.in_cluster)
            .flag("data-dir", self.data_dir)
            .flag("store", self.store.map(|store| store.expose_secret().to_owned()))
            .flag("xds-addr", self.xds_addr)
            .flag("admin-addr", self.admin_addr)
            .flag("dns-addr", self.dns_addr)
            .flag("member-addr", self.member_addr)
            .flag("member-ca-cert", self.member_ca_cert)
            .flag("member-ca-key", self.member_ca_key)
            .flag("trust-domain", self.trust_domain)
            .flag("insecure", self.insecure)
            .flag("primary", self.primary)
            .flag("drain", self.drain)
            .flag("grace", self.grace)
            .flag("load-report-interval", self.load_report_interval)
            .flag("policy-dir", self.policy_dir)
            .flag("policy-key", self.policy_key)
            .flag("registry-config", self.registry_config)
            .flag("insecure-registry", self.insecure_registry)
            .flag("registry-ca", self.registry_ca)
            .flag("policy-compile-cpu", self.policy_compile_cpu)
            .flag("policy-compile-memory-mib", self.policy_compile_memory_mib)
            .flag("log-format", self.log_format)
    }
}

/// Which server is asked.
#[derive(Clone, Debug, Args)]
pub(super) struct Server {
    /// The server's admin address
    #[arg(long, value_name = "HOST:PORT", env = "CAUSEWAY_ADMIN_ADDR", default_value = "127.0.0.1:18080")]
    pub admin_addr: String,
    /// How long to wait for an answer
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = parse_duration)]
    pub request_timeout: Duration,
}

/// How rows are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// A table with more columns.
    Wide,
    /// The API's own JSON.
    Json,
    /// The same as YAML.
    Yaml,
    /// One name a line.
    Name,
}

/// How a document is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

#[derive(Clone, Debug, Args)]
pub(super) struct List {
    /// Only these
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
    /// Another form than the table
    #[arg(short, long, value_enum, value_name = "FORM")]
    pub output: Option<Output>,
    /// Leave out the table's first line
    #[arg(long)]
    pub no_headers: bool,
    /// Keep asking each second, and print the rows that changed
    #[arg(short, long)]
    pub watch: bool,
    #[command(flatten)]
    pub server: Server,
}

#[derive(Clone, Debug, Args)]
pub(super) struct NamespacedList {
    /// Only this namespace
    #[arg(short, long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// All namespaces, as when no namespace is given
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    pub all_namespaces: bool,
    #[command(flatten)]
    pub list: List,
}

/// A list as it was asked for.
#[derive(Clone, Debug)]
pub(super) struct Query {
    pub list: List,
    pub namespace: Option<String>,
}

impl List {
    pub fn query(self) -> Query {
        Query { list: self, namespace: None }
    }
}

impl NamespacedList {
    pub fn query(self) -> Query {
        Query { list: self.list, namespace: self.namespace }
    }
}

#[derive(Debug, Args)]
pub(super) struct Status {
    /// Another form than text
    #[arg(short, long, value_enum, value_name = "FORM")]
    pub output: Option<Format>,
    /// Keep asking each second, and print when something changed
    #[arg(short, long)]
    pub watch: bool,
    #[command(flatten)]
    pub server: Server,
}

#[derive(Debug, Args)]
pub(super) struct Xds {
    /// The node's id
    #[arg(value_name = "NODE")]
    pub node: Option<String>,
    /// Show the contents of resources whose names contain this; of a large node only the first 200 are shown
    #[arg(long, value_name = "NAME", requires = "node")]
    pub resource: Option<String>,
    /// The document's form
    #[arg(short, long, value_enum, value_name = "FORM", default_value = "yaml")]
    pub output: Format,
    #[command(flatten)]
    pub server: Server,
}

/// What the Envoy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Role {
    /// Stands at the edge and has the VIPs.
    Gateway,
    /// Stands beside a workload.
    Sidecar,
}

/// How the Envoy speaks xDS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Protocol {
    /// Only changes are sent.
    Delta,
    /// The state of the world: each answer is whole.
    Sotw,
}

#[derive(Debug, Args)]
pub(super) struct Bootstrap {
    /// What the Envoy is
    #[arg(long, value_enum)]
    pub role: Role,
    /// The Envoy's id, one of its own for each Envoy
    #[arg(long, value_name = "ID")]
    pub node_id: String,
    /// The cluster that it runs in
    #[arg(long)]
    pub cluster: String,
    /// Its network
    #[arg(long, default_value = "default")]
    pub network: String,
    /// Its region
    #[arg(long, default_value = "")]
    pub region: String,
    /// Its zone
    #[arg(long, default_value = "")]
    pub zone: String,
    /// Where Causeway serves xDS, also as unix:/path; can be repeated for replicas
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:18000")]
    pub xds: Vec<String>,
    /// Where Envoy's own admin interface listens
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:9901")]
    pub envoy_admin: String,
    /// How it speaks xDS
    #[arg(long, value_enum, default_value = "delta")]
    pub protocol: Protocol,
    /// A label for pools' gateway selectors; can be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub label: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct Probe {
    /// http://HOST[:PORT]/PATH or HOST:PORT
    pub target: String,
    /// The DNS server that knows the name, or `system` for the machine's own resolver
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:5353")]
    pub dns: String,
    /// How many requests, each on a connection of its own
    #[arg(short = 'n', long, value_name = "N", default_value = "200", value_parser = clap::value_parser!(u32).range(1..))]
    pub requests: u32,
    /// How many at once
    #[arg(long, value_name = "N", default_value = "8", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub concurrency: u32,
    /// At most so many a second
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub rate: Option<u32>,
    /// How long one request may take, from connecting to the answer's end
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = parse_duration)]
    pub timeout: Duration,
    /// Fail only when fewer than so many percent succeed
    #[arg(long, value_name = "PCT", default_value = "100", value_parser = percent)]
    pub fail_under: f64,
    /// Only IPv4 addresses
    #[arg(short = '4', long, conflicts_with = "ipv6")]
    pub ipv4: bool,
    /// Only IPv6 addresses
    #[arg(short = '6', long)]
    pub ipv6: bool,
    /// Another form than the table
    #[arg(short, long, value_enum, value_name = "FORM")]
    pub output: Option<Format>,
}

fn percent(text: &str) -> Result<f64, String> {
    let number: f64 = text.strip_suffix('%').unwrap_or(text).parse().map_err(|_| "write a number".to_owned())?;
    if (0.0..=100.0).contains(&number) { Ok(number) } else { Err("must be from 0 to 100".to_owned()) }
}
