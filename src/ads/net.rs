//! Connections that can be closed from within.
//!
//! A client that stops reading leaves its stream blocked inside the HTTP/2 implementation, where no
//! status and no reset reaches it any more. [`Guarded`] gives the stream's task a handle to the
//! connection itself, so that such a client is really gone after the deadline (rule 18). Mount the
//! service with `Server::serve_with_incoming(net::incoming(net::bind(address)?))`.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_stream::{Stream, StreamExt, wrappers::TcpListenerStream};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::{Connected, TcpConnectInfo};

/// What requests carry of a [`Guarded`] connection, as an extension.
#[derive(Clone, Debug)]
pub struct ConnectionHandle {
    /// Both addresses.
    pub addresses: TcpConnectInfo,
    /// Closes the connection with all that runs over it.
    pub close: CancellationToken,
}

/// A TCP connection with a handle that closes it.
pub struct Guarded {
    tcp: TcpStream,
    close: CancellationToken,
    closed: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Guarded {
    /// Guards a connection.
    pub fn new(tcp: TcpStream) -> Self {
        let close = CancellationToken::new();
        let closed = Box::pin(close.clone().cancelled_owned());
        Self { tcp, close, closed }
    }

    fn check(&self) -> io::Result<()> {
        match self.close.is_cancelled() {
            true => Err(io::Error::new(io::ErrorKind::TimedOut, "closed: the client does not read")),
            false => Ok(()),
        }
    }
}

/// Connections that the kernel holds until they are accepted, as far as it is allowed to (`net.core.somaxconn`). A fleet
/// that lost its control plane comes back at once, and who finds no room tries again only after a second, then two, then
/// four.
const BACKLOG: u32 = 4096;

/// Bytes that the kernel holds for a client which does not read, at most about twice as many. By itself it would let them
/// grow to megabytes (`net.ipv4.tcp_wmem`).
const SEND_BUFFER: u32 = 256 * 1024;

/// Listens for a fleet. Connections inherit the sizes of the socket's buffers.
///
/// # Errors
/// When the address cannot be bound.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // As for any server: a restart need not wait for the connections of the last run.
    socket.set_reuseaddr(true)?;
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Accepts connections and guards them. Small writes are sent at once: responses are whole messages,
/// and an ACK of 75 bytes should not wait for a timer.
pub fn incoming(listener: TcpListener) -> impl Stream<Item = io::Result<Guarded>> {
    TcpListenerStream::new(listener).map(|accepted| {
        let tcp = accepted?;
        // A connection that is gone already says so here and again when it is read.
        tcp.set_nodelay(true).ok();
        Ok(Guarded::new(tcp))
    })
}

impl Connected for Guarded {
    type ConnectInfo = ConnectionHandle;

    fn connect_info(&self) -> ConnectionHandle {
        ConnectionHandle { addresses: self.tcp.connect_info(), close: self.close.clone() }
    }
}

/// The address of whoever sent a request, whatever it was accepted by.
pub fn peer(extensions: &tonic::Extensions) -> Option<SocketAddr> {
    let guarded = extensions.get::<ConnectionHandle>().map(|handle| &handle.addresses);
    guarded.or_else(|| extensions.get::<TcpConnectInfo>())?.remote_addr()
}

impl AsyncRead for Guarded {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // Polled for its wake-up: an idle connection is always waiting to read.
        if self.closed.as_mut().poll(cx).is_ready() {
            return Poll::Ready(self.check());
        }
        Pin::new(&mut self.tcp).poll_read(cx, buf)
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.tcp).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.tcp).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }
}
