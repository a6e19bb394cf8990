//! All integration tests in one binary.

mod e2e;
mod support;
mod tidy;
mod xds;
