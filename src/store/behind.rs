//! Writing behind the back of those who change what is stored, where nothing waits for it. Changes that come while a write
//! is under way are written together.

use std::future::Future;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::mailbox::Mailbox;
use super::{Store, StoreError};

/// How long after a failed write the next is tried.
const RETRY: Duration = Duration::from_secs(2);

/// What waits to be written, reduced to its outcome, so that it is bounded by what there is however long the store cannot be
/// written.
pub trait Waiting: Default + Send + 'static {
    /// What it is, for people: the subject of "cannot be stored".
    const WHAT: &'static str;
    /// The pause between two writes.
    const PAUSE: Duration = Duration::ZERO;

    /// Writes it. What was written already may be written again.
    ///
    /// # Errors
    /// All of it is to be written again.
    fn write(&mut self, store: &Store) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Puts what was not written below what came since.
    fn put_back(&mut self, failed: Self);
}

/// Writes until `shutdown`, and then what is left.
pub async fn write<W: Waiting>(waiting: Mailbox<W>, store: Store, shutdown: CancellationToken) {
    loop {
        let is_last = shutdown.is_cancelled();
        let mut taken = waiting.take();
        let outcome = taken.write(&store).await;
        if let Err(error) = &outcome {
            // Of a database that cannot be used the store tells itself, once.
            if store.outage().is_none() {
                tracing::error!(%error, "{} cannot be stored; trying again", W::WHAT);
            }
            waiting.put(|since| since.put_back(taken));
        }
        if is_last {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(RETRY), if outcome.is_err() => {}
            () = async { tokio::time::sleep(W::PAUSE).await; waiting.news().await }, if outcome.is_ok() => {}
            () = shutdown.cancelled() => {}
        }
    }
}
