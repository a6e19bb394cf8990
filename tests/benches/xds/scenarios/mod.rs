//! What is measured.

mod churn;
mod cold;
mod flat;
mod idle;
mod memory;
mod nacks;
mod push;
mod reconnect;
mod stalled;

use std::sync::Arc;
use std::time::{Duration, Instant};

use causeway::ads::Protocol;
use causeway::load::board::Remember;
use causeway::load::{Board, Fleet, Profile, Target};

use tokio::runtime::Runtime;

use crate::options::{Options, Peer};
use crate::process::Server;
use crate::table::{Figure, Table, Unit, written};

/// Names of scenarios, in the order in which they run.
pub const NAMES: [&str; 9] = ["push", "flat", "memory", "idle", "reconnect", "cold", "stalled", "churn", "nacks"];

/// Those that say nothing of a server that does not look at what it is told, and skips pushes that come too fast.
const NOT_OF_FLOOR: [&str; 4] = ["reconnect", "stalled", "churn", "nacks"];

/// How long anything may take before the measurement is given up.
const PATIENCE: Duration = Duration::from_secs(120);

type Figures = Result<Vec<Figure>, String>;

pub fn run(options: &Options) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    println!(
        "{} clients, {} services of {} endpoints, {}, {} rounds, median of {}",
        options.clients,
        options.services,
        crate::world::ENDPOINTS,
        options.protocol.label(),
        options.rounds,
        options.repeat,
    );
    let mut table = Table::default();
    let done = measure(&runtime, options, &mut table);
    // What was measured before something failed is worth reading.
    table.print();
    done
}

fn measure(runtime: &Runtime, options: &Options, table: &mut Table) -> Result<(), String> {
    let mut failed = Vec::new();
    for scenario in NAMES.into_iter().filter(|name| options.wants(name)) {
        for _ in 0..options.repeat {
            for peer in options.servers.iter().copied() {
                if peer == Peer::Floor && NOT_OF_FLOOR.contains(&scenario) {
                    continue;
                }
                eprintln!("{scenario}: {}", peer.label());
                let start = Instant::now();
                let figures = runtime.block_on(async {
                    match scenario {
                        "push" => push::measure(peer, options).await,
                        "flat" => flat::measure(peer, options).await,
                        "idle" => idle::measure(peer, options).await,
                        "reconnect" => reconnect::measure(peer, options).await,
                        "cold" => cold::measure(peer, options).await,
                        "stalled" => stalled::measure(peer, options).await,
                        "churn" => churn::measure(peer, options).await,
                        "nacks" => nacks::measure(peer, options).await,
                        _ => memory::measure(peer, options).await,
                    }
                });
                // One server's failure is a result as well, and no reason to know nothing of the others.
                let figures = figures.unwrap_or_else(|error| {
                    failed.push(format!("{scenario}, {}: {error}", peer.label()));
                    Vec::new()
                });
                for figure in &figures {
                    eprintln!("  {:>12}  {}", written(figure.unit, figure.value), figure.what);
                }
                eprintln!("  {:>12}  in all", written(Unit::Millis, start.elapsed().as_secs_f64()));
                table.add(peer, figures);
            }
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(failed.join("\n")) }
}

/// A fleet of clients that have all clusters and assignments of so many services.
async fn fleet(server: &Server, protocol: Protocol, clients: usize, services: usize) -> Result<Fleet, String> {
    let board = Board::new(clients, Remember::Counts);
    let fleet = Fleet::new(board.clone());
    let mut profile = Profile::new(protocol);
    profile.served_at = Some(services * 2);
    fleet.start(&Target::from(server.address), profile, 0, clients);
    served(&board, clients).await?;
    Ok(fleet)
}

/// Waits until so many clients are served.
async fn served(board: &Arc<Board>, clients: usize) -> Result<(), String> {
    let over = |board: &Board| board.served() >= clients || !board.errors().is_empty();
    let in_time = board.until(PATIENCE, over).await;
    if let Some((error, count)) = board.errors().into_iter().next() {
        return Err(format!("{count} clients failed: {error}"));
    }
    if !in_time {
        return Err(format!("{} of {clients} clients are served after {PATIENCE:?}", board.served()));
    }
    Ok(())
}
