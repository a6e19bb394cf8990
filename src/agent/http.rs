//! Asks an Envoy's admin interface, over TCP or a Unix socket.

use std::io;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::AdminAddress;
use super::envoy::{self, Counters, Observation, ServerInfo};
use super::tracker::Silence;

/// A full set of answers takes milliseconds; Envoy's main thread can be busy for seconds with a
/// large update.
const TIMEOUT: Duration = Duration::from_secs(2);

/// How old the large and constant part of what is read may be.
const SERVER_INFO_AGE: Duration = Duration::from_secs(5);

/// With our mask a listener takes some 200 bytes, a failed one its whole configuration.
const MAX_BODY: usize = 64 * 1024 * 1024;

/// Why a reading failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error("cannot connect")]
    Connect(#[source] io::Error),
    #[error("no answer within {} s", TIMEOUT.as_secs())]
    Timeout,
    #[error("HTTP failed at {path}")]
    Http {
        path: &'static str,
        #[source]
        source: hyper::Error,
    },
    #[error("cannot read the answer to {path}: {reason}")]
    Body { path: &'static str, reason: String },
    #[error("{path} was answered with {status}")]
    Status { path: &'static str, status: StatusCode },
    #[error(transparent)]
    Parse(#[from] envoy::ParseError),
}

impl ReadError {
    /// Whether the error proves that no Envoy is there.
    pub fn silence(&self) -> Silence {
        use io::ErrorKind::{ConnectionRefused, NotFound};
        match self {
            Self::Connect(error) if matches!(error.kind(), ConnectionRefused | NotFound) => Silence::Refused,
            _ => Silence::Unclear,
        }
    }
}

/// Reads one Envoy again and again.
pub(super) struct Reader {
    admin: AdminAddress,
    /// What changes only with a restart, and when it was read.
    server: Option<(ServerInfo, Instant)>,
    counters: Counters,
}

impl Reader {
    pub fn new(admin: AdminAddress) -> Self {
        Self { admin, server: None, counters: Counters::default() }
    }

    /// Reads everything once, on a connection of its own: one that is refused is how we learn at
    /// once that the Envoy is gone.
    pub async fn observe(&mut self) -> Result<Observation, ReadError> {
        let admin = self.admin.clone();
        let read = async { self.read(&mut connect(&admin).await?).await };
        let result = tokio::time::timeout(TIMEOUT, read).await.unwrap_or(Err(ReadError::Timeout));
        if result.is_err() {
            // What answers next may be another Envoy.
            self.server = None;
        }
        result
    }

    async fn read(&mut self, sender: &mut Sender) -> Result<Observation, ReadError> {
        let phase = envoy::phase(&ask(sender, Method::GET, envoy::READY).await?.1);
        let counters = envoy::counters(&get_ok(sender, envoy::STATS).await?)?;
        let server = self.server(sender, counters).await?;
        let dump = get_ok(sender, envoy::DUMP).await?;
        let active = envoy::active_addresses(&get_ok(sender, envoy::LISTENERS).await?)?;
        let listeners = envoy::dynamic_listeners(&dump, &active)?;
        Ok(Observation { server, phase, counters, listeners })
    }

    /// A counter that went back shows a restart that was too quick to be seen as a refusal.
    async fn server(&mut self, sender: &mut Sender, counters: Counters) -> Result<ServerInfo, ReadError> {
        let restarted = counters.update_attempt < self.counters.update_attempt;
        self.counters = counters;
        match &self.server {
            Some((server, read)) if !restarted && read.elapsed() < SERVER_INFO_AGE => Ok(server.clone()),
            _ => {
                let server = envoy::server_info(&get_ok(sender, envoy::SERVER_INFO).await?)?;
                self.server = Some((server.clone(), Instant::now()));
                Ok(server)
            }
        }
    }
}

type Sender = http1::SendRequest<Empty<Bytes>>;

async fn connect(admin: &AdminAddress) -> Result<Sender, ReadError> {
    match admin {
        AdminAddress::Tcp(address) => shake_hands(TcpStream::connect(address).await.map_err(ReadError::Connect)?).await,
        AdminAddress::Unix(path) => shake_hands(UnixStream::connect(path).await.map_err(ReadError::Connect)?).await,
    }
}

async fn shake_hands(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Result<Sender, ReadError> {
    let shaken = http1::handshake(TokioIo::new(stream)).await;
    let (sender, connection) = shaken.map_err(|source| ReadError::Http { path: "/", source })?;
    // Ends with the sender, also when we are given up for being slow.
    tokio::spawn(connection);
    Ok(sender)
}

/// Has an Envoy fail its health checks. From then on it is `DRAINING`, and asks whoever has a connection to go.
pub(super) async fn fail_health_checks(admin: &AdminAddress) -> Result<(), ReadError> {
    let told = async { ok(&mut connect(admin).await?, Method::POST, envoy::FAIL).await.map(drop) };
    tokio::time::timeout(TIMEOUT, told).await.unwrap_or(Err(ReadError::Timeout))
}

/// Whether an Envoy may still be there: not when its admin interface refuses connections.
pub(super) async fn may_be_there(admin: &AdminAddress) -> bool {
    let connected = tokio::time::timeout(TIMEOUT, connect(admin)).await.unwrap_or(Err(ReadError::Timeout));
    connected.map_or_else(|error| !matches!(error.silence(), Silence::Refused), |_| true)
}

async fn get_ok(sender: &mut Sender, path: &'static str) -> Result<Bytes, ReadError> {
    ok(sender, Method::GET, path).await
}

async fn ok(sender: &mut Sender, method: Method, path: &'static str) -> Result<Bytes, ReadError> {
    match ask(sender, method, path).await? {
        (StatusCode::OK, body) => Ok(body),
        (status, _) => Err(ReadError::Status { path, status }),
    }
}

async fn ask(sender: &mut Sender, method: Method, path: &'static str) -> Result<(StatusCode, Bytes), ReadError> {
    let failed = |source| ReadError::Http { path, source };
    sender.ready().await.map_err(failed)?;
    let request = Request::builder().method(method).uri(path).header(hyper::header::HOST, "envoy-admin");
    let request = request.body(Empty::new()).map_err(|error| ReadError::Body { path, reason: error.to_string() })?;
    let response = sender.send_request(request).await.map_err(failed)?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_BODY).collect().await;
    let body = body.map_err(|error| ReadError::Body { path, reason: error.to_string() })?;
    Ok((status, body.to_bytes()))
}
