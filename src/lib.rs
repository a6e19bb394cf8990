//! Causeway: a multi-cluster control plane for Envoy.
//!
//! ```text
//!  manifest folders ── Change ─▶ reconcile ─ plan, decide, build ─┬─▶ store (VIP ledger, pods, history)
//!                                 ▲    ▲                          ├─▶ xDS snapshots ─▶ ads streams ◀─▶ Envoys
//!                                 │    └── ACK, NACK ─────────────┼──────────────────────┘
//!                                 └─────── agents' reports ◀──────┼── causeway agent, beside each Envoy
//!                                                                 └─▶ DNS, API, commands
//! ```
//!
//! One task owns the truth ([`reconcile`]): it takes one closed enum of events, and in one turn applies changes to the
//! world, folds reports of the data plane, plans VIPs, asks the policies, builds resources and publishes. What it plans
//! for VIPs is durable before anybody is told of it.
//!
//! The rooms, in their order: a room may use only those above it, which a test holds (`tests/it/tidy.rs`).

// What everything may use.
/// Flags, environment and file, in this precedence; addresses that are safe.
pub mod config;
/// Logging.
pub mod telemetry;
/// Who is calling, and what they may do. Pure.
pub mod trust;

// The truth, without I/O and clock.
/// Who runs what, by what the data plane told. Pure.
pub mod feedback;
/// Ids, objects, the merge of clusters, decisions. Pure.
pub mod model;
/// Where traffic goes and which address is taken: the default policies and the envelope around them.
pub mod policy;
/// Pools, the ledger, and the plan for every VIP. Pure.
pub mod vip;
/// Decisions become Envoy's messages. Pure.
pub mod xds;

// The xDS library: knows nothing of Kubernetes, VIPs or policies.
/// Streams of Envoys, state of the world and delta.
pub mod ads;
/// Immutable sets of encoded resources. Pure.
pub mod snapshot;

// The edges.
/// Authoritative answers for published VIPs.
pub mod dns;
/// The kinds, and Kubernetes objects become the model's. The only importer of k8s-openapi.
pub mod kube;
/// Folders of manifests as live clusters.
pub mod manifests;
/// SQLite: the VIP ledger, pods, history, last good manifests.
pub mod store;

// The whole.
/// HTTP: API, health, metrics, xDS debug.
pub mod admin;
/// Both ends of the agents' reports: the server, and the agent beside an Envoy.
pub mod agent;
/// Wiring and shutdown.
pub mod app;
/// Commands.
pub mod cli;
/// The owner of the truth.
pub mod reconcile;
