//! Commands. `serve`, `agent` and `member` start what they are given as an [`Entry`]; the others ask a running
//! server, an Envoy's user or nobody. Exit code 2 means that the command was given something wrong,
//! 1 that it failed at its work.

mod args;
mod bench;
mod bootstrap;
mod client;
mod cluster;
mod http;
mod list;
mod policy;
mod probe;
mod rbac;
mod rows;
mod snapshot;
mod status;
mod table;
#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;

use crate::agent;
use crate::config::{ConfigError, LogFormat, ServeConfig};
use crate::kube::{crd, documents::documents};
use crate::member;
use crate::policy::apart;
use crate::telemetry;
use args::{Cli, Command};

/// What the commands start that lives in rooms further in.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Serves until it is told to stop; called with logging set up, outside any async runtime.
    pub serve: fn(ServeConfig) -> anyhow::Result<()>,
    /// Runs the agent beside an Envoy until it is told to stop; called with logging set up.
    pub agent: fn(agent::Options) -> anyhow::Result<()>,
    /// Runs the manager of a sub-cluster until it is told to stop; called with logging set up.
    pub member: fn(member::Options) -> anyhow::Result<()>,
}

/// The command was given something that it cannot use.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Usage(String);

/// The command failed and has said so in its own output.
#[derive(Debug, thiserror::Error)]
#[error("failed")]
struct Told;

/// Runs the command line and says how it ended.
pub fn main(entry: Entry) -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are "errors" to clap; it knows where each goes and its exit code. A
            // closed pipe while printing help is nobody's concern.
            drop(error.print());
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match run(cli.command, entry) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) if error.is::<Told>() => ExitCode::FAILURE,
        Err(error) => {
            drop(writeln!(io::stderr(), "error: {error:#}"));
            let usage = error.is::<Usage>() || error.is::<ConfigError>();
            if usage { ExitCode::from(2) } else { ExitCode::FAILURE }
        }
    }
}

/// `causeway vips | head -1` ends the reader first, and that is fine.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let closed = |e: &io::Error| e.kind() == io::ErrorKind::BrokenPipe;
    error.downcast_ref::<io::Error>().is_some_and(closed)
}

fn run(command: Command, entry: Entry) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match command {
        Command::Serve(args) => {
            drop(out);
            serve(*args, entry)
        }
        Command::Agent(options) => {
            drop(out);
            start_logging(LogFormat::default())?;
            (entry.agent)(options)
        }
        Command::Member(options) => {
            drop(out);
            start_logging(options.log_format)?;
            (entry.member)(options)
        }
        Command::Drain(options) => wait(async move { Ok(agent::drain(&options).await?) }),
        Command::MakeLocal(options) => Ok(agent::make_bindable(&options)?),
        Command::Version => Ok(writeln!(out, "causeway {}", env!("CARGO_PKG_VERSION"))?),
        Command::Crds => Ok(write!(out, "{}", documents(&crd::all())?)?),
        Command::Rbac(which) => rbac::run(&which, &mut out),
        Command::Cluster(command) => wait(cluster::run(command, &mut out)),
        Command::Snapshot(command) => wait(snapshot::run(command, &mut out)),
        Command::Policy(command) => wait(policy::run(command, &mut out)),
        Command::PolicyCompiler(args) => {
            let limits = apart::CompileLimits { cpu_seconds: args.cpu_seconds, memory_mib: args.memory_mib };
            Ok(apart::run(&args.cache, args.world, limits, io::stdin().lock(), &mut out)?)
        }
        Command::Bench(args::Bench::Xds(args)) => bench::run(args, &mut out),
        Command::Bootstrap(args) => bootstrap::run(&args, &mut out),
        Command::Status(args) => wait(status::run(&args, &mut out)),
        Command::Clusters(args) => wait(list::run::<rows::Cluster>(&args.query(), &mut out)),
        Command::Services(args) => wait(list::run::<rows::Service>(&args.query(), &mut out)),
        Command::Accesses(args) => wait(list::run::<rows::Access>(&args.query(), &mut out)),
        Command::Vips(args) => wait(list::run::<rows::Vip>(&args.query(), &mut out)),
        Command::Nodes(args) => wait(list::run::<rows::Node>(&args.query(), &mut out)),
        Command::Xds(args) => wait(status::xds(&args, &mut out)),
        Command::Probe(args) => wait(probe::run(args, &mut out)),
    }
}

/// Runs a client command. One thread is plenty for what they do.
fn wait<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

fn start_logging(format: LogFormat) -> anyhow::Result<()> {
    telemetry::init(format).map_err(|e| match e {
        telemetry::Error::Filter { .. } => anyhow::Error::new(Usage(e.to_string())),
        telemetry::Error::Installed(_) => anyhow::Error::new(e),
    })
}

fn serve(args: args::Serve, entry: Entry) -> anyhow::Result<()> {
    // A variable that is not UTF-8 is told like any other value that cannot be read.
    let env = |name: &str| std::env::var_os(name).map(|text| text.to_string_lossy().into_owned());
    let config = ServeConfig::resolve(args.settings(), &env)?;
    config.check_folders()?;
    start_logging(config.log_format)?;
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
    (entry.serve)(config)
}
