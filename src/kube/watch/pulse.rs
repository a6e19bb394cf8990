//! Asks the API server, again and again, for one object that it has to fetch from its etcd. A watch alone says nothing
//! while nothing happens, and an API server goes on serving open watches when its etcd is gone.

use std::time::{Duration, Instant};

use kube::Client;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Pulse;
use crate::kube::connect;

/// The pause between questions.
const EVERY: Duration = Duration::from_secs(5);
/// The pause while there is no answer, so that a cluster that is back is noticed soon.
const AGAIN: Duration = Duration::from_millis(500);
/// How long an answer is waited for.
const ANSWER: Duration = Duration::from_secs(4);
/// The same while there was none before: a connection that is dead is soon replaced by another.
const ANSWER_AGAIN: Duration = Duration::from_millis(1_500);

pub(super) fn start(client: Client, cancel: CancellationToken) -> watch::Receiver<Pulse> {
    let (sender, receiver) = watch::channel(Pulse::default());
    tokio::spawn(async move {
        tokio::select! {
            () = cancel.cancelled() => {}
            () = take(client, sender) => {}
        }
    });
    receiver
}

async fn take(client: Client, pulse: watch::Sender<Pulse>) {
    loop {
        let (known, is_failing) = {
            let pulse = pulse.borrow();
            (pulse.identity.clone().unwrap_or_default(), pulse.failing.is_some())
        };
        let patience = if is_failing { ANSWER_AGAIN } else { ANSWER };
        let answer = connect::identity(&client, &known, patience).await;
        let pause = if answer.is_ok() { EVERY } else { AGAIN };
        pulse.send_modify(|pulse| match answer {
            Ok(identity) => {
                *pulse = Pulse { identity: Some(identity), beat_at: Some(Instant::now()), failing: None };
            }
            Err(why) => {
                let since = pulse.failing.as_ref().map_or_else(Instant::now, |(since, _)| *since);
                pulse.failing = Some((since, why));
            }
        });
        tokio::time::sleep(pause).await;
    }
}
