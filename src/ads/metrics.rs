//! Counters of all streams.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::snapshot::ResourceType;

/// Counters of one type, over all streams since the start.
#[derive(Debug, Default)]
pub struct TypeMetrics {
    /// Responses sent.
    pub responses: AtomicU64,
    /// Resources in them.
    pub resources: AtomicU64,
    /// Names told to be removed in them.
    pub removals: AtomicU64,
    /// Bytes of them, without gRPC's framing.
    pub bytes: AtomicU64,
    /// The largest one, in bytes: SotW responses cannot be split (rule 20).
    pub largest: AtomicU64,
    /// Proofs: responses that were acknowledged, and what clients had already when they came.
    pub acks: AtomicU64,
    /// Responses that were refused.
    pub nacks: AtomicU64,
}

impl TypeMetrics {
    pub(super) fn sent(&self, resources: usize, removals: usize, bytes: usize) {
        add(&self.responses, 1);
        add(&self.resources, resources);
        add(&self.removals, removals);
        add(&self.bytes, bytes);
        self.largest.fetch_max(bytes as u64, Ordering::Relaxed);
    }
}

/// Counters of the service.
#[derive(Debug, Default)]
pub struct Metrics {
    types: [TypeMetrics; ResourceType::COUNT],
    /// Streams that began.
    pub streams_opened: AtomicU64,
    /// Streams that ended.
    pub streams_closed: AtomicU64,
    /// Streams that were refused, by a limit or by the owner.
    pub streams_refused: AtomicU64,
    /// Streams closed because the client did not read or answer in time (rule 18).
    pub slow_clients: AtomicU64,
    /// Streams closed because the client broke the protocol or a limit.
    pub violations: AtomicU64,
}

impl Metrics {
    /// The counters of a type.
    pub fn of(&self, ty: ResourceType) -> &TypeMetrics {
        &self.types[ty.index()]
    }
}

/// Counters are read one by one by a scraper, so no order between them is promised.
pub(super) fn add(counter: &AtomicU64, amount: usize) {
    counter.fetch_add(amount as u64, Ordering::Relaxed);
}
