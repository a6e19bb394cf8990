//! The grammar of the commands by which clusters come and go.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand};

use super::Output;
use crate::config::parse_duration;
use crate::kube::apiserver::{Choice, Who};

/// The primary's API server, as with kubectl.
#[derive(Clone, Debug, Args)]
pub(in crate::cli) struct Primary {
    /// Kubeconfig of the primary cluster [default: $KUBECONFIG, then ~/.kube/config]
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Context of that kubeconfig [default: its current one]
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
    /// How long to wait for each answer
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = parse_duration)]
    pub request_timeout: Duration,
}

impl Primary {
    /// Which API server that is.
    pub fn choice(&self) -> Choice {
        Choice {
            who: Who::Primary,
            kubeconfig: self.kubeconfig.clone(),
            context: self.context.clone(),
            patience: self.request_timeout,
        }
    }
}

/// The sub-cluster's API server.
#[derive(Clone, Debug, Args)]
pub(in crate::cli) struct Sub {
    /// Kubeconfig of the sub-cluster, of somebody who may make roles there
    #[arg(long, value_name = "FILE")]
    pub sub_kubeconfig: Option<PathBuf>,
    /// Context of that kubeconfig; without --sub-kubeconfig of the default one
    #[arg(long, value_name = "NAME")]
    pub sub_context: Option<String>,
}

impl Sub {
    /// Whether one was named.
    pub fn is_named(&self) -> bool {
        self.sub_kubeconfig.is_some() || self.sub_context.is_some()
    }

    /// Which API server that is.
    pub fn choice(&self, patience: Duration) -> Choice {
        Choice { who: Who::Sub, kubeconfig: self.sub_kubeconfig.clone(), context: self.sub_context.clone(), patience }
    }
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Cluster {
    /// Let a cluster be read: makes a service account there, and a kubeconfig and a ClusterInfo in the primary
    Join(Box<Join>),
    /// Let a cluster go: what joining made is deleted, and its pods serve no more
    Leave(Leave),
    /// List ClusterInfos, as the primary's API server has them
    #[command(visible_alias = "ls")]
    List(ListClusters),
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("sub").required(true).multiple(true).args(["sub_kubeconfig", "sub_context", "push"]))]
#[command(after_help = "Joining again makes a new credential: the control plane tries it beside the one in use, and \
                        nothing is withdrawn. What is not said then stays as it was.")]
pub(in crate::cli) struct Join {
    /// The cluster's name, a part of DNS names
    #[arg(value_name = "NAME")]
    pub name: String,
    #[command(flatten)]
    pub primary: Primary,
    #[command(flatten)]
    pub sub: Sub,
    /// The network that its pods are in: nodes reach those of their own network directly [default: default]
    #[arg(long, value_name = "NAME")]
    pub network: Option<String>,
    /// The region of Kubernetes nodes that say none
    #[arg(long, value_name = "NAME")]
    pub region: Option<String>,
    /// The zone of Kubernetes nodes that say none
    #[arg(long, value_name = "NAME")]
    pub zone: Option<String>,
    /// A namespace whose services are not read; can be repeated
    #[arg(long, value_name = "NAMESPACE")]
    pub exclude_namespace: Vec<String>,
    /// The namespace of the kubeconfig in the primary and of the service account [default: causeway-system]
    #[arg(short, long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// Keep the kubeconfig in a Secret
    #[arg(long)]
    pub secret: bool,
    /// Keep the kubeconfig in a ConfigMap, as when nothing is said
    #[arg(long, conflicts_with = "secret")]
    pub config_map: bool,
    /// How long the credential lives; join again before it ends
    #[arg(long, value_name = "DURATION", default_value = "2160h", value_parser = token_ttl)]
    pub token_ttl: Duration,
    /// The URL by which the control plane reaches the sub-cluster [default: that of --sub-kubeconfig]
    #[arg(long, value_name = "URL", value_parser = server_url)]
    pub server: Option<String>,
    /// How long to wait for the control plane to say that it is connected; 0 for not at all
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration_or_zero)]
    pub wait: Duration,
    /// Join also where the cluster seems to be here already
    #[arg(long)]
    pub force: bool,
    /// Only print what would be made, as YAML
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub member: MemberOf,
}

/// What joining needs where the cluster's own manager dials in.
#[derive(Debug, Args)]
#[command(next_help_heading = "Where the cluster's own manager dials in")]
pub(in crate::cli) struct MemberOf {
    /// The cluster's own manager (`causeway member`) dials in: no credential leaves the cluster, and nothing has to
    /// reach its API server. Makes a certificate for it; without --sub-kubeconfig its objects are written for somebody
    /// to apply there
    #[arg(long, requires = "primary_address", conflicts_with_all = ["secret", "config_map", "server"])]
    pub push: bool,
    /// Where the member reaches `causeway serve --member-addr`
    #[arg(long, value_name = "HOST:PORT", requires = "push", value_parser = crate::member::address)]
    pub primary_address: Option<String>,
    /// File for the objects of the sub-cluster, which hold a key [default: standard output]
    #[arg(long, value_name = "FILE", requires = "push")]
    pub out: Option<PathBuf>,
    /// How many days the certificate is good for; join again before it ends
    #[arg(long, value_name = "DAYS", default_value = "365", requires = "push",
          value_parser = clap::value_parser!(u32).range(1..=3650))]
    pub valid_days: u32,
    /// Folder of the store of `causeway serve`, where the authority of members lies or is made
    #[arg(long, value_name = "DIR", default_value = "causeway-data", requires = "push")]
    pub data_dir: PathBuf,
    /// The authority's certificate (PEM), as `causeway serve` is given it
    #[arg(long, value_name = "FILE", requires_all = ["push", "member_ca_key"])]
    pub member_ca_cert: Option<PathBuf>,
    /// The authority's key (PEM)
    #[arg(long, value_name = "FILE", requires_all = ["push", "member_ca_cert"])]
    pub member_ca_key: Option<PathBuf>,
    /// The trust domain of members' SPIFFE ids, as `causeway serve` is given it
    #[arg(long, value_name = "NAME", default_value = crate::config::DEFAULT_TRUST_DOMAIN, requires = "push",
          value_parser = crate::config::parse_trust_domain)]
    pub trust_domain: String,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Leave {
    /// The cluster's name
    #[arg(value_name = "NAME")]
    pub name: String,
    #[command(flatten)]
    pub primary: Primary,
    #[command(flatten)]
    pub sub: Sub,
    /// The namespace of what joining made [default: causeway-system]
    #[arg(short, long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// Let go of the primary itself
    #[arg(long)]
    pub force: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ListClusters {
    /// Only these
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
    /// Another form than the table
    #[arg(short, long, value_enum, value_name = "FORM")]
    pub output: Option<Output>,
    /// Leave out the table's first line
    #[arg(long)]
    pub no_headers: bool,
    #[command(flatten)]
    pub primary: Primary,
}

/// Whose roles are printed.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Rbac {
    /// The control plane's own rights in the primary
    Primary(RbacOf),
    /// The rights of the credential by which a sub-cluster is read
    SubCluster(RbacOf),
    /// The rights of users, as parts of Kubernetes' roles view, edit and admin
    Users,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct RbacOf {
    /// The namespace of the service account and of kubeconfigs
    #[arg(short, long, value_name = "NAMESPACE", default_value = crate::kube::rbac::NAMESPACE)]
    pub namespace: String,
}

fn duration_or_zero(text: &str) -> Result<Duration, String> {
    if text.trim() == "0" { Ok(Duration::ZERO) } else { parse_duration(text) }
}

/// The API server makes no token that lives for less than ten minutes.
fn token_ttl(text: &str) -> Result<Duration, String> {
    let ttl = parse_duration(text)?;
    if ttl < Duration::from_secs(600) { Err("must be at least 10m".to_owned()) } else { Ok(ttl) }
}

fn server_url(text: &str) -> Result<String, String> {
    let url: hyper::Uri = text.parse().map_err(|error| format!("is no URL: {error}"))?;
    match (url.scheme_str(), url.host()) {
        (Some("https"), Some(host)) if !host.is_empty() => Ok(text.trim_end_matches('/').to_owned()),
        _ => Err("write it as https://host:6443".to_owned()),
    }
}
