//! A change of 1, 10 and 100 services reaches every client: what the server spends on it, and when the last has it.

use std::time::Duration;

use causeway::load::{Awaited, Fleet, Times};
use causeway::snapshot::ResourceType;

use super::{Figure, Figures, Options, PATIENCE, Peer, Server, Unit};
use crate::options::ServerOptions;

/// Rounds before the measurement, until buffers have their sizes.
const WARM_UP: usize = 3;

pub async fn measure(peer: Peer, options: &Options) -> Figures {
    let mut server = Server::start(&ServerOptions::new(peer, options.services))?;
    let fleet = super::fleet(&server, options.protocol, options.clients, options.services).await?;
    let mut figures = Vec::new();
    for changed in [1, 10, 100] {
        let pushes = pushes(&mut server, &fleet, changed, options.rounds).await?;
        let what = format!("push of {changed}");
        figures.push(Figure::new(format!("{what}: server CPU a client"), Unit::Micros, pushes.cpu_per_client));
        figures.push(Figure::new(
            format!("{what}: median client"),
            Unit::Millis,
            pushes.middle.quantile(0.5).as_secs_f64(),
        ));
        figures.push(Figure::new(
            format!("{what}: last client, p50"),
            Unit::Millis,
            pushes.last.quantile(0.5).as_secs_f64(),
        ));
        figures.push(Figure::new(
            format!("{what}: last client, worst"),
            Unit::Millis,
            pushes.last.last().as_secs_f64(),
        ));
    }
    fleet.stop().await;
    Ok(figures)
}

/// What pushes cost.
pub struct Pushes {
    /// Seconds of the server's CPU for each push and client.
    pub cpu_per_client: f64,
    /// Of each round, when half of the clients had it.
    pub middle: Times,
    /// Of each round, when all had it.
    pub last: Times,
}

/// Rounds, one after the other, with all that follows a push counted to it.
pub async fn pushes(server: &mut Server, fleet: &Fleet, changed: usize, rounds: usize) -> Result<Pushes, String> {
    for _ in 0..WARM_UP {
        push(server, fleet, changed).await?;
    }
    let before = server.settled().await;
    let (mut middle, mut last) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let times = push(server, fleet, changed).await?;
        middle.push(times.quantile(0.5));
        last.push(times.last());
        // The answers of the clients are work as well, and not that of the next round.
        server.settled().await;
    }
    let cpu: Duration = server.settled().await - before;
    let cpu_per_client = cpu.as_secs_f64() / rounds as f64 / fleet.board().clients() as f64;
    Ok(Pushes { cpu_per_client, middle: Times::new(middle), last: Times::new(last) })
}

/// One push, from the change to the last client.
pub async fn push(server: &mut Server, fleet: &Fleet, changed: usize) -> Result<Times, String> {
    let clients = fleet.board().clients();
    let awaited = Awaited { ty: ResourceType::Endpoint, name: None, count: changed };
    let round = fleet.board().begin(awaited, clients);
    server.tell(&format!("change {changed}"))?;
    let times = round.finish(PATIENCE).await;
    match times.len() {
        len if len == clients => Ok(times),
        len => Err(format!("a push came to {len} of {clients} clients; errors: {:?}", fleet.board().errors())),
    }
}
