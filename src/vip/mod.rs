//! Virtual IPs: the ledger of who holds which address, and the planner that says what to do next.
//! Pure.
//!
//! ```text
//!                 claim          offers        ACK / agent        enough gateways
//!      (free) ──▶ Held ─────────────────────────────────────────────▶ published
//!        ▲          │ ▲                                                   │
//!        │  no claim│ │ the claim returns, at whatever phase              │ evidence goes: the name
//!        │          ▼ │                                                   ▼ goes, the VIP stays
//!        │     Unpublishing ──TTL──▶ Draining ──drain_ms──▶ Removing ──▶ no live node has it,
//!        └──────────────────────────────────────────────────────────────  gone ones for grace_ms
//! ```
//!
//! Only the ledger's phases are durable. Everything else ([`Plan`]) is derived anew in each turn from
//! the claims, the ledger and the feedback, and never mirrored; so a restart, which forgets all
//! feedback, needs no case of its own: names vanish until gateways prove their listeners again, and
//! addresses stay where they are.
//!
//! What holds always, and is tried by a simulation in this room's tests:
//! - A row is durable before its listeners are offered ([`Plan`] says how the caller ensures it).
//! - No address has two slots, no slot two addresses ([`Ledger`] refuses it), and no row's address
//!   changes: whatever becomes of pools, selectors, quotas or wishes, a VIP in use stays and the
//!   disagreement is told as a [`Problem`].
//! - A name is answered only while live gateways prove the address.
//! - An address is given away only when no live node has a listener on it.

mod allocate;
mod assign;
mod ledger;
mod plan;
mod proof;
#[cfg(test)]
mod sim;
#[cfg(test)]
mod tests;
mod types;
mod withdraw;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

pub use crate::model::slot::Slot;
pub use ledger::{Ledger, LedgerChange, LedgerError, Phase, Vip, VipPort};
pub use plan::plan;
pub use types::{
    AssignRequest, Audience, Claim, ClaimsKnown, GatewayState, GatewayStatus, Inputs, LedgerState, Offer, Plan,
    Problem, Published, Reason, Settings, VipState, VipStatus,
};

/// The name of a VIP's listener: `vip/240.11.0.7:80`, `vip/[fd00::1]:80`.
pub fn listener_name(address: IpAddr, port: u16) -> Arc<str> {
    format!("vip/{}", SocketAddr::new(address, port)).into()
}

/// What a listener's name says; `None` where it is not a VIP's.
pub fn parse_listener_name(name: &str) -> Option<SocketAddr> {
    name.strip_prefix("vip/")?.parse().ok()
}

/// How the names of all listeners of a VIP begin.
fn listener_prefix(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => format!("vip/{v4}:"),
        IpAddr::V6(v6) => format!("vip/[{v6}]:"),
    }
}
