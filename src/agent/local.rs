//! What the agent does with this host's addresses: tries whether one could be bound, and makes
//! ranges local.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;
use tokio::net::TcpSocket;

use super::Error;

mod netlink;

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
pub(super) fn make_local(ranges: &[IpNet]) -> Result<(), Error> {
    for range in ranges {
        let range = range.trunc();
        let family = if range.addr().is_ipv4() { "-4" } else { "-6" };
        netlink::replace_local_route(range).map_err(|reason| Error::Local {
            task: format!("make {range} local"),
            command: format!("ip {family} route replace local {range} dev lo"),
            reason,
        })?;
        tracing::info!(%range, "made local");
    }
    Ok(())
}

/// Gives an IPv6 address to the loopback interface. Doing so again is no error.
///
/// The other way, `net.ipv6.ip_nonlocal_bind`, would let Envoy bind to what is not local at all, and
/// its ACK would prove nothing.
pub(super) fn add_address(address: Ipv6Addr) -> Result<(), Error> {
    netlink::replace_address(address).map_err(|reason| Error::Local {
        task: format!("make {address} local"),
        command: format!("ip -6 address replace {address}/128 dev lo nodad"),
        reason,
    })
}

/// Takes an IPv6 address from the loopback interface. Where it is not, that is no error.
pub(super) fn remove_address(address: Ipv6Addr) -> Result<(), Error> {
    netlink::delete_address(address).map_err(|reason| Error::Local {
        task: format!("take {address} from the loopback interface"),
        command: format!("ip -6 address delete {address}/128 dev lo"),
        reason,
    })
}

/// Flags of `causeway make-local`.
#[derive(Clone, Debug, clap::Args)]
pub struct MakeLocalOptions {
    /// An IPv4 range as 240.11.0.0/16, or one address of either family
    #[arg(required = true, value_name = "RANGE", value_parser = local_range)]
    pub ranges: Vec<IpNet>,
}

/// Reads a range, all of whose addresses can be made bindable, or a single address.
fn local_range(text: &str) -> Result<IpNet, String> {
    let range = match text.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address),
        Err(_) => text.parse::<IpNet>().map_err(|_| "expected CIDR, as 240.11.0.0/16, or an address")?,
    };
    match range {
        IpNet::V6(v6) if v6.prefix_len() < 128 => {
            Err("Linux binds only IPv6 addresses that are there one by one; name each address".into())
        }
        _ => Ok(range),
    }
}

/// Makes ranges local addresses of this host, so that listeners can be bound to them. That stays, and doing so again is
/// no error.
///
/// # Errors
/// When the kernel refuses it.
pub fn make_bindable(options: &MakeLocalOptions) -> Result<(), Error> {
    for range in &options.ranges {
        match range.addr() {
            IpAddr::V4(_) => make_local(std::slice::from_ref(range))?,
            IpAddr::V6(address) => add_address(address)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
