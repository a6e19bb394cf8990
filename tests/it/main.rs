//! All integration tests in one binary.

mod ads;
mod ads_envoy;
