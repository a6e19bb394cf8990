//! One writer for a database: an advisory lock, which a session holds and loses with its end.

use std::net::IpAddr;

use sqlx::Row as _;
use sqlx::postgres::{PgConnection, PgRow};

use crate::store::statement::Statement;

/// The lock's two numbers: `caus`, `eway`.
const KEY: [i32; 2] = [i32::from_be_bytes(*b"caus"), i32::from_be_bytes(*b"eway")];

/// Whoever holds the lock.
pub(super) struct Holder {
    /// The server's process for its session.
    pub pid: i32,
    /// What it calls itself.
    pub name: String,
    text: String,
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

/// Takes the lock; says whether the session has it now.
pub(super) async fn try_take(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let [class, object] = KEY;
    sqlx::query_scalar("SELECT pg_try_advisory_lock($1, $2)").bind(class).bind(object).fetch_one(connection).await
}

/// The processes of the server that hold the lock: one, or none.
pub(super) fn holders() -> Statement {
    let [class, object] = KEY;
    Statement::new(
        "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 2 AND classid::bigint = $1 \
         AND objid::bigint = $2 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
    )
    .bind(i64::from(class))
    .bind(i64::from(object))
}

/// Who holds the lock, where somebody does.
pub(super) async fn holder(connection: &mut PgConnection) -> Result<Option<Holder>, sqlx::Error> {
    let [class, object] = KEY;
    // Of sessions of other users only the name is shown to everybody.
    let row = sqlx::query(
        "SELECT locks.pid, coalesce(activity.application_name, '') AS name, host(activity.client_addr) AS address, \
         activity.usename::text AS username \
         FROM pg_locks AS locks LEFT JOIN pg_stat_activity AS activity ON activity.pid = locks.pid \
         WHERE locktype = 'advisory' AND granted AND objsubid = 2 AND classid::bigint = $1 AND objid::bigint = $2 \
         AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
    )
    .bind(i64::from(class))
    .bind(i64::from(object))
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(read).transpose()
}

fn read(row: &PgRow) -> Result<Holder, sqlx::Error> {
    let (pid, name): (i32, String) = (row.try_get("pid")?, row.try_get("name")?);
    let address: Option<String> = row.try_get("address")?;
    let address = address.and_then(|text| text.parse::<IpAddr>().ok());
    let username: Option<String> = row.try_get("username")?;
    let mut text = if name.is_empty() { "a session without a name".to_owned() } else { format!("`{name}`") };
    text.push_str(&match address {
        Some(address) => format!(" at {address}"),
        None => " on the server's own machine, or of another user".to_owned(),
    });
    if let Some(username) = username {
        text.push_str(&format!(" as user {username}"));
    }
    text.push_str(&format!(" (the server's process {pid})"));
    Ok(Holder { pid, name, text })
}

/// Ends a session.
pub(super) async fn end(connection: &mut PgConnection, pid: i32) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT pg_terminate_backend($1)").bind(pid).execute(connection).await.map(|_| ())
}
