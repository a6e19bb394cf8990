//! The owner of the truth: one task that takes [`Event`]s and, in one turn, brings everything that
//! follows from them up to date.
//!
//! ```text
//!  events ─▶ world.apply, feedback.fold ─▶ claims ─▶ vip.plan ─▶ store (durable) ─▶ desired ─▶ views ─▶ streams
//!                                                       │                              └─▶ names ─▶ DNS
//!                                                       └─▶ agents
//! ```
//!
//! Nothing is planned or served before every source is synced or declared unknown (rule 10).

mod agents;
mod answers;
pub mod claims;
mod copy;
mod declared;
mod desired;
mod event;
mod inventory;
mod keeper;
mod ledger;
mod names;
mod nodes;
mod outward;
mod owner;
mod policies;
mod policy_rows;
pub mod view;
mod views;

pub use copy::LedgerCopy;
pub use event::{AgentEvent, Declared, Event, Order, PolicyEvent, PolicyFault, Verdict};
pub use inventory::{Inventory, now};
pub use keeper::Keeper;
pub use ledger::{LedgerRowError, from_row, to_row};
pub use owner::{Outputs, Owner, Settings};

#[cfg(test)]
mod tests;
