//! Processes of a fleet: the control plane, gateways and their agents. Each is ended by its pid
//! when it goes out of scope, and its log is shown when the test fails.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::{envoy_binary, eventually, free_addr};

/// A process with its log.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts the command with its output in `dir/name.log` (appended, so that restarts are kept).
    pub fn start(dir: &Path, name: &str, command: &mut Command) -> Self {
        let log = dir.join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log).expect("the log can be opened");
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("the log can be shared"))
            .stderr(file)
            .spawn()
            .unwrap_or_else(|error| panic!("{name} cannot be started: {error}"));
        Self { name: name.to_owned(), child, log }
    }

    /// Ends it with SIGKILL and waits for its end.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let text = std::fs::read_to_string(&self.log).unwrap_or_default();
            let tail: Vec<&str> = text.lines().rev().take(60).collect();
            eprintln!("--- last lines of {}:", self.name);
            tail.iter().rev().for_each(|line| eprintln!("{line}"));
        }
    }
}

/// Runs the binary under test.
pub fn causeway() -> Command {
    Command::new(env!("CARGO_BIN_EXE_causeway"))
}

/// Addresses and folders of a control plane, which stay over restarts.
pub struct ControlPlane {
    pub dir: PathBuf,
    /// Where clusters are read from, as flags.
    pub source: Vec<String>,
    pub xds: SocketAddr,
    pub admin: SocketAddr,
    pub dns: SocketAddr,
    pub extra: Vec<String>,
    process: Option<Process>,
}

impl ControlPlane {
    /// Chooses addresses and starts.
    pub fn start(dir: &Path, manifests: &Path) -> Self {
        Self::start_with(dir, manifests, free_addr(), &[])
    }

    /// As [`ControlPlane::start`], with a given xDS address and further flags.
    pub fn start_with(dir: &Path, manifests: &Path, xds: SocketAddr, extra: &[&str]) -> Self {
        let mut plane = Self::new(dir, &["--manifests", &manifests.display().to_string()], xds, extra);
        plane.restart();
        plane.wait_ready();
        plane
    }

    /// Chooses addresses, with flags that say where clusters are read from; starts nothing.
    pub fn new(dir: &Path, source: &[&str], xds: SocketAddr, extra: &[&str]) -> Self {
        let owned = |flags: &[&str]| flags.iter().map(|&flag| flag.to_owned()).collect();
        Self {
            dir: dir.to_owned(),
            source: owned(source),
            xds,
            admin: free_addr(),
            dns: free_addr(),
            extra: owned(extra),
            process: None,
        }
    }

    /// Starts it anew; returns at once.
    pub fn restart(&mut self) {
        // One that still runs has the addresses.
        self.process = None;
        let mut command = causeway();
        command
            .arg("serve")
            .args(&self.source)
            .arg("--data-dir")
            .arg(self.dir.join("data"))
            .args(["--xds-addr", &self.xds.to_string()])
            .args(["--admin-addr", &self.admin.to_string()])
            .args(["--dns-addr", &self.dns.to_string()])
            .args(&self.extra);
        self.process = Some(Process::start(&self.dir, "causeway", &mut command));
    }

    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("the control plane was started")
    }

    pub fn wait_ready(&mut self) {
        let admin = self.admin;
        eventually("the control plane to be ready", Duration::from_secs(30), || {
            let answer = ureq_get(admin, "/readyz").ok()?;
            (answer.0 == 200).then_some(())
        });
    }

    /// A GET of the admin interface, as JSON.
    pub fn get(&self, path: &str) -> Value {
        let (status, body) = ureq_get(self.admin, path).unwrap_or_else(|error| panic!("GET {path}: {error}"));
        assert_eq!(status, 200, "GET {path}: {body}");
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("GET {path}: {error}: {body}"))
    }

    /// As [`ControlPlane::get`], or nothing while the server does not answer.
    pub fn try_get(&self, path: &str) -> Option<Value> {
        let (status, body) = ureq_get(self.admin, path).ok()?;
        (status == 200).then(|| serde_json::from_str(&body).ok())?
    }

    /// What a DELETE of the admin interface is answered.
    pub fn delete(&self, path: &str) -> (u16, String) {
        ureq(self.admin, "DELETE", path).unwrap_or_else(|error| panic!("DELETE {path}: {error}"))
    }

    /// What a command prints.
    pub fn command(&self, arguments: &[&str]) -> String {
        let output = causeway()
            .args(arguments)
            .args(["--admin-addr", &self.admin.to_string()])
            .output()
            .expect("the binary runs");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// The row of a list whose field has this text.
    pub fn row(&self, path: &str, field: &str, text: &str) -> Option<Value> {
        self.try_get(path)?.as_array()?.iter().find(|row| row[field] == text).cloned()
    }

    /// What the process and its predecessors logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("causeway.log")).unwrap_or_default()
    }

    /// The VIPs' rows.
    pub fn vips(&self) -> Vec<Value> {
        self.try_get("/api/v1/vips").and_then(|v| v.as_array().cloned()).unwrap_or_default()
    }

    /// Waits for a VIP of the access in this state.
    pub fn wait_vip(&self, access: &str, state: &str) -> Value {
        let mut last = Vec::new();
        let until = std::time::Instant::now() + Duration::from_secs(30);
        loop {
            last = if let vips = self.vips()
                && !vips.is_empty()
            {
                vips
            } else {
                last
            };
            if let Some(vip) = last.iter().find(|v| v["access"] == access && v["state"] == state) {
                return vip.clone();
            }
            assert!(std::time::Instant::now() < until, "no VIP of {access} became {state}; there are {last:#?}");
            std::thread::sleep(Duration::from_millis(25));
        }
    }

    /// Addresses that the name resolves to, by the server's own UDP answers.
    pub fn resolve(&self, name: &str) -> Vec<std::net::IpAddr> {
        self.resolve_as(name, causeway::dns::QueryType::A)
    }

    /// As [`ControlPlane::resolve`], for a type of records.
    pub fn resolve_as(&self, name: &str, kind: causeway::dns::QueryType) -> Vec<std::net::IpAddr> {
        let lookup = causeway::dns::lookup(self.dns, name, kind);
        let answer = tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(lookup));
        answer.map(|answer| answer.addresses()).unwrap_or_default()
    }
}

/// A blocking HTTP GET, for asking a control plane from a test's thread.
pub fn ureq_get(to: SocketAddr, path: &str) -> std::io::Result<(u16, String)> {
    ureq(to, "GET", path)
}

/// A blocking HTTP request without a body.
pub fn ureq(to: SocketAddr, method: &str, path: &str) -> std::io::Result<(u16, String)> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect_timeout(&to, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "{method} {path} HTTP/1.1\r\nhost: {to}\r\nconnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let status = text.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let body =
        if head.to_ascii_lowercase().contains("transfer-encoding: chunked") { dechunk(body) } else { body.to_owned() };
    Ok((status, body))
}

fn dechunk(mut text: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = text.split_once("\r\n") {
        let Ok(size) = usize::from_str_radix(size.trim(), 16) else { break };
        if size == 0 || rest.len() < size {
            break;
        }
        whole.push_str(&rest[..size]);
        text = rest[size..].trim_start_matches("\r\n");
    }
    whole
}

/// A gateway: an Envoy, and perhaps an agent beside it.
pub struct Gateway {
    pub id: String,
    pub admin: SocketAddr,
    dir: PathBuf,
    xds: SocketAddr,
    ranges: Vec<String>,
    namespace: Option<String>,
    pub envoy: Option<Process>,
    pub agent: Option<Process>,
}

/// How a gateway speaks xDS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    Delta,
    Sotw,
}

impl Gateway {
    /// Writes the bootstrap that the binary prints; starts nothing.
    pub fn new(dir: &Path, id: &str, xds: SocketAddr, speaks: Speaks) -> Self {
        Self::with_role(dir, id, xds, speaks, "gateway", &[])
    }

    /// As [`Gateway::new`], for an Envoy of another role, with further flags of the bootstrap.
    pub fn with_role(dir: &Path, id: &str, xds: SocketAddr, speaks: Speaks, role: &str, flags: &[&str]) -> Self {
        let admin = free_addr();
        let protocol = if speaks == Speaks::Delta { "delta" } else { "sotw" };
        let output = causeway()
            .args(["bootstrap", "--role", role, "--node-id", id, "--cluster", "east", "--network", "flat"])
            .args(["--region", "eu-1", "--zone", "a", "--protocol", protocol])
            .args(["--xds", &xds.to_string(), "--envoy-admin", &admin.to_string()])
            .args(flags)
            .output()
            .expect("the binary runs");
        assert!(output.status.success(), "bootstrap: {}", String::from_utf8_lossy(&output.stderr));
        std::fs::write(dir.join(format!("{id}.yaml")), output.stdout).expect("the bootstrap can be written");
        Self {
            id: id.to_owned(),
            admin,
            dir: dir.to_owned(),
            xds,
            ranges: vec![],
            namespace: None,
            envoy: None,
            agent: None,
        }
    }

    /// The agent's own ranges, for pools that the data plane assigns.
    pub fn assigning(mut self, range: &str) -> Self {
        self.ranges.push(range.to_owned());
        self
    }

    /// Runs Envoy and agent in a network namespace of this machine.
    pub fn in_namespace(mut self, namespace: &str) -> Self {
        self.namespace = Some(namespace.to_owned());
        self
    }

    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        match &self.namespace {
            None => Command::new(program),
            Some(namespace) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", namespace]).arg(program);
                command
            }
        }
    }

    pub fn start_envoy(&mut self) -> &mut Self {
        let mut command = self.command(envoy_binary());
        command.arg("-c").arg(self.dir.join(format!("{}.yaml", self.id))).args([
            "--use-dynamic-base-id",
            "--concurrency",
            "1",
            "--log-level",
            "warn",
        ]);
        self.envoy = Some(Process::start(&self.dir, &self.id, &mut command));
        self
    }

    pub fn start_agent(&mut self) -> &mut Self {
        let mut command = self.command(env!("CARGO_BIN_EXE_causeway"));
        command
            .arg("agent")
            .args(["--control-plane", &format!("http://{}", self.xds)])
            .args(["--envoy-admin", &self.admin.to_string(), "--node-id", &self.id])
            .arg("--state-dir")
            .arg(self.dir.join(format!("{}-agent", self.id)));
        for range in &self.ranges {
            command.args(["--assign", range]);
        }
        self.agent = Some(Process::start(&self.dir, &format!("{}-agent", self.id), &mut command));
        self
    }

    pub fn stop_envoy(&mut self) {
        self.envoy = None;
    }

    pub fn stop_agent(&mut self) {
        self.agent = None;
    }

    /// Asks the admin interface from within the namespace, with nothing but bash.
    fn get_in_namespace(&self, path: &str) -> Option<String> {
        let (host, port) = (self.admin.ip(), self.admin.port());
        let script = format!(
            "exec 3<>/dev/tcp/{host}/{port}; printf 'GET {path} HTTP/1.1\\r\\nhost: x\\r\\nconnection: close\\r\\n\\r\\n' >&3; cat <&3"
        );
        let output = self.command("bash").args(["-c", &script]).output().ok()?;
        Some(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// A page of Envoy's admin interface.
    pub fn page(&self, path: &str) -> Option<String> {
        match &self.namespace {
            None => Some(ureq_get(self.admin, path).ok()?.1),
            Some(_) => self.get_in_namespace(path),
        }
    }

    /// Whether Envoy has a listener of the address.
    pub fn listens_on(&self, address: SocketAddr) -> bool {
        self.page("/listeners").is_some_and(|page| page.contains(&format!("vip/{address}::")))
    }

    /// What this Envoy logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join(format!("{}.log", self.id))).unwrap_or_default()
    }

    /// The file of its bootstrap.
    pub fn bootstrap(&self) -> PathBuf {
        self.dir.join(format!("{}.yaml", self.id))
    }

    /// A counter or gauge of this Envoy's.
    pub fn stat(&self, name: &str) -> Option<u64> {
        let body = self.page(&format!("/stats?filter=^{}$", name.replace('.', "\\.")))?;
        body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")?.trim().parse().ok())
    }
}
