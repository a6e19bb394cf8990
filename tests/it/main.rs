//! All integration tests in one binary.

mod agent;
mod cli;
mod e2e;
mod golden;
mod store;
mod support;
mod tidy;
mod xds;
