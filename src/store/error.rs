//! What can go wrong, in words for the operator.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

/// Why the store could not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The data directory or a file in it cannot be used.
    #[error("{} cannot be used: {source}; give --data-dir a directory that this user may write", path.display())]
    Directory {
        /// The directory or file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another process has the directory.
    #[error(
        "the data directory {} is in use by {}; stop it, or give this one another --data-dir",
        path.display(), holder.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
    )]
    Locked {
        /// The directory.
        path: PathBuf,
        /// The other's process id, where it is known.
        holder: Option<u32>,
    },
    /// Another process has the database.
    #[error("the database {} is in use by {holder}; stop it, or give this one another database in --store", path.display())]
    InUse {
        /// The database.
        path: PathBuf,
        /// Who has it: name, address and process of its session.
        holder: String,
    },
    /// The database's server does not answer, or its session is lost.
    #[error("{doing} in {} failed: {detail}; see whether the server runs and can be reached", path.display())]
    Unreachable {
        /// What was to be done.
        doing: &'static str,
        /// The database.
        path: PathBuf,
        /// Why.
        detail: String,
    },
    /// The server only follows another.
    #[error("{} is a standby, which takes no changes: name the primary server in --store", path.display())]
    Standby {
        /// The database.
        path: PathBuf,
    },
    /// The database's user lacks a right.
    #[error("{doing} in {} failed: {detail}; let the user own the schema `causeway`, or create schemas in the database", path.display())]
    Denied {
        /// What was to be done.
        doing: &'static str,
        /// The database.
        path: PathBuf,
        /// What the server says.
        detail: String,
    },
    /// Somebody else has written to the ledger while this process could not see it.
    #[error(
        "the VIP ledger in {} is not what it last was{}: somebody else has written to it, and nothing is committed \
         any more; restart this process to go on with what is there",
        path.display(), address.map(|address| format!(" ({address})")).unwrap_or_default()
    )]
    LedgerChanged {
        /// The database.
        path: PathBuf,
        /// An address whose row differs.
        address: Option<IpAddr>,
    },
    /// The ledger is gone although the directory has been in use.
    #[error(
        "the VIP ledger {} is missing or empty, but the directory has been used before: restore it from a backup, \
         or, if every VIP may be given anew, remove inventory.db as well", path.display()
    )]
    LedgerMissing {
        /// The ledger's file.
        path: PathBuf,
    },
    /// The database has no ledger, and the data directory has one.
    #[error(
        "the VIP ledger in {} is empty, while {} has {rows} VIPs, which would be given anew: copy its rows into the table \
         causeway.ledger; or, if every VIP may be given anew or `VirtualIp` objects say them, move that file away", path.display(), file.display()
    )]
    LedgerElsewhere {
        /// The database.
        path: PathBuf,
        /// The file that has a ledger.
        file: PathBuf,
        /// How many rows it has.
        rows: usize,
    },
    /// A file is no database any more.
    #[error("{} is corrupt ({detail}): {remedy}", path.display())]
    Corrupt {
        /// The file, or the database.
        path: PathBuf,
        /// What was found.
        detail: String,
        /// What to do about it.
        remedy: &'static str,
    },
    /// The file at the path is not the one that is open.
    #[error("{} was removed or replaced while it was in use: nothing can be committed; restart with the right file there", path.display())]
    Replaced {
        /// The file, or the database.
        path: PathBuf,
    },
    /// A newer Causeway has been here.
    #[error(
        "{} was written by a newer version (its schema has migration {migration}, which this version lacks): run \
         that version, or restore a backup of before", path.display()
    )]
    NewerSchema {
        /// The file, or the database.
        path: PathBuf,
        /// The number of the unknown migration.
        migration: i64,
    },
    /// The schema could not be brought to its newest form.
    #[error("the schema of {} cannot be migrated: {source}", path.display())]
    Migrate {
        /// The file, or the database.
        path: PathBuf,
        /// Why.
        #[source]
        source: sqlx::migrate::MigrateError,
    },
    /// A row of the ledger makes no sense.
    #[error(
        "the VIP ledger's row `{address}` has an unreadable {column}: {detail}; mend it with sqlite3 or psql, or restore a backup"
    )]
    LedgerRow {
        /// The row's address, as it stands there.
        address: String,
        /// The column.
        column: &'static str,
        /// What is wrong with it.
        detail: String,
    },
    /// A commit would have given an address to a second holder.
    #[error("{address} is held by {held_by} and cannot be given to {slot}")]
    AddressTaken {
        /// The address.
        address: IpAddr,
        /// The slot that wanted it.
        slot: String,
        /// The slot that has it.
        held_by: String,
    },
    /// A commit would have given a slot a second address.
    #[error("{slot} holds {held} and cannot be given {address} as well")]
    SlotTaken {
        /// The address that it should have got.
        address: IpAddr,
        /// The slot.
        slot: String,
        /// The address that it has.
        held: String,
    },
    /// A policy has no such version, or there is no such policy.
    #[error("the policy `{policy}` has no version {number}")]
    NoPolicyVersion {
        /// The policy's name.
        policy: String,
        /// The version's number.
        number: u32,
    },
    /// Another program keeps the file locked.
    #[error(
        "{} could not be written within {waited_ms} ms as another program keeps it locked: end its transaction \
         (sqlite3 or psql with an open BEGIN?)", path.display()
    )]
    Busy {
        /// The file, or the database.
        path: PathBuf,
        /// How long was waited, in milliseconds.
        waited_ms: u64,
    },
    /// The database failed otherwise, for example as the disk is full.
    #[error("{doing} in {} failed: {source}", path.display())]
    Sql {
        /// What was done.
        doing: &'static str,
        /// The file, or the database.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: sqlx::Error,
    },
}

impl StoreError {
    /// Whether the same may go well a little later.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Busy { .. })
    }
}
