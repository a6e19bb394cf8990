//! What there is: ids, objects, the merge of clusters, and the types of decisions. Pure.

/// Milliseconds since the Unix epoch. Pure rooms are given it; they never ask a clock.
pub type Timestamp = i64;

use std::sync::Arc;

pub mod decision;
pub mod id;
pub mod object;

/// A change of the pods that are known, in the order in which it happened.
#[derive(Clone, Debug, PartialEq)]
pub enum PodChange {
    /// The pod is there now, in this form.
    Upsert {
        /// The cluster that it runs in.
        cluster: id::ClusterName,
        /// The pod.
        pod: Arc<object::Pod>,
    },
    /// The pod is gone.
    Delete {
        /// The cluster that it ran in.
        cluster: id::ClusterName,
        /// Its namespace and name.
        id: id::NamespacedName,
    },
    /// The user says that the cluster is gone for good, and all its pods with it.
    ForgetCluster {
        /// The cluster.
        cluster: id::ClusterName,
    },
}
