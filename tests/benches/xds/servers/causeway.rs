//! The library with the smallest owner there can be: everybody has one view.

use std::net::SocketAddr;
use std::sync::Arc;

use causeway::ads::service::AdsServer;
use causeway::ads::{Event, Limits, net};
use causeway::snapshot::{ResourceType, SnapshotBuilder, XdsSnapshot};
use tokio::sync::{mpsc, watch};
use tonic::transport::Server;

use super::{Command, tell};
use crate::options::ServerOptions;
use crate::world::{self, Changes};

/// How far the owner may fall behind its streams.
const EVENTS: usize = 1024;

pub async fn serve(options: ServerOptions, commands: mpsc::Receiver<Command>) -> Result<(), String> {
    let (events, inbox) = mpsc::channel(EVENTS);
    let mut limits = Limits::default();
    limits.ack_timeout = options.ack_timeout.unwrap_or(limits.ack_timeout);
    let listener = net::bind(SocketAddr::from(([127, 0, 0, 1], 0))).map_err(|error| error.to_string())?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    let server = Server::builder().add_service(AdsServer::with_acks_of(events, limits, &[ResourceType::Listener]));
    tokio::spawn(own(options, inbox, commands, address.port()));
    server.serve_with_incoming(net::incoming(listener)).await.map_err(|error| error.to_string())
}

async fn own(
    options: ServerOptions,
    mut inbox: mpsc::Receiver<Event>,
    mut commands: mpsc::Receiver<Command>,
    port: u16,
) {
    let mut builder = SnapshotBuilder::new();
    builder.update(|edit| {
        for service in 0..options.services {
            edit.set(world::cluster(service)).set(world::assignment(service, options.endpoints, 0));
        }
    });
    let snapshots: watch::Sender<Option<Arc<XdsSnapshot>>> = watch::Sender::new(Some(builder.latest().clone()));
    let mut changes = Changes::new(options.services);
    tell(&format!("ready {port}"));
    loop {
        tokio::select! {
            event = inbox.recv() => match event {
                Some(Event::Connected { reply, .. }) => _ = reply.send(Ok(snapshots.subscribe())),
                Some(_) => {}
                None => return,
            },
            command = commands.recv() => {
                let Some(command) = command else { std::process::exit(0) };
                // As an owner does: whatever came meanwhile is one edit.
                let more = std::iter::from_fn(|| commands.try_recv().ok());
                let next = builder.update(|edit| {
                    for (service, revision) in std::iter::once(command).chain(more).flat_map(|one| changes.of(one)) {
                        edit.set(world::assignment(service, options.endpoints, revision));
                    }
                });
                if let Some(next) = next {
                    snapshots.send_replace(Some(next));
                }
            }
        }
    }
}
