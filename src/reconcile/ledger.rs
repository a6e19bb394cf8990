//! VIPs to rows of the store and back.

use serde::{Deserialize, Serialize};

use crate::model::object::Selector;
use crate::store::{LedgerChange as StoredChange, LedgerRow};
use crate::vip::{LedgerChange, Phase, Vip, VipPort};

/// A row that does not lead back to a VIP. The ledger fails closed: nothing is allocated until it is mended.
#[derive(Debug, thiserror::Error)]
#[error("the ledger's row of {address} cannot be read: {reason}; restore ledger.db from a backup, or delete that row")]
pub struct LedgerRowError {
    address: std::net::IpAddr,
    reason: String,
}

/// What stands in the column `ports` beside the ports: all that a VIP needs to be withdrawn in order when nothing else
/// remembers it.
#[derive(Serialize, Deserialize)]
struct Listening {
    ports: Vec<VipPort>,
    hostnames: Vec<std::sync::Arc<str>>,
    gateways: Selector,
}

/// The row of a VIP.
///
/// # Errors
/// Where it cannot be written as JSON, which no VIP from a plan is.
pub fn to_row(vip: &Vip) -> Result<LedgerRow, serde_json::Error> {
    let Vip { slot, .. } = vip;
    let listening =
        Listening { ports: vip.ports.clone(), hostnames: vip.hostnames.clone(), gateways: vip.gateways.clone() };
    Ok(LedgerRow {
        address: vip.address,
        slot: slot.to_string(),
        pool: vip.pool.to_string(),
        access: slot.access.to_string(),
        service: slot.service.to_string(),
        pod: slot.pod.as_ref().map(ToString::to_string),
        node: slot.node.as_ref().map(ToString::to_string),
        phase: vip.phase.as_str().to_owned(),
        since: vip.phase.since(),
        ports: serde_json::to_value(listening)?,
        ttl_seconds: vip.ttl_seconds,
        assigned_by: vip.assigned_by.as_ref().map_or_else(|| "ControlPlane".to_owned(), ToString::to_string),
        allocated_at: vip.allocated_at,
        changed_at: vip.changed_at,
    })
}

/// The store's form of changes.
///
/// # Errors
/// Where a VIP cannot be written as JSON, which no VIP from a plan is.
pub fn to_stored(changes: &[LedgerChange]) -> Result<Vec<StoredChange>, serde_json::Error> {
    changes
        .iter()
        .map(|change| match change {
            LedgerChange::Insert(vip) | LedgerChange::Update(vip) => Ok(StoredChange::Put(to_row(vip)?)),
            LedgerChange::Delete(address) => Ok(StoredChange::Delete(*address)),
        })
        .collect()
}

/// The VIP of a row.
///
/// # Errors
/// [`LedgerRowError`] where a column says what no version of Causeway wrote.
pub fn from_row(row: &LedgerRow) -> Result<Vip, LedgerRowError> {
    let error = |reason: String| LedgerRowError { address: row.address, reason };
    let listening: Listening = serde_json::from_value(row.ports.clone()).map_err(|e| error(format!("ports: {e}")))?;
    let slot = row.slot.parse::<crate::vip::Slot>().map_err(|e| error(format!("slot: {e}")))?;
    if crate::model::object::Family::of(row.address) != slot.family {
        return Err(error(format!("slot: `{}` is of another family", row.slot)));
    }
    let since = row.since.unwrap_or(row.changed_at);
    let phase = match row.phase.as_str() {
        "Held" => Phase::Held,
        "Unpublishing" => Phase::Unpublishing { since },
        "Draining" => Phase::Draining { since },
        "Removing" => Phase::Removing { since },
        other => return Err(error(format!("phase: `{other}` is none"))),
    };
    Ok(Vip {
        address: row.address,
        pool: row.pool.as_str().into(),
        assigned_by: slot.node.clone(),
        slot,
        phase,
        ports: listening.ports,
        ttl_seconds: row.ttl_seconds,
        hostnames: listening.hostnames,
        gateways: listening.gateways,
        allocated_at: row.allocated_at,
        changed_at: row.changed_at,
    })
}
