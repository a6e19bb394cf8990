//! The VIP ledger: which address is given to whom.

use std::net::IpAddr;

use sqlx::sqlite::SqliteRow;
use sqlx::{Row, Sqlite, Transaction};

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
    /// is there; [`StoreError::Replaced`] where the file was taken away; otherwise what SQLite says.
    /// Nothing has been changed then.
    pub async fn commit_ledger(&self, changes: &[LedgerChange]) -> Result<(), StoreError> {
        if changes.is_empty() {
            return Ok(());
        }
        let mut tx = self.inner.ledger.begin("beginning a commit").await?;
        for change in changes {
            match change {
                LedgerChange::Put(row) => self.put_row(&mut tx, row).await?,
                LedgerChange::Delete(address) => {
                    sqlx::query("DELETE FROM ledger WHERE address = ?1")
                        .bind(address.to_string())
                        .execute(&mut *tx)
                        .await
                        .map_err(|e| self.inner.ledger.error("deleting a row", e))?;
                }
            }
        }
        // Last of all, so that the answer is about the file as it is when the rows go into it.
        self.inner.ledger.check_in_place()?;
        tx.commit().await.map_err(|e| self.inner.ledger.error("committing", e))
    }

    /// Makes these all rows, where the ledger is kept elsewhere and this is its copy.
    ///
    /// # Errors
    /// As [`Store::commit_ledger`]; nothing has been changed then.
    pub async fn replace_ledger(&self, rows: &[LedgerRow]) -> Result<(), StoreError> {
        let mut tx = self.inner.ledger.begin("beginning a copy").await?;
        let cleared = sqlx::query("DELETE FROM ledger").execute(&mut *tx).await;
        cleared.map_err(|e| self.inner.ledger.error("deleting rows", e))?;
        for row in rows {
            self.put_row(&mut tx, row).await?;
        }
        self.inner.ledger.check_in_place()?;
        tx.commit().await.map_err(|e| self.inner.ledger.error("committing", e))
    }

    /// All rows, by address.
    ///
    /// # Errors
    /// [`StoreError::LedgerRow`] where a row makes no sense: the ledger is then unusable as a whole,
    /// because the address of a row that is left out would be given to somebody else.
    pub async fn load_ledger(&self) -> Result<Vec<LedgerRow>, StoreError> {
        let found = sqlx::query("SELECT * FROM ledger")
            .fetch_all(self.inner.ledger.pool())
            .await
            .map_err(|e| self.inner.ledger.error("loading", e))?;
        let mut rows = found.iter().map(|row| self.read_row(row)).collect::<Result<Vec<_>, _>>()?;
        rows.sort_by_key(|row| row.address);
        Ok(rows)
    }

    async fn put_row(&self, tx: &mut Transaction<'static, Sqlite>, row: &LedgerRow) -> Result<(), StoreError> {
        // The condition keeps an address with its slot; a row that fails it is left as it is.
        let done = sqlx::query(
            "INSERT INTO ledger (address, slot, pool, access, service, pod, family, node, phase, since, ports, \
             ttl_seconds, assigned_by, allocated_at, changed_at) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15) \
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
        .execute(&mut **tx)
        .await;
        match done {
            Ok(done) if done.rows_affected() == 1 => Ok(()),
            Ok(_) => {
                let held_by = self.one(tx, "SELECT slot FROM ledger WHERE address = ?1", row.address.to_string());
                let held_by = held_by.await?;
                Err(StoreError::AddressTaken { address: row.address, slot: row.slot.clone(), held_by })
            }
            Err(e) if e.as_database_error().is_some_and(|e| e.is_unique_violation()) => {
                let held = self.one(tx, "SELECT address FROM ledger WHERE slot = ?1", row.slot.clone()).await?;
                Err(StoreError::SlotTaken { address: row.address, slot: row.slot.clone(), held })
            }
            Err(e) => Err(self.inner.ledger.error("writing a row", e)),
        }
    }

    async fn one(
        &self,
        tx: &mut Transaction<'static, Sqlite>,
        query: &'static str,
        key: String,
    ) -> Result<String, StoreError> {
        sqlx::query_scalar(query)
            .bind(key)
            .fetch_one(&mut **tx)
            .await
            .map_err(|e| self.inner.ledger.error("reading a row", e))
    }

    fn read_row(&self, row: &SqliteRow) -> Result<LedgerRow, StoreError> {
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
            ttl_seconds: column(row, &text, "ttl_seconds")?,
            assigned_by: column(row, &text, "assigned_by")?,
            allocated_at: column(row, &text, "allocated_at")?,
            changed_at: column(row, &text, "changed_at")?,
        })
    }
}

fn column<'r, T>(row: &'r SqliteRow, address: &str, column: &'static str) -> Result<T, StoreError>
where
    T: sqlx::Decode<'r, Sqlite> + sqlx::Type<Sqlite>,
{
    row.try_get(column).map_err(|e| StoreError::LedgerRow {
        address: address.to_owned(),
        column,
        detail: e.to_string(),
    })
}

fn family_text(address: IpAddr) -> &'static str {
    match Family::of(address) {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    }
}
