//! All integration tests in one binary.

mod ads;
mod ads_envoy;
mod agent;
mod bad_input;
mod cli;
mod e2e;
mod golden;
mod manifests;
mod store;
mod support;
mod tidy;
mod xds;
