//! Asks an Envoy's admin interface, over TCP or a Unix socket.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::StatusCode;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::AdminAddress;
use super::envoy::{self, Observation};
use super::tracker::Silence;

/// A full set of answers takes milliseconds; Envoy's main thread can be busy for seconds with a
/// large update.
const TIMEOUT: Duration = Duration::from_secs(2);

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

/// Reads everything once, on a connection of its own: one that is refused is how we learn at once
/// that the Envoy is gone.
pub(super) async fn observe(admin: &AdminAddress) -> Result<Observation, ReadError> {
    let read = async {
        match admin {
            AdminAddress::Tcp(address) => {
                read_all(TcpStream::connect(address).await.map_err(ReadError::Connect)?).await
            }
            AdminAddress::Unix(path) => read_all(UnixStream::connect(path).await.map_err(ReadError::Connect)?).await,
        }
    };
    tokio::time::timeout(TIMEOUT, read).await.unwrap_or(Err(ReadError::Timeout))
}

async fn read_all(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Result<Observation, ReadError> {
    let shaken = http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = shaken.map_err(|source| ReadError::Http { path: "/", source })?;
    // Ends when the sender is dropped, so nothing is left behind.
    let connection = tokio::spawn(connection);
    let result = async {
        let server = envoy::server_info(&get(&mut sender, envoy::SERVER_INFO).await?)?;
        let counters = envoy::counters(&get(&mut sender, envoy::STATS).await?)?;
        let dump = get(&mut sender, envoy::DUMP).await?;
        let active = envoy::active_addresses(&get(&mut sender, envoy::LISTENERS).await?)?;
        let listeners = envoy::dynamic_listeners(&dump, &active)?;
        Ok(Observation { server, counters, listeners })
    }
    .await;
    drop(sender);
    connection.abort();
    result
}

async fn get(sender: &mut http1::SendRequest<Empty<Bytes>>, path: &'static str) -> Result<Bytes, ReadError> {
    let failed = |source| ReadError::Http { path, source };
    sender.ready().await.map_err(failed)?;
    let request = hyper::Request::get(path).header(hyper::header::HOST, "envoy-admin").body(Empty::new());
    let request = request.map_err(|error| ReadError::Body { path, reason: error.to_string() })?;
    let response = sender.send_request(request).await.map_err(failed)?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_BODY).collect().await;
    let body = body.map_err(|error| ReadError::Body { path, reason: error.to_string() })?.to_bytes();
    if status == StatusCode::OK { Ok(body) } else { Err(ReadError::Status { path, status }) }
}
