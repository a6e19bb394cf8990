//! The sockets, and the tasks that keep them served.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hickory_server::Server;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::handler::Handler;
use super::table::Table;
use super::{DnsError, stream};

/// How long the socket rests after its loop has ended by an error, so that it does not spin.
const PAUSE: Duration = Duration::from_millis(200);

/// Answers on both sockets until `shutdown`, from the table that is in the channel at each question.
///
/// # Errors
/// [`DnsError::Socket`] where a socket cannot be registered with the runtime.
pub async fn serve(
    udp: UdpSocket,
    tcp: TcpListener,
    table: watch::Receiver<Arc<Table>>,
    shutdown: CancellationToken,
) -> Result<(), DnsError> {
    let handler = Handler { table };
    let datagrams = serve_datagrams(udp, &handler, &shutdown);
    let (served, ()) = tokio::join!(datagrams, stream::serve(tcp, &handler, &shutdown));
    served.map_err(|source| DnsError::Socket { protocol: "UDP", source })
}

/// hickory ends a socket's loop upon some errors, and tells it; it is begun anew then, on the same
/// socket.
async fn serve_datagrams(socket: UdpSocket, handler: &Handler, shutdown: &CancellationToken) -> io::Result<()> {
    let socket = socket.into_std()?;
    loop {
        let mut server = Server::new(handler.clone());
        server.register_socket(UdpSocket::from_std(socket.try_clone()?)?);
        let ended = tokio::select! {
            () = shutdown.cancelled() => None,
            ended = server.block_until_done() => Some(ended),
        };
        match ended {
            None => {
                if let Err(error) = server.shutdown_gracefully().await {
                    tracing::debug!(%error, "the DNS server did not end in order");
                }
                return Ok(());
            }
            Some(Err(error)) => tracing::warn!(%error, "the DNS server's UDP socket failed, it is used anew"),
            Some(Ok(())) => tracing::warn!("the DNS server's UDP loop ended by itself, it is begun anew"),
        }
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}
