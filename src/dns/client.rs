//! A small stub client, for `causeway probe`: one question to one server, UDP first, TCP where the
//! answer was truncated. It neither caches nor follows aliases.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hickory_server::proto::op::{Edns, Message, MessageType, Query, ResponseCode};
use hickory_server::proto::rr::{RData, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, timeout_at};

use super::table::domain_name;
use super::{DnsError, MAX_UDP_PAYLOAD};

/// How long one datagram's answer, or the whole of a TCP exchange, is waited for.
const PATIENCE: Duration = Duration::from_secs(2);
/// Datagrams sent before giving up.
const ATTEMPTS: u32 = 2;

/// Types of records that can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueryType {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// Ports and targets.
    Srv,
    /// Name servers.
    Ns,
    /// The zone's start of authority.
    Soa,
}

impl From<QueryType> for RecordType {
    fn from(kind: QueryType) -> Self {
        match kind {
            QueryType::A => RecordType::A,
            QueryType::Aaaa => RecordType::AAAA,
            QueryType::Srv => RecordType::SRV,
            QueryType::Ns => RecordType::NS,
            QueryType::Soa => RecordType::SOA,
        }
    }
}

/// What the server made of the question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There are records.
    Answered,
    /// The name exists, but has no record of this type.
    NoData,
    /// There is no such name.
    NoSuchName,
    /// The server does not serve the name's zone.
    Refused,
    /// Any other response code, in words.
    Failed(String),
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LookupData {
    /// A or AAAA.
    Address(IpAddr),
    /// SRV.
    Service {
        /// The port.
        port: u16,
        /// The name to connect to, with its final dot.
        target: String,
    },
    /// Any other, in its text form.
    Other(String),
}

/// A record of the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LookupRecord {
    /// Its owner's name, with its final dot.
    pub name: String,
    /// How long it may be kept, in seconds.
    pub ttl: u32,
    /// What it says.
    pub data: LookupData,
}

/// The answer to one question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lookup {
    /// What the server made of the question.
    pub outcome: Outcome,
    /// The answer's records, in the server's order.
    pub records: Vec<LookupRecord>,
    /// The server is the authority for the name.
    pub authoritative: bool,
    /// The answer came over TCP, as it was too large for a datagram.
    pub over_tcp: bool,
}

impl Lookup {
    /// The addresses among the records.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let address = |record: &LookupRecord| match record.data {
            LookupData::Address(address) => Some(address),
            _ => None,
        };
        self.records.iter().filter_map(address).collect()
    }
}

/// Asks `server` for the records of `name`, an absolute name with or without its final dot.
///
/// # Errors
/// When the name is none, the server is unreachable or silent (4 seconds over UDP, 2 over TCP), or
/// what it says is not DNS. A refusal or a denial is an answer, not an error.
pub async fn lookup(server: SocketAddr, name: &str, kind: QueryType) -> Result<Lookup, DnsError> {
    let name = domain_name(name).map_err(|reason| DnsError::Name { name: name.to_owned(), reason })?;
    let query = Query::query(name, kind.into());
    let over_udp = ask_udp(server, &query).await?;
    if !over_udp.metadata.truncation {
        return Ok(read(over_udp, false));
    }
    let waited_ms = PATIENCE.as_millis() as u64;
    let deadline = Instant::now() + PATIENCE;
    let over_tcp =
        timeout_at(deadline, ask_tcp(server, &query)).await.map_err(|_| DnsError::Timeout { server, waited_ms })??;
    Ok(read(over_tcp, true))
}

fn question(query: &Query) -> Message {
    let mut message = Message::query();
    // For resolvers that are asked in between; an authority pays it no heed (RFC 1034, 4.3.1).
    message.metadata.recursion_desired = true;
    message.add_query(query.clone());
    let mut edns = Edns::new();
    edns.set_max_payload(MAX_UDP_PAYLOAD);
    message.set_edns(edns);
    message
}

fn encode(server: SocketAddr, message: &Message) -> Result<Vec<u8>, DnsError> {
    message.to_vec().map_err(|e| DnsError::Message { server, detail: e.to_string() })
}

/// Whether the message answers the question and nobody else's.
fn answers(reply: &Message, asked: &Message) -> bool {
    reply.metadata.message_type == MessageType::Response
        && reply.metadata.id == asked.metadata.id
        && (reply.queries == asked.queries || reply.queries.is_empty())
}

async fn ask_udp(server: SocketAddr, query: &Query) -> Result<Message, DnsError> {
    let io_error = |source: io::Error| DnsError::Io { server, protocol: "UDP", source };
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await.map_err(io_error)?;
    socket.connect(server).await.map_err(io_error)?;
    let mut buffer = vec![0; usize::from(u16::MAX)];
    for _ in 0..ATTEMPTS {
        let asked = question(query);
        socket.send(&encode(server, &asked)?).await.map_err(io_error)?;
        let deadline = Instant::now() + PATIENCE;
        // What does not parse or answers something else may be late or forged: the right one may
        // still come.
        while let Ok(received) = timeout_at(deadline, socket.recv(&mut buffer)).await {
            let length = received.map_err(io_error)?;
            match buffer.get(..length).map(Message::from_vec) {
                Some(Ok(reply)) if answers(&reply, &asked) => return Ok(reply),
                _ => tracing::debug!(%server, length, "a datagram that is not the answer was left out"),
            }
        }
    }
    let waited_ms = (PATIENCE * ATTEMPTS).as_millis() as u64;
    Err(DnsError::Timeout { server, waited_ms })
}

async fn ask_tcp(server: SocketAddr, query: &Query) -> Result<Message, DnsError> {
    let io_error = |source: io::Error| DnsError::Io { server, protocol: "TCP", source };
    let message_error = |detail: String| DnsError::Message { server, detail };
    let asked = question(query);
    let body = encode(server, &asked)?;
    let length = u16::try_from(body.len()).map_err(|_| message_error("the question is too long".to_owned()))?;
    let mut stream = TcpStream::connect(server).await.map_err(io_error)?;
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend_from_slice(&body);
    stream.write_all(&framed).await.map_err(io_error)?;
    let length = stream.read_u16().await.map_err(io_error)?;
    let mut buffer = vec![0; usize::from(length)];
    stream.read_exact(&mut buffer).await.map_err(io_error)?;
    let reply = Message::from_vec(&buffer).map_err(|e| message_error(e.to_string()))?;
    if !answers(&reply, &asked) {
        return Err(message_error("the answer is to another question".to_owned()));
    }
    Ok(reply)
}

/// What an answer says.
pub(crate) fn read(message: Message, over_tcp: bool) -> Lookup {
    let records: Vec<LookupRecord> = message
        .answers
        .iter()
        .map(|record| LookupRecord {
            name: record.name.to_string(),
            ttl: record.ttl,
            data: match &record.data {
                RData::SRV(srv) => LookupData::Service { port: srv.port, target: srv.target.to_string() },
                other => other.ip_addr().map_or_else(|| LookupData::Other(other.to_string()), LookupData::Address),
            },
        })
        .collect();
    let outcome = match message.metadata.response_code {
        ResponseCode::NoError if records.is_empty() => Outcome::NoData,
        ResponseCode::NoError => Outcome::Answered,
        ResponseCode::NXDomain => Outcome::NoSuchName,
        ResponseCode::Refused => Outcome::Refused,
        other => Outcome::Failed(other.to_string()),
    };
    Lookup { outcome, records, authoritative: message.metadata.authoritative, over_tcp }
}
