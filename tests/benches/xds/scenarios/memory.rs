//! What a server holds for a client, and for an endpoint of its world.

use super::{Figure, Figures, Options, Peer, Server, Unit};
use crate::options::{Allocations, ServerOptions};

pub async fn measure(peer: Peer, options: &Options) -> Figures {
    let mut start = ServerOptions::new(peer, 1);
    start.allocations = Allocations::Counted;
    let mut small = Server::start(&start)?;
    start.services = options.services;
    let mut server = Server::start(&start)?;
    small.settled().await;
    server.settled().await;
    let endpoints = ((options.services - 1) * start.endpoints) as f64;
    let of_world = [
        ("RSS an endpoint of the world", server.rss() - small.rss()),
        ("allocated an endpoint of the world", server.allocated()? - small.allocated()?),
    ];
    drop(small);
    let per_endpoint = |(what, bytes): (&str, f64)| Figure::new(what, Unit::Bytes, bytes / endpoints);
    let mut figures: Vec<Figure> = of_world.into_iter().map(per_endpoint).collect();
    for clients in [options.clients, options.clients * 5] {
        let (rss, allocated) = (server.rss(), server.allocated()?);
        let fleet = super::fleet(&server, options.protocol, clients, options.services).await?;
        // A push to everybody, so that all have what they have in operation.
        super::push::push(&mut server, &fleet, 1).await?;
        server.settled().await;
        let per_client = |bytes: f64| bytes / clients as f64;
        let what = format!("a client, of {clients}");
        figures.push(Figure::new(format!("RSS {what}"), Unit::Bytes, per_client(server.rss() - rss)));
        let of_allocator = per_client(server.allocated()? - allocated);
        figures.push(Figure::new(format!("allocated {what}"), Unit::Bytes, of_allocator));
        fleet.stop().await;
        // Memory that is given back and taken again would hide what the next fleet costs.
        drop(server);
        server = Server::start(&start)?;
        server.settled().await;
    }
    Ok(figures)
}
