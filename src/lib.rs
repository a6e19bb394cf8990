//! Causeway: a multi-cluster control plane for Envoy.

pub mod admin;
pub mod cli;
pub mod config;
pub mod dns;
pub mod model;
pub mod policy;
pub mod reconcile;
pub mod store;
pub mod telemetry;
pub mod trust;
pub mod xds;
