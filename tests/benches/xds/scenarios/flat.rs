//! Whether a push costs the same in a small and in a large world, and with few and with many clients.

use super::{Figure, Figures, Options, Peer, Server, Unit, push};
use crate::options::ServerOptions;

pub async fn measure(peer: Peer, options: &Options) -> Figures {
    let (few_services, few_clients) = (options.services / 10, options.clients / 5);
    let mut figures = Vec::new();
    let mut over = |what: &str, points: Vec<(String, f64)>| {
        let costs = points.iter().map(|(_, cost)| *cost);
        let (least, most) = (costs.clone().fold(f64::MAX, f64::min), costs.fold(0.0, f64::max));
        for (point, cost) in points {
            figures.push(Figure::new(format!("push of 1, {point}: server CPU a client"), Unit::Micros, cost));
        }
        figures.push(Figure::new(format!("push of 1, most of least over {what}"), Unit::Ratio, most / least));
    };
    let mut points = Vec::new();
    for services in [options.services / 10, options.services, options.services * 10] {
        let cost = cost(peer, options, few_clients, services).await?;
        points.push((format!("{services} services × {few_clients}"), cost));
    }
    over("services", points);
    let mut points = Vec::new();
    for clients in [options.clients / 10, options.clients, options.clients * 5] {
        let cost = cost(peer, options, clients, few_services).await?;
        points.push((format!("{few_services} services × {clients}"), cost));
    }
    over("clients", points);
    Ok(figures)
}

async fn cost(peer: Peer, options: &Options, clients: usize, services: usize) -> Result<f64, String> {
    let mut server = Server::start(&ServerOptions::new(peer, services))?;
    let fleet = super::fleet(&server, options.protocol, clients, services).await?;
    let pushes = push::pushes(&mut server, &fleet, 1, options.rounds).await?;
    fleet.stop().await;
    Ok(pushes.cpu_per_client)
}
