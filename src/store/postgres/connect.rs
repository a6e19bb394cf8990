//! Connections: what is told the server with each, what its errors mean, and the schema.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection};

use crate::config::PostgresUrl;
use crate::store::StoreError;
use crate::store::database::Kind;

/// Migrations of the schema. Whoever migrates holds the store's own lock.
pub(in crate::store) static MIGRATIONS: LazyLock<Migrator> = LazyLock::new(|| {
    let mut migrations = sqlx::migrate!("src/store/migrations/postgres");
    migrations.set_locking(false);
    migrations
});

/// How long a connection may take: name, TCP, TLS and password.
const CONNECT: Duration = Duration::from_secs(3);
/// How long another transaction's lock is waited for; the server counts it.
const BUSY: Duration = Duration::from_secs(3);
/// How long bringing the schema to its newest form may take.
const MIGRATE: Duration = Duration::from_secs(600);
/// What the longest name of a session may have, in bytes.
const NAME: usize = 63;

/// How long one statement may take, beyond which the server is taken for gone. The server itself gives it up before.
pub(super) const fn answer(kind: Kind) -> Duration {
    Duration::from_secs(match kind {
        Kind::Ledger => 5,
        // 500 rows of pods.
        Kind::Inventory => 15,
        // A component of some MB.
        Kind::Policies => 30,
    })
}

/// Waits for an answer. One that does not come is an error of the connection.
pub(super) async fn bounded<T>(
    limit: Duration,
    answer: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    match tokio::time::timeout(limit, answer).await {
        Ok(answer) => answer,
        Err(_) => {
            let text = format!("there was no answer within {} s", limit.as_secs());
            Err(sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, text)))
        }
    }
}

/// Whether an error says that the session is of no use any more: the connection is gone, the server shuts down or has
/// become a standby (postgresql.org/docs/current/errcodes-appendix.html).
pub(super) fn is_lost(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => {
            let code = error.code().unwrap_or_default();
            code.starts_with("57P") || code.starts_with("08") || ["25006", "25P03"].contains(&&*code)
        }
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed => true,
        _ => false,
    }
}

/// Whether an error goes away by itself, so that waiting is better than giving up.
pub(super) fn is_passing(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => {
            let code = error.code().unwrap_or_default();
            code.starts_with("57P") || code.starts_with("08") || code == "53300"
        }
        // That a certificate is not trusted comes as invalid data.
        sqlx::Error::Io(error) => !matches!(
            error.kind(),
            io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::PermissionDenied
        ),
        _ => false,
    }
}

/// Where the database is, and who we are there.
pub(super) struct Target {
    /// Has the password.
    options: PgConnectOptions,
    shown: String,
    /// What no other process and no other run calls its sessions.
    pub name: String,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl Target {
    pub fn of(url: &PostgresUrl) -> Result<Self, StoreError> {
        let shown = url.to_string();
        let wrong = |source| StoreError::Sql { doing: "reading --store", path: PathBuf::from(&shown), source };
        let mut options: PgConnectOptions = url.secret().parse().map_err(wrong)?;
        // An address of IPv6 stands in brackets in a URL and nowhere else.
        if let Some(host) = url.ipv6() {
            options = options.host(&host.to_string());
        }
        let options = options.application_name("causeway").disable_statement_logging();
        Ok(Self { options, shown, name: name() })
    }

    pub fn path(&self) -> PathBuf {
        PathBuf::from(&self.shown)
    }

    /// A session for a part.
    pub async fn connect(&self, kind: Kind) -> Result<PgConnection, sqlx::Error> {
        let part = match kind {
            Kind::Ledger => self.name.clone(),
            Kind::Inventory | Kind::Policies => format!("{} {kind:?}", self.name).to_lowercase(),
        };
        let millis = |span: Duration| span.as_millis().to_string();
        let answer = millis(answer(kind).mul_f32(0.8));
        let options = self.options.clone().application_name(&part).options([
            ("search_path", "causeway"),
            ("statement_timeout", &answer),
            ("lock_timeout", &millis(BUSY)),
            // Work that somebody began who is gone must not hold up who comes after.
            ("idle_in_transaction_session_timeout", &millis(Duration::from_secs(60))),
            // A machine that lost its power must not hold the lock for hours.
            ("tcp_keepalives_idle", "10"),
            ("tcp_keepalives_interval", "5"),
            ("tcp_keepalives_count", "3"),
        ]);
        let mut connection = bounded(CONNECT, PgConnection::connect_with(&options)).await?;
        // Also of the inventory: a server that dies alone must not take back what is not told again. Stronger settings
        // are the server's own choice.
        let durable = "SELECT set_config('synchronous_commit', 'on', false) \
                       WHERE current_setting('synchronous_commit') IN ('off', 'local')";
        bounded(CONNECT, sqlx::query(durable).execute(&mut connection)).await?;
        Ok(connection)
    }

    /// Makes the schema, and brings it to its newest form.
    pub async fn migrate(&self, connection: &mut PgConnection) -> Result<(), StoreError> {
        const DOING: &str = "making the schema";
        let error = |source| self.error(DOING, source);
        let there = sqlx::query_scalar("SELECT count(*) FROM pg_namespace WHERE nspname = 'causeway'");
        let there: i64 = bounded(CONNECT, there.fetch_one(&mut *connection)).await.map_err(error)?;
        // Only where it is missing: a user who may not make schemas can be given one.
        if there == 0 {
            let make = sqlx::raw_sql("CREATE SCHEMA causeway");
            bounded(CONNECT, sqlx::Executor::execute(&mut *connection, make)).await.map_err(error)?;
        }
        let run = async {
            let slow = sqlx::raw_sql("SET statement_timeout = 0");
            sqlx::Executor::execute(&mut *connection, slow).await?;
            MIGRATIONS.run_direct(None, &mut *connection, false).await?;
            let quick = sqlx::raw_sql("RESET statement_timeout");
            sqlx::Executor::execute(&mut *connection, quick).await?;
            Ok(())
        };
        let outcome = tokio::time::timeout(MIGRATE, run).await.unwrap_or_else(|_| {
            let late = io::Error::new(io::ErrorKind::TimedOut, "it was not done in time");
            Err(MigrateError::Execute(sqlx::Error::Io(late)))
        });
        outcome.map_err(|source| match source {
            MigrateError::VersionMissing(migration) => StoreError::NewerSchema { path: self.path(), migration },
            MigrateError::Execute(source) => self.error("migrating", source),
            source => StoreError::Migrate { path: self.path(), source },
        })
    }

    /// Says what an error means for this database.
    pub fn error(&self, doing: &'static str, source: sqlx::Error) -> StoreError {
        let path = self.path();
        let code = source.as_database_error().and_then(|error| error.code()).unwrap_or_default();
        match &*code {
            // lock_not_available
            "55P03" => StoreError::Busy { path, waited_ms: BUSY.as_millis() as u64 },
            // data_corrupted, index_corrupted
            "XX001" | "XX002" => {
                let (detail, remedy) = (source.to_string(), "restore the database from a backup");
                StoreError::Corrupt { path, detail, remedy }
            }
            // insufficient_privilege
            "42501" => StoreError::Denied { doing, path, detail: source.to_string() },
            _ if is_lost(&source) => StoreError::Unreachable { doing, path, detail: source.to_string() },
            _ => StoreError::Sql { doing, path, source },
        }
    }
}

/// A name by which people know the process, and we know our own sessions: `causeway`, machine, process, and what makes
/// it another one in each run.
fn name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let run = RandomState::new().hash_one(std::process::id()) & 0xffff_ffff;
    let tail = format!(" {} {run:08x}", std::process::id());
    // Room for the parts' names.
    let most = NAME - "causeway ".len() - tail.len() - " inventory".len();
    let host = host.trim();
    let host = host.get(..host.floor_char_boundary(most)).unwrap_or_default();
    format!("causeway {host}{tail}")
}
