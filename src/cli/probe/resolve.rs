//! Names to addresses: a stub resolver that asks one server, so that a probe sees what that server
//! says and not what a cache in between remembers.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::time::timeout;

use crate::cli::Usage;
use crate::dns::{self, DnsError, LookupData, LookupRecord, Outcome, QueryType};

/// How many times the time for one question is waited in all; a lost datagram is sent again meanwhile.
const ATTEMPTS: u32 = 2;

/// A TTL of 0 would mean a lookup before each request.
const LEAST_TTL: Duration = Duration::from_secs(1);

/// Who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resolver {
    /// A DNS server.
    Server(SocketAddr),
    /// The machine's own resolver.
    System,
}

impl Resolver {
    /// Reads `IP:PORT`, `IP` (port 53) or `system`.
    pub fn parse(text: &str) -> Result<Self, Usage> {
        if text == "system" {
            return Ok(Resolver::System);
        }
        let with_port = text.parse().ok();
        let server = with_port.or_else(|| text.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, 53)));
        let wrong = || Usage(format!("--dns `{text}` is not IP:PORT, such as 127.0.0.1:5353, nor `system`"));
        server.map(Resolver::Server).ok_or_else(wrong)
    }
}

/// Which addresses are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
    /// Both.
    Both,
}

impl Wanted {
    fn keeps(self, address: IpAddr) -> bool {
        match self {
            Wanted::V4 => address.is_ipv4(),
            Wanted::V6 => address.is_ipv6(),
            Wanted::Both => true,
        }
    }
}

/// Why a name has no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ResolveError {
    /// NXDOMAIN.
    #[error("{0} says that there is no such name (NXDOMAIN)")]
    NoName(SocketAddr),
    /// The name is there, without an address of the wanted kind.
    #[error("the name has no address of the wanted kind")]
    NoAddress,
    /// The server refuses or fails.
    #[error("{0} answers {1}")]
    Answer(SocketAddr, String),
    /// The server cannot be asked, or says nothing.
    #[error("cannot ask {0}: {1}")]
    Unreachable(SocketAddr, String),
    /// The name is none.
    #[error("is not a DNS name: {0}")]
    BadName(String),
    /// The machine's own resolver says no.
    #[error("{0}")]
    System(String),
}

/// A name's addresses, in turn, looked up anew when their time to live is over.
pub(super) struct Names {
    resolver: Resolver,
    host: String,
    wanted: Wanted,
    timeout: Duration,
    known: RefCell<Known>,
    lookup: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Known {
    addresses: Vec<IpAddr>,
    until: Option<Instant>,
    turn: usize,
    /// Why there are no addresses, for as long as `until` says: without it, a server that went
    /// silent would be waited for once for each request.
    failed: Option<ResolveError>,
}

impl Names {
    /// The addresses of `host`, which may be an address itself. `timeout` is for one question.
    pub fn new(resolver: Resolver, host: String, wanted: Wanted, timeout: Duration) -> Self {
        Self { resolver, host, wanted, timeout, known: RefCell::default(), lookup: tokio::sync::Mutex::new(()) }
    }

    /// The next address.
    pub async fn next(&self) -> Result<IpAddr, ResolveError> {
        if let Some(known) = self.take() {
            return known;
        }
        // One lookup at a time; those who waited find its answer.
        let _one = self.lookup.lock().await;
        if let Some(known) = self.take() {
            return known;
        }
        let found = self.look_up().await.and_then(|(mut addresses, ttl)| {
            addresses.retain(|address| self.wanted.keeps(*address));
            if addresses.is_empty() { Err(ResolveError::NoAddress) } else { Ok((addresses, ttl)) }
        });
        {
            let mut known = self.known.borrow_mut();
            let (addresses, ttl, failed) = match found {
                Ok((addresses, ttl)) => (addresses, ttl, None),
                Err(error) => (Vec::new(), Some(LEAST_TTL), Some(error)),
            };
            known.addresses = addresses;
            known.until = ttl.map(|ttl| Instant::now() + ttl.max(LEAST_TTL));
            known.failed = failed;
        }
        self.take().unwrap_or(Err(ResolveError::NoAddress))
    }

    /// What is known and still holds.
    fn take(&self) -> Option<Result<IpAddr, ResolveError>> {
        let mut known = self.known.borrow_mut();
        if known.until.is_some_and(|until| Instant::now() >= until) {
            *known = Known { turn: known.turn, ..Known::default() };
        }
        if let Some(error) = &known.failed {
            return Some(Err(error.clone()));
        }
        if known.addresses.is_empty() {
            return None;
        }
        let turn = known.turn;
        known.turn = turn.wrapping_add(1);
        known.addresses.get(turn % known.addresses.len()).copied().map(Ok)
    }

    async fn look_up(&self) -> Result<(Vec<IpAddr>, Option<Duration>), ResolveError> {
        if let Ok(address) = self.host.parse::<IpAddr>() {
            return Ok((vec![address], None));
        }
        match self.resolver {
            Resolver::System => {
                let found = tokio::net::lookup_host((self.host.as_str(), 0)).await;
                let found = found.map_err(|e| ResolveError::System(e.to_string()))?;
                Ok((found.map(|socket| socket.ip()).collect(), Some(LEAST_TTL)))
            }
            Resolver::Server(server) => both(server, &self.host, self.wanted, self.timeout).await,
        }
    }
}

type Found = (Vec<IpAddr>, Option<Duration>);

/// Asks for A and AAAA. One of them is enough; an error counts only when neither gave an address.
async fn both(server: SocketAddr, host: &str, wanted: Wanted, limit: Duration) -> Result<Found, ResolveError> {
    let v4 = async { if wanted == Wanted::V6 { Ok(Vec::new()) } else { ask(server, host, QueryType::A, limit).await } };
    let v6 =
        async { if wanted == Wanted::V4 { Ok(Vec::new()) } else { ask(server, host, QueryType::Aaaa, limit).await } };
    let (v4, v6) = tokio::join!(v4, v6);
    let mut found = Vec::new();
    let mut failure = None;
    for answer in [v4, v6] {
        match answer {
            Ok(addresses) => found.extend(addresses),
            Err(error) => failure = Some(error),
        }
    }
    if found.is_empty() {
        return Err(failure.unwrap_or(ResolveError::NoAddress));
    }
    let ttl = found.iter().map(|(_, ttl)| *ttl).min().map(|seconds| Duration::from_secs(u64::from(seconds)));
    Ok((found.into_iter().map(|(address, _)| address).collect(), ttl))
}

/// Asks one question. A denial or refusal is a failure here: the probe needs an address.
async fn ask(
    server: SocketAddr,
    host: &str,
    kind: QueryType,
    limit: Duration,
) -> Result<Vec<(IpAddr, u32)>, ResolveError> {
    let unreachable = |reason: String| ResolveError::Unreachable(server, reason);
    let answer = match timeout(limit * ATTEMPTS, dns::lookup(server, host, kind)).await {
        Err(_) | Ok(Err(DnsError::Timeout { .. })) => {
            return Err(unreachable(format!("no answer within {limit:?}, {ATTEMPTS} times")));
        }
        Ok(Err(DnsError::Name { reason, .. })) => return Err(ResolveError::BadName(reason)),
        Ok(Err(DnsError::Io { source, .. })) => return Err(unreachable(source.to_string())),
        Ok(Err(other)) => return Err(unreachable(other.to_string())),
        Ok(Ok(answer)) => answer,
    };
    match answer.outcome {
        Outcome::Answered | Outcome::NoData => {}
        Outcome::NoSuchName => return Err(ResolveError::NoName(server)),
        Outcome::Refused => {
            return Err(ResolveError::Answer(server, "that it does not serve the name's zone (REFUSED)".to_owned()));
        }
        Outcome::Failed(code) => return Err(ResolveError::Answer(server, code)),
    }
    let address = |record: &LookupRecord| match record.data {
        LookupData::Address(address) => Some((address, record.ttl)),
        _ => None,
    };
    Ok(answer.records.iter().filter_map(address).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_read_with_and_without_a_port() {
        let server = |text: &str| Resolver::Server(text.parse().unwrap());
        assert_eq!(Resolver::parse("127.0.0.1:5353").unwrap(), server("127.0.0.1:5353"));
        assert_eq!(Resolver::parse("::1").unwrap(), server("[::1]:53"));
        assert_eq!(Resolver::parse("system").unwrap(), Resolver::System);
        assert!(Resolver::parse("dns.example").unwrap_err().to_string().contains("127.0.0.1:5353"));
    }

    #[tokio::test]
    async fn addresses_need_no_server_and_obey_the_family() {
        let names = |host: &str, wanted| Names::new(Resolver::System, host.to_owned(), wanted, Duration::ZERO);
        assert_eq!(names("240.11.0.7", Wanted::Both).next().await, Ok("240.11.0.7".parse().unwrap()));
        assert_eq!(names("240.11.0.7", Wanted::V6).next().await, Err(ResolveError::NoAddress));
    }

    #[tokio::test]
    async fn a_silent_server_is_not_waited_for_by_every_request() {
        let silent = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let server = Resolver::Server(silent.local_addr().unwrap());
        let names = Names::new(server, "shop.example".to_owned(), Wanted::V4, Duration::from_millis(100));
        assert!(matches!(names.next().await, Err(ResolveError::Unreachable(..))));
        let begun = Instant::now();
        assert!(matches!(names.next().await, Err(ResolveError::Unreachable(..))));
        assert!(begun.elapsed() < Duration::from_millis(50), "{:?}", begun.elapsed());
    }
}
