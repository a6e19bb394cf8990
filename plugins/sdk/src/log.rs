//! Lines for whoever looks after the policy: `causeway policy logs` shows them. They have no effect on anything.
//!
//! The host keeps at most 1024 bytes of a line, and at most 64 lines a call.

use std::fmt::Display;

pub use crate::bindings::lb::causeway::policy::log::Level;

/// What helps while one writes a policy: `log::debug(format_args!("{n} endpoints"))`.
pub fn debug(message: impl Display) {
    write(Level::Debug, &message.to_string());
}

/// What is worth knowing.
pub fn info(message: impl Display) {
    write(Level::Info, &message.to_string());
}

/// What may be wrong.
pub fn warn(message: impl Display) {
    write(Level::Warn, &message.to_string());
}

/// What is wrong.
pub fn error(message: impl Display) {
    write(Level::Error, &message.to_string());
}

#[cfg(target_family = "wasm")]
fn write(level: Level, message: &str) {
    crate::bindings::lb::causeway::policy::log::write(level, message);
}

#[cfg(not(target_family = "wasm"))]
fn write(level: Level, message: &str) {
    crate::testing::keep(level, message);
}

/// Without it a panic is a bare trap, and nobody learns what went wrong.
#[cfg(target_family = "wasm")]
pub(crate) fn log_panics() {
    std::panic::set_hook(Box::new(|info| error(info)));
}

/// On the host the test runner shows panics.
#[cfg(not(target_family = "wasm"))]
pub(crate) fn log_panics() {}
