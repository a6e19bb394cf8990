//! One HTTP/1.1 request on a connection of its own.

use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper::header;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum HttpError {
    /// No connection.
    #[error("connect: {0}")]
    Connect(#[source] io::Error),
    /// The request cannot be written down.
    #[error("request: {0}")]
    Request(#[from] hyper::http::Error),
    /// The other end closed, or does not speak HTTP/1.
    #[error("{}", plain(.0))]
    Protocol(#[from] hyper::Error),
    /// The answer is larger than is sensible.
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
}

/// hyper says "connection error" and keeps the reason in the source.
fn plain(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None if error.is_incomplete_message() => "closed before the answer was complete".to_owned(),
        None => error.to_string(),
    }
}

/// An answer.
#[derive(Debug)]
pub(super) struct Reply {
    /// The status code.
    pub status: u16,
    /// The body, whole.
    pub body: Bytes,
}

/// Connects to `address` and sends a GET for `path`, with `host` as the `Host` header. Takes as long
/// as it takes: the caller bounds the time.
pub(super) async fn get(address: SocketAddr, host: &str, path: &str, max_bytes: usize) -> Result<Reply, HttpError> {
    send(address, host, &Asked::of(Method::GET, path), max_bytes).await
}

/// What is asked of a server.
#[derive(Clone, Debug)]
pub(super) struct Asked<'a> {
    /// The method.
    pub method: Method,
    /// The path, with its query.
    pub path: &'a str,
    /// Headers beside those that every request has.
    pub headers: Vec<(&'static str, String)>,
    /// The body; may be empty.
    pub body: Bytes,
}

impl<'a> Asked<'a> {
    /// Without a body.
    pub fn of(method: Method, path: &'a str) -> Self {
        Self { method, path, headers: Vec::new(), body: Bytes::new() }
    }
}

/// As [`get`], for anything that can be asked.
pub(super) async fn send(
    address: SocketAddr,
    host: &str,
    asked: &Asked<'_>,
    max_bytes: usize,
) -> Result<Reply, HttpError> {
    let stream = TcpStream::connect(address).await.map_err(HttpError::Connect)?;
    stream.set_nodelay(true).map_err(HttpError::Connect)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Ends by itself when `sender` and the body are gone; its errors come out of those as well.
    tokio::spawn(connection);
    let mut request = Request::builder().method(asked.method.clone()).uri(asked.path);
    for (name, value) in &asked.headers {
        request = request.header(*name, value);
    }
    let request = request
        .header(header::HOST, host)
        .header(header::USER_AGENT, concat!("causeway/", env!("CARGO_PKG_VERSION")))
        .header(header::CONNECTION, "close")
        .body(Full::new(asked.body.clone()))?;
    let response = sender.send_request(request).await?;
    let status = response.status().as_u16();
    let body = match Limited::new(response.into_body(), max_bytes).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => return Err(HttpError::TooLarge(max_bytes)),
        Err(error) => match error.downcast::<hyper::Error>() {
            Ok(error) => return Err((*error).into()),
            Err(other) => return Err(HttpError::Connect(io::Error::other(other))),
        },
    };
    Ok(Reply { status, body })
}
