//! Changes that do not end: how far behind the last client is, at the begin and at the end.

use std::time::{Duration, Instant};

use causeway::load::{Awaited, Times};
use causeway::snapshot::ResourceType;
use tokio::time::MissedTickBehavior;

use super::{Figure, Figures, Options, PATIENCE, Peer, Server, Unit};
use crate::options::ServerOptions;
use crate::world;

/// Between two looks at how late the clients are.
const LOOK: Duration = Duration::from_secs(1);

/// How late the last client of each look was, and what the server held then.
#[derive(Default)]
struct Looks {
    lags: Vec<Duration>,
    rss: Vec<f64>,
}

pub async fn measure(peer: Peer, options: &Options) -> Figures {
    let services = options.services.max(2);
    let mut server = Server::start(&ServerOptions::new(peer, services))?;
    let fleet = super::fleet(&server, options.protocol, options.clients, services).await?;
    let board = fleet.board();
    let cpu = server.settled().await;
    // The last service is changed for each look, and only then.
    let marker = services - 1;
    let awaited =
        Awaited { ty: ResourceType::Endpoint, name: Some(board.names.id(world::name(marker).as_bytes())), count: 1 };
    let (start, before) = (Instant::now(), board.total());
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / options.rate);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut looks = Looks::default();
    let mut changes = 0;
    while start.elapsed() < options.seconds {
        let round = board.begin(awaited, options.clients);
        server.tell(&format!("same {marker}"))?;
        let seen = round.finish(PATIENCE);
        let next = tokio::time::sleep(LOOK);
        tokio::pin!(seen, next);
        let mut times: Option<Times> = None;
        // A look is over when its change is everywhere and its time is over.
        loop {
            tokio::select! {
                biased;
                () = &mut next, if times.is_some() => break,
                arrived = &mut seen, if times.is_none() => times = Some(arrived),
                _ = ticks.tick() => {
                    server.tell(&format!("same {}", changes % marker))?;
                    changes += 1;
                }
            }
        }
        let times = times.unwrap_or_default();
        if times.len() < options.clients {
            return Err(format!("a change came to {} of {} clients", times.len(), options.clients));
        }
        looks.lags.push(times.last());
        looks.rss.push(server.rss());
    }
    let took = start.elapsed().as_secs_f64();
    let cpu = (server.cpu() - cpu).as_secs_f64();
    let resources = board.total().since(before).resources as f64;
    fleet.stop().await;
    let what = format!("churn of {}/s for {took:.0} s", options.rate);
    let part = (looks.lags.len() / 4).max(1);
    let (first, last) = (&looks.lags[..part], &looks.lags[looks.lags.len() - part..]);
    let middle = |lags: &[Duration]| Times::new(lags.to_vec()).quantile(0.5).as_secs_f64();
    let mean = |rss: &[f64]| rss.iter().sum::<f64>() / rss.len() as f64;
    let figure = |which: &str, unit, value| Figure::new(format!("{what}: {which}"), unit, value);
    Ok(vec![
        figure("changes made a second", Unit::Count, f64::from(u32::try_from(changes).unwrap_or(u32::MAX)) / took),
        figure("last client, first quarter", Unit::Millis, middle(first)),
        figure("last client, last quarter", Unit::Millis, middle(last)),
        figure("RSS, first quarter", Unit::Bytes, mean(&looks.rss[..part])),
        figure("RSS, last quarter", Unit::Bytes, mean(&looks.rss[looks.rss.len() - part..])),
        figure("server CPU, cores", Unit::Ratio, cpu / took),
        figure("resources received a second", Unit::Count, resources / took),
    ])
}
