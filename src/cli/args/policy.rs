//! The grammar of `causeway policy`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::{Format, List, Server};
use crate::config::parse_duration;
use crate::policy::World;
use crate::policy::apart::CompileLimits;

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Policy {
    /// Write a policy that builds and passes its own test, to begin with
    New(NewPolicy),
    /// Upload a component as a policy's next version, and put it into force
    Upload(Box<UploadPolicy>),
    /// List policies, built in and uploaded
    #[command(visible_alias = "ls")]
    List(List),
    /// Show everything of a policy: its versions, who uses it, what became of its calls
    Show(ShowPolicy),
    /// Put another of its versions into force
    Activate(ActivatePolicy),
    /// Put the version into force that was so before
    Rollback(RollBackPolicy),
    /// Forget a policy and its versions; in the place of a built-in one that comes back
    Delete(DeletePolicy),
    /// Print what a policy wrote last
    Logs(PolicyLogs),
}

/// What a new policy decides on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum PolicyKind {
    /// Where a service's traffic goes
    Lb,
    /// Which address a service gets
    Vip,
}

impl PolicyKind {
    /// The world that it is of.
    pub fn world(self) -> World {
        match self {
            Self::Lb => World::Lb,
            Self::Vip => World::Vip,
        }
    }
}

/// What a new policy is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Language {
    /// Rust, with the SDK
    Rust,
    /// JavaScript
    Js,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct NewPolicy {
    /// What it decides on
    #[arg(value_enum, value_name = "WORLD")]
    pub kind: PolicyKind,
    /// Its name: lower case letters, digits and dashes
    #[arg(value_name = "NAME")]
    pub name: String,
    /// What it is written in
    #[arg(long, value_enum, value_name = "LANGUAGE", default_value = "rust")]
    pub lang: Language,
    /// The folder, which must be empty or not be there [default: the name]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// What holds where a policy fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Fallback {
    /// Its last good decision, less the endpoints that are gone.
    #[value(name = "KeepLast")]
    KeepLast,
    /// What the built-in policy decides.
    #[value(name = "Default")]
    Default,
}

#[derive(Debug, Args)]
#[command(
    after_help = "What is not said of settings stays as it was. A version is a component and its settings: rolling \
                        back brings both back."
)]
pub(in crate::cli) struct UploadPolicy {
    /// The policy's name; it need not be there yet, and may be a built-in one's
    #[arg(value_name = "NAME")]
    pub name: String,
    /// The component, a .wasm file, or `-` for standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// What it decides on: lb-policy or vip-policy [default: what it is]
    #[arg(long, value_name = "WORLD")]
    pub world: Option<World>,
    /// Only keep it; `causeway policy activate` puts it into force
    #[arg(long)]
    pub no_activate: bool,
    /// File of a signature of the component, as `cosign sign-blob --output-signature` writes it
    #[arg(long, value_name = "FILE")]
    pub signature: Option<PathBuf>,
    /// Its configuration as JSON; an access's is laid over it
    #[arg(long, value_name = "JSON")]
    pub config: Option<String>,
    /// Instructions that a call may use [default: 6000000]
    #[arg(long, value_name = "N")]
    pub fuel: Option<u64>,
    /// Memory that a call may use, in MiB [default: 64]
    #[arg(long, value_name = "N")]
    pub memory_mib: Option<u32>,
    /// How much of what is in service one decision may take away, in percent; beyond it the last decision holds [default:
    /// 100, which is no limit]
    #[arg(long, value_name = "N")]
    pub max_removed_percent: Option<u32>,
    /// What holds where it fails [default: KeepLast]
    #[arg(long, value_enum, value_name = "WHAT")]
    pub on_failure: Option<Fallback>,
    /// Another form than text
    #[arg(short, long, value_enum, value_name = "FORM")]
    pub output: Option<Format>,
    /// The server's admin address
    #[arg(long, value_name = "HOST:PORT", env = "CAUSEWAY_ADMIN_ADDR", default_value = "127.0.0.1:18080")]
    pub admin_addr: String,
    /// How long to wait for an answer: it is compiled meanwhile
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = parse_duration)]
    pub request_timeout: Duration,
}

impl UploadPolicy {
    /// The server.
    pub fn server(&self) -> Server {
        Server { admin_addr: self.admin_addr.clone(), request_timeout: self.request_timeout }
    }
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ShowPolicy {
    /// The policy's name
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Another form than text
    #[arg(short, long, value_enum, value_name = "FORM")]
    pub output: Option<Format>,
    #[command(flatten)]
    pub server: Server,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ActivatePolicy {
    /// The policy's name
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Which version: its component's digest or the beginning of it, or its number as v2
    #[arg(value_name = "DIGEST")]
    pub version: String,
    /// Another form than text
    #[arg(short, long, value_enum, value_name = "FORM")]
    pub output: Option<Format>,
    #[command(flatten)]
    pub server: Server,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct RollBackPolicy {
    /// The policy's name
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Another form than text
    #[arg(short, long, value_enum, value_name = "FORM")]
    pub output: Option<Format>,
    #[command(flatten)]
    pub server: Server,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct DeletePolicy {
    /// The policy's name
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Also while accesses use it: they keep their last decisions, or get the default's
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub server: Server,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct PolicyLogs {
    /// The policy's name
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Another form than text
    #[arg(short, long, value_enum, value_name = "FORM")]
    pub output: Option<Format>,
    #[command(flatten)]
    pub server: Server,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct PolicyCompiler {
    /// The folder of compiled code
    #[arg(long, value_name = "DIR")]
    pub cache: PathBuf,
    /// What it has to be
    #[arg(long, value_name = "WORLD")]
    pub world: Option<World>,
    /// CPU time that it may take, in seconds
    #[arg(long, value_name = "N", default_value_t = CompileLimits::default().cpu_seconds)]
    pub cpu_seconds: u64,
    /// Memory that it may take, in MiB
    #[arg(long, value_name = "N", default_value_t = CompileLimits::default().memory_mib)]
    pub memory_mib: u64,
}
