//! `causeway bench xds`: clients by the thousand against any server of the aggregated discovery service.

mod report;

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::args::{BenchXds, Protocol};
use super::{Told, Usage};
use crate::ads;
use crate::load::board::Remember;
use crate::load::{Board, Fleet, Memory, Profile, Reading, Target};
use crate::snapshot::ResourceType;
use report::Report;

/// Between two looks at whether somebody has come back.
const LOOK: Duration = Duration::from_millis(50);

/// How long nothing must come for a reconnection to be over.
const QUIET: Duration = Duration::from_secs(1);

/// Runs the clients and prints what they saw. Fails when one of them was not served.
pub(super) fn run(args: BenchXds, out: &mut dyn Write) -> anyhow::Result<()> {
    let profile = profile(&args)?;
    crate::load::allow_many_connections();
    // Other commands need one thread; clients by the thousand take what there is.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let report = runtime.block_on(measure(&args, profile))?;
    report.print(args.output, out)?;
    out.flush()?;
    if report.is_failure() { Err(Told.into()) } else { Ok(()) }
}

fn profile(args: &BenchXds) -> anyhow::Result<Profile> {
    let protocol = match args.protocol {
        Protocol::Delta => ads::Protocol::Delta,
        Protocol::Sotw => ads::Protocol::Sotw,
    };
    if args.reconnect && protocol == ads::Protocol::Sotw {
        bail!(Usage(
            "--reconnect: only the delta protocol knows versions from before; leave out --protocol".to_owned()
        ));
    }
    let mut profile = Profile::new(protocol);
    if !args.route.is_empty() {
        profile.types.push(ResourceType::Route);
        profile.routes.clone_from(&args.route);
    }
    profile.node_id_prefix.clone_from(&args.node_id_prefix);
    profile.node_cluster.clone_from(&args.node_cluster);
    for pair in &args.node_metadata {
        match pair.split_once('=') {
            Some((key, value)) if !key.is_empty() => profile.node_metadata.push((key.to_owned(), value.to_owned())),
            _ => bail!(Usage(format!("--node-metadata {pair}: write it as KEY=VALUE"))),
        }
    }
    profile.memory = if args.reconnect { Memory::Versions } else { Memory::Names };
    profile.refuses = args.refuse.as_deref().map(refused).transpose()?;
    profile.served_at = args.resources.map(|count| count as usize);
    Ok(profile)
}

fn refused(text: &str) -> Result<(ResourceType, Arc<str>), Usage> {
    let (ty, name) = text.split_once('/').unwrap_or((text, ""));
    let ty = ResourceType::ALL.into_iter().find(|known| known.label() == ty);
    match ty.filter(|_| !name.is_empty()) {
        Some(ty) => Ok((ty, Arc::from(name))),
        None => {
            Err(Usage(format!("--refuse {text}: write it as cluster/NAME, endpoint/NAME, listener/NAME or route/NAME")))
        }
    }
}

async fn target(server: &str) -> anyhow::Result<Target> {
    let wrong = || Usage(format!("--server {server}: write it as HOST:PORT"));
    if server.rsplit_once(':').is_none_or(|(host, port)| host.is_empty() || port.parse::<u16>().is_err()) {
        bail!(wrong());
    }
    let found: Vec<SocketAddr> =
        tokio::net::lookup_host(server).await.with_context(|| format!("--server {server}"))?.collect();
    // A name with both kinds of addresses is most often served on the first kind that is tried by hand: IPv4.
    let address = found.iter().find(|address| address.is_ipv4()).or(found.first()).copied();
    let address = address.with_context(|| format!("--server {server}: the name has no address"))?;
    Ok(Target { address, authority: server.to_owned() })
}

async fn measure(args: &BenchXds, profile: Profile) -> anyhow::Result<Report> {
    let target = target(&args.server).await?;
    let (clients, stalled) = (args.clients as usize, args.stalled as usize);
    let board = Board::new(clients, Remember::Pushes);
    let fleet = Fleet::new(board.clone());
    let mut report = Report::new(&args.server, profile.protocol, clients);
    let phases = async {
        fleet.start(&target, profile.clone(), 0, clients);
        board.until(args.within, |board| board.served() + board.failed() >= clients).await;
        report.start = (&board.total()).into();
        board.forget_pushes();
        if board.served() == 0 {
            return;
        }
        let silent = Profile { reading: Reading::Nothing, ..profile };
        fleet.start(&target, silent, clients, stalled);
        let (before, start) = (board.total(), Instant::now());
        tokio::time::sleep(args.duration).await;
        report.look(start.elapsed(), board.total().since(before), &board.spreads());
        if args.reconnect {
            let before = board.total();
            let took = back_again(&fleet, clients + stalled, args).await;
            report.reconnected(took, board.total().since(before));
        }
    };
    // Whoever interrupts wants to see what is known so far.
    tokio::select! {
        () = phases => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    report.finish(&board);
    Ok(report)
}

/// Has all come back, waits until so many have a stream again, and then until nothing comes any more or the time for
/// looking on is over: a server whose world changes never falls silent. How long the streams took.
async fn back_again(fleet: &Fleet, streams: usize, args: &BenchXds) -> Duration {
    let board = fleet.board();
    let (start, opened) = (Instant::now(), board.opened());
    fleet.reconnect();
    board.until(args.within, |board| board.opened() >= opened + streams).await;
    let took = start.elapsed();
    let (mut seen, mut since) = (board.total().responses, Instant::now());
    while since.elapsed() < QUIET && start.elapsed() < took + args.duration {
        tokio::time::sleep(LOOK).await;
        let now = board.total().responses;
        if now != seen {
            (seen, since) = (now, Instant::now());
        }
    }
    took
}
