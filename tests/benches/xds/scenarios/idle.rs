//! What a server does when there is nothing to do.

use std::time::{Duration, Instant};

use super::{Figure, Figures, Options, Peer, Server, Unit};
use crate::options::ServerOptions;

/// How long is looked on.
const LOOK: Duration = Duration::from_secs(10);

/// What was last done is over by then, with the deadlines that were set for it.
const REST: Duration = Duration::from_secs(15);

pub async fn measure(peer: Peer, options: &Options) -> Figures {
    let server = Server::start(&ServerOptions::new(peer, options.services))?;
    let fleet = super::fleet(&server, options.protocol, options.clients, options.services).await?;
    let share = share(&server).await;
    fleet.stop().await;
    Ok(vec![Figure::new("idle: CPU of a core", Unit::Percent, share)])
}

/// Of one core, once it has settled.
pub async fn share(server: &Server) -> f64 {
    server.settled().await;
    tokio::time::sleep(REST).await;
    let (before, start) = (server.cpu(), Instant::now());
    tokio::time::sleep(LOOK).await;
    (server.cpu() - before).as_secs_f64() / start.elapsed().as_secs_f64()
}
