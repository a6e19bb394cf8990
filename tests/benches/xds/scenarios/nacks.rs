//! Every client refuses one resource: nobody is to be sent it again, and all else goes on.

use std::sync::Arc;
use std::time::Duration;

use causeway::load::board::Remember;
use causeway::load::{Awaited, Board, Fleet, Profile, Target};
use causeway::snapshot::ResourceType;

use super::{Figure, Figures, Options, PATIENCE, Peer, Server, Unit, idle};
use crate::options::ServerOptions;
use crate::world;

/// How long is waited for what should not come.
const LOOK: Duration = Duration::from_secs(3);

pub async fn measure(peer: Peer, options: &Options) -> Figures {
    let clients = options.clients * 5;
    // What is refused is one of few, since it is the number of clients that makes the storm.
    let services = (options.services / 10).max(2);
    let mut server = Server::start(&ServerOptions::new(peer, services))?;
    let board = Board::new(clients, Remember::Counts);
    let fleet = Fleet::new(board.clone());
    let mut profile = Profile::new(options.protocol);
    profile.refuses = Some((ResourceType::Endpoint, Arc::from(world::name(0))));
    profile.types = vec![ResourceType::Cluster, ResourceType::Endpoint];
    // All but the assignment that is refused.
    profile.served_at = Some(services * 2 - 1);
    fleet.start(&Target::from(server.address), profile, 0, clients);
    super::served(&board, clients).await?;
    // A server that sends again what was refused never settles.
    tokio::time::sleep(LOOK).await;
    let first = board.total().nacks as f64 / clients as f64;
    let before = board.total();
    server.tell("same 0")?;
    tokio::time::sleep(LOOK).await;
    let after = board.total().since(before).nacks as f64 / clients as f64;
    let awaited =
        Awaited { ty: ResourceType::Endpoint, name: Some(board.names.id(world::name(1).as_bytes())), count: 1 };
    let round = board.begin(awaited, clients);
    server.tell("same 1")?;
    let times = round.finish(PATIENCE).await;
    let reached = times.len() as f64;
    let share = idle::share(&server).await;
    fleet.stop().await;
    let what = format!("{clients} refuse");
    Ok(vec![
        Figure::new(format!("{what}: refusals a client at the start"), Unit::Ratio, first),
        Figure::new(format!("{what}: refusals a client after one change"), Unit::Ratio, after),
        Figure::new(format!("{what}: clients that another change reaches"), Unit::Count, reached),
        Figure::new(format!("{what}: last of them"), Unit::Millis, times.last().as_secs_f64()),
        Figure::new(format!("{what}: idle CPU of a core afterwards"), Unit::Percent, share),
    ])
}
