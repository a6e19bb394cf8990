//! All integration tests in one binary.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod ads;
mod ads_bench;
mod ads_envoy;
mod ads_grpc;
mod ads_loads;
mod ads_single;
mod agent;
mod bad_input;
mod cli;
mod corpus;
mod decisions;
mod e2e;
mod golden;
mod guests;
mod kubernetes;
mod manifests;
mod packaging;
mod registry;
mod signatures;
mod store;
mod support;
mod tidy;
mod worlds;
mod xds;
