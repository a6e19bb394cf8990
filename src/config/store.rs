//! Where the store is: a folder of SQLite files, or a database of a PostgreSQL server.

use std::fmt;
use std::net::Ipv6Addr;
use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};
use url::{Host, Url};

/// Where the store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreUrl {
    /// SQLite files in a folder.
    Sqlite(PathBuf),
    /// A database of a PostgreSQL server.
    Postgres(PostgresUrl),
}

impl StoreUrl {
    /// Reads `sqlite://<folder>` or `postgres://user:password@host:port/database?sslmode=…`.
    ///
    /// # Errors
    /// What to write instead, without any of what was written.
    pub fn parse(text: &str) -> Result<Self, String> {
        match scheme(text) {
            Some(("sqlite", "")) => {
                Err("there is no folder after sqlite://; name one, or leave --store out".to_owned())
            }
            Some(("sqlite", folder)) => Ok(Self::Sqlite(PathBuf::from(folder))),
            Some(("postgres" | "postgresql", _)) => PostgresUrl::parse(text).map(Self::Postgres),
            Some((scheme, _)) => Err(format!("`{scheme}://` is neither sqlite:// nor postgres://; {SHAPES}")),
            None => Err(format!("there is no scheme; {SHAPES}")),
        }
    }
}

/// A PostgreSQL server's database. What is shown of it has no password.
#[derive(Clone)]
pub struct PostgresUrl {
    secret: SecretString,
    shown: String,
    ipv6: Option<Ipv6Addr>,
    is_private: bool,
}

impl PartialEq for PostgresUrl {
    fn eq(&self, other: &Self) -> bool {
        self.secret() == other.secret()
    }
}

impl Eq for PostgresUrl {}

impl fmt::Display for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// Parameters that are understood; what is unknown may be a password that was mistyped, and is never shown.
const PARAMETERS: &[&str] =
    &["sslmode", "sslrootcert", "sslcert", "sslkey", "host", "port", "user", "password", "dbname"];
const SSL_MODES: &[&str] = &["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];

const SHAPES: &str = "write sqlite:///a/folder, or postgres://user@host:5432/database?sslmode=verify-full (the password in \
                      PGPASSWORD or in the file of PGPASSFILE)";

/// The scheme and what follows it. What stands before `://` further on may hold a password, and is none.
fn scheme(text: &str) -> Option<(&str, &str)> {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    text.split_once("://").filter(|(scheme, _)| scheme.bytes().all(is_inner))
}

/// The text as errors may show it: nothing of what follows the scheme, which may have a password anywhere.
pub(super) fn shown(text: &str) -> String {
    match scheme(text) {
        Some(("sqlite", _)) => text.to_owned(),
        Some((scheme, _)) => format!("{scheme}://…"),
        None => "…".to_owned(),
    }
}

impl PostgresUrl {
    fn parse(text: &str) -> Result<Self, String> {
        if text.contains('#') {
            return Err("`#` begins a fragment, which means nothing here; in a password write %23".to_owned());
        }
        let url = Url::parse(text).map_err(|error| format!("{error}; {SHAPES}"))?;
        let mut parts = Parts { user: url.username().to_owned(), host: String::new(), ..Parts::default() };
        url.host_str().unwrap_or_default().clone_into(&mut parts.host);
        parts.port = url.port();
        url.path().trim_start_matches('/').clone_into(&mut parts.database);
        for (key, value) in url.query_pairs() {
            parts.parameter(&key, &value)?;
        }
        if parts.database.is_empty() {
            return Err(format!("it names no database; {SHAPES}"));
        }
        let ipv6 = match url.host() {
            Some(Host::Ipv6(address)) => Some(address),
            _ => None,
        };
        let is_local = parts.host.is_empty() || is_loopback(&parts.host);
        let is_private = is_local || ["require", "verify-ca", "verify-full"].contains(&parts.ssl_mode.as_str());
        Ok(Self { secret: text.into(), shown: parts.to_string(), ipv6, is_private })
    }

    /// All of it, with the password.
    pub fn secret(&self) -> &str {
        self.secret.expose_secret()
    }

    /// The server's address where it is one of IPv6.
    pub fn ipv6(&self) -> Option<Ipv6Addr> {
        self.ipv6
    }

    /// Whether nobody on the way can read along: the server is on this machine, or TLS is asked for.
    pub fn is_private(&self) -> bool {
        self.is_private
    }
}

fn is_loopback(host: &str) -> bool {
    let plain = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || host.starts_with('/')
        || host.to_ascii_lowercase().starts_with("%2f")
        || plain.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// What is shown of a URL.
#[derive(Default)]
struct Parts {
    user: String,
    host: String,
    port: Option<u16>,
    database: String,
    ssl_mode: String,
}

impl Parts {
    fn parameter(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key {
            "sslmode" if !SSL_MODES.contains(&value) => {
                return Err(format!("sslmode is none of {}", SSL_MODES.join(", ")));
            }
            "sslmode" => value.clone_into(&mut self.ssl_mode),
            "host" => value.clone_into(&mut self.host),
            "user" => value.clone_into(&mut self.user),
            "dbname" => value.clone_into(&mut self.database),
            "port" => {
                let port = value.parse().map_err(|_| "the parameter port is no port: write 1 to 65535".to_owned())?;
                self.port = Some(port);
            }
            "password" | "sslrootcert" | "sslcert" | "sslkey" => {}
            _ => return Err(format!("one of its parameters is unknown; there are {}", PARAMETERS.join(", "))),
        }
        Ok(())
    }
}

impl fmt::Display for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("postgres://")?;
        if !self.user.is_empty() {
            write!(f, "{}@", self.user)?;
        }
        f.write_str(&self.host)?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        write!(f, "/{}", self.database)
    }
}
