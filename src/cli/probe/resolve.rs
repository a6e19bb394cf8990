//! Names to addresses: a stub resolver that asks one server, so that a probe sees what that server
//! says and not what a cache in between remembers.

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use hickory_server::proto::op::{Edns, Message, Query, ResponseCode};
use hickory_server::proto::rr::{Name, RData, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::cli::Usage;

/// What fits into a packet on every path (RFC 9715).
const UDP_PAYLOAD_BYTES: u16 = 1232;

/// How often a question is sent over UDP.
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
    let name = Name::from_utf8(format!("{host}.")).map_err(|e| ResolveError::BadName(e.to_string()))?;
    let v4 =
        async { if wanted == Wanted::V6 { Ok(Vec::new()) } else { ask(server, &name, RecordType::A, limit).await } };
    let v6 =
        async { if wanted == Wanted::V4 { Ok(Vec::new()) } else { ask(server, &name, RecordType::AAAA, limit).await } };
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

/// Asks one question: over UDP, and over TCP when the answer did not fit.
async fn ask(
    server: SocketAddr,
    name: &Name,
    kind: RecordType,
    limit: Duration,
) -> Result<Vec<(IpAddr, u32)>, ResolveError> {
    let unreachable = |e: io::Error| ResolveError::Unreachable(server, e.to_string());
    let mut question = Message::query();
    question.metadata.recursion_desired = true;
    question.add_query(Query::query(name.clone(), kind));
    let mut edns = Edns::new();
    edns.set_max_payload(UDP_PAYLOAD_BYTES);
    question.set_edns(edns);
    let bytes = question.to_vec().map_err(|e| ResolveError::BadName(e.to_string()))?;
    let mut answer = None;
    for _ in 0..ATTEMPTS {
        match timeout(limit, over_udp(server, &question, &bytes)).await {
            Ok(Ok(message)) => {
                answer = Some(message);
                break;
            }
            // The port is closed: asking again gets the same.
            Ok(Err(error)) => return Err(unreachable(error)),
            Err(_) => {}
        }
    }
    let late = || ResolveError::Unreachable(server, format!("no answer within {limit:?}, {ATTEMPTS} times"));
    let mut answer = answer.ok_or_else(late)?;
    if answer.metadata.truncation {
        let whole = timeout(limit, over_tcp(server, &question, &bytes)).await.map_err(|_| late())?;
        answer = whole.map_err(unreachable)?;
    }
    match answer.metadata.response_code {
        ResponseCode::NoError => {}
        ResponseCode::NXDomain => return Err(ResolveError::NoName(server)),
        other => return Err(ResolveError::Answer(server, other.to_string())),
    }
    let address = |data: &RData| match data {
        RData::A(a) => Some(IpAddr::V4(a.0)),
        RData::AAAA(a) => Some(IpAddr::V6(a.0)),
        _ => None,
    };
    Ok(answer.answers.iter().filter_map(|record| Some((address(&record.data)?, record.ttl))).collect())
}

fn answers(message: &Message, question: &Message) -> bool {
    message.metadata.id == question.metadata.id
        && message.metadata.message_type == hickory_server::proto::op::MessageType::Response
        && (message.queries.is_empty() || message.queries == question.queries)
}

async fn over_udp(server: SocketAddr, question: &Message, bytes: &[u8]) -> io::Result<Message> {
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(bytes).await?;
    let mut buffer = vec![0; 65_535];
    loop {
        let length = socket.recv(&mut buffer).await?;
        // What is no answer to this question is not for us: late, or forged.
        match Message::from_vec(&buffer[..length]) {
            Ok(message) if answers(&message, question) => return Ok(message),
            _ => {}
        }
    }
}

async fn over_tcp(server: SocketAddr, question: &Message, bytes: &[u8]) -> io::Result<Message> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), bytes].concat()).await?;
    let mut buffer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut buffer).await?;
    let message = Message::from_vec(&buffer).map_err(io::Error::other)?;
    if answers(&message, question) { Ok(message) } else { Err(io::Error::other("the answer is to another question")) }
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
        let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let server = Resolver::Server(silent.local_addr().unwrap());
        let names = Names::new(server, "shop.example".to_owned(), Wanted::V4, Duration::from_millis(100));
        assert!(matches!(names.next().await, Err(ResolveError::Unreachable(..))));
        let begun = Instant::now();
        assert!(matches!(names.next().await, Err(ResolveError::Unreachable(..))));
        assert!(begun.elapsed() < Duration::from_millis(50), "{:?}", begun.elapsed());
    }
}
