//! Clients that subscribe to everything and never read, among others that do.

use std::time::{Duration, Instant};

use causeway::load::{Fleet, Profile, Reading, Target, Times};

use super::{Figure, Figures, Options, Peer, Server, Unit, push};
use crate::options::{Allocations, ServerOptions};

/// How long a server that has such a deadline waits for a client, here.
const DEADLINE: Duration = Duration::from_secs(30);

/// How much later than that a connection may be gone.
const LATE: Duration = Duration::from_secs(10);

/// One client in this many.
const ONE_IN: usize = 20;

/// Services that change in a push: enough that buffers on the way are full soon.
const CHANGED: usize = 100;

pub async fn measure(peer: Peer, options: &Options) -> Figures {
    let mut start = ServerOptions::new(peer, options.services);
    (start.allocations, start.ack_timeout) = (Allocations::Counted, Some(DEADLINE));
    let mut server = Server::start(&start)?;
    let fleet = super::fleet(&server, options.protocol, options.clients, options.services).await?;
    let changed = CHANGED.min(options.services);
    let without = p99(&mut server, &fleet, changed, options.rounds).await?;

    server.settled().await;
    let (rss, allocated, sockets) = (server.rss(), server.allocated()?, server.sockets());
    let count = options.clients / ONE_IN;
    let mut profile = Profile::new(options.protocol);
    profile.reading = Reading::Nothing;
    fleet.start(&Target::from(server.address), profile, options.clients, count);
    let since = Instant::now();
    let opened = fleet.board().until(DEADLINE, |board| board.open() >= options.clients + count).await;
    if !opened {
        return Err(format!("{} streams are open", fleet.board().open()));
    }
    let with = p99(&mut server, &fleet, changed, options.rounds).await?;
    let per_stalled = |bytes: f64| bytes / count as f64;
    let what = format!("{count} that never read among {}", options.clients);
    let mut figures = vec![
        Figure::new(format!("{what}: p99 of the others without them"), Unit::Millis, without.as_secs_f64()),
        Figure::new(format!("{what}: p99 of the others with them"), Unit::Millis, with.as_secs_f64()),
        Figure::new(format!("{what}: with of without"), Unit::Ratio, with.as_secs_f64() / without.as_secs_f64()),
        Figure::new(format!("{what}: RSS held for each"), Unit::Bytes, per_stalled(server.rss() - rss)),
        Figure::new(format!("{what}: allocated for each"), Unit::Bytes, per_stalled(server.allocated()? - allocated)),
        Figure::new(format!("{what}: measured within"), Unit::Millis, since.elapsed().as_secs_f64()),
    ];
    if peer == Peer::Causeway {
        while server.sockets() > sockets && since.elapsed() < DEADLINE + LATE {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let left = server.sockets().saturating_sub(sockets) as f64;
        figures.push(Figure::new(format!("{what}: still connected after {DEADLINE:?}"), Unit::Count, left));
        figures.push(Figure::new(format!("{what}: all closed after"), Unit::Millis, since.elapsed().as_secs_f64()));
    }
    fleet.stop().await;
    Ok(figures)
}

/// Over the clients and over rounds.
async fn p99(server: &mut Server, fleet: &Fleet, changed: usize, rounds: usize) -> Result<Duration, String> {
    let mut p99s = Vec::new();
    for _ in 0..rounds {
        p99s.push(push::push(server, fleet, changed).await?.quantile(0.99));
    }
    Ok(Times::new(p99s).quantile(0.5))
}
