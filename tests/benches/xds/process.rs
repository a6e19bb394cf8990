//! A server's process: starting it, telling it what to do, and reading what it used.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::options::{Peer, ServerOptions};

/// How long a server's CPU must stand still to count as settled.
const QUIET: Duration = Duration::from_millis(100);

/// How long is waited for that.
const SETTLE: Duration = Duration::from_secs(20);

/// CPU within [`QUIET`] that is no work for anybody: timers, and garbage collectors that look around.
const NOISE: Duration = Duration::from_micros(500);

/// A server that runs; it ends when this is dropped.
pub struct Server {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    pub address: SocketAddr,
}

impl Server {
    pub fn start(options: &ServerOptions) -> Result<Self, String> {
        let mut child = Command::new(binary(options.peer)?)
            .args(options.args())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot start {}: {error}", options.peer.label()))?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let (stdin, stdout) = stdin.zip(stdout).ok_or("the server has no pipes")?;
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut server = Self { child, stdin, stdout: BufReader::new(stdout), address };
        let port = server.answer("ready")?.parse().map_err(|error| format!("no port: {error}"))?;
        server.address.set_port(port);
        Ok(server)
    }

    fn answer(&mut self, word: &str) -> Result<String, String> {
        let mut line = String::new();
        self.stdout.read_line(&mut line).map_err(|error| error.to_string())?;
        let rest = line.trim_end().strip_prefix(word);
        rest.map(|rest| rest.trim().to_owned()).ok_or_else(|| format!("the server says `{line}`, not `{word}`"))
    }

    /// Tells it to do something.
    pub fn tell(&mut self, command: &str) -> Result<(), String> {
        let written = writeln!(self.stdin, "{command}").and_then(|()| self.stdin.flush());
        written.map_err(|error| format!("the server is gone: {error}"))
    }

    /// Bytes in use by its allocator.
    pub fn allocated(&mut self) -> Result<f64, String> {
        self.tell("allocated")?;
        self.answer("allocated")?.parse().map_err(|error| format!("no number: {error}"))
    }

    /// CPU that it has used, in user and in system mode: of all its threads, to the nanosecond.
    pub fn cpu(&self) -> Duration {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id()));
        let of_one = |entry: std::io::Result<std::fs::DirEntry>| -> Option<u64> {
            let text = std::fs::read_to_string(entry.ok()?.path().join("schedstat")).ok()?;
            text.split_whitespace().next()?.parse().ok()
        };
        Duration::from_nanos(tasks.into_iter().flatten().filter_map(of_one).sum())
    }

    /// Memory that is resident, in bytes.
    pub fn rss(&self) -> f64 {
        self.memory("VmRSS:")
    }

    /// The most that was ever resident, in bytes.
    pub fn peak_rss(&self) -> f64 {
        self.memory("VmHWM:")
    }

    /// Sockets that it has open, those that listen among them.
    pub fn sockets(&self) -> usize {
        let files = std::fs::read_dir(format!("/proc/{}/fd", self.child.id()));
        let links = files.into_iter().flatten().filter_map(|file| std::fs::read_link(file.ok()?.path()).ok());
        links.filter(|to| to.to_string_lossy().starts_with("socket:")).count()
    }

    fn memory(&self, what: &str) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix(what));
        let kib: f64 = line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default();
        kib * 1024.0
    }

    /// Waits until it has nothing more to do, and says what CPU it has used by then.
    pub async fn settled(&self) -> Duration {
        let end = Instant::now() + SETTLE;
        let mut before = self.cpu();
        loop {
            tokio::time::sleep(QUIET).await;
            let now = self.cpu();
            if now - before < NOISE || Instant::now() > end {
                return now;
            }
            before = now;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn binary(peer: Peer) -> Result<PathBuf, String> {
    match peer {
        Peer::Causeway | Peer::Floor => std::env::current_exe().map_err(|error| error.to_string()),
        Peer::GoControlPlane => {
            static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
            BUILT.get_or_init(build_peer).clone()
        }
    }
}

fn build_peer() -> Result<PathBuf, String> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/build.sh");
    let built = Command::new(script).stderr(Stdio::inherit()).output().map_err(|error| format!("{script}: {error}"))?;
    match built.status.success() {
        true => Ok(PathBuf::from(String::from_utf8_lossy(&built.stdout).trim())),
        false => Err(format!("{script} failed")),
    }
}
