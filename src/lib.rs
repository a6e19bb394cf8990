//! Causeway: a multi-cluster control plane for Envoy.

pub mod admin;
pub mod cli;
pub mod config;
pub mod model;
pub mod reconcile;
pub mod telemetry;
pub mod trust;
