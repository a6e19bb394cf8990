//! What the agent does with this host's addresses: tries whether one could be bound, and makes
//! ranges local.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;
use tokio::net::TcpSocket;
use tokio::process::Command;

use super::Error;

/// Whether a listener could be bound to the address now; `None` when that cannot be told.
///
/// The socket is bound, never listening, with SO_REUSEADDR and without SO_REUSEPORT. So an Envoy
/// that binds at the same moment (it sets both options) is not disturbed, while a process that
/// shares its port by SO_REUSEPORT still counts as being in the way: it would take a part of the
/// VIP's connections.
pub(super) fn bindable(address: SocketAddr) -> Option<bool> {
    match try_bind(address) {
        Ok(()) => Some(true),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            // A privileged port: we may at least see whether the address is there.
            match try_bind(SocketAddr::new(address.ip(), 0)) {
                Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => Some(false),
                _ => None,
            }
        }
        Err(error) => match error.kind() {
            io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable => Some(false),
            // Out of file descriptors, no IPv6 at all: nothing that a listener's address can help.
            _ => None,
        },
    }
}

fn try_bind(address: SocketAddr) -> io::Result<()> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)
}

/// Makes every address of the ranges one of this host (AnyIP). The routes stay when the agent ends:
/// the Envoy beside it goes on to serve.
///
/// For IPv4 such a route makes the addresses bindable. For IPv6 it does not: Linux lets a socket
/// bind only to addresses that an interface has, so [`add_address`] is needed besides.
pub(super) async fn make_local(ranges: &[IpNet]) -> Result<(), Error> {
    for range in ranges {
        let family = if range.addr().is_ipv4() { "-4" } else { "-6" };
        ip(*range, &[family, "route", "replace", "local", &range.trunc().to_string(), "dev", "lo"]).await?;
        tracing::info!(%range, "made local");
    }
    Ok(())
}

/// Gives an IPv6 address to the loopback interface. Doing so again is no error.
///
/// The other way, `net.ipv6.ip_nonlocal_bind`, would let Envoy bind to what is not local at all, and
/// its ACK would prove nothing.
pub(super) async fn add_address(address: Ipv6Addr) -> Result<(), Error> {
    let host = IpNet::from(IpAddr::V6(address));
    ip(host, &["-6", "address", "replace", &host.to_string(), "dev", "lo", "nodad"]).await
}

/// Takes an IPv6 address from the loopback interface.
pub(super) async fn remove_address(address: Ipv6Addr) -> Result<(), Error> {
    let host = IpNet::from(IpAddr::V6(address));
    ip(host, &["-6", "address", "delete", &host.to_string(), "dev", "lo"]).await
}

async fn ip(range: IpNet, arguments: &[&str]) -> Result<(), Error> {
    let failed = |reason| Error::MakeLocal { range, command: format!("ip {}", arguments.join(" ")), reason };
    let output = Command::new("ip").args(arguments).output().await.map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(failed(format!("{} (it needs CAP_NET_ADMIN)", said.trim())))
}

#[cfg(test)]
mod tests;
