//! The sockets, and the two tasks that keep them served.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hickory_server::Server;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::DnsError;
use super::handler::Handler;
use super::table::Table;

/// A TCP connection without a request is closed after this (RFC 7766, section 6.2.3, wants seconds).
const TCP_IDLE: Duration = Duration::from_secs(10);
/// Answers of one connection that may wait for its client to read; then the connection ends.
const TCP_WAITING_ANSWERS: usize = 32;
/// How long a socket rests after its loop has ended by an error, so that it does not spin.
const PAUSE: Duration = Duration::from_millis(200);

/// Answers on both sockets until `shutdown`, from the table that is in the channel at each question.
///
/// hickory ends a socket's loop upon some errors that a single client can cause (a connection
/// aborted while it is accepted); it is begun anew then, on the same socket.
///
/// # Errors
/// [`DnsError::Socket`] where a socket cannot be registered with the runtime.
pub async fn serve(
    udp: UdpSocket,
    tcp: TcpListener,
    table: watch::Receiver<Arc<Table>>,
    shutdown: CancellationToken,
) -> Result<(), DnsError> {
    let socket_error = |protocol| move |source| DnsError::Socket { protocol, source };
    let udp = udp.into_std().map_err(socket_error("UDP"))?;
    let tcp = tcp.into_std().map_err(socket_error("TCP"))?;
    let datagrams = keep_serving("UDP", table.clone(), &shutdown, |server| {
        server.register_socket(UdpSocket::from_std(udp.try_clone()?)?);
        Ok(())
    });
    let connections = keep_serving("TCP", table, &shutdown, |server| {
        server.register_listener(TcpListener::from_std(tcp.try_clone()?)?, TCP_IDLE, TCP_WAITING_ANSWERS);
        Ok(())
    });
    // Each has a server of its own: hickory tells of one socket's end only when all have ended.
    tokio::try_join!(datagrams, connections)?;
    Ok(())
}

async fn keep_serving(
    protocol: &'static str,
    table: watch::Receiver<Arc<Table>>,
    shutdown: &CancellationToken,
    register: impl Fn(&mut Server<Handler>) -> io::Result<()>,
) -> Result<(), DnsError> {
    loop {
        let mut server = Server::new(Handler { table: table.clone() });
        register(&mut server).map_err(|source| DnsError::Socket { protocol, source })?;
        let ended = tokio::select! {
            () = shutdown.cancelled() => None,
            ended = server.block_until_done() => Some(ended),
        };
        match ended {
            None => {
                if let Err(error) = server.shutdown_gracefully().await {
                    tracing::debug!(protocol, %error, "the DNS server did not end in order");
                }
                return Ok(());
            }
            Some(Err(error)) => tracing::warn!(protocol, %error, "the DNS server's socket failed, it is used anew"),
            Some(Ok(())) => tracing::warn!(protocol, "the DNS server ended by itself, it is begun anew"),
        }
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}
