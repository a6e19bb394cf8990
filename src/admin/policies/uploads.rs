//! Whose turn it is to upload, and how many uploads were refused.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::admin::ApiError;
use crate::admin::metrics::{Family, Kind, Source};

/// Uploads over HTTP.
#[derive(Debug)]
pub struct Uploads {
    turns: Semaphore,
    refused: Mutex<BTreeMap<String, u64>>,
}

impl Uploads {
    /// So many components are held in memory at once at most.
    pub fn new(at_once: usize) -> Self {
        Self { turns: Semaphore::new(at_once), refused: Mutex::default() }
    }

    /// Waits for a turn.
    pub(super) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        self.turns.acquire().await.ok()
    }

    /// Notes why an upload came to nothing.
    pub(super) fn refused(&self, error: &ApiError) {
        // Reasons are words of ours, so that there are few.
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        *refused.entry(error.reason().to_owned()).or_default() += 1;
    }
}

impl Source for Uploads {
    fn collect(&self) -> Vec<Family> {
        let help = "Components that were sent over HTTP and not taken, by reason.";
        let family = Family::new("causeway_policy_uploads_refused", help, Kind::Counter);
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let add = |family: Family, (reason, count): (&String, &u64)| family.with([("reason", reason)], *count as f64);
        vec![refused.iter().fold(family, add)]
    }
}
