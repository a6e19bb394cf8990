//! Routes and addresses of the loopback interface, by the kernel's own protocol (rtnetlink(7)): an image of nothing but
//! this program has no command for it.

use std::io;
use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressHeader, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::route::{RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily as SocketFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect, recv, send, socket_with,
};

/// The loopback interface of every network namespace (`LOOPBACK_IFINDEX` of Linux).
const LOOPBACK: u32 = 1;

/// The table that addresses of this host are looked up in (`RT_TABLE_LOCAL` of rtnetlink(7)).
const LOCAL_TABLE: u8 = 255;

const REPLACE: u16 = NLM_F_CREATE | NLM_F_REPLACE;

/// An answer is a number, and the request again.
const LONGEST_ANSWER: usize = 1024;

/// Makes a range local; a local route for the same range is replaced.
pub(super) fn replace_local_route(range: IpNet) -> Result<(), String> {
    ask(local_route(range), REPLACE).map_err(|errno| told(errno, "a route"))
}

/// Gives an address to the loopback interface, if it is not there.
pub(super) fn replace_address(address: Ipv6Addr) -> Result<(), String> {
    // Nobody else is asked whether they have it: it could not be bound meanwhile.
    let message = of_loopback(address, AddressHeaderFlags::Nodad);
    ask(RouteNetlinkMessage::NewAddress(message), REPLACE).map_err(|errno| told(errno, "an address"))
}

/// Takes an address from the loopback interface, if it is there.
pub(super) fn delete_address(address: Ipv6Addr) -> Result<(), String> {
    let message = of_loopback(address, AddressHeaderFlags::empty());
    match ask(RouteNetlinkMessage::DelAddress(message), 0) {
        Err(Errno::ADDRNOTAVAIL) => Ok(()),
        other => other.map_err(|errno| told(errno, "an address")),
    }
}

fn local_route(range: IpNet) -> RouteNetlinkMessage {
    let (address_family, scope) = match range {
        IpNet::V4(_) => (AddressFamily::Inet, RouteScope::Host),
        // Its routes have no scope.
        IpNet::V6(_) => (AddressFamily::Inet6, RouteScope::Universe),
    };
    let mut route = RouteMessage::default();
    route.header = RouteHeader {
        address_family,
        destination_prefix_length: range.prefix_len(),
        table: LOCAL_TABLE,
        protocol: RouteProtocol::Boot,
        scope,
        kind: RouteType::Local,
        ..RouteHeader::default()
    };
    route.attributes = vec![RouteAttribute::Destination(range.network().into()), RouteAttribute::Oif(LOOPBACK)];
    RouteNetlinkMessage::NewRoute(route)
}

fn of_loopback(address: Ipv6Addr, flags: AddressHeaderFlags) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header = AddressHeader {
        family: AddressFamily::Inet6,
        prefix_len: 128,
        flags,
        index: LOOPBACK,
        ..AddressHeader::default()
    };
    let address = IpAddr::V6(address);
    message.attributes = vec![AddressAttribute::Local(address), AddressAttribute::Address(address)];
    message
}

fn encoded(request: RouteNetlinkMessage, flags: u16) -> Vec<u8> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(request));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

/// Has the kernel do something. It answers before the request is sent, so that there is nothing to wait for.
fn ask(request: RouteNetlinkMessage, flags: u16) -> Result<(), Errno> {
    // The protocol NETLINK_ROUTE is the number 0, which is what `None` says.
    let socket = socket_with(SocketFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    // The kernel is at port 0; what others send is not taken.
    connect(&socket, &SocketAddrNetlink::new(0, 0))?;
    send(&socket, &encoded(request, flags), SendFlags::empty())?;
    let mut answer = [0; LONGEST_ANSWER];
    let (_, length) = recv(&socket, &mut answer, RecvFlags::DONTWAIT)?;
    understood(answer.get(..length).unwrap_or_default())
}

/// Whether an answer says that it is done.
fn understood(answer: &[u8]) -> Result<(), Errno> {
    match NetlinkMessage::<RouteNetlinkMessage>::deserialize(answer).map(|message| message.payload) {
        Ok(NetlinkPayload::Error(error)) => match error.raw_code() {
            0 => Ok(()),
            code @ -4095..=-1 => Err(Errno::from_raw_os_error(-code)),
            _ => Err(Errno::PROTO),
        },
        _ => Err(Errno::PROTO),
    }
}

/// An error with what to do about it.
fn told(errno: Errno, what: &str) -> String {
    let said = io::Error::from(errno);
    match errno {
        Errno::PERM => format!("{said}: to set {what} needs CAP_NET_ADMIN"),
        Errno::ACCESS => format!("{said}: IPv6 is off here; `sysctl net.ipv6.conf.lo.disable_ipv6=0` puts it on"),
        Errno::NETDOWN => format!("{said}: the loopback interface is off; `ip link set lo up` puts it on"),
        Errno::AFNOSUPPORT => format!("{said}: sockets of the family AF_NETLINK have to be allowed"),
        _ => said.to_string(),
    }
}

#[cfg(test)]
mod tests;
