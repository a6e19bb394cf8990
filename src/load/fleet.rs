//! All clients.

use std::sync::Arc;

use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::client::Client;
use super::session::Session;
use super::{Board, Profile, Target};

/// Connections that are being made at a time: a listener's backlog is finite, and what it drops is tried again only
/// after a second.
const CONNECTING: usize = 256;

/// Clients, each a task of its own. They end when this is dropped.
pub struct Fleet {
    board: Arc<Board>,
    tasks: TaskTracker,
    stop: CancellationToken,
    streams: watch::Sender<u64>,
}

impl Fleet {
    /// Clients that see to one board.
    pub fn new(board: Arc<Board>) -> Self {
        Self { board, tasks: TaskTracker::new(), stop: CancellationToken::new(), streams: watch::Sender::new(0) }
    }

    /// Starts so many clients more, numbered from `first` on.
    pub fn start(&self, target: &Target, profile: Profile, first: usize, count: usize) {
        let profile = Arc::new(profile);
        let gate = Arc::new(Semaphore::new(CONNECTING));
        for number in first..first + count {
            let session = Session::new(number, profile.clone(), self.board.clone());
            let client =
                Client { target: target.clone(), profile: profile.clone(), board: self.board.clone(), session };
            let work = run(client, gate.clone(), self.streams.subscribe());
            let stop = self.stop.clone();
            self.tasks.spawn(async move {
                tokio::select! {
                    () = work => {}
                    () = stop.cancelled() => {}
                }
            });
        }
    }

    /// What the clients see.
    pub fn board(&self) -> &Arc<Board> {
        &self.board
    }

    /// Has every client drop its connection and come back at once, with all that it holds.
    pub fn reconnect(&self) {
        self.streams.send_modify(|streams| *streams += 1);
    }

    /// Ends all clients and waits for their ends.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Lives through one stream after the other. A client that fails does not come back by itself: whoever measures wants
/// to see that.
async fn run(mut client: Client, gate: Arc<Semaphore>, mut streams: watch::Receiver<u64>) {
    loop {
        streams.mark_unchanged();
        client.session.start();
        let reconnect = tokio::select! {
            ended = client.live(&gate) => {
                if let Err(error) = ended {
                    client.board.client_failed(told(&error));
                }
                streams.changed().await.is_ok()
            }
            changed = streams.changed() => {
                changed.is_ok()
            }
        };
        if !reconnect {
            return;
        }
    }
}

/// An error with its causes.
fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
