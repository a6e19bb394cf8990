//! Kubernetes. This room alone knows its types and talks to its API servers.
//!
//! ```text
//!  sub-clusters' ─┐           ┌─ rehearsal                        ┌─▶ virtual_ips ─▶ VirtualIp
//!  API servers    ├─▶ watch ─▶ manager ─ Change ─▶ (reconcile) ───┤
//!  the primary's ─┘   convert                                     └─▶ outbox ─▶ writer ─▶ statuses, EndpointSnapshots
//! ```
//!
//! What is valid is decided once, by [`convert`], for objects of API servers and of files alike; it says of what is not
//! which field it is and what to do about it.

// What is said.
/// Kubernetes' and Causeway's objects into the model's.
pub mod convert;
/// Custom resource definitions, with defaults, rules and columns.
pub mod crd;
/// Objects as a stream of YAML documents.
pub mod documents;
/// What is wrong with a field.
pub mod field;
/// Causeway's own kinds.
pub mod kinds;
/// Which names Kubernetes and the DNS accept.
pub mod names;

// Clusters that are read.
/// From a kubeconfig to a client.
pub mod component;
pub mod connect;
/// The cluster manager: which clusters there are, and a reader for each.
pub mod manager;
/// Watches of one cluster, and the pulse that says whether it answers.
pub mod watch;

// What is written to API servers.
/// What sub-clusters are given: names, VIPs, pods.
pub mod down;
/// What one task has to tell another.
/// When what is written.
mod queue;
/// An access's pods as objects of a size that API servers take.
mod slices;

// What is written to the primary.
/// What waits to be written, in its latest form.
pub mod outbox;
/// The VIP ledger as objects.
pub mod virtual_ips;
/// Statuses and snapshot information, where they differ from what is there.
pub mod writer;

// What commands do on API servers.
/// An API server as a person's command talks to it.
pub mod apiserver;
/// The objects that make a cluster one of Causeway's.
pub mod join;
/// An object of any kind, as it is sent or printed.
pub mod manifest;
/// Roles as small as they can be.
pub mod rbac;
