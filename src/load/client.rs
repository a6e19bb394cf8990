//! One client on its connection.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use h2::client::{Connection, ResponseFuture};
use h2::{Ping, RecvStream, SendStream};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tonic::Status;
use tonic::codegen::http::{HeaderMap, Method, Request, StatusCode, Uri, uri};

use super::scanner::Scanner;
use super::session::Session;
use super::{Board, Error, Profile, Reading, Target};
use crate::ads::Protocol;

/// How far a server may send ahead, on a stream and on its connection: as much as an Envoy allows by default.
const WINDOW: u32 = 16 * 1024 * 1024;

/// What lasts over a client's connections.
pub(super) struct Client {
    pub(super) target: Target,
    pub(super) profile: Arc<Profile>,
    pub(super) board: Arc<Board>,
    pub(super) session: Session,
}

/// A stream that is open, with all that its task has to look after.
struct Stream {
    connection: Connection<TcpStream, Bytes>,
    requests: SendStream<Bytes>,
    response: Option<ResponseFuture>,
    body: Option<RecvStream>,
    scanner: Scanner,
}

/// Counts a stream as open for as long as it lives.
struct Open(Arc<Board>);

impl Open {
    fn new(board: &Arc<Board>) -> Self {
        board.stream_opened();
        Self(board.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.stream_closed();
    }
}

impl Client {
    /// Connects and lives until the stream ends, which is an error.
    pub(super) async fn live(&mut self, gate: &Semaphore) -> Result<(), Error> {
        let place = gate.acquire().await;
        let mut stream = self.connect().await?;
        drop(place);
        let _open = Open::new(&self.board);
        match self.profile.reading {
            Reading::All => poll_fn(|cx| stream.poll(&mut self.session, cx)).await,
            Reading::Nothing => stream.subscribe_only(&mut self.session).await,
        }
    }

    async fn connect(&self) -> Result<Stream, Error> {
        let address = self.target.address;
        let failed = |source| Error::Connect { address, source };
        let start = Instant::now();
        let tcp = TcpStream::connect(address).await.map_err(failed)?;
        tcp.set_nodelay(true).map_err(failed)?;
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(WINDOW).initial_connection_window_size(WINDOW).enable_push(false);
        let (mut send, mut connection) = builder.handshake::<_, Bytes>(tcp).await?;
        // The kernel accepts connections that nobody has taken yet, and forgets some when there are many.
        let mut pings = connection.ping_pong().ok_or(Error::Closed)?;
        tokio::select! {
            pong = pings.ping(Ping::opaque()) => { pong?; }
            ended = &mut connection => return ended.map_err(Error::from).and(Err(Error::Closed)),
        }
        self.board.client_connected(start.elapsed());
        let (response, requests) = send.send_request(self.head()?, false)?;
        let scanner = Scanner::new(self.profile.protocol);
        Ok(Stream { connection, requests, response: Some(response), body: None, scanner })
    }

    fn head(&self) -> Result<Request<()>, Error> {
        let method = match self.profile.protocol {
            Protocol::Delta => "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources",
            Protocol::Sotw => "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources",
        };
        let authority = &self.target.authority;
        let wrong = |_| Error::Authority { authority: authority.clone() };
        let authority = uri::Authority::try_from(authority.as_str()).map_err(|_| wrong(()))?;
        let uri = Uri::builder().scheme("http").authority(authority).path_and_query(method);
        let request = Request::builder().method(Method::POST).uri(uri.build().map_err(|_| wrong(()))?);
        let request = request.header("content-type", "application/grpc").header("te", "trailers");
        request.body(()).map_err(|_| wrong(()))
    }
}

impl Stream {
    /// One turn: what has arrived is read and answered, and the answers are written, in one wake of one task.
    fn poll(&mut self, session: &mut Session, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        loop {
            for request in session.take_requests() {
                // HTTP/2 holds back what does not fit; an answer for each response is all there ever is.
                self.requests.send_data(request, false)?;
            }
            let closed = Pin::new(&mut self.connection).poll(cx);
            let read = self.read(session, cx)?;
            match (closed, read) {
                (_, Read::Some) => {}
                (Poll::Ready(Err(error)), Read::Nothing) => return Poll::Ready(Err(error.into())),
                (Poll::Ready(Ok(())), Read::Nothing) => return Poll::Ready(Err(Error::Closed)),
                (Poll::Pending, Read::Nothing) => return Poll::Pending,
            }
        }
    }

    fn read(&mut self, session: &mut Session, cx: &mut Context<'_>) -> Result<Read, Error> {
        if let Some(response) = &mut self.response {
            let Poll::Ready(head) = Pin::new(response).poll(cx) else { return Ok(Read::Nothing) };
            self.response = None;
            let head = head?;
            if head.status() != StatusCode::OK {
                return Err(Error::HttpStatus { status: head.status().as_u16() });
            }
            // An answer without a body has its status among the headers.
            if head.headers().contains_key("grpc-status") {
                return Err(status(head.headers()));
            }
            self.body = Some(head.into_body());
        }
        let Some(body) = &mut self.body else { return Ok(Read::Nothing) };
        let mut read = Read::Nothing;
        while let Poll::Ready(chunk) = body.poll_data(cx) {
            let Some(chunk) = chunk else {
                let Poll::Ready(trailers) = body.poll_trailers(cx) else { return Ok(read) };
                return Err(trailers?.map_or(Error::Closed, |trailers| status(&trailers)));
            };
            let chunk = chunk?;
            body.flow_control().release_capacity(chunk.len())?;
            self.scanner.feed(&chunk, session)?;
            read = Read::Some;
        }
        Ok(read)
    }

    /// Subscribes, and then keeps the connection without ever looking at it again.
    async fn subscribe_only(&mut self, session: &mut Session) -> Result<(), Error> {
        for request in session.take_requests() {
            self.requests.send_data(request, false)?;
        }
        // One turn writes the requests; what it reads on the way stays unanswered.
        poll_fn(|cx| match Pin::new(&mut self.connection).poll(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(())),
        })
        .await?;
        std::future::pending().await
    }
}

/// Whether there was something to read.
enum Read {
    Some,
    Nothing,
}

fn status(headers: &HeaderMap) -> Error {
    match Status::from_header_map(headers) {
        Some(status) => Error::Status { code: status.code() as u32, message: status.message().to_owned() },
        None => Error::Closed,
    }
}
