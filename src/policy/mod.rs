//! Decisions: which endpoints a client gets and with what share, and which address a slot gets.
//! Two plain functions for now, of the shape that components will have: the same input gives the
//! same decision on every replica. [`check_lb`] is the envelope around any decision, ours or a
//! user's.

mod envelope;
mod lb;
#[cfg(test)]
mod tests;
mod vip;

pub use envelope::check_lb;
pub use lb::{Algorithm, ConfigError, LB_SETTINGS, LbConfig, LocalityPriority, lb_default};
pub use vip::vip_default;
