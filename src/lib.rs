//! Causeway: a multi-cluster control plane for Envoy.
//!
//! ```text
//!  API servers,      ─ Change ─▶ reconcile ─ plan, decide, build ─┬─▶ store (VIP ledger, pods, history)
//!  members, or                    ▲    ▲                          ├─▶ xDS snapshots ─▶ ads streams ◀─▶ Envoys
//!  manifest folders               │    └── ACK, NACK ─────────────┼──────────────────────┘
//!                                 └─────── agents' reports ◀──────┼── causeway agent, beside each Envoy
//!                                                                 ├─▶ DNS, API, commands
//!                                                                 └─▶ VirtualIps, statuses, EndpointSnapshots
//! ```
//!
//! One task owns the truth ([`reconcile`]): it takes one closed enum of events, and in one turn applies changes to the
//! world, folds reports of the data plane, plans VIPs, asks the policies, builds resources and publishes. What it plans
//! for VIPs is durable before anybody is told of it.
//!
//! Who decides is written in `plugins/`, the worlds of such policies in `plugins/wit`.
//!
//! The rooms, in their order: a room may use only those above it, which a test holds (`tests/it/tidy.rs`).

// What everything may use.
/// Flags, environment and file, in this precedence; addresses that are safe.
#[cfg(feature = "control-plane")]
pub mod config;
/// Logging.
#[cfg(feature = "control-plane")]
pub mod telemetry;
/// Who is calling, and what they may do. Pure.
#[cfg(feature = "control-plane")]
pub mod trust;

// The truth, without I/O and clock.
/// Who runs what, by what the data plane told. Pure.
#[cfg(feature = "control-plane")]
pub mod feedback;
/// Ids, objects, the merge of clusters, decisions. Pure.
#[cfg(feature = "control-plane")]
pub mod model;
/// Where traffic goes and which address is taken: WebAssembly components that are asked, and what their answers have to
/// hold to.
#[cfg(feature = "control-plane")]
pub mod policy;
/// Pools, the ledger, and the plan for every VIP. Pure.
#[cfg(feature = "control-plane")]
pub mod vip;
/// Decisions become Envoy's messages. Pure.
#[cfg(feature = "control-plane")]
pub mod xds;

// The xDS library: knows nothing of Kubernetes, VIPs or policies.
/// Streams of Envoys, state of the world and delta; what they have (CSDS), and what they report of their requests (LRS).
pub mod ads;
/// Clients by the thousand, to measure xDS servers with.
#[cfg(feature = "load")]
pub mod load;
/// Immutable sets of encoded resources. Pure.
pub mod snapshot;

// The edges.
/// Authoritative answers for published VIPs.
#[cfg(feature = "control-plane")]
pub mod dns;
/// Kubernetes: the kinds and their definitions, clusters read from API servers, what is written to the primary's, roles.
/// The only importer of kube and k8s-openapi.
#[cfg(feature = "control-plane")]
pub mod kube;
/// Folders of manifests as live clusters.
#[cfg(feature = "control-plane")]
pub mod manifests;
/// Managers of sub-clusters that dial in, both ends.
#[cfg(feature = "control-plane")]
pub mod member;
/// Components from registries of container images.
#[cfg(feature = "control-plane")]
pub mod registry;
/// SQLite files or a PostgreSQL database: the VIP ledger, policies, pods, history, last good manifests.
#[cfg(feature = "control-plane")]
pub mod store;

// The whole.
/// HTTP: API, health, metrics, xDS debug; gRPC for people.
#[cfg(feature = "control-plane")]
pub mod admin;
/// Both ends of the agents' reports: the server, and the agent beside an Envoy.
#[cfg(feature = "control-plane")]
pub mod agent;
/// Wiring and shutdown.
#[cfg(feature = "control-plane")]
pub mod app;
/// Commands.
#[cfg(feature = "control-plane")]
pub mod cli;
/// The owner of the truth.
#[cfg(feature = "control-plane")]
pub mod reconcile;

/// For fuzzers: decoders of closed rooms.
#[cfg(feature = "control-plane")]
#[doc(hidden)]
pub mod fuzzing;
