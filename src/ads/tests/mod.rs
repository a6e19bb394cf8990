//! Tests of the machines against a model client; each rule by its number.

mod client;
mod holdings;
mod model;
mod order;
mod rules;
mod wire;
