//! The VIP ledger: which address is given to whom.

use std::net::IpAddr;
use std::sync::Arc;

use sqlx::{Decode, Postgres, Sqlite, Type};

use super::database::Tx;
use super::statement::{Row, Statement};
use super::{Store, StoreError};
use crate::model::Timestamp;
use crate::model::object::Family;

/// A VIP's row. Its family is the address's.
#[derive(Clone, Debug, PartialEq)]
pub struct LedgerRow {
    /// The VIP.
    pub address: IpAddr,
    /// What it is given to, as a text that says all of it; no two rows have the same.
    pub slot: String,
    /// The pool that the address is from.
    pub pool: String,
    /// The access, as `namespace/name`.
    pub access: String,
    /// The service, as `namespace/name`.
    pub service: String,
    /// The pod, where VIPs are per pod.
    pub pod: Option<String>,
    /// The gateway, where its agent assigned the address.
    pub node: Option<String>,
    /// The phase's name; not empty.
    pub phase: String,
    /// When the phase began, where it is one of withdrawal.
    pub since: Option<Timestamp>,
    /// The ports, in the ledger's own form.
    pub ports: serde_json::Value,
    /// DNS time to live, in seconds.
    pub ttl_seconds: u32,
    /// Who picked the address.
    pub assigned_by: String,
    /// When the address was given.
    pub allocated_at: Timestamp,
    /// When the row last changed.
    pub changed_at: Timestamp,
}

/// Rows as they were last known to be, by address.
pub(super) type KnownRows = imbl::OrdMap<IpAddr, Arc<LedgerRow>>;

/// A change of the ledger.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "nearly all changes are `Put`, a box for each row would save nothing")]
pub enum LedgerChange {
    /// The row is there from now on, in this form. An address stays with its slot: to give it to
    /// another, delete it first.
    Put(LedgerRow),
    /// The address is free. No error where it was free before.
    Delete(IpAddr),
}

impl Store {
    /// Commits the changes in their order, all or none, and returns when they would survive a loss
    /// of power. When the future is dropped before it is done, none or all may have been committed.
    ///
    /// # Errors
    /// [`StoreError::AddressTaken`] and [`StoreError::SlotTaken`] where a row contradicts one that
    /// is there; [`StoreError::Replaced`] where the file was taken away; otherwise what the database says.
    /// Nothing has been changed then.
    pub async fn commit_ledger(&self, changes: &[LedgerChange]) -> Result<(), StoreError> {
        if changes.is_empty() {
            return Ok(());
        }
        let mut tx = self.inner.ledger.begin("committing to the ledger").await?;
        tx.announce(|rows| apply(rows, changes));
        let outcome = write(&mut tx, changes).await;
        tx.finish(outcome).await
    }

    /// Makes these all rows, where the ledger is kept elsewhere and this is its copy.
    ///
    /// # Errors
    /// As [`Store::commit_ledger`]; nothing has been changed then.
    pub async fn replace_ledger(&self, rows: &[LedgerRow]) -> Result<(), StoreError> {
        let mut tx = self.inner.ledger.begin("copying the ledger").await?;
        tx.announce(|known| *known = rows.iter().map(|row| (row.address, Arc::new(row.clone()))).collect());
        let outcome = replace(&mut tx, rows).await;
        tx.finish(outcome).await
    }

    /// All rows, by address.
    ///
    /// # Errors
    /// [`StoreError::LedgerRow`] where a row makes no sense: the ledger is then unusable as a whole,
    /// because the address of a row that is left out would be given to somebody else.
    pub async fn load_ledger(&self) -> Result<Vec<LedgerRow>, StoreError> {
        self.inner.ledger.load_ledger().await
    }
}

/// What [`LedgerChange`]s make of known rows.
pub(super) fn apply(rows: &mut KnownRows, changes: &[LedgerChange]) {
    for change in changes {
        match change {
            LedgerChange::Put(row) => rows.insert(row.address, Arc::new(row.clone())),
            LedgerChange::Delete(address) => rows.remove(address),
        };
    }
}

async fn write(tx: &mut Tx<'_>, changes: &[LedgerChange]) -> Result<(), StoreError> {
    for change in changes {
        match change {
            LedgerChange::Put(row) => put_row(tx, row).await?,
            LedgerChange::Delete(address) => drop(tx.execute(delete(*address)).await?),
        }
    }
    Ok(())
}

async fn replace(tx: &mut Tx<'_>, rows: &[LedgerRow]) -> Result<(), StoreError> {
    tx.execute(Statement::new("DELETE FROM ledger")).await?;
    for row in rows {
        put_row(tx, row).await?;
    }
    Ok(())
}

async fn put_row(tx: &mut Tx<'_>, row: &LedgerRow) -> Result<(), StoreError> {
    // Asked for before, since a statement that fails may end the transaction.
    let held = Statement::new("SELECT address FROM ledger WHERE slot = $1").bind(&row.slot);
    if let Some(held) = tx.fetch(held).await?.first() {
        let held: String = column(held, "?", "address")?;
        if held != row.address.to_string() {
            return Err(StoreError::SlotTaken { address: row.address, slot: row.slot.clone(), held });
        }
    }
    if tx.execute(put(row)).await? == 1 {
        return Ok(());
    }
    let holder = Statement::new("SELECT slot FROM ledger WHERE address = $1").bind(row.address.to_string());
    let held_by = match tx.fetch(holder).await?.first() {
        Some(holder) => column(holder, &row.address.to_string(), "slot")?,
        None => "another slot".to_owned(),
    };
    Err(StoreError::AddressTaken { address: row.address, slot: row.slot.clone(), held_by })
}

/// Frees an address.
pub(super) fn delete(address: IpAddr) -> Statement {
    Statement::new("DELETE FROM ledger WHERE address = $1").bind(address.to_string())
}

/// Puts a row. The condition keeps an address with its slot; a row that fails it is left as it is.
pub(super) fn put(row: &LedgerRow) -> Statement {
    Statement::new(
        "INSERT INTO ledger (address, slot, pool, access, service, pod, family, node, phase, since, ports, \
         ttl_seconds, assigned_by, allocated_at, changed_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15) \
         ON CONFLICT (address) DO UPDATE SET pool = excluded.pool, access = excluded.access, \
         service = excluded.service, pod = excluded.pod, node = excluded.node, phase = excluded.phase, \
         since = excluded.since, ports = excluded.ports, ttl_seconds = excluded.ttl_seconds, \
         assigned_by = excluded.assigned_by, allocated_at = excluded.allocated_at, \
         changed_at = excluded.changed_at \
         WHERE ledger.slot = excluded.slot",
    )
    .bind(row.address.to_string())
    .bind(&row.slot)
    .bind(&row.pool)
    .bind(&row.access)
    .bind(&row.service)
    .bind(&row.pod)
    .bind(family_text(row.address))
    .bind(&row.node)
    .bind(&row.phase)
    .bind(row.since)
    .bind(row.ports.to_string())
    .bind(row.ttl_seconds)
    .bind(&row.assigned_by)
    .bind(row.allocated_at)
    .bind(row.changed_at)
}

/// What gives all rows.
pub(super) fn select() -> Statement {
    Statement::new("SELECT * FROM ledger")
}

/// The rows that were found, by address.
pub(super) fn read_rows(found: &[Row]) -> Result<Vec<LedgerRow>, StoreError> {
    let mut rows = found.iter().map(read_row).collect::<Result<Vec<_>, _>>()?;
    rows.sort_by_key(|row| row.address);
    Ok(rows)
}

fn read_row(row: &Row) -> Result<LedgerRow, StoreError> {
    let text = column::<String>(row, "?", "address")?;
    let bad = |column, detail: String| StoreError::LedgerRow { address: text.clone(), column, detail };
    let address: IpAddr = text.parse().map_err(|_| bad("address", "it is not an IP address".to_owned()))?;
    // Two spellings of one address would be two rows for it.
    if address.to_string() != text {
        return Err(bad("address", format!("it is not in its canonical form {address}")));
    }
    let family: String = column(row, &text, "family")?;
    if family != family_text(address) {
        return Err(bad("family", format!("`{family}` is not the address's")));
    }
    let ports: String = column(row, &text, "ports")?;
    Ok(LedgerRow {
        address,
        slot: column(row, &text, "slot")?,
        pool: column(row, &text, "pool")?,
        access: column(row, &text, "access")?,
        service: column(row, &text, "service")?,
        pod: column(row, &text, "pod")?,
        node: column(row, &text, "node")?,
        phase: column(row, &text, "phase")?,
        since: column(row, &text, "since")?,
        ports: serde_json::from_str(&ports).map_err(|e| bad("ports", e.to_string()))?,
        ttl_seconds: row.small("ttl_seconds").map_err(|e| bad("ttl_seconds", e.to_string()))?,
        assigned_by: column(row, &text, "assigned_by")?,
        allocated_at: column(row, &text, "allocated_at")?,
        changed_at: column(row, &text, "changed_at")?,
    })
}

fn column<T>(row: &Row, address: &str, column: &'static str) -> Result<T, StoreError>
where
    T: for<'r> Decode<'r, Sqlite> + Type<Sqlite> + for<'r> Decode<'r, Postgres> + Type<Postgres>,
{
    row.get(column).map_err(|e| StoreError::LedgerRow { address: address.to_owned(), column, detail: e.to_string() })
}

fn family_text(address: IpAddr) -> &'static str {
    match Family::of(address) {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    }
}
