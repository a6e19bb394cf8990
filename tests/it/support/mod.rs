//! What the end-to-end tests stand on: the real binary, real Envoys, pods that answer with their
//! names, and manifests on disk.

pub mod apiserver;
pub mod explosive;
pub mod fleet;
pub mod helm;
pub mod host;
pub mod manifests;
pub mod node;
pub mod pods;
#[allow(dead_code, reason = "the tests of the store itself use more of it")]
pub mod postgres;
pub mod registry;
pub mod signing;
pub mod traffic;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The Envoy that tests run: `ENVOY_BIN`, else `envoy` on the `PATH`. There is no skipping: without one the test fails.
pub fn envoy_binary() -> PathBuf {
    if let Some(path) = std::env::var_os("ENVOY_BIN") {
        return path.into();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|dir| dir.join("envoy"))
        .find(|file| file.is_file())
        .expect("no Envoy: run the tests through ./tests/run.sh, or set ENVOY_BIN")
}

/// What a script of the repository prints, that builds what is not there: a path.
pub fn built(script: &str) -> PathBuf {
    built_with(script, &[])
}

/// As [`built`], of a script that is told what to build.
pub fn built_with(script: &str, arguments: &[&str]) -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(script);
    let output = Command::new(&script).args(arguments).stderr(Stdio::inherit()).output().expect("the script runs");
    assert!(output.status.success(), "{} failed", script.display());
    PathBuf::from(String::from_utf8(output.stdout).expect("a path").trim())
}

/// An address of 127.0.0.1 with a port that was free a moment ago, for TCP and UDP. It is none of those that the system
/// gives to outgoing connections (32768 and above on Linux), so that no connection takes it before it is listened on, or
/// between two runs of whoever listens.
pub fn free_addr() -> SocketAddr {
    static NEXT: OnceLock<AtomicU32> = OnceLock::new();
    const FIRST: u32 = 10_000;
    const COUNT: u32 = 22_000;
    // Other runs on this machine begin elsewhere.
    let next = NEXT.get_or_init(|| AtomicU32::new(std::process::id().wrapping_mul(7_919)));
    (0..COUNT)
        .find_map(|_| {
            let port = FIRST + next.fetch_add(1, Ordering::Relaxed) % COUNT;
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, u16::try_from(port).ok()?));
            let is_free = TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok();
            is_free.then_some(address)
        })
        .expect("loopback has a free port")
}

/// A /24 of loopback that no other test uses, as its first three octets. A socket that is held until the process ends
/// keeps other runs on this machine out of the /16.
pub fn own_loopback_net() -> [u8; 3] {
    static NEXT: AtomicU8 = AtomicU8::new(0);
    static OURS: OnceLock<(u8, TcpListener)> = OnceLock::new();
    let (second, _) = OURS.get_or_init(|| {
        let start = std::process::id() % 128;
        (0..128)
            .map(|step| 64 + ((start + step) % 128) as u8)
            .find_map(|second| {
                TcpListener::bind((Ipv4Addr::new(127, second, 255, 254), 61_000)).ok().map(|l| (second, l))
            })
            .expect("one of 128 nets is free")
    });
    [127, *second, NEXT.fetch_add(1, Ordering::Relaxed)]
}

/// An address within a /24.
pub fn in_net(net: [u8; 3], last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(net[0], net[1], net[2], last))
}

/// Asks again and again until there is an answer; fails the test, naming what was waited for, after the deadline.
pub fn eventually<T>(what: &str, deadline: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + deadline;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < until, "waited {deadline:?} in vain for {what}");
        std::thread::sleep(Duration::from_millis(25));
    }
}
