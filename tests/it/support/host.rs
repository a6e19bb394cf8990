//! Hosts of gateways: network namespaces of this machine.

use std::net::IpAddr;
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};

/// A host: a network namespace with an interface to this one. It is removed with its interfaces.
pub struct Host {
    pub name: String,
    /// Our end of the pair.
    pub near: String,
    /// The number that keeps its addresses apart from other hosts'.
    index: u8,
}

/// Runs the command `ip`.
pub fn ip(arguments: &str) {
    let status =
        Command::new("ip").args(arguments.split(' ')).status().expect("the tests need the command ip (iproute2)");
    assert!(status.success(), "ip {arguments}: {status} (network namespaces need root)");
}

impl Host {
    /// Makes the host, reachable by IPv4.
    pub fn new() -> Self {
        static NEXT: AtomicU8 = AtomicU8::new(100);
        let pid = std::process::id() % 10_000;
        // A run that was killed leaves its hosts behind.
        let taken = Command::new("ip").args(["-br", "addr"]).output().expect("ip runs");
        let taken = String::from_utf8_lossy(&taken.stdout).into_owned();
        let index = loop {
            let index = NEXT.fetch_add(1, Ordering::Relaxed);
            if !taken.contains(&format!(" 198.18.{index}.1/")) {
                break index;
            }
        };
        let host = Self { name: format!("cw{pid}-{index}"), near: format!("198.18.{index}.1"), index };
        let (name, far) = (&host.name, format!("198.18.{index}.2"));
        ip(&format!("netns add {name}"));
        ip(&format!("link add v{name} type veth peer name eth0 netns {name}"));
        ip(&format!("addr add {}/30 dev v{name}", host.near));
        ip(&format!("link set v{name} up"));
        ip(&format!("-n {name} addr add {far}/30 dev eth0"));
        ip(&format!("-n {name} link set eth0 up"));
        ip(&format!("-n {name} link set lo up"));
        host
    }

    /// Gives both ends an IPv6 address; returns ours.
    pub fn add_ipv6(&self) -> IpAddr {
        let (name, net) = (&self.name, format!("fd00:c5{:02x}:", self.index));
        // Without `nodad` an address cannot be bound for a second or two.
        ip(&format!("addr add {net}:1/64 dev v{name} nodad"));
        ip(&format!("-n {name} addr add {net}:2/64 dev eth0 nodad"));
        format!("{net}:1").parse().expect("an address")
    }

    /// A command that runs there.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// The host's end of the pair.
    pub fn far(&self) -> IpAddr {
        format!("198.18.{}.2", self.index).parse().expect("an address")
    }

    /// From now on the host's packets to this machine are dropped, and nobody is told.
    pub fn drop_packets(&self) {
        ip(&format!("-n {} route add blackhole {}/32", self.name, self.near));
    }

    /// They come through again.
    pub fn pass_packets(&self) {
        ip(&format!("-n {} route del blackhole {}/32", self.name, self.near));
    }

    /// Sends this machine's packets for the pool to the host, as a router would.
    pub fn route_here(&self, pool: &str) {
        let far = if pool.contains(':') {
            format!("fd00:c5{:02x}::2", self.index)
        } else {
            format!("198.18.{}.2", self.index)
        };
        ip(&format!("route add {pool} via {far} dev v{}", self.name));
    }

    /// Gives the host an IPv6 address of a VIP: where a local route is enough for IPv4, Linux binds only
    /// IPv6 addresses that are there one by one.
    pub fn add_address(&self, address: &str) {
        ip(&format!("-n {} addr add {address}/128 dev lo nodad", self.name));
    }

    /// Makes every address of the pool local, as an operator would.
    pub fn make_local(&self, pool: &str) {
        ip(&format!("-n {} route add local {pool} dev lo", self.name));
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}
