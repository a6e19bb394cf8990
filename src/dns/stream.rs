//! Answers over TCP (RFC 7766). Not hickory's own loop, which takes any number of connections (until
//! the process has no file descriptor left, for xDS neither) and ends when a client aborts at the
//! wrong moment.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_server::net::xfer::Protocol;
use hickory_server::proto::op::{Message, OpCode, ResponseCode};
use hickory_server::server::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::handler::Handler;

/// Connections at a time. TCP is for the few answers that are too large for a datagram; whoever
/// comes above this waits in the kernel's backlog until an idle one is closed.
pub(super) const CONNECTIONS: usize = 256;
/// A client has this long for its next question, and to take an answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long accepting rests after an error, such as a lack of file descriptors.
const PAUSE: Duration = Duration::from_millis(50);
/// A DNS header, in bytes.
const HEADER: usize = 12;

/// Accepts until `shutdown`; then ends all connections.
pub(super) async fn serve(listener: TcpListener, handler: &Handler, shutdown: &CancellationToken) {
    let free = Arc::new(Semaphore::new(CONNECTIONS));
    let open = TaskTracker::new();
    loop {
        let accepted = async {
            // Never closed, so there is always a permit to come.
            let permit = free.clone().acquire_owned().await.ok();
            listener.accept().await.map(|(stream, client)| (stream, client, permit))
        };
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = accepted => accepted,
        };
        match accepted {
            Ok((stream, client, permit)) => {
                let (handler, shutdown) = (handler.clone(), shutdown.clone());
                open.spawn(async move {
                    let _permit = permit;
                    tokio::select! {
                        () = shutdown.cancelled() => {}
                        ended = converse(stream, client, &handler) => {
                            if let Err(error) = ended {
                                tracing::debug!(%client, %error, "a DNS connection ended");
                            }
                        }
                    }
                });
            }
            Err(error) => {
                tracing::debug!(%error, "a DNS connection could not be accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    open.close();
    open.wait().await;
}

/// Answers one question after the other, in their order.
async fn converse(mut stream: TcpStream, client: SocketAddr, handler: &Handler) -> io::Result<()> {
    // Answers are whole messages; none is to wait for more.
    stream.set_nodelay(true)?;
    loop {
        let question = timeout(PATIENCE, read_framed(&mut stream)).await??;
        // Nothing sensible comes from whoever sends what is no question at all.
        let Some(answer) = answer(question, client, handler) else { return Ok(()) };
        let Ok(length) = u16::try_from(answer.len()) else { return Ok(()) };
        let mut framed = Vec::with_capacity(answer.len() + 2);
        framed.extend_from_slice(&length.to_be_bytes());
        framed.extend_from_slice(&answer);
        timeout(PATIENCE, stream.write_all(&framed)).await??;
    }
}

async fn read_framed(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = usize::from(stream.read_u16().await?);
    // Grows with what comes, so that a length alone costs no memory.
    let mut message = Vec::new();
    stream.take(length as u64).read_to_end(&mut message).await?;
    if message.len() == length { Ok(message) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// The answer, or nothing for what is not a question.
pub(crate) fn answer(bytes: Vec<u8>, client: SocketAddr, handler: &Handler) -> Option<Vec<u8>> {
    let header: &[u8; HEADER] = bytes.first_chunk()?;
    let id = u16::from_be_bytes([header[0], header[1]]);
    let op_code = OpCode::from_u8((header[2] >> 3) & 0x0f);
    // An answer must not be answered.
    if header[2] & 0x80 != 0 {
        return None;
    }
    let error = |code| Message::error_msg(id, op_code, code).to_vec().ok();
    match Request::from_bytes(bytes, client, Protocol::Tcp) {
        Ok(request) => handler.encoded(&request).ok().or_else(|| error(ResponseCode::ServFail)),
        Err(_) => error(ResponseCode::FormErr),
    }
}
