//! Five times the clients lose their connections at once and come back with the versions of what they hold.

use causeway::load::board::Remember;
use causeway::load::{Awaited, Board, Fleet, Memory, Profile, Target};
use causeway::snapshot::ResourceType;

use super::{Figure, Figures, Options, PATIENCE, Peer, Server, Unit};
use crate::options::ServerOptions;

pub async fn measure(peer: Peer, options: &Options) -> Figures {
    let clients = options.clients * 5;
    let mut server = Server::start(&ServerOptions::new(peer, options.services))?;
    let board = Board::new(clients, Remember::Counts);
    let fleet = Fleet::new(board.clone());
    let mut profile = Profile::new(options.protocol);
    profile.served_at = Some(options.services * 2);
    profile.memory = Memory::Versions;
    fleet.start(&Target::from(server.address), profile, 0, clients);
    super::served(&board, clients).await?;
    let cpu = server.settled().await;
    let before = (board.total(), board.opened());

    // Nothing need be said to a client that has everything, so a change shows that it is served: one that is made
    // when all are back, and counted from when they went.
    let awaited = Awaited { ty: ResourceType::Endpoint, name: None, count: 1 };
    let round = board.begin(awaited, clients);
    fleet.reconnect();
    let back = board.until(PATIENCE, |board| board.opened() >= before.1 + clients).await;
    if !back {
        return Err(format!("{} of {clients} clients came back", board.opened() - before.1));
    }
    server.tell("change 1")?;
    let times = round.finish(PATIENCE).await;
    if times.len() < clients {
        return Err(format!("{} of {clients} clients are served again", times.len()));
    }
    let cpu = server.settled().await - cpu;
    let since = board.total().since(before.0);
    fleet.stop().await;
    let what = format!("reconnect of {clients}");
    let unchanged = since.resources as f64 - clients as f64;
    Ok(vec![
        Figure::new(format!("{what}: unchanged resources sent"), Unit::Count, unchanged),
        Figure::new(format!("{what}: last client is served"), Unit::Millis, times.last().as_secs_f64()),
        Figure::new(format!("{what}: server CPU a client"), Unit::Micros, cpu.as_secs_f64() / clients as f64),
    ])
}
