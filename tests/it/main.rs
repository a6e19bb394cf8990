//! All integration tests in one binary.

mod tidy;
mod e2e;
mod support;
