//! Decisions: which endpoints a client gets and with what share, and which address a slot gets.
//!
//! Whoever decides is a WebAssembly component of a world in `plugins/wit`: the defaults, which are embedded, like those
//! that users upload. A call sees what it is asked and nothing else, runs in an instance of its own with bounded fuel and
//! memory, and its answer is taken only where it can be one ([`answer`](mod@answer), `envelope`). So the same question has
//! the same answer on every replica, today and in a replay; [`Policies`] remembers answers, and says what holds where a
//! policy gives none.

pub(crate) mod answer;
pub mod apart;
pub(crate) mod bindings;
mod circuit;
mod component;
mod engine;
mod envelope;
mod host;
mod kept;
mod memo;
mod question;
mod removal;
mod tally;
#[cfg(test)]
mod tests;
mod vip;

pub use component::{Answer, CallError, Component, Digest, LoadError, MOST_BYTES, Needs, NoDigest, NoWorld};
pub use engine::{Engine, EngineError, Level, Limits, Line};
pub use host::{
    Choice, ChoiceError, DEFAULT_LB, DEFAULT_VIP, Decided, Failure, HostError, Policies, Policy, Subject, built_in,
};
pub use question::{Endpoints, Hash, LbQuestion};
pub use removal::NO_LIMIT as ALL_PERCENT;
pub use tally::{Counts, Tallied, Tally, Times};

pub use crate::model::policy::{OnFailure, World};
