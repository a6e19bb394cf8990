//! What there is: ids, objects, the merge of clusters, and the types of decisions. Pure.

/// Milliseconds since the Unix epoch. Pure rooms are given it; they never ask a clock.
pub type Timestamp = i64;

pub mod decision;
pub mod export;
pub mod id;
pub mod object;
pub mod policy;
pub mod shared;
pub mod slot;
pub mod snapshot;
pub mod world;
