//! What is measured.

mod memory;
mod push;

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
pub const NAMES: [&str; 2] = ["push", "memory"];

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
    for scenario in NAMES.into_iter().filter(|name| options.wants(name)) {
        for _ in 0..options.repeat {
            for peer in options.servers.iter().copied() {
                eprintln!("{scenario}: {}", peer.label());
                let start = Instant::now();
                let figures = runtime.block_on(async {
                    match scenario {
                        "push" => push::measure(peer, options).await,
                        _ => memory::measure(peer, options).await,
                    }
                });
                let figures = figures.map_err(|error| format!("{scenario}, {}: {error}", peer.label()))?;
                for figure in &figures {
                    eprintln!("  {:>12}  {}", written(figure.unit, figure.value), figure.what);
                }
                eprintln!("  {:>12}  in all", written(Unit::Millis, start.elapsed().as_secs_f64()));
                table.add(peer, figures);
            }
        }
    }
    Ok(())
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
