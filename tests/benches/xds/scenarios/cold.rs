//! All clients come at once and have nothing.

use std::time::Instant;

use super::{Figure, Figures, Options, Peer, Server, Unit};
use crate::options::ServerOptions;

pub async fn measure(peer: Peer, options: &Options) -> Figures {
    let server = Server::start(&ServerOptions::new(peer, options.services))?;
    let (before, start) = (server.settled().await, Instant::now());
    let fleet = super::fleet(&server, options.protocol, options.clients, options.services).await?;
    let took = start.elapsed();
    let peak = server.peak_rss();
    let cpu = server.settled().await - before;
    let bytes = fleet.board().total().bytes as f64;
    let half = fleet.board().serve_times().quantile(0.5);
    fleet.stop().await;
    Ok(vec![
        Figure::new("cold start: last client is served", Unit::Millis, took.as_secs_f64()),
        Figure::new("cold start: median client", Unit::Millis, half.as_secs_f64()),
        Figure::new("cold start: server CPU a client", Unit::Micros, cpu.as_secs_f64() / options.clients as f64),
        Figure::new("cold start: bytes a client", Unit::Bytes, bytes / options.clients as f64),
        Figure::new("cold start: peak RSS", Unit::Bytes, peak),
    ])
}
