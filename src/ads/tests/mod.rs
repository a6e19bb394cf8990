//! Tests of the machines against a model client; each rule by its number.

mod client;
mod decoders;
mod found;
mod holdings;
mod model;
mod order;
mod rules;
mod service;
mod sim;
mod single;
mod subscription;
mod wire;
