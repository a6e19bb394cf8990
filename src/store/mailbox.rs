//! What one task has to tell another, reduced to its latest form until it is taken. Who puts in never waits.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

/// Holds what waits. Cheap to clone; all clones are the same one.
#[derive(Debug)]
pub struct Mailbox<W> {
    waiting: Arc<Mutex<W>>,
    news: Arc<Notify>,
}

impl<W> Clone for Mailbox<W> {
    fn clone(&self) -> Self {
        Self { waiting: self.waiting.clone(), news: self.news.clone() }
    }
}

impl<W: Default> Default for Mailbox<W> {
    fn default() -> Self {
        Self { waiting: Arc::default(), news: Arc::default() }
    }
}

impl<W: Default> Mailbox<W> {
    /// Changes what waits, and wakes who takes.
    pub fn put(&self, change: impl FnOnce(&mut W)) {
        // Each change leaves what waits whole.
        change(&mut self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        self.news.notify_one();
    }

    /// Takes all that waits.
    pub fn take(&self) -> W {
        std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until something was put in.
    pub async fn news(&self) {
        self.news.notified().await;
    }
}
