//! The grammar of the commands that work with EndpointSnapshots.

use clap::{Args, Subcommand, ValueEnum};

use super::Output;
use super::cluster::Primary;

/// How pods are written, shown below `--help`.
const PODS: &str = "\
A pod is written as parts with commas between:
  name=NAME          its name; all else may be left out
  address=IP         where it is; can be repeated. Without one, NAME is a pod of the cluster that is weighed or drained
  port=NAME:NUMBER   its port for the service's port of that name, or port=NUMBER where the service has only one
  weight=N           its share of traffic relative to others, 1 to 1000
  drain              no new traffic (also drain=true, drain=false)
  ready=false        it takes no traffic
  zone=, region=, node=

  causeway snapshot create vm -n shop --access checkout --pod name=vm-1,address=10.1.2.3,port=http:8080,zone=a
  causeway snapshot create slow -n shop --access checkout --cluster east --pod name=checkout-7d9f-abcde,drain";

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Snapshot {
    /// List the snapshot information of accesses' pods
    Get(GetSnapshots),
    /// Add backends to an access, or weigh or drain its pods
    #[command(after_help = PODS)]
    Create(CreateSnapshot),
    /// Change an entry of one's own: in an editor, or a pod of it by flags
    Edit(EditSnapshot),
    /// Delete entries of one's own
    Delete(DeleteSnapshots),
}

/// Who writes an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Owner {
    /// Causeway.
    System,
    /// Somebody else.
    User,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct GetSnapshots {
    /// Only these
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
    /// The namespace [default: that of the kubeconfig's context]
    #[arg(short, long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// All namespaces
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    pub all_namespaces: bool,
    /// Only those of this access
    #[arg(long, value_name = "NAME")]
    pub access: Option<String>,
    /// Only those of this cluster
    #[arg(long, value_name = "NAME")]
    pub cluster: Option<String>,
    /// Only those of this owner
    #[arg(long, value_enum, value_name = "OWNER", ignore_case = true)]
    pub owner: Option<Owner>,
    /// A row for each pod
    #[arg(long)]
    pub pods: bool,
    /// Another form than the table
    #[arg(short, long, value_enum, value_name = "FORM")]
    pub output: Option<Output>,
    /// Leave out the table's first line
    #[arg(long)]
    pub no_headers: bool,
    #[command(flatten)]
    pub primary: Primary,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct CreateSnapshot {
    /// The entry's name
    #[arg(value_name = "NAME", required_unless_present = "file", conflicts_with = "file", requires = "access")]
    pub name: Option<String>,
    /// The namespace, which is the access's [default: that of the kubeconfig's context]
    #[arg(short, long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// The ClusterAccess
    #[arg(long, value_name = "NAME", conflicts_with = "file")]
    pub access: Option<String>,
    /// The service [default: the one that the access names, or that has its name]
    #[arg(long, value_name = "NAME", conflicts_with = "file")]
    pub service: Option<String>,
    /// The cluster whose pods these are, and whose network they are in [default: the primary]
    #[arg(long, value_name = "NAME", conflicts_with = "file")]
    pub cluster: Option<String>,
    /// A pod, as described below; can be repeated
    #[arg(long, value_name = "PARTS", conflicts_with = "file", required_unless_present = "file")]
    pub pod: Vec<String>,
    /// Take EndpointSnapshots from this YAML or JSON file, or - for the standard input
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<String>,
    /// Only print what would be made, as YAML
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub primary: Primary,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct EditSnapshot {
    /// The entry's name
    #[arg(value_name = "NAME")]
    pub name: String,
    /// The namespace [default: that of the kubeconfig's context]
    #[arg(short, long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// The pod that is changed; without it, $KUBE_EDITOR or $EDITOR opens the whole
    #[arg(long, value_name = "NAME")]
    pub pod: Option<String>,
    /// Its share of traffic relative to others, 1 to 1000
    #[arg(long, value_name = "N", requires = "pod", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub weight: Option<u32>,
    /// Whether it gets no new traffic
    #[arg(long, value_name = "BOOL", requires = "pod", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub drain: Option<bool>,
    /// Whether it takes traffic
    #[arg(long, value_name = "BOOL", requires = "pod", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub ready: Option<bool>,
    /// Add the pod where the entry does not have it
    #[arg(long, requires = "pod")]
    pub add: bool,
    /// Take the pod out of the entry
    #[arg(long, requires = "pod", conflicts_with_all = ["weight", "drain", "ready", "add"])]
    pub remove: bool,
    #[command(flatten)]
    pub primary: Primary,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct DeleteSnapshots {
    /// The entries' names
    #[arg(value_name = "NAME", required = true)]
    pub names: Vec<String>,
    /// The namespace [default: that of the kubeconfig's context]
    #[arg(short, long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    #[command(flatten)]
    pub primary: Primary,
}
