//! What is stored for people to ask: pods and the nodes' history. Written behind the owner's back,
//! since nothing waits for it; changes that come while a write is under way are written together.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::model::Timestamp;
use crate::model::world::PodChange;
use crate::store::{NodeEvent, Store};

/// How long after a failed write the next is tried.
const RETRY: Duration = Duration::from_secs(2);

#[derive(Default)]
struct Waiting {
    pods: Vec<PodChange>,
    events: Vec<NodeEvent>,
}

/// Takes what is to be written. Cheap to clone.
#[derive(Clone, Default)]
pub struct Inventory {
    waiting: Arc<Mutex<Waiting>>,
    news: Arc<Notify>,
}

impl Inventory {
    /// Adds changes of pods, in their order.
    pub fn pods(&self, changes: Vec<PodChange>) {
        if !changes.is_empty() {
            self.lock().pods.extend(changes);
            self.news.notify_one();
        }
    }

    /// Adds an event of a node's history.
    pub fn event(&self, event: NodeEvent) {
        self.lock().events.push(event);
        self.news.notify_one();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        // A writer that panicked left whole vectors.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Waiting {
        std::mem::take(&mut *self.lock())
    }

    /// Puts changes before those that came since.
    fn put_back(&self, pods: Vec<PodChange>) {
        let mut waiting = self.lock();
        let later = std::mem::replace(&mut waiting.pods, pods);
        waiting.pods.extend(later);
    }

    /// Writes until `shutdown`, and then what is left.
    pub async fn write(self, store: Store, shutdown: CancellationToken) {
        loop {
            let is_last = shutdown.is_cancelled();
            let Waiting { pods, events } = self.take();
            if !pods.is_empty()
                && let Err(error) = store.apply_pods(pods.clone(), now()).await
            {
                tracing::error!(%error, "pods could not be stored; trying again");
                self.put_back(pods);
                if !is_last {
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
            }
            if !events.is_empty()
                && let Err(error) = store.record_node_events(&events).await
            {
                tracing::error!(%error, lost = events.len(), "events of nodes could not be stored");
            }
            if is_last {
                return;
            }
            tokio::select! {
                () = self.news.notified() => {}
                () = shutdown.cancelled() => {}
            }
        }
    }
}

/// The time, for the rooms that must not ask for it.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::try_from(since.as_millis()).unwrap_or(Timestamp::MAX)
}
