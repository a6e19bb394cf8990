//! Addresses and durations as people write them.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::ConfigError;

/// The longest path of a Unix socket in bytes, without the final zero (unix(7), `sun_path`).
const UNIX_PATH_MAX: usize = 107;

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddr {
    /// `127.0.0.1:18000`, `[::1]:18000`.
    Tcp(SocketAddr),
    /// `unix:/run/causeway.sock`.
    Unix(PathBuf),
}

impl fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenAddr::Tcp(socket) => write!(f, "{socket}"),
            ListenAddr::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl FromStr for ListenAddr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some(path) = text.strip_prefix("unix:") else { return parse_socket(text).map(ListenAddr::Tcp) };
        let path = unix_path(path);
        if path.is_empty() {
            return Err("the path is missing; write unix:/run/causeway.sock".to_owned());
        }
        if path.len() > UNIX_PATH_MAX {
            return Err(format!("the path has {} bytes, and a socket's may have {UNIX_PATH_MAX}", path.len()));
        }
        Ok(ListenAddr::Unix(PathBuf::from(path)))
    }
}

/// The path of what follows `unix:`, with one slash in front at most. `unix:///run/x` is what gRPC clients write for
/// `unix:/run/x`.
pub(crate) fn unix_path(text: &str) -> &str {
    let path = text.strip_prefix("//").unwrap_or(text);
    let slashes = path.len() - path.trim_start_matches('/').len();
    path.get(slashes.saturating_sub(1)..).unwrap_or(path)
}

/// Reads `address:port`; `localhost:port` is `127.0.0.1:port`. Names are not looked up.
pub(super) fn parse_socket(text: &str) -> Result<SocketAddr, String> {
    if let Ok(socket) = text.parse() {
        return Ok(socket);
    }
    if let Some(port) = text.strip_prefix("localhost:").and_then(|p| p.parse().ok()) {
        return Ok(SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), port));
    }
    Err(match text.rsplit_once(':') {
        _ if text.parse::<IpAddr>().is_ok_and(|a| a.is_ipv6()) => format!("the port is missing; write [{text}]:PORT"),
        _ if text.parse::<IpAddr>().is_ok() => format!("the port is missing; write {text}:PORT"),
        None => "write it as 127.0.0.1:PORT or [::1]:PORT".to_owned(),
        Some(("", port)) => format!("the address is missing; write 127.0.0.1:{port}, or 0.0.0.0:{port} for all"),
        Some((host, port)) if port.parse::<u16>().is_err() => {
            format!("`{port}` is not a port (0 to 65535) after the address `{host}`")
        }
        Some((host, port)) => format!("`{host}` is not an IP address; write for example 127.0.0.1:{port}"),
    })
}

/// Like [`parse_socket`]; `none` means that the service is switched off.
pub(super) fn parse_socket_or_none(text: &str) -> Result<Option<SocketAddr>, String> {
    if text == "none" { Ok(None) } else { parse_socket(text).map(Some) }
}

pub(super) fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

/// Refuses an address that other machines can reach, unless the user said `--insecure`.
/// `flag` is the setting's name without dashes.
pub fn check_addr(flag: &'static str, address: SocketAddr, insecure: bool) -> Result<(), ConfigError> {
    if insecure || is_loopback(address.ip()) { Ok(()) } else { Err(ConfigError::NotLoopback { flag, address }) }
}

/// Reads a duration such as `5s`, `250ms`, `1m30s`, `2h`. Units are `ms`, `s`, `m` and `h`; a bare
/// number is refused, since half the world would read it as milliseconds.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    const EXAMPLES: &str = "write for example 500ms, 5s or 1m30s";
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(EXAMPLES.to_owned());
    }
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, tail) = rest.split_at(digits);
        let letters = tail.len() - tail.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
        let (unit, tail) = tail.split_at(letters);
        if number.is_empty() {
            return Err(format!("a number is missing before `{rest}`; {EXAMPLES}"));
        }
        let unit_ms = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "" => return Err(format!("a unit is missing after `{number}`; {EXAMPLES}")),
            _ => return Err(format!("`{unit}` is not a unit (ms, s, m, h); {EXAMPLES}")),
        };
        let part = number.parse::<u64>().ok().and_then(|n| n.checked_mul(unit_ms)).map(Duration::from_millis);
        total = part.and_then(|p| total.checked_add(p)).filter(|t| *t <= MAX_DURATION).ok_or_else(too_long)?;
        rest = tail;
    }
    Ok(total)
}

/// Far above any sensible timeout, and far below what overflows when added to a time.
const MAX_DURATION: Duration = Duration::from_secs(366 * 24 * 3600);

fn too_long() -> String {
    "is longer than a year".to_owned()
}
